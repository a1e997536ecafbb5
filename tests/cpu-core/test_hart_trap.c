/* Traps, delegation, interrupt priority, trap returns, privileged checks, waiting, PMP matching, saved state.
 */
#include "cpu-core/state/state.h"
#include "tests/cpu-core/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define INSN         0x10500073u
#define CAUSE_IRQ    (1ull << 63)
#define SFENCE_VMA   0x12000073u
#define SINVAL_VMA   0x16000073u
#define SFENCE_INVAL 0x18000073u

static struct rig rig;
static struct hart *h;

static int setup(void **state)
{
    rig_create(&rig, 1 << 20, 2);
    h = &rig.hart[0];
    hart_slice_begin(h, 0, 1000);
    h->mtvec = 0x80000100;
    h->stvec = 0x80000200;
    h->pc = 0x80001234;
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(&rig);
    return 0;
}

static void trap(enum exception cause, uint64_t tval)
{
    assert_int_equal(hart_raise(h, cause, tval), -EFAULT);
    hart_trap(h);
}

static void test_trap_to_m(void **state)
{
    h->priv = PRIV_S;
    h->mstatus |= MSTATUS_MIE;
    h->res_valid = true;
    trap(EXC_LOAD_PAGE, 0x5000);
    assert_int_equal(h->priv, PRIV_M);
    assert_int_equal(h->pc, 0x80000100);
    assert_int_equal(h->mepc, 0x80001234);
    assert_int_equal(h->mcause, EXC_LOAD_PAGE);
    assert_int_equal(h->mtval, 0x5000);
    assert_int_equal(h->mstatus & (MSTATUS_MPP | MSTATUS_MPIE | MSTATUS_MIE), 1ull << 11 | MSTATUS_MPIE);
    assert_false(h->res_valid);
    assert_int_equal(hart_mret(h, INSN), 0);
    assert_int_equal(h->priv, PRIV_S);
    assert_int_equal(h->pc, 0x80001234);
    assert_int_equal(h->mstatus & (MSTATUS_MPP | MSTATUS_MPIE | MSTATUS_MIE), MSTATUS_MPIE | MSTATUS_MIE);
}

static void test_delegation(void **state)
{
    h->medeleg = 1 << EXC_LOAD_PAGE;
    h->priv = PRIV_U;
    h->mstatus |= MSTATUS_SIE;
    trap(EXC_LOAD_PAGE, 0x5000);
    assert_int_equal(h->priv, PRIV_S);
    assert_int_equal(h->pc, 0x80000200);
    assert_int_equal(h->sepc, 0x80001234);
    assert_int_equal(h->scause, EXC_LOAD_PAGE);
    assert_int_equal(h->stval, 0x5000);
    assert_int_equal(h->mstatus & (MSTATUS_SPP | MSTATUS_SPIE | MSTATUS_SIE), MSTATUS_SPIE);
    assert_int_equal(hart_sret(h, INSN), 0);
    assert_int_equal(h->priv, PRIV_U);
    assert_int_equal(h->pc, 0x80001234);
    h->priv = PRIV_M; /* never from M to S */
    trap(EXC_LOAD_PAGE, 0);
    assert_int_equal(h->priv, PRIV_M);
    assert_int_equal(h->mcause, EXC_LOAD_PAGE);
}

/* In M with everything pending and enabled, interrupts come in the specification's order. */
static void test_interrupt_order(void **state)
{
    static const uint8_t order[] = {11, 3, 7, 9, 1, 5};
    h->mie = h->mip = 0xAAA;
    for (unsigned i = 0; i < sizeof order; i++) {
        h->mstatus |= MSTATUS_MIE;
        h->mtvec = 0x80000101; /* vectored */
        hart_irq_update(h);
        assert_true(h->irq_ready);
        assert_true(hart_interrupt(h));
        assert_int_equal(h->mcause, CAUSE_IRQ | order[i]);
        assert_int_equal(h->pc, 0x80000100 + 4 * order[i]);
        assert_int_equal(h->mtval, 0);
        assert_false(h->irq_ready); /* MIE is clear now */
        h->mip &= ~(1ull << order[i]);
    }
    h->mstatus |= MSTATUS_MIE;
    assert_false(hart_interrupt(h));
}

