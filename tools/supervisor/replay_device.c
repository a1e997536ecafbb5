/* `cleave replay --device`: one real device process gets the requests of a recording, and its answers are
 * compared with those that the recording has. The requests come from the trace, or from a replaying machine
 * where the trace keeps digests. Must not know what requests mean. */
#include "tools/supervisor/replay.h"

#include "tools/supervisor/config.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/solo.h"
#include "tools/trace/bodies.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PATIENCE_MS 30000
#define MAX_OPTIONS 8

struct difference {
    const char *field; /* NULL: none */
    struct crossing recorded;
    uint64_t expected, actual;
};

struct contest {
    struct trace *trace;
    const Cleave__LogDevice *device;
    const struct replay_options *options;
    json_t *configuration;
    struct bodies bodies;
    struct solo solo;
    uint64_t features;
    struct difference difference;
    uint64_t requests, answers;

    struct journal_entry next; /* read, and not dealt with yet */
    int got;
    struct solo_slot *last; /* answer that was compared; its new state comes in the next record, if any */
    unsigned last_queue;
    struct crossing last_crossing;

    uint8_t *request; /* that comes in parts */
    size_t len;
    bool lost;              /* the machine makes no more requests */
    struct failure failure; /* of what happens in a callback */
    int err;
};

/* What the process is told: options and descriptors as docs/DEVICES.md has them. */
struct setup {
    Cleave__KeyValue pair[MAX_OPTIONS], *pairs[MAX_OPTIONS];
    Cleave__Configure configure;
    char *names[2];
    int fds[2];
};

static void option(struct setup *s, const char *key, const char *value)
{
    Cleave__KeyValue *p = &s->pair[s->configure.n_options];
    if (!value)
        return;
    cleave__key_value__init(p);
    p->key = (char *)key;
    p->value = (char *)value;
    s->pairs[s->configure.n_options++] = p;
}

static void descriptor(struct setup *s, const char *name, int fd)
{
    s->names[s->configure.n_fds] = (char *)name;
    s->fds[s->configure.n_fds++] = fd;
}

/* The device's entry in one of the configuration's lists, or NULL. */
static const json_t *entry(const struct contest *c, const char *list)
{
    size_t i;
    const json_t *o, *all = json_object_get(c->configuration, list);
    json_array_foreach(all, i, o)
    {
        const char *id = json_string_value(json_object_get(o, "id"));
        if (id && !strcmp(id, c->device->id))
            return o;
    }
    return NULL;
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static const Cleave__LogFile *image_of(const struct contest *c)
{
    const Cleave__LogHeader *h = c->trace->header;
    for (size_t i = 0; i < h->n_files; i++)
        if (!strncmp(h->files[i]->role, "disk:", 5) && !strcmp(h->files[i]->role + 5, c->device->id))
            return h->files[i];
    return NULL;
}

/* Whatever the recorded disk was, this one writes to a temporary overlay. */
static int set_up_block(struct contest *c, struct setup *s, struct failure *f)
{
    const json_t *o = entry(c, "disks");
    const Cleave__LogFile *file = image_of(c);
    if (!o || !file)
        return failure_set(f, STATUS_FAILED, EBADMSG, "%s: no image of disk '%s' in it", c->trace->path,
                           c->device->id);
    int image = bodies_open_file(&c->bodies, file, f);
    if (image < 0)
        return image;
    option(s, "path", text_of(o, "path"));
    option(s, "serial", text_of(o, "serial"));
    descriptor(s, "image", image);
    if (json_is_true(json_object_get(o, "ro"))) {
        option(s, "readonly", "1");
        return 0;
    }
    const char *dir = getenv("TMPDIR");
    int overlay = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (overlay < 0)
        overlay = memfd_create("overlay", MFD_CLOEXEC);
    if (overlay < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot make a temporary overlay: %s", strerror(errno));
    descriptor(s, "overlay", overlay);
    return 0;
}

static int set_up_net(struct contest *c, struct setup *s, struct failure *f)
{
    const json_t *o = entry(c, "nets");
    const char *backend = text_of(o, "backend");
    if (!backend || strcmp(backend, "echo") != 0)
        return failure_set(
            f, STATUS_FAILED, EOPNOTSUPP,
            "network card '%s' cannot be replayed alone: what its back-end '%s' answers depends "
            "on others",
            c->device->id, backend ? backend : "?");
    option(s, "backend", backend);
    option(s, "mac", text_of(o, "mac"));
    return 0;
}

static int set_up(struct contest *c, struct setup *s, struct failure *f)
{
    const char *kind = c->device->kind;
    *s = (struct setup){.fds = {-1, -1}};
    cleave__configure__init(&s->configure);
    s->configure.id = c->device->id;
    s->configure.seed = c->trace->header->seed;
    s->configure.device_index = c->device->index;
    s->configure.options = s->pairs;
    s->configure.fds = s->names;
    if (!strcmp(kind, "block"))
        return set_up_block(c, s, f);
    if (!strcmp(kind, "net"))
        return set_up_net(c, s, f);
    if (!strcmp(kind, "serial")) {
        option(s, "type", c->device->slot < 0 ? "uart" : "console");
        option(s, "backend", "null");
    } else if (!strcmp(kind, "input")) {
        option(s, "type", text_of(entry(c, "inputs"), "type"));
    }
    return 0;
}

static bool same_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len));
}

