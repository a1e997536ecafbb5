/* The run loop of the interpreter: threaded dispatch over pre-decoded slots, integer instructions, loads,
 * stores and control transfers in line. Knows the hart's registers, the hit paths of the mmu and its own
 * slots; CSRs, traps and translation are calls.
 *
 * The loop keeps three things in locals. `ip` is the current slot; `bias` turns it into the pc: pc = bias +
 * ip / 4, since a slot of 8 bytes stands for 2 bytes of code; `left` is h->left, less the steps that are
 * reserved. h->pc and h->left are
 * written before anything is called that may look at them, and read back after. Whatever may have changed
 * interrupts, translation or code goes on at `fetch`, which assumes nothing but h->pc. */
#include "cpu-core/interp/interp.h"
#include "cpu-core/interp/arith.h"
#include "cpu-core/interp/internal.h"

#include "cpu-core/fp/fp.h"

#include <string.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Next instruction in sequence, `halves` further: counts this one, then dispatches through the table
 * `handlers`, or leaves to the label `budget`. Handlers know the length of their instruction as a constant:
 * the address of the next slot then depends on no load. */
#define NEXT(halves)                                                                                         \
    do {                                                                                                     \
        ip += (halves);                                                                                      \
        if (unlikely(--left == 0))                                                                           \
            goto budget;                                                                                     \
        w = *ip;                                                                                             \
        goto *handlers[w & SLOT_HANDLER_MASK];                                                               \
    } while (0)

/* The macros below make whole handlers. Like NEXT they use the run loop's locals h, ip, w and left. `halves`
 * is the length. */

/* An instruction that is one expression of two registers, of a register and the immediate, or of one
 * register. */
#define ALU(label, halves, expr)                                                                             \
    label : {                                                                                                \
        uint64_t a = h->x[slot_rs1(w)], b = h->x[slot_rs2(w)];                                               \
        h->x[slot_rd(w)] = (uint64_t)(expr);                                                                 \
        NEXT(halves);                                                                                        \
    }
#define ALU_IMM(label, halves, expr)                                                                         \
    label : {                                                                                                \
        uint64_t a = h->x[slot_rs1(w)];                                                                      \
        int64_t imm = slot_imm(w);                                                                           \
        h->x[slot_rd(w)] = (uint64_t)(expr);                                                                 \
        NEXT(halves);                                                                                        \
    }
#define ALU_ONE(label, halves, expr)                                                                         \
    label : {                                                                                                \
        uint64_t a = h->x[slot_rs1(w)];                                                                      \
        h->x[slot_rd(w)] = (uint64_t)(expr);                                                                 \
        NEXT(halves);                                                                                        \
    }

/* A branch within the page, and one to another page. */
#define BRANCH(label, halves, expr)                                                                          \
    label : {                                                                                                \
        uint64_t a = h->x[slot_rs1(w)], b = h->x[slot_rs2(w)];                                               \
        if (expr)                                                                                            \
            NEXT(slot_imm(w));                                                                               \
        NEXT(halves);                                                                                        \
    }
#define BRANCH_FAR(label, expr)                                                                              \
    label : {                                                                                                \
        uint64_t a = h->x[slot_rs1(w)], b = h->x[slot_rs2(w)];                                               \
        if (expr)                                                                                            \
            goto do_j_far;                                                                                   \
        NEXT(slot_halves(w));                                                                                \
    }

/* A load whose value of type `type` extends to 64 bits as C does, and a store. */
#define LOAD(label, halves, type)                                                                            \
    label : {                                                                                                \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        const uint8_t *host = mmu_hit_read(h, va, sizeof(type));                                             \
        type v;                                                                                              \
        if (unlikely(!host))                                                                                 \
            goto load_slow;                                                                                  \
        memcpy(&v, host, sizeof v);                                                                          \
        h->x[slot_rd(w)] = (uint64_t)v;                                                                      \
        h->x[0] = 0;                                                                                         \
        NEXT(halves);                                                                                        \
    }
#define STORE(label, halves, type)                                                                           \
    label : {                                                                                                \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        uint8_t *host = mmu_hit_write(h, va, sizeof(type));                                                  \
        type v = (type)h->x[slot_rs2(w)];                                                                    \
        if (unlikely(!host))                                                                                 \
            goto store_slow;                                                                                 \
        memcpy(host, &v, sizeof v);                                                                          \
        NEXT(halves);                                                                                        \
    }

