/* Guest RAM, its dirty pages and its incremental hash. */
#include "cpu-core/mmu/ram.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <string.h>
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

int ram_create(struct ram *r, uint64_t size)
{
    uint64_t pages = size >> PAGE_SHIFT;
    if (!size || size & ~PAGE_MASK || pages > UINT32_MAX)
        return -EINVAL;
    struct ram new = {.size = size,
                      .host = reserve(size),
                      .attr = reserve(pages),
                      .page_hash = reserve(pages * sizeof *new.page_hash),
                      .dirty_list = reserve(pages * sizeof *new.dirty_list)};
    if (!new.host || !new.attr || !new.page_hash || !new.dirty_list) {
        ram_destroy(&new);
        return -ENOMEM;
    }
    madvise(new.host, size, MADV_HUGEPAGE); /* only faster: the kernel may not have it */
    *r = new;
    return 0;
}

void ram_destroy(struct ram *r)
{
    uint64_t pages = r->size >> PAGE_SHIFT;
    release(r->host, r->size);
    release(r->attr, pages);
    release(r->page_hash, pages * sizeof *r->page_hash);
    release(r->dirty_list, pages * sizeof *r->dirty_list);
    memset(r, 0, sizeof *r);
}

static int page_is_zero(const uint8_t *host)
{
    uint64_t first;
    memcpy(&first, host, sizeof first);
    return !first && !memcmp(host, host + sizeof first, PAGE_SIZE - sizeof first);
}

static uint64_t hash_page(const struct ram *r, uint64_t page)
{
    const uint8_t *host = r->host + (page << PAGE_SHIFT);
    if (page_is_zero(host))
        return 0;
    XXH3_state_t xxh;
    XXH3_INITSTATE(&xxh);
    XXH3_64bits_reset(&xxh);
    XXH3_64bits_update(&xxh, &page, sizeof page);
    XXH3_64bits_update(&xxh, host, PAGE_SIZE);
    return XXH3_64bits_digest(&xxh);
}

uint64_t ram_hash_update(struct ram *r)
{
    for (uint64_t i = 0; i < r->ndirty; i++) {
        uint64_t page = r->dirty_list[i], new = hash_page(r, page);
        r->hash += new - r->page_hash[page];
        r->page_hash[page] = new;
        r->attr[page] &= (uint8_t)~PAGE_DIRTY;
    }
    r->ndirty = 0;
    return r->hash;
}

uint64_t ram_hash_full(const struct ram *r)
{
    uint64_t sum = 0;
    for (uint64_t page = 0; page < r->size >> PAGE_SHIFT; page++)
        sum += hash_page(r, page);
    return sum;
}

void ram_clear(struct ram *r)
{
    for (uint64_t page = 0; page < r->size >> PAGE_SHIFT; page++)
        if (r->page_hash[page])
            ram_mark_dirty(r, page);
    if (madvise(r->host, r->size, MADV_DONTNEED))
        memset(r->host, 0, r->size);
}
