/* The test transport: both ends of a channel in one process, over plain memory, through the same operations
 * as the real one. Unit tests and fuzzers write to `out` and `in` to play a hostile peer. */
#pragma once

#include "ipc/channel.h"

struct channel_pair {
    struct channel_front *front;
    struct channel_back *back;
    uint8_t *out, *in;                 /* the two memories, laid out by front->layout */
    unsigned device_rings, vcpu_rings; /* doorbells rung so far */
};

/* Creates both ends, linked at `epoch`. -EINVAL, -ENOMEM. The pair must not move. */
int channel_pair_create(struct channel_pair *p, const struct channel_geometry *g, uint32_t epoch);
void channel_pair_destroy(struct channel_pair *p);