/* Floating-point loads, `box` giving the register's contents, and stores. */
#define FLOAD(label, halves, type, box)                                                                      \
    label : {                                                                                                \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        const uint8_t *host = mmu_hit_read(h, va, sizeof(type));                                             \
        type v;                                                                                              \
        if (unlikely(!hart_fp_on(h)))                                                                        \
            goto do_illegal;                                                                                 \
        if (unlikely(!host))                                                                                 \
            goto fload_slow;                                                                                 \
        memcpy(&v, host, sizeof v);                                                                          \
        h->f[slot_rd(w)] = box(v);                                                                           \
        hart_fp_dirty(h);                                                                                    \
        NEXT(halves);                                                                                        \
    }
#define FSTORE(label, halves, type)                                                                          \
    label : {                                                                                                \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        uint8_t *host = mmu_hit_write(h, va, sizeof(type));                                                  \
        type v = (type)h->f[slot_rs2(w)];                                                                    \
        if (unlikely(!hart_fp_on(h)))                                                                        \
            goto do_illegal;                                                                                 \
        if (unlikely(!host))                                                                                 \
            goto fstore_slow;                                                                                \
        memcpy(host, &v, sizeof v);                                                                          \
        NEXT(halves);                                                                                        \
    }

static inline uint64_t pc_of(const slot_t *ip, uint64_t bias)
{
    return bias + ((uint64_t)(uintptr_t)ip >> 2);
}

static inline uint64_t bias_of(const struct code_page *p, uint64_t pc)
{
    return (pc & PAGE_MASK) - ((uint64_t)(uintptr_t)p->slots >> 2);
}

static inline const slot_t *slot_at(uint64_t pc, uint64_t bias)
{
    return (const slot_t *)(uintptr_t)((pc - bias) << 2);
}

/* The bits of the instruction at `pc` in the current page. */
static uint32_t insn_bits(const struct interp *e, uint64_t pc, slot_t w)
{
    unsigned offset = (unsigned)(pc & (PAGE_SIZE - 1));
    uint32_t bits = 0;

    if (e->current == e->scratch || offset + slot_halves(w) * 2 > PAGE_SIZE)
        return e->bits;
    memcpy(&bits, e->current->host + offset, slot_halves(w) * 2);
    return bits;
}

/* The value that a load of `op` leaves in its integer register. */
static uint64_t extend(unsigned op, uint64_t v)
{
    if (!(isa_table[op].flags & ISA_SEXT))
        return v;
    return (uint64_t)((int64_t)(v << (64 - 8 * isa_table[op].size)) >> (64 - 8 * isa_table[op].size));
}

static uint64_t box(unsigned size, uint64_t v)
{
    return size == 8 ? v : size == 4 ? fp_box32((uint32_t)v) : fp_box16((uint16_t)v);
}

/* Fetches and decodes the instruction at h->pc without any cache. Negative: an exception is recorded. */
static int fetch_uncached(struct interp *e, struct hart *h, slot_t *w)
{
    struct mmu_target t;
    uint16_t half[2] = {0, 0};

    if (mmu_fetch(h, h->pc, &t) < 0)
        return -1;
    memcpy(&half[0], t.host, 2);
    if (isa_length(half[0]) == 4) {
        if (mmu_fetch(h, h->pc + 2, &t) < 0)
            return -1;
        memcpy(&half[1], t.host, 2);
    }
    e->bits = half[0] | (uint32_t)half[1] << 16;
    *w = slot_make(e->bits, (unsigned)(h->pc & (PAGE_SIZE - 1)));
    return 0;
}

/* Fetches the second half of the instruction at h->pc, which ends on the next page. */
static int fetch_cross(struct interp *e, struct hart *h, slot_t *w)
{
    struct mmu_target t;
    uint16_t half[2];

    memcpy(&half[0], e->current->host + PAGE_SIZE - 2, 2);
    if (mmu_fetch(h, h->pc + 2, &t) < 0)
        return -1;
    memcpy(&half[1], t.host, 2);
    e->bits = half[0] | (uint32_t)half[1] << 16;
    *w = slot_make(e->bits, (unsigned)PAGE_SIZE - 2);
    return 0;
}

