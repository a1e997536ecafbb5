/* The copy-on-write overlay: an append-only file of data and a checksummed map journal over an image that is
 * only read (docs/OVERLAY.md). This file maps reads and writes of the guest to clusters; overlay_log.c keeps
 * the file. */
#include "devices/block/overlay_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

/* What the map says of a cluster: its unit in the overlay file, or one of these. */
#define IN_BASE 0u
#define ZEROS   UINT32_MAX

struct overlay {
    struct disk disk;
    int base;
    uint32_t
        *map; /* per cluster; touched pages only. A cluster's entry changes under the caller's ordering */
    uint64_t clusters;
    struct log log;
};

static uint64_t map_bytes(const struct overlay *o)
{
    return o->clusters * sizeof(*o->map);
}

/* Clusters from `first`, at most `max`, that lie behind one another in the same place. */
static uint32_t run_length(const struct overlay *o, uint64_t first, uint32_t max)
{
    uint32_t kind = o->map[first], n = 1;
    bool moves = kind != IN_BASE && kind != ZEROS;
    while (n < max && o->map[first + n] == kind + (moves ? n : 0))
        n++;
    return n;
}

static int read_run(struct overlay *o, uint64_t off, uint8_t *data, size_t len)
{
    uint32_t at = o->map[off / CLUSTER];
    if (at == ZEROS) {
        memset(data, 0, len);
        return 0;
    }
    if (at == IN_BASE)
        return file_read(o->base, off, data, len);
    return file_read(o->log.fd, (uint64_t)at * CLUSTER + off % CLUSTER, data, len);
}

static int overlay_read(struct disk *d, uint64_t off, void *data, size_t len)
{
    struct overlay *o = (struct overlay *)d;
    for (size_t done = 0; done < len;) {
        uint64_t at = off + done, first = at / CLUSTER, last = (off + len - 1) / CLUSTER;
        uint64_t run = (uint64_t)run_length(o, first, (uint32_t)(last - first + 1)) * CLUSTER - at % CLUSTER;
        size_t n = MIN(run, len - done);
        int err = read_run(o, at, (uint8_t *)data + done, n);
        if (err)
            return err;
        done += n;
    }
    return 0;
}

static bool overlay_from_image(const struct disk *d, uint64_t off, size_t len)
{
    const struct overlay *o = (const struct overlay *)d;
    uint64_t first = off / CLUSTER, last = (off + len - 1) / CLUSTER;
    return o->map[first] == IN_BASE && run_length(o, first, (uint32_t)(last - first + 1)) == last - first + 1;
}

/* The present contents of a cluster. What lies behind the end of the disk is zeros. */
static int read_cluster(struct overlay *o, uint64_t cluster, uint8_t bytes[CLUSTER])
{
    uint64_t off = cluster * CLUSTER, len = MIN(CLUSTER, o->disk.size - off);
    memset(bytes + len, 0, CLUSTER - len);
    return overlay_read(&o->disk, off, bytes, len);
}

static void map_clusters(struct overlay *o, uint64_t first, uint32_t count, uint32_t unit)
{
    for (uint32_t i = 0; i < count; i++)
        o->map[first + i] = unit == ZEROS ? ZEROS : unit + i;
}

/* Writes whole clusters, from up to three pieces of memory, as many at a time as the log has room for in one
 * place. */
static int write_clusters(struct overlay *o, uint64_t first, const struct iovec *iov, int niov)
{
    struct log_cursor at = {.iov = iov, .niov = niov};
    while (log_cursor_left(&at)) {
        uint32_t unit, count;
        int err = log_append_data(&o->log, (uint32_t)first, &at, &unit, &count);
        if (err)
            return err;
        map_clusters(o, first, count, unit);
        first += count;
    }
    return 0;
}

/* `data` NULL stands for zeros; then at most one cluster is written. */
static void merge(uint8_t *cluster, uint64_t at, const uint8_t *data, size_t len)
{
    if (data)
        memcpy(cluster + at, data, len);
    else
        memset(cluster + at, 0, len);
}

