/* Clients, commands and the requests that wait for an answer. */
#include "tools/supervisor/server.h"

#include "tools/supervisor/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_MAX_CLIENTS  64
#define SERVER_MAX_REQUESTS 256
#define ANSWER_DEADLINE_MS  5000
#define OWNER_MAX_EVENTS    512

struct client {
    struct client *next;
    struct server *server;
    struct peer peer;
    bool owner;
};

enum request_kind { REQUEST_STATS, REQUEST_DEVICE, REQUEST_PAUSE, REQUEST_RESUME, REQUEST_END };

struct request {
    struct request *next;
    struct server *server;
    struct client *client;
    enum request_kind kind;
    uint64_t tag;
    int fd; /* goes with the answer, or -1 */
    uv_timer_t deadline;
};

static void reply_fd(struct client *c, int status, const char *json, const char *error, const char *hint,
                     int fd)
{
    char text[1000];
    Cleave__Reply reply = CLEAVE__REPLY__INIT;
    reply.status = status;
    reply.json = (char *)(json ? json : "");
    /* The hint travels after a line feed. */
    snprintf(text, sizeof(text), "%s%s%s", error ? error : "", hint && *hint ? "\n" : "", hint ? hint : "");
    reply.error = text;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_REPLY;
    body.reply = &reply;
    peer_send(&c->peer, &body, &fd, fd >= 0 ? 1 : 0);
}

static void reply(struct client *c, int status, const char *json, const char *error)
{
    reply_fd(c, status, json, error, NULL, -1);
}

static void reply_failure(struct client *c, const struct failure *f)
{
    reply_fd(c, f->status, NULL, f->text, f->hint, -1);
}

static void reply_json(struct client *c, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text)
        reply(c, STATUS_OK, text, NULL);
    else
        reply(c, STATUS_FAILED, NULL, strerror(ENOMEM));
    free(text);
    json_decref(json);
}

static void on_request_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* A reply that cannot be sent ends its client, and with it the client's requests: ending one twice is
 * harmless. */
static void end_request(struct request *r)
{
    if (uv_is_closing((uv_handle_t *)&r->deadline))
        return;
    for (struct request **p = &r->server->requests; *p; p = &(*p)->next) {
        if (*p == r) {
            *p = r->next;
            break;
        }
    }
    if (r->fd >= 0)
        close(r->fd);
    uv_close((uv_handle_t *)&r->deadline, on_request_closed);
}

static void on_request_overdue(uv_timer_t *t)
{
    struct request *r = t->data;
    reply(r->client, STATUS_TIMEOUT, NULL, "no answer within 5 s");
    end_request(r);
}

/* A request without a deadline waits for the machine's end, which has deadlines of its own. */
static struct request *add_request(struct client *c, enum request_kind kind, struct failure *f)
{
    struct server *s = c->server;
    unsigned n = 0;
    for (struct request *r = s->requests; r; r = r->next)
        n++;
    struct request *r = n < SERVER_MAX_REQUESTS ? calloc(1, sizeof(*r)) : NULL;
    if (!r) {
        failure_set(f, STATUS_FAILED, ENOMEM, "too many requests");
        return NULL;
    }
    *r = (struct request){
        .next = s->requests, .server = s, .client = c, .kind = kind, .tag = ++s->last_tag, .fd = -1};
    s->requests = r;
    uv_timer_init(s->loop, &r->deadline);
    r->deadline.data = r;
    if (kind != REQUEST_END)
        uv_timer_start(&r->deadline, on_request_overdue, ANSWER_DEADLINE_MS, 0);
    return r;
}

static struct request *find_request(struct server *s, enum request_kind kind, uint64_t tag)
{
    for (struct request *r = s->requests; r; r = r->next) {
        if (r->kind == kind && r->tag == tag)
            return r;
    }
    return NULL;
}

static int do_info(struct client *c, json_t *args, struct failure *f)
{
    reply_json(c, report_info(c->server->machine));
    return 0;
}

static int do_stats(struct client *c, json_t *args, struct failure *f)
{
    struct request *r = add_request(c, REQUEST_STATS, f);
    if (!r)
        return -ENOMEM;
    int err = machine_stats(c->server->machine, r->tag, f);
    if (err)
        end_request(r);
    return err;
}

