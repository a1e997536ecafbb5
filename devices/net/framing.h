/* Ethernet frames over a byte stream as QEMU's `-netdev stream` has them: a 32-bit big-endian length, then
 * the frame. Both directions as buffers without input or output of their own; knows no socket. */
#pragma once

#include "devices/net/offload.h"

#include <stdint.h>

#define FRAMING_LENGTH 4u

/* Received bytes and how far they are cut into frames. Zeroed: empty. */
struct framing_in {
    uint32_t have; /* bytes in data */
    uint32_t at;   /* the next frame begins here */
    uint8_t data[2 * (FRAMING_LENGTH + OFFLOAD_FRAME_MAX)];
};

/* Where the next received bytes go: *room bytes, at least 1 after framing_next() has said 0. Moves what is
 * left to the front. */
uint8_t *framing_space(struct framing_in *in, uint32_t *room);

/* The next complete frame: 1, 0 if more bytes are needed, -EPROTO for a length outside 1..OFFLOAD_FRAME_MAX,
 * after which the stream cannot go on. The frame stays until framing_done() and is valid until
 * framing_space(). */
int framing_next(const struct framing_in *in, const uint8_t **frame, uint32_t *len);
void framing_done(struct framing_in *in);

/* Frames to send, as bytes. Zeroed: empty. */
struct framing_out {
    uint8_t *data; /* of `size` bytes, the caller's */
    uint32_t size, head, tail;
    uint32_t head_left; /* bytes at head that belong to a frame whose beginning is sent */
};

/* Appends a frame whole. -ENOSPC, and nothing is appended. */
int framing_put(struct framing_out *out, const uint8_t *frame, uint32_t len);

/* `n` bytes from head on were sent. */
void framing_sent(struct framing_out *out, uint32_t n);

/* Empties the queue; returns the number of frames that were not sent, or not to their end. */
uint32_t framing_clear(struct framing_out *out);
