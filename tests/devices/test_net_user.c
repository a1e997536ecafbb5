/* cleave-net with the user back-end: the real libslirp with a scripted guest in front and real sockets of
 * this host behind. */
#include "tests/devices/frames.h"
#include "tests/devices/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE, TRANSMIT, CONTROL };
enum { GUEST_IP = 0x0a00020f, GATEWAY_IP = 0x0a000202 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

static const uint8_t gateway[6] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};
static const char *executable;

/* A scripted guest; `rx` is the packet it received last. */
struct guest {
    struct harness h;
    struct frame tx, rx;
};

static struct guest g;

static void start(const char *hostfwd)
{
    struct harness_config c = {
        .executable = executable,
        .id = "net.net0",
        .options = {{"backend", "user"}, {"mac", GUEST_TEXT}, {hostfwd ? "hostfwd" : NULL, hostfwd}}};

    assert_true(harness_start(&g.h, &c));
}

static void send_packet(void)
{
    harness_request(&g.h, TRANSMIT, g.tx.packet, g.tx.len, NULL, 0);
}

static bool receive(int timeout_ms)
{
    int len = harness_event(&g.h, RECEIVE, g.rx.packet, sizeof g.rx.packet, timeout_ms);

    g.rx.len = len > 0 ? (uint32_t)len : 0;
    return len > 0;
}

/* Receives until a packet satisfies `wanted`; answers ARP requests for the guest on the way. */
static void receive_until(bool (*wanted)(const uint8_t *frame))
{
    for (;;) {
        if (!receive(HARNESS_PATIENCE_MS))
            fail_msg("the packet never came");
        uint8_t *frame = frame_bytes(&g.rx);
        if (wanted(frame))
            return;
        if (offload_get16(frame + 12) == 0x0806 && offload_get16(frame + 20) == 1) {
            frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
            frame_bytes(&g.tx)[21] = 2;
            memcpy(frame_bytes(&g.tx), gateway, 6);
            memcpy(frame_bytes(&g.tx) + 32, gateway, 6);
            send_packet();
        }
    }
}

static bool is_arp_reply(const uint8_t *f)
{
    return offload_get16(f + 12) == 0x0806 && offload_get16(f + 20) == 2;
}

static bool is_icmp(const uint8_t *f)
{
    return offload_get16(f + 12) == 0x0800 && f[23] == 1;
}

static bool is_udp(const uint8_t *f)
{
    return offload_get16(f + 12) == 0x0800 && f[23] == 17;
}

static bool is_tcp(const uint8_t *f)
{
    return offload_get16(f + 12) == 0x0800 && f[23] == 6;
}

