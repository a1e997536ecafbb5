/* The overlay's file. Data goes first and its journal entry after it, so that an entry that exists has its
 * data. Must not know what the clusters hold. */
#include "devices/block/overlay_log.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MAGIC   "CLEAVEOV"
#define VERSION 1u

/* Units of the file are clusters. Unit 0 is the header; then segments, each of a journal area and a data
 * area. */
#define SEGMENT         2048u
#define JOURNAL         16u
#define ENTRIES         (JOURNAL * CLUSTER / sizeof(struct entry)) /* of a journal area */
#define IDENTITY_LENGTH (1u << 20)

enum entry_kind { ENTRY_DATA = 1, ENTRY_ZEROS = 2, ENTRY_COMMIT = 3 };

/* All fields little-endian. */
struct header {
    char magic[8];
    uint32_t version, cluster;
    uint64_t size;     /* of the disk */
    uint64_t identity; /* of the base image */
    uint64_t id;       /* of this overlay: begins the chain of checks */
    uint64_t check;    /* XXH3-64 of what lies before */
};

struct entry {
    uint32_t first, count; /* clusters of the disk; a COMMIT has its number of covered entries here */
    uint32_t unit, kind;
    uint64_t digest; /* DATA: XXH3-64 of the clusters */
    uint64_t check;  /* XXH3-64 of what lies before, seeded with the previous entry's check */
};

_Static_assert(sizeof(struct header) == 48 && sizeof(struct entry) == 32, "layout on disk");

static uint64_t entry_check(const struct entry *e, uint64_t chain)
{
    return XXH3_64bits_withSeed(e, offsetof(struct entry, check), chain);
}

static uint64_t entry_offset(uint64_t index)
{
    return (1 + index / ENTRIES * SEGMENT) * CLUSTER + index % ENTRIES * sizeof(struct entry);
}

/* Steps over a journal area. */
static uint64_t data_unit(uint64_t unit)
{
    uint64_t in_segment = (unit - 1) % SEGMENT;
    return in_segment < JOURNAL ? unit - in_segment + JOURNAL : unit;
}

static uint64_t segment_end(uint64_t unit)
{
    return 1 + ((unit - 1) / SEGMENT + 1) * SEGMENT;
}

size_t log_cursor_left(const struct log_cursor *c)
{
    size_t left = 0;
    for (int i = 0; i < c->niov; i++)
        left += c->iov[i].iov_len;
    return left - c->done;
}

/* Digests and writes `len` bytes from the cursor, which is moved on. */
static int write_from(struct log *l, uint64_t off, struct log_cursor *c, size_t len, uint64_t *digest)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    while (len) {
        const uint8_t *p = (const uint8_t *)c->iov->iov_base + c->done;
        size_t n = MIN(len, c->iov->iov_len - c->done);
        int err = file_write(l->fd, off, p, n);
        if (err)
            return err;
        XXH3_64bits_update(&state, p, n);
        off += n;
        len -= n;
        c->done += n;
        if (c->done == c->iov->iov_len) {
            c->iov++;
            c->niov--;
            c->done = 0;
        }
    }
    *digest = XXH3_64bits_digest(&state);
    return 0;
}

/* With the lock held. The slot of an entry that could not be written is used again. */
static int append_entry(struct log *l, struct entry *e)
{
    e->check = htole64(entry_check(e, l->chain));
    int err = file_write(l->fd, entry_offset(l->entries), e, sizeof(*e));
    if (err)
        return err;
    l->chain = le64toh(e->check);
    l->entries++;
    return 0;
}

static int append(struct log *l, struct entry *e)
{
    pthread_mutex_lock(&l->lock);
    int err = append_entry(l, e);
    pthread_mutex_unlock(&l->lock);
    return err;
}

static int reserve(struct log *l, uint32_t want, uint32_t *unit, uint32_t *count)
{
    int err = 0;
    pthread_mutex_lock(&l->lock);
    uint64_t at = data_unit(l->next_unit), n = MIN(want, segment_end(at) - at);
    if (at + n <= UINT32_MAX) {
        l->next_unit = at + n;
        *unit = (uint32_t)at;
        *count = (uint32_t)n;
    } else {
        err = -ENOSPC;
    }
    pthread_mutex_unlock(&l->lock);
    return err;
}

/* Gives back what was reserved, unless more was reserved since. */
static void unreserve(struct log *l, uint32_t unit, uint32_t count)
{
    pthread_mutex_lock(&l->lock);
    if (l->next_unit == (uint64_t)unit + count)
        l->next_unit = unit;
    pthread_mutex_unlock(&l->lock);
}

