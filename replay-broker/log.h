/* The log of a recording: writer and reader. docs/LOG-FORMAT.md is the format. Knows no process, no clock and
 * no path: whoever records decides when a block closes, and opens the files.
 *
 * What is written is journal entries, numbered without gaps from 1. Descriptors stay the caller's, and stay
 * open as long as the writer or reader that was given them. */
#pragma once

#include "ipc/journal.h"
#include "replay-broker/log.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_MAJOR 1u
#define LOG_MINOR 1u

#define LOG_BLOCK_BYTES (128u << 10) /* of records: a block closes before it would hold more */
#define LOG_BLOCK_MS    100u         /* the writer's owner closes a block at least this often */
#define LOG_MAX_BLOCK   (64u << 20)  /* the records of a block; so one record and its body, and the header */
#define LOG_MAX_REASON  512u         /* bytes of LogEnd.reason; longer ones are cut */
#define LOG_END_RESERVE 4096u        /* kept free for the end block */
#define LOG_MIN_LIMIT   65536u       /* of log_options.max_bytes */

struct log_writer;
struct log_reader;

/* What is wrong with a log, and where. */
struct log_error {
    int err;         /* negative errno */
    uint64_t block;  /* its number, counted from 0 */
    uint64_t offset; /* in the file, of the block */
    const char *why; /* static text */
};

/* Writes "block 3 at offset 4711: ..." and returns buf. */
const char *log_error_text(const struct log_error *e, char *buf, size_t size);

struct log_options {
    uint64_t max_bytes; /* of the file; 0: no limit but the file system's and the process's (RLIMIT_FSIZE) */
    bool sync;          /* fdatasync() after every block */
    int level;          /* of compression: 0 while recording, 1 to 12 for LZ4's slow compressor */
};

/* What the file holds: everything up to here survives the death of any process. */
struct log_status {
    uint64_t records; /* number of the last record */
    uint64_t seq;     /* of the last crossing */
    uint64_t icount;  /* of the last record */
    uint64_t blocks;
    uint64_t bytes;
    uint64_t cut; /* bytes behind the last good block that log_writer_reopen() removed */
};

/* Begins a log in an empty file; when it returns, the header is on stable storage. -EEXIST if the file is not
 * empty, -EINVAL for a limit below LOG_MIN_LIMIT, -EMSGSIZE for too large a header, or the file's error. */
int log_writer_create(struct log_writer **w, int fd, const struct log_options *o,
                      const Cleave__LogHeader *header);

/* Continues a log whose writer died: cuts it at the last good block. log_writer_status() tells the last
 * record. -EALREADY if the log ended properly; -EBADMSG and the like, with *error filled in, if not even its
 * header is good. */
int log_writer_reopen(struct log_writer **w, int fd, const struct log_options *o, struct log_error *error);

/* Puts the first `size` bytes of a file into the log, for the header's file `id`, which says `stored`; before
 * any record. -EINVAL after one, -ENODATA if the file is shorter, or an error as of log_writer_flush(). */
int log_writer_file(struct log_writer *w, uint32_t id, int fd, uint64_t size);

/* Adds a record; a full block is written first. -EINVAL if its number, sequence or position does not follow,
 * -EMSGSIZE for a body that fits no block, or the error of log_writer_flush(). After an error the record is
 * not taken, and what was taken before is kept: the call can be repeated. */
int log_writer_append(struct log_writer *w, const struct journal_entry *e);

/* Closes the block and writes it. -ENOSPC, -EDQUOT or -EFBIG (a limit) when it has no room: the file is as
 * before, and the block is kept. Other errors likewise. */
int log_writer_flush(struct log_writer *w);

/* True while there are records that are not in the file. */
bool log_writer_pending(const struct log_writer *w);

/* Ends the log: writes what is pending if it can, and the end block, whose room was reserved. `error` is a
 * positive errno or 0. `icount` is the machine's position, at which nothing but what the log holds has come
 * in; if pending records could not be written, the last one in the file counts instead. 0 or the error of the
 * end block; afterwards only log_writer_destroy() is allowed. */
int log_writer_end(struct log_writer *w, const char *reason, int error, uint64_t icount);

struct log_status log_writer_status(const struct log_writer *w);

/* Frees the writer. What is pending is lost. */
void log_writer_destroy(struct log_writer *w);

enum log_ending {
    LOG_OPEN,  /* the file ends behind a good block: still being written, or the writer was killed */
    LOG_TORN,  /* the file ends inside a block */
    LOG_ENDED, /* by an end block */
};

/* Opens a log. -EMEDIUMTYPE if the file is none, -ENODATA if it ends inside its header, -EPROTONOSUPPORT for
 * a format of another major version, -EBADMSG, -ENOMEM or the file's error; *error says where. */
int log_reader_open(struct log_reader **r, int fd, struct log_error *error);
void log_reader_close(struct log_reader *r);

/* Valid until the reader is closed. */
const Cleave__LogHeader *log_reader_header(const struct log_reader *r);

/* The next record: 1; 0 at the end (log_reader_ending() tells which); or a negative errno with the place in
 * log_reader_error(). Unknown blocks and records are skipped. The body is valid until the next call on this
 * reader. A file that is still being written may give more records after a 0. */
int log_reader_next(struct log_reader *r, struct journal_entry *e);

/* Moves to the first record whose position is at least `icount`, or that has at least this number, or to the
 * end. Uses the headers of the blocks, which are read once. 0 or a negative errno, as above; the position is
 * then undefined. */
int log_reader_seek(struct log_reader *r, uint64_t icount);
int log_reader_seek_record(struct log_reader *r, uint64_t number);

/* Calls `take` with the bytes of the header's file `id` that the log holds, from offset 0 on without gaps,
 * until it returns an error. Returns their number, -ENOENT if the log does not hold the file, the error of
 * `take`, or an error as above. The position stays. */
int64_t log_reader_file(struct log_reader *r, uint32_t id,
                        int (*take)(void *ctx, const uint8_t *data, size_t len), void *ctx);

/* After log_reader_next() returned 0. For LOG_TORN, log_reader_error() says where. */
enum log_ending log_reader_ending(const struct log_reader *r);

/* The end block's message, or NULL. */
const Cleave__LogEnd *log_reader_end(const struct log_reader *r);

const struct log_error *log_reader_error(const struct log_reader *r);

struct log_summary {
    enum log_ending ending;
    uint64_t blocks, records, crossings, state_hashes;
    uint64_t unknown;     /* records of types that this reader does not know */
    uint64_t seq, icount; /* of the last crossing; of the last record */
    uint64_t bytes;       /* of the file, to the end of the last good block */
    uint64_t raw_bytes;   /* of records, before compression */
};

/* What the blocks hold that were gone through so far; `crossings` and `state_hashes` are left alone. */
void log_reader_summary(const struct log_reader *r, struct log_summary *s);

/* Reads all of a log. 0 if everything is good (the ending may be any; *error then says where a torn log is
 * torn), or the first error; *s covers what is before it. */
int log_verify(int fd, struct log_summary *s, struct log_error *error);
