/* The broker's life and the descriptors that outlive it. A broker that dies has a successor, which continues
 * the log where the file ends; what was lost is still in the journal. */
#include "tools/supervisor/record.h"

#include "tools/supervisor/machine_internal.h"

#include "ipc/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEATHS 3
#define FIRST_DISK 16u
#define RESTART_MS 20
#define FIGURES_MS 100 /* for the broker's answer, which may wait for its disk */

static const char *const state_names[] = {"off", "preparing", "starting", "on", "ended"};

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int64_t log_bytes(const struct record *r)
{
    struct stat st;
    return r->log >= 0 && fstat(r->log, &st) == 0 ? st.st_size : 0;
}

static void tell(struct child *c, const char *reason, int err, uint64_t icount)
{
    Cleave__EndRecording end = CLEAVE__END_RECORDING__INIT;
    end.reason = (char *)reason;
    end.err = err;
    end.icount = icount;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_END_RECORDING;
    body.end_recording = &end;
    child_send(c, &body, NULL, 0);
}

/* The machine waits as long as the recording cannot go on; `why` empty: it can. */
static void hold_machine(struct machine *m, const char *why)
{
    struct record *r = &m->record;
    struct failure f;
    if (*why && m->state == MACHINE_RUNNING && !r->paused) {
        snprintf(r->reason, sizeof(r->reason), "the recording cannot go on: %.500s", why);
        r->paused = machine_pause(m, &f) == 0;
    } else if (!*why && r->paused) {
        r->paused = false;
        r->reason[0] = '\0';
        if (m->state == MACHINE_RUNNING) /* the vcpu has not come to the pause yet */
            machine_send_resume(m);
        else
            machine_resume(m, &f);
    }
}

/* Nothing more is recorded. `err` 0: the machine has ended. */
static void ended(struct machine *m, const char *reason, int err)
{
    struct record *r = &m->record;
    if (r->state == RECORD_OFF || r->state == RECORD_ENDED)
        return;
    r->state = RECORD_ENDED;
    snprintf(r->reason, sizeof(r->reason), "%s", reason);
    r->err = err;
    if (!err)
        return;
    tell(&m->vcpu, reason, err, 0);
    machine_notify(m, json_pack("{s:s, s:s, s:s, s:i}", "event", "recording-ended", "trace", r->path,
                                "reason", reason, "error", err));
    if (m->config->record_require)
        hold_machine(m, reason);
}

/* The descriptors of a message, by name. */
struct descriptors {
    char text[CONTROL_MAX_FDS][16], *name[CONTROL_MAX_FDS];
    int fd[CONTROL_MAX_FDS];
    unsigned n;
};

static void add_descriptor(struct descriptors *d, const char *name, int fd)
{
    snprintf(d->text[d->n], sizeof(d->text[0]), "%s", name);
    d->name[d->n] = d->text[d->n];
    d->fd[d->n++] = fd;
}

/* What the broker puts into the trace. */
static void add_files(struct descriptors *d, const struct record *r)
{
    for (unsigned i = 0; i < r->nfiles && d->n < CONTROL_MAX_FDS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "file:%u", r->files[i].id);
        if (r->files[i].embed)
            add_descriptor(d, name, r->files[i].fd);
    }
}

static void send_record(struct machine *m)
{
    struct record *r = &m->record;
    bool resume = r->state != RECORD_STARTING;
    int header = resume ? -1 : record_header(m);
    if (!resume && header < 0) {
        child_cause(&r->broker, "cannot make the header of the trace: %s", strerror(-header));
        child_event(&r->broker, CHILD_FAULTED);
        return;
    }
    struct descriptors d = {.n = 0};
    add_descriptor(&d, "log", r->log);
    add_descriptor(&d, "entries", r->entries);
    add_descriptor(&d, "tail", r->tail);
    add_descriptor(&d, "bell", r->bell);
    add_descriptor(&d, "urgent", r->urgent);
    if (!resume) {
        add_descriptor(&d, "header", header);
        add_files(&d, r);
    }
    Cleave__Record msg = CLEAVE__RECORD__INIT;
    msg.fds = d.name;
    msg.n_fds = d.n;
    msg.resume = resume;
    msg.max_bytes = m->config->record_limit;
    msg.require = m->config->record_require;
    msg.sandbox = m->config->sandbox;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RECORD;
    body.record = &msg;
    child_send(&r->broker, &body, d.fd, d.n);
    shut(&header);
}

