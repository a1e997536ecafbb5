/* The device's end of a channel over mapped memory. Knows neither file descriptors nor what the requests
 * mean. */
#include "ipc/channel_ends.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct memory_back *self(struct channel_back *b)
{
    return (struct memory_back *)b;
}

static int peek(struct channel_back *base, unsigned queue, struct ring_request *r)
{
    return ring_peek(&self(base)->queue[queue].submissions, r);
}

static int request(struct channel_back *base, unsigned queue, struct ring_request *r)
{
    int got = peek(base, queue, r);
    if (got > 0)
        ring_drop(&self(base)->queue[queue].submissions);
    return got;
}

static int complete(struct channel_back *base, unsigned queue, const struct ring_completion *c)
{
    int err = ring_push(&self(base)->queue[queue].completions, c);
    if (!err)
        self(base)->published = true;
    return err;
}

static uint32_t taken_index(const struct memory_back *b, unsigned queue)
{
    return atomic_load_explicit(&b->queue[queue].completions.consumed->value, memory_order_acquire);
}

/* Finds `len` contiguous bytes between the newest event and the oldest that the vcpu still has. The arena is
 * used round and round. */
static int place_event(struct memory_back *b, unsigned queue, uint32_t taken, uint64_t len, uint64_t *off)
{
    uint32_t size = b->queue[queue].completions.size, head = b->queue[queue].completions.head;
    uint64_t arena = b->base.layout.queue[queue].response_size, next = b->queue[queue].next_off;
    if (taken == head) {
        *off = 0;
        return len <= arena ? 0 : -ENOSPC;
    }
    uint64_t oldest = b->queue[queue].offsets[taken & (size - 1)];
    if (next > oldest && len <= arena - next)
        *off = next;
    else if (next > oldest && len <= oldest)
        *off = 0;
    else if (next <= oldest && len <= oldest - next)
        *off = next;
    else
        return -ENOSPC;
    return 0;
}

static int event(struct channel_back *base, unsigned queue, uint64_t cause, const void *data, uint32_t len)
{
    struct memory_back *b = self(base);
    struct ring_producer *ring = &b->queue[queue].completions;
    if (len > base->geometry.queue[queue].max_response)
        return -EMSGSIZE;

    /* One read of the vcpu's index decides both the ring entry and the span. */
    uint32_t taken = taken_index(b, queue), waiting = ring->head - taken;
    if (waiting > ring->size)
        return -EPROTO;
    uint32_t span = len ? (len + CHANNEL_UNIT - 1) / CHANNEL_UNIT * CHANNEL_UNIT : CHANNEL_UNIT;
    uint64_t off;
    if (waiting >= base->geometry.queue[queue].slots || place_event(b, queue, taken, span, &off) < 0) {
        b->queue[queue].starved = true;
        b->queue[queue].starved_at = taken;
        return -ENOSPC;
    }

    if (len)
        memcpy(b->in + base->layout.queue[queue].response_arena + off, data, len);
    struct ring_event e = {
        .seq = ++b->queue[queue].events, .epoch = b->epoch, .len = len, .off = off, .cause = cause};
    b->queue[queue].offsets[ring->head & (ring->size - 1)] = (uint32_t)off;
    b->queue[queue].next_off = off + span;
    int err = ring_push(ring, &e);
    b->published = b->published || !err;
    return err;
}

static uint32_t backlog(struct channel_back *base, unsigned queue)
{
    const struct memory_back *b = self(base);
    return b->queue[queue].completions.head - taken_index(b, queue);
}

static void kick(struct channel_back *base)
{
    struct memory_back *b = self(base);
    if (!b->published)
        return;
    b->published = false;
    /* Orders the published index before the read of the flag; the vcpu does the opposite. */
    atomic_thread_fence(memory_order_seq_cst);
    const struct channel_out_header *h = (const struct channel_out_header *)b->out;
    if (atomic_load_explicit(&h->vcpu_waits, memory_order_seq_cst))
        b->ring_doorbell(b);
}

