/* The translator beside an interpreter that caches nothing, on random programs: the visible state is the same
 * after every slice, whatever the slices are and whatever the translator had to forget. */
#include "cpu-core/jit/jit.h"
#include "tests/cpu-core/jit_pair.h"
#include "tests/insn/stream.h"

#define RAM_PERIOD 50000u /* steps between comparisons of RAM */

/* `max_slice` 1: compares after every step. */
static void compare(uint64_t seed, bool fences, unsigned heat, uint32_t max_slice, uint64_t steps)
{
    struct pair *p = pair_begin(seed, fences, heat);
    uint64_t next_ram = RAM_PERIOD;

    while (p->jit.steps < steps && !p->jit.stopped) {
        bool with_ram = p->jit.steps >= next_ram;
        pair_run(p, 1 + pair_below(p, max_slice), with_ram);
        if (with_ram)
            next_ram += RAM_PERIOD;
    }
    pair_run(p, 1, true);
    pair_end(p);
}

static void test_every_step(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        compare(seed, seed % 2, 0, 1, 60000);
}

static void test_short_slices(void **state)
{
    compare(11, true, 0, 2, 100000);
    compare(12, false, 0, 3, 100000);
    compare(13, true, 0, 7, 200000);
}

static void test_slices(void **state)
{
    for (uint64_t seed = 21; seed <= 32; seed++)
        compare(seed, seed % 2, 0, 500, 500000);
}

static void test_cold_tier(void **state)
{
    for (uint64_t seed = 41; seed <= 44; seed++)
        compare(seed, seed % 2, (unsigned)(seed - 40), 200, 300000);
}

/* Everything translated, or every translation bank, goes away at random moments. */
static void test_flushes(void **state)
{
    for (uint64_t seed = 51; seed <= 54; seed++) {
        struct pair *p = pair_begin(seed, seed % 2, 0);
        while (p->jit.steps < 300000 && !p->jit.stopped) {
            pair_run(p, 1 + pair_below(p, 300), false);
            if (pair_below(p, 20) == 0)
                jit_engine.flush(p->jit.engine);
            if (pair_below(p, 20) == 0)
                mmu_flush(p->jit.mmu);
            if (pair_below(p, 50) == 0)
                mmu_ram_hash(p->jit.mmu);
        }
        pair_run(p, 1, true);
        pair_end(p);
    }
}

/* A device writes code that was translated. */
static void test_dma_into_code(void **state)
{
    static const uint32_t loop[] = {
        0x00150513, /* addi a0,a0,1 */
        0xffdff06f, /* j -4 */
    };
    static const uint32_t by_two = 0x00250513; /* addi a0,a0,2 */
    struct pair *p = pair_begin(1, true, 0);

    for (unsigned i = 0; i < 2; i++) {
        struct bare *b = i ? &p->interp : &p->jit;
        assert_int_equal(mmu_dma_write(b->mmu, STREAM_BASE, loop, sizeof loop), 0);
        hart_reset(&b->hart, STREAM_BASE);
    }
    pair_run(p, 1001, true);
    assert_int_equal(p->jit.hart.x[10], 501);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(mmu_dma_write((i ? &p->interp : &p->jit)->mmu, STREAM_BASE, &by_two, sizeof by_two),
                         0);
    pair_run(p, 1000, true);
    assert_int_equal(p->jit.hart.x[10], 1501);
    pair_end(p);
}

