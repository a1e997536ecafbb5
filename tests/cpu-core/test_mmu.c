/* The banks against walking: two machines, one with banks and one without, execute the same random accesses,
 * page-table edits, context switches, DMA and code holds, and must agree on every value, exception,
 * invalidation and byte of RAM.
 *
 * usage: test_mmu [OPERATIONS [SEED]] */
#include "cpu-core/board/bus.h"
#include "cpu-core/engine.h"
#include "cpu-core/mmu/internal.h"
#include "cpu-core/time/vclock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define RAM_PAGES 320u
#define NHARTS    2u
#define ROUND_OPS 20000u
#define RECENT    24u
#define JUMPS     64u

struct machine {
    struct ram ram;
    struct bus bus;
    struct vclock clock;
    struct hart hart[NHARTS];
    struct hart *harts[NHARTS];
    struct mmu *mmu;
    uint64_t invalidated; /* running digest of invalidate() calls */
    uint64_t device;      /* digest of device writes */
};

struct pair {
    struct machine m[2]; /* [0] banks, [1] walks */
    uint64_t rng;
    struct held {
        uint64_t va, pa;
        bool valid;
    } held[NHARTS]; /* what an engine would go on using until code_dirty */
    struct jump {
        const struct tlb_bank *bank;
        uint64_t gen, va, pa;
    } jumps[JUMPS]; /* what it would keep by the bank's fetch_gen */
    struct recent {
        uint64_t va, satp;
        uint8_t priv;
    } recent[RECENT]; /* accesses that succeeded */
    unsigned nrecent;
    unsigned tables; /* pages that serve as table of any level, root, and data: the first of RAM */
    unsigned calm;   /* PTEs are edited once in this many turns */
};

static uint64_t operations = 1000000, first_seed = 1;

static uint64_t next(struct pair *p)
{
    p->rng ^= p->rng << 13;
    p->rng ^= p->rng >> 7;
    p->rng ^= p->rng << 17;
    return p->rng * 0x2545F4914F6CDD1Dull >> 16;
}

static unsigned below(struct pair *p, unsigned n)
{
    return (unsigned)(next(p) % n);
}
static bool one_in(struct pair *p, unsigned n)
{
    return below(p, n) == 0;
}

static void note(uint64_t *digest, uint64_t a, uint64_t b)
{
    *digest = (*digest ^ a * 0x9E3779B97F4A7C15ull ^ b) * 0xD6E8FEB86659FD93ull;
}

static void fake_invalidate(void *engine, uint64_t pa, uint64_t len)
{
    note(&((struct machine *)engine)->invalidated, pa, len);
}

static const struct engine fake_engine = {.name = "fake", .invalidate = fake_invalidate};

static int device_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = offset;
    return 0;
}

static int device_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    note(&((struct machine *)dev)->device, offset, value);
    return 0;
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

static void machine_create(struct machine *m, unsigned levels, bool no_tlb)
{
    memset(m, 0, sizeof *m);
    assert_int_equal(ram_create(&m->ram, RAM_PAGES * PAGE_SIZE), 0);
    m->bus.n = 1;
    m->bus.regions[0] = (struct bus_region){
        .base = 0x10000000, .size = 0x1000, .ops = &device_ops, .dev = m, .name = "device"};
    vclock_init(&m->clock, 1ull << 32);
    for (unsigned i = 0; i < NHARTS; i++) {
        m->harts[i] = &m->hart[i];
        m->hart[i].id = (uint8_t)i;
        m->hart[i].clock = &m->clock;
        m->hart[i].harts = m->harts;
        m->hart[i].nharts = NHARTS;
    }
    assert_int_equal(mmu_create(&m->mmu, &m->ram, &m->bus, m->harts, NHARTS, levels, no_tlb), 0);
    mmu_set_engine(m->mmu, &fake_engine, m);
    for (unsigned i = 0; i < NHARTS; i++)
        hart_reset(&m->hart[i], RAM_BASE);
}

static void machine_destroy(struct machine *m)
{
    mmu_destroy(m->mmu);
    ram_destroy(&m->ram);
}

