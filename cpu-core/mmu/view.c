/* Which of a hart's banks belong to the views of its root. Translated code calls this file without saving
 * vector registers: it is compiled to use none, and calls no other file. Makes no bank, and knows nothing of
 * what is in them. */
#include "cpu-core/mmu/internal.h"

#include <string.h>

/* The bank of a view if there is one, which becomes the view's last one. */
static struct tlb_bank *known_bank(struct hart_banks *hb, uint64_t root, enum tlb_view view)
{
    struct tlb_bank *last = hb->last[view];
    if (last->root == root)
        return last;
    for (unsigned i = 0; i < hb->n; i++)
        if (hb->banks[i]->root == root && hb->banks[i]->view == view) {
            last->last_use = ++hb->clock;
            return hb->last[view] = hb->banks[i];
        }
    return NULL;
}

static struct tlb_bank *known_sum_bank(struct hart_banks *hb, uint64_t root)
{
    return known_bank(hb, root, root ? TLB_VIEW_S_SUM : TLB_VIEW_S);
}

struct tlb_bank *view_code_bank(struct hart_banks *hb, uint64_t root)
{
    return hb->code.root == root ? hb->banks[CODE_BANK] : known_bank(hb, root, TLB_VIEW_S);
}

bool code_fits(const struct hart *h, const struct shared_code *c, uint64_t root)
{
    const struct mmu *m = h->mmu;
    uint64_t page = root_address(root) >> PAGE_SHIFT;
    if (!root || !ram_contains(m->ram, root_address(root), PAGE_SIZE) || (c->n && c->top != top_of(root)))
        return false;
    if (page < h->pmp_near_first || page > h->pmp_near_last || !(h->pmp_near_cfg & MMU_READ))
        return false;
    for (unsigned i = 0; i < c->n; i++) {
        uint64_t index = c->used[i].va >> (PAGE_SHIFT + LEVEL_BITS * c->top) & 511, pte;
        memcpy(&pte, ram_at(m->ram, root_address(root) + index * 8), sizeof pte);
        if (pte != c->used[i].pte)
            return false;
    }
    return true;
}

void code_leave(struct mmu *m, struct shared_code *c, unsigned bank)
{
    uint64_t root = c->root;
    c->root = NO_ROOT;
    if (root == NO_ROOT || !(m->ram->attr[ram_page(root_address(root))] & PAGE_WALKED))
        return;
    struct table *t = table_at(m, ram_page(root_address(root)));
    for (unsigned i = 0; i < t->nuses; i++) /* a lower table, or unknown, too: stays marked */
        if (i == TABLE_USES || t->uses[i].level != top_of(root))
            return;
    t->banks[bank / 64] &= ~(1ull << bank % 64);
}

void code_join(struct mmu *m, struct shared_code *c, unsigned bank, uint64_t root)
{
    struct table *t = table_at(m, ram_page(root_address(root)));
    unsigned top = top_of(root), shift = PAGE_SHIFT + LEVEL_BITS * (top + 1);
    t->banks[bank / 64] |= 1ull << bank % 64;
    for (unsigned i = 0; i < c->n; i++)
        table_use(t, c->used[i].va >> shift << shift, top);
    c->root = root;
}

/* Nothing of S and U while MXR makes their data accesses differ from the bank of the view. */
void view_publish(struct hart_banks *hb, struct hart *h)
{
    _Static_assert(TLB_VIEW_NONE == HART_VIEWS, "a hart has each view that has a bank");
    uint64_t root = walk_root(h, PRIV_S);
    bool usual = !root || !(h->mstatus & MSTATUS_MXR);
    h->views[TLB_VIEW_U] = usual ? known_bank(hb, root, TLB_VIEW_U) : NULL;
    h->views[TLB_VIEW_S] = usual ? known_bank(hb, root, TLB_VIEW_S) : NULL;
    h->views[TLB_VIEW_S_SUM] = usual ? known_sum_bank(hb, root) : NULL;
    h->views[TLB_VIEW_CODE] = usual ? view_code_bank(hb, root) : NULL;
    h->views[TLB_VIEW_M] = known_bank(hb, 0, TLB_VIEW_M);
}

bool mmu_satp_legal(const struct mmu *m, uint64_t satp)
{
    uint64_t mode = satp >> 60;
    return mode == 0 || (mode >= 8 && mode - 8 + 3 <= m->max_levels);
}

/* The same without what takes other files: false where it does, and nothing happened. */
static bool code_follows(struct mmu *m, struct hart_banks *hb, unsigned hart, uint64_t root, bool fits)
{
    struct shared_code *c = &hb->code;
    unsigned bank = bank_id(hart, hb->banks[CODE_BANK]);
    if (fits ? !(m->ram->attr[ram_page(root_address(root))] & PAGE_WALKED)
             : root && c->strangers + 1 >= CODE_STRANGERS)
        return false;
    code_leave(m, c, bank);
    c->current = root;
    c->strangers = fits ? 0 : c->strangers + (root != 0);
    if (fits)
        code_join(m, c, bank, root);
    return true;
}

bool mmu_switch_root(struct hart *h, uint64_t satp)
{
    struct mmu *m = h->mmu;
    struct hart_banks *hb = &m->hart[h->id];
    uint64_t root = root_of(satp);
    if (!mmu_satp_legal(m, satp) || h->mstatus & MSTATUS_MXR)
        return false;
    bool same = root == hb->code.current;
    bool fits = same ? hb->code.root == root : code_fits(h, &hb->code, root);
    struct tlb_bank *fetch = fits ? hb->banks[CODE_BANK] : known_bank(hb, root, TLB_VIEW_S);
    struct tlb_bank *data =
        h->mstatus & MSTATUS_SUM ? known_sum_bank(hb, root) : known_bank(hb, root, TLB_VIEW_S);
    if (!fetch || !data || fetch->jumps_gen != fetch->fetch_gen)
        return false;
    if (!same && !code_follows(m, hb, h->id, root, fits))
        return false;
    h->satp = satp;
    h->fetch_bank = fetch;
    h->bank = data;
    view_publish(hb, h);
    return true;
}
