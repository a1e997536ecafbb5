/* The translator beside the interpreter where the privilege, the address space or the rights change: random
 * programs for all privileges under several page tables, with every trap, return and CSR form that translated
 * code has of its own. */
#include "cpu-core/jit/jit.h"
#include "cpu-core/jit/stats.h"
#include "tests/cpu-core/jit_pair.h"
#include "tests/insn/stream.h"

#include <stdlib.h>

/* Physical memory of the programs. */
#define CODE      STREAM_BASE
#define CODE_SIZE 4096u
#define DATA      (STREAM_BASE + (1u << 20))
#define ROOT(i)   (STREAM_BASE + (2u << 20) + 4096u * (i)) /* Sv39 */
#define ROOTS     3u

/* Virtual: S-mode's addresses are physical ones, U-mode's have this more, and the gigabyte that comes and
 * goes by the program's own stores is above both. */
#define USER  0x40000000ull
#define THIRD (CODE + 2 * USER)

#define LEAF_S    0xcfull
#define LEAF_U    0xdfull
#define LEAF_X    0xc9ull /* S-mode may execute, and with MXR read */
#define THIRD_PTE (4u * 8)

/* Registers that programs do not write. */
enum {
    R_SATP_A = 18,
    R_SATP_B,
    R_CODE_S,
    R_CODE_U,
    R_STATUS,
    R_PTE,  /* where the root of satp_a has its entry for THIRD */
    R_LEAF, /* what may be there, or 0 */
    R_DATA_S,
    R_DATA_U,
    R_DATA_3,
    R_FIXED_END
};

#define EACH(p, b) for (struct bare *b = &(p)->jit; b; b = b == &(p)->jit ? &(p)->interp : NULL)

static uint64_t satp_of(unsigned root)
{
    return 8ull << 60 | ROOT(root) >> 12;
}

static void write64(struct bare *b, uint64_t pa, uint64_t value)
{
    assert_int_equal(mmu_dma_write(b->mmu, pa, &value, sizeof value), 0);
}

/* Of the roots, the last has nothing for U-mode. */
static void write_tables(struct bare *b)
{
    for (unsigned i = 0; i < ROOTS; i++) {
        write64(b, ROOT(i) + 2 * 8, CODE >> 2 | LEAF_S);
        write64(b, ROOT(i) + 3 * 8, i + 1 < ROOTS ? CODE >> 2 | LEAF_U : 0);
        write64(b, ROOT(i) + THIRD_PTE, i ? CODE >> 2 | LEAF_U : 0);
    }
}

/* Programs. */

static unsigned result(struct pair *p)
{
    unsigned r;

    do
        r = pair_below(p, 32);
    while (r >= R_SATP_A && r < R_FIXED_END);
    return r;
}

static unsigned one_of(struct pair *p, unsigned a, unsigned b)
{
    return pair_below(p, 8) == 0 ? pair_below(p, 32) : pair_below(p, 2) ? a : b;
}

/* A register with something to write to the CSR. */
static unsigned source(struct pair *p, unsigned number)
{
    switch (number) {
    case 0x180:
        return pair_below(p, 4) ? one_of(p, R_SATP_A, R_SATP_B) : 0;
    case 0x100:
    case 0x300:
        return one_of(p, R_STATUS, R_STATUS);
    case 0x105:
    case 0x141:
    case 0x305:
    case 0x341:
        return one_of(p, R_CODE_S, R_CODE_U);
    default:
        return pair_below(p, 32);
    }
}

