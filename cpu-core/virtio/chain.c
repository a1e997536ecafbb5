/* Reads one descriptor chain out of guest memory (virtio 1.2, section 2.7). The driver is hostile: every
 * field is read once, checked, and the walk is bounded whatever the table says. Must not change anything. */
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/virtio/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, DESC_SIZE = 16, WHY_LEN = 96 };

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* The table that the walk is in. */
struct table {
    uint64_t pa;
    uint32_t entries, visited;
    bool indirect;
};

__attribute__((format(printf, 2, 3))) static int bad(char *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, WHY_LEN, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

static int read_descriptor(const struct virtio *v, struct table *t, unsigned i, struct descriptor *d,
                           char *why)
{
    if (i >= t->entries)
        return bad(why, "descriptor %u is out of range of a table of %u", i, t->entries);
    if (t->visited++ >= t->entries)
        return bad(why, "descriptor chain loops");
    if (mmu_dma_read(v->mmu, t->pa + (uint64_t)i * DESC_SIZE, d, sizeof *d) < 0)
        return bad(why, "descriptor table at 0x%llx is outside memory", (unsigned long long)t->pa);
    return 0;
}

static int enter_indirect(const struct virtio *v, struct table *t, const struct descriptor *d, char *why)
{
    if (!accepted(v, VIRTIO_F_INDIRECT_DESC))
        return bad(why, "indirect descriptor without the feature");
    if (t->indirect)
        return bad(why, "indirect table inside an indirect table");
    if (d->flags & DESC_NEXT)
        return bad(why, "indirect descriptor with a successor");
    if (!d->len || d->len % DESC_SIZE)
        return bad(why, "indirect table of %u bytes", d->len);
    *t = (struct table){.pa = d->addr, .entries = d->len / DESC_SIZE, .indirect = true};
    return 0;
}

static int add_segment(const struct virtio *v, struct chain *c, const struct descriptor *d, char *why)
{
    bool write = d->flags & DESC_WRITE;
    uint32_t *total = write ? &c->write_len : &c->read_len;
    if (!write && c->nwrite)
        return bad(why, "readable descriptor after a writable one");
    if (!d->len)
        return 0;
    if (!ram_contains(mmu_ram(v->mmu), d->addr, d->len))
        return bad(why, "buffer of %u bytes at 0x%llx is outside memory", d->len,
                   (unsigned long long)d->addr);
    if (__builtin_add_overflow(*total, d->len, total))
        return bad(why, "chain of more than 4 GiB");
    c->seg[c->nread + c->nwrite] = (struct segment){d->addr, d->len};
    *(write ? &c->nwrite : &c->nread) += 1;
    return 0;
}

int chain_read(const struct virtio *v, const struct virtq *q, uint16_t head, struct chain *c, char *why)
{
    struct table t = {.pa = q->desc, .entries = q->num};
    struct descriptor d;
    unsigned i = head;
    c->head = head;
    c->nread = c->nwrite = 0;
    c->read_len = c->write_len = 0;
    for (unsigned total = 0; total < CHAIN_MAX; total++) {
        int err = read_descriptor(v, &t, i, &d, why);
        if (err)
            return err;
        if (d.flags & DESC_INDIRECT) {
            err = enter_indirect(v, &t, &d, why);
            i = 0;
        } else {
            err = add_segment(v, c, &d, why);
            if (!err && !(d.flags & DESC_NEXT))
                return 0;
            i = d.next;
        }
        if (err)
            return err;
    }
    return bad(why, "descriptor chain is longer than %u", CHAIN_MAX);
}