static int listen_somewhere(int type, uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static uint16_t free_port(int type)
{
    uint16_t port;

    close(listen_somewhere(type, &port));
    return port;
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void test_arp_and_ping(void **state)
{
    start(NULL);
    const Cleave__Describe *d = g.h.describe.body->describe;
    assert_false(d->closed);
    frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
    send_packet();
    receive_until(is_arp_reply);
    assert_memory_equal(frame_bytes(&g.rx) + 22, gateway, 6);
    frame_ping(&g.tx, gateway, GUEST_IP, GATEWAY_IP, 7, "hello", 5);
    send_packet();
    receive_until(is_icmp);
    assert_int_equal(frame_bytes(&g.rx)[34], 0);
    assert_memory_equal(frame_bytes(&g.rx) + 42, "hello", 5);
    harness_check_pss(&g.h, 16384);
    harness_stop(&g.h);
}

/* DISCOVER gets the OFFER of 10.0.2.15 with router and name server. */
static void test_dhcp(void **state)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint8_t m[300] = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
    static const uint8_t options[] = {99, 130, 83, 99, 53, 1, 1, 55, 2, 3, 6, 255};

    start(NULL);
    memcpy(m + 28, GUEST_MAC, 6);
    memcpy(m + 236, options, sizeof options);
    frame_udp(&g.tx, broadcast, 0, 68, 0xffffffff, 67, m, sizeof m);
    send_packet();
    receive_until(is_udp);
    const uint8_t *reply = frame_bytes(&g.rx) + 42;
    assert_int_equal(reply[0], 2);
    assert_memory_equal(reply + 4, "\x12\x34\x56\x78", 4);
    assert_memory_equal(reply + 16, "\x0a\0\x02\x0f", 4);
    assert_memory_equal(reply + 236, "\x63\x82\x53\x63\x35\x01\x02", 7);
    harness_stop(&g.h);
}

/* The driver accepted VIRTIO_NET_F_GUEST_CSUM, so libslirp's checksums need no second look; and without it
 * the flag is absent. */
static void test_checksums_vouched_for(void **state)
{
    for (unsigned accepted = 0; accepted < 2; accepted++) {
        start(NULL);
        g.h.features = accepted ? 1ull << VIRTIO_NET_F_GUEST_CSUM : 0;
        frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
        send_packet();
        receive_until(is_arp_reply);
        assert_int_equal(g.rx.packet[0], accepted ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
        assert_int_equal(g.rx.packet[10], 1);
        harness_stop(&g.h);
    }
}

static void test_udp_out(void **state)
{
    uint16_t port;
    int fd = listen_somewhere(SOCK_DGRAM, &port);
    struct sockaddr_in from;
    socklen_t fromlen = sizeof from;
    char buf[64];

    start(NULL);
    frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
    send_packet();
    frame_udp(&g.tx, gateway, GUEST_IP, 5000, GATEWAY_IP, port, "question", 8);
    send_packet();
    assert_int_equal(recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &fromlen), 8);
    assert_memory_equal(buf, "question", 8);
    assert_int_equal(sendto(fd, "answer", 6, 0, (struct sockaddr *)&from, fromlen), 6);
    receive_until(is_udp);
    assert_int_equal(offload_get16(frame_bytes(&g.rx) + 34), port);
    assert_int_equal(offload_get16(frame_bytes(&g.rx) + 36), 5000);
    assert_memory_equal(frame_bytes(&g.rx) + 42, "answer", 6);
    close(fd);
    harness_stop(&g.h);
}

static void test_udp_forward(void **state)
{
    uint16_t port = free_port(SOCK_DGRAM);
    char fwd[64];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(fwd, sizeof fwd, "udp:127.0.0.1:%u-10.0.2.15:9", port);
    start(fwd);
    frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
    send_packet();
    assert_int_equal(sendto(fd, "in", 2, 0, (struct sockaddr *)&a, sizeof a), 2);
    receive_until(is_udp);
    assert_int_equal(offload_get16(frame_bytes(&g.rx) + 36), 9);
    assert_memory_equal(frame_bytes(&g.rx) + 42, "in", 2);
    close(fd);
    harness_stop(&g.h);
}

/* A TCP connection of the scripted guest: what it has sent, and received in order. */
struct connection {
    struct tcp out;
    uint32_t received;
    uint8_t *data;
    bool finished;
};

static void tcp_send(struct connection *c, uint8_t flags, const void *data, uint32_t len, uint16_t gso)
{
    c->out.flags = flags;
    frame_tcp(&g.tx, gateway, &c->out, data, len, gso);
    send_packet();
    c->out.seq += len + !!(flags & (SYN | FIN));
}

/* Takes one segment; acknowledges what it brings in order. Returns the acknowledgement in it. */
static uint32_t tcp_receive(struct connection *c)
{
    struct tcp t;
    uint32_t len;

    receive_until(is_tcp);
    const uint8_t *payload = frame_read_tcp(&g.rx, &t, &len);
    assert_non_null(payload);
    assert_false(t.flags & RST);
    if (t.flags & SYN) {
        c->out.ack = t.seq + 1;
    } else if (t.seq == c->out.ack && (len || t.flags & FIN)) {
        memcpy(c->data + c->received, payload, len);
        c->received += len;
        c->finished = t.flags & FIN;
        c->out.ack += len + c->finished;
        tcp_send(c, ACK, NULL, 0, 0);
    }
    return t.ack;
}

/* The guest connects to a server of the host and sends 2 MB in packets of up to 60 kB, which it leaves to the
 * device to cut. */
static void test_tcp_out(void **state)
{
    enum { TOTAL = 2000000 };
    static uint8_t data[TOTAL], seen[TOTAL];
    uint16_t port;
    int server = listen_somewhere(SOCK_STREAM, &port);
    struct connection c = {.out = {GUEST_IP, GATEWAY_IP, 1000, 0, 40000, port, 0}, .data = seen};
    uint32_t sent = 0, acked = 0, got = 0;

    for (uint32_t i = 0; i < TOTAL; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    start(NULL);
    frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
    send_packet();
    tcp_send(&c, SYN, NULL, 0, 0);
    tcp_receive(&c);
    tcp_send(&c, ACK, NULL, 0, 0);
    int fd = accept(server, NULL, NULL);
    assert_true(fd >= 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);

    while (acked < TOTAL) {
        uint32_t n = TOTAL - sent < 60000 ? TOTAL - sent : 60000;
        if (n && sent - acked < 60000 && sent == acked) {
            tcp_send(&c, ACK | PSH, data + sent, n, 1400);
            sent += n;
        }
        uint32_t ack = tcp_receive(&c) - 1001;
        acked = ack > acked && ack <= sent ? ack : acked;
        for (ssize_t r; (r = read(fd, seen + got, TOTAL - got)) > 0;)
            got += (uint32_t)r;
    }
    while (got < TOTAL) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, HARNESS_PATIENCE_MS), 1);
        ssize_t r = read(fd, seen + got, TOTAL - got);
        assert_true(r > 0);
        got += (uint32_t)r;
    }
    assert_memory_equal(seen, data, TOTAL);
    close(fd);
    close(server);
    harness_stop(&g.h);
}

