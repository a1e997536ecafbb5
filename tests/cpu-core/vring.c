/* The driver's side. Must not know a device type. */
#include "tests/cpu-core/vring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static void irq(void *arg, unsigned line, bool level)
{
    ((struct slot *)arg)->irq = level;
}

void slot_create(struct slot *s)
{
    memset(s, 0, sizeof *s);
    rig_create(&s->rig, 1 << 20, 1);
    const struct irq_line line = {irq, s, 1};
    assert_int_equal(virtio_create(&s->v, s->rig.mmu, &line), 0);
    const struct bus_region region = {MMIO, VIRTIO_MMIO_SIZE, &virtio_bus_ops, s->v, "virtio"};
    assert_int_equal(bus_add(&s->rig.bus, &region), 0);
    double_init(&s->link, &virtio_link_sink, s->v);
    s->id.device_id = 2;
    s->id.features = 1 << 5 | 1 << 15 | 1ull << 40;
    s->id.config_len = 64;
    for (unsigned i = 0; i < 64; i++)
        s->id.config[i] = (uint8_t)i;
    s->id.geometry.nqueues = 4;
    for (unsigned i = 0; i < 2; i++)
        s->id.geometry.queue[i] =
            (struct channel_queue){CHANNEL_REQUESTS, 64, 65536, 65536, 1 << 20, 1 << 20};
    for (unsigned i = 2; i < 4; i++)
        s->id.geometry.queue[i] = (struct channel_queue){CHANNEL_INBOUND, 256, 0, 65536, 0, 1 << 20};
}

void slot_plug(struct slot *s)
{
    assert_int_equal(virtio_plug(s->v, &s->id, &s->link), 0);
}

void slot_destroy(struct slot *s)
{
    virtio_destroy(s->v);
    rig_destroy(&s->rig);
}

uint32_t reg(struct slot *s, unsigned offset)
{
    return (uint32_t)rig_read(&s->rig, MMIO + offset, 4);
}

void set_reg(struct slot *s, unsigned offset, uint32_t value)
{
    rig_write(&s->rig, MMIO + offset, 4, value);
}

void driver_start(struct slot *s, uint64_t features)
{
    set_reg(s, V_STATUS, 0);
    set_reg(s, V_STATUS, S_ACK);
    set_reg(s, V_STATUS, S_ACK | S_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        set_reg(s, V_DRIVER_FEATURES_SEL, i);
        set_reg(s, V_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
    }
    set_reg(s, V_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
}

void driver_ok(struct slot *s)
{
    set_reg(s, V_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

static void set_address(struct slot *s, unsigned offset, uint64_t address)
{
    set_reg(s, offset, (uint32_t)address);
    set_reg(s, offset + 4, (uint32_t)(address >> 32));
}

struct vring vring_create(struct slot *s, unsigned queue, unsigned num, uint64_t base)
{
    struct vring r = {.s = s, .queue = queue, .num = num, .desc = base};
    r.avail = r.desc + 16ull * num;
    r.used = (r.avail + 6 + 2ull * num + 3) & ~3ull;
    set_reg(s, V_QUEUE_SEL, queue);
    set_reg(s, V_QUEUE_NUM, num);
    set_address(s, V_DESC, r.desc);
    set_address(s, V_AVAIL, r.avail);
    set_address(s, V_USED, r.used);
    set_reg(s, V_QUEUE_READY, 1);
    return r;
}

void vring_desc(struct vring *r, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
    uint64_t at = r->desc + 16ull * i;
    rig_poke(&r->s->rig, at, 8, addr);
    rig_poke(&r->s->rig, at + 8, 4, len);
    rig_poke(&r->s->rig, at + 12, 2, flags);
    rig_poke(&r->s->rig, at + 14, 2, next);
}

void vring_post(struct vring *r, unsigned head)
{
    rig_poke(&r->s->rig, r->avail + 4 + 2 * (r->avail_idx & (r->num - 1)), 2, head);
    r->avail_idx++;
    rig_poke(&r->s->rig, r->avail + 2, 2, r->avail_idx);
}

void vring_notify(struct vring *r)
{
    set_reg(r->s, V_NOTIFY, r->queue);
}

uint16_t vring_used_idx(struct vring *r)
{
    return (uint16_t)rig_peek(&r->s->rig, r->used + 2, 2);
}

uint64_t vring_used(struct vring *r, unsigned i)
{
    return rig_peek(&r->s->rig, r->used + 4 + 8ull * (i & (r->num - 1)), 8);
}