static void send_simple(struct child *c, Cleave__Control__BodyCase what)
{
    Cleave__Run run = CLEAVE__RUN__INIT;
    Cleave__Stop stop = CLEAVE__STOP__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = what;
    if (what == CLEAVE__CONTROL__BODY_RUN)
        body.run = &run;
    else
        body.stop = &stop;
    child_send(c, &body, NULL, 0);
}

/* Ends the log in the broker and the broker with it. */
static void finish(struct machine *m)
{
    struct record *r = &m->record;
    const struct machine_result *result = &m->result;
    bool cut = r->state == RECORD_ENDED;
    tell(&r->broker, cut ? r->reason : result->why, cut ? r->err : 0, result->exited ? result->icount : 0);
    child_event(&r->broker, CHILD_STOP);
}

static void on_restart(uv_timer_t *timer);

static void restart_later(struct record *r)
{
    uv_timer_start(&r->restart, on_restart, RESTART_MS, 0);
}

/* The trace stays as it is when no broker can be had. */
static void give_up(struct machine *m, const char *why, int err)
{
    struct record *r = &m->record;
    char text[400];
    snprintf(text, sizeof(text), "broker died: %s", why);
    ended(m, text, err > 0 ? err : EIO);
    r->finishing = false;
}

static void on_restart(uv_timer_t *timer)
{
    struct record *r = timer->data;
    struct machine *m = r->machine;
    if (!child_is_gone(&r->broker)) {
        restart_later(r);
        return;
    }
    int err = child_start(&r->broker, m->loop, r->program);
    if (err)
        give_up(m, strerror(-err), -err);
    machine_check_gone(m);
}

static void broker_ready(struct machine *m)
{
    struct record *r = &m->record;
    if (r->have_store)
        store_close(&r->store);
    r->have_store = false;
    if (r->state != RECORD_STARTING)
        child_event(&r->broker, CHILD_RUN);
    if (r->finishing)
        finish(m);
    else
        machine_run_if_ready(m);
}

/* The header could not be written. */
static void not_started(struct machine *m)
{
    struct record *r = &m->record;
    struct child *c = &r->broker;
    if (m->config->record || m->config->record_require) {
        machine_fail(m, STATUS_FAILED, c->err, "cannot record to '%s': %s", r->path, c->cause);
        r->state = RECORD_OFF;
        return;
    }
    ended(m, c->cause, c->err ? c->err : EIO);
    machine_run_if_ready(m);
}

static void broker_died(struct machine *m)
{
    struct record *r = &m->record;
    struct child *c = &r->broker;
    int64_t bytes = log_bytes(r);
    r->deaths = r->deaths && bytes == r->bytes ? r->deaths + 1 : 1;
    r->bytes = bytes;
    if (m->ended && r->state == RECORD_STARTING) {
        r->state = RECORD_OFF;
    } else if (r->state == RECORD_STARTING) {
        not_started(m);
    } else if (r->state != RECORD_ON && !r->finishing) {
        r->finishing = false;
    } else if (c->asked || r->deaths > (r->finishing ? 1 : MAX_DEATHS)) {
        give_up(m, c->cause, c->err);
    } else {
        machine_notify(m, json_pack("{s:s, s:s}", "event", "broker-died", "cause", c->cause));
        restart_later(r);
        return;
    }
    machine_check_gone(m);
}

static void act(struct child *c, enum child_action action)
{
    struct machine *m = c->owner;
    switch (action) {
    case ACTION_CONFIGURE:
        send_record(m);
        break;
    case ACTION_READY:
        broker_ready(m);
        break;
    case ACTION_RUN:
        send_simple(c, CLEAVE__CONTROL__BODY_RUN);
        break;
    case ACTION_STOP:
        send_simple(c, CLEAVE__CONTROL__BODY_STOP);
        break;
    case ACTION_BURIED:
        m->record.finishing = false;
        ended(m, m->result.why, 0);
        machine_check_gone(m);
        break;
    case ACTION_DIED:
        broker_died(m);
        break;
    case ACTION_GIVE_UP:
        give_up(m, c->cause, EIO);
        machine_check_gone(m);
        break;
    default:
        break;
    }
}

