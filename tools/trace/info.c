/* `cleave trace info`: what a trace is of, what it needs, what is in it. One pass over all records. */
#include "tools/supervisor/message.h"
#include "tools/trace/files.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct count {
    uint64_t crossings, bytes, kept; /* bytes of bodies, and how many of them are inline */
};

struct device_count {
    struct count kind[TRACE_KINDS];
};

/* What a pass over the records finds. */
struct survey {
    struct device_count *devices; /* one more than the header's: the machine itself comes last */
    size_t n;
    uint64_t records, hashes, other; /* other: of devices that the header does not list */
    uint64_t icount;
    bool damaged; /* what follows is not counted */
    struct trace_clock clock;
    uint64_t file_bytes; /* bodies that are references to files */
    struct log_summary summary;
};

static struct device_count *slot_of(struct survey *s, const struct trace *t, unsigned device)
{
    if (device == TRACE_MACHINE)
        return &s->devices[s->n - 1];
    for (size_t i = 0; i < t->header->n_devices; i++) {
        if (t->header->devices[i]->index == device)
            return &s->devices[i];
    }
    return NULL;
}

static void count_entry(struct survey *s, const struct trace *t, const struct journal_entry *e)
{
    s->records++;
    s->icount = e->c.icount;
    if (e->type == JOURNAL_STATE_HASH) {
        s->hashes++;
        return;
    }
    struct device_count *d = slot_of(s, t, e->c.device);
    trace_clock_apply(&s->clock, e);
    s->file_bytes += e->form == JOURNAL_FILE ? e->c.len : 0;
    if (!d || e->c.kind == 0 || e->c.kind >= TRACE_KINDS) {
        s->other++;
        return;
    }
    struct count *c = &d->kind[e->c.kind];
    c->crossings++;
    c->bytes += e->c.len;
    c->kept += e->form == JOURNAL_INLINE ? e->c.len : 0;
}

static int survey(struct trace *t, struct survey *s, struct failure *f)
{
    struct journal_entry e;
    int got;
    *s = (struct survey){.n = t->header->n_devices + 1, .clock = TRACE_CLOCK_START};
    s->devices = calloc(s->n, sizeof(*s->devices));
    if (!s->devices)
        return failure_set(f, STATUS_FAILED, ENOMEM, "%s: %s", t->path, strerror(ENOMEM));
    while ((got = trace_next(t, &e, f)) > 0)
        count_entry(s, t, &e);
    log_reader_summary(t->reader, &s->summary);
    const Cleave__LogEnd *end = log_reader_end(t->reader);
    if (end)
        s->icount = end->icount;
    s->damaged = got < 0;
    return got;
}

static const char *ending_name(const struct survey *s)
{
    enum log_ending e = s->summary.ending;
    return s->damaged ? "damaged" : e == LOG_ENDED ? "ended" : e == LOG_TORN ? "torn" : "open";
}

static json_t *json_files(struct trace *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->header->n_files; i++) {
        const Cleave__LogFile *file = t->header->files[i];
        char digest[33] = "";
        for (size_t b = 0; b < file->digest.len && b < 16; b++)
            snprintf(digest + 2 * b, 3, "%02x", file->digest.data[b]);
        json_array_append_new(list, json_pack("{s:I, s:o, s:o, s:I, s:s, s:s}", "id", (json_int_t)file->id,
                                              "role", trace_json(file->role), "name", trace_json(file->name),
                                              "size", (json_int_t)file->size, "digest", digest, "state",
                                              file_state_name(trace_file_state(t, file, NULL))));
    }
    return list;
}

static json_t *json_counts(const struct device_count *d)
{
    json_t *o = json_object();
    for (int k = 1; k < TRACE_KINDS; k++) {
        const struct count *c = &d->kind[k];
        if (c->crossings)
            json_object_set_new(o, trace_kind_name(k),
                                json_pack("{s:s, s:I, s:I, s:I}", "direction",
                                          k >= CROSSING_REQUEST ? "out" : "in", "count",
                                          (json_int_t)c->crossings, "bytes", (json_int_t)c->bytes, "inline",
                                          (json_int_t)c->kept));
    }
    return o;
}

