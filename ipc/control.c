/* Control messages over SOCK_SEQPACKET. Knows no state machine: the order of messages is the caller's affair.
 */
#include "ipc/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

union descriptor_space {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(CONTROL_MAX_FDS * sizeof(int))];
};

static void attach_fds(struct msghdr *msg, union descriptor_space *space, const int *fds, unsigned nfds)
{
    memset(space, 0, sizeof(*space));
    msg->msg_control = space->bytes;
    msg->msg_controllen = CMSG_SPACE(nfds * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
    memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
}

int control_send(int socket, const Cleave__Control *body, const int *fds, unsigned nfds)
{
    uint8_t bytes[CONTROL_MAX_BYTES];
    union descriptor_space space;
    size_t len = cleave__control__get_packed_size(body);
    if (len > sizeof(bytes) || nfds > CONTROL_MAX_FDS)
        return -EMSGSIZE;
    cleave__control__pack(body, bytes);

    struct iovec iov = {bytes, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds)
        attach_fds(&msg, &space, fds, nfds);
    ssize_t n;
    do
        n = sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    if (errno == EWOULDBLOCK || errno == ENOBUFS)
        return -EAGAIN;
    return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

static void close_fds(struct control_message *m)
{
    for (unsigned i = 0; i < m->nfds; i++)
        if (m->fds[i] >= 0)
            close(m->fds[i]);
    m->nfds = 0;
}

/* The kernel has closed what did not fit and set MSG_CTRUNC; the rest is ours, whatever becomes of the
 * message. */
static void take_fds(struct msghdr *msg, struct control_message *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n && m->nfds < CONTROL_MAX_FDS; i++)
            memcpy(&m->fds[m->nfds++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
}

int control_recv(int socket, struct control_message *m)
{
    uint8_t bytes[CONTROL_MAX_BYTES];
    union descriptor_space space;
    struct iovec iov = {bytes, sizeof(bytes)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = space.bytes,
        .msg_controllen = sizeof(space.bytes),
    };
    ssize_t n;
    /* A peer that went with messages of ours unread leaves a reset, told once, before the messages that it
     * sent. */
    do
        n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;

    struct control_message got = {0};
    take_fds(&msg, &got);
    if (n == 0) {
        close_fds(&got);
        return 0;
    }
    if (!(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        got.body = cleave__control__unpack(NULL, (size_t)n, bytes);
    if (!got.body || got.body->body_case == CLEAVE__CONTROL__BODY__NOT_SET) {
        control_release(&got);
        return -EPROTO;
    }
    *m = got;
    return 1;
}

void control_release(struct control_message *m)
{
    close_fds(m);
    if (m->body)
        cleave__control__free_unpacked(m->body, NULL);
    m->body = NULL;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the socket is readable: 0, -ETIMEDOUT. A negative deadline waits for ever. */
static int wait_readable(int socket, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline < 0 ? -1 : deadline - now_ms();
        if (deadline >= 0 && left < 0)
            left = 0;
        struct pollfd p = {.fd = socket, .events = POLLIN};
        int n = poll(&p, 1, (int)left);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

int control_wait(int socket, int timeout_ms, struct control_message *m)
{
    int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
    for (;;) {
        int got = control_recv(socket, m);
        if (got == 0)
            return -EPIPE;
        if (got != -EAGAIN)
            return got < 0 ? got : 0;
        int err = wait_readable(socket, deadline);
        if (err)
            return err;
    }
}

int control_expect(int socket, Cleave__Control__BodyCase want, int timeout_ms, struct control_message *m)
{
    struct control_message got;
    int err = control_wait(socket, timeout_ms, &got);
    if (err)
        return err;
    if (got.body->body_case != want) {
        control_release(&got);
        return -EPROTO;
    }
    *m = got;
    return 0;
}

int control_take_fd(struct control_message *m, char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n && i < m->nfds; i++) {
        if (m->fds[i] < 0 || strcmp(names[i], name) != 0)
            continue;
        int fd = m->fds[i];
        m->fds[i] = -1;
        return fd;
    }
    return -1;
}

const char *control_value(Cleave__KeyValue *const *list, size_t n, const char *key)
{
    return control_value_at(list, n, key, 0);
}

const char *control_value_at(Cleave__KeyValue *const *list, size_t n, const char *key, unsigned index)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i]->key, key) == 0 && index-- == 0)
            return list[i]->value;
    return NULL;
}
