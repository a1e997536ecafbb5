/* Traps, interrupts, trap returns and the privileged instructions that check or wait; privileged
 * specification chapters "Machine-Level ISA" and "Supervisor-Level ISA". Knows no CSR number. */
#include "cpu-core/hart/internal.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/time/vclock.h"

#include <errno.h>

#define CAUSE_INTERRUPT (1ull << 63)
#define WRS_STO_NS      10000u /* how long wrs.sto waits, in virtual time */

static uint64_t vector(uint64_t tvec, uint64_t cause)
{
    uint64_t base = tvec & ~3ull;
    return tvec & 1 && cause & CAUSE_INTERRUPT ? base + 4 * (cause & ~CAUSE_INTERRUPT) : base;
}

static void enter_s(struct hart *h, uint64_t cause, uint64_t tval)
{
    uint64_t s = h->mstatus & ~(MSTATUS_SPIE | MSTATUS_SIE | MSTATUS_SPP);
    if (h->mstatus & MSTATUS_SIE)
        s |= MSTATUS_SPIE;
    if (h->priv == PRIV_S)
        s |= MSTATUS_SPP;
    h->mstatus = s;
    h->sepc = h->pc;
    h->scause = cause;
    h->stval = tval;
    h->pc = vector(h->stvec, cause);
    h->priv = PRIV_S;
}

static void enter_m(struct hart *h, uint64_t cause, uint64_t tval)
{
    uint64_t s = h->mstatus & ~(MSTATUS_MPIE | MSTATUS_MIE | MSTATUS_MPP);
    if (h->mstatus & MSTATUS_MIE)
        s |= MSTATUS_MPIE;
    h->mstatus = s | (uint64_t)h->priv << 11;
    h->mepc = h->pc;
    h->mcause = cause;
    h->mtval = tval;
    h->pc = vector(h->mtvec, cause);
    h->priv = PRIV_M;
}

static void enter(struct hart *h, bool to_s, uint64_t cause, uint64_t tval)
{
    h->res_valid = false;
    if (to_s)
        enter_s(h, cause, tval);
    else
        enter_m(h, cause, tval);
    mmu_context_changed(h);
    hart_irq_update(h);
}

int hart_raise(struct hart *h, enum exception cause, uint64_t tval)
{
    h->exc_cause = cause;
    h->exc_tval = tval;
    return -EFAULT;
}

void hart_trap(struct hart *h)
{
    h->traps++;
    enter(h, h->priv != PRIV_M && h->medeleg >> h->exc_cause & 1, h->exc_cause, h->exc_tval);
}

/* Pending enabled interrupts that would be taken into M, and into S. */
static uint64_t takeable_m(const struct hart *h)
{
    bool open = h->priv != PRIV_M || h->mstatus & MSTATUS_MIE;
    return open ? h->mip & h->mie & ~h->mideleg : 0;
}

static uint64_t takeable_s(const struct hart *h)
{
    bool open = h->priv == PRIV_U || (h->priv == PRIV_S && h->mstatus & MSTATUS_SIE);
    return open ? h->mip & h->mie & h->mideleg : 0;
}

bool hart_interrupt(struct hart *h)
{
    static const uint8_t order[] = {11, 3, 7, 9, 1, 5}; /* MEI MSI MTI SEI SSI STI */
    uint64_t to_m = takeable_m(h), bits = to_m ? to_m : takeable_s(h);
    for (unsigned i = 0; i < sizeof order; i++) {
        if (!(bits >> order[i] & 1))
            continue;
        enter(h, !to_m, CAUSE_INTERRUPT | order[i], 0);
        return true;
    }
    h->irq_ready = false;
    return false;
}

void hart_irq_update(struct hart *h)
{
    h->irq_ready = (takeable_m(h) | takeable_s(h)) != 0;
    if (h->wait && (h->mip & h->mie || (h->wait == HART_WRS && !h->res_valid)))
        h->wait = HART_RUNS;
}

