/* cleave-block: virtio-blk (Virtual I/O Device 1.2, section 5.2), one queue. Requests are served by worker
 * threads; the event loop's thread parses and completes them. Must not know how the disk is kept. */
#include "devices/block/disk.h"
#include "devices/block/order.h"
#include "devices/common/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SLOTS = 128,
    IN_FLIGHT = 2 * SLOTS,
    HEADER = sizeof(struct virtio_blk_outhdr),
    SEG_MAX = SLOTS - 2,
    SIZE_MAX_BYTES = 512 << 10,
    MAX_DATA =
        64 << 20, /* more than SEG_MAX * SIZE_MAX_BYTES; drivers that ignore both use one long segment */
    ZERO_SEGMENTS = 16,
    ZERO_SECTORS = (64 << 20) / SECTOR,
    PHYSICAL_EXP = 3,
    WORKERS = 4, /* libuv's default */
};

struct range {
    uint64_t off;
    uint32_t len;
    bool unmap;
};

/* A request that a worker serves. Everything about it was copied out of the arena before it was checked. */
struct op {
    struct access access; /* first: order.c hands it back */
    uv_work_t work;
    struct device *device;
    struct request *request;
    uint32_t type;
    bool ordered, write_through;
    bool from_image; /* the data read is the image's */
    int err;
    unsigned nranges;
    struct range range[ZERO_SEGMENTS]; /* the one of a transfer, those of a write of zeros */
    struct op *next;                   /* free list */
};

struct block {
    struct disk *disk;
    bool readonly;
    bool flush_failed; /* what was lost then cannot be made durable by a later flush */
    char serial[VIRTIO_BLK_ID_BYTES];
    struct order order;
    struct op ops[IN_FLIGHT], *free_ops;
};

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

/* The status is the last byte that the driver lets us write. What a failed or odd request leaves before it is
 * zeros, never an old answer's bytes. */
static void finish(struct device *d, struct request *r, uint8_t status, bool keep_data)
{
    if (r->out_cap == 0) {
        device_complete(d, r, 0);
        return;
    }
    if (!keep_data)
        memset(r->out, 0, r->out_cap - 1);
    r->out[r->out_cap - 1] = status;
    device_complete(d, r, r->out_cap);
}

static void finish_from_image(struct device *d, const struct op *o)
{
    struct request *r = o->request;
    r->out[r->out_cap - 1] = VIRTIO_BLK_S_OK;
    device_complete_file(d, r, r->out_cap, o->range[0].off, o->range[0].len);
}

static int zero_ranges(struct disk *disk, const struct op *o)
{
    int err = 0;
    for (unsigned i = 0; i < o->nranges && !err; i++)
        if (o->range[i].len)
            err = disk->ops->zero(disk, o->range[i].off, o->range[i].len, o->range[i].unmap);
    return err;
}

/* On a worker's thread. */
static void serve(uv_work_t *work)
{
    struct op *o = work->data;
    struct disk *disk = ((struct block *)device_data(o->device))->disk;
    struct request *r = o->request;
    switch (o->type) {
    case VIRTIO_BLK_T_IN:
        o->err = disk->ops->read(disk, o->range[0].off, r->out, o->range[0].len);
        o->from_image = !o->err && disk->ops->from_image(disk, o->range[0].off, o->range[0].len);
        break;
    case VIRTIO_BLK_T_OUT:
        o->err = disk->ops->write(disk, o->range[0].off, r->in + HEADER, o->range[0].len);
        break;
    case VIRTIO_BLK_T_FLUSH:
        o->err = disk->ops->flush(disk);
        break;
    default:
        o->err = zero_ranges(disk, o);
    }
    if (!o->err && o->write_through)
        o->err = disk->ops->flush(disk);
}

static const char *verb(uint32_t type)
{
    switch (type) {
    case VIRTIO_BLK_T_IN:
        return "read";
    case VIRTIO_BLK_T_OUT:
        return "write";
    case VIRTIO_BLK_T_FLUSH:
        return "flush";
    case VIRTIO_BLK_T_DISCARD:
        return "discard";
    default:
        return "write of zeros";
    }
}

static void after_serve(uv_work_t *work, int status);

static void start(struct access *a, void *arg)
{
    struct op *o = (struct op *)a;
    o->work.data = o;
    uv_queue_work(device_loop(o->device), &o->work, serve, after_serve);
}

