/* The governor against simulated hosts: virtual time follows a steady, a drifting and a stopped host within
 * its promises. */
#include "cpu-core/main/governor.h"
#include "cpu-core/time/vclock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS 1000000ull

/* Runs `ms` milliseconds at `ns_per_step_x100` hundredths of a ns a step; returns the largest error in ns
 * after the first 200 ms. */
static uint64_t run(struct vclock *c, struct governor *g, uint64_t *host, uint64_t *n, uint64_t ms,
                    uint64_t ns_x100, unsigned *crossings)
{
    uint64_t worst = 0;
    for (uint64_t i = 0; i < ms; i++) {
        uint64_t rate;
        *host += MS;
        *n += MS * 100 / ns_x100;
        if (governor_check(g, *host, vclock_ns(c, *n), *n, &rate)) {
            vclock_set(c, *n, 0, rate);
            ++*crossings;
        }
        int64_t error = (int64_t)(governor_virtual(g, *host) - vclock_ns(c, *n));
        if (i > 200 && (uint64_t)llabs(error) > worst)
            worst = (uint64_t)llabs(error);
    }
    return worst;
}

static void test_steady(void **state)
{
    const uint64_t speeds[] = {20, 50, 100, 200, 330, 390};
    for (unsigned i = 0; i < sizeof speeds / sizeof *speeds; i++) {
        struct vclock c;
        struct governor g;
        uint64_t host = 77 * MS, n = 0;
        unsigned crossings = 0;
        vclock_init(&c, GOVERNOR_NOMINAL_RATE);
        governor_start(&g, host, 0, 0);
        assert_in_range(run(&c, &g, &host, &n, 5000, speeds[i], &crossings), 0, 2 * MS);
        assert_in_range(crossings, 0, 1000);
    }
}

static void test_change_of_speed(void **state)
{
    struct vclock c;
    struct governor g;
    uint64_t host = 0, n = 0;
    unsigned crossings = 0;
    vclock_init(&c, GOVERNOR_NOMINAL_RATE);
    governor_start(&g, host, 0, 0);
    run(&c, &g, &host, &n, 1000, 30, &crossings);
    assert_in_range(run(&c, &g, &host, &n, 2000, 300, &crossings), 0, 2 * MS);
}

/* Suspended for a second: not caught up. */
static void test_pause(void **state)
{
    struct vclock c;
    struct governor g;
    uint64_t host = 0, n = 0, rate;
    unsigned crossings = 0;
    vclock_init(&c, GOVERNOR_NOMINAL_RATE);
    governor_start(&g, host, 0, 0);
    run(&c, &g, &host, &n, 1000, 100, &crossings);
    uint64_t before = vclock_ns(&c, n);
    host += 1000 * MS;
    assert_false(governor_check(&g, host, vclock_ns(&c, n), n, &rate));
    assert_in_range(governor_virtual(&g, host), before, before + MS);
}

/* Slower than the slowest rate: virtual time falls behind, never jumps. */
static void test_too_slow_a_host(void **state)
{
    struct vclock c;
    struct governor g;
    uint64_t host = 0, n = 0;
    unsigned crossings = 0;
    vclock_init(&c, GOVERNOR_NOMINAL_RATE);
    governor_start(&g, host, 0, 0);
    run(&c, &g, &host, &n, 3000, 5000, &crossings);
    assert_in_range(vclock_ns(&c, n), 3000 * MS / 50 * 3, 3000 * MS / 50 * 4 + MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady),
        cmocka_unit_test(test_change_of_speed),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_too_slow_a_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
