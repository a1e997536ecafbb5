/* Ethernet frames for the tests of network devices: built and taken apart, with a virtio_net_hdr in front. */
#pragma once

#include "devices/net/offload.h"

#include <stdbool.h>
#include <stdint.h>

#define GUEST_MAC  "\x52\x54\x00\x12\x34\x56"
#define GUEST_TEXT "52:54:00:12:34:56"

struct frame {
    uint32_t len; /* of the packet: header and frame */
    uint8_t packet[OFFLOAD_PACKET_MAX];
};

static inline uint8_t *frame_bytes(struct frame *f)
{
    return f->packet + OFFLOAD_HEADER;
}

/* Start a frame from the guest; the rest is appended. */
void frame_start(struct frame *f, const uint8_t dst[6], uint16_t ethertype);
void frame_append(struct frame *f, const void *data, uint32_t len);

/* Whole packets from the guest. Addresses in host order. */
void frame_arp(struct frame *f, uint32_t from, uint32_t to);
void frame_ping(struct frame *f, const uint8_t dst[6], uint32_t from, uint32_t to, uint16_t id,
                const void *data, uint32_t len);
void frame_udp(struct frame *f, const uint8_t dst[6], uint32_t from, uint16_t sport, uint32_t to,
               uint16_t dport, const void *data, uint32_t len);

struct tcp {
    uint32_t from, to, seq, ack;
    uint16_t sport, dport;
    uint8_t flags;
};

/* gso > 0: the payload is left to the device to cut, with a partial checksum, as Linux does. */
void frame_tcp(struct frame *f, const uint8_t dst[6], const struct tcp *t, const void *data, uint32_t len,
               uint16_t gso);

/* The fields of a received TCP segment: its payload, or NULL if it is none. Checks length and checksums. */
const uint8_t *frame_read_tcp(const struct frame *f, struct tcp *t, uint32_t *len);

/* True if the IPv4 header's and the TCP or UDP checksum of a frame hold. */
bool frame_sums_hold(const uint8_t *frame, uint32_t len);
