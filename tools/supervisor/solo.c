/* The handshake, requests and resets of a lone device. Whatever the process does, this one reports it and
 * does not wait longer than it was told. */
#include "tools/supervisor/solo.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { EPOCH = 1, FAREWELL_MS = 5000 };

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int broke(const struct solo *s, const char *why, struct failure *f)
{
    return failure_set(f, STATUS_FAILED, EPROTO, "%s broke the protocol: %s", s->role, why);
}

/* Lines on its stderr are passed on as they come. */
static void read_errors(const struct solo *s)
{
    char text[513];
    ssize_t n;
    while ((n = read(s->process.errors, text, sizeof(text) - 1)) > 0) {
        text[n] = '\0';
        for (char *line = text, *next; line && *line; line = next) {
            next = strchr(line, '\n');
            if (next)
                *next++ = '\0';
            if (*line)
                s->said(s->role, line);
        }
    }
}

static int died(struct solo *s, struct failure *f)
{
    siginfo_t info = {0};
    read_errors(s);
    if (waitid(P_PIDFD, (id_t)s->process.pidfd, &info, WEXITED | WNOWAIT) == 0 && info.si_code != CLD_EXITED)
        return failure_set(f, STATUS_FAILED, EPIPE, "%s died: killed by signal %d (%s)", s->role,
                           info.si_status, strsignal(info.si_status));
    return failure_set(f, STATUS_FAILED, EPIPE, "%s ended: exit status %d", s->role, info.si_status);
}

/* Takes what a device may say at any time: 1 if m was that, 0 if not, or the failure that it tells. */
static int take_aside(struct solo *s, struct control_message *m, struct failure *f)
{
    const Cleave__Control *body = m->body;
    int got = 1;
    if (body->body_case == CLEAVE__CONTROL__BODY_LOG)
        s->said(s->role, body->log->text);
    else if (body->body_case == CLEAVE__CONTROL__BODY_FAILURE)
        got = failure_set(f, STATUS_FAILED, body->failure->err, "%s", body->failure->text);
    else if (body->body_case != CLEAVE__CONTROL__BODY_DEVICE_REPLY)
        return 0;
    control_release(m);
    return got;
}

static int expect(struct solo *s, Cleave__Control__BodyCase want, struct control_message *m,
                  struct failure *f)
{
    for (;;) {
        int err = control_wait(s->process.control, s->patience_ms, m);
        if (err == -EPIPE)
            return died(s, f);
        if (err == -ETIMEDOUT)
            return failure_set(f, STATUS_FAILED, ETIMEDOUT, "%s does not start", s->role);
        if (err)
            return broke(s, strerror(-err), f);
        err = take_aside(s, m, f);
        if (err < 0)
            return err;
        if (err)
            continue;
        if (m->body->body_case == want)
            return 0;
        control_release(m);
        return broke(s, "a message out of order", f);
    }
}

static int expect_empty(struct solo *s, Cleave__Control__BodyCase want, struct failure *f)
{
    struct control_message m;
    int err = expect(s, want, &m, f);
    if (!err)
        control_release(&m);
    return err;
}

static int send_body(struct solo *s, const Cleave__Control *body, const int *fds, unsigned n,
                     struct failure *f)
{
    int err = control_send(s->process.control, body, fds, n);
    return err == -EPIPE ? died(s, f) : err ? broke(s, strerror(-err), f) : 0;
}

static int configure(struct solo *s, const Cleave__Configure *c, const int *fds, struct failure *f)
{
    struct control_message hello;
    int err = expect(s, CLEAVE__CONTROL__BODY_HELLO, &hello, f);
    if (err)
        return err;
    uint32_t major = hello.body->hello->major;
    control_release(&hello);
    if (major != CONTROL_MAJOR)
        return broke(s, "another version of it", f);
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_CONFIGURE;
    body.configure = (Cleave__Configure *)c;
    err = send_body(s, &body, fds, (unsigned)c->n_fds, f);
    return err ? err : expect(s, CLEAVE__CONTROL__BODY_DESCRIBE, &s->describe, f);
}

