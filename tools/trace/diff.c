/* `cleave trace diff`: the first crossing in which two recordings differ. State hashes are compared where
 * both have one at the same place. */
#include "tools/supervisor/message.h"
#include "tools/trace/entry.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct side {
    struct trace trace;
    struct journal_entry entry;
    int got; /* of the last read: 1 with an entry, 0 at the end */
};

struct comparison {
    struct side a, b;
    uint64_t crossings, hashes; /* that are equal */
    const char *field;          /* that differs, or NULL */
};

/* The fields of crossings, in the order in which they are compared; a difference in an early one explains
 * those after it. */
#define CROSSING_FIELDS(X)                                                                                   \
    X(seq) X(icount) X(device) X(kind) X(direction) X(queue) X(request) X(arg) X(len) X(digest) X(pc)

static const char *field_that_differs(const struct journal_entry *a, const struct journal_entry *b)
{
#define X(name)                                                                                              \
    if (a->c.name != b->c.name)                                                                              \
        return #name;
    CROSSING_FIELDS(X)
#undef X
    return NULL;
}

static bool is_hash(const struct side *s)
{
    return s->got > 0 && s->entry.type == JOURNAL_STATE_HASH;
}

static int advance(struct side *s, struct failure *f)
{
    s->got = trace_next(&s->trace, &s->entry, f);
    return s->got < 0 ? s->got : 0;
}

/* A hash that the other side has none for is passed over. */
static int align(struct comparison *c, struct failure *f)
{
    for (;;) {
        struct side *pass = NULL;
        if (is_hash(&c->a) && is_hash(&c->b)) {
            if (c->a.entry.c.icount != c->b.entry.c.icount)
                pass = c->a.entry.c.icount < c->b.entry.c.icount ? &c->a : &c->b;
        } else if (is_hash(&c->a)) {
            pass = &c->a;
        } else if (is_hash(&c->b)) {
            pass = &c->b;
        }
        int err = pass ? advance(pass, f) : 0;
        if (!pass || err)
            return err;
    }
}

static const char *compare_ends(const struct comparison *c)
{
    const Cleave__LogEnd *a = log_reader_end(c->a.trace.reader), *b = log_reader_end(c->b.trace.reader);
    if (!a || !b)
        return a == b ? NULL : "ending";
    return a->icount != b->icount || strcmp(a->reason, b->reason) != 0 ? "ending" : NULL;
}

static int compare(struct comparison *c, struct failure *f)
{
    int err = 0;
    while (!err && !c->field) {
        err = advance(&c->a, f);
        if (!err)
            err = advance(&c->b, f);
        if (!err)
            err = align(c, f);
        if (err)
            break;
        if (c->a.got != c->b.got)
            c->field = "end";
        else if (!c->a.got)
            break;
        else if (is_hash(&c->a))
            c->field = c->a.entry.c.digest != c->b.entry.c.digest ? "hash" : NULL;
        else
            c->field = field_that_differs(&c->a.entry, &c->b.entry);
        if (!c->field)
            *(is_hash(&c->a) ? &c->hashes : &c->crossings) += 1;
    }
    if (!err && !c->field)
        c->field = compare_ends(c);
    return err;
}

static bool bytes_differ(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len != b.len || (a.len && memcmp(a.data, b.data, a.len) != 0);
}

static bool files_differ(const Cleave__LogHeader *a, const Cleave__LogHeader *b)
{
    if (a->n_files != b->n_files)
        return true;
    for (size_t i = 0; i < a->n_files; i++) {
        const Cleave__LogFile *x = a->files[i], *y = b->files[i];
        if (strcmp(x->role, y->role) != 0 || x->size != y->size || bytes_differ(x->digest, y->digest) ||
            x->first_digest != y->first_digest || x->last_digest != y->last_digest)
            return true;
    }
    return false;
}

static bool devices_differ(const Cleave__LogHeader *a, const Cleave__LogHeader *b)
{
    if (a->n_devices != b->n_devices)
        return true;
    for (size_t i = 0; i < a->n_devices; i++) {
        if (strcmp(a->devices[i]->id, b->devices[i]->id) != 0 ||
            strcmp(a->devices[i]->kind, b->devices[i]->kind) != 0)
            return true;
    }
    return false;
}

/* Parts of the machines that differ, for the report; ends with NULL. */
static void compare_headers(const Cleave__LogHeader *a, const Cleave__LogHeader *b, const char *parts[7])
{
    unsigned n = 0;
    if (strcmp(a->isa, b->isa) != 0)
        parts[n++] = "isa";
    if (a->seed != b->seed)
        parts[n++] = "seed";
    if (strcmp(a->configuration, b->configuration) != 0)
        parts[n++] = "configuration";
    if (bytes_differ(a->device_tree, b->device_tree))
        parts[n++] = "device tree";
    if (files_differ(a, b))
        parts[n++] = "files";
    if (devices_differ(a, b))
        parts[n++] = "devices";
    parts[n] = NULL;
}

static void json_side(FILE *out, const char *key, const struct side *s)
{
    struct line l;
    fprintf(out, ",\"%s\":", key);
    if (!s->got) {
        fputs("null", out);
        return;
    }
    line_begin(&l, out);
    entry_members(&l, &s->trace, &s->entry);
    line_close(&l);
}