/* What of itself the guest saw. */
static const char *description_differs(const Cleave__LogDevice *a, const Cleave__Describe *b)
{
    if (a->virtio_id != b->virtio_id)
        return "virtio id";
    if (a->features != b->features)
        return "features";
    if (!same_bytes(a->config, b->config))
        return "configuration space";
    if (a->blob_max != b->blob_max || !same_bytes(a->blob, b->blob))
        return "initial state";
    return NULL;
}

static void said(const char *role, const char *text)
{
    message_detail("%s: %s", role, text);
}

static int start(struct contest *c, struct failure *f)
{
    char program[40], path[4096], role[100], *shell = NULL;
    const char *wrap = c->options->wrap, *sandbox = "";
    struct setup s;
    snprintf(program, sizeof(program), "cleave-%.30s", c->device->kind);
    snprintf(role, sizeof(role), "%.40s.%.40s", c->device->kind, c->device->id);
    int err = spawn_find(program, path, sizeof(path));
    if (err)
        return failure_set(f, STATUS_FAILED, -err, "cannot start %s: %s", program, strerror(-err));
    if (wrap && asprintf(&shell, "exec %s \"$0\" \"$1\"", wrap) < 0)
        return failure_set(f, STATUS_FAILED, ENOMEM, "%s", strerror(ENOMEM));
    char *plain[] = {path, role, NULL},
         *wrapped[] = {(char *)"/bin/sh", (char *)"-c", shell, path, role, NULL};
    c->solo.role = c->device->id;
    c->solo.foreground = wrap != NULL;
    c->solo.patience_ms = wrap ? -1 : PATIENCE_MS;
    c->solo.said = said;
    c->solo.process.control = -1;
    c->solo.out_fd = c->solo.in_fd = c->solo.device_doorbell = c->solo.vcpu_doorbell = -1;
    err = set_up(c, &s, f);
    if (!err)
        err = config_sandbox(wrap ? "off" : c->options->sandbox, &sandbox, f);
    s.configure.sandbox = (char *)sandbox;
    if (!err)
        err = solo_start(&c->solo, wrap ? wrapped : plain, &s.configure, s.fds, f);
    if (s.configure.n_fds > 1)
        close(s.fds[1]);
    free(shell);
    return err;
}

static int differs(struct contest *c, const struct crossing *at, const char *field, uint64_t expected,
                   uint64_t actual)
{
    c->difference = (struct difference){field, *at, expected, actual};
    return -ESTALE;
}

/* The answer before this record brought no state, if its own has not come by now. */
static int let_go(struct contest *c)
{
    struct solo_slot *slot = c->last;
    if (!slot)
        return 0;
    uint32_t blob_len = slot->completion.blob_len;
    solo_free(&c->solo, c->last_queue, slot);
    c->last = NULL;
    return blob_len ? differs(c, &c->last_crossing, "length of the new state", 0, blob_len) : 0;
}

static int compare_answer(struct contest *c, const struct crossing *r, struct failure *f)
{
    int err = 0;
    struct solo_slot *slot = solo_answer(&c->solo, r->queue, r->request, &err, f);
    if (err == -ETIMEDOUT)
        return differs(c, r, "answer", 1, 0);
    if (err)
        return err;
    const struct ring_completion *got = &slot->completion;
    bool failed = got->status == RING_STATUS_FAILED;
    uint32_t len = failed ? 0 : got->len;
    uint64_t digest = XXH3_64bits(solo_bytes(&c->solo, r->queue, slot), len);
    c->answers++;
    c->last = slot;
    c->last_queue = r->queue;
    c->last_crossing = *r;
    if (failed != (r->arg != 0))
        return differs(c, r, "failure", r->arg, failed);
    if (len != r->len)
        return differs(c, r, "length", r->len, len);
    return digest != r->digest ? differs(c, r, "digest", r->digest, digest) : 0;
}

