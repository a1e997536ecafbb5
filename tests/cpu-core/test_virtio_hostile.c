/* A hostile driver: every way to describe a ring or a chain that must not be followed fails the device with
 * its reason, and nothing else. */
#include "tests/cpu-core/vring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#define RING  (RAM_BASE + 0x1000)
#define BUF   (RAM_BASE + 0x20000)
#define TABLE (RAM_BASE + 0x40000)
#define END   (RAM_BASE + (1 << 20))

static int setup(void **state)
{
    static struct slot s;
    slot_create(&s);
    slot_plug(&s);
    *state = &s;
    return 0;
}

static int teardown(void **state)
{
    slot_destroy(*state);
    return 0;
}

static struct vring started(struct slot *s, uint64_t features, unsigned queue)
{
    driver_start(s, F_V1 | features);
    for (uint64_t pa = RING; pa < RING + 0x1000; pa += 8)
        rig_poke(&s->rig, pa, 8, 0);
    struct vring r = vring_create(s, queue, 16, RING);
    driver_ok(s);
    return r;
}

static void assert_failed(struct slot *s, const char *why)
{
    assert_non_null(virtio_error(s->v));
    assert_string_equal(virtio_error(s->v), why);
    assert_true(reg(s, V_STATUS) & S_NEEDS_RESET);
    assert_int_equal(reg(s, V_ISR), 2);
    assert_true(s->irq);
    assert_int_equal(s->link.submissions, 0);
}

struct bad_chain {
    const char *why;
    struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } d[3];
    uint64_t features;
    unsigned head;
};

static const struct bad_chain bad_chains[] = {
    {"queue 0: descriptor 16 is out of range of a table of 16", {{BUF, 1, 0, 0}}, 0, 16},
    {"queue 0: descriptor 65535 is out of range of a table of 16", {{BUF, 1, D_NEXT, 65535}}, 0, 0},
    {"queue 0: descriptor chain loops", {{BUF, 1, D_NEXT, 0}}, 0, 0},
    {"queue 0: descriptor chain loops", {{BUF, 1, D_NEXT, 1}, {BUF, 0, D_NEXT, 0}}, 0, 0},
    {"queue 0: buffer of 1 bytes at 0x80100000 is outside memory", {{END, 1, 0, 0}}, 0, 0},
    {"queue 0: buffer of 2 bytes at 0x800fffff is outside memory", {{END - 1, 2, D_WRITE, 0}}, 0, 0},
    {"queue 0: buffer of 4294967295 bytes at 0x80020000 is outside memory", {{BUF, UINT32_MAX, 0, 0}}, 0, 0},
    {"queue 0: buffer of 8 bytes at 0xfffffffffffffffc is outside memory", {{UINT64_MAX - 3, 8, 0, 0}}, 0, 0},
    {"queue 0: buffer of 4 bytes at 0x10000000 is outside memory", {{0x10000000, 4, D_WRITE, 0}}, 0, 0},
    {"queue 0: readable descriptor after a writable one",
     {{BUF, 1, D_WRITE | D_NEXT, 1}, {BUF, 1, 0, 0}},
     0,
     0},
    {"queue 0: indirect descriptor without the feature", {{TABLE, 16, D_INDIRECT, 0}}, 0, 0},
    {"queue 0: indirect descriptor with a successor", {{TABLE, 16, D_INDIRECT | D_NEXT, 1}}, F_INDIRECT, 0},
    {"queue 0: indirect table of 0 bytes", {{TABLE, 0, D_INDIRECT, 0}}, F_INDIRECT, 0},
    {"queue 0: indirect table of 17 bytes", {{TABLE, 17, D_INDIRECT, 0}}, F_INDIRECT, 0},
    {"queue 0: descriptor table at 0x1000 is outside memory", {{0x1000, 16, D_INDIRECT, 0}}, F_INDIRECT, 0},
    {"queue 0: indirect table inside an indirect table", {{TABLE, 16, D_INDIRECT, 0}}, F_INDIRECT, 0},
};

static void test_bad_chains(void **state)
{
    struct slot *s = *state;
    for (unsigned i = 0; i < sizeof bad_chains / sizeof *bad_chains; i++) {
        const struct bad_chain *c = &bad_chains[i];
        struct vring r = started(s, c->features, 0), table = {.s = s, .desc = TABLE};
        vring_desc(&table, 0, TABLE, 16, D_INDIRECT, 0);
        for (unsigned k = 0; k < 3; k++)
            vring_desc(&r, k, c->d[k].addr, c->d[k].len, c->d[k].flags, c->d[k].next);
        vring_post(&r, c->head);
        vring_notify(&r);
        assert_failed(s, c->why);
        vring_notify(&r); /* a failed device does nothing more */
        assert_int_equal(s->link.submissions, 0);
    }
}

static void test_endless_indirect(void **state)
{
    struct slot *s = *state;
    struct vring r = started(s, F_INDIRECT, 0), table = {.s = s, .desc = TABLE};
    for (unsigned i = 0; i < 2000; i++)
        vring_desc(&table, i, BUF, 1, D_NEXT, i + 1);
    vring_desc(&r, 0, TABLE, 2000 * 16, D_INDIRECT, 0);
    vring_post(&r, 0);
    vring_notify(&r);
    assert_failed(s, "queue 0: descriptor chain is longer than 1024");
}

