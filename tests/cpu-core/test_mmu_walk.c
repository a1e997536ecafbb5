/* Translation by directed cases: permissions, PTE validity, levels, A and D, PMP, crossing and device
 * accesses, and write revocation under many aliases. Each case runs with and without banks. */
#include "cpu-core/board/bus.h"
#include "cpu-core/engine.h"
#include "cpu-core/mmu/internal.h"
#include "cpu-core/time/vclock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define MEMORY (4ull << 20)
#define DEVICE 0x10000000ull
#define DATA   (RAM_BASE + 0x100000) /* the page that addresses lead to */
#define RWX    (PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D)

static struct machine {
    struct ram ram;
    struct bus bus;
    struct vclock clock;
    struct hart hart, *harts[1];
    struct mmu *mmu;
    uint64_t invalidations, device_writes;
} m;
static struct hart *const h = &m.hart;

static void count_invalidate(void *engine, uint64_t pa, uint64_t len)
{
    m.invalidations++;
}
static const struct engine counting_engine = {.name = "counting", .invalidate = count_invalidate};

static int device_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = offset + 0x100 * size;
    return offset == 0x80 ? -EFAULT : 0;
}

static int device_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    m.device_writes++;
    return offset == 0x80 ? -EFAULT : 0;
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

static void create(bool no_tlb)
{
    static const struct bus_region region = {
        .base = DEVICE, .size = 0x1000, .ops = &device_ops, .name = "device"};
    memset(&m, 0, sizeof m);
    assert_int_equal(ram_create(&m.ram, MEMORY), 0);
    assert_int_equal(bus_add(&m.bus, &region), 0);
    vclock_init(&m.clock, 1ull << 32);
    m.harts[0] = h;
    h->clock = &m.clock;
    h->harts = m.harts;
    h->nharts = 1;
    assert_int_equal(mmu_create(&m.mmu, &m.ram, &m.bus, m.harts, 1, 5, no_tlb), 0);
    mmu_set_engine(m.mmu, &counting_engine, NULL);
    hart_reset(h, RAM_BASE);
    uint64_t old;
    assert_int_equal(hart_csr(h, 0, 0x3BF, 1, UINT64_MAX, false, true, &old), 0);
    assert_int_equal(hart_csr(h, 0, 0x3A2, 1, 0x1Full << 56, false, true, &old), 0);
}

static int setup(void **state)
{
    create(*state != NULL);
    return 0;
}

static int teardown(void **state)
{
    mmu_destroy(m.mmu);
    ram_destroy(&m.ram);
    return 0;
}

static void poke(uint64_t pa, uint64_t v)
{
    mmu_phys_store(m.mmu, h, pa, &v, 8);
}

static uint64_t peek(uint64_t pa)
{
    uint64_t v;
    memcpy(&v, ram_at(&m.ram, pa), 8);
    return v;
}

static uint64_t pte(uint64_t pa, uint64_t flags)
{
    return pa >> PAGE_SHIFT << PTE_PPN_SHIFT | flags;
}

/* Table n of the address space; table 0 is the root. */
static uint64_t table(unsigned n)
{
    return RAM_BASE + (n + 1) * PAGE_SIZE;
}

/* Maps `va` with a leaf at `level` of `levels`; returns where the leaf is. Tables are numbered by depth and
 * the top index. */
static uint64_t map(unsigned levels, uint64_t va, unsigned level, uint64_t leaf)
{
    unsigned depth = 0;
    for (unsigned l = levels - 1; l > level; l--, depth++)
        poke(table(depth) + (va >> (PAGE_SHIFT + 9 * l) & 511) * 8, pte(table(depth + 1), PTE_V));
    uint64_t at = table(depth) + (va >> (PAGE_SHIFT + 9 * level) & 511) * 8;
    poke(at, leaf);
    return at;
}

