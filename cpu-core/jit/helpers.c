/* What translated code calls: accesses that missed, and instructions that go through the interpreter. Each
 * makes h->pc and h->left exact, and either lets the block go on or completes the instruction and ends it. */
#include "cpu-core/fp/fp.h"
#include "cpu-core/interp/interp.h"
#include "cpu-core/jit/internal.h"

static struct jit *jit_of(const struct hart *h)
{
    return h->translator;
}

/* h->pc and h->left as they are before the instruction of the site. */
static void exact(struct hart *h, const struct site *s, int64_t left)
{
    h->pc = h->code_page + s->offset;
    h->left = left + s->refund;
}

/* The instruction is complete. Goes on in translated code if that is known and nothing else is to be done. */
static struct helper_result leave(struct hart *h)
{
    struct jit *j = jit_of(h);
    const struct jump_slot *s;
    const uint8_t *code;

    if (h->left <= 0 || h->irq_ready || h->yield || h->wait != HART_RUNS) {
        ++*(h->left <= 0   ? &j->stats.left_budget
            : h->irq_ready ? &j->stats.left_interrupt
                           : &j->stats.left_yield);
        return (struct helper_result){0, -1};
    }
    h->code_dirty = false;
    jit_sync_context(j, h);
    s = jump_slot(h->jumps, h->pc ^ h->jump_salt);
    if (s->tag == (h->pc ^ h->jump_salt) && s->block->live) {
        h->code_page = h->pc & PAGE_MASK;
        code = s->block->code;
    } else {
        code = jump_find(h, h->pc);
    }
    ++*(code ? &j->stats.chained : &j->stats.left_lookup);
    return (struct helper_result){(uint64_t)(uintptr_t)code, -1};
}

static struct helper_result trap(struct hart *h)
{
    hart_trap(h);
    h->left--;
    return leave(h);
}

/* The instruction at h->pc raised an exception. From U and S, translated code takes it: none but the
 * instruction itself ends here, and no interrupt becomes ready by that (tr_trap.c). */
static struct helper_result fault(struct hart *h)
{
    struct jit *j = jit_of(h);

    j->stats.faults++;
    if (h->priv == PRIV_M || h->irq_ready || h->yield)
        return trap(h);
    h->code_dirty = false;
    h->left--;
    return (struct helper_result){(uint64_t)(uintptr_t)j->raised, -1};
}

/* The instruction retired: the block goes on unless something that it does not look at changed. */
static bool undisturbed(const struct hart *h, int64_t left)
{
    bool fp_clean = h->f_loaded && (h->mstatus & MSTATUS_FS) != MSTATUS_FS;

    return h->left == left && !h->irq_ready && !h->yield && !h->code_dirty && !fp_clean;
}

static struct helper_result retire_and_leave(struct hart *h, const struct site *s)
{
    h->pc += s->len;
    h->left--;
    return leave(h);
}

static uint64_t extend(const struct site *s, uint64_t v)
{
    unsigned shift = 64 - 8u * s->size;

    return s->sext ? (uint64_t)((int64_t)(v << shift) >> shift) : v;
}

static uint64_t box(const struct site *s, uint64_t v)
{
    return s->size == 8 ? v : s->size == 4 ? fp_box32((uint32_t)v) : fp_box16((uint16_t)v);
}

struct helper_result helper_load(struct hart *h, uint64_t va, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);
    uint64_t v;

    exact(h, &s, left);
    jit_of(h)->stats.slow_loads++;
    if (mmu_load(h, va, s.size, &v) < 0)
        return fault(h);
    v = s.fp ? box(&s, v) : extend(&s, v);
    if (undisturbed(h, left + s.refund))
        return (struct helper_result){v, left};
    if (s.fp) {
        h->f[s.reg] = v;
        hart_fp_dirty(h);
    } else if (s.reg) {
        h->x[s.reg] = v;
    }
    return retire_and_leave(h, &s);
}

struct helper_result helper_store(struct hart *h, uint64_t va, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);

    exact(h, &s, left);
    jit_of(h)->stats.slow_stores++;
    if (mmu_store(h, va, s.size, s.fp ? h->f[s.reg] : h->x[s.reg]) < 0)
        return fault(h);
    if (undisturbed(h, left + s.refund))
        return (struct helper_result){0, left};
    return retire_and_leave(h, &s);
}

/* Translates for the first access of a group, which is about to execute: a write if the site says sext. `va`
 * is the lowest byte of the group. Value 1: the group's check succeeds now. */
struct helper_result helper_group(struct hart *h, uint64_t va, uint32_t packed, int64_t left, uint32_t group)
{
    struct site s = site_unpack(packed);
    bool write = group >> 31;
    uint64_t first = va + (group & 0xffff);
    unsigned len = group >> 16 & 0x7fff;
    struct mmu_target t;

