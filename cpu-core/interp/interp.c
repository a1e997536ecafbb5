/* The run loop of the interpreter: threaded dispatch over pre-decoded slots, integer instructions, loads,
 * stores and control transfers in line. Knows the hart's registers, the hit paths of the mmu and its own
 * slots; CSRs, traps and translation are calls.
 *
 * The loop keeps three things in locals. `ip` is the current slot; `bias` turns it into the pc: pc = bias +
 * ip / 4, since a slot of 8 bytes stands for 2 bytes of code; `left` is h->left. h->pc and h->left are
 * written before anything is called that may look at them, and read back after. Whatever may have changed
 * interrupts, translation or code goes on at `fetch`, which assumes nothing but h->pc. */
#include "cpu-core/interp/arith.h"
#include "cpu-core/interp/internal.h"

#include "cpu-core/fp/fp.h"

#include <string.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Next instruction in sequence: counts this one, then dispatches through the table `handlers`, or leaves to
 * the label `budget`. */
#define NEXT(ip, w, left)                                                                                    \
    do {                                                                                                     \
        (ip) += slot_halves(w);                                                                              \
        if (unlikely(--(left) <= 0))                                                                         \
            goto budget;                                                                                     \
        (w) = *(ip);                                                                                         \
        goto *handlers[(w)&SLOT_OP_MASK];                                                                    \
    } while (0)

/* A transfer within the page, by a distance in halfwords. */
#define GO_NEAR(ip, w, left)                                                                                 \
    do {                                                                                                     \
        (ip) += slot_imm(w);                                                                                 \
        if (unlikely(--(left) <= 0))                                                                         \
            goto budget;                                                                                     \
        (w) = *(ip);                                                                                         \
        goto *handlers[(w)&SLOT_OP_MASK];                                                                    \
    } while (0)

/* The macros below make whole handlers, out of the run loop's locals h, ip, w and left. */

/* An instruction that is one expression of two registers, of a register and the immediate, or of one
 * register. */
#define ALU(name, expr)                                                                                      \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t a = h->x[slot_rs1(w)], b = h->x[slot_rs2(w)];                                               \
        h->x[slot_rd(w)] = (uint64_t)(expr);                                                                 \
        NEXT(ip, w, left);                                                                                   \
    }
#define ALU_IMM(name, expr)                                                                                  \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t a = h->x[slot_rs1(w)];                                                                      \
        int64_t imm = slot_imm(w);                                                                           \
        h->x[slot_rd(w)] = (uint64_t)(expr);                                                                 \
        NEXT(ip, w, left);                                                                                   \
    }
#define ALU_ONE(name, expr)                                                                                  \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t a = h->x[slot_rs1(w)];                                                                      \
        h->x[slot_rd(w)] = (uint64_t)(expr);                                                                 \
        NEXT(ip, w, left);                                                                                   \
    }

/* A branch, near and far. */
#define BRANCH(name, expr)                                                                                   \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t a = h->x[slot_rs1(w)], b = h->x[slot_rs2(w)];                                               \
        if (expr)                                                                                            \
            GO_NEAR(ip, w, left);                                                                            \
        NEXT(ip, w, left);                                                                                   \
    }                                                                                                        \
    far_##name:                                                                                              \
    {                                                                                                        \
        uint64_t a = h->x[slot_rs1(w)], b = h->x[slot_rs2(w)];                                               \
        if (expr)                                                                                            \
            goto do_j_far;                                                                                   \
        NEXT(ip, w, left);                                                                                   \
    }

/* A load whose value of type `type` extends to 64 bits as C does, and a store. */
#define LOAD(name, type)                                                                                     \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        const uint8_t *host = mmu_hit_read(h, va, sizeof(type));                                             \
        type v;                                                                                              \
        if (unlikely(!host))                                                                                 \
            goto load_slow;                                                                                  \
        memcpy(&v, host, sizeof v);                                                                          \
        h->x[slot_rd(w)] = (uint64_t)v;                                                                      \
        h->x[0] = 0;                                                                                         \
        NEXT(ip, w, left);                                                                                   \
    }
#define STORE(name, type)                                                                                    \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        uint8_t *host = mmu_hit_write(h, va, sizeof(type));                                                  \
        type v = (type)h->x[slot_rs2(w)];                                                                    \
        if (unlikely(!host))                                                                                 \
            goto store_slow;                                                                                 \
        memcpy(host, &v, sizeof v);                                                                          \
        NEXT(ip, w, left);                                                                                   \
    }

/* Floating-point loads, `box` giving the register's contents, and stores. */
#define FLOAD(name, type, box)                                                                               \
    do_##name:                                                                                               \
    {                                                                                                        \
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
        NEXT(ip, w, left);                                                                                   \
    }
