/* The user's terminal: raw mode, and the escape keys Ctrl-A x, Ctrl-A ? and Ctrl-A Ctrl-A. Knows no machine.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Remembers the modes of the terminal on stdin, for terminal_restore() in this process and in those forked
 * from it. False when stdin is no terminal. */
bool terminal_save(void);

/* Puts it into raw mode if this process is in its foreground. */
void terminal_raw(void);

/* Back to the saved modes; a no-op without any. Safe in a process without a controlling terminal. */
void terminal_restore(void);

enum escape_event { ESCAPE_NONE, ESCAPE_QUIT, ESCAPE_HELP };

struct escape {
    bool armed; /* Ctrl-A was the last byte */
};

/* Copies input to `out` (room for n + 1 bytes) up to the first escape event; *used tells how much of `in`
 * that took. Ctrl-A followed by any other key sends both. */
enum escape_event escape_feed(struct escape *e, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
                              size_t *out_len);
