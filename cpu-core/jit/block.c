/* The block table. */
#include "cpu-core/jit/block.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HELPERS_BYTES 4096u
/* Bytes of code for which the tables have one entry. A block takes some 400 with its stubs, and has two
 * links. */
#define BYTES_PER_BLOCK 384u
#define BYTES_PER_LINK  192u
#define BYTES_PER_WORD  1024u
#define BYTES_PER_FAR   256u

_Static_assert(JIT_CODE_MIN / REGIONS / 16 * 7 > 2 * BLOCK_BYTES_MAX, "the smallest region has room");
_Static_assert(JIT_CODE_MIN / REGIONS / BYTES_PER_LINK > 2 * BLOCK_LINKS_MAX, "and so have its tables");
_Static_assert(JIT_CODE_MIN / REGIONS / BYTES_PER_WORD > 2 * BLOCK_WORDS_MAX, "and so have its tables");
_Static_assert(JIT_CODE_MIN / REGIONS / BYTES_PER_FAR > 2 * BLOCK_FARS_MAX, "and so have its tables");
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

    r->hot = t->code.write + (size_t)i * t->size.bytes;
    r->cold = r->hot + t->size.hot_bytes;
    if (i == 0)
        r->hot += t->fixed_len;
    r->nblocks = r->nlinks = r->nwords = r->nfars = 0;
}

static size_t words_bytes(const struct blocks *t)
{
    return REGIONS * t->size.words * sizeof(uint64_t);
}

static size_t fars_bytes(const struct blocks *t)
{
    return REGIONS * t->size.fars * sizeof(struct jump_slot);
}

static size_t pool_bytes(const struct blocks *t)
{
    return REGIONS * t->size.blocks * sizeof(struct block);
}

static void choose_size(struct region_size *s, uint64_t code_bytes)
{
    s->bytes = (uint32_t)(code_bytes / REGIONS & PAGE_MASK);
    s->hot_bytes = s->bytes / 16 * 9; /* stubs are smaller than what they belong to */
    s->blocks = s->bytes / BYTES_PER_BLOCK;
    s->links = s->bytes / BYTES_PER_LINK;
    s->words = s->bytes / BYTES_PER_WORD;
    s->fars = s->bytes / BYTES_PER_FAR;
}

int blocks_create(struct blocks *t, struct mmu *mmu, uint64_t code_bytes)
{
    struct block *pool;
    size_t data;
    int rc;

    memset(t, 0, sizeof *t);
    choose_size(&t->size, code_bytes);
    t->mmu = mmu;
    data = HELPERS_BYTES + words_bytes(t) + fars_bytes(t) + REGIONS * t->size.links * sizeof(struct link);
    data = (data + PAGE_SIZE - 1) & PAGE_MASK;
    rc = mcode_create(&t->code, (size_t)REGIONS * t->size.bytes, data);
    if (rc)
        return rc;
    t->by_key = reserve(HASH_HEADS * sizeof *t->by_key);
    t->by_page = reserve(pages_of(t) * sizeof *t->by_page);
    t->page_granules = reserve(pages_of(t) * sizeof *t->page_granules);
    pool = reserve(pool_bytes(t));
    if (!t->by_key || !t->by_page || !t->page_granules || !pool) {
        release(pool, pool_bytes(t));
        blocks_destroy(t);
        return -ENOMEM;
    }
    t->helpers = (void **)(void *)t->code.data;
    t->constants = (void *)(t->helpers + HELPERS);
    for (unsigned i = 0; i < REGIONS; i++) {
        t->regions[i].blocks = pool + (size_t)i * t->size.blocks;
        t->regions[i].links =
            (struct link *)(void *)(t->code.data + HELPERS_BYTES + words_bytes(t) + fars_bytes(t)) +
            (size_t)i * t->size.links;
        t->regions[i].words = (uint64_t *)(void *)(t->code.data + HELPERS_BYTES) + (size_t)i * t->size.words;
        t->regions[i].fars = (struct jump_slot *)(void *)(t->code.data + HELPERS_BYTES + words_bytes(t)) +
                             (size_t)i * t->size.fars;
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
    release(t->regions[0].blocks, pool_bytes(t));
    mcode_destroy(&t->code);
    memset(t, 0, sizeof *t);
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
    struct block **p = &t->by_key[block_hash(&b->key)];

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
        bool in_region = r && b >= r->blocks && b < r->blocks + t->size.blocks;
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
    const uint8_t *begin = t->code.write + (size_t)i * t->size.bytes;

    return r->hot + BLOCK_BYTES_MAX <= begin + t->size.hot_bytes &&
           r->cold + BLOCK_BYTES_MAX <= begin + t->size.bytes && r->nblocks < t->size.blocks &&
           r->nlinks + BLOCK_LINKS_MAX <= t->size.links && r->nwords + BLOCK_WORDS_MAX <= t->size.words &&
           r->nfars + BLOCK_FARS_MAX <= t->size.fars;
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

struct jump_slot *blocks_far(struct blocks *t)
{
    struct region *r = &t->regions[t->current];
    struct jump_slot *far = &r->fars[r->nfars++];

    *far = (struct jump_slot){0};
    return far;
}

size_t blocks_fars(const struct blocks *t, const struct jump_slot **fars)
{
    *fars = t->regions[0].fars;
    return fars_bytes(t);
}

void blocks_forget_fars(struct blocks *t)
{
    for (unsigned i = 0; i < REGIONS; i++)
        memset(t->regions[i].fars, 0, t->regions[i].nfars * sizeof(struct jump_slot));
}

struct block *blocks_add(struct blocks *t, const struct block *block)
{
    struct region *r = &t->regions[t->current];
    struct block *b = &r->blocks[r->nblocks++];
    uint64_t page = ram_page(block->key.pa);
    struct block **head = &t->by_key[block_hash(&block->key)];

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
        const uint8_t *begin = t->code.write + (size_t)i * t->size.bytes;
        used += (uint64_t)(t->regions[i].hot - begin) +
                (uint64_t)(t->regions[i].cold - (begin + t->size.hot_bytes));
    }
    return used;
}

uint64_t blocks_tables_limit(const struct blocks *t)
{
    return t->code.data_size + pool_bytes(t) + HASH_HEADS * sizeof *t->by_key +
           pages_of(t) * (sizeof *t->by_page + sizeof *t->page_granules);
}
