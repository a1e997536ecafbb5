/* A bare machine for instruction tests: one hart, RAM, a transmit-only UART at 0x10000000 and a test device
 * at 0x100000, run by one of the engines. Nothing interrupts it. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/engine.h"
#include "cpu-core/hart/hart.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/time/vclock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bare {
    struct ram ram;
    struct bus bus;
    struct vclock clock;
    struct hart hart;
    struct hart *harts[1];
    struct mmu *mmu;
    const struct engine *ops;
    void *engine;
    uint64_t steps;
    bool stopped;                         /* the test device was written */
    unsigned status;                      /* what it was told: 0 is success */
    void (*put)(void *arg, uint8_t byte); /* receives what the UART transmits */
    void *put_arg;
};

/* Makes a machine with `memory` bytes of RAM that the engine `ops` runs. `no_tlb`: nothing is cached.
 * Negative errno on failure. `b` must not move. */
int bare_create(struct bare *b, const struct engine *ops, uint64_t memory, bool no_tlb);
void bare_destroy(struct bare *b);

/* Loads an ELF file at its physical addresses, or anything else at the start of RAM, and resets the hart to
 * the entry point. `tohost` receives the address of that symbol, 0 if there is none. -EINVAL for a malformed
 * file, -EFAULT where it leaves RAM, or the error of opening or reading it. */
int bare_load(struct bare *b, const char *path, uint64_t *tohost);

/* Runs `steps` steps, fewer if the machine stops. A waiting hart goes on at once. */
void bare_run(struct bare *b, uint64_t steps);

/* Hash of the hart's visible state; of RAM too if asked for, without disturbing what the mmu caches. */
uint64_t bare_hash(struct bare *b, bool with_ram);
