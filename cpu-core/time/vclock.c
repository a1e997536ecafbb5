/* Virtual time by integer arithmetic in 128 bits: the same steps give the same times on every host. Must not
 * know harts, devices or any other clock. */
#include "cpu-core/time/vclock.h"

#include "cpu-core/state/state.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

void vclock_init(struct vclock *c, uint64_t rate)
{
    *c = (struct vclock){.rate = rate, .next_due = VCLOCK_NEVER};
}

uint64_t vclock_ns(const struct vclock *c, uint64_t n)
{
    u128 t = c->t0 + ((u128)(n - c->n0) * c->rate >> 32);
    return t < VCLOCK_NEVER ? (uint64_t)t : VCLOCK_NEVER - 1;
}

uint64_t vclock_ticks(const struct vclock *c, uint64_t n)
{
    return vclock_ns(c, n) / (1000000000u / VCLOCK_TIMEBASE_HZ);
}

/* floor(k * rate / 2^32) >= d exactly when k >= ceil(d * 2^32 / rate). */
uint64_t vclock_step_of(const struct vclock *c, uint64_t ns)
{
    if (ns <= c->t0)
        return c->n0;
    if (ns == VCLOCK_NEVER || !c->rate)
        return VCLOCK_NEVER;
    u128 n = c->n0 + (((u128)(ns - c->t0) << 32) + c->rate - 1) / c->rate;
    return n < 1ull << 63 ? (uint64_t)n : VCLOCK_NEVER;
}

uint64_t vclock_ns_of_ticks(uint64_t ticks)
{
    uint64_t ns;
    return __builtin_mul_overflow(ticks, 1000000000u / VCLOCK_TIMEBASE_HZ, &ns) ? VCLOCK_NEVER : ns;
}

static struct vtimer *earliest(const struct vclock *c)
{
    struct vtimer *best = NULL;
    for (unsigned i = 0; i < c->ntimers; i++) {
        struct vtimer *t = c->timers[i];
        if (!best || t->due < best->due || (t->due == best->due && t->order < best->order))
            best = t;
    }
    return best;
}

static void find_next_due(struct vclock *c)
{
    const struct vtimer *t = earliest(c);
    c->next_due = t ? t->due : VCLOCK_NEVER;
}

static void tell_moved(struct vclock *c)
{
    if (c->moved && c->next_due != VCLOCK_NEVER)
        c->moved(c->moved_arg, vclock_next_step(c));
}

int vclock_add(struct vclock *c, struct vtimer *t)
{
    if (c->ntimers == VCLOCK_MAX_TIMERS)
        return -ENOSPC;
    uint64_t due = t->due;
    t->due = VCLOCK_NEVER;
    c->timers[c->ntimers++] = t;
    vclock_arm(c, t, due);
    return 0;
}

void vclock_remove(struct vclock *c, struct vtimer *t)
{
    for (unsigned i = 0; i < c->ntimers; i++) {
        if (c->timers[i] != t)
            continue;
        memmove(&c->timers[i], &c->timers[i + 1], (c->ntimers - i - 1) * sizeof *c->timers);
        c->ntimers--;
        find_next_due(c);
        return;
    }
}

void vclock_arm(struct vclock *c, struct vtimer *t, uint64_t due)
{
    uint64_t before = c->next_due, was = t->due;
    t->due = due;
    if (due < before)
        c->next_due = due;
    else if (was == before && due != was)
        find_next_due(c);
    if (c->next_due < before)
        tell_moved(c);
}

uint64_t vclock_next_step(const struct vclock *c)
{
    return vclock_step_of(c, c->next_due);
}

void vclock_fire(struct vclock *c, uint64_t n)
{
    uint64_t now = vclock_ns(c, n);
    while (c->next_due <= now) {
        struct vtimer *t = earliest(c);
        t->due = VCLOCK_NEVER;
        find_next_due(c);
        t->fire(t->arg);
    }
}

void vclock_set(struct vclock *c, uint64_t n, uint64_t jump_to, uint64_t rate)
{
    uint64_t now = vclock_ns(c, n);
    c->t0 = jump_to > now ? jump_to : now;
    c->n0 = n;
    c->rate = rate;
    tell_moved(c);
}

/* Order: n0, t0, rate, then the due time of every timer in order of registration, but for what comes from
 * outside. */
void vclock_state(struct vclock *c, struct state_io *io)
{
    state_u64(io, &c->n0);
    state_u64(io, &c->t0);
    state_u64(io, &c->rate);
    for (unsigned i = 0; i < c->ntimers; i++)
        if (!c->timers[i]->outside)
            state_u64(io, &c->timers[i]->due);
    if (io->loading)
        find_next_due(c);
}
