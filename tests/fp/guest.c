/*
 * The guest's half of the softfloat comparison, on the bare `virt` machine. Reads commands from the UART, one
 * a line, numbers in hexadecimal, and answers with one line each:
 *
 *   d OP SEED FROM TO      digests over the cases FROM up to, not including, TO: one for each rounding mode
 *   r OP SEED INDEX RM     result and fflags of one case
 *   q                      powers off
 *
 * Compiled for integers only: each instruction under test is written into a stub and called, so the compiler
 * and the assembler need to know none of them.
 */
#include "tests/fp/operands.h"

static volatile uint8_t *const uart = (uint8_t *)0x10000000;
static volatile uint32_t *const finisher = (uint32_t *)0x100000;

enum { UART_DATA = 0, UART_LSR = 5, LSR_DATA_READY = 1, LSR_THR_EMPTY = 0x20, FINISHER_PASS = 0x5555 };

enum {
    FMV_D_X_F10 = 0xf2050553, /* fmv.d.x fa0, a0 */
    FMV_D_X_F11 = 0xf20585d3, /* fmv.d.x fa1, a1 */
    FMV_D_X_F12 = 0xf2060653, /* fmv.d.x fa2, a2 */
    FMV_X_D_F10 = 0xe2050553, /* fmv.x.d a0, fa0 */
    CSRW_FCSR = 0x00369073,   /* csrw fcsr, a3 */
    CSRR_FFLAGS = 0x001025f3, /* csrr a1, fflags */
    NOP = 0x00000013,
    RET = 0x00008067,
};

/* What the stub leaves in a0 and a1. */
struct outcome {
    uint64_t result;
    uint64_t fflags;
};

typedef struct outcome stub_fn(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t fcsr);

static uint32_t stub[8];

static stub_fn *stub_make(const struct op_info *op)
{
    stub[0] = FMV_D_X_F10;
    stub[1] = FMV_D_X_F11;
    stub[2] = FMV_D_X_F12;
    stub[3] = CSRW_FCSR;
    stub[4] = op->insn;
    stub[5] = op->result == OPERAND_INT ? NOP : FMV_X_D_F10;
    stub[6] = CSRR_FFLAGS;
    stub[7] = RET;
    __asm__ volatile("fence.i" ::: "memory");
    return (stub_fn *)stub;
}

static void put_char(char c)
{
    while (!(uart[UART_LSR] & LSR_THR_EMPTY))
        continue;
    uart[UART_DATA] = (uint8_t)c;
}

static void put_hex(uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}

static char get_char(void)
{
    while (!(uart[UART_LSR] & LSR_DATA_READY))
        continue;
    return (char)uart[UART_DATA];
}

/* Reads a number and the one character that ends it. */
static uint64_t get_hex(void)
{
    uint64_t value = 0;

    for (;;) {
        char c = get_char();
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return value;
    }
}

static void command_digest(const struct op_info *op)
{
    stub_fn *fn = stub_make(op);
    uint64_t seed = get_hex();
    uint64_t from = get_hex();
    uint64_t to = get_hex();
    uint64_t digest[RM_COUNT] = {0};
    unsigned modes = op_modes(op);

    for (uint64_t i = from; i < to; i++) {
        uint64_t x[3];
        draw_operands(seed, i, op->operand, x);
        for (unsigned rm = 0; rm < modes; rm++) {
            struct outcome o = fn(x[0], x[1], x[2], rm << 5);
            digest[rm] = digest_fold(digest[rm], o.result, o.fflags);
        }
    }
    for (unsigned rm = 0; rm < modes; rm++) {
        put_hex(digest[rm]);
        put_char(rm + 1 < modes ? ' ' : '\n');
    }
}

static void command_result(const struct op_info *op)
{
    stub_fn *fn = stub_make(op);
    uint64_t seed = get_hex();
    uint64_t index = get_hex();
    uint64_t rm = get_hex();
    uint64_t x[3];

    draw_operands(seed, index, op->operand, x);
    struct outcome o = fn(x[0], x[1], x[2], rm << 5);
    put_hex(o.result);
    put_char(' ');
    put_hex(o.fflags);
    put_char('\n');
}

void guest_main(void);

void guest_main(void)
{
    for (;;) {
        char command = get_char();
        if (command == 'q')
            break;
        if (command != 'd' && command != 'r')
            continue;
        get_char();
        uint64_t op = get_hex();
        if (op >= OP_COUNT)
            continue;
        if (command == 'd')
            command_digest(&op_table[op]);
        else
            command_result(&op_table[op]);
    }
    *finisher = FINISHER_PASS;
}
