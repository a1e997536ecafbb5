/* The virtio-mmio transport against a driver with real rings in RAM and a scripted device. */
#include "cpu-core/state/state.h"
#include "tests/cpu-core/vring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#define RING  (RAM_BASE + 0x1000)
#define RING2 (RAM_BASE + 0x9000)
#define BUF   (RAM_BASE + 0x20000)

static int setup(void **state)
{
    static struct slot s;
    slot_create(&s);
    *state = &s;
    return 0;
}

static int teardown(void **state)
{
    slot_destroy(*state);
    return 0;
}

static void test_empty_slot(void **state)
{
    struct slot *s = *state;
    assert_int_equal(reg(s, 0x000), 0x74726976);
    assert_int_equal(reg(s, 0x004), 2);
    assert_int_equal(reg(s, 0x008), 0);
    for (unsigned offset = 0; offset < 0x1000; offset += 4)
        set_reg(s, offset, 0xffffffff);
    for (unsigned offset = 0x10; offset < 0x1000; offset += 4)
        assert_int_equal(reg(s, offset), 0);
    virtio_reset(s->v);
}

static void test_identity(void **state)
{
    struct slot *s = *state;
    struct virtio_identity bad = s->id;
    bad.selector_len = 5;
    assert_int_equal(virtio_plug(s->v, &bad, &s->link), -EINVAL);
    bad = s->id;
    bad.config_len = 0xf01;
    assert_int_equal(virtio_plug(s->v, &bad, &s->link), -EINVAL);
    bad = s->id;
    bad.device_id = 0;
    assert_int_equal(virtio_plug(s->v, &bad, &s->link), -EINVAL);
    bad = s->id;
    bad.nrows = 1;
    bad.rows[0].len = 129;
    assert_int_equal(virtio_plug(s->v, &bad, &s->link), -EINVAL);
    slot_plug(s);
    assert_int_equal(virtio_plug(s->v, &s->id, &s->link), -EBUSY);
    assert_int_equal(reg(s, 0x008), 2);
    set_reg(s, V_FEATURES_SEL, 0);
    assert_int_equal(reg(s, 0x010), 1 << 5 | 1 << 15 | F_INDIRECT | F_EVENT);
    set_reg(s, V_FEATURES_SEL, 1);
    assert_int_equal(reg(s, 0x010), 1 << 8 | 1);
    set_reg(s, V_FEATURES_SEL, 2);
    assert_int_equal(reg(s, 0x010), 0);
    set_reg(s, V_QUEUE_SEL, 0);
    assert_int_equal(reg(s, V_QUEUE_NUM_MAX), 256);
    set_reg(s, V_QUEUE_SEL, 4);
    assert_int_equal(reg(s, V_QUEUE_NUM_MAX), 0);
    for (unsigned offset = 0xb0; offset < 0xc0; offset += 4)
        assert_int_equal(reg(s, offset), 0xffffffff);
}

static void test_config_space(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + i, 1), i);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 2, 2), 0x0302);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 8, 8), 0x0f0e0d0c0b0a0908);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 64, 4), 0);
    assert_int_equal(rig_read(&s->rig, MMIO + 0xffc, 4), 0);
    rig_write(&s->rig, MMIO + V_CONFIG, 4, 0xffffffff); /* read-only */
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG, 4), 0x03020100);
    assert_int_equal(rig_read(&s->rig, MMIO, 1), 0); /* common registers are 32 bits wide */
    driver_start(s, F_V1);
    uint8_t changed[64];
    memset(changed, 7, sizeof changed);
    uint32_t generation = reg(s, 0xfc);
    virtio_link_sink.config(s->v, changed, sizeof changed);
    assert_false(s->irq); /* before DRIVER_OK nobody is told */
    assert_true(reg(s, 0xfc) != generation);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 8, 8), 0x0707070707070707);
    driver_ok(s);
    virtio_link_sink.config(s->v, changed, sizeof changed);
    assert_true(s->irq);
    assert_int_equal(reg(s, V_ISR), 2);
}

