/* What the files of the translator share. Not for other folders. */
#pragma once

#include "cpu-core/engine.h"
#include "cpu-core/hart/hart.h"
#include "cpu-core/isa/isa.h"
#include "cpu-core/jit/block.h"
#include "cpu-core/jit/emit_x64.h"
#include "cpu-core/jit/stats.h"
#include "cpu-core/jit/watch.h"
#include "cpu-core/mmu/mmu.h"

#include <stdbool.h>
#include <stdint.h>

/* Jump targets by virtual address, one cache for each bank. A slot is valid while its tag is address ^
 * hart.jump_salt. */
#define JUMP_SLOTS 8192u

struct jump_cache {
    struct jump_slot slots[JUMP_SLOTS];
    unsigned gen; /* part of the salt: changes when the slots cease to be valid */
};

#define JUMP_HASH 0x9e3779b1u /* 2^32 / golden ratio */

/* The slot of a tag. Code of several modes at one address has several. Translated code computes the same
 * (tr_goto_address()). */
static inline struct jump_slot *jump_slot(struct jump_slot *slots, uint64_t tag)
{
    return &slots[(uint32_t)tag * JUMP_HASH >> 18 & (JUMP_SLOTS - 1)];
}

static inline void jump_remember(struct hart *h, uint64_t pc, const struct block *b)
{
    struct jump_slot *s = jump_slot(h->jumps, pc ^ h->jump_salt);

    s->tag = pc ^ h->jump_salt;
    s->block = b;
}

/* jump.c: code to go on in at `pc`, which the jump cache gets then and h->code_page tells; NULL if the fetch
 * bank has not got the page, or nothing is translated for it. */
const uint8_t *jump_find(struct hart *h, uint64_t pc);

struct jit_exit {
    uint64_t reason;
    struct link *link;
};

#define HEAT_SLOTS 65536u

struct tr;

struct jit {
    struct blocks blocks;
    struct mmu *mmu;
    const struct ram *ram;
    void *interp;
    bool count;                /* executions of each block */
    bool carryless;            /* the host multiplies polynomials */
    bool off;                  /* nothing is cached: the interpreter runs everything */
    struct jump_cache *jumps;  /* [HART_MAX * TLB_BANKS] */
    uint64_t reuses[HART_MAX]; /* of the block table when the hart's caches were last looked at */
    uint8_t *heat;             /* entries of cold code, by hashed address */
    unsigned heat_min;         /* as many make it hot */
    uint64_t stop;             /* icount of a slice's end that is reached in translated code, or 0 */
    unsigned cut; /* the block in translation ends after so many instructions; 0: where it ends */

    /* Fixed code at the start of the code memory, by the addresses it runs at. */
    struct jit_exit (*enter)(struct hart *h, const uint8_t *code);
    const uint8_t *exit_lookup; /* rax: address to go on at */
    const uint8_t *exit_link;   /* rdx: the link */
    const uint8_t *exit_at;     /* eax: offset in the page, ecx: reason */
    const uint8_t *far;         /* rax: address to go on at, rdx: the slot of the jump's site */
    const uint8_t *load, *store, *group, *step;
    const uint8_t *refill[2]; /* for writes: [1]; CF = 1: rcx is a slot that has the page; ZF = 0: the check
                                 succeeds now; keeps all other registers */
    const uint8_t *csr, *ecall, *sret, *mret, *cbo_zero, *helper_trap;
    const uint8_t *load_fpins;
    const uint8_t *spill_fpins; /* keeps the general registers, not the flags */
    const uint8_t *go;          /* rax: address to go on at */
    const uint8_t *trap, *to_sepc, *to_mepc, *to_root, *raised; /* see tr_trap.c */

    struct tr *tr; /* of the translation in progress */
    struct jit_stats stats;
    void (*told)(void *arg, const struct jit_event *e); /* NULL: nobody watches */
    void *told_arg;
};

/* What slow paths know of their instruction, packed into an immediate. */
struct site {
    uint16_t offset; /* in the page */
    uint8_t len;
    uint8_t refund; /* instructions of the block not executed yet, this one included */
    uint8_t size;   /* of the access */
    bool sext, fp;
    uint8_t reg; /* loaded or stored */
};

static inline uint32_t site_pack(const struct site *s)
{
    return s->offset | (s->len == 4 ? 1u << 12 : 0) | (uint32_t)s->refund << 13 |
           (uint32_t)__builtin_ctz(s->size) << 20 | (uint32_t)s->sext << 22 | (uint32_t)s->fp << 23 |
           (uint32_t)s->reg << 24;
}

static inline struct site site_unpack(uint32_t v)
{
    return (struct site){.offset = v & 0xfff,
                         .len = v >> 12 & 1 ? 4 : 2,
                         .refund = v >> 13 & 0x7f,
                         .size = (uint8_t)(1u << (v >> 20 & 3)),
                         .sext = v >> 22 & 1,
                         .fp = v >> 23 & 1,
                         .reg = v >> 24 & 31};
}

