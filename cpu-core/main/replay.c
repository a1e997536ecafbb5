/* The machine loop of a replay: machine.c's, with everything from outside taken from a recording. Must not
 * wait for anything but the next window, and look at the host's clock for its speed alone. */
#include "cpu-core/main/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define SLICE_REPLAY   1000000u
#define SLICE_REALTIME 100000u
#define POLL_NS        1000000u

static int ask_window(struct machine *m)
{
    Cleave__FeedRequest request = CLEAVE__FEED_REQUEST__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FEED_REQUEST;
    body.feed_request = &request;
    m->replay.asked_windows++;
    return control_send(m->host.feed, &body, NULL, 0);
}

/* The descriptor in the message, which is the caller's; the next window is asked for before this one is used.
 */
static int take_window(struct machine *m, struct control_message *msg)
{
    if (msg->body->body_case != CLEAVE__CONTROL__BODY_FEED_WINDOW || msg->nfds != 1)
        return -EPROTO;
    m->replay.taken_windows++;
    int err = msg->body->feed_window->last ? 0 : ask_window(m);
    if (err < 0)
        return err;
    int fd = msg->fds[0];
    msg->fds[0] = -1;
    return fd;
}

/* The feed's source: waits, and serves control meanwhile. */
static int next_window(void *arg)
{
    struct machine *m = arg;
    struct control_message msg;
    int got = m->replay.asked_windows > m->replay.taken_windows ? 0 : ask_window(m);
    while (!got && (got = control_recv(m->host.feed, &msg)) == -EAGAIN) {
        struct pollfd p[] = {{.fd = m->host.feed, .events = POLLIN},
                             {.fd = m->host.control, .events = POLLIN}};
        poll(p, 2, -1);
        machine_control(m);
        got = m->stopping ? -ECANCELED : 0;
    }
    if (got == 0)
        got = -EPIPE;
    if (got < 0)
        return got;
    int fd = take_window(m, &msg);
    control_release(&msg);
    return fd;
}

static void send_output(void *arg, const struct crossing *c, const void *data)
{
    struct machine *m = arg;
    struct link *l = crossings_at(m->crossings, c->device);
    for (uint32_t done = 0; l && done < c->len;) {
        uint32_t part = c->len - done < CONTROL_MAX_BYTES / 2 ? c->len - done : CONTROL_MAX_BYTES / 2;
        Cleave__Output output = CLEAVE__OUTPUT__INIT;
        output.id = (char *)link_id(l);
        output.data.data = (uint8_t *)data + done;
        output.data.len = part;
        output.left = c->len - done - part;
        output.seq = c->seq;
        output.icount = c->icount;
        output.virtual_ns = vclock_ns(&m->clock, c->icount);
        output.queue = c->queue;
        output.features = link_accepted(l);
        Cleave__Control body = CLEAVE__CONTROL__INIT;
        body.body_case = CLEAVE__CONTROL__BODY_OUTPUT;
        body.output = &output;
        machine_send(m, &body);
        done += part;
    }
}

int machine_replay_create(struct machine *m)
{
    struct feed_source source = {next_window, m};
    struct replay_hooks hooks = {send_output, m, m->cfg.mirror};
    int err = feed_create(&m->feed, &source);
    return err ? err : crossings_replay(m->crossings, m->feed, &hooks);
}

const struct feed_end *machine_recording_end(const struct machine *m)
{
    return m->replay.read ? feed_ending(m->feed) : NULL;
}

static void fail_to_read(struct machine *m, int err)
{
    char why[80];
    snprintf(why, sizeof why, "cannot read the recording: %s", strerror(-err));
    if (err != -ECANCELED)
        machine_fail(m, why);
}

/* The next entry; NULL at the end, and after a failure. */
static const struct journal_entry *peek(struct machine *m)
{
    const struct journal_entry *e = NULL;
    int got = crossings_difference(m->crossings) ? 0 : feed_peek(m->feed, &e);
    if (got < 0)
        fail_to_read(m, got);
    return got > 0 ? e : NULL;
}

static const struct journal_entry *peek_here(struct machine *m)
{
    const struct journal_entry *e = peek(m);
    return e && e->c.icount == m->icount ? e : NULL;
}

static void check_hash(struct machine *m, const struct journal_entry *e)
{
    uint64_t hash = machine_hash(m);
    if (hash != e->c.digest) {
        crossings_differ(m->crossings, e, NULL, "state hash", e->c.digest, hash);
        return;
    }
    m->replay.hash_known = true;
    m->replay.hash_icount = m->icount;
    m->replay.hash = hash;
    feed_take(m->feed);
}

/* What a clock crossing recorded; false if it is malformed. */
static bool clock_of(const struct journal_entry *e, uint64_t values[3])
{
    if (e->c.kind != CROSSING_CLOCK || e->c.len != 3 * sizeof *values || !e->body)
        return false;
    memcpy(values, e->body, e->c.len);
    return true;
}

