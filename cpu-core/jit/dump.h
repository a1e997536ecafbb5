/* A dump of the translated blocks, for tools that disassemble it: the vcpu process has no disassembler. The
 * layout is little-endian and fixed; a reader checks every length. */
#pragma once

#include <stdint.h>

#define DUMP_MAGIC "CLVBLKS2"

/* First in the dump; `blocks` records follow, the oldest translation first. */
struct dump_header {
    char magic[8]; /* DUMP_MAGIC, not terminated */
    uint64_t blocks;
};

#define DUMP_SINGLE (1u << 0) /* memory accesses are not grouped */

/* A block, followed by `insns` struct dump_insn, `code_len` bytes of code, `stubs_len` bytes of stubs, and
 * zeros up to `size`. */
struct dump_block {
    uint32_t size;        /* of the record, a multiple of 8 */
    uint16_t insns;       /* in the order of the code */
    uint8_t priv;         /* enum priv */
    uint8_t fp;           /* enum fp_mode */
    uint64_t pa;          /* of the first instruction */
    uint64_t va;          /* likewise, where it ran when it was translated */
    uint64_t code, stubs; /* where they are in the vcpu process */
    uint32_t code_len, stubs_len;
    uint32_t flags, reserved;
    uint64_t executed; /* times since it was translated; 0 if that is not counted */
};

/* An instruction. Its code begins `at` bytes into the block's, and ends where the next one's begins. */
struct dump_insn {
    uint32_t bits;
    uint16_t offset; /* in the page */
    uint16_t at;
};

/* Writes the blocks of `engine`, which jit_engine.create() made, to `fd` from its start. Returns 0 or the
 * error of write(2). */
int jit_dump(const void *engine, int fd);
