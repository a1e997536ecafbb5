/* Translations enter the banks: from a walk, and from the second level of a bank to the first.
 * Translated code calls this file without saving vector registers: it is compiled to use none, and calls no
 * other file. Knows nothing of PTEs. */
#include "cpu-core/mmu/internal.h"

/* Remembers that the page may have write entries in slot `slot` of any bank. */
static void record_write(struct mmu *m, uint64_t page, uint64_t slot)
{
    uint8_t *attr = &m->ram->attr[page];
    uint64_t *word = &m->write_slots[page];
    if (!(*attr & PAGE_WRITE)) {
        *attr |= PAGE_WRITE;
        *word = slot | 1ull << WRITE_COUNT_SHIFT;
        return;
    }
    unsigned n = (unsigned)(*word >> WRITE_COUNT_SHIFT);
    for (unsigned i = 0; i < n; i++)
        if ((*word >> WRITE_SLOT_BITS * i & (TLB_SLOTS - 1)) == slot)
            return;
    if (n == WRITE_SLOTS)
        *attr |= PAGE_WRITE_MANY;
    else
        *word += slot << WRITE_SLOT_BITS * n | 1ull << WRITE_COUNT_SHIFT;
}

static inline bool may_write(const struct mmu *m, uint64_t page)
{
    return !(m->ram->attr[page] & (PAGE_HELD | PAGE_WALKED));
}

/* Enters a page into the first slot; what was there moves to the second. */
static inline void enter(struct tlb_pair *p, uint64_t tag, uint64_t addend)
{
    struct tlb_slot *first = &p->way[0], *second = &p->way[1];
    if (first->tag != tag && first->tag != TLB_NO_TAG) {
        second->tag = first->tag;
        second->addend = first->addend;
    }
    first->tag = tag;
    first->addend = addend;
}

void fill_page(struct mmu *m, struct tlb_bank *b, uint64_t va, uint64_t page, bool write)
{
    unsigned slot = slot_of(va);
    uint64_t addend = (uint64_t)m->ram->host + (page << PAGE_SHIFT) - va;
    enter(&b->r[slot], va, addend); /* W implies R, in PTEs and in PMP */
    b->used[slot / TLB_RUN] = 1;
    m->stats.read_fills++;
    if (!write || !may_write(m, page))
        return;
    ram_mark_dirty(m->ram, page);
    record_write(m, page, slot);
    enter(&b->w[slot], va, addend);
    m->stats.write_fills++;
}

static inline uint64_t large_of(uint64_t va)
{
    return va >> TLB_LARGE_SHIFT << TLB_LARGE_SHIFT;
}

/* Whether one PMP entry decides for all of the 2 MiB around `pa`, which is granted. */
static bool one_pmp_entry(const struct hart *h, uint64_t pa)
{
    uint64_t first = large_of(pa) >> PAGE_SHIFT;
    return (hart_data_priv(h) == PRIV_M && !h->pmp_locked) ||
           (first >= h->pmp_near_first && first + TLB_LARGE_PAGES - 1 <= h->pmp_near_last);
}

/* They derive from the same PTEs as the page, all above the last level: whoever drops for a change of one of
 * those drops a range of at least 2 MiB. The PMP check of the walk was the last one. */
bool fill_large(struct mmu *m, struct hart *h, struct tlb_bank *b, const struct walk *w,
                enum mmu_access access)
{
    if (w->leaf == 0 || !ram_contains(m->ram, large_of(w->pa), 1ull << TLB_LARGE_SHIFT) ||
        !one_pmp_entry(h, w->pa))
        return false;
    unsigned slot = large_slot_of(w->va);
    uint64_t addend = (uint64_t)ram_at(m->ram, w->pa) - w->va;
    b->large_r[slot].tag = large_of(w->va);
    b->large_r[slot].addend = addend;
    if (!(access & MMU_WRITE))
        return true;
    b->large_w[slot].tag = large_of(w->va);
    b->large_w[slot].addend = addend;
    return true;
}

