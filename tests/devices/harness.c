/* The supervisor's and the vcpu's side of a device process, for tests. Knows no device type. */
#include "tests/devices/harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static pid_t spawn(const char *executable, const char *id, int control)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    if (control != CONTROL_CHILD_FD)
        dup2(control, CONTROL_CHILD_FD);
    close_range(CONTROL_CHILD_FD + 1, ~0u, 0);
    execl(executable, executable, id, (char *)NULL);
    _exit(127);
}

static void send_body(struct harness *h, const Cleave__Control *body, const int *fds, unsigned nfds)
{
    assert_int_equal(control_send(h->control, body, fds, nfds), 0);
}

/* Takes what a device may send at any time; true if it was that. */
static bool take_aside(struct harness *h, struct control_message *m)
{
    Cleave__Control *body = m->body;
    if (body->body_case == CLEAVE__CONTROL__BODY_LOG) {
        h->logs++;
        snprintf(h->log, sizeof(h->log), "%s", body->log->text);
    } else if (body->body_case == CLEAVE__CONTROL__BODY_FAILURE) {
        snprintf(h->failure, sizeof(h->failure), "%s", body->failure->text);
        h->failure_err = body->failure->err;
    } else if (body->body_case == CLEAVE__CONTROL__BODY_DEVICE_REPLY && body->device_reply->tag == 0) {
        snprintf(h->notice, sizeof(h->notice), "%s", body->device_reply->text);
    } else {
        return false;
    }
    control_release(m);
    return true;
}

/* The next message other than those: false if it is a Failure instead. */
static bool expect(struct harness *h, Cleave__Control__BodyCase want, struct control_message *m)
{
    for (;;) {
        int err = control_wait(h->control, HARNESS_PATIENCE_MS, m);
        if (err)
            fail_msg("waiting for message %d: %s", want, strerror(-err));
        if (take_aside(h, m)) {
            if (h->failure_err)
                return false;
            continue;
        }
        assert_int_equal(m->body->body_case, want);
        return true;
    }
}

static void expect_empty(struct harness *h, Cleave__Control__BodyCase want)
{
    struct control_message m;
    if (!expect(h, want, &m))
        fail_msg("device failed: %s", h->failure);
    control_release(&m);
}

void harness_spawn(struct harness *h, const struct harness_config *c)
{
    *h = (struct harness){.out_fd = -1, .in_fd = -1, .device_doorbell = -1, .vcpu_doorbell = -1};
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    h->control = pair[0];
    h->pid = spawn(c->executable, c->id, pair[1]);
    close(pair[1]);
    struct control_message m;
    assert_true(expect(h, CLEAVE__CONTROL__BODY_HELLO, &m));
    assert_int_equal(m.body->hello->major, CONTROL_MAJOR);
    assert_int_equal(m.body->hello->pid, h->pid);
    control_release(&m);
}

bool harness_configure(struct harness *h, const struct harness_config *c)
{
    Cleave__KeyValue kv[16], *options[16];
    Cleave__Configure conf = CLEAVE__CONFIGURE__INIT;
    conf.id = (char *)c->id;
    conf.seed = c->seed;
    conf.device_index = c->index;
    conf.sandbox = getenv("CLEAVE_SANDBOX") ? getenv("CLEAVE_SANDBOX") : (char *)"require";
    conf.options = options;
    for (; conf.n_options < 16 && c->options[conf.n_options].key; conf.n_options++) {
        cleave__key_value__init(&kv[conf.n_options]);
        kv[conf.n_options].key = (char *)c->options[conf.n_options].key;
        kv[conf.n_options].value = (char *)c->options[conf.n_options].value;
        options[conf.n_options] = &kv[conf.n_options];
    }
    char *names[CONTROL_MAX_FDS];
    int fds[CONTROL_MAX_FDS];
    conf.fds = names;
    for (; conf.n_fds < CONTROL_MAX_FDS && c->fds[conf.n_fds].name; conf.n_fds++) {
        names[conf.n_fds] = (char *)c->fds[conf.n_fds].name;
        fds[conf.n_fds] = c->fds[conf.n_fds].fd;
    }
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_CONFIGURE;
    body.configure = &conf;
    send_body(h, &body, fds, (unsigned)conf.n_fds);
    if (!expect(h, CLEAVE__CONTROL__BODY_DESCRIBE, &h->describe)) {
        harness_expect_failure(h);
        return false;
    }
    return true;
}

