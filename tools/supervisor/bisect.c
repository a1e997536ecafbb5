/* `cleave trace bisect`: replays a trace with both engines, narrows the first interval after which their
 * states differ to one position, and shows what is there. Must not know how an engine works, but that it does
 * the last instructions before a stop as it would without one only where the whole replay stops. */
#include "tools/disasm/disasm.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/replay.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COARSE     200u /* intervals of the first pass */
#define POINTS     60u  /* of a later one, below REPLAY_MAX_HASHES */
#define BEFORE     16u  /* instructions shown before the difference */
#define MAX_ROWS   40u
#define MAX_REPLAY 200u /* a search that takes more does not end */

struct state {
    uint64_t icount, hash;
    Cleave__Registers *registers; /* own copy, or NULL */
};

/* One replay: the states it came through. */
struct pass {
    struct state *at;
    size_t n, room;
    bool lost;
    struct replay_result result;
};

struct bisect {
    struct trace *trace;
    const char *images[REPLAY_MAX_IMAGES];
    const char *reference, *other;
    unsigned replays;
    bool left;    /* both engines left the recording, last time */
    uint64_t end; /* where the reference ended then */
    struct failure *f;
};

static void take_hash(void *ctx, const Cleave__StateHash *h)
{
    struct pass *p = ctx;
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        struct state *at = realloc(p->at, room * sizeof *at);
        if (!at) {
            p->lost = true;
            return;
        }
        p->at = at;
        p->room = room;
    }
    p->at[p->n++] = (struct state){h->icount, h->hash, NULL};
}

static void take_registers(void *ctx, const Cleave__Registers *r)
{
    struct pass *p = ctx;
    size_t size = cleave__registers__get_packed_size(r);
    uint8_t *packed = malloc(size + 1);
    if (!packed || !p->n) {
        free(packed);
        p->lost = true;
        return;
    }
    cleave__registers__pack(r, packed);
    p->at[p->n - 1].registers = cleave__registers__unpack(NULL, size, packed);
    free(packed);
}

static void ignore_output(void *ctx, const void *data, size_t len) {}
static void ignore_line(void *ctx, const char *role, const char *text) {}

static void release(struct pass *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i].registers)
            cleave__registers__free_unpacked(p->at[i].registers, NULL);
    free(p->at);
    replay_result_release(&p->result);
    *p = (struct pass){0};
}

/* Replays to o->until, or to the end. A divergence is a result like another. */
static int run(struct bisect *b, const char *engine, struct replay_options *o, struct pass *p)
{
    struct replay_observer observer = {.hash = take_hash,
                                       .registers = take_registers,
                                       .output = ignore_output,
                                       .said = ignore_line,
                                       .ctx = p};
    struct replay_plan plan;
    *p = (struct pass){0};
    o->engine = engine;
    o->exact = true;
    memcpy(o->images, b->images, sizeof o->images);
    int err = b->replays++ < MAX_REPLAY
                  ? replay_plan(&plan, b->trace, o, b->f)
                  : failure_set(b->f, STATUS_FAILED, ELOOP, "%s: the search does not end", b->trace->path);
    if (err)
        return err;
    replay_run(&plan, &observer, &p->result);
    replay_plan_release(&plan);
    if (p->result.signal)
        return failure_set(b->f, STATUS_FAILED, EINTR, "interrupted");
    if (p->result.failure.text[0] && !p->result.diverged) {
        *b->f = p->result.failure;
        return -EIO;
    }
    return p->lost ? failure_set(b->f, STATUS_FAILED, ENOMEM, "trace bisect: %s", strerror(ENOMEM)) : 0;
}

static const struct state *state_at(const struct pass *p, uint64_t icount)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i].icount == icount)
            return &p->at[i];
    return NULL;
}

/* Both engines over the same options; the last position at which they agree and the first at which they do
 * not. True if there is such a one; without, *hi is left alone. */
static int compare(struct bisect *b, struct replay_options *o, uint64_t *lo, uint64_t *hi, bool *differ)
{
    struct pass reference = {0}, other = {0};
    int err = run(b, b->reference, o, &reference);
    if (!err)
        err = run(b, b->other, o, &other);
    *differ = false;
    for (size_t i = 0; i < reference.n && !err && !*differ; i++) {
        const struct state *s = state_at(&other, reference.at[i].icount);
        *differ = !s || s->hash != reference.at[i].hash;
        *(*differ ? hi : lo) = reference.at[i].icount;
    }
    if (!err && !*differ &&
        (reference.result.icount != other.result.icount || reference.result.hash != other.result.hash)) {
        *differ = true;
        *hi = reference.result.icount > other.result.icount ? reference.result.icount : other.result.icount;
    }
    b->left = reference.result.diverged && other.result.diverged;
    b->end = reference.result.icount;
    release(&reference);
    release(&other);
    return err;
}

