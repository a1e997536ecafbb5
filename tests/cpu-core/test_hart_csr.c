/* CSRs: existence, privilege, WARL rules, counters; one row per fact where facts are alike. */
#include "tests/cpu-core/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>

#define INSN 0x12345073u

static struct rig rig;
static struct hart *h;

static int setup(void **state)
{
    rig_create(&rig, 1 << 20, 1);
    h = &rig.hart[0];
    hart_slice_begin(h, 0, 1000);
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(&rig);
    return 0;
}

static int write_csr(unsigned csr, uint64_t value)
{
    uint64_t old;
    return hart_csr(h, INSN, csr, 1, value, false, true, &old);
}

static uint64_t read_csr(unsigned csr)
{
    uint64_t value = 0xDEAD;
    assert_int_equal(hart_csr(h, INSN, csr, 2, 0, true, false, &value), 0);
    return value;
}

static void assert_illegal(int err)
{
    assert_int_equal(err, -EFAULT);
    assert_int_equal(h->exc_cause, EXC_ILLEGAL);
    assert_int_equal(h->exc_tval, INSN);
}

/* A value written and the value then read, in M-mode, from reset. */
static const struct warl {
    unsigned csr;
    uint64_t write, read;
} warl[] = {
    {0x300, UINT64_MAX, 0x8000000A007E79AA}, /* mstatus: FS on sets SD; UXL, SXL fixed; no XS, VS */
    {0x300, 0x1000, 0xA00000000},            /* MPP = 2 keeps the old mode */
    {0x300, 0x0800, 0xA00000800},
    {0x301, 0, 0x800000000014112D}, /* misa: ACDFIMSU, fixed */
    {0x302, UINT64_MAX, 0xB3FF},    /* medeleg: not from M */
    {0x303, UINT64_MAX, 0x222},     /* mideleg: S interrupts */
    {0x304, UINT64_MAX, 0xAAA},
    {0x344, UINT64_MAX, 0x222}, /* mip: software's bits only */
    {0x305, 0x80000001, 0x80000001},
    {0x305, 0x80000002, 0}, /* mtvec: reserved modes change nothing */
    {0x341, UINT64_MAX, UINT64_MAX - 1},
    {0x306, UINT64_MAX, 7},
    {0x106, UINT64_MAX, 7},
    {0x320, UINT64_MAX, 5},
    {0x30A, UINT64_MAX, 0xE0000000000000F1},
    {0x30A, 0x20, 0}, /* CBIE = 2 is reserved */
    {0x10A, UINT64_MAX, 0xF1},
    {0x180, 8ull << 60 | 0xABCDull << 44 | 0x80000, 8ull << 60 | 0xABCDull << 44 | 0x80000},
    {0x180, 9ull << 60 | 0x80000, 9ull << 60 | 0x80000},
    {0x180, 7ull << 60 | 0x80000, 0}, /* satp: an unsupported mode changes nothing */
    {0x180, 11ull << 60 | 0x80000, 0},
    {0x3A0, 0x10, 0x18},                     /* NA4 becomes NAPOT */
    {0x3A0, 0x02, 0},                        /* W without R */
    {0x3A0, 0x60, 0},                        /* reserved bits */
    {0x3B0, UINT64_MAX, 0x003FFFFFFFFFFC00}, /* 54 bits; while off, G low bits read 0 */
    {0x003, UINT64_MAX, 0xFF},
    {0x7A0, UINT64_MAX, 0},
    {0x7A1, UINT64_MAX, 0},
    {0x7A2, UINT64_MAX, 0},
    {0x7A3, UINT64_MAX, 0},
    {0xB03, UINT64_MAX, 0},
    {0xB1F, UINT64_MAX, 0},
    {0x323, UINT64_MAX, 0},
    {0x33F, UINT64_MAX, 0},
    {0x14D, UINT64_MAX, UINT64_MAX},
    {0x140, UINT64_MAX, UINT64_MAX},
    {0x142, UINT64_MAX, UINT64_MAX},
    {0x144, UINT64_MAX, 0}, /* sip: nothing is delegated */
    {0x104, UINT64_MAX, 0},
};

static void test_warl(void **state)
{
    for (unsigned i = 0; i < sizeof warl / sizeof *warl; i++) {
        hart_reset(h, 0x1000);
        h->mstatus |= warl[i].csr < 4 ? MSTATUS_FS : 0;
        assert_int_equal(write_csr(warl[i].csr, warl[i].write), 0);
        uint64_t value = read_csr(warl[i].csr), peeked;
        if (value != warl[i].read)
            fail_msg("csr %#x: wrote %#lx, read %#lx, expected %#lx", warl[i].csr, warl[i].write, value,
                     warl[i].read);
        assert_int_equal(hart_csr_peek(h, warl[i].csr, &peeked), 0);
        assert_int_equal(peeked, value);
    }
}