/* An instruction crosses the page: its second half changes by a store of the loop itself, and by a device. */
static void test_crossing_page(void **state)
{
    static const uint16_t code[] = {
        0x8793, 0x07d7, /* addi a5,a5,125: from two bytes before the page's end */
        0x9023, 0x01c2, /* sh t3,0(t0): the second half, with another immediate */
        0x0e13, 0x010e, /* addi t3,t3,16 */
        0xf06f, 0xff5f, /* j -12 */
    };
    static const uint16_t half = 0x00a7;
    uint64_t at = STREAM_BASE + PAGE_SIZE - 2;

    for (unsigned heat = 0; heat < 3; heat++)
        for (unsigned slice = 1; slice < 40; slice += 13) {
            struct pair *p = pair_begin(1, true, heat);
            for (unsigned i = 0; i < 2; i++) {
                struct bare *b = i ? &p->interp : &p->jit;
                assert_int_equal(mmu_dma_write(b->mmu, at, code, sizeof code), 0);
                hart_reset(&b->hart, at);
                b->hart.x[5] = STREAM_BASE; /* a store elsewhere at first */
                b->hart.x[28] = 0x07d7;
            }
            for (unsigned i = 0; i < 12; i++)
                pair_run(p, slice, i % 4 == 0);
            p->jit.hart.x[5] = p->interp.hart.x[5] = at + 2;
            for (unsigned i = 0; i < 12; i++)
                pair_run(p, slice, i % 4 == 0);
            p->jit.hart.x[5] = p->interp.hart.x[5] = STREAM_BASE;
            for (unsigned i = 0; i < 24; i++) {
                pair_run(p, slice, i % 4 == 0);
                if (i == 6)
                    for (unsigned k = 0; k < 2; k++)
                        assert_int_equal(
                            mmu_dma_write((k ? &p->interp : &p->jit)->mmu, at + 2, &half, sizeof half), 0);
            }
            pair_end(p);
        }
}

/* Loops of one block over most registers, whose accesses walk through the pages and off the end of RAM. */
#define LOOP_BODY 24u
#define COUNTER   5u  /* t0 */
#define POINTER_A 16u /* a6 */
#define POINTER_B 8u  /* s0 */

/* Any register but those that keep the loop going. */
static unsigned any(struct pair *p, bool result)
{
    unsigned r;

    do
        r = pair_below(p, 32);
    while (result && (r == COUNTER || r == POINTER_A || r == POINTER_B));
    return r;
}

static uint32_t loop_insn(struct pair *p, bool branches)
{
    static const uint32_t alu[][2] = {{0, 0}, {0x20, 0}, {0, 3}, {0, 4}, {0, 1},
                                      {0, 5}, {1, 0},    {1, 3}, {1, 4}};
    unsigned pointer = pair_below(p, 2) ? POINTER_A : POINTER_B, k = pair_below(p, 9);
    int32_t offset = (int32_t)pair_below(p, 256) - 128;

    switch (pair_below(p, branches ? 8 : 7)) {
    case 0:
    case 1:
        return type_r(alu[k][0], any(p, false), any(p, false), alu[k][1], any(p, true), 0x33);
    case 2:
        return type_r(alu[k % 2][0], any(p, false), any(p, false), 0, any(p, true), 0x3b);
    case 3:
        return type_i(offset, any(p, false), pair_below(p, 2) ? 0 : 7, any(p, true), 0x13);
    case 4:
    case 5:
        return type_i(offset, pointer, pair_below(p, 7), any(p, true), 0x03);
    case 6:
        return type_s(offset, any(p, false), pointer, pair_below(p, 4));
    default:
        return type_b(8, any(p, false), any(p, false), pair_below(p, 2) ? 1 : 6);
    }
}

static void write_loop(struct pair *p)
{
    uint32_t code[LOOP_BODY + 16];
    unsigned n = 0;

    code[n++] = type_i((int32_t)pair_below(p, 60), 0, 0, COUNTER, 0x13);
    for (unsigned i = 0; i < LOOP_BODY; i++)
        code[n++] = loop_insn(p, i + 1 < LOOP_BODY);
    code[n++] = type_i((int32_t)pair_below(p, 600) - 100, POINTER_A, 0, POINTER_A, 0x13);
    code[n++] = type_i((int32_t)pair_below(p, 600) - 100, POINTER_B, 0, POINTER_B, 0x13);
    code[n++] = type_i(-1, COUNTER, 0, COUNTER, 0x13);
    code[n] = type_b(-4 * (int32_t)(n - 1), 0, COUNTER, 1);
    n++;
    code[n] = type_b(-4 * (int32_t)n, 0, 0, 0); /* all again */
    n++;
    for (unsigned i = 0; i < 2; i++) {
        struct bare *b = i ? &p->interp : &p->jit;
        assert_int_equal(mmu_dma_write(b->mmu, STREAM_BASE, code, 4 * n), 0);
        hart_reset(&b->hart, STREAM_BASE);
        b->hart.mtvec = STREAM_BASE;
        for (unsigned r = 1; r < 32; r++)
            b->hart.x[r] = r * 0x9e3779b97f4a7c15ull;
        b->hart.x[POINTER_A] = STREAM_BASE + (1u << 20) - 64;
        b->hart.x[POINTER_B] = STREAM_BASE + (2u << 20) + 64;
    }
}

