/* The processes of a replay: a broker that serves the log and a vcpu that runs, joined by a socket. Must not
 * know what the trace holds. */
#include "tools/supervisor/perf_map.h"
#include "tools/supervisor/replay.h"
#include "tools/supervisor/spawn.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAREWELL_MS 5000 /* for a process to end after it was told */

struct process {
    const char *role;
    struct spawned s;
    bool running, greeted;
    char line[300]; /* of its stderr, as far as it came */
    size_t line_len;
    char last[300];
};

struct replay {
    const struct replay_plan *plan;
    const struct replay_observer *observer;
    struct replay_result *result;
    struct process broker, vcpu;
    int feed[2]; /* the vcpu's end, the broker's */
    int signals;
    unsigned asked; /* signals that asked for the end */
    size_t attached;
    bool over;
};

static void fail(struct replay *r, int status, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void fail(struct replay *r, int status, int err, const char *fmt, ...)
{
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->over = true;
    if (r->result->failure.text[0])
        return;
    r->result->status = status;
    failure_set(&r->result->failure, status, err, "%s", text);
}

static void send_empty(const struct process *p, Cleave__Control__BodyCase what)
{
    Cleave__Run run = CLEAVE__RUN__INIT;
    Cleave__Stop stop = CLEAVE__STOP__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = what;
    if (what == CLEAVE__CONTROL__BODY_RUN)
        body.run = &run;
    else
        body.stop = &stop;
    control_send(p->s.control, &body, NULL, 0);
}

/* The vcpu takes one device after the other, so that its socket never fills. */
static void go_on(struct replay *r)
{
    size_t n = r->plan->trace->header->n_devices;
    if (r->attached < n) {
        int err = replay_send_device(r->plan, r->vcpu.s.control, (unsigned)r->attached++);
        if (err < 0)
            fail(r, STATUS_FAULT, -err, "cannot tell the vcpu of a device: %s", strerror(-err));
    } else {
        send_empty(&r->vcpu, CLEAVE__CONTROL__BODY_RUN);
    }
}

static int send_machine(struct replay *r)
{
    int map = -1;
    if (r->plan->options->perf_map) {
        char path[PERF_MAP_PATH];
        map = perf_map_create(r->vcpu.s.pid, path);
        if (map < 0) {
            fail(r, STATUS_FAILED, -map, "cannot create %s: %s", path, strerror(-map));
            return 0;
        }
    }
    int err = replay_send_machine(r->plan, r->vcpu.s.control, r->feed[0], map);
    if (map >= 0)
        close(map);
    return err;
}

static void greet(struct replay *r, struct process *p, const Cleave__Hello *h)
{
    if (h->major != CONTROL_MAJOR || p->greeted) {
        fail(r, STATUS_FAULT, EPROTO, "%s speaks version %u.%u of the control protocol, not %d.%d", p->role,
             h->major, h->minor, CONTROL_MAJOR, CONTROL_MINOR);
        return;
    }
    p->greeted = true;
    int err;
    if (p == &r->broker) {
        err = replay_send_log(r->plan, p->s.control, r->feed[1]);
        send_empty(p, CLEAVE__CONTROL__BODY_RUN);
    } else {
        err = send_machine(r);
        go_on(r);
    }
    if (err < 0)
        fail(r, STATUS_FAULT, -err, "cannot configure %s: %s", p->role, strerror(-err));
}

static void take_output(const struct replay *r, const Cleave__Output *o)
{
    const Cleave__LogHeader *h = r->plan->trace->header;
    const char *wanted = r->plan->options->serial, *mirror = r->plan->options->mirror;
    if (mirror && !strcmp(o->id, mirror))
        r->observer->mirrored(r->observer->ctx, o);
    for (size_t i = 0; i < h->n_devices && !wanted; i++)
        if (!strcmp(h->devices[i]->kind, "serial"))
            wanted = h->devices[i]->id;
    if (wanted && !strcmp(o->id, wanted) && r->observer->output)
        r->observer->output(r->observer->ctx, o->data.data, o->data.len);
}

/* How the recording ends is told by its reader, if it came to that. */
static void take_recording_end(struct replay *r, const Cleave__Exited *e)
{
    struct replay_result *result = r->result;
    result->ending = e->ending;
    snprintf(result->reason, sizeof result->reason, "%s", e->reason);
    if (e->ending == REPLAY_ENDS_BAD)
        fail(r, STATUS_FAILED, e->error, "%s: %s: replayed to icount %" PRIu64, r->plan->trace->path,
             e->reason, e->icount);
}

static void take_exited(struct replay *r, const Cleave__Exited *e)
{
    struct replay_result *result = r->result;
    snprintf(result->why, sizeof result->why, "%s", e->fault ? "fault" : e->why);
    result->icount = e->icount;
    result->hash = e->hash;
    result->ended = true;
    r->over = true;
    if (e->fault)
        fail(r, STATUS_FAULT, EIO, "%s", e->why);
    else
        take_recording_end(r, e);
}

static void take(struct replay *r, struct process *p, struct control_message *msg)
{
    const Cleave__Control *body = msg->body;
    switch (body->body_case) {
    case CLEAVE__CONTROL__BODY_HELLO:
        greet(r, p, body->hello);
        break;
    case CLEAVE__CONTROL__BODY_READY:
        break;
    case CLEAVE__CONTROL__BODY_ATTACHED:
        go_on(r);
        break;
    case CLEAVE__CONTROL__BODY_STATE_HASH:
        r->observer->hash(r->observer->ctx, body->state_hash);
        break;
    case CLEAVE__CONTROL__BODY_REGISTERS:
        if (r->observer->registers)
            r->observer->registers(r->observer->ctx, body->registers);
        break;
    case CLEAVE__CONTROL__BODY_OUTPUT:
        take_output(r, body->output);
        break;
    case CLEAVE__CONTROL__BODY_DIVERGED:
        r->result->diverged = msg->body;
        r->result->status = STATUS_DIVERGED;
        msg->body = NULL;
        break;
    case CLEAVE__CONTROL__BODY_EXITED:
        take_exited(r, body->exited);
        break;
    case CLEAVE__CONTROL__BODY_FAILURE:
        fail(r, STATUS_FAILED, body->failure->err, "%s", body->failure->text);
        break;
    case CLEAVE__CONTROL__BODY_LOG:
        if (r->observer->log)
            r->observer->log(r->observer->ctx, p->role, body->log->text);
        break;
    default:
        fail(r, STATUS_FAULT, EPROTO, "%s sent a message of the wrong kind", p->role);
    }
}

static void end_line(struct replay *r, struct process *p)
{
    if (!p->line_len)
        return;
    p->line[p->line_len] = '\0';
    p->line_len = 0;
    snprintf(p->last, sizeof p->last, "%s", p->line);
    r->observer->said(r->observer->ctx, p->role, p->last);
}

static bool read_errors(struct replay *r, struct process *p)
{
    char buf[512];
    ssize_t n = read(p->s.errors, buf, sizeof buf);
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] == '\n' || p->line_len == sizeof p->line - 1)
            end_line(r, p);
        if (buf[i] != '\n')
            p->line[p->line_len++] = buf[i] < ' ' ? '?' : buf[i];
    }
    return n > 0;
}

