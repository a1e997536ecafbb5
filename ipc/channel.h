/* A channel joins the vcpu process and one device process: per queue its rings, a request arena that only the
 * vcpu writes and a response arena that only the device writes. Two memfds, because protection works by page:
 *
 *   out  written by the vcpu:   header, submission entries, request arenas   (F_SEAL_FUTURE_WRITE: read-only
 * to the device) in   written by the device: header, completion and event entries, response arenas, event
 * arenas   (fresh every epoch)
 *
 * Both sides compute the layout from the same geometry. Knows no virtio and no device type. */
#pragma once

#include "ipc/ring.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_MAX_QUEUES  8
#define CHANNEL_MAX_BLOB    65536
#define CHANNEL_MAX_CONFIG  4096
#define CHANNEL_MAX_MESSAGE (128u << 20) /* bytes of one request, response or event */
#define CHANNEL_MAX_ARENA   (1ull << 30) /* bytes of one arena of one generation */
#define CHANNEL_UNIT        64           /* arena spans begin at multiples of it */

enum channel_queue_kind {
    CHANNEL_REQUESTS = 1, /* requests out, completions in */
    CHANNEL_INBOUND = 2,  /* events in, nothing out */
};

/* Geometry of one queue, agreed at the handshake and constant afterwards. */
struct channel_queue {
    uint32_t kind;          /* enum channel_queue_kind */
    uint32_t slots;         /* REQUESTS: requests in flight that a generation may have, 1..1024. INBOUND: ring
                               entries, 1..4096 */
    uint32_t max_request;   /* REQUESTS: bytes of one request. INBOUND: 0 */
    uint32_t max_response;  /* REQUESTS: bytes of one response. INBOUND: bytes of one event */
    uint64_t request_bytes; /* REQUESTS: arena bytes of the requests of one generation, >= max_request */
    uint64_t response_bytes; /* REQUESTS: likewise, >= max_response. INBOUND: event arena, >= max_response */
};

struct channel_geometry {
    uint32_t nqueues;
    uint32_t blob_max; /* 0..CHANNEL_MAX_BLOB */
    struct channel_queue queue[CHANNEL_MAX_QUEUES];
};

/* Offsets into the two memfds. A request ring holds two generations and their reset. */
struct channel_layout {
    uint64_t out_size, in_size; /* page multiples */
    struct {
        uint32_t entries; /* ring size, power of two */
        uint64_t out_produced,
            out_consumed; /* struct ring_index: submissions produced; completions or events consumed */
        uint64_t in_produced, in_consumed; /* completions or events produced; submissions consumed */
        uint64_t submissions,
            completions; /* entries; `completions` also holds the events of an INBOUND queue */
        /* Two equal halves, one for each of two generations. A half holds the bytes that the geometry
         * promises, with every span rounded up to CHANNEL_UNIT and, in the response arena, a blob space for
         * every slot. An event arena has no halves. */
        uint64_t request_arena, request_size;
        uint64_t response_arena, response_size;
    } queue[CHANNEL_MAX_QUEUES];
};

#define CHANNEL_OUT_MAGIC 0x54554f43u /* "COUT" */
#define CHANNEL_IN_MAGIC  0x204e4943u /* "CIN " */
#define CHANNEL_VERSION   1

/* The header and the ring indices of each memfd lie in its first page. */
#define CHANNEL_HEADER_SIZE 4096

/* First page of `out`. */
struct channel_out_header {
    uint32_t magic, version, layout_crc, reserved;
    _Alignas(64) _Atomic uint32_t
        vcpu_waits; /* vcpu writes, device reads, both seq_cst: ring the vcpu's doorbell after publishing */
};

/* What a sleeping device waits for. */
enum channel_wait {
    CHANNEL_WAIT_REQUESTS = 1, /* submissions */
    CHANNEL_WAIT_ROOM = 2,     /* room in an event queue */
};

