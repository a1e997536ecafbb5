/* The register window of a virtio-mmio slot (virtio 1.2, section 4.2, version 2) and the device's status.
 * Must not know a device type: what the guest reads beyond the common registers comes from the identity. */
#include "cpu-core/virtio/virtio.h"

#include "cpu-core/mmu/mmu.h"
#include "cpu-core/state/state.h"
#include "cpu-core/virtio/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum reg {
    MAGIC_VALUE = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030,
    QUEUE_NUM_MAX = 0x034,
    QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC_LOW = 0x080,
    QUEUE_DESC_HIGH = 0x084,
    QUEUE_DRIVER_LOW = 0x090,
    QUEUE_DRIVER_HIGH = 0x094,
    QUEUE_DEVICE_LOW = 0x0a0,
    QUEUE_DEVICE_HIGH = 0x0a4,
    SHM_SEL = 0x0ac,
    SHM_LEN_LOW = 0x0b0,
    SHM_BASE_HIGH = 0x0bc,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100,
};

#define MAGIC  0x74726976u /* "virt" */
#define VENDOR 0x41454c43u /* "CLEA" */

void virtio_interrupt(struct virtio *v, enum interrupt_bit bit)
{
    v->interrupt |= bit;
    irq_set(&v->irq, true);
}

void virtio_fail(struct virtio *v, const char *fmt, ...)
{
    va_list ap;
    if (v->status & STATUS_NEEDS_RESET)
        return;
    va_start(ap, fmt);
    vsnprintf(v->error, sizeof v->error, fmt, ap);
    va_end(ap);
    v->status |= STATUS_NEEDS_RESET;
    if (v->status & STATUS_DRIVER_OK)
        virtio_interrupt(v, INTERRUPT_CONFIG);
}

const char *virtio_error(const struct virtio *v)
{
    return v->error[0] ? v->error : NULL;
}

static uint64_t device_features(const struct virtio *v)
{
    return v->id->features | TRANSPORT_FEATURES;
}

static struct virtq *selected(struct virtio *v)
{
    return v->queue_sel < v->id->geometry.nqueues ? &v->queue[v->queue_sel] : NULL;
}

/* What the device may use: nothing before FEATURES_OK. */
static void tell_features(struct virtio *v)
{
    link_features(v->link, v->status & STATUS_FEATURES_OK ? v->driver_features & v->id->features : 0);
}

static void clear_driver_state(struct virtio *v)
{
    v->status = v->interrupt = 0;
    v->device_features_sel = v->driver_features_sel = v->queue_sel = v->shm_sel = 0;
    v->driver_features = 0;
    v->error[0] = 0;
    for (unsigned i = 0; i < CHANNEL_MAX_QUEUES; i++) {
        struct virtq *q = &v->queue[i];
        q->ready = false;
        q->generation = 0;
        q->num = 0;
        q->desc = q->avail = q->used = 0;
        q->last_avail = q->used_idx = q->signalled = 0;
        q->signalled_valid = false;
        for (unsigned slot = 0; slot < q->slots; slot++)
            q->inflight[slot].busy = false;
    }
    if (v->id) {
        memset(v->config, 0, v->id->selector_len);
        tell_features(v);
    }
    irq_set(&v->irq, false);
}

/* A device that no driver touched since the last reset has nothing to forget. */
void virtio_reset(struct virtio *v)
{
    if (v->id && v->status)
        link_reset(v->link);
    clear_driver_state(v);
}

static void set_driver_ok(struct virtio *v)
{
    v->status |= STATUS_DRIVER_OK;
    if (v->status & STATUS_NEEDS_RESET)
        virtio_interrupt(v, INTERRUPT_CONFIG);
    for (unsigned i = 0; i < v->id->geometry.nqueues; i++)
        if (v->queue[i].kind == CHANNEL_INBOUND)
            queue_notify(v, i);
}

/* Bits are only ever added; FEATURES_OK sticks if the driver accepted a subset with VERSION_1, and DRIVER_OK
 * needs it. */
static void write_status(struct virtio *v, uint32_t value)
{
    if (!value) {
        virtio_reset(v);
        return;
    }
    v->status |= value & (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FAILED);
    if (value & STATUS_FEATURES_OK && !(v->driver_features & ~device_features(v)) &&
        accepted(v, VIRTIO_F_VERSION_1))
        v->status |= STATUS_FEATURES_OK;
    tell_features(v);
    if (value & ~v->status & STATUS_DRIVER_OK && v->status & STATUS_FEATURES_OK)
        set_driver_ok(v);
}

static void write_half(uint64_t *reg, bool high, uint32_t value)
{
    *reg = high ? (*reg & 0xffffffff) | (uint64_t)value << 32 : (*reg & ~0xffffffffull) | value;
}

static void write_driver_features(struct virtio *v, uint32_t value)
{
    if (v->driver_features_sel < 2 && !(v->status & STATUS_FEATURES_OK))
        write_half(&v->driver_features, v->driver_features_sel, value);
}

