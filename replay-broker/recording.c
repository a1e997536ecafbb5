/* The recorder's event loop. Sleeps while nothing comes, and lets entries gather for a block's time
 * otherwise. Outlives its supervisor only to write down what the journal still holds. */
#include "replay-broker/recording.h"

#include "ipc/sandbox.h"
#include "replay-broker/recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define BUSY_MS    5u /* until the next look after one that moved BUSY_BYTES */
#define BUSY_BYTES (1u << 20)
#define RETRY_MS   1000u /* while the disk is full and the machine waits for it */
#define ORPHAN_MS  50u   /* the vcpu ends with the supervisor, but perhaps after it */

struct recording {
    int control, log_fd, header_fd, entries_fd, tail_fd, bell_fd, urgent_fd;
    bool require;
    struct journal_consumer *journal;
    struct log_writer *log;
    struct repeats *repeats;
    struct recorder recorder;
    uv_loop_t loop;
    uv_poll_t control_poll, bell, urgent;
    uv_timer_t timer, farewell;
    bool ended;    /* the log has its end, or can have none */
    bool waits;    /* the disk is full */
    bool orphaned; /* the supervisor is gone */
};

static void tell(struct recording *r, const Cleave__Control *body)
{
    /* The supervisor always reads; a message that it cannot take any more is lost with it. */
    control_send(r->control, body, NULL, 0);
}

