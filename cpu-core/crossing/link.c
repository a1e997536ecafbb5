/* Links: creation, admission, submission, reset, connection to an incarnation. Must not know device types or
 * guest memory, and lets nothing the peer did influence admission. */
#include "cpu-core/crossing/internal.h"
#include "cpu-core/state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int crossings_create(struct crossings **ret, struct vclock *clock, bool fixed,
                     const struct crossings_host *host, const struct journal_ops *journal, void *journal_arg)
{
    struct crossings *cs = calloc(1, sizeof *cs);
    if (!cs)
        return -ENOMEM;
    cs->clock = clock;
    cs->fixed = fixed;
    cs->host = *host;
    cs->journal = journal;
    cs->journal_arg = journal_arg;
    cs->due_timer = (struct vtimer){.due = VCLOCK_NEVER, .order = 1u << 16, .fire = due_fire, .arg = cs};
    int err = vclock_add(clock, &cs->due_timer);
    if (err < 0) {
        free(cs);
        return err;
    }
    *ret = cs;
    return 0;
}

static void queue_destroy(struct link_queue *q)
{
    for (struct message *m = q->first, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    for (int half = 0; half < 2; half++) {
        arena_destroy(q->requests[half]);
        arena_destroy(q->responses[half]);
    }
    free(q->table);
    free(q->arrivals);
}

static void link_destroy(struct link *l)
{
    for (unsigned q = 0; q < l->nqueues; q++)
        queue_destroy(&l->queue[q]);
    if (l->front)
        l->front->ops->close(l->front);
    for (unsigned i = 0; i < l->nscheduled; i++)
        free((void *)l->scheduled[i].data);
    free(l->scheduled);
    free(l->blob);
    free(l->blob_reset);
    free(l);
}

void crossings_destroy(struct crossings *cs)
{
    if (!cs)
        return;
    for (unsigned i = 0; i < cs->nlinks; i++) {
        vclock_remove(cs->clock, &cs->links[i]->schedule_timer);
        link_destroy(cs->links[i]);
    }
    vclock_remove(cs->clock, &cs->due_timer);
    replay_destroy(cs);
    free(cs->copy);
    free(cs);
}

static int queue_create(struct link_queue *q, const struct channel_queue *g, uint64_t request_size,
                        uint64_t response_size)
{
    q->geometry = *g;
    q->last = &q->first;
    if (g->kind == CHANNEL_INBOUND)
        return 0;
    q->request_half = request_size / 2 & ~63ull;
    q->response_half = response_size / 2 & ~63ull;
    q->table = calloc(2 * g->slots, sizeof *q->table);
    q->arrivals = calloc(2 * g->slots, sizeof *q->arrivals);
    if (!q->table || !q->arrivals)
        return -ENOMEM;
    for (int half = 0; half < 2; half++) {
        int err = arena_create(&q->requests[half], q->request_half, g->slots);
        if (!err)
            err = arena_create(&q->responses[half], q->response_half, g->slots);
        if (err)
            return err;
    }
    return 0;
}

static int copy_schedule(struct link *l, const struct link_config *cfg)
{
    if (!cfg->nscheduled)
        return 0;
    l->scheduled = calloc(cfg->nscheduled, sizeof *l->scheduled);
    if (!l->scheduled)
        return -ENOMEM;
    for (unsigned i = 0; i < cfg->nscheduled; i++) {
        const struct link_scheduled *s = &cfg->scheduled[i];
        if (s->queue >= cfg->geometry.nqueues || cfg->geometry.queue[s->queue].kind != CHANNEL_INBOUND ||
            (i && s->ns < cfg->scheduled[i - 1].ns))
            return -EINVAL;
        uint8_t *data = malloc(s->len ? s->len : 1);
        if (!data)
            return -ENOMEM;
        memcpy(data, s->data, s->len);
        l->scheduled[i] = (struct link_scheduled){s->ns, s->queue, data, s->len};
        l->nscheduled = i + 1;
    }
    vclock_arm(l->cs->clock, &l->schedule_timer, l->scheduled[0].ns);
    return 0;
}

static int link_init(struct link *l, const struct link_config *cfg, int *out_fd)
{
    strncpy(l->id, cfg->id, sizeof l->id - 1);
    l->index = cfg->index;
    l->latency = cfg->latency;
    l->file = cfg->file;
    l->generation = 1;
    l->reset_queue = CHANNEL_MAX_QUEUES;
    l->nqueues = cfg->geometry.nqueues;
    channel_layout(&cfg->geometry, &l->layout);
    uint32_t blob_max = cfg->geometry.blob_max ? cfg->geometry.blob_max : 1;
    l->blob = calloc(1, blob_max);
    l->blob_reset = calloc(1, blob_max);
    if (!l->blob || !l->blob_reset)
        return -ENOMEM;
    if (cfg->blob_len) {
        memcpy(l->blob_reset, cfg->blob, cfg->blob_len);
        memcpy(l->blob, cfg->blob, cfg->blob_len);
    }
    l->blob_len = l->blob_reset_len = cfg->blob_len;
    for (unsigned q = 0; q < l->nqueues; q++) {
        int err = queue_create(&l->queue[q], &cfg->geometry.queue[q], l->layout.queue[q].request_size,
                               l->layout.queue[q].response_size);
        if (err)
            return err;
        if (l->reset_queue == CHANNEL_MAX_QUEUES && cfg->geometry.queue[q].kind == CHANNEL_REQUESTS)
            l->reset_queue = q;
    }
    l->schedule_timer = (struct vtimer){.due = VCLOCK_NEVER,
                                        .order = (1u << 17) + cfg->index,
                                        .outside = true,
                                        .fire = schedule_fire,
                                        .arg = l};
    int err = vclock_add(l->cs->clock, &l->schedule_timer);
    if (!err)
        err = copy_schedule(l, cfg);
    *out_fd = -1;
    if (!err)
        err = l->cs->replay ? channel_private_create(&cfg->geometry, &l->front)
                            : channel_out_create(&cfg->geometry, &l->front, out_fd);
    return err;
}

int link_create(struct crossings *cs, const struct link_config *cfg, struct link **ret, int *out_fd)
{
    if (channel_check(&cfg->geometry) < 0 || cfg->blob_len > cfg->geometry.blob_max ||
        latency_check(&cfg->latency) < 0 || cs->nlinks == MAX_LINKS)
        return -EINVAL;
    struct link *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->cs = cs;
    int err = link_init(l, cfg, out_fd);
    if (err) {
        vclock_remove(cs->clock, &l->schedule_timer);
        link_destroy(l);
        return err;
    }
    cs->links[cs->nlinks++] = l;
    *ret = l;
    return 0;
}

void link_bind(struct link *l, const struct link_sink *sink, void *front)
{
    l->sink = sink;
    l->sink_arg = front;
}

unsigned link_slots(const struct link *l, unsigned queue)
{
    return l->queue[queue].geometry.slots;
}
const char *link_id(const struct link *l)
{
    return l->id;
}
const struct link_stats *link_stats(const struct link *l)
{
    return &l->stats;
}

struct link *crossings_at(struct crossings *cs, unsigned i)
{
    return i < cs->nlinks ? cs->links[i] : NULL;
}

struct link *crossings_find(struct crossings *cs, const char *id)
{
    for (unsigned i = 0; i < cs->nlinks; i++)
        if (!strcmp(cs->links[i]->id, id))
            return cs->links[i];
    return NULL;
}

/* Entry of the table that the present generation uses for its slot. */
static uint32_t table_index(const struct link *l, unsigned queue, unsigned slot)
{
    return half_of(l) * l->queue[queue].geometry.slots + slot;
}

int link_reserve(struct link *l, unsigned queue, uint32_t req_len, uint32_t resp_cap)
{
    struct link_queue *q = &l->queue[queue];
    if (req_len > q->geometry.max_request || resp_cap > q->geometry.max_response) {
        l->stats.refused++;
        return -EMSGSIZE;
    }
    unsigned slot = 0;
    while (slot < q->geometry.slots && q->table[table_index(l, queue, slot)].state != SLOT_FREE)
        slot++;
    if (slot == q->geometry.slots)
        return -ENOSPC;
    unsigned half = half_of(l);
    struct slot s = {.state = SLOT_RESERVED, .req_len = req_len, .resp_cap = resp_cap};
    if (arena_alloc(q->requests[half], req_len, &s.req_off) < 0)
        return -ENOSPC;
    if (arena_alloc(q->responses[half], response_span(l, &s), &s.resp_off) < 0) {
        arena_free(q->requests[half], s.req_off, req_len);
        return -ENOSPC;
    }
    s.req_off += half * q->request_half;
    s.resp_off += half * q->response_half;
    q->table[table_index(l, queue, slot)] = s;
    return (int)slot;
}

void release_slot(struct link *l, unsigned queue, uint32_t index)
{
    struct link_queue *q = &l->queue[queue];
    struct slot *s = &q->table[index];
    unsigned half = index >= q->geometry.slots;
    arena_free(q->requests[half], s->req_off - half * q->request_half, s->req_len);
    arena_free(q->responses[half], s->resp_off - half * q->response_half, response_span(l, s));
    s->state = SLOT_FREE;
}

uint8_t *link_request_bytes(struct link *l, unsigned queue, unsigned slot)
{
    return l->front->ops->request_mem(l->front, queue) +
           l->queue[queue].table[table_index(l, queue, slot)].req_off;
}

/* Publishes an entry; a full ring cannot happen by construction, so it is the peer's doing. */
static void publish(struct link *l, unsigned queue, const struct ring_request *r)
{
    if (!l->connected || l->broken)
        return;
    if (l->front->ops->submit(l->front, queue, r) < 0)
        link_broken(l, "submission ring index out of range");
}

struct ring_request wire_request(const struct link *l, unsigned queue, uint32_t index)
{
    const struct slot *s = &l->queue[queue].table[index];
    unsigned newer = s->state == SLOT_ORPHANED;
    return (struct ring_request){.seq = s->seq,
                                 .epoch = l->epoch,
                                 .generation = l->generation - newer,
                                 .slot = (uint16_t)index,
                                 .op = RING_OP_REQUEST,
                                 .req_len = s->req_len,
                                 .req_off = s->req_off,
                                 .resp_off = s->resp_off,
                                 .resp_cap = s->resp_cap,
                                 .blob_cap = l->front->geometry.blob_max,
                                 .features = l->features};
}

void link_submit(struct link *l, unsigned queue, unsigned slot)
{
    struct crossings *cs = l->cs;
    struct link_queue *q = &l->queue[queue];
    uint32_t index = table_index(l, queue, slot);
    struct slot *s = &q->table[index];
    const uint8_t *bytes = link_request_bytes(l, queue, slot);

    s->state = SLOT_IN_FLIGHT;
    s->seq = ++cs->request_seq;
    q->in_flight++;
    struct crossing c = {.request = s->seq,
                         .device = (uint16_t)l->index,
                         .queue = (uint8_t)queue,
                         .direction = CROSSING_OUT,
                         .kind = CROSSING_REQUEST,
                         .arg = s->resp_cap};
    journal_crossing(cs, &c, bytes, s->req_len);
    s->digest = c.digest;
    l->stats.requests++;
    l->stats.request_bytes += s->req_len;
    struct ring_request r = wire_request(l, queue, index);
    publish(l, queue, &r);
    if (cs->fixed) {
        uint64_t now = vclock_ns(cs->clock, c.icount);
        s->due = (q->last_due > now ? q->last_due : now) +
                 latency_of(&l->latency, s->seq, bytes, s->req_len, s->resp_cap);
        q->last_due = s->due;
        due_arm(cs);
    } else {
        cs->host.attention(cs->host.arg);
    }
}

void link_features(struct link *l, uint64_t features)
{
    l->features = features;
}

uint64_t link_accepted(const struct link *l)
{
    return l->features;
}

void link_kick(struct link *l)
{
    if (l->connected)
        l->front->ops->kick(l->front);
}

/* Every orphan of the previous generation is finished and the device has said so. */
static bool reset_finished(const struct link *l)
{
    if (l->reset_seq)
        return false;
    for (unsigned q = 0; q < l->nqueues; q++)
        if (l->queue[q].orphans)
            return false;
    return true;
}

/* As if the device had finished them: it is not asked, or not waited for. */
static void abandon_orphans(struct link *l)
{
    for (unsigned i = 0; i < l->nqueues; i++) {
        struct link_queue *q = &l->queue[i];
        for (uint32_t k = 0; q->table && k < 2 * q->geometry.slots; k++)
            if (q->table[k].state == SLOT_ORPHANED)
                release_slot(l, i, k);
        q->orphans = 0;
    }
    l->reset_seq = 0;
}

static void orphan_all(struct link *l)
{
    for (unsigned i = 0; i < l->nqueues; i++) {
        struct link_queue *q = &l->queue[i];
        q->narrivals = 0;
        q->last_due = 0;
        q->blocked = false;
        for (unsigned slot = 0; q->geometry.kind == CHANNEL_REQUESTS && slot < q->geometry.slots; slot++) {
            uint32_t index = table_index(l, i, slot);
            struct slot *s = &q->table[index];
            if (s->state == SLOT_RESERVED || (s->state == SLOT_IN_FLIGHT && s->arrived)) {
                release_slot(l, i, index);
            } else if (s->state == SLOT_IN_FLIGHT) {
                s->state = SLOT_ORPHANED;
                q->orphans++;
                l->stats.orphans++;
            }
        }
        q->in_flight = 0;
    }
}

struct ring_request wire_reset(const struct link *l)
{
    return (struct ring_request){.seq = l->reset_seq,
                                 .epoch = l->epoch,
                                 .generation = l->generation,
                                 .slot = RING_SLOT_NONE,
                                 .op = RING_OP_RESET};
}

static void publish_reset(struct link *l)
{
    struct ring_request r = wire_reset(l);
    publish(l, l->reset_queue, &r);
}

void link_reset(struct link *l)
{
    struct crossings *cs = l->cs;
    if (l->reset_queue == CHANNEL_MAX_QUEUES)
        return;
    if (cs->replay)
        abandon_orphans(l);
    while (!reset_finished(l)) {
        crossings_waiting(cs, true);
        poll_arrivals(l);
        int err = reset_finished(l) ? 0 : cs->host.wait(cs->host.arg);
        crossings_waiting(cs, false);
        if (err < 0)
            abandon_orphans(l);
    }
    orphan_all(l);
    l->generation++;
    l->reset_seq = ++cs->request_seq;
    memcpy(l->blob, l->blob_reset, l->blob_reset_len);
    l->blob_len = l->blob_reset_len;
    l->stats.resets++;
    struct crossing c = {.request = l->reset_seq,
                         .device = (uint16_t)l->index,
                         .direction = CROSSING_OUT,
                         .kind = CROSSING_RESET,
                         .arg = l->generation};
    journal_crossing(cs, &c, NULL, 0);
    publish_reset(l);
    link_kick(l);
    if (cs->fixed)
        due_arm(cs);
}

/* A request to send again: its place in the order of all. */
struct pending {
    uint64_t seq;
    unsigned queue;
    uint32_t index;
};

static int by_seq(const void *a, const void *b)
{
    const struct pending *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Orphans first, then the reset that follows them, then the present generation: the order of their numbers.
 */
static int reissue_all(struct link *l)
{
    unsigned n = 0, room = 0;
    for (unsigned q = 0; q < l->nqueues; q++)
        room += l->queue[q].in_flight + l->queue[q].orphans;
    struct pending *list = calloc(room + 1, sizeof *list);
    if (!list)
        return -ENOMEM;
    for (unsigned q = 0; q < l->nqueues; q++)
        for (uint32_t i = 0; l->queue[q].table && i < 2 * l->queue[q].geometry.slots; i++) {
            const struct slot *s = &l->queue[q].table[i];
            if ((s->state == SLOT_IN_FLIGHT || s->state == SLOT_ORPHANED) && !s->arrived)
                list[n++] = (struct pending){s->seq, q, i};
        }
    if (l->reset_seq)
        list[n++] = (struct pending){l->reset_seq, l->reset_queue, NO_SLOT};
    qsort(list, n, sizeof *list, by_seq);
    for (unsigned i = 0; i < n; i++) {
        if (list[i].index == NO_SLOT) {
            publish_reset(l);
            continue;
        }
        struct ring_request r = wire_request(l, list[i].queue, list[i].index);
        r.flags = RING_FLAG_REISSUE;
        publish(l, list[i].queue, &r);
    }
    free(list);
    return 0;
}

int link_connect(struct link *l, uint32_t epoch, int in_fd, int doorbell, bool reissue)
{
    int err = channel_front_link(l->front, in_fd, doorbell);
    if (err < 0)
        return err;
    l->epoch = epoch;
    l->connected = true;
    l->broken = false;
    for (unsigned q = 0; q < l->nqueues; q++)
        l->queue[q].event_seq = 0;
    if (reissue) {
        err = reissue_all(l);
        link_kick(l);
    }
    return err;
}

/* Answers that were not delivered go with the arena they are in: their requests are in flight again. */
void link_disconnect(struct link *l)
{
    poll_arrivals(l);
    for (unsigned i = 0; i < l->nqueues; i++) {
        struct link_queue *q = &l->queue[i];
        for (uint32_t k = 0; q->table && k < 2 * q->geometry.slots; k++)
            q->table[k].arrived = false;
        q->narrivals = 0;
    }
    channel_front_unlink(l->front);
    l->connected = false;
}

void link_room_made(struct link *l, unsigned queue)
{
    struct link_queue *q = &l->queue[queue];
    if (!q->blocked)
        return;
    q->blocked = false;
    l->cs->host.attention(l->cs->host.arg);
}

static void queue_state(const struct link *l, const struct link_queue *q, struct state_io *io)
{
    uint32_t slots = q->geometry.kind == CHANNEL_REQUESTS ? q->geometry.slots : 0;
    for (uint32_t i = 0; i < slots; i++) {
        struct slot *s = &q->table[half_of(l) * q->geometry.slots + i];
        uint8_t used = s->state != SLOT_FREE;
        state_u8(io, &used);
        if (!used)
            continue;
        uint64_t due = s->due;
        state_u64(io, &s->seq);
        state_u32(io, &s->req_len);
        state_u32(io, &s->resp_cap);
        state_u64(io, &s->digest);
        state_u64(io, &due);
    }
    uint64_t last_due = q->last_due;
    state_u64(io, &last_due);
}

void crossings_state(struct crossings *cs, struct state_io *io)
{
    state_u64(io, &cs->request_seq);
    for (unsigned i = 0; i < cs->nlinks; i++) {
        struct link *l = cs->links[i];
        state_u32(io, &l->generation);
        state_u32(io, &l->blob_len);
        state_bytes(io, l->blob, l->blob_len);
        for (unsigned q = 0; q < l->nqueues; q++)
            queue_state(l, &l->queue[q], io);
    }
}
