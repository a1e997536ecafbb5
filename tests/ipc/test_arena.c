/* The arena allocator against a byte map of what is taken. */
#include "ipc/channel.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS = 256, SIZE = UNITS * CHANNEL_UNIT, BLOCKS = 40 };

struct block {
    uint64_t off, len;
};

static unsigned units(uint64_t len)
{
    return (unsigned)((len + CHANNEL_UNIT - 1) / CHANNEL_UNIT);
}

/* The first gap of n units, or UNITS. */
static unsigned first_gap(const uint8_t *taken, unsigned n)
{
    for (unsigned at = 0; at + n <= UNITS; at++)
        if (!memchr(taken + at, 1, n))
            return at;
    return UNITS;
}

static void test_model(void **state)
{
    struct arena *a;
    uint8_t taken[UNITS] = {0};
    struct block blocks[BLOCKS];
    unsigned n = 0;
    assert_int_equal(arena_create(&a, SIZE, BLOCKS), 0);
    srand(1);
    for (unsigned step = 0; step < 200000; step++) {
        if (rand() % 2 || n == 0) {
            uint64_t len = 1 + (uint64_t)rand() % (rand() % 4 ? 600 : 6000), off;
            unsigned gap = first_gap(taken, units(len));
            int err = arena_alloc(a, len, &off);
            if (gap == UNITS || n == BLOCKS) {
                assert_int_equal(err, -ENOSPC);
                continue;
            }
            assert_int_equal(err, 0);
            assert_int_equal(off, gap * CHANNEL_UNIT);
            memset(taken + gap, 1, units(len));
            blocks[n++] = (struct block){off, len};
        } else {
            unsigned k = (unsigned)rand() % n;
            arena_free(a, blocks[k].off, blocks[k].len);
            memset(taken + blocks[k].off / CHANNEL_UNIT, 0, units(blocks[k].len));
            blocks[k] = blocks[--n];
        }
    }
    arena_destroy(a);
}

static void test_limits(void **state)
{
    struct arena *a;
    uint64_t off = 1;
    assert_int_equal(arena_create(&a, SIZE + 63, 4), 0);
    assert_int_equal(arena_alloc(a, 0, &off), 0);
    assert_int_equal(off, 0);
    arena_free(a, 0, 0);
    assert_int_equal(arena_alloc(a, SIZE + 1, &off), -ENOSPC);
    assert_int_equal(arena_alloc(a, UINT64_MAX, &off), -ENOSPC);
    assert_int_equal(arena_alloc(a, SIZE, &off), 0);
    assert_int_equal(arena_alloc(a, 1, &off), -ENOSPC);
    arena_free(a, 0, SIZE);
    assert_int_equal(arena_alloc(a, SIZE, &off), 0);
    arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
