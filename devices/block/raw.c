/* A raw image: the disk's bytes are the file's. */
#include "devices/block/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/param.h>
#include <unistd.h>

struct raw {
    struct disk disk;
    int fd;
};

int file_read(int fd, uint64_t off, void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (uint8_t *)data + done, len - done, (off_t)(off + done));
        if (n == 0)
            return -ENODATA;
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int file_write(int fd, uint64_t off, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const uint8_t *)data + done, len - done, (off_t)(off + done));
        if (n == 0)
            return -EIO;
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int raw_read(struct disk *d, uint64_t off, void *data, size_t len)
{
    return file_read(((struct raw *)d)->fd, off, data, len);
}

static bool raw_from_image(const struct disk *d, uint64_t off, size_t len)
{
    return d->image_constant;
}

/* The kernel copies up to the first source page that is not mapped, and a kill takes effect there, inside a
 * sector. With all of them mapped it takes effect between pages of the file, so that a sector is old or new,
 * as on a real disk. */
static void map_pages(const void *data, size_t len)
{
    const volatile uint8_t *p = data;
    for (size_t i = 0; i < len; i += 4096)
        (void)p[i];
    if (len)
        (void)p[len - 1];
}

static int raw_write(struct disk *d, uint64_t off, const void *data, size_t len)
{
    map_pages(data, len);
    return file_write(((struct raw *)d)->fd, off, data, len);
}

static int write_zeros(int fd, uint64_t off, uint64_t len)
{
    static const uint8_t zeros[65536];
    int err = 0;
    for (uint64_t done = 0; done < len && !err; done += sizeof(zeros))
        err = file_write(fd, off + done, zeros, MIN(len - done, sizeof(zeros)));
    return err;
}

/* Where the file system or the device cannot do it by itself, zeros are written: what the guest reads back
 * must not depend on the host. */
static int raw_zero(struct disk *d, uint64_t off, uint64_t len, bool unmap)
{
    int fd = ((struct raw *)d)->fd;
    int mode = FALLOC_FL_KEEP_SIZE | (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
    int n;
    do
        n = fallocate(fd, mode, (off_t)off, (off_t)len);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == ENODEV)
        return write_zeros(fd, off, len);
    return -errno;
}

static int raw_flush(struct disk *d)
{
    return fdatasync(((struct raw *)d)->fd) < 0 ? -errno : 0;
}

static void raw_close(struct disk *d)
{
    close(((struct raw *)d)->fd);
    free(d);
}

static const struct disk_ops raw_ops = {
    .read = raw_read,
    .from_image = raw_from_image,
    .write = raw_write,
    .zero = raw_zero,
    .flush = raw_flush,
    .close = raw_close,
};

int raw_open(int fd, uint64_t size, bool readonly, struct disk **disk)
{
    struct raw *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    *r = (struct raw){.disk = {.ops = &raw_ops, .size = size, .unit = SECTOR, .image_constant = readonly},
                      .fd = fd};
    *disk = &r->disk;
    return 0;
}