static uint32_t csr_insn(struct pair *p)
{
    static const uint16_t numbers[] = {0x001, 0x002, 0x003, 0x100, 0x100, 0x100, 0x104, 0x104, 0x105, 0x106,
                                       0x10a, 0x140, 0x141, 0x142, 0x143, 0x144, 0x144, 0x14d, 0x180, 0x180,
                                       0x300, 0x300, 0x304, 0x304, 0xf14, 0x305, 0x306, 0x320, 0x340, 0x341,
                                       0x342, 0x343, 0x344, 0xc00, 0xc01, 0xc02, 0xb00, 0xb02, 0x30a};
    unsigned number = numbers[pair_below(p, sizeof numbers / sizeof *numbers)];
    unsigned funct3 = 1 + pair_below(p, 3), rd = pair_below(p, 3) ? result(p) : 0;

    if (number >= 0xc00 && pair_below(p, 8))
        return csr(number, 0, 2, rd);
    if (pair_below(p, 4) == 0)
        return csr(number, pair_below(p, 32), 4 + funct3, rd);
    return csr(number, pair_below(p, 4) ? source(p, number) : 0, funct3, rd);
}

#define ECALL  0x00000073u
#define EBREAK 0x00100073u
#define SRET   0x10200073u
#define MRET   0x30200073u
#define FENCE  0x12000073u /* sfence.vma */

/* Return to behind what trapped, or to anywhere. */
static unsigned write_return(struct pair *p, uint32_t *code)
{
    bool m = pair_below(p, 3) == 0;
    unsigned epc = m ? 0x341 : 0x141, t = 5 + pair_below(p, 3), n = 0;

    if (pair_below(p, 4)) {
        code[n++] = csr(epc, 0, 2, t);
        code[n++] = type_i(4, t, 0, t, 0x13);
        code[n++] = csr(epc, t, 1, 0);
    }
    code[n++] = m ? MRET : SRET;
    return n;
}

static uint32_t memory_insn(struct pair *p)
{
    unsigned base = R_DATA_S + pair_below(p, 3);
    int32_t offset = (int32_t)pair_below(p, 256) * 8 - 1024;

    if (pair_below(p, 8) == 0)
        base = pair_below(p, 32);
    switch (pair_below(p, 8)) {
    case 0:
        return type_s(0, R_LEAF, R_PTE, 3);
    case 4:
        return type_r(0x08, 0, base, 3, result(p), 0x2f); /* lr.d */
    case 5:
        return type_r(0x0c, pair_below(p, 32), base, 3, result(p), 0x2f); /* sc.d */
    case 1:
        return type_s(offset, pair_below(p, 32), base, 3);
    case 2:
        return type_r((uint32_t)offset >> 5 & 0x7f, pair_below(p, 32), base, 3, (uint32_t)offset & 31,
                      0x27); /* fsd */
    case 3:
        return type_i(offset, base, 3, pair_below(p, 32), 0x07); /* fld */
    default:
        return type_i(offset, base, 3, result(p), 0x03);
    }
}

static unsigned write_unit(struct pair *p, uint32_t *code)
{
    switch (pair_below(p, 14)) {
    case 12:
        *code = csr(0x180, pair_below(p, 2) ? R_SATP_A : R_SATP_B, 1, 0);
        return 1;
    case 13:
        code[0] = csr(0x100, R_STATUS, 2 + pair_below(p, 2), 0);
        code[1] = type_i(0, R_DATA_U, 3, result(p), 0x03);
        return 2;
    case 0:
    case 1:
        *code = ECALL;
        return 1;
    case 2:
    case 3:
        return write_return(p, code);
    case 4:
    case 5:
    case 6:
    case 7:
        *code = csr_insn(p);
        return 1;
    case 8:
    case 9:
        *code = memory_insn(p);
        return 1;
    case 10:
        *code = pair_below(p, 2) ? type_r(1, pair_below(p, 32), pair_below(p, 32), 7, pair_below(p, 32), 0x53)
                                 : type_i(1, pair_below(p, 32), 0, result(p), 0x13);
        return 1;
    default:
        *code = pair_below(p, 4)   ? type_b(8, pair_below(p, 32), pair_below(p, 32), 6)
                : pair_below(p, 2) ? FENCE
                                   : EBREAK;
        return 1;
    }
}

