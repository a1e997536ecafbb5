/* A network card: what the virtio-net side (net.c) and the back-ends share. A back-end moves Ethernet frames
 * between the card and one peer; it knows no queue, filter or virtio command. */
#pragma once

#include "devices/common/device.h"
#include "devices/net/filter.h"
#include "devices/net/offload.h"
#include "devices/net/pcap.h"

struct net;

struct net_backend {
    const char *name;
    bool closed;   /* answers are functions of the requests alone */
    bool vnet_hdr; /* the peer takes and gives packets with their virtio_net_hdr and does the offloads itself
                    */
    bool any_segment;  /* takes TCP frames of any length, with complete checksums */
    uint64_t features; /* that depend on the peer */
    unsigned sandbox;  /* enum sandbox_right */
    size_t size;       /* bytes of net_backend_data(), zeroed */

    /* Checks options and descriptors; on failure negative errno after device_error(). */
    int (*open)(struct net *n);
    /* The machine runs. May be NULL. */
    void (*start)(struct net *n);
    /* Sends one frame, of OFFLOAD_FRAME_MIN to OFFLOAD_FRAME_MAX bytes; `hdr` describes it if the back-end
     * takes headers. Never blocks: what the peer cannot take now is queued within a bound or dropped and
     * counted. Closed back-ends answer before they return, and only they return -ENOSPC: nothing happened,
     * the frame comes again when there is room. */
    int (*send)(struct net *n, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len);
    /* There is room for received frames again. May be NULL. */
    void (*room)(struct net *n);
    /* The driver accepted these of the card's features; 0 after a reset. May be NULL. */
    void (*accepted)(struct net *n, uint64_t features);
    /* Clean stop: sends what can be sent now. The process ends afterwards. May be NULL. */
    void (*stop)(struct net *n);
};

extern const struct net_backend net_user, net_stream, net_tap, net_echo;

struct device *net_device(struct net *n);
void *net_backend_data(struct net *n);

/* Hands a packet (header and frame, OFFLOAD_PACKET_MAX bytes at most) to the guest if the filter lets it
 * pass. 0, or -ENOSPC: the caller keeps it until room() or drops it with device_dropped(). */
int net_receive(struct net *n, const uint8_t *packet, uint32_t len);
