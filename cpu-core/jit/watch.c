/* The events of whoever watches. */
#include "cpu-core/jit/watch.h"

#include "cpu-core/jit/internal.h"

void jit_watch(void *engine, void (*told)(void *arg, const struct jit_event *e), void *arg)
{
    struct jit *j = engine;

    j->told = told;
    j->told_arg = arg;
}

void watch_translated(const struct jit *j, const struct block *b)
{
    const struct mcode *code = &j->blocks.code;
    struct jit_event e = {.kind = JIT_TRANSLATED,
                          .pa = b->key.pa,
                          .va = b->va,
                          .code = (uint64_t)(uintptr_t)b->code,
                          .stubs = (uint64_t)(uintptr_t)(code->run + (block_stubs(b) - code->write)),
                          .code_len = b->code_len,
                          .stubs_len = b->cold_len,
                          .insns = b->insns,
                          .priv = b->key.priv,
                          .single = b->key.single};

    if (j->told)
        j->told(j->told_arg, &e);
}

void watch_dropped(const struct jit *j, enum jit_event_kind kind, uint64_t pa, uint64_t len, uint64_t before)
{
    struct jit_event e = {.kind = kind, .pa = pa, .len = len, .blocks = j->blocks.counts.dropped - before};

    if (j->told && e.blocks)
        j->told(j->told_arg, &e);
}