static void test_selectors(void **state)
{
    struct slot *s = *state;
    s->id.selector_len = 2;
    s->id.selector_size_at = 2;
    s->id.selector_data = 8;
    s->id.config_len = 136;
    memset(s->id.config, 0, sizeof s->id.config);
    s->id.nrows = 2;
    s->id.rows[0].selector = 1;
    s->id.rows[0].len = 5;
    memcpy(s->id.rows[0].data, "mouse", 5);
    s->id.rows[1].selector = 0x0311;
    s->id.rows[1].len = 128;
    memset(s->id.rows[1].data, 0xee, 128);
    slot_plug(s);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 2, 1), 0);
    rig_write(&s->rig, MMIO + V_CONFIG, 1, 1);
    rig_write(&s->rig, MMIO + V_CONFIG + 1, 1, 0);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 2, 1), 5);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 8, 8), 0x0000006573756f6d);
    rig_write(&s->rig, MMIO + V_CONFIG, 2, 0x0311);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 2, 1), 128);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 128, 8), 0xeeeeeeeeeeeeeeee);
    rig_write(&s->rig, MMIO + V_CONFIG, 2, 0x0312);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 2, 1), 0);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 8, 8), 0);
    rig_write(&s->rig, MMIO + V_CONFIG + 8, 8, UINT64_MAX);
    assert_int_equal(rig_read(&s->rig, MMIO + V_CONFIG + 8, 8), 0);
}

static void test_negotiation(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    driver_start(s, 1 << 5); /* without VERSION_1 */
    assert_int_equal(reg(s, V_STATUS), S_ACK | S_DRIVER);
    driver_ok(s);
    assert_false(reg(s, V_STATUS) & S_DRIVER_OK);
    driver_start(s, F_V1 | 1 << 6); /* a feature that was not offered */
    assert_int_equal(reg(s, V_STATUS), S_ACK | S_DRIVER);
    driver_start(s, F_V1 | 1 << 5);
    assert_int_equal(reg(s, V_STATUS), S_ACK | S_DRIVER | S_FEATURES_OK);
    set_reg(s, V_DRIVER_FEATURES_SEL, 0); /* too late */
    set_reg(s, V_DRIVER_FEATURES, 0);
    driver_ok(s);
    assert_int_equal(reg(s, V_STATUS), S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
    assert_int_equal(s->link.room_made[2], 0); /* the queues are not ready */
    set_reg(s, V_STATUS, 0);
    assert_int_equal(reg(s, V_STATUS), 0);
    assert_true(s->link.resets > 0);
    unsigned resets = s->link.resets;
    set_reg(s, V_STATUS, 0); /* nothing to forget */
    assert_int_equal(s->link.resets, resets);
}

static struct vring started(struct slot *s, uint64_t features, unsigned queue, unsigned num)
{
    driver_start(s, F_V1 | features);
    struct vring r = vring_create(s, queue, num, RING);
    driver_ok(s);
    return r;
}

/* head, head + 1 readable (3 and 4 bytes), head + 2, head + 3 writable (2 and 5). */
static void post_request(struct vring *r, unsigned head)
{
    uint64_t buf = BUF + 64ull * head;
    rig_poke(&r->s->rig, buf, 8, 0x0706050403020100 + 0x1010101010101010 * (head / 4));
    vring_desc(r, head, buf, 3, D_NEXT, head + 1);
    vring_desc(r, head + 1, buf + 3, 4, D_NEXT, head + 2);
    vring_desc(r, head + 2, buf + 16, 2, D_NEXT | D_WRITE, head + 3);
    vring_desc(r, head + 3, buf + 32, 5, D_WRITE, 0);
    vring_post(r, head);
}

static void test_request(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, 0, 0, 16);
    post_request(&r, 4);
    assert_int_equal(s->link.submissions, 0);
    vring_notify(&r);
    assert_int_equal(s->link.submissions, 1);
    assert_int_equal(s->link.kicks, 1);
    assert_int_equal(s->link.request[0][0].len, 7);
    assert_int_equal(s->link.request[0][0].cap, 7);
    assert_memory_equal(s->link.request[0][0].bytes, "\x10\x11\x12\x13\x14\x15\x16", 7);
    assert_int_equal(vring_used_idx(&r), 0);
    double_complete(&s->link, 0, 0, "ABCDE", 5);
    assert_int_equal(rig_peek(&s->rig, BUF + 256 + 16, 4), 0x4241);
    assert_int_equal(rig_peek(&s->rig, BUF + 256 + 32, 8), 0x454443);
    assert_int_equal(vring_used_idx(&r), 1);
    assert_int_equal(vring_used(&r, 0), 5ull << 32 | 4);
    assert_true(s->irq);
    assert_int_equal(reg(s, V_ISR), 1);
    set_reg(s, V_ACK, 1);
    assert_false(s->irq);
    rig_poke(&s->rig, r.avail, 2, 1); /* NO_INTERRUPT */
    post_request(&r, 8);
    vring_notify(&r);
    double_complete(&s->link, 0, 0, "", 0);
    assert_int_equal(vring_used_idx(&r), 2);
    assert_false(s->irq);
}