static int read_geometry(struct solo *s, struct channel_geometry *g, struct failure *f)
{
    const Cleave__Describe *d = s->describe.body->describe;
    *g = (struct channel_geometry){.nqueues = (uint32_t)d->n_queues, .blob_max = d->blob_max};
    for (size_t i = 0; i < d->n_queues && i < CHANNEL_MAX_QUEUES; i++) {
        const Cleave__Queue *q = d->queues[i];
        g->queue[i] = (struct channel_queue){q->kind,         q->slots,         q->max_request,
                                             q->max_response, q->request_bytes, q->response_bytes};
    }
    return channel_check(g) < 0 ? broke(s, "a channel geometry out of range", f) : 0;
}

static int make_channel(struct solo *s, const struct channel_geometry *g)
{
    int err = channel_out_create(g, &s->front, &s->out_fd);
    if (err)
        return err;
    s->in_fd = channel_in_create(g);
    s->device_doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->vcpu_doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->in_fd < 0 || s->device_doorbell < 0 || s->vcpu_doorbell < 0)
        return s->in_fd < 0 ? s->in_fd : -errno;
    for (unsigned i = 0; i < g->nqueues && !err; i++) {
        const struct channel_layout *l = &s->front->layout;
        if (g->queue[i].kind != CHANNEL_REQUESTS)
            continue;
        s->slots[i] = calloc(g->queue[i].slots, sizeof(*s->slots[i]));
        err = s->slots[i] ? arena_create(&s->requests[i], l->queue[i].request_size, g->queue[i].slots)
                          : -ENOMEM;
        if (!err)
            err = arena_create(&s->responses[i], l->queue[i].response_size, g->queue[i].slots);
    }
    return err;
}

static int link_channel(struct solo *s, const struct channel_geometry *g, struct failure *f)
{
    int err = make_channel(s, g);
    if (err)
        return failure_set(f, STATUS_FAILED, -err, "cannot make a channel for %s: %s", s->role,
                           strerror(-err));
    Cleave__Map map = CLEAVE__MAP__INIT;
    map.epoch = EPOCH;
    map.layout_crc = channel_layout_crc(g);
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_MAP;
    body.map = &map;
    const int fds[] = {s->out_fd, s->in_fd, s->device_doorbell, s->vcpu_doorbell};
    err = send_body(s, &body, fds, 4, f);
    if (!err)
        err = expect_empty(s, CLEAVE__CONTROL__BODY_MAPPED, f);
    if (!err && (err = channel_front_link(s->front, s->in_fd, s->device_doorbell)) < 0)
        return broke(s, strerror(-err), f);
    Cleave__Linked linked = CLEAVE__LINKED__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LINKED;
    body.linked = &linked;
    if (!err)
        err = send_body(s, &body, NULL, 0, f);
    if (!err)
        err = expect_empty(s, CLEAVE__CONTROL__BODY_READY, f);
    Cleave__Run run = CLEAVE__RUN__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RUN;
    body.run = &run;
    return err ? err : send_body(s, &body, NULL, 0, f);
}

int solo_start(struct solo *s, char *const argv[], const Cleave__Configure *c, const int *fds,
               struct failure *f)
{
    struct channel_geometry g;
    s->process = (struct spawned){.pidfd = -1, .control = -1, .errors = -1};
    s->out_fd = s->in_fd = s->device_doorbell = s->vcpu_doorbell = -1;
    int err = spawn_command(argv, s->foreground, &s->process);
    if (err)
        return failure_set(f, STATUS_FAILED, -err, "cannot start %s: %s", s->role, strerror(-err));
    err = configure(s, c, fds, f);
    if (!err)
        err = read_geometry(s, &g, f);
    return err ? err : link_channel(s, &g, f);
}

