/* A machine without an engine for unit tests of the board: RAM, clock, harts, and a bus to poke. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/hart/hart.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/time/vclock.h"

struct rig {
    struct ram ram;
    struct bus bus;
    struct vclock clock;
    struct hart hart[HART_MAX];
    struct hart *harts[HART_MAX];
    unsigned nharts;
    struct mmu *mmu;
};

/* 1 ns a step. Fails the test when something cannot be had. */
void rig_create(struct rig *r, uint64_t memory, unsigned nharts);
void rig_destroy(struct rig *r);

/* Completes `ns` steps, stopping at every deadline in between. */
void rig_advance(struct rig *r, uint64_t ns);

uint64_t rig_now(const struct rig *r);

/* Bus accesses that must succeed. */
uint64_t rig_read(const struct rig *r, uint64_t pa, unsigned size);
void rig_write(const struct rig *r, uint64_t pa, unsigned size, uint64_t value);

/* RAM contents. */
uint64_t rig_peek(const struct rig *r, uint64_t pa, unsigned size);
void rig_poke(const struct rig *r, uint64_t pa, unsigned size, uint64_t value);
