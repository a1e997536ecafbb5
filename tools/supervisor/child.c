/* Events of one process, from four sources: its control socket, its pidfd, its stderr, its deadline. */
#include "tools/supervisor/child.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

void child_init(struct child *c, enum child_kind kind, const char *role, const struct child_ops *ops,
                void *owner)
{
    *c = (struct child){.ops = ops, .owner = owner, .kind = kind, .pidfd = -1, .errors_fd = -1};
    snprintf(c->role, sizeof(c->role), "%s", role);
}

void child_cause(struct child *c, const char *fmt, ...)
{
    if (c->cause[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->cause, sizeof(c->cause), fmt, ap);
    va_end(ap);
}

void child_send(struct child *c, const Cleave__Control *body, const int *fds, unsigned nfds)
{
    if (c->connected)
        peer_send(&c->peer, body, fds, nfds);
}

bool child_is_gone(const struct child *c)
{
    return c->state == CHILD_ABSENT && c->handles == 0;
}

static void on_overdue(uv_timer_t *t)
{
    child_event(t->data, CHILD_OVERDUE);
}

static void kill_process(struct child *c)
{
    if (c->pidfd >= 0)
        pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
}

static const char *waits_for(enum child_state state)
{
    return state == CHILD_STOPPING ? "stop" : state == CHILD_STARTING ? "start" : "become ready";
}

static void note_cause(struct child *c, enum child_state was, enum child_event event)
{
    switch (event) {
    case CHILD_OVERDUE:
        child_cause(c, "did not %s within %u s", waits_for(was), lifecycle_deadline(was) / 1000);
        break;
    case CHILD_STOP:
        child_cause(c, "stopped before it was ready");
        break;
    default:
        child_cause(c, "sent an unexpected message ('%s' while %s)", lifecycle_event_name(event),
                    lifecycle_state_name(was));
        break;
    }
}

void child_event(struct child *c, enum child_event event)
{
    enum child_state was = c->state;
    struct child_transition t = lifecycle_next(c->kind, was, event);
    c->state = t.next;
    if (t.next != was && c->handles) {
        unsigned ms = lifecycle_deadline(t.next);
        if (ms)
            uv_timer_start(&c->deadline, on_overdue, ms, 0);
        else
            uv_timer_stop(&c->deadline);
    }
    if (t.action == ACTION_IGNORE)
        return;
    /* A hang-up is most often the first sign of a death whose cause the pidfd will tell. */
    if ((t.action == ACTION_KILL && event != CHILD_HUNG_UP) || t.action == ACTION_VIOLATION)
        note_cause(c, was, event);
    if (t.action == ACTION_KILL || t.action == ACTION_VIOLATION)
        kill_process(c);
    c->ops->act(c, t.action);
}

static void on_message(struct peer *p, struct control_message *m)
{
    struct child *c = p->owner;
    c->ops->message(c, m);
}

static void on_hung_up(struct peer *p, int err)
{
    struct child *c = p->owner;
    if (err == -ENOBUFS)
        child_cause(c, "does not read its control socket");
    else if (err)
        child_cause(c, "broke the control protocol: %s", strerror(-err));
    child_event(c, err ? CHILD_FAULTED : CHILD_HUNG_UP);
}

static void on_peer_closed(struct peer *p)
{
    struct child *c = p->owner;
    c->handles--;
}

static const struct peer_ops peer_ops = {on_message, on_hung_up, on_peer_closed};

static void end_line(struct child *c)
{
    if (c->line_len == 0)
        return;
    c->line[c->line_len] = '\0';
    c->line_len = 0;
    snprintf(c->last_line, sizeof(c->last_line), "%s", c->line);
    c->ops->said(c, c->last_line);
}

static void read_errors(struct child *c)
{
    char buf[1024];
    ssize_t n;
    while ((n = read(c->errors_fd, buf, sizeof(buf))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] == '\n' || c->line_len == sizeof(c->line) - 1)
                end_line(c);
            if (buf[i] != '\n')
                c->line[c->line_len++] = buf[i] < ' ' ? '?' : buf[i];
        }
    }
    if (n == 0 || errno != EAGAIN)
        uv_poll_stop(&c->errors);
}