static void test_reset(void **state)
{
    static const struct {
        unsigned csr;
        uint64_t value;
    } rows[] = {{0x300, 0xA00000000}, {0x30A, 0x6000000000000000},
                {0x302, 0},           {0x303, 0},
                {0x304, 0},           {0x306, 0},
                {0x180, 0},           {0x3A0, 0},
                {0xF14, 0},           {0x320, 0}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(read_csr(rows[i].csr), rows[i].value);
    assert_int_equal(h->priv, PRIV_M);
    assert_int_equal(h->x[10], 0);
}

/* Numbers that are not implemented, in M-mode. */
static void test_absent(void **state)
{
    static const uint16_t absent[] = {0x000, 0x004, 0x008, 0x015, 0x107, 0x10C, 0x180 + 1, 0x200,
                                      0x30C, 0x310, 0x321, 0x3A1, 0x3A3, 0x3C0, 0x600,     0x747,
                                      0x7A5, 0x7B0, 0xB01, 0xC03, 0xF16, 0xFFF};
    for (unsigned i = 0; i < sizeof absent / sizeof *absent; i++) {
        uint64_t v;
        assert_illegal(hart_csr(h, INSN, absent[i], 2, 0, true, false, &v));
        assert_int_equal(hart_csr_peek(h, absent[i], &v), -ENOENT);
        assert_null(hart_csr_name(absent[i]));
    }
}

static void test_privilege(void **state)
{
    uint64_t v;
    h->priv = PRIV_S;
    assert_illegal(hart_csr(h, INSN, 0x300, 2, 0, true, false, &v));
    assert_int_equal(hart_csr(h, INSN, 0x100, 2, 0, true, false, &v), 0);
    h->priv = PRIV_U;
    assert_illegal(hart_csr(h, INSN, 0x100, 2, 0, true, false, &v));
    h->priv = PRIV_M;
    assert_illegal(write_csr(0xF14, 0)); /* read-only numbers */
    assert_illegal(write_csr(0xC00, 0));
    assert_int_equal(hart_csr(h, INSN, 0xC00, 2, 0, true, false, &v), 0);
}

static void test_fp_needs_fs(void **state)
{
    uint64_t v;
    for (unsigned csr = 1; csr <= 3; csr++)
        assert_illegal(hart_csr(h, INSN, csr, 2, 0, true, false, &v));
    h->mstatus |= 1ull << 13;
    assert_int_equal(write_csr(3, 0xE5), 0);
    assert_int_equal(h->mstatus & MSTATUS_FS, MSTATUS_FS);
    assert_int_equal(read_csr(1), 5);
    assert_int_equal(read_csr(2), 7);
    assert_int_equal(read_csr(0x100) & MSTATUS_SD, MSTATUS_SD);
}

static void test_counter_access(void **state)
{
    for (unsigned counter = 0; counter < 3; counter++)
        for (unsigned m = 0; m < 2; m++)
            for (unsigned s = 0; s < 2; s++)
                for (unsigned priv = 0; priv < 2; priv++) {
                    uint64_t v;
                    h->priv = PRIV_M;
                    write_csr(0x306, m << counter);
                    write_csr(0x106, s << counter);
                    h->priv = (uint8_t)priv;
                    bool open = m && (priv == PRIV_S || s);
                    int err = hart_csr(h, INSN, 0xC00 + counter, 2, 0, true, false, &v);
                    assert_int_equal(err, open ? 0 : -EFAULT);
                }
}

static void test_set_and_clear(void **state)
{
    uint64_t old;
    write_csr(0x340, 0xF0);
    assert_int_equal(hart_csr(h, INSN, 0x340, 2, 0x0F, true, true, &old), 0);
    assert_int_equal(old, 0xF0);
    assert_int_equal(hart_csr(h, INSN, 0x340, 3, 0x3C, true, true, &old), 0);
    assert_int_equal(old, 0xFF);
    assert_int_equal(read_csr(0x340), 0xC3);
}

/* csrs on mip returns SEIP with the PLIC's line, but writes back only what software had set. */
static void test_seip_modify(void **state)
{
    uint64_t old;
    hart_irq_line(h, IRQ_SEIP, true);
    assert_int_equal(hart_csr(h, INSN, 0x344, 2, IRQ_SSIP, true, true, &old), 0);
    assert_int_equal(old, IRQ_SEIP);
    hart_irq_line(h, IRQ_SEIP, false);
    assert_int_equal(read_csr(0x344), IRQ_SSIP);
    write_csr(0x344, IRQ_SEIP);
    hart_irq_line(h, IRQ_SEIP, true);
    hart_irq_line(h, IRQ_SEIP, false);
    assert_int_equal(read_csr(0x344), IRQ_SEIP);
}

static void test_supervisor_views(void **state)
{
    write_csr(0x303, IRQ_SSIP | IRQ_SEIP);
    write_csr(0x304, 0xAAA);
    write_csr(0x344, 0x222);
    assert_int_equal(read_csr(0x104), 0x202);
    assert_int_equal(read_csr(0x144), 0x202);
    write_csr(0x104, 0);
    assert_int_equal(read_csr(0x304), 0x8A8);
    write_csr(0x144, 0); /* only SSIP is writable */
    assert_int_equal(read_csr(0x344), 0x220);
    write_csr(0x100, UINT64_MAX);
    assert_int_equal(read_csr(0x300), 0x8000000A000C6122);
    assert_int_equal(read_csr(0x100), 0x80000002000C6122);
}

static void test_virtual_memory_trap(void **state)
{
    uint64_t v;
    h->mstatus |= MSTATUS_TVM;
    h->priv = PRIV_S;
    assert_illegal(hart_csr(h, INSN, 0x180, 2, 0, true, false, &v));
    h->priv = PRIV_M;
    assert_int_equal(hart_csr(h, INSN, 0x180, 2, 0, true, false, &v), 0);
}

static void test_sstc(void **state)
{
    uint64_t v;
    h->priv = PRIV_S;
    assert_illegal(hart_csr(h, INSN, 0x14D, 2, 0, true, false, &v));
    h->menvcfg |= MENVCFG_STCE;
    assert_illegal(hart_csr(h, INSN, 0x14D, 2, 0, true, false, &v));
    h->mcounteren = 2;
    assert_int_equal(hart_csr(h, INSN, 0x14D, 2, 0, true, false, &v), 0);
    h->priv = PRIV_M;
    hart_irq_line(h, IRQ_STIP, true);
    write_csr(0x344, 0); /* STIP belongs to the comparator */
    assert_int_equal(read_csr(0x344), IRQ_STIP);
    write_csr(0x30A, 0);
    assert_int_equal(read_csr(0x344), 0);
    write_csr(0x344, IRQ_STIP);
    assert_int_equal(read_csr(0x344), IRQ_STIP);
}

static void test_pmp_locks(void **state)
{
    write_csr(0x3B0, 0x20000000);
    write_csr(0x3B1, 0x20001000);
    write_csr(0x3A0, 0x8F00); /* entry 1: locked TOR RWX */
    write_csr(0x3B0, 0);
    assert_int_equal(read_csr(0x3B0), 0x20000000); /* bottom of a locked TOR */
    write_csr(0x3B1, 0);
    assert_int_equal(read_csr(0x3B1), 0x20001000);
    write_csr(0x3A0, 0x1F);
    assert_int_equal(read_csr(0x3A0), 0x8F1F);                  /* entry 0's configuration is free */
    assert_int_equal(read_csr(0x3B0), 0x200001FF | 0x20000000); /* NAPOT: G - 1 low bits read 1 */
}

static void complete(unsigned n)
{
    h->left -= n;
}

static void test_counters(void **state)
{
    complete(10);
    assert_int_equal(read_csr(0xB00), 10);
    assert_int_equal(read_csr(0xB02), 10);
    write_csr(0xB02, 100); /* its own retirement is not counted */
    complete(1);
    assert_int_equal(read_csr(0xB02), 100);
    complete(4);
    assert_int_equal(read_csr(0xB02), 104);
    hart_raise(h, EXC_ILLEGAL, 0);
    hart_trap(h);
    complete(1); /* a trap is a step but retires nothing */
    assert_int_equal(read_csr(0xB00), 16);
    assert_int_equal(read_csr(0xB02), 104);
    write_csr(0x320, 4); /* takes effect after itself */
    complete(1);
    complete(50);
    assert_int_equal(read_csr(0xB02), 105);
    assert_int_equal(read_csr(0xB00), 67);
    write_csr(0xB02, 7);
    complete(1);
    assert_int_equal(read_csr(0xB02), 7);
    write_csr(0x320, 1);
    complete(1);
    complete(3);
    assert_int_equal(read_csr(0xB02), 10);
    assert_int_equal(read_csr(0xB00), 69);
}

static void test_slices(void **state)
{
    complete(400);
    assert_int_equal(hart_slice_end(h), 400);
    assert_int_equal(hart_icount(h), 400);
    hart_slice_begin(h, 5000, 100); /* another hart had 4600 steps */
    assert_int_equal(read_csr(0xB00), 5000);
    assert_int_equal(read_csr(0xB02), 400);
    complete(10);
    hart_shorten(h, 5050);
    assert_int_equal(hart_icount(h), 5010);
    assert_int_equal(h->left, 40);
    hart_shorten(h, 3000); /* too late: after this instruction */
    assert_int_equal(h->left, 1);
    hart_shorten(h, 6000);
    assert_int_equal(h->left, 1);
    complete(1);
    assert_int_equal(hart_slice_end(h), 11);
    assert_int_equal(hart_icount(h), 5011);
}

static void test_time(void **state)
{
    complete(999);
    assert_int_equal(read_csr(0xC01), 9); /* 100 steps of 1 ns a tick */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_warl),
        TEST(test_reset),
        TEST(test_absent),
        TEST(test_privilege),
        TEST(test_fp_needs_fs),
        TEST(test_counter_access),
        TEST(test_set_and_clear),
        TEST(test_seip_modify),
        TEST(test_supervisor_views),
        TEST(test_virtual_memory_trap),
        TEST(test_sstc),
        TEST(test_pmp_locks),
        TEST(test_counters),
        TEST(test_slices),
        TEST(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
