/* What a virtio-blk disk is kept in: operations on a range of bytes, called from worker threads. The caller
 * keeps apart ranges that overlap in units of `unit` bytes, unless all of them are read. Knows neither
 * requests nor the event loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512

struct disk;

/* All return 0 or negative errno. Offsets and lengths are multiples of SECTOR inside the disk. When a write
 * has returned, the kernel has its data and all that is needed to find it again. */
struct disk_ops {
    int (*read)(struct disk *d, uint64_t off, void *data, size_t len);
    /* True if the range reads as that of the image, and will do so as long as the image does not change. */
    bool (*from_image)(const struct disk *d, uint64_t off, size_t len);
    int (*write)(struct disk *d, uint64_t off, const void *data, size_t len);
    int (*zero)(struct disk *d, uint64_t off, uint64_t len, bool unmap); /* reads as zeros afterwards */
    int (*flush)(struct disk *d); /* what was written before the call is on stable storage */
    void (*close)(struct disk *d);
};

struct disk {
    const struct disk_ops *ops;
    uint64_t size;
    uint32_t unit;
    bool image_constant; /* nothing of this process writes it: from_image() may be asked */
};

/* A raw image or block device of `size` bytes. Takes the descriptor. -ENOMEM. */
int raw_open(int fd, uint64_t size, bool readonly, struct disk **disk);

/* A copy-on-write overlay in `fd` over the image in `base`, which is only read; docs/OVERLAY.md has the
 * format. An empty file becomes a new overlay. Takes both descriptors on success. *cut receives the number of
 * journal entries that a torn tail lost. -EMEDIUMTYPE not an overlay, -EPROTONOSUPPORT another version of it,
 * -ESTALE made over another image, -EFBIG too large a disk, other negative errno. */
int overlay_open(int fd, int base, uint64_t size, struct disk **disk, uint64_t *cut);

/* Transfers all of it. -ENODATA when the file ends early. */
int file_read(int fd, uint64_t off, void *data, size_t len);
int file_write(int fd, uint64_t off, const void *data, size_t len);
