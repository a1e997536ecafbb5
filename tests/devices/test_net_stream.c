/* cleave-net with the stream back-end, against real unix sockets; with the tap back-end where this host lets
 * us have one. */
#include "tests/devices/frames.h"
#include "tests/devices/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { RECEIVE, TRANSMIT, CONTROL };

static const uint8_t other[6] = {0x52, 0x54, 0x00, 0x99, 0x99, 0x99};
static const char *executable;
static char directory[64];

static void path_of(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", directory, name);
}

static int listen_at(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    path_of(a.sun_path, sizeof a.sun_path, name);
    unlink(a.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static int connect_at(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    path_of(a.sun_path, sizeof a.sun_path, name);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int accept_soon(int listener)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};

    assert_int_equal(poll(&p, 1, HARNESS_PATIENCE_MS), 1);
    return accept(listener, NULL, NULL);
}

static void start_server(struct harness *h, int listener)
{
    struct harness_config c = {.executable = executable,
                               .id = "net.net0",
                               .options = {{"backend", "stream"}, {"mac", GUEST_TEXT}},
                               .fds = {{"listen", listener}}};

    assert_true(harness_start(h, &c));
}

static void start_client(struct harness *h, const char *name)
{
    char path[108];
    struct harness_config c = {.executable = executable,
                               .id = "net.net1",
                               .options = {{"backend", "stream"}, {"mac", GUEST_TEXT}, {"path", path}}};

    path_of(path, sizeof path, name);
    assert_true(harness_start(h, &c));
}

/* A frame of `len` bytes whose contents follow from `tag`. */
static void make_frame(struct frame *f, uint32_t len, unsigned tag)
{
    static uint8_t data[OFFLOAD_FRAME_MAX];

    memset(data, (int)tag, len);
    frame_start(f, other, 0x88b5);
    frame_append(f, data, len - 14);
}

static void transmit(struct harness *h, const struct frame *f)
{
    harness_request(h, TRANSMIT, f->packet, f->len, NULL, 0);
}

static void write_all(int fd, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, (const char *)data + at, len - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

static void read_all(int fd, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, HARNESS_PATIENCE_MS), 1);
        ssize_t n = read(fd, (char *)data + at, len - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* Reads one framed frame from a socket; its length. */
static uint32_t read_frame(int fd, uint8_t *frame)
{
    uint8_t prefix[4];

    read_all(fd, prefix, 4);
    assert_int_equal(prefix[0], 0);
    uint32_t len = (uint32_t)prefix[1] << 16 | offload_get16(prefix + 2);
    assert_true(len <= OFFLOAD_FRAME_MAX);
    read_all(fd, frame, len);
    return len;
}

static uint32_t put_prefix(uint8_t *p, uint32_t len)
{
    offload_put16(p, len >> 16);
    offload_put16(p + 2, len);
    return 4;
}

static void write_frame(int fd, struct frame *f)
{
    uint8_t prefix[4];

    put_prefix(prefix, f->len - OFFLOAD_HEADER);
    write_all(fd, prefix, 4);
    write_all(fd, frame_bytes(f), f->len - OFFLOAD_HEADER);
}

static uint32_t receive(struct harness *h, struct frame *f)
{
    int len = harness_event(h, RECEIVE, f->packet, sizeof f->packet, HARNESS_PATIENCE_MS);

    assert_true(len > 0);
    f->len = (uint32_t)len;
    return f->len - OFFLOAD_HEADER;
}

static bool same(const struct frame *a, const struct frame *b)
{
    return a->len == b->len &&
           !memcmp(a->packet + OFFLOAD_HEADER, b->packet + OFFLOAD_HEADER, a->len - OFFLOAD_HEADER);
}

static struct frame tx, rx;
static uint8_t bytes[OFFLOAD_FRAME_MAX];

/* Once a frame has come through, the connection is up on both sides. */
static void greet(struct harness *h, int fd)
{
    make_frame(&tx, 60, 0xee);
    write_frame(fd, &tx);
    receive(h, &rx);
    assert_true(same(&tx, &rx));
}

static void test_both_ways(void **state)
{
    static const uint32_t lengths[] = {14, 60, 1514, 9000, OFFLOAD_FRAME_MAX};
    struct harness h;
    int listener = listen_at("both");

    start_server(&h, listener);
    int fd = connect_at("both");
    greet(&h, fd);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        make_frame(&tx, lengths[i], i);
        transmit(&h, &tx);
        assert_int_equal(read_frame(fd, bytes), lengths[i]);
        assert_memory_equal(bytes, frame_bytes(&tx), lengths[i]);
        write_frame(fd, &tx);
        receive(&h, &rx);
        assert_true(same(&tx, &rx));
        assert_int_equal(rx.packet[0], 0);
    }
    close(fd);
    close(listener);
    harness_stop(&h);
}

/* A segmented packet reaches the peer in frames of the usual size. */
static void test_segmentation(void **state)
{
    static uint8_t data[20000];
    struct harness h;
    struct tcp t = {1, 2, 100, 200, 3, 4, 0x18};
    int listener = listen_at("segments");
    uint32_t got = 0;

    start_server(&h, listener);
    int fd = connect_at("segments");
    greet(&h, fd);
    frame_tcp(&tx, other, &t, data, sizeof data, 1448);
    transmit(&h, &tx);
    while (got < sizeof data) {
        uint32_t len = read_frame(fd, bytes);
        assert_true(len <= 1514);
        assert_true(frame_sums_hold(bytes, len));
        got += len - 54;
    }
    assert_int_equal(got, sizeof data);
    close(fd);
    close(listener);
    harness_stop(&h);
}

static void test_byte_by_byte(void **state)
{
    struct harness h;
    int listener = listen_at("bytes");

    start_server(&h, listener);
    int fd = connect_at("bytes");
    make_frame(&tx, 100, 5);
    put_prefix(bytes, 100);
    memcpy(bytes + 4, frame_bytes(&tx), 100);
    for (unsigned i = 0; i < 104; i++) {
        write_all(fd, bytes + i, 1);
        if (i % 10 == 0)
            usleep(1000);
    }
    receive(&h, &rx);
    assert_true(same(&tx, &rx));
    close(fd);
    close(listener);
    harness_stop(&h);
}

/* A connection that ends inside a frame takes it along: the next one begins afresh, on both sides. */
static void test_torn_frame(void **state)
{
    struct harness h;
    int listener = listen_at("torn");

    start_server(&h, listener);
    for (unsigned cut = 1; cut < 100; cut += 9) {
        int fd = connect_at("torn");
        greet(&h, fd);
        make_frame(&tx, 96, cut);
        put_prefix(bytes, 96);
        memcpy(bytes + 4, frame_bytes(&tx), 96);
        write_all(fd, bytes, cut);
        close(fd);
    }
    int fd = connect_at("torn");
    greet(&h, fd);
    assert_int_equal(harness_event(&h, RECEIVE, rx.packet, sizeof rx.packet, 0), -1);
    close(fd);
    close(listener);
    harness_stop(&h);
}

static void test_hostile_lengths(void **state)
{
    static const uint32_t bad[] = {0, OFFLOAD_FRAME_MAX + 1, 0x7fffffff, 0xffffffff};
    struct harness h;
    int listener = listen_at("hostile");
    char end;

    start_server(&h, listener);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        int fd = connect_at("hostile");
        greet(&h, fd);
        put_prefix(bytes, bad[i]);
        bytes[0] = (uint8_t)(bad[i] >> 24);
        write_all(fd, bytes, 4);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, HARNESS_PATIENCE_MS), 1);
        assert_int_equal(read(fd, &end, 1), 0); /* it hung up */
        close(fd);
    }
    /* Frames too short to be any are left out, the connection goes on. */
    int fd = connect_at("hostile");
    for (uint32_t len = 1; len < 14; len++) {
        put_prefix(bytes, len);
        write_all(fd, bytes, 4 + len);
    }
    greet(&h, fd);
    close(fd);
    close(listener);
    harness_stop(&h);
}

