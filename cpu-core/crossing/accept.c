/* The inbound side: takes what devices sent, validates a private copy, stamps and journals it, and hands it
 * to the front-end; in live timing when it is there, in fixed timing when it is due. Must not know device
 * types or guest memory. */
#include "cpu-core/crossing/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

void journal_crossing_file(struct crossings *cs, struct crossing *c, const void *body, uint32_t len,
                           const struct crossing_file *file)
{
    if (c->direction == CROSSING_OUT && c->kind != CROSSING_CLOCK)
        cs->host.mark(cs->host.arg);
    c->seq = ++cs->seq;
    c->len = len;
    c->digest = XXH3_64bits(len ? body : "", len);
    cs->host.position(cs->host.arg, &c->icount, &c->pc);
    if (cs->replay)
        replay_compare(cs, c, body);
    else
        cs->journal->append(cs->journal_arg, c, body, file);
    if (c->direction == CROSSING_IN)
        cs->applied++;
}

void journal_crossing(struct crossings *cs, struct crossing *c, const void *body, uint32_t len)
{
    journal_crossing_file(cs, c, body, len, NULL);
}

void crossings_note(struct crossings *cs, enum crossing_direction dir, enum crossing_kind kind, uint64_t arg,
                    const void *body, uint32_t len)
{
    struct crossing c = {.device = 0xffff, .direction = (uint8_t)dir, .kind = (uint8_t)kind, .arg = arg};
    journal_crossing(cs, &c, body, len);
}

uint64_t crossings_seq(const struct crossings *cs)
{
    return cs->seq;
}

int copy_reserve(struct crossings *cs, uint32_t len)
{
    if (len <= cs->copy_size)
        return 0;
    uint8_t *p = realloc(cs->copy, len);
    if (!p)
        return -ENOMEM;
    cs->copy = p;
    cs->copy_size = len;
    return 0;
}

void link_broken(struct link *l, const char *why)
{
    if (l->broken)
        return;
    l->broken = true;
    l->cs->host.fault(l->cs->host.arg, l->id, why);
}

/* True if the completion answers what is in flight. */
static bool completion_valid(const struct link *l, unsigned queue, const struct ring_completion *c)
{
    const struct link_queue *q = &l->queue[queue];
    struct ring_request r;
    if (c->slot == RING_SLOT_NONE) {
        r = wire_reset(l);
        return queue == l->reset_queue && l->reset_seq && channel_check_completion(c, &r) == 0;
    }
    if (c->slot >= 2 * q->geometry.slots)
        return false;
    const struct slot *s = &q->table[c->slot];
    r = wire_request(l, queue, c->slot);
    return (s->state == SLOT_IN_FLIGHT || s->state == SLOT_ORPHANED) && !s->arrived &&
           (l->file || !c->file_len) && channel_check_completion(c, &r) == 0;
}

static void note_arrival(struct link *l, unsigned queue, const struct ring_completion *c)
{
    struct link_queue *q = &l->queue[queue];
    if (c->slot == RING_SLOT_NONE) {
        l->reset_seq = 0;
        return;
    }
    struct slot *s = &q->table[c->slot];
    if (s->state == SLOT_ORPHANED) {
        release_slot(l, queue, c->slot);
        q->orphans--;
        return;
    }
    s->arrived = true;
    s->failed = c->status == RING_STATUS_FAILED;
    s->len = c->len;
    s->blob_len = c->blob_len;
    s->file = (struct crossing_file){c->file_off, c->file_len};
    q->arrivals[q->narrivals++] = c->slot;
}

void poll_arrivals(struct link *l)
{
    for (unsigned q = 0; q < l->nqueues && l->connected && !l->broken; q++) {
        if (l->queue[q].geometry.kind != CHANNEL_REQUESTS)
            continue;
        struct ring_completion c;
        int got;
        while ((got = l->front->ops->completion(l->front, q, &c)) > 0) {
            if (!completion_valid(l, q, &c)) {
                link_broken(l, "a completion that answers nothing in flight");
                return;
            }
            note_arrival(l, q, &c);
        }
        if (got < 0)
            link_broken(l, "completion ring index out of range");
    }
}

