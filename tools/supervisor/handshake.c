/* The control messages between the supervisor and its children: what the life-cycle table asks for is sent
 * here, what comes in becomes an event of the table. */
#include "tools/supervisor/machine_internal.h"

#include "ipc/channel.h"
#include "tools/supervisor/perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The clock's start when it does not follow the host's: 2026-01-01, so that file systems are not from the
 * future. */
#define VIRTUAL_RTC_START_NS (UINT64_C(1767225600) * 1000000000)

/* virtio-mmio slots of QEMU's virt board; a machine with more devices has more. */
#define BOARD_SLOTS 8

static uint64_t rtc_start(const struct config *c)
{
    struct timespec now;
    if (strcmp(c->clock, "host") != 0)
        return VIRTUAL_RTC_START_NS;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static unsigned boot_fds(const struct machine *m, char **names, int *fds)
{
    const struct {
        const char *name;
        int fd;
    } all[] = {{"kernel", m->boot.kernel},
               {"bios", m->boot.bios},
               {"initrd", m->boot.initrd},
               {"doorbell", m->doorbell},
               {"perf-map", m->perf_map}};
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i].fd < 0)
            continue;
        names[n] = (char *)all[i].name;
        fds[n++] = all[i].fd;
    }
    return n;
}

/* False: the machine has failed. */
static bool open_perf_map(struct machine *m)
{
    char path[PERF_MAP_PATH];
    if (!m->config->perf_map)
        return true;
    m->perf_map = perf_map_create(m->vcpu.pid, path);
    if (m->perf_map < 0)
        machine_fail(m, STATUS_FAILED, -m->perf_map, "cannot create %s: %s", path, strerror(-m->perf_map));
    return m->perf_map >= 0;
}

static void send_machine(struct machine *m)
{
    const struct config *c = m->config;
    char *names[CONTROL_MAX_FDS];
    int fds[CONTROL_MAX_FDS];
    if (!open_perf_map(m))
        return;
    m->rtc_start_ns = rtc_start(c);
    snprintf(m->append, sizeof(m->append), "%s%s", c->append ? c->append : "",
             c->batch ? " cleave.batch" : "");
    Cleave__Machine msg = CLEAVE__MACHINE__INIT;
    msg.memory = c->memory;
    msg.cpus = c->cpus;
    msg.append = m->append;
    msg.seed = c->seed;
    msg.mmu = c->mmu;
    msg.engine = c->engine;
    msg.clock = c->clock;
    msg.timing = c->timing;
    msg.no_tlb = c->no_tlb;
    msg.code_cache = c->code_cache;
    msg.log_jit = c->log != NULL;
    msg.count_blocks = c->count_blocks;
    msg.hash_at_exit = c->hash_at_exit;
    msg.hash_every = c->hash_every;
    msg.hash_at = c->hash_at;
    msg.n_hash_at = c->nhash_at;
    msg.stop_at = c->stop_at;
    msg.rtc_start_ns = m->rtc_start_ns;
    msg.record_require = c->record_require;
    msg.sandbox = c->sandbox;
    msg.slots = m->plan.slots > BOARD_SLOTS ? m->plan.slots : BOARD_SLOTS;
    msg.fds = names;
    msg.n_fds = record_fds(m, names, fds, boot_fds(m, names, fds));
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_MACHINE;
    body.machine = &msg;
    child_send(&m->vcpu, &body, fds, (unsigned)msg.n_fds);
    images_close_boot(&m->boot);
    if (m->perf_map >= 0)
        close(m->perf_map);
    m->perf_map = -1;
}

/* The descriptors of one incarnation: those of the plan, and fresh descriptions of the disk's files, which
 * the caller closes. */
static int collect_fds(const struct plan_device *p, char **names, int *fds, unsigned *fresh,
                       struct failure *f)
{
    unsigned n = 0;
    *fresh = 0;
    if (p->is_disk) {
        int err = images_incarnate(p->disk.image, p->writable, &fds[n], p->id, f);
        if (err)
            return err;
        names[n++] = (char *)"image";
        *fresh = n;
    }
    if (p->is_disk && p->disk.overlay >= 0) {
        int err = images_incarnate(p->disk.overlay, true, &fds[n], p->id, f);
        if (err) {
            close(fds[0]);
            return err;
        }
        names[n++] = (char *)"overlay";
        *fresh = n;
    }
    for (unsigned i = 0; i < p->nfds; i++) {
        names[n] = (char *)p->fd_names[i];
        fds[n++] = p->fds[i];
    }
    return (int)n;
}

