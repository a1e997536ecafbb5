/* The queue exists for descriptors' sake: a message that does not fit into the socket is packed and its
 * descriptors duplicated. */
#include "tools/supervisor/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* More unsent messages than this: the other end does not read. */
#define PEER_MAX_QUEUED 1024

struct peer_message {
    struct peer_message *next;
    int fds[CONTROL_MAX_FDS];
    unsigned nfds;
    size_t len;
    uint8_t packed[];
};

static void free_message(struct peer_message *m)
{
    for (unsigned i = 0; i < m->nfds; i++)
        close(m->fds[i]);
    free(m);
}

static void drop_queue(struct peer *p)
{
    while (p->first) {
        struct peer_message *m = p->first;
        p->first = m->next;
        free_message(m);
    }
    p->last = &p->first;
    p->queued = 0;
}

static void finish(struct peer *p, int err)
{
    if (p->done)
        return;
    p->done = true;
    uv_poll_stop(&p->poll);
    drop_queue(p);
    p->ops->hung_up(p, err);
}

/* Sends the queue's head. 1 when it went, 0 when the socket is full, negative errno. */
static int send_first(struct peer *p)
{
    struct peer_message *m = p->first;
    Cleave__Control *body = cleave__control__unpack(NULL, m->len, m->packed);
    if (!body)
        return -ENOMEM;
    int err = control_send(p->fd, body, m->fds, m->nfds);
    cleave__control__free_unpacked(body, NULL);
    if (err == -EAGAIN)
        return 0;
    if (err)
        return err;
    p->first = m->next;
    if (!p->first)
        p->last = &p->first;
    p->queued--;
    free_message(m);
    return 1;
}

static int flush(struct peer *p)
{
    while (p->first) {
        int sent = send_first(p);
        if (sent <= 0)
            return sent;
    }
    return 0;
}

static void watch(struct peer *p);

static void on_ready(uv_poll_t *handle, int status, int events)
{
    struct peer *p = handle->data;
    if (events & UV_WRITABLE) {
        int err = flush(p);
        if (err < 0 && err != -EPIPE) {
            finish(p, err);
            return;
        }
    }
    /* A bounded number of messages per turn keeps one peer from holding up the others. */
    for (unsigned i = 0; i < 64 && !p->done; i++) {
        struct control_message m;
        int got = control_recv(p->fd, &m);
        if (got == -EAGAIN)
            break;
        if (got <= 0) {
            finish(p, got);
            return;
        }
        p->ops->message(p, &m);
        control_release(&m);
    }
    if (!p->done)
        watch(p);
}

static void watch(struct peer *p)
{
    uv_poll_start(&p->poll, UV_READABLE | (p->first ? UV_WRITABLE : 0), on_ready);
}

int peer_open(struct peer *p, uv_loop_t *loop, int fd, const struct peer_ops *ops, void *owner)
{
    *p = (struct peer){.ops = ops, .owner = owner, .fd = fd};
    p->last = &p->first;
    int err = uv_poll_init(loop, &p->poll, fd);
    if (err)
        return err;
    p->open = true;
    p->poll.data = p;
    watch(p);
    return 0;
}

static int enqueue(struct peer *p, const Cleave__Control *body, const int *fds, unsigned nfds)
{
    if (p->queued == PEER_MAX_QUEUED)
        return -ENOBUFS;
    size_t len = cleave__control__get_packed_size(body);
    struct peer_message *m = malloc(sizeof(*m) + len);
    if (!m)
        return -ENOMEM;
    *m = (struct peer_message){.len = len};
    cleave__control__pack(body, m->packed);
    while (m->nfds < nfds) {
        int fd = fcntl(fds[m->nfds], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            int err = -errno;
            free_message(m);
            return err;
        }
        m->fds[m->nfds++] = fd;
    }
    *p->last = m;
    p->last = &m->next;
    p->queued++;
    return 0;
}

void peer_send(struct peer *p, const Cleave__Control *body, const int *fds, unsigned nfds)
{
    if (p->done || !p->open)
        return;
    int err = p->first ? -EAGAIN : control_send(p->fd, body, fds, nfds);
    if (err == -EAGAIN) {
        err = enqueue(p, body, fds, nfds);
        if (!err)
            watch(p);
    }
    /* A peer that is gone is seen by the next read, after what it had to say. */
    if (err && err != -EPIPE)
        finish(p, err);
}

static void on_closed(uv_handle_t *handle)
{
    struct peer *p = handle->data;
    close(p->fd);
    p->open = false;
    if (p->ops->closed)
        p->ops->closed(p);
}

void peer_close(struct peer *p)
{
    if (!p->open || uv_is_closing((uv_handle_t *)&p->poll))
        return;
    if (!p->done)
        flush(p);
    p->done = true;
    drop_queue(p);
    uv_close((uv_handle_t *)&p->poll, on_closed);
}