static void test_loops(void **state)
{
    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct pair *p = pair_begin(seed, true, (unsigned)seed % 3);
        write_loop(p);
        for (unsigned i = 0; i < 300; i++) {
            pair_run(p, 1 + pair_below(p, seed % 4 ? 400 : 5), i % 50 == 0);
            if (pair_below(p, 30) == 0)
                mmu_flush(p->jit.mmu);
            if (pair_below(p, 60) == 0)
                jit_engine.flush(p->jit.engine);
            if (pair_below(p, 60) == 0)
                mmu_ram_hash(p->jit.mmu);
        }
        pair_run(p, 1, true);
        pair_end(p);
    }
}

/* Rounds through a list, whose links go from page to page, with the next element's address loaded into the
 * base itself or copied there, and stores that change the order. */
#define ELEMENTS 40u

static void write_list(struct pair *p)
{
    unsigned at = any(p, true), next = any(p, true), i = 0;
    uint32_t code[6];
    uint64_t elements[ELEMENTS + 1];

    for (unsigned k = 0; k < ELEMENTS; k++)
        elements[k] = STREAM_BASE + (1u << 20) + 8 * (uint64_t)pair_below(p, 2000);
    elements[ELEMENTS] = elements[0];
    at = at ? at : 9;
    if (next == at || next == 0)
        next = at == 14 ? 15 : 14;
    if (pair_below(p, 3))
        code[i++] = type_i(0, next, 0, at, 0x13);
    else
        next = at;
    code[i++] = type_i(0, at, 3, next, 0x03);
    if (pair_below(p, 2))
        code[i++] = type_s(0, next, at, 3);
    code[i++] = type_i(-1, COUNTER, 0, COUNTER, 0x13);
    code[i] = type_b(-4 * (int32_t)i, 0, COUNTER, 1);
    i++;
    code[i] = type_b(-4 * (int32_t)i, 0, 0, 0);
    i++;
    for (unsigned k = 0; k < 2; k++) {
        struct bare *b = k ? &p->interp : &p->jit;
        assert_int_equal(mmu_dma_write(b->mmu, STREAM_BASE, code, 4 * i), 0);
        for (unsigned e = 0; e < ELEMENTS; e++)
            assert_int_equal(mmu_dma_write(b->mmu, elements[e], &elements[e + 1], 8), 0);
        hart_reset(&b->hart, STREAM_BASE);
        b->hart.mtvec = STREAM_BASE;
        b->hart.x[at] = b->hart.x[next] = elements[0];
        b->hart.x[COUNTER] = pair_below(p, 100);
        p->interp.hart.x[COUNTER] = p->jit.hart.x[COUNTER];
    }
}

static void test_lists(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct pair *p = pair_begin(seed, true, (unsigned)seed % 3);
        write_list(p);
        for (unsigned i = 0; i < 200; i++) {
            pair_run(p, 1 + pair_below(p, seed % 4 ? 400 : 5), i % 50 == 0);
            if (pair_below(p, 30) == 0)
                mmu_flush(p->jit.mmu);
            if (pair_below(p, 60) == 0)
                mmu_ram_hash(p->jit.mmu);
        }
        pair_run(p, 1, true);
        pair_end(p);
    }
}