/* The host connects through hostfwd and sends 3 MB to a guest that takes them slowly: all of it comes, in
 * order. */
static void test_tcp_forward(void **state)
{
    enum { TOTAL = 3000000 };
    static uint8_t data[TOTAL], seen[TOTAL + 65536];
    uint16_t port = free_port(SOCK_STREAM);
    char fwd[64];
    uint32_t sent = 0;
    struct tcp t;
    uint32_t len;

    for (uint32_t i = 0; i < TOTAL; i++)
        data[i] = (uint8_t)(i * 13 >> 2);
    snprintf(fwd, sizeof fwd, "tcp:127.0.0.1:%u-:22", port);
    start(fwd);
    frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
    send_packet();
    int fd = connect_to(port);
    fcntl(fd, F_SETFL, O_NONBLOCK);

    receive_until(is_tcp);
    assert_non_null(frame_read_tcp(&g.rx, &t, &len));
    assert_int_equal(t.flags & (SYN | ACK), SYN);
    assert_int_equal(t.dport, 22);
    struct connection c = {.out = {GUEST_IP, t.from, 5000, t.seq + 1, 22, t.sport, 0}, .data = seen};
    tcp_send(&c, SYN | ACK, NULL, 0, 0);

    while (c.received < TOTAL) {
        ssize_t n;
        while (sent < TOTAL && (n = write(fd, data + sent, TOTAL - sent)) > 0)
            sent += (uint32_t)n;
        if (c.received % 7 == 0)
            usleep(200);
        tcp_receive(&c);
    }
    assert_memory_equal(seen, data, TOTAL);
    close(fd);
    while (!c.finished)
        tcp_receive(&c);
    harness_check_pss(&g.h, 16384);
    harness_stop(&g.h);
}

/* A guest that has not sent anything yet is asked for its address. */
static void test_forward_to_silent_guest(void **state)
{
    uint16_t port = free_port(SOCK_STREAM);
    char fwd[64];
    struct tcp t;
    uint32_t len;

    snprintf(fwd, sizeof fwd, "tcp:127.0.0.1:%u-:22", port);
    start(fwd);
    int fd = connect_to(port);
    receive_until(is_tcp);
    assert_non_null(frame_read_tcp(&g.rx, &t, &len));
    assert_int_equal(t.flags & (SYN | ACK), SYN);
    assert_int_equal(t.dport, 22);
    assert_memory_equal(frame_bytes(&g.rx), GUEST_MAC, 6);
    close(fd);
    harness_stop(&g.h);
}