static void read_geometry(const Cleave__Describe *d, struct channel_geometry *g)
{
    assert_true(d->n_queues <= CHANNEL_MAX_QUEUES);
    *g = (struct channel_geometry){.nqueues = (uint32_t)d->n_queues, .blob_max = d->blob_max};
    for (unsigned i = 0; i < d->n_queues; i++)
        g->queue[i] = (struct channel_queue){
            .kind = d->queues[i]->kind,
            .slots = d->queues[i]->slots,
            .max_request = d->queues[i]->max_request,
            .max_response = d->queues[i]->max_response,
            .request_bytes = d->queues[i]->request_bytes,
            .response_bytes = d->queues[i]->response_bytes,
        };
    assert_int_equal(channel_check(g), 0);
}

static void make_tables(struct harness *h, const struct channel_geometry *g)
{
    for (unsigned i = 0; i < g->nqueues; i++) {
        if (g->queue[i].kind != CHANNEL_REQUESTS)
            continue;
        const struct channel_layout *l = &h->front->layout;
        h->slots[i] = calloc(g->queue[i].slots, sizeof(*h->slots[i]));
        assert_non_null(h->slots[i]);
        assert_int_equal(arena_create(&h->requests[i], l->queue[i].request_size / 2, g->queue[i].slots), 0);
        assert_int_equal(arena_create(&h->responses[i], l->queue[i].response_size / 2, g->queue[i].slots), 0);
    }
}

void harness_link(struct harness *h)
{
    struct channel_geometry g;
    read_geometry(h->describe.body->describe, &g);
    h->features = h->describe.body->describe->features;
    assert_int_equal(channel_out_create(&g, &h->front, &h->out_fd), 0);
    h->in_fd = channel_in_create(&g);
    h->device_doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    h->vcpu_doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(h->in_fd >= 0 && h->device_doorbell >= 0 && h->vcpu_doorbell >= 0);
    h->epoch = 7;
    make_tables(h, &g);

    Cleave__Map map = CLEAVE__MAP__INIT;
    map.epoch = h->epoch;
    map.layout_crc = channel_layout_crc(&g);
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_MAP;
    body.map = &map;
    const int fds[] = {h->out_fd, h->in_fd, h->device_doorbell, h->vcpu_doorbell};
    send_body(h, &body, fds, 4);
    expect_empty(h, CLEAVE__CONTROL__BODY_MAPPED);
    assert_int_equal(channel_front_link(h->front, h->in_fd, h->device_doorbell), 0);

    Cleave__Linked linked = CLEAVE__LINKED__INIT;
    body = (Cleave__Control)CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LINKED;
    body.linked = &linked;
    send_body(h, &body, NULL, 0);
    expect_empty(h, CLEAVE__CONTROL__BODY_READY);
}

void harness_run(struct harness *h)
{
    Cleave__Run run = CLEAVE__RUN__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RUN;
    body.run = &run;
    send_body(h, &body, NULL, 0);
}

bool harness_start(struct harness *h, const struct harness_config *c)
{
    harness_spawn(h, c);
    if (!harness_configure(h, c))
        return false;
    harness_link(h);
    harness_run(h);
    return true;
}

void harness_submit_raw(struct harness *h, unsigned queue, const struct ring_request *r)
{
    assert_int_equal(h->front->ops->submit(h->front, queue, r), 0);
    h->front->ops->kick(h->front);
}

unsigned harness_submit(struct harness *h, unsigned queue, const void *data, uint32_t len, uint32_t resp_cap)
{
    const struct channel_geometry *g = &h->front->geometry;
    unsigned slot = 0;
    while (slot < g->queue[queue].slots && h->slots[queue][slot].used)
        slot++;
    assert_true(slot < g->queue[queue].slots);
    struct harness_slot *s = &h->slots[queue][slot];
    *s = (struct harness_slot){
        .used = true,
        .request = {.seq = ++h->seq,
                    .epoch = h->epoch,
                    .slot = (uint16_t)slot,
                    .op = RING_OP_REQUEST,
                    .req_len = len,
                    .resp_cap = resp_cap,
                    .blob_cap = g->blob_max,
                    .features = h->features},
    };
    assert_int_equal(arena_alloc(h->requests[queue], len, &s->request.req_off), 0);
    assert_int_equal(
        arena_alloc(h->responses[queue], channel_response_span(resp_cap, g->blob_max), &s->request.resp_off),
        0);
    if (len)
        memcpy(h->front->ops->request_mem(h->front, queue) + s->request.req_off, data, len);
    harness_submit_raw(h, queue, &s->request);
    return slot;
}