/* Even positions in (lo, hi), and hi. */
static void spread(struct replay_options *o, uint64_t lo, uint64_t hi)
{
    uint64_t step = (hi - lo + POINTS - 1) / POINTS;
    *o = (struct replay_options){.until = hi};
    for (uint64_t n = lo + step; n < hi; n += step)
        o->hash_at[o->nhash_at++] = n;
    o->hash_at[o->nhash_at++] = hi;
}

/* A position is reached in one go: what an engine does differently just before a stop is then the same for
 * all earlier ones. */
static int narrow_singly(struct bisect *b, uint64_t *lo, uint64_t *hi)
{
    while (*hi - *lo > 1) {
        uint64_t middle = *lo + (*hi - *lo) / 2, agree = *lo, differ_at = *hi;
        struct replay_options o = {.until = middle, .hash_at = {middle}, .nhash_at = 1};
        bool differ;
        int err = compare(b, &o, &agree, &differ_at, &differ);
        if (err)
            return err;
        *(differ ? hi : lo) = middle;
    }
    return 0;
}

static int narrow(struct bisect *b, uint64_t *lo, uint64_t *hi)
{
    bool differ = true;
    while (*hi - *lo > 1 && differ) {
        struct replay_options o;
        uint64_t before = *hi;
        message_detail("the engines agree at icount %" PRIu64 " and differ at %" PRIu64, *lo, *hi);
        spread(&o, *lo, *hi);
        uint64_t agree = *lo;
        int err = compare(b, &o, &agree, hi, &differ);
        if (err)
            return err;
        if (differ)
            *lo = agree;
        else
            *hi = before;
    }
    return narrow_singly(b, lo, hi);
}

static uint64_t value_of(const Cleave__Registers *r, const char *name)
{
    for (size_t i = 0; i < r->n_list; i++)
        if (!strcmp(r->list[i]->name, name))
            return r->list[i]->value;
    return 0;
}

static void insn_text(const Cleave__Registers *r, char *text, size_t size)
{
    if (r->insn.len)
        disasm_riscv(r->insn.data, r->insn.len, r->pc, text, size);
    else
        snprintf(text, size, "(an interrupt, a fetch that faults, or all harts wait)");
}

/* The position whose instruction first gave a register another value than the other engine has at the end: of
 * the last ones to write those that differ, the earliest. `end` is the position of the difference. */
static uint64_t culprit(const struct pass *steps, uint64_t from, uint64_t end, const Cleave__Registers *wrong)
{
    uint64_t first = end - 1;
    const struct state *last = state_at(steps, end);
    for (size_t i = 0; last && last->registers && i < last->registers->n_list; i++) {
        const char *name = last->registers->list[i]->name;
        if (last->registers->list[i]->value == value_of(wrong, name) || !strcmp(name, "pc"))
            continue;
        for (uint64_t n = end; n-- > from;) {
            const struct state *before = state_at(steps, n), *after = state_at(steps, n + 1);
            if (!before || !after || !before->registers || !after->registers ||
                value_of(before->registers, name) == value_of(after->registers, name))
                continue;
            first = n < first ? n : first;
            break;
        }
    }
    return first;
}

static json_t *hex(uint64_t v)
{
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static void show_step(const Cleave__Registers *r, bool here, json_t *list)
{
    char text[120];
    insn_text(r, text, sizeof text);
    message_result("%s %12" PRIu64 "  hart %u  %016" PRIx64 "  %s", here ? "->" : "  ", r->icount, r->hart,
                   r->pc, text);
    json_array_append_new(list, json_pack("{s:I, s:i, s:o, s:s}", "icount", (json_int_t)r->icount, "hart",
                                          (int)r->hart, "pc", hex(r->pc), "insn", text));
}

/* Registers side by side: those that differ. */
static json_t *show_registers(const struct bisect *b, const Cleave__Registers *right,
                              const Cleave__Registers *wrong)
{
    json_t *list = json_array();
    unsigned rows = 0;
    for (size_t i = 0; i < right->n_list; i++) {
        const char *name = right->list[i]->name;
        uint64_t x = right->list[i]->value, y = value_of(wrong, name);
        if (x == y || rows++ == MAX_ROWS)
            continue;
        if (json_array_size(list) == 0)
            message_result("   %-14s %-16s  %-16s", "register", b->reference, b->other);
        message_result("   %-14s %016" PRIx64 "  %016" PRIx64, name, x, y);
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:o}", "register", name, b->reference, hex(x), b->other, hex(y)));
    }
    if (json_array_size(list) == 0)
        message_result("   all registers of the hart agree: memory, another hart or a device differs");
    return list;
}