static void pass_held(struct machine *m)
{
    struct record *r = &m->record;
    char *json = r->held.json;
    if (!json)
        return;
    r->held.json = NULL;
    uv_timer_stop(&r->held.limit);
    m->observer->stats(m->observer_ctx, r->held.tag, json);
    free(json);
}

static void on_figures_late(uv_timer_t *timer)
{
    struct record *r = timer->data;
    pass_held(r->machine);
}

void record_pass_stats(struct machine *m, uint64_t tag, const char *vcpu_json)
{
    struct record *r = &m->record;
    pass_held(m);
    bool late = r->broker.state == CHILD_RUNNING && r->stats_tag < tag;
    r->held.json = late ? strdup(vcpu_json) : NULL;
    r->held.tag = tag;
    if (r->held.json)
        uv_timer_start(&r->held.limit, on_figures_late, FIGURES_MS, 0);
    else
        m->observer->stats(m->observer_ctx, tag, vcpu_json);
}

static void take_figures(struct machine *m, const Cleave__StatsReply *reply)
{
    struct record *r = &m->record;
    snprintf(r->stats, sizeof(r->stats), "%s", reply->json);
    r->stats_tag = reply->tag;
    if (r->held.json && r->held.tag <= reply->tag)
        pass_held(m);
}

static void take(struct child *c, struct control_message *msg)
{
    struct machine *m = c->owner;
    const Cleave__Control *body = msg->body;
    if (machine_take_common(m, c, body))
        return;
    switch (body->body_case) {
    case CLEAVE__CONTROL__BODY_STOPPED:
        child_event(c, CHILD_STOPPED);
        break;
    case CLEAVE__CONTROL__BODY_RECORDING_ENDED:
        ended(m, body->recording_ended->reason, body->recording_ended->err);
        break;
    case CLEAVE__CONTROL__BODY_RECORDING_WAITS:
        hold_machine(m, body->recording_waits->reason);
        break;
    case CLEAVE__CONTROL__BODY_STATS_REPLY:
        take_figures(m, body->stats_reply);
        break;
    default:
        child_cause(c, "sent a message of the wrong kind");
        child_event(c, CHILD_FAULTED);
    }
}

static void said(struct child *c, const char *line)
{
    machine_notify(c->owner, json_pack("{s:s, s:s, s:s}", "event", "stderr", "role", c->role, "text", line));
}

static const struct child_ops broker_ops = {act, take, said};

void record_take_journal(struct machine *m, struct control_message *msg)
{
    struct record *r = &m->record;
    if (r->state != RECORD_PREPARING || r->journal.body || msg->nfds != 1) {
        child_cause(&m->vcpu, "sent a journal that nobody asked for");
        child_event(&m->vcpu, CHILD_FAULTED);
        return;
    }
    r->journal = *msg;
    r->entries = msg->fds[0];
    r->journal.nfds = 0;
    msg->body = NULL;
    msg->nfds = 0;
}

/* The broker takes what is there, when its disk lets it. */
void record_cannot_append(struct machine *m, const Cleave__RecordingEnded *e)
{
    struct record *r = &m->record;
    if (r->state != RECORD_ON)
        return;
    ended(m, e->reason, e->err ? e->err : EIO);
    tell(&r->broker, r->reason, r->err, 0);
}

static void start_broker(struct machine *m)
{
    struct record *r = &m->record;
    r->state = RECORD_STARTING;
    int err = r->journal.body ? child_start(&r->broker, m->loop, r->program) : -EPROTO;
    if (!err)
        return;
    child_cause(&r->broker, r->journal.body ? "cannot start the broker: %s" : "the vcpu made no journal: %s",
                strerror(-err));
    not_started(m);
}

bool record_is_ready(struct machine *m)
{
    struct record *r = &m->record;
    if (r->state == RECORD_PREPARING && !r->working)
        start_broker(m);
    return r->state == RECORD_OFF || r->state == RECORD_ENDED ||
           (r->state == RECORD_STARTING && r->broker.state == CHILD_READY);
}

void record_run(struct machine *m)
{
    struct record *r = &m->record;
    if (r->state != RECORD_STARTING)
        return;
    r->state = RECORD_ON;
    child_event(&r->broker, CHILD_RUN);
}

