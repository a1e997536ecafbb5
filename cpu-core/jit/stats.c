/* The counters as others see them. */
#include "cpu-core/jit/stats.h"

#include "cpu-core/jit/internal.h"

const char *const jit_exit_names[EXIT_REASONS] = {
    [EXIT_LOOKUP] = "lookup", [EXIT_LINK] = "link",    [EXIT_BUDGET] = "budget",
    [EXIT_FP] = "fp_clean",   [EXIT_STEP] = "changed", [EXIT_LEFT] = "helper",
};

void jit_get_stats(const void *engine, struct jit_stats *s, struct jit_memory *m)
{
    const struct jit *j = engine;
    const struct blocks *t = &j->blocks;

    *s = j->stats;
    s->evictions = t->counts.evictions;
    s->invalidations = t->counts.invalidations;
    s->dropped = t->counts.dropped;
    s->links = t->counts.links;
    s->unlinks = t->counts.unlinks;
    *m = (struct jit_memory){0};
    if (j->off)
        return;
    m->live_blocks = t->live;
    m->code_used = blocks_code_used(t);
    m->code_limit = t->code.size;
    m->tables_limit = blocks_tables_limit(t) + HEAT_SLOTS + HART_MAX * TLB_BANKS * sizeof(struct jump_cache);
}
