/* The pure parts of the network device: offloads, receive filter, framing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/net/filter.h"
#include "devices/net/framing.h"
#include "tests/devices/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t peer[6] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};
static const uint8_t guest[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

enum { GUEST_IP = 0x0a00020f, PEER_IP = 0x0a000202 };

static void fill(uint8_t *p, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)(i * 7 + (i >> 8));
}

/* Offloads */

struct cut {
    uint32_t frames, payload, next_seq, longest;
    uint8_t flags[64];
    uint8_t data[65536];
};

static void collect(void *arg, const uint8_t *bytes, uint32_t len)
{
    struct cut *c = arg;
    static struct frame f;
    struct tcp t;
    uint32_t n;

    memcpy(f.packet + OFFLOAD_HEADER, bytes, len);
    f.len = OFFLOAD_HEADER + len;
    const uint8_t *payload = frame_read_tcp(&f, &t, &n);
    assert_non_null(payload);
    assert_int_equal(t.seq, c->next_seq);
    memcpy(c->data + c->payload, payload, n);
    c->flags[c->frames++] = t.flags;
    c->payload += n;
    c->next_seq += n;
    c->longest = len > c->longest ? len : c->longest;
}

static void test_segments(void **state)
{
    static const struct {
        uint32_t len;
        uint16_t size;
    } cases[] = {{1, 1448}, {1448, 1448}, {1449, 1448}, {65000, 1448}, {65479, 1448}, {50, 1}, {0, 100}};
    static uint8_t data[65536], scratch[OFFLOAD_FRAME_MAX];
    static struct frame f;
    static struct cut c;

    fill(data, sizeof data);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tcp t = {GUEST_IP, PEER_IP, 0xffffff00, 77, 1000, 80, 0x99}; /* CWR ACK PSH FIN */
        struct virtio_net_hdr_v1 hdr;
        uint32_t expected = cases[i].len ? (cases[i].len + cases[i].size - 1) / cases[i].size : 1;

        frame_tcp(&f, peer, &t, data, cases[i].len, cases[i].size);
        assert_int_equal(offload_parse(f.packet, f.len, &hdr), 0);
        c = (struct cut){.next_seq = t.seq};
        assert_int_equal(offload_segment(frame_bytes(&f), f.len - OFFLOAD_HEADER, &hdr, scratch, collect, &c),
                         0);
        assert_int_equal(c.frames, expected);
        assert_int_equal(c.payload, cases[i].len);
        assert_memory_equal(c.data, data, cases[i].len);
        assert_true(c.longest <= 54u + cases[i].size);
        for (uint32_t k = 0; k < c.frames; k++)
            assert_int_equal(c.flags[k], 0x10 | (k == 0 ? 0x80 : 0) | (k == c.frames - 1 ? 0x09 : 0));

        hdr.gso_size = 0;
        c = (struct cut){.next_seq = t.seq};
        assert_int_equal(offload_segment(frame_bytes(&f), f.len - OFFLOAD_HEADER, &hdr, scratch, collect, &c),
                         0);
        assert_int_equal(c.frames, 1);
        assert_memory_equal(c.data, data, cases[i].len);
    }
}

static unsigned v6_frames, v6_payload;

