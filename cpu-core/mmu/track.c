/* Tracking of page-table pages: which banks hold entries derived from which page, and what a store to one
 * drops. The coherence rule is in internal.h. Knows no access type and no privilege. */
#include "cpu-core/mmu/internal.h"

#include <string.h>

/* Drops from one bank what PTE `index` of the table maps, or all that the table maps for WHOLE_TABLE. */
#define WHOLE_TABLE 512u

/* As many single drops cost about as much as one of a whole table. */
#define SINGLE_DROPS 8u

static void drop_from_bank(struct mmu *m, const struct table *t, unsigned index, struct tlb_bank *b)
{
    if (t->nuses > TABLE_USES) {
        bank_clear(m, b);
        return;
    }
    for (unsigned i = 0; i < t->nuses; i++) {
        const struct table_use *u = &t->uses[i];
        unsigned shift = PAGE_SHIFT + LEVEL_BITS * u->level;
        if (index == WHOLE_TABLE)
            bank_drop_range(m, b, u->va, shift + LEVEL_BITS);
        else if (u->level)
            bank_drop_range(m, b, u->va + ((uint64_t)index << shift), shift);
        else
            bank_drop_page(b, u->va + ((uint64_t)index << shift));
    }
}

static void drop(struct mmu *m, struct hart *h, const struct table *t, unsigned index)
{
    for (unsigned word = 0; word < BANK_WORDS; word++)
        for (uint64_t bits = t->banks[word]; bits; bits &= bits - 1)
            drop_from_bank(m, t, index, bank_of_id(m, word * 64 + (unsigned)__builtin_ctzll(bits)));
    if (h)
        h->code_dirty = true;
}

static const uint64_t *ptes_of(const struct mmu *m, uint64_t page)
{
    return (const void *)(m->ram->host + (page << PAGE_SHIFT));
}

static unsigned valid_ptes(const uint64_t *ptes)
{
    unsigned n = 0;
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        n += ptes[i] & PTE_V;
    return n;
}

/* Drops what derives from any PTE of the table: nothing does from one that is not valid. */
static void drop_all(struct mmu *m, struct hart *h, const struct table *t)
{
    const uint64_t *ptes = ptes_of(m, t->page);
    unsigned n = valid_ptes(ptes);
    if (!n)
        return;
    if (n > SINGLE_DROPS) {
        m->stats.range_drops++;
        drop(m, h, t, WHOLE_TABLE);
        return;
    }
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        if (ptes[i] & PTE_V)
            drop(m, h, t, i);
}

/* Makes the page an ordinary one: nothing derives from it afterwards. */
static void untrack(struct mmu *m, struct hart *h, struct table *t)
{
    drop_all(m, h, t);
    m->ram->attr[t->page] &= (uint8_t)~PAGE_WALKED;
    t->used = false;
    t->page = m->free_table;
    m->free_table = (uint32_t)(t - m->tables);
}

static bool walk_uses(const struct mmu *m, const struct walk *w, uint64_t page)
{
    for (unsigned level = w->leaf; level <= w->top; level++)
        if (ram_page(w->pte[level]) == page)
            return true;
    return false;
}

/* Frees a record by a clock hand, sparing the tables of the walk in progress. */
static void evict(struct mmu *m, struct hart *h, const struct walk *w)
{
    struct table *t;
    do {
        t = &m->tables[m->hand];
        m->hand = (m->hand + 1) % m->ntables;
    } while (walk_uses(m, w, t->page));
    untrack(m, h, t);
}

static struct table *track(struct mmu *m, struct hart *h, const struct walk *w, uint64_t page)
{
    if (m->free_table == TABLES_MAX && m->ntables == m->table_limit)
        evict(m, h, w);
    uint32_t index = m->free_table;
    if (index != TABLES_MAX)
        m->free_table = m->tables[index].page;
    else
        index = m->ntables++;
    m->tables[index] = (struct table){.page = (uint32_t)page, .used = true};
    m->table_of[page] = index;
    m->ram->attr[page] |= PAGE_WALKED;
    revoke_writes(m, page);
    return &m->tables[index];
}

void track_walk(struct mmu *m, struct hart *h, const struct walk *w, unsigned bank)
{
    for (unsigned level = w->leaf; level <= w->top; level++) {
        uint64_t page = ram_page(w->pte[level]);
        struct table *t = m->ram->attr[page] & PAGE_WALKED ? table_at(m, page) : track(m, h, w, page);
        unsigned shift = PAGE_SHIFT + LEVEL_BITS * (level + 1);
        table_use(t, w->va >> shift << shift, level);
        t->banks[bank / 64] |= 1ull << bank % 64;
        t->stores = 0;
    }
}

void track_page(struct mmu *m, struct hart *h, uint64_t page)
{
    static const struct walk none = {.leaf = 1};
    if (!(m->ram->attr[page] & PAGE_WALKED))
        track(m, h, &none, page);
}

/* Whether entries derived from PTE `old` may be wrong once it is `new`. Entries exist only for granted
 * accesses: a leaf that only gains permissions, A or D takes none away. */
static bool must_drop(uint64_t old, uint64_t now)
{
    const uint64_t rights = PTE_R | PTE_W | PTE_X | PTE_A | PTE_D;
    uint64_t changed = (old ^ now) & ~PTE_RSW, lost = old & ~now & rights;
    if (!(old & PTE_V) || !changed)
        return false;
    bool leaf = old & (PTE_R | PTE_X), reserved = (now & (PTE_R | PTE_W)) == PTE_W;
    return !leaf || changed & ~rights || lost || reserved;
}

/* Whether the PTE points to a table from which nothing derives. */
static bool leads_nowhere(const struct mmu *m, uint64_t pte)
{
    uint64_t table = (pte >> PTE_PPN_SHIFT & PTE_PPN_MASK) << PAGE_SHIFT;
    return !(pte & (PTE_R | PTE_X)) && ram_contains(m->ram, table, PAGE_SIZE) &&
           !valid_ptes(ptes_of(m, ram_page(table)));
}

void track_store(struct mmu *m, struct hart *h, uint64_t pa, const void *bytes, unsigned len)
{
    struct table *t = table_at(m, ram_page(pa));
    m->stats.tracked_stores++;
    if (++t->stores > TABLE_STORES_MAX || len > PAGE_SIZE / 8) {
        untrack(m, h, t);
        return;
    }
    for (uint64_t at = pa & ~7ull; at < pa + len; at += 8) {
        uint64_t old, new;
        memcpy(&old, ram_at(m->ram, at), sizeof old);
        new = old;
        uint64_t from = at > pa ? at : pa, to = at + 8 < pa + len ? at + 8 : pa + len;
        memcpy((uint8_t *)&new + (from - at), (const uint8_t *)bytes + (from - pa), to - from);
        if (!must_drop(old, new) || leads_nowhere(m, old))
            continue;
        m->stats.pte_drops++;
        drop(m, h, t, (unsigned)(at & ~PAGE_MASK) / 8);
    }
}

void track_reset(struct mmu *m)
{
    for (uint32_t i = 0; i < m->ntables; i++)
        if (m->tables[i].used)
            m->ram->attr[m->tables[i].page] &= (uint8_t)~PAGE_WALKED;
    m->ntables = 0;
    m->free_table = TABLES_MAX;
    m->hand = 0;
}
