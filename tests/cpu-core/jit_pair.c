/* The pair of machines of jit_pair.h. */
#include "tests/cpu-core/jit_pair.h"

#include "cpu-core/jit/jit.h"
#include "tests/insn/stream.h"

#include <stdlib.h>

#define MEMORY (8u << 20)
#define BLOCKS 60u

uint32_t pair_below(struct pair *p, uint32_t n)
{
    p->random = p->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((p->random >> 32) * n >> 32);
}

/* Two machines with the same random program. */
struct pair *pair_begin(uint64_t seed, bool fences, unsigned heat)
{
    struct pair *p = test_calloc(1, sizeof *p);
    struct stream s = {.image = test_calloc(1, STREAM_SIZE), .random = seed, .fences = fences};

    p->random = seed;
    stream_runtime(&s, BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i++)
        stream_block(&s, i);
    assert_false(s.failed);
    assert_int_equal(bare_create(&p->jit, &jit_engine, MEMORY, false), 0);
    assert_int_equal(bare_create(&p->interp, &interp_engine, MEMORY, true), 0);
    jit_set_heat(p->jit.engine, heat);
    assert_int_equal(mmu_dma_write(p->jit.mmu, STREAM_BASE, s.image, STREAM_SIZE), 0);
    assert_int_equal(mmu_dma_write(p->interp.mmu, STREAM_BASE, s.image, STREAM_SIZE), 0);
    hart_reset(&p->jit.hart, STREAM_BASE);
    hart_reset(&p->interp.hart, STREAM_BASE);
    test_free(s.image);
    return p;
}

void pair_end(struct pair *p)
{
    bare_destroy(&p->jit);
    bare_destroy(&p->interp);
    test_free(p);
}

void pair_run(struct pair *p, uint64_t slice, bool with_ram)
{
    jit_stop_exactly(p->jit.engine, pair_below(p, 2) ? p->jit.steps + slice : 0);
    bare_run(&p->jit, slice);
    bare_run(&p->interp, slice);
    assert_int_equal(p->jit.steps, p->interp.steps);
    if (bare_hash(&p->jit, with_ram) != bare_hash(&p->interp, with_ram))
        fail_msg("states differ after %llu steps", (unsigned long long)p->jit.steps);
}

/* To all modes, by the first PMP entry. */
void pair_open_memory(struct pair *p)
{
    uint64_t old;

    for (unsigned i = 0; i < 2; i++) {
        struct hart *h = &(i ? &p->interp : &p->jit)->hart;
        assert_int_equal(hart_csr(h, 0, 0x3b0, 1, ~0ull, false, true, &old), 0);
        assert_int_equal(hart_csr(h, 0, 0x3a0, 1, 0x1f, false, true, &old), 0);
    }
}
