/* What a device process tells the supervisor about itself: failures, log lines, notices. Prints nothing. */
#include "devices/common/device_private.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_PER_SECOND 10
#define LOG_BURST      20

void device_send(struct device *d, const Cleave__Control *body)
{
    int err = control_send(d->control, body, NULL, 0);
    if (err == -EAGAIN) {
        struct pollfd p = {.fd = d->control, .events = POLLOUT};
        poll(&p, 1, 1000);
        control_send(d->control, body, NULL, 0);
    }
}

static void record(struct device *d, int err, const char *fmt, va_list ap)
{
    vsnprintf(d->failure, sizeof(d->failure), fmt, ap);
    d->failure_err = err;
}

int device_error(struct device *d, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(d, err, fmt, ap);
    va_end(ap);
    return -err;
}

void device_abort(struct device *d)
{
    Cleave__Failure failure = CLEAVE__FAILURE__INIT;
    failure.text = d->failure;
    failure.err = d->failure_err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FAILURE;
    body.failure = &failure;
    device_send(d, &body);
    _exit(1);
}

void device_fail(struct device *d, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(d, err, fmt, ap);
    va_end(ap);
    device_abort(d);
}

void device_stopped(struct device *d)
{
    Cleave__Stopped stopped = CLEAVE__STOPPED__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_STOPPED;
    body.stopped = &stopped;
    device_send(d, &body);
    _exit(0);
}

void device_notify(struct device *d, const char *text)
{
    Cleave__DeviceReply reply = CLEAVE__DEVICE_REPLY__INIT;
    reply.text = (char *)text;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DEVICE_REPLY;
    body.device_reply = &reply;
    device_send(d, &body);
}

/* Takes one token of the log's budget. */
static bool log_allowed(struct device *d)
{
    uint64_t now = uv_hrtime() / 1000000;
    uint64_t earned = (now - d->log_refilled_ms) * LOG_PER_SECOND / 1000;
    if (earned) {
        uint64_t tokens = d->log_tokens + earned;
        d->log_tokens = tokens < LOG_BURST ? (unsigned)tokens : LOG_BURST;
        d->log_refilled_ms = now;
    }
    if (!d->log_tokens)
        return false;
    d->log_tokens--;
    return true;
}

void device_log(struct device *d, const char *fmt, ...)
{
    if (!log_allowed(d)) {
        d->log_suppressed++;
        return;
    }
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (d->log_suppressed && n >= 0 && (size_t)n < sizeof(text)) {
        snprintf(text + n, sizeof(text) - (size_t)n, " (%u messages left out)", d->log_suppressed);
        d->log_suppressed = 0;
    }

    /* A full socket loses the line: the log must not hold up the device. */
    Cleave__Log line = CLEAVE__LOG__INIT;
    line.text = text;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LOG;
    body.log = &line;
    control_send(d->control, &body, NULL, 0);
}
