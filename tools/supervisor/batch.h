/* The guest's side of a batch run as seen on its console: what comes between two marker lines is the script's
 * output. The protocol is in tools/guest/README.md. Pure: bytes in, bytes out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BATCH_BEGIN                                                                                          \
    "\x1e"                                                                                                   \
    "cleave-batch-begin\x1e\n"
#define BATCH_END                                                                                            \
    "\x1e"                                                                                                   \
    "cleave-batch-end "

#define BATCH_BOOT_LOG 4096

enum batch_phase { BATCH_BOOTING, BATCH_OUTPUT, BATCH_OVER };

struct batch {
    enum batch_phase phase;
    int status; /* of the end marker, -1 before */
    size_t held;
    char hold[64]; /* what may become a marker */
    size_t boot_len;
    char boot[BATCH_BOOT_LOG]; /* the last of what came before the begin marker */
};

void batch_init(struct batch *b);

/* Passes console bytes through; what belongs to stdout goes to `out` (room for n + sizeof(hold) bytes), what
 * precedes the script to `log` (the same room). */
void batch_feed(struct batch *b, const uint8_t *in, size_t n, uint8_t *out, size_t *out_len, uint8_t *log,
                size_t *log_len);

/* Ends the stream: what is held goes where it belongs. */
void batch_flush(struct batch *b, uint8_t *out, size_t *out_len);
