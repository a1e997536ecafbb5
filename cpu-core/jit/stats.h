/* What the translator counts, and what its memory is. Counting never changes what is counted: the counters
 * are in slow places only, and translated code has none. */
#pragma once

#include "cpu-core/isa/isa.h"

#include <stdint.h>

/* Counters since the start.
 *
 * Translation: blocks, and of those the ones without groups (single), with floating point (fp), of one
 * instruction that crosses the page (crossing); their instructions; bytes of code and of stubs; host time.
 *
 * Code memory: regions emptied for new code (evictions), whole flushes, changes of bytes that had been
 * translated (invalidations), blocks dropped for any of these; links made and broken.
 *
 * Running: entries of translated code by the engine, of which links and lookups say how the block was found;
 * misses of the jump cache that needed no engine, as the block was there (refound); steps and times of the
 * interpreter (cold: not hot yet; tails: fewer steps left than the block has). Calls of helpers follow, then
 * how they went on: in translated code (chained), or by EXIT_LEFT because of what is named; `faults` are
 * exceptions in a helper or at a fetch.
 *
 * Groups: checks emitted, accesses in groups and outside; checks that failed, and of those the ones whose
 * accesses went one by one. */
/* clang-format off */
#define JIT_COUNTERS(X) \
    X(blocks) X(blocks_single) X(blocks_fp) X(blocks_crossing) \
    X(insns) X(code_bytes) X(stub_bytes) X(translate_ns) \
    X(evictions) X(flushes) X(invalidations) X(changed_crossings) X(dropped) \
    X(links) X(unlinks) \
    X(entries) X(lookups) X(refound) X(other_page) \
    X(cold_runs) X(cold_steps) X(tail_steps) X(fp_steps) \
    X(slow_loads) X(slow_stores) X(group_misses) X(group_splits) X(csrs) X(ecalls) X(xrets) X(cbo_zeros) \
    X(chained) X(left_budget) X(left_interrupt) X(left_yield) X(left_lookup) X(faults) \
    X(groups) X(grouped) X(ungrouped)
/* clang-format on */

/* How translated code returns to the engine. */
enum exit_reason {
    EXIT_LOOKUP, /* go on at h->pc */
    EXIT_LINK,   /* go on at h->pc; `data` is the link to connect */
    EXIT_BUDGET, /* go on at h->pc: fewer steps are left than the block has */
    EXIT_FP,     /* the block at h->pc may make mstatus.FS dirty, which it is not: interpret it */
    EXIT_STEP,   /* the instruction at h->pc crosses the page and is not what it was: interpret it */
    EXIT_LEFT,   /* a helper ended the block after an instruction or trap */
    EXIT_REASONS
};

extern const char *const jit_exit_names[EXIT_REASONS];

/* Steps of single instructions in the interpreter, by class; the last one is not an instruction. */
#define JIT_STEP_CLASSES (ISA_CLASS_COUNT + 1)

struct jit_stats {
#define X(name) uint64_t name;
    JIT_COUNTERS(X)
#undef X
    uint64_t exits[EXIT_REASONS];
    uint64_t steps[JIT_STEP_CLASSES];
};

/* Bytes at this moment. */
struct jit_memory {
    uint64_t live_blocks;
    uint64_t code_used, code_limit; /* of dropped blocks too, until their region is reused */
    uint64_t tables_limit;          /* block table, links, jump caches and the like at most */
};

/* `engine` is what jit_engine.create() made. With a machine that caches nothing all is 0. */
void jit_get_stats(const void *engine, struct jit_stats *s, struct jit_memory *m);
