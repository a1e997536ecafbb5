/* Being told what the translator does, as it happens. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum jit_event_kind {
    JIT_TRANSLATED, /* a block */
    JIT_CHANGED,    /* bytes [pa, pa + len) that blocks were made of changed: `blocks` dropped */
    JIT_EVICTED,    /* the oldest region made room: likewise */
    JIT_FLUSHED,    /* everything was dropped */
};

struct jit_event {
    enum jit_event_kind kind;
    uint64_t pa, va; /* of the block */
    uint64_t len;
    uint64_t blocks;
    uint64_t code, stubs; /* where they are in this process */
    uint32_t code_len, stubs_len;
    uint16_t insns;
    uint8_t priv; /* enum priv */
    bool single;  /* memory accesses are not grouped */
};

/* Calls `told` for every event from now on, while the hart runs or between slices; NULL for no more. It must
 * not call the engine. `engine` is what jit_engine.create() made. */
void jit_watch(void *engine, void (*told)(void *arg, const struct jit_event *e), void *arg);
