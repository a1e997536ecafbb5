/* Sstc: STIP of a hart follows time >= stimecmp ("Sstc" extension, section "Supervisor Timer Register"). Must
 * not know any other timer. */
#include "cpu-core/main/internal.h"

static struct stimer *timer_of(struct machine *m, const struct hart *h)
{
    return &m->stimers[h->id];
}

static void expire(void *arg)
{
    const struct stimer *t = arg;
    hart_irq_line(t->hart, IRQ_STIP, true);
}

/* Without menvcfg.STCE, STIP is software's. */
static void changed(void *arg, struct hart *h)
{
    struct machine *m = arg;
    struct vtimer *timer = &timer_of(m, h)->timer;
    uint64_t icount = m->in_slice ? hart_icount(m->in_slice) : m->icount;
    vclock_arm(&m->clock, timer, VCLOCK_NEVER);
    if (!(h->menvcfg & MENVCFG_STCE))
        return;
    bool due = vclock_ticks(&m->clock, icount) >= h->stimecmp;
    hart_irq_line(h, IRQ_STIP, due);
    if (!due)
        vclock_arm(&m->clock, timer, vclock_ns_of_ticks(h->stimecmp));
}

static const struct hart_hooks hooks = {changed};

int stimer_create(struct machine *m)
{
    for (unsigned i = 0; i < m->nharts; i++) {
        struct stimer *t = &m->stimers[i];
        *t = (struct stimer){.timer = {.due = VCLOCK_NEVER, .order = 0x400 + i, .fire = expire, .arg = t},
                             .hart = m->harts[i]};
        m->harts[i]->hooks = &hooks;
        m->harts[i]->hooks_arg = m;
        int err = vclock_add(&m->clock, &t->timer);
        if (err < 0)
            return err;
    }
    return 0;
}

void stimer_reset(struct machine *m)
{
    for (unsigned i = 0; i < m->nharts; i++)
        changed(m, m->harts[i]);
}
