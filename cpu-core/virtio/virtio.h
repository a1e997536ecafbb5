/* The virtio-mmio transport (version 2) and the split-virtqueue walk, for any device type: queues of kind
 * CHANNEL_REQUESTS carry the readable bytes of a chain out and the writable bytes back, queues of kind
 * CHANNEL_INBOUND scatter messages into posted buffers. Knows no device type, ring or process: it talks to a
 * link. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/board/irq.h"
#include "cpu-core/crossing/crossing.h"

#include <stdbool.h>
#include <stdint.h>

struct mmu;
struct state_io;
struct virtio; /* one slot of the board */

#define VIRTIO_MERGE_ALWAYS   UINT32_MAX
#define VIRTIO_MERGE_NO_COUNT UINT32_MAX

#define VIRTIO_MMIO_SIZE 0x1000ull

/* Everything guest-visible about a device type, from its process's description. */
struct virtio_identity {
    uint32_t device_id; /* 0: empty slot */
    uint64_t features;  /* the device's own; VIRTIO_F_VERSION_1, RING_EVENT_IDX, RING_INDIRECT_DESC are the
                           transport's */
    uint8_t config[CHANNEL_MAX_CONFIG];
    uint32_t config_len;
    uint32_t selector_len, selector_data, selector_size_at;
    struct {
        uint32_t selector, len;
        uint8_t data[128];
    } rows[48];
    unsigned nrows;
    /* A message of an inbound queue fills one chain, and what does not fit is lost; or, with inbound_merge
     * and feature bit merge_feature accepted by the driver (VIRTIO_MERGE_ALWAYS: in any case), as many chains
     * as it takes, and their number is written as 16 bits at offset merge_count_at of the first
     * (VIRTIO_MERGE_NO_COUNT: nowhere, the queue is a byte stream). */
    bool inbound_merge;
    uint32_t merge_feature, merge_count_at;
    struct channel_geometry geometry;
};

/* Creates a slot; an empty one reads DeviceID 0 until virtio_plug(). */
int virtio_create(struct virtio **v, struct mmu *mmu, const struct irq_line *irq);
void virtio_destroy(struct virtio *v);

/* Puts a device behind the slot before the machine starts. The identity is copied; the link is borrowed.
 * -EINVAL if the identity is inconsistent (configuration that does not fit the register window, more selector
 * bytes than four, bad geometry), -EBUSY if the slot is taken, -ENOMEM. */
int virtio_plug(struct virtio *v, const struct virtio_identity *id, struct link *l);

extern const struct bus_ops virtio_bus_ops;     /* dev = struct virtio */
extern const struct link_sink virtio_link_sink; /* front = struct virtio */

/* Device and driver state back to power-on (machine reboot): resets the device too. */
void virtio_reset(struct virtio *v);

void virtio_state(struct virtio *v, struct state_io *io);

/* Why the device last needed a reset, for diagnosis ("descriptor 7 out of range"), or NULL. */
const char *virtio_error(const struct virtio *v);