static void collect_v6(void *arg, const uint8_t *frame, uint32_t len)
{
    uint32_t tcp = len - 58, sum = 6 + tcp;

    assert_int_equal(offload_get16(frame + 18 + 4), tcp);
    for (uint32_t i = 18 + 8; i < len; i++)
        sum += i % 2 ? frame[i] : (uint32_t)frame[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    assert_int_equal(sum, 0xffff);
    v6_frames++;
    v6_payload += tcp - 20;
}

/* IPv6 behind a VLAN tag. */
static void test_segments_v6(void **state)
{
    static struct frame f;
    static uint8_t scratch[OFFLOAD_FRAME_MAX], data[5000];
    uint8_t tag[4] = {0, 5, 0x86, 0xdd},
            ip[40] = {0x60, [6] = 6, [7] = 64, [8] = 0xfe, [23] = 1, [24] = 0xfe, [39] = 2};
    uint8_t tcp[20] = {1, 2, 3, 4, [12] = 5 << 4, [13] = 0x10};
    struct virtio_net_hdr_v1 hdr = {.flags = 1,
                                    .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
                                    .gso_size = 1000,
                                    .csum_start = 58,
                                    .csum_offset = 16};

    frame_start(&f, peer, 0x8100);
    frame_append(&f, tag, 4);
    frame_append(&f, ip, 40);
    frame_append(&f, tcp, 20);
    frame_append(&f, data, sizeof data);
    memcpy(f.packet, &hdr, sizeof hdr);
    assert_int_equal(offload_parse(f.packet, f.len, &hdr), 0);
    assert_int_equal(
        offload_segment(frame_bytes(&f), f.len - OFFLOAD_HEADER, &hdr, scratch, collect_v6, NULL), 0);
    assert_int_equal(v6_frames, 5);
    assert_int_equal(v6_payload, 5000);
    hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    assert_int_equal(
        offload_segment(frame_bytes(&f), f.len - OFFLOAD_HEADER, &hdr, scratch, collect_v6, NULL), -EINVAL);
}

static void test_partial_checksum(void **state)
{
    static struct frame f;
    uint8_t data[333];

    fill(data, sizeof data);
    for (uint32_t len = 0; len <= sizeof data; len++) {
        struct virtio_net_hdr_v1 hdr = {.flags = 1, .csum_start = 34, .csum_offset = 6};
        frame_udp(&f, peer, GUEST_IP, 9, PEER_IP, 7, data, len);
        uint8_t *udp = frame_bytes(&f) + 34, sum[2];
        memcpy(sum, udp + 6, 2);
        uint32_t partial =
            (GUEST_IP >> 16) + (GUEST_IP & 0xffff) + (PEER_IP >> 16) + (PEER_IP & 0xffff) + 17 + 8 + len;
        offload_put16(udp + 6, partial + (partial >> 16));
        offload_checksum(frame_bytes(&f), f.len - OFFLOAD_HEADER, &hdr);
        assert_memory_equal(udp + 6, sum, 2);
    }
}

static void test_hostile_headers(void **state)
{
    static const struct {
        struct virtio_net_hdr_v1 hdr;
        uint32_t len;
    } bad[] = {
        {{0}, OFFLOAD_HEADER + 13},
        {{0}, 0},
        {{0}, OFFLOAD_PACKET_MAX + 1},
        {{.flags = 1, .csum_start = 65535, .csum_offset = 65535}, 100},
        {{.flags = 1, .csum_start = 87, .csum_offset = 0}, 100},
        {{.flags = 1, .csum_start = 0, .csum_offset = 87}, 100},
        {{.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 0}, 100},
        {{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 100}, 100},
        {{.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 100}, 100},
        {{.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_ECN, .gso_size = 100}, 100},
        {{.flags = 1, .gso_type = 0x7f, .gso_size = 100}, 100},
    };
    static uint8_t packet[OFFLOAD_PACKET_MAX + 1];
    struct virtio_net_hdr_v1 hdr;

    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(packet, &bad[i].hdr, OFFLOAD_HEADER);
        assert_int_equal(offload_parse(packet, bad[i].len, &hdr), -EINVAL);
    }
}

static void ignore(void *arg, const uint8_t *frame, uint32_t len)
{
    (*(unsigned *)arg)++;
}

/* Every truncation and every damaged byte of a header: refused or served, never read or written outside
 * (address sanitizer). */
static void test_damaged_headers(void **state)
{
    static struct frame f;
    struct tcp t = {GUEST_IP, PEER_IP, 1, 2, 3, 4, 0x10};
    uint8_t data[200] = {0}, *scratch = malloc(OFFLOAD_FRAME_MAX);
    unsigned frames = 0;

    frame_tcp(&f, peer, &t, data, sizeof data, 100);
    for (uint32_t len = OFFLOAD_HEADER + 14; len <= f.len; len++)
        for (uint32_t at = 0; at < 54; at++)
            for (unsigned bit = 0; bit < 8; bit++) {
                uint8_t *exact = malloc(len);
                struct virtio_net_hdr_v1 hdr;
                memcpy(exact, f.packet, len);
                exact[OFFLOAD_HEADER + at % (len - OFFLOAD_HEADER)] ^= (uint8_t)(1u << bit);
                if (offload_parse(exact, len, &hdr) == 0)
                    offload_segment(exact + OFFLOAD_HEADER, len - OFFLOAD_HEADER, &hdr, scratch, ignore,
                                    &frames);
                free(exact);
            }
    assert_true(frames > 0);
    free(scratch);
}

/* Filter */

static bool passes(const struct filter *f, const uint8_t *dst)
{
    uint8_t frame[60] = {0};

    memcpy(frame, dst, 6);
    return filter_accepts(f, frame, sizeof frame);
}

