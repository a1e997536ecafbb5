/* The traffic of a network card as pcap, nanosecond times: what the guest received is in the trace; what it
 * sent is there as digests, so a replay makes it again. Times are virtual, from the machine's clock on. */
#include "tools/supervisor/replay.h"
#include "tools/trace/bodies.h"
#include "tools/trace/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

enum {
    MAGIC = 0xa1b23c4d, /* nanosecond resolution */
    ETHERNET = 1,
    MAX_FRAME = 1 << 18,
    HEADER = 12, /* struct virtio_net_hdr_v1 before each frame: Virtual I/O Device 1.2, 5.1.6 */
    QUEUE_TRANSMIT = 1,
};

struct capture {
    FILE *out;
    struct trace *trace;
    struct bodies bodies;
    unsigned device;
    const char *id;
    struct trace_clock clock;
    uint64_t last_ns;

    struct journal_entry next; /* read, and not written yet */
    int got;                   /* of that read */

    uint8_t *packet; /* that comes in parts */
    size_t len;
    struct failure failure; /* of what happens in a callback */
    int err;
};

static void put32(FILE *out, uint32_t v)
{
    fwrite(&v, sizeof(v), 1, out);
}

static void put_header(FILE *out)
{
    put32(out, MAGIC);
    put32(out, 2 | 4 << 16); /* version 2.4 */
    put32(out, 0);
    put32(out, 0);
    put32(out, MAX_FRAME);
    put32(out, ETHERNET);
}

static void put_frame(struct capture *c, uint64_t ns, const uint8_t *packet, size_t len)
{
    if (len < HEADER)
        return;
    size_t frame = len - HEADER, kept = MIN(frame, (size_t)MAX_FRAME);
    c->last_ns = MAX(ns, c->last_ns);
    uint64_t when = c->trace->header->rtc_start_ns + c->last_ns;
    put32(c->out, (uint32_t)(when / 1000000000));
    put32(c->out, (uint32_t)(when % 1000000000));
    put32(c->out, (uint32_t)kept);
    put32(c->out, (uint32_t)frame);
    fwrite(packet + HEADER, 1, kept, c->out);
}

/* Frames from the trace, of crossings before `seq`. */
static int put_until(struct capture *c, uint64_t seq, struct failure *f)
{
    for (; c->got > 0; c->got = trace_next(c->trace, &c->next, f)) {
        const struct journal_entry *e = &c->next;
        const uint8_t *data;
        if (e->type != JOURNAL_CROSSING)
            continue;
        if (e->c.seq >= seq)
            return 0;
        trace_clock_apply(&c->clock, e);
        bool in = e->c.kind == CROSSING_EVENT,
             out = e->c.kind == CROSSING_REQUEST && e->c.queue == QUEUE_TRANSMIT;
        if (e->c.device != c->device || !(in || out))
            continue;
        int got = bodies_get(&c->bodies, e, &data, f);
        if (got < 0)
            return got;
        if (got)
            put_frame(c, trace_clock_ns(&c->clock, e->c.icount), data, e->c.len);
    }
    return c->got;
}

/* A part of what the replaying machine sends. */
static void take_part(void *ctx, const Cleave__Output *o)
{
    struct capture *c = ctx;
    if (c->err || o->queue != QUEUE_TRANSMIT)
        return;
    uint8_t *packet = realloc(c->packet, c->len + o->data.len + 1);
    if (!packet) {
        c->err = failure_set(&c->failure, STATUS_FAILED, ENOMEM, "%s: %s", c->trace->path, strerror(ENOMEM));
        return;
    }
    c->packet = packet;
    memcpy(packet + c->len, o->data.data, o->data.len);
    c->len += o->data.len;
    if (o->left)
        return;
    c->err = put_until(c, o->seq, &c->failure);
    if (!c->err)
        put_frame(c, o->virtual_ns, packet, c->len);
    c->len = 0;
}

static void take_hash(void *ctx, const Cleave__StateHash *h) {}

static void take_line(void *ctx, const char *role, const char *text) {}

static int result_of(const struct trace *t, const struct replay_result *r, struct failure *f)
{
    if (r->diverged)
        return failure_set(f, STATUS_DIVERGED, EIO,
                           "%s: the replay that makes the sent frames again diverged at icount %llu", t->path,
                           (unsigned long long)r->diverged->diverged->actual->icount);
    if (r->failure.text[0]) {
        *f = r->failure;
        return -EIO;
    }
    if (r->signal)
        return failure_set(f, STATUS_FAILED, EINTR, "%s: interrupted", t->path);
    return 0;
}

static int replay(struct capture *c, const char *const *images, struct failure *f)
{
    struct replay_options o = {.engine = "jit", .mirror = c->id};
    struct replay_observer observer = {.hash = take_hash, .mirrored = take_part, .said = take_line, .ctx = c};
    struct replay_plan plan;
    struct replay_result r;
    for (unsigned i = 0; i + 1 < REPLAY_MAX_IMAGES && images[i]; i++)
        o.images[i] = images[i];
    int err = replay_plan(&plan, c->trace, &o, f);
    if (err)
        return err;
    replay_run(&plan, &observer, &r);
    replay_plan_release(&plan);
    err = result_of(c->trace, &r, f);
    replay_result_release(&r);
    if (!err && c->err)
        *f = c->failure;
    return err ? err : c->err;
}

/* True if the trace keeps no more than a digest of something that the guest sent. */
static int needs_replay(struct capture *c, bool *needed, struct failure *f)
{
    struct journal_entry e;
    int got = 0;
    *needed = false;
    while (!*needed && (got = trace_next(c->trace, &e, f)) > 0)
        *needed = e.type == JOURNAL_CROSSING && e.c.device == c->device && e.c.kind == CROSSING_REQUEST &&
                  e.c.queue == QUEUE_TRANSMIT && e.form == JOURNAL_DIGEST;
    if (got < 0)
        return got;
    if (log_reader_seek(c->trace->reader, 0) < 0)
        return trace_fail(c->trace->path, log_reader_error(c->trace->reader), f);
    return 0;
}

static int capture(struct capture *c, const char *const *images, struct failure *f)
{
    bool needed;
    int err = needs_replay(c, &needed, f);
    if (err)
        return err;
    put_header(c->out);
    c->got = trace_next(c->trace, &c->next, f);
    if (c->got >= 0 && needed)
        err = replay(c, images, f);
    else if (c->got < 0)
        err = c->got;
    return err ? err : put_until(c, UINT64_MAX, f);
}

int export_pcap(struct trace *t, const Cleave__LogDevice *d, const char *const *images, FILE *out,
                struct failure *f)
{
    struct capture c = {.out = out, .trace = t, .device = d->index, .id = d->id, .clock = TRACE_CLOCK_START};
    int err = bodies_init(&c.bodies, t, images, f);
    if (err)
        return err;
    err = capture(&c, images, f);
    bodies_free(&c.bodies);
    free(c.packet);
    return err;
}
