/* State, start and end of a machine. */
#include "tools/supervisor/machine.h"

#include "tools/supervisor/machine_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

const char *machine_state_name(const struct machine *m)
{
    static const char *const names[] = {"starting", "running", "paused", "stopping", "stopped"};
    return names[m->state];
}

void machine_notify(struct machine *m, json_t *event)
{
    if (event)
        m->observer->event(m->observer_ctx, event);
    json_decref(event);
}

void machine_set_state(struct machine *m, enum machine_state state)
{
    if (m->state == state)
        return;
    m->state = state;
    m->observer->changed(m->observer_ctx);
}

static bool all_ready(const struct machine *m)
{
    if (m->vcpu.state != CHILD_READY)
        return false;
    for (unsigned i = 0; i < m->plan.n; i++) {
        if (m->devices[i].child.state != CHILD_READY)
            return false;
    }
    return true;
}

static void notify_started(struct machine *m)
{
    json_t *open = json_array(), *terminals = json_object();
    for (unsigned i = 0; i < m->plan.n; i++) {
        const struct device *d = &m->devices[i];
        if (!d->describe.body->describe->closed)
            json_array_append_new(open, json_string(d->plan->id));
        if (d->plan->terminal)
            json_object_set_new(terminals, d->plan->id, json_string(d->plan->terminal));
    }
    json_t *event =
        json_pack("{s:s, s:s, s:i, s:I, s:I, s:o, s:o}", "event", "started", "name", m->config->name, "pid",
                  (int)getpid(), "seed", (json_int_t)m->config->seed, "start_us",
                  (json_int_t)((uv_hrtime() - m->started_ns) / 1000), "open", open, "terminals", terminals);
    if (m->record.state == RECORD_ON)
        json_object_set_new(event, "trace", json_string(m->record.path));
    machine_notify(m, event);
}

void machine_run_if_ready(struct machine *m)
{
    if (m->state != MACHINE_STARTING || m->ended || !all_ready(m) || !record_is_ready(m))
        return;
    for (unsigned i = 0; i < m->plan.n; i++)
        child_event(&m->devices[i].child, CHILD_RUN);
    record_run(m);
    child_event(&m->vcpu, CHILD_RUN);
    machine_set_state(m, MACHINE_RUNNING);
    notify_started(m);
}

static void stop_devices(struct machine *m)
{
    for (unsigned i = 0; i < m->plan.n; i++)
        child_event(&m->devices[i].child, CHILD_STOP);
}

/* The devices are stopped after the vcpu has said its last word: its requests must still reach them. */
static void begin_stop(struct machine *m)
{
    machine_set_state(m, MACHINE_STOPPING);
    child_event(&m->vcpu, CHILD_STOP);
    if (m->vcpu.state != CHILD_STOPPING)
        stop_devices(m);
    machine_check_gone(m);
}

static void set_result(struct machine *m, int status, const char *why)
{
    if (m->ended)
        return;
    m->ended = true;
    m->result.status = status;
    snprintf(m->result.why, sizeof(m->result.why), "%s", why);
}

void machine_fail(struct machine *m, int status, int err, const char *fmt, ...)
{
    char text[sizeof(m->result.failure.text)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!m->ended)
        failure_set(&m->result.failure, status, err > 0 ? err : EIO, "%s", text);
    set_result(m, status, text);
    begin_stop(m);
}

void machine_stop(struct machine *m, const char *why)
{
    set_result(m, STATUS_OK, why);
    if (m->state < MACHINE_STOPPING)
        begin_stop(m);
}

void machine_kill(struct machine *m, const char *why)
{
    set_result(m, STATUS_OK, why);
    m->killed = true;
    machine_set_state(m, MACHINE_STOPPING);
    child_cause(&m->vcpu, "%s", why);
    child_event(&m->vcpu, CHILD_FAULTED);
    for (unsigned i = 0; i < m->plan.n; i++) {
        child_cause(&m->devices[i].child, "%s", why);
        child_event(&m->devices[i].child, CHILD_FAULTED);
    }
    machine_check_gone(m);
}