static bool command(struct filter *f, const char *bytes, uint32_t len)
{
    return filter_command(f, (const uint8_t *)bytes, len);
}

static void test_filter_modes(void **state)
{
    static const uint8_t other[6] = {2, 0, 0, 0, 0, 1}, group[6] = {1, 0, 0x5e, 0, 0, 1};
    static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct filter f;

    filter_reset(&f, guest);
    assert_true(passes(&f, other) && passes(&f, group) && passes(&f, all) && passes(&f, guest));
    assert_true(command(&f, "\0\0\0", 3)); /* promiscuous off */
    assert_true(!passes(&f, other) && !passes(&f, group) && passes(&f, all) && passes(&f, guest));
    assert_true(command(&f, "\0\1\1", 3)); /* all multicast */
    assert_true(!passes(&f, other) && passes(&f, group));
    assert_true(command(&f, "\0\3\1", 3)); /* no multicast */
    assert_false(passes(&f, group));
    assert_true(command(&f, "\0\2\1", 3)); /* all unicast */
    assert_true(passes(&f, other));
    assert_true(command(&f, "\0\4\1", 3)); /* no unicast */
    assert_true(!passes(&f, other) && !passes(&f, guest));
    assert_true(command(&f, "\0\5\1", 3)); /* no broadcast */
    assert_false(passes(&f, all));
    assert_true(command(&f, "\0\4\0", 3) && command(&f, "\0\2\0", 3));
    assert_true(command(&f, "\1\1\2\0\0\0\0\1", 8)); /* another address */
    assert_true(passes(&f, other) && !passes(&f, guest));
}

static void test_filter_tables(void **state)
{
    static const uint8_t other[6] = {2, 0, 0, 0, 0, 1}, group[6] = {1, 0, 0x5e, 0, 0, 1}, stranger[6] = {4};
    struct filter f;

    filter_reset(&f, guest);
    command(&f, "\0\0\0", 3);
    assert_true(command(&f, "\1\0\1\0\0\0\2\0\0\0\0\1\1\0\0\0\1\0\x5e\0\0\1", 22));
    assert_true(passes(&f, other) && passes(&f, group) && !passes(&f, stranger));

    /* More than fit: the whole class passes. */
    uint8_t many[2 + 4 + 65 * 6 + 4] = {1, 0, 65};
    assert_true(filter_command(&f, many, sizeof many));
    assert_true(passes(&f, stranger) && !passes(&f, group));
}

static void test_filter_vlan(void **state)
{
    struct filter f;
    uint8_t frame[60] = {[12] = 0x81, [14] = 0x60, [15] = 5};

    filter_reset(&f, guest);
    assert_true(filter_accepts(&f, frame, sizeof frame));
    assert_true(command(&f, "\2\0\6\0", 4));
    assert_false(filter_accepts(&f, frame, sizeof frame));
    assert_true(command(&f, "\2\0\5\0", 4));
    assert_true(filter_accepts(&f, frame, sizeof frame));
    assert_true(command(&f, "\2\1\5\0", 4));
    assert_false(filter_accepts(&f, frame, sizeof frame));
    frame[12] = 8;
    assert_true(filter_accepts(&f, frame, sizeof frame));
}

static void test_filter_hostile(void **state)
{
    static const struct {
        const char *bytes;
        uint32_t len;
    } bad[] = {
        {"", 0},
        {"\0", 1},
        {"\0\0", 2},
        {"\0\0\1\1", 4},
        {"\0\6\1", 3},
        {"\1\1\1\2\3\4\5", 7},
        {"\1\0\xff\xff\xff\xff", 6},
        {"\1\0\0\0\0\0", 6},
        {"\1\0\1\0\0\0\2\0\0\0\0\1\1\0\0\0\1\0\x5e\0\0", 21},
        {"\1\0\0\0\0\0\0\0\0\0\0", 11},
        {"\2\0\0\x10", 4},
        {"\2\2\0\0", 4},
        {"\2\0\0", 3},
        {"\1\2", 2},
        {"\3\0", 2},
        {"\x7f\0\0", 3},
    };
    struct filter f, before;

    filter_reset(&f, guest);
    before = f;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(command(&f, bad[i].bytes, bad[i].len));
        assert_memory_equal(&f, &before, sizeof f);
    }
}

