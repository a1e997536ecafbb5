/* Objects: put and get. Copies are made under a temporary name and renamed, so that an object is whole
 * whenever it can be seen. Must not know traces. */
#include "tools/trace/store.h"

#include "tools/trace/state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CHUNK    (1u << 20)
#define ATTEMPTS 3

int store_open(struct store *s)
{
    int dir = state_open("store");
    if (dir < 0)
        return dir;
    int lock = openat(dir, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_SH) < 0) {
        int err = -errno;
        if (lock >= 0)
            close(lock);
        close(dir);
        return err;
    }
    *s = (struct store){.dir = dir, .lock = lock};
    return 0;
}

void store_close(struct store *s)
{
    close(s->lock);
    close(s->dir);
    *s = (struct store){-1, -1};
}

const char *store_name(const struct store_digest *d, char name[STORE_NAME_SIZE])
{
    for (unsigned i = 0; i < STORE_DIGEST_BYTES; i++)
        snprintf(name + 2 * i, 3, "%02x", d->bytes[i]);
    return name;
}

static int64_t read_at(int fd, uint8_t *to, size_t len, uint64_t at)
{
    ssize_t n;
    do
        n = pread(fd, to, len, (off_t)at);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int store_digest(int fd, struct store_digest *d, uint64_t *size)
{
    XXH3_state_t *state = XXH3_createState();
    uint8_t *chunk = malloc(CHUNK);
    uint64_t at = 0;
    int64_t n = -ENOMEM;
    if (state && chunk && XXH3_128bits_reset(state) == XXH_OK) {
        while ((n = read_at(fd, chunk, CHUNK, at)) > 0) {
            XXH3_128bits_update(state, chunk, (size_t)n);
            at += (uint64_t)n;
        }
    }
    if (n == 0) {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        memcpy(d->bytes, canonical.digest, sizeof(d->bytes));
        *size = at;
    }
    XXH3_freeState(state);
    free(chunk);
    return (int)n;
}

static int write_all(int fd, const uint8_t *from, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, from, len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            from += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int copy_by_hand(int from, int to, off_t at)
{
    uint8_t *chunk = malloc(CHUNK);
    int64_t n = chunk ? 1 : -ENOMEM;
    while (n > 0 && (n = read_at(from, chunk, CHUNK, (uint64_t)at)) > 0) {
        int err = write_all(to, chunk, (size_t)n);
        at += n;
        if (err)
            n = err;
    }
    free(chunk);
    return (int)n;
}

/* Shares the blocks where the file system can, lets the kernel copy where it can, or copies. */
static int copy_file(int from, int to)
{
    off_t at = 0;
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    for (;;) {
        ssize_t n = copy_file_range(from, &at, to, NULL, 1u << 30, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n > 0)
            continue;
        /* Some file systems report an end where there is none: the rest, if any, is copied by hand. */
        if (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
            return -errno;
        return copy_by_hand(from, to, at);
    }
}

/* True if the object is there and sound. */
static bool present(const struct store *s, const struct store_digest *d)
{
    int fd = store_get(s, d);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* A new file of the store, under a name that no object has. */
static int make_temporary(const struct store *s, char *name, size_t size)
{
    static unsigned count;
    int fd;
    do {
        snprintf(name, size, ".new-%d-%u", (int)getpid(), __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
        fd = openat(s->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EEXIST);
    return fd < 0 ? -errno : fd;
}

/* Copies `fd`; 0 only if the copy is what *d and *size said. */
static int put_copy(const struct store *s, int fd, const struct store_digest *d, uint64_t size)
{
    char temporary[64], name[STORE_NAME_SIZE];
    struct store_digest copied;
    uint64_t copied_size;
    int to = make_temporary(s, temporary, sizeof(temporary));
    if (to < 0)
        return to;
    int err = copy_file(fd, to);
    if (!err)
        err = store_digest(to, &copied, &copied_size);
    if (!err && (copied_size != size || memcmp(&copied, d, sizeof(copied)) != 0))
        err = -EBUSY;
    if (!err && fsync(to) < 0)
        err = -errno;
    if (!err && renameat(s->dir, temporary, s->dir, store_name(d, name)) < 0)
        err = -errno;
    if (err)
        unlinkat(s->dir, temporary, 0);
    close(to);
    return !err && fsync(s->dir) < 0 ? -errno : err;
}

int store_put(const struct store *s, int fd, struct store_digest *d, uint64_t *size)
{
    int err = -EBUSY;
    for (int i = 0; err == -EBUSY && i < ATTEMPTS; i++) {
        struct store_digest digest;
        uint64_t bytes;
        err = store_digest(fd, &digest, &bytes);
        if (!err && !present(s, &digest))
            err = put_copy(s, fd, &digest, bytes);
        if (!err) {
            *d = digest;
            *size = bytes;
        }
    }
    return err;
}

int store_get(const struct store *s, const struct store_digest *d)
{
    char name[STORE_NAME_SIZE];
    struct store_digest found;
    struct stat st;
    uint64_t size;
    int fd = openat(s->dir, store_name(d, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int err = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EBADMSG;
    if (!err)
        err = store_digest(fd, &found, &size);
    if (!err && memcmp(&found, d, sizeof(found)) != 0)
        err = -EBADMSG;
    if (err) {
        close(fd);
        return err;
    }
    return fd;
}