static void write_program(struct pair *p)
{
    uint32_t code[CODE_SIZE / 4];
    unsigned n = 0;

    while (n < CODE_SIZE / 4 - 5)
        n += write_unit(p, code + n);
    while (n < CODE_SIZE / 4 - 1)
        code[n++] = ECALL;
    code[n] = type_b(-2048, 0, 0, 0);
    EACH(p, b)
    {
        assert_int_equal(mmu_dma_write(b->mmu, CODE, code, sizeof code), 0);
        write_tables(b);
    }
}

/* State. */

/* The comparator of a machine without timers: only writes look at the clock. */
static void stimecmp_changed(void *arg, struct hart *h)
{
    struct bare *b = arg;

    if (!(h->menvcfg & MENVCFG_STCE))
        return;
    hart_irq_line(h, IRQ_STIP, vclock_ticks(&b->clock, hart_icount(h)) >= h->stimecmp);
    hart_shorten(h, hart_icount(h) + (h->stimecmp & 127));
}

static const struct hart_hooks hooks = {stimecmp_changed};

static uint64_t wide(struct pair *p)
{
    return ((uint64_t)pair_below(p, UINT32_MAX) << 32 | pair_below(p, UINT32_MAX)) >> pair_below(p, 64);
}

static uint64_t code_address(struct pair *p, bool elsewhere)
{
    uint64_t at = CODE + 4ull * pair_below(p, CODE_SIZE / 4);

    return elsewhere ? at + (pair_below(p, 3) ? USER : 2 * USER) : at;
}

static uint64_t random_leaf(struct pair *p)
{
    static const uint64_t leaves[] = {LEAF_U, LEAF_S, LEAF_X};

    return pair_below(p, 3) ? CODE >> 2 | leaves[pair_below(p, 3)] : 0;
}

static uint64_t random_status(struct pair *p)
{
    uint64_t s = wide(p) & (MSTATUS_SIE | MSTATUS_MIE | MSTATUS_SPIE | MSTATUS_MPIE | MSTATUS_SPP |
                            MSTATUS_FS | MSTATUS_SUM);

    if (pair_below(p, 2))
        s |= MSTATUS_SUM;
    if (pair_below(p, 2))
        s |= MSTATUS_FS;
    if (pair_below(p, 4) == 0)
        s |= MSTATUS_MXR;
    return s;
}

static void scatter_registers(struct pair *p, struct hart *h)
{
    for (unsigned r = 1; r < 32; r++) {
        h->x[r] = wide(p);
        h->f[r] = pair_below(p, 2) ? wide(p) : 0x3ff8000000000000;
    }
    h->x[R_SATP_A] = satp_of(0);
    h->x[R_SATP_B] = satp_of(1 + pair_below(p, ROOTS - 1));
    h->x[R_CODE_S] = code_address(p, false);
    h->x[R_CODE_U] = code_address(p, true);
    h->x[R_STATUS] = random_status(p) | (uint64_t)pair_below(p, 4) << 11 |
                     (pair_below(p, 8) ? 0 : MSTATUS_MPRV) | (pair_below(p, 8) ? 0 : MSTATUS_TVM);
    h->x[R_PTE] = ROOT(0) + THIRD_PTE;
    h->x[R_LEAF] = random_leaf(p);
    h->x[R_DATA_S] = DATA;
    h->x[R_DATA_U] = DATA + USER;
    h->x[R_DATA_3] = DATA - CODE + THIRD;
}