/* Few indices, with neighbours, ends, and values that share a bank slot at the next level. */
static unsigned index_of(struct pair *p)
{
    static const uint16_t set[] = {0, 0, 0, 1, 1, 2, 16, 511};
    return set[below(p, sizeof set / sizeof *set)];
}

static uint64_t random_page(struct pair *p)
{
    return one_in(p, 3) ? below(p, p->tables) : below(p, RAM_PAGES);
}

static uint64_t random_pa(struct pair *p)
{
    uint64_t offset = one_in(p, 2) ? index_of(p) * 8 : below(p, PAGE_SIZE);
    return RAM_BASE + random_page(p) * PAGE_SIZE + offset;
}

static uint64_t random_pte(struct pair *p)
{
    uint64_t ppn = RAM_BASE >> PAGE_SHIFT;
    switch (below(p, 16)) {
    case 0:
        return 0;
    case 1:
        return next(p) << 20 ^ next(p);
    case 2: /* NAPOT */
        return PTE_N | (ppn | (below(p, RAM_PAGES / 16) * 16) | 8) << PTE_PPN_SHIFT | 0xDFull;
    case 3:
        return PTE_PBMT / 3 * below(p, 4) | (ppn + below(p, RAM_PAGES)) << PTE_PPN_SHIFT | 0xDFull;
    case 4: /* a device, or nothing */
        return (uint64_t)(one_in(p, 2) ? 0x10000 : 0x20000) << PTE_PPN_SHIFT | 0xDFull;
    case 5:
    case 6: /* a superpage, at the levels where it is aligned */
        return ppn << PTE_PPN_SHIFT | PTE_V | (next(p) & 0xFE);
    case 7:
    case 8:
    case 9:
        return (ppn + below(p, p->tables)) << PTE_PPN_SHIFT | PTE_V | PTE_R | PTE_W | PTE_X |
               (next(p) & 0xF0);
    case 10:
    case 11:
        return (ppn + random_page(p)) << PTE_PPN_SHIFT | PTE_V | (next(p) & 0xFE);
    default:
        return (ppn + below(p, p->tables)) << PTE_PPN_SHIFT | PTE_V;
    }
}

/* Mostly an address that worked lately, preferably in this address space at this privilege. */
static uint64_t random_va(struct pair *p, const struct hart *h)
{
    if (p->nrecent && !one_in(p, 8)) {
        unsigned k = below(p, p->nrecent);
        for (unsigned i = 0; i < 2 * RECENT && !one_in(p, 64); i++, k = (k + 1) % p->nrecent)
            if (p->recent[k].satp == h->satp && p->recent[k].priv == h->priv)
                break;
        uint64_t va = p->recent[k].va;
        return one_in(p, 2) ? va : page_of(va) | below(p, PAGE_SIZE);
    }
    unsigned levels = h->satp >> 60 ? (unsigned)(h->satp >> 60) - 5 : 3;
    uint64_t offset = one_in(p, 2) ? index_of(p) * 8 : below(p, PAGE_SIZE), va = 0;
    if (h->priv == PRIV_M || !(h->satp >> 60)) {
        uint64_t pa = random_pa(p);
        return one_in(p, 64) ? 0x10000000 + offset : pa;
    }
    for (unsigned level = 0; level < levels; level++)
        va |= (uint64_t)index_of(p) << (PAGE_SHIFT + LEVEL_BITS * level);
    unsigned top = PAGE_SHIFT + LEVEL_BITS * levels;
    if (!one_in(p, 64))
        va = (uint64_t)((int64_t)(va << (64 - top)) >> (64 - top));
    return va | offset;
}

/* Physical addresses of the PTEs that lead to a recent address, by following pointers only. */
static unsigned chain_of(const struct ram *ram, const struct recent *r, uint64_t *chain)
{
    uint64_t table = (r->satp & PTE_PPN_MASK) << PAGE_SHIFT;
    unsigned n = 0;
    if (r->priv == PRIV_M || !(r->satp >> 60))
        return 0;
    for (unsigned level = (unsigned)(r->satp >> 60) - 5; level-- > 0;) {
        uint64_t at = table + (r->va >> (PAGE_SHIFT + LEVEL_BITS * level) & 511) * 8, pte;
        if (!ram_contains(ram, at, 8))
            break;
        chain[n++] = at;
        memcpy(&pte, ram_at(ram, at), 8);
        if (!(pte & PTE_V) || pte & (PTE_R | PTE_X))
            break;
        table = (pte >> PTE_PPN_SHIFT & PTE_PPN_MASK) << PAGE_SHIFT;
    }
    return n;
}

