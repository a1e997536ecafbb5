/* The translator as others see it, beside the engine table of engine.h. */
#pragma once

#include "cpu-core/engine.h"

/* Code is translated when it has been entered `entries` times before (at most 255). Changes nothing that a
 * guest can see. `engine` is what jit_engine.create() made. */
void jit_set_heat(void *engine, unsigned entries);

/* Blocks translated from now on count how often they are executed, which the dump of dump.h tells. Slower;
 * changes nothing that a guest can see. */
void jit_count_blocks(void *engine);

/* A slice that ends at icount `n` inside a block ends in translated code: the block is translated again, with
 * its end left out. (Elsewhere the interpreter does the last instructions of a slice.) What translated code
 * does to the state then is seen after each instruction. Changes nothing that a guest can see. */
void jit_stop_exactly(void *engine, uint64_t n);

/* The code memory: bounds and default in bytes. The tables beside it grow with it: a MiB of code has 0.6 MiB
 * of block table and links. Independent of it are the jump caches (at most 4 MiB a hart) and, by the RAM of
 * the guest, 16 bytes a page. With the default, 2 GiB of RAM and 8 harts it is less than 128 MiB in all. */
#define JIT_CODE_MIN     (2ull << 20)
#define JIT_CODE_MAX     (1ull << 30)
#define JIT_CODE_DEFAULT (48ull << 20)

/* Before anything has run. Changes nothing that a guest can see. -ENOMEM, or the error of mapping: the engine
 * can only be destroyed then. */
int jit_set_code_cache(void *engine, uint64_t bytes);
