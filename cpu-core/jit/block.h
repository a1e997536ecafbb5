/* The table of translated blocks: by key, by physical page, and the links between them. Knows the code memory
 * as regions that are emptied in turn, and nothing of instructions. */
#pragma once

#include "cpu-core/jit/jit.h"
#include "cpu-core/jit/mcode.h"
#include "cpu-core/mmu/mmu.h"

#include <stdbool.h>
#include <stdint.h>

#define REGIONS 8u

/* The most that one block takes: translation begins only where this much is free. */
#define BLOCK_BYTES_MAX 32768u /* of code, and of stubs */
#define BLOCK_LINKS_MAX 128u
#define BLOCK_WORDS_MAX 72u
#define BLOCK_FARS_MAX  16u

#define HASH_BITS  17u
#define HASH_HEADS (1u << HASH_BITS)

#define GRANULE_SHIFT 6 /* code is tracked by 64 bytes */

#define HELPERS   64u
#define CONSTANTS 64u

/* What a block was translated under, beside its physical address. */
enum fp_mode { FP_MODE_OFF, FP_MODE_ON, FP_MODE_SLOW /* the host has no such rounding mode */ };

struct block_key {
    uint64_t pa;
    uint64_t second; /* where the rest of an instruction that crosses the page is, else 0 */
    uint8_t priv, fp;
    bool single; /* memory accesses are not grouped */
};

struct block;

/* Where a jump led to. The block is perhaps dropped, the slot valid while the tag is what its reader
 * computes. */
struct jump_slot {
    uint64_t tag;
    const struct block *block;
};

/* A direct jump from one block to another in the same physical page: translated code jumps to *code. */
struct link {
    const uint8_t *code; /* the target, or the stub that asks for it */
    const uint8_t *stub;
    struct block *to;          /* NULL while it is the stub */
    struct link *next, **prev; /* among the links to `to` */
    uint16_t offset;           /* of the target in the page */
    bool single;               /* key of the target */
};

/* Where an instruction's code begins, counted from the block's. */
struct block_insn {
    uint16_t offset; /* in the page */
    uint16_t at;
};

struct block {
    struct block_key key;
    uint64_t va; /* where it ran when it was translated */
    struct block *next_hash, *next_page;
    const uint8_t *code; /* of a dropped one: where jumps that still know it go */
    uint32_t code_len, cold_len;
    uint64_t granules; /* of the page, that its instructions lie in */
    struct link *incoming;
    struct link *links;           /* its own, `nlinks` of them */
    const uint64_t *executed;     /* how often, if that is counted */
    const struct block_insn *map; /* `insns` of them, in the writable view behind the stubs */
    uint16_t nlinks, insns;
    bool live; /* not dropped */
};

/* Its stubs, in the writable view. */
static inline const uint8_t *block_stubs(const struct block *b)
{
    return (const uint8_t *)b->map - b->cold_len;
}

struct region {
    uint8_t *hot,
        *cold; /* writable view: where the next code goes, and its stubs in the region's second half */
    struct block *blocks;
    struct link *links;
    uint64_t *words;        /* that code keeps something in */
    struct jump_slot *fars; /* of jumps to other pages */
    uint32_t nblocks, nlinks, nwords, nfars;
};

/* What fits into each region. */
struct region_size {
    uint32_t bytes, hot_bytes; /* of code; of it before the stubs */
    uint32_t blocks, links, words, fars;
};

struct blocks {
    struct mcode code;
    struct region_size size;
    void **helpers;           /* functions that code calls, in its reach: HELPERS of them */
    uint64_t (*constants)[2]; /* for vector operations, likewise: CONSTANTS of them */
    size_t fixed_len;         /* code at the start of the first region that stays */
    struct mmu *mmu;
    struct region regions[REGIONS];
    unsigned current;
    struct block **by_key;   /* hash heads */
    struct block **by_page;  /* one a page of RAM */
    uint64_t *page_granules; /* likewise: union of its blocks' */
    const uint8_t *stale;    /* `code` of dropped blocks: goes on where the one in rcx begins in the page */
    uint64_t drops;          /* changes whenever a block is dropped */
    uint64_t reuses;         /* changes whenever dropped blocks cease to exist: what points to one is stale */
    uint64_t live;
    struct {
        uint64_t evictions, invalidations, dropped, links, unlinks;
    } counts;
};

/* For at most `code_bytes` of code, JIT_CODE_MIN to JIT_CODE_MAX. -ENOMEM, or the error of mapping. */
int blocks_create(struct blocks *t, struct mmu *mmu, uint64_t code_bytes);
void blocks_destroy(struct blocks *t);

static inline unsigned block_hash(const struct block_key *k)
{
    uint64_t v = k->pa << 5 | (uint64_t)k->priv << 3 | (uint64_t)k->fp << 1 | k->single;

    return (unsigned)(v * 0x9e3779b97f4a7c15ull >> (64 - HASH_BITS));
}

static inline bool block_is(const struct block *b, const struct block_key *k)
{
    return b->key.pa == k->pa && b->key.second == k->second && b->key.priv == k->priv && b->key.fp == k->fp &&
           b->key.single == k->single;
}

static inline struct block *blocks_find(const struct blocks *t, const struct block_key *key)
{
    struct block *b = t->by_key[block_hash(key)];

    while (b && !block_is(b, key))
        b = b->next_hash;
    return b;
}

/* The region that new code goes to, with room for a block and its links; may drop the blocks of the oldest
 * region. */
struct region *blocks_region(struct blocks *t);

/* A link of the block being made in the current region. */
struct link *blocks_link(struct blocks *t, uint16_t offset, bool single);

/* A word in reach of the code of the block being made, 0 at first. */
uint64_t *blocks_word(struct blocks *t);

/* The slot of a jump to another page from the block being made; and all slots to be empty again. */
struct jump_slot *blocks_far(struct blocks *t);
void blocks_forget_fars(struct blocks *t);

/* Where all of them lie: the first in *fars, and the number of bytes. */
size_t blocks_fars(const struct blocks *t, const struct jump_slot **fars);

/* Enters a block translated into the current region, with the last `nlinks` links as its own. `block` is
 * copied. */
struct block *blocks_add(struct blocks *t, const struct block *block);

void blocks_connect(struct blocks *t, struct link *link, struct block *to);

/* Drops the blocks that bytes [pa, pa + len) of one page are part of. Their code stays as it is until the
 * region is reused. */
void blocks_invalidate(struct blocks *t, uint64_t pa, uint64_t len);
void blocks_flush(struct blocks *t);

/* Bytes of code, of dropped blocks too as long as their region is not reused; and the most that the tables
 * take. */
uint64_t blocks_code_used(const struct blocks *t);
uint64_t blocks_tables_limit(const struct blocks *t);