static void enter(unsigned levels, unsigned priv)
{
    h->satp = (uint64_t)(levels + 5) << 60 | table(0) >> PAGE_SHIFT;
    h->priv = (uint8_t)priv;
    mmu_context_changed(h);
}

static int access_at(uint64_t va, enum mmu_access access, struct mmu_target *t)
{
    return access == MMU_FETCH ? mmu_fetch(h, va, t) : mmu_translate(h, va, 1, access, t);
}

static int page_fault_of(enum mmu_access a)
{
    return a == MMU_FETCH ? EXC_INSN_PAGE : a == MMU_READ ? EXC_LOAD_PAGE : EXC_STORE_PAGE;
}

static int access_fault_of(enum mmu_access a)
{
    return a == MMU_FETCH ? EXC_INSN_ACCESS : a == MMU_READ ? EXC_LOAD_ACCESS : EXC_STORE_ACCESS;
}

static void assert_fault(int err, int cause, uint64_t tval)
{
    assert_int_equal(err, -EFAULT);
    assert_int_equal(h->exc_cause, cause);
    assert_int_equal(h->exc_tval, tval);
}

static const enum mmu_access accesses[] = {MMU_READ, MMU_WRITE, MMU_FETCH, MMU_AMO};

static bool allowed(uint64_t leaf, unsigned priv, bool sum, bool mxr, enum mmu_access a)
{
    bool user = leaf & PTE_U, readable = leaf & PTE_R || (mxr && leaf & PTE_X);
    if (priv == PRIV_U ? !user : user && (a == MMU_FETCH || !sum))
        return false;
    return a == MMU_FETCH ? leaf & PTE_X : a == MMU_READ ? readable : leaf & PTE_W && readable;
}

static void test_permissions(void **state)
{
    for (unsigned bits = 0; bits < 16; bits++)
        for (unsigned mode = 0; mode < 8; mode++)
            for (unsigned i = 0; i < 4; i++) {
                uint64_t leaf = PTE_V | PTE_A | PTE_D | bits << 1;
                bool sum = mode & 2, mxr = mode & 4, formed = bits & 5 && (bits & 3) != 2;
                h->mstatus = (sum ? MSTATUS_SUM : 0) | (mxr ? MSTATUS_MXR : 0);
                enter(3, mode & 1);
                map(3, 0x5000, 0, pte(DATA, leaf));
                struct mmu_target t;
                int err = access_at(0x5000, accesses[i], &t);
                if (formed && allowed(leaf, mode & 1, sum, mxr, accesses[i]))
                    assert_int_equal(err, 0);
                else
                    assert_fault(err, page_fault_of(accesses[i]), 0x5000);
            }
}

/* MPRV takes privilege, SUM and MXR for data, not for fetches. */
static void test_mprv(void **state)
{
    uint64_t v;
    map(3, 0x5000, 0, pte(DATA, RWX | PTE_U));
    enter(3, PRIV_M);
    h->mstatus = MSTATUS_MPRV;
    mmu_context_changed(h);
    assert_int_equal(mmu_store(h, 0x5000, 8, 77), 0);
    assert_int_equal(peek(DATA), 77);
    h->mstatus = MSTATUS_MPRV | 1ull << 11;
    mmu_context_changed(h);
    assert_fault(mmu_load(h, 0x5000, 8, &v), EXC_LOAD_PAGE, 0x5000);
    struct mmu_target t;
    assert_int_equal(mmu_fetch(h, DATA, &t), 0);
    assert_int_equal(t.pa, DATA);
}