/* What a page-fault handler does: makes the tables of the current address space lead to some page. */
static void map_page(struct pair *p, unsigned hart, uint64_t va)
{
    const struct hart *h = &p->m[0].hart[hart];
    struct recent here = {.va = va, .satp = h->satp, .priv = h->priv};
    uint64_t chain[LEVELS_MAX], user = h->priv == PRIV_U || one_in(p, 8) ? PTE_U : 0;
    for (unsigned n, tries = 0; tries < LEVELS_MAX && (n = chain_of(&p->m[1].ram, &here, chain)); tries++) {
        bool last = n == (unsigned)(h->satp >> 60) - 5;
        uint64_t to = last ? random_page(p) : (chain[n - 1] >> 3 & 0xFFFF) * 7 % p->tables, pte;
        if (!last && one_in(p, 4)) /* a page that held data */
            to = below(p, RAM_PAGES);
        pte = ((RAM_BASE >> PAGE_SHIFT) + to) << PTE_PPN_SHIFT | PTE_V;
        if (last)
            pte |= (one_in(p, 4) ? PTE_X : PTE_R | PTE_W | PTE_X) | user | (next(p) & (PTE_A | PTE_D));
        else if (one_in(p, 8))
            pte = (RAM_BASE >> PAGE_SHIFT) << PTE_PPN_SHIFT | PTE_V | PTE_R | PTE_W | PTE_X | user;
        for (unsigned i = 0; i < 2; i++)
            mmu_phys_store(p->m[i].mmu, &p->m[i].hart[hart], chain[n - 1], &pte, 8);
        if (last)
            break;
    }
}

static void remember(struct pair *p, const struct hart *h, uint64_t va)
{
    if (h->priv == PRIV_M || !(h->satp >> 60))
        return;
    unsigned i = p->nrecent < RECENT ? p->nrecent++ : below(p, RECENT);
    p->recent[i] = (struct recent){.va = va, .satp = h->satp, .priv = h->priv};
}

static void outcome(struct pair *p, unsigned hart, int err, uint64_t va)
{
    if (!err)
        remember(p, &p->m[0].hart[hart], va);
    else if (one_in(p, 2))
        map_page(p, hart, va);
}

static void check_hart(struct pair *p, unsigned hart, int e0, int e1)
{
    const struct hart *a = &p->m[0].hart[hart], *b = &p->m[1].hart[hart];
    assert_int_equal(e0, e1);
    if (e0) {
        assert_int_equal(a->exc_cause, b->exc_cause);
        assert_int_equal(a->exc_tval, b->exc_tval);
    }
    assert_int_equal(a->res_valid, b->res_valid);
    assert_int_equal(p->m[0].invalidated, p->m[1].invalidated);
    assert_int_equal(p->m[0].device, p->m[1].device);
}

static void op_load(struct pair *p, unsigned hart)
{
    uint64_t va = random_va(p, &p->m[0].hart[hart]), v[2] = {0, 0};
    unsigned size = 1u << below(p, 4);
    int e[2];
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_load(&p->m[i].hart[hart], va, size, &v[i]);
    check_hart(p, hart, e[0], e[1]);
    assert_int_equal(v[0], v[1]);
    outcome(p, hart, e[0], va);
}

static void op_store(struct pair *p, unsigned hart)
{
    uint64_t va = random_va(p, &p->m[0].hart[hart]), value = one_in(p, 2) ? random_pte(p) : next(p);
    unsigned size = 1u << below(p, 4);
    int e[2];
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_store(&p->m[i].hart[hart], va, size, value);
    check_hart(p, hart, e[0], e[1]);
    outcome(p, hart, e[0], va);
}

