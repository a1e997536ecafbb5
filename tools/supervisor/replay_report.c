/* The words of a divergence. Must not know how it was found. */
#include "tools/supervisor/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *hex(uint64_t v)
{
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static const char *kind_name(const Cleave__Stamp *s, bool state_hash)
{
    return state_hash ? "state hash" : s->kind ? trace_kind_name((int)s->kind) : "nothing";
}

static json_t *stamp_json(const struct trace *t, const Cleave__Stamp *s, bool state_hash)
{
    json_t *o = json_pack("{s:s, s:I, s:o}", "kind", kind_name(s, state_hash), "icount",
                          (json_int_t)s->icount, "pc", hex(s->pc));
    if (state_hash) {
        json_object_set_new(o, "hash", hex(s->digest));
    } else if (s->kind) {
        json_object_set_new(o, "device", json_string(trace_device(t, s->device)));
        json_object_set_new(o, "queue", json_integer(s->queue));
        json_object_set_new(o, "seq", json_integer((json_int_t)s->seq));
        json_object_set_new(o, "request", json_integer((json_int_t)s->request));
        json_object_set_new(o, "arg", json_integer((json_int_t)s->arg));
        json_object_set_new(o, "length", json_integer(s->len));
        json_object_set_new(o, "digest", hex(s->digest));
    }
    return o;
}

static bool is_hex(const char *field)
{
    return !strcmp(field, "pc") || !strcmp(field, "digest") || !strcmp(field, "state hash");
}

static json_t *value_json(const char *field, uint64_t v)
{
    return is_hex(field) ? hex(v) : json_integer((json_int_t)v);
}

/* The device that the report is about: the recorded one. */
static const char *device_of(const struct trace *t, const Cleave__Diverged *d)
{
    return d->state_hash ? "machine" : trace_device(t, d->record ? d->recorded->device : d->actual->device);
}

json_t *replay_diverged_json(const struct trace *t, const Cleave__Diverged *d)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:o, s:s, s:o, s:o, s:o}", "event", "diverged", "device",
                          device_of(t, d), "seq", (json_int_t)d->recorded->seq, "icount",
                          (json_int_t)d->actual->icount, "pc", hex(d->actual->pc), "field", d->field,
                          "recorded_value", value_json(d->field, d->recorded_value), "actual_value",
                          value_json(d->field, d->actual_value), "actual", stamp_json(t, d->actual, false));
    if (d->record) {
        json_object_set_new(o, "record", json_integer((json_int_t)d->record));
        json_object_set_new(o, "recorded", stamp_json(t, d->recorded, d->state_hash));
    }
    if (d->hash_known) {
        json_object_set_new(
            o, "agreed", json_pack("{s:I, s:o}", "icount", (json_int_t)d->hash_icount, "hash", hex(d->hash)));
    }
    return o;
}

static void describe(const struct trace *t, const Cleave__Stamp *s, bool state_hash, char *text, size_t size)
{
    if (state_hash)
        snprintf(text, size, "state hash %016" PRIx64 " at icount %" PRIu64, s->digest, s->icount);
    else if (!s->kind)
        snprintf(text, size, "nothing, at icount %" PRIu64 ", pc 0x%" PRIx64, s->icount, s->pc);
    else
        snprintf(text, size,
                 "%s %" PRIu64 " of %s, queue %u, at icount %" PRIu64 ", pc 0x%" PRIx64
                 ", %u bytes, digest %016" PRIx64,
                 trace_kind_name((int)s->kind), s->request, trace_device(t, s->device), s->queue, s->icount,
                 s->pc, s->len, s->digest);
}

static void value_text(const char *field, uint64_t v, char *text, size_t size)
{
    if (!strcmp(field, "kind"))
        snprintf(text, size, "%s", v ? trace_kind_name((int)v) : "nothing");
    else if (is_hex(field))
        snprintf(text, size, "%016" PRIx64, v);
    else
        snprintf(text, size, "%" PRIu64, v);
}

void replay_diverged_text(const struct trace *t, const Cleave__Diverged *d, void (*line)(const char *text))
{
    char text[400], what[300], recorded[40], actual[40];
    value_text(d->field, d->recorded_value, recorded, sizeof recorded);
    value_text(d->field, d->actual_value, actual, sizeof actual);
    if (d->record) {
        describe(t, d->recorded, d->state_hash, what, sizeof what);
        snprintf(text, sizeof text, "  recorded  %s (record %" PRIu64 ", crossing %" PRIu64 ")", what,
                 d->record, d->recorded->seq);
        line(text);
    }
    describe(t, d->actual, false, what, sizeof what);
    snprintf(text, sizeof text, "  replayed  %s", what);
    line(text);
    snprintf(text, sizeof text, "  differs   %s: recorded %s, replayed %s", d->field, recorded, actual);
    line(text);
    if (d->hash_known) {
        snprintf(text, sizeof text, "  agreed    state hash %016" PRIx64 " at icount %" PRIu64, d->hash,
                 d->hash_icount);
        line(text);
    }
}
