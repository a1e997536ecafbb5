/* The translation banks: which one a hart uses, and entering and dropping of entries. Knows nothing of PTEs.
 */
#include "cpu-core/mmu/internal.h"

#include <string.h>

static void clear_slots(struct tlb_slot *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        s[i].tag = TLB_NO_TAG;
}

/* Fetch translations are lost: engines that kept some notice by fetch_gen. */
static void drop_fetches(struct tlb_bank *b)
{
    b->fetch_gen++;
    memset(b->fetched, 0, sizeof b->fetched);
}

static void clear_pairs(struct tlb_pair *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        clear_slots(s[i].way, 2);
}

static void clear_used(struct tlb_bank *b)
{
    for (unsigned i = 0; i < TLB_SLOTS / TLB_RUN; i++) {
        if (!b->used[i])
            continue;
        clear_pairs(b->r + i * TLB_RUN, TLB_RUN);
        clear_pairs(b->w + i * TLB_RUN, TLB_RUN);
        b->used[i] = 0;
    }
}

/* The bank's entries in the second level are nobody's any more. */
static void forget_pages(struct mmu *m, struct tlb_bank *b)
{
    struct hart_banks *hb = &m->hart[b->hart];
    b->pages_used = 0;
    if (hb->next_id < PAGES_IDS) {
        b->pages_id = (uint16_t)hb->next_id++;
        return;
    }
    memset(hb->pages, 0, TLB_PAGES * sizeof *hb->pages);
    for (unsigned i = 0; i < TLB_BANKS; i++) {
        hb->banks[i]->pages_id = (uint16_t)(i + 1);
        hb->banks[i]->pages_used = 0;
    }
    hb->next_id = TLB_BANKS + 1;
}

static void drop_second(struct tlb_bank *b, uint64_t va)
{
    struct tlb_slot *s = pages_slot(b, va);
    if (s->tag == (va | b->pages_id))
        *s = (struct tlb_slot){0};
}

/* Of the pages in the 1 << shift bytes at va, and perhaps others. */
static void drop_second_range(struct mmu *m, struct tlb_bank *b, uint64_t va, unsigned shift)
{
    unsigned group = pages_group_of(b, va);
    if (shift > TLB_LARGE_SHIFT) {
        if (b->pages_used)
            forget_pages(m, b);
        return;
    }
    if (!(b->pages_used >> group & 1))
        return;
    struct tlb_slot *s = b->pages + group * TLB_PAGES_GROUP;
    for (unsigned i = 0; i < TLB_PAGES_GROUP; i++)
        if ((s[i].tag & ~PAGE_MASK) == b->pages_id)
            s[i] = (struct tlb_slot){0};
    b->pages_used &= ~(1u << group);
}

void bank_clear(struct mmu *m, struct tlb_bank *b)
{
    m->stats.bank_flushes++;
    drop_fetches(b);
    if (b->in_use) {
        clear_used(b);
    } else {
        clear_pairs(b->r, TLB_SLOTS);
        clear_pairs(b->w, TLB_SLOTS);
        b->in_use = b->fetches = true;
    }
    if (b->fetches)
        clear_slots(b->x, TLB_FETCH_SLOTS);
    b->fetches = false;
    clear_slots(b->large_r, TLB_LARGE_SLOTS);
    clear_slots(b->large_w, TLB_LARGE_SLOTS);
    if (b != m->none)
        forget_pages(m, b);
}

void bank_clear_writes(struct tlb_bank *b)
{
    for (unsigned i = 0; i < TLB_SLOTS / TLB_RUN; i++)
        if (b->used[i])
            clear_pairs(b->w + i * TLB_RUN, TLB_RUN);
}

static void drop_slot(struct tlb_slot *s, uint64_t va)
{
    if (s->tag == va)
        s->tag = TLB_NO_TAG;
}

static void drop_pair(struct tlb_pair *p, uint64_t va)
{
    drop_slot(&p->way[0], va);
    drop_slot(&p->way[1], va);
}

void bank_drop_page(struct tlb_bank *b, uint64_t va)
{
    drop_pair(&b->r[slot_of(va)], va);
    drop_pair(&b->w[slot_of(va)], va);
    drop_slot(&b->x[fetch_slot_of(va)], va);
    if (b->pages_used >> pages_group_of(b, va) & 1)
        drop_second(b, va);
    if (bank_has_fetch_mark(b, va))
        drop_fetches(b);
}

