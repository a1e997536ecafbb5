/* Images: open, check, lock. The checks are on the open descriptor, so that nothing changes between check and
 * use. */
#include "tools/supervisor/images.h"

#include "tools/supervisor/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_MAX_BYTES (64 << 20)

/* Lock bytes far beyond any image: one for the machine, one for the device's incarnation. */
#define LOCK_MACHINE     (INT64_C(1) << 62)
#define LOCK_INCARNATION (LOCK_MACHINE + 1)

static const char *const bios_paths[] = {
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
    NULL,
};

const char *images_default_bios(void)
{
    for (unsigned i = 0; bios_paths[i]; i++) {
        if (access(bios_paths[i], R_OK) == 0)
            return bios_paths[i];
    }
    return NULL;
}

static int cannot_open(const char *what, const char *path, int err, struct failure *f)
{
    failure_set(f, STATUS_FAILED, err, "cannot open %s: %s: %s", what, path, strerror(err));
    if (err == ENOENT && path[0] != '/')
        failure_hint(
            f, "the path is relative to the current directory, or to the configuration file that names it");
    return -err;
}

int images_open_input(const char *what, const char *path, int *fd, struct failure *f)
{
    int in = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (in < 0)
        return cannot_open(what, path, errno, f);
    struct stat st;
    int err = 0;
    if (fstat(in, &st) < 0)
        err = cannot_open(what, path, errno, f);
    else if (S_ISDIR(st.st_mode))
        err = cannot_open(what, path, EISDIR, f);
    else if (!S_ISREG(st.st_mode))
        err = failure_set(f, STATUS_FAILED, EINVAL, "cannot open %s: %s: not a regular file", what, path);
    else if (st.st_size == 0)
        err = failure_set(f, STATUS_FAILED, EINVAL, "cannot open %s: %s: the file is empty", what, path);
    if (err) {
        close(in);
        return err;
    }
    *fd = in;
    return 0;
}

static int open_boot_image(const char *what, const char *path, uint64_t memory, int *fd, struct failure *f)
{
    int in;
    int err = images_open_input(what, path, &in, f);
    if (err)
        return err;
    struct stat st;
    if (fstat(in, &st) < 0 || (uint64_t)st.st_size > memory) {
        close(in);
        return failure_set(f, STATUS_FAILED, EFBIG, "%s: %s: %lld bytes do not fit into %llu MiB of memory",
                           what, path, (long long)st.st_size, (unsigned long long)(memory >> 20));
    }
    *fd = in;
    return 0;
}

static int copy_file(int to, int from, uint64_t *size)
{
    off_t at = 0;
    for (;;) {
        ssize_t n = sendfile(to, from, &at, 1 << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *size = (uint64_t)at;
            return n < 0 ? -errno : 0;
        }
    }
}

static int read_script(const char *path, void **data, size_t *len, struct failure *f)
{
    int fd;
    int err = images_open_input("batch script", path, &fd, f);
    if (err)
        return err;
    struct stat st;
    void *buf = NULL;
    if (fstat(fd, &st) < 0 || st.st_size > BATCH_MAX_BYTES)
        err = failure_set(f, STATUS_FAILED, EFBIG, "cannot read batch script: %s: larger than 64 MiB", path);
    else if (!(buf = malloc((size_t)st.st_size)))
        err =
            failure_set(f, STATUS_FAILED, ENOMEM, "cannot read batch script: %s: %s", path, strerror(ENOMEM));
    else if (pread(fd, buf, (size_t)st.st_size, 0) != st.st_size)
        err = failure_set(f, STATUS_FAILED, EIO, "cannot read batch script: %s: %s", path, strerror(EIO));
    close(fd);
    if (err) {
        free(buf);
        return err;
    }
    *data = buf;
    *len = (size_t)st.st_size;
    return 0;
}

/* Replaces *initrd (-1: none) by a memfd that holds it and, after it, an archive with the script. */
static int append_script(const char *script, int *initrd, struct failure *f)
{
    void *data;
    size_t len;
    int err = read_script(script, &data, &len, f);
    if (err)
        return err;
    uint64_t size = 0;
    int fd = memfd_create("initrd", MFD_CLOEXEC);
    err = fd < 0 ? -errno : 0;
    if (!err && *initrd >= 0)
        err = copy_file(fd, *initrd, &size);
    if (!err)
        err = cpio_align(fd, size);
    if (!err)
        err = cpio_file(fd, "cleave/batch", 0755, data, len);
    if (!err)
        err = cpio_trailer(fd);
    free(data);
    if (err) {
        if (fd >= 0)
            close(fd);
        return failure_set(f, STATUS_FAILED, -err, "cannot build the initrd of the batch run: %s",
                           strerror(-err));
    }
    if (*initrd >= 0)
        close(*initrd);
    *initrd = fd;
    return 0;
}

static int open_bios(const struct config *c, int *fd, struct failure *f)
{
    if (c->bios && strcmp(c->bios, "none") == 0)
        return 0;
    const char *path = c->bios ? c->bios : images_default_bios();
    if (path)
        return open_boot_image("bios", path, c->memory, fd, f);
    failure_set(f, STATUS_FAILED, ENOENT, "cannot open bios: no OpenSBI firmware is installed");
    failure_hint(f, "install the package 'opensbi', or give --bios FILE or --bios none");
    return -ENOENT;
}

