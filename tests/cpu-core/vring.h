/* A driver's side of a virtio-mmio device for unit tests: negotiation, and split rings in the rig's RAM. */
#pragma once

#include "cpu-core/virtio/virtio.h"
#include "tests/cpu-core/link_double.h"
#include "tests/cpu-core/rig.h"

#define MMIO 0x10001000ull

enum {
    V_FEATURES_SEL = 0x014,
    V_DRIVER_FEATURES = 0x020,
    V_DRIVER_FEATURES_SEL = 0x024,
    V_QUEUE_SEL = 0x030,
    V_QUEUE_NUM_MAX = 0x034,
    V_QUEUE_NUM = 0x038,
    V_QUEUE_READY = 0x044,
    V_NOTIFY = 0x050,
    V_ISR = 0x060,
    V_ACK = 0x064,
    V_STATUS = 0x070,
    V_DESC = 0x080,
    V_AVAIL = 0x090,
    V_USED = 0x0a0,
    V_CONFIG = 0x100,
};

enum { S_ACK = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 64 };
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

#define F_INDIRECT (1ull << 28)
#define F_EVENT    (1ull << 29)
#define F_V1       (1ull << 32)

struct slot {
    struct rig rig;
    struct virtio *v;
    struct link link;
    struct virtio_identity id;
    bool irq;
};

struct vring {
    struct slot *s;
    unsigned queue, num;
    uint64_t desc, avail, used;
    uint16_t avail_idx;
};

/* A device with request queues 0 and 1 and inbound queues 2 and 3, 64 bytes of configuration 0, 1, 2, … */
void slot_create(struct slot *s);
void slot_plug(struct slot *s); /* after changing s->id */
void slot_destroy(struct slot *s);

uint32_t reg(struct slot *s, unsigned offset);
void set_reg(struct slot *s, unsigned offset, uint32_t value);

/* Reset and negotiation up to FEATURES_OK, and the last step. */
void driver_start(struct slot *s, uint64_t features);
void driver_ok(struct slot *s);

/* A ring of `num` entries at `base`, taken into use. */
struct vring vring_create(struct slot *s, unsigned queue, unsigned num, uint64_t base);

void vring_desc(struct vring *r, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next);
void vring_post(struct vring *r, unsigned head); /* into the available ring; no notification */
void vring_notify(struct vring *r);
uint16_t vring_used_idx(struct vring *r);
uint64_t vring_used(struct vring *r, unsigned i); /* length << 32 | head */
