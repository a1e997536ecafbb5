/* The interpreter where it could differ from fetching and decoding every instruction: budgets, code that
 * changes, pages that are crossed, evicted and given up, and what leaves its run loop. */
#include "cpu-core/interp/internal.h"
#include "tests/insn/bare.h"
#include "tests/insn/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MEMORY (32ull << 20)
#define CODE   STREAM_BASE

enum { ZERO, RA, SP, T0 = 5, T1, T2, A0 = 10, A1, A2, A3, A4 };

struct fixture {
    struct bare b;
    struct stream s; /* assembles at the start of RAM */
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof *f);

    f->s.image = test_calloc(1, CODE_END);
    *state = f;
    return bare_create(&f->b, &interp_engine, MEMORY, false);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    bare_destroy(&f->b);
    test_free(f->s.image);
    test_free(f);
    return 0;
}

/* Puts what was assembled into RAM; the hart starts at its beginning. */
static struct hart *load(struct fixture *f)
{
    assert_false(f->s.failed);
    assert_int_equal(mmu_dma_write(f->b.mmu, CODE, f->s.image, f->s.pos), 0);
    hart_reset(&f->b.hart, CODE);
    return &f->b.hart;
}

/* One call of the engine. */
static enum engine_exit run(struct fixture *f, uint64_t steps)
{
    enum engine_exit why;

    hart_slice_begin(&f->b.hart, f->b.steps, steps);
    why = interp_engine.run(f->b.engine, &f->b.hart);
    f->b.steps += hart_slice_end(&f->b.hart);
    return why;
}

static void put_loop(struct stream *s)
{
    stream_put(s, INSN_C_ADDI, A0, A0, 1);
    stream_put(s, INSN_ADD, A1, A1, A0);
    stream_put(s, INSN_C_ADD, A2, A2, A1);
    stream_put(s, INSN_SD, SP, A2, 8);
    stream_put(s, INSN_LW, A3, SP, 8);
    stream_put(s, INSN_ANDI, T0, A3, 1);
    stream_put(s, INSN_BEQ, T0, ZERO, 6);
    stream_put(s, INSN_C_ADDI, A4, A4, 3);
    stream_put(s, INSN_JAL, ZERO, -(int)s->pos);
}

/* Any budget stops at exactly that step, wherever it falls. */
static void test_budget(void **state)
{
    struct fixture *f = *state;
    struct hart *h, at[200];

    put_loop(&f->s);
    h = load(f);
    h->x[SP] = CODE + 0x10000;
    for (unsigned n = 0; n < 200; n++) {
        at[n] = *h;
        assert_int_equal(run(f, 1), ENGINE_BUDGET);
    }
    for (unsigned n = 2; n < 200; n++) {
        h = load(f);
        h->x[SP] = CODE + 0x10000;
        f->b.steps = 0;
        assert_int_equal(run(f, n), ENGINE_BUDGET);
        assert_int_equal(f->b.steps, n);
        assert_int_equal(h->pc, at[n].pc);
        assert_memory_equal(h->x, at[n].x, sizeof h->x);
    }
}

/* addi rd, rs1, imm */
static uint32_t addi(unsigned rd, unsigned rs1, int imm)
{
    uint32_t bits = isa_place(isa_table[INSN_ADDI].match, ISA_FIELD_RD, (int)rd);

    return isa_place(isa_place(bits, ISA_FIELD_RS1, (int)rs1), ISA_FIELD_IMM_I, imm);
}

/* Stores into the next instruction, and into the second half of one behind it, without fence.i. */
static void test_code_changes(void **state)
{
    struct fixture *f = *state;
    struct stream *s = &f->s;
    struct hart *h;

    stream_put(s, INSN_SW, T0, T1, 4);
    stream_put(s, INSN_ADDI, A0, ZERO, 0);
    stream_put(s, INSN_SH, T0, T2, 14);
    stream_put(s, INSN_ADDI, A1, ZERO, 0);
    stream_put(s, INSN_JAL, ZERO, -16);
    h = load(f);
    h->x[T0] = CODE;
    for (int round = 1; round < 10; round++) {
        h->x[T1] = addi(A0, ZERO, round);
        h->x[T2] = addi(A1, ZERO, 100 + round) >> 16;
        assert_int_equal(run(f, 5), ENGINE_BUDGET);
        assert_int_equal(h->x[A0], round);
        assert_int_equal(h->x[A1], 100 + round);
        assert_int_equal(h->pc, CODE);
    }
}

