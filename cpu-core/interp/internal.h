/* What the files of the interpreter share: pre-decoded slots, the cache of code pages, and the functions that
 * execute the instruction classes outside the run loop. */
#pragma once

#include "cpu-core/engine.h"
#include "cpu-core/hart/hart.h"
#include "cpu-core/isa/isa.h"
#include "cpu-core/mmu/mmu.h"

#include <stdbool.h>
#include <stdint.h>

/* A pre-decoded instruction, one a halfword of code:
 *   bits 0..8   operation: enum isa_op of a base instruction, or enum slot_op
 *   bit 9       SLOT_SHORT: 2 bytes long, not 4; with the operation it selects the handler
 *   bits 16..23 rd, 24..31 rs1, 32..39 rs2
 *   bits 40..63 signed immediate: CSR number; branches and jal: distance in halfwords; floating point: rs3 |
 * rm << 5 */
typedef uint64_t slot_t;

#define SLOT_OP_MASK      0x1ff
#define SLOT_SHORT        0x200
#define SLOT_HANDLER_MASK (SLOT_OP_MASK | SLOT_SHORT)

/* Operations beyond the base instructions. */
enum slot_op {
    SLOT_DECODE = ISA_BASE_COUNT, /* not decoded yet */
    SLOT_CROSS,                   /* continues on the next page: fetched and decoded every time */
    SLOT_FETCH,                   /* beyond the end of the page; every slot when nothing may be cached */
    SLOT_ILLEGAL,
    SLOT_NOP,
    SLOT_J, /* jal x0 and jalr x0 */
    SLOT_JR,
    SLOT_J_FAR, /* the target of jal or branch is on another page */
    SLOT_JAL_FAR,
    SLOT_BEQ_FAR,
    SLOT_BNE_FAR,
    SLOT_BLT_FAR,
    SLOT_BGE_FAR,
    SLOT_BLTU_FAR,
    SLOT_BGEU_FAR,
    SLOT_OPS
};

_Static_assert(SLOT_OPS <= SLOT_OP_MASK + 1, "slot operations fit their field");

static inline unsigned slot_op(slot_t w)
{
    return w & SLOT_OP_MASK;
}
static inline unsigned slot_halves(slot_t w)
{
    return w & SLOT_SHORT ? 1 : 2;
}
static inline unsigned slot_rd(slot_t w)
{
    return (uint8_t)(w >> 16);
}
static inline unsigned slot_rs1(slot_t w)
{
    return (uint8_t)(w >> 24);
}
static inline unsigned slot_rs2(slot_t w)
{
    return (uint8_t)(w >> 32);
}
static inline int64_t slot_imm(slot_t w)
{
    return (int64_t)w >> 40;
}
static inline unsigned slot_rs3(slot_t w)
{
    return w >> 40 & 31;
}
static inline unsigned slot_rm(slot_t w)
{
    return w >> 45 & 7;
}

#define PAGE_HALVES 2048u

/* Code pages held at a time: 16 MiB of slots. */
#define CODE_PAGES 1024u

/* A page of which this many stores in a row hit decoded code without an instruction being decoded is data: it
 * is given up. */
#define CODE_PAGE_STORES 64u

/* The slots of one page of RAM. A 4-byte instruction in the last halfword ends one slot later than the page.
 */
struct code_page {
    slot_t slots[PAGE_HALVES + 2];
    uint8_t *host;     /* the page's bytes */
    uint64_t ram_page; /* index into by_page while in use */
    uint32_t stores;   /* since an instruction was last decoded */
    bool used;
    bool referenced; /* entered since the eviction hand passed */
};

struct interp {
    struct mmu *mmu;
    const struct ram *ram;
    struct code_page *
        *by_page; /* one a page of RAM, NULL where nothing is decoded; NULL itself when nothing is cached */
    struct code_page *pool;    /* CODE_PAGES of them */
    struct code_page *current; /* the page whose slots the run loop is in; scratch when nothing is cached */
    struct code_page *scratch; /* all SLOT_FETCH */
    unsigned hand;
    uint32_t bits; /* of the instruction being executed if it crosses pages or nothing is cached */
};

/* slots.c: the slot of an instruction whose address has the page offset `offset`. */
slot_t slot_make(uint32_t bits, unsigned offset);

/* slots.c: decodes the instruction at slot `index` of a page, stores and returns its slot. */
slot_t slot_fill(struct code_page *p, unsigned index);

/* pages.c: the code page of a page of RAM, made if there is none. Never fails: another page is given up for
 * it. */
struct code_page *pages_get(struct interp *e, uint64_t ram_page);
int pages_create(void **engine, struct mmu *mmu, int no_cache);
void pages_destroy(void *engine);
void pages_invalidate(void *engine, uint64_t pa, uint64_t len);
void pages_flush(void *engine);

/* How the run loop goes on after an instruction executed outside it. Negative: an exception is recorded. */
enum step {
    STEP_NEXT = 0, /* with the next instruction; nothing but registers and memory on the fast path changed */
    STEP_SYNC = 1, /* with the next instruction, after looking at interrupts and translation again */
    STEP_JUMP = 2, /* at h->pc, likewise */
};

/* The classes. All but interp_fp() want h->pc and h->left exact; interp_fp() returns false where the rounding
 * mode in frm makes the instruction illegal, and is called with FS on. */
bool interp_fp(struct hart *h, slot_t w);
int interp_amo(const struct interp *e, struct hart *h, slot_t w);
int interp_cbo(struct hart *h, slot_t w, uint32_t bits);
int interp_csr(struct hart *h, slot_t w, uint32_t bits);
int interp_sys(struct hart *h, slot_t w, uint32_t bits);
