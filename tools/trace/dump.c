/* `cleave trace dump`: records as JSON lines, as the log has them. */
#include "tools/trace/bodies.h"
#include "tools/trace/entry.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <string.h>

#define MAX_LIST 64

struct filter {
    const char *devices[MAX_LIST];
    uint32_t kinds; /* bit n: kind n; 0: all */
    uint64_t from, until;
};

static int check_devices(const struct trace *t, const struct filter *w, struct failure *f)
{
    for (unsigned i = 0; w->devices[i]; i++) {
        if (strcmp(w->devices[i], "machine") != 0 && !trace_device_named(t, w->devices[i])) {
            failure_set(f, STATUS_USAGE, EINVAL, "%s: no device '%s' in this trace", t->path, w->devices[i]);
            return failure_hint(f, "'cleave trace info %s' lists the devices", t->path);
        }
    }
    return 0;
}

static int read_filter(const struct invocation *in, const struct trace *t, struct filter *w,
                       struct failure *f)
{
    const char *kinds[MAX_LIST];
    *w = (struct filter){.until = UINT64_MAX};
    int err = trace_option_list(in, "device", w->devices, MAX_LIST, f);
    if (!err)
        err = trace_option_list(in, "kind", kinds, MAX_LIST, f);
    if (!err)
        err = trace_option_number(in, "from", &w->from, f);
    if (!err)
        err = trace_option_number(in, "until", &w->until, f);
    if (!err)
        err = check_devices(t, w, f);
    for (unsigned i = 0; !err && kinds[i]; i++)
        w->kinds |= 1u << trace_kind_named(kinds[i]);
    return err;
}

static bool wanted(const struct filter *w, const struct trace *t, const struct journal_entry *e)
{
    unsigned kind = e->type == JOURNAL_STATE_HASH ? TRACE_KIND_HASH : e->c.kind;
    if (w->kinds && (kind >= TRACE_KINDS || !(w->kinds >> kind & 1)))
        return false;
    if (!w->devices[0])
        return true;
    if (e->type == JOURNAL_STATE_HASH)
        return false;
    for (unsigned i = 0; w->devices[i]; i++) {
        if (strcmp(w->devices[i], trace_device(t, e->c.device)) == 0)
            return true;
    }
    return false;
}

/* `b`: NULL without bodies. */
static int print_entry(struct trace *t, const struct journal_entry *e, struct bodies *b, struct failure *f)
{
    struct line l;
    const uint8_t *data;
    int got = b ? bodies_get(b, e, &data, f) : 0;
    if (got < 0)
        return got;
    line_begin(&l, stdout);
    entry_members(&l, t, e);
    if (got > 0)
        line_base64(&l, "body", data, e->c.len);
    line_end(&l);
    return ferror(stdout) ? failure_set(f, STATUS_FAILED, EIO, "cannot write to stdout") : 0;
}

static int dump(struct trace *t, const struct filter *w, struct bodies *b, struct failure *f)
{
    struct journal_entry e;
    int got = log_reader_seek(t->reader, w->from);
    if (got < 0)
        return trace_fail(t->path, log_reader_error(t->reader), f);
    while ((got = trace_next(t, &e, f)) > 0 && e.c.icount <= w->until) {
        if (wanted(w, t, &e))
            got = print_entry(t, &e, b, f);
        if (got < 0)
            break;
    }
    return got < 0 ? got : STATUS_OK;
}

int verb_trace_dump(const struct invocation *in, struct failure *f)
{
    struct trace t;
    struct filter w;
    struct bodies b;
    const char *images[MAX_LIST];
    int err = trace_option_list(in, "image", images, MAX_LIST, f);
    if (!err)
        err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    err = read_filter(in, &t, &w, f);
    if (!err)
        err = bodies_init(&b, &t, images, f);
    if (!err) {
        err = dump(&t, &w, options_has(in, "bodies") ? &b : NULL, f);
        bodies_free(&b);
    }
    trace_close(&t);
    return err;
}