/* The closed socket is what ends it. */
static void stop(struct solo *s)
{
    siginfo_t info;
    struct pollfd death = {.fd = s->process.pidfd, .events = POLLIN};
    if (s->process.control < 0)
        return;
    Cleave__Stop message = CLEAVE__STOP__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STOP;
    body.stop = &message;
    control_send(s->process.control, &body, NULL, 0);
    if (poll(&death, 1, s->patience_ms < 0 ? -1 : FAREWELL_MS) <= 0)
        kill(s->process.pid, SIGKILL);
    waitid(P_PIDFD, (id_t)s->process.pidfd, &info, WEXITED);
    read_errors(s);
    close(s->process.control);
    close(s->process.pidfd);
    close(s->process.errors);
}

static void drop_message(struct solo *s, unsigned queue)
{
    struct solo_message *m = s->messages[queue].first;
    s->messages[queue].first = m->next;
    free(m);
}

void solo_release(struct solo *s)
{
    stop(s);
    if (s->front)
        s->front->ops->close(s->front);
    for (unsigned i = 0; i < CHANNEL_MAX_QUEUES; i++) {
        arena_destroy(s->requests[i]);
        arena_destroy(s->responses[i]);
        free(s->slots[i]);
        while (s->messages[i].first)
            drop_message(s, i);
    }
    const int fds[] = {s->out_fd, s->in_fd, s->device_doorbell, s->vcpu_doorbell};
    for (unsigned i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (s->describe.body)
        control_release(&s->describe);
}

static uint32_t slots_of(const struct solo *s, unsigned queue)
{
    return s->slots[queue] ? s->front->geometry.queue[queue].slots : 0;
}

int solo_submit(struct solo *s, unsigned queue, uint64_t seq, uint64_t features, const void *data,
                uint32_t len, uint32_t resp_cap, struct failure *f)
{
    const struct channel_geometry *g = &s->front->geometry;
    struct ring_request r = {.seq = seq,
                             .epoch = EPOCH,
                             .op = RING_OP_REQUEST,
                             .req_len = len,
                             .resp_cap = resp_cap,
                             .blob_cap = g->blob_max,
                             .features = features};
    uint32_t slot = 0, n = queue < g->nqueues ? slots_of(s, queue) : 0;
    while (slot < n && s->slots[queue][slot].used)
        slot++;
    r.slot = (uint16_t)slot;
    if (slot == n || len > g->queue[queue].max_request || resp_cap > g->queue[queue].max_response ||
        arena_alloc(s->requests[queue], len, &r.req_off) < 0)
        return failure_set(f, STATUS_FAILED, ENOSPC, "%s has no room for request %llu of the recording",
                           s->role, (unsigned long long)seq);
    if (arena_alloc(s->responses[queue], channel_response_span(resp_cap, g->blob_max), &r.resp_off) < 0) {
        arena_free(s->requests[queue], r.req_off, len);
        return failure_set(f, STATUS_FAILED, ENOSPC, "%s has no room for the answer to request %llu", s->role,
                           (unsigned long long)seq);
    }
    if (len)
        memcpy(s->front->ops->request_mem(s->front, queue) + r.req_off, data, len);
    s->slots[queue][slot] = (struct solo_slot){.used = true, .request = r};
    if (s->front->ops->submit(s->front, queue, &r) < 0)
        return broke(s, "the index of its submission ring", f);
    s->front->ops->kick(s->front);
    return 0;
}

static bool take_completion(struct solo *s, unsigned queue, const struct ring_completion *c)
{
    if (c->slot == RING_SLOT_NONE && !s->reset_done && c->seq == s->reset_seq)
        return s->reset_done = true;
    struct solo_slot *slot = c->slot < slots_of(s, queue) ? &s->slots[queue][c->slot] : NULL;
    if (!slot || !slot->used || slot->answered || channel_check_completion(c, &slot->request) < 0)
        return false;
    slot->completion = *c;
    slot->answered = true;
    return true;
}

static int keep_message(struct solo *s, unsigned queue, const struct ring_event *e)
{
    struct solo_message *m = malloc(sizeof(*m));
    if (!m)
        return -ENOMEM;
    const uint8_t *data = s->front->ops->response_mem(s->front, queue) + e->off;
    *m = (struct solo_message){.cause = e->cause, .digest = XXH3_64bits(data, e->len), .len = e->len};
    if (!s->messages[queue].first)
        s->messages[queue].last = &s->messages[queue].first;
    *s->messages[queue].last = m;
    s->messages[queue].last = &m->next;
    return 0;
}

/* Messages that no request asked for only make room. */
static int take_events(struct solo *s, unsigned queue, struct failure *f)
{
    struct ring_event e;
    int got;
    while ((got = s->front->ops->event(s->front, queue, &e)) > 0) {
        if (channel_check_event(&s->front->geometry, &s->front->layout, queue, &e, EPOCH,
                                s->messages[queue].seq + 1) < 0)
            return broke(s, "an event out of order or outside its arena", f);
        if (e.cause && keep_message(s, queue, &e) < 0)
            return failure_set(f, STATUS_FAILED, ENOMEM, "%s", strerror(ENOMEM));
        s->messages[queue].seq++;
        s->front->ops->event_done(s->front, queue);
    }
    return got < 0 ? broke(s, "the index of a ring", f) : 0;
}

static int poll_rings(struct solo *s, struct failure *f)
{
    struct ring_completion c;
    int got = 0;
    for (unsigned q = 0; q < s->front->geometry.nqueues && got >= 0; q++) {
        if (s->front->geometry.queue[q].kind == CHANNEL_INBOUND) {
            int err = take_events(s, q, f);
            if (err)
                return err;
            continue;
        }
        while ((got = s->front->ops->completion(s->front, q, &c)) > 0)
            if (!take_completion(s, q, &c))
                return broke(s, "a completion that answers nothing in flight", f);
    }
    s->front->ops->kick(s->front);
    return got < 0 ? broke(s, "the index of a ring", f) : 0;
}

/* What came on its sockets while it was waited for. */
static int serve(struct solo *s, struct failure *f)
{
    struct control_message m;
    int got;
    read_errors(s);
    while ((got = control_recv(s->process.control, &m)) > 0) {
        int err = take_aside(s, &m, f);
        if (err > 0)
            continue;
        if (!err)
            control_release(&m);
        return err ? err : broke(s, "a message out of order", f);
    }
    return got == -EAGAIN ? 0 : got == 0 ? died(s, f) : broke(s, strerror(-got), f);
}

/* Until *done: 0, -ETIMEDOUT without a failure, or another error with it. */
static int wait_for(struct solo *s, const bool *done, struct failure *f)
{
    int64_t deadline = now_ms() + s->patience_ms;
    int err = poll_rings(s, f);
    while (!err && !*done) {
        struct pollfd p[] = {{.fd = s->vcpu_doorbell, .events = POLLIN},
                             {.fd = s->process.control, .events = POLLIN},
                             {.fd = s->foreground ? -1 : s->process.errors, .events = POLLIN}};
        uint64_t rings;
        s->front->ops->wait_flag(s->front, true);
        err = poll_rings(s, f);
        int64_t left = deadline - now_ms();
        if (!err && !*done && s->patience_ms >= 0 && left <= 0)
            err = -ETIMEDOUT;
        if (!err && !*done)
            poll(p, 3, s->patience_ms < 0 ? -1 : (int)left);
        s->front->ops->wait_flag(s->front, false);
        ssize_t n = read(s->vcpu_doorbell, &rings, sizeof(rings));
        (void)n;
        if (!err && !*done)
            err = poll_rings(s, f);
        if (!err && !*done)
            err = serve(s, f);
    }
    return err;
}

struct solo_slot *solo_answer(struct solo *s, unsigned queue, uint64_t seq, int *err, struct failure *f)
{
    uint32_t n = queue < s->front->geometry.nqueues ? slots_of(s, queue) : 0;
    for (uint32_t i = 0; i < n; i++) {
        struct solo_slot *slot = &s->slots[queue][i];
        if (!slot->used || slot->request.seq != seq)
            continue;
        *err = wait_for(s, &slot->answered, f);
        return *err ? NULL : slot;
    }
    *err = failure_set(f, STATUS_FAILED, EBADMSG,
                       "the recording answers request %llu, which it does not have", (unsigned long long)seq);
    return NULL;
}

const uint8_t *solo_bytes(const struct solo *s, unsigned queue, const struct solo_slot *slot)
{
    return s->front->ops->response_mem(s->front, queue) + slot->request.resp_off;
}

const uint8_t *solo_blob(const struct solo *s, unsigned queue, const struct solo_slot *slot)
{
    return solo_bytes(s, queue, slot) +
           channel_response_span(slot->request.resp_cap, slot->request.blob_cap) - slot->request.blob_cap;
}

void solo_free(struct solo *s, unsigned queue, struct solo_slot *slot)
{
    const struct ring_request *r = &slot->request;
    arena_free(s->requests[queue], r->req_off, r->req_len);
    arena_free(s->responses[queue], r->resp_off, channel_response_span(r->resp_cap, r->blob_cap));
    slot->used = false;
}

/* The request's slot in any queue, or NULL. */
static struct solo_slot *in_flight(struct solo *s, uint64_t seq)
{
    for (unsigned q = 0; q < s->front->geometry.nqueues; q++)
        for (uint32_t i = 0; i < slots_of(s, q); i++)
            if (s->slots[q][i].used && s->slots[q][i].request.seq == seq)
                return &s->slots[q][i];
    return NULL;
}

int solo_take_message(struct solo *s, unsigned queue, uint64_t cause, struct solo_message *m,
                      struct failure *f)
{
    struct solo_slot *slot = in_flight(s, cause);
    int err = slot ? wait_for(s, &slot->answered, f) : 0;
    if (!err)
        err = poll_rings(s, f); /* what was published before the answer is seen now */
    if (err)
        return err;
    if (queue >= s->front->geometry.nqueues)
        return 0;
    while (s->messages[queue].first && s->messages[queue].first->cause < cause)
        drop_message(s, queue);
    if (!s->messages[queue].first || s->messages[queue].first->cause != cause)
        return 0;
    *m = *s->messages[queue].first;
    drop_message(s, queue);
    return 1;
}

static unsigned reset_queue(const struct solo *s)
{
    unsigned q = 0;
    while (s->front->geometry.queue[q].kind != CHANNEL_REQUESTS)
        q++;
    return q;
}

int solo_reset(struct solo *s, uint64_t seq, uint64_t generation, struct failure *f)
{
    struct ring_request r = {.seq = seq,
                             .epoch = EPOCH,
                             .generation = (uint32_t)generation,
                             .slot = RING_SLOT_NONE,
                             .op = RING_OP_RESET};
    s->reset_seq = seq;
    s->reset_done = false;
    if (s->front->ops->submit(s->front, reset_queue(s), &r) < 0)
        return broke(s, "the index of its submission ring", f);
    s->front->ops->kick(s->front);
    int err = wait_for(s, &s->reset_done, f);
    if (err == -ETIMEDOUT)
        return failure_set(f, STATUS_FAILED, ETIMEDOUT, "%s does not finish a reset", s->role);
    if (err)
        return err;
    for (unsigned q = 0; q < s->front->geometry.nqueues; q++)
        for (uint32_t i = 0; i < slots_of(s, q); i++)
            if (s->slots[q][i].used)
                solo_free(s, q, &s->slots[q][i]);
    return 0;
}