    exact(h, &s, left);
    jit_of(h)->stats.group_misses++;
    if (((va ^ (va + len - 1)) & PAGE_MASK) == 0) {
        if (mmu_translate(h, first, s.size, s.sext ? MMU_WRITE : MMU_READ, &t) < 0)
            return fault(h);
        if (!undisturbed(h, left + s.refund))
            return leave(h);
        if (write ? mmu_hit_write(h, va, len) : mmu_hit_read(h, va, len))
            return (struct helper_result){1, left};
    }
    jit_of(h)->stats.group_splits++;
    return (struct helper_result){0, left};
}

struct helper_result helper_step(struct hart *h, uint64_t class, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);
    struct jit *j = jit_of(h);
    uint64_t next;
    unsigned priv = h->priv;

    exact(h, &s, left);
    next = h->pc + s.len;
    j->stats.steps[class]++;
    fp_leave(h);
    interp_run_steps(j->interp, h, 1);
    fp_enter(h);
    if (h->pc == next && h->priv == priv && mode_of(h) == (h->jump_salt & MODE_MASK) &&
        h->wait == HART_RUNS && undisturbed(h, left + s.refund - 1))
        return (struct helper_result){0, left};
    return leave(h);
}

/* Registers and memory apart, what a block was translated under is the same. */
static bool same_context(struct hart *h, unsigned priv)
{
    return h->priv == priv && mode_of(h) == (h->jump_salt & MODE_MASK);
}

struct helper_result helper_csr(struct hart *h, uint64_t bits, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);
    unsigned csr = (uint32_t)bits >> 20, rd = bits >> 7 & 31, rs1 = bits >> 15 & 31, op = bits >> 12 & 3,
             priv = h->priv;
    uint64_t operand = bits >> 14 & 1 ? rs1 : h->x[rs1], old;
    bool is_fp = csr <= 3;
    int rc;

    exact(h, &s, left);
    jit_of(h)->stats.csrs++;
    if (is_fp)
        fp_leave(h);
    rc = hart_csr(h, (uint32_t)bits, csr, op, operand, op != 1 || rd, op == 1 || rs1, &old);
    if (is_fp)
        fp_enter(h);
    if (rc < 0)
        return fault(h);
    if (rd)
        h->x[rd] = old;
    /* The slice may end sooner now, but not in this block. */
    if (h->left >= s.refund && same_context(h, priv) && undisturbed(h, h->left))
        return (struct helper_result){0, h->left - s.refund};
    return retire_and_leave(h, &s);
}

/* What fault() left to translated code is not in the line. The step is counted. */
struct helper_result helper_trap(struct hart *h, uint64_t bits, uint32_t packed, int64_t left)
{
    h->left = left;
    hart_trap(h);
    return leave(h);
}

struct helper_result helper_ecall(struct hart *h, uint64_t bits, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);

    exact(h, &s, left);
    jit_of(h)->stats.ecalls++;
    hart_raise(h, EXC_ECALL_U + h->priv, 0);
    return trap(h);
}

static struct helper_result trap_return(struct hart *h, int rc)
{
    jit_of(h)->stats.xrets++;
    if (rc < 0)
        return fault(h);
    h->left--;
    return leave(h);
}

struct helper_result helper_sret(struct hart *h, uint64_t bits, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);

    exact(h, &s, left);
    return trap_return(h, hart_sret(h, (uint32_t)bits));
}

struct helper_result helper_mret(struct hart *h, uint64_t bits, uint32_t packed, int64_t left)
{
    struct site s = site_unpack(packed);

    exact(h, &s, left);
    return trap_return(h, hart_mret(h, (uint32_t)bits));
}

struct helper_result helper_cbo_zero(struct hart *h, uint64_t bits, uint32_t packed, int64_t left)
{
    static const uint8_t zeros[64];
    struct site s = site_unpack(packed);
    uint64_t va = h->x[bits >> 15 & 31] & ~63ull;
    uint8_t *host;
    struct mmu_target t;

    exact(h, &s, left);
    jit_of(h)->stats.cbo_zeros++;
    if (hart_cbo_check(h, (uint32_t)bits, 4) < 0)
        return fault(h);
    host = mmu_hit_write(h, va, sizeof zeros);
    if (host) {
        memset(host, 0, sizeof zeros);
        return (struct helper_result){0, left};
    }
    if (mmu_translate(h, va, sizeof zeros, MMU_WRITE, &t) < 0)
        return fault(h);
    if (!t.host) {
        hart_raise(h, EXC_STORE_ACCESS, va);
        return fault(h);
    }
    mmu_phys_store(h->mmu, h, t.pa, zeros, sizeof zeros);
    return undisturbed(h, left + s.refund) ? (struct helper_result){0, left} : retire_and_leave(h, &s);
}