static void after_serve(uv_work_t *work, int status)
{
    struct op *o = work->data;
    struct device *d = o->device;
    struct block *b = device_data(d);
    if (o->err) {
        device_log(d, "disk '%s': %s failed: %s", device_id(d), verb(o->type), strerror(-o->err));
        if (o->type == VIRTIO_BLK_T_FLUSH || o->write_through)
            b->flush_failed = true;
    }
    if (o->from_image)
        finish_from_image(d, o);
    else
        finish(d, o->request, o->err ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK,
               o->type == VIRTIO_BLK_T_IN && !o->err);
    if (o->ordered)
        order_done(&b->order, &o->access, start, NULL);
    o->next = b->free_ops;
    b->free_ops = o;
}

/* The accesses are widened to the disk's units, within which it rewrites what it does not change. */
static void set_access(struct op *o, uint64_t unit)
{
    uint64_t start_at = UINT64_MAX, end = 0;
    for (unsigned i = 0; i < o->nranges; i++) {
        const struct range *r = &o->range[i];
        start_at = r->off < start_at ? r->off : start_at;
        end = r->off + r->len > end ? r->off + r->len : end;
    }
    o->ordered = start_at < end;
    o->access = (struct access){
        .start = start_at / unit * unit,
        .end = (end + unit - 1) / unit * unit,
        .write = o->type != VIRTIO_BLK_T_IN,
    };
}

static void queue(struct device *d, struct request *r, const struct op *what)
{
    struct block *b = device_data(d);
    struct op *o = b->free_ops;
    if (!o)
        device_fail(d, EPROTO, "disk '%s': more requests in flight than agreed", device_id(d));
    b->free_ops = o->next;
    *o = *what;
    o->device = d;
    o->request = r;
    o->write_through = o->type != VIRTIO_BLK_T_IN && !(r->features & 1ull << VIRTIO_BLK_F_FLUSH);
    set_access(o, b->disk->unit);
    if (!o->ordered || order_add(&b->order, &o->access))
        start(&o->access, NULL);
}

static bool inside(const struct block *b, uint64_t sector, uint64_t len)
{
    uint64_t sectors = b->disk->size / SECTOR;
    return len % SECTOR == 0 && sector <= sectors && len / SECTOR <= sectors - sector;
}

/* A driver that did not accept FLUSH takes a write for durable when it completes, which none is any more
 * after a failed flush. */
static bool may_write(const struct block *b, const struct request *r)
{
    return !b->readonly && !(b->flush_failed && !(r->features & 1ull << VIRTIO_BLK_F_FLUSH));
}

static void transfer(struct device *d, struct request *r, uint32_t type)
{
    const struct block *b = device_data(d);
    uint64_t sector = load64(r->in + 8);
    uint32_t len = type == VIRTIO_BLK_T_IN ? r->out_cap - 1 : r->in_len - HEADER;
    if (!inside(b, sector, len) || (type == VIRTIO_BLK_T_OUT && !may_write(b, r))) {
        finish(d, r, VIRTIO_BLK_S_IOERR, false);
    } else if (len == 0) {
        finish(d, r, VIRTIO_BLK_S_OK, false);
    } else {
        struct op o = {.type = type, .nranges = 1, .range[0] = {.off = sector * SECTOR, .len = len}};
        queue(d, r, &o);
    }
}

/* Reads the segments of a write of zeros: the status of a malformed request, VIRTIO_BLK_S_OK for a good one.
 */
static uint8_t take_segments(const struct block *b, const struct request *r, struct op *o)
{
    const uint32_t size = sizeof(struct virtio_blk_discard_write_zeroes);
    uint32_t bytes = r->in_len - HEADER;
    if (bytes == 0 || bytes % size || bytes / size > ZERO_SEGMENTS)
        return VIRTIO_BLK_S_IOERR;
    for (const uint8_t *p = r->in + HEADER; p < r->in + r->in_len; p += size) {
        uint64_t sector = load64(p);
        uint32_t sectors = load32(p + 8), flags = load32(p + 12);
        uint32_t known = o->type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
        if (flags & ~known)
            return VIRTIO_BLK_S_UNSUPP;
        if (sectors > ZERO_SECTORS || !inside(b, sector, (uint64_t)sectors * SECTOR))
            return VIRTIO_BLK_S_IOERR;
        o->range[o->nranges++] = (struct range){
            .off = sector * SECTOR,
            .len = sectors * SECTOR,
            .unmap = o->type == VIRTIO_BLK_T_DISCARD || flags,
        };
    }
    return VIRTIO_BLK_S_OK;
}

