/* Frames for tests. See frames.h. The checksums here are byte-wise and know nothing of the code under test.
 */
#include "tests/devices/frames.h"

#include <string.h>

static uint32_t add_bytes(uint32_t sum, const uint8_t *p, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    return sum;
}

static uint16_t finish(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put32(uint8_t *p, uint32_t v)
{
    offload_put16(p, v >> 16);
    offload_put16(p + 2, v);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)offload_get16(p) << 16 | offload_get16(p + 2);
}

void frame_start(struct frame *f, const uint8_t dst[6], uint16_t ethertype)
{
    memset(f->packet, 0, OFFLOAD_HEADER);
    memcpy(f->packet + OFFLOAD_HEADER, dst, 6);
    memcpy(f->packet + OFFLOAD_HEADER + 6, GUEST_MAC, 6);
    offload_put16(f->packet + OFFLOAD_HEADER + 12, ethertype);
    f->len = OFFLOAD_HEADER + 14;
}

void frame_append(struct frame *f, const void *data, uint32_t len)
{
    if (len)
        memcpy(f->packet + f->len, data, len);
    f->len += len;
}

void frame_arp(struct frame *f, uint32_t from, uint32_t to)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint8_t arp[28] = {0, 1, 8, 0, 6, 4, 0, 1};

    memcpy(arp + 8, GUEST_MAC, 6);
    put32(arp + 14, from);
    put32(arp + 24, to);
    frame_start(f, broadcast, 0x0806);
    frame_append(f, arp, sizeof arp);
}

static uint8_t *start_ip(struct frame *f, const uint8_t dst[6], uint32_t from, uint32_t to, uint8_t protocol,
                         uint32_t len)
{
    uint8_t ip[20] = {0x45, [8] = 64, [9] = protocol};

    offload_put16(ip + 2, 20 + len);
    offload_put16(ip + 4, 0x4242);
    put32(ip + 12, from);
    put32(ip + 16, to);
    offload_put16(ip + 10, finish(add_bytes(0, ip, 20)));
    frame_start(f, dst, 0x0800);
    frame_append(f, ip, 20);
    return f->packet + f->len;
}

static uint32_t pseudo(const uint8_t *ip, uint8_t protocol, uint32_t len)
{
    return add_bytes(0, ip + 12, 8) + protocol + len;
}

void frame_ping(struct frame *f, const uint8_t dst[6], uint32_t from, uint32_t to, uint16_t id,
                const void *data, uint32_t len)
{
    uint8_t head[8] = {8};
    uint8_t *icmp = start_ip(f, dst, from, to, 1, 8 + len);

    offload_put16(head + 4, id);
    frame_append(f, head, 8);
    frame_append(f, data, len);
    offload_put16(icmp + 2, finish(add_bytes(0, icmp, 8 + len)));
}

void frame_udp(struct frame *f, const uint8_t dst[6], uint32_t from, uint16_t sport, uint32_t to,
               uint16_t dport, const void *data, uint32_t len)
{
    uint8_t head[8];
    uint8_t *udp = start_ip(f, dst, from, to, 17, 8 + len);

    offload_put16(head, sport);
    offload_put16(head + 2, dport);
    offload_put16(head + 4, 8 + len);
    offload_put16(head + 6, 0);
    frame_append(f, head, 8);
    frame_append(f, data, len);
    offload_put16(udp + 6, finish(add_bytes(pseudo(udp - 20, 17, 8 + len), udp, 8 + len)));
}

void frame_tcp(struct frame *f, const uint8_t dst[6], const struct tcp *t, const void *data, uint32_t len,
               uint16_t gso)
{
    uint8_t head[20] = {[12] = 5 << 4, [13] = t->flags};
    uint8_t *tcp = start_ip(f, dst, t->from, t->to, 6, 20 + len);

    offload_put16(head, t->sport);
    offload_put16(head + 2, t->dport);
    put32(head + 4, t->seq);
    put32(head + 8, t->ack);
    offload_put16(head + 14, 65535);
    frame_append(f, head, 20);
    frame_append(f, data, len);
    if (!gso) {
        offload_put16(tcp + 16, finish(add_bytes(pseudo(tcp - 20, 6, 20 + len), tcp, 20 + len)));
        return;
    }
    struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .hdr_len = 54,
                                    .gso_size = gso,
                                    .csum_start = 34,
                                    .csum_offset = 16};
    memcpy(f->packet, &hdr, sizeof hdr);
    offload_put16(tcp + 16, (uint16_t)~finish(pseudo(tcp - 20, 6, 20 + len)));
}

bool frame_sums_hold(const uint8_t *frame, uint32_t len)
{
    const uint8_t *ip = frame + 14;
    uint32_t header = (ip[0] & 0xfu) * 4, total = offload_get16(ip + 2);

    if (14 + total > len || finish(add_bytes(0, ip, header)))
        return false;
    return (ip[9] != 6 && ip[9] != 17) ||
           !finish(add_bytes(pseudo(ip, ip[9], total - header), ip + header, total - header));
}

const uint8_t *frame_read_tcp(const struct frame *f, struct tcp *t, uint32_t *len)
{
    const uint8_t *frame = f->packet + OFFLOAD_HEADER, *ip = frame + 14, *tcp = ip + 20;

    if (f->len < OFFLOAD_HEADER + 54 || offload_get16(frame + 12) != 0x0800 || ip[9] != 6 ||
        !frame_sums_hold(frame, f->len - OFFLOAD_HEADER))
        return NULL;
    uint32_t header = (tcp[12] >> 4) * 4u;
    *t = (struct tcp){.from = get32(ip + 12),
                      .to = get32(ip + 16),
                      .sport = offload_get16(tcp),
                      .dport = offload_get16(tcp + 2),
                      .seq = get32(tcp + 4),
                      .ack = get32(tcp + 8),
                      .flags = tcp[13]};
    *len = offload_get16(ip + 2) - 20u - header;
    return tcp + header;
}