int log_append_data(struct log *l, uint32_t first, struct log_cursor *c, uint32_t *unit, uint32_t *count)
{
    uint32_t at, n;
    uint64_t digest;
    int err = reserve(l, (uint32_t)(log_cursor_left(c) / CLUSTER), &at, &n);
    if (err)
        return err;
    err = write_from(l, (uint64_t)at * CLUSTER, c, (size_t)n * CLUSTER, &digest);
    if (!err) {
        struct entry e = {
            .first = htole32(first),
            .count = htole32(n),
            .unit = htole32(at),
            .kind = htole32(ENTRY_DATA),
            .digest = htole64(digest),
        };
        err = append(l, &e);
    }
    if (err) {
        unreserve(l, at, n);
        return err;
    }
    *unit = at;
    *count = n;
    return 0;
}

int log_append_zeros(struct log *l, uint32_t first, uint32_t count)
{
    struct entry e = {.first = htole32(first), .count = htole32(count), .kind = htole32(ENTRY_ZEROS)};
    return append(l, &e);
}

/* The COMMIT need not be durable itself: without it the next opening checks the data, as after a crash. */
int log_flush(struct log *l)
{
    pthread_mutex_lock(&l->lock);
    uint64_t covers = l->entries;
    pthread_mutex_unlock(&l->lock);
    if (fdatasync(l->fd) < 0)
        return -errno;
    pthread_mutex_lock(&l->lock);
    if (covers > l->covered) {
        struct entry e = {
            .first = htole32((uint32_t)covers),
            .count = htole32((uint32_t)(covers >> 32)),
            .kind = htole32(ENTRY_COMMIT),
        };
        if (append_entry(l, &e) == 0)
            l->covered = covers + 1;
    }
    pthread_mutex_unlock(&l->lock);
    return 0;
}

/* Digest of the first and the last MiB of the base. */
static int base_identity(int base, uint64_t size, uint64_t *identity)
{
    uint64_t len = MIN(size, IDENTITY_LENGTH);
    uint8_t *bytes = malloc(len);
    if (!bytes)
        return -ENOMEM;
    int err = file_read(base, 0, bytes, len);
    uint64_t first = err ? 0 : XXH3_64bits(bytes, len);
    if (!err)
        err = file_read(base, size - len, bytes, len);
    if (!err)
        *identity = XXH3_64bits_withSeed(bytes, len, first);
    free(bytes);
    return err;
}

static uint64_t header_check(const struct header *h)
{
    return XXH3_64bits(h, offsetof(struct header, check));
}

static int create(struct log *l, uint64_t size, uint64_t identity)
{
    uint8_t unit[CLUSTER] = {0};
    struct header h = {
        .magic = MAGIC,
        .version = htole32(VERSION),
        .cluster = htole32(CLUSTER),
        .size = htole64(size),
        .identity = htole64(identity),
    };
    if (getrandom(&h.id, sizeof(h.id), 0) != sizeof(h.id))
        return -EIO;
    h.check = htole64(header_check(&h));
    memcpy(unit, &h, sizeof(h));
    int err = file_write(l->fd, 0, unit, sizeof(unit));
    if (err)
        return err;
    l->chain = le64toh(h.id);
    return fdatasync(l->fd) < 0 ? -errno : 0;
}

static int read_header(struct log *l, uint64_t size, uint64_t identity)
{
    struct header h;
    int err = file_read(l->fd, 0, &h, sizeof(h));
    if (err)
        return err == -ENODATA ? -EMEDIUMTYPE : err;
    if (memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0)
        return -EMEDIUMTYPE;
    if (le32toh(h.version) != VERSION)
        return -EPROTONOSUPPORT;
    if (le64toh(h.check) != header_check(&h) || le32toh(h.cluster) != CLUSTER)
        return -EMEDIUMTYPE;
    if (le64toh(h.size) != size || le64toh(h.identity) != identity)
        return -ESTALE;
    l->chain = le64toh(h.id);
    return 0;
}

