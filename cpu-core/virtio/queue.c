/* The split-virtqueue walk (virtio 1.2, section 2.7): pops requests at doorbells and right after deliveries,
 * nowhere else, and scatters what comes in. Must not know a device type; how much it takes from the ring
 * depends on guest state and the link's admission alone. */
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/virtio/internal.h"

#include <errno.h>

enum {
    AVAIL_FLAGS = 0,
    AVAIL_IDX = 2,
    AVAIL_RING = 4,
    AVAIL_NO_INTERRUPT = 1,
    USED_IDX = 2,
    USED_RING = 4,
    USED_ENTRY = 8,
    WHY_LEN = 96,
};

/* The rings were inside RAM when the queue was taken into use, and RAM does not shrink: these cannot fail. */
static uint16_t read16(const struct virtio *v, uint64_t pa)
{
    uint16_t value = 0;
    mmu_dma_read(v->mmu, pa, &value, sizeof value);
    return value;
}

static void write16(struct virtio *v, uint64_t pa, uint16_t value)
{
    mmu_dma_write(v->mmu, pa, &value, sizeof value);
}

static bool in_use(const struct virtio *v, const struct virtq *q)
{
    return q->ready && (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK;
}

static const char *queue_error(const struct virtio *v, const struct virtq *q)
{
    const struct ram *ram = mmu_ram(v->mmu);
    if (!q->num || q->num > q->num_max || q->num & (q->num - 1))
        return "its size is not a power of two in range";
    if (q->desc & 15 || q->avail & 1 || q->used & 3)
        return "a ring is misaligned";
    if (!ram_contains(ram, q->desc, 16ull * q->num) || !ram_contains(ram, q->avail, 6 + 2ull * q->num) ||
        !ram_contains(ram, q->used, 6 + 8ull * q->num))
        return "a ring is outside memory";
    return NULL;
}

void queue_enable(struct virtio *v, unsigned qi)
{
    struct virtq *q = &v->queue[qi];
    const char *why = queue_error(v, q);
    if (why) {
        virtio_fail(v, "queue %u: %s", qi, why);
        return;
    }
    q->ready = true;
    q->generation++;
    q->last_avail = q->used_idx = q->signalled = 0;
    q->signalled_valid = false;
}

void queue_disable(struct virtq *q)
{
    q->ready = false;
    q->generation++;
}

/* Entries of the available ring that were not popped; -EINVAL if the driver claims more than there can be. */
static int available(const struct virtio *v, const struct virtq *q)
{
    uint16_t n = (uint16_t)(read16(v, q->avail + AVAIL_IDX) - q->last_avail);
    return n <= q->num ? n : -EINVAL;
}

static uint16_t available_head(const struct virtio *v, const struct virtq *q, unsigned ahead)
{
    return read16(v, q->avail + AVAIL_RING + 2 * ((q->last_avail + ahead) & (q->num - 1)));
}

/* Asks for a notification when the driver adds an entry at index `idx`. */
static void set_avail_event(struct virtio *v, struct virtq *q, uint16_t idx)
{
    if (accepted(v, VIRTIO_F_EVENT_IDX))
        write16(v, q->used + USED_RING + USED_ENTRY * q->num, idx);
}

static void put_used(struct virtio *v, struct virtq *q, unsigned ahead, uint16_t head, uint32_t len)
{
    uint32_t entry[2] = {head, len};
    uint64_t at = q->used + USED_RING + USED_ENTRY * ((q->used_idx + ahead) & (q->num - 1));
    mmu_dma_write(v->mmu, at, entry, sizeof entry);
}

static bool wants_interrupt(const struct virtio *v, struct virtq *q)
{
    if (!accepted(v, VIRTIO_F_EVENT_IDX))
        return !(read16(v, q->avail + AVAIL_FLAGS) & AVAIL_NO_INTERRUPT);
    uint16_t event = read16(v, q->avail + AVAIL_RING + 2 * q->num), now = q->used_idx, before = q->signalled;
    bool first = !q->signalled_valid;
    q->signalled = now;
    q->signalled_valid = true;
    return first || (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static void publish_used(struct virtio *v, struct virtq *q, unsigned n)
{
    q->used_idx = (uint16_t)(q->used_idx + n);
    write16(v, q->used + USED_IDX, q->used_idx);
    if (wants_interrupt(v, q))
        virtio_interrupt(v, INTERRUPT_USED);
}

static void gather(const struct virtio *v, const struct chain *c, uint8_t *dst)
{
    for (unsigned i = 0; i < c->nread; dst += c->seg[i++].len)
        mmu_dma_read(v->mmu, c->seg[i].pa, dst, c->seg[i].len);
}

/* Copies at most `len` bytes into the segments; returns how many fitted. */
static uint32_t scatter(struct virtio *v, const struct segment *seg, unsigned n, const uint8_t *src,
                        uint32_t len)
{
    uint32_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        uint32_t part = len - done < seg[i].len ? len - done : seg[i].len;
        mmu_dma_write(v->mmu, seg[i].pa, src + done, part);
        done += part;
    }
    return done;
}

static void note_inflight(struct virtq *q, unsigned slot, const struct chain *c)
{
    struct inflight *f = &q->inflight[slot];
    f->busy = true;
    f->head = c->head;
    f->nsegs = (uint16_t)c->nwrite;
    f->generation = q->generation;
    f->write_len = c->write_len;
    for (unsigned i = 0; i < c->nwrite; i++)
        f->segs[i] = c->seg[c->nread + i];
}

/* Pops the next chain into a slot of the link. 0, -ENOSPC when it must wait in the ring, -EINVAL when the
 * device failed. */
static int pop_request(struct virtio *v, unsigned qi)
{
    struct virtq *q = &v->queue[qi];
    struct chain *c = v->chain;
    char why[WHY_LEN];
    if (chain_read(v, q, available_head(v, q, 0), c, why) < 0) {
        virtio_fail(v, "queue %u: %s", qi, why);
        return -EINVAL;
    }
    int slot = link_reserve(v->link, qi, c->read_len, c->write_len);
    if (slot == -ENOSPC)
        return slot;
    if (slot < 0) {
        virtio_fail(v, "queue %u: a request of %u and %u bytes is beyond the device's limits", qi,
                    c->read_len, c->write_len);
        return -EINVAL;
    }
    gather(v, c, link_request_bytes(v->link, qi, (unsigned)slot));
    note_inflight(q, (unsigned)slot, c);
    q->last_avail++;
    link_submit(v->link, qi, (unsigned)slot);
    return 0;
}

static void pop_requests(struct virtio *v, unsigned qi)
{
    struct virtq *q = &v->queue[qi];
    int n = available(v, q), popped = 0;
    if (n < 0)
        virtio_fail(v, "queue %u: the available index jumped", qi);
    while (popped < n && pop_request(v, qi) == 0)
        popped++;
    if (popped)
        link_kick(v->link);
    set_avail_event(v, q, q->last_avail);
}

static bool merges(const struct virtio *v)
{
    uint32_t bit = v->id->merge_feature;
    return v->id->inbound_merge && (bit == VIRTIO_MERGE_ALWAYS || accepted(v, 1ull << bit));
}

/* A message that may need several chains waits for the next one that is posted, any other for the first. */
static void ask_for_buffers(struct virtio *v, struct virtq *q)
{
    set_avail_event(v, q, merges(v) ? read16(v, q->avail + AVAIL_IDX) : q->last_avail);
}

void queue_notify(struct virtio *v, unsigned qi)
{
    struct virtq *q = &v->queue[qi];
    if (!in_use(v, q))
        return;
    if (q->kind == CHANNEL_REQUESTS) {
        pop_requests(v, qi);
    } else {
        ask_for_buffers(v, q);
        link_room_made(v->link, qi);
    }
}

static void completed(void *front, unsigned qi, unsigned slot, const uint8_t *data, uint32_t len, bool failed)
{
    struct virtio *v = front;
    struct virtq *q = &v->queue[qi];
    struct inflight *f = &q->inflight[slot];
    bool ours = f->busy && f->generation == q->generation;
    f->busy = false;
    if (!in_use(v, q))
        return;
    if (ours && failed) {
        virtio_fail(v, "queue %u: the device process could not serve a request", qi);
        return;
    }
    if (ours) {
        put_used(v, q, 0, f->head, scatter(v, f->segs, f->nsegs, data, len));
        publish_used(v, q, 1);
    }
    pop_requests(v, qi);
}

/* Reads ahead over posted chains until they hold `len` bytes. -EINVAL for a malformed one. */
static int holds(const struct virtio *v, const struct virtq *q, unsigned posted, uint32_t len)
{
    uint64_t space = 0;
    char why[WHY_LEN];
    for (unsigned i = 0; i < posted && space < len; i++) {
        if (chain_read(v, q, available_head(v, q, i), v->chain, why) < 0 || !v->chain->write_len)
            return -EINVAL;
        space += v->chain->write_len;
    }
    return space >= len;
}

/* What is malformed counts as room: taking the message is the crossing at which the device fails. So does a
 * full ring, which will not grow. */
static bool room(void *front, unsigned qi, uint32_t len)
{
    const struct virtio *v = front;
    const struct virtq *q = &v->queue[qi];
    if (!in_use(v, q))
        return false;
    int posted = available(v, q);
    if (posted <= 0)
        return posted < 0;
    return !merges(v) || (uint32_t)posted == q->num || holds(v, q, (unsigned)posted, len);
}

/* Guest address of byte `at` of the chain's writable part, 0 if it is shorter. */
static uint64_t writable_at(const struct chain *c, uint32_t at)
{
    for (unsigned i = c->nread; i < c->nread + c->nwrite; i++) {
        if (at < c->seg[i].len)
            return c->seg[i].pa + at;
        at -= c->seg[i].len;
    }
    return 0;
}

static void write_count(struct virtio *v, const uint64_t at[2], unsigned n)
{
    uint8_t bytes[2] = {(uint8_t)n, (uint8_t)(n >> 8)};
    for (unsigned i = 0; i < 2; i++)
        if (at[i])
            mmu_dma_write(v->mmu, at[i], &bytes[i], 1);
}

static void received(void *front, unsigned qi, const uint8_t *data, uint32_t len)
{
    struct virtio *v = front;
    struct virtq *q = &v->queue[qi];
    struct chain *c = v->chain;
    bool spread = merges(v), counted = spread && v->id->merge_count_at != VIRTIO_MERGE_NO_COUNT;
    uint64_t count_at[2] = {0, 0};
    uint32_t done = 0;
    int posted = available(v, q), n = 0;
    char why[WHY_LEN];
    if (posted < 0) {
        virtio_fail(v, "queue %u: the available index jumped", qi);
        return;
    }
    do {
        if (chain_read(v, q, available_head(v, q, 0), c, why) < 0) {
            virtio_fail(v, "queue %u: %s", qi, why);
            return;
        }
        if (!c->write_len) {
            virtio_fail(v, "queue %u: a receive buffer without writable bytes", qi);
            return;
        }
        for (uint32_t i = 0; i < 2 && counted && !n; i++)
            count_at[i] = writable_at(c, v->id->merge_count_at + i);
        uint32_t part = scatter(v, c->seg + c->nread, c->nwrite, data + done, len - done);
        put_used(v, q, (unsigned)n++, c->head, part);
        done += part;
        q->last_avail++;
    } while (spread && done < len && n < posted);
    if (counted)
        write_count(v, count_at, (unsigned)n);
    publish_used(v, q, (unsigned)n);
    ask_for_buffers(v, q);
}

static void config_changed(void *front, const uint8_t *config, uint32_t len)
{
    struct virtio *v = front;
    for (uint32_t i = v->id->selector_len; i < len && i < v->id->config_len; i++)
        v->config[i] = config[i];
    v->config_generation++;
    if (v->status & STATUS_DRIVER_OK)
        virtio_interrupt(v, INTERRUPT_CONFIG);
}

const struct link_sink virtio_link_sink = {completed, room, received, config_changed};
