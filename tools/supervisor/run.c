/* `cleave run`: forks the supervisor and stays in the foreground with the terminal. Either of the two can
 * clean up after the other. */
#include "tools/supervisor/config.h"
#include "tools/supervisor/foreground.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/plan.h"
#include "tools/supervisor/runtime.h"
#include "tools/supervisor/supervisor.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOOT_LOG_LINES 20

static const char help[] = "\r\nCtrl-A x       stop the machine\r\n"
                           "Ctrl-A ?       this help\r\n"
                           "Ctrl-A Ctrl-A  send one Ctrl-A\r\n";

struct run {
    struct config config;
    struct runtime runtime;
    struct batch batch;
    struct foreground foreground;
    pid_t supervisor;
    unsigned signals; /* that asked to stop */
    int signal;       /* the first of them */
    bool stopped_by_key;
    bool over; /* the result is there */
    int status;
    bool from_guest;
    char why[300];
};

static const char *string_member(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void show_started(const struct run *r, const json_t *e)
{
    const char *id;
    json_t *name, *open = json_object_get(e, "open");
    message_detail("machine '%s' started in %lld us", string_member(e, "name"),
                   (long long)json_integer_value(json_object_get(e, "start_us")));
    if (*string_member(e, "trace"))
        message_detail("recording to %s", string_member(e, "trace"));
    json_object_foreach(json_object_get(e, "terminals"), id, name)
    {
        message_notice("serial '%s' is %s", id, json_string_value(name));
    }
    if (strcmp(r->config.clock, "virtual") != 0 || json_array_size(open) == 0)
        return;
    char list[400] = "";
    for (size_t i = 0; i < json_array_size(open); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "",
                 json_string_value(json_array_get(open, i)));
    }
    message_notice("open devices, whose input is not a function of the configuration: %s", list);
}

static void show_event(const struct run *r, const json_t *e)
{
    const char *event = string_member(e, "event");
    if (message_style.json) {
        message_event(e);
    } else if (strcmp(event, "started") == 0) {
        show_started(r, e);
    } else if (strcmp(event, "hash") == 0) {
        message_result("hash %lld %s", (long long)json_integer_value(json_object_get(e, "icount")),
                       string_member(e, "hash"));
    } else if (strcmp(event, "device-died") == 0) {
        struct failure f;
        failure_set(&f, STATUS_FAULT, EIO, "device %s died: %s: the machine is paused",
                    string_member(e, "role"), string_member(e, "cause"));
        failure_hint(&f, "'cleave stop %s' ends it", r->config.name);
        message_failure(&f);
    } else if (strcmp(event, "recording-ended") == 0) {
        message_notice("the recording ended: %s: %s has the run up to here", string_member(e, "reason"),
                       string_member(e, "trace"));
    } else if (strcmp(event, "not-recorded") == 0) {
        message_notice("nothing is recorded: %s", string_member(e, "reason"));
    } else if (strcmp(event, "broker-died") == 0) {
        message_detail("broker died: %s: the recording goes on", string_member(e, "cause"));
    } else if (strcmp(event, "log") == 0) {
        message_lines(string_member(e, "role"), string_member(e, "text"));
    } else if (strcmp(event, "lost") == 0) {
        message_notice("%lld messages were lost", (long long)json_integer_value(json_object_get(e, "count")));
    } else if (strcmp(event, "stderr") == 0) {
        message_detail("%s: %s", string_member(e, "role"), string_member(e, "text"));
    }
}

/* The last lines of the console, when a batch run failed before its script began. */
static void show_boot_log(const struct batch *b)
{
    size_t at = b->boot_len;
    for (unsigned lines = 0; at > 0; at--) {
        if (b->boot[at - 1] == '\n' && at < b->boot_len && ++lines == BOOT_LOG_LINES)
            break;
    }
    if (at == b->boot_len || message_style.json || message_style.verbose)
        return;
    message_notice("the script did not begin; the end of the console's output:");
    message_bytes(b->boot + at, b->boot_len - at);
    if (b->boot[b->boot_len - 1] != '\n')
        message_bytes("\n", 1);
}

