/* One poll loop without a thread. Nothing is read that could not be passed on: each direction holds at most
 * one buffer. */
#include "tools/supervisor/foreground.h"

#include "tools/supervisor/message.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* A write of at most this much does not block on a pipe that polls writable. */
#define OUTPUT_CHUNK 4096

static void pass_on(struct foreground *g, const uint8_t *data, size_t n)
{
    memcpy(g->in + g->in_len, data, n);
    g->in_len += n;
}

static bool take_keys(struct foreground *g, const uint8_t *keys, size_t n)
{
    while (n > 0) {
        uint8_t plain[sizeof(g->in)];
        size_t used, len;
        enum escape_event e = escape_feed(&g->escape, keys, n, &used, plain, &len);
        pass_on(g, plain, len);
        keys += used;
        n -= used;
        if (e == ESCAPE_HELP && !message_style.quiet)
            message_bytes(g->help, strlen(g->help));
        if (e == ESCAPE_QUIT && g->ops->quit(g, 0))
            return true;
    }
    return false;
}

static bool read_keys(struct foreground *g)
{
    uint8_t keys[sizeof(g->in) - 1];
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys) / 2);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        g->read_stdin = false; /* the end of input is not the end of the machine */
        return false;
    }
    g->in_at = g->in_len = 0;
    if (g->terminal)
        return take_keys(g, keys, (size_t)n);
    pass_on(g, keys, (size_t)n);
    return false;
}

static void write_keys(struct foreground *g)
{
    ssize_t n = send(g->stream, g->in + g->in_at, g->in_len - g->in_at, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    g->in_at = n < 0 ? g->in_len : g->in_at + (size_t)n;
}

static void close_stream(struct foreground *g)
{
    close(g->stream);
    g->stream = -1;
    if (!g->batch)
        return;
    batch_flush(g->batch, g->out, &g->out_len);
    g->out_at = 0;
}

static void read_stream(struct foreground *g)
{
    uint8_t raw[OUTPUT_CHUNK], log[OUTPUT_CHUNK + 64];
    size_t log_len;
    ssize_t n = recv(g->stream, raw, sizeof(raw), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        close_stream(g);
        return;
    }
    g->out_at = 0;
    if (!g->batch) {
        memcpy(g->out, raw, (size_t)n);
        g->out_len = (size_t)n;
        return;
    }
    batch_feed(g->batch, raw, (size_t)n, g->out, &g->out_len, log, &log_len);
    if (message_style.verbose && !message_style.json)
        message_bytes(log, log_len);
}

static bool write_output(struct foreground *g)
{
    size_t n = g->out_len - g->out_at;
    ssize_t done = write(STDOUT_FILENO, g->out + g->out_at, n < OUTPUT_CHUNK ? n : OUTPUT_CHUNK);
    if (done >= 0) {
        g->out_at += (size_t)done;
        return false;
    }
    if (errno == EAGAIN || errno == EINTR)
        return false;
    /* Nobody reads the console any more: the machine goes as a program would by SIGPIPE. */
    g->output_failed = true;
    g->out_at = g->out_len = 0;
    return g->ops->quit(g, SIGPIPE);
}

static bool hear(struct foreground *g)
{
    struct answer a;
    int got = client_receive(g->control, &a);
    if (got == -EAGAIN)
        return false;
    if (got <= 0) {
        g->control_gone = true;
        return true;
    }
    bool over = g->ops->answer(g, &a);
    client_release(&a);
    return over;
}

/* Job control: while stopped the terminal is the shell's, and again ours when continued in the foreground. */
static bool take_signal(struct foreground *g, int fd)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != sizeof(info))
        return false;
    switch (info.ssi_signo) {
    case SIGTSTP:
        if (g->terminal)
            terminal_restore();
        raise(SIGSTOP);
        return false;
    case SIGCONT:
        if (g->terminal)
            terminal_raw();
        return false;
    default:
        return g->ops->quit(g, (int)info.ssi_signo);
    }
}

enum { POLL_SIGNALS, POLL_CONTROL, POLL_STREAM, POLL_STDIN, POLL_STDOUT, POLLS };

static void watch(const struct foreground *g, int signals, struct pollfd *p)
{
    bool output = g->out_at < g->out_len, input = g->in_at < g->in_len;
    p[POLL_SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
    p[POLL_CONTROL] = (struct pollfd){.fd = g->control_gone || g->ending ? -1 : g->control, .events = POLLIN};
    p[POLL_STREAM] = (struct pollfd){.fd = output && !input ? -1 : g->stream,
                                     .events = (short)((output ? 0 : POLLIN) | (input ? POLLOUT : 0))};
    p[POLL_STDIN] = (struct pollfd){.fd = g->read_stdin && !input && g->stream >= 0 ? STDIN_FILENO : -1,
                                    .events = POLLIN};
    p[POLL_STDOUT] = (struct pollfd){.fd = output ? STDOUT_FILENO : -1, .events = POLLOUT};
}

/* One turn; true when it is over at once. */
static bool turn(struct foreground *g, int signals)
{
    struct pollfd p[POLLS];
    watch(g, signals, p);
    if (poll(p, POLLS, -1) < 0)
        return errno != EINTR;
    if (p[POLL_SIGNALS].revents && take_signal(g, signals))
        return true;
    if (p[POLL_STDOUT].revents && write_output(g))
        return true;
    if (p[POLL_STREAM].revents & POLLOUT)
        write_keys(g);
    if (p[POLL_STREAM].revents & (POLLIN | POLLHUP | POLLERR) && g->out_at == g->out_len)
        read_stream(g);
    if (p[POLL_STDIN].revents && read_keys(g))
        return true;
    if (p[POLL_CONTROL].revents && hear(g))
        g->ending = true;
    return false;
}

int foreground_run(struct foreground *g)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT};
    sigset_t set, old;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
        sigaddset(&set, caught[i]);
    sigprocmask(SIG_BLOCK, &set, &old);
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) {
        int err = -errno;
        sigprocmask(SIG_SETMASK, &old, NULL);
        return err;
    }
    if (g->terminal)
        terminal_raw();
    message_style.raw_terminal = g->terminal;
    bool over = false;
    while (!over && !(g->ending && g->stream < 0 && g->out_at == g->out_len))
        over = turn(g, signals);
    message_style.raw_terminal = false;
    if (g->terminal)
        terminal_restore();
    close(signals);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return 0;
}