static int show(struct bisect *b, uint64_t lo, uint64_t hi)
{
    uint64_t from = hi > BEFORE ? hi - BEFORE : 0;
    struct replay_options steps = {.until = hi, .inspect = true}, end = {.until = hi, .inspect = true};
    struct pass right = {0}, wrong = {0};
    for (uint64_t n = from; n <= hi; n++)
        steps.hash_at[steps.nhash_at++] = n;
    end.hash_at[end.nhash_at++] = hi;
    int err = run(b, b->reference, &steps, &right);
    if (!err)
        err = run(b, b->other, &end, &wrong);
    const struct state *x = state_at(&right, hi), *y = state_at(&wrong, hi);
    json_t *event =
        json_pack("{s:s, s:I, s:I}", "event", "bisected", "agree", (json_int_t)lo, "differ", (json_int_t)hi);
    if (!err && x && y && x->registers && y->registers) {
        uint64_t at = culprit(&right, from, hi, y->registers);
        json_t *list = json_array();
        message_result("the engines agree at icount %" PRIu64 " and differ at %" PRIu64, lo, hi);
        for (uint64_t n = from; n < hi; n++) {
            const struct state *s = state_at(&right, n);
            if (s && s->registers)
                show_step(s->registers, n == at, list);
        }
        json_object_set_new(event, "at", json_integer((json_int_t)at));
        json_object_set_new(event, "instructions", list);
        json_object_set_new(event, "registers", show_registers(b, x->registers, y->registers));
    } else if (!err) {
        message_result("the engines agree at icount %" PRIu64 "; one of them does not come to %" PRIu64, lo,
                       hi);
    }
    message_event(event);
    json_decref(event);
    release(&right);
    release(&wrong);
    return err ? err : STATUS_DIVERGED;
}

static int show_agreement(const struct bisect *b)
{
    message_result(b->left ? "both engines leave the recording at icount %" PRIu64
                             ", in the same state: what they do is not the cause"
                           : "both engines come to the same state at icount %" PRIu64,
                   b->end);
    json_t *e = json_pack("{s:s, s:I, s:b}", "event", "agreed", "icount", (json_int_t)b->end, "diverged",
                          (int)b->left);
    message_event(e);
    json_decref(e);
    return b->left ? STATUS_DIVERGED : STATUS_OK;
}

static int bisect(struct bisect *b, uint64_t lo, uint64_t hi)
{
    struct log_summary s;
    struct log_error error;
    bool differ;
    if (!hi) {
        log_verify(b->trace->fd, &s, &error); /* damage ends the replays too */
        hi = s.icount;
    }
    struct replay_options o = {.until = hi, .hash_every = (hi + COARSE) / COARSE};
    uint64_t agree = 0, first = hi;
    int err = compare(b, &o, &agree, &first, &differ);
    if (err)
        return err;
    if (!differ)
        return show_agreement(b);
    agree = agree > lo ? agree : lo;
    err = narrow(b, &agree, &first);
    return err ? err : show(b, agree, first);
}

int verb_trace_bisect(const struct invocation *in, struct failure *f)
{
    struct trace t;
    uint64_t from = 0, to = 0;
    struct bisect b = {.trace = &t, .reference = "interp", .other = "jit", .f = f};
    int err = trace_option_number(in, "from", &from, f);
    if (!err)
        err = trace_option_number(in, "until", &to, f);
    if (!err)
        err = trace_option_list(in, "image", b.images, REPLAY_MAX_IMAGES, f);
    if (!err && to && from >= to)
        err = failure_set(f, STATUS_USAGE, EINVAL, "trace bisect: --from is not before --until");
    if (!err)
        err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    int status = bisect(&b, from, to);
    trace_close(&t);
    return status;
}
