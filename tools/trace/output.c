/* A file without a name where the file system has such ones, else one beside its place. Whatever ends the
 * process, nothing incomplete has the name that was asked for. */
#include "tools/trace/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(const struct output *o, int err, struct failure *f)
{
    return failure_set(f, STATUS_FAILED, err, "cannot %s %s: %s", o->replace ? "write" : "create",
                       o->path ? o->path : "to stdout", strerror(err));
}

static void release(struct output *o)
{
    if (o->file && o->file != stdout)
        fclose(o->file);
    else if (!o->file && o->fd >= 0)
        close(o->fd);
    if (o->name)
        unlink(o->name);
    free(o->name);
    free(o->target);
    *o = (struct output){.fd = -1};
}

static int make_named(struct output *o)
{
    if (asprintf(&o->name, "%s.XXXXXX", o->target) < 0) {
        o->name = NULL;
        return -ENOMEM;
    }
    o->fd = mkostemp(o->name, O_CLOEXEC);
    if (o->fd >= 0)
        return 0;
    int err = -errno;
    free(o->name);
    o->name = NULL;
    return err;
}

static int make(struct output *o)
{
    char *copy = strdup(o->target);
    if (!copy)
        return -ENOMEM;
    o->fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int err = o->fd < 0 ? -errno : 0;
    free(copy);
    return err == -EOPNOTSUPP || err == -EISDIR ? make_named(o) : err;
}

/* What is at the path decides how it is written. */
static int look(struct output *o)
{
    struct stat st;
    if (o->replace ? stat(o->path, &st) < 0 : lstat(o->path, &st) < 0) {
        o->target = errno == ENOENT ? strdup(o->path) : NULL;
        return errno != ENOENT ? -errno : o->target ? 0 : -ENOMEM;
    }
    if (!o->replace)
        return -EEXIST;
    if (!S_ISREG(st.st_mode)) {
        o->direct = true;
        o->fd = open(o->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return o->fd < 0 ? -errno : 0;
    }
    o->target = realpath(o->path, NULL);
    return o->target ? 0 : -errno;
}

int output_open(struct output *o, const char *path, bool replace, struct failure *f)
{
    struct stat st;
    *o = (struct output){.path = path, .direct = !path, .replace = replace, .fd = -1};
    if (!path) {
        o->fd = STDOUT_FILENO;
        return 0;
    }
    int err = look(o);
    if (!err && !o->direct)
        err = make(o);
    if (!err && !o->direct && stat(o->target, &st) == 0 && fchmod(o->fd, st.st_mode & 0777) < 0)
        err = -errno;
    if (!err)
        return 0;
    failed(o, -err, f);
    release(o);
    return err;
}

FILE *output_stream(struct output *o, struct failure *f)
{
    o->file = o->path ? fdopen(o->fd, "w") : stdout;
    if (!o->file)
        failed(o, errno, f);
    return o->file;
}

static int link_as(const struct output *o, const char *name)
{
    char self[40];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", o->fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* A temporary name for the file without one, by which it can take another's place. */
static int give_name(struct output *o)
{
    uint32_t random;
    char *name;
    int err;
    do {
        if (getrandom(&random, sizeof(random), 0) != sizeof(random) ||
            asprintf(&name, "%s.%08" PRIx32, o->target, random) < 0)
            return -ENOMEM;
        err = link_as(o, name);
        if (err)
            free(name);
    } while (err == -EEXIST);
    if (!err)
        o->name = name;
    return err;
}

static int take_name(struct output *o)
{
    if (!o->replace && !o->name)
        return link_as(o, o->target);
    if (!o->replace)
        return link(o->name, o->target) < 0 ? -errno : 0;
    int err = o->name ? 0 : give_name(o);
    if (err)
        return err;
    if (rename(o->name, o->target) < 0)
        return -errno;
    free(o->name);
    o->name = NULL;
    return 0;
}

int output_finish(struct output *o, int err, struct failure *f)
{
    int got = 0;
    if (!err && o->file && (ferror(o->file) || fflush(o->file) == EOF))
        got = errno ? -errno : -EIO;
    if (!err && !got && !o->direct)
        got = take_name(o);
    if (got)
        err = failed(o, -got, f);
    release(o);
    return err;
}
