/* Messages due at virtual times (scripted input), handed over whole: a sealed memfd of records that comes
 * along with Describe and Attach. Knows no queue and no device type. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SCHEDULE_MAX_BYTES (64u << 20) /* of the memfd */

struct schedule_entry {
    uint64_t ns; /* virtual time */
    uint32_t queue;
    uint32_t len;
    const uint8_t *data;
};

/* Entries read back, ascending in ns; `data` points into memory of the list's own. */
struct schedule {
    struct schedule_entry *list;
    size_t n;
    uint8_t *bytes;
};

/* Puts `n` entries, ascending in ns, into a new memfd, sealed against every change. The descriptor, or
 * negative errno: -E2BIG above SCHEDULE_MAX_BYTES. */
int schedule_create(const struct schedule_entry *list, size_t n);

/* Copies the entries out. -EPROTO if the file is not sealed, longer than allowed, cut off, or goes back in
 * time. The descriptor stays the caller's. */
int schedule_read(int fd, struct schedule *s);
void schedule_free(struct schedule *s);
