/* State of a translation in progress, and the translation of each instruction class. Not for files that run
 * code. */
#pragma once

#include "cpu-core/jit/internal.h"

#define BLOCK_INSNS 64u /* at most; `refund` of a site has 7 bits */
#define SIDE_EXITS  8u
#define SKIPS_MAX   3u /* instructions under one condition */

enum stub_kind {
    STUB_LOAD,
    STUB_STORE,
    STUB_GROUP,
    STUB_ADDEND, /* the access is elsewhere than last time */
    STUB_ZERO,
    STUB_EXIT,
    STUB_BUDGET,
    STUB_CHANGED,   /* the instruction's second half */
    STUB_CSR,       /* the CSR instruction goes through its helper */
    STUB_STATUS,    /* the same, unless FS is all that hinders */
    STUB_TRAP,      /* the privilege changes by the helper */
    STUB_STEP,      /* the instruction goes through the interpreter */
    STUB_STEP_EXIT, /* and ends the block */
};

/* Code out of line, emitted after the block. */
struct stub {
    uint8_t kind;
    uint8_t insn; /* index */
    uint8_t njumps;
    uint8_t *jumps[4];    /* that come here */
    const uint8_t *back;  /* where to go on */
    const uint8_t *again; /* the check of a bank, … */
    const uint8_t *hit;   /* … and where it goes on, rcx being the slot; NULL: none */
    int32_t target;       /* STUB_EXIT: offset from the page */
    uint64_t *word;       /* STUB_ADDEND: what is kept, … */
    uint8_t reg;          /* … and where it belongs */
    int16_t low, high;    /* of the check: range of displacements, inclusive */
    bool write;           /* of the check */
    bool keep;            /* rdx is in use */
};

/* Displacements of the first and last byte of accesses off one base. */
struct span {
    int32_t low, high;
    unsigned members;
};

/* Accesses that share a check. What it found is in rdx, or in the hart's memory. */
#define GROUPS (1 + HART_GROUPS)

struct group {
    uint8_t place;     /* 0: rdx, else group_addend[place - 1] */
    uint32_t regs;     /* guest registers that hold the origin + delta[]; 0: no group */
    int16_t delta[32]; /* of the registers in the set */
    bool host;  /* kept is the host address of the origin, not what turns addresses into host addresses */
    bool write; /* checked for writing, which implies reading */
    struct span checked; /* bytes, relative to the origin */
};

/* A host register in a loop: guest register `to` has it in place of `from`, whose home is memory meanwhile.
 */
struct lent {
    uint8_t from, to, host;
    bool written; /* `to` is, by the block */
};

struct tr_insn {
    struct insn in;
    uint16_t offset;
    bool falls;          /* a branch or jump after which the block goes on */
    bool converted;      /* a branch over the next instructions, which do its work: they are … */
    uint8_t conditional; /* … this one and the following, so many; 0: no */
};

struct tr {
    struct jit *j;
    struct emitter e;
    struct emitter cold;
    struct block_key key;
    struct block block;
    struct tr_insn seq[BLOCK_INSNS];
    uint16_t begins[BLOCK_INSNS]; /* of each instruction's code, in the block's */
    unsigned n, i;
    unsigned sure;         /* instructions to the first branch back, inclusive; 0: there is none */
    int32_t end;           /* offset where the block goes on after its last instruction, or END_… */
    const uint8_t *second; /* the rest of the only instruction, which crosses the page; or NULL */
    uint8_t *head;
    uint8_t pin[32]; /* host register of each guest register within the block, as in target_pin[] */
    struct lent lent[9];
    unsigned nlent;

    struct stub stubs[BLOCK_INSNS * 4 + 4];
    unsigned nstubs;

    uint8_t width[32];           /* bits that the registers' values need at most */
    uint32_t boxed;              /* floating-point registers that are known to hold single precision */
    struct group groups[GROUPS]; /* the live ones, by place */
};

#define END_NONE INT32_MIN /* the last instruction leaves */

static inline struct rm gx(const struct tr *t, unsigned r)
{
    return t->pin[r] != REG_NONE ? rm_reg(t->pin[r]) : rm_mem(REG_HART, HART_X(r));
}
static inline bool pinned(const struct tr *t, unsigned r)
{
    return t->pin[r] != REG_NONE;
}

/* Whether the block itself begins at an offset from the page. One without groups is left as soon as possible.
 */
static inline bool tr_is_head(const struct tr *t, int32_t target)
{
    return t->n && target == t->seq[0].offset && !t->key.single;
}

/* The integer register that the instruction may write; 0: none. */
unsigned insn_target(const struct insn *in);