static void scatter_rights(struct pair *p, struct hart *h)
{
    static const uint8_t privs[] = {PRIV_U, PRIV_U, PRIV_S, PRIV_S, PRIV_M};

    h->priv = privs[pair_below(p, sizeof privs)];
    h->mstatus = (h->mstatus & (MSTATUS_UXL | MSTATUS_SXL)) | random_status(p) |
                 (pair_below(p, 6) ? 0 : MSTATUS_TVM) | (pair_below(p, 6) ? 0 : MSTATUS_TSR) |
                 (uint64_t)privs[pair_below(p, sizeof privs)] << 11;
    if (h->priv == PRIV_M && pair_below(p, 4) == 0)
        h->mstatus |= MSTATUS_MPRV;
    h->medeleg = pair_below(p, 4) ? 0xb3ff : wide(p) & 0xb3ff;
    h->mideleg = pair_below(p, 4) ? IRQ_SSIP | IRQ_STIP | IRQ_SEIP : pair_below(p, 2) ? IRQ_SSIP : 0;
    h->mcounteren = pair_below(p, 4) ? 7 : pair_below(p, 8);
    h->scounteren = pair_below(p, 4) ? 7 : pair_below(p, 8);
    h->mcountinhibit = pair_below(p, 4) ? 0 : pair_below(p, 8) & 5;
    h->menvcfg = pair_below(p, 4) ? h->menvcfg | MENVCFG_STCE : h->menvcfg & ~MENVCFG_STCE;
    h->frm = (uint8_t)(pair_below(p, 3) ? pair_below(p, 4) : pair_below(p, 8));
}

static void scatter(struct pair *p)
{
    uint64_t random = p->random;

    EACH(p, b)
    {
        struct hart *h = &b->hart;
        p->random = random;
        h->hooks = &hooks;
        h->hooks_arg = b;
        scatter_registers(p, h);
        scatter_rights(p, h);
        h->satp = pair_below(p, 6) ? satp_of(pair_below(p, ROOTS)) : 0;
        h->pc = code_address(p, h->priv == PRIV_U);
        h->sepc = code_address(p, pair_below(p, 3));
        h->mepc = code_address(p, pair_below(p, 3));
        h->stvec = code_address(p, false);
        h->mtvec = code_address(p, false);
        h->mie = pair_below(p, 2) ? wide(p) & 0xaaa : 0;
        h->mip &= ~(uint64_t)(IRQ_SSIP | IRQ_STIP);
        hart_irq_line(h, IRQ_SSIP, pair_below(p, 4) == 0);
        hart_irq_line(h, IRQ_STIP, pair_below(p, 4) == 0);
        hart_irq_line(h, IRQ_SEIP, pair_below(p, 4) == 0);
        mmu_context_changed(h);
        hart_irq_update(h);
    }
}

static void disturb(struct pair *p)
{
    if (pair_below(p, 40) == 0)
        mmu_flush(p->jit.mmu);
    if (pair_below(p, 80) == 0)
        jit_engine.flush(p->jit.engine);
    if (pair_below(p, 80) == 0)
        mmu_ram_hash(p->jit.mmu);
}

static void test_random(void **state)
{
    for (uint64_t seed = 1; seed <= 48; seed++) {
        struct pair *p = pair_begin(seed, true, (unsigned)seed % 3);
        write_program(p);
        pair_open_memory(p);
        for (unsigned i = 0; i < 900; i++) {
            if (i % 3 == 0)
                scatter(p);
            pair_run(p, 1 + pair_below(p, seed % 4 ? 400 : 4), i % 50 == 0);
            disturb(p);
        }
        pair_run(p, 1, true);
        pair_end(p);
    }
}

/* Where U-mode calls S-mode in a loop, and S-mode switches the address space, nothing asks the engine. */

static struct jit_stats stats_of(struct pair *p)
{
    struct jit_stats s;
    struct jit_memory m;

    jit_get_stats(p->jit.engine, &s, &m);
    return s;
}

static void place(struct pair *p, uint64_t at, const uint32_t *code, size_t len)
{
    EACH(p, b) assert_int_equal(mmu_dma_write(b->mmu, at, code, len), 0);
}

/* In U-mode under the first root; S-mode enters at CODE. */
static void start_user(struct pair *p, uint64_t offset)
{
    uint64_t random = p->random;

    pair_open_memory(p);
    EACH(p, b)
    {
        struct hart *h = &b->hart;
        p->random = random;
        write_tables(b);
        scatter_registers(p, h);
        h->priv = PRIV_U;
        h->pc = CODE + offset + USER;
        h->satp = satp_of(0);
        h->medeleg = 0xb3ff;
        h->stvec = CODE;
        h->mstatus |= MSTATUS_FS;
        h->x[R_STATUS] = MSTATUS_FS | MSTATUS_SUM;
        h->x[R_DATA_U] = DATA + USER;
        mmu_context_changed(h);
        hart_irq_update(h);
    }
}

