/* Records inside a block: journal entries as protobuf messages, coded as differences from the record before.
 * Must not know blocks or files. Private to the log. */
#pragma once

#include "replay-broker/log.h"

/* What a record is coded relative to. At the beginning of a block, all zero but for the block's first
 * position. */
struct record_base {
    uint64_t icount, pc, seq, request;
};

/* A record ready to be written; refers to the entry that it was made from. */
struct record {
    Cleave__LogRecord message;
    Cleave__LogCrossing crossing;
    Cleave__LogStateHash hash;
    Cleave__LogFileRef file;
    struct record_base after;
    size_t size; /* as written, with its length in front */
};

/* 0, or -EINVAL if the entry is none that a log holds or does not follow `base`; then r is undefined. r must
 * not move. */
int record_prepare(struct record *r, const struct record_base *base, const struct journal_entry *e);
void record_write(const struct record *r, uint8_t *out);

/* Decodes the record at the beginning of `len` bytes. Returns its size, or -EBADMSG. e->number is left alone;
 * e->type is 0 for a record of an unknown type, whose position is known all the same. *base moves on. The
 * body lies in *hold, which the caller frees with record_free(). */
int64_t record_read(struct record_base *base, const uint8_t *data, size_t len, struct journal_entry *e,
                    Cleave__LogRecord **hold);
void record_free(Cleave__LogRecord *hold);

/* The one message of a header or end block, with its length in front: where it is and how long, or -EBADMSG.
 */
int64_t record_frame(const uint8_t *data, size_t len, size_t *prefix);
size_t record_frame_size(size_t message);
size_t record_frame_write(size_t message, uint8_t *out); /* the length; returns its size */
