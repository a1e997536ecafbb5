/* A child process of the supervisor: its process descriptor, control socket, stderr, and its place in the
 * life-cycle table. Knows neither machine nor device kinds. */
#pragma once

#include "tools/supervisor/lifecycle.h"
#include "tools/supervisor/peer.h"
#include "tools/supervisor/spawn.h"

#include <stdbool.h>
#include <uv.h>

struct child;

struct child_ops {
    /* The table says so; the state has changed already. */
    void (*act)(struct child *c, enum child_action action);
    /* A message from the process, which the owner turns into an event with child_event(), or serves. */
    void (*message)(struct child *c, struct control_message *m);
    /* A line that it wrote to stderr. */
    void (*said)(struct child *c, const char *line);
};

struct child {
    const struct child_ops *ops;
    void *owner;
    enum child_kind kind;
    char role[64]; /* "vcpu", "block.vda" */
    enum child_state state;
    pid_t pid; /* 0 when absent */
    int pidfd;
    bool connected; /* the control socket is open */
    struct peer peer;
    uv_poll_t death, errors;
    uv_timer_t deadline;
    int errors_fd;
    unsigned handles; /* open handles of this incarnation */
    char cause[300];  /* why it was killed or ended; empty while it lives well */
    int err;          /* errno of the failure it reported */
    bool asked;       /* the cause is a Failure of its own */
    bool clean;       /* it ended with status 0 */
    char line[256];   /* of stderr, so far */
    size_t line_len;
    char last_line[256];
};

void child_init(struct child *c, enum child_kind kind, const char *role, const struct child_ops *ops,
                void *owner);

/* Starts the process. Negative errno when there is none. */
int child_start(struct child *c, uv_loop_t *loop, const char *program);

/* Feeds an event to the table and performs its action. */
void child_event(struct child *c, enum child_event event);

/* Notes why the process is going to end; the first cause counts. */
void child_cause(struct child *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void child_send(struct child *c, const Cleave__Control *body, const int *fds, unsigned nfds);

/* True when nothing of it is left on the loop. */
bool child_is_gone(const struct child *c);
