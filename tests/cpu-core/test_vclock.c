/* Virtual time: exact inverse, order of deadlines, clock changes. */
#include "cpu-core/time/vclock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t rng = 88172645463325252ull;

static uint64_t next(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

/* A number whose magnitude is spread evenly over the bits up to `bits`. */
static uint64_t spread(unsigned bits)
{
    return next() >> (64 - bits) >> next() % bits;
}

static void test_inverse(void **state)
{
    for (unsigned i = 0; i < 300000; i++) {
        struct vclock c;
        vclock_init(&c, spread(36) + 1);
        vclock_set(&c, spread(60), spread(62), c.rate);
        uint64_t ns = c.t0 + spread(40), n = vclock_step_of(&c, ns);
        if (n == VCLOCK_NEVER)
            continue;
        assert_true(n >= c.n0);
        assert_true(vclock_ns(&c, n) >= ns);
        if (n > c.n0)
            assert_true(vclock_ns(&c, n - 1) < ns);
        uint64_t step = c.n0 + spread(40);
        assert_true(vclock_step_of(&c, vclock_ns(&c, step)) <= step);
        assert_true(vclock_ns(&c, step) <= vclock_ns(&c, step + 1));
    }
}

static void test_extremes(void **state)
{
    struct vclock c;
    vclock_init(&c, 1ull << 32);
    assert_int_equal(vclock_ns(&c, UINT64_MAX), VCLOCK_NEVER - 1);
    assert_int_equal(vclock_step_of(&c, 1ull << 63), VCLOCK_NEVER);
    assert_int_equal(vclock_step_of(&c, (1ull << 63) - 1), (1ull << 63) - 1);
    assert_int_equal(vclock_step_of(&c, 0), 0);
    assert_int_equal(vclock_next_step(&c), VCLOCK_NEVER);
    assert_int_equal(vclock_ns_of_ticks(7), 700);
    assert_int_equal(vclock_ns_of_ticks(UINT64_MAX / 100 + 1), VCLOCK_NEVER);
    assert_int_equal(vclock_ticks(&c, 799), 7);
    vclock_init(&c, 0);
    assert_int_equal(vclock_step_of(&c, 1), VCLOCK_NEVER);
}

struct shot {
    struct vclock *clock;
    struct vtimer timer;
    uint64_t rearm;
};
static uint32_t fired[16];
static unsigned nfired;

static void fire(void *arg)
{
    struct shot *s = arg;
    assert_int_equal(s->timer.due, VCLOCK_NEVER);
    fired[nfired++] = s->timer.order;
    if (s->rearm)
        vclock_arm(s->clock, &s->timer, s->rearm);
    s->rearm = 0;
}

static uint64_t moved_to;
static unsigned moves;

static void moved(void *arg, uint64_t icount)
{
    moved_to = icount;
    moves++;
}

static void test_deadlines(void **state)
{
    struct vclock c;
    struct shot s[4];
    vclock_init(&c, 1ull << 31); /* two steps a nanosecond */
    c.moved = moved;
    for (unsigned i = 0; i < 4; i++) {
        s[i] = (struct shot){.clock = &c,
                             .timer = {.due = VCLOCK_NEVER, .order = 10 - i, .fire = fire, .arg = &s[i]}};
        assert_int_equal(vclock_add(&c, &s[i].timer), 0);
    }
    vclock_arm(&c, &s[0].timer, 100);
    assert_int_equal(moved_to, 200);
    vclock_arm(&c, &s[1].timer, 100);
    vclock_arm(&c, &s[2].timer, 50);
    assert_int_equal(moved_to, 100);
    assert_int_equal(moves, 2);
    vclock_arm(&c, &s[3].timer, 60);
    s[2].rearm = 70;
    assert_int_equal(vclock_next_step(&c), 100);
    vclock_fire(&c, 99);
    assert_int_equal(nfired, 0);
    vclock_fire(&c, 200); /* 50, 60, 70, then the two at 100 by their order */
    const uint32_t expected[] = {8, 7, 8, 9, 10};
    assert_int_equal(nfired, 5);
    assert_memory_equal(fired, expected, sizeof expected);
    assert_int_equal(vclock_next_step(&c), VCLOCK_NEVER);

    vclock_arm(&c, &s[0].timer, 300);
    vclock_arm(&c, &s[1].timer, 400);
    vclock_arm(&c, &s[0].timer, VCLOCK_NEVER);
    assert_int_equal(vclock_next_step(&c), 800);
    vclock_remove(&c, &s[1].timer);
    vclock_remove(&c, &s[1].timer);
    assert_int_equal(vclock_next_step(&c), VCLOCK_NEVER);
}

static void test_set(void **state)
{
    struct vclock c;
    vclock_init(&c, 1ull << 32);
    vclock_set(&c, 1000, 0, 1ull << 33);
    assert_int_equal(vclock_ns(&c, 1000), 1000); /* never backwards */
    assert_int_equal(vclock_ns(&c, 1001), 1002);
    vclock_set(&c, 1010, 5000, 1ull << 32);
    assert_int_equal(vclock_ns(&c, 1010), 5000);
    assert_int_equal(vclock_step_of(&c, 4999), 1010);
}

static void test_table_full(void **state)
{
    static struct vtimer t[VCLOCK_MAX_TIMERS + 1];
    struct vclock c;
    vclock_init(&c, 1ull << 32);
    for (unsigned i = 0; i < VCLOCK_MAX_TIMERS; i++)
        assert_int_equal(vclock_add(&c, &t[i]), 0);
    assert_int_equal(vclock_add(&c, &t[VCLOCK_MAX_TIMERS]), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inverse), cmocka_unit_test(test_extremes),   cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_set),     cmocka_unit_test(test_table_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
