/* The block table. */
#include "cpu-core/jit/block.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HASH_HEADS 131072u

#define HELPERS_BYTES 4096u
#define WORDS_BYTES   ((size_t)REGIONS * REGION_WORDS * sizeof(uint64_t))
#define LINKS_BYTES   ((size_t)REGIONS * REGION_LINKS * sizeof(struct link))

_Static_assert(HELPERS * sizeof(void *) + CONSTANTS * 16 <= HELPERS_BYTES, "links follow the pointers");

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

static size_t pages_of(const struct blocks *t)
{
    return (size_t)(mmu_ram(t->mmu)->size >> PAGE_SHIFT);
}

static void region_reset(struct blocks *t, unsigned i)
{
    struct region *r = &t->regions[i];

    r->hot = t->code.write + (size_t)i * REGION_BYTES;
    r->cold = r->hot + REGION_BYTES / 2;
    if (i == 0)
        r->hot += t->fixed_len;
    r->nblocks = r->nlinks = r->nwords = 0;
}

int blocks_create(struct blocks *t, struct mmu *mmu)
{
    size_t page = 4096, data = HELPERS_BYTES + WORDS_BYTES + (LINKS_BYTES + page - 1) / page * page;
    struct block *pool;
    int rc;

    memset(t, 0, sizeof *t);
    t->mmu = mmu;
    rc = mcode_create(&t->code, CODE_BYTES, data);
    if (rc)
        return rc;
    t->by_key = reserve(HASH_HEADS * sizeof *t->by_key);
    t->by_page = reserve(pages_of(t) * sizeof *t->by_page);
    t->page_granules = reserve(pages_of(t) * sizeof *t->page_granules);
    pool = reserve((size_t)REGIONS * REGION_BLOCKS * sizeof *pool);
    if (!t->by_key || !t->by_page || !t->page_granules || !pool) {
        release(pool, (size_t)REGIONS * REGION_BLOCKS * sizeof *pool);
        blocks_destroy(t);
        return -ENOMEM;
    }
    t->helpers = (void **)(void *)t->code.data;
    t->constants = (void *)(t->helpers + HELPERS);
    for (unsigned i = 0; i < REGIONS; i++) {
        t->regions[i].blocks = pool + (size_t)i * REGION_BLOCKS;
        t->regions[i].links =
            (struct link *)(void *)(t->code.data + HELPERS_BYTES + WORDS_BYTES) + (size_t)i * REGION_LINKS;
        t->regions[i].words = (uint64_t *)(void *)(t->code.data + HELPERS_BYTES) + (size_t)i * REGION_WORDS;
        region_reset(t, i);
    }
    return 0;
}

void blocks_destroy(struct blocks *t)
{
    if (!t->mmu)
        return;
    release(t->by_key, HASH_HEADS * sizeof *t->by_key);
    release(t->by_page, pages_of(t) * sizeof *t->by_page);
    release(t->page_granules, pages_of(t) * sizeof *t->page_granules);
    release(t->regions[0].blocks, (size_t)REGIONS * REGION_BLOCKS * sizeof *t->regions[0].blocks);
    mcode_destroy(&t->code);
    memset(t, 0, sizeof *t);
}

static unsigned hash(const struct block_key *k)
{
    uint64_t v = k->pa << 5 | (uint64_t)k->priv << 3 | (uint64_t)k->fp << 1 | k->single;

    return (unsigned)(v * 0x9e3779b97f4a7c15ull >> 47);
}

static bool same(const struct block_key *a, const struct block_key *b)
{
    return a->pa == b->pa && a->second == b->second && a->priv == b->priv && a->fp == b->fp &&
           a->single == b->single;
}

struct block *blocks_find(const struct blocks *t, const struct block_key *key)
{
    struct block *b = t->by_key[hash(key)];

    while (b && !same(&b->key, key))
        b = b->next_hash;
    return b;
}

static void disconnect(struct blocks *t, struct link *l)
{
    if (!l->to)
        return;
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->to = NULL;
    l->code = l->stub;
    t->counts.unlinks++;
}

void blocks_connect(struct blocks *t, struct link *l, struct block *to)
{
    disconnect(t, l);
    t->counts.links++;
    l->to = to;
    l->code = to->code;
    l->next = to->incoming;
    l->prev = &to->incoming;
    if (l->next)
        l->next->prev = &l->next;
    to->incoming = l;
}

/* Everything but its place in the list of the page. */
static void drop(struct blocks *t, struct block *b)
{
    struct block **p = &t->by_key[hash(&b->key)];

    while (*p != b)
        p = &(*p)->next_hash;
    *p = b->next_hash;
    while (b->incoming)
        disconnect(t, b->incoming);
    for (unsigned i = 0; i < b->nlinks; i++)
        disconnect(t, &b->links[i]);
    b->code = t->stale;
    b->live = false;
    t->live--;
    t->counts.dropped++;
}