static void send_configure(struct device *d)
{
    const struct plan_device *p = d->plan;
    char *names[CONTROL_MAX_FDS];
    int fds[CONTROL_MAX_FDS];
    unsigned fresh;
    struct failure why;
    int nfds = collect_fds(p, names, fds, &fresh, &why);
    if (nfds < 0) {
        child_cause(&d->child, "%s", why.text);
        d->child.asked = true;
        child_event(&d->child, CHILD_FAULTED);
        return;
    }
    Cleave__KeyValue pairs[PLAN_MAX_OPTIONS], *options[PLAN_MAX_OPTIONS];
    for (unsigned i = 0; i < p->noptions; i++) {
        pairs[i] = (Cleave__KeyValue)CLEAVE__KEY_VALUE__INIT;
        pairs[i].key = (char *)p->options[i].key;
        pairs[i].value = p->options[i].value;
        options[i] = &pairs[i];
    }
    Cleave__Configure msg = CLEAVE__CONFIGURE__INIT;
    msg.id = (char *)p->id;
    msg.options = options;
    msg.n_options = p->noptions;
    msg.seed = d->machine->config->seed;
    msg.sandbox = d->machine->config->sandbox;
    msg.device_index = d->index;
    msg.fds = names;
    msg.n_fds = (size_t)nfds;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_CONFIGURE;
    body.configure = &msg;
    child_send(&d->child, &body, fds, (unsigned)nfds);
    for (unsigned i = 0; i < fresh; i++)
        close(fds[i]);
}

/* The vcpu takes devices in the order of their indices. */
static void send_attaches(struct machine *m)
{
    for (unsigned i = 0; i < m->plan.n; i++) {
        struct device *d = &m->devices[i];
        if (d->attach_sent)
            continue;
        if (d->child.state != CHILD_ATTACHING || m->vcpu.state < CHILD_CONFIGURING)
            return;
        Cleave__Attach msg = CLEAVE__ATTACH__INIT;
        msg.id = (char *)d->plan->id;
        msg.index = d->index;
        msg.slot = d->plan->slot;
        msg.describe = d->describe.body->describe;
        msg.file = record_file_of(m, d->index);
        Cleave__Control body = CLEAVE__CONTROL__INIT;
        body.body_case = CLEAVE__CONTROL__BODY_ATTACH;
        body.attach = &msg;
        d->attach_sent = true;
        child_send(&m->vcpu, &body, d->describe.fds, d->describe.nfds);
    }
}

static void geometry_of(const Cleave__Describe *d, struct channel_geometry *g)
{
    *g = (struct channel_geometry){.nqueues = (uint32_t)d->n_queues, .blob_max = d->blob_max};
    for (size_t i = 0; i < d->n_queues && i < CHANNEL_MAX_QUEUES; i++) {
        const Cleave__Queue *q = d->queues[i];
        g->queue[i] = (struct channel_queue){q->kind,         q->slots,         q->max_request,
                                             q->max_response, q->request_bytes, q->response_bytes};
    }
}

/* Fresh `in` for this epoch: sent to the device now, to the vcpu once the device has mapped it. */
static void send_map(struct device *d)
{
    struct machine *m = d->machine;
    struct channel_geometry g;
    geometry_of(d->describe.body->describe, &g);
    d->epoch++;
    d->in = channel_in_create(&g);
    if (d->in < 0) {
        child_cause(&d->child, "cannot create shared memory: %s", strerror(-d->in));
        child_event(&d->child, CHILD_FAULTED);
        return;
    }
    Cleave__Map msg = CLEAVE__MAP__INIT;
    msg.epoch = d->epoch;
    msg.layout_crc = d->layout_crc;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_MAP;
    body.map = &msg;
    const int fds[] = {d->out, d->in, d->doorbell, m->doorbell};
    child_send(&d->child, &body, fds, 4);
}

static void send_link(struct device *d)
{
    Cleave__Link msg = CLEAVE__LINK__INIT;
    msg.id = (char *)d->plan->id;
    msg.epoch = d->epoch;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LINK;
    body.link = &msg;
    const int fds[] = {d->in, d->doorbell};
    child_send(&d->machine->vcpu, &body, fds, 2);
    close(d->in);
    d->in = -1;
}

/* The vcpu has emptied the rings for this epoch: the device answers Ready. */
static void send_linked(struct device *d)
{
    Cleave__Linked msg = CLEAVE__LINKED__INIT;
    msg.id = (char *)d->plan->id;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LINKED;
    body.linked = &msg;
    child_send(&d->child, &body, NULL, 0);
}

