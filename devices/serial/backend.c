/* The back-ends of a serial port: a connected socket, a pseudo-terminal, a listening unix socket, a file,
 * nothing. They know no queue and no request. */
#include "devices/serial/serial.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

enum { HANGUP_CHECK_MS = 200 };

/* One line to one peer, as all back-ends have it at most. */
struct wire {
    struct serial *serial;
    struct line line; /* fd -1: no peer */
    bool input;
    /* unix */
    int listener;
    uv_poll_t listen_poll;
    /* pty */
    bool hung_up;
    uv_timer_t hangup_check;
    /* file */
    bool failing;
};

static void wire_input(struct line *l, const uint8_t *data, size_t len)
{
    struct wire *w = l->owner;

    serial_input(w->serial, data, len);
}

static void wire_writable(struct line *l)
{
    struct wire *w = l->owner;

    serial_writable(w->serial);
}

static void wire_reading(struct serial *s, bool on)
{
    struct wire *w = serial_backend_data(s);

    if (w->line.fd >= 0)
        line_reading(&w->line, on && w->input);
}

/* Takes the descriptor `name` for the line. */
static int wire_open(struct serial *s, const char *name, const struct line_events *events)
{
    struct wire *w = serial_backend_data(s);
    struct device *d = serial_device(s);
    int fd = device_take_fd(d, name);

    w->serial = s;
    w->input = !device_option(d, "noinput");
    w->line.fd = -1;
    int err = fd < 0 ? -EBADF : line_open(&w->line, device_loop(d), fd, events, w);
    if (err < 0) {
        w->line.fd = -1;
        return device_error(d, -err, "cannot use the %s of serial port '%s': %s", name, device_id(d),
                            strerror(-err));
    }
    return 0;
}

/* stream: a connected socket, whose end of file only ends the input */

static void stream_ended(struct line *l) {}

static const struct line_events stream_events = {wire_input, wire_writable, stream_ended};

static int stream_open(struct serial *s)
{
    return wire_open(s, "stream", &stream_events);
}

static ssize_t stream_write(struct serial *s, const uint8_t *data, size_t len)
{
    struct wire *w = serial_backend_data(s);

    if (w->line.fd < 0)
        return (ssize_t)len;
    ssize_t n = line_write(&w->line, data, len);
    if (n >= 0 || n == -EAGAIN)
        return n;
    line_close(&w->line);
    return (ssize_t)len;
}

const struct serial_backend serial_stream = {
    .name = "stream",
    .size = sizeof(struct wire),
    .open = stream_open,
    .write = stream_write,
    .reading = wire_reading,
};

/* pty: the master of a pseudo-terminal; while nobody has the slave open, output goes nowhere */

static bool slave_is_open(const struct wire *w)
{
    struct pollfd p = {.fd = w->line.fd, .events = POLLIN};

    return poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
}

static void pty_check(uv_timer_t *timer)
{
    struct wire *w = timer->data;

    if (!slave_is_open(w))
        return;
    w->hung_up = false;
    uv_timer_stop(timer);
    line_resume(&w->line);
    line_reading(&w->line, serial_wants_input(w->serial));
}

static void pty_ended(struct line *l)
{
    struct wire *w = l->owner;

    w->hung_up = true;
    uv_timer_start(&w->hangup_check, pty_check, HANGUP_CHECK_MS, HANGUP_CHECK_MS);
    serial_writable(w->serial);
}

static const struct line_events pty_events = {wire_input, wire_writable, pty_ended};

static int pty_open(struct serial *s)
{
    struct wire *w = serial_backend_data(s);
    struct device *d = serial_device(s);
    struct termios raw;
    int err = wire_open(s, "pty", &pty_events);

    if (err < 0)
        return err;
    /* A master reports a hang-up only after the slave was open once. */
    int slave = ioctl(w->line.fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || tcgetattr(slave, &raw) < 0)
        return device_error(d, errno, "cannot use the pty of serial port '%s': %s", device_id(d),
                            strerror(errno));
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    close(slave);
    uv_timer_init(device_loop(d), &w->hangup_check);
    w->hangup_check.data = w;
    return 0;
}