/* The page of code that h->pc is in, by the fetch bank or a walk. NULL: an exception is recorded. */
static inline struct code_page *fetch_page(struct interp *e, struct hart *h)
{
    const struct tlb_slot *s = &h->fetch_bank->x[(h->pc >> PAGE_SHIFT) & (TLB_FETCH_SLOTS - 1)];
    const uint8_t *host;
    struct mmu_target t;
    struct code_page *p;

    if (likely(s->tag == (h->pc & PAGE_MASK))) {
        host = (const uint8_t *)(uintptr_t)(h->pc + s->addend);
    } else {
        if (mmu_fetch(h, h->pc, &t) < 0)
            return NULL;
        if (unlikely(!ram_contains(e->ram, t.pa, 1)))
            return e->scratch; /* ROM */
        host = t.host;
    }
    p = e->by_page[(uint64_t)(host - e->ram->host) >> PAGE_SHIFT];
    if (unlikely(!p))
        p = pages_get(e, (uint64_t)(host - e->ram->host) >> PAGE_SHIFT);
    p->referenced = true;
    return p;
}

/* Runs until h->left is `reserve`, or as interp_run() does. */
static enum engine_exit run(struct interp *e, struct hart *h, int64_t reserve)
{
#define LABEL_alu(name)    &&do_##name
#define LABEL_mul(name)    &&do_##name
#define LABEL_div(name)    &&do_##name
#define LABEL_load(name)   &&do_##name
#define LABEL_store(name)  &&do_##name
#define LABEL_branch(name) &&do_##name
#define LABEL_jump(name)   &&do_##name
#define LABEL_fload(name)  &&do_##name
#define LABEL_fstore(name) &&do_##name
#define LABEL_fence(name)  &&do_##name
#define LABEL_hint(name)   &&do_##name
#define LABEL_fp(name)     &&do_fp
#define LABEL_amo(name)    &&do_amo
#define LABEL_cbo(name)    &&do_cbo
#define LABEL_csr(name)    &&do_csr
#define LABEL_sys(name)    &&do_sys
#define SHORT_alu(name)    &&c_##name
#define SHORT_mul(name)    &&c_##name
#define SHORT_load(name)   &&c_##name
#define SHORT_store(name)  &&c_##name
#define SHORT_branch(name) &&c_##name
#define SHORT_fload(name)  &&c_##name
#define SHORT_fstore(name) &&c_##name
#define SHORT_jump(name)   &&do_##name
#define SHORT_hint(name)   &&c_nop
#define SHORT_sys(name)    &&do_sys
    static const void *const handlers[SLOT_HANDLER_MASK + 1] = {
#define HANDLER(id, name, cls) [id] = LABEL_##cls(name),
#define SHORT(id, name, cls)   [id | SLOT_SHORT] = SHORT_##cls(name),
#include "cpu-core/isa/isa_dispatch.h"
#undef HANDLER
#undef SHORT
        [SLOT_DECODE] = &&do_decode,
        [SLOT_CROSS] = &&do_cross,
        [SLOT_FETCH] = &&do_fetch,
        [SLOT_JAL_FAR] = &&do_jal_far,
        [SLOT_BLT_FAR] = &&far_blt,
        [SLOT_BGE_FAR] = &&far_bge,
        [SLOT_BLTU_FAR] = &&far_bltu,
        [SLOT_BGEU_FAR] = &&far_bgeu,
        [SLOT_ILLEGAL] = &&do_illegal,
        [SLOT_ILLEGAL | SLOT_SHORT] = &&do_illegal,
        [SLOT_NOP] = &&do_nop,
        [SLOT_NOP | SLOT_SHORT] = &&c_nop,
        [SLOT_J] = &&do_j,
        [SLOT_J | SLOT_SHORT] = &&do_j,
        [SLOT_JR] = &&do_jr,
        [SLOT_JR | SLOT_SHORT] = &&do_jr,
        [SLOT_J_FAR] = &&do_j_far,
        [SLOT_J_FAR | SLOT_SHORT] = &&do_j_far,
        [SLOT_BEQ_FAR] = &&far_beq,
        [SLOT_BEQ_FAR | SLOT_SHORT] = &&far_beq,
        [SLOT_BNE_FAR] = &&far_bne,
        [SLOT_BNE_FAR | SLOT_SHORT] = &&far_bne,
    };
    const slot_t *ip;
    uint64_t bias, target;
    int64_t left;
    slot_t w;
    int rc;