static bool take_answer(struct foreground *g, struct answer *a)
{
    struct run *r = g->owner;
    if (a->more) {
        show_event(r, a->json);
        return false;
    }
    /* An answer to a command of ours, not the result. */
    if (strcmp(string_member(a->json, "event"), "exit") != 0)
        return false;
    r->over = true;
    r->status = a->status;
    r->from_guest = json_is_true(json_object_get(a->json, "from_guest"));
    snprintf(r->why, sizeof(r->why), "%s", string_member(a->json, "why"));
    if (a->error) {
        struct failure f;
        failure_set(&f, a->status, EIO, "%s", a->error);
        if (a->hint)
            failure_hint(&f, "%s", a->hint);
        message_failure(&f);
    }
    if (message_style.json && a->json) {
        if (r->config.batch && !r->from_guest && r->status != STATUS_OK)
            json_object_set_new(a->json, "status", json_integer(STATUS_FAULT));
        message_event(a->json);
    }
    return true;
}

/* The first request is for a clean stop, the second kills, the third leaves without waiting. */
static bool take_quit(struct foreground *g, int signal)
{
    struct run *r = g->owner;
    char why[60];
    if (signal == 0)
        r->stopped_by_key = true;
    else if (r->signals == 0)
        r->signal = signal;
    r->signals++;
    if (r->signals == 1) {
        snprintf(why, sizeof(why), signal ? "interrupted by signal %d" : "stopped from the terminal", signal);
        client_send(g->control, "stop", json_pack("{s:s}", "why", why));
    } else if (r->signals == 2) {
        client_send(g->control, "kill", NULL);
    }
    return r->signals > 2;
}

static const struct foreground_ops ops = {take_answer, take_quit};

static bool uses_stdio(const struct config *c)
{
    for (unsigned i = 0; i < c->nserials; i++) {
        if (strcmp(c->serials[i].backend, "stdio") == 0)
            return true;
    }
    return false;
}

/* Ends of the two connections between command and supervisor; -1 when there is none. */
struct connections {
    int control[2], stream[2], listen;
};

static void close_connections(struct connections *n)
{
    int fds[] = {n->control[0], n->control[1], n->stream[0], n->stream[1], n->listen};
    for (unsigned i = 0; i < 5; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static int open_connections(struct run *r, struct connections *n, struct failure *f)
{
    *n = (struct connections){{-1, -1}, {-1, -1}, -1};
    n->listen = runtime_listen(&r->runtime, f);
    if (n->listen < 0)
        return n->listen;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, n->control) < 0 ||
        (uses_stdio(&r->config) && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, n->stream) < 0)) {
        int err = errno;
        close_connections(n);
        return failure_set(f, STATUS_FAULT, err, "cannot connect to the supervisor: %s", strerror(err));
    }
    return 0;
}

/* In the supervisor: the terminal is kept on stdin to restore its modes, everything else of the command is
 * left. */
static _Noreturn void become_supervisor(struct run *r, struct connections *n)
{
    setsid();
    close(n->control[0]);
    if (n->stream[0] >= 0)
        close(n->stream[0]);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        if (!isatty(STDIN_FILENO))
            dup2(null, STDIN_FILENO);
    }
    struct supervisor_inherits in = {
        .config = &r->config,
        .runtime = &r->runtime,
        .listen = n->listen,
        .owner = n->control[1],
        .stdio = n->stream[1],
    };
    _exit(supervisor_run(&in));
}

