/* CLINT and RTC: deadlines in virtual time, and their registers. */
#include "cpu-core/board/clint.h"
#include "cpu-core/board/rtc.h"
#include "tests/cpu-core/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define CLINT 0x2000000ull
#define RTC   0x101000ull
#define START 1700000000123456789ull

struct fixture {
    struct rig rig;
    struct now now;
    struct clint clint;
    struct rtc rtc;
    bool rtc_irq;
    unsigned ipis, ipi_to;
};

static void irq(void *arg, unsigned line, bool level)
{
    ((struct fixture *)arg)->rtc_irq = level;
}

static void ipi(void *arg, struct hart *from, unsigned to)
{
    ((struct fixture *)arg)->ipis++;
    ((struct fixture *)arg)->ipi_to = to;
}

static int setup(void **state)
{
    static struct fixture f;
    rig_create(&f.rig, 1 << 20, 3);
    f.now = (struct now){&f.rig.clock, &f.rig.hart[0]};
    f.rtc_irq = false;
    f.ipis = 0;
    const struct irq_line line = {irq, &f, 11};
    assert_int_equal(clint_init(&f.clint, &f.now, f.rig.harts, 3), 0);
    f.clint.ipi = ipi;
    f.clint.arg = &f;
    assert_int_equal(rtc_init(&f.rtc, &f.now, &line, START), 0);
    const struct bus_region regions[] = {{CLINT, CLINT_SIZE, &clint_bus_ops, &f.clint, "clint"},
                                         {RTC, RTC_SIZE, &rtc_bus_ops, &f.rtc, "rtc"}};
    assert_int_equal(bus_add(&f.rig.bus, &regions[0]), 0);
    assert_int_equal(bus_add(&f.rig.bus, &regions[1]), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    clint_destroy(&f->clint);
    rtc_destroy(&f->rtc);
    assert_int_equal(f->rig.clock.ntimers, 0);
    rig_destroy(&f->rig);
    return 0;
}

static void test_mtime(void **state)
{
    struct fixture *f = *state;
    rig_advance(&f->rig, 12345);
    assert_int_equal(rig_read(&f->rig, CLINT + 0xbff8, 8), 123);
    assert_int_equal(rig_read(&f->rig, CLINT + 0xbff8, 4), 123);
    assert_int_equal(rig_read(&f->rig, CLINT + 0xbffc, 4), 0);
    rig_write(&f->rig, CLINT + 0xbff8, 8, 5); /* mtime follows `time`, which cannot be set */
    assert_int_equal(rig_read(&f->rig, CLINT + 0xbff8, 8), 123);
}

static void test_mtimecmp(void **state)
{
    struct fixture *f = *state;
    struct hart *h = f->rig.harts[1];
    clint_reset(&f->clint);
    assert_true(h->mip & IRQ_MTIP); /* mtimecmp is 0 after reset */
    rig_write(&f->rig, CLINT + 0x4008, 8, UINT64_MAX);
    assert_false(h->mip & IRQ_MTIP);
    rig_write(&f->rig, CLINT + 0x4008, 4, 50);
    rig_write(&f->rig, CLINT + 0x400c, 4, 0);
    assert_int_equal(rig_read(&f->rig, CLINT + 0x4008, 8), 50);
    rig_advance(&f->rig, 4999);
    assert_false(h->mip & IRQ_MTIP);
    rig_advance(&f->rig, 1); /* the smallest step whose mtime is 50 */
    assert_true(h->mip & IRQ_MTIP);
    rig_write(&f->rig, CLINT + 0x4008, 8, 51);
    assert_false(h->mip & IRQ_MTIP);
    rig_write(&f->rig, CLINT + 0x4008, 8, 3);
    assert_true(h->mip & IRQ_MTIP);
    assert_true(f->rig.harts[0]->mip & IRQ_MTIP);
}

static void test_msip(void **state)
{
    struct fixture *f = *state;
    uint64_t v;
    rig_write(&f->rig, CLINT + 8, 4, 0xff);
    assert_true(f->rig.harts[2]->mip & IRQ_MSIP);
    assert_int_equal(rig_read(&f->rig, CLINT + 8, 4), 1);
    assert_int_equal(f->ipis, 1);
    assert_int_equal(f->ipi_to, 2);
    rig_write(&f->rig, CLINT + 8, 4, 1); /* already raised */
    rig_write(&f->rig, CLINT + 8, 4, 0);
    rig_write(&f->rig, CLINT + 0, 4, 1); /* itself */
    assert_int_equal(f->ipis, 1);
    assert_false(f->rig.harts[2]->mip & IRQ_MSIP);
    assert_true(f->rig.harts[0]->mip & IRQ_MSIP);
    assert_int_equal(rig_read(&f->rig, CLINT + 12, 4), 0); /* no such hart */
    rig_write(&f->rig, CLINT + 12, 4, 1);
    assert_int_equal(bus_read(&f->rig.bus, CLINT, 8, &v), -EFAULT);
    assert_int_equal(bus_read(&f->rig.bus, CLINT + 0x4000, 2, &v), -EFAULT);
}

static uint64_t rtc_time(struct fixture *f)
{
    uint64_t low = rig_read(&f->rig, RTC, 4);
    return low | rig_read(&f->rig, RTC + 4, 4) << 32;
}

static void set_alarm(struct fixture *f, uint64_t at)
{
    rig_write(&f->rig, RTC + 0xc, 4, at >> 32);
    rig_write(&f->rig, RTC + 8, 4, (uint32_t)at);
}

static void test_rtc_time(void **state)
{
    struct fixture *f = *state;
    rig_advance(&f->rig, 1000);
    assert_int_equal(rtc_time(f), START + 1000);
    rig_write(&f->rig, RTC + 4, 4, 7);
    rig_write(&f->rig, RTC + 0, 4, 9);
    assert_int_equal(rtc_time(f), 7ull << 32 | 9);
    rtc_reset(&f->rtc);
    assert_int_equal(rtc_time(f), START + 1000);
}

static void test_rtc_alarm(void **state)
{
    struct fixture *f = *state;
    rig_write(&f->rig, RTC + 0x10, 4, 1);
    set_alarm(f, START + 5000);
    assert_int_equal(rig_read(&f->rig, RTC + 0x18, 4), 1);
    rig_advance(&f->rig, 4999);
    assert_false(f->rtc_irq);
    rig_advance(&f->rig, 1);
    assert_true(f->rtc_irq);
    assert_int_equal(rig_read(&f->rig, RTC + 0x18, 4), 0);
    rig_write(&f->rig, RTC + 0x1c, 4, 1);
    assert_false(f->rtc_irq);
    set_alarm(f, START); /* passed */
    assert_true(f->rtc_irq);
    rig_write(&f->rig, RTC + 0x10, 4, 0);
    assert_false(f->rtc_irq);
    rig_write(&f->rig, RTC + 0x1c, 4, 1);
    set_alarm(f, START + 100000);
    rig_write(&f->rig, RTC + 0x14, 4, 1); /* cleared */
    rig_advance(&f->rig, 200000);
    rig_write(&f->rig, RTC + 0x10, 4, 1);
    assert_false(f->rtc_irq);
    set_alarm(f, UINT64_MAX);
    rig_advance(&f->rig, 1000000);
    assert_false(f->rtc_irq);
    rig_write(&f->rig, RTC + 4, 4, UINT32_MAX); /* the clock jumps towards the alarm */
    rig_write(&f->rig, RTC + 0, 4, UINT32_MAX);
    assert_true(f->rtc_irq);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_mtime), TEST(test_mtimecmp), TEST(test_msip),
                                       TEST(test_rtc_time), TEST(test_rtc_alarm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
