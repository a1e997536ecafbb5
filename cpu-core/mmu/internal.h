/* What the files of this folder share. Not for other folders (tests/cpu-core/test_mmu*.c may look).
 *
 * How the banks stay indistinguishable from walking: an entry of a bank is the result of one walk, which read
 * a chain of PTEs. Each page those PTEs lie in is WALKED, and its record says at which levels and virtual
 * addresses walks used it and in which banks results may be. No bank has a write entry for a WALKED page, so
 * every store to it comes to track_store(), which compares old and new PTEs and drops what a changed valid
 * PTE contributed to. Entries exist only for valid PTEs, and represent only granted accesses, so storing over
 * an invalid PTE, or adding permissions to a leaf, needs no drop. */
#pragma once

#include "cpu-core/mmu/mmu.h"

#include <stdbool.h>

#define TLB_LARGE_PAGES (1u << (TLB_LARGE_SHIFT - PAGE_SHIFT))

#define PTE_V    (1ull << 0)
#define PTE_R    (1ull << 1)
#define PTE_W    (1ull << 2)
#define PTE_X    (1ull << 3)
#define PTE_U    (1ull << 4)
#define PTE_G    (1ull << 5)
#define PTE_A    (1ull << 6)
#define PTE_D    (1ull << 7)
#define PTE_RSW  (3ull << 8)
#define PTE_PBMT (3ull << 61)
#define PTE_N    (1ull << 63)

#define PTE_PPN_SHIFT 10
#define PTE_PPN_MASK  ((1ull << 44) - 1)

#define LEVELS_MAX 5
#define LEVEL_BITS 9

#define BANKS_MAX  (HART_MAX * TLB_BANKS)
#define BANK_WORDS (BANKS_MAX / 64)

/* Where a page-table page stands in walks: its PTE i maps [va + i * size, + size) with size = 4 KiB << 9 *
 * level. */
struct table_use {
    uint64_t va;
    uint8_t level;
};

#define TABLE_USES 4

/* Record of a WALKED page. */
struct table {
    uint32_t page;   /* RAM page number */
    uint16_t stores; /* tracked stores since the last walk that led to an entry */
    uint8_t nuses;   /* TABLE_USES + 1: more than fit, drops clear whole banks */
    bool used;       /* the record is in use */
    struct table_use uses[TABLE_USES];
    uint64_t
        banks[BANK_WORDS]; /* banks that may hold entries derived from the page; by bank id, never too few */
};

/* A page that is stored to this often without a walk in between is data now: what derives from it is dropped
 * and it is no longer tracked. Worth about one range drop in three banks. */
#define TABLE_STORES_MAX 32

#define TABLES_MAX 32768u

/* Slot indices of the write entries of a page: up to WRITE_SLOTS of them, packed in one word with their count
 * on top. */
#define WRITE_SLOTS       6
#define WRITE_SLOT_BITS   10
#define WRITE_COUNT_SHIFT 60

/* What a hart's S-mode fetches through while the root's page has the same PTEs as those of other roots had by
 * which the entries of that bank were found: kernels map themselves alike in each address space. The bank is
 * marked in the record of the current root's page only, and in those of the tables below as usual. */
#define CODE_BANK  0u /* which one of the hart's banks */
#define CODE_ROOTS 4u
/* As many roots in turn that do not fit make the bank forget what it was for. */
#define CODE_STRANGERS 64u
#define NO_ROOT        UINT64_MAX

struct shared_code {
    uint64_t root;    /* that it serves; NO_ROOT: none */
    uint64_t current; /* the hart's */
    unsigned strangers;
    unsigned top, n; /* level and number of … */
    struct {
        uint64_t va, pte;
    } used[CODE_ROOTS]; /* … the root's PTEs, and what they map from where on */
};

struct hart_banks {
    struct tlb_bank *last[TLB_VIEW_NONE]; /* the bank each view used last; NULL before its first use */
    struct tlb_bank *banks[TLB_BANKS];
    unsigned n;             /* banks allocated; the rest is NULL */
    struct tlb_slot *pages; /* TLB_PAGES of them */
    unsigned next_id;       /* of pages_id */
    uint64_t clock;
    struct shared_code code;
};

