/* Scripts of input: one event a line, `TIME COMMAND ARGS`, at virtual times that never go back; `#` begins a
 * comment line. The groups of a line (a key goes down, a key goes up, a pointer moves) follow each other at
 * one millisecond. */
#pragma once

#include "devices/input/events.h"

#include <stdint.h>

/* The events of a script with their times in ns. Zeroed: empty; free with script_free(). */
struct script {
    struct events events;
    uint64_t *ns; /* one for each event */
    unsigned timed;
};

void script_free(struct script *s);

/* Reads a whole script for a kind of device. Negative errno with the reason in `text`, line number included.
 */
int script_read(struct script *s, int fd, enum events_kind kind, char *text, size_t textlen);