static void read_messages(struct replay *r, struct process *p)
{
    struct control_message msg;
    int got = 1;
    while (!r->over && (got = control_recv(p->s.control, &msg)) > 0) {
        take(r, p, &msg);
        if (msg.body)
            control_release(&msg);
    }
    if (got < 0 && got != -EAGAIN)
        fail(r, STATUS_FAULT, -got, "%s broke the control protocol: %s", p->role, strerror(-got));
}

/* What a process said before its death counts. */
static void bury(struct replay *r, struct process *p)
{
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)p->s.pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
        return;
    read_messages(r, p);
    while (read_errors(r, p))
        ;
    end_line(r, p);
    p->running = false;
    close(p->s.pidfd);
    close(p->s.control);
    close(p->s.errors);
    if (r->over)
        return;
    if (info.si_code == CLD_EXITED && p->last[0])
        fail(r, STATUS_FAULT, EIO, "%s ended without a result: %s", p->role, p->last);
    else if (info.si_code == CLD_EXITED)
        fail(r, STATUS_FAULT, EIO, "%s ended without a result: exit status %d", p->role, info.si_status);
    else
        fail(r, STATUS_FAULT, EIO, "%s died: killed by signal %d (%s)", p->role, info.si_status,
             strsignal(info.si_status));
}