static void drop_slots(struct tlb_slot *s, unsigned n, uint64_t va, unsigned shift)
{
    for (unsigned i = 0; i < n; i++)
        if (s[i].tag >> shift == va >> shift)
            s[i].tag = TLB_NO_TAG;
}

static void drop_pairs(struct tlb_pair *s, unsigned n, uint64_t va, unsigned shift)
{
    for (unsigned i = 0; i < n; i++)
        drop_slots(s[i].way, 2, va, shift);
}

/* Whether any page of the 1 << shift bytes at va has a mark; of more than 2 MiB, whether any page has. */
static bool range_has_fetch_mark(const struct tlb_bank *b, uint64_t va, unsigned shift)
{
    unsigned from = shift > 21 ? 0 : fetch_mark(va) / 64;
    unsigned n = shift > 21 ? TLB_FETCH_MARKS / 64 : ((1u << (shift - PAGE_SHIFT)) + 63) / 64;
    for (unsigned i = from; i < from + n; i++)
        if (b->fetched[i])
            return true;
    return false;
}

void bank_drop_range(struct mmu *m, struct tlb_bank *b, uint64_t va, unsigned shift)
{
    if (b->view == TLB_VIEW_CODE && !code_covers(&m->hart[b->hart].code, va, shift))
        return;
    uint64_t pages = 1ull << (shift - PAGE_SHIFT);
    unsigned from = pages < TLB_SLOTS ? slot_of(va) : 0, n = pages < TLB_SLOTS ? (unsigned)pages : TLB_SLOTS;
    for (unsigned run = from / TLB_RUN; run < (from + n) / TLB_RUN; run++) {
        if (!b->used[run])
            continue;
        drop_pairs(b->r + run * TLB_RUN, TLB_RUN, va, shift);
        drop_pairs(b->w + run * TLB_RUN, TLB_RUN, va, shift);
    }
    if (b->fetches)
        drop_slots(b->x, TLB_FETCH_SLOTS, va, shift);
    from = pages <= TLB_LARGE_PAGES ? large_slot_of(va) : 0;
    n = pages <= TLB_LARGE_PAGES ? 1 : TLB_LARGE_SLOTS;
    drop_slots(b->large_r + from, n, va, shift);
    drop_slots(b->large_w + from, n, va, shift);
    drop_second_range(m, b, va, shift);
    if (range_has_fetch_mark(b, va, shift))
        drop_fetches(b);
}

void bank_fill(struct mmu *m, struct hart *h, struct tlb_bank *b, const struct walk *w,
               enum mmu_access access)
{
    if (b == m->none)
        return;
    track_walk(m, h, w, bank_id(h->id, b));
    uint64_t page = ram_page(w->pa), va = page_of(w->va);
    if (access == MMU_FETCH) {
        if (b->view == TLB_VIEW_CODE)
            code_note(m, &m->hart[h->id], b, w);
        b->fetches = true;
        b->x[fetch_slot_of(va)] =
            (struct tlb_slot){.tag = va, .addend = (uint64_t)m->ram->host + (page << PAGE_SHIFT) - va};
        bank_mark_fetch(b, va);
        m->stats.fetch_fills++;
        fill_second(m, b, va, page, access);
        return;
    }
    fill_page(m, b, va, page, access & MMU_WRITE);
    if (!fill_large(m, h, b, w, access))
        fill_second(m, b, va, page, access);
}

static void revoke_pair(struct tlb_pair *p, uint64_t host)
{
    for (unsigned i = 0; i < 2; i++)
        if (p->way[i].tag + p->way[i].addend == host) /* never true of TLB_NO_TAG, which is no page address */
            p->way[i].tag = TLB_NO_TAG;
}

