/* The registers of machine mode. */
#include "cpu-core/hart/internal.h"
#include "cpu-core/mmu/mmu.h"

#define MISA                                                                                                 \
    ((2ull << 62) | 1 << 0 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 12 | 1 << 18 | 1 << 20) /* ACDFIMSU */

#define MSTATUS_WRITABLE                                                                                     \
    (MSTATUS_SIE | MSTATUS_MIE | MSTATUS_SPIE | MSTATUS_MPIE | MSTATUS_SPP | MSTATUS_MPP | MSTATUS_FS |      \
     MSTATUS_MPRV | MSTATUS_SUM | MSTATUS_MXR | MSTATUS_TVM | MSTATUS_TW | MSTATUS_TSR)

#define COUNTER_CY 1u
#define COUNTER_IR 4u
#define COUNTERS   7u

uint64_t csr_zero(const struct hart *h, unsigned csr)
{
    return 0;
}
uint64_t csr_misa(const struct hart *h, unsigned csr)
{
    return MISA;
}
uint64_t csr_mhartid(const struct hart *h, unsigned csr)
{
    return h->id;
}

uint64_t csr_mstatus(const struct hart *h, unsigned csr)
{
    return (h->mstatus & MSTATUS_FS) == MSTATUS_FS ? h->mstatus | MSTATUS_SD : h->mstatus;
}

void csr_set_mstatus(struct hart *h, unsigned csr, uint64_t v)
{
    uint64_t mask = MSTATUS_WRITABLE;
    if ((v & MSTATUS_MPP) == 2ull << 11) /* no such mode: MPP keeps its value */
        mask &= ~MSTATUS_MPP;
    uint64_t value = (h->mstatus & ~mask) | (v & mask), changed = value ^ h->mstatus;
    h->mstatus = value;
    if (changed & (MSTATUS_MPP | MSTATUS_MPRV | MSTATUS_SUM | MSTATUS_MXR))
        mmu_context_changed(h);
    if (changed & (MSTATUS_MIE | MSTATUS_SIE))
        hart_irq_update(h);
}

uint64_t csr_medeleg(const struct hart *h, unsigned csr)
{
    return h->medeleg;
}
void csr_set_medeleg(struct hart *h, unsigned csr, uint64_t v)
{
    h->medeleg = v & EXC_DELEGABLE;
}
uint64_t csr_mideleg(const struct hart *h, unsigned csr)
{
    return h->mideleg;
}

void csr_set_mideleg(struct hart *h, unsigned csr, uint64_t v)
{
    h->mideleg = v & IRQ_S_BITS;
    hart_irq_update(h);
}

uint64_t csr_mie(const struct hart *h, unsigned csr)
{
    return h->mie;
}

void csr_set_mie(struct hart *h, unsigned csr, uint64_t v)
{
    h->mie = v & (IRQ_S_BITS | IRQ_M_BITS);
    hart_irq_update(h);
}

uint64_t csr_mip(const struct hart *h, unsigned csr)
{
    return h->mip;
}

/* MSIP, MTIP, MEIP belong to devices, and STIP to the comparator while Sstc is enabled. */
void csr_set_mip(struct hart *h, unsigned csr, uint64_t v)
{
    uint64_t writable = IRQ_SSIP | (h->menvcfg & MENVCFG_STCE ? 0 : IRQ_STIP);
    h->seip_sw = (v & IRQ_SEIP) != 0;
    h->mip = (h->mip & ~(writable | IRQ_SEIP)) | (v & writable) | (h->seip_sw || h->seip_plic ? IRQ_SEIP : 0);
    hart_irq_update(h);
}

/* Modes above 1 are reserved: the write has no effect. */
uint64_t csr_legal_tvec(uint64_t old, uint64_t v)
{
    return (v & 3) < 2 ? v : old;
}

uint64_t csr_mtvec(const struct hart *h, unsigned csr)
{
    return h->mtvec;
}
void csr_set_mtvec(struct hart *h, unsigned csr, uint64_t v)
{
    h->mtvec = csr_legal_tvec(h->mtvec, v);
}
uint64_t csr_mscratch(const struct hart *h, unsigned csr)
{
    return h->mscratch;
}
void csr_set_mscratch(struct hart *h, unsigned csr, uint64_t v)
{
    h->mscratch = v;
}
uint64_t csr_mepc(const struct hart *h, unsigned csr)
{
    return h->mepc;
}
void csr_set_mepc(struct hart *h, unsigned csr, uint64_t v)
{
    h->mepc = v & ~1ull;
}
uint64_t csr_mcause(const struct hart *h, unsigned csr)
{
    return h->mcause;
}
void csr_set_mcause(struct hart *h, unsigned csr, uint64_t v)
{
    h->mcause = v;
}
uint64_t csr_mtval(const struct hart *h, unsigned csr)
{
    return h->mtval;
}
void csr_set_mtval(struct hart *h, unsigned csr, uint64_t v)
{
    h->mtval = v;
}
uint64_t csr_mcounteren(const struct hart *h, unsigned csr)
{
    return h->mcounteren;
}
void csr_set_mcounteren(struct hart *h, unsigned csr, uint64_t v)
{
    h->mcounteren = v & COUNTERS;
}