void hart_irq_line(struct hart *h, uint64_t bits, bool level)
{
    if (bits & IRQ_SEIP) {
        h->seip_plic = level;
        bits &= ~(uint64_t)IRQ_SEIP;
        h->mip = (h->mip & ~(uint64_t)IRQ_SEIP) | (level || h->seip_sw ? IRQ_SEIP : 0);
    }
    h->mip = level ? h->mip | bits : h->mip & ~bits;
    hart_irq_update(h);
}

int hart_mret(struct hart *h, uint32_t insn)
{
    if (h->priv != PRIV_M)
        return hart_raise(h, EXC_ILLEGAL, insn);
    unsigned to = (unsigned)(h->mstatus & MSTATUS_MPP) >> 11;
    uint64_t s = h->mstatus & ~(MSTATUS_MIE | MSTATUS_MPP);
    if (h->mstatus & MSTATUS_MPIE)
        s |= MSTATUS_MIE;
    if (to != PRIV_M)
        s &= ~MSTATUS_MPRV;
    h->mstatus = s | MSTATUS_MPIE;
    h->priv = (uint8_t)to;
    h->pc = h->mepc;
    mmu_context_changed(h);
    hart_irq_update(h);
    return 0;
}

int hart_sret(struct hart *h, uint32_t insn)
{
    if (h->priv == PRIV_U || (h->priv == PRIV_S && h->mstatus & MSTATUS_TSR))
        return hart_raise(h, EXC_ILLEGAL, insn);
    uint64_t s = h->mstatus & ~(MSTATUS_SIE | MSTATUS_SPP | MSTATUS_MPRV);
    if (h->mstatus & MSTATUS_SPIE)
        s |= MSTATUS_SIE;
    h->priv = h->mstatus & MSTATUS_SPP ? PRIV_S : PRIV_U;
    h->mstatus = s | MSTATUS_SPIE;
    h->pc = h->sepc;
    mmu_context_changed(h);
    hart_irq_update(h);
    return 0;
}

int hart_wfi(struct hart *h, uint32_t insn)
{
    if (h->priv == PRIV_U || (h->priv == PRIV_S && h->mstatus & MSTATUS_TW))
        return hart_raise(h, EXC_ILLEGAL, insn);
    if (!(h->mip & h->mie)) {
        h->wait = HART_WFI;
        h->yield = true;
    }
    return 0;
}

/* Zawrs: TW bounds wrs.nto only, and the bound is zero. */
int hart_wrs(struct hart *h, uint32_t insn, bool timeout)
{
    if (!timeout && h->priv != PRIV_M && h->mstatus & MSTATUS_TW)
        return hart_raise(h, EXC_ILLEGAL, insn);
    if (h->res_valid && !(h->mip & h->mie)) {
        h->wait = HART_WRS;
        h->wrs_deadline = timeout ? vclock_ns(h->clock, hart_icount(h)) + WRS_STO_NS : VCLOCK_NEVER;
        h->yield = true;
    }
    return 0;
}

int hart_sfence_check(struct hart *h, uint32_t insn)
{
    unsigned funct7 = insn >> 25;
    bool by_address =
        funct7 == 0x09 || funct7 == 0x0B; /* sfence.vma, sinval.vma; the other two have funct7 0x0C */
    if (h->priv == PRIV_U || (by_address && h->priv == PRIV_S && h->mstatus & MSTATUS_TVM))
        return hart_raise(h, EXC_ILLEGAL, insn);
    return 0;
}

int hart_cbo_check(struct hart *h, uint32_t insn, unsigned op)
{
    static const uint64_t enable[] = {MENVCFG_CBIE, MENVCFG_CBCFE, MENVCFG_CBCFE, [4] = MENVCFG_CBZE};
    if ((h->priv != PRIV_M && !(h->menvcfg & enable[op])) ||
        (h->priv == PRIV_U && !(h->senvcfg & enable[op])))
        return hart_raise(h, EXC_ILLEGAL, insn);
    return 0;
}
