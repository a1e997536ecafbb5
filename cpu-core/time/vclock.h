/* Virtual time as a pure function of icount, and the deadlines that depend on it. Knows no hart, device or
 * host clock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct state_io;

#define VCLOCK_TIMEBASE_HZ 10000000u /* of `time` and mtime: one tick is 100 ns */
#define VCLOCK_NEVER       UINT64_MAX

/* A deadline in virtual ns. Deadlines with equal due times fire in the order of `order` (unique in a
 * machine). */
struct vtimer {
    uint64_t due;   /* virtual ns, VCLOCK_NEVER when not armed */
    uint32_t order; /* constant tie-breaker */
    bool outside;   /* what it brings comes from outside: no part of the state */
    void (*fire)(void *arg);
    void *arg;
};

#define VCLOCK_MAX_TIMERS 256

/* time(N) = t0 + ((N - n0) * rate >> 32), in ns; rate is ns per step in 32.32 fixed point. */
struct vclock {
    uint64_t n0, t0, rate;
    struct vtimer *timers[VCLOCK_MAX_TIMERS];
    unsigned ntimers;
    uint64_t next_due; /* cached minimum of all due times */
    void (*moved)(
        void *arg,
        uint64_t icount); /* a deadline became due earlier than the previous minimum, at step `icount` */
    void *moved_arg;
};

/* Starts at n = 0, t = 0 with `rate` (1ull << 32 is 1 ns a step). */
void vclock_init(struct vclock *c, uint64_t rate);

/* Virtual ns after `n` completed steps (n >= n0), and the `time` CSR / mtime value. */
uint64_t vclock_ns(const struct vclock *c, uint64_t n);
uint64_t vclock_ticks(const struct vclock *c, uint64_t n);

/* Smallest n >= n0 with time(n) >= ns; VCLOCK_NEVER if there is none below 2^63. */
uint64_t vclock_step_of(const struct vclock *c, uint64_t ns);

/* ns at which `time` first reads >= ticks; saturates to VCLOCK_NEVER. */
uint64_t vclock_ns_of_ticks(uint64_t ticks);

/* Registers a timer; the structure stays owned by the caller and registered for the clock's life. -ENOSPC
 * when full. */
int vclock_add(struct vclock *c, struct vtimer *t);

/* Takes a timer out again; nothing happens if it was never added. */
void vclock_remove(struct vclock *c, struct vtimer *t);

/* Arms `t` for virtual ns `due` (VCLOCK_NEVER disarms). A due time in the past fires before the next step. */
void vclock_arm(struct vclock *c, struct vtimer *t, uint64_t due);

/* Step at which the earliest deadline is due; VCLOCK_NEVER without one. */
uint64_t vclock_next_step(const struct vclock *c);

/* Fires, in (due, order) order, every timer due at or before time(n); each is disarmed before its `fire` runs
 * and may be re-armed by it. */
void vclock_fire(struct vclock *c, uint64_t n);

/* A clock crossing at step n: time continues from t0 = max(old time(n), jump_to) with the new rate. */
void vclock_set(struct vclock *c, uint64_t n, uint64_t jump_to, uint64_t rate);

void vclock_state(struct vclock *c, struct state_io *io);
