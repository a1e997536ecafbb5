/* cleave-net: a virtio-net card (Virtual I/O Device 1.2, 5.1). This file is the virtio side: queues, header,
 * offloads that the back-end leaves to us, receive filter, capture. It must not know how a back-end reaches
 * its peer. */
#include "devices/net/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUE_CONTROL, QUEUES };

enum {
    RECEIVE_SLOTS = 1024,
    TRANSMIT_SLOTS = 256,
    TRANSMIT_BYTES = 1 << 20,
    /* An answer is as long as its request: everything in flight can be answered, whatever its alignment. */
    RECEIVE_BYTES = 2 << 20,
    CONTROL_SLOTS = 16,
    CONTROL_REQUEST = 8192,
    CONTROL_RESPONSE = 64,
};

#define FEATURE(bit) (1ull << (bit))

/* What the card does by itself. */
#define FEATURES                                                                                             \
    (FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_NET_F_STATUS) | FEATURE(VIRTIO_NET_F_MRG_RXBUF) |            \
     FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6) |        \
     FEATURE(VIRTIO_NET_F_HOST_ECN) | FEATURE(VIRTIO_NET_F_CTRL_VQ) | FEATURE(VIRTIO_NET_F_CTRL_RX) |        \
     FEATURE(VIRTIO_NET_F_CTRL_RX_EXTRA) | FEATURE(VIRTIO_NET_F_CTRL_VLAN) |                                 \
     FEATURE(VIRTIO_NET_F_CTRL_MAC_ADDR))

struct net {
    struct device *device;
    const struct net_backend *backend;
    void *backend_data;
    uint8_t mac[6];
    uint64_t accepted; /* by the driver */
    struct filter filter;
    int pcap; /* -1: no capture */
    /* The transmit request being served, which frames from the back-end answer if that is closed. */
    struct request *serving;
    /* Requests that wait for room for their answers. */
    struct request *held, **held_last;
    uint8_t scratch[OFFLOAD_FRAME_MAX];
};

static const struct net_backend *const backends[] = {&net_user, &net_stream, &net_tap, &net_echo};

struct device *net_device(struct net *n)
{
    return n->device;
}

void *net_backend_data(struct net *n)
{
    return n->backend_data;
}

static void capture(struct net *n, const uint8_t *frame, uint32_t len)
{
    if (n->pcap < 0)
        return;
    int err = pcap_frame(n->pcap, frame, len);
    if (err < 0) {
        device_log(n->device, "capture ends: %s", strerror(-err));
        close(n->pcap);
        n->pcap = -1;
    }
}

int net_receive(struct net *n, const uint8_t *packet, uint32_t len)
{
    const uint8_t *frame = packet + OFFLOAD_HEADER;

    if (!filter_accepts(&n->filter, frame, len - OFFLOAD_HEADER))
        return 0;
    int err = n->backend->closed ? device_answer(n->device, n->serving, QUEUE_RECEIVE, packet, len)
                                 : device_event(n->device, QUEUE_RECEIVE, packet, len);
    if (!err)
        capture(n, frame, len - OFFLOAD_HEADER);
    return err;
}

static int send_frame(struct net *n, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len)
{
    int err = n->backend->send(n, hdr, frame, len);

    if (!err)
        capture(n, frame, len);
    return err;
}

static void send_segment(void *arg, const uint8_t *frame, uint32_t len)
{
    static const struct virtio_net_hdr_v1 plain;

    send_frame(arg, &plain, frame, len);
}

/* Sends a packet the way the back-end takes it. -ENOSPC as the back-end's send(). */
static int transmit(struct net *n, const uint8_t *packet, uint32_t len)
{
    const uint8_t *frame = packet + OFFLOAD_HEADER;
    struct virtio_net_hdr_v1 hdr;

    if (offload_parse(packet, len, &hdr) < 0) {
        device_dropped(n->device, 1);
        return 0;
    }
    len -= OFFLOAD_HEADER;
    if (n->backend->vnet_hdr)
        return send_frame(n, &hdr, frame, len);
    if (hdr.gso_type) {
        if (n->backend->any_segment)
            hdr.gso_size = 0;
        if (offload_segment(frame, len, &hdr, n->scratch, send_segment, n) < 0)
            device_dropped(n->device, 1);
        return 0;
    }
    if (hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        memcpy(n->scratch, frame, len);
        offload_checksum(n->scratch, len, &hdr);
        frame = n->scratch;
    }
    return send_frame(n, &hdr, frame, len);
}

/* True if the request is finished. */
static bool serve_transmit(struct net *n, struct request *r)
{
    n->serving = r;
    int err = transmit(n, r->in, r->in_len);
    n->serving = NULL;
    if (err == -ENOSPC)
        return false;
    device_complete(n->device, r, 0);
    return true;
}

static void serve_control(struct net *n, struct request *r)
{
    uint8_t blob[FILTER_BLOB_MAX];
    bool done = filter_command(&n->filter, r->in, r->in_len);

    if (r->out_cap)
        r->out[0] = done ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    if (done)
        device_complete_blob(n->device, r, r->out_cap ? 1 : 0, blob, filter_encode(&n->filter, blob));
    else
        device_complete(n->device, r, r->out_cap ? 1 : 0);
}

static void hold(struct net *n, struct request *r)
{
    r->next = NULL;
    *n->held_last = r;
    n->held_last = &r->next;
}

static void accept_features(struct net *n, uint64_t features)
{
    if (n->accepted == features)
        return;
    n->accepted = features;
    if (n->backend->accepted)
        n->backend->accepted(n, features);
}