static int failed(struct recording *r, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int failed(struct recording *r, int err, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    Cleave__Failure failure = CLEAVE__FAILURE__INIT;
    failure.text = text;
    failure.err = -err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FAILURE;
    body.failure = &failure;
    tell(r, &body);
    return err;
}

static void tell_ready(struct recording *r)
{
    Cleave__Ready ready = CLEAVE__READY__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_READY;
    body.ready = &ready;
    tell(r, &body);
}

static void tell_ended(struct recording *r, const char *reason, int err)
{
    Cleave__RecordingEnded ended = CLEAVE__RECORDING_ENDED__INIT;
    ended.reason = (char *)reason;
    ended.err = err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RECORDING_ENDED;
    body.recording_ended = &ended;
    tell(r, &body);
}

static void tell_waits(struct recording *r, const char *reason)
{
    r->waits = *reason != '\0';
    Cleave__RecordingWaits waits = CLEAVE__RECORDING_WAITS__INIT;
    waits.reason = (char *)reason;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RECORDING_WAITS;
    body.recording_waits = &waits;
    tell(r, &body);
}

static void tell_stats(struct recording *r, uint64_t tag)
{
    char json[200];
    struct log_status s = log_writer_status(r->log);
    snprintf(json, sizeof(json),
             "{\"records\":%" PRIu64 ",\"blocks\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"icount\":%" PRIu64 "}",
             s.records, s.blocks, s.bytes, s.icount);
    Cleave__StatsReply reply = CLEAVE__STATS_REPLY__INIT;
    reply.tag = tag;
    reply.json = json;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STATS_REPLY;
    body.stats_reply = &reply;
    tell(r, &body);
}

static void end_log(struct recording *r, const char *reason, int err, uint64_t icount)
{
    if (r->ended)
        return;
    r->ended = true;
    uv_poll_stop(&r->bell);
    uv_poll_stop(&r->urgent);
    uv_timer_stop(&r->timer);
    log_writer_end(r->log, reason, err, icount);
}

static const char *reason_of(int err)
{
    return err == -EFBIG      ? "size limit reached"
           : err == -EPROTO   ? "the journal is damaged"
           : err == -EBADMSG  ? "the journal is damaged"
           : err == -EMSGSIZE ? "a message is too large for a block"
                              : strerror(-err);
}

/* Moves what there is into the file. False if the log ended by that, or the disk is full and waited for. */
static bool work(struct recording *r)
{
    int err = recorder_step(&r->recorder);
    if (!err)
        err = recorder_flush(&r->recorder);
    if (!err && r->waits)
        tell_waits(r, "");
    if (!err)
        return true;
    if (r->require && (err == -ENOSPC || err == -EDQUOT) && !r->orphaned) {
        if (!r->waits)
            tell_waits(r, reason_of(err));
        return false;
    }
    end_log(r, reason_of(err), -err, log_writer_status(r->log).icount);
    tell_ended(r, reason_of(err), -err);
    return false;
}

static void on_bell(uv_poll_t *handle, int status, int events);

static void silence(int eventfd)
{
    uint64_t rings;
    ssize_t n = read(eventfd, &rings, sizeof(rings));
    (void)n;
}

static void on_time(uv_timer_t *timer)
{
    struct recording *r = timer->data;
    uint64_t before = journal_position(r->journal);
    silence(r->bell_fd);
    if (work(r) && journal_position(r->journal) - before < BUSY_BYTES)
        uv_poll_start(&r->bell, UV_READABLE, on_bell);
    else if (!r->ended)
        uv_timer_start(&r->timer, on_time, r->waits ? RETRY_MS : BUSY_MS, 0);
}

static void on_bell(uv_poll_t *handle, int status, int events)
{
    struct recording *r = handle->data;
    uv_poll_stop(&r->bell);
    uv_timer_start(&r->timer, on_time, LOG_BLOCK_MS, 0);
}

static void on_urgent(uv_poll_t *handle, int status, int events)
{
    struct recording *r = handle->data;
    silence(r->urgent_fd);
    if (!r->waits)
        work(r);
}

/* What the journal holds goes into the log before its end. `icount`: the machine's position, or 0 if nobody
 * knows it. */
static void drain(struct recording *r, const char *reason, int err, uint64_t icount)
{
    if (r->ended)
        return;
    int failure = recorder_step(&r->recorder);
    if (!failure)
        failure = recorder_flush(&r->recorder);
    if (!failure && !icount)
        icount = log_writer_status(r->log).icount;
    end_log(r, failure ? reason_of(failure) : reason, failure ? -failure : err,
            failure ? log_writer_status(r->log).icount : icount);
}

static void on_orphaned(uv_timer_t *timer)
{
    struct recording *r = timer->data;
    drain(r, "the supervisor died", ECHILD, 0);
    uv_stop(&r->loop);
}

static void orphan(struct recording *r)
{
    r->orphaned = true;
    uv_poll_stop(&r->control_poll);
    if (r->ended)
        uv_stop(&r->loop);
    else
        uv_timer_start(&r->farewell, on_orphaned, ORPHAN_MS, 0);
}

static void stop(struct recording *r)
{
    drain(r, "stop", 0, 0);
    Cleave__Stopped stopped = CLEAVE__STOPPED__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STOPPED;
    body.stopped = &stopped;
    tell(r, &body);
    uv_stop(&r->loop);
}

static void serve_control(struct recording *r, const Cleave__Control *body)
{
    const Cleave__EndRecording *e = body->end_recording;
    switch (body->body_case) {
    case CLEAVE__CONTROL__BODY_RUN:
        break;
    case CLEAVE__CONTROL__BODY_STATS_REQUEST:
        tell_stats(r, body->stats_request->tag);
        break;
    case CLEAVE__CONTROL__BODY_END_RECORDING:
        drain(r, e->reason, e->err, e->icount);
        break;
    case CLEAVE__CONTROL__BODY_STOP:
        stop(r);
        break;
    default:
        failed(r, -EPROTO, "unexpected message to the broker");
        uv_stop(&r->loop);
    }
}

static void on_control(uv_poll_t *handle, int status, int events)
{
    struct recording *r = handle->data;
    struct control_message msg;
    int got = control_recv(r->control, &msg);
    if (got == -EAGAIN)
        return;
    if (got <= 0) {
        orphan(r);
        return;
    }
    serve_control(r, msg.body);
    control_release(&msg);
}

static int read_header(int fd, Cleave__LogHeader **header)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0 || st.st_size > LOG_MAX_BLOCK)
        return -EPROTO;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    *header = cleave__log_header__unpack(NULL, (size_t)st.st_size, map);
    munmap(map, (size_t)st.st_size);
    return *header ? 0 : -EPROTO;
}

/* The files that the header says are in the log. */
static int write_files(struct recording *r, struct control_message *msg, const Cleave__LogHeader *header)
{
    const Cleave__Record *m = msg->body->record;
    int err = 0;
    for (size_t i = 0; !err && i < header->n_files; i++) {
        char name[24];
        if (!header->files[i]->stored)
            continue;
        snprintf(name, sizeof(name), "file:%u", header->files[i]->id);
        int fd = control_take_fd(msg, m->fds, m->n_fds, name);
        err = fd < 0 ? -EPROTO : log_writer_file(r->log, header->files[i]->id, fd, header->files[i]->size);
        if (fd >= 0)
            close(fd);
    }
    return err;
}