/* Drops those blocks of a page that are in the mask of granules, or in the region. */
static void drop_from_page(struct blocks *t, uint64_t page, uint64_t granules, const struct region *r)
{
    struct block **p = &t->by_page[page];
    uint64_t left = 0;

    while (*p) {
        struct block *b = *p;
        bool in_region = r && b >= r->blocks && b < r->blocks + REGION_BLOCKS;
        if (b->granules & granules || in_region) {
            *p = b->next_page;
            drop(t, b);
        } else {
            left |= b->granules;
            p = &b->next_page;
        }
    }
    t->page_granules[page] = left;
    if (!left)
        mmu_release_code(t->mmu, RAM_BASE + (page << PAGE_SHIFT), PAGE_CODE);
    t->drops++;
}

void blocks_invalidate(struct blocks *t, uint64_t pa, uint64_t len)
{
    uint64_t page = ram_page(pa), offset = pa & ~PAGE_MASK;
    unsigned first = (unsigned)(offset >> GRANULE_SHIFT),
             last = (unsigned)((offset + len - 1) >> GRANULE_SHIFT);
    uint64_t mask = (~0ull >> (63 - last)) & (~0ull << first);

    if (!len || !(t->page_granules[page] & mask))
        return;
    t->counts.invalidations++;
    drop_from_page(t, page, mask, NULL);
}

static void empty_region(struct blocks *t, unsigned i)
{
    struct region *r = &t->regions[i];

    for (uint32_t k = 0; k < r->nblocks; k++)
        if (r->blocks[k].live)
            drop_from_page(t, ram_page(r->blocks[k].key.pa), 0, r);
    t->drops++;
    t->reuses++;
    region_reset(t, i);
}

void blocks_flush(struct blocks *t)
{
    for (unsigned i = 0; i < REGIONS; i++)
        empty_region(t, i);
    t->current = 0;
    t->drops++;
}

static bool has_room(const struct blocks *t, unsigned i)
{
    const struct region *r = &t->regions[i];
    const uint8_t *begin = t->code.write + (size_t)i * REGION_BYTES;

    return r->hot + BLOCK_BYTES_MAX <= begin + REGION_BYTES / 2 &&
           r->cold + BLOCK_BYTES_MAX <= begin + REGION_BYTES && r->nblocks < REGION_BLOCKS &&
           r->nlinks + BLOCK_LINKS_MAX <= REGION_LINKS && r->nwords + BLOCK_WORDS_MAX <= REGION_WORDS;
}

struct region *blocks_region(struct blocks *t)
{
    if (!has_room(t, t->current)) {
        t->current = (t->current + 1) % REGIONS;
        if (t->regions[t->current].nblocks) {
            empty_region(t, t->current);
            t->counts.evictions++;
        }
    }
    return &t->regions[t->current];
}

struct link *blocks_link(struct blocks *t, uint16_t offset, bool single)
{
    struct region *r = &t->regions[t->current];
    struct link *l = &r->links[r->nlinks++];

    *l = (struct link){.offset = offset, .single = single};
    return l;
}

uint64_t *blocks_word(struct blocks *t)
{
    struct region *r = &t->regions[t->current];
    uint64_t *word = &r->words[r->nwords++];

    *word = 0;
    return word;
}

struct block *blocks_add(struct blocks *t, const struct block *block)
{
    struct region *r = &t->regions[t->current];
    struct block *b = &r->blocks[r->nblocks++];
    uint64_t page = ram_page(block->key.pa);
    struct block **head = &t->by_key[hash(&block->key)];

    *b = *block;
    b->live = true;
    b->links = r->links + r->nlinks - b->nlinks;
    b->next_hash = *head;
    *head = b;
    b->next_page = t->by_page[page];
    t->by_page[page] = b;
    t->live++;
    if (!t->page_granules[page])
        mmu_hold_code(t->mmu, block->key.pa, PAGE_CODE);
    t->page_granules[page] |= b->granules;
    return b;
}

uint64_t blocks_code_used(const struct blocks *t)
{
    uint64_t used = 0;

    for (unsigned i = 0; i < REGIONS; i++) {
        const uint8_t *begin = t->code.write + (size_t)i * REGION_BYTES;
        used += (uint64_t)(t->regions[i].hot - begin) +
                (uint64_t)(t->regions[i].cold - (begin + REGION_BYTES / 2));
    }
    return used;
}

uint64_t blocks_tables_limit(const struct blocks *t)
{
    return t->code.data_size + HASH_HEADS * sizeof *t->by_key +
           (uint64_t)REGIONS * REGION_BLOCKS * sizeof(struct block) +
           pages_of(t) * (sizeof *t->by_page + sizeof *t->page_granules);
}