/* A client finds a server that comes late, and again after it went away, however often. */
static void test_reconnects(void **state)
{
    struct harness h;
    char path[108];

    path_of(path, sizeof path, "late");
    unlink(path);
    start_client(&h, "late");
    make_frame(&tx, 60, 1);
    transmit(&h, &tx); /* nobody there: dropped */
    for (unsigned i = 0; i < 3; i++) {
        int listener = listen_at("late");
        int fd = accept_soon(listener);
        greet(&h, fd);
        make_frame(&tx, 200, i);
        transmit(&h, &tx);
        assert_int_equal(read_frame(fd, bytes), 200);
        assert_memory_equal(bytes, frame_bytes(&tx), 200);
        close(fd);
        close(listener);
        unlink(path);
    }
    harness_poll_control(&h, 0);
    assert_non_null(strstr(h.log, "no peer"));
    harness_stop(&h);
}

/* A peer that does not read loses frames, but whole ones; the guest's requests are answered all the same. */
static void test_slow_peer(void **state)
{
    enum { FRAMES = 3000 };
    struct harness h;
    int listener = listen_at("slow");
    unsigned got = 0, last = 0;

    start_server(&h, listener);
    int fd = connect_at("slow");
    greet(&h, fd);
    for (unsigned i = 0; i < FRAMES; i++) {
        make_frame(&tx, 1500, 0);
        offload_put16(frame_bytes(&tx) + 14, i);
        transmit(&h, &tx);
    }
    const uint8_t *in =
        h.front->ops->response_mem(h.front, RECEIVE) - h.front->layout.queue[RECEIVE].response_arena;
    uint64_t dropped = ((const struct channel_in_header *)(const void *)in)->dropped;
    assert_true(dropped > 0 && dropped < FRAMES - (1 << 20) / 1504);
    for (; got < FRAMES - dropped; got++) {
        assert_int_equal(read_frame(fd, bytes), 1500);
        unsigned i = offload_get16(bytes + 14);
        assert_true(got == 0 ? i == 0 : i > last);
        last = i;
    }
    make_frame(&tx, 70, 0);
    transmit(&h, &tx);
    assert_int_equal(read_frame(fd, bytes), 70);
    close(fd);
    close(listener);
    harness_stop(&h);
}