static bool is_mark(const struct journal_entry *e)
{
    return e && e->type == JOURNAL_CROSSING && e->c.kind == CROSSING_CLOCK && e->c.direction == CROSSING_OUT;
}

bool machine_replay_marks(struct machine *m)
{
    return is_mark(peek(m));
}

/* A mark may be that of a hash, or of what the next step does: it is taken here if it can be. */
static bool take_mark(struct machine *m, const struct journal_entry *e)
{
    uint64_t to[3];
    if (!m->jumped || !is_mark(e) || e->c.pc != m->harts[m->current]->pc || !clock_of(e, to) ||
        to[0] != m->clock.n0 || to[1] != m->clock.t0)
        return false;
    machine_mark(m);
    return true;
}

/* Hashes at this position are of the state before anything is applied to it. */
static void check_hashes(struct machine *m)
{
    const struct journal_entry *e;
    while ((e = peek_here(m)) && (e->type == JOURNAL_STATE_HASH || take_mark(m, e)))
        if (e->type == JOURNAL_STATE_HASH)
            check_hash(m, e);
}

/* With a virtual clock the crossing is a mark: false until the idle machine's time has come this far. */
static bool apply_clock(struct machine *m, const struct journal_entry *e)
{
    uint64_t to[3];
    if (!clock_of(e, to)) {
        crossings_differ(m->crossings, e, NULL, "length", e->c.len, sizeof to);
        return false;
    }
    if (!m->cfg.virtual_clock)
        vclock_set(&m->clock, m->icount, to[1], to[2]);
    else if (m->clock.n0 != to[0] || m->clock.t0 < to[1])
        return false;
    machine_note_clock(m, CROSSING_IN);
    return true;
}

static void apply_control(struct machine *m, const struct journal_entry *e)
{
    uint64_t what = e->c.arg;
    crossings_note(m->crossings, CROSSING_IN, CROSSING_CONTROL, what, e->body, e->body ? e->c.len : 0);
    if (what == CLEAVE__CONTROL__BODY_RESET)
        machine_reboot(m);
}

/* Applies the next entry if it came in at this position; false if it did not, or not yet. */
static bool apply(struct machine *m)
{
    machine_settle(m);
    const struct journal_entry *e = peek_here(m);
    if (!e || e->type != JOURNAL_CROSSING || e->c.direction != CROSSING_IN)
        return false;
    if (e->c.kind == CROSSING_CLOCK)
        return apply_clock(m, e);
    if (e->c.kind != CROSSING_CONTROL)
        return crossings_replay_apply(m->crossings, e);
    apply_control(m, e);
    return true;
}

/* The recorded end of the machine, if its time has come and the guest did not bring it about. */
static bool ended_by_host(const struct journal_entry *e)
{
    return e && e->type == JOURNAL_CROSSING && e->c.kind == CROSSING_EXIT &&
           (e->c.arg == MACHINE_STOPPED || e->c.arg == MACHINE_STOP_AT || e->c.arg == MACHINE_FAULT);
}

/* An entry that is left behind is something that the machine did not do. */
static void check_position(struct machine *m)
{
    const struct journal_entry *e = peek(m);
    if (e && e->c.icount < m->icount)
        crossings_differ(m->crossings, e, NULL, "position", e->c.icount, m->icount);
}

static bool replay_ends(struct machine *m, enum machine_end *end, uint32_t *status)
{
    bool ends = machine_ends(m, end, status), by_guest = ends && m->request != BOARD_NONE && !m->fault[0];
    const struct journal_entry *e = peek_here(m);
    if (!crossings_difference(m->crossings) && (by_guest || (!ends && ended_by_host(e)))) {
        if (!ends)
            *end = (enum machine_end)e->c.arg;
        ends = true;
        m->replay.exit_noted = true;
        machine_note_exit(m, *end);
    } else if (!ends && !crossings_difference(m->crossings) && !peek(m) &&
               m->icount >= feed_ending(m->feed)->icount) {
        *end = MACHINE_RECORDING_ENDS;
        m->replay.read = true;
        ends = true;
    }
    if (crossings_difference(m->crossings)) {
        *end = MACHINE_DIVERGED;
        ends = true;
    }
    return ends;
}

/* All harts wait. A virtual clock's time jumps as it did in the recording; otherwise something must have come
 * in. */
