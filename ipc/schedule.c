/* Schedules in memfds: a record is ns, queue and length, little-endian, then the bytes, padded to a multiple
 * of 8. See schedule.h. */
#include "ipc/schedule.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

struct record {
    uint64_t ns;
    uint32_t queue, len;
};

static size_t padded(uint32_t len)
{
    return ((size_t)len + 7) & ~(size_t)7;
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

int schedule_create(const struct schedule_entry *list, size_t n)
{
    size_t size = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        size += sizeof(struct record) + padded(list[i].len);
        if (size > SCHEDULE_MAX_BYTES)
            return -E2BIG;
    }
    uint8_t *bytes = calloc(1, size + 1);
    if (!bytes)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct record r = {htole64(list[i].ns), htole32(list[i].queue), htole32(list[i].len)};
        memcpy(bytes + at, &r, sizeof(r));
        memcpy(bytes + at + sizeof(r), list[i].data, list[i].len);
        at += sizeof(r) + padded(list[i].len);
    }
    int fd = memfd_create("schedule", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int err = fd < 0 ? -errno : write_all(fd, bytes, size);
    free(bytes);
    if (!err && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        err = -errno;
    if (err && fd >= 0)
        close(fd);
    return err ? err : fd;
}

static int read_bytes(int fd, uint8_t **bytes, size_t *size)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || st.st_size > SCHEDULE_MAX_BYTES)
        return -EPROTO;
    *size = (size_t)st.st_size;
    *bytes = malloc(*size + 1);
    if (!*bytes)
        return -ENOMEM;
    if (pread(fd, *bytes, *size, 0) != st.st_size) {
        free(*bytes);
        return -EPROTO;
    }
    return 0;
}

/* The record at `at`: its size with padding, or 0 if it does not lie inside. */
static size_t parse(const uint8_t *bytes, size_t size, size_t at, struct schedule_entry *e)
{
    struct record r;
    if (size - at < sizeof(r))
        return 0;
    memcpy(&r, bytes + at, sizeof(r));
    *e = (struct schedule_entry){le64toh(r.ns), le32toh(r.queue), le32toh(r.len), bytes + at + sizeof(r)};
    return padded(e->len) <= size - at - sizeof(r) ? sizeof(r) + padded(e->len) : 0;
}

int schedule_read(int fd, struct schedule *s)
{
    uint8_t *bytes;
    size_t size, n = 0;
    int err = read_bytes(fd, &bytes, &size);
    if (err)
        return err;
    struct schedule_entry *list = malloc((size / sizeof(struct record) + 1) * sizeof(*list));
    if (!list)
        err = -ENOMEM;
    for (size_t at = 0, len; !err && at < size; at += len, n++) {
        len = parse(bytes, size, at, &list[n]);
        if (!len || (n && list[n].ns < list[n - 1].ns))
            err = -EPROTO;
    }
    if (err) {
        free(list);
        free(bytes);
        return err;
    }
    *s = (struct schedule){list, n, bytes};
    return 0;
}

void schedule_free(struct schedule *s)
{
    free(s->list);
    free(s->bytes);
    *s = (struct schedule){0};
}
