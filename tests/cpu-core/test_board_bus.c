/* The bus: sorted, disjoint regions, and accesses at their edges. */
#include "cpu-core/board/bus.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int answer(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = offset | (uint64_t) * (const char *)dev << 32;
    return offset == 0x80 ? -EFAULT : 0;
}

static int take(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    return offset == value ? 0 : -EFAULT;
}

static const struct bus_ops ops = {answer, take};

static struct bus_region region(uint64_t base, uint64_t size, const char *name)
{
    return (struct bus_region){base, size, &ops, (void *)name, name};
}

static void test_regions(void **state)
{
    struct bus b = {.n = 0};
    struct bus_region r = region(0x2000, 0x1000, "b");
    assert_int_equal(bus_add(&b, &r), 0);
    r = region(0x5000, 0x100, "c");
    assert_int_equal(bus_add(&b, &r), 0);
    r = region(0x1000, 0x1000, "a");
    assert_int_equal(bus_add(&b, &r), 0);
    r = region(0x2fff, 2, "x");
    assert_int_equal(bus_add(&b, &r), -EEXIST);
    r = region(0x1fff, 1, "x");
    assert_int_equal(bus_add(&b, &r), -EEXIST);
    r = region(0, 0x10000, "x");
    assert_int_equal(bus_add(&b, &r), -EEXIST);
    r = region(0x9000, 0, "x");
    assert_int_equal(bus_add(&b, &r), -EINVAL);
    r = region(UINT64_MAX - 1, 4, "x");
    assert_int_equal(bus_add(&b, &r), -EINVAL);
    r = region(UINT64_MAX - 0xf, 0x10, "z");
    assert_int_equal(bus_add(&b, &r), 0);
    assert_int_equal(b.n, 4);
}

static void test_accesses(void **state)
{
    struct bus b = {.n = 0};
    struct bus_region r = region(0x2000, 0x1000, "b"), top = region(UINT64_MAX - 0xf, 0x10, "z");
    struct bus_region odd = region(0x5000, 0x104, "c");
    uint64_t v = 77;
    bus_add(&b, &top);
    bus_add(&b, &r);
    bus_add(&b, &odd);
    assert_int_equal(bus_read(&b, 0x2ff8, 8, &v), 0);
    assert_int_equal(v, 0xff8 | (uint64_t)'b' << 32);
    assert_int_equal(bus_read(&b, UINT64_MAX - 7, 8, &v), 0);
    assert_int_equal(v, 8 | (uint64_t)'z' << 32);
    assert_int_equal(bus_write(&b, 0x2004, 4, 4), 0);
    v = 77;
    assert_int_equal(bus_read(&b, 0x1ffc, 4, &v), -EFAULT);
    assert_int_equal(bus_read(&b, 0x3000, 4, &v), -EFAULT);
    assert_int_equal(bus_read(&b, 0x2002, 4, &v), -EFAULT);
    assert_int_equal(bus_read(&b, 0x5100, 8, &v), -EFAULT); /* would leave the region */
    assert_int_equal(bus_read(&b, 0x2080, 4, &v), -EFAULT); /* the device refuses */
    assert_int_equal(v, 77);
    assert_int_equal(bus_write(&b, 0x8000, 4, 0), -EFAULT);
}

static void test_full(void **state)
{
    struct bus b = {.n = 0};
    for (unsigned i = 0; i <= BUS_MAX_REGIONS; i++) {
        struct bus_region r = region(0x100000 - 0x1000ull * i, 0x10, "r");
        assert_int_equal(bus_add(&b, &r), i < BUS_MAX_REGIONS ? 0 : -ENOSPC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_regions), cmocka_unit_test(test_accesses),
                                       cmocka_unit_test(test_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
