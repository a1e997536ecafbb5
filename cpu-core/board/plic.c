/* The PLIC. Where the specification and QEMU differ, it follows QEMU, because guests were tested there: a
 * claim obeys the threshold, and completion is accepted for a source that the context has not enabled. Must
 * not know what a source is. */
#include "cpu-core/board/plic.h"

#include "cpu-core/state/state.h"

#include <errno.h>
#include <string.h>

enum {
    PRIORITY_BASE = 0,
    PENDING_BASE = 0x1000,
    ENABLE_BASE = 0x2000,
    ENABLE_STRIDE = 0x80,
    CONTEXT_BASE = 0x200000,
    CONTEXT_STRIDE = 0x1000,
    MAX_PRIORITY = 7,
};

/* What a register offset names. */
enum reg { REG_NONE, REG_PRIORITY, REG_PENDING, REG_ENABLE, REG_THRESHOLD, REG_CLAIM };
struct place {
    enum reg reg;
    unsigned context, index;
};

static struct place locate(const struct plic *p, uint64_t offset)
{
    if (offset < PRIORITY_BASE + 4 * PLIC_SOURCES)
        return (struct place){REG_PRIORITY, 0, (unsigned)offset / 4};
    if (offset >= PENDING_BASE && offset < PENDING_BASE + 4 * PLIC_WORDS)
        return (struct place){REG_PENDING, 0, (unsigned)(offset - PENDING_BASE) / 4};
    if (offset >= ENABLE_BASE && offset < ENABLE_BASE + (uint64_t)p->contexts * ENABLE_STRIDE) {
        unsigned word = (unsigned)offset % ENABLE_STRIDE / 4;
        if (word < PLIC_WORDS)
            return (struct place){REG_ENABLE, (unsigned)(offset - ENABLE_BASE) / ENABLE_STRIDE, word};
    }
    if (offset >= CONTEXT_BASE && offset < CONTEXT_BASE + (uint64_t)p->contexts * CONTEXT_STRIDE) {
        unsigned context = (unsigned)(offset - CONTEXT_BASE) / CONTEXT_STRIDE;
        if (offset % CONTEXT_STRIDE == 0)
            return (struct place){REG_THRESHOLD, context, 0};
        if (offset % CONTEXT_STRIDE == 4)
            return (struct place){REG_CLAIM, context, 0};
    }
    return (struct place){REG_NONE, 0, 0};
}

/* The source that a claim by `context` would return: highest priority above the threshold, lowest number
 * among equals; 0 for none. */
static unsigned best_source(const struct plic *p, unsigned context)
{
    unsigned best = 0;
    uint32_t best_priority = p->threshold[context];
    for (unsigned word = 0; word < PLIC_WORDS; word++) {
        uint32_t ready = p->pending[word] & ~p->claimed[word] & p->enable[context][word];
        for (; ready; ready &= ready - 1) {
            unsigned source = word * 32 + (unsigned)__builtin_ctz(ready);
            if (p->priority[source] > best_priority) {
                best = source;
                best_priority = p->priority[source];
            }
        }
    }
    return best;
}

static void update(struct plic *p)
{
    for (unsigned context = 0; context < p->contexts; context++) {
        bool level = best_source(p, context) != 0;
        if (level == p->out[context])
            continue;
        p->out[context] = level;
        p->target.set(p->target.arg, context, level);
    }
}

/* The gateways: an asserted line becomes one request, and the next only after completion. */
static void forward(struct plic *p)
{
    for (unsigned word = 0; word < PLIC_WORDS; word++)
        p->pending[word] |= p->level[word] & ~p->claimed[word];
    update(p);
}

static uint32_t claim(struct plic *p, unsigned context)
{
    unsigned source = best_source(p, context);
    if (source) {
        p->pending[source / 32] &= ~(1u << source % 32);
        p->claimed[source / 32] |= 1u << source % 32;
        update(p);
    }
    return source;
}

static void complete(struct plic *p, uint64_t source)
{
    if (source >= PLIC_SOURCES)
        return;
    p->claimed[source / 32] &= ~(1u << source % 32);
    forward(p);
}

static int plic_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    struct plic *p = dev;
    if (size != 4)
        return -EFAULT;
    struct place at = locate(p, offset);
    switch (at.reg) {
    case REG_PRIORITY:
        *value = p->priority[at.index];
        break;
    case REG_PENDING:
        *value = p->pending[at.index];
        break;
    case REG_ENABLE:
        *value = p->enable[at.context][at.index];
        break;
    case REG_THRESHOLD:
        *value = p->threshold[at.context];
        break;
    case REG_CLAIM:
        *value = claim(p, at.context);
        break;
    case REG_NONE:
        *value = 0;
        break;
    }
    return 0;
}

static int plic_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct plic *p = dev;
    if (size != 4)
        return -EFAULT;
    struct place at = locate(p, offset);
    switch (at.reg) {
    case REG_PRIORITY:
        if (at.index)
            p->priority[at.index] = (uint32_t)value & MAX_PRIORITY;
        update(p);
        break;
    case REG_ENABLE:
        p->enable[at.context][at.index] = (uint32_t)value & ~(at.index ? 0u : 1u);
        update(p);
        break;
    case REG_THRESHOLD:
        p->threshold[at.context] = (uint32_t)value & MAX_PRIORITY;
        update(p);
        break;
    case REG_CLAIM:
        complete(p, value);
        break;
    case REG_PENDING:
    case REG_NONE:
        break;
    }
    return 0;
}

const struct bus_ops plic_bus_ops = {plic_read, plic_write};

void plic_init(struct plic *p, unsigned contexts, const struct irq_line *target)
{
    *p = (struct plic){.contexts = contexts, .target = *target};
}

void plic_reset(struct plic *p)
{
    memset(p->priority, 0, sizeof p->priority);
    memset(p->pending, 0, sizeof p->pending);
    memset(p->claimed, 0, sizeof p->claimed);
    memset(p->enable, 0, sizeof p->enable);
    memset(p->threshold, 0, sizeof p->threshold);
    forward(p);
}

void plic_input(struct plic *p, unsigned source, bool level)
{
    uint32_t bit = 1u << source % 32, *word = &p->level[source / 32];
    if (!!(*word & bit) == level)
        return;
    *word ^= bit;
    if (level)
        forward(p);
}

/* Order: priorities, input lines, pending, claimed, then enables and threshold of each context. */
void plic_state(struct plic *p, struct state_io *io)
{
    for (unsigned i = 0; i < PLIC_SOURCES; i++)
        state_u32(io, &p->priority[i]);
    for (unsigned i = 0; i < PLIC_WORDS; i++)
        state_u32(io, &p->level[i]);
    for (unsigned i = 0; i < PLIC_WORDS; i++)
        state_u32(io, &p->pending[i]);
    for (unsigned i = 0; i < PLIC_WORDS; i++)
        state_u32(io, &p->claimed[i]);
    for (unsigned context = 0; context < p->contexts; context++) {
        for (unsigned i = 0; i < PLIC_WORDS; i++)
            state_u32(io, &p->enable[context][i]);
        state_u32(io, &p->threshold[context]);
    }
    if (io->loading)
        update(p);
}