static void apply_blob(struct link *l, unsigned queue, const struct slot *s)
{
    const uint8_t *responses = l->front->ops->response_mem(l->front, queue);
    memcpy(l->blob, responses + s->resp_off + blob_offset(s), s->blob_len);
    l->blob_len = s->blob_len;
    struct crossing c = {.request = s->seq,
                         .device = (uint16_t)l->index,
                         .queue = (uint8_t)queue,
                         .direction = CROSSING_IN,
                         .kind = CROSSING_BLOB};
    journal_crossing(l->cs, &c, l->blob, l->blob_len);
}

void deliver(struct link *l, unsigned queue, uint32_t index)
{
    struct crossings *cs = l->cs;
    struct link_queue *q = &l->queue[queue];
    struct slot s = q->table[index];
    bool failed = s.failed || copy_reserve(cs, s.len) < 0;
    uint32_t len = failed ? 0 : s.len;

    if (len)
        memcpy(cs->copy, l->front->ops->response_mem(l->front, queue) + s.resp_off, len);
    struct crossing c = {.request = s.seq,
                         .device = (uint16_t)l->index,
                         .queue = (uint8_t)queue,
                         .direction = CROSSING_IN,
                         .kind = CROSSING_COMPLETION,
                         .arg = failed};
    journal_crossing_file(cs, &c, cs->copy, len, !failed && s.file.len ? &s.file : NULL);
    if (cs->replay)
        s.blob_len = replay_blob(l, queue, &s);
    if (s.blob_len)
        apply_blob(l, queue, &s);
    release_slot(l, queue, index);
    q->in_flight--;
    l->stats.completions++;
    l->stats.response_bytes += len;
    l->sink->completed(l->sink_arg, queue, index % q->geometry.slots, cs->copy, len, failed);
    if (cs->fixed)
        take_caused_events(l, s.seq);
}

void receive(struct link *l, unsigned queue, uint64_t cause, const uint8_t *data, uint32_t len)
{
    struct crossing c = {.request = cause,
                         .device = (uint16_t)l->index,
                         .queue = (uint8_t)queue,
                         .direction = CROSSING_IN,
                         .kind = CROSSING_EVENT};
    journal_crossing(l->cs, &c, data, len);
    l->stats.events++;
    l->stats.event_bytes += len;
    l->sink->received(l->sink_arg, queue, data, len);
}

void enqueue_message(struct link *l, unsigned queue, uint64_t cause, const uint8_t *data, uint32_t len)
{
    struct link_queue *q = &l->queue[queue];
    struct message *m = q->nwaiting < MAX_WAITING ? malloc(sizeof *m + len) : NULL;
    if (!m) {
        l->stats.dropped++;
        return;
    }
    *m = (struct message){.cause = cause, .len = len};
    memcpy(m->data, data, len);
    *q->last = m;
    q->last = &m->next;
    q->nwaiting++;
}

/* Hands waiting messages to the guest while it has room. */
static void drain_waiting(struct link *l, unsigned queue)
{
    struct link_queue *q = &l->queue[queue];
    while (q->first && !q->blocked) {
        struct message *m = q->first;
        l->cs->host.settle(l->cs->host.arg);
        if (!l->sink->room(l->sink_arg, queue, m->len)) {
            q->blocked = true;
            return;
        }
        q->first = m->next;
        if (!q->first)
            q->last = &q->first;
        q->nwaiting--;
        receive(l, queue, m->cause, m->data, m->len);
        free(m);
    }
}

/* The oldest event in the ring, copied to private memory (cs->copy) with its payload; false if there is none.
 */