/* What pairs of instructions are made of that are one to the host, and their neighbours that are not. */
static unsigned amount(struct pair *p)
{
    static const unsigned amounts[] = {1, 2, 3, 4, 16, 31, 32, 33, 48, 56, 0, 63};
    return amounts[pair_below(p, 12)];
}

/* A branch over some computations, most often of one register that it does not compare. */
static unsigned write_conditional(struct pair *p, uint32_t *code)
{
    unsigned rd = any(p, true), n = 1 + pair_below(p, 4), compared = pair_below(p, 8) ? rd ^ 1 : rd;

    code[0] = type_b(4 * (int32_t)n + 4, pair_below(p, 2) ? compared : 0, any(p, false),
                     pair_below(p, 2) ? pair_below(p, 2) : 4 + pair_below(p, 4));
    for (unsigned i = 1; i <= n; i++) {
        unsigned to = pair_below(p, 16) ? rd : any(p, true);
        code[i] = pair_below(p, 2) ? type_i((int32_t)amount(p), pair_below(p, 2) ? rd : any(p, false),
                                            pair_below(p, 2) ? 1 : 5, to, 0x13)
                                   : type_r(0, any(p, false), pair_below(p, 2) ? rd : any(p, false),
                                            pair_below(p, 8), to, 0x33);
    }
    return n + 1;
}

static unsigned write_pair(struct pair *p, uint32_t *code)
{
    unsigned rd = any(p, true), rs1 = any(p, false), rs2 = any(p, false), funct3 = 4 + pair_below(p, 4);
    unsigned same = pair_below(p, 8) ? rd : any(p, true), opcode = pair_below(p, 2) ? 0x33 : 0x3b;
    unsigned left = amount(p), right = pair_below(p, 2) ? left : amount(p);

    switch (pair_below(p, 7)) {
    case 5:
    case 6:
        return write_conditional(p, code);
    case 0:
        code[0] = type_i((int32_t)left, rs1, 1, rd, 0x13);
        code[1] = type_i((int32_t)(right | pair_below(p, 2) << 10), rd, 5, same, 0x13);
        return 2;
    case 1:
        code[0] = type_i((int32_t)left, rs1, 1, rd, 0x13);
        code[1] = pair_below(p, 2) ? type_r(0, rs2, rd, 0, same, 0x33) : type_r(0, rd, rs2, 0, same, 0x33);
        return 2;
    case 2:
        code[0] = pair_below(p, 1 << 20) << 12 | rd << 7 | (pair_below(p, 2) ? 0x37u : 0x17u);
        code[1] = type_i((int32_t)pair_below(p, 4096) - 2048, rd, 0, same, pair_below(p, 2) ? 0x13 : 0x1b);
        return 2;
    case 3:
        code[0] = type_i((int32_t)pair_below(p, 3) - 1, 0, 0, rs2 ? rs2 : 1, 0x13); /* divisors 0, 1 and -1 */
        code[1] = type_i(63, same, 1, same, 0x13);                                  /* the least number */
        return 2;
    default:
        code[0] = type_r(1, rs2, rs1, funct3, rd, opcode);
        code[1] = type_r(1, rs2, rs1, pair_below(p, 4) ? funct3 ^ 2 : funct3, any(p, true), opcode);
        return 2;
    }
}

static void test_pairs(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct pair *p = pair_begin(seed, true, 0);
        uint32_t code[408];
        unsigned n = 0;
        while (n < 400) {
            n += write_pair(p, code + n);
            code[n++] = type_b(-4, 0, 0, 1); /* never taken; ends the block */
        }
        for (unsigned i = 0; i < 2; i++) {
            struct bare *b = i ? &p->interp : &p->jit;
            assert_int_equal(mmu_dma_write(b->mmu, STREAM_BASE, code, 4 * n), 0);
            hart_reset(&b->hart, STREAM_BASE);
        }
        while (p->jit.steps < 400) {
            for (unsigned r = 1; r < 32; r++)
                p->jit.hart.x[r] = p->interp.hart.x[r] =
                    ((uint64_t)pair_below(p, UINT32_MAX) << 32 | pair_below(p, UINT32_MAX)) >>
                    pair_below(p, 2) * pair_below(p, 64);
            pair_run(p, 1 + pair_below(p, 9), false);
        }
        pair_end(p);
    }
}

