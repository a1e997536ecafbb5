/* Platform-level interrupt controller, register-compatible with sifive,plic-1.0.0 as QEMU models it (RISC-V
 * PLIC specification 1.0.0): 95 level-triggered sources, priorities 0..7, context 2i for M-mode and 2i + 1
 * for S-mode of hart i. Knows no device and no hart. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/board/irq.h"

struct state_io;

#define PLIC_SOURCES  96 /* source 0 does not exist */
#define PLIC_WORDS    (PLIC_SOURCES / 32)
#define PLIC_CONTEXTS 16
#define PLIC_SIZE     0x600000ull

struct plic {
    uint32_t priority[PLIC_SOURCES];
    uint32_t level[PLIC_WORDS];   /* input lines */
    uint32_t pending[PLIC_WORDS]; /* requests that a gateway forwarded and nobody claimed yet */
    uint32_t claimed[PLIC_WORDS]; /* claimed and not completed: the gateway forwards nothing */
    uint32_t enable[PLIC_CONTEXTS][PLIC_WORDS];
    uint32_t threshold[PLIC_CONTEXTS];
    bool out[PLIC_CONTEXTS]; /* derived: external interrupt line of the context */
    unsigned contexts;
    struct irq_line target; /* `line` is replaced by the context */
};

/* `contexts` is 2 for each hart; changes of a context's line go to target->set(arg, context, level). */
void plic_init(struct plic *p, unsigned contexts, const struct irq_line *target);

/* Power-on state of the registers; the input lines stay as their devices drive them. */
void plic_reset(struct plic *p);

/* Drives input `source` (1..95). */
void plic_input(struct plic *p, unsigned source, bool level);

extern const struct bus_ops plic_bus_ops; /* dev = struct plic */

void plic_state(struct plic *p, struct state_io *io);