static int start(struct run *r, struct failure *f)
{
    struct connections n;
    int err = open_connections(r, &n, f);
    if (err)
        return err;
    /* Processes whose supervisor died become ours to wait for. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    r->supervisor = fork();
    if (r->supervisor == 0)
        become_supervisor(r, &n);
    if (r->supervisor < 0) {
        err = errno;
        close_connections(&n);
        return failure_set(f, STATUS_FAULT, err, "cannot start the supervisor: %s", strerror(err));
    }
    r->foreground.control = n.control[0];
    r->foreground.stream = n.stream[0];
    n.control[0] = n.stream[0] = -1;
    close_connections(&n);
    return 0;
}

/* Waits until no process of the machine is left; the supervisor's wait status. */
static int reap(struct run *r)
{
    int status = 0, one;
    pid_t pid;
    while ((pid = wait(&one)) > 0 || errno == EINTR) {
        if (pid == r->supervisor)
            status = one;
    }
    return status;
}

static void after_supervisor_death(struct run *r, int wait_status)
{
    struct failure f;
    if (WIFSIGNALED(wait_status))
        failure_set(&f, STATUS_FAULT, EIO, "the supervisor died: killed by signal %d (%s)",
                    WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    else
        failure_set(&f, STATUS_FAULT, EIO, "the supervisor ended without a result: exit status %d",
                    WEXITSTATUS(wait_status));
    message_failure(&f);
    plan_sweep(&r->config);
    r->status = STATUS_FAULT;
}

static int batch_status(struct run *r)
{
    struct failure f;
    if (r->batch.phase == BATCH_BOOTING && (r->status != STATUS_OK || !r->from_guest))
        show_boot_log(&r->batch);
    if (r->from_guest || strcmp(r->why, "stop-at") == 0)
        return r->status;
    if (r->status == STATUS_OK) {
        failure_set(&f, STATUS_FAULT, EINTR, "the machine was stopped before the script ended: %s", r->why);
        message_failure(&f);
    }
    return STATUS_FAULT;
}

static int finish(struct run *r)
{
    /* Left without a result: the supervisor stops the machine when the connection goes. */
    close(r->foreground.control);
    if (r->foreground.stream >= 0)
        close(r->foreground.stream);
    int wait_status = reap(r);
    if (!r->over && r->signals <= 2)
        after_supervisor_death(r, wait_status);
    runtime_remove(&r->runtime);
    if (r->config.batch)
        return batch_status(r);
    if (r->signal && r->status == STATUS_OK) {
        signal(r->signal, SIG_DFL);
        raise(r->signal);
    }
    return r->status;
}

/* The supervisor holds a few descriptors per device; with too few of them libraries abort. */
static int check_descriptors(const struct config *c, struct failure *f)
{
    rlim_t need = 80 + 13 * (rlim_t)(c->ndisks + c->nnets + c->nserials + c->ninputs + 1);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
        return 0;
    if (limit.rlim_max >= need) {
        limit.rlim_cur = need;
        setrlimit(RLIMIT_NOFILE, &limit);
        return 0;
    }
    failure_set(f, STATUS_FAULT, EMFILE,
                "cannot start the machine: it needs %llu file descriptors, the limit is %llu",
                (unsigned long long)need, (unsigned long long)limit.rlim_max);
    failure_hint(f, "ulimit -n %llu", (unsigned long long)need);
    return -EMFILE;
}

static int run(struct run *r, struct failure *f)
{
    bool terminal = uses_stdio(&r->config) && !r->config.batch && terminal_save();
    int err = check_descriptors(&r->config, f);
    if (!err)
        err = runtime_create(r->config.name, &r->runtime, f);
    if (err)
        return err;
    err = start(r, f);
    if (err) {
        runtime_remove(&r->runtime);
        return err;
    }
    signal(SIGPIPE, SIG_IGN);
    batch_init(&r->batch);
    struct foreground *g = &r->foreground;
    g->ops = &ops;
    g->owner = r;
    g->read_stdin = g->stream >= 0 && !r->config.batch;
    g->terminal = terminal;
    g->batch = r->config.batch ? &r->batch : NULL;
    g->help = help;
    err = foreground_run(g);
    int status = finish(r);
    if (err)
        return failure_set(f, STATUS_FAULT, -err, "cannot watch the machine: %s", strerror(-err));
    return status;
}

int verb_run(const struct invocation *in, struct failure *f)
{
    static struct run r;
    int err = config_load(in, &r.config, f);
    if (err)
        return err;
    int status = run(&r, f);
    if (status < 0 && r.config.batch)
        f->status = STATUS_FAULT;
    config_release(&r.config);
    return status;
}
