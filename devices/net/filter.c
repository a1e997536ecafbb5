/* The receive filter of a virtio-net device. See filter.h. */
#include "devices/net/filter.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

enum {
    BLOB_VERSION = 1,
    BLOB_FIXED = 12, /* version, modes, flags, reserved, mac, table counts */
    FLAG_UNICAST_OVERFLOW = 1,
    FLAG_MULTICAST_OVERFLOW = 2,
    FLAG_VLAN_FILTERING = 4,
    FLAGS = 7,
    MODES = 0x3f,
};

void filter_reset(struct filter *f, const uint8_t mac[6])
{
    *f = (struct filter){.modes = 1u << VIRTIO_NET_CTRL_RX_PROMISC};
    memcpy(f->mac, mac, 6);
}

static bool set_mode(struct filter *f, uint8_t command, const uint8_t *data, uint32_t len)
{
    if (command > VIRTIO_NET_CTRL_RX_NOBCAST || len != 1)
        return false;
    f->modes = (uint8_t)((f->modes & ~(1u << command)) | (data[0] ? 1u << command : 0));
    return true;
}

/* Takes one table out of the command: a little-endian count and the addresses. Returns the bytes used, or 0.
 */
static uint32_t read_table(struct filter_table *t, const uint8_t *data, uint32_t len)
{
    if (len < 4)
        return 0;
    uint32_t count = data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;
    if (count > (len - 4) / 6)
        return 0;
    *t = (struct filter_table){.overflow = count > FILTER_MACS};
    if (!t->overflow) {
        t->count = (uint8_t)count;
        memcpy(t->mac, data + 4, count * 6);
    }
    return 4 + count * 6;
}

static bool set_macs(struct filter *f, uint8_t command, const uint8_t *data, uint32_t len)
{
    struct filter_table unicast, multicast;

    switch (command) {
    case VIRTIO_NET_CTRL_MAC_ADDR_SET:
        if (len != 6)
            return false;
        memcpy(f->mac, data, 6);
        return true;
    case VIRTIO_NET_CTRL_MAC_TABLE_SET: {
        uint32_t used = read_table(&unicast, data, len);
        uint32_t rest = used ? read_table(&multicast, data + used, len - used) : 0;
        if (!rest || used + rest != len)
            return false;
        f->unicast = unicast;
        f->multicast = multicast;
        return true;
    }
    default:
        return false;
    }
}

static bool set_vlan(struct filter *f, uint8_t command, const uint8_t *data, uint32_t len)
{
    if (len != 2)
        return false;
    unsigned id = data[0] | (unsigned)data[1] << 8;
    if (id >= 4096 || command > VIRTIO_NET_CTRL_VLAN_DEL)
        return false;
    f->vlan_filtering = true;
    if (command == VIRTIO_NET_CTRL_VLAN_ADD)
        f->vlan[id / 8] |= (uint8_t)(1u << id % 8);
    else
        f->vlan[id / 8] &= (uint8_t) ~(1u << id % 8);
    return true;
}

bool filter_command(struct filter *f, const uint8_t *command, uint32_t len)
{
    if (len < 2)
        return false;
    switch (command[0]) {
    case VIRTIO_NET_CTRL_RX:
        return set_mode(f, command[1], command + 2, len - 2);
    case VIRTIO_NET_CTRL_MAC:
        return set_macs(f, command[1], command + 2, len - 2);
    case VIRTIO_NET_CTRL_VLAN:
        return set_vlan(f, command[1], command + 2, len - 2);
    default:
        return false;
    }
}

static bool mode(const struct filter *f, unsigned command)
{
    return f->modes >> command & 1;
}

static bool in_table(const struct filter_table *t, const uint8_t *mac)
{
    for (unsigned i = 0; i < t->count; i++)
        if (!memcmp(t->mac[i], mac, 6))
            return true;
    return t->overflow;
}

bool filter_accepts(const struct filter *f, const uint8_t *frame, uint32_t len)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    if (f->vlan_filtering && frame[12] == 0x81 && frame[13] == 0x00 && len >= 16) {
        unsigned id = (frame[14] & 0xfu) << 8 | frame[15];
        if (!(f->vlan[id / 8] >> id % 8 & 1))
            return false;
    }
    if (mode(f, VIRTIO_NET_CTRL_RX_PROMISC))
        return true;
    if (!memcmp(frame, broadcast, 6))
        return !mode(f, VIRTIO_NET_CTRL_RX_NOBCAST);
    if (frame[0] & 1)
        return !mode(f, VIRTIO_NET_CTRL_RX_NOMULTI) &&
               (mode(f, VIRTIO_NET_CTRL_RX_ALLMULTI) || in_table(&f->multicast, frame));
    if (mode(f, VIRTIO_NET_CTRL_RX_NOUNI))
        return false;
    return mode(f, VIRTIO_NET_CTRL_RX_ALLUNI) || !memcmp(frame, f->mac, 6) || in_table(&f->unicast, frame);
}

uint32_t filter_encode(const struct filter *f, uint8_t *blob)
{
    uint8_t *p = blob;

    *p++ = BLOB_VERSION;
    *p++ = f->modes;
    *p++ = (uint8_t)((f->unicast.overflow ? FLAG_UNICAST_OVERFLOW : 0) |
                     (f->multicast.overflow ? FLAG_MULTICAST_OVERFLOW : 0) |
                     (f->vlan_filtering ? FLAG_VLAN_FILTERING : 0));
    *p++ = 0;
    memcpy(p, f->mac, 6);
    p += 6;
    *p++ = f->unicast.count;
    *p++ = f->multicast.count;
    memcpy(p, f->unicast.mac, f->unicast.count * 6u);
    p += f->unicast.count * 6u;
    memcpy(p, f->multicast.mac, f->multicast.count * 6u);
    p += f->multicast.count * 6u;
    if (f->vlan_filtering) {
        memcpy(p, f->vlan, sizeof f->vlan);
        p += sizeof f->vlan;
    }
    return (uint32_t)(p - blob);
}

int filter_decode(struct filter *f, const uint8_t *blob, uint32_t len)
{
    if (len < BLOB_FIXED || blob[0] != BLOB_VERSION || blob[1] & ~MODES || blob[2] & ~FLAGS || blob[3])
        return -EINVAL;

    uint32_t unicast = blob[10], multicast = blob[11];
    bool vlan = blob[2] & FLAG_VLAN_FILTERING;
    if (unicast > FILTER_MACS || multicast > FILTER_MACS ||
        len != BLOB_FIXED + (unicast + multicast) * 6 + (vlan ? sizeof f->vlan : 0))
        return -EINVAL;

    *f = (struct filter){.modes = blob[1], .vlan_filtering = vlan};
    memcpy(f->mac, blob + 4, 6);
    f->unicast.count = (uint8_t)unicast;
    f->unicast.overflow = blob[2] & FLAG_UNICAST_OVERFLOW;
    f->multicast.count = (uint8_t)multicast;
    f->multicast.overflow = blob[2] & FLAG_MULTICAST_OVERFLOW;
    memcpy(f->unicast.mac, blob + BLOB_FIXED, unicast * 6);
    memcpy(f->multicast.mac, blob + BLOB_FIXED + unicast * 6, multicast * 6);
    if (vlan)
        memcpy(f->vlan, blob + BLOB_FIXED + (unicast + multicast) * 6, sizeof f->vlan);
    return 0;
}
