/* What the files of this folder share: the CSR table's row type and the register groups it refers to. Not for
 * other folders. */
#pragma once

#include "cpu-core/hart/hart.h"

#define CSR_COUNT 4096

#define CSR_MIP      0x344
#define CSR_CYCLE    0xC00
#define CSR_MCYCLE   0xB00
#define CSR_PMPCFG0  0x3A0
#define CSR_PMPADDR0 0x3B0

/* Delegable and implemented bits; privileged specification, "Machine Trap Delegation Registers". */
#define IRQ_S_BITS    (IRQ_SSIP | IRQ_STIP | IRQ_SEIP)
#define IRQ_M_BITS    (IRQ_MSIP | IRQ_MTIP | IRQ_MEIP)
#define EXC_DELEGABLE 0xB3FFull

#define SSTATUS_MASK (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)

/* One CSR. The privilege and the read-only property follow from its number. */
struct csr_row {
    const char *name;                                   /* NULL: no such CSR */
    bool (*usable)(const struct hart *h, unsigned csr); /* NULL: by whoever has the privilege */
    uint64_t (*read)(const struct hart *h, unsigned csr);
    void (*write)(struct hart *h, unsigned csr,
                  uint64_t value); /* applies the WARL rules; NULL: writes are ignored */
};

extern const struct csr_row csr_table[CSR_COUNT];

/* csr.c: registers of unprivileged and supervisor software. */
bool csr_fp_usable(const struct hart *h, unsigned csr);
uint64_t csr_fflags(const struct hart *h, unsigned csr);
void csr_set_fflags(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_frm(const struct hart *h, unsigned csr);
void csr_set_frm(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_fcsr(const struct hart *h, unsigned csr);
void csr_set_fcsr(struct hart *h, unsigned csr, uint64_t v);
bool csr_counter_usable(const struct hart *h, unsigned csr);
uint64_t csr_mcycle(const struct hart *h, unsigned csr);
uint64_t csr_minstret(const struct hart *h, unsigned csr);
uint64_t csr_time(const struct hart *h, unsigned csr);
uint64_t csr_sstatus(const struct hart *h, unsigned csr);
void csr_set_sstatus(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_sie(const struct hart *h, unsigned csr);
void csr_set_sie(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_sip(const struct hart *h, unsigned csr);
void csr_set_sip(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_stvec(const struct hart *h, unsigned csr);
void csr_set_stvec(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_sscratch(const struct hart *h, unsigned csr);
void csr_set_sscratch(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_sepc(const struct hart *h, unsigned csr);
void csr_set_sepc(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_scause(const struct hart *h, unsigned csr);
void csr_set_scause(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_stval(const struct hart *h, unsigned csr);
void csr_set_stval(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_scounteren(const struct hart *h, unsigned csr);
void csr_set_scounteren(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_senvcfg(const struct hart *h, unsigned csr);
void csr_set_senvcfg(struct hart *h, unsigned csr, uint64_t v);
bool csr_stimecmp_usable(const struct hart *h, unsigned csr);
uint64_t csr_stimecmp(const struct hart *h, unsigned csr);
void csr_set_stimecmp(struct hart *h, unsigned csr, uint64_t v);
bool csr_satp_usable(const struct hart *h, unsigned csr);
uint64_t csr_satp(const struct hart *h, unsigned csr);
void csr_set_satp(struct hart *h, unsigned csr, uint64_t v);

/* csr_machine.c: registers of machine mode. */
uint64_t csr_zero(const struct hart *h, unsigned csr);
uint64_t csr_misa(const struct hart *h, unsigned csr);
uint64_t csr_mhartid(const struct hart *h, unsigned csr);
uint64_t csr_mstatus(const struct hart *h, unsigned csr);
void csr_set_mstatus(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_medeleg(const struct hart *h, unsigned csr);
void csr_set_medeleg(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mideleg(const struct hart *h, unsigned csr);
void csr_set_mideleg(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mie(const struct hart *h, unsigned csr);
void csr_set_mie(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mip(const struct hart *h, unsigned csr);
void csr_set_mip(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mtvec(const struct hart *h, unsigned csr);
void csr_set_mtvec(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mscratch(const struct hart *h, unsigned csr);
void csr_set_mscratch(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mepc(const struct hart *h, unsigned csr);
void csr_set_mepc(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mcause(const struct hart *h, unsigned csr);
void csr_set_mcause(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mtval(const struct hart *h, unsigned csr);
void csr_set_mtval(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mcounteren(const struct hart *h, unsigned csr);
void csr_set_mcounteren(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_mcountinhibit(const struct hart *h, unsigned csr);
void csr_set_mcountinhibit(struct hart *h, unsigned csr, uint64_t v);
void csr_set_mcycle(struct hart *h, unsigned csr, uint64_t v);
void csr_set_minstret(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_menvcfg(const struct hart *h, unsigned csr);
void csr_set_menvcfg(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_pmpcfg(const struct hart *h, unsigned csr);
void csr_set_pmpcfg(struct hart *h, unsigned csr, uint64_t v);
uint64_t csr_pmpaddr(const struct hart *h, unsigned csr);
void csr_set_pmpaddr(struct hart *h, unsigned csr, uint64_t v);

/* WARL rules that two registers share. */
uint64_t csr_legal_tvec(uint64_t old, uint64_t v);
uint64_t csr_legal_envcfg(uint64_t v, uint64_t writable);

/* pmp.c: one entry's configuration byte and address register, with locking and granularity applied. Returns
 * true if matching may have changed. */
bool pmp_set_cfg(struct hart *h, unsigned i, uint8_t cfg);
bool pmp_set_addr(struct hart *h, unsigned i, uint64_t addr);
uint64_t pmp_get_addr(const struct hart *h, unsigned i);
void pmp_derive(struct hart *h); /* recomputes pmp_first, pmp_last, pmp_used, pmp_locked */