static void test_four_gigabytes(void **state)
{
    struct slot *s = *state;
    struct vring r = started(s, F_INDIRECT, 0), table = {.s = s, .desc = TABLE};
    s->link.max_req = UINT32_MAX;
    for (unsigned i = 0; i < 1023; i++)
        vring_desc(&table, i, RAM_BASE, 1 << 20, D_NEXT, i + 1);
    vring_desc(&table, 1023, RAM_BASE, 1 << 20, 0, 0);
    vring_desc(&r, 0, TABLE, 1024 * 16, D_INDIRECT, 0);
    vring_post(&r, 0);
    s->link.max_req = 1000; /* a gigabyte is refused before a byte is copied */
    vring_notify(&r);
    assert_failed(s, "queue 0: descriptor chain is longer than 1024");
    r = started(s, 0, 0);
    vring_desc(&r, 0, BUF, 1001, 0, 0);
    vring_post(&r, 0);
    vring_notify(&r);
    assert_failed(s, "queue 0: a request of 1001 and 0 bytes is beyond the device's limits");
}

static void test_empty_descriptors(void **state)
{
    struct slot *s = *state;
    struct vring r = started(s, 0, 0);
    for (unsigned i = 0; i < 16; i++) /* no address matters without bytes */
        vring_desc(&r, i, UINT64_MAX, 0, D_NEXT, i + 1);
    vring_desc(&r, 15, 0, 0, D_WRITE, 0);
    vring_post(&r, 0);
    vring_notify(&r);
    assert_null(virtio_error(s->v));
    assert_int_equal(s->link.request[0][0].len, 0);
    double_complete(&s->link, 0, 0, "", 0);
    assert_int_equal(vring_used(&r, 0), 0);
    assert_int_equal(vring_used_idx(&r), 1);
}

static void test_available_index(void **state)
{
    struct slot *s = *state;
    struct vring r = started(s, 0, 0);
    rig_poke(&s->rig, r.avail + 2, 2, 17);
    vring_notify(&r);
    assert_failed(s, "queue 0: the available index jumped");
    r = started(s, 0, 2);
    rig_poke(&s->rig, r.avail + 2, 2, 0xffff);
    vring_notify(&r);
    assert_true(virtio_link_sink.room(s->v, 2, 4)); /* looking changes nothing, taking a message does */
    assert_null(virtio_error(s->v));
    virtio_link_sink.received(s->v, 2, (const uint8_t *)"abcd", 4);
    assert_failed(s, "queue 2: the available index jumped");
    assert_false(virtio_link_sink.room(s->v, 2, 4));
}

static void test_bad_rings(void **state)
{
    struct slot *s = *state;
    static const struct {
        uint32_t num;
        uint64_t base;
        const char *why;
    } cases[] = {
        {0, RING, "queue 1: its size is not a power of two in range"},
        {3, RING, "queue 1: its size is not a power of two in range"},
        {512, RING, "queue 1: its size is not a power of two in range"},
        {1u << 31, RING, "queue 1: its size is not a power of two in range"},
        {UINT32_MAX, RING, "queue 1: its size is not a power of two in range"},
        {16, RING + 8, "queue 1: a ring is misaligned"},
        {16, 0x10001000, "queue 1: a ring is outside memory"},
        {16, END - 256, "queue 1: a ring is outside memory"},
        {16, UINT64_MAX & ~0xfull, "queue 1: a ring is outside memory"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        driver_start(s, F_V1);
        struct vring r = vring_create(s, 1, cases[i].num, cases[i].base);
        assert_int_equal(reg(s, V_QUEUE_READY), 0);
        assert_false(s->irq); /* nobody listens before DRIVER_OK */
        driver_ok(s);
        vring_notify(&r);
        assert_failed(s, cases[i].why);
    }
}

static void test_notify_out_of_turn(void **state)
{
    struct slot *s = *state;
    set_reg(s, V_NOTIFY, 0);
    driver_start(s, F_V1);
    set_reg(s, V_NOTIFY, 0);
    struct vring r = vring_create(s, 0, 16, RING);
    vring_desc(&r, 0, BUF, 4, 0, 0);
    vring_post(&r, 0);
    vring_notify(&r); /* before DRIVER_OK */
    assert_int_equal(s->link.submissions, 0);
    driver_ok(s);
    for (uint32_t q = 1; q; q <<= 1)
        set_reg(s, V_NOTIFY, q);
    set_reg(s, V_NOTIFY, UINT32_MAX);
    assert_int_equal(s->link.submissions, 0);
    vring_notify(&r);
    assert_int_equal(s->link.submissions, 1);
    assert_null(virtio_error(s->v));
}

static void test_receive_buffer_not_writable(void **state)
{
    struct slot *s = *state;
    struct vring r = started(s, 0, 3);
    vring_desc(&r, 0, BUF, 64, 0, 0);
    vring_post(&r, 0);
    vring_notify(&r);
    assert_true(virtio_link_sink.room(s->v, 3, 1));
    virtio_link_sink.received(s->v, 3, (const uint8_t *)"x", 1);
    assert_failed(s, "queue 3: a receive buffer without writable bytes");
}

/* Answers that land on the ring itself must not be followed while they are written. */
static void test_buffers_over_rings(void **state)
{
    struct slot *s = *state;
    static uint8_t junk[4096];
    memset(junk, 0xff, sizeof junk);
    struct vring r = started(s, 0, 0);
    vring_desc(&r, 0, RING, 4096, D_WRITE, 0);
    vring_post(&r, 0);
    vring_notify(&r);
    assert_int_equal(s->link.submissions, 1);
    double_complete(&s->link, 0, 0, junk, 4096);
    assert_true(reg(s, V_STATUS) & S_NEEDS_RESET);
    driver_start(s, F_V1);
    assert_null(virtio_error(s->v));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bad_chains),         TEST(test_endless_indirect),
        TEST(test_four_gigabytes),     TEST(test_empty_descriptors),
        TEST(test_available_index),    TEST(test_bad_rings),
        TEST(test_notify_out_of_turn), TEST(test_receive_buffer_not_writable),
        TEST(test_buffers_over_rings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
