/* Keeps requests that touch the same bytes in submission order and lets all others run side by side. Pure
 * bookkeeping, on one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* One access, linked in submission order; owned by the caller. */
struct access {
    uint64_t start, end; /* [start, end) */
    bool write;
    unsigned blockers; /* earlier unfinished accesses that conflict */
    struct access *prev, *next;
};

struct order {
    struct access *first, *last;
};

/* Adds an access: true if it may start at once. */
bool order_add(struct order *o, struct access *a);

/* Removes a finished access and calls `start` for each one that may start now, in submission order. */
void order_done(struct order *o, struct access *a, void (*start)(struct access *a, void *arg), void *arg);
