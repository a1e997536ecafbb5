/* Which of a hart's banks belong to the views of its root. Translated code calls this file without saving
 * vector registers: it is compiled to use none, and calls no other file. Makes no bank, and knows nothing of
 * what is in them. */
#include "cpu-core/mmu/internal.h"

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

/* Nothing of S and U while MXR makes their data accesses differ from the bank of the view. */
void view_publish(struct hart_banks *hb, struct hart *h)
{
    _Static_assert(TLB_VIEW_NONE == HART_VIEWS, "a hart has each view that has a bank");
    uint64_t root = walk_root(h, PRIV_S);
    bool usual = !root || !(h->mstatus & MSTATUS_MXR);
    h->views[TLB_VIEW_U] = usual ? known_bank(hb, root, TLB_VIEW_U) : NULL;
    h->views[TLB_VIEW_S] = usual ? known_bank(hb, root, TLB_VIEW_S) : NULL;
    h->views[TLB_VIEW_S_SUM] = usual ? known_sum_bank(hb, root) : NULL;
    h->views[TLB_VIEW_M] = known_bank(hb, 0, TLB_VIEW_M);
}

bool mmu_satp_legal(const struct mmu *m, uint64_t satp)
{
    uint64_t mode = satp >> 60;
    return mode == 0 || (mode >= 8 && mode - 8 + 3 <= m->max_levels);
}

bool mmu_switch_root(struct hart *h, uint64_t satp)
{
    struct hart_banks *hb = &h->mmu->hart[h->id];
    uint64_t root = root_of(satp);
    if (!mmu_satp_legal(h->mmu, satp) || h->mstatus & MSTATUS_MXR)
        return false;
    struct tlb_bank *fetch = known_bank(hb, root, TLB_VIEW_S);
    struct tlb_bank *data = h->mstatus & MSTATUS_SUM ? known_sum_bank(hb, root) : fetch;
    if (!fetch || !data || fetch->jumps_gen != fetch->fetch_gen)
        return false;
    h->satp = satp;
    h->fetch_bank = fetch;
    h->bank = data;
    view_publish(hb, h);
    return true;
}
