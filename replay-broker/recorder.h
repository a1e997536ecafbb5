/* From the journal to the log: what the broker does, and the supervisor when the broker is gone. Knows no
 * process and no time: its owner calls recorder_step() when entries may have come, and recorder_flush() at
 * least every LOG_BLOCK_MS while the log has something pending. */
#pragma once

#include "replay-broker/log.h"
#include "replay-broker/repeats.h"

struct recorder {
    struct journal_consumer *journal; /* attached after the log's last record */
    struct log_writer *log;
    struct repeats *repeats;   /* NULL: bodies that come again are kept again */
    struct journal_entry held; /* taken from the journal, not yet by the log */
    bool holding;
    uint64_t before;   /* position of `held` in the journal */
    uint64_t released; /* number of the last record whose space was given back */
};

/* All belong to the caller. */
void recorder_init(struct recorder *r, struct journal_consumer *journal, struct log_writer *log,
                   struct repeats *repeats);

/* Moves all entries there are to the log, and gives back the journal's space behind blocks that closed. 0, or
 * an error of journal_next() or log_writer_append(); nothing is lost, and the call can be repeated. */
int recorder_step(struct recorder *r);

/* Closes the block and gives back the space of all that the log has taken. 0 or an error of
 * log_writer_flush(). */
int recorder_flush(struct recorder *r);