static void write_queue(struct virtio *v, struct virtq *q, uint64_t offset, uint32_t value)
{
    if (offset == QUEUE_READY && value && !q->ready)
        queue_enable(v, v->queue_sel);
    else if (offset == QUEUE_READY && !value && q->ready)
        queue_disable(q);
    if (offset == QUEUE_READY || q->ready)
        return;
    if (offset == QUEUE_NUM)
        q->num = value;
    else if (offset == QUEUE_DESC_LOW || offset == QUEUE_DESC_HIGH)
        write_half(&q->desc, offset == QUEUE_DESC_HIGH, value);
    else if (offset == QUEUE_DRIVER_LOW || offset == QUEUE_DRIVER_HIGH)
        write_half(&q->avail, offset == QUEUE_DRIVER_HIGH, value);
    else
        write_half(&q->used, offset == QUEUE_DEVICE_HIGH, value);
}

static void write_reg(struct virtio *v, uint64_t offset, uint32_t value)
{
    struct virtq *q = selected(v);
    switch (offset) {
    case DEVICE_FEATURES_SEL:
        v->device_features_sel = value;
        break;
    case DRIVER_FEATURES:
        write_driver_features(v, value);
        break;
    case DRIVER_FEATURES_SEL:
        v->driver_features_sel = value;
        break;
    case QUEUE_SEL:
        v->queue_sel = value;
        break;
    case QUEUE_NUM:
    case QUEUE_READY:
    case QUEUE_DESC_LOW:
    case QUEUE_DESC_HIGH:
    case QUEUE_DRIVER_LOW:
    case QUEUE_DRIVER_HIGH:
    case QUEUE_DEVICE_LOW:
    case QUEUE_DEVICE_HIGH:
        if (q)
            write_queue(v, q, offset, value);
        break;
    case QUEUE_NOTIFY:
        if (value < v->id->geometry.nqueues)
            queue_notify(v, value);
        break;
    case INTERRUPT_ACK:
        v->interrupt &= ~value;
        irq_set(&v->irq, v->interrupt);
        break;
    case STATUS:
        write_status(v, value & 0xff);
        break;
    case SHM_SEL:
        v->shm_sel = value;
        break;
    default:
        break;
    }
}

static uint32_t read_reg(struct virtio *v, uint64_t offset)
{
    const struct virtq *q = selected(v);
    switch (offset) {
    case DEVICE_FEATURES:
        return v->device_features_sel < 2 ? (uint32_t)(device_features(v) >> 32 * v->device_features_sel) : 0;
    case QUEUE_NUM_MAX:
        return q ? q->num_max : 0;
    case QUEUE_READY:
        return q && q->ready;
    case INTERRUPT_STATUS:
        return v->interrupt;
    case STATUS:
        return v->status;
    case CONFIG_GENERATION:
        return v->config_generation;
    default: /* no shared memory regions: length and base read as all ones */
        return offset >= SHM_LEN_LOW && offset <= SHM_BASE_HIGH ? UINT32_MAX : 0;
    }
}

/* The row that the selector bytes choose, -1 for none. */
static int selected_row(const struct virtio *v)
{
    uint32_t selector = 0;
    memcpy(&selector, v->config, v->id->selector_len);
    for (unsigned i = 0; i < v->id->nrows; i++)
        if (v->id->rows[i].selector == selector)
            return (int)i;
    return -1;
}

static uint8_t config_byte(const struct virtio *v, uint64_t at)
{
    const struct virtio_identity *id = v->id;
    if (id->selector_len && at >= id->selector_len) {
        int row = selected_row(v);
        uint32_t len = row < 0 ? 0 : id->rows[row].len;
        if (at == id->selector_size_at)
            return (uint8_t)len;
        if (at >= id->selector_data)
            return at - id->selector_data < len ? id->rows[row].data[at - id->selector_data] : 0;
    }
    return at < id->config_len ? v->config[at] : 0;
}

static int mmio_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    struct virtio *v = dev;
    *value = 0;
    if (offset >= CONFIG) {
        for (unsigned i = 0; v->id && i < size; i++)
            *value |= (uint64_t)config_byte(v, offset - CONFIG + i) << 8 * i;
        return 0;
    }
    if (size != 4)
        return 0;
    if (offset == MAGIC_VALUE)
        *value = MAGIC;
    else if (offset == VERSION)
        *value = 2;
    else if (offset == DEVICE_ID)
        *value = v->id ? v->id->device_id : 0;
    else if (offset == VENDOR_ID)
        *value = VENDOR;
    else if (v->id)
        *value = read_reg(v, offset);
    return 0;
}

static int mmio_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio *v = dev;
    if (!v->id)
        return 0;
    if (offset >= CONFIG) {
        for (unsigned i = 0; i < size && offset - CONFIG + i < v->id->selector_len; i++)
            v->config[offset - CONFIG + i] = (uint8_t)(value >> 8 * i);
    } else if (size == 4) {
        write_reg(v, offset, (uint32_t)value);
    }
    return 0;
}

const struct bus_ops virtio_bus_ops = {mmio_read, mmio_write};

