/* PLIC: priorities, thresholds, claim and complete, gateways. */
#include "cpu-core/board/plic.h"
#include "cpu-core/state/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>

static bool lines[PLIC_CONTEXTS];

static void context_line(void *arg, unsigned context, bool level)
{
    lines[context] = level;
}

static const struct irq_line target = {context_line, NULL, 0};

static uint32_t rd(struct plic *p, uint64_t offset)
{
    uint64_t v = 0;
    assert_int_equal(plic_bus_ops.read(p, offset, 4, &v), 0);
    return (uint32_t)v;
}

static void wr(struct plic *p, uint64_t offset, uint32_t v)
{
    assert_int_equal(plic_bus_ops.write(p, offset, 4, v), 0);
}

static uint64_t enable(unsigned context, unsigned word)
{
    return 0x2000 + 0x80 * context + 4 * word;
}
static uint64_t threshold(unsigned context)
{
    return 0x200000 + 0x1000 * context;
}
static uint64_t claim(unsigned context)
{
    return threshold(context) + 4;
}

static void setup(struct plic *p)
{
    plic_init(p, 4, &target);
    for (unsigned i = 0; i < PLIC_CONTEXTS; i++)
        lines[i] = false;
    wr(p, 4 * 1, 1);
    wr(p, 4 * 10, 3);
    wr(p, 4 * 33, 3);
    wr(p, 4 * 95, 7);
    wr(p, enable(1, 0), 1u << 1 | 1u << 10);
    wr(p, enable(1, 1), 1u << 1);
    wr(p, enable(1, 2), 1u << 31);
}

static void test_priorities(void **state)
{
    struct plic p;
    setup(&p);
    plic_input(&p, 1, true);
    assert_true(lines[1]);
    assert_false(lines[0] || lines[2] || lines[3]);
    plic_input(&p, 33, true);
    plic_input(&p, 10, true);
    plic_input(&p, 95, true);
    assert_int_equal(rd(&p, 0x1000), 1u << 1 | 1u << 10);
    assert_int_equal(rd(&p, 0x1004), 1u << 1);
    assert_int_equal(rd(&p, 0x1008), 1u << 31);
    assert_int_equal(rd(&p, claim(1)), 95);
    assert_int_equal(rd(&p, claim(1)), 10); /* equal priorities: lowest number */
    assert_int_equal(rd(&p, claim(1)), 33);
    assert_int_equal(rd(&p, claim(1)), 1);
    assert_false(lines[1]);
    assert_int_equal(rd(&p, claim(1)), 0);
}

static void test_threshold(void **state)
{
    struct plic p;
    setup(&p);
    wr(&p, threshold(1), 3);
    plic_input(&p, 10, true);
    assert_false(lines[1]);
    assert_int_equal(rd(&p, claim(1)), 0);
    wr(&p, threshold(1), 2);
    assert_true(lines[1]);
    wr(&p, 4 * 10, 0); /* priority 0 never interrupts */
    wr(&p, threshold(1), 0);
    assert_false(lines[1]);
    wr(&p, threshold(1), 0xff);
    assert_int_equal(rd(&p, threshold(1)), 7);
    wr(&p, 4 * 10, 0xfe);
    assert_int_equal(rd(&p, 4 * 10), 6);
}

static void test_gateway(void **state)
{
    struct plic p;
    setup(&p);
    plic_input(&p, 10, true);
    assert_int_equal(rd(&p, claim(1)), 10);
    plic_input(&p, 10, false);
    plic_input(&p, 10, true); /* not forwarded before completion */
    assert_int_equal(rd(&p, 0x1000), 0);
    assert_false(lines[1]);
    wr(&p, claim(1), 11); /* not the one that was claimed */
    assert_false(lines[1]);
    wr(&p, claim(1), 10); /* still asserted: pends again */
    assert_true(lines[1]);
    assert_int_equal(rd(&p, claim(1)), 10);
    plic_input(&p, 10, false);
    wr(&p, claim(1), 10);
    assert_false(lines[1]);
    plic_input(&p, 10, true);
    plic_input(&p, 10, false); /* a forwarded request stays */
    assert_true(lines[1]);
    assert_int_equal(rd(&p, claim(1)), 10);
    wr(&p, claim(1), 10);
    assert_int_equal(rd(&p, claim(1)), 0);
}

static void test_two_contexts(void **state)
{
    struct plic p;
    setup(&p);
    wr(&p, enable(2, 0), 1u << 10);
    plic_input(&p, 10, true);
    assert_true(lines[1] && lines[2]);
    assert_int_equal(rd(&p, claim(2)), 10);
    assert_false(lines[1] || lines[2]);
    assert_int_equal(rd(&p, claim(1)), 0);
}

static void test_registers(void **state)
{
    struct plic p;
    uint64_t v;
    setup(&p);
    wr(&p, 0, 5); /* source 0 does not exist */
    assert_int_equal(rd(&p, 0), 0);
    wr(&p, enable(0, 0), 0xffffffff);
    assert_int_equal(rd(&p, enable(0, 0)), 0xfffffffe);
    wr(&p, 0x1000, 0xffffffff); /* pending is read-only */
    assert_int_equal(rd(&p, 0x1000), 0);
    wr(&p, claim(1), 96);
    wr(&p, claim(1), 0xffffffff);
    assert_int_equal(rd(&p, enable(4, 0)), 0); /* no such context */
    wr(&p, enable(15, 0), 1);
    assert_int_equal(rd(&p, 0x5ffffc), 0);
    assert_int_equal(plic_bus_ops.read(&p, 4, 8, &v), -EFAULT);
    assert_int_equal(plic_bus_ops.write(&p, 4, 1, 0), -EFAULT);
}

static void walk(void *arg, struct state_io *io)
{
    plic_state(arg, io);
}

static void test_reset_and_state(void **state)
{
    struct plic p, q;
    setup(&p);
    plic_init(&q, 4, &target);
    uint64_t fresh = state_hash(walk, &q);
    assert_true(state_hash(walk, &p) != fresh);
    plic_reset(&p);
    assert_true(state_hash(walk, &p) == fresh);
    plic_input(&p, 10, true);
    assert_true(state_hash(walk, &p) != fresh);
    plic_reset(&p); /* the line is still asserted */
    assert_int_equal(rd(&p, 0x1000), 1u << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_priorities), cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_gateway),    cmocka_unit_test(test_two_contexts),
        cmocka_unit_test(test_registers),  cmocka_unit_test(test_reset_and_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