static const uint32_t user_loop[] = {
    0x02b50553,        /* fadd.d fa0,fa0,fa1 */
    ECALL, 0xff9ff06f, /* j -8 */
};

static void check_quiet(struct pair *p, uint64_t warm, uint64_t steps)
{
    struct jit_stats before, after;

    pair_run(p, warm, false);
    before = stats_of(p);
    pair_run(p, steps, true);
    after = stats_of(p);
    assert_true(after.entries - before.entries < 20);
    assert_true(after.ecalls + after.xrets + after.csrs - before.ecalls - before.xrets - before.csrs < 20);
}

static void test_system_calls(void **state)
{
    const uint32_t handler[] = {
        csr(0x140, 5, 1, 5),              /* csrrw t0,sscratch,t0 */
        csr(0x100, R_STATUS, 3, 6),       /* csrrc t1,sstatus,FS | SUM */
        csr(0x142, 0, 2, 7),              /* csrr t2,scause */
        csr(0x100, R_STATUS, 2, 0),       /* csrs sstatus,FS | SUM */
        type_i(0, R_DATA_U, 3, 28, 0x03), /* ld t3,0(data) */
        csr(0x100, R_STATUS, 3, 0),       /* csrc sstatus,FS | SUM */
        csr(0x141, 0, 2, 7),              /* csrr t2,sepc */
        type_i(4, 7, 0, 7, 0x13),         /* addi t2,t2,4 */
        csr(0x141, 7, 1, 0),              /* csrw sepc,t2 */
        csr(0xc00, 0, 2, 28),             /* rdcycle t3 */
        csr(0x104, 0, 2, 28),             /* csrr t3,sie */
        csr(0x100, 6, 1, 0),              /* csrw sstatus,t1 */
        SRET,
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, user_loop, sizeof user_loop);
    start_user(p, 256);
    EACH(p, b) b->hart.mcounteren = 7;
    check_quiet(p, 3000, 30000);
    pair_end(p);
}

/* A load that faults enters S-mode without the engine too. */
static void test_page_faults(void **state)
{
    const uint32_t handler[] = {
        csr(0x141, 0, 2, 7),      /* csrr t2,sepc */
        type_i(4, 7, 0, 7, 0x13), /* addi t2,t2,4 */
        csr(0x141, 7, 1, 0),      /* csrw sepc,t2 */
        SRET,
    };
    const uint32_t user[] = {
        type_i(0, R_DATA_3, 3, 28, 0x03), /* ld t3,0(nothing) */
        type_s(0, 5, R_DATA_3, 3),        /* sd t0,0(nothing) */
        0xff9ff06f,                       /* j -8 */
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, user, sizeof user);
    start_user(p, 256);
    check_quiet(p, 3000, 30000);
    pair_end(p);
}

/* Two address spaces in turn. */
static void test_address_spaces(void **state)
{
    const uint32_t handler[] = {
        csr(0x180, R_SATP_A, 1, 0), /* csrw satp,a */
        FENCE,
        csr(0x180, R_SATP_B, 1, 0), /* csrw satp,b */
        csr(0x141, 0, 2, 7),        /* csrr t2,sepc */
        type_i(4, 7, 0, 7, 0x13),   /* addi t2,t2,4 */
        csr(0x141, 7, 1, 0),        /* csrw sepc,t2 */
        csr(0x180, R_SATP_A, 1, 0),
        SRET,
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, user_loop, sizeof user_loop);
    start_user(p, 256);
    EACH(p, b) b->hart.x[R_SATP_B] = satp_of(1);
    check_quiet(p, 3000, 30000);
    pair_end(p);
}

