/* The device's side of the handshake, from Hello to Ready: fixed steps, one message at a time. Must not look
 * at the rings. */
#include "devices/common/device_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void send_hello(struct device *d)
{
    Cleave__Hello hello = CLEAVE__HELLO__INIT;
    hello.major = CONTROL_MAJOR;
    hello.minor = CONTROL_MINOR;
    hello.kind = (char *)d->ops->kind;
    hello.build = (char *)CLEAVE_VERSION;
    hello.pid = (uint32_t)getpid();
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_HELLO;
    body.hello = &hello;
    device_send(d, &body);
}

/* The next message, which must be `want` or Stop. The supervisor has the deadlines; its death is the end of
 * file. */
static int expect(struct device *d, Cleave__Control__BodyCase want, struct control_message *m)
{
    int err = control_wait(d->control, -1, m);
    if (err == -EPIPE)
        _exit(1);
    if (err)
        return device_error(d, -err, "control socket: %s", strerror(-err));
    if (m->body->body_case == want)
        return 0;
    bool stop = m->body->body_case == CLEAVE__CONTROL__BODY_STOP;
    control_release(m);
    return stop ? -ECANCELED : device_error(d, EPROTO, "control message out of order");
}

static int number_option(const struct device *d, const char *key, bool *given, uint64_t *value)
{
    const char *text = device_option(d, key);
    char *end;
    *given = text != NULL;
    if (!text)
        return 0;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno || *end || text[0] < '0' || text[0] > '9' ? -EINVAL : 0;
}

/* The options that replace the kind's own latencies. */
static int set_latency(struct device *d)
{
    struct latency_model *m = &d->description.latency;
    bool base = false, bandwidth = false, jitter = false;
    uint64_t base_ns = 0, bytes = 0, jitter_ns = 0;
    int err = number_option(d, "latency", &base, &base_ns);
    if (!err)
        err = number_option(d, "bandwidth", &bandwidth, &bytes);
    if (!err)
        err = number_option(d, "jitter", &jitter, &jitter_ns);
    for (uint32_t i = 0; i < m->nrules && !err; i++) {
        m->rule[i].base_ns = base ? base_ns : m->rule[i].base_ns;
        m->rule[i].bandwidth = bandwidth ? bytes : m->rule[i].bandwidth;
        m->rule[i].jitter_ns = jitter ? jitter_ns : m->rule[i].jitter_ns;
    }
    m->seed = device_seed(d);
    if (!err)
        err = latency_check(m);
    return err ? device_error(d, EINVAL, "%s: latency, bandwidth or jitter out of range", device_id(d)) : 0;
}

static int configure(struct device *d)
{
    int err = expect(d, CLEAVE__CONTROL__BODY_CONFIGURE, &d->configure);
    if (err)
        return err;
    const Cleave__Configure *c = d->configure.body->configure;
    if (c->n_fds != d->configure.nfds)
        return device_error(d, EPROTO, "configuration names %zu descriptors and carries %u", c->n_fds,
                            d->configure.nfds);
    err = d->ops->configure(d, &d->description);
    if (err) {
        if (!d->failure_err)
            device_error(d, -err, "%s: %s", c->id, strerror(-err));
        return err;
    }
    for (unsigned i = 0; i < d->configure.nfds; i++) {
        if (d->configure.fds[i] >= 0)
            close(d->configure.fds[i]);
        d->configure.fds[i] = -1;
    }
    if (channel_check(&d->description.geometry) < 0)
        return device_error(d, EINVAL, "%s: channel geometry out of range", c->id);
    return set_latency(d);
}

/* Everything that a Describe message points to. */
struct describe_space {
    Cleave__Describe message;
    Cleave__Queue queue[CHANNEL_MAX_QUEUES], *queues[CHANNEL_MAX_QUEUES];
    Cleave__ConfigRow row[48], *rows[48];
    Cleave__LatencyRule rule[LATENCY_MAX_RULES], *rules[LATENCY_MAX_RULES];
};

static void describe_queues(struct describe_space *s, const struct channel_geometry *g)
{
    for (unsigned i = 0; i < g->nqueues; i++) {
        cleave__queue__init(&s->queue[i]);
        s->queue[i].kind = g->queue[i].kind;
        s->queue[i].slots = g->queue[i].slots;
        s->queue[i].max_request = g->queue[i].max_request;
        s->queue[i].max_response = g->queue[i].max_response;
        s->queue[i].request_bytes = g->queue[i].request_bytes;
        s->queue[i].response_bytes = g->queue[i].response_bytes;
        s->queues[i] = &s->queue[i];
    }
    s->message.n_queues = g->nqueues;
    s->message.queues = s->queues;
    s->message.blob_max = g->blob_max;
}