static json_t *json_devices(const struct trace *t, const struct survey *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->header->n_devices; i++) {
        const Cleave__LogDevice *d = t->header->devices[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:i, s:i, s:o, s:b, s:o}", "id", trace_json(d->id),
                                              "kind", trace_json(d->kind), "index", (int)d->index, "slot",
                                              (int)d->slot, "backend", trace_json(d->backend), "closed",
                                              (int)d->closed, "crossings", json_counts(&s->devices[i])));
    }
    json_array_append_new(
        list, json_pack("{s:s, s:o}", "id", "machine", "crossings", json_counts(&s->devices[s->n - 1])));
    return list;
}

static json_t *json_ending(const struct trace *t, const struct survey *s)
{
    const Cleave__LogEnd *end = log_reader_end(t->reader);
    json_t *o = json_pack("{s:s, s:I}", "state", ending_name(s), "icount", (json_int_t)s->icount);
    if (end) {
        json_object_set_new(o, "reason", trace_json(end->reason));
        json_object_set_new(o, "error", json_integer(end->error));
    }
    if (s->damaged || s->summary.ending == LOG_TORN)
        json_object_set_new(o, "offset", json_integer((json_int_t)log_reader_error(t->reader)->offset));
    return o;
}

static json_t *json_info(struct trace *t, const struct survey *s)
{
    const Cleave__LogHeader *h = t->header;
    json_t *o =
        json_pack("{s:o, s:o, s:o, s:I, s:I, s:I}", "trace", trace_json(t->path), "build",
                  trace_json(h->build), "isa", trace_json(h->isa), "seed", (json_int_t)h->seed,
                  "rtc_start_ns", (json_int_t)h->rtc_start_ns, "created_ns", (json_int_t)h->created_ns);
    json_t *configuration = json_loads(h->configuration, 0, NULL);
    json_object_set_new(o, "configuration", configuration ? configuration : trace_json(h->configuration));
    json_object_set_new(o, "files", json_files(t));
    json_object_set_new(o, "devices", json_devices(t, s));
    json_object_set_new(o, "ending", json_ending(t, s));
    json_object_set_new(o, "steps", json_integer((json_int_t)s->icount));
    json_object_set_new(o, "virtual_ns", json_integer((json_int_t)trace_clock_ns(&s->clock, s->icount)));
    json_object_set_new(o, "records", json_integer((json_int_t)s->summary.records));
    json_object_set_new(o, "state_hashes", json_integer((json_int_t)s->hashes));
    json_object_set_new(o, "unknown", json_integer((json_int_t)(s->summary.unknown + s->other)));
    json_object_set_new(o, "blocks", json_integer((json_int_t)s->summary.blocks));
    json_object_set_new(o, "bytes", json_integer((json_int_t)s->summary.bytes));
    json_object_set_new(o, "raw_bytes", json_integer((json_int_t)s->summary.raw_bytes));
    json_object_set_new(o, "file_bytes", json_integer((json_int_t)s->file_bytes));
    return o;
}

