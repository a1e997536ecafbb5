/* The ring of the journal: layout, sealing, publication and validation. Must not know who is at the other
 * end, nor what a body means. */
#include "ipc/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PAGE          4096u
#define MAGIC         0x4c4e4a5641454c43ull /* "CLEAVJNL" */
#define ENTRIES_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
#define TAIL_SEALS    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* First page of `entries`. Magic and size are written before the seal and never again. */
struct header {
    uint64_t magic;
    uint64_t size; /* bytes of the ring behind this page */
    _Alignas(64) _Atomic uint64_t
        head; /* producer writes (release), consumer reads (acquire); bytes, free-running */
};

/* The page of `tail`. */
struct tail {
    _Atomic uint64_t tail; /* consumer writes (release), producer reads (acquire) */
};

/* An entry begins at a multiple of 8 and wraps at any byte; `stored` bytes follow: the body of an inline
 * entry, the end of one that is in a file. */
struct wire {
    uint64_t check; /* XXH3-64 of the rest, seeded with the entry's position. An inline body has c.digest;
                       what else is stored has its XXH3-64 added here */
    uint64_t number;
    uint32_t stored;
    uint8_t type, form;
    uint16_t device;
    uint8_t queue, direction, kind, zero;
    uint32_t len;
    uint64_t seq, icount, pc, request, arg, digest, file, offset;
};

_Static_assert(sizeof(struct wire) == 96, "no padding: all of it is hashed");
_Static_assert(sizeof(struct header) <= PAGE, "one page");

struct journal_producer {
    struct header *header;
    uint8_t *ring;
    const struct tail *tail;
    uint64_t size, head, number;
    uint64_t released; /* as last read and checked */
};

struct journal_consumer {
    const struct header *header;
    const uint8_t *ring;
    struct tail *tail;
    uint64_t size, position;
    uint64_t last; /* number of the last entry that is persistent or was returned */
    uint64_t seen; /* number of the entry before the cursor, 0 before the first */
    uint8_t *body;
    uint32_t body_size;
};

static uint64_t entry_check(const struct wire *w, uint64_t position)
{
    return XXH3_64bits_withSeed((const uint8_t *)w + sizeof(w->check), sizeof(*w) - sizeof(w->check),
                                position);
}

static uint64_t tail_check(const struct wire *w, const void *body)
{
    return w->form == JOURNAL_FILE && w->stored ? XXH3_64bits(body, w->stored) : 0;
}

static uint64_t entry_size(uint32_t stored)
{
    return sizeof(struct wire) + (((uint64_t)stored + 7) & ~7ull);
}

/* A digest that the reader can compute itself holds for the body; the other forms store nothing. */
static bool entry_valid(const struct wire *w)
{
    if (w->type == JOURNAL_STATE_HASH)
        return w->form == JOURNAL_DIGEST && w->stored == 0;
    if (w->type != JOURNAL_CROSSING || w->form < JOURNAL_DIGEST || w->form > JOURNAL_SAME)
        return false;
    if (w->direction != CROSSING_IN && w->direction != CROSSING_OUT)
        return false;
    return w->form == JOURNAL_FILE ? w->stored <= w->len
                                   : w->stored == (w->form == JOURNAL_INLINE ? w->len : 0);
}