static int do_blocks(struct client *c, json_t *args, struct failure *f)
{
    struct machine *m = c->server->machine;
    if (strcmp(m->config->engine, "jit") != 0)
        return failure_set(f, STATUS_WRONG_STATE, ENOTSUP,
                           "machine '%s' has no translated code: its engine is %s", m->config->name,
                           m->config->engine);
    int fd = memfd_create("cleave-blocks", MFD_CLOEXEC);
    if (fd < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot take the blocks: %s", strerror(errno));
    struct request *r = add_request(c, REQUEST_DEVICE, f);
    int err = r ? machine_dump_blocks(m, r->tag, fd, f) : -ENOMEM;
    if (!r) {
        close(fd);
        return err;
    }
    r->fd = fd;
    if (err)
        end_request(r);
    return err;
}

static int do_stop(struct client *c, json_t *args, struct failure *f)
{
    const char *why = "stop";
    json_unpack(args, "{s?s}", "why", &why);
    if (!c->owner && !add_request(c, REQUEST_END, f))
        return -ENOMEM;
    machine_stop(c->server->machine, why);
    return 0;
}

static int do_kill(struct client *c, json_t *args, struct failure *f)
{
    if (!c->owner && !add_request(c, REQUEST_END, f))
        return -ENOMEM;
    machine_kill(c->server->machine, "killed");
    return 0;
}

static int do_pause(struct client *c, json_t *args, struct failure *f)
{
    struct request *r = add_request(c, REQUEST_PAUSE, f);
    if (!r)
        return -ENOMEM;
    int err = machine_pause(c->server->machine, f);
    if (err)
        end_request(r);
    return err;
}

static int do_resume(struct client *c, json_t *args, struct failure *f)
{
    struct request *r = add_request(c, REQUEST_RESUME, f);
    if (!r)
        return -ENOMEM;
    int err = machine_resume(c->server->machine, f);
    if (err)
        end_request(r);
    return err;
}

static int no_device(struct machine *m, const char *kind, const char *id, struct failure *f)
{
    if (id)
        return failure_set(f, STATUS_FAILED, ENOENT, "machine '%s' has no %s device '%s'", m->config->name,
                           kind, id);
    return failure_set(f, STATUS_FAILED, ENOENT, "machine '%s' has no such %s device", m->config->name, kind);
}

static int do_console(struct client *c, json_t *args, struct failure *f)
{
    struct machine *m = c->server->machine;
    const char *id = NULL;
    json_unpack(args, "{s?s}", "device", &id);
    struct device *d = machine_device(m, "serial", NULL, id);
    if (!d)
        return no_device(m, "serial", id, f);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot attach: %s", strerror(errno));
    struct request *r = add_request(c, REQUEST_DEVICE, f);
    int err = r ? machine_command(m, d, r->tag, "attach", NULL, 0, ends[1], f) : -ENOMEM;
    close(ends[1]);
    if (r)
        r->fd = ends[0];
    else
        close(ends[0]);
    if (r && err)
        end_request(r);
    return err;
}

#define INPUT_MAX_ARGS 8

static int do_input(struct client *c, json_t *args, struct failure *f)
{
    struct machine *m = c->server->machine;
    const char *id = NULL, *type = NULL, *verb = NULL, *key;
    json_t *words = NULL, *value;
    if (json_unpack(args, "{s:s, s:s, s?s, s:o}", "verb", &verb, "type", &type, "device", &id, "args",
                    &words) < 0 ||
        json_object_size(words) > INPUT_MAX_ARGS)
        return failure_set(f, STATUS_USAGE, EINVAL, "input: malformed command");
    struct device *d = machine_device(m, "input", type, id);
    if (!d) {
        no_device(m, type, id, f);
        if (!id)
            failure_hint(f, "start the machine with --input %s", type);
        return -ENOENT;
    }
    Cleave__KeyValue pairs[INPUT_MAX_ARGS], *list[INPUT_MAX_ARGS];
    size_t n = 0;
    json_object_foreach(words, key, value)
    {
        if (!json_is_string(value))
            return failure_set(f, STATUS_USAGE, EINVAL, "input: malformed command");
        pairs[n] = (Cleave__KeyValue)CLEAVE__KEY_VALUE__INIT;
        pairs[n].key = (char *)key;
        pairs[n].value = (char *)json_string_value(value);
        list[n] = &pairs[n];
        n++;
    }
    struct request *r = add_request(c, REQUEST_DEVICE, f);
    if (!r)
        return -ENOMEM;
    int err = machine_command(m, d, r->tag, verb, list, n, -1, f);
    if (err)
        end_request(r);
    return err;
}

static const struct {
    const char *verb;
    int (*run)(struct client *c, json_t *args, struct failure *f);
} commands[] = {
    {"info", do_info},     {"stats", do_stats},     {"blocks", do_blocks},
    {"stop", do_stop},     {"kill", do_kill},       {"pause", do_pause},
    {"resume", do_resume}, {"console", do_console}, {"input", do_input},
};

static void on_message(struct peer *p, struct control_message *m)
{
    struct client *c = p->owner;
    struct failure f;
    if (m->body->body_case != CLEAVE__CONTROL__BODY_COMMAND) {
        reply(c, STATUS_FAILED, NULL, "not a command");
        return;
    }
    const Cleave__Command *command = m->body->command;
    json_t *args = json_loads(command->args[0] ? command->args : "{}", 0, NULL);
    if (!json_is_object(args)) {
        json_decref(args);
        reply(c, STATUS_USAGE, NULL, "malformed arguments");
        return;
    }
    int err = -ENOSYS;
    failure_set(&f, STATUS_USAGE, ENOSYS, "unknown command '%.100s'", command->verb);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].verb, command->verb) == 0)
            err = commands[i].run(c, args, &f);
    }
    json_decref(args);
    if (err)
        reply_failure(c, &f);
}

