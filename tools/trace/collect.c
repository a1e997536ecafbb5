/* What may leave the store: objects that no trace names. Must not know how objects are made. */
#include "replay-broker/log.h"
#include "tools/trace/state.h"
#include "tools/trace/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define KEPT "kept" /* directory of the store with symbolic links to traces elsewhere */

struct named {
    struct store_digest *digests;
    size_t n;
};

static int open_kept(int dir)
{
    if (mkdirat(dir, KEPT, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(dir, KEPT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int store_keep(const struct store *s, const char *trace)
{
    char name[32];
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)XXH3_64bits(trace, strlen(trace)));
    int dir = open_kept(s->dir);
    if (dir < 0)
        return dir;
    int err = symlinkat(trace, dir, name) < 0 && errno != EEXIST ? -errno : 0;
    close(dir);
    return err;
}

static int name_files(struct named *n, const Cleave__LogHeader *h)
{
    struct store_digest *p = realloc(n->digests, (n->n + h->n_files + 1) * sizeof(*p));
    if (!p)
        return -ENOMEM;
    n->digests = p;
    for (size_t i = 0; i < h->n_files; i++) {
        if (h->files[i]->digest.len == STORE_DIGEST_BYTES)
            memcpy(&p[n->n++], h->files[i]->digest.data, STORE_DIGEST_BYTES);
    }
    return 0;
}

/* Adds what the trace names. What is no log, or one without a good header, names nothing. */
static int name_trace(struct named *n, int dir, const char *name)
{
    struct log_reader *r;
    struct log_error error;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : -errno;
    int err = log_reader_open(&r, fd, &error);
    if (!err) {
        err = name_files(n, log_reader_header(r));
        log_reader_close(r);
    } else if (err != -EPROTONOSUPPORT && err != -ENOMEM && err != -EIO) {
        err = 0;
    }
    close(fd);
    return err;
}

/* Takes `dir` over. */
static int each_entry(int dir, int (*each)(void *ctx, int dir, const char *name), void *ctx)
{
    DIR *d = dir < 0 ? NULL : fdopendir(dir);
    if (!d) {
        int err = dir < 0 ? dir : -errno;
        if (dir >= 0)
            close(dir);
        return err;
    }
    int err = 0;
    const struct dirent *e;
    while (!err && (e = readdir(d)))
        err = e->d_name[0] == '.' ? 0 : each(ctx, dirfd(d), e->d_name);
    closedir(d);
    return err;
}

static int name_here(void *ctx, int dir, const char *name)
{
    return name_trace(ctx, dir, name);
}

/* Links whose trace is gone go as well. */
static int name_kept(void *ctx, int dir, const char *name)
{
    if (faccessat(dir, name, F_OK, 0) < 0 && errno == ENOENT) {
        unlinkat(dir, name, 0);
        return 0;
    }
    return name_trace(ctx, dir, name);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct store_digest));
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool digest_of_name(const char *name, struct store_digest *d)
{
    if (strlen(name) != STORE_NAME_SIZE - 1)
        return false;
    for (unsigned i = 0; i < STORE_DIGEST_BYTES; i++) {
        int high = digit(name[2 * i]), low = digit(name[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        d->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

struct sweep {
    struct named named;
    struct store_collected collected;
};

static int sweep_object(void *ctx, int dir, const char *name)
{
    struct sweep *s = ctx;
    struct store_digest d;
    struct stat st;
    if (!digest_of_name(name, &d) ||
        (s->named.n && bsearch(&d, s->named.digests, s->named.n, sizeof(d), compare)) ||
        fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (unlinkat(dir, name, 0) < 0)
        return errno == ENOENT ? 0 : -errno;
    s->collected.objects++;
    s->collected.bytes += (uint64_t)st.st_size;
    return 0;
}

/* What a process that was killed while putting left behind: it had the store open, and nobody has now. */
static void sweep_temporaries(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *e;
    while (d && (e = readdir(d))) {
        if (strncmp(e->d_name, ".new-", 5) == 0)
            unlinkat(dir, e->d_name, 0);
    }
    if (d)
        closedir(d);
}

static int collect(int dir, struct sweep *s)
{
    int err = each_entry(state_open("traces"), name_here, &s->named);
    if (!err)
        err = each_entry(open_kept(dir), name_kept, &s->named);
    if (err)
        return err;
    if (s->named.n)
        qsort(s->named.digests, s->named.n, sizeof(struct store_digest), compare);
    sweep_temporaries(dir);
    return each_entry(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), sweep_object, s);
}

int store_collect(struct store_collected *c)
{
    struct sweep s = {0};
    int dir = state_open("store");
    if (dir < 0)
        return dir;
    int lock = openat(dir, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int err = lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0 ? -errno : collect(dir, &s);
    *c = s.collected;
    free(s.named.digests);
    if (lock >= 0)
        close(lock);
    close(dir);
    return err;
}
