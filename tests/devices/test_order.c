/* The order of overlapping disk accesses, against a model that looks at every pair. */
#include "devices/block/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

enum { ACCESSES = 64 };

enum phase { WAITING, RUNNING, DONE };

static struct access accesses[ACCESSES];
static enum phase phase[ACCESSES];

static bool overlap(const struct access *a, const struct access *b)
{
    return a->start < b->end && b->start < a->end && (a->write || b->write);
}

/* An access runs if and only if no earlier unfinished one conflicts with it. */
static void check(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        bool free = true;
        for (unsigned k = 0; k < i; k++)
            free = free && (phase[k] == DONE || !overlap(&accesses[k], &accesses[i]));
        if (phase[i] != DONE)
            assert_int_equal(phase[i], free ? RUNNING : WAITING);
    }
}

static void started(struct access *a, void *arg)
{
    phase[a - accesses] = RUNNING;
}

static void finish_random(struct order *o, unsigned n)
{
    unsigned first = (unsigned)rand() % n;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = (first + i) % n;
        if (phase[k] != RUNNING)
            continue;
        phase[k] = DONE;
        order_done(o, &accesses[k], started, NULL);
        return;
    }
}

static void test_random(void **state)
{
    for (unsigned seed = 0; seed < 500; seed++) {
        struct order o = {0};
        srand(seed);
        for (unsigned n = 0; n < ACCESSES; n++) {
            uint64_t start = (uint64_t)rand() % 32;
            accesses[n] = (struct access){
                .start = start, .end = start + 1 + (uint64_t)rand() % 8, .write = rand() % 3 == 0};
            phase[n] = order_add(&o, &accesses[n]) ? RUNNING : WAITING;
            check(n + 1);
            if (rand() % 2)
                finish_random(&o, n + 1);
            check(n + 1);
        }
        for (unsigned i = 0; i < ACCESSES; i++)
            finish_random(&o, ACCESSES);
        for (unsigned i = 0; i < ACCESSES; i++)
            assert_int_equal(phase[i], DONE);
        assert_null(o.first);
        assert_null(o.last);
    }
}

static void test_readers_share(void **state)
{
    struct order o = {0};
    struct access a = {.start = 0, .end = 10}, b = {.start = 5, .end = 15};
    assert_true(order_add(&o, &a));
    assert_true(order_add(&o, &b));
}

static void test_neighbours_do_not_wait(void **state)
{
    struct order o = {0};
    struct access a = {.start = 0, .end = 8, .write = true}, b = {.start = 8, .end = 16, .write = true};
    assert_true(order_add(&o, &a));
    assert_true(order_add(&o, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_readers_share),
        cmocka_unit_test(test_neighbours_do_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
