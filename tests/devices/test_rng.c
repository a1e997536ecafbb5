/* cleave-rng as a process, and the ChaCha20 it uses against the vectors of RFC 8439. */
#include "devices/rng/chacha20.h"
#include "tests/devices/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char *executable;

static struct harness_config config(uint64_t seed, uint32_t index)
{
    return (struct harness_config){.executable = executable, .id = "rng.rng0", .seed = seed, .index = index};
}

/* RFC 8439, section 2.3.2. */
static void test_chacha20_block(void **state)
{
    uint8_t key[32], out[64];
    const uint8_t nonce[12] = {0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0};
    static const uint8_t expected[64] = {
        0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20, 0x71, 0xc4,
        0xc7, 0xd1, 0xf4, 0xc7, 0x33, 0xc0, 0x68, 0x03, 0x04, 0x22, 0xaa, 0x9a, 0xc3, 0xd4, 0x6c, 0x4e,
        0xd2, 0x82, 0x64, 0x46, 0x07, 0x9f, 0xaa, 0x09, 0x14, 0xc2, 0xd7, 0x05, 0xd9, 0x8b, 0x02, 0xa2,
        0xb5, 0x12, 0x9c, 0xd1, 0xde, 0x16, 0x4e, 0xb9, 0xcb, 0xd0, 0x83, 0xe8, 0xa2, 0x50, 0x3c, 0x4e,
    };
    for (unsigned i = 0; i < 32; i++)
        key[i] = (uint8_t)i;
    chacha20_stream(key, nonce, 1, out, sizeof(out));
    assert_memory_equal(out, expected, sizeof(out));
}

/* RFC 8439, appendix A.1, test vectors 1 and 2: consecutive blocks of the zero key. */
static void test_chacha20_stream(void **state)
{
    const uint8_t key[32] = {0}, nonce[12] = {0};
    static const uint8_t first[8] = {0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90};
    static const uint8_t second[8] = {0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a};
    uint8_t out[100], part[70];
    chacha20_stream(key, nonce, 0, out, sizeof(out));
    assert_memory_equal(out, first, 8);
    assert_memory_equal(out + 64, second, 8);
    chacha20_stream(key, nonce, 0, part, sizeof(part));
    assert_memory_equal(out, part, sizeof(part));
}

static void read_bytes(const struct harness_config *c, uint8_t out[3][100])
{
    struct harness h;
    assert_true(harness_start(&h, c));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(harness_request(&h, 0, NULL, 0, out[i], 100), 100);
    harness_stop(&h);
}

static void test_describes_itself(void **state)
{
    struct harness h;
    struct harness_config c = config(1, 0);
    assert_true(harness_start(&h, &c));
    const Cleave__Describe *d = h.describe.body->describe;
    assert_int_equal(d->virtio_id, 4);
    assert_true(d->closed);
    assert_int_equal(d->config.len, 0);
    harness_stop(&h);
}

/* The bytes follow from seed, device and request, and from nothing else. */
static void test_deterministic(void **state)
{
    uint8_t a[3][100], b[3][100];
    struct harness_config c = config(1234, 2);
    read_bytes(&c, a);
    read_bytes(&c, b);
    assert_memory_equal(a, b, sizeof(a));
    assert_memory_not_equal(a[0], a[1], 100);
    c.seed = 1235;
    read_bytes(&c, b);
    assert_memory_not_equal(a[0], b[0], 100);
    c = config(1234, 3);
    read_bytes(&c, b);
    assert_memory_not_equal(a[0], b[0], 100);
}

/* Every length up to the largest, and many requests at a time. */
static void test_lengths(void **state)
{
    struct harness h;
    struct harness_config c = config(5, 0);
    assert_true(harness_start(&h, &c));
    static const uint32_t lengths[] = {0, 1, 63, 64, 65, 4096, 1 << 20};
    static uint8_t out[1 << 20];
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        assert_int_equal(harness_request(&h, 0, NULL, 0, out, lengths[i]), lengths[i]);
    for (unsigned round = 0; round < 20; round++) {
        unsigned slots[64];
        uint32_t len;
        for (unsigned i = 0; i < 64; i++)
            slots[i] = harness_submit(&h, 0, NULL, 0, 500);
        for (unsigned i = 0; i < 64; i++) {
            harness_answer(&h, 0, slots[i], &len);
            assert_int_equal(len, 500);
        }
        for (unsigned i = 0; i < 64; i++)
            harness_release(&h, 0, slots[i]);
    }
    harness_check_pss(&h, 8192);
    harness_stop(&h);
}