static void test_admission(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    s->link.slots = 2;
    struct vring r = started(s, 0, 0, 32);
    for (unsigned i = 0; i < 5; i++)
        post_request(&r, 4 * i);
    vring_notify(&r);
    assert_int_equal(double_in_flight(&s->link, 0), 2);
    post_request(&r, 20);
    assert_int_equal(s->link.submissions, 2);
    double_complete(&s->link, 0, 1, "x", 1); /* out of order */
    assert_int_equal(s->link.submissions, 3);
    assert_int_equal(vring_used(&r, 0), 1ull << 32 | 4);
    assert_memory_equal(s->link.request[0][1].bytes, "\x20\x21", 2);
    while (double_in_flight(&s->link, 0))
        double_complete(&s->link, 0, s->link.request[0][0].busy ? 0 : 1, "", 0);
    assert_int_equal(s->link.submissions, 6);
    assert_int_equal(vring_used_idx(&r), 6);
}

static void test_event_idx(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, F_EVENT, 0, 16);
    rig_poke(&s->rig, r.avail + 4 + 2 * 16, 2, 2); /* used_event: interrupt at the third */
    for (unsigned i = 0; i < 4; i++)
        post_request(&r, 4 * i);
    vring_notify(&r);
    assert_int_equal(rig_peek(&s->rig, r.used + 4 + 8 * 16, 2), 4);
    double_complete(&s->link, 0, 0, "", 0);
    assert_true(s->irq); /* the first after reset always interrupts */
    set_reg(s, V_ACK, 1);
    double_complete(&s->link, 0, 1, "", 0);
    assert_false(s->irq);
    double_complete(&s->link, 0, 2, "", 0);
    assert_true(s->irq);
    set_reg(s, V_ACK, 1);
    double_complete(&s->link, 0, 3, "", 0);
    assert_false(s->irq);
}

static void test_indirect(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, F_INDIRECT, 0, 4);
    struct vring table = {.s = s, .desc = BUF + 0x1000};
    for (unsigned i = 0; i < 100; i++)
        vring_desc(&table, i, BUF + i, 1, (i < 99 ? D_NEXT : 0) | (i >= 50 ? D_WRITE : 0), i + 1);
    vring_desc(&r, 1, table.desc, 1600, D_INDIRECT | D_WRITE, 0); /* the write flag means nothing here */
    vring_post(&r, 1);
    vring_notify(&r);
    assert_null(virtio_error(s->v));
    assert_int_equal(s->link.request[0][0].len, 50);
    assert_int_equal(s->link.request[0][0].cap, 50);
    uint8_t answer[50];
    memset(answer, 0x5a, sizeof answer);
    double_complete(&s->link, 0, 0, answer, 50);
    assert_int_equal(rig_peek(&s->rig, BUF + 92, 8), 0x5a5a5a5a5a5a5a5a);
    assert_int_equal(vring_used(&r, 0), 50ull << 32 | 1);
}

static void test_index_wrap(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, F_EVENT, 0, 4);
    for (unsigned i = 0; i < 70000; i++) {
        post_request(&r, 0);
        vring_notify(&r);
        assert_int_equal(double_in_flight(&s->link, 0), 1);
        double_complete(&s->link, 0, 0, "", 0);
    }
    assert_int_equal(vring_used_idx(&r), (uint16_t)70000);
    assert_null(virtio_error(s->v));
}