static void send_run(struct child *c)
{
    Cleave__Run msg = CLEAVE__RUN__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RUN;
    body.run = &msg;
    child_send(c, &body, NULL, 0);
}

static void send_stop(struct child *c)
{
    Cleave__Stop msg = CLEAVE__STOP__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STOP;
    body.stop = &msg;
    child_send(c, &body, NULL, 0);
}

/* What both kinds have in common; true when the action was one of these. */
static bool act_common(struct machine *m, struct child *c, struct device *d, enum child_action action)
{
    switch (action) {
    case ACTION_READY:
        machine_run_if_ready(m);
        return true;
    case ACTION_RUN:
        send_run(c);
        return true;
    case ACTION_STOP:
        send_stop(c);
        return true;
    case ACTION_BURIED:
    case ACTION_DIED:
    case ACTION_GIVE_UP:
        machine_child_died(m, c, d);
        return true;
    default:
        return false;
    }
}

static void act_vcpu(struct child *c, enum child_action action)
{
    struct machine *m = c->owner;
    if (act_common(m, c, NULL, action) || action != ACTION_CONFIGURE)
        return;
    send_machine(m);
    send_attaches(m);
}

static void act_device(struct child *c, enum child_action action)
{
    struct device *d = c->owner;
    if (act_common(d->machine, c, d, action))
        return;
    switch (action) {
    case ACTION_CONFIGURE:
        send_configure(d);
        break;
    case ACTION_ATTACH:
        send_attaches(d->machine);
        break;
    case ACTION_MAP:
        send_map(d);
        break;
    case ACTION_LINK:
        send_link(d);
        break;
    case ACTION_SETTLE:
        send_linked(d);
        break;
    default:
        break;
    }
}

static void take_hello(struct child *c, const Cleave__Hello *h)
{
    if (h->major != CONTROL_MAJOR) {
        child_cause(c, "speaks version %" PRIu32 ".%" PRIu32 " of the control protocol, not %d.%d", h->major,
                    h->minor, CONTROL_MAJOR, CONTROL_MINOR);
        child_event(c, CHILD_FAULTED);
        return;
    }
    child_event(c, CHILD_HELLO);
}

static void take_failure(struct child *c, const Cleave__Failure *f)
{
    if (!c->cause[0]) {
        child_cause(c, "%s", f->text);
        c->asked = true;
        c->err = f->err;
    }
    child_event(c, CHILD_FAILED);
}

bool machine_take_common(struct machine *m, struct child *c, const Cleave__Control *body)
{
    switch (body->body_case) {
    case CLEAVE__CONTROL__BODY_HELLO:
        take_hello(c, body->hello);
        return true;
    case CLEAVE__CONTROL__BODY_READY:
        child_event(c, CHILD_SAID_READY);
        return true;
    case CLEAVE__CONTROL__BODY_FAILURE:
        take_failure(c, body->failure);
        return true;
    case CLEAVE__CONTROL__BODY_LOG:
        machine_notify(
            m, json_pack("{s:s, s:s, s:s}", "event", "log", "role", c->role, "text", body->log->text));
        return true;
    default:
        return false;
    }
}

static void violation(struct child *c)
{
    child_cause(c, "sent a message of the wrong kind");
    child_event(c, CHILD_FAULTED);
}

static struct device *device_named(struct machine *m, const char *id)
{
    for (unsigned i = 0; i < m->plan.n; i++) {
        if (strcmp(m->plan.devices[i].id, id) == 0)
            return &m->devices[i];
    }
    return NULL;
}

static void take_attached(struct machine *m, struct control_message *msg)
{
    const Cleave__Attached *a = msg->body->attached;
    struct device *d = device_named(m, a->id);
    if (!d || msg->nfds != 1 || d->out >= 0) {
        violation(&m->vcpu);
        return;
    }
    d->out = msg->fds[0];
    msg->fds[0] = -1;
    d->layout_crc = a->layout_crc;
    child_event(&d->child, CHILD_ATTACHED);
}

static void take_linked(struct machine *m, const char *id)
{
    struct device *d = device_named(m, id);
    if (d)
        child_event(&d->child, CHILD_LINKED);
    else
        violation(&m->vcpu);
}

static void take_device_fault(struct machine *m, const Cleave__DeviceFault *f)
{
    struct device *d = device_named(m, f->id);
    if (!d) {
        violation(&m->vcpu);
        return;
    }
    child_cause(&d->child, "broke the protocol: %s", f->why);
    child_event(&d->child, CHILD_FAULTED);
}