static void test_reset(void **state)
{
    struct harness h;
    struct harness_config c = config(5, 0);
    uint8_t out[64];
    assert_true(harness_start(&h, &c));
    for (unsigned i = 0; i < 10; i++) {
        unsigned slot = harness_submit(&h, 0, NULL, 0, 64);
        harness_reset(&h);
        assert_true(harness_answered(&h, 0, slot));
        harness_release(&h, 0, slot);
        assert_int_equal(harness_request(&h, 0, NULL, 0, out, 64), 64);
    }
    harness_stop(&h);
}

static const struct hostile {
    const char *what;
    struct ring_request r; /* seq and epoch are filled in unless set */
} hostile[] = {
    {"unknown op", {.op = 9, .resp_cap = 8}},
    {"slot of a reset", {.op = RING_OP_REQUEST, .slot = RING_SLOT_NONE}},
    {"response too long", {.op = RING_OP_REQUEST, .resp_cap = 2 << 20}},
    {"request too long", {.op = RING_OP_REQUEST, .req_len = 1}},
    {"response outside", {.op = RING_OP_REQUEST, .resp_cap = 64, .resp_off = 64ull << 20}},
    {"offset wraps", {.op = RING_OP_REQUEST, .resp_cap = 64, .resp_off = ~63ull}},
    {"unaligned", {.op = RING_OP_REQUEST, .resp_cap = 64, .resp_off = 3}},
    {"other epoch", {.op = RING_OP_REQUEST, .resp_cap = 64, .epoch = 6}},
    {"blob without space", {.op = RING_OP_REQUEST, .resp_cap = 64, .blob_cap = 64}},
    {"unknown flag", {.op = RING_OP_REQUEST, .resp_cap = 64, .flags = 0x80}},
};

static void test_hostile_requests(void **state)
{
    for (unsigned i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        struct harness h;
        struct harness_config c = config(5, 0);
        assert_true(harness_start(&h, &c));
        struct ring_request r = hostile[i].r;
        r.seq = 1;
        r.epoch = r.epoch ? r.epoch : h.epoch;
        harness_submit_raw(&h, 0, &r);
        harness_expect_failure(&h);
        assert_int_equal(h.failure_err, EPROTO);
        assert_non_null(strstr(h.failure, "malformed request"));
    }
}

static void test_repeated_sequence(void **state)
{
    struct harness h;
    struct harness_config c = config(5, 0);
    uint8_t out[8];
    assert_true(harness_start(&h, &c));
    harness_request(&h, 0, NULL, 0, out, 8);
    h.seq--;
    harness_submit(&h, 0, NULL, 0, 8);
    harness_expect_failure(&h);
}

static void test_hostile_index(void **state)
{
    struct harness h;
    struct harness_config c = config(5, 0);
    assert_true(harness_start(&h, &c));
    uint8_t *out = h.front->ops->request_mem(h.front, 0) - h.front->layout.queue[0].request_arena;
    struct ring_index *produced = (struct ring_index *)(out + h.front->layout.queue[0].out_produced);
    atomic_store(&produced->value, h.front->layout.queue[0].entries + 1);
    uint64_t one = 1;
    assert_int_equal(write(h.device_doorbell, &one, 8), 8);
    harness_expect_failure(&h);
    assert_non_null(strstr(h.failure, "index"));
}

static void run_to(struct harness *h, const struct harness_config *c, unsigned step)
{
    harness_spawn(h, c);
    if (step > 0)
        assert_true(harness_configure(h, c));
    if (step > 1)
        harness_link(h);
    if (step > 2)
        harness_run(h);
}

/* Stop is obeyed at every step; the death of the supervisor ends the process at every step. */
static void test_ends_at_every_step(void **state)
{
    struct harness_config c = config(5, 0);
    for (unsigned step = 0; step < 4; step++) {
        struct harness h;
        run_to(&h, &c, step);
        harness_stop(&h);
        run_to(&h, &c, step);
        harness_abandon(&h);
    }
}

static void test_message_out_of_order(void **state)
{
    struct harness h;
    struct harness_config c = config(5, 0);
    harness_spawn(&h, &c);
    harness_run(&h);
    harness_expect_failure(&h);
    assert_int_equal(h.failure_err, EPROTO);
}

static void test_unknown_command(void **state)
{
    struct harness h;
    struct harness_config c = config(5, 0);
    assert_true(harness_start(&h, &c));
    assert_int_equal(harness_command(&h, "dance", NULL, -1, NULL, 0), EOPNOTSUPP);
    harness_stop(&h);
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-rng";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chacha20_block),
        cmocka_unit_test(test_chacha20_stream),
        cmocka_unit_test(test_describes_itself),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_hostile_requests),
        cmocka_unit_test(test_repeated_sequence),
        cmocka_unit_test(test_hostile_index),
        cmocka_unit_test(test_ends_at_every_step),
        cmocka_unit_test(test_message_out_of_order),
        cmocka_unit_test(test_unknown_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
