/* The CSR instruction and the registers of unprivileged and supervisor software. */
#include "cpu-core/hart/internal.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/time/vclock.h"

#include <errno.h>

#define COUNTER_TM (1u << 1)
#define COUNTERS   7u /* CY, TM, IR */

bool csr_fp_usable(const struct hart *h, unsigned csr)
{
    return hart_fp_on(h);
}

uint64_t csr_fflags(const struct hart *h, unsigned csr)
{
    return h->fflags;
}
uint64_t csr_frm(const struct hart *h, unsigned csr)
{
    return h->frm;
}
uint64_t csr_fcsr(const struct hart *h, unsigned csr)
{
    return (uint64_t)h->frm << 5 | h->fflags;
}

void csr_set_fflags(struct hart *h, unsigned csr, uint64_t v)
{
    h->fflags = v & 31;
    hart_fp_dirty(h);
}

void csr_set_frm(struct hart *h, unsigned csr, uint64_t v)
{
    h->frm = v & 7;
    hart_fp_dirty(h);
}

void csr_set_fcsr(struct hart *h, unsigned csr, uint64_t v)
{
    csr_set_fflags(h, csr, v);
    csr_set_frm(h, csr, v >> 5);
}

/* cycle, time, instret: bit n of mcounteren opens counter n to S, and with scounteren to U. */
bool csr_counter_usable(const struct hart *h, unsigned csr)
{
    uint32_t bit = 1u << (csr - CSR_CYCLE);
    return h->priv == PRIV_M || (h->mcounteren & bit && (h->priv == PRIV_S || h->scounteren & bit));
}

uint64_t csr_mcycle(const struct hart *h, unsigned csr)
{
    return hart_mcycle(h);
}
uint64_t csr_minstret(const struct hart *h, unsigned csr)
{
    return hart_minstret(h);
}
uint64_t csr_time(const struct hart *h, unsigned csr)
{
    return vclock_ticks(h->clock, hart_icount(h));
}

uint64_t csr_sstatus(const struct hart *h, unsigned csr)
{
    return csr_mstatus(h, csr) & (SSTATUS_MASK | MSTATUS_UXL | MSTATUS_SD);
}

void csr_set_sstatus(struct hart *h, unsigned csr, uint64_t v)
{
    csr_set_mstatus(h, csr, (h->mstatus & ~SSTATUS_MASK) | (v & SSTATUS_MASK));
}

uint64_t csr_sie(const struct hart *h, unsigned csr)
{
    return h->mie & h->mideleg;
}

void csr_set_sie(struct hart *h, unsigned csr, uint64_t v)
{
    csr_set_mie(h, csr, (h->mie & ~h->mideleg) | (v & h->mideleg));
}

uint64_t csr_sip(const struct hart *h, unsigned csr)
{
    return h->mip & h->mideleg;
}

void csr_set_sip(struct hart *h, unsigned csr, uint64_t v)
{
    uint64_t writable = IRQ_SSIP & h->mideleg;
    h->mip = (h->mip & ~writable) | (v & writable);
    hart_irq_update(h);
}

uint64_t csr_stvec(const struct hart *h, unsigned csr)
{
    return h->stvec;
}
void csr_set_stvec(struct hart *h, unsigned csr, uint64_t v)
{
    h->stvec = csr_legal_tvec(h->stvec, v);
}
uint64_t csr_sscratch(const struct hart *h, unsigned csr)
{
    return h->sscratch;
}
void csr_set_sscratch(struct hart *h, unsigned csr, uint64_t v)
{
    h->sscratch = v;
}
uint64_t csr_sepc(const struct hart *h, unsigned csr)
{
    return h->sepc;
}
void csr_set_sepc(struct hart *h, unsigned csr, uint64_t v)
{
    h->sepc = v & ~1ull;
}
uint64_t csr_scause(const struct hart *h, unsigned csr)
{
    return h->scause;
}
void csr_set_scause(struct hart *h, unsigned csr, uint64_t v)
{
    h->scause = v;
}
uint64_t csr_stval(const struct hart *h, unsigned csr)
{
    return h->stval;
}
void csr_set_stval(struct hart *h, unsigned csr, uint64_t v)
{
    h->stval = v;
}
uint64_t csr_scounteren(const struct hart *h, unsigned csr)
{
    return h->scounteren;
}
void csr_set_scounteren(struct hart *h, unsigned csr, uint64_t v)
{
    h->scounteren = v & COUNTERS;
}
uint64_t csr_senvcfg(const struct hart *h, unsigned csr)
{
    return h->senvcfg;
}