/* An interrupt to a higher mode ignores the lower one's enable; one to a lower mode is never taken. */
static void test_interrupt_modes(void **state)
{
    static const struct {
        uint8_t priv;
        bool delegated, mie, sie, taken;
    } rows[] = {
        {PRIV_M, false, false, true, false}, {PRIV_M, false, true, false, true},
        {PRIV_M, true, true, true, false},   {PRIV_S, false, false, false, true},
        {PRIV_S, true, false, false, false}, {PRIV_S, true, false, true, true},
        {PRIV_U, true, false, false, true},  {PRIV_U, false, false, false, true},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        h->priv = rows[i].priv;
        h->mideleg = rows[i].delegated ? IRQ_SSIP : 0;
        h->mip = h->mie = IRQ_SSIP;
        h->mstatus = (rows[i].mie ? MSTATUS_MIE : 0) | (rows[i].sie ? MSTATUS_SIE : 0);
        hart_irq_update(h);
        assert_int_equal(h->irq_ready, rows[i].taken);
        assert_int_equal(hart_interrupt(h), rows[i].taken);
        if (rows[i].taken)
            assert_int_equal(h->priv, rows[i].delegated ? PRIV_S : PRIV_M);
    }
}

static void test_mprv_after_return(void **state)
{
    h->mstatus |= MSTATUS_MPRV | 3ull << 11;
    assert_int_equal(hart_mret(h, INSN), 0);
    assert_true(h->mstatus & MSTATUS_MPRV); /* M to M keeps it */
    h->mstatus |= 1ull << 11;
    assert_int_equal(hart_mret(h, INSN), 0);
    assert_false(h->mstatus & MSTATUS_MPRV);
}

static int do_mret(void)
{
    return hart_mret(h, INSN);
}
static int do_sret(void)
{
    return hart_sret(h, INSN);
}
static int do_wfi(void)
{
    return hart_wfi(h, INSN);
}
static int do_wrs_nto(void)
{
    return hart_wrs(h, INSN, false);
}
static int do_wrs_sto(void)
{
    return hart_wrs(h, INSN, true);
}
static int do_sfence(void)
{
    return hart_sfence_check(h, SFENCE_VMA);
}
static int do_sinval(void)
{
    return hart_sfence_check(h, SINVAL_VMA);
}
static int do_sfence_inval(void)
{
    return hart_sfence_check(h, SFENCE_INVAL);
}

/* Which privileges may, without and with the trapping bit; bit n stands for privilege n. */
static void test_privileged(void **state)
{
    static const struct {
        int (*run)(void);
        uint64_t trap_bit;
        unsigned allowed, allowed_trapped;
    } rows[] = {
        {do_mret, 0, 8, 8},
        {do_sret, MSTATUS_TSR, 10, 8},
        {do_wfi, MSTATUS_TW, 10, 8},
        {do_wrs_nto, MSTATUS_TW, 11, 8},
        {do_wrs_sto, MSTATUS_TW, 11, 11},
        {do_sfence, MSTATUS_TVM, 10, 8},
        {do_sinval, MSTATUS_TVM, 10, 8},
        {do_sfence_inval, MSTATUS_TVM, 10, 10},
    };
    static const uint8_t privs[] = {PRIV_U, PRIV_S, PRIV_M};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned k = 0; k < 6; k++) {
            uint8_t priv = privs[k % 3];
            h->priv = priv;
            h->mstatus = k < 3 ? 0 : rows[i].trap_bit;
            unsigned allowed = k < 3 ? rows[i].allowed : rows[i].allowed_trapped;
            assert_int_equal(rows[i].run(), allowed >> priv & 1 ? 0 : -EFAULT);
        }
}

