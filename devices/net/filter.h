/* The receive filter of a virtio-net device and the commands that set it (Virtual I/O Device 1.2, 5.1.6.5).
 * It is the whole device state of a card, encoded into the blob that the vcpu keeps and hands to a successor.
 * Knows no queue and no back-end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FILTER_MACS     64u
#define FILTER_BLOB_MAX 2048u

struct filter_table {
    uint8_t count;
    bool overflow; /* the driver asked for more than fit: everything of the class passes */
    uint8_t mac[FILTER_MACS][6];
};

struct filter {
    uint8_t mac[6];
    uint8_t modes; /* bit n: on-off command n of class VIRTIO_NET_CTRL_RX is on */
    struct filter_table unicast, multicast;
    bool vlan_filtering; /* begins with the first VLAN command */
    uint8_t vlan[512];
};

/* Power-on state: promiscuous, for a driver without the control queue. */
void filter_reset(struct filter *f, const uint8_t mac[6]);

/* Serves one command of the control queue, header included. True if it was carried out (VIRTIO_NET_OK); else
 * the filter is as before. */
bool filter_command(struct filter *f, const uint8_t *command, uint32_t len);

/* Whether a frame of at least 14 bytes passes. */
bool filter_accepts(const struct filter *f, const uint8_t *frame, uint32_t len);

/* Encodes into `blob` (FILTER_BLOB_MAX bytes); returns the length. Decoding checks everything: -EINVAL,
 * filter untouched. */
uint32_t filter_encode(const struct filter *f, uint8_t *blob);
int filter_decode(struct filter *f, const uint8_t *blob, uint32_t len);