void record_finish(struct machine *m)
{
    struct record *r = &m->record;
    if (r->finishing || r->state == RECORD_OFF)
        return;
    switch (r->broker.state) {
    case CHILD_ABSENT:
        r->finishing = uv_is_active((uv_handle_t *)&r->restart);
        break;
    case CHILD_STARTING:
    case CHILD_CONFIGURING:
        /* The log of a machine that never ran has nothing to end. */
        if (r->state == RECORD_STARTING)
            child_event(&r->broker, CHILD_STOP);
        else
            r->finishing = true;
        break;
    case CHILD_READY:
    case CHILD_RUNNING:
        r->finishing = true;
        finish(m);
        break;
    default:
        break;
    }
}

bool record_is_gone(const struct machine *m)
{
    const struct record *r = &m->record;
    return !r->working && (r->state == RECORD_OFF || (r->broker.state == CHILD_ABSENT && !r->finishing &&
                                                      !uv_is_active((const uv_handle_t *)&r->restart)));
}

void record_ask_stats(struct machine *m, uint64_t tag)
{
    struct record *r = &m->record;
    if (r->broker.state != CHILD_RUNNING)
        return;
    Cleave__StatsRequest request = CLEAVE__STATS_REQUEST__INIT;
    request.tag = tag;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STATS_REQUEST;
    body.stats_request = &request;
    child_send(&r->broker, &body, NULL, 0);
}

json_t *record_report(const struct machine *m)
{
    const struct record *r = &m->record;
    json_t *o = json_pack("{s:s}", "state", state_names[r->state]);
    if (r->path[0])
        json_object_set_new(o, "trace", json_string(r->path));
    if (r->reason[0])
        json_object_set_new(o, "reason", json_string(r->reason));
    if (r->state < RECORD_ON)
        return o;
    json_t *figures = json_loads(r->stats[0] ? r->stats : "{}", 0, NULL);
    json_object_update(o, figures);
    json_decref(figures);
    json_object_set_new(o, "bytes", json_integer(log_bytes(r)));
    json_object_set_new(o, "limit", json_integer((json_int_t)m->config->record_limit));
    return o;
}

unsigned record_fds(const struct machine *m, char **names, int *fds, unsigned n)
{
    const struct record *r = &m->record;
    const struct {
        const char *name;
        int fd;
    } all[] = {{"tail", r->tail_reader}, {"bell", r->bell}, {"urgent", r->urgent}};
    for (unsigned i = 0; i < 3 && r->state != RECORD_OFF; i++) {
        names[n] = (char *)all[i].name;
        fds[n++] = all[i].fd;
    }
    return n;
}

static void identify_files(uv_work_t *work)
{
    struct record *r = work->data;
    record_collect();
    r->store_err = store_open(&r->store);
    r->have_store = !r->store_err;
    for (unsigned i = 0; i < r->nfiles; i++) {
        int err = record_identify(&r->files[i], r->have_store ? &r->store : NULL);
        if (err && !r->store_err)
            r->store_err = err;
    }
    if (r->have_store && r->machine->config->record) {
        int err = store_keep(&r->store, r->path);
        if (err && !r->store_err)
            r->store_err = err;
    }
}

static void identified(uv_work_t *work, int status)
{
    struct record *r = work->data;
    struct machine *m = r->machine;
    char text[200];
    r->working = false;
    if (r->store_err) {
        snprintf(text, sizeof(text), "replay will need the original files: cannot copy them to the store: %s",
                 strerror(-r->store_err));
        machine_notify(m, json_pack("{s:s, s:s, s:s}", "event", "log", "role", "recording", "text", text));
    }
    machine_run_if_ready(m);
    machine_check_gone(m);
}

/* `boot`: the machine is started from it; `used`: the recording needs it. */
static void add_file(struct record *r, uint32_t id, const char *role, const char *path, int fd, bool boot,
                     bool used)
{
    char absolute[PATH_MAX];
    if (fd < 0 || r->nfiles == RECORD_MAX_FILES)
        return;
    struct record_file *f = &r->files[r->nfiles++];
    *f = (struct record_file){.id = id,
                              .fd = dup(fd),
                              .store = boot && !r->machine->config->self_contained,
                              .embed = boot && r->machine->config->self_contained,
                              .unused = !used};
    snprintf(f->role, sizeof(f->role), "%s", role);
    snprintf(f->name, sizeof(f->name), "%.299s", path && realpath(path, absolute) ? absolute : "");
}