/* A guest that takes nothing stops the peer; nothing is lost and the order stays. */
static void test_slow_guest(void **state)
{
    enum { FRAMES = 5000 };
    struct harness h;
    int listener = listen_at("patient");
    unsigned sent = 0, got = 0;
    uint32_t at = 0;
    static uint8_t framed[1504];

    start_server(&h, listener);
    int fd = connect_at("patient");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (got < FRAMES) {
        unsigned stuck = 0;
        while (sent < FRAMES && stuck < 20) {
            make_frame(&tx, 1500, 0);
            offload_put16(frame_bytes(&tx) + 14, sent);
            put_prefix(framed, 1500);
            memcpy(framed + 4, frame_bytes(&tx), 1500);
            ssize_t n = write(fd, framed + at, sizeof framed - at);
            if (n < 0) {
                assert_int_equal(errno, EAGAIN);
                stuck++;
                usleep(1000);
                continue;
            }
            stuck = 0;
            at += (uint32_t)n;
            if (at == sizeof framed) {
                at = 0;
                sent++;
            }
        }
        for (unsigned i = 0; i < 1500 && got < sent; i++, got++) {
            receive(&h, &rx);
            assert_int_equal(offload_get16(frame_bytes(&rx) + 14), got);
        }
    }
    close(fd);
    close(listener);
    harness_check_pss(&h, 16384);
    harness_stop(&h);
}

/* Two cards joined. */
static void test_two_cards(void **state)
{
    struct harness a, b;
    int listener = listen_at("pair");

    start_server(&a, listener);
    start_client(&b, "pair");
    for (unsigned tries = 0;; tries++) {
        make_frame(&tx, 60, 3);
        transmit(&b, &tx);
        if (harness_event(&a, RECEIVE, rx.packet, sizeof rx.packet, 100) > 0)
            break;
        assert_true(tries < 100);
    }
    for (unsigned i = 0; i < 200; i++) {
        make_frame(&tx, 64 + i * 50, i);
        transmit(i % 2 ? &a : &b, &tx);
        receive(i % 2 ? &b : &a, &rx);
        assert_true(same(&tx, &rx));
    }
    close(listener);
    harness_stop(&a);
    harness_stop(&b);
}

/* tap */

static int open_tap(struct ifreq *r)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    *r = (struct ifreq){.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "cleavetest%d"};
    if (fd >= 0 && ioctl(fd, TUNSETIFF, r) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The host's side of the interface, as raw packets. */
static int open_packet_socket(const char *ifname)
{
    struct ifreq r = {0};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));

    memcpy(r.ifr_name, ifname, sizeof r.ifr_name);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0)
        return -1;
    r.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &r) < 0 || ioctl(fd, SIOCGIFINDEX, &r) < 0)
        return -1;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = r.ifr_ifindex};
    return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -1 : fd;
}

static void test_tap(void **state)
{
    struct harness h;
    struct ifreq r;
    int tap = open_tap(&r);
    int host = tap < 0 ? -1 : open_packet_socket(r.ifr_name);

    if (host < 0)
        skip();
    struct harness_config c = {.executable = executable,
                               .id = "net.net0",
                               .options = {{"backend", "tap"}, {"mac", GUEST_TEXT}, {"ifname", r.ifr_name}},
                               .fds = {{"tap", tap}}};
    assert_true(harness_start(&h, &c));
    close(tap);
    const Cleave__Describe *d = h.describe.body->describe;
    assert_true(d->features & 1ull << VIRTIO_NET_F_GUEST_TSO4);
    assert_false(d->closed);
    for (unsigned i = 0; i < 200; i++) {
        make_frame(&tx, 60 + i * 7, i);
        transmit(&h, &tx);
        struct pollfd p = {.fd = host, .events = POLLIN};
        assert_int_equal(poll(&p, 1, HARNESS_PATIENCE_MS), 1);
        assert_int_equal(read(host, bytes, sizeof bytes), tx.len - OFFLOAD_HEADER);
        assert_memory_equal(bytes, frame_bytes(&tx), tx.len - OFFLOAD_HEADER);
        write_all(host, bytes, tx.len - OFFLOAD_HEADER);
        do
            receive(&h, &rx);
        while (!same(&tx, &rx)); /* the host's network sends on its own account too */
        assert_int_equal(rx.packet[10], 1);
    }
    close(host);
    harness_stop(&h);
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-net";
    snprintf(directory, sizeof directory, "/tmp/cleave-test-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),       cmocka_unit_test(test_segmentation),
        cmocka_unit_test(test_byte_by_byte),    cmocka_unit_test(test_torn_frame),
        cmocka_unit_test(test_hostile_lengths), cmocka_unit_test(test_reconnects),
        cmocka_unit_test(test_slow_peer),       cmocka_unit_test(test_slow_guest),
        cmocka_unit_test(test_two_cards),       cmocka_unit_test(test_tap),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command) == 0 ? failed : 1;
}