/* The counters as they run, before offsets and inhibition. */
static uint64_t raw_cycle(const struct hart *h)
{
    return hart_icount(h);
}
static uint64_t raw_instret(const struct hart *h)
{
    return h->steps + (h->slice_left - (uint64_t)h->left) - h->traps;
}

uint64_t hart_mcycle(const struct hart *h)
{
    return h->mcycle_off + (h->mcountinhibit & COUNTER_CY ? h->mcycle_stop : raw_cycle(h));
}

uint64_t hart_minstret(const struct hart *h)
{
    return h->minstret_off + (h->mcountinhibit & COUNTER_IR ? h->minstret_stop : raw_instret(h));
}

/* The writing instruction itself does not count: after it the counter reads `v`. */
void csr_set_mcycle(struct hart *h, unsigned csr, uint64_t v)
{
    h->mcycle_off = v - (h->mcountinhibit & COUNTER_CY ? h->mcycle_stop : raw_cycle(h) + 1);
}

void csr_set_minstret(struct hart *h, unsigned csr, uint64_t v)
{
    h->minstret_off = v - (h->mcountinhibit & COUNTER_IR ? h->minstret_stop : raw_instret(h) + 1);
}

uint64_t csr_mcountinhibit(const struct hart *h, unsigned csr)
{
    return h->mcountinhibit;
}

/* Inhibition takes effect after the writing instruction. */
static void inhibit(bool was, bool is, uint64_t next, uint64_t *stop, uint64_t *off)
{
    if (is && !was)
        *stop = next;
    else if (was && !is)
        *off += *stop - next;
}

void csr_set_mcountinhibit(struct hart *h, unsigned csr, uint64_t v)
{
    uint32_t is = v & (COUNTER_CY | COUNTER_IR), was = h->mcountinhibit;
    inhibit(was & COUNTER_CY, is & COUNTER_CY, raw_cycle(h) + 1, &h->mcycle_stop, &h->mcycle_off);
    inhibit(was & COUNTER_IR, is & COUNTER_IR, raw_instret(h) + 1, &h->minstret_stop, &h->minstret_off);
    h->mcountinhibit = is;
}

/* CBIE = 2 is reserved and reads back as 0. */
uint64_t csr_legal_envcfg(uint64_t v, uint64_t writable)
{
    if ((v & MENVCFG_CBIE) == 2ull << 4)
        v &= ~MENVCFG_CBIE;
    return v & writable;
}

uint64_t csr_menvcfg(const struct hart *h, unsigned csr)
{
    return h->menvcfg;
}

void csr_set_menvcfg(struct hart *h, unsigned csr, uint64_t v)
{
    uint64_t value = csr_legal_envcfg(v, MENVCFG_FIOM | MENVCFG_CBIE | MENVCFG_CBCFE | MENVCFG_CBZE |
                                             MENVCFG_ADUE | MENVCFG_PBMTE | MENVCFG_STCE);
    uint64_t changed = value ^ h->menvcfg;
    h->menvcfg = value;
    if (changed & MENVCFG_PBMTE) /* decides which PTEs are valid */
        mmu_pmp_changed(h);
    if (!(changed & MENVCFG_STCE))
        return;
    if (!(value & MENVCFG_STCE)) /* STIP is software's again, and starts clear */
        hart_irq_line(h, IRQ_STIP, false);
    if (h->hooks)
        h->hooks->stimecmp_changed(h->hooks_arg, h);
}

/* pmpcfg0 and pmpcfg2 hold eight entries each; the odd ones do not exist in RV64. */
uint64_t csr_pmpcfg(const struct hart *h, unsigned csr)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v |= (uint64_t)h->pmpcfg[(csr - CSR_PMPCFG0) * 4 + i] << (8 * i);
    return v;
}

static void pmp_changed(struct hart *h)
{
    pmp_derive(h);
    mmu_pmp_changed(h);
}

void csr_set_pmpcfg(struct hart *h, unsigned csr, uint64_t v)
{
    bool changed = false;
    for (unsigned i = 0; i < 8; i++)
        changed |= pmp_set_cfg(h, (csr - CSR_PMPCFG0) * 4 + i, (uint8_t)(v >> (8 * i)));
    if (changed)
        pmp_changed(h);
}

uint64_t csr_pmpaddr(const struct hart *h, unsigned csr)
{
    return pmp_get_addr(h, csr - CSR_PMPADDR0);
}

void csr_set_pmpaddr(struct hart *h, unsigned csr, uint64_t v)
{
    if (pmp_set_addr(h, csr - CSR_PMPADDR0, v))
        pmp_changed(h);
}