/* Computation on words whose operands are as extreme as their loads allow: what is known of the size of
 * values must hold. */
#define NARROW_BODY 300u

static uint32_t narrow_insn(struct pair *p)
{
    static const uint32_t words[][2] = {{0, 0}, {0x20, 0}, {1, 0}, {0, 1}, {0, 5}, {0x20, 5}};
    static const uint32_t alu[][2] = {{0, 0}, {0x20, 0}, {1, 0}, {0, 4}, {0, 6}, {0, 7}, {0, 2}};
    unsigned rd = 8 + pair_below(p, 6), rs1 = 8 + pair_below(p, 6), rs2 = 8 + pair_below(p, 6),
             k = pair_below(p, 6);
    unsigned by = pair_below(p, 2) ? pair_below(p, 32) : pair_below(p, 4);

    switch (pair_below(p, 8)) {
    case 0:
    case 1:
        return type_i((int32_t)pair_below(p, 64), POINTER_A, pair_below(p, 7), rd, 0x03);
    case 2:
    case 3:
        return type_r(words[k][0], rs2, rs1, words[k][1], rd, 0x3b);
    case 4:
        return type_i((int32_t)(by | (k % 2) << 10), rs1, k < 3 ? 5 : 1, rd, 0x1b) &
               (k < 3 ? UINT32_MAX : ~(1u << 30));
    case 5:
        return type_i((int32_t)pair_below(p, 4096) - 2048, rs1, 0, rd, pair_below(p, 2) ? 0x1b : 0x13);
    case 6:
        k = pair_below(p, 7);
        return type_r(alu[k][0], rs2, rs1, alu[k][1], rd, 0x33);
    default:
        return type_i((int32_t)by, rs1, pair_below(p, 2) ? 1 : pair_below(p, 2) ? 5 : 7, rd, 0x13);
    }
}

static void test_narrow(void **state)
{
    static const uint8_t extremes[] = {0x00, 0x80, 0xff, 0x7f};

    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct pair *p = pair_begin(seed, true, 0);
        uint32_t code[NARROW_BODY];
        uint8_t data[80];
        for (unsigned i = 0; i < NARROW_BODY; i++)
            code[i] = i % 20 == 19 ? type_b(-4, 0, 0, 1) : narrow_insn(p);
        for (unsigned i = 0; i < sizeof data; i++)
            data[i] = extremes[pair_below(p, 4)];
        for (unsigned i = 0; i < 2; i++) {
            struct bare *b = i ? &p->interp : &p->jit;
            assert_int_equal(mmu_dma_write(b->mmu, STREAM_BASE, code, sizeof code), 0);
            assert_int_equal(mmu_dma_write(b->mmu, STREAM_BASE + (1u << 20), data, sizeof data), 0);
            hart_reset(&b->hart, STREAM_BASE);
            b->hart.x[POINTER_A] = STREAM_BASE + (1u << 20);
        }
        for (unsigned i = 0; i < NARROW_BODY / 20; i++)
            pair_run(p, 20, false);
        pair_end(p);
    }
}

/* CSRs and privileged instructions in supervisor and user mode, and the floating point that depends on them:
 * every trap begins the program again. */
#define SSTATUS_BITS (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)

