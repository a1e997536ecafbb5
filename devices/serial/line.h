/* A line: a byte stream in both directions on a descriptor (socket, pseudo-terminal, pipe, file) that is
 * never waited for. Knows neither requests nor what the bytes mean. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct line;

struct line_events {
    /* Bytes arrived; line_read() stays within the limit that it was given. */
    void (*input)(struct line *l, const uint8_t *data, size_t len);
    /* After line_write() said -EAGAIN: there is room again. */
    void (*writable)(struct line *l);
    /* End of file or an error: nothing more will be read. The line is still open for writing, or may be
     * closed here. */
    void (*ended)(struct line *l);
};

struct line {
    const struct line_events *events;
    void *owner;
    int fd;          /* -1: closed */
    uv_poll_t *poll; /* NULL for what cannot be polled, a regular file: always ready; on the heap, for its
                        closing outlives the line */
    bool reading, blocked, ended;
    int polled;
};

/* Takes over `fd` and makes it non-blocking. Negative errno, and fd stays the caller's. */
int line_open(struct line *l, uv_loop_t *loop, int fd, const struct line_events *events, void *owner);
void line_close(struct line *l);

/* Starts or stops reading. At most LINE_READ bytes arrive in one event. */
#define LINE_READ 4096u
void line_reading(struct line *l, bool on);

/* After ended(): a pseudo-terminal that was opened again. */
void line_resume(struct line *l);

/* Writes some of the bytes: their number, -EAGAIN (writable() follows), or another negative errno. */
ssize_t line_write(struct line *l, const uint8_t *data, size_t len);
