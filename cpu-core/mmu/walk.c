/* The page-table walk: privileged specification, "Virtual Address Translation Process", with Svadu, Svnapot
 * and Svpbmt. Knows no bank. */
#include "cpu-core/mmu/internal.h"

#include <string.h>

#define PTE_RESERVED (0x7full << 54)

struct rules {
    enum mmu_access access;
    unsigned priv;
    bool sum, mxr, pbmt, adue;
};

static int access_fault(enum mmu_access a)
{
    return a == MMU_FETCH ? EXC_INSN_ACCESS : a == MMU_READ ? EXC_LOAD_ACCESS : EXC_STORE_ACCESS;
}

static int page_fault(enum mmu_access a)
{
    return a == MMU_FETCH ? EXC_INSN_PAGE : a == MMU_READ ? EXC_LOAD_PAGE : EXC_STORE_PAGE;
}

/* A PTE that any walk accepts as a pointer or a leaf, alignment apart. */
static bool well_formed(uint64_t pte, const struct rules *r)
{
    if (!(pte & PTE_V) || pte & PTE_RESERVED || (pte & (PTE_R | PTE_W)) == PTE_W)
        return false;
    if (!(pte & (PTE_R | PTE_X)))
        return !(pte & (PTE_A | PTE_D | PTE_U | PTE_PBMT | PTE_N));
    return r->pbmt ? (pte & PTE_PBMT) != PTE_PBMT : !(pte & PTE_PBMT);
}

static bool leaf_aligned(uint64_t pte, unsigned level)
{
    uint64_t ppn = pte >> PTE_PPN_SHIFT;
    if (level)
        return !(pte & PTE_N) && !(ppn & ((1ull << LEVEL_BITS * level) - 1));
    return !(pte & PTE_N) || (ppn & 15) == 8; /* 64 KiB is the only NAPOT size */
}

static bool permits(uint64_t pte, const struct rules *r)
{
    if (r->priv == PRIV_U ? !(pte & PTE_U) : pte & PTE_U && (r->access == MMU_FETCH || !r->sum))
        return false;
    if (r->access == MMU_FETCH)
        return pte & PTE_X;
    if (r->access & MMU_READ && !(pte & PTE_R || (r->mxr && pte & PTE_X)))
        return false;
    return !(r->access & MMU_WRITE) || pte & PTE_W;
}

/* Sets A, and D for a write, in a PTE that lacks them (Svadu). The store changes no permission, so nothing is
 * dropped. */
static int set_accessed(struct mmu *m, struct hart *h, uint64_t at, uint64_t pte, const struct rules *r)
{
    uint64_t want = PTE_A | (r->access & MMU_WRITE ? PTE_D : 0);
    if ((pte & want) == want)
        return 0;
    if (!r->adue)
        return page_fault(r->access);
    if (!hart_pmp_allows(h, at, 2, PRIV_S))
        return access_fault(r->access);
    pte |= want;
    store_untracked(m, h, at, &pte, sizeof pte);
    return 0;
}

static uint64_t leaf_address(uint64_t pte, uint64_t va, unsigned level)
{
    uint64_t ppn = pte >> PTE_PPN_SHIFT & PTE_PPN_MASK;
    if (pte & PTE_N)
        ppn &= ~15ull;
    unsigned shift = PAGE_SHIFT + (pte & PTE_N ? 4 : LEVEL_BITS * level);
    return ppn << PAGE_SHIFT | (va & ((1ull << shift) - 1));
}

static bool canonical(uint64_t va, unsigned levels)
{
    unsigned unused = 64 - (PAGE_SHIFT + LEVEL_BITS * levels);
    return (uint64_t)((int64_t)(va << unused) >> unused) == va;
}

static int walk_tables(struct mmu *m, struct hart *h, const struct rules *r, struct walk *w)
{
    unsigned levels = (unsigned)(h->satp >> 60) - 8 + 3;
    uint64_t table = (h->satp & PTE_PPN_MASK) << PAGE_SHIFT;
    if (!canonical(w->va, levels))
        return page_fault(r->access);
    w->top = (uint8_t)(levels - 1);
    for (unsigned level = levels; level-- > 0;) {
        uint64_t at = table + (w->va >> (PAGE_SHIFT + LEVEL_BITS * level) & 511) * 8, pte;
        if (!ram_contains(m->ram, at, 8) || !hart_pmp_allows(h, at, 1, PRIV_S))
            return access_fault(r->access);
        memcpy(&pte, ram_at(m->ram, at), sizeof pte);
        if (!well_formed(pte, r))
            return page_fault(r->access);
        w->pte[level] = at;
        if (!(pte & (PTE_R | PTE_X))) {
            table = (pte >> PTE_PPN_SHIFT & PTE_PPN_MASK) << PAGE_SHIFT;
            continue;
        }
        if (!leaf_aligned(pte, level) || !permits(pte, r))
            return page_fault(r->access);
        w->leaf = (uint8_t)level;
        w->pa = leaf_address(pte, w->va, level);
        return set_accessed(m, h, at, pte, r);
    }
    return page_fault(r->access);
}

int walk(struct mmu *m, struct hart *h, uint64_t va, enum mmu_access access, unsigned priv, struct walk *w)
{
    struct rules r = {.access = access,
                      .priv = priv,
                      .sum = h->mstatus & MSTATUS_SUM,
                      .mxr = h->mstatus & MSTATUS_MXR,
                      .pbmt = h->menvcfg & MENVCFG_PBMTE,
                      .adue = h->menvcfg & MENVCFG_ADUE};
    unsigned pmp = access == MMU_FETCH ? 4 : access;
    m->stats.walks++;
    w->va = va;
    w->pa = va;
    w->top = 0;
    w->leaf = 1;
    if (walk_root(h, priv)) {
        int cause = walk_tables(m, h, &r, w);
        if (cause)
            return cause;
    }
    return hart_pmp_allows(h, w->pa, pmp, priv) ? 0 : access_fault(access);
}
