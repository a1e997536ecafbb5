/* One end of a control socket on the supervisor's event loop: messages in by callback, messages out without
 * ever waiting. Knows no message. */
#pragma once

#include "ipc/control.h"

#include <stdbool.h>
#include <uv.h>

struct peer;

struct peer_ops {
    /* A message arrived; descriptors may be taken out of it. */
    void (*message)(struct peer *p, struct control_message *m);
    /* The other end is gone (err 0), broke the protocol (-EPROTO) or does not read (-ENOBUFS). Called once;
     * no message follows. */
    void (*hung_up)(struct peer *p, int err);
    /* The handle is closed: the memory may go. */
    void (*closed)(struct peer *p);
};

struct peer_message;

struct peer {
    const struct peer_ops *ops;
    void *owner; /* the user's */
    int fd;
    bool open, done; /* handle initialised; hung_up() was called */
    uv_poll_t poll;
    struct peer_message *first, **last; /* messages that the socket did not take yet */
    unsigned queued;
};

/* Takes over the non-blocking socket `fd`. On failure the socket stays the caller's. */
int peer_open(struct peer *p, uv_loop_t *loop, int fd, const struct peer_ops *ops, void *owner);

/* Sends now or as soon as the socket takes it; descriptors are duplicated as needed. Errors end in hung_up(),
 * later. */
void peer_send(struct peer *p, const Cleave__Control *body, const int *fds, unsigned nfds);

/* Sends what can be sent at once, drops the rest and closes; closed() follows. */
void peer_close(struct peer *p);