    if (h->irq_ready)
        hart_interrupt(h);
    goto fetch;

    /* Ways on. */

budget: /* the instruction before `ip` was the last */
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    return ENGINE_BUDGET;

trap: /* h->pc is the instruction's, the exception is recorded */
    hart_trap(h);
    goto done;

sync: /* the instruction at `ip` retired outside the loop, h->left is current */
    h->pc = pc_of(ip + slot_halves(w), bias);
done: /* an instruction retired or trapped, h->pc is the next one's, h->left does not count it yet */
    h->left--;
    if (h->yield || h->wait != HART_RUNS)
        return ENGINE_YIELD;
    if (h->left <= reserve)
        return ENGINE_BUDGET;
    if (h->irq_ready)
        hart_interrupt(h);
    goto fetch;

jump: /* to `target`, on any page; the instruction is not counted yet */
    h->pc = target;
    h->left = left - 1 + reserve;
    if (unlikely(h->left <= reserve))
        return ENGINE_BUDGET;

fetch: /* of the instruction at h->pc, h->left is current and positive */
    h->code_dirty = false;
    {
        struct code_page *p = likely(e->by_page) ? fetch_page(e, h) : e->scratch;
        if (unlikely(!p))
            goto trap;
        e->current = p;
        bias = bias_of(p, h->pc);
        ip = slot_at(h->pc, bias);
        w = *ip;
        if (unlikely(p == e->scratch) && fetch_uncached(e, h, &w) < 0)
            goto trap;
    }
    left = h->left - reserve;
    goto *handlers[w & SLOT_HANDLER_MASK];

    /* Slots that are not instructions. */

do_fetch:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    goto fetch;

do_decode:
    w = slot_fill(e->current, (unsigned)(ip - e->current->slots));
    goto *handlers[w & SLOT_HANDLER_MASK];

do_cross:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    if (fetch_cross(e, h, &w) < 0)
        goto trap;
    left = h->left - reserve;
    goto *handlers[w & SLOT_HANDLER_MASK];

do_illegal:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    hart_raise(h, EXC_ILLEGAL, insn_bits(e, h->pc, w));
    goto trap;

    /* Control transfers. */

do_jal:
    h->x[slot_rd(w)] = pc_of(ip + 2, bias);
    NEXT(slot_imm(w));

do_j:
    NEXT(slot_imm(w));

do_jal_far:
    h->x[slot_rd(w)] = pc_of(ip + 2, bias);
do_j_far:
    target = pc_of(ip, bias) + (uint64_t)slot_imm(w) * 2;
    goto jump;

do_jalr:
    target = (h->x[slot_rs1(w)] + (uint64_t)slot_imm(w)) & ~1ull;
    h->x[slot_rd(w)] = pc_of(ip + slot_halves(w), bias);
    goto jump_near;
do_jr:
    target = (h->x[slot_rs1(w)] + (uint64_t)slot_imm(w)) & ~1ull;
jump_near:
    if ((target ^ pc_of(ip, bias)) >= PAGE_SIZE)
        goto jump;
    NEXT(slot_at(target, bias) - ip);

    BRANCH(do_beq, 2, a == b)
    BRANCH(c_beq, 1, a == b)
    BRANCH_FAR(far_beq, a == b)
    BRANCH(do_bne, 2, a != b)
    BRANCH(c_bne, 1, a != b)
    BRANCH_FAR(far_bne, a != b)
    BRANCH(do_blt, 2, (int64_t)a < (int64_t)b)
    BRANCH_FAR(far_blt, (int64_t)a < (int64_t)b)
    BRANCH(do_bge, 2, (int64_t)a >= (int64_t)b)
    BRANCH_FAR(far_bge, (int64_t)a >= (int64_t)b)
    BRANCH(do_bltu, 2, a < b)
    BRANCH_FAR(far_bltu, a < b)
    BRANCH(do_bgeu, 2, a >= b)
    BRANCH_FAR(far_bgeu, a >= b)

    /* Loads and stores. */

