/* The crossing layer under replay: what the machine sends is compared with a recording, what comes in is
 * taken from it. Must not know device types, guest memory, or when the machine runs. */
#include "cpu-core/crossing/internal.h"
#include "ipc/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct replay {
    struct feed *feed;
    struct replay_hooks hooks;
    bool differs;
    struct replay_difference difference;
};

int crossings_replay(struct crossings *cs, struct feed *feed, const struct replay_hooks *hooks)
{
    struct replay *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->feed = feed;
    r->hooks = *hooks;
    cs->replay = r;
    return 0;
}

void replay_destroy(struct crossings *cs)
{
    free(cs->replay);
}

const struct replay_difference *crossings_difference(const struct crossings *cs)
{
    return cs->replay && cs->replay->differs ? &cs->replay->difference : NULL;
}

void crossings_differ(struct crossings *cs, const struct journal_entry *e, const struct crossing *actual,
                      const char *field, uint64_t recorded, uint64_t now)
{
    struct replay *r = cs->replay;
    if (r->differs)
        return;
    r->differs = true;
    r->difference =
        (struct replay_difference){.field = field, .recorded_value = recorded, .actual_value = now};
    if (e) {
        r->difference.record = e->number;
        r->difference.type = e->type;
        r->difference.recorded = e->c;
    }
    if (actual) {
        r->difference.actual = *actual;
    } else {
        cs->host.position(cs->host.arg, &r->difference.actual.icount, &r->difference.actual.pc);
        r->difference.actual.device = 0xffff;
    }
    cs->host.attention(cs->host.arg);
}

/* The first field in which the machine's crossing differs. */
static bool same(struct crossings *cs, const struct journal_entry *e, const struct crossing *c)
{
    const struct crossing *r = &e->c;
    const struct {
        const char *name;
        uint64_t recorded, actual;
    } fields[] = {
        {"type", e->type, JOURNAL_CROSSING},
        {"kind", r->kind, c->kind},
        {"direction", r->direction, c->direction},
        {"device", r->device, c->device},
        {"icount", r->icount, c->icount},
        {"pc", r->pc, c->pc},
        {"queue", r->queue, c->queue},
        {"request", r->request, c->request},
        {"argument", r->arg, c->arg},
        {"length", r->len, c->len},
        {"digest", r->digest, c->digest},
        {"sequence", r->seq, c->seq},
    };
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].recorded == fields[i].actual)
            continue;
        crossings_differ(cs, e, c, fields[i].name, fields[i].recorded, fields[i].actual);
        return false;
    }
    return true;
}

/* Behind the end of the recording nothing is compared: the machine stops at its position. */
void replay_compare(struct crossings *cs, const struct crossing *c, const void *body)
{
    struct replay *r = cs->replay;
    const struct journal_entry *e;
    if (r->differs || feed_peek(r->feed, &e) <= 0 || !same(cs, e, c))
        return;
    bool output =
        c->kind == CROSSING_REQUEST && (e->form == JOURNAL_INLINE || r->hooks.mirror == c->device + 1u);
    feed_take(r->feed);
    if (output)
        r->hooks.output(r->hooks.arg, c, body);
}

static struct link *link_of(const struct crossings *cs, const struct crossing *c)
{
    for (unsigned i = 0; i < cs->nlinks; i++)
        if (cs->links[i]->index == c->device && c->queue < cs->links[i]->nqueues)
            return cs->links[i];
    return NULL;
}

/* Puts the recorded answer where the device would have. False if it can be none to this request. */
static bool load_answer(struct link *l, struct slot *s, const struct journal_entry *e)
{
    if (e->c.len > s->resp_cap || (e->c.len && !e->body))
        return false;
    if (e->c.len)
        memcpy(channel_private_response(l->front, e->c.queue) + s->resp_off, e->body, e->c.len);
    s->arrived = true;
    s->failed = e->c.arg;
    s->len = e->c.len;
    s->blob_len = 0;
    return true;
}