/* An AMO as an engine does it: translate, read, combine, store. */
static void op_amo(struct pair *p, unsigned hart)
{
    uint64_t va = random_va(p, &p->m[0].hart[hart]) & ~7ull, bits = 1ull << below(p, 10);
    bool set = one_in(p, 2), fails = one_in(p, 4); /* a failing store-conditional stores nothing */
    int e[2];
    uint64_t old[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        struct mmu_target t;
        struct hart *h = &p->m[i].hart[hart];
        e[i] = mmu_translate(h, va, 8, MMU_AMO, &t);
        if (e[i] || !t.host)
            continue;
        memcpy(&old[i], t.host, 8);
        if (fails)
            continue;
        uint64_t new = set ? old[i] | bits : old[i] & ~bits;
        mmu_phys_store(h->mmu, h, t.pa, &new, 8);
    }
    check_hart(p, hart, e[0], e[1]);
    assert_int_equal(old[0], old[1]);
}

static void op_fetch(struct pair *p, unsigned hart)
{
    uint64_t va = random_va(p, &p->m[0].hart[hart]) & ~1ull;
    struct mmu_target t[2];
    int e[2];
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_fetch(&p->m[i].hart[hart], va, &t[i]);
    check_hart(p, hart, e[0], e[1]);
    p->held[hart].valid = false;
    outcome(p, hart, e[0], va);
    if (e[0])
        return;
    assert_int_equal(t[0].pa, t[1].pa);
    assert_memory_equal(t[0].host, t[1].host, 2);
    p->m[0].hart[hart].code_dirty = false;
    p->held[hart] = (struct held){.va = va, .pa = t[0].pa, .valid = true};
    const struct tlb_bank *bank = p->m[0].hart[hart].fetch_bank;
    p->jumps[below(p, JUMPS)] = (struct jump){.bank = bank, .gen = bank->fetch_gen, .va = va, .pa = t[0].pa};
}

static uint64_t last_pte(const struct pair *p, const struct hart *h, uint64_t va)
{
    struct recent here = {.va = va, .satp = h->satp, .priv = h->priv};
    uint64_t chain[LEVELS_MAX], pte = 0;
    unsigned n = chain_of(&p->m[1].ram, &here, chain);
    if (n)
        memcpy(&pte, ram_at(&p->m[1].ram, chain[n - 1]), 8);
    return pte;
}

/* What the second level serves is what a walk would find, and would leave as it is. */
static void op_refill(struct pair *p, unsigned hart)
{
    struct hart *banks = &p->m[0].hart[hart], *walks = &p->m[1].hart[hart];
    bool write = one_in(p, 2);
    uint64_t va = random_va(p, banks);
    if (!mmu_refill(banks, va, write))
        return;
    const uint8_t *host = write ? mmu_hit_write(banks, va, 1) : mmu_hit_read(banks, va, 1);
    uint64_t pte = last_pte(p, walks, va);
    struct mmu_target t;
    assert_int_equal(mmu_translate(walks, va, 1, write ? MMU_WRITE : MMU_READ, &t), 0);
    assert_int_equal(host - p->m[0].ram.host, t.host - p->m[1].ram.host);
    assert_int_equal(last_pte(p, walks, va), pte);
}

static void op_hit_fetch(struct pair *p, unsigned hart)
{
    uint64_t va = random_va(p, &p->m[0].hart[hart]) & ~1ull;
    const uint8_t *host = mmu_hit_fetch(&p->m[0].hart[hart], va);
    struct mmu_target t;
    if (!host)
        return;
    assert_int_equal(mmu_fetch(&p->m[1].hart[hart], va, &t), 0);
    assert_int_equal(host - p->m[0].ram.host, t.host - p->m[1].ram.host);
    const struct tlb_bank *bank = p->m[0].hart[hart].fetch_bank;
    p->jumps[below(p, JUMPS)] = (struct jump){.bank = bank, .gen = bank->fetch_gen, .va = va, .pa = t.pa};
}

/* An engine that fetched from a page may fetch from it again without asking until code_dirty. */
static void op_fetch_held(struct pair *p, unsigned hart)
{
    struct held *held = &p->held[hart];
    if (!held->valid || p->m[0].hart[hart].code_dirty)
        return;
    struct mmu_target t;
    assert_int_equal(mmu_fetch(&p->m[1].hart[hart], held->va, &t), 0);
    assert_int_equal(t.pa, held->pa);
}

