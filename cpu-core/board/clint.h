/* Core-local interruptor, register-compatible with sifive,clint0: software interrupts and M-mode timers.
 * mtime is virtual time, the same as the `time` CSR; writes to it have no effect. mtimecmp lives in the hart.
 * Knows no other device. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/board/now.h"

struct state_io;

#define CLINT_SIZE 0x10000ull

struct clint_timer {
    struct vtimer timer;
    struct hart *hart;
};

struct clint {
    const struct now *now;
    struct hart *const *harts;
    unsigned nharts;
    struct clint_timer timer[HART_MAX];
    void (*ipi)(void *arg, struct hart *from, unsigned to); /* a hart raised another hart's msip */
    void *arg;
};

/* Registers one timer a hart with the clock of `now` (borrowed), in the order of the harts. -ENOSPC. */
int clint_init(struct clint *c, const struct now *now, struct hart *const *harts, unsigned nharts);
void clint_destroy(struct clint *c);

/* After the harts' reset: mtimecmp is 0 and so the timer interrupt pends, as on QEMU. */
void clint_reset(struct clint *c);

extern const struct bus_ops clint_bus_ops; /* dev = struct clint */

/* msip and mtimecmp are part of the harts' state; after loading, re-derives what follows from them. */
void clint_loaded(struct clint *c);
