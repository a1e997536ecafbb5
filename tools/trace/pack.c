/* `cleave trace pack`: the same records in a trace that needs no file but itself. */
#include "tools/supervisor/message.h"
#include "tools/trace/bodies.h"
#include "tools/trace/output.h"
#include "tools/trace/store.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LIST 64
#define LEVEL    9          /* of LZ4's slow compressor: beyond it, hardly smaller and much slower */
#define KNOWN    (1u << 16) /* inline bodies that are remembered, a power of two */

/* An inline body that was written: its record number, 0 for none. */
struct known {
    uint64_t digest, number;
    uint32_t len;
};

struct packing {
    struct trace *from;
    struct bodies bodies;
    struct log_writer *to;
    const char *path; /* of `to` */
    int fd;
    struct known *known;
    uint64_t inlined, stored;
    uint64_t before, after; /* bytes of both traces */
};

static struct known *known_of(struct packing *p, const struct journal_entry *e)
{
    return &p->known[e->c.digest & (KNOWN - 1)];
}

static int write_failed(const struct packing *p, int err, struct failure *f)
{
    return failure_set(f, STATUS_FAILED, -err, "cannot write %s: %s", p->path, strerror(-err));
}

/* Puts the body in place of a reference to a file. */
static int resolve(struct packing *p, struct journal_entry *e, struct failure *f)
{
    const uint8_t *data;
    const struct known *k = known_of(p, e);
    int got = bodies_get(&p->bodies, e, &data, f);
    if (got < 0)
        return got;
    p->inlined++;
    e->offset = 0;
    e->tail = 0;
    e->body = NULL;
    if (k->number && k->digest == e->c.digest && k->len == e->c.len) {
        e->form = JOURNAL_SAME;
        e->file = k->number;
    } else {
        e->form = JOURNAL_INLINE;
        e->file = 0;
        e->body = e->c.len ? data : NULL;
    }
    return 0;
}

static int copy_records(struct packing *p, struct failure *f)
{
    struct journal_entry e;
    int got;
    while ((got = trace_next(p->from, &e, f)) > 0) {
        if (e.type == JOURNAL_CROSSING && e.form == JOURNAL_FILE)
            got = resolve(p, &e, f);
        if (got < 0)
            return got;
        int err = log_writer_append(p->to, &e);
        if (err == -EINVAL)
            return failure_set(
                f, STATUS_FAILED, EINVAL,
                "%s: cannot be packed: it has records of a newer format before record %" PRIu64,
                p->from->path, e.number);
        if (err)
            return write_failed(p, err, f);
        if (e.form == JOURNAL_INLINE && e.c.len)
            *known_of(p, &e) = (struct known){e.c.digest, e.number, e.c.len};
    }
    return got;
}

/* The end as it was: a trace without one gets none. */
static int copy_end(struct packing *p, struct failure *f)
{
    const Cleave__LogEnd *end = log_reader_end(p->from->reader);
    int err = end ? log_writer_end(p->to, end->reason, end->error, end->icount) : log_writer_flush(p->to);
    if (!err && !end && (ftruncate(p->fd, (off_t)log_writer_status(p->to).bytes) < 0 || fsync(p->fd) < 0))
        err = -errno;
    if (err)
        return write_failed(p, err, f);
    if (!end)
        message_notice("%s has no end: its writer was killed, or still writes", p->from->path);
    return 0;
}

static int store_file(struct packing *p, const Cleave__LogFile *file, struct failure *f)
{
    int fd = bodies_open_file(&p->bodies, file, f);
    if (fd < 0)
        return fd;
    int err = log_writer_file(p->to, file->id, fd, file->size);
    if (err)
        return write_failed(p, err, f);
    p->stored++;
    return 0;
}

/* Of a disk, what was read of it is needed, and becomes inline; of what the machine is started from, all. */
static bool is_to_store(const Cleave__LogFile *file)
{
    return !file->unused && strncmp(file->role, "disk:", 5) != 0;
}