uint32_t replay_blob(struct link *l, unsigned queue, const struct slot *s)
{
    const struct journal_entry *e;
    struct replay *r = l->cs->replay;
    if (r->differs || feed_peek(r->feed, &e) <= 0 || e->type != JOURNAL_CROSSING ||
        e->c.kind != CROSSING_BLOB || e->c.request != s->seq)
        return 0;
    if (e->c.len > l->front->geometry.blob_max || !e->body) {
        crossings_differ(l->cs, e, NULL, "length", e->c.len, l->front->geometry.blob_max);
        return 0;
    }
    memcpy(channel_private_response(l->front, queue) + s->resp_off + blob_offset(s), e->body, e->c.len);
    return e->c.len;
}

bool replay_answer(struct link *l, unsigned queue, uint32_t index)
{
    struct crossings *cs = l->cs;
    struct slot *s = &l->queue[queue].table[index];
    const struct journal_entry *e;
    if (cs->replay->differs || feed_peek(cs->replay->feed, &e) <= 0 ||
        (e->type == JOURNAL_CROSSING && e->c.kind == CROSSING_EXIT))
        return false;
    struct crossing due = {.seq = cs->seq + 1,
                           .request = s->seq,
                           .device = (uint16_t)l->index,
                           .queue = (uint8_t)queue,
                           .direction = CROSSING_IN,
                           .kind = CROSSING_COMPLETION};
    cs->host.position(cs->host.arg, &due.icount, &due.pc);
    due.len = e->c.len; /* what the answer holds comes from the recording */
    due.digest = e->c.digest;
    due.arg = e->c.arg;
    if (!same(cs, e, &due))
        return false;
    if (!load_answer(l, s, e))
        crossings_differ(cs, e, &due, "length", e->c.len, s->resp_cap);
    return s->arrived;
}

/* The entry of the in-flight table that the completion answers, or NO_SLOT. */
static uint32_t answered(const struct link *l, const struct crossing *c)
{
    const struct link_queue *q = &l->queue[c->queue];
    uint32_t base = half_of(l) * q->geometry.slots;
    for (uint32_t i = base; q->table && i < base + q->geometry.slots; i++)
        if (q->table[i].state == SLOT_IN_FLIGHT && q->table[i].seq == c->request)
            return i;
    return NO_SLOT;
}

static void apply_completion(struct link *l, const struct journal_entry *e)
{
    uint32_t index = answered(l, &e->c);
    if (index == NO_SLOT)
        crossings_differ(l->cs, e, NULL, "request", e->c.request, 0);
    else if (!load_answer(l, &l->queue[e->c.queue].table[index], e))
        crossings_differ(l->cs, e, NULL, "length", e->c.len, l->queue[e->c.queue].table[index].resp_cap);
    else
        deliver(l, e->c.queue, index);
}

static void apply_event(struct link *l, const struct journal_entry *e)
{
    struct crossings *cs = l->cs;
    unsigned queue = e->c.queue;
    uint32_t len = e->c.len;
    if (l->queue[queue].geometry.kind != CHANNEL_INBOUND || len > l->queue[queue].geometry.max_response ||
        (len && !e->body)) {
        crossings_differ(cs, e, NULL, "length", len, l->queue[queue].geometry.max_response);
        return;
    }
    if (!l->sink->room(l->sink_arg, queue, len)) {
        crossings_differ(cs, e, NULL, "room", 1, 0);
        return;
    }
    if (copy_reserve(cs, len ? len : 1) < 0) {
        crossings_differ(cs, e, NULL, "memory", len, 0);
        return;
    }
    if (len)
        memcpy(cs->copy, e->body, len);
    receive(l, queue, e->c.request, cs->copy, len);
}

bool crossings_replay_apply(struct crossings *cs, const struct journal_entry *e)
{
    struct link *l = link_of(cs, &e->c);
    bool completion = e->c.kind == CROSSING_COMPLETION;
    if (completion && cs->fixed) /* due_fire() takes it */
        return false;
    if (!l || (!completion && e->c.kind != CROSSING_EVENT))
        crossings_differ(cs, e, NULL, l ? "kind" : "device", l ? e->c.kind : e->c.device, 0);
    else if (completion)
        apply_completion(l, e);
    else
        apply_event(l, e);
    return true;
}
