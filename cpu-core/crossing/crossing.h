/* The crossing layer: the only code of cpu-core that touches rings. It stamps, orders and journals every
 * message between the machine and the device processes, keeps the private in-flight table, and hands what
 * comes in to a front-end (virtio transport, UART). Knows no device type and no guest memory. */
#pragma once

#include "ipc/channel.h"
#include "ipc/crossing.h"
#include "ipc/latency.h"

#include <stdbool.h>
#include <stdint.h>

struct vclock;
struct state_io;
struct crossings; /* all links of a machine and its journal */
struct link;      /* one device */

/* A front-end's side of a link. All calls happen between steps, at a position, on the vcpu's one thread. */
struct link_sink {
    /* The request in `slot` of `queue` was answered: `len` bytes of response in private memory, valid during
     * the call. `failed`: the device process could not serve it (the front-end reports a device error). The
     * slot is free afterwards. */
    void (*completed)(void *front, unsigned queue, unsigned slot, const uint8_t *data, uint32_t len,
                      bool failed);
    /* True if the guest can take an inbound message of `len` bytes on `queue` now; a function of guest state.
     */
    bool (*room)(void *front, unsigned queue, uint32_t len);
    /* Takes the message; room() was just true. */
    void (*received)(void *front, unsigned queue, const uint8_t *data, uint32_t len);
    /* The configuration bytes changed (CONFIG crossing). */
    void (*config)(void *front, const uint8_t *config, uint32_t len);
};

/* Admission: reserves a slot and arena space for a request of `req_len` readable and `resp_cap` writable
 * bytes. Returns the slot (0..slots-1) or -ENOSPC: the chain stays in the available ring until a delivery
 * makes room. -EMSGSIZE: never fits (the front-end reports a device error). A function of guest state alone.
 */
int link_reserve(struct link *l, unsigned queue, uint32_t req_len, uint32_t resp_cap);

/* Where the readable bytes of the reserved request go: req_len bytes of the request arena. */
uint8_t *link_request_bytes(struct link *l, unsigned queue, unsigned slot);

/* What the driver accepted of the device's feature bits (0 after a reset): travels with every request from
 * here on. */
void link_features(struct link *l, uint64_t features);
uint64_t link_accepted(const struct link *l);

/* Submits the reserved request: numbers, journals and publishes it. link_kick() rings the doorbell once after
 * a batch. */
void link_submit(struct link *l, unsigned queue, unsigned slot);
void link_kick(struct link *l);

/* The guest resets the device: in-flight requests become orphans, whose completions are swallowed; their
 * slots are free at once for the new generation. Waits (host time only, invisible to the guest) if the
 * orphans of an earlier reset are not finished. */
void link_reset(struct link *l);

/* Asks for inbound messages again after the guest made room (rx buffers posted, FIFO read). Takes effect at
 * slice ends. */
void link_room_made(struct link *l, unsigned queue);

unsigned link_slots(const struct link *l, unsigned queue);

/* What the crossing layer needs of the machine loop. */
struct crossings_host {
    /* The current position, for stamps. */
    void (*position)(void *arg, uint64_t *icount, uint64_t *pc);
    /* Blocks until something may have happened on a doorbell; serves control messages meanwhile. 0, or
     * -ECANCELED when the machine is to stop: the caller gives up what it waited for. */
    int (*wait)(void *arg);
    /* A peer broke the protocol; the link is dead until it is connected again. */
    void (*fault)(void *arg, const char *id, const char *why);
    /* Fires every deadline due at the current position. Called between steps, before what comes in from
     * outside is applied: the order of crossings then determines their order with deadlines. */
    void (*settle)(void *arg);
    /* Guest-visible work became due at the current position while a slice runs: end the slice after this
     * instruction. */
    void (*attention)(void *arg);
    /* The machine is about to say something by itself at the current position: its clock comes first, if the
     * journal does not know it. */
    void (*mark)(void *arg);
    void *arg;
};

/* A message that is delivered at a virtual time: scripted input. */
struct link_scheduled {
    uint64_t ns;
    unsigned queue;
    const uint8_t *data;
    uint32_t len;
};

struct link_config {
    const char *id;
    unsigned index; /* position in the fixed device order: links are created in this order */
    struct channel_geometry geometry;
    const uint8_t *blob; /* initial device state */
    uint32_t blob_len;
    struct latency_model latency;           /* fixed timing; checked by link_create() */
    bool file;                              /* completions may refer to the device's immutable file */
    const struct link_scheduled *scheduled; /* ascending in ns; copied */
    unsigned nscheduled;
};