static void post_buffers(struct vring *r, unsigned n, uint32_t len)
{
    for (unsigned i = 0; i < n; i++) {
        vring_desc(r, i, BUF + 0x100ull * i, len, D_WRITE, 0);
        vring_post(r, i);
    }
}

static void test_inbound(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, F_EVENT, 2, 8);
    assert_false(virtio_link_sink.room(s->v, 2, 8));
    post_buffers(&r, 2, 8);
    vring_notify(&r);
    assert_int_equal(s->link.room_made[2], 2); /* at DRIVER_OK, and now */
    assert_true(virtio_link_sink.room(s->v, 2, 8));
    virtio_link_sink.received(s->v, 2, (const uint8_t *)"event001", 8);
    assert_int_equal(vring_used(&r, 0), 8ull << 32 | 0);
    assert_memory_equal(ram_at(&s->rig.ram, BUF), "event001", 8);
    assert_true(s->irq);
    virtio_link_sink.received(s->v, 2, (const uint8_t *)"too long for it", 15); /* the rest is lost */
    assert_int_equal(vring_used(&r, 1), 8ull << 32 | 1);
    assert_false(virtio_link_sink.room(s->v, 2, 1));
    assert_int_equal(rig_peek(&s->rig, r.used + 4 + 64, 2), 2); /* the next buffer is to be announced */
    assert_int_equal(s->link.submissions, 0);
}

static void test_merged(void **state)
{
    struct slot *s = *state;
    uint8_t packet[1000];
    for (unsigned i = 0; i < sizeof packet; i++)
        packet[i] = (uint8_t)(i % 251);
    s->id.inbound_merge = true;
    s->id.merge_feature = 15;
    s->id.merge_count_at = 10;
    slot_plug(s);
    struct vring r = started(s, 1 << 15, 2, 8);
    post_buffers(&r, 3, 256);
    vring_notify(&r);
    assert_false(virtio_link_sink.room(s->v, 2, 1000));
    assert_true(virtio_link_sink.room(s->v, 2, 700));
    virtio_link_sink.received(s->v, 2, packet, 700);
    assert_int_equal(vring_used_idx(&r), 3);
    assert_int_equal(vring_used(&r, 0), 256ull << 32 | 0);
    assert_int_equal(vring_used(&r, 2), 188ull << 32 | 2);
    assert_int_equal(rig_peek(&s->rig, BUF + 10, 2), 3);
    assert_memory_equal(ram_at(&s->rig.ram, BUF + 12), packet + 12, 244);
    assert_memory_equal(ram_at(&s->rig.ram, BUF + 0x200), packet + 512, 188);
    /* Without the feature one buffer takes what it can. */
    r = started(s, 0, 2, 8);
    post_buffers(&r, 3, 256);
    assert_true(virtio_link_sink.room(s->v, 2, 1000));
    virtio_link_sink.received(s->v, 2, packet, 1000);
    assert_int_equal(vring_used_idx(&r), 1);
}

/* More than a full ring holds will never fit, and must not wait for ever. */
static void test_full_ring(void **state)
{
    struct slot *s = *state;
    static uint8_t packet[5000];
    s->id.inbound_merge = true;
    s->id.merge_feature = VIRTIO_MERGE_ALWAYS;
    s->id.merge_count_at = VIRTIO_MERGE_NO_COUNT;
    slot_plug(s);
    struct vring r = started(s, 0, 2, 8);
    memset(packet, 0x33, sizeof packet);
    post_buffers(&r, 8, 256);
    vring_notify(&r);
    assert_true(virtio_link_sink.room(s->v, 2, sizeof packet));
    virtio_link_sink.received(s->v, 2, packet, sizeof packet);
    assert_int_equal(vring_used_idx(&r), 8);
    assert_int_equal(rig_peek(&s->rig, BUF + 8, 8), 0x3333333333333333); /* no count in a byte stream */
}