    LOAD(do_lb, 2, int8_t)
    LOAD(do_lh, 2, int16_t)
    LOAD(c_lh, 1, int16_t)
    LOAD(do_lw, 2, int32_t)
    LOAD(c_lw, 1, int32_t)
    LOAD(do_ld, 2, int64_t)
    LOAD(c_ld, 1, int64_t)
    LOAD(do_lbu, 2, uint8_t)
    LOAD(c_lbu, 1, uint8_t)
    LOAD(do_lhu, 2, uint16_t)
    LOAD(c_lhu, 1, uint16_t)
    LOAD(do_lwu, 2, uint32_t)
    STORE(do_sb, 2, uint8_t)
    STORE(c_sb, 1, uint8_t)
    STORE(do_sh, 2, uint16_t)
    STORE(c_sh, 1, uint16_t)
    STORE(do_sw, 2, uint32_t)
    STORE(c_sw, 1, uint32_t)
    STORE(do_sd, 2, uint64_t)
    STORE(c_sd, 1, uint64_t)
    FLOAD(do_flh, 2, uint16_t, fp_box16)
    FLOAD(do_flw, 2, uint32_t, fp_box32)
    FLOAD(do_fld, 2, uint64_t, (uint64_t))
    FLOAD(c_fld, 1, uint64_t, (uint64_t))
    FSTORE(do_fsh, 2, uint16_t)
    FSTORE(do_fsw, 2, uint32_t)
    FSTORE(do_fsd, 2, uint64_t)
    FSTORE(c_fsd, 1, uint64_t)

load_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w), v;
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    if (mmu_load(h, va, isa_table[slot_op(w)].size, &v) < 0)
        goto trap;
    h->x[slot_rd(w)] = extend(slot_op(w), v);
    h->x[0] = 0;
    goto sync;
}

fload_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w), v;
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    if (mmu_load(h, va, isa_table[slot_op(w)].size, &v) < 0)
        goto trap;
    h->f[slot_rd(w)] = box(isa_table[slot_op(w)].size, v);
    hart_fp_dirty(h);
    goto sync;
}

store_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    if (mmu_store(h, va, isa_table[slot_op(w)].size, h->x[slot_rs2(w)]) < 0)
        goto trap;
    goto sync;
}

fstore_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    if (mmu_store(h, va, isa_table[slot_op(w)].size, h->f[slot_rs2(w)]) < 0)
        goto trap;
    goto sync;
}

    /* Integer computation. */

do_lui:
    h->x[slot_rd(w)] = (uint64_t)slot_imm(w) << 12;
    NEXT(2);
c_lui:
    h->x[slot_rd(w)] = (uint64_t)slot_imm(w) << 12;
    NEXT(1);
do_auipc:
    h->x[slot_rd(w)] = pc_of(ip, bias) + ((uint64_t)slot_imm(w) << 12);
    NEXT(2);
do_nop:
do_fence:
do_fence_i:
do_ntl_p1:
do_ntl_pall:
do_ntl_s1:
do_ntl_all:
do_prefetch_i:
do_prefetch_r:
do_prefetch_w:
    NEXT(2);