static ssize_t pty_write(struct serial *s, const uint8_t *data, size_t len)
{
    struct wire *w = serial_backend_data(s);

    if (w->hung_up || !slave_is_open(w))
        return (ssize_t)len;
    ssize_t n = line_write(&w->line, data, len);
    return n >= 0 || n == -EAGAIN ? n : (ssize_t)len;
}

const struct serial_backend serial_pty = {
    .name = "pty",
    .sandbox = SANDBOX_TERMINAL,
    .size = sizeof(struct wire),
    .open = pty_open,
    .write = pty_write,
    .reading = wire_reading,
};

/* unix: one client at a time; without one, output goes nowhere */

static void on_listener(uv_poll_t *poll, int status, int events);

static void drop_client(struct wire *w)
{
    line_close(&w->line);
    uv_poll_start(&w->listen_poll, UV_READABLE, on_listener);
}

static void client_ended(struct line *l)
{
    struct wire *w = l->owner;

    drop_client(w);
    serial_writable(w->serial);
}

static const struct line_events client_events = {wire_input, wire_writable, client_ended};

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct wire *w = poll->data;
    int fd = accept4(w->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (line_open(&w->line, device_loop(serial_device(w->serial)), fd, &client_events, w) < 0) {
        w->line.fd = -1;
        close(fd);
        return;
    }
    uv_poll_stop(poll);
    line_reading(&w->line, serial_wants_input(w->serial));
}

static int unix_open(struct serial *s)
{
    struct wire *w = serial_backend_data(s);
    struct device *d = serial_device(s);

    w->serial = s;
    w->input = true;
    w->line.fd = -1;
    w->listener = device_take_fd(d, "listen");
    int err = w->listener < 0 ? -EBADF : uv_poll_init(device_loop(d), &w->listen_poll, w->listener);
    if (err < 0)
        return device_error(d, -err, "cannot use the socket of serial port '%s': %s", device_id(d),
                            strerror(-err));
    w->listen_poll.data = w;
    return 0;
}

static void unix_start(struct serial *s)
{
    struct wire *w = serial_backend_data(s);

    uv_poll_start(&w->listen_poll, UV_READABLE, on_listener);
}

static ssize_t unix_write(struct serial *s, const uint8_t *data, size_t len)
{
    struct wire *w = serial_backend_data(s);

    if (w->line.fd < 0)
        return (ssize_t)len;
    ssize_t n = line_write(&w->line, data, len);
    if (n >= 0 || n == -EAGAIN)
        return n;
    drop_client(w);
    return (ssize_t)len;
}

const struct serial_backend serial_unix = {
    .name = "unix",
    .sandbox = SANDBOX_ACCEPT,
    .size = sizeof(struct wire),
    .open = unix_open,
    .start = unix_start,
    .write = unix_write,
    .reading = wire_reading,
};

/* file: output is appended; what a full disk does not take is lost, and said once */

static const struct line_events file_events = {wire_input, wire_writable, stream_ended};

static int file_open(struct serial *s)
{
    return wire_open(s, "file", &file_events);
}

static ssize_t file_write(struct serial *s, const uint8_t *data, size_t len)
{
    struct wire *w = serial_backend_data(s);
    struct device *d = serial_device(s);
    const char *path = device_option(d, "path");
    ssize_t n = line_write(&w->line, data, len);

    if (n >= 0)
        w->failing = false;
    if (n >= 0 || n == -EAGAIN)
        return n;
    if (!w->failing)
        device_log(d, "serial port '%s' loses output: %s: %s", device_id(d), path ? path : "file",
                   strerror((int)-n));
    w->failing = true;
    return (ssize_t)len;
}

const struct serial_backend serial_file = {
    .name = "file",
    .closed = true,
    .size = sizeof(struct wire),
    .open = file_open,
    .write = file_write,
};

/* null */

static int null_open(struct serial *s)
{
    return 0;
}

static ssize_t null_write(struct serial *s, const uint8_t *data, size_t len)
{
    return (ssize_t)len;
}

const struct serial_backend serial_null = {
    .name = "null",
    .closed = true,
    .open = null_open,
    .write = null_write,
};