static void take_completions(struct harness *h)
{
    for (unsigned q = 0; q < h->front->geometry.nqueues; q++) {
        if (h->front->geometry.queue[q].kind != CHANNEL_REQUESTS)
            continue;
        struct ring_completion c;
        int got;
        while ((got = h->front->ops->completion(h->front, q, &c)) > 0) {
            assert_true(c.slot < h->front->geometry.queue[q].slots);
            struct harness_slot *s = &h->slots[q][c.slot];
            assert_true(s->used && !s->answered);
            assert_int_equal(channel_check_completion(&c, &s->request), 0);
            s->completion = c;
            s->answered = true;
        }
        assert_int_equal(got, 0);
    }
}

/* Waits for the doorbell, with the rings announced as watched by `ready`. */
static bool wait_until(struct harness *h, bool (*ready)(struct harness *h, unsigned queue, unsigned slot),
                       unsigned queue, unsigned slot, int timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms;
    bool is_ready = ready(h, queue, slot);
    while (!is_ready) {
        h->front->ops->wait_flag(h->front, true);
        is_ready = ready(h, queue, slot);
        int64_t left = deadline - now_ms();
        struct pollfd p[] = {{.fd = h->vcpu_doorbell, .events = POLLIN},
                             {.fd = h->control, .events = POLLIN}};
        if (!is_ready && left <= 0)
            break;
        if (!is_ready)
            poll(p, 2, (int)left);
        h->front->ops->wait_flag(h->front, false);
        uint64_t count;
        (void)!read(h->vcpu_doorbell, &count, sizeof(count));
        if (!is_ready && p[1].revents)
            harness_poll_control(h, 0);
        if (h->failure_err)
            fail_msg("device failed: %s", h->failure);
        is_ready = is_ready || ready(h, queue, slot);
    }
    h->front->ops->wait_flag(h->front, false);
    return is_ready;
}

bool harness_answered(struct harness *h, unsigned queue, unsigned slot)
{
    take_completions(h);
    return h->slots[queue][slot].answered;
}

const uint8_t *harness_answer(struct harness *h, unsigned queue, unsigned slot, uint32_t *len)
{
    if (!wait_until(h, harness_answered, queue, slot, HARNESS_PATIENCE_MS))
        fail_msg("no answer to request %llu", (unsigned long long)h->slots[queue][slot].request.seq);
    const struct harness_slot *s = &h->slots[queue][slot];
    assert_int_equal(s->completion.status, RING_STATUS_OK);
    *len = s->completion.len;
    return h->front->ops->response_mem(h->front, queue) + s->request.resp_off;
}

void harness_release(struct harness *h, unsigned queue, unsigned slot)
{
    struct harness_slot *s = &h->slots[queue][slot];
    assert_true(s->answered);
    arena_free(h->requests[queue], s->request.req_off, s->request.req_len);
    arena_free(h->responses[queue], s->request.resp_off,
               channel_response_span(s->request.resp_cap, s->request.blob_cap));
    s->used = false;
}

uint32_t harness_request(struct harness *h, unsigned queue, const void *data, uint32_t len, void *resp,
                         uint32_t resp_cap)
{
    unsigned slot = harness_submit(h, queue, data, len, resp_cap);
    uint32_t got;
    const uint8_t *bytes = harness_answer(h, queue, slot, &got);
    if (got)
        memcpy(resp, bytes, got);
    harness_release(h, queue, slot);
    return got;
}

static bool reset_completed(struct harness *h, unsigned queue, unsigned slot)
{
    struct ring_completion c;
    int got;
    while ((got = h->front->ops->completion(h->front, queue, &c)) > 0) {
        if (c.slot == RING_SLOT_NONE) {
            assert_int_equal(c.seq, h->seq);
            return true;
        }
        assert_true(c.slot < h->front->geometry.queue[queue].slots);
        h->slots[queue][c.slot].completion = c;
        h->slots[queue][c.slot].answered = true;
    }
    assert_int_equal(got, 0);
    return false;
}

void harness_reset(struct harness *h)
{
    unsigned queue = 0;
    while (h->front->geometry.queue[queue].kind != CHANNEL_REQUESTS)
        queue++;
    struct ring_request r = {
        .seq = ++h->seq, .epoch = h->epoch, .generation = 1, .slot = RING_SLOT_NONE, .op = RING_OP_RESET};
    harness_submit_raw(h, queue, &r);
    if (!wait_until(h, reset_completed, queue, 0, HARNESS_PATIENCE_MS))
        fail_msg("reset not completed");
}

static bool event_ready(struct harness *h, unsigned queue, unsigned slot)
{
    struct ring_event e;
    int got = h->front->ops->event(h->front, queue, &e);
    assert_true(got >= 0);
    return got > 0;
}