static void describe_rows(struct describe_space *s, const struct device_description *desc)
{
    for (unsigned i = 0; i < desc->nrows; i++) {
        cleave__config_row__init(&s->row[i]);
        s->row[i].selector = desc->rows[i].selector;
        s->row[i].data = (ProtobufCBinaryData){desc->rows[i].len, (uint8_t *)desc->rows[i].data};
        s->rows[i] = &s->row[i];
    }
    s->message.n_rows = desc->nrows;
    s->message.rows = s->rows;
    s->message.selector_len = desc->selector_len;
    s->message.selector_data = desc->selector_data;
    s->message.selector_size_at = desc->selector_size_at;
}

static void describe_latency(struct describe_space *s, const struct latency_model *model)
{
    for (uint32_t i = 0; i < model->nrules; i++) {
        const struct latency_rule *r = &model->rule[i];
        cleave__latency_rule__init(&s->rule[i]);
        s->rule[i].prefix = (ProtobufCBinaryData){r->prefix_len, (uint8_t *)r->prefix};
        s->rule[i].base_ns = r->base_ns;
        s->rule[i].bandwidth = r->bandwidth;
        s->rule[i].jitter_ns = r->jitter_ns;
        s->rules[i] = &s->rule[i];
    }
    s->message.n_latency = model->nrules;
    s->message.latency = s->rules;
    s->message.latency_seed = model->seed;
}

static void describe_device(struct describe_space *s, const struct device_description *desc)
{
    Cleave__Describe *m = &s->message;
    m->virtio_id = desc->virtio_id;
    m->features = desc->features;
    m->config = (ProtobufCBinaryData){desc->config_len, (uint8_t *)desc->config};
    m->blob = (ProtobufCBinaryData){desc->blob_len, (uint8_t *)desc->blob};
    m->closed = desc->closed;
    m->record_requests = desc->record_requests;
    m->file = desc->file;
    m->backend = (char *)(desc->backend ? desc->backend : "");
    m->inbound_merge = desc->inbound_merge;
    m->merge_feature = desc->merge_feature;
    m->merge_count_at = desc->merge_count_at;
    m->scheduled = desc->nschedule > 0;
}

static int send_describe(struct device *d)
{
    const struct device_description *desc = &d->description;
    struct describe_space s;
    cleave__describe__init(&s.message);
    describe_device(&s, desc);
    describe_queues(&s, &desc->geometry);
    describe_rows(&s, desc);
    describe_latency(&s, &desc->latency);
    int schedule = desc->nschedule ? schedule_create(desc->schedule, desc->nschedule) : -1;
    if (desc->nschedule && schedule < 0)
        return device_error(d, -schedule, "%s: schedule: %s", device_id(d), strerror(-schedule));
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DESCRIBE;
    body.describe = &s.message;
    int err = control_send(d->control, &body, &schedule, schedule >= 0);
    if (schedule >= 0)
        close(schedule);
    return err ? device_error(d, -err, "%s: description: %s", device_id(d), strerror(-err)) : 0;
}

/* Descriptors of Map, in this order. */
enum { MAP_OUT, MAP_IN, MAP_DEVICE_DOORBELL, MAP_VCPU_DOORBELL, MAP_FDS };

static int map_channel(struct device *d)
{
    struct control_message m;
    int err = expect(d, CLEAVE__CONTROL__BODY_MAP, &m);
    if (err)
        return err;
    const struct channel_geometry *g = &d->description.geometry;
    uint32_t crc = channel_layout_crc(g);
    if (m.nfds != MAP_FDS || m.body->map->layout_crc != crc) {
        control_release(&m);
        return device_error(d, EPROTO, "%s: channel does not match the description", device_id(d));
    }
    d->epoch = m.body->map->epoch;
    d->doorbell = m.fds[MAP_DEVICE_DOORBELL];
    m.fds[MAP_DEVICE_DOORBELL] = -1;
    err = channel_back_open(g, d->epoch, m.fds[MAP_OUT], m.fds[MAP_IN], m.fds[MAP_VCPU_DOORBELL], &d->back);
    control_release(&m);
    if (err)
        return device_error(d, -err, "%s: cannot map the channel: %s", device_id(d), strerror(-err));

    Cleave__Mapped mapped = CLEAVE__MAPPED__INIT;
    mapped.layout_crc = crc;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_MAPPED;
    body.mapped = &mapped;
    device_send(d, &body);
    return 0;
}

/* From Linked on the rings are empty and ours. */
static int expect_linked(struct device *d)
{
    struct control_message m;
    int err = expect(d, CLEAVE__CONTROL__BODY_LINKED, &m);
    if (!err)
        control_release(&m);
    return err;
}

void device_say_ready(struct device *d)
{
    Cleave__Ready ready = CLEAVE__READY__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_READY;
    body.ready = &ready;
    device_send(d, &body);
}

int device_handshake(struct device *d)
{
    send_hello(d);
    int err = configure(d);
    if (!err)
        err = send_describe(d);
    if (!err)
        err = map_channel(d);
    if (!err)
        err = expect_linked(d);
    return err;
}