static void take_state_hash(struct machine *m, const Cleave__StateHash *h)
{
    char hex[20];
    snprintf(hex, sizeof(hex), "%016" PRIx64, h->hash);
    machine_notify(m, json_pack("{s:s, s:I, s:s, s:s}", "event", "hash", "icount", (json_int_t)h->icount,
                                "hash", hex, "why", h->why));
}

static void take_vcpu(struct child *c, struct control_message *msg)
{
    struct machine *m = c->owner;
    const Cleave__Control *body = msg->body;
    if (machine_take_common(m, c, body))
        return;
    switch (body->body_case) {
    case CLEAVE__CONTROL__BODY_ATTACHED:
        take_attached(m, msg);
        break;
    case CLEAVE__CONTROL__BODY_LINKED:
        take_linked(m, body->linked->id);
        break;
    case CLEAVE__CONTROL__BODY_STATE_HASH:
        take_state_hash(m, body->state_hash);
        break;
    case CLEAVE__CONTROL__BODY_PAUSED:
        machine_paused(m, body->paused->why);
        break;
    case CLEAVE__CONTROL__BODY_RESUMED:
        if (m->state == MACHINE_PAUSED)
            machine_set_state(m, MACHINE_RUNNING);
        break;
    case CLEAVE__CONTROL__BODY_STATS_REPLY:
        record_pass_stats(m, body->stats_reply->tag, body->stats_reply->json);
        break;
    case CLEAVE__CONTROL__BODY_DUMPED:
        m->observer->device_reply(m->observer_ctx, body->dumped->tag, body->dumped->err, "");
        break;
    case CLEAVE__CONTROL__BODY_DEVICE_FAULT:
        take_device_fault(m, body->device_fault);
        break;
    case CLEAVE__CONTROL__BODY_JOURNAL:
        record_take_journal(m, msg);
        break;
    case CLEAVE__CONTROL__BODY_RECORDING_ENDED:
        record_cannot_append(m, body->recording_ended);
        break;
    case CLEAVE__CONTROL__BODY_EXITED:
        child_event(c, CHILD_STOPPED);
        machine_exited(m, body->exited);
        break;
    default:
        violation(c);
    }
}

static void take_describe(struct device *d, struct control_message *msg)
{
    struct channel_geometry g;
    geometry_of(msg->body->describe, &g);
    unsigned fds = msg->body->describe->scheduled ? 1 : 0;
    if (d->describe.body || channel_check(&g) < 0 || msg->nfds != fds) {
        child_cause(&d->child, "described itself with impossible queues or descriptors");
        child_event(&d->child, CHILD_FAULTED);
        return;
    }
    d->describe = *msg;
    msg->body = NULL;
    msg->nfds = 0;
    child_event(&d->child, CHILD_DESCRIBED);
}

static void take_device(struct child *c, struct control_message *msg)
{
    struct device *d = c->owner;
    struct machine *m = d->machine;
    const Cleave__Control *body = msg->body;
    if (machine_take_common(m, c, body))
        return;
    switch (body->body_case) {
    case CLEAVE__CONTROL__BODY_DESCRIBE:
        take_describe(d, msg);
        break;
    case CLEAVE__CONTROL__BODY_MAPPED:
        if (body->mapped->layout_crc != d->layout_crc) {
            child_cause(c, "computed another memory layout than the vcpu");
            child_event(c, CHILD_FAULTED);
            break;
        }
        child_event(c, CHILD_MAPPED);
        break;
    case CLEAVE__CONTROL__BODY_STOPPED:
        child_event(c, CHILD_STOPPED);
        break;
    case CLEAVE__CONTROL__BODY_DEVICE_REPLY:
        m->observer->device_reply(m->observer_ctx, body->device_reply->tag, body->device_reply->err,
                                  body->device_reply->text);
        break;
    default:
        violation(c);
    }
}

static void said(struct machine *m, const struct child *c, const char *line)
{
    machine_notify(m, json_pack("{s:s, s:s, s:s}", "event", "stderr", "role", c->role, "text", line));
}

static void vcpu_said(struct child *c, const char *line)
{
    said(c->owner, c, line);
}

static void device_said(struct child *c, const char *line)
{
    said(((struct device *)c->owner)->machine, c, line);
}

const struct child_ops machine_vcpu_ops = {act_vcpu, take_vcpu, vcpu_said};
const struct child_ops machine_device_ops = {act_device, take_device, device_said};
