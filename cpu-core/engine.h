/* What an execution engine is: the interpreter and the translator implement the same table with identical,
 * step-exact results. Knows no board and no device. */
#pragma once

#include <stdint.h>

struct hart;
struct mmu;

enum engine_exit {
    ENGINE_BUDGET, /* h->left reached 0 */
    ENGINE_YIELD,  /* the hart gave up its quantum (h->yield) or waits (h->wait); the instruction was counted
                    */
    ENGINE_FAULT,  /* the emulator itself failed (out of memory): the VM stops with exit status 125 */
};

struct engine {
    const char *name;

    /* Creates the engine's private data for a machine; `no_cache` makes every fetch read memory and every
     * access walk. Returns 0 or -ENOMEM. */
    int (*create)(void **engine, struct mmu *mmu, int no_cache);
    void (*destroy)(void *engine);

    /* Runs `h` until h->left is 0 or the quantum ends. First takes a pending interrupt if h->irq_ready. One
     * step executes one instruction, which retires or traps, and decrements h->left. h->left and h->pc are
     * exact whenever code outside the engine is called (mmu slow paths, CSR access, MMIO) and on return.
     * After each instruction that can change interrupts (CSR write, xRET, MMIO) h->irq_ready is honoured
     * before the next. */
    enum engine_exit (*run)(void *engine, struct hart *h);

    /* Bytes [pa, pa + len), inside one page, that may hold decoded code were written. */
    void (*invalidate)(void *engine, uint64_t pa, uint64_t len);

    /* Everything decoded is forgotten (reboot; memory bound reached). */
    void (*flush)(void *engine);
};

extern const struct engine interp_engine;
extern const struct engine jit_engine; /* x86-64-v3 hosts */
