/* `cleave trace verify`: every block, every reference, and the files as far as they are here. */
#include "tools/supervisor/message.h"
#include "tools/trace/bodies.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAX_LIST 64

struct verdict {
    struct log_summary summary;
    struct log_error error; /* where a torn log is torn */
    uint64_t references, unresolved;
    unsigned missing; /* files */
};

/* Files have to be what was recorded wherever they are; one that is not here is no damage. */
static int check_files(struct bodies *b, struct verdict *v, struct failure *f)
{
    const struct trace *t = b->trace;
    for (size_t i = 0; i < t->header->n_files; i++) {
        const Cleave__LogFile *file = t->header->files[i];
        enum file_state state = bodies_file_state(b, file);
        v->missing += state == FILE_MISSING;
        if (state == FILE_CHANGED && file->stored)
            return failure_set(f, STATUS_FAILED, EBADMSG, "%s: damaged: the copy of %s (%s) in it", t->path,
                               file->role, file->name);
        if (state == FILE_CHANGED)
            return failure_set(f, STATUS_FAILED, EBADMSG, "%s: image changed: %s (%s)", t->path, file->name,
                               file->role);
    }
    return 0;
}

static bool is_missing(struct bodies *b, const struct journal_entry *e, uint64_t *missing)
{
    if (e->form != JOURNAL_FILE)
        return false;
    const Cleave__LogFile *file = trace_file(b->trace, e->file);
    if (e->file != *missing && file && bodies_is_open(b, file))
        return false;
    if (e->file != *missing && file && bodies_file_state(b, file) == FILE_MISSING)
        *missing = e->file;
    return e->file == *missing;
}

static int check_references(struct bodies *b, struct verdict *v, struct failure *f)
{
    struct journal_entry e;
    const uint8_t *data;
    uint64_t missing = UINT64_MAX;
    int got;
    while ((got = trace_next(b->trace, &e, f)) > 0) {
        if (e.type != JOURNAL_CROSSING || (e.form != JOURNAL_FILE && e.form != JOURNAL_SAME))
            continue;
        v->references++;
        if (is_missing(b, &e, &missing))
            v->unresolved++;
        else
            got = bodies_get(b, &e, &data, f);
        if (got < 0)
            return got;
    }
    return got;
}

static const char *ending_name(enum log_ending e)
{
    return e == LOG_ENDED ? "ended" : e == LOG_TORN ? "torn" : "open";
}

static void report(const struct trace *t, const struct verdict *v)
{
    const struct log_summary *s = &v->summary;
    if (message_style.json) {
        json_t *o = json_pack("{s:o, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:i}", "trace", trace_json(t->path),
                              "good", 1, "ending", ending_name(s->ending), "blocks", (json_int_t)s->blocks,
                              "records", (json_int_t)s->records, "icount", (json_int_t)s->icount,
                              "references", (json_int_t)v->references, "unresolved",
                              (json_int_t)v->unresolved, "missing_files", (int)v->missing);
        message_data(o);
        json_decref(o);
        return;
    }
    printf("%s: good: %" PRIu64 " records in %" PRIu64 " blocks, up to step %" PRIu64 "\n", t->path,
           s->records, s->blocks, s->icount);
    if (s->ending == LOG_TORN)
        printf("it ends inside a block, at offset %" PRIu64 ": its writer was killed\n", v->error.offset);
    else if (s->ending == LOG_OPEN)
        printf("it has no end: it is still being recorded, or its writer was killed\n");
    if (v->missing)
        printf("%u of the files that it needs are not here; %" PRIu64
               " references to them were not checked\n",
               v->missing, v->unresolved);
}

static int verify(struct trace *t, const char *const *images, struct failure *f)
{
    struct verdict v = {0};
    struct bodies b;
    if (log_verify(t->fd, &v.summary, &v.error) < 0)
        return trace_fail(t->path, &v.error, f);
    int err = bodies_init(&b, t, images, f);
    if (err)
        return err;
    err = check_files(&b, &v, f);
    if (!err)
        err = check_references(&b, &v, f);
    bodies_free(&b);
    if (!err)
        report(t, &v);
    return err;
}

int verb_trace_verify(const struct invocation *in, struct failure *f)
{
    struct trace t;
    const char *images[MAX_LIST];
    int err = trace_option_list(in, "image", images, MAX_LIST, f);
    if (!err)
        err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    err = verify(&t, images, f);
    trace_close(&t);
    return err;
}
