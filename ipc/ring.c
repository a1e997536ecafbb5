/* Rings: index arithmetic and entry copies. Holds no state but the cursors of its caller. */
#include "ipc/ring.h"

#include <errno.h>

/* The entries are shared with a peer that may write at any time: word by word, each word accessed exactly
 * once. */
static void copy_in(unsigned char *to, const void *from)
{
    volatile uint64_t *t = (volatile uint64_t *)to;
    const uint64_t *f = from;
    for (unsigned i = 0; i < RING_ENTRY_SIZE / 8; i++)
        t[i] = f[i];
}

static void copy_out(void *to, const unsigned char *from)
{
    uint64_t *t = to;
    const volatile uint64_t *f = (const volatile uint64_t *)from;
    for (unsigned i = 0; i < RING_ENTRY_SIZE / 8; i++)
        t[i] = f[i];
}

int ring_room(const struct ring_producer *p)
{
    uint32_t used = p->head - atomic_load_explicit(&p->consumed->value, memory_order_acquire);
    return used <= p->size ? (int)(p->size - used) : -EPROTO;
}

int ring_push(struct ring_producer *p, const void *entry)
{
    int room = ring_room(p);
    if (room <= 0)
        return room < 0 ? room : -ENOSPC;
    copy_in(p->entries + (size_t)(p->head & (p->size - 1)) * RING_ENTRY_SIZE, entry);
    atomic_store_explicit(&p->produced->value, ++p->head, memory_order_release);
    return 0;
}

int ring_ready(const struct ring_consumer *c)
{
    uint32_t ready = atomic_load_explicit(&c->produced->value, memory_order_acquire) - c->tail;
    return ready <= c->size ? (int)ready : -EPROTO;
}

int ring_peek(const struct ring_consumer *c, void *entry)
{
    int ready = ring_ready(c);
    if (ready <= 0)
        return ready;
    copy_out(entry, c->entries + (size_t)(c->tail & (c->size - 1)) * RING_ENTRY_SIZE);
    return 1;
}

void ring_drop(struct ring_consumer *c)
{
    atomic_store_explicit(&c->consumed->value, ++c->tail, memory_order_release);
}
