/* The server's loop. Must not look into bodies, nor know what comes of them. */
#include "replay-broker/serve.h"

#include "ipc/feed.h"
#include "replay-broker/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MAX_FILES 64
#define FOLLOW_MS 100 /* between looks at a log that is being written */

struct server {
    int control, feed, log_fd;
    bool follow, run;
    struct log_reader *log, *earlier; /* `earlier` finds bodies of earlier records */
    struct {
        uint32_t id;
        int fd;
    } file[MAX_FILES];
    unsigned nfiles;
    uint8_t *buffer;
    size_t size;
    struct feed_window *window;
    uint64_t icount; /* of the last record */
    bool over;       /* the window with the end was sent */
};

static int tell(int control, int err, const char *text)
{
    Cleave__Failure failure = CLEAVE__FAILURE__INIT;
    failure.text = (char *)text;
    failure.err = -err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FAILURE;
    body.failure = &failure;
    control_send(control, &body, NULL, 0);
    return err;
}

static int send_ready(int control)
{
    Cleave__Ready ready = CLEAVE__READY__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_READY;
    body.ready = &ready;
    return control_send(control, &body, NULL, 0);
}

static void take(int *slot, int fd)
{
    if (*slot >= 0)
        close(*slot);
    *slot = fd;
}

static int configure(struct server *s, struct control_message *msg)
{
    const Cleave__Configure *c = msg->body->configure;
    const char *follow = control_value(c->options, c->n_options, "follow");
    s->follow |= follow && !strcmp(follow, "on");
    if (c->n_fds != msg->nfds)
        return -EPROTO;
    for (unsigned i = 0; i < msg->nfds; i++) {
        unsigned long id;
        if (!strcmp(c->fds[i], "log")) {
            take(&s->log_fd, msg->fds[i]);
        } else if (!strcmp(c->fds[i], "feed")) {
            take(&s->feed, msg->fds[i]);
        } else if (sscanf(c->fds[i], "file:%lu", &id) == 1 && s->nfiles < MAX_FILES) {
            s->file[s->nfiles].id = (uint32_t)id;
            s->file[s->nfiles++].fd = msg->fds[i];
        } else {
            return -EPROTO;
        }
        msg->fds[i] = -1;
    }
    return 0;
}

static const char *name_of(const struct server *s, uint64_t id)
{
    const Cleave__LogHeader *h = log_reader_header(s->log);
    for (size_t i = 0; i < h->n_files; i++)
        if (h->files[i]->id == id)
            return h->files[i]->name;
    return "a file that the header does not list";
}

