/* CSR and privileged instructions, and the cache-block operations, on top of the hart's rules for them. */
#include "cpu-core/interp/internal.h"

static const uint8_t zeros[64];

int interp_csr(struct hart *h, slot_t w, uint32_t bits)
{
    unsigned op = isa_table[slot_op(w)].match >> 12 & 3;
    bool immediate = isa_table[slot_op(w)].match >> 14 & 1;
    uint64_t operand = immediate ? slot_rs1(w) : h->x[slot_rs1(w)];
    bool read = op != 1 || slot_rd(w) != 0;
    bool write = op == 1 || slot_rs1(w) != 0;
    uint64_t old;
    int rc = hart_csr(h, bits, (unsigned)slot_imm(w) & 0xfff, op, operand, read, write, &old);

    if (rc < 0)
        return rc;
    if (slot_rd(w) != 0)
        h->x[slot_rd(w)] = old;
    return STEP_SYNC;
}

static int ecall(struct hart *h)
{
    return hart_raise(h, EXC_ECALL_U + h->priv, 0);
}

int interp_sys(struct hart *h, slot_t w, uint32_t bits)
{
    int rc;

    switch (slot_op(w)) {
    case INSN_ECALL:
        return ecall(h);
    case INSN_EBREAK:
        return hart_raise(h, EXC_BREAKPOINT, h->pc);
    case INSN_MRET:
        rc = hart_mret(h, bits);
        return rc < 0 ? rc : STEP_JUMP;
    case INSN_SRET:
        rc = hart_sret(h, bits);
        return rc < 0 ? rc : STEP_JUMP;
    case INSN_WFI:
        rc = hart_wfi(h, bits);
        return rc < 0 ? rc : STEP_SYNC;
    case INSN_WRS_NTO:
    case INSN_WRS_STO:
        rc = hart_wrs(h, bits, slot_op(w) == INSN_WRS_STO);
        return rc < 0 ? rc : STEP_SYNC;
    default:
        rc = hart_sfence_check(h, bits);
        return rc < 0 ? rc : STEP_SYNC;
    }
}

/* Management operations need any access to the block and report its absence as a store would (Zicbom,
 * "Traps"). Caches are invisible, so there is nothing else to do. */
static int cbo_manage(struct hart *h, uint64_t va)
{
    struct mmu_target t;

    if (mmu_translate(h, va, 64, MMU_READ, &t) == 0)
        return STEP_SYNC;
    return mmu_translate(h, va, 64, MMU_WRITE, &t) < 0 ? -1 : STEP_SYNC;
}

static int cbo_zero(struct hart *h, uint64_t va)
{
    struct mmu_target t;

    if (mmu_translate(h, va, 64, MMU_WRITE, &t) < 0)
        return -1;
    if (!t.host)
        return hart_raise(h, EXC_STORE_ACCESS, va);
    mmu_phys_store(h->mmu, h, t.pa, zeros, sizeof zeros);
    return STEP_SYNC;
}

int interp_cbo(struct hart *h, slot_t w, uint32_t bits)
{
    uint64_t va = h->x[slot_rs1(w)] & ~63ull;
    int rc = hart_cbo_check(h, bits, bits >> 20);

    if (rc < 0)
        return rc;
    return slot_op(w) == INSN_CBO_ZERO ? cbo_zero(h, va) : cbo_manage(h, va);
}
