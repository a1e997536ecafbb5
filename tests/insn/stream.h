/* Random self-logging guest programs: layout of their memory, and what the files of the generator share. A
 * program is a run-time part that handles traps, folds what it sees into a digest and prints it, and a
 * sequence of random blocks, each executed some times in one privilege mode with its own page-table entries.
 */
#pragma once

#include "cpu-core/isa/isa.h"

#include <stdbool.h>
#include <stdint.h>

/* Physical memory, loaded as one flat file at STREAM_BASE. */
#define STREAM_BASE     0x80000000ull
#define STREAM_SIZE     0x408000u
#define CODE_END        0x100000u /* offsets from here on: run-time part and blocks, */
#define DESCRIPTORS     0x100000u /* block descriptors, */
#define PTE_SETS        0x140000u /* their page-table entries, */
#define DATA_REGION     0x200000u /* the pages that random accesses touch, by page number: */
#define PAGE_SPECIALS   1u        /*   constants worth computing with, never written */
#define PAGE_DATA       4u        /*   16 pages of data with others on both sides */
#define PAGE_FIRST      2u
#define PAGE_LAST       21u
#define PAGE_NOTHING    23u       /*   mapped to where there is nothing */
#define PAGE_PATCH      24u       /*   two pages of code that blocks write and call, two more to map there */
#define CONTEXT_M       0x400000u /* handler state of M-mode, of S-mode, */
#define CONTEXT_S       0x401000u
#define TABLE_ROOT57    0x402000u /* page tables */
#define TABLE_ROOT48    0x403000u
#define TABLE_ROOT39    0x404000u
#define TABLE_L1        0x405000u /* entries 0.. S-mode's addresses, 256.. U-mode's */
#define TABLE_L0_S      0x406000u
#define TABLE_L0_U      0x407000u
#define PTE_POOL        0x400u /* within a last-level table: entries for random edits */
#define PTE_POOL_SIZE   64u
#define PTE_POOL_DATA   48u /* the first ones, for data pages; the others are for one and the other */
#define PTE_POOL_PATCH1 56u /* patch page */
#define PTE_ENTRIES     32u /* of a last-level table that vary */
#define PTE_SELF        64u /* entry that maps the table itself */
#define NOTHING         0x18000000ull

/* Virtual addresses of U-mode are those of S-mode plus this; S-mode's are physical ones. */
#define USER_OFFSET 0x20000000ull

/* Registers with a constant role in blocks. The others hold random values. */
enum stream_reg {
    REG_STACK = 2,     /* middle of the data */
    REG_SCRATCH2 = 26, /* rules that need scratch registers */
    REG_LINK = 27,     /* where to go on after a call of patched code, also when the call faults */
    REG_SPECIALS = 28, /* middle of PAGE_SPECIALS */
    REG_MASK = 29,     /* 0xffff */
    REG_DATA = 30,     /* PAGE_DATA by the block's addresses */
    REG_SCRATCH = 31,
};

enum stream_mode { MODE_U = 0, MODE_S = 1, MODE_M = 3 };

/* As the run-time part reads it. */
struct descriptor {
    uint64_t start, repeats, mstatus, medeleg, satp, menvcfg, senvcfg, frm;
    uint64_t stack, specials, mask, data; /* contents of the registers */
    uint64_t ptes;                        /* address of 2 * PTE_ENTRIES entries */
};

struct stream {
    uint8_t *image;
    uint32_t pos; /* where the next instruction goes */
    uint64_t random;
    bool fences; /* sfence.vma and fence.i follow what needs them */
    bool failed; /* the code does not fit */
    uint64_t emitted[ISA_COUNT];

    /* Of the block being generated. */
    enum stream_mode mode;
    bool tvm, tw; /* mstatus bits that make instructions illegal */
    struct fixup {
        uint32_t at, from; /* position of the instruction; what its offset is relative to */
        int32_t bias;
        unsigned field, units; /* random units until the target */
    } fixups[16];
    unsigned nfixups;
};

/* stream_emit.c: pseudo-random numbers. */
uint64_t stream_random(struct stream *s);
uint32_t stream_below(struct stream *s, uint32_t n);
bool stream_one_in(struct stream *s, uint32_t n);

/* Emits encoded bits, or the instruction `op` with operands in the table's order (those of its base
 * instruction, a tied one each time). Returns its position. */
uint32_t stream_bits(struct stream *s, uint32_t bits);
uint32_t stream_put(struct stream *s, enum isa_op op, ...);

/* Places `offset` into a field of an instruction emitted before. */
void stream_patch(struct stream *s, uint32_t at, unsigned field, int32_t offset);

/* rd = a 32-bit constant, sign-extended; rd = an address in the program's memory, with `tmp` clobbered. */
void stream_li(struct stream *s, unsigned rd, int32_t value);
void stream_address(struct stream *s, unsigned rd, unsigned tmp, uint64_t address);

void stream_store64(struct stream *s, uint32_t offset, uint64_t value);

/* stream_runtime.c: emits the run-time part at the start of the program; fills tables and constants. `blocks`
 * descriptors will follow. */
void stream_runtime(struct stream *s, unsigned blocks);
uint64_t stream_pte(struct stream *s, unsigned page, bool user);

/* stream_blocks.c: emits block `index` and its descriptor. */
void stream_block(struct stream *s, unsigned index);