/* A 4-byte instruction across two pages of RAM sees a change of either half, and the end of RAM. */
static void test_crossing(void **state)
{
    struct fixture *f = *state;
    struct hart *h;
    uint32_t add;

    f->s.pos = 4094;
    stream_put(&f->s, INSN_ADDI, A0, A0, 1);
    stream_put(&f->s, INSN_JAL, ZERO, -4);
    h = load(f);
    for (int n = 0; n < 4; n++) {
        h->pc = CODE + 4094;
        h->x[A0] = 0;
        assert_int_equal(run(f, 1), ENGINE_BUDGET);
        assert_int_equal(h->x[A0], 1 + n);
        assert_int_equal(h->pc, CODE + 4098);
        add = addi(A0, A0, 2 + n);
        assert_int_equal(mmu_dma_write(f->b.mmu, CODE + 4096, (uint8_t *)&add + 2, 2), 0);
    }
    assert_int_equal(mmu_dma_write(f->b.mmu, RAM_BASE + MEMORY - 2, &add, 2), 0);
    h->pc = RAM_BASE + MEMORY - 2;
    assert_int_equal(run(f, 1), ENGINE_BUDGET);
    assert_int_equal(h->mcause, EXC_INSN_ACCESS);
    assert_int_equal(h->mepc, RAM_BASE + MEMORY - 2);
    assert_int_equal(h->mtval, RAM_BASE + MEMORY);
}

/* More pages of code than are kept, twice around. */
static void test_eviction(void **state)
{
    struct fixture *f = *state;
    struct hart *h;
    unsigned pages = 3 * CODE_PAGES;
    uint32_t code[2] = {addi(A0, A0, 1), 0};

    for (unsigned i = 0; i < pages; i++) {
        code[1] = i == pages - 1 ? 0x00008067 /* ret */
                                 : isa_place(isa_table[INSN_JAL].match, ISA_FIELD_IMM_J, 4092);
        assert_int_equal(mmu_dma_write(f->b.mmu, CODE + i * 4096ull, code, sizeof code), 0);
    }
    hart_reset(&f->b.hart, CODE);
    h = &f->b.hart;
    h->x[RA] = CODE;
    assert_int_equal(run(f, 2ull * pages * 2), ENGINE_BUDGET);
    assert_int_equal(h->x[A0], 2 * pages);
    assert_int_equal(h->pc, CODE);
}

/* A page that was code once and is written now on is released; one that goes on being executed is not lost.
 */
static void test_page_becomes_data(void **state)
{
    struct fixture *f = *state;
    struct hart *h;
    struct ram *ram = &f->b.ram;

    stream_put(&f->s, INSN_SD, T0, T1, 0);
    stream_put(&f->s, INSN_C_ADDI, T1, T1, 1);
    stream_put(&f->s, INSN_JAL, ZERO, -6);
    f->s.pos = 4096;
    stream_put(&f->s, INSN_JAL, ZERO, -4096);
    h = load(f);
    h->pc = CODE + 4096;
    h->x[T0] = CODE + 4096 + 64;
    assert_int_equal(run(f, 2), ENGINE_BUDGET);
    assert_true(ram->attr[1] & PAGE_DECODED);
    assert_int_equal(run(f, 3 * 200), ENGINE_BUDGET);
    assert_false(ram->attr[1] & PAGE_DECODED);
    h->x[T0] = CODE + 64; /* the page that stores is the page that is written */
    assert_int_equal(run(f, 3 * 200), ENGINE_BUDGET);
    assert_int_equal(h->x[T1], 400);
    assert_int_equal(*(uint64_t *)(ram->host + 64), 400);
}

static void test_illegal_value(void **state)
{
    struct fixture *f = *state;
    struct hart *h;
    static const uint8_t code[] = {0x79, 0x9c, 0xff, 0xff, 0x00, 0x40, 0x00, 0x00};

    assert_int_equal(mmu_dma_write(f->b.mmu, CODE, code, sizeof code), 0);
    hart_reset(&f->b.hart, CODE);
    h = &f->b.hart;
    assert_int_equal(run(f, 1), ENGINE_BUDGET);
    assert_int_equal(h->mcause, EXC_ILLEGAL);
    assert_int_equal(h->mtval, 0x9c79);
    h->pc = CODE + 2;
    assert_int_equal(run(f, 1), ENGINE_BUDGET);
    assert_int_equal(h->mtval, 0x4000ffff);
    assert_int_equal(h->mepc, CODE + 2);
}