/* First page of `in`; the supervisor writes the first line when it creates the memfd. */
struct channel_in_header {
    uint32_t magic, version, layout_crc, reserved;
    _Alignas(64) _Atomic uint32_t
        device_waits; /* enum channel_wait. Device writes, vcpu reads, both seq_cst */
    _Alignas(64) _Atomic uint64_t
        progress; /* device writes (relaxed), supervisor reads: seq of the request it works on */
    _Atomic uint64_t heartbeat; /* device writes (relaxed), supervisor reads: ticks of its event loop */
    _Atomic uint64_t dropped;   /* device writes (relaxed): inbound messages for which there was no room */
};

/* Checks every bound. -EINVAL. */
int channel_check(const struct channel_geometry *g);

/* Computes the layout of a checked geometry. */
void channel_layout(const struct channel_geometry *g, struct channel_layout *l);

/* CRC32C of geometry and layout, exchanged at the handshake. */
uint32_t channel_layout_crc(const struct channel_geometry *g);

/* Bytes of response arena that a request takes: the response, and the blob space from the next multiple of 8.
 */
uint64_t channel_response_span(uint32_t resp_cap, uint32_t blob_cap);

/* Validation of private copies of what came from a peer, all -EPROTO.
 * A request: known op, lengths and spans inside the queue's limits and arenas; a reset carries neither.
 * A completion: answers exactly the request `r` (epoch, seq, slot), known status, lengths inside the spaces,
 * reserved fields 0. Before it, the caller finds `r` in its in-flight table by `slot`, which it checks
 * against its own table size. An event: epoch, next sequence number, span inside the event arena, reserved
 * fields 0. */
int channel_check_request(const struct channel_geometry *g, const struct channel_layout *l, unsigned queue,
                          const struct ring_request *r);
int channel_check_completion(const struct ring_completion *c, const struct ring_request *r);
int channel_check_event(const struct channel_geometry *g, const struct channel_layout *l, unsigned queue,
                        const struct ring_event *e, uint32_t epoch, uint64_t seq);

/* Ends of a channel. An end is a table of operations over a transport; the shared-memory transport is the
 * real one, the test transport (channel_test.h) drives the same code from unit tests and fuzzers. */
struct channel_front; /* the vcpu's end */
struct channel_back;  /* the device's end */

struct channel_front_ops {
    /* Without a linked device process: submit gives -ENOTCONN, completion and event give 0, kick does
     * nothing. submit: 0, -ENOSPC, -EPROTO. */
    int (*submit)(struct channel_front *f, unsigned queue, const struct ring_request *r);
    /* Takes the oldest completion: 1, 0, -EPROTO. Its response bytes stay in place until the span is used
     * again. */
    int (*completion)(struct channel_front *f, unsigned queue, struct ring_completion *c);
    /* Looks at the oldest event: 1, 0, -EPROTO. event_done takes it. */
    int (*event)(struct channel_front *f, unsigned queue, struct ring_event *e);
    void (*event_done)(struct channel_front *f, unsigned queue);
    /* After submits and event_done: rings the device's doorbell if it waits for what was done. */
    void (*kick)(struct channel_front *f);
    void (*wait_flag)(struct channel_front *f,
                      bool waiting); /* set before the vcpu blocks; re-check the rings afterwards */
    uint8_t *(*request_mem)(struct channel_front *f, unsigned queue); /* the queue's request arena */
    const uint8_t *(*response_mem)(struct channel_front *f,
                                   unsigned queue); /* its response or event arena; NULL unlinked */
    void (*close)(struct channel_front *f);
};

struct channel_front {
    const struct channel_front_ops *ops;
    struct channel_geometry geometry;
    struct channel_layout layout;
};