c_nop:
    NEXT(1);

    ALU_IMM(do_addi, 2, a + (uint64_t)imm)
    ALU_IMM(c_addi, 1, a + (uint64_t)imm)
    ALU_IMM(do_slti, 2, (int64_t)a < imm)
    ALU_IMM(do_sltiu, 2, a < (uint64_t)imm)
    ALU_IMM(do_xori, 2, a ^ (uint64_t)imm)
    ALU_IMM(c_xori, 1, a ^ (uint64_t)imm)
    ALU_IMM(do_ori, 2, a | (uint64_t)imm)
    ALU_IMM(do_andi, 2, a & (uint64_t)imm)
    ALU_IMM(c_andi, 1, a & (uint64_t)imm)
    ALU_IMM(do_slli, 2, a << (imm & 63))
    ALU_IMM(c_slli, 1, a << (imm & 63))
    ALU_IMM(do_srli, 2, a >> (imm & 63))
    ALU_IMM(c_srli, 1, a >> (imm & 63))
    ALU_IMM(do_srai, 2, (int64_t)a >> (imm & 63))
    ALU_IMM(c_srai, 1, (int64_t)a >> (imm & 63))
    ALU_IMM(do_addiw, 2, (int32_t)((uint32_t)a + (uint32_t)imm))
    ALU_IMM(c_addiw, 1, (int32_t)((uint32_t)a + (uint32_t)imm))
    ALU_IMM(do_slliw, 2, (int32_t)((uint32_t)a << (imm & 31)))
    ALU_IMM(do_srliw, 2, (int32_t)((uint32_t)a >> (imm & 31)))
    ALU_IMM(do_sraiw, 2, (int32_t)a >> (imm & 31))
    ALU(do_add, 2, a + b)
    ALU(c_add, 1, a + b)
    ALU(do_sub, 2, a - b)
    ALU(c_sub, 1, a - b)
    ALU(do_sll, 2, a << (b & 63))
    ALU(do_slt, 2, (int64_t)a < (int64_t)b)
    ALU(do_sltu, 2, a < b)
    ALU(do_xor, 2, a ^ b)
    ALU(c_xor, 1, a ^ b)
    ALU(do_srl, 2, a >> (b & 63))
    ALU(do_sra, 2, (int64_t)a >> (b & 63))
    ALU(do_or, 2, a | b)
    ALU(c_or, 1, a | b)
    ALU(do_and, 2, a & b)
    ALU(c_and, 1, a & b)
    ALU(do_addw, 2, (int32_t)((uint32_t)a + (uint32_t)b))
    ALU(c_addw, 1, (int32_t)((uint32_t)a + (uint32_t)b))
    ALU(do_subw, 2, (int32_t)((uint32_t)a - (uint32_t)b))
    ALU(c_subw, 1, (int32_t)((uint32_t)a - (uint32_t)b))
    ALU(do_sllw, 2, (int32_t)((uint32_t)a << (b & 31)))
    ALU(do_srlw, 2, (int32_t)((uint32_t)a >> (b & 31)))
    ALU(do_sraw, 2, (int32_t)a >> (b & 31))

    ALU(do_mul, 2, a * b)
    ALU(c_mul, 1, a * b)
    ALU(do_mulh, 2, (__int128)(int64_t)a * (int64_t)b >> 64)
    ALU(do_mulhsu, 2, (__int128)(int64_t)a * (__int128)b >> 64)
    ALU(do_mulhu, 2, (unsigned __int128)a * b >> 64)
    ALU(do_mulw, 2, (int32_t)((uint32_t)a * (uint32_t)b))
    ALU(do_div, 2, arith_div((int64_t)a, (int64_t)b))
    ALU(do_divu, 2, b ? a / b : UINT64_MAX)
    ALU(do_rem, 2, arith_rem((int64_t)a, (int64_t)b))
    ALU(do_remu, 2, b ? a % b : a)
    ALU(do_divw, 2, (int32_t)arith_div((int32_t)a, (int32_t)b))
    ALU(do_divuw, 2, (int32_t)((uint32_t)b ? (uint32_t)a / (uint32_t)b : UINT32_MAX))
    ALU(do_remw, 2, (int32_t)arith_rem((int32_t)a, (int32_t)b))
    ALU(do_remuw, 2, (int32_t)((uint32_t)b ? (uint32_t)a % (uint32_t)b : (uint32_t)a))

    ALU(do_add_uw, 2, (uint32_t)a + b)
    ALU(c_add_uw, 1, (uint32_t)a + b)
    ALU(do_sh1add, 2, (a << 1) + b)
    ALU(do_sh2add, 2, (a << 2) + b)
    ALU(do_sh3add, 2, (a << 3) + b)
    ALU(do_sh1add_uw, 2, ((uint64_t)(uint32_t)a << 1) + b)
    ALU(do_sh2add_uw, 2, ((uint64_t)(uint32_t)a << 2) + b)
    ALU(do_sh3add_uw, 2, ((uint64_t)(uint32_t)a << 3) + b)
    ALU_IMM(do_slli_uw, 2, (uint64_t)(uint32_t)a << (imm & 63))

    ALU(do_andn, 2, a & ~b)
    ALU(do_orn, 2, a | ~b)
    ALU(do_xnor, 2, ~(a ^ b))
    ALU(do_max, 2, (int64_t)a > (int64_t)b ? a : b)
    ALU(do_maxu, 2, a > b ? a : b)
    ALU(do_min, 2, (int64_t)a < (int64_t)b ? a : b)
    ALU(do_minu, 2, a < b ? a : b)
    ALU(do_rol, 2, a << (b & 63) | a >> (-b & 63))
    ALU(do_ror, 2, a >> (b & 63) | a << (-b & 63))
    ALU(do_rolw, 2, (int32_t)((uint32_t)a << (b & 31) | (uint32_t)a >> (-b & 31)))
    ALU(do_rorw, 2, (int32_t)((uint32_t)a >> (b & 31) | (uint32_t)a << (-b & 31)))
    ALU_IMM(do_rori, 2, a >> (imm & 63) | a << (-imm & 63))
    ALU_IMM(do_roriw, 2, (int32_t)((uint32_t)a >> (imm & 31) | (uint32_t)a << (-imm & 31)))
    ALU_ONE(do_clz, 2, a ? __builtin_clzll(a) : 64)
    ALU_ONE(do_ctz, 2, a ? __builtin_ctzll(a) : 64)
    ALU_ONE(do_cpop, 2, __builtin_popcountll(a))
    ALU_ONE(do_clzw, 2, (uint32_t)a ? __builtin_clz((uint32_t)a) : 32)
    ALU_ONE(do_ctzw, 2, (uint32_t)a ? __builtin_ctz((uint32_t)a) : 32)
    ALU_ONE(do_cpopw, 2, __builtin_popcount((uint32_t)a))
    ALU_ONE(do_sext_b, 2, (int8_t)a)
    ALU_ONE(c_sext_b, 1, (int8_t)a)
    ALU_ONE(do_sext_h, 2, (int16_t)a)
    ALU_ONE(c_sext_h, 1, (int16_t)a)
    ALU_ONE(do_zext_h, 2, (uint16_t)a)
    ALU_ONE(c_zext_h, 1, (uint16_t)a)
    ALU_ONE(do_orc_b, 2, arith_orc_b(a))
    ALU_ONE(do_rev8, 2, __builtin_bswap64(a))

    ALU(do_clmul, 2, arith_clmul(a, b))
    ALU(do_clmulh, 2, arith_clmulh(a, b))
    ALU(do_clmulr, 2, arith_clmulr(a, b))

    ALU(do_bclr, 2, a & ~(1ull << (b & 63)))
    ALU(do_bext, 2, a >> (b & 63) & 1)
    ALU(do_binv, 2, a ^ 1ull << (b & 63))
    ALU(do_bset, 2, a | 1ull << (b & 63))
    ALU_IMM(do_bclri, 2, a & ~(1ull << (imm & 63)))
    ALU_IMM(do_bexti, 2, a >> (imm & 63) & 1)
    ALU_IMM(do_binvi, 2, a ^ 1ull << (imm & 63))
    ALU_IMM(do_bseti, 2, a | 1ull << (imm & 63))

    ALU(do_czero_eqz, 2, b == 0 ? 0 : a)
    ALU(do_czero_nez, 2, b != 0 ? 0 : a)

    /* Classes that are executed elsewhere. */