static int failed(struct feed_end *end, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int failed(struct feed_end *end, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(end->reason, sizeof end->reason, fmt, ap);
    va_end(ap);
    end->ending = FEED_BAD;
    end->error = -err;
    return err;
}

static int failed_log(struct feed_end *end, const struct log_error *e)
{
    char text[FEED_MAX_REASON];
    return failed(end, e->err, "%s", log_error_text(e, text, sizeof text));
}

static int from_file(struct server *s, struct journal_entry *e, struct feed_end *end)
{
    int fd = -1;
    for (unsigned i = 0; i < s->nfiles; i++)
        if (s->file[i].id == e->file)
            fd = s->file[i].fd;
    if (fd < 0)
        return failed(end, -ENOENT, "image missing: %s", name_of(s, e->file));
    if (e->c.len > LOG_MAX_BLOCK)
        return failed(end, -EBADMSG, "record %llu has too long a body", (unsigned long long)e->number);
    if (e->c.len > s->size) {
        uint8_t *p = realloc(s->buffer, e->c.len);
        if (!p)
            return failed(end, -ENOMEM, "%s", strerror(ENOMEM));
        s->buffer = p;
        s->size = e->c.len;
    }
    uint32_t len = e->c.len - e->tail;
    ssize_t n = pread(fd, s->buffer, len, (off_t)e->offset);
    if (e->tail)
        memcpy(s->buffer + len, e->body, e->tail);
    if (n != (ssize_t)len || XXH3_64bits(s->buffer, e->c.len) != e->c.digest)
        return failed(end, -EBADMSG, "image changed: %s: other bytes at offset %llu", name_of(s, e->file),
                      (unsigned long long)e->offset);
    e->body = s->buffer;
    e->tail = 0;
    return 0;
}

static int from_earlier(struct server *s, struct journal_entry *e, struct feed_end *end)
{
    struct log_error error;
    struct journal_entry was;
    if (!s->earlier && log_reader_open(&s->earlier, s->log_fd, &error) < 0)
        return failed_log(end, &error);
    int got = e->file < e->number ? log_reader_seek_record(s->earlier, e->file) : -EBADMSG;
    got = got ? got : log_reader_next(s->earlier, &was);
    if (got <= 0 || was.number != e->file || was.form != JOURNAL_INLINE || was.c.len != e->c.len ||
        was.c.digest != e->c.digest)
        return failed(end, -EBADMSG, "record %llu refers to record %llu, which does not have its body",
                      (unsigned long long)e->number, (unsigned long long)e->file);
    e->body = was.body;
    return 0;
}

/* Puts the body where the entry refers to, checked. */
static int resolve(struct server *s, struct journal_entry *e, struct feed_end *end)
{
    int err = 0;
    if (e->type == JOURNAL_STATE_HASH)
        e->form = JOURNAL_DIGEST;
    if (e->form == JOURNAL_FILE)
        err = from_file(s, e, end);
    else if (e->form == JOURNAL_SAME)
        err = from_earlier(s, e, end);
    if (!err && e->form != JOURNAL_DIGEST)
        e->form = JOURNAL_INLINE;
    return err;
}

/* True while a process writes the log: it keeps a lock on it. */
static bool being_written(const struct server *s)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(s->log_fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static void ending(struct server *s, struct feed_end *end)
{
    const Cleave__LogEnd *e = log_reader_end(s->log);
    enum log_ending how = log_reader_ending(s->log);
    end->ending = how == LOG_ENDED ? FEED_ENDED : how == LOG_TORN ? FEED_TORN : FEED_OPEN;
    end->icount = s->icount;
    if (e) {
        end->error = e->error;
        end->icount = e->icount;
        snprintf(end->reason, sizeof end->reason, "%s", e->reason);
    }
}

/* Waits while a followed log has nothing new. False when the replay is over. */
static bool wait_for_more(const struct server *s)
{
    struct pollfd p[] = {{.fd = s->control, .events = POLLIN}, {.fd = s->feed}};
    poll(p, 2, FOLLOW_MS);
    return !(p[0].revents & (POLLHUP | POLLERR)) && !(p[1].revents & (POLLHUP | POLLERR));
}

/* The next window, or the last one, whose end says why. */
static void fill(struct server *s, struct feed_end *end)
{
    struct journal_entry e;
    int got = 0, err = 0;
    while (!err && !feed_window_full(s->window)) {
        bool writing = s->follow && being_written(s); /* before the look that finds nothing */
        got = log_reader_next(s->log, &e);
        if (got > 0) {
            s->icount = e.c.icount;
            err = resolve(s, &e, end);
            if (!err && (err = feed_window_add(s->window, &e)) < 0)
                failed(end, err, "record %llu: %s", (unsigned long long)e.number, strerror(-err));
            continue;
        }
        if (got < 0) {
            failed_log(end, log_reader_error(s->log));
        } else if (!writing || log_reader_ending(s->log) == LOG_ENDED) {
            ending(s, end);
        } else if (feed_window_entries(s->window) || wait_for_more(s)) {
            if (!feed_window_entries(s->window))
                continue;
        } else {
            ending(s, end);
        }
        break;
    }
    if (end->ending == FEED_BAD)
        end->icount = s->icount;
}

static int send_window(struct server *s)
{
    struct feed_end end = {0};
    fill(s, &end);
    int fd = feed_window_seal(s->window, &end);
    if (fd < 0)
        return fd;
    Cleave__FeedWindow window = CLEAVE__FEED_WINDOW__INIT;
    window.last = end.ending != FEED_GOES_ON;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FEED_WINDOW;
    body.feed_window = &window;
    int err = control_send(s->feed, &body, &fd, 1);
    s->over = window.last;
    close(fd);
    return err;
}

static int begin(struct server *s)
{
    struct log_error error;
    char text[400], place[300];
    if (s->log_fd < 0 || s->feed < 0)
        return tell(s->control, -EPROTO, "no log to serve");
    if (log_reader_open(&s->log, s->log_fd, &error) < 0) {
        snprintf(text, sizeof text, "cannot read the log: %s", log_error_text(&error, place, sizeof place));
        return tell(s->control, error.err, text);
    }
    if (feed_window_create(&s->window) < 0)
        return tell(s->control, -ENOMEM, "cannot serve the log: no memory");
    return send_ready(s->control);
}

/* Answers one request; the end of either socket ends the loop with -EPIPE. */
static int step(struct server *s)
{
    struct pollfd p[] = {{.fd = s->control, .events = POLLIN}, {.fd = s->feed, .events = POLLIN}};
    struct control_message msg;
    if (poll(p, 2, -1) < 0)
        return errno == EINTR ? 0 : -errno;
    if (p[0].revents) {
        int got = control_recv(s->control, &msg);
        if (got == -EAGAIN)
            return 0;
        bool stop = got > 0 && msg.body->body_case != CLEAVE__CONTROL__BODY_RUN;
        if (got > 0)
            control_release(&msg);
        return got <= 0 || stop ? -EPIPE : 0;
    }
    int got = control_recv(s->feed, &msg);
    if (got <= 0)
        return got == -EAGAIN ? 0 : -EPIPE;
    bool asked = msg.body->body_case == CLEAVE__CONTROL__BODY_FEED_REQUEST;
    control_release(&msg);
    return asked && !s->over ? send_window(s) : -EPROTO;
}

static void finish(struct server *s)
{
    feed_window_destroy(s->window);
    log_reader_close(s->earlier);
    log_reader_close(s->log);
    free(s->buffer);
    for (unsigned i = 0; i < s->nfiles; i++)
        close(s->file[i].fd);
    if (s->feed >= 0)
        close(s->feed);
    if (s->log_fd >= 0)
        close(s->log_fd);
}

int serve(int control, struct control_message *first)
{
    struct server s = {.control = control, .feed = -1, .log_fd = -1};
    int err = configure(&s, first);
    control_release(first);
    while (!err && !s.run) {
        struct control_message msg;
        err = control_wait(control, -1, &msg);
        if (err)
            break;
        s.run = msg.body->body_case == CLEAVE__CONTROL__BODY_RUN;
        if (!s.run)
            err = msg.body->body_case == CLEAVE__CONTROL__BODY_CONFIGURE ? configure(&s, &msg) : -EPROTO;
        control_release(&msg);
    }
    if (!err)
        err = begin(&s);
    while (!err)
        err = step(&s);
    finish(&s);
    return err == -EPIPE ? 0 : err;
}