static void idle(struct machine *m)
{
    uint64_t due = machine_next_due(m), now = vclock_ns(&m->clock, m->icount), mark[3];
    const struct journal_entry *e = peek_here(m);
    if (m->cfg.virtual_clock) {
        if (e && e->type == JOURNAL_CROSSING && clock_of(e, mark) && mark[1] <= due && mark[1] > now)
            due = mark[1];
        if (due != VCLOCK_NEVER) {
            vclock_set(&m->clock, m->icount, due, m->clock.rate);
            m->jumped = true;
            return;
        }
    }
    e = peek(m);
    if (e)
        crossings_differ(m->crossings, e, NULL, "position", e->c.icount, m->icount);
    else if (!m->fault[0] && !m->stopping)
        crossings_differ(m->crossings, NULL, NULL, "position", feed_ending(m->feed)->icount, m->icount);
}

/* Steps until the next entry, or behind it if an instruction brings it about. */
static uint64_t longest_slice(struct machine *m)
{
    uint64_t longest = m->cfg.realtime ? SLICE_REALTIME : SLICE_REPLAY;
    const struct journal_entry *e = peek(m);
    uint64_t to = e ? e->c.icount : feed_ending(m->feed)->icount;
    if (e && e->type == JOURNAL_CROSSING && e->c.direction == CROSSING_OUT && !is_mark(e) &&
        !ended_by_host(e))
        to++;
    if (to <= m->icount)
        return 1;
    return to - m->icount < longest ? to - m->icount : longest;
}

static void poll_control(struct machine *m)
{
    uint64_t now = machine_host_now();
    if (now >= m->next_poll_ns) {
        m->next_poll_ns = now + POLL_NS;
        machine_control(m);
    }
    if (!m->paused)
        return;
    while (m->paused && !m->stopping)
        machine_wait(m, -1);
    m->replay.host_zero += machine_host_now() - now;
}

/* Real-time speed: the host's clock catches up with the machine's. */
static void pace(struct machine *m)
{
    uint64_t due = m->replay.host_zero + vclock_ns(&m->clock, m->icount), now;
    while (!m->stopping && (now = machine_host_now()) + POLL_NS < due)
        machine_wait(m, (int64_t)(due - now));
}

static Cleave__Stamp stamp(const struct crossing *c)
{
    Cleave__Stamp s = CLEAVE__STAMP__INIT;
    s.seq = c->seq;
    s.icount = c->icount;
    s.pc = c->pc;
    s.request = c->request;
    s.arg = c->arg;
    s.device = c->device;
    s.queue = c->queue;
    s.direction = c->direction;
    s.kind = c->kind;
    s.len = c->len;
    s.digest = c->digest;
    return s;
}

static void report_difference(struct machine *m)
{
    const struct replay_difference *d = crossings_difference(m->crossings);
    Cleave__Stamp recorded = stamp(&d->recorded), actual = stamp(&d->actual);
    Cleave__Diverged diverged = CLEAVE__DIVERGED__INIT;
    diverged.record = d->record;
    diverged.state_hash = d->type == JOURNAL_STATE_HASH;
    diverged.recorded = &recorded;
    diverged.actual = &actual;
    diverged.field = (char *)d->field;
    diverged.recorded_value = d->recorded_value;
    diverged.actual_value = d->actual_value;
    diverged.hash_known = m->replay.hash_known;
    diverged.hash_icount = m->replay.hash_icount;
    diverged.hash = m->replay.hash;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DIVERGED;
    body.diverged = &diverged;
    machine_send(m, &body);
}

/* What the machine had gathered for its devices when it ended follows the exit. */
static void replay_flush(struct machine *m)
{
    while (!board_flush(m->board) && apply(m))
        ;
}

/* The rest of the recording, for how it ends. */
static void read_out(struct machine *m)
{
    const struct journal_entry *e;
    int got;
    while ((got = feed_peek(m->feed, &e)) > 0)
        feed_take(m->feed);
    m->replay.read = got == 0;
    if (got < 0)
        fail_to_read(m, got);
}

enum machine_end machine_replay(struct machine *m, uint32_t *status)
{
    enum machine_end end;
    m->replay.host_zero = machine_host_now();
    for (;;) {
        machine_report_hashes(m);
        check_hashes(m);
        if (m->request == BOARD_REBOOT)
            machine_reboot(m);
        poll_control(m);
        while (apply(m))
            ;
        check_position(m);
        if (replay_ends(m, &end, status))
            break;
        if (m->cfg.realtime)
            pace(m);
        if (vclock_next_step(&m->clock) <= m->icount)
            continue;
        struct hart *h = machine_schedule(m);
        if (h)
            machine_slice(m, h, longest_slice(m));
        else
            idle(m);
    }
    if (!crossings_difference(m->crossings))
        replay_flush(m);
    if (!crossings_difference(m->crossings) && m->replay.exit_noted)
        read_out(m);
    if (m->fault[0])
        end = MACHINE_FAULT;
    if (crossings_difference(m->crossings)) {
        end = MACHINE_DIVERGED;
        report_difference(m);
    }
    if (!m->replay.exit_noted)
        m->end_hash = machine_hash(m);
    return end;
}