#define FSTORE(name, type)                                                                                   \
    do_##name:                                                                                               \
    {                                                                                                        \
        uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);                                             \
        uint8_t *host = mmu_hit_write(h, va, sizeof(type));                                                  \
        type v = (type)h->f[slot_rs2(w)];                                                                    \
        if (unlikely(!hart_fp_on(h)))                                                                        \
            goto do_illegal;                                                                                 \
        if (unlikely(!host))                                                                                 \
            goto fstore_slow;                                                                                \
        memcpy(host, &v, sizeof v);                                                                          \
        NEXT(ip, w, left);                                                                                   \
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
        host = t.host;
    }
    p = e->by_page[(uint64_t)(host - e->ram->host) >> PAGE_SHIFT];
    if (unlikely(!p))
        p = pages_get(e, (uint64_t)(host - e->ram->host) >> PAGE_SHIFT);
    p->referenced = true;
    return p;
}

static enum engine_exit interp_run(void *engine, struct hart *h)
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
    static const void *const handlers[SLOT_OPS] = {
#define HANDLER(id, name, cls) [id] = LABEL_##cls(name),
#include "cpu-core/isa/isa_dispatch.h"
#undef HANDLER
        [SLOT_DECODE] = &&do_decode,   [SLOT_CROSS] = &&do_cross,    [SLOT_FETCH] = &&do_fetch,
        [SLOT_ILLEGAL] = &&do_illegal, [SLOT_NOP] = &&do_nop,        [SLOT_J] = &&do_j,
        [SLOT_JR] = &&do_jr,           [SLOT_J_FAR] = &&do_j_far,    [SLOT_JAL_FAR] = &&do_jal_far,
        [SLOT_BEQ_FAR] = &&far_beq,    [SLOT_BNE_FAR] = &&far_bne,   [SLOT_BLT_FAR] = &&far_blt,
        [SLOT_BGE_FAR] = &&far_bge,    [SLOT_BLTU_FAR] = &&far_bltu, [SLOT_BGEU_FAR] = &&far_bgeu,
    };
    struct interp *e = engine;
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
    h->left = left;
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
    if (h->left <= 0)
        return ENGINE_BUDGET;
    if (h->irq_ready)
        hart_interrupt(h);
    goto fetch;

jump: /* to `target`, on any page; the instruction is not counted yet */
    h->pc = target;
    h->left = left - 1;
    if (unlikely(h->left <= 0))
        return ENGINE_BUDGET;

fetch: /* of the instruction at h->pc, h->left is current and positive */
    h->code_dirty = false;
    if (unlikely(!e->by_page)) {
        rc = fetch_uncached(e, h, &w);
        if (rc < 0)
            goto trap;
        bias = bias_of(e->scratch, h->pc);
        ip = slot_at(h->pc, bias);
    } else {
        struct code_page *p = fetch_page(e, h);
        if (unlikely(!p))
            goto trap;
        e->current = p;
        bias = bias_of(p, h->pc);
        ip = slot_at(h->pc, bias);
        w = *ip;
    }
    left = h->left;
    goto *handlers[w & SLOT_OP_MASK];

    /* Slots that are not instructions. */

do_fetch:
    h->pc = pc_of(ip, bias);
    h->left = left;
    goto fetch;

do_decode:
    w = slot_fill(e->current, (unsigned)(ip - e->current->slots));
    goto *handlers[w & SLOT_OP_MASK];

do_cross:
    h->pc = pc_of(ip, bias);
    h->left = left;
    if (fetch_cross(e, h, &w) < 0)
        goto trap;
    left = h->left;
    goto *handlers[w & SLOT_OP_MASK];

do_illegal:
    h->pc = pc_of(ip, bias);
    h->left = left;
    hart_raise(h, EXC_ILLEGAL, insn_bits(e, h->pc, w));
    goto trap;

    /* Control transfers. */

do_jal:
    h->x[slot_rd(w)] = pc_of(ip + slot_halves(w), bias);
    GO_NEAR(ip, w, left);

do_j:
    GO_NEAR(ip, w, left);

do_jal_far:
    h->x[slot_rd(w)] = pc_of(ip + slot_halves(w), bias);
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
    ip = slot_at(target, bias);
    if (unlikely(--left <= 0))
        goto budget;
    w = *ip;
    goto *handlers[w & SLOT_OP_MASK];

    BRANCH(beq, a == b)
    BRANCH(bne, a != b)
    BRANCH(blt, (int64_t)a < (int64_t)b)
    BRANCH(bge, (int64_t)a >= (int64_t)b)
    BRANCH(bltu, a < b)
    BRANCH(bgeu, a >= b)

    /* Loads and stores. */

    LOAD(lb, int8_t)
    LOAD(lh, int16_t)
    LOAD(lw, int32_t)
    LOAD(ld, int64_t)
    LOAD(lbu, uint8_t)
    LOAD(lhu, uint16_t)
    LOAD(lwu, uint32_t)
    STORE(sb, uint8_t)
    STORE(sh, uint16_t)
    STORE(sw, uint32_t)
    STORE(sd, uint64_t)
    FLOAD(flh, uint16_t, fp_box16)
    FLOAD(flw, uint32_t, fp_box32)
    FLOAD(fld, uint64_t, (uint64_t))
    FSTORE(fsh, uint16_t)
    FSTORE(fsw, uint32_t)
    FSTORE(fsd, uint64_t)

