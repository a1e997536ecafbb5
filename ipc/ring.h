/* Single-producer single-consumer rings of 64-byte entries in shared memory, and the entries that travel in
 * them. The peer is hostile: its index is read once, checked before use, and every entry is copied out before
 * it is looked at. Knows no process, device or file descriptor. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RING_ENTRY_SIZE 64
#define RING_SLOT_NONE  0xffffu

enum ring_op {
    RING_OP_REQUEST = 1,
    RING_OP_RESET =
        2, /* the guest reset the device: everything earlier is finished first, then this is completed */
};

enum ring_status {
    RING_STATUS_OK = 0,
    RING_STATUS_FAILED =
        1, /* the device process could not serve the request at all; the front-end reports a device error */
};

enum ring_flag {
    RING_FLAG_REISSUE = 1, /* was in flight when the previous incarnation died */
};

/* vcpu -> device. Published in the order of seq over all queues of a channel; a RING_OP_RESET is a barrier in
 * that order and travels on the first queue of kind CHANNEL_REQUESTS, with the generation that it begins. */
struct ring_request {
    uint64_t seq;        /* never repeats in a VM's life */
    uint32_t epoch;      /* incarnation of the device process */
    uint32_t generation; /* counts device resets by the guest */
    uint16_t slot;       /* entry of the vcpu's private in-flight table; RING_SLOT_NONE for RING_OP_RESET */
    uint8_t op;          /* enum ring_op */
    uint8_t flags;       /* enum ring_flag */
    uint32_t req_len;    /* bytes at req_off in the request arena */
    uint64_t req_off;
    uint64_t resp_off; /* space in the response arena: resp_cap bytes, then blob_cap bytes from the next
                          multiple of 8 */
    uint32_t resp_cap;
    uint32_t blob_cap;
    uint64_t directive; /* injected fault, 0 for none */
    uint64_t features;  /* what the driver accepted of the device's feature bits */
};

/* device -> vcpu: the answer to a request. */
struct ring_completion {
    uint64_t seq;
    uint32_t epoch;
    uint16_t slot;
    uint16_t status;   /* enum ring_status */
    uint32_t len;      /* bytes written to the response space, <= resp_cap */
    uint32_t blob_len; /* new device state in the blob space, 0 for unchanged, <= blob_cap */
    uint64_t
        file_off; /* the first file_len bytes are those at file_off of the immutable file that the device */
    uint32_t file_len;    /* reads, <= len; 0 for none, and then file_off is 0 */
    uint32_t reserved32;  /* 0 */
    uint64_t reserved[3]; /* 0 */
};

/* device -> vcpu: a message from outside that no request asked for. */
struct ring_event {
    uint64_t seq; /* counts from 1 in each queue and epoch */
    uint32_t epoch;
    uint32_t len; /* bytes at off in the queue's event arena; the span does not wrap */
    uint64_t off;
    uint64_t cause; /* seq of the request that this message answers (a deterministic responder), 0 for one
                       from outside */
    uint64_t reserved[4]; /* 0 */
};

_Static_assert(sizeof(struct ring_request) == RING_ENTRY_SIZE, "ring entry");
_Static_assert(sizeof(struct ring_completion) == RING_ENTRY_SIZE, "ring entry");
_Static_assert(sizeof(struct ring_event) == RING_ENTRY_SIZE, "ring entry");

/* An index alone in its cache line. Producer index: written by the producer (release), read by the consumer
 * (acquire). Consumer index: the other way round. Free-running 32-bit counters. */
struct ring_index {
    _Alignas(64) _Atomic uint32_t value;
};

/* One side's private view of a ring; the cursors live in private memory, never in the shared pages. */
struct ring_producer {
    struct ring_index *produced;       /* ours */
    const struct ring_index *consumed; /* the peer's */
    unsigned char *entries;
    uint32_t size; /* power of two */
    uint32_t head; /* next entry to write */
};

struct ring_consumer {
    const struct ring_index *produced; /* the peer's */
    struct ring_index *consumed;       /* ours */
    const unsigned char *entries;
    uint32_t size;
    uint32_t tail; /* next entry to read */
};

/* Free entries, 0..size; -EPROTO if the peer's index is impossible. */
int ring_room(const struct ring_producer *p);

/* Copies one entry in and publishes it. 0, -ENOSPC when full, -EPROTO. */
int ring_push(struct ring_producer *p, const void *entry);

/* Entries ready, 0..size; -EPROTO if the peer's index is impossible. */
int ring_ready(const struct ring_consumer *c);

/* Copies the oldest entry out without consuming it: 1, or 0 when empty, or -EPROTO. ring_drop() consumes it.
 */
int ring_peek(const struct ring_consumer *c, void *entry);
void ring_drop(struct ring_consumer *c);
