/* First-fit allocation of spans of an arena. All bookkeeping is in private memory: a list of free extents,
 * sorted by offset. */
#include "ipc/channel.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct extent {
    uint64_t off, len;
};

struct arena {
    unsigned blocks, max_blocks; /* allocated spans */
    unsigned nfree;
    struct extent free[]; /* max_blocks + 1: n spans leave at most n + 1 gaps */
};

static uint64_t units(uint64_t len)
{
    return (len + CHANNEL_UNIT - 1) / CHANNEL_UNIT * CHANNEL_UNIT;
}

int arena_create(struct arena **a, uint64_t size, unsigned max_blocks)
{
    struct arena *n = malloc(sizeof(*n) + ((size_t)max_blocks + 1) * sizeof(n->free[0]));
    if (!n)
        return -ENOMEM;
    n->blocks = 0;
    n->max_blocks = max_blocks;
    n->nfree = 1;
    n->free[0] = (struct extent){0, size / CHANNEL_UNIT * CHANNEL_UNIT};
    *a = n;
    return 0;
}

void arena_destroy(struct arena *a)
{
    free(a);
}

static void remove_extent(struct arena *a, unsigned i)
{
    memmove(&a->free[i], &a->free[i + 1], (a->nfree - i - 1) * sizeof(a->free[0]));
    a->nfree--;
}

int arena_alloc(struct arena *a, uint64_t len, uint64_t *off)
{
    if (len == 0) {
        *off = 0;
        return 0;
    }
    if (len > UINT64_MAX - CHANNEL_UNIT || a->blocks == a->max_blocks)
        return -ENOSPC;
    len = units(len);
    for (unsigned i = 0; i < a->nfree; i++) {
        struct extent *e = &a->free[i];
        if (e->len < len)
            continue;
        *off = e->off;
        e->off += len;
        e->len -= len;
        if (e->len == 0)
            remove_extent(a, i);
        a->blocks++;
        return 0;
    }
    return -ENOSPC;
}

void arena_free(struct arena *a, uint64_t off, uint64_t len)
{
    if (len == 0)
        return;
    len = units(len);
    unsigned i = 0;
    while (i < a->nfree && a->free[i].off < off)
        i++;
    bool joins_left = i > 0 && a->free[i - 1].off + a->free[i - 1].len == off;
    bool joins_right = i < a->nfree && off + len == a->free[i].off;
    assert(a->blocks > 0 && (i == 0 || a->free[i - 1].off + a->free[i - 1].len <= off) &&
           (i == a->nfree || off + len <= a->free[i].off));
    a->blocks--;

    if (joins_left) {
        a->free[i - 1].len += len;
        if (joins_right) {
            a->free[i - 1].len += a->free[i].len;
            remove_extent(a, i);
        }
    } else if (joins_right) {
        a->free[i].off = off;
        a->free[i].len += len;
    } else {
        memmove(&a->free[i + 1], &a->free[i], (a->nfree - i) * sizeof(a->free[0]));
        a->free[i] = (struct extent){off, len};
        a->nfree++;
    }
}