static int compare_state(struct contest *c, const struct crossing *r)
{
    struct solo_slot *slot = c->last;
    uint32_t len = slot ? slot->completion.blob_len : 0;
    if (!slot || slot->request.seq != r->request || len != r->len)
        return differs(c, r, "length of the new state", r->len, len);
    uint64_t digest = XXH3_64bits(solo_blob(&c->solo, c->last_queue, slot), len);
    slot->completion.blob_len = 0;
    return digest != r->digest ? differs(c, r, "digest of the new state", r->digest, digest) : 0;
}

/* A message to the guest that answers a request. */
static int compare_message(struct contest *c, const struct crossing *r, struct failure *f)
{
    struct solo_message m;
    int got = solo_take_message(&c->solo, r->queue, r->request, &m, f);
    if (got == -ETIMEDOUT)
        return differs(c, r, "answer", 1, 0);
    if (got < 0)
        return got;
    if (!got)
        return differs(c, r, "message", 1, 0);
    if (m.len != r->len)
        return differs(c, r, "length of the message", r->len, m.len);
    return m.digest != r->digest ? differs(c, r, "digest of the message", r->digest, m.digest) : 0;
}

/* `body`: the request's, or NULL if the trace has it. */
static int submit(struct contest *c, const struct journal_entry *e, const uint8_t *body, struct failure *f)
{
    if (!body && e->c.len) {
        int got = bodies_get(&c->bodies, e, &body, f);
        if (got <= 0)
            return got ? got
                       : failure_set(f, STATUS_FAILED, EBADMSG,
                                     "%s: the replay did not make request %" PRIu64 " again", c->trace->path,
                                     e->c.request);
    }
    c->requests++;
    return solo_submit(&c->solo, e->c.queue, e->c.request, c->features, body, e->c.len, (uint32_t)e->c.arg,
                       f);
}

static int take_record(struct contest *c, const struct journal_entry *e, const uint8_t *body,
                       struct failure *f)
{
    if (e->type != JOURNAL_CROSSING || e->c.device != c->device->index)
        return 0;
    if (e->c.kind == CROSSING_BLOB)
        return compare_state(c, &e->c);
    int err = let_go(c);
    if (err)
        return err;
    switch (e->c.kind) {
    case CROSSING_REQUEST:
        return submit(c, e, body, f);
    case CROSSING_COMPLETION:
        return compare_answer(c, &e->c, f);
    case CROSSING_EVENT:
        return e->c.request ? compare_message(c, &e->c, f) : 0;
    case CROSSING_RESET:
        return solo_reset(&c->solo, e->c.request, e->c.arg, f);
    default:
        return 0;
    }
}

/* Deals with the records before crossing `seq`, and with that one, whose body is given. */
static int go_to(struct contest *c, uint64_t seq, const uint8_t *body, struct failure *f)
{
    for (; c->got > 0; c->got = trace_next(c->trace, &c->next, f)) {
        const struct journal_entry *e = &c->next;
        bool crossing = e->type == JOURNAL_CROSSING;
        if (crossing && e->c.seq > seq)
            return 0;
        if (c->options->until && e->c.icount >= c->options->until)
            return 0;
        if (c->lost && crossing && e->c.device == c->device->index && e->c.kind == CROSSING_REQUEST)
            return 0;
        int err = take_record(c, e, crossing && e->c.seq == seq ? body : NULL, f);
        if (err)
            return err;
    }
    return c->got;
}

static void take_part(void *ctx, const Cleave__Output *o)
{
    struct contest *c = ctx;
    if (c->err)
        return;
    uint8_t *request = realloc(c->request, c->len + o->data.len + 1);
    if (!request) {
        c->err = failure_set(&c->failure, STATUS_FAILED, ENOMEM, "%s", strerror(ENOMEM));
        return;
    }
    c->request = request;
    memcpy(request + c->len, o->data.data, o->data.len);
    c->len += o->data.len;
    if (o->left)
        return;
    c->features = o->features;
    c->len = 0;
    c->err = go_to(c, o->seq, request, &c->failure);
}

static bool enough(void *ctx)
{
    return ((struct contest *)ctx)->err != 0;
}

static void take_hash(void *ctx, const Cleave__StateHash *h) {}