static void test_malformed(void **state)
{
    static const struct {
        uint8_t level;
        uint64_t flags;
        bool ok;
    } rows[] = {
        {0, RWX, true},
        {0, RWX & ~PTE_V, false},
        {0, RWX | 1ull << 54, false},
        {0, RWX | 1ull << 60, false},
        {0, RWX | 1ull << 61, true},
        {0, RWX | 2ull << 61, true},
        {0, RWX | PTE_PBMT, false},
        {0, RWX | PTE_N, false}, /* a NAPOT size that does not exist: DATA's number ends in 0000 */
        {0, RWX | PTE_N | 8ull << PTE_PPN_SHIFT, true},
        {0, RWX | PTE_N | 4ull << PTE_PPN_SHIFT, false},
        {1, RWX | PTE_N | 8ull << PTE_PPN_SHIFT, false},
        {0, PTE_V, false}, /* a pointer at the last level */
        {0, RWX | PTE_RSW | PTE_G, true},
    };
    uint64_t v;
    enter(4, PRIV_S);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        map(4, 0x5000, rows[i].level, pte(rows[i].level ? RAM_BASE : DATA, rows[i].flags));
        int err = mmu_load(h, 0x5000, 8, &v);
        if (rows[i].ok)
            assert_int_equal(err, 0);
        else
            assert_fault(err, EXC_LOAD_PAGE, 0x5000);
    }
    h->menvcfg &= ~MENVCFG_PBMTE;
    mmu_pmp_changed(h);
    map(4, 0x5000, 0, pte(DATA, RWX | 1ull << 61));
    assert_fault(mmu_load(h, 0x5000, 8, &v), EXC_LOAD_PAGE, 0x5000);
}

static void test_malformed_pointer(void **state)
{
    static const uint64_t flags[] = {PTE_A, PTE_D, PTE_U, 1ull << 61, PTE_N, 1ull << 54};
    uint64_t v, at = map(3, 0x5000, 0, pte(DATA, RWX));
    enter(3, PRIV_S);
    assert_int_equal(mmu_load(h, 0x5000, 8, &v), 0);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        poke(table(1), pte(table(2), PTE_V | flags[i]));
        assert_fault(mmu_load(h, 0x5000, 8, &v), EXC_LOAD_PAGE, 0x5000);
        poke(table(1), pte(table(2), PTE_V | PTE_G));
        assert_int_equal(mmu_load(h, 0x5000, 8, &v), 0);
    }
    assert_int_equal(peek(at), pte(DATA, RWX));
}

static void test_levels(void **state)
{
    for (unsigned levels = 3; levels <= 5; levels++)
        for (unsigned level = 0; level < levels; level++) {
            uint64_t size = PAGE_SIZE << (9 * level), top = 1ull << (PAGE_SHIFT + 9 * levels - 1),
                     pa = RAM_BASE & ~(size - 1);
            uint64_t inside = DATA - pa;
            uint64_t va = level == levels - 1 ? 0 : top - (size > top / 2 ? top / 2 : 2 * size);
            va &= ~(size - 1);
            if (inside >= size)
                inside = 0;
            map(levels, va, level, pte(pa, RWX));
            enter(levels, PRIV_S);
            struct mmu_target t;
            assert_int_equal(mmu_translate(h, va + inside, 8, MMU_READ, &t), 0);
            assert_int_equal(t.pa, pa + inside);
            if (level) { /* misaligned superpage */
                map(levels, va, level, pte(pa + PAGE_SIZE, RWX));
                assert_fault(mmu_translate(h, va + inside, 8, MMU_READ, &t), EXC_LOAD_PAGE, va + inside);
            }
            uint64_t bad = va | 1ull << 63;
            assert_fault(mmu_translate(h, bad, 8, MMU_READ, &t), EXC_LOAD_PAGE, bad);
        }
}

static void test_napot(void **state)
{
    enter(3, PRIV_S);
    for (unsigned i = 0; i < 16; i++) {
        struct mmu_target t;
        uint64_t va = 0x10000 + i * PAGE_SIZE + 0x123;
        map(3, va, 0, pte(DATA, RWX | PTE_N) | 8 << PTE_PPN_SHIFT);
        assert_int_equal(mmu_translate(h, va, 1, MMU_READ, &t), 0);
        assert_int_equal(t.pa, DATA + i * PAGE_SIZE + 0x123);
    }
}