void revoke_writes(struct mmu *m, uint64_t page)
{
    uint8_t *attr = &m->ram->attr[page];
    if (!(*attr & PAGE_WRITE))
        return;
    bool many = *attr & PAGE_WRITE_MANY;
    uint64_t host = (uint64_t)m->ram->host + (page << PAGE_SHIFT), word = m->write_slots[page];
    unsigned n = many ? TLB_SLOTS : (unsigned)(word >> WRITE_COUNT_SHIFT);
    for (unsigned i = 0; i < m->nharts; i++)
        for (unsigned j = 0; j < m->hart[i].n; j++)
            for (unsigned k = 0; k < n; k++) {
                unsigned slot = many ? k : word >> WRITE_SLOT_BITS * k & (TLB_SLOTS - 1);
                revoke_pair(&m->hart[i].banks[j]->w[slot], host);
            }
    *attr &= (uint8_t) ~(PAGE_WRITE | PAGE_WRITE_MANY);
    for (unsigned i = 0; i < m->nharts; i++)
        m->harts[i]->code_dirty = true; /* translated code may hold a host address of the page */
    m->stats.write_revokes++;
}

/* The least recently used bank that no view has as its last one. */
static struct tlb_bank *victim(struct hart_banks *hb)
{
    struct tlb_bank *best = NULL;
    for (unsigned i = 0; i < TLB_BANKS; i++) {
        struct tlb_bank *b = hb->banks[i];
        if (hb->last[b->view] != b && (!best || b->last_use < best->last_use))
            best = b;
    }
    return best;
}

static struct tlb_bank *switch_bank(struct mmu *m, struct hart_banks *hb, uint64_t root, enum tlb_view view)
{
    struct tlb_bank *b = NULL;
    hb->last[view]->last_use = ++hb->clock;
    for (unsigned i = 0; i < hb->n && !b; i++)
        if (hb->banks[i]->root == root && hb->banks[i]->view == view)
            b = hb->banks[i];
    if (!b) {
        b = hb->n < TLB_BANKS ? hb->banks[hb->n++] : victim(hb);
        b->root = root;
        b->view = (uint8_t)view;
        bank_clear(m, b);
    }
    return hb->last[view] = b;
}

static inline struct tlb_bank *select_bank(struct mmu *m, struct hart_banks *hb, uint64_t root,
                                           enum tlb_view view)
{
    struct tlb_bank *b = hb->last[view];
    return b->root == root ? b : switch_bank(m, hb, root, view);
}

static enum tlb_view view_of(unsigned priv)
{
    return priv == PRIV_M ? TLB_VIEW_M : priv == PRIV_S ? TLB_VIEW_S : TLB_VIEW_U;
}

void mmu_context_changed(struct hart *h)
{
    struct mmu *m = h->mmu;
    if (m->no_tlb) {
        h->code_dirty = true;
        return;
    }
    struct hart_banks *hb = &m->hart[h->id];
    uint64_t root = walk_root(h, h->priv);
    enum tlb_view view = view_of(h->priv);
    bool other_data = hart_data_priv(h) != h->priv || (root && h->mstatus & MSTATUS_MXR);
    code_follow(m, h, walk_root(h, PRIV_S));
    struct tlb_bank *fetch = view == TLB_VIEW_S ? view_code_bank(hb, root) : NULL;
    if (!fetch)
        fetch = select_bank(m, hb, root, view);
    if (fetch != h->fetch_bank) {
        h->fetch_bank = fetch;
        h->code_dirty = true;
    }
    if (other_data)
        h->bank = m->none;
    else if (root && view == TLB_VIEW_S && h->mstatus & MSTATUS_SUM)
        h->bank = select_bank(m, hb, root, TLB_VIEW_S_SUM);
    else
        h->bank = select_bank(m, hb, root, view);
    view_publish(hb, h);
}

void mmu_forget_jumps(struct hart *h)
{
    const struct hart_banks *hb = &h->mmu->hart[h->id];
    for (unsigned i = 0; i < hb->n; i++)
        hb->banks[i]->jumps_gen = UINT64_MAX;
}

void mmu_pmp_changed(struct hart *h)
{
    struct mmu *m = h->mmu;
    struct hart_banks *hb = &m->hart[h->id];
    hb->n = CODE_BANK + 1; /* a bank is cleared when it is taken into use */
    for (unsigned v = 0; v < TLB_VIEW_NONE; v++)
        hb->last[v] = m->none;
    struct tlb_bank *code = hb->banks[CODE_BANK];
    code->root = NO_ROOT;
    code->view = TLB_VIEW_CODE;
    bank_clear(m, code);
    hb->last[TLB_VIEW_CODE] = code;
    hb->code = (struct shared_code){.root = NO_ROOT, .current = NO_ROOT};
    h->bank = h->fetch_bank = m->none;
    h->code_dirty = true;
    mmu_context_changed(h);
}