/* A file may have been recorded without a copy in the store, and so without a digest of all its bytes. */
static int complete(struct packing *p, const Cleave__LogFile *from, Cleave__LogFile *to,
                    struct store_digest *digest, struct failure *f)
{
    to->stored = is_to_store(from);
    to->unused = !to->stored;
    if (!to->stored || from->digest.len)
        return 0;
    int fd = bodies_open_file(&p->bodies, from, f);
    if (fd < 0)
        return fd;
    int err = store_digest(fd, digest, &to->size);
    to->digest = (ProtobufCBinaryData){.len = sizeof(digest->bytes), .data = digest->bytes};
    return err ? failure_set(f, STATUS_FAILED, -err, "%s: cannot read %s: %s", p->from->path, from->name,
                             strerror(-err))
               : 0;
}

static int write_header(struct packing *p, struct failure *f)
{
    Cleave__LogHeader h = *p->from->header;
    Cleave__LogFile *files = calloc(h.n_files + 1, sizeof(*files));
    Cleave__LogFile **list = calloc(h.n_files + 1, sizeof(*list));
    struct store_digest *digests = calloc(h.n_files + 1, sizeof(*digests));
    int err = files && list && digests ? 0 : write_failed(p, -ENOMEM, f);
    for (size_t i = 0; !err && i < h.n_files; i++) {
        files[i] = *p->from->header->files[i];
        list[i] = &files[i];
        err = complete(p, p->from->header->files[i], list[i], &digests[i], f);
    }
    h.files = list;
    if (!err) {
        err = log_writer_create(&p->to, p->fd, &(struct log_options){.level = LEVEL}, &h);
        err = err ? write_failed(p, err, f) : 0;
    }
    free(files);
    free(list);
    free(digests);
    return err;
}

static int write_files(struct packing *p, struct failure *f)
{
    const Cleave__LogHeader *h = p->from->header;
    int err = 0;
    for (size_t i = 0; !err && i < h->n_files; i++) {
        if (is_to_store(h->files[i]))
            err = store_file(p, h->files[i], f);
    }
    return err;
}

static void report(const struct packing *p)
{
    if (message_style.json) {
        json_t *o = json_pack("{s:o, s:I, s:I, s:I, s:I}", "trace", trace_json(p->path), "bytes",
                              (json_int_t)p->after, "from_bytes", (json_int_t)p->before, "files",
                              (json_int_t)p->stored, "inlined", (json_int_t)p->inlined);
        message_data(o);
        json_decref(o);
        return;
    }
    char from[32], to[32];
    printf("%s: %s from %s, with %" PRIu64 " files and %" PRIu64 " references inlined\n", p->path,
           trace_size_text(p->after, to, sizeof(to)), trace_size_text(p->before, from, sizeof(from)),
           p->stored, p->inlined);
}

static int pack(struct packing *p, struct failure *f)
{
    struct log_summary s;
    p->known = calloc(KNOWN, sizeof(*p->known));
    if (!p->known)
        return write_failed(p, -ENOMEM, f);
    int err = write_header(p, f);
    if (!err)
        err = write_files(p, f);
    if (!err)
        err = copy_records(p, f);
    if (!err)
        err = copy_end(p, f);
    if (!err) {
        log_reader_summary(p->from->reader, &s);
        p->before = s.bytes;
        p->after = log_writer_status(p->to).bytes;
    }
    return err;
}

static int pack_to(struct trace *t, const char *path, const char *const *images, struct failure *f)
{
    struct packing p = {.from = t, .path = path};
    struct output output;
    int err = bodies_init(&p.bodies, t, images, f);
    if (err)
        return err;
    err = output_open(&output, path, false, f);
    if (err) {
        bodies_free(&p.bodies);
        return err;
    }
    p.fd = output.fd;
    err = pack(&p, f);
    log_writer_destroy(p.to);
    free(p.known);
    bodies_free(&p.bodies);
    err = output_finish(&output, err, f);
    if (!err)
        report(&p);
    return err;
}

int verb_trace_pack(const struct invocation *in, struct failure *f)
{
    struct trace t;
    const char *images[MAX_LIST];
    int err = trace_option_list(in, "image", images, MAX_LIST, f);
    if (!err)
        err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    err = pack_to(&t, in->args[1], images, f);
    trace_close(&t);
    return err;
}
