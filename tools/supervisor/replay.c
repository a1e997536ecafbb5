/* `cleave replay`: options, the console on stdout, and what is said at the end. */
#include "tools/supervisor/replay.h"

#include "tools/supervisor/config.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/spec.h"
#include "tools/supervisor/verbs.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int hash_positions(const struct invocation *in, struct replay_options *o, struct failure *f)
{
    const char *value;
    for (unsigned i = 0; (value = options_nth(in, "hash-at", i)); i++) {
        if (i == REPLAY_MAX_HASHES)
            return failure_set(f, STATUS_USAGE, EINVAL, "replay: --hash-at: at most %d", REPLAY_MAX_HASHES);
        if (spec_number(value, &o->hash_at[o->nhash_at++]) < 0)
            return failure_set(f, STATUS_USAGE, EINVAL, "replay: --hash-at: '%s' is not a number", value);
    }
    return 0;
}

static int read_options(const struct invocation *in, struct replay_options *o, struct failure *f)
{
    const char *wanted = options_get(in, "engine"), *engine, *speed = options_get(in, "speed");
    int err = config_engine(wanted ? wanted : "auto", &engine, f);
    if (err)
        return err;
    *o = (struct replay_options){.engine = engine,
                                 .serial = options_get(in, "serial"),
                                 .sandbox = options_get(in, "sandbox"),
                                 .wrap = options_get(in, "wrap"),
                                 .follow = options_has(in, "follow"),
                                 .log_jit = options_has(in, "log"),
                                 .perf_map = options_has(in, "perf-map"),
                                 .realtime = speed && !strcmp(speed, "realtime")};
    if (o->wrap && !options_has(in, "device"))
        return failure_set(f, STATUS_USAGE, EINVAL, "replay: --wrap needs --device");
    const char *size = options_get(in, "code-cache");
    if (size && spec_size(size, &o->code_cache) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "replay: --code-cache: '%s' is not a size", size);
    err = config_translator(engine, o->code_cache, options_get(in, "log"), o->perf_map, f);
    if (!err)
        err = trace_option_number(in, "until", &o->until, f);
    if (!err)
        err = trace_option_number(in, "hash-every", &o->hash_every, f);
    if (!err)
        err = hash_positions(in, o, f);
    if (!err)
        err = trace_option_list(in, "image", o->images, REPLAY_MAX_IMAGES, f);
    return err;
}

static void show_hash(void *ctx, const Cleave__StateHash *h)
{
    char hex[20];
    snprintf(hex, sizeof hex, "%016" PRIx64, h->hash);
    message_result("hash %" PRIu64 " %s", h->icount, hex);
    json_t *e = json_pack("{s:s, s:I, s:s, s:s}", "event", "hash", "icount", (json_int_t)h->icount, "hash",
                          hex, "why", h->why);
    message_event(e);
    json_decref(e);
}

static void show_output(void *ctx, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, p, len);
        if (n < 0 && errno != EINTR)
            return;
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void show_said(void *ctx, const char *role, const char *text)
{
    message_detail("%s: %s", role, text);
}

static void show_log(void *ctx, const char *role, const char *text)
{
    if (!message_style.json) {
        message_lines(role, text);
        return;
    }
    json_t *e = json_pack("{s:s, s:s, s:s}", "event", "log", "role", role, "text", text);
    message_event(e);
    json_decref(e);
}

static void text_line(const char *text)
{
    message_result("%s", text);
}

static void show_diverged(const struct trace *t, const struct replay_result *r)
{
    const Cleave__Diverged *d = r->diverged->diverged;
    json_t *e = replay_diverged_json(t, d);
    if (message_style.json) {
        message_event(e);
    } else {
        struct failure f;
        failure_set(&f, STATUS_DIVERGED, EIO, "%s: the replay diverged at icount %" PRIu64 ": %s of %s",
                    t->path, d->actual->icount, d->field, json_string_value(json_object_get(e, "device")));
        message_failure(&f);
        replay_diverged_text(t, d, text_line);
    }
    json_decref(e);
}

/* Where a recording without an exit ends, and why; and that one with it has no end of its own. */
static void show_recording_end(const struct trace *t, const struct replay_result *r)
{
    bool exits = strcmp(r->why, "recording-ends") != 0;
    if (r->failure.text[0] || r->ending == REPLAY_STOPS_EARLIER)
        return;
    if (r->ending != REPLAY_ENDS_PROPERLY)
        message_notice("%s: the recording stops at icount %" PRIu64
                       "%s%s: whoever wrote it was killed, or still writes",
                       t->path, r->icount, exits ? ", behind the machine's end" : "",
                       r->ending == REPLAY_ENDS_TORN ? ", in the middle of a block" : "");
    else if (!exits)
        message_notice("%s: the recording ends at icount %" PRIu64 ": %s", t->path, r->icount, r->reason);
}

static void show_end(const struct invocation *in, const struct replay_result *r)
{
    char hex[20];
    snprintf(hex, sizeof hex, "%016" PRIx64, r->hash);
    if (r->ended && options_has(in, "hash-at-exit"))
        message_result("hash %" PRIu64 " %s", r->icount, hex);
    json_t *e = json_pack("{s:s, s:i, s:s}", "event", "exit", "status", r->status, "why", r->why);
    if (r->ended) {
        json_object_set_new(e, "icount", json_integer((json_int_t)r->icount));
        json_object_set_new(e, "hash", json_string(hex));
    }
    if (r->reason[0] && !strcmp(r->why, "recording-ends"))
        json_object_set_new(e, "reason", json_string(r->reason));
    message_event(e);
    json_decref(e);
}

static int replay(const struct invocation *in, struct trace *t, const struct replay_options *o,
                  struct failure *f)
{
    struct replay_observer observer = {
        .hash = show_hash, .output = show_output, .log = show_log, .said = show_said};
    struct replay_plan plan;
    struct replay_result r;
    int err = replay_plan(&plan, t, o, f);
    if (err)
        return err;
    replay_run(&plan, &observer, &r);
    replay_plan_release(&plan);
    if (r.diverged)
        show_diverged(t, &r);
    else if (r.failure.text[0])
        message_failure(&r.failure);
    show_recording_end(t, &r);
    show_end(in, &r);
    replay_result_release(&r);
    if (r.signal && r.status == STATUS_OK) {
        signal(r.signal, SIG_DFL);
        raise(r.signal);
    }
    return r.status;
}

int verb_replay(const struct invocation *in, struct failure *f)
{
    struct replay_options options;
    struct trace t;
    int err = read_options(in, &options, f);
    if (!err)
        err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    const char *device = options_get(in, "device");
    int status = device ? replay_device(&t, device, &options, f) : replay(in, &t, &options, f);
    trace_close(&t);
    return status;
}