struct mmu {
    struct ram *ram;
    const struct bus *bus;
    struct hart *const *harts;
    unsigned nharts;
    unsigned max_levels;
    bool no_tlb;
    const struct engine *engine;
    void *engine_data;
    uint8_t *rom;
    uint64_t rom_base, rom_len;

    struct hart_banks hart[HART_MAX];
    struct tlb_bank *none; /* empty for ever, shared */

    uint64_t *write_slots; /* one word a page, valid while PAGE_WRITE */
    uint32_t *table_of;    /* one a page, valid while PAGE_WALKED: index into tables */
    struct table *tables;
    uint32_t ntables;     /* records in use or on the free list */
    uint32_t free_table;  /* head of the free list, linked through `page`; TABLES_MAX for none */
    uint32_t table_limit; /* at most TABLES_MAX; tests lower it */
    uint32_t hand;        /* clock hand of eviction */

    struct mmu_stats stats;
};

static inline uint64_t page_of(uint64_t va)
{
    return va & PAGE_MASK;
}
static inline unsigned slot_of(uint64_t va)
{
    return (va >> PAGE_SHIFT) & (TLB_SLOTS - 1);
}
static inline unsigned large_slot_of(uint64_t va)
{
    return va >> TLB_LARGE_SHIFT & (TLB_LARGE_SLOTS - 1);
}

/* Slots of the second level: their addends have the granted accesses in the low bits. Pages of 2 MiB lie in
 * one group. */
#define PAGES_IDS (1u << PAGE_SHIFT)
static inline unsigned pages_group_of(const struct tlb_bank *b, uint64_t va)
{
    _Static_assert(TLB_PAGES / TLB_PAGES_GROUP == 32, "as many as pages_used has bits");
    return (unsigned)(va >> 21 ^ va >> 26 ^ b->pages_id * 7) & 31;
}
static inline struct tlb_slot *pages_slot(const struct tlb_bank *b, uint64_t va)
{
    return b->pages + pages_group_of(b, va) * TLB_PAGES_GROUP + (va >> PAGE_SHIFT & (TLB_PAGES_GROUP - 1));
}
static inline unsigned fetch_slot_of(uint64_t va)
{
    return (va >> PAGE_SHIFT) & (TLB_FETCH_SLOTS - 1);
}

/* walk.c: a translation and the PTEs it read. */
struct walk {
    uint64_t va, pa;
    uint64_t pte[LEVELS_MAX]; /* physical addresses of the PTEs read, by level */
    uint8_t top, leaf;        /* levels of the first and last PTE read; top < leaf when there is no paging */
};

/* Walks for `va` at privilege `priv` with the rules of the data view (SUM, MXR) unless `access` is MMU_FETCH;
 * sets A, and D for writes. 0, or the exception's cause. */
int walk(struct mmu *m, struct hart *h, uint64_t va, enum mmu_access access, unsigned priv, struct walk *w);

/* The value that keys banks of S- and U-mode under `satp`: MODE and PPN, or 0 without paging. */
static inline uint64_t root_of(uint64_t satp)
{
    return satp >> 60 == 0 ? 0 : satp & ~(0xffffull << 44);
}
static inline uint64_t walk_root(const struct hart *h, unsigned priv)
{
    return priv == PRIV_M ? 0 : root_of(h->satp);
}

/* bank.c */
void bank_clear(struct mmu *m, struct tlb_bank *b);
void bank_clear_writes(struct tlb_bank *b);
void bank_drop_page(struct tlb_bank *b, uint64_t va);
void bank_drop_range(struct mmu *m, struct tlb_bank *b, uint64_t va,
                     unsigned shift); /* the 1 << shift bytes at va, aligned */

/* The pages of 2 MiB have marks beside each other. */
static inline unsigned fetch_mark(uint64_t va)
{
    _Static_assert(TLB_FETCH_MARKS == 1 << 13, "9 bits of the page, 4 of the hash");
    return (unsigned)((va >> PAGE_SHIFT & 511) | (va >> 21) * 0x9e3779b97f4a7c15ull >> 60 << 9);
}

/* Notes that something may have been derived from a fetch translation of `va`: its loss will change
 * fetch_gen. */