/* A group that missed: distance of the first access from its lowest byte, its length, and whether the check
 * is for writing. */
static inline uint32_t group_pack(unsigned first, unsigned len, bool write)
{
    return first | len << 16 | (uint32_t)write << 31;
}

/* What a helper returns to translated code. */
struct helper_result {
    uint64_t value;
    int64_t left; /* REG_LEFT to go on with; negative: the block ends, the hart's state is complete, and
                   * `value` is the code to go on in, or 0 to leave by EXIT_LEFT */
};

/* helpers.c */
struct helper_result helper_load(struct hart *h, uint64_t va, uint32_t site, int64_t left);
struct helper_result helper_store(struct hart *h, uint64_t va, uint32_t site, int64_t left);
struct helper_result helper_group(struct hart *h, uint64_t va, uint32_t site, int64_t left, uint32_t group);
struct helper_result helper_step(struct hart *h, uint64_t class, uint32_t site, int64_t left);

struct helper_result helper_csr(struct hart *h, uint64_t bits, uint32_t site, int64_t left);
struct helper_result helper_trap(struct hart *h, uint64_t bits, uint32_t site, int64_t left);
struct helper_result helper_ecall(struct hart *h, uint64_t bits, uint32_t site, int64_t left);
struct helper_result helper_sret(struct hart *h, uint64_t bits, uint32_t site, int64_t left);
struct helper_result helper_mret(struct hart *h, uint64_t bits, uint32_t site, int64_t left);
struct helper_result helper_cbo_zero(struct hart *h, uint64_t bits, uint32_t site, int64_t left);

/* watch.c: tells what happened; `before`: what the table's count of dropped blocks was. */
void watch_translated(const struct jit *j, const struct block *b);
void watch_dropped(const struct jit *j, enum jit_event_kind kind, uint64_t pa, uint64_t len, uint64_t before);

/* runtime.c: makes hart and jump cache agree with the current fetch bank and mode. */
void jit_sync_context(struct jit *j, struct hart *h);

/* Constants in reach of the code; the upper half is as the lower one unless it says otherwise. */
enum constant {
    CONST_SIGN64,
    CONST_ABS64,
    CONST_SIGN32, /* of the lowest 32 bits, others 0 */
    CONST_ABS32,  /* its complement */
    CONST_BOX,    /* bits 32 to 63, upper half 0 */
    CONST_TO_PA,  /* what turns a host address in RAM into a physical one */
    CONST_FFLAGS, /* four of them: fflags by the low 6 bits of MXCSR */
};

#define MXCSR_DEFAULT 0x1f80u /* all exceptions masked, to nearest */
#define MXCSR_FLAGS   0x3fu
#define MXCSR_RC      13    /* lowest bit of the rounding mode, */
#define MXCSR_MODES   0x9cu /* which is bits 2n and 2n + 1 of this for frm of n, below 4 */

/* fpstate.c: MXCSR while the engine runs. */
void fp_enter(struct hart *h);     /* from the hart: rounding mode; no flags */
void fp_leave(struct hart *h);     /* to the hart: adds the flags */
unsigned fp_flags(unsigned mxcsr); /* fflags of the flags in MXCSR */

/* tr_goto.c: the fixed code of jumps, after that of the exits. */
void goto_emit_fixed(struct jit *j, struct emitter *e);

/* The jump salt: what code was translated under, of which bank the cache is (so that salts of different banks
 * differ, which the slots of sites rely on), and its generation. */
#define MODE_FP_ON   1ull
#define MODE_FP_SLOW (1ull << 63)
#define MODE_MASK    (MODE_FP_ON | MODE_FP_SLOW)
#define SALT_BANK    1
#define SALT_SHIFT   57
#define SALT_GENS    64u

_Static_assert(HART_MAX *TLB_BANKS <= PAGE_SIZE / 2, "the bits of a page's address stay free");

static inline enum fp_mode fp_mode(const struct hart *h)
{
    return !hart_fp_on(h) ? FP_MODE_OFF : h->frm < 4 ? FP_MODE_ON : FP_MODE_SLOW;
}
static inline uint64_t mode_of(const struct hart *h)
{
    static const uint64_t bits[] = {
        [FP_MODE_OFF] = 0, [FP_MODE_ON] = MODE_FP_ON, [FP_MODE_SLOW] = MODE_FP_SLOW};
    return bits[fp_mode(h)];
}

/* tr_trap.c: emits what the entries named there point to. */
void trap_emit_fixed(struct jit *j, struct emitter *e);

/* translate.c: makes the block for `key`, whose page is at `page` in the host, and key->second at `second`.
 */
struct block *translate(struct jit *j, const struct block_key *key, const uint8_t *page,
                        const uint8_t *second);

/* Number of instructions from `offset` to the end of the basic block, at least 1. */
unsigned translate_scan(const uint8_t *page, unsigned offset);