static void zero(struct device *d, struct request *r, uint32_t type)
{
    const struct block *b = device_data(d);
    struct op o = {.type = type};
    uint8_t status = may_write(b, r) ? take_segments(b, r, &o) : VIRTIO_BLK_S_IOERR;
    if (status == VIRTIO_BLK_S_OK)
        queue(d, r, &o);
    else
        finish(d, r, status, false);
}

static void flush(struct device *d, struct request *r)
{
    const struct block *b = device_data(d);
    if (b->flush_failed)
        finish(d, r, VIRTIO_BLK_S_IOERR, false);
    else if (b->readonly)
        finish(d, r, VIRTIO_BLK_S_OK, false);
    else
        queue(d, r, &(struct op){.type = VIRTIO_BLK_T_FLUSH});
}

static void get_id(struct device *d, struct request *r)
{
    const struct block *b = device_data(d);
    if (r->out_cap < sizeof(b->serial) + 1) {
        finish(d, r, VIRTIO_BLK_S_IOERR, false);
        return;
    }
    memset(r->out, 0, r->out_cap - 1);
    memcpy(r->out, b->serial, sizeof(b->serial));
    finish(d, r, VIRTIO_BLK_S_OK, true);
}

static void request(struct device *d, struct request *r)
{
    if (r->in_len < HEADER || r->out_cap == 0) {
        finish(d, r, VIRTIO_BLK_S_IOERR, false);
        return;
    }
    uint32_t type = load32(r->in);
    switch (type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        transfer(d, r, type);
        break;
    case VIRTIO_BLK_T_FLUSH:
        flush(d, r);
        break;
    case VIRTIO_BLK_T_GET_ID:
        get_id(d, r);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        zero(d, r, type);
        break;
    default:
        finish(d, r, VIRTIO_BLK_S_UNSUPP, false);
    }
}

static const char *path(const struct device *d)
{
    const char *p = device_option(d, "path");
    return p ? p : "image";
}

/* Size of the image in bytes, or negative errno after device_error(). */
static int64_t image_size(struct device *d, int fd)
{
    struct stat st;
    uint64_t size = 0;
    if (fstat(fd, &st) < 0)
        return device_error(d, errno, "disk '%s': %s: %s", device_id(d), path(d), strerror(errno));
    if (S_ISREG(st.st_mode))
        size = (uint64_t)st.st_size;
    else if (!S_ISBLK(st.st_mode))
        return device_error(d, EINVAL, "disk '%s': %s: neither a file nor a block device", device_id(d),
                            path(d));
    else if (ioctl(fd, BLKGETSIZE64, &size) < 0)
        return device_error(d, errno, "disk '%s': %s: %s", device_id(d), path(d), strerror(errno));
    if (size == 0)
        return device_error(d, EINVAL, "disk '%s': %s: the image is empty", device_id(d), path(d));
    if (size % SECTOR)
        return device_error(d, EINVAL, "disk '%s': %s: the size, %llu bytes, is not a multiple of %d",
                            device_id(d), path(d), (unsigned long long)size, SECTOR);
    return (int64_t)size;
}

static int open_overlay(struct device *d, int image, int overlay, uint64_t size)
{
    struct block *b = device_data(d);
    uint64_t cut = 0;
    int err = overlay_open(overlay, image, size, &b->disk, &cut);
    const char *why = err == -EMEDIUMTYPE       ? "not an overlay file"
                      : err == -EPROTONOSUPPORT ? "an overlay of another version"
                      : err == -ESTALE          ? "made over another image, or the image has changed"
                                                : strerror(-err);
    if (err)
        return device_error(d, -err, "disk '%s': overlay: %s", device_id(d), why);
    if (cut)
        device_log(d, "disk '%s': overlay: %llu unfinished entries at the end left out", device_id(d),
                   (unsigned long long)cut);
    return 0;
}

static int open_disk(struct device *d)
{
    struct block *b = device_data(d);
    int image = device_take_fd(d, "image"), overlay = device_take_fd(d, "overlay");
    if (image < 0)
        return device_error(d, EINVAL, "disk '%s': no image", device_id(d));
    int64_t size = image_size(d, image);
    if (size < 0)
        return (int)size;
    int mode = fcntl(overlay >= 0 ? overlay : image, F_GETFL);
    bool needs_write = overlay >= 0 || !b->readonly;
    if (mode < 0 || (needs_write && (mode & O_ACCMODE) != O_RDWR))
        return device_error(d, EACCES, "disk '%s': %s: not open for writing", device_id(d), path(d));
    if (overlay >= 0)
        return open_overlay(d, image, overlay, (uint64_t)size);
    int err = raw_open(image, (uint64_t)size, b->readonly, &b->disk);
    return err ? device_error(d, -err, "disk '%s': %s", device_id(d), strerror(-err)) : 0;
}

