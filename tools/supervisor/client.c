/* Asking a machine. */
#include "tools/supervisor/client.h"

#include "ipc/control.h"
#include "tools/supervisor/runtime.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int client_send(int fd, const char *verb, json_t *args)
{
    char *text = args ? json_dumps(args, JSON_COMPACT) : NULL;
    json_decref(args);
    Cleave__Command command = CLEAVE__COMMAND__INIT;
    command.verb = (char *)verb;
    command.args = text ? text : (char *)"{}";
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_COMMAND;
    body.command = &command;
    int err = control_send(fd, &body, NULL, 0);
    free(text);
    return err;
}

int client_receive(int fd, struct answer *a)
{
    struct control_message m;
    int got = control_recv(fd, &m);
    if (got <= 0)
        return got;
    if (m.body->body_case != CLEAVE__CONTROL__BODY_REPLY) {
        control_release(&m);
        return -EPROTO;
    }
    const Cleave__Reply *r = m.body->reply;
    *a = (struct answer){.status = r->status, .fd = -1, .more = r->more};
    a->json = r->json[0] ? json_loads(r->json, 0, NULL) : NULL;
    const char *hint = strchr(r->error, '\n');
    if (r->error[0])
        a->error = strndup(r->error, hint ? (size_t)(hint - r->error) : strlen(r->error));
    if (hint)
        a->hint = strdup(hint + 1);
    if (m.nfds > 0) {
        a->fd = m.fds[0];
        m.fds[0] = -1;
    }
    control_release(&m);
    return 1;
}

void client_release(struct answer *a)
{
    json_decref(a->json);
    free(a->error);
    free(a->hint);
    if (a->fd >= 0)
        close(a->fd);
    *a = (struct answer){.fd = -1};
}

static int await(int fd, const char *machine, int timeout_ms, struct answer *a, struct failure *f)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, timeout_ms);
    if (n == 0)
        return failure_set(f, STATUS_TIMEOUT, ETIMEDOUT, "machine '%s' does not answer within %d s", machine,
                           timeout_ms / 1000);
    if (n < 0)
        return failure_set(f, STATUS_FAILED, errno, "cannot wait for machine '%s': %s", machine,
                           strerror(errno));
    int got = client_receive(fd, a);
    if (got == 1)
        return 0;
    if (got == 0)
        return failure_set(f, STATUS_NO_MACHINE, EPIPE, "machine '%s' has ended", machine);
    return failure_set(f, STATUS_FAILED, -got, "machine '%s': %s", machine, strerror(-got));
}

int client_ask(const char *machine, const char *verb, json_t *args, int timeout_ms, struct answer *a,
               struct failure *f)
{
    int fd;
    int err = runtime_connect(machine, &fd, f);
    if (err) {
        json_decref(args);
        return err;
    }
    err = client_send(fd, verb, args);
    if (err)
        err = failure_set(f, STATUS_FAILED, -err, "cannot ask machine '%s': %s", machine, strerror(-err));
    else
        err = await(fd, machine, timeout_ms, a, f);
    close(fd);
    if (err || a->status == STATUS_OK)
        return err;
    failure_set(f, a->status, EIO, "%s", a->error ? a->error : "failed");
    if (a->hint)
        failure_hint(f, "%s", a->hint);
    client_release(a);
    return -EIO;
}