static void test_accessed_and_dirty(void **state)
{
    static const uint64_t after[] = {PTE_A, PTE_A | PTE_D, PTE_A, PTE_A | PTE_D};
    struct mmu_target t;
    enter(3, PRIV_S);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t at = map(3, 0x5000, 0, pte(DATA, RWX & ~(PTE_A | PTE_D)));
        h->menvcfg &= ~MENVCFG_ADUE;
        assert_fault(access_at(0x5000, accesses[i], &t), page_fault_of(accesses[i]), 0x5000);
        assert_int_equal(peek(at), pte(DATA, RWX & ~(PTE_A | PTE_D)));
        h->menvcfg |= MENVCFG_ADUE;
        assert_int_equal(access_at(0x5000, accesses[i], &t), 0);
        assert_int_equal(peek(at) & (PTE_A | PTE_D), after[i]);
        map(3, 0x5000, 0, pte(DATA, PTE_V | PTE_R | PTE_U)); /* a denied access sets nothing */
        assert_fault(access_at(0x5000, accesses[i], &t), page_fault_of(accesses[i]), 0x5000);
        assert_int_equal(peek(at), pte(DATA, PTE_V | PTE_R | PTE_U));
    }
    map(3, 0x5000, 0, pte(DATA, RWX & ~PTE_D)); /* D alone, after the page was read */
    uint64_t v;
    assert_int_equal(mmu_load(h, 0x5000, 8, &v), 0);
    h->menvcfg &= ~MENVCFG_ADUE;
    assert_fault(mmu_store(h, 0x5000, 8, 1), EXC_STORE_PAGE, 0x5000);
}

static void set_pmp(unsigned i, uint64_t pa, unsigned rwx)
{
    uint64_t old, priv = h->priv;
    h->priv = PRIV_M;
    assert_int_equal(hart_csr(h, 0, 0x3B0 + i, 1, pa >> 2 | 0x1FF, false, true, &old), 0);
    assert_int_equal(hart_csr(h, 0, 0x3A0, 1, 0x18ull + rwx, false, true, &old), 0);
    h->priv = (uint8_t)priv;
    mmu_context_changed(h);
}

static void test_protection(void **state)
{
    struct mmu_target t;
    uint64_t at = map(3, 0x5000, 0, pte(DATA, RWX & ~(PTE_A | PTE_D)));
    enter(3, PRIV_S);
    for (unsigned i = 0; i < 4; i++) {
        enum mmu_access a = accesses[i];
        set_pmp(0, table(1), 0); /* a table that may not be read */
        assert_fault(access_at(0x5000, a, &t), access_fault_of(a), 0x5000);
        set_pmp(0, DATA, 0);
        poke(at, pte(DATA, RWX & ~(PTE_A | PTE_D)));
        assert_fault(access_at(0x5000, a, &t), access_fault_of(a), 0x5000);
        assert_true(peek(at) & PTE_A); /* translation had succeeded */
        set_pmp(0, table(2), 1);       /* a table that may not be written: A can not be set */
        poke(at, pte(DATA, RWX & ~(PTE_A | PTE_D)));
        assert_fault(access_at(0x5000, a, &t), access_fault_of(a), 0x5000);
        poke(at, pte(DATA, RWX));
        assert_int_equal(access_at(0x5000, a, &t), 0);
        set_pmp(0, DATA, a == MMU_FETCH ? 4 : a == MMU_READ ? 1 : 3);
        assert_int_equal(access_at(0x5000, a, &t), 0);
    }
    poke(table(0), pte(DEVICE, PTE_V)); /* a table outside RAM */
    assert_fault(access_at(0x5000, MMU_READ, &t), EXC_LOAD_ACCESS, 0x5000);
}