/* What was derived from fetches of a bank holds while its fetch_gen stays. */
static void op_jump(struct pair *p, unsigned hart)
{
    const struct tlb_bank *bank = p->m[0].hart[hart].fetch_bank;
    for (unsigned i = 0; i < JUMPS; i++) {
        const struct jump *j = &p->jumps[i];
        if (j->bank != bank || j->gen != bank->fetch_gen)
            continue;
        struct mmu_target t;
        assert_int_equal(mmu_fetch(&p->m[1].hart[hart], j->va, &t), 0);
        assert_int_equal(t.pa, j->pa);
    }
}

/* Writes a table through a write entry of a data page, makes walks use it, and writes it again the same way.
 */
static void op_table_under_write(struct pair *p, unsigned hart)
{
    const struct hart *h = &p->m[0].hart[hart];
    uint64_t chain[LEVELS_MAX], va = random_va(p, h), value, change = one_in(p, 2) ? PTE_A : PTE_V;
    struct recent w = {.va = random_va(p, h), .satp = h->satp, .priv = h->priv};
    unsigned n = chain_of(&p->m[1].ram, &w, chain), k = n > 1 ? 1 + below(p, n - 1) : 0;
    struct mmu_target t[2];
    int e[2];
    if (!k)
        return;
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_translate(&p->m[i].hart[hart], page_of(va), 8, MMU_WRITE, &t[i]);
    check_hart(p, hart, e[0], e[1]);
    if (e[0] || !t[0].host)
        return;
    uint64_t at = page_of(va) + (chain[k] & ~PAGE_MASK),
             pointer = t[0].pa >> PAGE_SHIFT << PTE_PPN_SHIFT | PTE_V, out;
    memcpy(&value, ram_at(&p->m[1].ram, chain[k]), 8);
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_store(&p->m[i].hart[hart], at, 8, value);
    check_hart(p, hart, e[0], e[1]);
    for (unsigned i = 0; i < 2; i++) {
        mmu_phys_store(p->m[i].mmu, &p->m[i].hart[hart], chain[k - 1], &pointer, 8);
        e[i] = mmu_load(&p->m[i].hart[hart], w.va & ~7ull, 8, &out);
    }
    check_hart(p, hart, e[0], e[1]);
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_store(&p->m[i].hart[hart], at, 8, value & ~change);
    check_hart(p, hart, e[0], e[1]);
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_load(&p->m[i].hart[hart], w.va & ~7ull, 8, &out);
    check_hart(p, hart, e[0], e[1]);
}

static void op_edit_pte(struct pair *p, unsigned hart)
{
    if (!one_in(p, p->calm))
        return;
    uint64_t pa = RAM_BASE + below(p, p->tables) * PAGE_SIZE + index_of(p) * 8;
    uint64_t pte = random_pte(p), flip = 1ull << below(p, 10);
    bool whole = one_in(p, 2);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t old;
        memcpy(&old, ram_at(&p->m[i].ram, pa), 8);
        uint64_t new = whole ? pte : old ^ flip;
        mmu_phys_store(p->m[i].mmu, &p->m[i].hart[hart], pa, &new, 8);
    }
    check_hart(p, hart, 0, 0);
}

/* Changes a PTE under an address that was just used, in one of the ways software does, or restores it soon
 * after. */