static int create_memfd(const char *name, uint64_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static bool size_valid(uint64_t size)
{
    return size >= JOURNAL_MIN_SIZE && size <= JOURNAL_MAX_SIZE && (size & (size - 1)) == 0;
}

/* Maps a memfd that can change neither its size nor its seals. *size: 0 to learn it. */
static int map_sealed(int fd, int seals, int prot, uint64_t *size, void **map)
{
    struct stat st;
    int have = fcntl(fd, F_GET_SEALS);
    if (have < 0 || (have & seals) != seals || fstat(fd, &st) < 0 || st.st_size < (off_t)PAGE ||
        (*size && (uint64_t)st.st_size != *size))
        return -EPROTO;
    void *p = mmap(NULL, (size_t)st.st_size, prot, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *map = p;
    *size = (uint64_t)st.st_size;
    return 0;
}

static int map_tail(int fd, int prot, void **map)
{
    uint64_t size = PAGE;
    return map_sealed(fd, TAIL_SEALS, prot, &size, map);
}

int journal_tail_create(int *consumer_fd, int *producer_fd)
{
    int fd = create_memfd("cleave-journal-tail", PAGE);
    if (fd < 0)
        return fd;
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reader = fcntl(fd, F_ADD_SEALS, TAIL_SEALS) < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (reader < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    *consumer_fd = fd;
    *producer_fd = reader;
    return 0;
}

/* The writable mapping must exist before the seal, which forbids any later one. */
static int create_entries(uint64_t size, struct header **header)
{
    int fd = create_memfd("cleave-journal", PAGE + size);
    if (fd < 0)
        return fd;
    struct header *h = mmap(NULL, PAGE + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED) {
        int err = -errno;
        close(fd);
        return err;
    }
    h->magic = MAGIC;
    h->size = size;
    if (fcntl(fd, F_ADD_SEALS, ENTRIES_SEALS) < 0) {
        int err = -errno;
        munmap(h, PAGE + size);
        close(fd);
        return err;
    }
    *header = h;
    return fd;
}

int journal_create(struct journal_producer **out, uint64_t size, int tail_fd, int *out_fd)
{
    if (!size_valid(size))
        return -EINVAL;
    struct journal_producer *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    void *tail;
    int err = map_tail(tail_fd, PROT_READ, &tail);
    if (err) {
        free(p);
        return err;
    }
    int fd = create_entries(size, &p->header);
    if (fd < 0) {
        munmap(tail, PAGE);
        free(p);
        return fd;
    }
    p->ring = (uint8_t *)p->header + PAGE;
    p->tail = tail;
    p->size = size;
    *out = p;
    *out_fd = fd;
    return 0;
}

void journal_destroy(struct journal_producer *p)
{
    if (!p)
        return;
    munmap(p->header, PAGE + p->size);
    munmap((void *)p->tail, PAGE);
    free(p);
}

static int read_tail(const struct journal_producer *p, uint64_t *tail)
{
    uint64_t t = atomic_load_explicit(&p->tail->tail, memory_order_acquire);
    if (t > p->head || t < p->released)
        return -EPROTO;
    *tail = t;
    return 0;
}

int64_t journal_unreleased(const struct journal_producer *p)
{
    uint64_t tail;
    int err = read_tail(p, &tail);
    return err ? err : (int64_t)(p->head - tail);
}

static void put(struct journal_producer *p, uint64_t position, const void *from, size_t len)
{
    size_t at = position & (p->size - 1), first = len < p->size - at ? len : p->size - at;
    memcpy(p->ring + at, from, first);
    memcpy(p->ring, (const uint8_t *)from + first, len - first);
}

static struct wire wire_from_entry(const struct journal_entry *e)
{
    const struct crossing *c = &e->c;
    return (struct wire){.stored = e->form == JOURNAL_INLINE ? c->len : e->tail,
                         .type = e->type,
                         .form = e->form,
                         .device = c->device,
                         .queue = c->queue,
                         .direction = c->direction,
                         .kind = c->kind,
                         .len = c->len,
                         .seq = c->seq,
                         .icount = c->icount,
                         .pc = c->pc,
                         .request = c->request,
                         .arg = c->arg,
                         .digest = c->digest,
                         .file = e->file,
                         .offset = e->offset};
}

int journal_append(struct journal_producer *p, const struct journal_entry *e)
{
    struct wire w = wire_from_entry(e);
    uint64_t need = entry_size(w.stored);
    if (!entry_valid(&w))
        return -EINVAL;
    if (need > p->size)
        return -EMSGSIZE;
    if (p->size - (p->head - p->released) < need) {
        int err = read_tail(p, &p->released);
        if (err)
            return err;
        if (p->size - (p->head - p->released) < need)
            return -ENOSPC;
    }
    w.number = ++p->number;
    w.check = entry_check(&w, p->head) + tail_check(&w, e->body);
    put(p, p->head, &w, sizeof(w));
    if (w.stored)
        put(p, p->head + sizeof(w), e->body, w.stored);
    p->head += need;
    atomic_store_explicit(&p->header->head, p->head, memory_order_release);
    return 0;
}

/* What the producer published behind the cursor, in bytes. */
static int published(const struct journal_consumer *c, uint64_t *bytes)
{
    uint64_t head = atomic_load_explicit(&c->header->head, memory_order_acquire);
    if (head < c->position || head - c->position > c->size || head % 8)
        return -EPROTO;
    *bytes = head - c->position;
    return 0;
}

static int map_entries(struct journal_consumer *c, int fd)
{
    void *map;
    uint64_t size = 0;
    int err = map_sealed(fd, ENTRIES_SEALS, PROT_READ, &size, &map);
    if (err)
        return err;
    c->header = map;
    if (!size_valid(size - PAGE) || c->header->magic != MAGIC || c->header->size != size - PAGE) {
        munmap(map, size);
        return -EPROTO;
    }
    c->size = size - PAGE;
    c->ring = (const uint8_t *)map + PAGE;
    return 0;
}

int journal_attach(struct journal_consumer **out, int fd, int tail_fd, uint64_t after)
{
    struct journal_consumer *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    void *tail;
    int err = map_tail(tail_fd, PROT_READ | PROT_WRITE, &tail);
    if (!err) {
        err = map_entries(c, fd);
        if (err)
            munmap(tail, PAGE);
    }
    if (err) {
        free(c);
        return err;
    }
    c->tail = tail;
    c->position = atomic_load_explicit(&c->tail->tail, memory_order_relaxed);
    c->last = after;
    uint64_t bytes;
    if (c->position % 8 || published(c, &bytes) < 0) {
        journal_detach(c);
        return -EPROTO;
    }
    *out = c;
    return 0;
}

void journal_detach(struct journal_consumer *c)
{
    if (!c)
        return;
    munmap((void *)c->header, PAGE + c->size);
    munmap(c->tail, PAGE);
    free(c->body);
    free(c);
}

static void get(const struct journal_consumer *c, uint64_t position, void *to, size_t len)
{
    size_t at = position & (c->size - 1), first = len < c->size - at ? len : c->size - at;
    memcpy(to, c->ring + at, first);
    memcpy((uint8_t *)to + first, c->ring, len - first);
}

static int get_body(struct journal_consumer *c, const struct wire *w)
{
    if (w->stored > c->body_size) {
        uint8_t *body = realloc(c->body, w->stored);
        if (!body)
            return -ENOMEM;
        c->body = body;
        c->body_size = w->stored;
    }
    if (w->stored)
        get(c, c->position + sizeof(*w), c->body, w->stored);
    if (w->form == JOURNAL_INLINE &&
        XXH3_64bits(w->stored ? c->body : (const uint8_t *)"", w->stored) != w->digest)
        return -EBADMSG;
    return 0;
}

/* Private copy of the entry at the cursor, its body in c->body. `bytes` are published. */
static int get_entry(struct journal_consumer *c, uint64_t bytes, struct wire *w)
{
    if (bytes < sizeof(*w))
        return -EBADMSG;
    get(c, c->position, w, sizeof(*w));
    if (!entry_valid(w) || entry_size(w->stored) > bytes)
        return -EBADMSG;
    if (w->form != JOURNAL_FILE && w->check != entry_check(w, c->position))
        return -EBADMSG;
    int err = get_body(c, w);
    if (!err && w->check != entry_check(w, c->position) + tail_check(w, c->body))
        err = -EBADMSG;
    return err;
}

static void entry_from_wire(struct journal_entry *e, const struct wire *w, const void *body)
{
    *e = (struct journal_entry){.number = w->number,
                                .type = w->type,
                                .form = w->form,
                                .file = w->file,
                                .offset = w->offset,
                                .tail = w->form == JOURNAL_FILE ? w->stored : 0,
                                .body = w->stored ? body : NULL,
                                .c = {.seq = w->seq,
                                      .icount = w->icount,
                                      .pc = w->pc,
                                      .request = w->request,
                                      .arg = w->arg,
                                      .device = w->device,
                                      .queue = w->queue,
                                      .direction = w->direction,
                                      .kind = w->kind,
                                      .len = w->len,
                                      .digest = w->digest}};
}

int journal_next(struct journal_consumer *c, struct journal_entry *e)
{
    uint64_t bytes;
    int err = published(c, &bytes);
    if (err)
        return err;
    while (bytes) {
        struct wire w;
        err = get_entry(c, bytes, &w);
        if (err)
            return err;
        if (w.number > c->last + 1 || (c->seen && w.number != c->seen + 1))
            return -EPROTO;
        c->seen = w.number;
        c->position += entry_size(w.stored);
        bytes -= entry_size(w.stored);
        if (w.number <= c->last)
            continue;
        c->last = w.number;
        entry_from_wire(e, &w, c->body);
        return 1;
    }
    return 0;
}

uint64_t journal_position(const struct journal_consumer *c)
{
    return c->position;
}

void journal_release(struct journal_consumer *c, uint64_t position)
{
    atomic_store_explicit(&c->tail->tail, position, memory_order_release);
}