/* The first signal asks for a clean stop, the second ends it. */
static void take_signal(struct replay *r)
{
    struct signalfd_siginfo info;
    if (read(r->signals, &info, sizeof info) != sizeof info)
        return;
    r->result->signal = (int)info.ssi_signo;
    if (r->asked++)
        r->over = true;
    else
        send_empty(&r->vcpu, CLEAVE__CONTROL__BODY_STOP);
}

static void step(struct replay *r, int timeout_ms)
{
    struct process *const all[] = {&r->broker, &r->vcpu};
    struct pollfd p[7] = {{.fd = r->signals, .events = POLLIN}};
    for (unsigned i = 0; i < 2; i++) {
        const int fds[] = {all[i]->s.control, all[i]->s.errors, all[i]->s.pidfd};
        for (unsigned k = 0; k < 3; k++)
            p[1 + 3 * i + k] = (struct pollfd){.fd = all[i]->running ? fds[k] : -1, .events = POLLIN};
    }
    if (poll(p, 7, timeout_ms) <= 0)
        return;
    if (p[0].revents)
        take_signal(r);
    for (unsigned i = 0; i < 2; i++) {
        if (p[1 + 3 * i].revents)
            read_messages(r, all[i]);
        if (p[2 + 3 * i].revents)
            read_errors(r, all[i]);
        if (p[3 + 3 * i].revents)
            bury(r, all[i]);
    }
}

static int start(struct replay *r, struct process *p, const char *program, const char *role)
{
    char path[4096];
    p->role = role;
    int err = spawn_find(program, path, sizeof path);
    if (!err)
        err = spawn(path, role, &p->s);
    if (err)
        fail(r, STATUS_FAULT, -err, "cannot start %s: %s", program, strerror(-err));
    p->running = !err;
    return err;
}

/* Their sockets close, which both take as the end. */
static void stop(struct process *p)
{
    if (!p->running)
        return;
    struct pollfd death = {.fd = p->s.pidfd, .events = POLLIN};
    siginfo_t info;
    close(p->s.control);
    close(p->s.errors);
    if (poll(&death, 1, FAREWELL_MS) <= 0)
        kill(p->s.pid, SIGKILL);
    waitid(P_PIDFD, (id_t)p->s.pidfd, &info, WEXITED);
    close(p->s.pidfd);
    p->running = false;
}

static int watch_signals(struct replay *r, sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, before);
    r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return r->signals < 0 ? -errno : 0;
}

void replay_run(const struct replay_plan *plan, const struct replay_observer *o, struct replay_result *result)
{
    struct replay r = {.plan = plan, .observer = o, .result = result, .feed = {-1, -1}};
    sigset_t before;
    *result = (struct replay_result){.status = STATUS_OK};
    int err = watch_signals(&r, &before);
    if (!err && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, r.feed) < 0)
        err = -errno;
    if (err)
        fail(&r, STATUS_FAULT, -err, "cannot prepare the replay: %s", strerror(-err));
    if (!err && !start(&r, &r.broker, "cleave-broker", "broker"))
        start(&r, &r.vcpu, "cleave-vcpu", "vcpu");
    while (!r.over && !(o->enough && o->enough(o->ctx)))
        step(&r, -1);
    stop(&r.vcpu);
    stop(&r.broker);
    for (unsigned i = 0; i < 2; i++)
        if (r.feed[i] >= 0)
            close(r.feed[i]);
    if (r.signals >= 0)
        close(r.signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

void replay_result_release(struct replay_result *r)
{
    if (r->diverged)
        cleave__control__free_unpacked(r->diverged, NULL);
    r->diverged = NULL;
}
