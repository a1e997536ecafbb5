/* Conflicts between accesses: two conflict if their ranges overlap and one of them writes. */
#include "devices/block/order.h"

#include <stddef.h>

static bool conflict(const struct access *a, const struct access *b)
{
    return (a->write || b->write) && a->start < b->end && b->start < a->end;
}

bool order_add(struct order *o, struct access *a)
{
    a->blockers = 0;
    for (struct access *e = o->first; e; e = e->next)
        a->blockers += conflict(e, a);
    a->next = NULL;
    a->prev = o->last;
    *(o->last ? &o->last->next : &o->first) = a;
    o->last = a;
    return a->blockers == 0;
}

void order_done(struct order *o, struct access *a, void (*start)(struct access *a, void *arg), void *arg)
{
    *(a->prev ? &a->prev->next : &o->first) = a->next;
    *(a->next ? &a->next->prev : &o->last) = a->prev;
    for (struct access *e = a->next, *next; e; e = next) {
        next = e->next;
        if (conflict(a, e) && --e->blockers == 0)
            start(e, arg);
    }
}
