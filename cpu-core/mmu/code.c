/* The bank that a hart's roots share for the fetches of S-mode: what it was filled by, and which root it
 * serves. */
#include "cpu-core/mmu/internal.h"

#include <string.h>

bool code_covers(const struct shared_code *c, uint64_t va, unsigned shift)
{
    unsigned top = PAGE_SHIFT + LEVEL_BITS * c->top, all = shift > top ? shift : top;
    for (unsigned i = 0; i < c->n; i++)
        if (c->used[i].va >> all == va >> all)
            return true;
    return false;
}

void code_note(struct mmu *m, struct hart_banks *hb, struct tlb_bank *b, const struct walk *w)
{
    struct shared_code *c = &hb->code;
    unsigned shift = PAGE_SHIFT + LEVEL_BITS * w->top;
    uint64_t va = w->va >> shift << shift, pte;
    memcpy(&pte, ram_at(m->ram, w->pte[w->top]), sizeof pte);
    for (unsigned i = 0; i < c->n; i++)
        if (c->used[i].va == va) {
            if (c->used[i].pte != pte)
                bank_drop_range(m, b, va, shift);
            c->used[i].pte = pte;
            return;
        }
    if (c->n == CODE_ROOTS) {
        bank_clear(m, b);
        c->n = 0;
    }
    c->top = w->top;
    c->used[c->n].va = va;
    c->used[c->n++].pte = pte;
}

void code_follow(struct mmu *m, struct hart *h, uint64_t root)
{
    struct hart_banks *hb = &m->hart[h->id];
    struct shared_code *c = &hb->code;
    unsigned bank = bank_id(h->id, hb->banks[CODE_BANK]);
    if (c->current == root)
        return;
    code_leave(m, c, bank);
    c->current = root;
    h->code_dirty = true;
    if (!root || !ram_contains(m->ram, root_address(root), PAGE_SIZE) ||
        !hart_pmp_allows(h, root_address(root), MMU_READ, PRIV_S))
        return;
    if (!code_fits(h, c, root)) {
        if (++c->strangers < CODE_STRANGERS)
            return;
        bank_clear(m, hb->banks[CODE_BANK]);
        c->n = 0;
    }
    c->strangers = 0;
    track_page(m, h, ram_page(root_address(root)));
    code_join(m, c, bank, root);
}