static void on_errors(uv_poll_t *handle, int status, int events)
{
    read_errors(handle->data);
}

static void on_errors_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    close(c->errors_fd);
    c->errors_fd = -1;
    c->handles--;
}

static void on_death_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    close(c->pidfd);
    c->pidfd = -1;
    c->handles--;
}

static void on_deadline_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    c->handles--;
}

static void close_handles(struct child *c)
{
    if (c->connected)
        peer_close(&c->peer);
    c->connected = false;
    if (c->errors.data)
        uv_close((uv_handle_t *)&c->errors, on_errors_closed);
    if (c->death.data)
        uv_close((uv_handle_t *)&c->death, on_death_closed);
    uv_close((uv_handle_t *)&c->deadline, on_deadline_closed);
}

static void describe_death(struct child *c, const siginfo_t *info)
{
    c->clean = info->si_code == CLD_EXITED && info->si_status == 0;
    if (info->si_code == CLD_EXITED && info->si_status == 127 && c->last_line[0])
        child_cause(c, "%s", c->last_line);
    else if (info->si_code == CLD_EXITED)
        child_cause(c, "exited with status %d", info->si_status);
    else
        child_cause(c, "killed by signal %d (%s)", info->si_status, sigdescr_np(info->si_status));
}

static void on_death(uv_poll_t *handle, int status, int events)
{
    struct child *c = handle->data;
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return;
    uv_poll_stop(&c->death);
    /* What it said before its end counts: messages first, then stderr, then the death. */
    for (struct control_message m; c->connected && !c->peer.done && control_recv(c->peer.fd, &m) > 0;) {
        c->ops->message(c, &m);
        control_release(&m);
    }
    read_errors(c);
    end_line(c);
    describe_death(c, &info);
    c->pid = 0;
    close_handles(c);
    child_event(c, CHILD_EXITED);
}

/* Puts the new process on the loop; each handle that is open has its data pointer set. */
static int watch(struct child *c, uv_loop_t *loop, const struct spawned *s)
{
    uv_timer_init(loop, &c->deadline);
    c->deadline.data = c;
    c->handles = 1;
    c->death.data = c->errors.data = NULL;
    int err = uv_poll_init(loop, &c->death, s->pidfd);
    if (err)
        return err;
    c->death.data = c;
    c->handles++;
    err = uv_poll_init(loop, &c->errors, s->errors);
    if (err)
        return err;
    c->errors.data = c;
    c->handles++;
    err = peer_open(&c->peer, loop, s->control, &peer_ops, c);
    if (err)
        return err;
    c->connected = true;
    c->handles++;
    return 0;
}

static void undo_start(struct child *c, const struct spawned *s)
{
    siginfo_t info;
    kill_process(c);
    waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED);
    close(s->control);
    if (!c->errors.data)
        close(s->errors);
    if (!c->death.data)
        close(s->pidfd);
    close_handles(c);
}

int child_start(struct child *c, uv_loop_t *loop, const char *program)
{
    struct spawned s;
    int err = spawn(program, c->role, &s);
    if (err)
        return err;
    c->pidfd = s.pidfd;
    c->errors_fd = s.errors;
    c->cause[0] = c->last_line[0] = '\0';
    c->line_len = 0;
    c->err = 0;
    c->asked = c->clean = false;
    err = watch(c, loop, &s);
    if (err) {
        undo_start(c, &s);
        return err;
    }
    c->pid = s.pid;
    uv_poll_start(&c->death, UV_READABLE, on_death);
    uv_poll_start(&c->errors, UV_READABLE, on_errors);
    child_event(c, CHILD_SPAWNED);
    return 0;
}
