/* A timeline: processes are devices, threads their queues, asynchronous slices requests, since those overlap.
 * Time is virtual; the position is an argument of everything. */
#include "tools/trace/export.h"
#include "tools/trace/line.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define THREAD_CLOCK  1    /* of the machine: clock crossings are many */
#define MAX_IN_FLIGHT 4096 /* requests whose end is waited for; those beyond end without a reason */

struct flight {
    uint64_t request;
    uint16_t device;
    uint8_t queue;
};

struct timeline {
    struct trace *trace;
    FILE *out;
    struct trace_clock clock;
    struct flight flight[MAX_IN_FLIGHT];
    unsigned nflights;
    bool more; /* an event was written */
};

/* Process ids: the machine is 1, devices follow in their order. */
static unsigned process_of(unsigned device)
{
    return device == TRACE_MACHINE ? 1 : device + 2;
}

/* "{…" up to and without its arguments; time in microseconds, as the format wants it. */
static void begin(struct timeline *l, const char *phase, unsigned process, unsigned queue, const char *name,
                  uint64_t ns)
{
    fprintf(l->out,
            "%s{\"ph\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRIu64 ".%03u,\"name\":", l->more ? ",\n" : "",
            phase, process, queue + 1, ns / 1000, (unsigned)(ns % 1000));
    line_quote(l->out, name, strlen(name));
    l->more = true;
}

static void arguments(struct timeline *l, uint64_t icount, uint64_t ns, struct line *a)
{
    fputs(",\"args\":", l->out);
    line_begin(a, l->out);
    line_number(a, "icount", icount);
    line_number(a, "virtual_ns", ns);
}

static void end(struct timeline *l, struct line *a)
{
    line_close(a);
    putc_unlocked('}', l->out);
}

static void slice(struct timeline *l, const char *phase, const struct flight *r, uint64_t ns)
{
    char name[32];
    snprintf(name, sizeof(name), "request, queue %u", r->queue);
    begin(l, phase, process_of(r->device), r->queue, name, ns);
    fprintf(l->out, ",\"cat\":\"request\",\"id\":\"0x%" PRIx64 "\"", r->request);
}

static void begin_request(struct timeline *l, const struct journal_entry *e, uint64_t ns)
{
    struct line a;
    struct flight r = {.request = e->c.request, .device = e->c.device, .queue = e->c.queue};
    slice(l, "b", &r, ns);
    arguments(l, e->c.icount, ns, &a);
    line_number(&a, "seq", e->c.seq);
    line_number(&a, "request", e->c.request);
    line_number(&a, "bytes", e->c.len);
    line_hex(&a, "digest", "", e->c.digest, 16);
    line_hex(&a, "pc", "0x", e->c.pc, 1);
    end(l, &a);
    if (l->nflights < MAX_IN_FLIGHT)
        l->flight[l->nflights++] = r;
}

/* Ends flight i; `how`: why without an answer, or NULL. */
static void end_request(struct timeline *l, unsigned i, const struct crossing *c, const char *how,
                        uint64_t ns)
{
    struct line a;
    slice(l, "e", &l->flight[i], ns);
    arguments(l, c->icount, ns, &a);
    if (how) {
        line_text(&a, "ended", how);
    } else {
        line_number(&a, "seq", c->seq);
        line_number(&a, "response_bytes", c->len);
        line_number(&a, "failed", c->arg != 0);
    }
    end(l, &a);
    l->flight[i] = l->flight[--l->nflights];
}

static void complete(struct timeline *l, const struct journal_entry *e, uint64_t ns)
{
    for (unsigned i = 0; i < l->nflights; i++) {
        if (l->flight[i].request == e->c.request) {
            end_request(l, i, &e->c, NULL, ns);
            return;
        }
    }
}

/* Requests that nobody answers any more, of one device or of all. */
static void abandon(struct timeline *l, bool all, const struct crossing *c, const char *how, uint64_t ns)
{
    for (unsigned i = l->nflights; i-- > 0;) {
        if (all || l->flight[i].device == c->device)
            end_request(l, i, c, how, ns);
    }
}