load_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w), v;
    h->pc = pc_of(ip, bias);
    h->left = left;
    if (mmu_load(h, va, isa_table[slot_op(w)].size, &v) < 0)
        goto trap;
    h->x[slot_rd(w)] = extend(slot_op(w), v);
    h->x[0] = 0;
    goto sync;
}

fload_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w), v;
    h->pc = pc_of(ip, bias);
    h->left = left;
    if (mmu_load(h, va, isa_table[slot_op(w)].size, &v) < 0)
        goto trap;
    h->f[slot_rd(w)] = box(isa_table[slot_op(w)].size, v);
    hart_fp_dirty(h);
    goto sync;
}

store_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);
    h->pc = pc_of(ip, bias);
    h->left = left;
    if (mmu_store(h, va, isa_table[slot_op(w)].size, h->x[slot_rs2(w)]) < 0)
        goto trap;
    goto sync;
}

fstore_slow : {
    uint64_t va = h->x[slot_rs1(w)] + (uint64_t)slot_imm(w);
    h->pc = pc_of(ip, bias);
    h->left = left;
    if (mmu_store(h, va, isa_table[slot_op(w)].size, h->f[slot_rs2(w)]) < 0)
        goto trap;
    goto sync;
}

    /* Integer computation. */

do_lui:
    h->x[slot_rd(w)] = (uint64_t)slot_imm(w) << 12;
    NEXT(ip, w, left);