static void test_filter_blob(void **state)
{
    struct filter f, g;
    uint8_t blob[FILTER_BLOB_MAX];

    filter_reset(&f, guest);
    command(&f, "\0\1\1", 3);
    command(&f, "\1\0\1\0\0\0\2\0\0\0\0\1\1\0\0\0\1\0\x5e\0\0\1", 22);
    command(&f, "\2\0\5\0", 4);
    uint32_t len = filter_encode(&f, blob);
    assert_true(len <= sizeof blob);
    memset(&g, 0xa5, sizeof g);
    assert_int_equal(filter_decode(&g, blob, len), 0);
    uint8_t again[FILTER_BLOB_MAX];
    assert_int_equal(filter_encode(&g, again), len);
    assert_memory_equal(again, blob, len);
    for (uint32_t n = 0; n < len; n++)
        assert_int_equal(filter_decode(&g, blob, n), -EINVAL);
    blob[10] = 255;
    assert_int_equal(filter_decode(&g, blob, len), -EINVAL);

    /* The largest state fits. */
    filter_reset(&f, guest);
    uint8_t many[2 + 2 * (4 + 64 * 6)] = {1, 0, 64, [2 + 4 + 64 * 6] = 64};
    assert_true(filter_command(&f, many, sizeof many));
    command(&f, "\2\0\5\0", 4);
    assert_true(filter_encode(&f, blob) <= sizeof blob);
}

/* Framing */

/* Frames survive whatever pieces the stream comes in. */
static void test_framing_in_pieces(void **state)
{
    static uint8_t stream[200000];
    uint32_t total = 0, lengths[40];

    for (unsigned i = 0; i < 40; i++) {
        lengths[i] = i == 20 ? OFFLOAD_FRAME_MAX : 1 + i * 97;
        stream[total + 1] = (uint8_t)(lengths[i] >> 16);
        offload_put16(stream + total + 2, lengths[i]);
        memset(stream + total + 4, (int)i, lengths[i]);
        total += 4 + lengths[i];
    }
    for (uint32_t piece = 1; piece < 70000; piece = piece * 3 + 1) {
        struct framing_in *in = calloc(1, sizeof *in);
        unsigned frames = 0;
        for (uint32_t at = 0; at < total;) {
            uint32_t room, len;
            uint8_t *space = framing_space(in, &room);
            const uint8_t *frame;
            uint32_t n = piece < room ? piece : room;
            n = n < total - at ? n : total - at;
            assert_true(n > 0);
            memcpy(space, stream + at, n);
            in->have += n;
            at += n;
            while (framing_next(in, &frame, &len) == 1) {
                assert_int_equal(len, lengths[frames]);
                assert_int_equal(frame[0], frames);
                assert_int_equal(frame[len - 1], frames);
                frames++;
                framing_done(in);
            }
        }
        assert_int_equal(frames, 40);
        free(in);
    }
}

static void test_framing_hostile_length(void **state)
{
    static const uint32_t bad[] = {0, OFFLOAD_FRAME_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    static struct framing_in in;
    const uint8_t *frame;
    uint32_t len;

    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        in.at = 0;
        in.have = 4;
        offload_put16(in.data, bad[i] >> 16);
        offload_put16(in.data + 2, bad[i]);
        assert_int_equal(framing_next(&in, &frame, &len), -EPROTO);
    }
}

static void test_framing_out(void **state)
{
    uint8_t data[1024], frame[100];
    struct framing_out out = {.data = data, .size = sizeof data};

    memset(frame, 1, sizeof frame);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(framing_put(&out, frame, 100), 0);
    assert_int_equal(framing_put(&out, frame, 100), -ENOSPC);
    framing_sent(&out, 104 * 3 + 7); /* into the fourth */
    assert_int_equal(framing_put(&out, frame, 100), -ENOSPC);
    assert_int_equal(framing_clear(&out), 6);
    assert_int_equal(framing_clear(&out), 0);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(framing_put(&out, frame, 100), 0);
    framing_sent(&out, 104 * 6);
    assert_int_equal(framing_put(&out, frame, 100), 0);
    framing_sent(&out, 104 * 4);
    assert_int_equal(out.head, out.tail);
    assert_int_equal(framing_clear(&out), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments),          cmocka_unit_test(test_segments_v6),
        cmocka_unit_test(test_partial_checksum),  cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_damaged_headers),   cmocka_unit_test(test_filter_modes),
        cmocka_unit_test(test_filter_tables),     cmocka_unit_test(test_filter_vlan),
        cmocka_unit_test(test_filter_hostile),    cmocka_unit_test(test_filter_blob),
        cmocka_unit_test(test_framing_in_pieces), cmocka_unit_test(test_framing_hostile_length),
        cmocka_unit_test(test_framing_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