void machine_exited(struct machine *m, const Cleave__Exited *e)
{
    struct machine_result *r = &m->result;
    r->exited = true;
    r->icount = e->icount;
    r->hash = e->hash;
    r->guest_status = e->guest_status;
    if (m->config->hash_at_exit) {
        char hex[20];
        snprintf(hex, sizeof(hex), "%016" PRIx64, e->hash);
        machine_notify(m, json_pack("{s:s, s:I, s:s, s:s}", "event", "hash", "icount", (json_int_t)e->icount,
                                    "hash", hex, "why", "exit"));
    }
    if (e->fault) {
        machine_fail(m, STATUS_FAULT, EIO, "emulator fault: %s", e->why);
        return;
    }
    bool fail = strcmp(e->why, "fail") == 0;
    if (!m->ended)
        r->from_guest = fail || strcmp(e->why, "poweroff") == 0;
    if (fail && !m->config->batch && !m->ended)
        failure_set(&r->failure, STATUS_FAILED, EIO, "the guest failed with status %" PRIu32,
                    e->guest_status);
    set_result(m,
               !fail              ? STATUS_OK
               : m->config->batch ? (int)(e->guest_status & 255)
                                  : STATUS_FAILED,
               e->why);
    machine_set_state(m, MACHINE_STOPPING);
    stop_devices(m);
}

void machine_paused(struct machine *m, const char *why)
{
    if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
        return;
    if (m->state == MACHINE_RUNNING)
        snprintf(m->paused_why, sizeof(m->paused_why), "%.300s", m->record.paused ? m->record.reason : why);
    machine_set_state(m, MACHINE_PAUSED);
}

static void device_lost(struct machine *m, struct device *d)
{
    char why[400];
    snprintf(why, sizeof(why), "device %s died: %s", d->child.role, d->child.cause);
    Cleave__Unlink unlink = CLEAVE__UNLINK__INIT;
    unlink.id = (char *)d->plan->id;
    unlink.cause = d->child.cause;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_UNLINK;
    body.unlink = &unlink;
    child_send(&m->vcpu, &body, NULL, 0);
    if (m->config->batch) {
        machine_fail(m, STATUS_FAULT, EIO, "%s", why);
        return;
    }
    machine_paused(m, why);
    machine_notify(m, json_pack("{s:s, s:s, s:s, s:s}", "event", "device-died", "device", d->plan->id, "role",
                                d->child.role, "cause", d->child.cause));
}

void machine_child_died(struct machine *m, struct child *c, struct device *d)
{
    if (m->ended) {
        /* A process that crashes while it stops may have lost what it had accepted. */
        if (m->result.status == STATUS_OK && !c->clean && !m->killed) {
            m->result.status = STATUS_FAULT;
            m->result.from_guest = false;
            failure_set(&m->result.failure, STATUS_FAULT, EIO, "%s died while it stopped: %s", c->role,
                        c->cause);
        }
    } else if (c->asked) {
        machine_fail(m, STATUS_FAILED, c->err, "%s", c->cause);
    } else if (!d) {
        machine_fail(m, STATUS_FAULT, EIO, "%s died: %s", c->role, c->cause);
    } else if (m->state == MACHINE_STARTING) {
        machine_fail(m, STATUS_FAULT, EIO, "device %s died: %s", c->role, c->cause);
    } else {
        device_lost(m, d);
    }
    if (!d && m->state == MACHINE_STOPPING)
        stop_devices(m);
    machine_check_gone(m);
}

void machine_check_gone(struct machine *m)
{
    if (m->state != MACHINE_STOPPING || m->vcpu.state != CHILD_ABSENT)
        return;
    record_finish(m);
    for (unsigned i = 0; i < m->plan.n; i++) {
        if (m->devices[i].child.state != CHILD_ABSENT)
            return;
    }
    if (record_is_gone(m))
        machine_set_state(m, MACHINE_STOPPED);
}