/* In S-mode under the first root, with the page of THIRD as `leaf` has it. */
static void start_supervisor(struct pair *p, uint64_t offset, uint64_t leaf)
{
    start_user(p, offset);
    EACH(p, b)
    {
        struct hart *h = &b->hart;
        write64(b, ROOT(0) + THIRD_PTE, leaf);
        h->priv = PRIV_S;
        h->pc = CODE + offset;
        mmu_context_changed(h);
    }
}

/* What MXR lets through is not there without it, whatever was entered in between. */
static void test_executable_only(void **state)
{
    const uint32_t handler[] = {
        csr(0x141, 0, 2, 7),      /* csrr t2,sepc */
        type_i(4, 7, 0, 7, 0x13), /* addi t2,t2,4 */
        csr(0x141, 7, 1, 0),      /* csrw sepc,t2 */
        SRET,
    };
    const uint32_t loop[] = {
        csr(0x100, R_STATUS, 2, 0),       /* csrs sstatus,MXR */
        ECALL,                            /* of S-mode to itself */
        type_i(0, R_DATA_3, 3, 28, 0x03), /* ld t3,0(data) */
        csr(0x180, R_SATP_A, 1, 0),       /* csrw satp,a */
        type_i(8, R_DATA_3, 3, 29, 0x03), /* ld t4,8(data) */
        csr(0x100, R_STATUS, 3, 0),       /* csrc sstatus,MXR */
        type_i(0, R_DATA_3, 3, 0, 0x03),  /* ld zero,0(data): faults */
        0xfe5ff06f,                       /* j -28 */
    };

    for (unsigned skipped = 0; skipped < 3; skipped++) { /* of what is entered with MXR set */
        struct pair *p = pair_begin(1, true, 0);
        place(p, CODE, handler, sizeof handler);
        place(p, CODE + 256, loop, sizeof loop);
        if (skipped)
            place(p, CODE + 256 + (skipped == 1 ? 4 : 12), (uint32_t[]){0x13}, 4);
        start_supervisor(p, 256, CODE >> 2 | LEAF_X);
        EACH(p, b)
        {
            b->hart.medeleg |= 1u << EXC_ECALL_S;
            b->hart.x[R_STATUS] = MSTATUS_MXR;
        }
        for (unsigned i = 0; i < 40; i++)
            pair_run(p, 100 + i, false);
        pair_end(p);
    }
}

/* The same where M-mode changes MXR and its traps come in between. */
static void test_executable_only_by_machine(void **state)
{
    const uint32_t handler[] = {
        csr(0x341, 0, 2, 7),                /* csrr t2,mepc */
        type_i(4, 7, 0, 7, 0x13),           /* addi t2,t2,4 */
        csr(0x341, 7, 1, 0),                /* csrw mepc,t2 */
        csr(0x300, 0, 2, 6),                /* csrr t1,mstatus */
        type_r(0, R_STATUS, 6, 4, 6, 0x33), /* xor t1,t1,MXR */
        csr(0x300, 6, 1, 0),                /* csrw mstatus,t1 */
        MRET,
    };
    const uint32_t loop[] = {
        type_i(0, R_DATA_3, 3, 28, 0x03),                    /* ld t3,0(data) */
        ECALL, type_i(0, R_DATA_3, 3, 28, 0x03), 0xff5ff06f, /* j -12 */
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, loop, sizeof loop);
    start_supervisor(p, 256, CODE >> 2 | LEAF_X);
    EACH(p, b)
    {
        b->hart.medeleg = 0;
        b->hart.mtvec = CODE;
        b->hart.x[R_STATUS] = MSTATUS_MXR;
    }
    for (unsigned i = 0; i < 40; i++)
        pair_run(p, 100 + i, false);
    pair_end(p);
}

