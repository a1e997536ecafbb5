/* Guest RAM: private anonymous memory of the vcpu process, with one attribute byte a page and the incremental
 * hash of its contents. Knows no address translation. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ull
#define PAGE_MASK  (~(PAGE_SIZE - 1))
#define RAM_BASE   0x80000000ull

/* Page attributes. A page may have write entries in a TLB bank only while it is DIRTY and neither HELD nor
 * WALKED. */
enum page_attr {
    PAGE_DIRTY = 1,       /* written since the last hash epoch: its contribution to the hash is stale */
    PAGE_CODE = 2,        /* the translator holds code made from its bytes */
    PAGE_WALKED = 4,      /* a page-table walk used it: bank entries derived from it may exist */
    PAGE_WRITE = 8,       /* write entries may exist, in the slots that the mmu recorded for the page */
    PAGE_WRITE_MANY = 16, /* … and in others: the record was too small */
    PAGE_DECODED = 32,    /* the interpreter holds instructions decoded from its bytes */
    PAGE_HELD = PAGE_CODE | PAGE_DECODED,
};

struct ram {
    uint8_t *
        host; /* size bytes, zero at start, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, huge pages advised */
    uint64_t size;        /* multiple of PAGE_SIZE; guest physical [RAM_BASE, RAM_BASE + size) */
    uint8_t *attr;        /* one a page */
    uint64_t *page_hash;  /* contribution of each page to `hash` as of the last epoch */
    uint64_t hash;        /* sum of the contributions */
    uint32_t *dirty_list; /* pages with PAGE_DIRTY, in no particular order */
    uint64_t ndirty;
};

/* Maps `size` bytes. -EINVAL for 0 or a size that is not a page multiple, -ENOMEM. */
int ram_create(struct ram *r, uint64_t size);
void ram_destroy(struct ram *r);

static inline int ram_contains(const struct ram *r, uint64_t pa, uint64_t len)
{
    return pa >= RAM_BASE && len <= r->size && pa - RAM_BASE <= r->size - len;
}
static inline uint8_t *ram_at(const struct ram *r, uint64_t pa)
{
    return r->host + (pa - RAM_BASE);
}
static inline uint64_t ram_page(uint64_t pa)
{
    return (pa - RAM_BASE) >> PAGE_SHIFT;
}

/* Marks the page dirty; every store path goes through here once per page and epoch. */
static inline void ram_mark_dirty(struct ram *r, uint64_t page)
{
    if (r->attr[page] & PAGE_DIRTY)
        return;
    r->attr[page] |= PAGE_DIRTY;
    r->dirty_list[r->ndirty++] = (uint32_t)page;
}

/* Sum mod 2^64 over the non-zero 4 KiB pages of XXH3(page number as 8 little-endian bytes || contents),
 * brought up to date from the dirty pages; clears PAGE_DIRTY (the caller, the mmu, drops write entries).
 * ram_hash_full() recomputes it from scratch and changes nothing: the test of the former. */
uint64_t ram_hash_update(struct ram *r);
uint64_t ram_hash_full(const struct ram *r);

/* Zeroes all of RAM and marks what was not zero dirty (reboot). The caller flushes banks and engines. */
void ram_clear(struct ram *r);