static void test_cbo_enables(void **state)
{
    static const struct {
        unsigned op;
        uint64_t bits;
    } rows[] = {{0, MENVCFG_CBIE}, {1, MENVCFG_CBCFE}, {2, MENVCFG_CBCFE}, {4, MENVCFG_CBZE}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned k = 0; k < 4; k++) {
            h->menvcfg = k & 1 ? rows[i].bits : 0;
            h->senvcfg = k & 2 ? rows[i].bits : 0;
            h->priv = PRIV_M;
            assert_int_equal(hart_cbo_check(h, INSN, rows[i].op), 0);
            h->priv = PRIV_S;
            assert_int_equal(hart_cbo_check(h, INSN, rows[i].op), k & 1 ? 0 : -EFAULT);
            h->priv = PRIV_U;
            assert_int_equal(hart_cbo_check(h, INSN, rows[i].op), k == 3 ? 0 : -EFAULT);
        }
}

static void test_wfi(void **state)
{
    assert_int_equal(hart_wfi(h, INSN), 0);
    assert_int_equal(h->wait, HART_WFI);
    assert_true(h->yield);
    hart_irq_line(h, IRQ_MTIP, true);
    assert_int_equal(h->wait, HART_WFI); /* not enabled in mie */
    h->mie = IRQ_MTIP;
    hart_irq_update(h);
    assert_int_equal(h->wait, HART_RUNS); /* though mstatus.MIE is clear */
    assert_false(h->irq_ready);
    h->yield = false;
    assert_int_equal(hart_wfi(h, INSN), 0);
    assert_int_equal(h->wait, HART_RUNS);
    assert_false(h->yield);
}

static void test_wrs(void **state)
{
    uint64_t word = 1;
    assert_int_equal(hart_wrs(h, INSN, false), 0);
    assert_int_equal(h->wait, HART_RUNS); /* no reservation to wait for */
    h->res_valid = true;
    h->res_addr = RAM_BASE + 64;
    assert_int_equal(hart_wrs(h, INSN, false), 0);
    assert_int_equal(h->wait, HART_WRS);
    assert_int_equal(mmu_dma_write(rig.mmu, RAM_BASE + 72, &word, 8), 0);
    assert_int_equal(h->wait, HART_WRS);
    assert_int_equal(mmu_dma_write(rig.mmu, RAM_BASE + 71, &word, 1), 0);
    assert_int_equal(h->wait, HART_RUNS);
    assert_false(h->res_valid);
}

static void test_reservation(void **state)
{
    uint64_t word = 1;
    h->res_valid = true;
    h->res_addr = RAM_BASE + 64;
    mmu_phys_store(rig.mmu, h, RAM_BASE + 64, &word, 8);
    assert_true(h->res_valid); /* its own store */
    mmu_phys_store(rig.mmu, &rig.hart[1], RAM_BASE + 64, &word, 8);
    assert_false(h->res_valid);
}

static bool allows(uint64_t pa, unsigned access, unsigned priv)
{
    return hart_pmp_allows(h, pa, access, priv);
}

static void set_pmp(unsigned i, uint64_t addr, uint8_t cfg)
{
    uint64_t old;
    unsigned csr = 0x3A0 + i / 8 * 2, shift = i % 8 * 8;
    assert_int_equal(hart_csr(h, INSN, 0x3B0 + i, 1, addr, false, true, &old), 0);
    assert_int_equal(hart_csr(h, INSN, csr, 2, 0, true, false, &old), 0);
    uint64_t value = (old & ~(0xFFull << shift)) | (uint64_t)cfg << shift;
    assert_int_equal(hart_csr(h, INSN, csr, 1, value, false, true, &old), 0);
}