static void print_head(FILE *out, const struct trace *t)
{
    char when[40] = "unknown";
    time_t seconds = (time_t)(t->header->created_ns / 1000000000);
    struct tm tm;
    if (t->header->created_ns && localtime_r(&seconds, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &tm);
    fprintf(out, "trace     %s\nbuild     %s\nrecorded  %s\nisa       %s\nseed      %" PRIu64 "\n", t->path,
            t->header->build, when, t->header->isa, t->header->seed);
}

/* Members that are values, on one line. */
static void print_configuration(FILE *out, const struct trace *t)
{
    const char *key;
    json_t *v, *o = json_loads(t->header->configuration, 0, NULL);
    const char *before = "machine   ";
    json_object_foreach(o, key, v)
    {
        char *text =
            json_is_object(v) || json_is_array(v) || json_is_null(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY);
        if (text)
            fprintf(out, "%s%s %s", before, key, text);
        before = text ? ", " : before;
        free(text);
    }
    if (before[0] == ',')
        fputc('\n', out);
    json_decref(o);
}

static void print_ending(FILE *out, const struct trace *t, const struct survey *s)
{
    const Cleave__LogEnd *end = log_reader_end(t->reader);
    if (end)
        fprintf(out, "ended     %s", end->reason);
    else if (s->damaged || s->summary.ending == LOG_TORN)
        fprintf(out, "ended     %s at offset %" PRIu64, ending_name(s), log_reader_error(t->reader)->offset);
    else
        fprintf(out, "ended     open: it is still being recorded, or was killed");
    fprintf(out, ", at step %" PRIu64 "\n", s->icount);
}

static void print_length(FILE *out, const struct trace *t, const struct survey *s)
{
    char stored[32], raw[32];
    print_ending(out, t, s);
    fprintf(out, "length    %" PRIu64 " steps, %.3f s of virtual time", s->icount,
            (double)trace_clock_ns(&s->clock, s->icount) / 1e9);
    fprintf(out, "\nrecords   %" PRIu64 ", with %" PRIu64 " state hashes\nsize      %s in %" PRIu64 " blocks",
            s->summary.records, s->hashes, trace_size_text(s->summary.bytes, stored, sizeof(stored)),
            s->summary.blocks);
    fprintf(out, "; records of %s before compression\n",
            trace_size_text(s->summary.raw_bytes, raw, sizeof(raw)));
    if (s->summary.unknown + s->other)
        fprintf(out, "unknown   %" PRIu64 " records\n", s->summary.unknown + s->other);
}

static void print_files(FILE *out, struct trace *t)
{
    char size[32];
    if (t->header->n_files)
        fprintf(out, "\n%-4s %-12s %-8s %10s  %s\n", "FILE", "ROLE", "STATE", "SIZE", "NAME");
    for (size_t i = 0; i < t->header->n_files; i++) {
        const Cleave__LogFile *file = t->header->files[i];
        fprintf(out, "%-4u %-12s %-8s %10s  %s\n", file->id, file->role,
                file_state_name(trace_file_state(t, file, NULL)),
                trace_size_text(file->size, size, sizeof(size)), file->name);
    }
}

static void print_counts(FILE *out, const char *id, const char *what, const struct device_count *d)
{
    char bytes[32], kept[32];
    bool named = false;
    for (int k = 1; k < TRACE_KINDS; k++) {
        const struct count *c = &d->kind[k];
        if (!c->crossings)
            continue;
        fprintf(out, "%-10s %-14s %-10s %-3s %10" PRIu64 " %10s %10s\n", named ? "" : id, named ? "" : what,
                trace_kind_name(k), k >= CROSSING_REQUEST ? "out" : "in", c->crossings,
                trace_size_text(c->bytes, bytes, sizeof(bytes)),
                trace_size_text(c->kept, kept, sizeof(kept)));
        named = true;
    }
    if (!named)
        fprintf(out, "%-10s %s\n", id, what);
}

static void print_devices(FILE *out, const struct trace *t, const struct survey *s)
{
    fprintf(out, "\n%-10s %-14s %-10s %-3s %10s %10s %10s\n", "DEVICE", "KIND", "CROSSING", "", "COUNT",
            "BYTES", "INLINE");
    for (size_t i = 0; i < t->header->n_devices; i++) {
        const Cleave__LogDevice *d = t->header->devices[i];
        char what[80];
        snprintf(what, sizeof(what), "%s%s%s", d->kind, *d->backend ? " " : "", d->backend);
        print_counts(out, d->id, what, &s->devices[i]);
    }
    print_counts(out, "machine", "", &s->devices[s->n - 1]);
}

static void print_info(struct trace *t, const struct survey *s)
{
    char *text;
    size_t size;
    FILE *out = trace_print_begin(&text, &size);
    if (!out)
        return;
    print_head(out, t);
    print_configuration(out, t);
    print_length(out, t, s);
    print_files(out, t);
    print_devices(out, t, s);
    trace_print_end(out, &text, &size);
}

int verb_trace_info(const struct invocation *in, struct failure *f)
{
    struct trace t;
    struct survey s;
    int err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    err = survey(&t, &s, f);
    if (s.devices && message_style.json) {
        json_t *o = json_info(&t, &s);
        message_data(o);
        json_decref(o);
    } else if (s.devices) {
        print_info(&t, &s);
    }
    free(s.devices);
    trace_close(&t);
    return err;
}
