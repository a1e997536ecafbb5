/* The foreground of `cleave run` and `cleave console`: pumps bytes between the terminal and a stream of the
 * machine, serves the escape keys and signals, and hears the machine's messages. Knows neither verb. */
#pragma once

#include "tools/supervisor/batch.h"
#include "tools/supervisor/client.h"
#include "tools/supervisor/terminal.h"

#include <signal.h>
#include <stdbool.h>

struct foreground;

struct foreground_ops {
    /* A message of the machine. True ends the pump once the stream is drained. */
    bool (*answer)(struct foreground *g, struct answer *a);
    /* Ctrl-A x, or a signal to end. True ends the pump at once. */
    bool (*quit)(struct foreground *g, int signal); /* 0 for the key */
};

struct foreground {
    const struct foreground_ops *ops;
    void *owner;
    int stream;  /* bytes of the console, or -1 */
    int control; /* messages, or -1 */
    bool read_stdin;
    bool terminal;       /* stdin is a terminal in raw mode with escape keys */
    struct batch *batch; /* filters the output, or NULL */
    const char *help;    /* shown on Ctrl-A ? */
    /* private */
    bool ending, output_failed, control_gone;
    struct escape escape;
    size_t in_len, in_at, out_len, out_at;
    uint8_t in[4097], out[8192 + 64];
};

/* Runs until it is over. Negative errno when it cannot start. */
int foreground_run(struct foreground *g);