static void test_atomics_trap(void **state)
{
    static const struct {
        enum isa_op op;
        uint64_t address;
        enum exception cause;
    } cases[] = {
        {INSN_LR_W, CODE + 0x1002, EXC_LOAD_MISALIGNED},
        {INSN_SC_W, CODE + 0x1002, EXC_STORE_MISALIGNED},
        {INSN_AMOADD_D, CODE + 0x1004, EXC_STORE_MISALIGNED},
        {INSN_LR_D, 0x10000000, EXC_LOAD_ACCESS},
        {INSN_AMOSWAP_W, 0x10000000, EXC_STORE_ACCESS},
        {INSN_AMOADD_W, 0x40000000, EXC_STORE_ACCESS},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hart *h;
        f->s.pos = 0;
        stream_bits(&f->s, isa_place(isa_table[cases[i].op].match, ISA_FIELD_RS1, A1));
        h = load(f);
        h->x[A1] = cases[i].address;
        assert_int_equal(run(f, 1), ENGINE_BUDGET);
        assert_int_equal(h->mcause, cases[i].cause);
        assert_int_equal(h->mtval, cases[i].address);
        assert_int_equal(h->mepc, CODE);
    }
}

/* A reservation covers its doubleword, is used up by any store-conditional, and lost by a device's write. */
static void test_reservation(void **state)
{
    struct fixture *f = *state;
    struct hart *h;
    uint32_t zero = 0;

    stream_put(&f->s, INSN_LR_W, T0, A1);
    stream_put(&f->s, INSN_SC_W, T1, A1, A2);
    stream_put(&f->s, INSN_SC_W, T2, A1, A2);
    h = load(f);
    h->x[A1] = CODE + 0x1000;
    h->x[A2] = 7;
    assert_int_equal(run(f, 3), ENGINE_BUDGET);
    assert_int_equal(h->x[T1], 0);
    assert_int_equal(h->x[T2], 1);
    h->pc = CODE;
    assert_int_equal(run(f, 1), ENGINE_BUDGET);
    assert_int_equal(h->x[T0], 7);
    assert_int_equal(mmu_dma_write(f->b.mmu, CODE + 0x1004, &zero, sizeof zero), 0);
    assert_int_equal(run(f, 1), ENGINE_BUDGET);
    assert_int_equal(h->x[T1], 1);
}

/* An interrupt is taken before the instruction behind the one that enabled it, and is not a step. */
static void test_interrupt(void **state)
{
    struct fixture *f = *state;
    struct hart *h;

    stream_put(&f->s, INSN_CSRRSI, ZERO, 8, 0x300); /* mstatus.MIE */
    stream_put(&f->s, INSN_ADDI, A0, A0, 1);
    f->s.pos = 64;
    stream_put(&f->s, INSN_ADDI, A1, A1, 1);
    h = load(f);
    h->mtvec = CODE + 64;
    h->mie = IRQ_MSIP;
    hart_irq_line(h, IRQ_MSIP, true);
    assert_int_equal(run(f, 2), ENGINE_BUDGET);
    assert_int_equal(h->x[A0], 0);
    assert_int_equal(h->x[A1], 1);
    assert_int_equal(h->mepc, CODE + 4);
    assert_int_equal(h->pc, CODE + 68);
}

/* wfi and pause end the quantum behind themselves, and count. */
static void test_yield(void **state)
{
    struct fixture *f = *state;
    struct hart *h;

    stream_put(&f->s, INSN_PAUSE);
    stream_put(&f->s, INSN_WFI);
    stream_put(&f->s, INSN_ADDI, A0, A0, 1);
    h = load(f);
    assert_int_equal(run(f, 100), ENGINE_YIELD);
    assert_int_equal(f->b.steps, 1);
    assert_int_equal(h->pc, CODE + 4);
    assert_int_equal(h->wait, HART_RUNS);
    assert_int_equal(run(f, 100), ENGINE_YIELD);
    assert_int_equal(f->b.steps, 2);
    assert_int_equal(h->pc, CODE + 8);
    assert_int_equal(h->wait, HART_WFI);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crossing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eviction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page_becomes_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_illegal_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_atomics_trap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reservation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_yield, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