static void test_reset_during_io(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, 0, 0, 16);
    post_request(&r, 0);
    post_request(&r, 4);
    vring_notify(&r);
    set_reg(s, V_STATUS, 0);
    assert_int_equal(s->link.resets, 1);
    assert_int_equal(reg(s, V_STATUS), 0);
    set_reg(s, V_QUEUE_SEL, 0);
    assert_int_equal(reg(s, V_QUEUE_READY), 0);
    rig_poke(&s->rig, r.avail + 2, 2, 0);
    r = started(s, 0, 0, 16);
    post_request(&r, 8);
    vring_notify(&r);
    assert_int_equal(double_in_flight(&s->link, 0), 1);
    double_complete(&s->link, 0, 0, "new", 3);
    assert_int_equal(vring_used_idx(&r), 1);
    assert_int_equal(vring_used(&r, 0), 3ull << 32 | 8);
}

static void test_queue_disabled_during_io(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, 0, 0, 16);
    post_request(&r, 0);
    vring_notify(&r);
    set_reg(s, V_QUEUE_SEL, 0);
    set_reg(s, V_QUEUE_READY, 0);
    assert_int_equal(reg(s, V_QUEUE_READY), 0);
    struct vring other = vring_create(s, 0, 8, RING2);
    double_complete(&s->link, 0, 0, "stale", 5);
    assert_int_equal(vring_used_idx(&other), 0);
    assert_int_equal(vring_used_idx(&r), 0);
    assert_int_equal(rig_peek(&s->rig, BUF + 16, 2), 0);
    post_request(&other, 4);
    vring_notify(&other);
    double_complete(&s->link, 0, 0, "fresh", 5);
    assert_int_equal(vring_used_idx(&other), 1);
}

static void test_failed_request(void **state)
{
    struct slot *s = *state;
    slot_plug(s);
    struct vring r = started(s, 0, 1, 16);
    post_request(&r, 0);
    post_request(&r, 4);
    vring_notify(&r);
    double_fail(&s->link, 1, 0);
    assert_int_equal(reg(s, V_STATUS) & S_NEEDS_RESET, S_NEEDS_RESET);
    assert_int_equal(reg(s, V_ISR), 2);
    assert_string_equal(virtio_error(s->v), "queue 1: the device process could not serve a request");
    double_complete(&s->link, 1, 1, "", 0);
    assert_int_equal(vring_used_idx(&r), 0);
    set_reg(s, V_STATUS, 0);
    assert_null(virtio_error(s->v));
    assert_false(s->irq);
}

static void walk(void *arg, struct state_io *io)
{
    virtio_state(arg, io);
}

/* Saves to, or loads from, a buffer. */
struct saver {
    struct state_io io;
    uint8_t data[65536];
    size_t at;
};

static void save_bytes(struct state_io *io, void *data, size_t len)
{
    struct saver *s = (struct saver *)io;
    assert_true(s->at + len <= sizeof s->data);
    if (io->loading)
        memcpy(data, s->data + s->at, len);
    else
        memcpy(s->data + s->at, data, len);
    s->at += len;
}

static void test_state(void **state)
{
    static struct slot copy;
    static struct saver saver = {.io = {.bytes = save_bytes}};
    struct slot *s = *state;
    slot_plug(s);
    uint64_t fresh = state_hash(walk, s->v);
    struct vring r = started(s, F_EVENT, 0, 16);
    uint64_t ready = state_hash(walk, s->v);
    post_request(&r, 0);
    vring_notify(&r);
    uint64_t busy = state_hash(walk, s->v);
    assert_true(fresh != ready && ready != busy);
    walk(s->v, &saver.io);
    slot_create(&copy);
    slot_plug(&copy);
    saver.io.loading = 1;
    saver.at = 0;
    walk(copy.v, &saver.io);
    assert_true(state_hash(walk, copy.v) == busy);
    assert_int_equal(reg(&copy, V_STATUS), 15);
    slot_destroy(&copy);
    virtio_reset(s->v);
    assert_true(state_hash(walk, s->v) == fresh);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_empty_slot),     TEST(test_identity),        TEST(test_config_space),
        TEST(test_selectors),      TEST(test_negotiation),     TEST(test_request),
        TEST(test_admission),      TEST(test_event_idx),       TEST(test_indirect),
        TEST(test_index_wrap),     TEST(test_inbound),         TEST(test_merged),
        TEST(test_full_ring),      TEST(test_reset_during_io), TEST(test_queue_disabled_during_io),
        TEST(test_failed_request), TEST(test_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
