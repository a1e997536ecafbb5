/* Fuzz target: a hostile driver of a virtio slot. The input is a program of register writes, stores to the
 * RAM that rings, tables and buffers share, answers of the device and inbound messages. */
#include "tests/fuzz/fuzz.h"

#include "cpu-core/mmu/mmu.h"
#include "cpu-core/virtio/virtio.h"
#include "tests/cpu-core/link_double.h"

#include <stdlib.h>
#include <string.h>

enum { RAM_SIZE = 0x10000, QUEUE_SPAN = 0x1000 };

struct input {
    const uint8_t *p, *end;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->p < in->end; i++)
        v |= (uint64_t)*in->p++ << 8 * i;
    return v;
}

static const struct bus empty_bus;
static struct ram ram;
static struct mmu *mmu;
static struct link device;

static void irq(void *arg, unsigned line, bool level) {}

static void write_reg(struct virtio *v, uint64_t offset, uint32_t value)
{
    virtio_bus_ops.write(v, offset, 4, value);
}

/* Rings of 8 entries for every queue, so that the input needs to find only what goes wrong. */
static void start(struct virtio *v, uint32_t features)
{
    write_reg(v, 0x70, 0);
    write_reg(v, 0x70, 3);
    write_reg(v, 0x24, 0);
    write_reg(v, 0x20, features & 0x30008000);
    write_reg(v, 0x24, 1);
    write_reg(v, 0x20, 1);
    write_reg(v, 0x70, 11);
    for (unsigned q = 0; q < 3; q++) {
        uint64_t base = RAM_BASE + QUEUE_SPAN * q;
        write_reg(v, 0x30, q);
        write_reg(v, 0x38, 8);
        write_reg(v, 0x80, (uint32_t)base);
        write_reg(v, 0x90, (uint32_t)base + 128);
        write_reg(v, 0xa0, (uint32_t)base + 256);
        write_reg(v, 0x44, 1);
    }
    write_reg(v, 0x70, 15);
}

static void answer(unsigned queue, unsigned slot, uint32_t len, bool fail)
{
    static uint8_t data[DOUBLE_BYTES];
    if (!device.request[queue][slot].busy)
        return;
    if (fail)
        double_fail(&device, queue, slot);
    else
        double_complete(&device, queue, slot, data, len % (device.request[queue][slot].cap + 1));
}

static void inbound(struct virtio *v, struct input *in)
{
    static const uint8_t data[DOUBLE_BYTES];
    uint32_t len = (uint32_t)take(in, 2);
    if (virtio_link_sink.room(v, 2, len))
        virtio_link_sink.received(v, 2, data, len);
}

static void poke(struct input *in)
{
    uint64_t at = take(in, 2), value = take(in, 8);
    mmu_dma_write(mmu, RAM_BASE + at, &value, 8);
}

/* A descriptor with plausible fields, and its head in the ring. */
static void describe(struct input *in)
{
    uint64_t queue = take(in, 1) % 3, i = take(in, 1) % 8, base = RAM_BASE + QUEUE_SPAN * queue;
    uint64_t addr = RAM_BASE + take(in, 2);
    uint32_t len = (uint32_t)take(in, 2);
    uint16_t link[2] = {(uint16_t)(take(in, 1) & 7), (uint16_t)(take(in, 1) % 9)},
             idx = (uint16_t)take(in, 1);
    mmu_dma_write(mmu, base + 16 * i, &addr, 8);
    mmu_dma_write(mmu, base + 16 * i + 8, &len, 4);
    mmu_dma_write(mmu, base + 16 * i + 12, link, 4);
    mmu_dma_write(mmu, base + 128 + 2, &idx, 2);
}

static void step(struct virtio *v, struct input *in)
{
    uint64_t value;
    switch (take(in, 1) % 10) {
    case 0:
        value = take(in, 2);
        write_reg(v, value & 0xffc, (uint32_t)take(in, 4));
        break;
    case 1:
        value = take(in, 2);
        virtio_bus_ops.read(v, value & 0xfff & ~7ull, 1u << (value >> 12 & 3), &value);
        break;
    case 2:
        poke(in);
        break;
    case 3:
    case 4:
        describe(in);
        break;
    case 5:
    case 6:
        write_reg(v, 0x50, (uint32_t)take(in, 1) % 4);
        break;
    case 7:
        value = take(in, 4);
        answer(value & 1, value >> 1 & 7, (uint32_t)value >> 8, (value & 0xf0) == 0xf0);
        break;
    case 8:
        inbound(v, in);
        break;
    default:
        start(v, (uint32_t)take(in, 4));
    }
}

static void set_up(struct virtio *v)
{
    static struct virtio_identity id = {
        .device_id = 1,
        .features = 1 << 15,
        .config_len = 32,
        .selector_len = 2,
        .selector_data = 8,
        .selector_size_at = 2,
        .nrows = 1,
        .rows = {{.selector = 1, .len = 4}},
        .inbound_merge = true,
        .merge_feature = 15,
        .merge_count_at = 10,
        .geometry = {.nqueues = 3,
                     .queue = {{CHANNEL_REQUESTS, 8, 4096, 4096, 65536, 65536},
                               {CHANNEL_REQUESTS, 8, 4096, 4096, 65536, 65536},
                               {CHANNEL_INBOUND, 64, 0, 65536, 0, 65536}}},
    };
    double_init(&device, &virtio_link_sink, v);
    device.max_req = device.max_resp = 4096;
    if (virtio_plug(v, &id, &device) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hart hart, *const harts[1] = {&hart};
    const struct irq_line line = {irq, NULL, 0};
    struct input in = {data, data + size};
    struct virtio *v;
    if (!mmu && (ram_create(&ram, RAM_SIZE) < 0 || mmu_create(&mmu, &ram, &empty_bus, harts, 1, 3, true) < 0))
        abort();
    memset(ram.host, 0, RAM_SIZE);
    if (virtio_create(&v, mmu, &line) < 0)
        abort();
    set_up(v);
    start(v, (uint32_t)take(&in, 4));
    while (in.p < in.end)
        step(v, &in);
    virtio_destroy(v);
    return 0;
}