static void op_edit_chain(struct pair *p, unsigned hart)
{
    uint64_t chain[LEVELS_MAX];
    if (!p->nrecent || !one_in(p, p->calm))
        return;
    unsigned n = chain_of(&p->m[1].ram, &p->recent[below(p, p->nrecent)], chain);
    if (!n)
        return;
    uint64_t pa = one_in(p, 3) ? chain[below(p, n)] : chain[n - 1], old, new;
    memcpy(&old, ram_at(&p->m[1].ram, pa), 8);
    switch (below(p, 8)) {
    case 0:
        new = random_pte(p);
        break;
    case 1:
        new = (old & 0x3FF) | ((RAM_BASE >> PAGE_SHIFT) + random_page(p)) << PTE_PPN_SHIFT;
        break;
    case 2:
        new = old & ~(PTE_A | PTE_D);
        break;
    case 3:
        new = old & ~PTE_W;
        break;
    case 4:
        new = old | PTE_R | PTE_W | PTE_X;
        break;
    case 5:
        new = old | PTE_W;
        break;
    default:
        new = old ^ 1ull << below(p, one_in(p, 8) ? 64 : 9);
        break;
    }
    unsigned first = one_in(p, 4) ? below(p, 8) : 0, len = first ? 1 : one_in(p, 4) ? 4 : 8;
    for (unsigned i = 0; i < 2; i++)
        mmu_phys_store(p->m[i].mmu, &p->m[i].hart[hart], pa + first, (uint8_t *)&new + first, len);
    check_hart(p, hart, 0, 0);
}

/* As translated code writes satp: by itself where it can, and goes on by what it keeps of the new root. */
static void switch_root(struct pair *p, unsigned hart, uint64_t satp)
{
    for (unsigned i = 0; i < 2; i++) {
        struct hart *h = &p->m[i].hart[hart];
        struct hart_banks *hb = &p->m[i].mmu->hart[hart];
        for (unsigned k = 0; k < hb->n; k++)
            hb->banks[k]->jumps_gen = hb->banks[k]->fetch_gen;
        if (i == 0 && h->priv == PRIV_S && mmu_switch_root(h, satp)) {
            p->held[hart].valid = false;
            continue;
        }
        h->satp = satp;
        mmu_context_changed(h);
    }
}

/* Goes back to a context in which an access succeeded, so that its entries are used again. */
static void op_return(struct pair *p, unsigned hart)
{
    if (!p->nrecent)
        return;
    const struct recent *r = &p->recent[below(p, p->nrecent)];
    if (p->m[0].hart[hart].priv == r->priv) {
        switch_root(p, hart, r->satp);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct hart *h = &p->m[i].hart[hart];
        h->satp = r->satp;
        h->priv = r->priv;
        mmu_context_changed(h);
    }
}

/* Another root with the same PTEs, as kernels make for a new address space; sometimes but for one. */
static void op_fork(struct pair *p, unsigned hart)
{
    const struct hart *h = &p->m[0].hart[hart];
    uint64_t root = (h->satp & PTE_PPN_MASK) << PAGE_SHIFT, page = below(p, p->tables);
    uint64_t other = index_of(p), pte = random_pte(p), satp;
    bool differs = one_in(p, 4);
    if (!(h->satp >> 60) || !ram_contains(&p->m[0].ram, root, PAGE_SIZE) || ram_page(root) == page)
        return;
    satp = (h->satp & ~PTE_PPN_MASK) | ((RAM_BASE >> PAGE_SHIFT) + page);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 0; k < 512; k++) {
            uint64_t copy;
            memcpy(&copy, ram_at(&p->m[i].ram, root + k * 8), 8);
            copy = differs && k == other ? pte : copy;
            mmu_phys_store(p->m[i].mmu, &p->m[i].hart[hart], RAM_BASE + page * PAGE_SIZE + k * 8, &copy, 8);
        }
    }
    switch_root(p, hart, satp);
    for (unsigned i = 0; i < p->nrecent; i++)
        if ((p->recent[i].satp & PTE_PPN_MASK) << PAGE_SHIFT == root && one_in(p, 2))
            p->recent[i].satp = satp;
}

static void op_dma(struct pair *p, unsigned hart)
{
    static uint8_t buffer[2 * PAGE_SIZE];
    uint64_t pa = random_pa(p);
    unsigned len = one_in(p, 8) ? 1 + below(p, sizeof buffer - 1) : 1 + below(p, 64);
    bool zero = one_in(p, 2);
    for (unsigned i = 0; i + 8 <= sizeof buffer && i < len + 8; i += 8) {
        uint64_t v = zero ? 0 : random_pte(p);
        memcpy(buffer + i, &v, 8);
    }
    int e[2];
    for (unsigned i = 0; i < 2; i++)
        e[i] = mmu_dma_write(p->m[i].mmu, pa, buffer, len);
    check_hart(p, hart, e[0], e[1]);
    p->held[0].valid = p->held[1].valid = false;
}

