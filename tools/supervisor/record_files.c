/* Names, locks, limits and digests. A trace that is being written carries a lock, which nobody asks the
 * writer about. */
#include "tools/supervisor/record_files.h"

#include "tools/trace/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SUFFIX ".trace"
#define EDGE   (1u << 20) /* bytes at the beginning and the end that identify a large file */

static int lock(int fd)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static int cannot(const char *path, int err, struct failure *f)
{
    failure_set(f, STATUS_FAILED, err, "cannot record to '%s': %s", path, strerror(err));
    if (err == EEXIST)
        failure_hint(f, "a trace is never overwritten: remove it, or give another name");
    return -err;
}

/* A file that exists is taken if it is empty and nobody records to it. */
static int create_named(const char *path, struct failure *f)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0)
        return cannot(path, errno, f);
    int err = fstat(fd, &st) < 0     ? errno
              : !S_ISREG(st.st_mode) ? EINVAL
              : st.st_size           ? EEXIST
              : lock(fd) < 0         ? EBUSY
                                     : 0;
    if (err) {
        close(fd);
        return err == EINVAL
                   ? failure_set(f, STATUS_FAILED, err, "cannot record to '%s': not a regular file", path)
                   : cannot(path, err, f);
    }
    return fd;
}

static int create_default(const char *machine, char *out, size_t size, struct failure *f)
{
    char name[200], when[40], path[PATH_MAX];
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof(when), "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    snprintf(name, sizeof(name), "%.100s-%s-%d" SUFFIX, machine, when, (int)getpid());
    int err = state_path("traces", path, sizeof(path));
    int dir = err ? err : state_open("traces");
    if (dir < 0)
        return cannot(err ? "the state directory" : path, -dir, f);
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    err = fd < 0 ? errno : -lock(fd);
    close(dir);
    if (err) {
        if (fd >= 0)
            close(fd);
        return cannot(path, err, f);
    }
    snprintf(out, size, "%s/%s", path, name);
    return fd;
}

int record_create(const char *path, const char *machine, char *out, size_t size, struct failure *f)
{
    if (!path)
        return create_default(machine, out, size, f);
    char absolute[PATH_MAX];
    int fd = create_named(path, f);
    if (fd >= 0)
        snprintf(out, size, "%s", realpath(path, absolute) ? absolute : path);
    return fd;
}

struct kept {
    char name[NAME_MAX + 1];
    size_t group; /* bytes of the name that name the machine */
    uint64_t bytes;
    struct timespec when;
};

/* NAME of "NAME-date-time-pid.trace"; a machine without a name of its own is called vm-PID, and all those are
 * one. */
static size_t group_of(const char *name)
{
    size_t len = strlen(name), suffix = sizeof(SUFFIX) - 1;
    if (len <= suffix || strcmp(name + len - suffix, SUFFIX) != 0)
        return 0;
    len -= suffix;
    for (unsigned part = 0; part < 3; part++) {
        size_t digits = 0;
        while (len > 0 && name[len - 1] >= '0' && name[len - 1] <= '9') {
            len--;
            digits++;
        }
        if (!digits || len == 0 || name[--len] != '-')
            return 0;
    }
    size_t number = strspn(name + 3, "0123456789");
    return strncmp(name, "vm-", 3) == 0 && number && 3 + number == len ? 2 : len;
}

static int newest_first(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    if (x->when.tv_sec != y->when.tv_sec)
        return x->when.tv_sec < y->when.tv_sec ? 1 : -1;
    if (x->when.tv_nsec != y->when.tv_nsec)
        return x->when.tv_nsec < y->when.tv_nsec ? 1 : -1;
    return strcmp(y->name, x->name);
}

/* Takes `dir` over. Returns their number. */
static size_t list_traces(int dir, struct kept **list)
{
    DIR *d = fdopendir(dir);
    size_t n = 0, room = 0;
    *list = NULL;
    if (!d) {
        close(dir);
        return 0;
    }
    const struct dirent *e;
    struct stat st;
    while ((e = readdir(d))) {
        size_t group = group_of(e->d_name);
        if (!group || fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (n == room) {
            room = room ? 2 * room : 16;
            struct kept *p = realloc(*list, room * sizeof(*p));
            if (!p)
                break;
            *list = p;
        }
        struct kept *k = &(*list)[n++];
        *k = (struct kept){.group = group, .bytes = (uint64_t)st.st_size, .when = st.st_mtim};
        snprintf(k->name, sizeof(k->name), "%s", e->d_name);
    }
    closedir(d);
    return n;
}

static void remove_unlocked(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    if (lock(fd) == 0)
        unlinkat(dir, name, 0);
    close(fd);
}

void record_collect(void)
{
    struct kept *list;
    struct store_collected collected;
    int dir = state_open("traces");
    if (dir < 0)
        return;
    size_t n = list_traces(dup(dir), &list);
    uint64_t bytes = 0;
    if (n)
        qsort(list, n, sizeof(*list), newest_first);
    for (size_t i = 0; i < n; i++) {
        unsigned newer = 0;
        for (size_t k = 0; k < i; k++)
            newer += list[k].group == list[i].group && memcmp(list[k].name, list[i].name, list[i].group) == 0;
        bytes += list[i].bytes;
        if (newer >= RECORD_KEEP || bytes > RECORD_KEEP_BYTES)
            remove_unlocked(dir, list[i].name);
    }
    free(list);
    close(dir);
    store_collect(&collected);
}

static int digest_edge(int fd, uint64_t at, uint64_t len, uint64_t *digest)
{
    uint8_t *data = malloc(EDGE);
    size_t got = 0;
    ssize_t n = 1;
    while (data && got < len && n > 0) {
        n = pread(fd, data + got, len - got, (off_t)(at + got));
        got += n > 0 ? (size_t)n : 0;
    }
    int err = !data ? -ENOMEM : n < 0 ? -errno : got < len ? -ENODATA : 0;
    if (!err)
        *digest = XXH3_64bits(data, got);
    free(data);
    return err;
}

int record_identify(struct record_file *file, const struct store *store)
{
    struct stat st;
    if (fstat(file->fd, &st) < 0)
        return -errno;
    off_t end = S_ISBLK(st.st_mode) ? lseek(file->fd, 0, SEEK_END) : st.st_size;
    if (end < 0)
        return -errno;
    file->size = (uint64_t)end;
    file->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    uint64_t edge = MIN(file->size, EDGE);
    int err = digest_edge(file->fd, 0, edge, &file->first_digest);
    if (!err)
        err = digest_edge(file->fd, file->size - edge, edge, &file->last_digest);
    if (!err && store && file->store) {
        err = store_put(store, file->fd, &file->digest, &file->size);
        file->digested = !err;
    }
    if (!err && file->embed) {
        err = store_digest(file->fd, &file->digest, &file->size);
        file->digested = !err;
    }
    file->embed = file->embed && file->digested;
    return err;
}