do_auipc:
    h->x[slot_rd(w)] = pc_of(ip, bias) + ((uint64_t)slot_imm(w) << 12);
    NEXT(ip, w, left);
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
    NEXT(ip, w, left);

    ALU_IMM(addi, a + (uint64_t)imm)
    ALU_IMM(slti, (int64_t)a < imm)
    ALU_IMM(sltiu, a < (uint64_t)imm)
    ALU_IMM(xori, a ^ (uint64_t)imm)
    ALU_IMM(ori, a | (uint64_t)imm)
    ALU_IMM(andi, a & (uint64_t)imm)
    ALU_IMM(slli, a << (imm & 63))
    ALU_IMM(srli, a >> (imm & 63))
    ALU_IMM(srai, (int64_t)a >> (imm & 63))
    ALU_IMM(addiw, (int32_t)((uint32_t)a + (uint32_t)imm))
    ALU_IMM(slliw, (int32_t)((uint32_t)a << (imm & 31)))
    ALU_IMM(srliw, (int32_t)((uint32_t)a >> (imm & 31)))
    ALU_IMM(sraiw, (int32_t)a >> (imm & 31))
    ALU(add, a + b)
    ALU(sub, a - b)
    ALU(sll, a << (b & 63))
    ALU(slt, (int64_t)a < (int64_t)b)
    ALU(sltu, a < b)
    ALU(xor, a ^ b)
    ALU(srl, a >> (b & 63))
    ALU(sra, (int64_t)a >> (b & 63))
    ALU(or, a | b)
    ALU(and, a & b)
    ALU(addw, (int32_t)((uint32_t)a + (uint32_t)b))
    ALU(subw, (int32_t)((uint32_t)a - (uint32_t)b))
    ALU(sllw, (int32_t)((uint32_t)a << (b & 31)))
    ALU(srlw, (int32_t)((uint32_t)a >> (b & 31)))
    ALU(sraw, (int32_t)a >> (b & 31))

    ALU(mul, a * b)
    ALU(mulh, (__int128)(int64_t)a * (int64_t)b >> 64)
    ALU(mulhsu, (__int128)(int64_t)a * (__int128)b >> 64)
    ALU(mulhu, (unsigned __int128)a * b >> 64)
    ALU(mulw, (int32_t)((uint32_t)a * (uint32_t)b))
    ALU(div, arith_div((int64_t)a, (int64_t)b))
    ALU(divu, b ? a / b : UINT64_MAX)
    ALU(rem, arith_rem((int64_t)a, (int64_t)b))
    ALU(remu, b ? a % b : a)
    ALU(divw, (int32_t)arith_div((int32_t)a, (int32_t)b))
    ALU(divuw, (int32_t)((uint32_t)b ? (uint32_t)a / (uint32_t)b : UINT32_MAX))
    ALU(remw, (int32_t)arith_rem((int32_t)a, (int32_t)b))
    ALU(remuw, (int32_t)((uint32_t)b ? (uint32_t)a % (uint32_t)b : (uint32_t)a))

    ALU(add_uw, (uint32_t)a + b)
    ALU(sh1add, (a << 1) + b)
    ALU(sh2add, (a << 2) + b)
    ALU(sh3add, (a << 3) + b)
    ALU(sh1add_uw, ((uint64_t)(uint32_t)a << 1) + b)
    ALU(sh2add_uw, ((uint64_t)(uint32_t)a << 2) + b)
    ALU(sh3add_uw, ((uint64_t)(uint32_t)a << 3) + b)
    ALU_IMM(slli_uw, (uint64_t)(uint32_t)a << (imm & 63))

    ALU(andn, a & ~b)
    ALU(orn, a | ~b)
    ALU(xnor, ~(a ^ b))
    ALU(max, (int64_t)a > (int64_t)b ? a : b)
    ALU(maxu, a > b ? a : b)
    ALU(min, (int64_t)a < (int64_t)b ? a : b)
    ALU(minu, a < b ? a : b)
    ALU(rol, a << (b & 63) | a >> (-b & 63))
    ALU(ror, a >> (b & 63) | a << (-b & 63))
    ALU(rolw, (int32_t)((uint32_t)a << (b & 31) | (uint32_t)a >> (-b & 31)))
    ALU(rorw, (int32_t)((uint32_t)a >> (b & 31) | (uint32_t)a << (-b & 31)))
    ALU_IMM(rori, a >> (imm & 63) | a << (-imm & 63))
    ALU_IMM(roriw, (int32_t)((uint32_t)a >> (imm & 31) | (uint32_t)a << (-imm & 31)))
    ALU_ONE(clz, a ? __builtin_clzll(a) : 64)
    ALU_ONE(ctz, a ? __builtin_ctzll(a) : 64)
    ALU_ONE(cpop, __builtin_popcountll(a))
    ALU_ONE(clzw, (uint32_t)a ? __builtin_clz((uint32_t)a) : 32)
    ALU_ONE(ctzw, (uint32_t)a ? __builtin_ctz((uint32_t)a) : 32)
    ALU_ONE(cpopw, __builtin_popcount((uint32_t)a))
    ALU_ONE(sext_b, (int8_t)a)
    ALU_ONE(sext_h, (int16_t)a)
    ALU_ONE(zext_h, (uint16_t)a)
    ALU_ONE(orc_b, arith_orc_b(a))
    ALU_ONE(rev8, __builtin_bswap64(a))

    ALU(clmul, arith_clmul(a, b))
    ALU(clmulh, arith_clmulh(a, b))
    ALU(clmulr, arith_clmulr(a, b))

    ALU(bclr, a & ~(1ull << (b & 63)))
    ALU(bext, a >> (b & 63) & 1)
    ALU(binv, a ^ 1ull << (b & 63))
    ALU(bset, a | 1ull << (b & 63))
    ALU_IMM(bclri, a & ~(1ull << (imm & 63)))
    ALU_IMM(bexti, a >> (imm & 63) & 1)
    ALU_IMM(binvi, a ^ 1ull << (imm & 63))
    ALU_IMM(bseti, a | 1ull << (imm & 63))

    ALU(czero_eqz, b == 0 ? 0 : a)
    ALU(czero_nez, b != 0 ? 0 : a)

    /* Classes that are executed elsewhere. */

do_fp:
    if (unlikely(!hart_fp_on(h) || !interp_fp(h, w)))
        goto do_illegal;
    NEXT(ip, w, left);

do_amo:
    h->pc = pc_of(ip, bias);
    h->left = left;
    rc = interp_amo(e, h, w);
    if (unlikely(rc != STEP_NEXT))
        goto stepped;
    NEXT(ip, w, left);

do_cbo:
    h->pc = pc_of(ip, bias);
    h->left = left;
    rc = interp_cbo(h, w, insn_bits(e, h->pc, w));
    goto stepped;

do_csr:
    h->pc = pc_of(ip, bias);
    h->left = left;
    rc = interp_csr(h, w, insn_bits(e, h->pc, w));
    goto stepped;

do_sys:
    h->pc = pc_of(ip, bias);
    h->left = left;
    rc = interp_sys(h, w, insn_bits(e, h->pc, w));
    goto stepped;

do_pause:
    h->left = left;
    h->yield = true;
    goto sync;

stepped:
    if (rc < 0)
        goto trap;
    if (rc == STEP_JUMP)
        goto done;
    goto sync;
}

const struct engine interp_engine = {
    .name = "interp",
    .create = pages_create,
    .destroy = pages_destroy,
    .run = interp_run,
    .invalidate = pages_invalidate,
    .flush = pages_flush,
};