/* One journal area in memory, filled with zeros where the file ends. */
static int read_area(int fd, uint64_t area, struct entry *entries)
{
    uint64_t off = entry_offset(area * ENTRIES);
    for (size_t done = 0; done < JOURNAL * CLUSTER;) {
        ssize_t n = pread(fd, (uint8_t *)entries + done, JOURNAL * CLUSTER - done, (off_t)(off + done));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0) {
            memset((uint8_t *)entries + done, 0, JOURNAL * CLUSTER - done);
            break;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Walks the chain of entries up to `end`, or to its own end, and calls `each`; returns how many were walked.
 */
static int64_t walk(struct log *l, struct entry *area, uint64_t chain, uint64_t end,
                    int (*each)(struct log *l, uint64_t index, const struct entry *e, void *arg), void *arg)
{
    for (uint64_t i = 0; i < end; i++) {
        int err = i % ENTRIES == 0 ? read_area(l->fd, i / ENTRIES, area) : 0;
        if (err)
            return err;
        const struct entry *e = &area[i % ENTRIES];
        uint64_t check = entry_check(e, chain);
        if (!e->kind || le64toh(e->check) != check)
            return (int64_t)i;
        err = each(l, i, e, arg);
        if (err)
            return err;
        chain = check;
        l->chain = chain;
    }
    return (int64_t)end;
}

static int note_commit(struct log *l, uint64_t index, const struct entry *e, void *arg)
{
    uint64_t covers = le32toh(e->first) | (uint64_t)le32toh(e->count) << 32;
    if (le32toh(e->kind) == ENTRY_COMMIT)
        l->covered = MIN(covers, index);
    return 0;
}

struct replaying {
    log_replay *replay;
    void *arg;
    uint8_t *buffer; /* one segment */
};

static bool data_intact(const struct log *l, const struct entry *e, uint8_t *buffer)
{
    uint64_t len = (uint64_t)le32toh(e->count) * CLUSTER;
    return le32toh(e->count) <= SEGMENT &&
           file_read(l->fd, (uint64_t)le32toh(e->unit) * CLUSTER, buffer, len) == 0 &&
           XXH3_64bits(buffer, len) == le64toh(e->digest);
}

/* -ESTALE here ends the walk at an entry whose data was not written before a power failure. */
static int apply(struct log *l, uint64_t index, const struct entry *e, void *arg)
{
    struct replaying *r = arg;
    uint32_t first = le32toh(e->first), count = le32toh(e->count), unit = le32toh(e->unit);
    l->entries = index;
    switch (le32toh(e->kind)) {
    case ENTRY_COMMIT:
        return 0;
    case ENTRY_ZEROS:
        return r->replay(r->arg, first, count, 0);
    case ENTRY_DATA:
        if (index >= l->covered && !data_intact(l, e, r->buffer))
            return -ESTALE;
        if ((uint64_t)unit + count > l->next_unit)
            l->next_unit = (uint64_t)unit + count;
        return r->replay(r->arg, first, count, unit);
    default:
        return -EPROTONOSUPPORT;
    }
}

/* Clears whatever follows the last good entry in the journal areas, so that no later chain can run into it,
 * and cuts the file behind the last good data. Returns the number of entries cleared. */
static int64_t clear_tail(struct log *l, struct entry *area)
{
    static const struct entry none;
    struct stat st;
    int64_t cleared = 0;
    if (fstat(l->fd, &st) < 0)
        return -errno;
    for (uint64_t i = l->entries; entry_offset(i) < (uint64_t)st.st_size; i++) {
        int err = i == l->entries || i % ENTRIES == 0 ? read_area(l->fd, i / ENTRIES, area) : 0;
        if (!err && memcmp(&area[i % ENTRIES], &none, sizeof(none)) != 0) {
            err = file_write(l->fd, entry_offset(i), &none, sizeof(none));
            cleared++;
        }
        if (err)
            return err;
    }
    uint64_t end = MAX(l->next_unit * CLUSTER, entry_offset(l->entries));
    if (cleared && (ftruncate(l->fd, (off_t)end) < 0 || fdatasync(l->fd) < 0))
        return -errno;
    return cleared;
}

static int load(struct log *l, struct replaying *r, struct entry *area, uint64_t *cut)
{
    uint64_t begin = l->chain;
    int64_t n = walk(l, area, begin, UINT64_MAX, note_commit, NULL);
    if (n < 0)
        return (int)n;
    l->chain = begin;
    int64_t applied = walk(l, area, begin, (uint64_t)n, apply, r);
    if (applied < 0 && applied != -ESTALE)
        return (int)applied;
    if (applied >= 0)
        l->entries = (uint64_t)applied;
    int64_t cleared = clear_tail(l, area);
    if (cleared < 0)
        return (int)cleared;
    *cut = (uint64_t)cleared;
    return 0;
}

static int open_existing(struct log *l, uint64_t size, uint64_t identity, log_replay *replay, void *arg,
                         uint64_t *cut)
{
    int err = read_header(l, size, identity);
    if (err)
        return err;
    struct replaying r = {.replay = replay, .arg = arg, .buffer = malloc(SEGMENT * CLUSTER)};
    struct entry *area = malloc(JOURNAL * CLUSTER);
    err = r.buffer && area ? load(l, &r, area, cut) : -ENOMEM;
    free(r.buffer);
    free(area);
    return err;
}

int log_open(struct log *l, int fd, int base, uint64_t size, log_replay *replay, void *arg, uint64_t *cut)
{
    struct stat st;
    uint64_t identity;
    *l = (struct log){.fd = fd, .lock = PTHREAD_MUTEX_INITIALIZER, .next_unit = 1};
    *cut = 0;
    if (fstat(fd, &st) < 0)
        return -errno;
    int err = base_identity(base, size, &identity);
    if (err)
        return err;
    return st.st_size == 0 ? create(l, size, identity) : open_existing(l, size, identity, replay, arg, cut);
}

void log_close(struct log *l)
{
    pthread_mutex_destroy(&l->lock);
}