/* Many stores to one page, as when it is freed and used for data, or cleared. */
static void op_fill_page(struct pair *p, unsigned hart)
{
    if (!one_in(p, p->calm))
        return;
    uint64_t page = RAM_BASE + below(p, p->tables) * PAGE_SIZE;
    unsigned n = 16 + below(p, 64), step = 8u << below(p, 4);
    uint64_t value = one_in(p, 2) ? 0 : random_pte(p);
    for (unsigned k = 0; k < n && k * step < PAGE_SIZE; k++)
        for (unsigned i = 0; i < 2; i++)
            mmu_phys_store(p->m[i].mmu, &p->m[i].hart[hart], page + k * step, &value, 8);
}

static void op_context(struct pair *p, unsigned hart)
{
    static const uint8_t privs[] = {PRIV_U, PRIV_S, PRIV_S, PRIV_S, PRIV_S, PRIV_U, PRIV_U, PRIV_M};
    struct hart next_state = p->m[0].hart[hart];
    uint64_t mode = mmu_max_levels(p->m[0].mmu) + 5;
    switch (below(p, 8)) {
    case 0:
        next_state.satp =
            one_in(p, 32) ? 0 : mode << 60 | next(p) % 3 << 44 | ((RAM_BASE >> 12) + below(p, p->tables));
        break;
    case 1:
        next_state.satp = (8 + next(p) % (mode - 7)) << 60 | ((RAM_BASE >> 12) + below(p, 4));
        break;
    case 2:
        next_state.mstatus ^= MSTATUS_SUM;
        break;
    case 3:
        next_state.mstatus &= ~MSTATUS_MXR;
        next_state.mstatus |= one_in(p, 4) ? MSTATUS_MXR : 0;
        break;
    case 4:
        next_state.mstatus = (next_state.mstatus & ~MSTATUS_MPP) | (uint64_t)privs[below(p, sizeof privs)]
                                                                       << 11;
        next_state.mstatus &= ~MSTATUS_MPRV;
        next_state.mstatus |= one_in(p, 4) ? MSTATUS_MPRV : 0;
        break;
    default:
        next_state.priv = privs[below(p, sizeof privs)];
        break;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct hart *h = &p->m[i].hart[hart];
        h->satp = next_state.satp;
        h->mstatus = next_state.mstatus;
        h->priv = next_state.priv;
        mmu_context_changed(h);
    }
}

/* Rare changes, by the CSRs that software would use. */
static void op_environment(struct pair *p, unsigned hart)
{
    unsigned csr = 0x30A, entry = below(p, 3);
    uint64_t value = next(p) << 40 ^ next(p);
    switch (below(p, 3)) {
    case 0: /* pmpcfg0: usually open, sometimes not */
        csr = 0x3A0;
        value = 0x1F0000 | (one_in(p, 2) ? 0x1818 : 0x1018) | (value & (one_in(p, 2) ? 0x0707 : 0));
        break;
    case 1:
        csr = 0x3B0 + entry;
        value = entry == 2 ? UINT64_MAX : (RAM_BASE >> 2) + (below(p, RAM_PAGES) << 10 | (value & 0x3FF));
        break;
    default:
        break;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct hart *h = &p->m[i].hart[hart];
        uint8_t priv = h->priv;
        uint64_t old;
        h->priv = PRIV_M;
        assert_int_equal(hart_csr(h, 0, csr, 1, value, false, true, &old), 0);
        h->priv = priv;
        mmu_context_changed(h);
    }
}

static void op_code(struct pair *p, unsigned hart)
{
    uint64_t pa = RAM_BASE + random_page(p) * PAGE_SIZE;
    bool hold = one_in(p, 8);
    for (unsigned i = 0; i < 2; i++)
        if (hold)
            mmu_hold_code(p->m[i].mmu, pa, PAGE_CODE);
        else
            mmu_release_code(p->m[i].mmu, pa, PAGE_CODE);
}

static void op_reserve(struct pair *p, unsigned hart)
{
    uint64_t pa = random_pa(p) & ~7ull;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 0; k < NHARTS; k++)
            p->m[i].hart[k].res_valid = false; /* one hart runs at a time: a switch drops reservations */
        p->m[i].hart[hart].res_addr = pa;
        p->m[i].hart[hart].res_valid = true;
    }
}