static void instant(struct timeline *l, const struct journal_entry *e, uint64_t ns)
{
    struct line a;
    bool hash = e->type == JOURNAL_STATE_HASH;
    const char *action = trace_action(e);
    unsigned thread = !hash && e->c.kind == CROSSING_CLOCK ? THREAD_CLOCK : e->c.queue;
    begin(l, "i", hash ? 1 : process_of(e->c.device), thread, action ? action : trace_kind(e), ns);
    fputs(",\"s\":\"t\"", l->out);
    arguments(l, e->c.icount, ns, &a);
    line_hex(&a, "pc", "0x", e->c.pc, 1);
    if (hash) {
        line_hex(&a, "hash", "", e->c.digest, 16);
    } else {
        line_text(&a, "kind", trace_kind(e));
        line_number(&a, "seq", e->c.seq);
        line_number(&a, "arg", e->c.arg);
        line_number(&a, "bytes", e->c.len);
    }
    end(l, &a);
}

static void add_entry(struct timeline *l, const struct journal_entry *e)
{
    trace_clock_apply(&l->clock, e);
    uint64_t ns = trace_clock_ns(&l->clock, e->c.icount);
    if (e->type == JOURNAL_CROSSING && e->c.kind == CROSSING_REQUEST) {
        begin_request(l, e, ns);
    } else if (e->type == JOURNAL_CROSSING && e->c.kind == CROSSING_COMPLETION) {
        complete(l, e, ns);
    } else {
        if (e->type == JOURNAL_CROSSING && e->c.kind == CROSSING_RESET)
            abandon(l, false, &e->c, "device reset", ns);
        instant(l, e, ns);
    }
}

static void name_process(struct timeline *l, unsigned process, const char *id, const char *kind)
{
    char name[160];
    snprintf(name, sizeof(name), "%s%s%s%s", id, *kind ? " (" : "", kind, *kind ? ")" : "");
    begin(l, "M", process, 0, "process_name", 0);
    fputs(",\"args\":{\"name\":", l->out);
    line_quote(l->out, name, strlen(name));
    fputs("}}", l->out);
    begin(l, "M", process, 0, "process_sort_index", 0);
    fprintf(l->out, ",\"args\":{\"sort_index\":%u}}", process);
}

static void name_thread(struct timeline *l, unsigned process, unsigned queue, const char *name)
{
    begin(l, "M", process, queue, "thread_name", 0);
    fputs(",\"args\":{\"name\":", l->out);
    line_quote(l->out, name, strlen(name));
    fputs("}}", l->out);
}

static void name_processes(struct timeline *l)
{
    name_process(l, 1, "machine", "");
    name_thread(l, 1, 0, "control");
    name_thread(l, 1, THREAD_CLOCK, "clock");
    for (size_t i = 0; i < l->trace->header->n_devices; i++) {
        const Cleave__LogDevice *d = l->trace->header->devices[i];
        name_process(l, process_of(d->index), d->id, d->kind);
        for (unsigned q = 0; q < d->n_queues && q <= UINT8_MAX; q++) {
            char name[16];
            snprintf(name, sizeof(name), "queue %u", q);
            name_thread(l, process_of(d->index), q, name);
        }
    }
}

int export_chrome(struct trace *t, FILE *out, struct failure *f)
{
    struct timeline l = {.trace = t, .out = out, .clock = TRACE_CLOCK_START};
    struct journal_entry e;
    struct crossing last = {0};
    int got;
    fprintf(out, "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"trace\":");
    line_quote(out, t->path, strlen(t->path));
    fputs(",\"clock\":\"virtual time of the machine\"},\"traceEvents\":[\n", out);
    name_processes(&l);
    while ((got = trace_next(t, &e, f)) > 0) {
        add_entry(&l, &e);
        last = e.c;
    }
    const Cleave__LogEnd *log_end = log_reader_end(t->reader);
    if (log_end)
        last.icount = log_end->icount;
    abandon(&l, true, &last, "end of the recording", trace_clock_ns(&l.clock, last.icount));
    fputs("\n]}\n", out);
    return got;
}
