/* cleave-net with the echo back-end, and what all back-ends have in common: description, filter, control
 * queue, capture, bad configurations. */
#include "tests/devices/frames.h"
#include "tests/devices/harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECEIVE, TRANSMIT, CONTROL };
enum { GUEST_IP = 0x0a00020f, PEER_IP = 0x0a000202 };

static const uint8_t peer[6] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};
static const char *executable;

static struct harness_config config(void)
{
    return (struct harness_config){
        .executable = executable, .id = "net.net0", .options = {{"backend", "echo"}, {"mac", GUEST_TEXT}}};
}

static void start(struct harness *h)
{
    struct harness_config c = config();

    assert_true(harness_start(h, &c));
}

/* Sends a packet; the answer must be there as soon as the request is complete. False if there is none. */
static bool exchange(struct harness *h, const struct frame *f, struct frame *answer)
{
    assert_int_equal(harness_request(h, TRANSMIT, f->packet, f->len, NULL, 0), 0);
    int len = harness_event(h, RECEIVE, answer->packet, sizeof answer->packet, 0);
    answer->len = len > 0 ? (uint32_t)len : 0;
    return len > 0;
}

static void test_description(void **state)
{
    struct harness h;

    start(&h);
    const Cleave__Describe *d = h.describe.body->describe;
    assert_int_equal(d->virtio_id, 1);
    assert_true(d->closed);
    assert_true(d->inbound_merge);
    assert_int_equal(d->merge_feature, VIRTIO_NET_F_MRG_RXBUF);
    assert_int_equal(d->merge_count_at, 10);
    assert_memory_equal(d->config.data, GUEST_MAC, 6);
    assert_int_equal(d->config.data[6], VIRTIO_NET_S_LINK_UP);
    assert_true(d->features & 1ull << VIRTIO_NET_F_CSUM);
    assert_false(d->features & 1ull << VIRTIO_NET_F_GUEST_TSO4);
    assert_true(d->blob.len > 0);
    harness_stop(&h);
}

static void test_arp(void **state)
{
    static struct frame f, a;
    struct harness h;

    start(&h);
    frame_arp(&f, GUEST_IP, PEER_IP);
    assert_true(exchange(&h, &f, &a));
    assert_int_equal(a.len, f.len);
    assert_int_equal(a.packet[10], 1); /* num_buffers */
    assert_memory_equal(frame_bytes(&a), GUEST_MAC, 6);
    assert_memory_equal(frame_bytes(&a) + 6, peer, 6);
    assert_int_equal(frame_bytes(&a)[21], 2);
    assert_memory_equal(frame_bytes(&a) + 22, peer, 6);
    assert_memory_equal(frame_bytes(&a) + 32, GUEST_MAC, 6);
    frame_arp(&f, GUEST_IP, PEER_IP + 1);
    assert_false(exchange(&h, &f, &a));
    f.len -= 1;
    assert_false(exchange(&h, &f, &a));
    harness_stop(&h);
}

static void test_ping(void **state)
{
    static struct frame f, a;
    static uint8_t data[1400];
    struct harness h;

    start(&h);
    for (uint32_t len = 0; len <= sizeof data; len += 100) {
        memset(data, (int)len, len);
        frame_ping(&f, peer, GUEST_IP, PEER_IP, (uint16_t)len, data, len);
        assert_true(exchange(&h, &f, &a));
        assert_int_equal(a.len, f.len);
        assert_true(frame_sums_hold(frame_bytes(&a), a.len - OFFLOAD_HEADER));
        assert_int_equal(frame_bytes(&a)[34], 0);
        assert_memory_equal(frame_bytes(&a) + 38, frame_bytes(&f) + 38, len + 4);
        frame_bytes(&f)[36] ^= 1; /* checksum */
        assert_false(exchange(&h, &f, &a));
    }
    harness_stop(&h);
}

static void test_udp(void **state)
{
    static struct frame f, a;
    static uint8_t data[60000];
    struct harness h;

    start(&h);
    for (uint32_t len = 1; len <= sizeof data; len *= 3) {
        memset(data, (int)len, len);
        frame_udp(&f, peer, GUEST_IP, 1234, PEER_IP, 7, data, len);
        assert_true(exchange(&h, &f, &a));
        assert_true(frame_sums_hold(frame_bytes(&a), a.len - OFFLOAD_HEADER));
        assert_int_equal(offload_get16(frame_bytes(&a) + 34), 7);
        assert_int_equal(offload_get16(frame_bytes(&a) + 36), 1234);
        assert_memory_equal(frame_bytes(&a) + 42, data, len);
    }
    frame_bytes(&f)[20] = 0x20; /* a fragment */
    assert_false(exchange(&h, &f, &a));
    harness_stop(&h);
}

