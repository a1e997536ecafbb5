/* ${XDG_RUNTIME_DIR:-/tmp/cleave-UID}/cleave/NAME/{lock,control}. All work is relative to directory
 * descriptors; sockets are named through /proc/self/fd, so that no path is too long for an address. */
#include "tools/supervisor/runtime.h"

#include "tools/supervisor/spec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RECLAIM_TRIES 100

static int base_path(char *path, size_t size, bool *ours)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    *ours = !(xdg && xdg[0] == '/');
    int n =
        *ours ? snprintf(path, size, "/tmp/cleave-%u", (unsigned)geteuid()) : snprintf(path, size, "%s", xdg);
    return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int runtime_path(char *path, size_t size)
{
    bool ours;
    int err = base_path(path, size, &ours);
    size_t n = err ? 0 : strlen(path);
    if (err || n + sizeof("/cleave") > size)
        return -ENAMETOOLONG;
    strcpy(path + n, "/cleave");
    return 0;
}

static int cannot(const char *what, int err, struct failure *f)
{
    char path[4096];
    if (runtime_path(path, sizeof(path)) < 0)
        snprintf(path, sizeof(path), "the runtime directory");
    failure_set(f, STATUS_FAILED, err, "cannot %s %s: %s", what, path, strerror(err));
    failure_hint(f, "set XDG_RUNTIME_DIR to a directory of your own");
    return -err;
}

/* Opens a directory that must be ours and closed to others; with `create` makes it. */
static int open_private(int at, const char *name, bool create)
{
    if (create && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022)) {
        close(fd);
        return -EPERM;
    }
    return fd;
}

static int open_parent(bool create)
{
    char path[4096];
    bool ours;
    int err = base_path(path, sizeof(path), &ours);
    if (err)
        return err;
    int base = ours ? open_private(AT_FDCWD, path, create) : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        return ours ? base : -errno;
    int fd = open_private(base, "cleave", create);
    close(base);
    return fd;
}

static int try_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Whether `fd` is still what `name` in `at` leads to: a remover may have been faster than our lock. */
static bool is_current(int at, const char *name, int fd)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(at, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* Opens and locks an existing or, with `create`, new directory. -EAGAIN when it vanished meanwhile, -EBUSY
 * when locked. */
static int lock_directory(int parent, const char *name, bool create, struct runtime *r)
{
    if (create && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    int lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = lock < 0 ? (errno == ENOENT ? -EAGAIN : -errno) : try_lock(lock);
    if (err == -EAGAIN || err == -EACCES)
        err = lock < 0 ? -EAGAIN : -EBUSY;
    if (!err && (!is_current(parent, name, dir) || !is_current(dir, "lock", lock)))
        err = -EAGAIN;
    if (err) {
        if (lock >= 0)
            close(lock);
        close(dir);
        return err;
    }
    r->dir = dir;
    r->lock = lock;
    snprintf(r->name, sizeof(r->name), "%.64s", name);
    return 0;
}

int runtime_create(const char *name, struct runtime *r, struct failure *f)
{
    struct runtime out = {.parent = open_parent(true), .dir = -1, .lock = -1};
    if (out.parent < 0)
        return cannot("create", -out.parent, f);
    int err = -EAGAIN;
    for (unsigned i = 0; i < RECLAIM_TRIES && err == -EAGAIN; i++)
        err = lock_directory(out.parent, name, true, &out);
    if (!err) {
        unlinkat(out.dir, "control", 0);
        *r = out;
        return 0;
    }
    close(out.parent);
    if (err == -EBUSY)
        return failure_set(f, STATUS_WRONG_STATE, EBUSY, "a machine named '%s' is running", name);
    return cannot("create a directory in", -err, f);
}

static void socket_address(int dir, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/control", dir);
}

int runtime_listen(const struct runtime *r, struct failure *f)
{
    struct sockaddr_un addr;
    socket_address(r->dir, &addr);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 16) < 0) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return cannot("create a socket in", err, f);
    }
    return fd;
}

void runtime_close(struct runtime *r)
{
    close(r->lock);
    close(r->dir);
    close(r->parent);
    *r = (struct runtime){.parent = -1, .dir = -1, .lock = -1};
}

void runtime_remove(struct runtime *r)
{
    if (r->dir < 0)
        return;
    if (is_current(r->parent, r->name, r->dir)) {
        unlinkat(r->dir, "control", 0);
        unlinkat(r->dir, "lock", 0);
        unlinkat(r->parent, r->name, AT_REMOVEDIR);
    }
    runtime_close(r);
}

static int no_machine(const char *name, struct failure *f)
{
    failure_set(f, STATUS_NO_MACHINE, ENOENT, "no machine named '%s' is running", name);
    failure_hint(f, "'cleave ps' lists the machines");
    return -ENOENT;
}

int runtime_connect(const char *name, int *fd, struct failure *f)
{
    if (!spec_is_name(name, 64))
        return no_machine(name, f);
    int parent = open_parent(false);
    if (parent < 0)
        return parent == -ENOENT ? no_machine(name, f) : cannot("open", -parent, f);
    int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    close(parent);
    if (dir < 0)
        return no_machine(name, f);
    struct sockaddr_un addr;
    socket_address(dir, &addr);
    int out = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int err = out < 0 || connect(out, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? errno : 0;
    close(dir);
    if (!err) {
        *fd = out;
        return 0;
    }
    if (out >= 0)
        close(out);
    if (err == ENOENT || err == ECONNREFUSED)
        return no_machine(name, f);
    return failure_set(f, STATUS_FAILED, err, "cannot reach machine '%s': %s", name, strerror(err));
}

/* Removes the directory if nobody holds its lock; true if it belongs to a running machine. */
static bool is_running(int parent, const char *name)
{
    struct runtime r = {.parent = dup(parent), .dir = -1, .lock = -1};
    int err = lock_directory(parent, name, false, &r);
    if (!err) {
        runtime_remove(&r);
        return false;
    }
    if (r.parent >= 0)
        close(r.parent);
    return err == -EBUSY;
}

int runtime_list(int (*each)(void *ctx, const char *name), void *ctx, struct failure *f)
{
    int parent = open_parent(false);
    if (parent == -ENOENT)
        return 0;
    if (parent < 0)
        return cannot("open", -parent, f);
    struct dirent **entries;
    int n = scandirat(parent, ".", &entries, NULL, alphasort);
    int err = n < 0 ? cannot("read", errno, f) : 0;
    for (int i = 0; i < n; i++) {
        if (!err && spec_is_name(entries[i]->d_name, 64) && is_running(parent, entries[i]->d_name))
            err = each(ctx, entries[i]->d_name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    close(parent);
    return err;
}