/* M-mode enables what is pending, and makes pending what is enabled. */
static void test_machine_interrupts(void **state)
{
    const uint32_t handler[] = {
        csr(0x304, 2, 7, 0),      /* csrci mie,2 */
        csr(0x344, 2, 7, 0),      /* csrci mip,2 */
        type_i(1, 6, 0, 6, 0x13), /* addi t1,t1,1 */
        MRET,
    };
    const uint32_t loop[] = {
        csr(0x344, 2, 6, 0),                                           /* csrsi mip,2 */
        csr(0x304, 2, 6, 0),                                           /* csrsi mie,2: taken here */
        csr(0x304, 2, 6, 0), csr(0x344, 2, 6, 0),                      /* and here */
        csr(0x300, 8, 7, 0),                                           /* csrci mstatus,MIE */
        csr(0x344, 2, 6, 0), csr(0x304, 2, 6, 0), csr(0x300, 8, 6, 0), /* csrsi mstatus,MIE: and here */
        0xfe1ff06f,                                                    /* j -32 */
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, loop, sizeof loop);
    EACH(p, b)
    {
        b->hart.pc = CODE + 256;
        b->hart.mtvec = CODE;
        b->hart.mstatus |= MSTATUS_MIE;
        b->hart.x[6] = 0;
    }
    for (unsigned i = 0; i < 40; i++)
        pair_run(p, 100 + i, false);
    assert_true(p->jit.hart.x[6] > 500);
    pair_end(p);
}

/* The translation of code goes and comes while another root is in use. */
static void test_revoked_code(void **state)
{
    const uint32_t handler[] = {
        csr(0x141, 1, 1, 0), /* csrw sepc,ra */
        SRET,
    };
    const uint32_t loop[] = {
        type_i(0, R_CODE_U, 0, 1, 0x67),  /* jalr ra,0(there) */
        csr(0x180, R_SATP_B, 1, 0),       /* csrw satp,b */
        type_s(0, 5, R_PTE, 3),           /* sd t0,0(entry) */
        type_r(0, R_LEAF, 5, 4, 5, 0x33), /* xor t0,t0,leaf */
        csr(0x180, R_SATP_A, 1, 0),       /* csrw satp,a */
        0xfedff06f,                       /* j -20 */
    };
    const uint32_t there[] = {
        type_i(1, 6, 0, 6, 0x13), /* addi t1,t1,1 */
        type_i(0, 1, 0, 0, 0x67), /* ret */
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, loop, sizeof loop);
    place(p, CODE + 512, there, sizeof there);
    start_supervisor(p, 256, CODE >> 2 | LEAF_S);
    EACH(p, b)
    {
        struct hart *h = &b->hart;
        h->x[R_CODE_U] = THIRD + 512;
        h->x[R_SATP_B] = satp_of(1);
        h->x[R_LEAF] = CODE >> 2 | LEAF_S;
        h->x[5] = 0;
        h->x[6] = 0;
    }
    for (unsigned i = 0; i < 40; i++)
        pair_run(p, 100 + i, true);
    assert_true(p->jit.hart.x[6] > 100);
    pair_end(p);
}

/* M-mode's calls and returns. */
static void test_machine_calls(void **state)
{
    const uint32_t handler[] = {
        csr(0x340, 5, 1, 5),      /* csrrw t0,mscratch,t0 */
        csr(0x341, 0, 2, 7),      /* csrr t2,mepc */
        type_i(4, 7, 0, 7, 0x13), /* addi t2,t2,4 */
        csr(0x341, 7, 1, 0),      /* csrw mepc,t2 */
        MRET,
    };
    struct pair *p = pair_begin(1, true, 0);

    place(p, CODE, handler, sizeof handler);
    place(p, CODE + 256, user_loop, sizeof user_loop);
    start_user(p, 256);
    EACH(p, b)
    {
        b->hart.medeleg = 0;
        b->hart.mtvec = CODE;
    }
    check_quiet(p, 3000, 30000);
    pair_end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_system_calls),
        cmocka_unit_test(test_page_faults),
        cmocka_unit_test(test_address_spaces),
        cmocka_unit_test(test_machine_calls),
        cmocka_unit_test(test_executable_only),
        cmocka_unit_test(test_revoked_code),
        cmocka_unit_test(test_executable_only_by_machine),
        cmocka_unit_test(test_machine_interrupts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