void fill_second(struct mmu *m, struct tlb_bank *b, uint64_t va, uint64_t page, enum mmu_access access)
{
    struct tlb_slot *s = pages_slot(b, va);
    uint64_t tag = va | b->pages_id, addend = (uint64_t)m->ram->host + (page << PAGE_SHIFT) - va;
    uint64_t granted = access & MMU_WRITE ? MMU_AMO : access;
    if (s->tag == tag && (s->addend & PAGE_MASK) == addend)
        granted |= s->addend;
    s->tag = tag;
    s->addend = addend | granted;
    b->pages_used |= 1u << pages_group_of(b, va);
}

static inline uint8_t *large_hit(const struct tlb_bank *b, uint64_t va, bool write)
{
    const struct tlb_slot *s = &(write ? b->large_w : b->large_r)[large_slot_of(va)];
    return s->tag == large_of(va) ? (uint8_t *)(va + s->addend) : NULL;
}

static inline uint8_t *page_hit(const struct tlb_bank *b, uint64_t va, enum mmu_access access)
{
    const struct tlb_slot *s = pages_slot(b, va);
    return s->tag == (page_of(va) | b->pages_id) && s->addend & access
               ? (uint8_t *)(va + (s->addend & PAGE_MASK))
               : NULL;
}

/* Host address of `va` by the second level, or NULL; counts. */
static inline uint8_t *second_hit(struct mmu *m, const struct tlb_bank *b, uint64_t va, bool write)
{
    uint8_t *host = large_hit(b, va, write);
    if (host) {
        m->stats.large_fills++;
        return host;
    }
    host = page_hit(b, va, write ? MMU_WRITE : MMU_READ);
    m->stats.page_fills += host != NULL;
    return host;
}

static inline uint64_t page_at(const struct mmu *m, const uint8_t *host)
{
    return (uint64_t)(host - m->ram->host) >> PAGE_SHIFT;
}

/* Whether the second slot has the page, which is exchanged with the first then. */
static inline bool swap(struct tlb_pair *p, uint64_t tag)
{
    struct tlb_slot *first = &p->way[0], *second = &p->way[1];
    if (second->tag != tag)
        return false;
    uint64_t addend = second->addend;
    second->tag = first->tag;
    second->addend = first->addend;
    first->tag = tag;
    first->addend = addend;
    return true;
}

uint8_t *fill_from_second(struct mmu *m, struct hart *h, uint64_t va, bool write)
{
    struct tlb_pair *p = &(write ? h->bank->w : h->bank->r)[slot_of(va)];
    if (swap(p, page_of(va)))
        return (uint8_t *)(va + p->way[0].addend);
    uint8_t *host = second_hit(m, h->bank, va, write);
    if (host)
        fill_page(m, h->bank, page_of(va), page_at(m, host), write);
    return host;
}

bool mmu_refill(struct hart *h, uint64_t va, bool write)
{
    struct mmu *m = h->mmu;
    struct tlb_bank *b = h->bank;
    struct tlb_pair *p = &(write ? b->w : b->r)[slot_of(va)];
    if (p->way[0].tag == page_of(va))
        return false;
    if (swap(p, page_of(va)))
        return true;
    uint8_t *host = second_hit(m, b, va, write);
    if (!host || (write && !may_write(m, page_at(m, host))))
        return false;
    fill_page(m, b, page_of(va), page_at(m, host), write);
    return true;
}

const uint8_t *mmu_hit_fetch(struct hart *h, uint64_t va)
{
    struct tlb_bank *b = h->fetch_bank;
    struct tlb_slot *s = &b->x[fetch_slot_of(va)];
    if (s->tag != page_of(va)) {
        uint8_t *host = page_hit(b, va, MMU_FETCH);
        if (!host)
            return NULL;
        s->tag = page_of(va);
        s->addend = (uint64_t)host - va;
        b->fetches = true;
        h->mmu->stats.fetch_fills++;
        h->mmu->stats.page_fills++;
    }
    bank_mark_fetch(b, va); /* the slot may be older than the marks */
    return (uint8_t *)(va + s->addend);
}