static void take_line(void *ctx, const char *role, const char *text)
{
    message_detail("%s: %s", role, text);
}

/* The machine of the trace makes its requests again. */
static int replay(struct contest *c, struct failure *f)
{
    struct replay_options o = *c->options;
    struct replay_observer observer = {
        .hash = take_hash, .enough = enough, .mirrored = take_part, .said = take_line, .ctx = c};
    struct replay_plan plan;
    struct replay_result r;
    o.mirror = c->device->id;
    o.follow = o.realtime = false;
    int err = replay_plan(&plan, c->trace, &o, f);
    if (err)
        return err;
    replay_run(&plan, &observer, &r);
    replay_plan_release(&plan);
    if (c->err) {
        *f = c->failure;
        err = c->err;
    } else if (r.diverged) {
        c->lost = true;
        err = go_to(c, UINT64_MAX, NULL, f);
        err = err == -ESTALE
                  ? err
                  : failure_set(f, STATUS_DIVERGED, EIO,
                                "%s: the replay that makes the requests again diverged at icount %" PRIu64,
                                c->trace->path, r.diverged->diverged->actual->icount);
    } else if (r.failure.text[0]) {
        *f = r.failure;
        err = -EIO;
    } else if (r.signal) {
        err = failure_set(f, STATUS_FAILED, EINTR, "%s: interrupted", c->trace->path);
    }
    replay_result_release(&r);
    return err;
}

static void show_difference(const struct contest *c)
{
    const struct difference *d = &c->difference;
    const struct crossing *r = &d->recorded;
    char expected[32], actual[32];
    bool digest = strncmp(d->field, "digest", 6) == 0;
    snprintf(expected, sizeof(expected), digest ? "%016" PRIx64 : "%" PRIu64, d->expected);
    snprintf(actual, sizeof(actual), digest ? "%016" PRIx64 : "%" PRIu64, d->actual);
    json_t *e = json_pack("{s:s, s:s, s:I, s:I, s:I, s:i, s:s, s:s, s:s}", "event", "device-differs",
                          "device", c->device->id, "request", (json_int_t)r->request, "seq",
                          (json_int_t)r->seq, "icount", (json_int_t)r->icount, "queue", r->queue, "field",
                          d->field, "recorded", expected, "actual", actual);
    message_event(e);
    json_decref(e);
    struct failure f;
    failure_set(&f, STATUS_DIVERGED, EIO,
                "%s: device '%s' answers request %" PRIu64 " differently (crossing %" PRIu64
                ", queue %u, icount %" PRIu64 "): %s: recorded %s, now %s",
                c->trace->path, c->device->id, r->request, r->seq, r->queue, r->icount, d->field, expected,
                actual);
    message_failure(&f);
}

static int feed(struct contest *c, struct failure *f)
{
    c->features = c->solo.describe.body->describe->features;
    const char *what = description_differs(c->device, c->solo.describe.body->describe);
    if (what)
        return failure_set(f, STATUS_DIVERGED, EIO, "%s: device '%s' describes itself differently: %s",
                           c->trace->path, c->device->id, what);
    c->got = trace_next(c->trace, &c->next, f);
    if (c->got < 0)
        return c->got;
    int err = replay(c, f);
    if (!err)
        err = go_to(c, UINT64_MAX, NULL, f);
    return err ? err : let_go(c);
}

static int contest(struct contest *c, struct failure *f)
{
    int err = bodies_init(&c->bodies, c->trace, c->options->images, f);
    if (err)
        return err;
    err = start(c, f);
    if (!err)
        err = feed(c, f);
    solo_release(&c->solo);
    bodies_free(&c->bodies);
    free(c->request);
    if (!c->difference.field)
        return err;
    show_difference(c);
    return STATUS_DIVERGED;
}

int replay_device(struct trace *t, const char *id, const struct replay_options *o, struct failure *f)
{
    json_error_t error;
    struct contest c = {.trace = t, .device = trace_device_named(t, id), .options = o};
    if (!c.device) {
        failure_set(f, STATUS_USAGE, EINVAL, "replay: --device: %s: no device '%s' in this trace", t->path,
                    id);
        return failure_hint(f, "'cleave trace info %s' lists the devices", t->path);
    }
    c.configuration = json_loads(t->header->configuration, 0, &error);
    int status = contest(&c, f);
    json_decref(c.configuration);
    if (status == 0)
        message_result("%s: %" PRIu64 " requests, %" PRIu64 " answers as recorded", id, c.requests,
                       c.answers);
    return status;
}