static void test_pmp(void **state)
{
    assert_false(allows(RAM_BASE, 1, PRIV_S)); /* no entry matches */
    assert_true(allows(RAM_BASE, 7, PRIV_M));
    set_pmp(15, UINT64_MAX, 0x1F);
    assert_true(allows(RAM_BASE, 7, PRIV_U));
    assert_true(allows(0, 7, PRIV_U));
    set_pmp(3, (RAM_BASE >> 2) | 0x3FF, 0x19); /* NAPOT 8 KiB, read-only */
    assert_true(allows(RAM_BASE + 0x1FFF, 1, PRIV_S));
    assert_false(allows(RAM_BASE + 0x1FFF, 2, PRIV_S));
    assert_true(allows(RAM_BASE + 0x2000, 2, PRIV_S));
    assert_true(allows(RAM_BASE + 0x1000, 2, PRIV_M)); /* not locked */
    set_pmp(1, (RAM_BASE >> 2) + 0x400, 0);
    set_pmp(2, (RAM_BASE >> 2) + 0x800, 0x0C); /* TOR of the second page: execute-only, before entry 3 */
    assert_false(allows(RAM_BASE + 0x1000, 1, PRIV_S));
    assert_true(allows(RAM_BASE + 0x1000, 4, PRIV_S));
    assert_true(allows(RAM_BASE, 1, PRIV_S));
    set_pmp(0, (RAM_BASE >> 2) + 0x1400 + 0x1FF, 0x98); /* locked, nothing allowed */
    assert_false(allows(RAM_BASE + 0x5000, 1, PRIV_M));
    assert_true(allows(RAM_BASE + 0x6000, 7, PRIV_M));
    assert_true(allows(RAM_BASE + 0x4000, 7, PRIV_M));
    set_pmp(0, 0, 0);
    assert_false(allows(RAM_BASE + 0x5000, 1, PRIV_M)); /* until reset */
    hart_reset(h, 0);
    assert_true(allows(RAM_BASE + 0x5000, 1, PRIV_M));
}

/* Collects the state, or puts it back. */
struct tape {
    struct state_io io;
    uint8_t bytes[4096];
    size_t at;
};

static void tape_bytes(struct state_io *io, void *data, size_t len)
{
    struct tape *t = (struct tape *)io;
    assert_true(t->at + len <= sizeof t->bytes);
    if (io->loading)
        memcpy(data, t->bytes + t->at, len);
    else
        memcpy(t->bytes + t->at, data, len);
    t->at += len;
}

static void test_state(void **state)
{
    static struct tape saved, again;
    saved = (struct tape){.io.bytes = tape_bytes};
    set_pmp(15, UINT64_MAX, 0x1F);
    for (unsigned i = 1; i < 32; i++)
        h->x[i] = h->f[i] = i * 0x0101010101010101ull;
    h->satp = 9ull << 60 | RAM_BASE >> 12;
    h->priv = PRIV_S;
    mmu_context_changed(h);
    h->mie = h->mip = IRQ_SSIP;
    h->left -= 77;
    hart_irq_update(h);
    hart_state(h, &saved.io);
    struct hart *other = &rig.hart[1];
    saved.io.loading = 1;
    size_t length = saved.at;
    saved.at = 0;
    hart_state(other, &saved.io);
    assert_int_equal(saved.at, length);
    again = (struct tape){.io.bytes = tape_bytes};
    hart_state(other, &again.io);
    assert_int_equal(again.at, length);
    assert_memory_equal(again.bytes, saved.bytes, length);
    assert_true(other->irq_ready);
    assert_true(hart_pmp_allows(other, RAM_BASE, 7, PRIV_U));
    assert_int_equal(hart_minstret(other), 77);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_trap_to_m),
        TEST(test_delegation),
        TEST(test_interrupt_order),
        TEST(test_interrupt_modes),
        TEST(test_mprv_after_return),
        TEST(test_privileged),
        TEST(test_cbo_enables),
        TEST(test_wfi),
        TEST(test_wrs),
        TEST(test_reservation),
        TEST(test_pmp),
        TEST(test_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
