/* The journal: a single-producer ring in shared memory that carries every crossing, in the vcpu's program
 * order, to whoever persists it. It outlives both ends: whoever holds the two descriptors attaches a new
 * consumer. Knows no process and no file format.
 *
 * Two memfds, since protection works by page. `entries` (header page, then the ring) is mapped writable by
 * the producer alone and sealed against any later writable mapping. `tail` (one page) is the only memory that
 * a consumer writes. Both ends treat the other's memory as hostile. */
#pragma once

#include "ipc/crossing.h"

#include <stddef.h>
#include <stdint.h>

enum journal_type {
    JOURNAL_CROSSING = 1,
    JOURNAL_STATE_HASH, /* c.icount, c.pc, and the hash in c.digest; no body */
};

/* Where the c.len bytes of a crossing's body are. c.digest is their XXH3-64 in every case. */
enum journal_form {
    JOURNAL_DIGEST = 1, /* nowhere: the digest is all that is kept */
    JOURNAL_INLINE,     /* at `body` */
    JOURNAL_FILE, /* at `offset` of the immutable file `file`, an identifier of the log's header; but for
                     the last `tail` bytes, which are at `body` */
    JOURNAL_SAME, /* in an earlier entry, whose number is `file` */
};

struct journal_entry {
    uint64_t number; /* counts from 1 in a VM's life */
    uint8_t type;    /* enum journal_type */
    uint8_t form;    /* enum journal_form */
    struct crossing c;
    uint64_t file, offset;
    uint32_t tail; /* 0 in other forms than JOURNAL_FILE */
    const void *body;
};

/* Limits of the ring's size in bytes, a power of two. */
#define JOURNAL_MIN_SIZE 4096u
#define JOURNAL_MAX_SIZE (1u << 30)

struct journal_producer;
struct journal_consumer;

/* Makes the tail page. *consumer_fd is for consumers, *producer_fd opens the same memory read-only; both
 * belong to the caller, who keeps them for consumers to come. Negative errno. */
int journal_tail_create(int *consumer_fd, int *producer_fd);

/* Makes a journal of `size` bytes whose consumer writes `tail_fd` (mapped read-only, not kept). *fd receives
 * the entries' memfd, owned by the caller. -EINVAL for a bad size, -EPROTO for a tail that is none, or
 * negative errno. */
int journal_create(struct journal_producer **p, uint64_t size, int tail_fd, int *fd);
void journal_destroy(struct journal_producer *p);

/* Copies one entry with its body in and publishes it, numbered by the journal (e->number is ignored). 0,
 * -ENOSPC while there is no room, -EMSGSIZE if there never will be, -EINVAL for an entry that breaks the
 * rules above, -EPROTO if the consumer's index is impossible. */
int journal_append(struct journal_producer *p, const struct journal_entry *e);

/* Bytes that the consumer has not released, 0..size; -EPROTO. */
int64_t journal_unreleased(const struct journal_producer *p);

/* Attaches a consumer: to a running journal, or to what a dead producer left. It begins at the released
 * position and skips the entries up to number `after`, which an earlier consumer persisted without releasing
 * them. The descriptors are not kept. -EPROTO if the memory is no journal. */
int journal_attach(struct journal_consumer **c, int fd, int tail_fd, uint64_t after);
void journal_detach(struct journal_consumer *c);

/* Copies the next entry to private memory, validates that copy and moves on. 1; 0 when there is none; -EPROTO
 * for an impossible index or a gap after `after`; -EBADMSG for an entry that fails validation; -ENOMEM. The
 * body is valid until the next call. After a failure the cursor is before the entry at fault. */
int journal_next(struct journal_consumer *c, struct journal_entry *e);

/* The position behind the last entry that journal_next() returned. */
uint64_t journal_position(const struct journal_consumer *c);

/* Everything before `position`, a value of journal_position(), is persistent: the producer may overwrite it.
 */
void journal_release(struct journal_consumer *c, uint64_t position);