static void test_crossing(void **state)
{
    uint64_t v, first = map(3, 0x5000, 0, pte(DATA, RWX & ~(PTE_A | PTE_D)));
    map(3, 0x6000, 0, pte(DATA + 4 * PAGE_SIZE, RWX));
    enter(3, PRIV_S);
    assert_int_equal(mmu_store(h, 0x5FFB, 8, 0x1122334455667788), 0);
    assert_int_equal(mmu_load(h, 0x5FFB, 8, &v), 0);
    assert_int_equal(v, 0x1122334455667788);
    assert_int_equal(mmu_load(h, 0x5FFF, 4, &v), 0);
    assert_int_equal(v, 0x11223344);
    assert_int_equal(peek(DATA + 4 * PAGE_SIZE) & 0xFFFFFF, 0x112233);
    poke(first, pte(DATA, RWX & ~(PTE_A | PTE_D)));
    map(3, 0x6000, 0, 0);
    assert_fault(mmu_store(h, 0x5FFC, 8, 0), EXC_STORE_PAGE, 0x6000);
    assert_int_equal(peek(DATA + 0xFF8) >> 32 & 0xFF, 0x77);        /* nothing was written */
    assert_int_equal(peek(first) & (PTE_A | PTE_D), PTE_A | PTE_D); /* the first part had been translated */
    map(3, 0x6000, 0, pte(DEVICE, RWX));
    assert_fault(mmu_load(h, 0x5FFC, 8, &v), EXC_LOAD_ACCESS, 0x6000);
    map(3, 0x5000, 0, pte(DEVICE, RWX));
    assert_fault(mmu_store(h, 0x5FFC, 8, 0), EXC_STORE_ACCESS, 0x5FFC);
    assert_int_equal(m.device_writes, 0);
}

static void test_device(void **state)
{
    uint64_t v;
    assert_int_equal(mmu_load(h, DEVICE + 0x10, 4, &v), 0);
    assert_int_equal(v, 0x410);
    assert_int_equal(mmu_store(h, DEVICE + 0x10, 4, 1), 0);
    assert_int_equal(m.device_writes, 1);
    assert_fault(mmu_load(h, DEVICE + 0x12, 4, &v), EXC_LOAD_ACCESS, DEVICE + 0x12);
    assert_fault(mmu_store(h, DEVICE + 0x12, 4, 1), EXC_STORE_ACCESS, DEVICE + 0x12);
    assert_fault(mmu_load(h, DEVICE + 0x80, 4, &v), EXC_LOAD_ACCESS, DEVICE + 0x80);
    assert_fault(mmu_store(h, DEVICE + 0x80, 4, 1), EXC_STORE_ACCESS, DEVICE + 0x80);
    assert_fault(mmu_load(h, RAM_BASE + MEMORY, 8, &v), EXC_LOAD_ACCESS, RAM_BASE + MEMORY);
    struct mmu_target t;
    assert_fault(mmu_fetch(h, DEVICE, &t), EXC_INSN_ACCESS, DEVICE);
    assert_int_equal(mmu_translate(h, DEVICE + 8, 8, MMU_AMO, &t), 0);
    assert_null(t.host);
    assert_int_equal(t.pa, DEVICE + 8);
}

/* More aliases than a page's record of write slots holds. */
static void test_many_aliases(void **state)
{
    enter(3, PRIV_S);
    for (unsigned i = 0; i < 12; i++) {
        map(3, i * PAGE_SIZE, 0, pte(DATA, RWX));
        assert_int_equal(mmu_store(h, i * PAGE_SIZE, 8, i), 0);
        assert_int_equal(mmu_store(h, i * PAGE_SIZE, 8, i + 100), 0);
    }
    mmu_hold_code(m.mmu, DATA, PAGE_CODE);
    for (unsigned i = 0; i < 12; i++) {
        h->code_dirty = false;
        assert_int_equal(mmu_store(h, i * PAGE_SIZE, 8, i + 200), 0);
        assert_true(h->code_dirty);
    }
    assert_int_equal(m.invalidations, 12);
    assert_int_equal(mmu_store(h, 0, 8, 211), 0); /* the same value again: nothing changed */
    assert_int_equal(m.invalidations, 12);
    mmu_release_code(m.mmu, DATA, PAGE_CODE);
    assert_int_equal(mmu_store(h, 0, 8, 5), 0);
    assert_int_equal(m.invalidations, 12);
}