/* A write inside one cluster. */
static int write_part(struct overlay *o, uint64_t off, const uint8_t *data, size_t len)
{
    uint8_t cluster[CLUSTER];
    int err = read_cluster(o, off / CLUSTER, cluster);
    if (err)
        return err;
    merge(cluster, off % CLUSTER, data, len);
    return write_clusters(o, off / CLUSTER, &(struct iovec){cluster, CLUSTER}, 1);
}

static int overlay_write(struct disk *d, uint64_t off, const void *data, size_t len)
{
    struct overlay *o = (struct overlay *)d;
    uint64_t end = off + len, first = off / CLUSTER, last = (end - 1) / CLUSTER;
    if (first == last && len < CLUSTER)
        return write_part(o, off, data, len);

    uint8_t head[CLUSTER], tail[CLUSTER];
    struct iovec iov[3];
    int n = 0, err = 0;
    size_t head_len = -off % CLUSTER, tail_len = end % CLUSTER;
    if (head_len) {
        err = read_cluster(o, first, head);
        memcpy(head + CLUSTER - head_len, data, head_len);
        iov[n++] = (struct iovec){head, CLUSTER};
    }
    if (len > head_len + tail_len)
        iov[n++] = (struct iovec){(uint8_t *)data + head_len, len - head_len - tail_len};
    if (tail_len && !err) {
        err = read_cluster(o, last, tail);
        memcpy(tail, (const uint8_t *)data + len - tail_len, tail_len);
        iov[n++] = (struct iovec){tail, CLUSTER};
    }
    return err ? err : write_clusters(o, first, iov, n);
}

/* Whole clusters become an entry of the journal without data; a last cluster that the disk ends in counts as
 * whole. */
static int overlay_zero(struct disk *d, uint64_t off, uint64_t len, bool unmap)
{
    struct overlay *o = (struct overlay *)d;
    uint64_t end = off + len, first = (off + CLUSTER - 1) / CLUSTER;
    uint64_t last = end == d->size ? o->clusters : end / CLUSTER;
    if (first > last || (first == last && off / CLUSTER == (end - 1) / CLUSTER))
        return write_part(o, off, NULL, len);

    int err = 0;
    if (off % CLUSTER)
        err = write_part(o, off, NULL, first * CLUSTER - off);
    if (!err && last > first)
        err = log_append_zeros(&o->log, (uint32_t)first, (uint32_t)(last - first));
    if (!err)
        map_clusters(o, first, (uint32_t)(last - first), ZEROS);
    if (!err && last * CLUSTER < end)
        err = write_part(o, last * CLUSTER, NULL, end - last * CLUSTER);
    return err;
}

static int overlay_flush(struct disk *d)
{
    return log_flush(&((struct overlay *)d)->log);
}

static void overlay_close(struct disk *d)
{
    struct overlay *o = (struct overlay *)d;
    log_close(&o->log);
    close(o->log.fd);
    close(o->base);
    munmap(o->map, map_bytes(o));
    free(o);
}

static const struct disk_ops overlay_ops = {
    .read = overlay_read,
    .from_image = overlay_from_image,
    .write = overlay_write,
    .zero = overlay_zero,
    .flush = overlay_flush,
    .close = overlay_close,
};

static int replay(void *arg, uint64_t first, uint32_t count, uint32_t unit)
{
    struct overlay *o = arg;
    if (first + count > o->clusters)
        return -EMEDIUMTYPE;
    map_clusters(o, first, count, unit ? unit : ZEROS);
    return 0;
}

int overlay_open(int fd, int base, uint64_t size, struct disk **disk, uint64_t *cut)
{
    uint64_t clusters = (size + CLUSTER - 1) / CLUSTER;
    if (clusters >= UINT32_MAX)
        return -EFBIG;
    struct overlay *o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    o->disk = (struct disk){.ops = &overlay_ops, .size = size, .unit = CLUSTER, .image_constant = true};
    o->base = base;
    o->clusters = clusters;
    o->map =
        mmap(NULL, map_bytes(o), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int err = o->map == MAP_FAILED ? -ENOMEM : log_open(&o->log, fd, base, size, replay, o, cut);
    if (err) {
        if (o->map != MAP_FAILED)
            munmap(o->map, map_bytes(o));
        free(o);
        return err;
    }
    *disk = &o->disk;
    return 0;
}