int images_open_boot(const struct config *c, struct boot_images *b, struct failure *f)
{
    struct boot_images out = {-1, -1, -1};
    int err = 0;
    if (c->kernel)
        err = open_boot_image("kernel", c->kernel, c->memory, &out.kernel, f);
    if (!err)
        err = open_bios(c, &out.bios, f);
    if (!err && c->initrd)
        err = open_boot_image("initrd", c->initrd, c->memory, &out.initrd, f);
    if (!err && c->batch)
        err = append_script(c->batch, &out.initrd, f);
    if (err) {
        images_close_boot(&out);
        return err;
    }
    *b = out;
    return 0;
}

void images_close_boot(struct boot_images *b)
{
    int *fds[] = {&b->kernel, &b->bios, &b->initrd};
    for (unsigned i = 0; i < 3; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

static int lock_byte(int fd, bool exclusive, int64_t at)
{
    struct flock lock = {
        .l_type = exclusive ? F_WRLCK : F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = at,
        .l_len = 1,
    };
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static int lock_disk(const struct config_disk *d, const char *path, int fd, bool exclusive, struct failure *f)
{
    int err = lock_byte(fd, exclusive, LOCK_MACHINE);
    if (err == -EAGAIN || err == -EACCES) {
        failure_set(f, STATUS_FAILED, EBUSY, "disk '%s': %s is in use by another process", d->id, path);
        failure_hint(f, "an image has one writer; use it with ',overlay', or with ',ro' in every machine");
        return -EBUSY;
    }
    if (err)
        return failure_set(f, STATUS_FAILED, -err, "disk '%s': cannot lock %s: %s", d->id, path,
                           strerror(-err));
    return 0;
}

static int check_disk(const struct config_disk *d, int fd, struct failure *f)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot open disk '%s': %s: %s", d->id, d->path,
                           strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return failure_set(f, STATUS_FAILED, EINVAL, "cannot open disk '%s': %s: %s", d->id, d->path,
                           S_ISDIR(st.st_mode) ? strerror(EISDIR) : "neither a file nor a block device");
    off_t size = S_ISREG(st.st_mode) ? st.st_size : lseek(fd, 0, SEEK_END);
    if (size == 0)
        return failure_set(f, STATUS_FAILED, EINVAL, "cannot open disk '%s': %s: the file is empty", d->id,
                           d->path);
    if (size < 0 || size % 512)
        return failure_set(
            f, STATUS_FAILED, EINVAL,
            "cannot open disk '%s': %s: %lld bytes are not a multiple of 512: is the file truncated?", d->id,
            d->path, (long long)size);
    return 0;
}

static int open_temporary(void)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : memfd_create("overlay", MFD_CLOEXEC);
}

static int open_overlay(const struct config_disk *d, int *out, struct failure *f)
{
    const char *path = d->overlay_path ? d->overlay_path : "temporary overlay";
    int fd = d->overlay_path ? open(d->overlay_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600)
                             : open_temporary();
    if (fd < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot open overlay of disk '%s': %s: %s", d->id, path,
                           strerror(errno));
    struct stat st;
    int err = 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        err = failure_set(f, STATUS_FAILED, EINVAL,
                          "cannot open overlay of disk '%s': %s: not a regular file", d->id, path);
    if (!err && d->overlay_path)
        err = lock_disk(d, path, fd, true, f);
    if (err) {
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

int images_open_disk(const struct config_disk *d, struct disk_image *i, struct failure *f)
{
    bool writable = !d->ro && !d->overlay;
    struct disk_image out = {-1, -1};
    out.image = open(d->path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (out.image < 0) {
        int err = errno;
        failure_set(f, STATUS_FAILED, err, "cannot open disk '%s': %s: %s", d->id, d->path, strerror(err));
        if (writable && (err == EACCES || err == EROFS) && access(d->path, R_OK) == 0)
            failure_hint(f, "the image can be read: add ',ro' or ',overlay'");
        return -err;
    }
    int err = check_disk(d, out.image, f);
    if (!err)
        err = lock_disk(d, d->path, out.image, writable, f);
    if (!err && d->overlay)
        err = open_overlay(d, &out.overlay, f);
    if (err) {
        images_close_disk(&out);
        return err;
    }
    *i = out;
    return 0;
}

void images_close_disk(struct disk_image *i)
{
    if (i->image >= 0)
        close(i->image);
    if (i->overlay >= 0)
        close(i->overlay);
    *i = (struct disk_image){-1, -1};
}

int images_incarnate(int fd, bool writable, int *out, const char *id, struct failure *f)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int copy = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (copy < 0)
        return failure_set(f, STATUS_FAILED, errno, "disk '%s': cannot reopen the image: %s", id,
                           strerror(errno));
    int err = lock_byte(copy, writable, LOCK_INCARNATION);
    if (err) {
        close(copy);
        return failure_set(f, STATUS_FAILED, EBUSY, "disk '%s': an earlier process still holds the image",
                           id);
    }
    *out = copy;
    return 0;
}

int images_open_output(const char *what, const char *id, const char *path, int *fd, struct failure *f)
{
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (out < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot open %s of '%s': %s: %s", what, id, path,
                           strerror(errno));
    *fd = out;
    return 0;
}