/* fadd to fsqrt, fmadd, and converts, in both formats and any legal rounding mode. */
static uint32_t fp_insn(struct pair *p)
{
    static const struct {
        uint8_t funct5, rs2;
    } ops[] = {{0x00, 32}, {0x01, 32}, {0x02, 32}, {0x03, 32}, {0x0b, 0}, {0x18, 0}, {0x18, 1},
               {0x18, 2},  {0x18, 3},  {0x1a, 0},  {0x1a, 1},  {0x1a, 2}, {0x1a, 3}};
    unsigned i = pair_below(p, 15), d = pair_below(p, 2), mode = pair_below(p, 6), rm = mode == 5 ? 7 : mode;
    unsigned rs2 = pair_below(p, 32);

    if (i == 13)
        return type_r(pair_below(p, 32) << 2 | d, rs2, pair_below(p, 32), rm, pair_below(p, 32), 0x43);
    if (i == 14) /* between the formats */
        return type_r(0x20 | d, 1 - d, pair_below(p, 32), rm, pair_below(p, 32), 0x53);
    if (ops[i].rs2 < 32)
        rs2 = ops[i].rs2;
    return type_r((uint32_t)ops[i].funct5 << 2 | d, rs2, pair_below(p, 32), rm, pair_below(p, 32), 0x53);
}

static uint32_t system_insn(struct pair *p)
{
    static const uint16_t registers[] = {0x001, 0x002, 0x003, 0x104, 0x144, 0xc00, 0xc02, 0x14d};
    unsigned rs1 = pair_below(p, 4) ? any(p, false) : 0, rd = any(p, true), funct3 = 1 + pair_below(p, 3);

    switch (pair_below(p, 9)) {
    case 0:
    case 1:
        return csr(0x100, rs1, funct3, rd);
    case 2:
        return csr(0x100, 2, 6 + pair_below(p, 2), rd);
    case 3:
        return csr(0xc01, 0, 2, rd);
    case 4:
        return csr(registers[pair_below(p, 8)], rs1, pair_below(p, 2) ? 2 : funct3, rd);
    case 5:
        return pair_below(p, 2) ? 0x12000073 : 0x16000073; /* sfence.vma, sinval.vma */
    case 6:
        return type_r(5, any(p, false), any(p, false), 1 + pair_below(p, 3), rd, 0x33); /* clmul */
    case 7:
        return type_i((int32_t)pair_below(p, 8) * 8, POINTER_A, 3, rd, 0x03);
    default:
        return fp_insn(p);
    }
}

static void write_system(struct pair *p)
{
    uint32_t code[256];
    unsigned n = sizeof code / sizeof *code;

    for (unsigned i = 0; i < n - 1; i++)
        code[i] = i % 24 == 23 ? type_b(8, any(p, false), any(p, false), 6) : system_insn(p);
    code[n - 1] = type_b(-4 * (int32_t)(n - 1), 0, 0, 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(mmu_dma_write((i ? &p->interp : &p->jit)->mmu, STREAM_BASE, code, sizeof code), 0);
}

/* Somewhere in the program, with registers, rights, pending interrupts and a clock of chance. */
static void scatter(struct pair *p)
{
    static const uint64_t values[] = {0,
                                      1ull << 63,
                                      0x7ff0000000000000,
                                      0x7ff4000000000000,
                                      0x3ff8000000000000,
                                      0xbfe0000000000000,
                                      0x43e0000000000000,
                                      0x43dfffffffffffff,
                                      0x41efffffffe00000,
                                      0x41f0000000000000,
                                      0xffffffff5f000000,
                                      0xffffffff4f7fffff,
                                      0xffffffff3fc00000,
                                      0xffffffff7fc00000};
    uint64_t random = p->random, now = p->jit.steps;

    for (unsigned i = 0; i < 2; i++) {
        struct bare *b = i ? &p->interp : &p->jit;
        struct hart *h = &b->hart;
        p->random = random;
        h->priv = pair_below(p, 4) ? PRIV_S : PRIV_U;
        h->pc = STREAM_BASE + 4ull * pair_below(p, 256);
        h->medeleg = 0xb3ff;
        h->mideleg = IRQ_SSIP | IRQ_STIP | IRQ_SEIP;
        h->stvec = h->mtvec = STREAM_BASE;
        h->mstatus = (h->mstatus & ~(SSTATUS_BITS | MSTATUS_TVM)) |
                     (pair_below(p, 2) ? MSTATUS_FS : pair_below(p, 3) * (MSTATUS_FS / 3)) |
                     (pair_below(p, 5) ? 0 : MSTATUS_TVM) | (pair_below(p, 2) ? MSTATUS_SUM : 0);
        h->mcounteren = pair_below(p, 8) ? 7 : pair_below(p, 8);
        h->scounteren = pair_below(p, 4) ? 7 : pair_below(p, 8);
        h->frm = (uint8_t)pair_below(p, pair_below(p, 2) ? 4 : 8);
        h->menvcfg |= MENVCFG_STCE;
        for (unsigned r = 1; r < 32; r++) {
            h->x[r] =
                ((uint64_t)pair_below(p, UINT32_MAX) << 32 | pair_below(p, UINT32_MAX)) >> pair_below(p, 64);
            h->f[r] = pair_below(p, 2)   ? values[pair_below(p, sizeof values / sizeof *values)]
                      : pair_below(p, 2) ? 0x3000000000000000 + ((uint64_t)pair_below(p, UINT32_MAX) << 29)
                                         : 0xffffffff00000000 | pair_below(p, UINT32_MAX);
        }
        h->x[POINTER_A] = STREAM_BASE + (1u << 20);
        h->mie = pair_below(p, 2) ? h->mideleg : 0;
        hart_irq_line(h, IRQ_SEIP, pair_below(p, 3) == 0);
        vclock_set(&b->clock, now, pair_below(p, 40) ? 0 : UINT64_MAX - pair_below(p, 200),
                   (uint64_t)pair_below(p, UINT32_MAX) << pair_below(p, 3));
        mmu_context_changed(h);
        hart_irq_update(h);
    }
}

static void test_system(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct pair *p = pair_begin(seed, true, (unsigned)seed % 3);
        write_system(p);
        pair_open_memory(p);
        for (unsigned i = 0; i < 400; i++) {
            if (i % 3 == 0)
                scatter(p);
            pair_run(p, 1 + pair_below(p, seed % 4 ? 300 : 4), i % 50 == 0);
        }
        pair_end(p);
    }
}