static void net_request(struct device *d, struct request *r)
{
    struct net *n = device_data(d);

    accept_features(n, r->features);
    if (r->queue == QUEUE_CONTROL) {
        serve_control(n, r);
        return;
    }
    if (n->held || !serve_transmit(n, r))
        hold(n, r);
}

static void net_room(struct device *d)
{
    struct net *n = device_data(d);

    while (n->held) {
        struct request *r = n->held, *next = r->next;
        if (!serve_transmit(n, r))
            return;
        n->held = next;
        if (!next)
            n->held_last = &n->held;
    }
    if (n->backend->room)
        n->backend->room(n);
}

static void net_reset(struct device *d)
{
    struct net *n = device_data(d);

    accept_features(n, 0);
    filter_reset(&n->filter, n->mac);
}

static int parse_mac(struct net *n)
{
    const char *text = device_option(n->device, "mac");
    unsigned b[6];
    char end;

    if (!text)
        return device_error(n->device, EINVAL, "no address given for card '%s'", device_id(n->device));
    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 ||
        b[0] & 1)
        return device_error(n->device, EINVAL, "bad address '%s' of card '%s'", text, device_id(n->device));
    for (unsigned i = 0; i < 6; i++)
        n->mac[i] = (uint8_t)b[i];
    return 0;
}

static int choose_backend(struct net *n)
{
    const char *name = device_option(n->device, "backend");

    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (name && !strcmp(backends[i]->name, name)) {
            n->backend = backends[i];
            n->backend_data = calloc(1, n->backend->size ? n->backend->size : 1);
            return n->backend_data
                       ? 0
                       : device_error(n->device, ENOMEM, "no memory for card '%s'", device_id(n->device));
        }
    return device_error(n->device, EINVAL, "unknown back-end '%s' of card '%s'", name ? name : "",
                        device_id(n->device));
}

static int open_capture(struct net *n)
{
    n->pcap = device_take_fd(n->device, "pcap");
    int err = n->pcap < 0 ? 0 : pcap_start(n->pcap);
    if (err < 0)
        device_error(n->device, -err, "cannot write the capture of card '%s': %s", device_id(n->device),
                     strerror(-err));
    return err;
}

static void describe(struct net *n, struct device_description *desc)
{
    struct virtio_net_config config = {.status = VIRTIO_NET_S_LINK_UP, .max_virtqueue_pairs = 1};

    memcpy(config.mac, n->mac, 6);
    desc->virtio_id = VIRTIO_ID_NET;
    desc->features = FEATURES | n->backend->features;
    desc->config_len = offsetof(struct virtio_net_config, mtu);
    memcpy(desc->config, &config, desc->config_len);
    desc->inbound_merge = true;
    desc->merge_feature = VIRTIO_NET_F_MRG_RXBUF;
    desc->merge_count_at = offsetof(struct virtio_net_hdr_v1, num_buffers);
    desc->geometry =
        (struct channel_geometry){.nqueues = QUEUES,
                                  .blob_max = FILTER_BLOB_MAX,
                                  .queue = {
                                      [QUEUE_RECEIVE] = {.kind = CHANNEL_INBOUND,
                                                         .slots = RECEIVE_SLOTS,
                                                         .max_response = OFFLOAD_PACKET_MAX,
                                                         .response_bytes = RECEIVE_BYTES},
                                      [QUEUE_TRANSMIT] = {.kind = CHANNEL_REQUESTS,
                                                          .slots = TRANSMIT_SLOTS,
                                                          .max_request = OFFLOAD_PACKET_MAX,
                                                          .request_bytes = TRANSMIT_BYTES},
                                      [QUEUE_CONTROL] = {.kind = CHANNEL_REQUESTS,
                                                         .slots = CONTROL_SLOTS,
                                                         .max_request = CONTROL_REQUEST,
                                                         .max_response = CONTROL_RESPONSE,
                                                         .request_bytes = CONTROL_SLOTS * CONTROL_REQUEST,
                                                         .response_bytes = CONTROL_SLOTS * CONTROL_RESPONSE},
                                  }};
    desc->blob_len = filter_encode(&n->filter, desc->blob);
    desc->closed = n->backend->closed;
    desc->backend = n->backend->name;
    desc->sandbox = n->backend->sandbox;
    desc->latency = (struct latency_model){
        .nrules = 1, .rule[0] = {.base_ns = 10000, .bandwidth = 125000000, .jitter_ns = 2000}};
}

static int net_configure(struct device *d, struct device_description *desc)
{
    struct net *n = device_data(d);
    int err;

    n->device = d;
    n->held_last = &n->held;
    if ((err = parse_mac(n)) < 0 || (err = choose_backend(n)) < 0 || (err = open_capture(n)) < 0 ||
        (err = n->backend->open(n)) < 0)
        return err;
    filter_reset(&n->filter, n->mac);
    describe(n, desc);
    return 0;
}

static int net_run(struct device *d)
{
    struct net *n = device_data(d);

    if (n->backend->start)
        n->backend->start(n);
    return 0;
}

static void net_stop(struct device *d)
{
    struct net *n = device_data(d);

    if (n->backend->stop)
        n->backend->stop(n);
}

static const struct device_ops ops = {
    .kind = "net",
    .size = sizeof(struct net),
    .configure = net_configure,
    .run = net_run,
    .request = net_request,
    .reset = net_reset,
    .room = net_room,
    .stop = net_stop,
};

int main(int argc, char **argv)
{
    return device_main(argc, argv, &ops);
}
