/* A channel joins the vcpu process and one device process: per queue its rings, a request arena that only the vcpu writes and a
 * response arena that only the device writes. Two memfds, because protection works by page:
 *
 *   out  written by the vcpu:   header, submission entries, request arenas   (F_SEAL_FUTURE_WRITE: read-only to the device)
 *   in   written by the device: header, completion and event entries, response arenas, event arenas   (fresh every epoch)
 *
 * Both sides compute the layout from the same geometry. Knows no virtio and no device type. */
#pragma once

#include "ipc/ring.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_MAX_QUEUES 8
#define CHANNEL_MAX_BLOB   65536
#define CHANNEL_MAX_CONFIG 4096

enum channel_queue_kind {
    CHANNEL_REQUESTS = 1, /* requests out, completions in */
    CHANNEL_INBOUND = 2,  /* events in, nothing out */
};

/* Geometry of one queue, agreed at the handshake and constant afterwards. */
struct channel_queue {
    uint32_t kind;         /* enum channel_queue_kind */
    uint32_t slots;        /* REQUESTS: requests in flight that a generation may have, 1..1024. INBOUND: ring entries, 1..4096 */
    uint32_t max_request;  /* REQUESTS: bytes of one request. INBOUND: 0 */
    uint32_t max_response; /* REQUESTS: bytes of one response. INBOUND: bytes of one event */
    uint64_t request_bytes;  /* REQUESTS: arena bytes of the requests of one generation, >= max_request */
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
        uint64_t out_produced, out_consumed; /* struct ring_index: submissions produced; completions or events consumed */
        uint64_t in_produced, in_consumed;   /* completions or events produced; submissions consumed */
        uint64_t submissions, completions;   /* entries; `completions` also holds the events of an INBOUND queue */
        uint64_t request_arena, request_size; /* room for two generations */
        uint64_t response_arena, response_size;
    } queue[CHANNEL_MAX_QUEUES];
};

/* First page of `out`. */
struct channel_out_header {
    uint32_t magic, version, layout_crc, reserved;
    _Alignas(64) _Atomic uint32_t vcpu_waits; /* vcpu writes, device reads, both seq_cst: ring the vcpu's doorbell after publishing */
};

/* First page of `in`. */
struct channel_in_header {
    uint32_t magic, version, layout_crc, reserved;
    _Alignas(64) _Atomic uint32_t device_waits; /* device writes, vcpu reads, both seq_cst: ring the device's doorbell */
    _Alignas(64) _Atomic uint64_t progress;  /* device writes (relaxed), supervisor reads: seq of the request it works on */
    _Atomic uint64_t heartbeat;              /* device writes (relaxed), supervisor reads: ticks of its event loop */
    _Atomic uint64_t dropped;                /* device writes (relaxed): inbound messages for which there was no room */
};

/* Checks every bound. -EINVAL. */
int channel_check(const struct channel_geometry *g);

/* Computes the layout of a checked geometry. */
void channel_layout(const struct channel_geometry *g, struct channel_layout *l);

/* CRC32C of geometry and layout, exchanged at the handshake. */
uint32_t channel_layout_crc(const struct channel_geometry *g);

/* Ends of a channel. An end is a table of operations over a transport; the shared-memory transport is the real one, the test
 * transport (channel_test.h) drives the same code from unit tests and fuzzers. */
struct channel_front; /* the vcpu's end */
struct channel_back;  /* the device's end */

struct channel_front_ops {
    int (*submit)(struct channel_front *f, unsigned queue, const struct ring_request *r); /* 0, -ENOSPC, -EPROTO */
    int (*completion)(struct channel_front *f, unsigned queue, struct ring_completion *c); /* consumes: 1, 0, -EPROTO */
    int (*event)(struct channel_front *f, unsigned queue, struct ring_event *e); /* peeks: 1, 0, -EPROTO */
    void (*event_done)(struct channel_front *f, unsigned queue);
    void (*kick)(struct channel_front *f); /* rings the device's doorbell if it waits */
    void (*wait_flag)(struct channel_front *f, bool waiting); /* set before the vcpu blocks; re-check the rings afterwards */
    uint8_t *(*request_mem)(struct channel_front *f, unsigned queue);        /* the queue's request arena */
    const uint8_t *(*response_mem)(struct channel_front *f, unsigned queue); /* its response or event arena */
    void (*close)(struct channel_front *f);
};

struct channel_front {
    const struct channel_front_ops *ops;
    struct channel_geometry geometry;
    struct channel_layout layout;
};

struct channel_back_ops {
    int (*request)(struct channel_back *b, unsigned queue, struct ring_request *r); /* consumes: 1, 0, -EPROTO */
    int (*complete)(struct channel_back *b, unsigned queue, const struct ring_completion *c); /* 0, -ENOSPC, -EPROTO */
    int (*event)(struct channel_back *b, unsigned queue, const void *data, uint32_t len); /* 0, -ENOSPC (no room), -EMSGSIZE, -EPROTO */
    uint32_t (*event_backlog)(struct channel_back *b, unsigned queue); /* events that the vcpu has not taken yet */
    void (*kick)(struct channel_back *b);
    bool (*sleep)(struct channel_back *b); /* sets device_waits and re-checks: false if there is work after all */
    void (*awake)(struct channel_back *b);
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
 * channel_out_create(): the vcpu creates `out`, maps it writable, seals it (SHRINK, GROW, SEAL, FUTURE_WRITE) and keeps the
 * mapping; *fd receives the memfd to pass on (owned by the caller).
 * channel_in_create(): the supervisor creates a fresh `in` for an epoch (sealed against resize); returns the fd.
 * channel_front_link(): the vcpu maps `in` read-only (seals and size verified: -EPROTO), takes the device's doorbell eventfd and
 * its own; replaces the previous epoch's link. Fds are duplicated or mapped; the caller closes its own.
 * channel_back_open(): the device maps `out` read-only and `in` writable. */
int channel_out_create(const struct channel_geometry *g, struct channel_front **front, int *fd);
int channel_in_create(const struct channel_geometry *g);
int channel_front_link(struct channel_front *front, int in_fd, int device_doorbell);
int channel_back_open(const struct channel_geometry *g, int out_fd, int in_fd, int vcpu_doorbell, struct channel_back **back);

/* A first-fit allocator over [0, size) for an arena, in private memory; deterministic in its calls. Units of 64 bytes. */
struct arena;
int arena_create(struct arena **a, uint64_t size, unsigned max_blocks);
void arena_destroy(struct arena *a);
int arena_alloc(struct arena *a, uint64_t len, uint64_t *off); /* 0 or -ENOSPC; len 0 takes nothing and gives offset 0 */
void arena_free(struct arena *a, uint64_t off, uint64_t len);
