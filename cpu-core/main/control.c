/* The vcpu's side of the control plane while the machine exists, and its one wait. Must not change guest
 * state: a command becomes a crossing at a position. */
#include "cpu-core/jit/dump.h"
#include "cpu-core/main/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void machine_send(struct machine *m, const Cleave__Control *body)
{
    while (!m->stopping) {
        int err = control_send(m->host.control, body, NULL, 0);
        if (err != -EAGAIN) {
            m->stopping |= err == -EPIPE;
            return;
        }
        struct pollfd p = {.fd = m->host.control, .events = POLLOUT};
        poll(&p, 1, -1);
    }
}

void machine_report_hash(struct machine *m, const char *why)
{
    Cleave__StateHash hash = CLEAVE__STATE_HASH__INIT;
    hash.icount = m->icount;
    hash.hash = machine_hash(m);
    hash.why = (char *)why;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STATE_HASH;
    body.state_hash = &hash;
    machine_journal_hash(m, hash.hash);
    machine_send(m, &body);
}

static void send_paused(struct machine *m, const char *why)
{
    Cleave__Paused paused = CLEAVE__PAUSED__INIT;
    paused.icount = m->icount;
    paused.why = (char *)why;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_PAUSED;
    body.paused = &paused;
    machine_send(m, &body);
}

static void send_resumed(struct machine *m)
{
    Cleave__Resumed resumed = CLEAVE__RESUMED__INIT;
    resumed.icount = m->icount;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RESUMED;
    body.resumed = &resumed;
    machine_send(m, &body);
}

static void send_stats(struct machine *m, uint64_t tag)
{
    char *json = machine_stats(m);
    Cleave__StatsReply reply = CLEAVE__STATS_REPLY__INIT;
    reply.tag = tag;
    reply.json = json ? json : (char *)"{}";
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STATS_REPLY;
    body.stats_reply = &reply;
    machine_send(m, &body);
    free(json);
}

static void dump_blocks(struct machine *m, const struct control_message *msg)
{
    int err = msg->nfds != 1             ? -EPROTO
              : m->engine != &jit_engine ? -ENOTSUP
                                         : jit_dump(m->engine_data, msg->fds[0]);
    Cleave__Dumped dumped = CLEAVE__DUMPED__INIT;
    dumped.tag = msg->body->dump_blocks->tag;
    dumped.err = -err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DUMPED;
    body.dumped = &dumped;
    machine_send(m, &body);
}

/* The crossing is made at the next position between steps. */
static void note_command(struct machine *m, Cleave__Control__BodyCase what, const char *id)
{
    if (m->ncommands == m->room_commands) {
        unsigned room = m->room_commands ? 2 * m->room_commands : 8;
        struct machine_command *p = realloc(m->commands, room * sizeof *p);
        if (!p) {
            machine_fail(m, "no memory for a command");
            return;
        }
        m->commands = p;
        m->room_commands = room;
    }
    struct machine_command *c = &m->commands[m->ncommands++];
    *c = (struct machine_command){.what = (uint8_t)what};
    snprintf(c->body, sizeof c->body, "%s", id);
}

/* A new incarnation of a device takes its place. */
static void relink(struct machine *m, struct control_message *msg)
{
    const Cleave__Link *link = msg->body->link;
    struct link *l = crossings_find(m->crossings, link->id);
    if (!l || msg->nfds != 2 || link_connect(l, link->epoch, msg->fds[0], msg->fds[1], link->reissue) < 0) {
        machine_fail(m, "cannot connect a device");
        return;
    }
    note_command(m, CLEAVE__CONTROL__BODY_LINK, link_id(l));
    Cleave__Linked linked = CLEAVE__LINKED__INIT;
    linked.id = link->id;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LINKED;
    body.linked = &linked;
    machine_send(m, &body);
}

static void serve(struct machine *m, struct control_message *msg)
{
    struct link *l;
    switch (msg->body->body_case) {
    case CLEAVE__CONTROL__BODY_PAUSE:
        m->paused = true;
        note_command(m, CLEAVE__CONTROL__BODY_PAUSE, "");
        send_paused(m, "command");
        break;
    case CLEAVE__CONTROL__BODY_RESUME:
        m->paused = false;
        note_command(m, CLEAVE__CONTROL__BODY_RESUME, "");
        send_resumed(m);
        break;
    case CLEAVE__CONTROL__BODY_RESET:
        note_command(m, CLEAVE__CONTROL__BODY_RESET, "");
        break;
    case CLEAVE__CONTROL__BODY_STOP:
        m->stopping = true;
        break;
    case CLEAVE__CONTROL__BODY_UNLINK:
        l = crossings_find(m->crossings, msg->body->unlink->id);
        if (l) {
            link_disconnect(l);
            note_command(m, CLEAVE__CONTROL__BODY_UNLINK, link_id(l));
        }
        m->paused = true;
        send_paused(m, msg->body->unlink->cause);
        break;
    case CLEAVE__CONTROL__BODY_LINK:
        relink(m, msg);
        break;
    case CLEAVE__CONTROL__BODY_END_RECORDING:
        machine_end_recording(m);
        break;
    case CLEAVE__CONTROL__BODY_STATS_REQUEST:
        send_stats(m, msg->body->stats_request->tag);
        break;
    case CLEAVE__CONTROL__BODY_DUMP_BLOCKS:
        dump_blocks(m, msg);
        break;
    default:
        machine_fail(m, "unexpected message from the supervisor");
    }
}

void machine_control(struct machine *m)
{
    struct control_message msg;
    int got;
    machine_watch_flush(m);
    while (!m->stopping && (got = control_recv(m->host.control, &msg)) != -EAGAIN) {
        if (got <= 0) {
            m->stopping = true;
            return;
        }
        serve(m, &msg);
        control_release(&msg);
    }
}

int machine_wait(struct machine *m, int64_t timeout_ns)
{
    struct pollfd p[] = {{.fd = m->host.control, .events = POLLIN},
                         {.fd = m->host.doorbell, .events = POLLIN}};
    struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    uint64_t rings;
    machine_control(m);
    if (m->stopping)
        return -ECANCELED;
    int n = ppoll(p, 2, timeout_ns < 0 ? NULL : &limit, NULL);
    if (n > 0 && p[1].revents & POLLIN && read(m->host.doorbell, &rings, sizeof rings) < 0 && errno != EAGAIN)
        machine_fail(m, "cannot read the doorbell");
    if (n > 0 && p[0].revents)
        machine_control(m);
    return m->stopping ? -ECANCELED : 0;
}
