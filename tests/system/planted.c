/* An engine with an error: the interpreter in the translator's place, whose `xori` with the operand 1 goes
 * wrong from the hundredth time on. For the test build of the vcpu that links it
 * (--wrap=jit_engine,jit_stop_exactly). */
#include "cpu-core/engine.h"
#include "cpu-core/hart/hart.h"
#include "cpu-core/mmu/mmu.h"

#include <string.h>

#define MASK  0xfff0707fu
#define MATCH 0x00104013u /* xori rd, rs1, 1 */
#define RIGHT 100u

extern const struct engine __wrap_jit_engine;
void __wrap_jit_stop_exactly(void *engine, uint64_t n);

static unsigned times;

static int create(void **engine, struct mmu *mmu, int no_cache)
{
    return interp_engine.create(engine, mmu, no_cache);
}

static void destroy(void *engine)
{
    interp_engine.destroy(engine);
}

/* One step a slice: it can be seen which instruction it is. */
static enum engine_exit run(void *engine, struct hart *h)
{
    struct mmu_target t;
    uint32_t insn = 0;
    if (!h->irq_ready && !(h->pc & 3) && mmu_fetch(h, h->pc, &t) == 0)
        memcpy(&insn, t.host, sizeof insn);
    hart_shorten(h, hart_icount(h) + 1);
    enum engine_exit why = interp_engine.run(engine, h);
    if ((insn & MASK) == MATCH && ++times > RIGHT)
        h->x[insn >> 7 & 31] |= 0x100;
    return why;
}

static void invalidate(void *engine, uint64_t pa, uint64_t len)
{
    interp_engine.invalidate(engine, pa, len);
}

static void flush(void *engine)
{
    interp_engine.flush(engine);
}

/* The interpreter has no other way to stop. */
void __wrap_jit_stop_exactly(void *engine, uint64_t n) {}

const struct engine __wrap_jit_engine = {.name = "jit",
                                         .create = create,
                                         .destroy = destroy,
                                         .run = run,
                                         .invalidate = invalidate,
                                         .flush = flush};