/* A partial checksum is completed before the peer sees it. */
static void test_partial_checksum(void **state)
{
    static struct frame f, a;
    struct harness h;
    struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
    uint32_t sum = (GUEST_IP >> 16) + (GUEST_IP & 0xffff) + (PEER_IP >> 16) + (PEER_IP & 0xffff) + 17 + 8 + 4;

    start(&h);
    frame_udp(&f, peer, GUEST_IP, 1, PEER_IP, 2, "data", 4);
    memcpy(f.packet, &hdr, sizeof hdr);
    offload_put16(frame_bytes(&f) + 40, sum + (sum >> 16));
    assert_true(exchange(&h, &f, &a));
    assert_int_equal(a.packet[0], 0);
    assert_true(frame_sums_hold(frame_bytes(&a), a.len - OFFLOAD_HEADER));
    harness_stop(&h);
}

/* Many requests at a time: every answer, in order, and the same in another run. */
static void test_order(void **state)
{
    static struct frame f, a;
    struct harness h;

    start(&h);
    for (unsigned round = 0; round < 20; round++) {
        unsigned slots[100];
        uint32_t len;
        for (unsigned i = 0; i < 100; i++) {
            frame_ping(&f, peer, GUEST_IP, PEER_IP, (uint16_t)i, "order", 5);
            slots[i] = harness_submit(&h, TRANSMIT, f.packet, f.len, 0);
        }
        for (unsigned i = 0; i < 100; i++) {
            harness_answer(&h, TRANSMIT, slots[i], &len);
            harness_release(&h, TRANSMIT, slots[i]);
            assert_true(harness_event(&h, RECEIVE, a.packet, sizeof a.packet, 0) > 0);
            assert_int_equal(offload_get16(frame_bytes(&a) + 38), i);
        }
        assert_int_equal(harness_event(&h, RECEIVE, a.packet, sizeof a.packet, 0), -1);
    }
    harness_check_pss(&h, 16384);
    harness_stop(&h);
}

/* A guest that takes no packets: requests stay unanswered when the ring is full, and nothing is lost. */
static void test_held_requests(void **state)
{
    static struct frame f, a;
    struct harness h;
    unsigned slots[1200], submitted = 0, answered = 0;
    uint32_t len;

    start(&h);
    frame_ping(&f, peer, GUEST_IP, PEER_IP, 1, "held", 4);
    while (submitted < 1024) {
        slots[submitted] = harness_submit(&h, TRANSMIT, f.packet, f.len, 0);
        harness_answer(&h, TRANSMIT, slots[submitted], &len);
        harness_release(&h, TRANSMIT, slots[submitted++]);
    }
    for (unsigned i = 0; i < 50; i++)
        slots[i] = harness_submit(&h, TRANSMIT, f.packet, f.len, 0);
    usleep(50000);
    for (unsigned i = 0; i < 50; i++)
        assert_false(harness_answered(&h, TRANSMIT, slots[i]));
    for (unsigned i = 0; i < 1024 + 50; i++)
        assert_true(harness_event(&h, RECEIVE, a.packet, sizeof a.packet, HARNESS_PATIENCE_MS) > 0);
    for (; answered < 50; answered++) {
        harness_answer(&h, TRANSMIT, slots[answered], &len);
        harness_release(&h, TRANSMIT, slots[answered]);
    }
    harness_stop(&h);
}