static void test_dma(void **state)
{
    uint8_t in[3 * PAGE_SIZE], out[3 * PAGE_SIZE];
    for (unsigned i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 7);
    assert_int_equal(mmu_dma_write(m.mmu, DATA + 100, in, sizeof in), 0);
    assert_int_equal(mmu_dma_read(m.mmu, DATA + 100, out, sizeof out), 0);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(mmu_dma_write(m.mmu, RAM_BASE + MEMORY - 8, in, 16), -EFAULT);
    assert_int_equal(peek(RAM_BASE + MEMORY - 8), 0);
    assert_int_equal(mmu_dma_read(m.mmu, DEVICE, out, 1), -EFAULT);
    assert_int_equal(mmu_dma_read(m.mmu, RAM_BASE, out, UINT64_MAX), -EFAULT);
}

static void test_hash(void **state)
{
    uint64_t empty = mmu_ram_hash(m.mmu);
    assert_int_equal(empty, 0);
    assert_int_equal(mmu_store(h, DATA, 8, 1), 0);
    uint64_t one = mmu_ram_hash(m.mmu);
    assert_int_not_equal(one, 0);
    assert_int_equal(mmu_store(h, DATA, 8, 2), 0); /* the write entry of the last epoch is gone */
    assert_int_not_equal(mmu_ram_hash(m.mmu), one);
    assert_int_equal(mmu_store(h, DATA, 8, 1), 0);
    assert_int_equal(mmu_ram_hash(m.mmu), one);
    assert_int_equal(ram_hash_full(&m.ram), one);
    assert_int_equal(mmu_store(h, DATA + PAGE_SIZE, 8, 1), 0);
    assert_int_equal(mmu_store(h, DATA, 8, 0), 0);
    assert_int_not_equal(mmu_ram_hash(m.mmu), one); /* the same bytes in another page */
    ram_clear(&m.ram);
    mmu_flush(m.mmu);
    assert_int_equal(peek(DATA + PAGE_SIZE), 0);
    assert_int_equal(mmu_ram_hash(m.mmu), 0);
}

static void test_create_limits(void **state)
{
    struct mmu *other;
    struct ram ram;
    assert_int_equal(ram_create(&ram, 0), -EINVAL);
    assert_int_equal(ram_create(&ram, PAGE_SIZE + 1), -EINVAL);
    assert_int_equal(ram_create(&ram, 1ull << 62), -EINVAL);
    assert_int_equal(mmu_create(&other, &m.ram, &m.bus, m.harts, 0, 4, false), -EINVAL);
    assert_int_equal(mmu_create(&other, &m.ram, &m.bus, m.harts, HART_MAX + 1, 4, false), -EINVAL);
    assert_int_equal(mmu_create(&other, &m.ram, &m.bus, m.harts, 1, 2, false), -EINVAL);
    assert_int_equal(mmu_create(&other, &m.ram, &m.bus, m.harts, 1, 6, false), -EINVAL);
}

#define BOTH(f)                                                                                              \
    {#f, f, setup, teardown, NULL},                                                                          \
    {                                                                                                        \
#f "_no_tlb", f, setup, teardown, (void *)1                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_permissions),
        BOTH(test_mprv),
        BOTH(test_malformed),
        BOTH(test_malformed_pointer),
        BOTH(test_levels),
        BOTH(test_napot),
        BOTH(test_accessed_and_dirty),
        BOTH(test_protection),
        BOTH(test_crossing),
        BOTH(test_device),
        BOTH(test_many_aliases),
        BOTH(test_dma),
        BOTH(test_hash),
        BOTH(test_create_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