/* Host register that holds guest register `r`: its own, or `scratch` after a load. */
unsigned tr_use(struct tr *t, unsigned r, unsigned scratch);

/* Host register to compute guest register `r` in, and its completion. */
unsigned tr_dest(const struct tr *t, unsigned r, unsigned scratch);
void tr_set(struct tr *t, unsigned r, unsigned host);

struct stub *tr_stub(struct tr *t, enum stub_kind kind);
static inline void stub_from(struct stub *s, uint8_t *jump)
{
    s->jumps[s->njumps++] = jump;
}

/* tr_goto.c: goes on at `target` (offset from the page, may be outside) from emitter `e`. */
void tr_goto(struct tr *t, struct emitter *e, int32_t target);
void tr_goto_address(struct tr *t, struct emitter *e); /* at rax */
void tr_step(struct tr *t);                            /* the instruction through the interpreter, in line */

/* tr_regs.c: registers that a loop lends. regs_choose() decides; emitted are: at the block's entry, taking
 * them; before leaving the block or calling fixed code, giving them back; after such a call, taking them
 * again. None uses another register or the flags. */
bool regs_loop(const struct tr *t); /* whether the block jumps to its own head */
void regs_choose(struct tr *t);
void regs_enter(struct tr *t, struct emitter *e);
void regs_give_back(const struct tr *t, struct emitter *e);
void regs_take(const struct tr *t, struct emitter *e);

/* The classes. False: not translated, goes through the interpreter. */
bool tr_int(struct tr *t, const struct insn *in);
bool tr_fuse(struct tr *t); /* instructions t->i and the next, if they are one to the host */
bool tr_fuse_pair(struct tr *t, const struct insn *a, const struct insn *b); /* the same, whatever they are */
bool tr_word(struct tr *t, const struct insn *in);
void tr_set_word(struct tr *t, unsigned rd, unsigned from); /* from its low half */
void tr_divide(struct tr *t, const struct insn *in, unsigned quotient,
               unsigned remainder); /* 0: not wanted */
bool tr_load(struct tr *t, const struct insn *in);
bool tr_store(struct tr *t, const struct insn *in);
bool tr_fload(struct tr *t, const struct insn *in);
bool tr_fstore(struct tr *t, const struct insn *in);
bool tr_fp(struct tr *t, const struct insn *in);
void tr_fp_stub(struct tr *t, struct stub *s); /* a load's, after the call */
bool tr_amo(struct tr *t, const struct insn *in);
bool tr_csr(struct tr *t, const struct insn *in);
void tr_csr_stub(struct tr *t, struct stub *s);
bool tr_sys(struct tr *t, const struct insn *in);
void tr_trap(struct tr *t, const struct insn *in); /* ecall, sret, mret */
void tr_trap_stub(struct tr *t, const struct stub *s);
bool tr_cbo(struct tr *t, const struct insn *in);
unsigned tr_conditional(struct tr *t, const struct insn *branch); /* returns how many after t->i it did */
bool tr_branch(struct tr *t, const struct insn *in);
bool tr_jump(struct tr *t, const struct insn *in);

/* tr_mem.c: the operand of a load or store after its check; *miss is its stub, NULL in a group. */
struct rm tr_access(struct tr *t, const struct insn *in, bool write, struct stub **miss);

/* The operand for an aligned access of `size` bytes at `base`; jumps to the stub if it is not aligned or on a
 * miss. Uses rax, and rcx for the operand. */
struct rm tr_check_aligned(struct tr *t, unsigned base, unsigned size, bool write, struct stub *miss);

/* In cold code, rax and rcx being as the check of `s` left them: goes on behind the check if the second slot
 * of the bank has the page, and tries again if it comes from the bank's second level. Keeps rax and rcx
 * otherwise. */
void tr_refill(struct tr *t, const struct stub *s);

/* Stubs of accesses. */
void tr_mem_stub(struct tr *t, struct stub *s);

/* tr_width.c: nothing is known at first; what an instruction adds; and whether the result of one on words is
 * what the same on whole registers gives. */
void width_begin(struct tr *t);
void width_update(struct tr *t, const struct tr_insn *ti);
bool width_fits_word(const struct tr *t, const struct insn *in);

/* tr_group.c: the live group that the access `in` is in, or NULL; whether it should begin another one, `*g`;
 * what instruction t->i, which was translated, leaves of the live ones. */
const struct group *group_of(const struct tr *t, const struct insn *in, bool write);
bool group_find(const struct tr *t, const struct insn *in, bool write, struct group *g);
void group_update(struct tr *t);
struct site tr_site(const struct tr *t, unsigned insn);
