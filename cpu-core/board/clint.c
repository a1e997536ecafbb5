/* The CLINT. Must not know the machine loop: raising another hart's interrupt is reported, not acted upon. */
#include "cpu-core/board/clint.h"

#include <errno.h>

enum { MSIP_BASE = 0, MTIMECMP_BASE = 0x4000, MTIME = 0xbff8 };

/* Replaces the accessed half of a 64-bit register. */
static uint64_t merge(uint64_t old, uint64_t offset, unsigned size, uint64_t value)
{
    if (size == 8)
        return value;
    unsigned shift = offset & 4 ? 32 : 0;
    return (old & ~(0xffffffffull << shift)) | (value & 0xffffffff) << shift;
}

static uint64_t extract(uint64_t reg, uint64_t offset, unsigned size)
{
    return size == 8 ? reg : reg >> (offset & 4 ? 32 : 0) & 0xffffffff;
}

/* Drives MTIP from mtime >= mtimecmp and arms the deadline at which that becomes true. */
static void compare(struct clint *c, unsigned i)
{
    struct hart *h = c->harts[i];
    uint64_t due = vclock_ns_of_ticks(h->mtimecmp);
    bool level = now_ns(c->now) >= due;
    hart_irq_line(h, IRQ_MTIP, level);
    vclock_arm(c->now->clock, &c->timer[i].timer, level ? VCLOCK_NEVER : due);
}

static void due(void *arg)
{
    struct clint_timer *t = arg;
    hart_irq_line(t->hart, IRQ_MTIP, true);
}

/* msip registers are 32 bits wide, the timers' may be accessed whole. */
static bool size_valid(uint64_t offset, unsigned size)
{
    return size == 4 || (size == 8 && offset >= MTIMECMP_BASE);
}

static int clint_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    const struct clint *c = dev;
    if (!size_valid(offset, size))
        return -EFAULT;
    if (offset < MSIP_BASE + 4ull * c->nharts)
        *value = c->harts[offset / 4]->mip & IRQ_MSIP ? 1 : 0;
    else if (offset >= MTIMECMP_BASE && offset < MTIMECMP_BASE + 8ull * c->nharts)
        *value = extract(c->harts[(offset - MTIMECMP_BASE) / 8]->mtimecmp, offset, size);
    else if (offset >= MTIME && offset < MTIME + 8)
        *value = extract(vclock_ticks(c->now->clock, hart_icount(c->now->hart)), offset, size);
    else
        *value = 0;
    return 0;
}

static void write_msip(struct clint *c, unsigned to, bool level)
{
    bool raised = level && !(c->harts[to]->mip & IRQ_MSIP);
    hart_irq_line(c->harts[to], IRQ_MSIP, level);
    if (raised && c->harts[to] != c->now->hart && c->ipi)
        c->ipi(c->arg, c->now->hart, to);
}

static int clint_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct clint *c = dev;
    if (!size_valid(offset, size))
        return -EFAULT;
    if (offset < MSIP_BASE + 4ull * c->nharts) {
        write_msip(c, (unsigned)offset / 4, value & 1);
    } else if (offset >= MTIMECMP_BASE && offset < MTIMECMP_BASE + 8ull * c->nharts) {
        unsigned i = (unsigned)(offset - MTIMECMP_BASE) / 8;
        c->harts[i]->mtimecmp = merge(c->harts[i]->mtimecmp, offset, size, value);
        compare(c, i);
    }
    return 0;
}

const struct bus_ops clint_bus_ops = {clint_read, clint_write};

int clint_init(struct clint *c, const struct now *now, struct hart *const *harts, unsigned nharts)
{
    *c = (struct clint){.now = now, .harts = harts, .nharts = nharts};
    for (unsigned i = 0; i < nharts; i++) {
        c->timer[i] = (struct clint_timer){
            .timer = {.due = VCLOCK_NEVER, .order = i, .fire = due, .arg = &c->timer[i]},
            .hart = harts[i],
        };
        int err = vclock_add(now->clock, &c->timer[i].timer);
        if (err) {
            clint_destroy(c);
            return err;
        }
    }
    return 0;
}

void clint_destroy(struct clint *c)
{
    for (unsigned i = 0; i < c->nharts; i++)
        vclock_remove(c->now->clock, &c->timer[i].timer);
}

void clint_reset(struct clint *c)
{
    for (unsigned i = 0; i < c->nharts; i++) {
        c->harts[i]->mtimecmp = 0;
        compare(c, i);
    }
}

void clint_loaded(struct clint *c)
{
    for (unsigned i = 0; i < c->nharts; i++)
        compare(c, i);
}
