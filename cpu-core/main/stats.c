/* The counters of the vcpu process as JSON. Must not change what it reports. */
#include "cpu-core/jit/stats.h"
#include "cpu-core/main/internal.h"

#include <jansson.h>
#include <stdio.h>

static void put(json_t *o, const char *name, uint64_t v)
{
    json_object_set_new(o, name, json_integer((json_int_t)v));
}

static json_t *link_json(const struct link *l)
{
    json_t *o = json_object();
    const struct link_stats *s = link_stats(l);
#define X(name) put(o, #name, s->name);
    LINK_COUNTERS(X)
#undef X
    return o;
}

static json_t *recording_json(const struct machine *m)
{
    json_t *o = json_object();
#define X(name) put(o, #name, m->recording.stats.name);
    RECORDING_COUNTERS(X)
#undef X
    return o;
}

/* Why devices failed their drivers, by slot. */
static json_t *virtio_errors(struct machine *m)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < m->cfg.board.slots; i++) {
        const char *why = virtio_error(board_slot(m->board, i));
        char slot[16];
        snprintf(slot, sizeof slot, "%u", i);
        if (why)
            json_object_set_new(o, slot, json_string(why));
    }
    return o;
}

static void put_ratio(json_t *o, const char *name, double a, double b)
{
    json_object_set_new(o, name, b ? json_real(a / b) : json_null());
}

static uint64_t interpreted(const struct jit_stats *s)
{
    uint64_t n = s->cold_steps + s->tail_steps + s->fp_steps;
    for (unsigned i = 0; i < JIT_STEP_CLASSES; i++)
        n += s->steps[i];
    return n;
}

/* What the counters say of each other; null before there is anything to say. */
static json_t *jit_rates(const struct machine *m, const struct jit_stats *s)
{
    json_t *o = json_object();
    const struct mmu_stats *mmu = mmu_stats(m->mmu);
    double steps = (double)(m->icount - interpreted(s)), per_block = (double)s->insns / (double)s->blocks;
    double helped = (double)(s->slow_loads + s->slow_stores + s->group_misses);
    put_ratio(o, "translated_steps", steps, (double)m->icount);
    put_ratio(o, "insns_per_block", (double)s->insns, (double)s->blocks);
    put_ratio(o, "bytes_per_insn", (double)(s->code_bytes + s->stub_bytes), (double)s->insns);
    put_ratio(o, "translate_ns_per_insn", (double)s->translate_ns, (double)s->insns);
    put_ratio(o, "steps_per_entry", steps, (double)s->entries);
    put_ratio(o, "chain_rate", steps - per_block * (double)s->entries, s->blocks ? steps : 0);
    put_ratio(o, "grouped_accesses", (double)s->grouped, (double)(s->grouped + s->ungrouped));
    put_ratio(o, "group_failures_per_million_steps", 1e6 * (double)s->group_misses, steps);
    put_ratio(o, "slow_accesses_per_million_steps", 1e6 * helped, steps);
    put_ratio(o, "second_level_hits", (double)mmu->large_fills, (double)(mmu->large_fills + mmu->walks));
    return o;
}

static json_t *jit_json(const struct machine *m)
{
    json_t *o = json_object(), *exits = json_object(), *steps = json_object();
    struct jit_stats s;
    struct jit_memory memory;
    jit_get_stats(m->engine_data, &s, &memory);
#define X(name) put(o, #name, s.name);
    JIT_COUNTERS(X)
#undef X
    for (unsigned i = 0; i < EXIT_REASONS; i++)
        put(exits, jit_exit_names[i], s.exits[i]);
    for (unsigned i = 0; i < JIT_STEP_CLASSES; i++)
        put(steps, i < ISA_CLASS_COUNT ? isa_class_names[i] : "illegal", s.steps[i]);
    json_object_set_new(o, "exits", exits);
    json_object_set_new(o, "interpreted", steps);
    put(o, "live_blocks", memory.live_blocks);
    put(o, "code_used", memory.code_used);
    put(o, "code_limit", memory.code_limit);
    put(o, "tables_limit", memory.tables_limit);
    json_object_set_new(o, "rates", jit_rates(m, &s));
    return o;
}

char *machine_stats(struct machine *m)
{
    json_t *o = json_object(), *mmu = json_object(), *links = json_object();
    const struct mmu_stats *s = mmu_stats(m->mmu);
    struct link *l;

    put(o, "icount", m->icount);
    put(o, "virtual_ns", vclock_ns(&m->clock, m->icount));
    put(o, "crossings", m->journal.count);
    json_object_set_new(o, "crossings_digest",
                        json_sprintf("%016llx", (unsigned long long)m->journal.digest));
    json_object_set_new(o, "recording", recording_json(m));
    json_object_set_new(o, "engine", json_string(m->engine->name));
#define X(name) put(o, #name, m->stats.name);
    MACHINE_COUNTERS(X)
#undef X
#define X(name) put(mmu, #name, s->name);
    MMU_COUNTERS(X)
#undef X
    json_object_set_new(o, "mmu", mmu);
    if (m->engine == &jit_engine)
        json_object_set_new(o, "jit", jit_json(m));
    for (unsigned i = 0; (l = crossings_at(m->crossings, i)); i++)
        json_object_set_new(links, link_id(l), link_json(l));
    json_object_set_new(o, "devices", links);
    json_object_set_new(o, "virtio_errors", virtio_errors(m));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}