uint32_t record_file_of(const struct machine *m, unsigned index)
{
    const struct plan_device *d = &m->plan.devices[index];
    return d->is_disk && !d->writable && !m->config->self_contained ? FIRST_DISK + index : 0;
}

/* Identifiers: 1 to 3, and FIRST_DISK + a disk's place among the devices. */
static void list_files(struct machine *m)
{
    struct record *r = &m->record;
    const struct config *c = m->config;
    const char *bios = c->bios && strcmp(c->bios, "none") != 0 ? c->bios : images_default_bios();
    add_file(r, 1, "kernel", c->kernel, m->boot.kernel, true, true);
    add_file(r, 2, "bios", bios, m->boot.bios, true, true);
    add_file(r, 3, "initrd", c->initrd ? c->initrd : c->batch, m->boot.initrd, true, true);
    for (unsigned i = 0, disk = 0; i < m->plan.n; i++) {
        char role[48];
        if (!m->plan.devices[i].is_disk)
            continue;
        snprintf(role, sizeof(role), "disk:%s", m->plan.devices[i].id);
        add_file(r, FIRST_DISK + i, role, c->disks[disk++].path, m->plan.devices[i].disk.image, false,
                 record_file_of(m, i) != 0);
    }
}

static int make_descriptors(struct record *r)
{
    int err = journal_tail_create(&r->tail, &r->tail_reader);
    if (err)
        return err;
    r->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->urgent = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return r->bell < 0 || r->urgent < 0 ? -errno : 0;
}

/* Nothing is recorded in the default place if it cannot be used. */
static int no_trace(struct machine *m, struct failure *f)
{
    if (m->config->record || m->config->record_require)
        return -EIO;
    machine_notify(m, json_pack("{s:s, s:s}", "event", "not-recorded", "reason", f->text));
    return 0;
}

void record_init(struct machine *m)
{
    struct record *r = &m->record;
    *r = (struct record){
        .machine = m, .log = -1, .entries = -1, .tail = -1, .tail_reader = -1, .bell = -1, .urgent = -1};
    child_init(&r->broker, CHILD_BROKER, "broker", &broker_ops, m);
    uv_timer_init(m->loop, &r->restart);
    uv_timer_init(m->loop, &r->held.limit);
    r->restart.data = r->held.limit.data = r;
    r->work.data = r;
}

int record_open(struct machine *m, struct failure *f)
{
    struct record *r = &m->record;
    if (m->config->no_record)
        return 0;
    int err = machine_find_program("cleave-broker", r->program, sizeof(r->program), f);
    if (err)
        return err;
    r->log = record_create(m->config->record, m->config->name, r->path, sizeof(r->path), f);
    if (r->log < 0)
        return no_trace(m, f);
    err = make_descriptors(r);
    if (err)
        return failure_set(f, STATUS_FAULT, -err, "cannot create the journal: %s", strerror(-err));
    list_files(m);
    err = uv_queue_work(m->loop, &r->work, identify_files, identified);
    if (err)
        return failure_set(f, STATUS_FAULT, -err, "cannot prepare the recording: %s", uv_strerror(err));
    r->working = true;
    r->state = RECORD_PREPARING;
    return 0;
}

void record_release(struct machine *m)
{
    struct record *r = &m->record;
    uv_timer_stop(&r->restart);
    uv_timer_stop(&r->held.limit);
    free(r->held.json);
    if (r->journal.body)
        control_release(&r->journal);
    r->journal.body = NULL;
    if (r->have_store)
        store_close(&r->store);
    r->have_store = false;
    for (unsigned i = 0; i < r->nfiles; i++)
        shut(&r->files[i].fd);
    r->nfiles = 0;
    if (r->log >= 0 && log_bytes(r) == 0) /* the machine never ran */
        unlink(r->path);
    int *const fds[] = {&r->log, &r->entries, &r->tail, &r->tail_reader, &r->bell, &r->urgent};
    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        shut(fds[i]);
}