static void test_malformed_packets(void **state)
{
    static struct frame f, a;
    struct harness h;

    start(&h);
    for (uint32_t len = 0; len < OFFLOAD_HEADER + 14; len++) {
        f.len = len;
        assert_false(exchange(&h, &f, &a));
    }
    frame_ping(&f, peer, GUEST_IP, PEER_IP, 1, "x", 1);
    f.packet[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    f.packet[6] = 0xff;
    f.packet[7] = 0xff;
    assert_false(exchange(&h, &f, &a));
    f.packet[0] = 0;
    f.packet[1] = 0x55;
    assert_false(exchange(&h, &f, &a));
    frame_ping(&f, peer, GUEST_IP, PEER_IP, 1, "x", 1);
    assert_true(exchange(&h, &f, &a));
    harness_stop(&h);
}

static unsigned control(struct harness *h, const char *bytes, uint32_t len)
{
    uint8_t ack = 0x55;

    assert_int_equal(harness_request(h, CONTROL, bytes, len, &ack, 1), 1);
    return ack;
}

static void test_control_queue(void **state)
{
    static struct frame f, a;
    struct harness h;

    start(&h);
    frame_arp(&f, GUEST_IP, PEER_IP);
    memcpy(frame_bytes(&f) + 6, "\x52\x54\x00\x99\x99\x99", 6); /* the answer goes to another address */
    assert_true(exchange(&h, &f, &a));
    assert_int_equal(control(&h, "\0\0\0", 3), VIRTIO_NET_OK);
    assert_false(exchange(&h, &f, &a));
    assert_int_equal(control(&h, "\1\1\x52\x54\x00\x99\x99\x99", 8), VIRTIO_NET_OK);
    assert_true(exchange(&h, &f, &a));
    assert_int_equal(control(&h, "\1\1\x52", 3), VIRTIO_NET_ERR);
    assert_int_equal(control(&h, "\x33\1", 2), VIRTIO_NET_ERR);
    assert_int_equal(harness_request(&h, CONTROL, "\0\0\0", 3, NULL, 0), 0);
    /* A reset of the device brings the configured state back. */
    harness_reset(&h);
    frame_arp(&f, GUEST_IP, PEER_IP);
    assert_true(exchange(&h, &f, &a));
    harness_stop(&h);
}

/* The state comes back with the completion that changes it, and only then. */
static void test_control_blob(void **state)
{
    struct harness h;
    uint32_t len;

    start(&h);
    unsigned slot = harness_submit(&h, CONTROL, "\0\1\1", 3, 1);
    harness_answer(&h, CONTROL, slot, &len);
    assert_true(h.slots[CONTROL][slot].completion.blob_len > 0);
    harness_release(&h, CONTROL, slot);
    slot = harness_submit(&h, CONTROL, "\x33\1\1", 3, 1);
    harness_answer(&h, CONTROL, slot, &len);
    assert_int_equal(h.slots[CONTROL][slot].completion.blob_len, 0);
    harness_release(&h, CONTROL, slot);
    harness_stop(&h);
}

static void test_capture(void **state)
{
    static struct frame f, a;
    struct harness h;
    struct harness_config c = config();
    int fd = memfd_create("capture", 0);
    uint32_t word[6], record[4];
    uint8_t bytes[200];

    c.fds[0] = (struct harness_fd){"pcap", fd};
    assert_true(harness_start(&h, &c));
    frame_ping(&f, peer, GUEST_IP, PEER_IP, 1, "captured", 8);
    assert_true(exchange(&h, &f, &a));
    harness_stop(&h);

    assert_int_equal(pread(fd, word, 24, 0), 24);
    assert_int_equal(word[0], 0xa1b23c4d);
    assert_int_equal(word[1], 4 << 16 | 2);
    assert_int_equal(word[5], 1);
    off_t at = 24;
    unsigned seen = 0;
    for (; pread(fd, record, 16, at) == 16; at += 16 + record[2]) {
        assert_int_equal(record[2], f.len - OFFLOAD_HEADER);
        assert_true(record[1] < 1000000000);
        assert_int_equal(pread(fd, bytes, record[2], at + 16), record[2]);
        seen |= !memcmp(bytes, frame_bytes(&f), record[2])   ? 1
                : !memcmp(bytes, frame_bytes(&a), record[2]) ? 2
                                                             : 4;
    }
    assert_int_equal(seen, 3);
    struct stat st;
    fstat(fd, &st);
    assert_int_equal(at, st.st_size);
    close(fd);
}

static void test_bad_configuration(void **state)
{
    static const struct {
        struct harness_option options[4];
        const char *text;
    } bad[] = {
        {{{"backend", "echo"}}, "no address"},
        {{{"backend", "echo"}, {"mac", "52:54:00:12:34"}}, "bad address"},
        {{{"backend", "echo"}, {"mac", "52:54:00:12:34:56:78"}}, "bad address"},
        {{{"backend", "echo"}, {"mac", "53:54:00:12:34:56"}}, "bad address"},
        {{{"backend", "carrier-pigeon"}, {"mac", GUEST_TEXT}}, "unknown back-end 'carrier-pigeon'"},
        {{{"mac", GUEST_TEXT}}, "unknown back-end"},
        {{{"backend", "tap"}, {"mac", GUEST_TEXT}, {"ifname", "tap77"}}, "tap interface 'tap77'"},
        {{{"backend", "stream"}, {"mac", GUEST_TEXT}}, "bad socket path"},
        {{{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", "tcp:1:2"}}, "bad forwarding"},
        {{{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", "sctp::1-:2"}}, "bad forwarding"},
        {{{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", "tcp::0-:2"}}, "bad forwarding"},
        {{{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", "tcp::2-:99999"}}, "bad forwarding"},
        {{{"backend", "user"}, {"mac", GUEST_TEXT}, {"hostfwd", "tcp:localhost:2-:9"}}, "bad forwarding"},
    };

    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct harness h;
        struct harness_config c = config();
        memset(c.options, 0, sizeof c.options);
        memcpy(c.options, bad[i].options, sizeof bad[i].options);
        assert_false(harness_start(&h, &c));
        assert_non_null(strstr(h.failure, bad[i].text));
    }
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-net";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_arp),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_udp),
        cmocka_unit_test(test_partial_checksum),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_held_requests),
        cmocka_unit_test(test_malformed_packets),
        cmocka_unit_test(test_control_queue),
        cmocka_unit_test(test_control_blob),
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_bad_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
