/* Bodies by reference. What a reference finds counts only if its digest is the recorded one. Must not know
 * what bodies mean. */
#include "tools/trace/bodies.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char *image_of(const struct bodies *b, const Cleave__LogFile *file)
{
    for (const char *const *i = b->images; i && *i; i++) {
        const char *equals = strchr(*i, '=');
        if (trace_file_is(file, *i, (size_t)(equals - *i)))
            return equals + 1;
    }
    return NULL;
}

static int check_image(const struct trace *t, const char *image, struct failure *f)
{
    const char *equals = strchr(image, '=');
    if (!equals || equals == image || !equals[1])
        return failure_set(f, STATUS_USAGE, EINVAL, "--image: '%s' is not ID=FILE", image);
    for (size_t i = 0; i < t->header->n_files; i++) {
        if (trace_file_is(t->header->files[i], image, (size_t)(equals - image)))
            return 0;
    }
    failure_set(f, STATUS_USAGE, EINVAL, "--image: %s: no file '%.*s' in this trace", t->path,
                (int)(equals - image), image);
    return failure_hint(f, "'cleave trace info %s' lists the files", t->path);
}

int bodies_init(struct bodies *b, struct trace *t, const char *const *images, struct failure *f)
{
    *b = (struct bodies){.trace = t, .images = images};
    int err = 0;
    for (const char *const *i = images; !err && i && *i; i++)
        err = check_image(t, *i, f);
    return err;
}

enum file_state bodies_file_state(struct bodies *b, const Cleave__LogFile *file)
{
    return trace_file_state(b->trace, file, image_of(b, file));
}

bool bodies_is_open(const struct bodies *b, const Cleave__LogFile *file)
{
    for (unsigned i = 0; i < b->nopen; i++) {
        if (b->open[i].file == file)
            return true;
    }
    return false;
}

void bodies_free(struct bodies *b)
{
    for (unsigned i = 0; i < b->nopen; i++)
        close(b->open[i].fd);
    log_reader_close(b->earlier);
    free(b->buffer);
}

static int reserve(struct bodies *b, size_t need, struct failure *f)
{
    if (need <= b->size)
        return 0;
    uint8_t *p = realloc(b->buffer, need);
    if (!p)
        return failure_set(f, STATUS_FAILED, ENOMEM, "%s: %s", b->trace->path, strerror(ENOMEM));
    b->buffer = p;
    b->size = need;
    return 0;
}

static int open_failed(const struct bodies *b, const Cleave__LogFile *file, const char *path,
                       enum file_state state, int err, struct failure *f)
{
    const char *id = strchr(file->role, ':') ? strchr(file->role, ':') + 1 : file->role;
    if (state == FILE_CHANGED)
        failure_set(f, STATUS_FAILED, -err, "%s: image changed: %s (%s)", b->trace->path, path, file->role);
    else
        failure_set(f, STATUS_FAILED, -err, "%s: cannot open %s: %s: %s", b->trace->path, file->role, path,
                    strerror(-err));
    failure_hint(f, "--image %s=FILE says where the file is that was recorded", id);
    return err;
}

int bodies_open_file(struct bodies *b, const Cleave__LogFile *file, struct failure *f)
{
    enum file_state state;
    for (unsigned i = 0; i < b->nopen; i++) {
        if (b->open[i].file == file)
            return b->open[i].fd;
    }
    if (b->nopen == BODIES_MAX_FILES)
        return failure_set(f, STATUS_FAILED, EMFILE, "%s: more than %d files", b->trace->path,
                           BODIES_MAX_FILES);
    const char *image = image_of(b, file);
    int fd = trace_file_open(b->trace, file, image, &state);
    if (fd < 0)
        return open_failed(b, file, image ? image : file->name, state, fd, f);
    b->open[b->nopen].file = file;
    b->open[b->nopen++].fd = fd;
    return fd;
}

static int from_file(struct bodies *b, const struct journal_entry *e, const uint8_t **data, struct failure *f)
{
    const Cleave__LogFile *file = trace_file(b->trace, e->file);
    if (!file)
        return failure_set(f, STATUS_FAILED, EBADMSG,
                           "%s: damaged: record %" PRIu64 " refers to file %" PRIu64
                           ", which the header does not list",
                           b->trace->path, e->number, e->file);
    if (e->c.len > LOG_MAX_BLOCK)
        return failure_set(f, STATUS_FAILED, EBADMSG, "%s: damaged: record %" PRIu64 " has too long a body",
                           b->trace->path, e->number);
    int fd = bodies_open_file(b, file, f);
    if (fd < 0)
        return fd;
    int err = reserve(b, e->c.len + (size_t)1, f);
    if (err)
        return err;
    uint32_t len = e->c.len - e->tail;
    ssize_t n = pread(fd, b->buffer, len, (off_t)e->offset);
    if (e->tail)
        memcpy(b->buffer + len, e->body, e->tail);
    if (n != (ssize_t)len || XXH3_64bits(b->buffer, e->c.len) != e->c.digest)
        return failure_set(f, STATUS_FAILED, EBADMSG,
                           "%s: image changed: %s (%s): the %u bytes at offset %" PRIu64
                           " are not those of record %" PRIu64,
                           b->trace->path, file->name, file->role, len, e->offset, e->number);
    *data = b->buffer;
    return 1;
}

static int bad_reference(const struct bodies *b, const struct journal_entry *e, struct failure *f)
{
    return failure_set(f, STATUS_FAILED, EBADMSG,
                       "%s: damaged: record %" PRIu64 " refers to record %" PRIu64
                       ", which does not have its body",
                       b->trace->path, e->number, e->file);
}

static int from_earlier(struct bodies *b, const struct journal_entry *e, const uint8_t **data,
                        struct failure *f)
{
    struct log_error error;
    struct journal_entry was;
    if (!b->earlier && log_reader_open(&b->earlier, b->trace->fd, &error) < 0)
        return trace_fail(b->trace->path, &error, f);
    if (e->file >= e->number)
        return bad_reference(b, e, f);
    int err = log_reader_seek_record(b->earlier, e->file);
    int got = err ? err : log_reader_next(b->earlier, &was);
    if (got < 0)
        return trace_fail(b->trace->path, log_reader_error(b->earlier), f);
    if (!got || was.number != e->file || was.form != JOURNAL_INLINE || was.c.len != e->c.len ||
        was.c.digest != e->c.digest)
        return bad_reference(b, e, f);
    *data = was.c.len ? was.body : (const uint8_t *)"";
    return 1;
}

int bodies_get(struct bodies *b, const struct journal_entry *e, const uint8_t **data, struct failure *f)
{
    if (e->type != JOURNAL_CROSSING)
        return 0;
    switch (e->form) {
    case JOURNAL_INLINE:
        *data = e->c.len ? e->body : (const uint8_t *)"";
        return 1;
    case JOURNAL_FILE:
        return from_file(b, e, data, f);
    case JOURNAL_SAME:
        return from_earlier(b, e, data, f);
    default:
        return 0;
    }
}
