/* What the files of the crossing layer share. Not for others. */
#pragma once

#include "cpu-core/crossing/crossing.h"
#include "cpu-core/time/vclock.h"

#define MAX_LINKS 64
#define MAX_WAITING                                                                                          \
    256 /* messages that a link keeps for a guest without room; more are dropped and counted */
#define MAX_SLOTS 1024
#define NO_SLOT   UINT32_MAX

enum slot_state { SLOT_FREE = 0, SLOT_RESERVED, SLOT_IN_FLIGHT, SLOT_ORPHANED };

/* One entry of the private in-flight table: the authority on what the device was asked. */
struct slot {
    uint8_t state; /* enum slot_state */
    uint64_t seq;
    uint32_t req_len, resp_cap;
    uint64_t req_off, resp_off; /* within the queue's arenas */
    uint64_t due;               /* fixed timing: virtual ns of the delivery */
    uint64_t digest;            /* of the request bytes */
    /* The answer as it arrived, validated; not guest-visible before the delivery. */
    bool arrived, failed;
    uint32_t len, blob_len;
    struct crossing_file file;
};

/* A message that waits in private memory for the guest to have room. */
struct message {
    struct message *next;
    uint64_t cause;
    uint32_t len;
    uint8_t data[];
};

struct link_queue {
    struct channel_queue geometry;
    /* Two halves, one a generation (its low bit): orphans of the previous generation keep theirs, so that
     * admission depends on the present generation alone. */
    struct slot *table; /* 2 * slots */
    struct arena *requests[2], *responses[2];
    uint64_t request_half, response_half; /* bytes of a half */
    uint32_t in_flight, orphans;
    uint64_t last_due;
    uint32_t *arrivals; /* table indices in arrival order: live timing delivers from here */
    uint32_t narrivals;
    /* INBOUND */
    uint64_t event_seq; /* last accepted of this epoch */
    bool blocked;       /* the guest had no room for the first waiting message; until link_room_made() */
    struct message *first, **last;
    uint32_t nwaiting;
};

struct link {
    struct crossings *cs;
    char id[64];
    unsigned index;
    struct channel_front *front;
    struct channel_layout layout;
    bool connected, broken;
    uint32_t epoch, generation;
    uint64_t reset_seq;   /* of the reset the device has not finished, or 0 */
    unsigned reset_queue; /* the queue that carries resets: the first of kind CHANNEL_REQUESTS */
    struct link_queue queue[CHANNEL_MAX_QUEUES];
    unsigned nqueues;
    uint8_t *blob, *blob_reset;
    uint32_t blob_len, blob_reset_len;
    struct latency_model latency;
    bool file;
    uint64_t features; /* accepted by the driver; the front-end's state */
    struct link_scheduled *scheduled;
    unsigned nscheduled, next_scheduled;
    struct vtimer schedule_timer;
    const struct link_sink *sink;
    void *sink_arg;
    struct link_stats stats;
};

struct crossings {
    struct vclock *clock;
    bool fixed;
    struct crossings_host host;
    const struct journal_ops *journal;
    void *journal_arg;
    uint64_t seq;         /* of crossings */
    uint64_t request_seq; /* of ring requests and resets */
    struct vtimer due_timer;
    struct link *links[MAX_LINKS];
    unsigned nlinks;
    uint8_t *copy; /* private copy of the payload being delivered */
    uint32_t copy_size;
    struct replay *replay; /* NULL: the machine is live */
    unsigned applied;      /* crossings applied since the counter was last cleared */
};

static inline unsigned half_of(const struct link *l)
{
    return l->generation & 1;
}

/* Bytes of the response arena that a request takes: its response, then the blob from the next multiple of 8.
 */
static inline uint64_t blob_offset(const struct slot *s)
{
    return ((uint64_t)s->resp_cap + 7) & ~7ull;
}
static inline uint64_t response_span(const struct link *l, const struct slot *s)
{
    return channel_response_span(s->resp_cap, l->front->geometry.blob_max);
}

/* Appends a crossing to the journal at the current position. */
void journal_crossing(struct crossings *cs, struct crossing *c, const void *body, uint32_t len);
/* The same for a body that begins with bytes of a file. */
void journal_crossing_file(struct crossings *cs, struct crossing *c, const void *body, uint32_t len,
                           const struct crossing_file *file);

/* Takes completions out of the rings into the in-flight tables, validated; marks the link broken on a
 * violation. */
void poll_arrivals(struct link *l);

/* The request of table entry `index`, or the reset, as it was sent to the present incarnation. */
struct ring_request wire_request(const struct link *l, unsigned queue, uint32_t index);
struct ring_request wire_reset(const struct link *l);

/* Marks the link broken and tells the machine. */
void link_broken(struct link *l, const char *why);

/* Delivers the answered entry `index` of queue `q` to the front-end and frees it. */
void deliver(struct link *l, unsigned q, uint32_t index);

/* Journals a message and hands it to the front-end. `cause`: the request that it answers, 0 for one from
 * outside. */
void receive(struct link *l, unsigned q, uint64_t cause, const uint8_t *data, uint32_t len);

/* Under replay: compares a crossing with the next entry and takes that; loads the recorded answer to a
 * request that is due (false: the recording has none); loads the device state that came with an answer, 0 for
 * none.
 */
void replay_compare(struct crossings *cs, const struct crossing *c, const void *body);
bool replay_answer(struct link *l, unsigned queue, uint32_t index);
uint32_t replay_blob(struct link *l, unsigned queue, const struct slot *s);
void replay_destroy(struct crossings *cs);

/* Frees a table entry and its arena space. */
void release_slot(struct link *l, unsigned q, uint32_t index);

/* Puts a message into the private waiting list, or drops it when that is full. */
void enqueue_message(struct link *l, unsigned q, uint64_t cause, const uint8_t *data, uint32_t len);

/* Fixed timing: events that answer request `seq` move to the waiting lists. */
void take_caused_events(struct link *l, uint64_t seq);

/* Fixed timing: (re)arms the timer for the earliest due delivery; fires it. */
void due_arm(struct crossings *cs);
void due_fire(void *arg);
void schedule_fire(void *arg);

/* At least `len` bytes of private memory in cs->copy: 0 or -ENOMEM. */
int copy_reserve(struct crossings *cs, uint32_t len);
