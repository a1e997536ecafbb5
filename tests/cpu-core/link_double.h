/* A scripted device behind the link interface: records what a front-end submits, and answers when the test
 * says so. It defines the link_ functions, so a program that uses it has no crossing layer. */
#pragma once

#include "cpu-core/crossing/crossing.h"

#define DOUBLE_SLOTS 64
#define DOUBLE_BYTES 65536

struct link {
    const struct link_sink *sink;
    void *front;
    unsigned slots;             /* admitted at once, of each queue */
    uint32_t max_req, max_resp; /* beyond: -EMSGSIZE */
    struct {
        bool busy, submitted;
        uint32_t len, cap;
        uint8_t bytes[DOUBLE_BYTES];
    } request[CHANNEL_MAX_QUEUES][DOUBLE_SLOTS];
    uint64_t features; /* told last */
    unsigned submissions, kicks, resets, room_made[CHANNEL_MAX_QUEUES];
};

void double_init(struct link *l, const struct link_sink *sink, void *front);

/* Answers a submitted request; its slot is free afterwards. */
void double_complete(struct link *l, unsigned queue, unsigned slot, const void *data, uint32_t len);
void double_fail(struct link *l, unsigned queue, unsigned slot);

/* Submitted requests of the queue. */
unsigned double_in_flight(const struct link *l, unsigned queue);
