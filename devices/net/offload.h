/* What virtio-net lets a driver leave to the device: checksums and TCP segmentation, done here for back-ends
 * whose peers cannot. Pure functions over packets; knows no device, queue or back-end.
 *
 * A packet is a struct virtio_net_hdr_v1 followed by an Ethernet frame (Virtual I/O Device 1.2, 5.1.6). */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define OFFLOAD_HEADER    12u
#define OFFLOAD_FRAME_MIN 14u
/* The longest IP packet, its Ethernet header and one VLAN tag. */
#define OFFLOAD_FRAME_MAX  (65535u + 18u)
#define OFFLOAD_PACKET_MAX (OFFLOAD_HEADER + OFFLOAD_FRAME_MAX)

static inline uint16_t offload_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void offload_put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* Writes the header of a frame that asks for nothing. `flags`: VIRTIO_NET_HDR_F_DATA_VALID or 0. */
static inline void offload_plain_header(uint8_t *packet, uint8_t flags)
{
    struct virtio_net_hdr_v1 hdr = {.flags = flags, .num_buffers = 1};

    memcpy(packet, &hdr, sizeof hdr);
}

/* The Internet checksum of RFC 1071 over `len` bytes, added to `sum`, not folded. */
uint64_t offload_sum(const uint8_t *p, uint32_t len, uint64_t sum);

/* Folds a sum and complements it. */
uint16_t offload_fold(uint64_t sum);

/* Copies the header of a packet out and checks it against the frame: lengths, checksum position inside the
 * frame, a known segmentation type with a size and a partial checksum. -EINVAL. */
int offload_parse(const uint8_t *packet, uint32_t len, struct virtio_net_hdr_v1 *hdr);

/* Completes the partial checksum that a checked header asks for. A result of zero is stored as its other
 * representation, as UDP demands. */
void offload_checksum(uint8_t *frame, uint32_t len, const struct virtio_net_hdr_v1 *hdr);

/* Takes one frame of a segmented packet; valid during the call. */
typedef void (*offload_emit)(void *arg, const uint8_t *frame, uint32_t len);

/* Cuts the TCP packet of `len` bytes that a checked header with a segmentation type describes into frames
 * that carry at most gso_size bytes of payload each, with complete checksums, built in `scratch`
 * (OFFLOAD_FRAME_MAX bytes). A gso_size of 0 gives one frame of any length. -EINVAL if the frame is not what
 * the type says; nothing was emitted then. */
int offload_segment(const uint8_t *frame, uint32_t len, const struct virtio_net_hdr_v1 *hdr, uint8_t *scratch,
                    offload_emit emit, void *arg);
