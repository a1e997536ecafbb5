/* The feed: a recording on its way to a replaying vcpu, as a sequence of windows. A window is a sealed,
 * read-only memfd of journal entries in order, whose bodies are resolved: each is there, or only its digest
 * was recorded. Knows no process and no file format. The reader treats a window as hostile. */
#pragma once

#include "ipc/journal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A window closes when it holds this many bytes; a larger entry has one of its own. */
#define FEED_WINDOW_BYTES (4u << 20)
#define FEED_MAX_BYTES    (256u << 20)
#define FEED_MAX_REASON   512

/* How a recording ends. */
enum feed_ending {
    FEED_GOES_ON = 0, /* more windows follow */
    FEED_ENDED,       /* properly */
    FEED_OPEN,        /* nothing more was written: the recording goes on, or was killed */
    FEED_TORN,        /* in the middle of something that was being written */
    FEED_BAD,         /* what follows can not be read, or its bodies not be found */
};

/* In every window; all but `ending` count in the last one only. */
struct feed_end {
    uint32_t ending; /* enum feed_ending */
    int32_t error;   /* positive errno of a recording that was cut short, or of FEED_BAD; 0 */
    uint64_t icount; /* nothing came in between the last entry and this position */
    char reason[FEED_MAX_REASON];
};

/* Filling a window. */
struct feed_window;
int feed_window_create(struct feed_window **w); /* -ENOMEM */
void feed_window_destroy(struct feed_window *w);

/* Copies an entry of form JOURNAL_INLINE or JOURNAL_DIGEST in. When feed_window_full(), it is to be sealed.
 * 0, -EINVAL for another form, -EMSGSIZE, -ENOMEM. */
int feed_window_add(struct feed_window *w, const struct journal_entry *e);
bool feed_window_full(const struct feed_window *w);
uint32_t feed_window_entries(const struct feed_window *w);

/* Makes the memfd of what was added, and empties the window. The descriptor is the caller's. Negative errno.
 */
int feed_window_seal(struct feed_window *w, const struct feed_end *end);

/* Reading. `next` returns the next window's descriptor, which the feed closes, or a negative errno. */
struct feed_source {
    int (*next)(void *arg);
    void *arg;
};

struct feed;
int feed_create(struct feed **f, const struct feed_source *source); /* -ENOMEM */
void feed_destroy(struct feed *f);

/* The next entry, without taking it: 1; 0 at the end of the recording, which feed_ending() describes; -EPROTO
 * for an impossible window, or the source's error, which stays. Entry and body are valid until feed_take() or
 * feed_destroy(). */
int feed_peek(struct feed *f, const struct journal_entry **e);

/* Takes the entry that feed_peek() returned. */
void feed_take(struct feed *f);

/* After feed_peek() returned 0. */
const struct feed_end *feed_ending(const struct feed *f);
