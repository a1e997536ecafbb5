/* Checksums and TCP segmentation in software. See offload.h. Offsets come out of the frame itself; hdr_len,
 * which the specification calls a hint, is not used. */
#include "devices/net/offload.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_V4 = 0x0800,
    ETHERTYPE_V6 = 0x86dd,
    PROTOCOL_TCP = 6,
    TCP_FIN = 0x01,
    TCP_PSH = 0x08,
    TCP_CWR = 0x80,
};

uint64_t offload_sum(const uint8_t *p, uint32_t len, uint64_t sum)
{
    for (; len >= 4; p += 4, len -= 4) {
        uint32_t word;

        memcpy(&word, p, 4);
        sum += word;
    }
    if (len >= 2) {
        uint16_t word;

        memcpy(&word, p, 2);
        sum += word;
        p += 2;
        len -= 2;
    }
    if (len)
        sum += *p; /* the odd byte is the first one of a pair, as it lies in memory on a little-endian host */
    return sum;
}

uint16_t offload_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Stores a folded sum, which is in memory order. */
static void store_sum(uint8_t *p, uint16_t sum)
{
    memcpy(p, &sum, 2);
}

int offload_parse(const uint8_t *packet, uint32_t len, struct virtio_net_hdr_v1 *hdr)
{
    if (len < OFFLOAD_HEADER + OFFLOAD_FRAME_MIN || len > OFFLOAD_PACKET_MAX)
        return -EINVAL;

    struct virtio_net_hdr_v1 h;
    memcpy(&h, packet, OFFLOAD_HEADER);

    bool partial = h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (partial && (uint32_t)h.csum_start + h.csum_offset + 2 > len - OFFLOAD_HEADER)
        return -EINVAL;
    switch (h.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        if (h.gso_type)
            return -EINVAL;
        break;
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
        if (!partial || !h.gso_size)
            return -EINVAL;
        break;
    default:
        return -EINVAL;
    }
    *hdr = h;
    return 0;
}

void offload_checksum(uint8_t *frame, uint32_t len, const struct virtio_net_hdr_v1 *hdr)
{
    if (!(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return;
    uint16_t sum = offload_fold(offload_sum(frame + hdr->csum_start, len - hdr->csum_start, 0));
    store_sum(frame + hdr->csum_start + hdr->csum_offset, sum ? sum : 0xffff);
}

/* Where the headers of a TCP frame begin and end. */
struct layout {
    uint32_t ip, tcp, payload;
    bool v6;
};

static int find_headers(const uint8_t *frame, uint32_t len, bool v6, struct layout *l)
{
    uint32_t ip = OFFLOAD_FRAME_MIN;
    uint16_t type = offload_get16(frame + 12);

    if (type == ETHERTYPE_VLAN && len >= OFFLOAD_FRAME_MIN + 4) {
        type = offload_get16(frame + 16);
        ip += 4;
    }
    if (type != (v6 ? ETHERTYPE_V6 : ETHERTYPE_V4) || len < ip + (v6 ? 40 : 20) || len - ip > 65535)
        return -EINVAL;

    uint32_t tcp = ip + (v6 ? 40 : (frame[ip] & 0xfu) * 4);
    uint8_t protocol = v6 ? frame[ip + 6] : frame[ip + 9];
    if (frame[ip] >> 4 != (v6 ? 6 : 4) || tcp < ip + 20 || protocol != PROTOCOL_TCP || len < tcp + 20)
        return -EINVAL;

    uint32_t payload = tcp + (frame[tcp + 12] >> 4) * 4u;
    if (payload < tcp + 20 || payload > len)
        return -EINVAL;
    *l = (struct layout){.ip = ip, .tcp = tcp, .payload = payload, .v6 = v6};
    return 0;
}

/* Sets lengths and checksums of a frame whose other fields are final. */
static void finish_frame(uint8_t *frame, uint32_t len, const struct layout *l)
{
    uint8_t *ip = frame + l->ip, *tcp = frame + l->tcp;
    uint8_t pseudo[4] = {0, PROTOCOL_TCP, (uint8_t)((len - l->tcp) >> 8), (uint8_t)(len - l->tcp)};
    uint64_t addresses;

    if (l->v6) {
        offload_put16(ip + 4, len - l->ip - 40);
        addresses = offload_sum(ip + 8, 32, 0);
    } else {
        offload_put16(ip + 2, len - l->ip);
        store_sum(ip + 10, 0);
        store_sum(ip + 10, offload_fold(offload_sum(ip, l->tcp - l->ip, 0)));
        addresses = offload_sum(ip + 12, 8, 0);
    }
    store_sum(tcp + 16, 0);
    store_sum(tcp + 16, offload_fold(offload_sum(tcp, len - l->tcp, offload_sum(pseudo, 4, addresses))));
}

int offload_segment(const uint8_t *frame, uint32_t len, const struct virtio_net_hdr_v1 *hdr, uint8_t *scratch,
                    offload_emit emit, void *arg)
{
    struct layout l;
    bool v6 = (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV6;
    int err = find_headers(frame, len, v6, &l);

    if (err)
        return err;

    uint32_t total = len - l.payload, size = hdr->gso_size ? hdr->gso_size : total;
    uint32_t seq = (uint32_t)offload_get16(frame + l.tcp + 4) << 16 | offload_get16(frame + l.tcp + 6);
    uint16_t id = offload_get16(frame + l.ip + 4);
    uint32_t at = 0;

    memcpy(scratch, frame, l.payload);
    do {
        uint32_t n = total - at < size ? total - at : size;
        uint8_t flags = frame[l.tcp + 13];

        if (at)
            flags &= (uint8_t)~TCP_CWR;
        if (at + n < total)
            flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
        scratch[l.tcp + 13] = flags;
        offload_put16(scratch + l.tcp + 4, (seq + at) >> 16);
        offload_put16(scratch + l.tcp + 6, seq + at);
        if (!v6)
            offload_put16(scratch + l.ip + 4, id++);
        memcpy(scratch + l.payload, frame + l.payload + at, n);
        finish_frame(scratch, l.payload + n, &l);
        emit(arg, scratch, l.payload + n);
        at += n;
    } while (at < total);
    return 0;
}