/* One that does not answer at first is asked again with the connection's next attempt. */
static void test_forward_to_late_guest(void **state)
{
    uint16_t port = free_port(SOCK_STREAM);
    char fwd[64];

    snprintf(fwd, sizeof fwd, "tcp:127.0.0.1:%u-:22", port);
    start(fwd);
    int fd = connect_to(port);
    assert_true(receive(HARNESS_PATIENCE_MS));
    assert_int_equal(offload_get16(frame_bytes(&g.rx) + 12), 0x0806);
    receive_until(is_tcp);
    close(fd);
    harness_stop(&g.h);
}

static void test_busy_port(void **state)
{
    uint16_t port;
    int fd = listen_somewhere(SOCK_STREAM, &port);
    char fwd[64], text[64];
    struct harness_config c = {.executable = executable,
                               .id = "net.net0",
                               .options = {{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", fwd}}};

    snprintf(fwd, sizeof fwd, "tcp:127.0.0.1:%u-:22", port);
    snprintf(text, sizeof text, "cannot forward tcp port %u", port);
    assert_false(harness_start(&g.h, &c));
    assert_non_null(strstr(g.h.failure, text));
    assert_non_null(strstr(g.h.failure, strerror(EADDRINUSE)));
    assert_int_equal(g.h.failure_err, EADDRINUSE);
    close(fd);
}

/* Two forwardings, both served. */
static void test_several_forwards(void **state)
{
    uint16_t a = free_port(SOCK_STREAM), b = free_port(SOCK_STREAM);
    char first[64], second[64];
    struct harness_config c = {
        .executable = executable,
        .id = "net.net0",
        .options = {{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", first}, {"hostfwd", second}}};

    snprintf(first, sizeof first, "tcp:127.0.0.1:%u-10.0.2.15:22", a);
    snprintf(second, sizeof second, "tcp:127.0.0.1:%u-10.0.2.15:80", b);
    assert_true(harness_start(&g.h, &c));
    frame_arp(&g.tx, GUEST_IP, GATEWAY_IP);
    send_packet();
    int fd[2] = {connect_to(a), connect_to(b)};
    unsigned ports = 0;
    while (ports != (22 | 80)) {
        struct tcp t;
        uint32_t len;
        receive_until(is_tcp);
        assert_non_null(frame_read_tcp(&g.rx, &t, &len));
        ports |= t.dport;
    }
    close(fd[0]);
    close(fd[1]);
    harness_stop(&g.h);
}

/* A guest that sends rubbish is its own victim only. */
static void test_rubbish(void **state)
{
    unsigned seed = 1;

    start(NULL);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t len = 12 + (uint32_t)rand_r(&seed) % 200;
        frame_ping(&g.tx, gateway, GUEST_IP, GATEWAY_IP, 1, "x", 1);
        for (uint32_t k = 12 + 12; k < len; k++)
            if (rand_r(&seed) % 8 == 0)
                g.tx.packet[k] = (uint8_t)rand_r(&seed);
        g.tx.len = len;
        send_packet();
        while (receive(0))
            continue;
    }
    frame_ping(&g.tx, gateway, GUEST_IP, GATEWAY_IP, 7, "alive", 5);
    send_packet();
    harness_stop(&g.h);
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-net";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arp_and_ping),          cmocka_unit_test(test_dhcp),
        cmocka_unit_test(test_checksums_vouched_for), cmocka_unit_test(test_udp_out),
        cmocka_unit_test(test_udp_forward),           cmocka_unit_test(test_tcp_out),
        cmocka_unit_test(test_tcp_forward),           cmocka_unit_test(test_forward_to_silent_guest),
        cmocka_unit_test(test_forward_to_late_guest), cmocka_unit_test(test_busy_port),
        cmocka_unit_test(test_several_forwards),      cmocka_unit_test(test_rubbish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
