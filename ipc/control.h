/* Sending and receiving control messages: one protobuf-c message per datagram of a SOCK_SEQPACKET socket,
 * file descriptors by SCM_RIGHTS. Knows no process's state machine. */
#pragma once

#include "ipc/control.pb-c.h"

#define CONTROL_MAJOR     1
#define CONTROL_MINOR     1
#define CONTROL_MAX_BYTES 65536
#define CONTROL_MAX_FDS   16

/* A child's control socket is its fd 3. */
#define CONTROL_CHILD_FD 3

/* A received message with its descriptors; release with control_release(), which closes the descriptors still
 * >= 0. */
struct control_message {
    Cleave__Control *body;
    int fds[CONTROL_MAX_FDS];
    unsigned nfds;
};

/* Sends without blocking. 0, -EAGAIN when the socket is full, -EMSGSIZE, -EPIPE when the peer is gone. The
 * fds stay the caller's. */
int control_send(int socket, const Cleave__Control *body, const int *fds, unsigned nfds);

/* Receives one message without blocking. 1, 0 at end of file (an empty datagram counts as one), -EAGAIN,
 * -EPROTO for a message that is truncated, unparsable, without a body, or carries more descriptors than
 * allowed (those are closed). */
int control_recv(int socket, struct control_message *m);
void control_release(struct control_message *m);

/* Waits up to `timeout_ms` (for ever if negative) for one message. 0, -ETIMEDOUT, -EPROTO, -EPIPE at end of
 * file. */
int control_wait(int socket, int timeout_ms, struct control_message *m);

/* Waits up to `timeout_ms` for one message whose body case is `want`; for the fixed steps of a handshake in a
 * child process. -ETIMEDOUT, -EPROTO for another message, -EPIPE at end of file. */
int control_expect(int socket, Cleave__Control__BodyCase want, int timeout_ms, struct control_message *m);

/* Waits up to `timeout_ms` for one message of any kind. -ETIMEDOUT, -EPROTO, -EPIPE at end of file. */
int control_wait(int socket, int timeout_ms, struct control_message *m);

/* The descriptor named `name` in a list of names that came with the message: taken out of it, or -1. */
int control_take_fd(struct control_message *m, char *const *names, size_t n, const char *name);

/* Value of `key` in a list, or NULL; of its index-th occurrence, counted from 0. */
const char *control_value(Cleave__KeyValue *const *list, size_t n, const char *key);
const char *control_value_at(Cleave__KeyValue *const *list, size_t n, const char *key, unsigned index);