static bool starved_queue_has_room(const struct memory_back *b, unsigned queue)
{
    return b->queue[queue].starved && taken_index(b, queue) != b->queue[queue].starved_at;
}

static bool has_work(struct memory_back *b)
{
    for (unsigned i = 0; i < b->base.geometry.nqueues; i++) {
        if (b->base.geometry.queue[i].kind == CHANNEL_REQUESTS && ring_ready(&b->queue[i].submissions) != 0)
            return true;
        if (starved_queue_has_room(b, i))
            return true;
    }
    return false;
}

static void set_waits(struct memory_back *b, uint32_t waits)
{
    struct channel_in_header *h = (struct channel_in_header *)b->in;
    atomic_store_explicit(&h->device_waits, waits, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
}

static bool sleep_(struct channel_back *base)
{
    struct memory_back *b = self(base);
    uint32_t waits = CHANNEL_WAIT_REQUESTS;
    for (unsigned i = 0; i < base->geometry.nqueues; i++)
        if (b->queue[i].starved)
            waits |= CHANNEL_WAIT_ROOM;
    set_waits(b, waits);
    if (!has_work(b))
        return true;
    set_waits(b, 0);
    return false;
}

static void awake(struct channel_back *base)
{
    set_waits(self(base), 0);
}

static bool room(struct channel_back *base)
{
    struct memory_back *b = self(base);
    bool any = false;
    for (unsigned i = 0; i < base->geometry.nqueues; i++) {
        if (!starved_queue_has_room(b, i))
            continue;
        b->queue[i].starved = false;
        any = true;
    }
    return any;
}

static const uint8_t *request_mem(struct channel_back *base, unsigned queue)
{
    return self(base)->out + base->layout.queue[queue].request_arena;
}

static uint8_t *response_mem(struct channel_back *base, unsigned queue)
{
    return self(base)->in + base->layout.queue[queue].response_arena;
}

static struct channel_in_header *header(struct channel_back *base)
{
    return (struct channel_in_header *)self(base)->in;
}

const struct channel_back_ops memory_back_ops = {
    .request = request,
    .complete = complete,
    .event = event,
    .peek = peek,
    .backlog = backlog,
    .kick = kick,
    .sleep = sleep_,
    .awake = awake,
    .room = room,
    .request_mem = request_mem,
    .response_mem = response_mem,
    .header = header,
};

int memory_back_init(struct memory_back *b, const struct channel_geometry *g, uint32_t epoch,
                     const uint8_t *out, uint8_t *in)
{
    b->base.geometry = *g;
    channel_layout(g, &b->base.layout);
    b->epoch = epoch;
    b->out = out;
    b->in = in;
    const struct channel_layout *l = &b->base.layout;
    for (unsigned i = 0; i < g->nqueues; i++) {
        b->queue[i].submissions = (struct ring_consumer){
            .produced = (const struct ring_index *)(out + l->queue[i].out_produced),
            .consumed = (struct ring_index *)(in + l->queue[i].in_consumed),
            .entries = out + l->queue[i].submissions,
            .size = l->queue[i].entries,
        };
        b->queue[i].completions = (struct ring_producer){
            .produced = (struct ring_index *)(in + l->queue[i].in_produced),
            .consumed = (const struct ring_index *)(out + l->queue[i].out_consumed),
            .entries = in + l->queue[i].completions,
            .size = l->queue[i].entries,
        };
        if (g->queue[i].kind != CHANNEL_INBOUND)
            continue;
        b->queue[i].offsets = calloc(l->queue[i].entries, sizeof(b->queue[i].offsets[0]));
        if (!b->queue[i].offsets) {
            memory_back_fini(b);
            return -ENOMEM;
        }
    }
    return 0;
}

void memory_back_fini(struct memory_back *b)
{
    for (unsigned i = 0; i < b->base.geometry.nqueues; i++)
        free(b->queue[i].offsets);
}

struct channel_in_header channel_in_header_make(const struct channel_geometry *g)
{
    return (struct channel_in_header){
        .magic = CHANNEL_IN_MAGIC,
        .version = CHANNEL_VERSION,
        .layout_crc = channel_layout_crc(g),
    };
}
