/* Messages on stderr, data on stdout. One write per line, so that lines of concurrent processes do not mix.
 */
#include "tools/supervisor/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct message_style message_style;

static void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        p += done;
        n -= (size_t)done;
    }
}

static bool use_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && *no) && term && strcmp(term, "dumb") != 0 && isatty(STDERR_FILENO);
}

static void line(const char *colour, const char *prefix, const char *text)
{
    char buf[1200];
    bool paint = colour && use_colour();
    int n = snprintf(buf, sizeof(buf), "%s%s%s%s%s", paint ? colour : "", prefix, paint ? "\033[0m" : "",
                     text, message_style.raw_terminal ? "\r\n" : "\n");
    if (n > 0)
        write_all(STDERR_FILENO, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1);
}

void message_event(const json_t *event)
{
    if (!message_style.json)
        return;
    char *text = json_dumps(event, JSON_COMPACT);
    if (!text)
        return;
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the terminator: one write */
    write_all(STDERR_FILENO, text, n + 1);
    free(text);
}

void message_failure(const struct failure *f)
{
    if (!message_style.json) {
        line("\033[1;31m", "cleave: ", f->text);
        if (f->hint[0])
            line("\033[1m", "hint: ", f->hint);
        return;
    }
    json_t *e = json_pack("{s:s, s:s, s:i}", "event", "error", "error", f->text, "status", f->status);
    if (e && f->hint[0])
        json_object_set_new(e, "hint", json_string(f->hint));
    message_event(e);
    json_decref(e);
}

static void notice(const char *text)
{
    if (!message_style.json) {
        line(NULL, "cleave: ", text);
        return;
    }
    json_t *e = json_pack("{s:s, s:s}", "event", "notice", "text", text);
    message_event(e);
    json_decref(e);
}

void message_notice(const char *fmt, ...)
{
    if (message_style.quiet)
        return;
    char text[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    notice(text);
}

void message_detail(const char *fmt, ...)
{
    if (!message_style.verbose || message_style.quiet)
        return;
    char text[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    notice(text);
}

void message_result(const char *fmt, ...)
{
    if (message_style.json)
        return;
    char text[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    line(NULL, "", text);
}

void message_lines(const char *role, const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        message_notice("%s: %.*s", role, (int)n, text);
    }
}

void message_bytes(const void *data, size_t len)
{
    write_all(STDERR_FILENO, data, len);
}

int message_data(const json_t *data)
{
    char *text = json_dumps(data, JSON_COMPACT);
    if (!text)
        return -EIO;
    int err = puts(text) == EOF || fflush(stdout) == EOF ? -EIO : 0;
    free(text);
    return err;
}