static inline void bank_mark_fetch(struct tlb_bank *b, uint64_t va)
{
    unsigned mark = fetch_mark(va);
    b->fetched[mark / 64] |= 1ull << mark % 64;
}
static inline bool bank_has_fetch_mark(const struct tlb_bank *b, uint64_t va)
{
    unsigned mark = fetch_mark(va);
    return b->fetched[mark / 64] >> mark % 64 & 1;
}

static inline struct table *table_at(const struct mmu *m, uint64_t page)
{
    return &m->tables[m->table_of[page]];
}

static inline void table_use(struct table *t, uint64_t va, unsigned level)
{
    if (t->nuses > TABLE_USES)
        return;
    for (unsigned i = 0; i < t->nuses; i++)
        if (t->uses[i].va == va && t->uses[i].level == level)
            return;
    if (t->nuses < TABLE_USES)
        t->uses[t->nuses] = (struct table_use){.va = va, .level = (uint8_t)level};
    t->nuses++;
}

static inline unsigned bank_id(unsigned hart, const struct tlb_bank *b)
{
    return hart * TLB_BANKS + b->index;
}
static inline struct tlb_bank *bank_of_id(const struct mmu *m, unsigned id)
{
    return m->hart[id / TLB_BANKS].banks[id % TLB_BANKS];
}

/* Enters a walked translation for `access` into bank `b` of hart `h`, if the page may have such an entry. */
void bank_fill(struct mmu *m, struct hart *h, struct tlb_bank *b, const struct walk *w,
               enum mmu_access access);

/* view.c: sets what the hart knows of each view of its root. */
void view_publish(struct hart_banks *hb, struct hart *h);

/* The bank for the fetches of S-mode under `root`, NULL if it is not known. */
struct tlb_bank *view_code_bank(struct hart_banks *hb, uint64_t root);

static inline uint64_t root_address(uint64_t root)
{
    return (root & PTE_PPN_MASK) << PAGE_SHIFT;
}
static inline unsigned top_of(uint64_t root)
{
    return (unsigned)(root >> 60) - 8 + 3 - 1;
}

/* Whether what the shared bank was filled by is the same under `root`, whose page the PMP check was last
 * about or near; it serves none, so that what becomes of the page of the last one is nothing to it; it serves
 * `root`, whose page has a record. `bank` is its id.
 */
bool code_fits(const struct hart *h, const struct shared_code *c, uint64_t root);
void code_leave(struct mmu *m, struct shared_code *c, unsigned bank);
void code_join(struct mmu *m, struct shared_code *c, unsigned bank, uint64_t root);

/* code.c: what the walk for a fetch says of the root, before its result enters the shared bank `b`. */
void code_note(struct mmu *m, struct hart_banks *hb, struct tlb_bank *b, const struct walk *w);

/* Whether the shared bank may have anything of the 1 << shift bytes at va. */
bool code_covers(const struct shared_code *c, uint64_t va, unsigned shift);

/* The hart's root is `root` from here on. */
void code_follow(struct mmu *m, struct hart *h, uint64_t root);

/* fill.c: enters the page of `va`, which is page `page` of RAM, for a granted data access; enters the 2 MiB
 * around the translation `w` into the second level if they are one; enters the page there, for any access. */
void fill_page(struct mmu *m, struct tlb_bank *b, uint64_t va, uint64_t page, bool write);
bool fill_large(struct mmu *m, struct hart *h, struct tlb_bank *b, const struct walk *w,
                enum mmu_access access);
void fill_second(struct mmu *m, struct tlb_bank *b, uint64_t va, uint64_t page, enum mmu_access access);

/* Serves a data access from the second level of the hart's bank: enters its page, if it may have entries, and
 * returns the host address of `va`. NULL if there is no such entry. */
uint8_t *fill_from_second(struct mmu *m, struct hart *h, uint64_t va, bool write);

/* track.c */
void track_walk(struct mmu *m, struct hart *h, const struct walk *w, unsigned bank);
void track_store(struct mmu *m, struct hart *h, uint64_t pa, const void *bytes, unsigned len);
void track_page(struct mmu *m, struct hart *h, uint64_t page); /* if it is not */
void track_reset(struct mmu *m);                               /* forgets all records; every bank is empty */
void revoke_writes(struct mmu *m, uint64_t page);

/* access.c: a store to RAM that does not interpret the bytes as PTEs. */
void store_untracked(struct mmu *m, struct hart *h, uint64_t pa, const void *bytes, unsigned len);
