/* The bounded cache of pre-decoded code pages, by physical page. Knows no virtual addresses: what is decoded
 * here is valid for every mapping of the page, and stays so because the mmu reports every write to a held
 * page. */
#include "cpu-core/interp/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static size_t table_size(const struct interp *e)
{
    return (size_t)(e->ram->size / PAGE_SIZE) * sizeof *e->by_page;
}

static int create_cache(struct interp *e)
{
    e->by_page = map(table_size(e));
    e->pool = map(CODE_PAGES * sizeof *e->pool);
    return e->by_page && e->pool ? 0 : -ENOMEM;
}

int pages_create(void **engine, struct mmu *mmu, int no_cache)
{
    struct interp *e = calloc(1, sizeof *e);

    if (!e)
        return -ENOMEM;
    e->mmu = mmu;
    e->ram = mmu_ram(mmu);
    e->scratch = calloc(1, sizeof *e->scratch);
    if (!e->scratch || (!no_cache && create_cache(e) != 0)) {
        pages_destroy(e);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < PAGE_HALVES + 2; i++)
        e->scratch->slots[i] = SLOT_FETCH;
    e->current = e->scratch;
    *engine = e;
    return 0;
}

void pages_destroy(void *engine)
{
    struct interp *e = engine;

    if (e->by_page)
        munmap(e->by_page, table_size(e));
    if (e->pool)
        munmap(e->pool, CODE_PAGES * sizeof *e->pool);
    free(e->scratch);
    free(e);
}

static uint64_t page_pa(const struct code_page *p)
{
    return RAM_BASE + p->ram_page * PAGE_SIZE;
}

/* The slots stay readable: the run loop may be in them until it looks at the translation again. */
static void give_up(struct interp *e, struct code_page *p)
{
    mmu_release_code(e->mmu, page_pa(p), PAGE_DECODED);
    e->by_page[p->ram_page] = NULL;
    p->used = false;
}

static struct code_page *victim(struct interp *e)
{
    for (;;) {
        struct code_page *p = &e->pool[e->hand];
        e->hand = (e->hand + 1) % CODE_PAGES;
        if (!p->used)
            return p;
        if (!p->referenced) {
            give_up(e, p);
            return p;
        }
        p->referenced = false;
    }
}

struct code_page *pages_get(struct interp *e, uint64_t ram_page)
{
    struct code_page *p = e->by_page[ram_page];

    if (p)
        return p;
    p = victim(e);
    for (unsigned i = 0; i < PAGE_HALVES; i++)
        p->slots[i] = SLOT_DECODE;
    p->slots[PAGE_HALVES] = p->slots[PAGE_HALVES + 1] = SLOT_FETCH;
    p->ram_page = ram_page;
    p->host = e->ram->host + ram_page * PAGE_SIZE;
    p->stores = 0;
    p->used = true;
    e->by_page[ram_page] = p;
    mmu_hold_code(e->mmu, page_pa(p), PAGE_DECODED);
    return p;
}

void pages_invalidate(void *engine, uint64_t pa, uint64_t len)
{
    struct interp *e = engine;
    struct code_page *p;
    unsigned first, last;

    if (!e->by_page || len == 0 || !(p = e->by_page[ram_page(pa)]))
        return;
    first = (unsigned)(pa & (PAGE_SIZE - 1)) / 2;
    last = (unsigned)((pa + len - 1) & (PAGE_SIZE - 1)) / 2;
    if (first > 0)
        first--; /* an instruction of 4 bytes may begin one halfword earlier */
    for (unsigned i = first; i <= last; i++)
        p->slots[i] = SLOT_DECODE;
    if (++p->stores >= CODE_PAGE_STORES)
        give_up(e, p);
}

void pages_flush(void *engine)
{
    struct interp *e = engine;

    if (!e->by_page)
        return;
    for (unsigned i = 0; i < CODE_PAGES; i++)
        if (e->pool[i].used)
            give_up(e, &e->pool[i]);
}