/* Counters of one link. */
#define LINK_COUNTERS(X)                                                                                     \
    X(requests)                                                                                              \
    X(completions)                                                                                           \
    X(events) X(request_bytes) X(response_bytes) X(event_bytes) X(resets) X(orphans) X(refused) X(dropped)

struct link_stats {
#define X(name) uint64_t name;
    LINK_COUNTERS(X)
#undef X
};

/* `fixed` chooses fixed completion timing; the journal takes every crossing in order. */
int crossings_create(struct crossings **cs, struct vclock *clock, bool fixed,
                     const struct crossings_host *host, const struct journal_ops *journal, void *journal_arg);
void crossings_destroy(struct crossings *cs);

/* Adds a device; *out_fd receives the memfd for the device process (owned by the caller). */
int link_create(struct crossings *cs, const struct link_config *cfg, struct link **l, int *out_fd);

/* Joins the front-end; before the machine runs. */
void link_bind(struct link *l, const struct link_sink *sink, void *front);

/* An incarnation of the device process takes over (its in-flight requests are re-issued when `reissue`), or
 * is gone. */
int link_connect(struct link *l, uint32_t epoch, int in_fd, int doorbell, bool reissue);
void link_disconnect(struct link *l);

struct link *crossings_find(struct crossings *cs, const char *id);
struct link *crossings_at(struct crossings *cs, unsigned i); /* NULL past the last */
const char *link_id(const struct link *l);
const struct link_stats *link_stats(const struct link *l);

/* Slice end, after the deadlines due there fired: accepts what is there, in device order, at the current
 * position. Returns the number of crossings applied. */
unsigned crossings_accept(struct crossings *cs);

/* True while requests are in flight or messages wait: slices are short then. */
bool crossings_busy(const struct crossings *cs);

/* Tells the devices that the vcpu blocks (doorbells wanted), and whether something arrived in between. */
void crossings_waiting(struct crossings *cs, bool waiting);
bool crossings_ready(struct crossings *cs);

/* Replay. Crossings come from a recording in its order, and those that the machine makes are compared with
 * it, stamp by stamp; no device process is connected. */
struct feed;
struct journal_entry;

struct replay_hooks {
    /* The machine made a request whose bytes the recording keeps (console output), or one to the mirrored
     * device; `data`: the c->len bytes of it. */
    void (*output)(void *arg, const struct crossing *c, const void *data);
    void *arg;
    uint32_t mirror; /* index of a device + 1, or 0 */
};

/* Where a replay left its recording. */
struct replay_difference {
    uint64_t record;          /* number of the recorded entry, 0 for none */
    uint8_t type;             /* enum journal_type of it */
    struct crossing recorded; /* what should have come */
    struct crossing actual;   /* what the machine did; kind 0: nothing, at this position */
    const char *field;        /* the first that differs */
    uint64_t recorded_value, actual_value;
};

/* From here on this machine replays; before the first link_create(), whose out_fd is then -1. The feed is
 * borrowed. -ENOMEM. */
int crossings_replay(struct crossings *cs, struct feed *feed, const struct replay_hooks *hooks);

/* Applies a completion or event, the feed's next entry, at the current position, and takes it. False if it
 * has to wait for its due time. */
bool crossings_replay_apply(struct crossings *cs, const struct journal_entry *e);

/* Notes that the machine left the recording at `e` (NULL: behind its end): the first call counts. `actual`
 * NULL: the machine did nothing. */
void crossings_differ(struct crossings *cs, const struct journal_entry *e, const struct crossing *actual,
                      const char *field, uint64_t recorded, uint64_t now);

/* NULL while there is none. */
const struct replay_difference *crossings_difference(const struct crossings *cs);

/* Sequence number of the last crossing. */
uint64_t crossings_seq(const struct crossings *cs);

/* Journals a crossing of the machine itself (clock, control, exit). */
void crossings_note(struct crossings *cs, enum crossing_direction dir, enum crossing_kind kind, uint64_t arg,
                    const void *body, uint32_t len);

/* In-flight tables with payload digests, and blobs, in the documented order. What waits outside is not state.
 */
void crossings_state(struct crossings *cs, struct state_io *io);
