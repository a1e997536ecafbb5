/* The file of an overlay (docs/OVERLAY.md): appends data and journal entries, and reads them back. Knows no
 * map and no request. Private to the overlay. */
#pragma once

#include "devices/block/disk.h"

#include <pthread.h>
#include <sys/uio.h>

#define CLUSTER 4096u

struct log {
    int fd;
    pthread_mutex_t lock; /* of all below; data is written outside it */
    uint64_t entries;     /* journal entries so far */
    uint64_t chain;       /* check of the newest one */
    uint64_t next_unit;   /* where the next data goes, in clusters of the file */
    uint64_t covered;     /* entries that the newest COMMIT covers */
};

/* A position in memory that is written piece by piece. */
struct log_cursor {
    const struct iovec *iov;
    int niov;
    size_t done; /* of iov[0] */
};

size_t log_cursor_left(const struct log_cursor *c);

/* Called for each mapping, oldest first; unit 0 stands for zeros. */
typedef int log_replay(void *arg, uint64_t first, uint32_t count, uint32_t unit);

/* Opens the log, or begins one in an empty file; errors of overlay_open(). The descriptor is not taken. */
int log_open(struct log *l, int fd, int base, uint64_t size, log_replay *replay, void *arg, uint64_t *cut);
void log_close(struct log *l);

/* Appends as many of the cursor's clusters as fit in one place, as the contents of the disk's clusters from
 * `first`. The data lies in `count` clusters of the file from `unit`. On failure the cursor is undefined. */
int log_append_data(struct log *l, uint32_t first, struct log_cursor *c, uint32_t *unit, uint32_t *count);
int log_append_zeros(struct log *l, uint32_t first, uint32_t count);
int log_flush(struct log *l);
