/* One loop; every callback returns at once. */
#include "tools/supervisor/supervisor.h"

#include "tools/supervisor/server.h"
#include "tools/supervisor/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Time that the last replies have to reach clients that do not read; the owner, perhaps suspended, has all it
 * needs. */
#define DRAIN_MS 2000

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};

struct supervisor {
    uv_loop_t loop;
    struct machine machine;
    struct server server;
    uv_signal_t signals[3];
    uv_timer_t drain;
    bool drain_over;
};

static void on_signal(uv_signal_t *handle, int number)
{
    struct supervisor *s = handle->data;
    char why[40];
    snprintf(why, sizeof(why), "signal %d", number);
    machine_stop(&s->machine, why);
}

void supervisor_owner_gone(struct server *server)
{
    if (!server->finished)
        terminal_restore();
    machine_stop(server->machine, "the command that started the machine is gone");
}

static void on_drain_over(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    s->drain_over = true;
}

static void drain(struct supervisor *s)
{
    uv_timer_start(&s->drain, on_drain_over, DRAIN_MS, 0);
    server_finish(&s->server);
    while (!server_is_drained(&s->server, s->drain_over))
        uv_run(&s->loop, UV_RUN_ONCE);
}

static int open_loop(struct supervisor *s, const struct supervisor_inherits *in)
{
    int err = uv_loop_init(&s->loop);
    if (err)
        return err;
    for (unsigned i = 0; i < 3; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, stop_signals[i]);
    }
    uv_timer_init(&s->loop, &s->drain);
    s->drain.data = s;
    return server_open(&s->server, &s->loop, &s->machine, in->listen, in->owner);
}

int supervisor_run(const struct supervisor_inherits *in)
{
    static struct supervisor s;
    struct failure f;
    prctl(PR_SET_NAME, "supervisor");
    signal(SIGPIPE, SIG_IGN);
    int err = open_loop(&s, in);
    if (err) {
        fprintf(stderr, "cleave: cannot run the supervisor: %s\n", uv_strerror(err));
        return STATUS_FAULT;
    }
    err = machine_start(&s.machine, &s.loop, in->config, in->stdio, &server_observer, &s.server, &f);
    if (err) {
        s.machine.result.status = f.status;
        s.machine.result.failure = f;
        snprintf(s.machine.result.why, sizeof(s.machine.result.why), "%s", "start failed");
    } else {
        while (s.machine.state != MACHINE_STOPPED)
            uv_run(&s.loop, UV_RUN_ONCE);
        machine_release(&s.machine);
    }
    drain(&s);
    runtime_remove(in->runtime);
    return s.machine.result.status;
}
