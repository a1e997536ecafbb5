/* Reading of a dump of translated blocks (cpu-core/jit/dump.h), which comes from a process that is not
 * trusted. */
#pragma once

#include "cpu-core/jit/dump.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blocks_dump {
    uint8_t *bytes;
    const struct dump_block **blocks; /* the oldest translation first */
    size_t n;
};

/* Reads all of `fd` and checks it. -EBADMSG for what is not a dump, -EFBIG, -ENOMEM, or the error of
 * reading. */
int blocks_read(int fd, struct blocks_dump *d);
void blocks_release(struct blocks_dump *d);

static inline const struct dump_insn *blocks_insns(const struct dump_block *b)
{
    return (const struct dump_insn *)(b + 1);
}
static inline const uint8_t *blocks_code(const struct dump_block *b)
{
    return (const uint8_t *)(blocks_insns(b) + b->insns);
}
static inline const uint8_t *blocks_stubs(const struct dump_block *b)
{
    return blocks_code(b) + b->code_len;
}

/* Virtual address of the i-th instruction. */
static inline uint64_t blocks_pc(const struct dump_block *b, unsigned i)
{
    return (b->va & ~(uint64_t)4095) + blocks_insns(b)[i].offset;
}

/* Whether one of the block's instructions is at `pc`, virtual or physical. */
bool blocks_has(const struct dump_block *b, uint64_t pc);
