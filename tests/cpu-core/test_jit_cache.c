/* Code memory that is too small for the program: the bound holds, and nothing of it can be seen. */
#include "cpu-core/jit/jit.h"
#include "cpu-core/jit/stats.h"
#include "tests/insn/bare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MEMORY (16u << 20)
#define CODE   (RAM_BASE + (1u << 20))
#define BLOCKS 30000u
#define PASSES 3u

enum { SP = 2, T0 = 5, S0 = 8, A0 = 10 };

static uint32_t addi(unsigned rd, unsigned rs1, int imm)
{
    return (uint32_t)imm << 20 | rs1 << 15 | rd << 7 | 0x13;
}

/* Blocks that mix a0 and a1, count in memory and jump by register to the next, and the last one back. */
static uint32_t *make_program(size_t *len)
{
    uint32_t *code = test_calloc(BLOCKS * 8 + 4, sizeof *code), *at = code;

    for (unsigned i = 0; i < BLOCKS; i++) {
        *at++ = addi(A0, A0, (int)(i % 2048));
        *at++ = 0x00a5c5b3;                 /* xor a1, a1, a0 */
        *at++ = 0x00013283;                 /* ld t0, 0(sp) */
        *at++ = 0x00b282b3;                 /* add t0, t0, a1 */
        *at++ = 0x00513023;                 /* sd t0, 0(sp) */
        *at++ = T0 << 7 | 0x17;             /* auipc t0, 0 */
        *at++ = 8u << 20 | T0 << 15 | 0x67; /* jalr zero, 8(t0) */
    }
    *at++ = S0 << 15 | 0x67; /* jr s0 */
    *len = (size_t)(at - code) * sizeof *code;
    return code;
}

static void start(struct bare *b, const struct engine *engine, const uint32_t *code, size_t len, bool count)
{
    assert_int_equal(bare_create(b, engine, MEMORY, false), 0);
    if (engine == &jit_engine) {
        jit_set_heat(b->engine, 0);
        assert_int_equal(jit_set_code_cache(b->engine, JIT_CODE_MIN), 0);
        if (count)
            jit_count_blocks(b->engine);
    }
    assert_int_equal(mmu_dma_write(b->mmu, CODE, code, len), 0);
    hart_reset(&b->hart, CODE);
    b->hart.x[S0] = CODE;
    b->hart.x[SP] = RAM_BASE;
}

static void run_smallest(bool count)
{
    static struct bare jit, interp;
    struct jit_stats s;
    struct jit_memory m;
    size_t len;
    uint32_t *code = make_program(&len);

    start(&jit, &jit_engine, code, len, count);
    start(&interp, &interp_engine, code, len, false);
    while (jit.steps < PASSES * BLOCKS * 7) {
        bare_run(&jit, 4999);
        bare_run(&interp, 4999);
        assert_int_equal(bare_hash(&jit, false), bare_hash(&interp, false));
        jit_get_stats(jit.engine, &s, &m);
        assert_true(m.code_used <= m.code_limit && m.code_limit <= JIT_CODE_MIN);
    }
    assert_int_equal(bare_hash(&jit, true), bare_hash(&interp, true));
    assert_true(s.blocks >= PASSES * BLOCKS);
    assert_true(s.evictions > 16);
    assert_int_equal(s.blocks - s.dropped, m.live_blocks);
    bare_destroy(&jit);
    bare_destroy(&interp);
    test_free(code);
}

static void test_smallest(void **state)
{
    run_smallest(false);
}

static void test_smallest_counting(void **state)
{
    run_smallest(true);
}

static void test_sizes(void **state)
{
    static const uint64_t sizes[] = {JIT_CODE_MIN, JIT_CODE_MIN + 12345, JIT_CODE_DEFAULT, JIT_CODE_MAX};
    static struct bare b;

    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct jit_stats s;
        struct jit_memory m;
        assert_int_equal(bare_create(&b, &jit_engine, MEMORY, false), 0);
        assert_int_equal(jit_set_code_cache(b.engine, sizes[i]), 0);
        jit_get_stats(b.engine, &s, &m);
        assert_true(m.code_limit <= sizes[i] && m.code_limit > sizes[i] - (64 << 10));
        bare_destroy(&b);
    }
}

/* What the documentation promises of the default. */
static void test_default_memory(void **state)
{
    static struct bare b;
    struct jit_stats s;
    struct jit_memory m;

    assert_int_equal(bare_create(&b, &jit_engine, 2ull << 30, false), 0);
    jit_get_stats(b.engine, &s, &m);
    assert_int_equal(m.code_limit, JIT_CODE_DEFAULT);
    assert_true(m.code_limit + m.tables_limit +
                    HART_MAX * (TLB_BANKS * sizeof(struct tlb_bank) + TLB_PAGES * sizeof(struct tlb_slot)) <=
                128ull << 20);
    bare_destroy(&b);
}

static uint32_t jump(int32_t to)
{
    uint32_t u = (uint32_t)to;
    return (u >> 20 & 1) << 31 | (u >> 1 & 0x3ff) << 21 | (u >> 11 & 1) << 20 | (u >> 12 & 0xff) << 12 | 0x6f;
}

static uint64_t looked_up(struct bare *b)
{
    struct jit_stats s;
    struct jit_memory m;

    jit_get_stats(b->engine, &s, &m);
    return s.entries + s.refound;
}

/* A loop through two pages goes on without the engine after code in one of them was written anew. */
static void test_far_after_change(void **state)
{
    static struct bare b;
    uint32_t here[] = {addi(A0, A0, 1), jump(PAGE_SIZE - 4)};
    uint32_t there[] = {addi(A0, A0, 2), jump(-(int32_t)PAGE_SIZE - 4)};
    uint64_t before;

    start(&b, &jit_engine, here, sizeof here, false);
    for (int i = 0; i < 2; i++) {
        there[0] = addi(A0, A0, 2 + i);
        assert_int_equal(mmu_dma_write(b.mmu, CODE + PAGE_SIZE, there, sizeof there), 0);
        bare_run(&b, 4000);
        before = looked_up(&b);
        bare_run(&b, 40000);
        assert_true(looked_up(&b) - before < 10);
    }
    assert_int_equal(b.hart.x[A0], 11000 * (3 + 4));
    bare_destroy(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smallest),       cmocka_unit_test(test_smallest_counting),
        cmocka_unit_test(test_sizes),          cmocka_unit_test(test_far_after_change),
        cmocka_unit_test(test_default_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