do_fp:
    if (unlikely(!hart_fp_on(h) || !interp_fp(h, w)))
        goto do_illegal;
    NEXT(2);

do_amo:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    rc = interp_amo(e, h, w);
    if (unlikely(rc != STEP_NEXT))
        goto stepped;
    NEXT(2);

do_cbo:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    rc = interp_cbo(h, w, insn_bits(e, h->pc, w));
    goto stepped;

do_csr:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    rc = interp_csr(h, w, insn_bits(e, h->pc, w));
    goto stepped;

do_sys:
    h->pc = pc_of(ip, bias);
    h->left = left + reserve;
    rc = interp_sys(h, w, insn_bits(e, h->pc, w));
    goto stepped;

do_pause:
    h->left = left + reserve;
    h->yield = true;
    goto sync;

stepped:
    if (rc < 0)
        goto trap;
    if (rc == STEP_JUMP)
        goto done;
    goto sync;
}

static enum engine_exit interp_run(void *engine, struct hart *h)
{
    return run(engine, h, 0);
}

enum engine_exit interp_run_steps(void *engine, struct hart *h, uint64_t steps)
{
    return run(engine, h, (uint64_t)h->left > steps ? h->left - (int64_t)steps : 0);
}

const struct engine interp_engine = {
    .name = "interp",
    .create = pages_create,
    .destroy = pages_destroy,
    .run = interp_run,
    .invalidate = pages_invalidate,
    .flush = pages_flush,
};