static int wrong_state(struct machine *m, struct failure *f)
{
    return failure_set(f, STATUS_WRONG_STATE, EPERM, "machine '%s' is %s%s%s", m->config->name,
                       machine_state_name(m), m->state == MACHINE_PAUSED ? ": " : "",
                       m->state == MACHINE_PAUSED ? m->paused_why : "");
}

int machine_pause(struct machine *m, struct failure *f)
{
    if (m->state != MACHINE_RUNNING)
        return wrong_state(m, f);
    Cleave__Pause pause = CLEAVE__PAUSE__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_PAUSE;
    body.pause = &pause;
    child_send(&m->vcpu, &body, NULL, 0);
    return 0;
}

void machine_send_resume(struct machine *m)
{
    Cleave__Resume resume = CLEAVE__RESUME__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RESUME;
    body.resume = &resume;
    child_send(&m->vcpu, &body, NULL, 0);
}

int machine_resume(struct machine *m, struct failure *f)
{
    if (m->state != MACHINE_PAUSED || m->record.paused)
        return wrong_state(m, f);
    for (unsigned i = 0; i < m->plan.n; i++) {
        if (m->devices[i].child.state != CHILD_RUNNING)
            return wrong_state(m, f);
    }
    machine_send_resume(m);
    return 0;
}

int machine_stats(struct machine *m, uint64_t tag, struct failure *f)
{
    if (m->vcpu.state != CHILD_RUNNING)
        return wrong_state(m, f);
    record_ask_stats(m, tag);
    Cleave__StatsRequest request = CLEAVE__STATS_REQUEST__INIT;
    request.tag = tag;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STATS_REQUEST;
    body.stats_request = &request;
    child_send(&m->vcpu, &body, NULL, 0);
    return 0;
}

int machine_dump_blocks(struct machine *m, uint64_t tag, int fd, struct failure *f)
{
    if (m->vcpu.state != CHILD_RUNNING)
        return wrong_state(m, f);
    Cleave__DumpBlocks dump = CLEAVE__DUMP_BLOCKS__INIT;
    dump.tag = tag;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DUMP_BLOCKS;
    body.dump_blocks = &dump;
    child_send(&m->vcpu, &body, &fd, 1);
    return 0;
}

int machine_command(struct machine *m, struct device *d, uint64_t tag, const char *verb,
                    Cleave__KeyValue **args, size_t nargs, int fd, struct failure *f)
{
    if (d->child.state != CHILD_RUNNING)
        return failure_set(f, STATUS_WRONG_STATE, EPERM, "device '%s' is %s", d->plan->id,
                           lifecycle_state_name(d->child.state));
    Cleave__DeviceCommand command = CLEAVE__DEVICE_COMMAND__INIT;
    command.tag = tag;
    command.verb = (char *)verb;
    command.args = args;
    command.n_args = nargs;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DEVICE_COMMAND;
    body.device_command = &command;
    child_send(&d->child, &body, &fd, fd >= 0 ? 1 : 0);
    return 0;
}

static const char *plan_option_value(const struct plan_device *p, const char *key)
{
    for (unsigned i = 0; i < p->noptions; i++) {
        if (strcmp(p->options[i].key, key) == 0)
            return p->options[i].value;
    }
    return "";
}

struct device *machine_device(struct machine *m, const char *kind, const char *type, const char *id)
{
    for (unsigned i = 0; i < m->plan.n; i++) {
        const struct plan_device *p = &m->plan.devices[i];
        if (id ? strcmp(p->id, id) == 0 && strcmp(p->kind, kind) == 0
               : strcmp(p->kind, kind) == 0 && (!type || strcmp(plan_option_value(p, "type"), type) == 0))
            return &m->devices[i];
    }
    return NULL;
}