static bool peek_event(struct link *l, unsigned queue, struct ring_event *e)
{
    if (!l->connected || l->broken)
        return false;
    int got = l->front->ops->event(l->front, queue, e);
    if (got > 0 && channel_check_event(&l->front->geometry, &l->layout, queue, e, l->epoch,
                                       l->queue[queue].event_seq + 1) < 0)
        got = -EPROTO;
    if (got < 0)
        link_broken(l, "an event out of order or outside its arena");
    return got > 0 && copy_reserve(l->cs, e->len) == 0;
}

static void copy_event(struct link *l, unsigned queue, const struct ring_event *e)
{
    memcpy(l->cs->copy, l->front->ops->response_mem(l->front, queue) + e->off, e->len);
    l->front->ops->event_done(l->front, queue);
    l->queue[queue].event_seq++;
}

void take_caused_events(struct link *l, uint64_t seq)
{
    struct ring_event e;
    for (unsigned q = 0; q < l->nqueues; q++) {
        if (l->queue[q].geometry.kind != CHANNEL_INBOUND)
            continue;
        while (peek_event(l, q, &e) && e.cause <= seq) {
            copy_event(l, q, &e);
            enqueue_message(l, q, e.cause, l->cs->copy, e.len);
        }
    }
}

/* Messages that wait, then those from outside: straight to the guest while it has room. */
static void take_outside_events(struct link *l, unsigned queue)
{
    struct link_queue *q = &l->queue[queue];
    struct ring_event e;
    drain_waiting(l, queue);
    while (!q->first && !q->blocked && peek_event(l, queue, &e) && !(l->cs->fixed && e.cause)) {
        l->cs->host.settle(l->cs->host.arg);
        if (!l->sink->room(l->sink_arg, queue, e.len)) {
            q->blocked = true;
            return;
        }
        copy_event(l, queue, &e);
        receive(l, queue, e.cause, l->cs->copy, e.len);
    }
}

unsigned crossings_accept(struct crossings *cs)
{
    cs->applied = 0;
    for (unsigned i = 0; i < cs->nlinks; i++) {
        struct link *l = cs->links[i];
        poll_arrivals(l);
        for (unsigned q = 0; q < l->nqueues; q++) {
            struct link_queue *lq = &l->queue[q];
            if (lq->geometry.kind == CHANNEL_INBOUND) {
                take_outside_events(l, q);
                continue;
            }
            if (cs->fixed)
                continue;
            for (uint32_t k = 0; k < lq->narrivals; k++) {
                cs->host.settle(cs->host.arg);
                deliver(l, q, lq->arrivals[k]);
            }
            lq->narrivals = 0;
        }
        link_kick(l);
    }
    return cs->applied;
}

bool crossings_busy(const struct crossings *cs)
{
    if (cs->fixed)
        return false;
    for (unsigned i = 0; i < cs->nlinks; i++)
        for (unsigned q = 0; q < cs->links[i]->nqueues; q++)
            if (cs->links[i]->queue[q].in_flight)
                return true;
    return false;
}

void crossings_waiting(struct crossings *cs, bool waiting)
{
    for (unsigned i = 0; i < cs->nlinks; i++)
        if (cs->links[i]->connected)
            cs->links[i]->front->ops->wait_flag(cs->links[i]->front, waiting);
}

bool crossings_ready(struct crossings *cs)
{
    struct ring_event e;
    for (unsigned i = 0; i < cs->nlinks; i++) {
        struct link *l = cs->links[i];
        poll_arrivals(l);
        for (unsigned q = 0; q < l->nqueues; q++) {
            if (l->queue[q].narrivals || (l->queue[q].first && !l->queue[q].blocked))
                return true;
            if (l->queue[q].geometry.kind == CHANNEL_INBOUND && !l->queue[q].blocked &&
                peek_event(l, q, &e) && !(cs->fixed && e.cause))
                return true;
        }
    }
    return false;
}