int virtio_create(struct virtio **ret, struct mmu *mmu, const struct irq_line *irq)
{
    struct virtio *v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    v->mmu = mmu;
    v->irq = *irq;
    *ret = v;
    return 0;
}

static void unplug(struct virtio *v)
{
    for (unsigned i = 0; i < CHANNEL_MAX_QUEUES; i++) {
        free(v->queue[i].inflight);
        free(v->queue[i].pool);
    }
    memset(v->queue, 0, sizeof v->queue);
    free(v->chain);
    free(v->id);
    v->chain = NULL;
    v->id = NULL;
}

void virtio_destroy(struct virtio *v)
{
    if (!v)
        return;
    unplug(v);
    free(v);
}

static bool identity_valid(const struct virtio_identity *id)
{
    const uint32_t window = VIRTIO_MMIO_SIZE - CONFIG;
    if (!id->device_id || channel_check(&id->geometry) < 0 || id->config_len > window ||
        id->selector_len > 4 || id->selector_len > id->config_len || id->selector_data > window ||
        id->nrows > sizeof id->rows / sizeof *id->rows)
        return false;
    for (unsigned i = 0; i < id->nrows; i++)
        if (id->rows[i].len > sizeof id->rows[i].data)
            return false;
    return !id->inbound_merge || id->merge_feature == VIRTIO_MERGE_ALWAYS || id->merge_feature < 64;
}

static unsigned ring_size(unsigned slots)
{
    unsigned n = QUEUE_SIZE_DEFAULT;
    while (n < slots && n < QUEUE_SIZE_MAX)
        n *= 2;
    return n;
}

static int plug_queue(struct virtq *q, const struct channel_queue *g)
{
    q->kind = g->kind;
    q->num_max = ring_size(g->slots);
    if (g->kind != CHANNEL_REQUESTS)
        return 0;
    q->inflight = calloc(g->slots, sizeof *q->inflight);
    q->pool = calloc((size_t)g->slots * CHAIN_MAX, sizeof *q->pool);
    if (!q->inflight || !q->pool)
        return -ENOMEM;
    q->slots = g->slots;
    for (unsigned i = 0; i < g->slots; i++)
        q->inflight[i].segs = q->pool + (size_t)i * CHAIN_MAX;
    return 0;
}

int virtio_plug(struct virtio *v, const struct virtio_identity *id, struct link *l)
{
    if (!identity_valid(id))
        return -EINVAL;
    if (v->id)
        return -EBUSY;
    int err = 0;
    v->id = malloc(sizeof *v->id);
    v->chain = malloc(sizeof *v->chain);
    if (!v->id || !v->chain)
        err = -ENOMEM;
    for (unsigned i = 0; i < id->geometry.nqueues && !err; i++)
        err = plug_queue(&v->queue[i], &id->geometry.queue[i]);
    if (err) {
        unplug(v);
        return err;
    }
    *v->id = *id;
    v->link = l;
    memcpy(v->config, id->config, id->config_len);
    clear_driver_state(v);
    return 0;
}

static void inflight_state(struct inflight *f, struct state_io *io)
{
    state_bool(io, &f->busy);
    if (!f->busy)
        return;
    state_u16(io, &f->head);
    state_u32(io, &f->generation);
    state_u32(io, &f->write_len);
    state_u16(io, &f->nsegs);
    if (f->nsegs > CHAIN_MAX)
        f->nsegs = CHAIN_MAX;
    for (unsigned i = 0; i < f->nsegs; i++) {
        state_u64(io, &f->segs[i].pa);
        state_u32(io, &f->segs[i].len);
    }
}

static void queue_state(struct virtq *q, struct state_io *io)
{
    state_bool(io, &q->ready);
    state_u32(io, &q->num);
    state_u64(io, &q->desc);
    state_u64(io, &q->avail);
    state_u64(io, &q->used);
    state_u32(io, &q->generation);
    state_u16(io, &q->last_avail);
    state_u16(io, &q->used_idx);
    state_u16(io, &q->signalled);
    state_bool(io, &q->signalled_valid);
    for (unsigned i = 0; i < q->slots; i++)
        inflight_state(&q->inflight[i], io);
}

/* Order: device id (0 ends it), status, interrupt, selectors, driver features, configuration generation and
 * bytes, then each queue with its requests in flight by slot. */
void virtio_state(struct virtio *v, struct state_io *io)
{
    uint32_t device_id = v->id ? v->id->device_id : 0;
    state_u32(io, &device_id);
    if (!v->id)
        return;
    uint32_t *const words[] = {&v->status,    &v->interrupt, &v->device_features_sel, &v->driver_features_sel,
                               &v->queue_sel, &v->shm_sel,   &v->config_generation};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        state_u32(io, words[i]);
    state_u64(io, &v->driver_features);
    state_bytes(io, v->config, v->id->config_len);
    for (unsigned i = 0; i < v->id->geometry.nqueues; i++)
        queue_state(&v->queue[i], io);
    if (!io->loading)
        return;
    tell_features(v);
    irq_set(&v->irq, v->interrupt);
}