int machine_find_program(const char *name, char *path, size_t size, struct failure *f)
{
    if (spawn_find(name, path, size) == 0)
        return 0;
    failure_set(f, STATUS_FAULT, ENOENT, "cannot find the program '%s'", name);
    failure_hint(f, "it belongs beside 'cleave' or in ../libexec/cleave: is the installation complete?");
    return -ENOENT;
}

static void init_devices(struct machine *m)
{
    for (unsigned i = 0; i < m->plan.n; i++) {
        struct device *d = &m->devices[i];
        char role[64];
        d->machine = m;
        d->plan = &m->plan.devices[i];
        d->index = i;
        d->out = d->in = d->doorbell = -1;
        snprintf(role, sizeof(role), "%s.%s", d->plan->kind, d->plan->id);
        child_init(&d->child, CHILD_DEVICE, role, &machine_device_ops, d);
    }
}

static int start_child(struct machine *m, struct child *c, const char *program, struct failure *f)
{
    int err = child_start(c, m->loop, program);
    if (err)
        return failure_set(f, STATUS_FAULT, -err, "cannot start %s: %s", c->role, strerror(-err));
    return 0;
}

static int start_device(struct machine *m, struct device *d, struct failure *f)
{
    char name[32], program[4096];
    snprintf(name, sizeof(name), "cleave-%s", d->plan->kind);
    int err = machine_find_program(name, program, sizeof(program), f);
    if (err)
        return err;
    d->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->doorbell < 0)
        return failure_set(f, STATUS_FAULT, errno, "cannot start %s: %s", d->child.role, strerror(errno));
    return start_child(m, &d->child, program, f);
}

static int prepare(struct machine *m, int stdio, struct failure *f)
{
    int err = plan_create(m->config, stdio, m->config->batch != NULL, &m->plan, f);
    if (!err)
        err = images_open_boot(m->config, &m->boot, f);
    if (!err)
        err = machine_find_program("cleave-vcpu", m->vcpu_program, sizeof(m->vcpu_program), f);
    if (err)
        return err;
    m->devices = calloc(m->plan.n, sizeof(*m->devices));
    m->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!m->devices || m->doorbell < 0)
        return failure_set(f, STATUS_FAULT, ENOMEM, "cannot create the machine: %s", strerror(errno));
    init_devices(m);
    return record_open(m, f);
}

int machine_start(struct machine *m, uv_loop_t *loop, const struct config *c, int stdio,
                  const struct machine_observer *o, void *ctx, struct failure *f)
{
    *m = (struct machine){
        .loop = loop,
        .config = c,
        .boot = {-1, -1, -1},
        .doorbell = -1,
        .perf_map = -1,
        .observer = o,
        .observer_ctx = ctx,
        .started_ns = uv_hrtime(),
    };
    child_init(&m->vcpu, CHILD_VCPU, "vcpu", &machine_vcpu_ops, m);
    record_init(m);
    int err = prepare(m, stdio, f);
    if (err) {
        machine_release(m);
        return err;
    }
    /* From here on a failure is a result: processes that run already must be stopped. */
    struct failure why;
    err = start_child(m, &m->vcpu, m->vcpu_program, &why);
    for (unsigned i = 0; i < m->plan.n && !err; i++)
        err = start_device(m, &m->devices[i], &why);
    if (err) {
        machine_fail(m, why.status, -err, "%s", why.text);
        snprintf(m->result.failure.hint, sizeof(m->result.failure.hint), "%s", why.hint);
    }
    return 0;
}

void machine_release(struct machine *m)
{
    for (unsigned i = 0; m->devices && i < m->plan.n; i++) {
        struct device *d = &m->devices[i];
        if (d->describe.body)
            control_release(&d->describe);
        if (d->out >= 0)
            close(d->out);
        if (d->in >= 0)
            close(d->in);
        if (d->doorbell >= 0)
            close(d->doorbell);
    }
    free(m->devices);
    m->devices = NULL;
    if (m->doorbell >= 0)
        close(m->doorbell);
    record_release(m);
    images_close_boot(&m->boot);
    plan_release(&m->plan);
}
