/* Private to ipc: the two ends of a channel over mapped memory, shared by the transports. A transport brings
 * the memory, the doorbell and what to do at the close. */
#pragma once

#include "ipc/channel.h"

struct memory_front {
    struct channel_front base;
    uint8_t *out;
    const uint8_t *in; /* NULL while unlinked */
    struct {
        struct ring_producer submissions;
        struct ring_consumer completions;
    } queue[CHANNEL_MAX_QUEUES];
    bool submitted, taken; /* since the last kick */
    void (*ring_doorbell)(struct memory_front *f);
};

struct memory_back {
    struct channel_back base;
    const uint8_t *out;
    uint8_t *in;
    struct {
        struct ring_consumer submissions;
        struct ring_producer completions;
        uint32_t *offsets;   /* INBOUND: of the event in each ring entry */
        uint64_t events;     /* INBOUND: sequence number of the newest event */
        uint64_t next_off;   /* INBOUND: where the next event goes */
        bool starved;        /* an event found no room */
        uint32_t starved_at; /* the vcpu's index then */
    } queue[CHANNEL_MAX_QUEUES];
    uint32_t epoch;
    bool published; /* since the last kick */
    void (*ring_doorbell)(struct memory_back *b);
};

/* The memory operations; a transport copies them and adds `close`. */
extern const struct channel_front_ops memory_front_ops;
extern const struct channel_back_ops memory_back_ops;

/* Fills a front whose `out` is mapped. */
void memory_front_init(struct memory_front *f, const struct channel_geometry *g, uint8_t *out);

/* Starts an epoch: both directions empty. */
void memory_front_link(struct memory_front *f, const uint8_t *in);

/* -ENOMEM. memory_back_fini() frees what it allocated. */
int memory_back_init(struct memory_back *b, const struct channel_geometry *g, uint32_t epoch,
                     const uint8_t *out, uint8_t *in);
void memory_back_fini(struct memory_back *b);

void channel_out_header_write(const struct channel_geometry *g, uint8_t *out);
struct channel_in_header channel_in_header_make(const struct channel_geometry *g);
