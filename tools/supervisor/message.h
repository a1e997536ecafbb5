/* What the command says to its user, on stderr: plain lines, or with --json one JSON object a line. Data goes
 * to stdout and is the caller's. Knows no verb. */
#pragma once

#include "tools/supervisor/failure.h"

#include <jansson.h>
#include <stdbool.h>

struct message_style {
    bool json, quiet, verbose;
    bool raw_terminal; /* the terminal is in raw mode: lines end with CR LF */
};

extern struct message_style message_style;

/* "cleave: TEXT", and "hint: …" after it. Not silenced by --quiet. */
void message_failure(const struct failure *f);

/* A notice, silenced by --quiet; `detail` ones are shown with --verbose only. With --json: {"event":
 * "notice", "text": …}. */
void message_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void message_detail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A result line that --quiet keeps ("hash 1000 9f…"). */
void message_result(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Lines of a process's log, as notices. */
void message_lines(const char *role, const char *text);

/* With --json writes `event` as a line; the reference stays the caller's. */
void message_event(const json_t *event);

/* Bytes as they are, for the boot log of a guest. */
void message_bytes(const void *data, size_t len);

/* Prints `data` on stdout as one JSON line. Returns 0 or -EIO. */
int message_data(const json_t *data);
