/* The `echo` back-end: a closed, deterministic peer at one address that answers ARP requests, echoes ICMP
 * echo requests and UDP datagrams of any port back, and takes everything else in silence. Its answer is a
 * function of the frame alone. */
#include "devices/net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum {
    ARP_LEN = 28,
    IPV4_MIN = 20,
    PROTOCOL_ICMP = 1,
    PROTOCOL_UDP = 17,
    ICMP_ECHO_REQUEST = 8,
    ICMP_ECHO_REPLY = 0,
    FRAGMENT_BITS = 0x3fff, /* more fragments, and the offset */
    HOP_LIMIT = 64,
};

struct echo {
    uint8_t mac[6];
    uint8_t address[4];
    uint8_t packet[OFFLOAD_PACKET_MAX];
};

static int echo_open(struct net *n)
{
    static const uint8_t mac[6] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02}, address[4] = {10, 0, 2, 2};
    struct echo *e = net_backend_data(n);

    memcpy(e->mac, mac, 6);
    memcpy(e->address, address, 4);
    return 0;
}

/* The answers are built in place in a copy of the frame; each function returns whether there is one. */

static bool answer_arp(const struct echo *e, uint8_t *frame, uint32_t len)
{
    static const uint8_t request[8] = {0, 1, 8, 0, 6, 4, 0, 1}; /* Ethernet, IPv4, lengths, request */
    uint8_t *arp = frame + OFFLOAD_FRAME_MIN;

    if (len < OFFLOAD_FRAME_MIN + ARP_LEN || memcmp(arp, request, 8) || memcmp(arp + 24, e->address, 4))
        return false;
    arp[7] = 2;
    memcpy(arp + 18, arp + 8, 10); /* the sender becomes the target */
    memcpy(arp + 8, e->mac, 6);
    memcpy(arp + 14, e->address, 4);
    return true;
}

static bool answer_icmp(uint8_t *icmp, uint32_t len)
{
    if (len < 8 || icmp[0] != ICMP_ECHO_REQUEST || icmp[1] || offload_fold(offload_sum(icmp, len, 0)))
        return false;
    icmp[0] = ICMP_ECHO_REPLY;
    offload_put16(icmp + 2, 0);
    uint16_t sum = offload_fold(offload_sum(icmp, len, 0));
    memcpy(icmp + 2, &sum, 2);
    return true;
}

/* Exchanging addresses and ports leaves the checksum as it is. */
static bool answer_udp(uint8_t *udp, uint32_t len)
{
    uint8_t port[2];

    if (len < 8 || offload_get16(udp + 4) < 8 || offload_get16(udp + 4) > len)
        return false;
    memcpy(port, udp, 2);
    memcpy(udp, udp + 2, 2);
    memcpy(udp + 2, port, 2);
    return true;
}

static bool answer_ipv4(const struct echo *e, uint8_t *frame, uint32_t len)
{
    uint8_t *ip = frame + OFFLOAD_FRAME_MIN;
    uint32_t room = len - OFFLOAD_FRAME_MIN;

    if (room < IPV4_MIN || ip[0] >> 4 != 4)
        return false;
    uint32_t header = (ip[0] & 0xfu) * 4, total = offload_get16(ip + 2);
    if (header < IPV4_MIN || total < header || total > room || memcmp(ip + 16, e->address, 4) ||
        offload_get16(ip + 6) & FRAGMENT_BITS || offload_fold(offload_sum(ip, header, 0)))
        return false;
    if (!(ip[9] == PROTOCOL_ICMP && answer_icmp(ip + header, total - header)) &&
        !(ip[9] == PROTOCOL_UDP && answer_udp(ip + header, total - header)))
        return false;

    memcpy(ip + 16, ip + 12, 4);
    memcpy(ip + 12, e->address, 4);
    ip[8] = HOP_LIMIT;
    offload_put16(ip + 10, 0);
    uint16_t sum = offload_fold(offload_sum(ip, header, 0));
    memcpy(ip + 10, &sum, 2);
    return true;
}

static int echo_send(struct net *n, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len)
{
    struct echo *e = net_backend_data(n);
    uint8_t *answer = e->packet + OFFLOAD_HEADER;
    uint16_t type = offload_get16(frame + 12);

    memcpy(answer, frame, len);
    if (!(type == 0x0806 && answer_arp(e, answer, len)) && !(type == 0x0800 && answer_ipv4(e, answer, len)))
        return 0;
    offload_plain_header(e->packet, 0);
    memcpy(answer, frame + 6, 6);
    memcpy(answer + 6, e->mac, 6);
    return net_receive(n, e->packet, OFFLOAD_HEADER + len);
}

const struct net_backend net_echo = {
    .name = "echo",
    .closed = true,
    .any_segment = true,
    .size = sizeof(struct echo),
    .open = echo_open,
    .send = echo_send,
};
