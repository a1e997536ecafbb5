/* The event loop of a device process: doorbell, control messages, heartbeat, stop. Knows no request. */
#include "devices/common/device_private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEARTBEAT_MS 250
#define STOP_MS      2000

/* Arena bytes that may have been used before they are given back at a quiet moment. */
#define TRIM_BYTES (1u << 20)

static void finish_stop(struct device *d)
{
    if (d->ops->stop)
        d->ops->stop(d);
    d->back->ops->kick(d->back);
    device_stopped(d);
}

static void on_stop_deadline(uv_timer_t *t)
{
    finish_stop(t->data);
}

static void begin_stop(struct device *d)
{
    if (d->phase == PHASE_STOPPING)
        return;
    /* The last words of a guest are published before the vcpu ends and the supervisor says Stop. */
    while (d->phase == PHASE_RUNNING && device_serve(d))
        continue;
    d->phase = PHASE_STOPPING;
    uv_timer_start(&d->stop_deadline, on_stop_deadline, STOP_MS, 0);
}

static void on_idle(uv_idle_t *h) {}

/* Before the poll: publish, then either announce sleep or keep the poll from blocking. */
static void on_prepare(uv_prepare_t *h)
{
    struct device *d = h->data;
    d->back->ops->kick(d->back);
    if (d->phase == PHASE_STOPPING && d->in_flight == 0)
        finish_stop(d);
    bool rings_wait = d->phase != PHASE_RUNNING || (d->barrier && d->in_flight);
    bool block = rings_wait || d->back->ops->sleep(d->back);
    if (block)
        uv_idle_stop(&d->idle);
    else
        uv_idle_start(&d->idle, on_idle);
}

/* After the poll. */
static void on_check(uv_check_t *h)
{
    struct device *d = h->data;
    if (d->phase == PHASE_RUNNING) {
        d->back->ops->awake(d->back);
        if (d->back->ops->room(d->back) && d->ops->room)
            d->ops->room(d);
        device_serve(d);
    }
    d->back->ops->kick(d->back);
}

static void on_doorbell(uv_poll_t *h, int status, int events)
{
    struct device *d = h->data;
    uint64_t count;
    if (read(d->doorbell, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
        device_fail(d, errno, "%s: doorbell: %s", device_id(d), strerror(errno));
}

static void on_heartbeat(uv_timer_t *t)
{
    struct device *d = t->data;
    atomic_fetch_add_explicit(&d->back->ops->header(d->back)->heartbeat, 1, memory_order_relaxed);
    if (d->touched >= TRIM_BYTES && d->in_flight == 0) {
        d->back->ops->trim(d->back);
        d->touched = 0;
    }
}

static void begin_run(struct device *d)
{
    if (d->phase != PHASE_READY)
        device_fail(d, EPROTO, "%s: told to run twice", device_id(d));
    d->phase = PHASE_RUNNING;
    int err = d->ops->run ? d->ops->run(d) : 0;
    if (err) {
        if (!d->failure_err)
            device_error(d, -err, "%s: %s", device_id(d), strerror(-err));
        device_abort(d);
    }
}

static void do_command(struct device *d, struct control_message *m)
{
    char text[512] = "";
    int err = -EOPNOTSUPP;
    if (d->ops->command)
        err = d->ops->command(d, m->body->device_command->verb, m, text, sizeof(text));
    Cleave__DeviceReply reply = CLEAVE__DEVICE_REPLY__INIT;
    reply.tag = m->body->device_command->tag;
    reply.err = -err;
    reply.text = text;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DEVICE_REPLY;
    body.device_reply = &reply;
    device_send(d, &body);
}

static void take_message(struct device *d, struct control_message *m)
{
    switch (m->body->body_case) {
    case CLEAVE__CONTROL__BODY_RUN:
        begin_run(d);
        break;
    case CLEAVE__CONTROL__BODY_STOP:
        begin_stop(d);
        break;
    case CLEAVE__CONTROL__BODY_DEVICE_COMMAND:
        do_command(d, m);
        break;
    default:
        device_fail(d, EPROTO, "%s: control message out of order", device_id(d));
    }
}

static void on_control(uv_poll_t *h, int status, int events)
{
    struct device *d = h->data;
    struct control_message m;
    int got;
    while ((got = control_recv(d->control, &m)) > 0) {
        take_message(d, &m);
        control_release(&m);
    }
    if (got == -EAGAIN)
        return;
    if (got == 0)
        _exit(1);
    device_fail(d, -got, "%s: control socket: %s", device_id(d), strerror(-got));
}

static int start_handles(struct device *d)
{
    int err = uv_poll_init(&d->loop, &d->control_poll, d->control);
    if (!err)
        err = uv_poll_init(&d->loop, &d->doorbell_poll, d->doorbell);
    if (err)
        return err;
    uv_prepare_init(&d->loop, &d->prepare);
    uv_check_init(&d->loop, &d->check);
    uv_idle_init(&d->loop, &d->idle);
    uv_timer_init(&d->loop, &d->heartbeat);
    uv_timer_init(&d->loop, &d->stop_deadline);
    d->control_poll.data = d->doorbell_poll.data = d->prepare.data = d->check.data = d;
    d->heartbeat.data = d->stop_deadline.data = d;

    err = uv_poll_start(&d->control_poll, UV_READABLE, on_control);
    if (!err)
        err = uv_poll_start(&d->doorbell_poll, UV_READABLE, on_doorbell);
    if (err)
        return err;
    uv_prepare_start(&d->prepare, on_prepare);
    uv_check_start(&d->check, on_check);
    uv_timer_start(&d->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    return 0;
}

/* Back-ends are open, and everything that the loop needs is made. */
static int enter_sandbox(struct device *d)
{
    const char *wanted = d->configure.body->configure->sandbox;
    int err = strcmp(wanted, "off") ? sandbox_enter(d->description.sandbox) : 0;
    if (err && !strcmp(wanted, "require"))
        return device_error(d, -err, "%s: cannot enter a sandbox: %s", device_id(d), strerror(-err));
    if (err)
        device_log(d, "%s runs without a sandbox: %s", device_id(d), strerror(-err));
    return 0;
}

int device_loop_run(struct device *d)
{
    d->phase = PHASE_READY;
    int err = start_handles(d);
    if (err)
        return device_error(d, -err, "%s: event loop: %s", device_id(d), uv_strerror(err));
    err = enter_sandbox(d);
    if (err)
        return err;
    device_say_ready(d);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    return device_error(d, EIO, "%s: event loop ended", device_id(d));
}
