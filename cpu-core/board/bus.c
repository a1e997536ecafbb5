/* The table of physical regions outside RAM. Must not know any device. */
#include "cpu-core/board/bus.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Index of the first region that ends after `pa`. */
static unsigned first_after(const struct bus *b, uint64_t pa)
{
    unsigned low = 0, high = b->n;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        const struct bus_region *r = &b->regions[mid];
        if (r->base + r->size - 1 < pa)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int bus_add(struct bus *b, const struct bus_region *r)
{
    if (!r->size || r->base + r->size - 1 < r->base)
        return -EINVAL;
    unsigned i = first_after(b, r->base);
    if (i < b->n && b->regions[i].base <= r->base + r->size - 1)
        return -EEXIST;
    if (b->n == BUS_MAX_REGIONS)
        return -ENOSPC;
    memmove(&b->regions[i + 1], &b->regions[i], (b->n - i) * sizeof *r);
    b->regions[i] = *r;
    b->n++;
    return 0;
}

/* The region that holds all of the access, or NULL. */
static const struct bus_region *find(const struct bus *b, uint64_t pa, unsigned size)
{
    if (pa & (size - 1))
        return NULL;
    unsigned i = first_after(b, pa);
    if (i == b->n || b->regions[i].base > pa)
        return NULL;
    const struct bus_region *r = &b->regions[i];
    return r->size - (pa - r->base) >= size ? r : NULL;
}

int bus_read(const struct bus *b, uint64_t pa, unsigned size, uint64_t *value)
{
    const struct bus_region *r = find(b, pa, size);
    uint64_t v = 0;
    int err = r ? r->ops->read(r->dev, pa - r->base, size, &v) : -EFAULT;
    if (!err)
        *value = v;
    return err;
}

int bus_write(const struct bus *b, uint64_t pa, unsigned size, uint64_t value)
{
    const struct bus_region *r = find(b, pa, size);
    return r ? r->ops->write(r->dev, pa - r->base, size, value) : -EFAULT;
}
