/* The `tap` back-end: a tap interface of the host, attached by the supervisor with IFF_VNET_HDR, so that
 * packets travel with their virtio_net_hdr and the host's network does checksums and segmentation. */
#include "devices/net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BATCH = 64 }; /* packets read in one turn of the loop */

struct tap {
    struct net *net;
    int fd;
    uv_poll_t poll;
    uint32_t waiting; /* length of the packet that found no room, or 0 */
    uint8_t packet[OFFLOAD_PACKET_MAX];
};

static int tap_error(struct net *n, int err)
{
    struct device *d = net_device(n);
    const char *ifname = device_option(d, "ifname");

    return device_error(d, err, "cannot use tap interface '%s' of card '%s': %s", ifname ? ifname : "",
                        device_id(d), strerror(err));
}

static int tap_open(struct net *n)
{
    struct tap *t = net_backend_data(n);
    int size = OFFLOAD_HEADER;

    t->net = n;
    t->fd = device_take_fd(net_device(n), "tap");
    if (t->fd < 0)
        return tap_error(n, EBADF);
    int flags = fcntl(t->fd, F_GETFL);
    if (flags < 0 || fcntl(t->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        ioctl(t->fd, TUNSETVNETHDRSZ, &size) < 0 || ioctl(t->fd, TUNSETOFFLOAD, 0) < 0)
        return tap_error(n, errno);
    int err = uv_poll_init(device_loop(net_device(n)), &t->poll, t->fd);
    if (err < 0)
        return tap_error(n, -err);
    t->poll.data = t;
    return 0;
}

/* False when the guest has no room. */
static bool deliver(struct tap *t, uint32_t len)
{
    if (net_receive(t->net, t->packet, len) == -ENOSPC) {
        t->waiting = len;
        return false;
    }
    t->waiting = 0;
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct tap *t = poll->data;

    for (unsigned i = 0; i < BATCH; i++) {
        ssize_t len = read(t->fd, t->packet, sizeof t->packet);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len < 0) {
            device_fail(net_device(t->net), errno, "tap interface of card '%s' is gone: %s",
                        device_id(net_device(t->net)), strerror(errno));
        }
        if ((size_t)len < OFFLOAD_HEADER + OFFLOAD_FRAME_MIN)
            continue;
        ((struct virtio_net_hdr_v1 *)(void *)t->packet)->num_buffers = 1;
        if (!deliver(t, (uint32_t)len)) {
            uv_poll_stop(poll);
            return;
        }
    }
}

static void tap_start(struct net *n)
{
    struct tap *t = net_backend_data(n);

    uv_poll_start(&t->poll, UV_READABLE, on_readable);
}

static void tap_room(struct net *n)
{
    struct tap *t = net_backend_data(n);

    if (t->waiting && deliver(t, t->waiting))
        tap_start(n);
}

static int tap_send(struct net *n, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len)
{
    struct tap *t = net_backend_data(n);
    struct iovec iov[2] = {{(void *)(uintptr_t)hdr, OFFLOAD_HEADER}, {(void *)(uintptr_t)frame, len}};

    if (writev(t->fd, iov, 2) < 0)
        device_dropped(net_device(n), 1);
    return 0;
}

static void tap_accepted(struct net *n, uint64_t features)
{
    static const struct {
        unsigned feature, flag;
    } map[] = {
        {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
        {VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
        {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
    };
    struct tap *t = net_backend_data(n);
    unsigned flags = 0;

    if (features >> VIRTIO_NET_F_GUEST_CSUM & 1) {
        flags = TUN_F_CSUM;
        for (size_t i = 0; i < sizeof map / sizeof *map; i++)
            if (features >> map[i].feature & 1)
                flags |= map[i].flag;
    }
    if (ioctl(t->fd, TUNSETOFFLOAD, flags) < 0)
        device_log(net_device(n), "no offloads on the tap interface: %s", strerror(errno));
}

const struct net_backend net_tap = {
    .name = "tap",
    .sandbox = SANDBOX_TAP,
    .vnet_hdr = true,
    .features = 1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |
                1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN,
    .size = sizeof(struct tap),
    .open = tap_open,
    .start = tap_start,
    .send = tap_send,
    .room = tap_room,
    .accepted = tap_accepted,
};
