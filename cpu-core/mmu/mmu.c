/* Creation and the whole-machine operations: engine binding, code pages, flush, hash. */
#include "cpu-core/mmu/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *reserve(uint64_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, uint64_t size)
{
    if (p)
        munmap(p, size);
}

static uint64_t banks_size(const struct mmu *m)
{
    return (m->nharts * TLB_BANKS + 1) * sizeof(struct tlb_bank);
}
static uint64_t pages_size(const struct mmu *m)
{
    return m->nharts * TLB_PAGES * sizeof(struct tlb_slot);
}
static uint64_t tables_size(void)
{
    return TABLES_MAX * sizeof(struct table);
}

/* Bank 0 of the mapping is the empty one; the others are cleared when they are taken into use. */
static void bind_banks(struct mmu *m)
{
    m->none->root = UINT64_MAX;
    m->none->view = TLB_VIEW_NONE;
    m->none->pages = m->hart[0].pages;
    bank_clear(m, m->none);
    for (unsigned i = 0; i < m->nharts; i++) {
        struct hart *h = m->harts[i];
        m->hart[i].next_id = 1;
        for (unsigned j = 0; j < TLB_BANKS; j++) {
            struct tlb_bank *b = m->none + 1 + i * TLB_BANKS + j;
            b->hart = (uint8_t)i;
            b->index = (uint8_t)j;
            b->pages = m->hart[i].pages;
            m->hart[i].banks[j] = b;
        }
        h->mmu = m;
        mmu_pmp_changed(h);
    }
}

int mmu_create(struct mmu **out, struct ram *ram, const struct bus *bus, struct hart *const *harts,
               unsigned nharts, unsigned max_levels, bool no_tlb)
{
    if (nharts < 1 || nharts > HART_MAX || max_levels < 3 || max_levels > LEVELS_MAX)
        return -EINVAL;
    struct mmu *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    uint64_t pages = ram->size >> PAGE_SHIFT;
    m->ram = ram;
    m->bus = bus;
    m->harts = harts;
    m->nharts = nharts;
    m->max_levels = max_levels;
    m->no_tlb = no_tlb;
    m->free_table = TABLES_MAX;
    m->table_limit = TABLES_MAX;
    m->none = reserve(banks_size(m));
    m->tables = reserve(tables_size());
    m->table_of = reserve(pages * sizeof *m->table_of);
    m->write_slots = reserve(pages * sizeof *m->write_slots);
    m->hart[0].pages = reserve(pages_size(m));
    if (!m->none || !m->hart[0].pages || !m->tables || !m->table_of || !m->write_slots) {
        mmu_destroy(m);
        return -ENOMEM;
    }
    for (unsigned i = 1; i < nharts; i++)
        m->hart[i].pages = m->hart[0].pages + i * TLB_PAGES;
    bind_banks(m);
    *out = m;
    return 0;
}

void mmu_destroy(struct mmu *m)
{
    if (!m)
        return;
    uint64_t pages = m->ram->size >> PAGE_SHIFT;
    release(m->none, banks_size(m));
    release(m->hart[0].pages, pages_size(m));
    release(m->tables, tables_size());
    release(m->table_of, pages * sizeof *m->table_of);
    release(m->write_slots, pages * sizeof *m->write_slots);
    free(m);
}

void mmu_set_engine(struct mmu *m, const struct engine *e, void *engine)
{
    m->engine = e;
    m->engine_data = engine;
}

void mmu_set_rom(struct mmu *m, uint64_t base, uint8_t *host, uint64_t len)
{
    m->rom = host;
    m->rom_base = base;
    m->rom_len = len;
}

unsigned mmu_max_levels(const struct mmu *m)
{
    return m->max_levels;
}
struct ram *mmu_ram(const struct mmu *m)
{
    return m->ram;
}
const struct mmu_stats *mmu_stats(const struct mmu *m)
{
    return &m->stats;
}

void mmu_hold_code(struct mmu *m, uint64_t pa, enum page_attr holder)
{
    uint64_t page = ram_page(pa);
    m->ram->attr[page] |= (uint8_t)holder;
    revoke_writes(m, page);
}

void mmu_release_code(struct mmu *m, uint64_t pa, enum page_attr holder)
{
    m->ram->attr[ram_page(pa)] &= (uint8_t)~holder;
}

void mmu_flush(struct mmu *m)
{
    track_reset(m);
    for (unsigned i = 0; i < m->nharts; i++)
        mmu_pmp_changed(m->harts[i]);
}

uint64_t mmu_ram_hash(struct mmu *m)
{
    for (unsigned i = 0; i < m->nharts; i++)
        for (unsigned j = 0; j < m->hart[i].n; j++)
            bank_clear_writes(m->hart[i].banks[j]);
    for (uint64_t i = 0; i < m->ram->ndirty; i++)
        m->ram->attr[m->ram->dirty_list[i]] &= (uint8_t) ~(PAGE_WRITE | PAGE_WRITE_MANY);
    return ram_hash_update(m->ram);
}