static void report_json(const struct comparison *c, const char *const *parts)
{
    struct line l;
    line_begin(&l, stdout);
    fprintf(stdout, "\"equal\":%s", c->field ? "false" : "true");
    l.more = true;
    line_number(&l, "crossings", c->crossings);
    line_number(&l, "state_hashes", c->hashes);
    fputs(",\"header\":[", stdout);
    for (unsigned i = 0; parts[i]; i++)
        fprintf(stdout, "%s\"%s\"", i ? "," : "", parts[i]);
    putchar(']');
    if (c->field) {
        line_text(&l, "field", c->field);
        json_side(stdout, "a", &c->a);
        json_side(stdout, "b", &c->b);
    }
    line_end(&l);
}

enum row { RECORD, SEQ, ICOUNT, DEVICE, KIND, DIRECTION, QUEUE, REQUEST, ARG, LEN, DIGEST, PC, ROWS };

static const char *const row_names[ROWS] = {"record", "seq",     "icount", "device", "kind",   "direction",
                                            "queue",  "request", "arg",    "len",    "digest", "pc"};

#define ROW_SIZE 64

/* An entry's fields as text; empty ones are not shown. */
static void describe(const struct side *s, char text[ROWS][ROW_SIZE])
{
    const struct crossing *c = &s->entry.c;
    memset(text, 0, ROWS * ROW_SIZE);
    snprintf(text[KIND], ROW_SIZE, "%s", s->got ? trace_kind(&s->entry) : "(the end)");
    if (!s->got)
        return;
    snprintf(text[RECORD], ROW_SIZE, "%" PRIu64, s->entry.number);
    snprintf(text[ICOUNT], ROW_SIZE, "%" PRIu64, c->icount);
    snprintf(text[PC], ROW_SIZE, "0x%" PRIx64, c->pc);
    snprintf(text[DIGEST], ROW_SIZE, "%016" PRIx64, c->digest);
    if (is_hash(s))
        return;
    snprintf(text[SEQ], ROW_SIZE, "%" PRIu64, c->seq);
    snprintf(text[DEVICE], ROW_SIZE, "%s", trace_device(&s->trace, c->device));
    snprintf(text[DIRECTION], ROW_SIZE, "%s", c->direction == CROSSING_IN ? "in" : "out");
    snprintf(text[QUEUE], ROW_SIZE, "%u", c->queue);
    snprintf(text[REQUEST], ROW_SIZE, "%" PRIu64, c->request);
    snprintf(text[ARG], ROW_SIZE, "%" PRIu64, c->arg);
    snprintf(text[LEN], ROW_SIZE, "%u", c->len);
}

static void print_rows(FILE *out, const struct comparison *c)
{
    char a[ROWS][ROW_SIZE], b[ROWS][ROW_SIZE];
    describe(&c->a, a);
    describe(&c->b, b);
    for (unsigned i = 0; i < ROWS; i++) {
        if (*a[i] || *b[i])
            fprintf(out, "%c %-10s %-24s %s\n", strcmp(a[i], b[i]) != 0 ? '*' : ' ', row_names[i], a[i],
                    b[i]);
    }
}

static void print_ending(FILE *out, const struct side *s)
{
    const Cleave__LogEnd *end = log_reader_end(s->trace.reader);
    if (end)
        fprintf(out, "  %s: %s, at step %" PRIu64 "\n", s->trace.path, end->reason, end->icount);
    else
        fprintf(out, "  %s: no end\n", s->trace.path);
}

static void report(const struct comparison *c, const char *const *parts)
{
    char *text;
    size_t size;
    FILE *out = trace_print_begin(&text, &size);
    if (!out)
        return;
    for (; *parts; parts++)
        fprintf(out, "the machines differ in: %s\n", *parts);
    fprintf(out, "equal: %" PRIu64 " crossings, %" PRIu64 " state hashes\n", c->crossings, c->hashes);
    if (c->field && strcmp(c->field, "ending") == 0) {
        fprintf(out, "first difference: how they end\n");
        print_ending(out, &c->a);
        print_ending(out, &c->b);
    } else if (c->field) {
        fprintf(out, "first difference: %s\n  %-10s %-24s %s\n", c->field, "", c->a.trace.path,
                c->b.trace.path);
        print_rows(out, c);
    }
    trace_print_end(out, &text, &size);
}

static int diff(struct comparison *c, struct failure *f)
{
    const char *parts[7];
    int err = compare(c, f);
    if (err)
        return err;
    compare_headers(c->a.trace.header, c->b.trace.header, parts);
    if (message_style.json)
        report_json(c, parts);
    else
        report(c, parts);
    return c->field ? STATUS_FAILED : STATUS_OK;
}

int verb_trace_diff(const struct invocation *in, struct failure *f)
{
    struct comparison c = {0};
    int err = trace_open(&c.a.trace, in->args[0], f);
    if (err)
        return err;
    err = trace_open(&c.b.trace, in->args[1], f);
    if (!err) {
        err = diff(&c, f);
        trace_close(&c.b.trace);
    }
    trace_close(&c.a.trace);
    return err;
}
