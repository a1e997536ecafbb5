/* Windows of a recording. Must not know who fills and who reads them. */
#include "ipc/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC   0x44454546u /* "FEED" */
#define VERSION 1u
#define SEALS   (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

/* At the window's beginning; records follow. */
struct header {
    uint32_t magic, version, entries, reserved;
    uint64_t bytes; /* of the whole window */
    struct feed_end end;
};

/* An entry; its body follows, padded to 8 bytes. */
struct record {
    uint64_t number;
    uint8_t type, form, reserved[6];
    struct crossing c;
};

struct feed_window {
    uint8_t *data;
    size_t len, room;
    uint32_t entries;
};

struct feed {
    struct feed_source source;
    const uint8_t *map;
    size_t size, at;
    uint32_t left; /* entries of the window that were not taken */
    bool last;
    int error;
    bool peeked;
    size_t after; /* the position behind `entry` */
    struct journal_entry entry;
    struct feed_end end;
};

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

int feed_window_create(struct feed_window **ret)
{
    struct feed_window *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->len = sizeof(struct header);
    *ret = w;
    return 0;
}

void feed_window_destroy(struct feed_window *w)
{
    if (!w)
        return;
    free(w->data);
    free(w);
}

static int reserve(struct feed_window *w, size_t more)
{
    if (w->len + more <= w->room)
        return 0;
    size_t room = w->len + more + FEED_WINDOW_BYTES / 4;
    uint8_t *p = realloc(w->data, room);
    if (!p)
        return -ENOMEM;
    w->data = p;
    w->room = room;
    return 0;
}

int feed_window_add(struct feed_window *w, const struct journal_entry *e)
{
    if (e->form != JOURNAL_INLINE && e->form != JOURNAL_DIGEST)
        return -EINVAL;
    size_t body = e->form == JOURNAL_INLINE ? e->c.len : 0, size = sizeof(struct record) + padded(body);
    if (size > FEED_MAX_BYTES - w->len)
        return -EMSGSIZE;
    int err = reserve(w, size);
    if (err)
        return err;
    struct record r = {.number = e->number, .type = e->type, .form = e->form, .c = e->c};
    memcpy(w->data + w->len, &r, sizeof r);
    memset(w->data + w->len + sizeof r, 0, size - sizeof r);
    if (body)
        memcpy(w->data + w->len + sizeof r, e->body, body);
    w->len += size;
    w->entries++;
    return 0;
}

bool feed_window_full(const struct feed_window *w)
{
    return w->len >= FEED_WINDOW_BYTES;
}

uint32_t feed_window_entries(const struct feed_window *w)
{
    return w->entries;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, data + done, len - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int feed_window_seal(struct feed_window *w, const struct feed_end *end)
{
    struct header h = {
        .magic = MAGIC, .version = VERSION, .entries = w->entries, .bytes = w->len, .end = *end};
    int err = w->data ? 0 : reserve(w, 1);
    if (err)
        return err;
    memcpy(w->data, &h, sizeof h);
    int fd = memfd_create("cleave-feed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    err = write_all(fd, w->data, w->len);
    if (!err && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        err = -errno;
    if (err) {
        close(fd);
        return err;
    }
    w->len = sizeof h;
    w->entries = 0;
    return fd;
}

int feed_create(struct feed **ret, const struct feed_source *source)
{
    struct feed *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->source = *source;
    *ret = f;
    return 0;
}

static void unmap(struct feed *f)
{
    if (f->map)
        munmap((void *)f->map, f->size);
    f->map = NULL;
}

void feed_destroy(struct feed *f)
{
    if (!f)
        return;
    unmap(f);
    free(f);
}

/* Maps a window that can not change any more. */
static int map_window(struct feed *f, int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 ||
        st.st_size < (off_t)sizeof(struct header) || st.st_size > FEED_MAX_BYTES)
        return -EPROTO;
    f->size = (size_t)st.st_size;
    void *p = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    f->map = p;
    const struct header *h = p;
    if (h->magic != MAGIC || h->version != VERSION || h->bytes != f->size || h->end.ending > FEED_BAD)
        return -EPROTO;
    f->at = sizeof *h;
    f->left = h->entries;
    f->last = h->end.ending != FEED_GOES_ON;
    f->end = h->end;
    f->end.reason[FEED_MAX_REASON - 1] = '\0';
    return 0;
}

static int next_window(struct feed *f)
{
    unmap(f);
    int fd = f->source.next(f->source.arg);
    if (fd < 0)
        return fd;
    int err = map_window(f, fd);
    close(fd);
    return err;
}

static int decode(struct feed *f)
{
    size_t left = f->size - f->at;
    if (left < sizeof(struct record))
        return -EPROTO;
    const struct record *r = (const struct record *)(f->map + f->at);
    size_t body = r->form == JOURNAL_INLINE ? r->c.len : 0;
    if ((r->form != JOURNAL_INLINE && r->form != JOURNAL_DIGEST) || padded(body) > left - sizeof *r)
        return -EPROTO;
    f->entry = (struct journal_entry){
        .number = r->number, .type = r->type, .form = r->form, .c = r->c, .body = body ? r + 1 : NULL};
    f->after = f->at + sizeof *r + padded(body);
    return 0;
}

int feed_peek(struct feed *f, const struct journal_entry **e)
{
    while (!f->peeked && !f->error && !f->left) {
        if (f->last)
            return 0;
        f->error = next_window(f);
    }
    if (!f->error && !f->peeked) {
        f->error = decode(f);
        f->peeked = !f->error;
    }
    if (f->error)
        return f->error;
    *e = &f->entry;
    return 1;
}

void feed_take(struct feed *f)
{
    f->at = f->after;
    f->left--;
    f->peeked = false;
}

const struct feed_end *feed_ending(const struct feed *f)
{
    return &f->end;
}
