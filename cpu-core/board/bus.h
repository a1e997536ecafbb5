/* Physical addresses that are not RAM: a fixed, sorted table of regions. Knows no device. */
#pragma once

#include <stdint.h>

/* Register access of `size` 1, 2, 4 or 8 bytes at `offset` into the region, naturally aligned, never crossing
 * its end. Return 0, or -EFAULT for an access fault. Called with the hart's icount exact. */
struct bus_ops {
    int (*read)(void *dev, uint64_t offset, unsigned size, uint64_t *value);
    int (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_region {
    uint64_t base, size;
    const struct bus_ops *ops;
    void *dev;
    const char *name;
};

#define BUS_MAX_REGIONS 96

struct bus {
    struct bus_region regions[BUS_MAX_REGIONS]; /* sorted by base, disjoint */
    unsigned n;
};

/* Adds a region. -EINVAL if it is empty or wraps, -EEXIST if it overlaps one, -ENOSPC if the table is full.
 */
int bus_add(struct bus *b, const struct bus_region *r);

/* Accesses; -EFAULT where there is no region, on a misaligned access, or when the device says so. */
int bus_read(const struct bus *b, uint64_t pa, unsigned size, uint64_t *value);
int bus_write(const struct bus *b, uint64_t pa, unsigned size, uint64_t value);
