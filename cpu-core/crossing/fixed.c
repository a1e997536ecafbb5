/* Fixed completion timing and scripted messages: deliveries at virtual times that depend on guest state
 * alone. A late device is waited for. Must not let the host's time or the order of arrivals reach the guest.
 */
#include "cpu-core/crossing/internal.h"

#include <errno.h>
#include <stddef.h>

/* A due delivery; the order of equal due times is (device, queue, sequence). */
struct due {
    struct link *link;
    unsigned queue;
    uint32_t index;
    uint64_t ns;
};

static bool earliest(struct crossings *cs, struct due *ret)
{
    bool found = false;
    for (unsigned i = 0; i < cs->nlinks; i++) {
        struct link *l = cs->links[i];
        for (unsigned q = 0; q < l->nqueues; q++) {
            const struct link_queue *lq = &l->queue[q];
            if (!lq->in_flight)
                continue;
            uint32_t base = half_of(l) * lq->geometry.slots;
            for (uint32_t k = base; k < base + lq->geometry.slots; k++) {
                const struct slot *s = &lq->table[k];
                if (s->state != SLOT_IN_FLIGHT)
                    continue;
                bool before = !found || s->due < ret->ns ||
                              (s->due == ret->ns && ret->link == l && ret->queue == q &&
                               s->seq < lq->table[ret->index].seq);
                if (before) {
                    *ret = (struct due){l, q, k, s->due};
                    found = true;
                }
            }
        }
    }
    return found;
}

void due_arm(struct crossings *cs)
{
    struct due d;
    vclock_arm(cs->clock, &cs->due_timer, earliest(cs, &d) ? d.ns : VCLOCK_NEVER);
}

/* Waits, in host time only, until the device has answered; false if the machine is to stop. */
static bool wait_for_answer(struct crossings *cs, const struct due *d)
{
    const struct slot *s = &d->link->queue[d->queue].table[d->index];
    if (cs->replay)
        return replay_answer(d->link, d->queue, d->index);
    for (;;) {
        poll_arrivals(d->link);
        if (s->arrived)
            return true;
        crossings_waiting(cs, true);
        poll_arrivals(d->link);
        int err = s->arrived ? 0 : cs->host.wait(cs->host.arg);
        crossings_waiting(cs, false);
        if (err < 0)
            return false;
    }
}

void due_fire(void *arg)
{
    struct crossings *cs = arg;
    uint64_t icount, pc;
    cs->host.position(cs->host.arg, &icount, &pc);
    uint64_t now = vclock_ns(cs->clock, icount);
    struct due d;
    while (earliest(cs, &d) && d.ns <= now) {
        cs->host.mark(cs->host.arg);
        if (!wait_for_answer(cs, &d))
            return;
        struct link_queue *q = &d.link->queue[d.queue];
        for (uint32_t k = 0; k < q->narrivals; k++)
            if (q->arrivals[k] == d.index) {
                q->arrivals[k] = q->arrivals[--q->narrivals];
                break;
            }
        deliver(d.link, d.queue, d.index);
        link_kick(d.link);
    }
    due_arm(cs);
}

void schedule_fire(void *arg)
{
    struct link *l = arg;
    uint64_t icount, pc;
    l->cs->host.position(l->cs->host.arg, &icount, &pc);
    uint64_t now = vclock_ns(l->cs->clock, icount);
    while (l->next_scheduled < l->nscheduled && l->scheduled[l->next_scheduled].ns <= now) {
        const struct link_scheduled *s = &l->scheduled[l->next_scheduled++];
        enqueue_message(l, s->queue, 0, s->data, s->len);
    }
    if (l->next_scheduled < l->nscheduled)
        vclock_arm(l->cs->clock, &l->schedule_timer, l->scheduled[l->next_scheduled].ns);
}