struct channel_back_ops {
    int (*request)(struct channel_back *b, unsigned queue,
                   struct ring_request *r); /* consumes: 1, 0, -EPROTO */
    int (*complete)(struct channel_back *b, unsigned queue,
                    const struct ring_completion *c); /* 0, -ENOSPC, -EPROTO */
    /* `cause` is the seq of the request that the message answers, 0 for one from outside. */
    int (*event)(struct channel_back *b, unsigned queue, uint64_t cause, const void *data,
                 uint32_t len); /* 0, -ENOSPC (no room), -EMSGSIZE, -EPROTO */
    int (*peek)(struct channel_back *b, unsigned queue,
                struct ring_request *r); /* like request, without consuming */
    uint32_t (*backlog)(struct channel_back *b,
                        unsigned queue); /* completions or events that the vcpu has not taken yet */
    /* Drops the arenas from this process's memory; their contents stay. */
    void (*trim)(struct channel_back *b);
    void (*kick)(
        struct channel_back *b); /* after completions and events: rings the vcpu's doorbell if it waits */
    /* Sets device_waits (for requests, and for room if an event found none) and re-checks: false, and awake,
     * if there is work after all or the vcpu's indices are impossible. */
    bool (*sleep)(struct channel_back *b);
    void (*awake)(struct channel_back *b);
    bool (*room)(struct channel_back
                     *b); /* once after an event found no room: true when the vcpu has taken events since */
    const uint8_t *(*request_mem)(struct channel_back *b, unsigned queue);
    uint8_t *(*response_mem)(struct channel_back *b, unsigned queue);
    struct channel_in_header *(*header)(struct channel_back *b);
    void (*close)(struct channel_back *b);
};

struct channel_back {
    const struct channel_back_ops *ops;
    struct channel_geometry geometry;
    struct channel_layout layout;
};

/* Shared-memory transport.
 *
 * channel_out_create(): the vcpu creates `out`, maps it writable, seals it (SHRINK, GROW, SEAL, FUTURE_WRITE)
 * and keeps the mapping; *fd receives the memfd to pass on (owned by the caller). channel_in_create(): the
 * supervisor creates a fresh `in` for an epoch (sealed against resize); returns the fd. channel_front_link():
 * the vcpu maps `in` read-only (seals and size verified: -EPROTO), takes the device's doorbell eventfd and
 * its own; replaces the previous epoch's link. Fds are duplicated or mapped; the caller closes its own.
 * channel_front_unlink(): the device process is gone; the front keeps `out`. Not while a link of it is in
 * use. channel_back_open(): the device maps `out` read-only and `in` writable, both verified (-EPROTO). It
 * must not look at the rings before it is told to run: until the vcpu has linked, `out` shows the previous
 * epoch. channel_watch(): maps the first page of `in` read-only for the supervisor's watchdog;
 * channel_unwatch() undoes it. Eventfds must be non-blocking. */
#define CHANNEL_OUT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE)
#define CHANNEL_IN_SEALS  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int channel_out_create(const struct channel_geometry *g, struct channel_front **front, int *fd);
int channel_in_create(const struct channel_geometry *g);
int channel_front_link(struct channel_front *front, int in_fd, int device_doorbell);
void channel_front_unlink(struct channel_front *front);
int channel_watch(int in_fd, const struct channel_in_header **header);
void channel_unwatch(const struct channel_in_header *header);
int channel_back_open(const struct channel_geometry *g, uint32_t epoch, int out_fd, int in_fd,
                      int vcpu_doorbell, struct channel_back **back);

/* The vcpu's end without a peer, over private memory: what a replay uses. channel_private_response() is the
 * writable memory behind response_mem(). */
int channel_private_create(const struct channel_geometry *g, struct channel_front **front);
uint8_t *channel_private_response(struct channel_front *front, unsigned queue);

/* A first-fit allocator over [0, size) for an arena, in private memory; deterministic in its calls. Units of
 * CHANNEL_UNIT bytes; at most max_blocks spans are allocated at a time. */
struct arena;
int arena_create(struct arena **a, uint64_t size, unsigned max_blocks);
void arena_destroy(struct arena *a);
int arena_alloc(struct arena *a, uint64_t len,
                uint64_t *off); /* 0 or -ENOSPC; len 0 takes nothing and gives offset 0 */
void arena_free(struct arena *a, uint64_t off, uint64_t len); /* exactly what arena_alloc gave */