int harness_event(struct harness *h, unsigned queue, void *data, uint32_t cap, int timeout_ms)
{
    if (!wait_until(h, event_ready, queue, 0, timeout_ms))
        return -1;
    struct ring_event e;
    assert_int_equal(h->front->ops->event(h->front, queue, &e), 1);
    assert_int_equal(channel_check_event(&h->front->geometry, &h->front->layout, queue, &e, h->epoch,
                                         h->events_seen[queue] + 1),
                     0);
    assert_true(e.len <= cap);
    h->events_seen[queue]++;
    memcpy(data, h->front->ops->response_mem(h->front, queue) + e.off, e.len);
    h->front->ops->event_done(h->front, queue);
    h->front->ops->kick(h->front);
    return (int)e.len;
}

int harness_command(struct harness *h, const char *verb, const struct harness_option *args, int fd,
                    char *text, size_t textlen)
{
    Cleave__KeyValue kv[16], *list[16];
    Cleave__DeviceCommand cmd = CLEAVE__DEVICE_COMMAND__INIT;
    cmd.tag = 42;
    cmd.verb = (char *)verb;
    cmd.args = list;
    for (; args && cmd.n_args < 16 && args[cmd.n_args].key; cmd.n_args++) {
        cleave__key_value__init(&kv[cmd.n_args]);
        kv[cmd.n_args].key = (char *)args[cmd.n_args].key;
        kv[cmd.n_args].value = (char *)args[cmd.n_args].value;
        list[cmd.n_args] = &kv[cmd.n_args];
    }
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DEVICE_COMMAND;
    body.device_command = &cmd;
    send_body(h, &body, &fd, fd >= 0);
    struct control_message m;
    if (!expect(h, CLEAVE__CONTROL__BODY_DEVICE_REPLY, &m))
        fail_msg("device failed: %s", h->failure);
    assert_int_equal(m.body->device_reply->tag, 42);
    int err = m.body->device_reply->err;
    if (text)
        snprintf(text, textlen, "%s", m.body->device_reply->text);
    control_release(&m);
    return err;
}

void harness_poll_control(struct harness *h, int timeout_ms)
{
    struct control_message m;
    int err = control_wait(h->control, timeout_ms, &m);
    while (!err) {
        if (!take_aside(h, &m))
            fail_msg("unexpected message %d", m.body->body_case);
        err = control_wait(h->control, 0, &m);
    }
    if (err == -EPIPE && !h->failure_err)
        fail_msg("device process ended by itself");
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static int reap(struct harness *h)
{
    int status;
    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    close(h->control);
    close_fd(h->out_fd);
    close_fd(h->in_fd);
    close_fd(h->device_doorbell);
    close_fd(h->vcpu_doorbell);
    for (unsigned i = 0; i < CHANNEL_MAX_QUEUES; i++) {
        free(h->slots[i]);
        arena_destroy(h->requests[i]);
        arena_destroy(h->responses[i]);
    }
    if (h->front)
        h->front->ops->close(h->front);
    control_release(&h->describe);
    return status;
}

void harness_stop(struct harness *h)
{
    Cleave__Stop stop = CLEAVE__STOP__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STOP;
    body.stop = &stop;
    send_body(h, &body, NULL, 0);
    expect_empty(h, CLEAVE__CONTROL__BODY_STOPPED);
    int status = reap(h);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

void harness_kill(struct harness *h)
{
    kill(h->pid, SIGKILL);
    int status = reap(h);
    assert_true(WIFSIGNALED(status));
}

void harness_abandon(struct harness *h)
{
    assert_int_equal(shutdown(h->control, SHUT_RDWR), 0);
    int status = reap(h);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

void harness_expect_failure(struct harness *h)
{
    struct control_message m;
    while (!h->failure_err) {
        int err = control_wait(h->control, HARNESS_PATIENCE_MS, &m);
        if (err)
            fail_msg("no failure reported: %s", strerror(-err));
        if (!take_aside(h, &m))
            fail_msg("unexpected message %d", m.body->body_case);
    }
    int status = reap(h);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

/* The number after `key` in a file of the device process's /proc directory. */
static unsigned long proc_value(const struct harness *h, const char *file, const char *key)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)h->pid, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    unsigned long value = 0;
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtoul(line + strlen(key), NULL, 10);
    fclose(f);
    return value;
}

unsigned harness_pss(const struct harness *h)
{
    return (unsigned)proc_value(h, "smaps_rollup", "Pss:");
}

void harness_check_pss(const struct harness *h, unsigned limit)
{
    /* A sanitizer's shadow is terabytes of address space. */
    if (proc_value(h, "status", "VmSize:") < 1ul << 30 && harness_pss(h) > limit)
        fail_msg("device process uses %u KiB, more than %u", harness_pss(h), limit);
}
