/* What the files of the transport share: the state of a slot and its virtqueues. */
#pragma once

#include "cpu-core/virtio/virtio.h"

#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX     (1ull << 29)
#define VIRTIO_F_VERSION_1     (1ull << 32)
#define TRANSPORT_FEATURES     (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

enum status_bit {
    STATUS_ACKNOWLEDGE = 1,
    STATUS_DRIVER = 2,
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
    STATUS_NEEDS_RESET = 64,
    STATUS_FAILED = 128,
};

enum interrupt_bit { INTERRUPT_USED = 1, INTERRUPT_CONFIG = 2 };

#define QUEUE_SIZE_MAX     1024
#define QUEUE_SIZE_DEFAULT 256
#define CHAIN_MAX          1024 /* descriptors of one chain, those of its indirect table included */

struct segment {
    uint64_t pa;
    uint32_t len;
};

/* A descriptor chain, read once into private memory: readable segments, then writable ones. Empty segments
 * are left out. */
struct chain {
    uint16_t head;
    unsigned nread, nwrite;
    uint32_t read_len, write_len;
    struct segment seg[CHAIN_MAX];
};

/* A request that the link holds. */
struct inflight {
    bool busy;
    uint16_t head, nsegs;
    uint32_t generation; /* of the queue, when it was popped */
    uint32_t write_len;
    struct segment
        *segs; /* writable ones; CHAIN_MAX entries of the queue's pool, touched only as far as used */
};

struct virtq {
    unsigned kind; /* enum channel_queue_kind */
    unsigned num_max;
    unsigned slots; /* of the link; 0 for INBOUND */
    struct inflight *inflight;
    struct segment *pool;

    bool ready;
    uint32_t num;
    uint64_t desc, avail, used;
    uint32_t generation; /* counts the times the queue was taken into or out of use */
    uint16_t last_avail; /* next entry of the available ring to pop */
    uint16_t used_idx;   /* next entry of the used ring to fill */
    uint16_t signalled;  /* used_idx when an interrupt was last considered */
    bool signalled_valid;
};

struct virtio {
    struct mmu *mmu;
    struct irq_line irq;
    struct link *link;
    struct virtio_identity *id; /* NULL: empty slot */
    struct chain *chain;        /* scratch of the walk */

    uint32_t status;
    uint32_t interrupt; /* enum interrupt_bit */
    uint32_t device_features_sel, driver_features_sel, queue_sel, shm_sel;
    uint64_t driver_features;
    uint32_t config_generation;
    uint8_t config[CHANNEL_MAX_CONFIG];
    struct virtq queue[CHANNEL_MAX_QUEUES];
    char error[96]; /* "" for none */
};

static inline bool accepted(const struct virtio *v, uint64_t feature)
{
    return v->driver_features & feature;
}

/* The device can not go on: DEVICE_NEEDS_RESET, with the reason (printf format). */
__attribute__((format(printf, 2, 3))) void virtio_fail(struct virtio *v, const char *fmt, ...);

void virtio_interrupt(struct virtio *v, enum interrupt_bit bit);

/* queue.c: taking a queue into use (fails the device when its description is bad) and out of use. */
void queue_enable(struct virtio *v, unsigned qi);
void queue_disable(struct virtq *q);

/* The driver notified the queue. */
void queue_notify(struct virtio *v, unsigned qi);

/* chain.c: reads the chain that begins at `head`. 0, or -EINVAL with the reason in `why` (96 bytes). */
int chain_read(const struct virtio *v, const struct virtq *q, uint16_t head, struct chain *c, char *why);