/* Floating point goes on and off in one loop, in rounding modes that the host has, lacks, and that are none.
 */
static void test_fp_status(void **state)
{
    const uint32_t loop[] = {
        csr(0x100, COUNTER, 2, 0),         /* csrs sstatus,t0 */
        type_r(0x01, 11, 10, 7, 10, 0x53), /* fadd.d fa0,fa0,fa1 */
        csr(0x100, COUNTER, 3, 0),         /* csrc sstatus,t0 */
        type_b(-12, 0, 0, 0),
    };
    struct pair *p = pair_begin(1, true, 0);

    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(mmu_dma_write((i ? &p->interp : &p->jit)->mmu, STREAM_BASE, loop, sizeof loop), 0);
    pair_open_memory(p);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t random = pair_below(p, UINT32_MAX);
        for (unsigned k = 0; k < 2; k++) {
            struct hart *h = &(k ? &p->interp : &p->jit)->hart;
            h->priv = PRIV_S;
            h->pc = STREAM_BASE;
            h->mtvec = STREAM_BASE;
            h->mstatus &= ~MSTATUS_FS;
            h->x[COUNTER] = MSTATUS_FS;
            h->frm = random % 3 ? 0 : (uint8_t)(random / 3 % 8);
            h->f[10] = 0x3ff0000000000000;
            h->f[11] = 0x3fb999999999999a;
            mmu_context_changed(h);
        }
        pair_run(p, 1 + pair_below(p, 200), false);
    }
    pair_end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step), cmocka_unit_test(test_short_slices),
        cmocka_unit_test(test_slices),     cmocka_unit_test(test_cold_tier),
        cmocka_unit_test(test_flushes),    cmocka_unit_test(test_dma_into_code),
        cmocka_unit_test(test_loops),      cmocka_unit_test(test_crossing_page),
        cmocka_unit_test(test_pairs),      cmocka_unit_test(test_system),
        cmocka_unit_test(test_fp_status),  cmocka_unit_test(test_lists),
        cmocka_unit_test(test_narrow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