static void *worker_probe(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
    return NULL;
}

/* libuv ends the process when it cannot start its workers: find out before, while it can be said. */
static int probe_workers(struct device *d)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread[WORKERS];
    unsigned n = 0;
    int err = 0;
    pthread_mutex_lock(&lock);
    while (n < WORKERS && !err) {
        err = pthread_create(&thread[n], NULL, worker_probe, &lock);
        n += !err;
    }
    pthread_mutex_unlock(&lock);
    while (n > 0)
        pthread_join(thread[--n], NULL);
    return err ? device_error(d, err, "disk '%s': cannot start threads: %s", device_id(d), strerror(err)) : 0;
}

/* A good solid-state disk. Requests begin with their type, little-endian. */
static const struct latency_model latency = {
    .nrules = 4,
    .rule = {{{VIRTIO_BLK_T_IN}, 4, .base_ns = 80000, .bandwidth = 1 << 30, .jitter_ns = 20000},
             {{VIRTIO_BLK_T_OUT}, 4, .base_ns = 40000, .bandwidth = 512 << 20, .jitter_ns = 10000},
             {{VIRTIO_BLK_T_FLUSH}, 4, .base_ns = 400000, .jitter_ns = 100000},
             {.base_ns = 50000}},
};

static void describe(const struct block *b, struct device_description *desc)
{
    struct virtio_blk_config config = {
        .capacity = htole64(b->disk->size / SECTOR),
        .size_max = htole32(SIZE_MAX_BYTES),
        .seg_max = htole32(SEG_MAX),
        .blk_size = htole32(SECTOR),
        .physical_block_exp = PHYSICAL_EXP,
        .min_io_size = htole16(1 << PHYSICAL_EXP),
        .num_queues = htole16(1),
        .max_discard_sectors = htole32(ZERO_SECTORS),
        .max_discard_seg = htole32(ZERO_SEGMENTS),
        .discard_sector_alignment = htole32(1 << PHYSICAL_EXP),
        .max_write_zeroes_sectors = htole32(ZERO_SECTORS),
        .max_write_zeroes_seg = htole32(ZERO_SEGMENTS),
        .write_zeroes_may_unmap = 1,
    };
    desc->virtio_id = VIRTIO_ID_BLOCK;
    desc->features = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
                     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH |
                     1ull << VIRTIO_BLK_F_TOPOLOGY;
    desc->features |= b->readonly ? 1ull << VIRTIO_BLK_F_RO
                                  : 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
    desc->config_len = offsetof(struct virtio_blk_config, max_secure_erase_sectors);
    memcpy(desc->config, &config, desc->config_len);
    desc->geometry = (struct channel_geometry){
        .nqueues = 1,
        .queue[0] = {.kind = CHANNEL_REQUESTS,
                     .slots = SLOTS,
                     .max_request = HEADER + MAX_DATA,
                     .max_response = MAX_DATA + 1,
                     .request_bytes = MAX_DATA + 4096,
                     .response_bytes = MAX_DATA + 4096},
    };
    desc->closed = true;
    desc->file = b->disk->image_constant;
    desc->latency = latency;
}

static int configure(struct device *d, struct device_description *desc)
{
    struct block *b = device_data(d);
    b->readonly = device_option(d, "readonly") != NULL;
    const char *serial = device_option(d, "serial");
    serial = serial ? serial : device_id(d);
    memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        b->ops[i].next = b->free_ops;
        b->free_ops = &b->ops[i];
    }
    int err = open_disk(d);
    if (!err)
        err = probe_workers(d);
    if (err)
        return err;
    describe(b, desc);
    desc->backend = b->disk->unit > SECTOR ? "overlay" : "raw";
    desc->sandbox = SANDBOX_THREADS | SANDBOX_FILES;
    return 0;
}

static void stop(struct device *d)
{
    struct block *b = device_data(d);
    b->disk->ops->close(b->disk);
}

static const struct device_ops block_ops = {
    .kind = "block",
    .size = sizeof(struct block),
    .configure = configure,
    .request = request,
    .stop = stop,
};

int main(int argc, char **argv)
{
    return device_main(argc, argv, &block_ops);
}
