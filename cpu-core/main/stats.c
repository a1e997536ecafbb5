/* The counters of the vcpu process as JSON. Must not change what it reports. */
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
    json_object_set_new(o, "engine", json_string(m->engine->name));
#define X(name) put(o, #name, m->stats.name);
    MACHINE_COUNTERS(X)
#undef X
#define X(name) put(mmu, #name, s->name);
    MMU_COUNTERS(X)
#undef X
    json_object_set_new(o, "mmu", mmu);
    for (unsigned i = 0; (l = crossings_at(m->crossings, i)); i++)
        json_object_set_new(links, link_id(l), link_json(l));
    json_object_set_new(o, "devices", links);
    json_object_set_new(o, "virtio_errors", virtio_errors(m));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}