static int create_log(struct recording *r, struct control_message *msg, const struct log_options *o)
{
    Cleave__LogHeader *header = NULL;
    int err = read_header(r->header_fd, &header);
    if (err)
        return failed(r, err, "cannot read the header of the trace: %s", strerror(-err));
    err = log_writer_create(&r->log, r->log_fd, o, header);
    if (!err)
        err = write_files(r, msg, header);
    cleave__log_header__free_unpacked(header, NULL);
    return err ? failed(r, err, "cannot begin the trace: %s", reason_of(err)) : 0;
}

static int reopen_log(struct recording *r, const struct log_options *o)
{
    struct log_error error;
    char place[300];
    int err = log_writer_reopen(&r->log, r->log_fd, o, &error);
    return err ? failed(r, err, "cannot continue the trace: %s", log_error_text(&error, place, sizeof(place)))
               : 0;
}

static int begin(struct recording *r, struct control_message *msg)
{
    const Cleave__Record *m = msg->body->record;
    const struct {
        const char *name;
        int *fd;
    } all[] = {{"log", &r->log_fd},   {"header", &r->header_fd}, {"entries", &r->entries_fd},
               {"tail", &r->tail_fd}, {"bell", &r->bell_fd},     {"urgent", &r->urgent_fd}};
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        *all[i].fd = control_take_fd(msg, m->fds, m->n_fds, all[i].name);
        if (*all[i].fd < 0 && !(m->resume && all[i].fd == &r->header_fd))
            return failed(r, -EPROTO, "no descriptor '%s' for the broker", all[i].name);
    }
    r->require = m->require;
    struct log_options options = {.max_bytes = m->max_bytes};
    int err = m->resume ? reopen_log(r, &options) : create_log(r, msg, &options);
    if (err)
        return err;
    err = journal_attach(&r->journal, r->entries_fd, r->tail_fd, log_writer_status(r->log).records);
    if (err)
        return failed(r, err, "cannot read the journal: %s", strerror(-err));
    r->repeats = repeats_create(); /* without it the trace is only larger */
    recorder_init(&r->recorder, r->journal, r->log, r->repeats);
    return 0;
}

static int watch(struct recording *r)
{
    int err = uv_loop_init(&r->loop);
    if (!err)
        err = uv_poll_init(&r->loop, &r->control_poll, r->control);
    if (!err)
        err = uv_poll_init(&r->loop, &r->bell, r->bell_fd);
    if (!err)
        err = uv_poll_init(&r->loop, &r->urgent, r->urgent_fd);
    if (!err)
        err = uv_timer_init(&r->loop, &r->timer);
    if (!err)
        err = uv_timer_init(&r->loop, &r->farewell);
    if (err)
        return failed(r, err, "cannot watch the journal: %s", uv_strerror(err));
    r->control_poll.data = r->bell.data = r->urgent.data = r->timer.data = r->farewell.data = r;
    uv_poll_start(&r->control_poll, UV_READABLE, on_control);
    uv_poll_start(&r->urgent, UV_READABLE, on_urgent);
    /* What a predecessor left behind was announced to it. */
    uv_timer_start(&r->timer, on_time, 0, 0);
    return 0;
}

static int confine(struct recording *r, const char *wanted)
{
    int err = strcmp(wanted, "off") ? sandbox_enter(SANDBOX_FILES) : 0;
    if (err && !strcmp(wanted, "require"))
        return failed(r, err, "cannot enter a sandbox: %s", strerror(-err));
    return 0;
}

static void release(struct recording *r)
{
    log_writer_destroy(r->log);
    repeats_destroy(r->repeats);
    journal_detach(r->journal);
    const int fds[] = {r->log_fd, r->header_fd, r->entries_fd, r->tail_fd, r->bell_fd, r->urgent_fd};
    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int recording(int control, struct control_message *record)
{
    static struct recording r;
    r = (struct recording){.control = control,
                           .log_fd = -1,
                           .header_fd = -1,
                           .entries_fd = -1,
                           .tail_fd = -1,
                           .bell_fd = -1,
                           .urgent_fd = -1};
    prctl(PR_SET_PDEATHSIG, 0);
    int err = begin(&r, record);
    if (!err)
        err = watch(&r);
    if (!err)
        err = confine(&r, record->body->record->sandbox);
    control_release(record);
    if (!err) {
        tell_ready(&r);
        uv_run(&r.loop, UV_RUN_DEFAULT);
    }
    release(&r);
    return err;
}