static void on_hung_up(struct peer *p, int err)
{
    struct client *c = p->owner;
    struct server *s = c->server;
    for (struct request *r = s->requests, *next; r; r = next) {
        next = r->next;
        if (r->client == c)
            end_request(r);
    }
    bool owner = c->owner;
    peer_close(&c->peer);
    if (owner)
        supervisor_owner_gone(s);
}

static void on_client_closed(struct peer *p)
{
    struct client *c = p->owner;
    for (struct client **q = &c->server->clients; *q; q = &(*q)->next) {
        if (*q == c) {
            *q = c->next;
            break;
        }
    }
    c->server->nclients--;
    free(c);
}

static const struct peer_ops client_ops = {on_message, on_hung_up, on_client_closed};

static int add_client(struct server *s, int fd, bool owner)
{
    struct client *c = s->nclients < SERVER_MAX_CLIENTS ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return -ENOMEM;
    c->server = s;
    c->owner = owner;
    int err = peer_open(&c->peer, s->loop, fd, &client_ops, c);
    if (err) {
        free(c);
        return err;
    }
    c->next = s->clients;
    s->clients = c;
    s->nclients++;
    return 0;
}

static bool same_user(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void on_connection(uv_poll_t *handle, int status, int events)
{
    struct server *s = handle->data;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && (!same_user(fd) || add_client(s, fd, false) < 0))
        close(fd);
}

int server_open(struct server *s, uv_loop_t *loop, struct machine *m, int listen_fd, int owner_fd)
{
    *s = (struct server){.loop = loop, .machine = m, .listen_fd = listen_fd};
    int err = uv_poll_init(loop, &s->listener, listen_fd);
    if (err)
        return err;
    s->listening = true;
    s->listener.data = s;
    uv_poll_start(&s->listener, UV_READABLE, on_connection);
    return add_client(s, owner_fd, true);
}

static void send_event(struct client *c, const json_t *event)
{
    char *text = json_dumps(event, JSON_COMPACT);
    Cleave__Reply r = CLEAVE__REPLY__INIT;
    r.json = text ? text : (char *)"{}";
    r.more = true;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_REPLY;
    body.reply = &r;
    peer_send(&c->peer, &body, NULL, 0);
    free(text);
}

/* An owner that does not read (a stopped terminal) loses events, and is told how many. */
static void observe_event(void *ctx, const json_t *event)
{
    struct server *s = ctx;
    for (struct client *c = s->clients; c; c = c->next) {
        if (!c->owner)
            continue;
        if (c->peer.queued >= OWNER_MAX_EVENTS) {
            s->lost++;
            continue;
        }
        if (s->lost) {
            json_t *lost = json_pack("{s:s, s:I}", "event", "lost", "count", (json_int_t)s->lost);
            s->lost = 0;
            send_event(c, lost);
            json_decref(lost);
        }
        send_event(c, event);
    }
}

static void observe_stats(void *ctx, uint64_t tag, const char *json)
{
    struct server *s = ctx;
    struct request *r = find_request(s, REQUEST_STATS, tag);
    if (!r)
        return;
    reply_json(r->client, report_stats(s->machine, json));
    end_request(r);
}

static void observe_device_reply(void *ctx, uint64_t tag, int err, const char *text)
{
    struct server *s = ctx;
    struct request *r = find_request(s, REQUEST_DEVICE, tag);
    if (!r)
        return;
    err = err < 0 ? -err : err;
    if (err)
        reply(r->client, STATUS_FAILED, NULL, *text ? text : strerror(err));
    else
        reply_fd(r->client, STATUS_OK, "{}", NULL, NULL, r->fd);
    end_request(r);
}

static void observe_changed(void *ctx)
{
    struct server *s = ctx;
    enum machine_state state = s->machine->state;
    for (struct request *r = s->requests, *next; r; r = next) {
        next = r->next;
        bool met = (r->kind == REQUEST_PAUSE && state == MACHINE_PAUSED) ||
                   (r->kind == REQUEST_RESUME && state == MACHINE_RUNNING);
        if (!met)
            continue;
        reply(r->client, STATUS_OK, "{}", NULL);
        end_request(r);
    }
}

const struct machine_observer server_observer = {observe_event, observe_stats, observe_device_reply,
                                                 observe_changed};

void server_finish(struct server *s)
{
    s->finished = true;
    for (struct request *r = s->requests, *next; r; r = next) {
        next = r->next;
        if (r->kind == REQUEST_END)
            reply(r->client, STATUS_OK, "{}", NULL);
        else
            reply(r->client, STATUS_WRONG_STATE, NULL, "the machine has stopped");
        end_request(r);
    }
    const struct failure *f = &s->machine->result.failure;
    json_t *result = report_result(s->machine);
    char *text = json_dumps(result, JSON_COMPACT);
    for (struct client *c = s->clients; c; c = c->next) {
        if (c->owner)
            reply_fd(c, s->machine->result.status, text, f->text, f->hint, -1);
    }
    free(text);
    json_decref(result);
}

bool server_is_drained(const struct server *s, bool owner_only)
{
    for (const struct client *c = s->clients; c; c = c->next) {
        if (c->peer.first && (c->owner || !owner_only))
            return false;
    }
    return true;
}
