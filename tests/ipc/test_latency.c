/* Latency models: which rule holds, what bytes cost, the range and the stream of the jitter, and limits. */
#include "ipc/latency.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>

static const struct latency_model model = {
    .seed = 7,
    .nrules = 3,
    .rule = {{{1, 0, 0, 0}, 4, .base_ns = 1000, .bandwidth = 1000000},
             {{1}, 1, .base_ns = 50, .jitter_ns = 9},
             {.base_ns = 0}},
};

static void test_rules(void **state)
{
    assert_int_equal(latency_of(&model, 1, "\1\0\0\0rest", 8, 92), 1000 + 100 * 1000);
    uint64_t ns = latency_of(&model, 1, "\1\0\0", 3, 4096); /* shorter than the first prefix */
    assert_in_range(ns, 50, 59);
    assert_int_equal(latency_of(&model, 1, "\2", 1, 0), 1); /* never at its own request */
    assert_int_equal(latency_of(&model, 1, NULL, 0, 0), 1);
    const struct latency_model empty = {0};
    assert_int_equal(latency_of(&empty, 1, "x", 1, 1), 1);
}

static void test_large_requests(void **state)
{
    const struct latency_model slow = {.nrules = 1, .rule = {{.bandwidth = LATENCY_MIN_BANDWIDTH}}};
    assert_int_equal(latency_of(&slow, 1, "", UINT32_MAX, UINT32_MAX),
                     UINT64_C(8589934590) * 1000000000 / LATENCY_MIN_BANDWIDTH);
}

static void test_jitter(void **state)
{
    struct latency_model other = model;
    other.seed = 8;
    unsigned differ = 0, seen = 0;
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        uint64_t a = latency_of(&model, seq, "\1", 1, 0), b = latency_of(&other, seq, "\1", 1, 0);
        assert_int_equal(a, latency_of(&model, seq, "\1", 1, 0));
        assert_in_range(a, 50, 59);
        seen |= 1u << (a - 50);
        differ += a != b;
    }
    assert_int_equal(seen, 0x3ff);
    assert_in_range(differ, 800, 1000);
}

static void test_limits(void **state)
{
    assert_int_equal(latency_check(&model), 0);
    struct latency_model m = model;
    m.nrules = LATENCY_MAX_RULES + 1;
    assert_int_equal(latency_check(&m), -EINVAL);
    m = model;
    m.rule[0].prefix_len = LATENCY_MAX_PREFIX + 1;
    assert_int_equal(latency_check(&m), -EINVAL);
    m = model;
    m.rule[0].base_ns = LATENCY_MAX_NS + 1;
    assert_int_equal(latency_check(&m), -EINVAL);
    m = model;
    m.rule[0].jitter_ns = LATENCY_MAX_NS + 1;
    assert_int_equal(latency_check(&m), -EINVAL);
    m = model;
    m.rule[0].bandwidth = LATENCY_MIN_BANDWIDTH - 1;
    assert_int_equal(latency_check(&m), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_large_requests),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