static void op_epoch(struct pair *p, unsigned hart)
{
    if (one_in(p, 8)) {
        mmu_flush(p->m[0].mmu);
        p->held[0].valid = p->held[1].valid = false;
    }
    assert_int_equal(mmu_ram_hash(p->m[0].mmu), ram_hash_full(&p->m[1].ram));
}

static const struct {
    void (*run)(struct pair *p, unsigned hart);
    unsigned weight;
} ops[] = {
    {op_load, 300},       {op_store, 200},     {op_amo, 40},
    {op_fetch, 120},      {op_fetch_held, 60}, {op_edit_pte, 60},
    {op_edit_chain, 150}, {op_jump, 20},       {op_table_under_write, 10},
    {op_return, 60},      {op_dma, 4},         {op_fill_page, 2},
    {op_context, 60},     {op_environment, 2}, {op_code, 10},
    {op_reserve, 4},      {op_refill, 60},     {op_hit_fetch, 40},
    {op_fork, 30},
};

static void step(struct pair *p)
{
    unsigned total = 0, hart = below(p, 8) == 0;
    for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++)
        total += ops[i].weight;
    unsigned pick = below(p, total), i = 0;
    while (pick >= ops[i].weight)
        pick -= ops[i++].weight;
    p->held[!hart].valid = false; /* an engine's hold ends with its run */
    for (unsigned m = 0; m < 2; m++)
        p->m[m].hart[!hart].res_valid = false;
    ops[i].run(p, hart);
}

/* Tables that lead somewhere: each page holds a few pointers and leaves at the indices that addresses use. */
static void populate(struct pair *p)
{
    for (unsigned page = 0; page < p->tables; page++)
        for (unsigned k = 0; k < 12; k++) {
            uint64_t pa = RAM_BASE + page * PAGE_SIZE + index_of(p) * 8, pte = random_pte(p);
            for (unsigned i = 0; i < 2; i++)
                assert_int_equal(mmu_dma_write(p->m[i].mmu, pa, &pte, 8), 0);
        }
}

static void round_of(uint64_t seed, uint64_t n)
{
    static struct pair p;
    memset(&p, 0, sizeof p);
    p.rng = seed * 0x9E3779B97F4A7C15ull | 1;
    static const uint8_t tables[] = {12, 32, 96}, calm[] = {1, 4, 16};
    unsigned levels = 3 + seed % 3;
    p.tables = tables[seed / 3 % 3];
    p.calm = calm[seed / 9 % 3];
    for (unsigned i = 0; i < 2; i++)
        machine_create(&p.m[i], levels, i == 1);
    if (seed % 4 == 0)
        p.m[0].mmu->table_limit = 8;                     /* records are recycled all the time */
    p.m[0].mmu->hart[0].next_id = PAGES_IDS - TLB_BANKS; /* the marks of the second level run out soon */
    populate(&p);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned h = 0; h < NHARTS; h++) {
            p.m[i].hart[h].pmpaddr[2] = UINT64_MAX >> 10;
            uint64_t old;
            hart_csr(&p.m[i].hart[h], 0, 0x3A0, 1, 0x1F0000, false, true, &old);
        }
    for (uint64_t k = 0; k < n; k++) {
        step(&p);
        if (k % 1024 == 1023)
            op_epoch(&p, 0);
        if (k % 256 == 255)
            assert_memory_equal(p.m[0].ram.host, p.m[1].ram.host, p.m[0].ram.size);
    }
    assert_memory_equal(p.m[0].ram.host, p.m[1].ram.host, p.m[0].ram.size);
    for (unsigned i = 0; i < 2; i++)
        machine_destroy(&p.m[i]);
}

static void test_lockstep(void **state)
{
    uint64_t seed = first_seed;
    for (uint64_t done = 0; done < operations; done += ROUND_OPS, seed++) {
        uint64_t n = operations - done < ROUND_OPS ? operations - done : ROUND_OPS;
        round_of(seed, n);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        operations = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lockstep)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
