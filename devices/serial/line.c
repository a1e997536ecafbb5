/* Lines. See line.h. */
#include "devices/serial/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void on_ready(uv_poll_t *poll, int status, int events);

static void update(struct line *l)
{
    int want = (l->reading && !l->ended ? UV_READABLE : 0) | (l->blocked ? UV_WRITABLE : 0);

    if (!l->poll || want == l->polled)
        return;
    l->polled = want;
    if (want)
        uv_poll_start(l->poll, want, on_ready);
    else
        uv_poll_stop(l->poll);
}

static void read_line(struct line *l)
{
    uint8_t data[LINE_READ];
    ssize_t n = read(l->fd, data, sizeof data);

    if (n > 0) {
        l->events->input(l, data, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        l->ended = true;
        l->events->ended(l);
    }
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct line *l = poll->data;

    if (status < 0)
        l->polled = 0; /* libuv has stopped polling */
    if (l->blocked && (status < 0 || events & UV_WRITABLE)) {
        l->blocked = false;
        l->events->writable(l);
    }
    if (l->fd >= 0 && l->poll == poll && l->reading && (status < 0 || events & UV_READABLE))
        read_line(l);
    if (l->poll == poll)
        update(l);
}

int line_open(struct line *l, uv_loop_t *loop, int fd, const struct line_events *events, void *owner)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    uv_poll_t *poll = malloc(sizeof *poll);
    int err = poll ? uv_poll_init(loop, poll, fd) : -ENOMEM;
    if (err < 0) {
        free(poll);
        poll = NULL;
    }
    if (err < 0 && err != -EPERM)
        return err;
    *l = (struct line){.events = events, .owner = owner, .fd = fd, .poll = poll};
    if (poll)
        poll->data = l;
    return 0;
}

static void free_handle(uv_handle_t *h)
{
    free(h);
}

void line_close(struct line *l)
{
    if (l->poll) {
        uv_poll_stop(l->poll);
        uv_close((uv_handle_t *)l->poll, free_handle);
    }
    if (l->fd >= 0)
        close(l->fd);
    l->poll = NULL;
    l->fd = -1;
    l->reading = l->blocked = false;
    l->polled = 0;
}

void line_reading(struct line *l, bool on)
{
    l->reading = on;
    update(l);
}

void line_resume(struct line *l)
{
    l->ended = false;
    update(l);
}

ssize_t line_write(struct line *l, const uint8_t *data, size_t len)
{
    ssize_t n;

    do
        n = write(l->fd, data, len);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    if (errno != EAGAIN)
        return -errno;
    l->blocked = true;
    update(l);
    return -EAGAIN;
}