void csr_set_senvcfg(struct hart *h, unsigned csr, uint64_t v)
{
    h->senvcfg = csr_legal_envcfg(v, MENVCFG_FIOM | MENVCFG_CBIE | MENVCFG_CBCFE | MENVCFG_CBZE);
}

/* Sstc: below M, stimecmp needs both menvcfg.STCE and mcounteren.TM. */
bool csr_stimecmp_usable(const struct hart *h, unsigned csr)
{
    return h->priv == PRIV_M || (h->menvcfg & MENVCFG_STCE && h->mcounteren & COUNTER_TM);
}

uint64_t csr_stimecmp(const struct hart *h, unsigned csr)
{
    return h->stimecmp;
}

void csr_set_stimecmp(struct hart *h, unsigned csr, uint64_t v)
{
    h->stimecmp = v;
    if (h->hooks)
        h->hooks->stimecmp_changed(h->hooks_arg, h);
}

bool csr_satp_usable(const struct hart *h, unsigned csr)
{
    return h->priv == PRIV_M || !(h->mstatus & MSTATUS_TVM);
}

uint64_t csr_satp(const struct hart *h, unsigned csr)
{
    return h->satp;
}

/* A write with an unsupported MODE has no effect at all. ASIDs are stored, 16 bits, and mean nothing. */
void csr_set_satp(struct hart *h, unsigned csr, uint64_t v)
{
    if (!mmu_satp_legal(h->mmu, v))
        return;
    h->satp = v;
    mmu_context_changed(h);
}

static bool accessible(const struct hart *h, unsigned csr, bool write)
{
    const struct csr_row *row = &csr_table[csr];
    return row->name && h->priv >= (csr >> 8 & 3) && !(write && csr >> 10 == 3) &&
           (!row->usable || row->usable(h, csr));
}

/* What csrrs and csrrc modify: mip.SEIP as software wrote it, though they return it with the PLIC's line
 * or-ed in (privileged specification, "Machine Interrupt Registers"). */
static uint64_t modify_base(const struct hart *h, unsigned csr, uint64_t value)
{
    if (csr == CSR_MIP && !h->seip_sw)
        value &= ~(uint64_t)IRQ_SEIP;
    return value;
}

int hart_csr(struct hart *h, uint32_t insn, unsigned csr, unsigned op, uint64_t operand, bool read,
             bool write, uint64_t *old)
{
    if (!accessible(h, csr, write))
        return hart_raise(h, EXC_ILLEGAL, insn);
    const struct csr_row *row = &csr_table[csr];
    uint64_t value = read || op != 1 ? row->read(h, csr) : 0;
    *old = value;
    if (!write || !row->write)
        return 0;
    if (op == 2)
        operand = modify_base(h, csr, value) | operand;
    else if (op == 3)
        operand = modify_base(h, csr, value) & ~operand;
    row->write(h, csr, operand);
    return 0;
}

int hart_csr_peek(const struct hart *h, unsigned csr, uint64_t *value)
{
    if (csr >= CSR_COUNT || !csr_table[csr].name)
        return -ENOENT;
    *value = csr_table[csr].read(h, csr);
    return 0;
}

const char *hart_csr_name(unsigned csr)
{
    return csr < CSR_COUNT ? csr_table[csr].name : 0;
}
