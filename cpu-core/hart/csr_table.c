/* The control and status registers, one row each, by number. A number without a row is an illegal
 * instruction. */
#include "cpu-core/hart/internal.h"

const struct csr_row csr_table[CSR_COUNT] = {
    /* Unprivileged */
    [0x001] = {"fflags", csr_fp_usable, csr_fflags, csr_set_fflags},
    [0x002] = {"frm", csr_fp_usable, csr_frm, csr_set_frm},
    [0x003] = {"fcsr", csr_fp_usable, csr_fcsr, csr_set_fcsr},
    [0xC00] = {"cycle", csr_counter_usable, csr_mcycle, 0},
    [0xC01] = {"time", csr_counter_usable, csr_time, 0},
    [0xC02] = {"instret", csr_counter_usable, csr_minstret, 0},

    /* Supervisor */
    [0x100] = {"sstatus", 0, csr_sstatus, csr_set_sstatus},
    [0x104] = {"sie", 0, csr_sie, csr_set_sie},
    [0x105] = {"stvec", 0, csr_stvec, csr_set_stvec},
    [0x106] = {"scounteren", 0, csr_scounteren, csr_set_scounteren},
    [0x10A] = {"senvcfg", 0, csr_senvcfg, csr_set_senvcfg},
    [0x140] = {"sscratch", 0, csr_sscratch, csr_set_sscratch},
    [0x141] = {"sepc", 0, csr_sepc, csr_set_sepc},
    [0x142] = {"scause", 0, csr_scause, csr_set_scause},
    [0x143] = {"stval", 0, csr_stval, csr_set_stval},
    [0x144] = {"sip", 0, csr_sip, csr_set_sip},
    [0x14D] = {"stimecmp", csr_stimecmp_usable, csr_stimecmp, csr_set_stimecmp},
    [0x180] = {"satp", csr_satp_usable, csr_satp, csr_set_satp},

    /* Machine */
    [0xF11] = {"mvendorid", 0, csr_zero, 0},
    [0xF12] = {"marchid", 0, csr_zero, 0},
    [0xF13] = {"mimpid", 0, csr_zero, 0},
    [0xF14] = {"mhartid", 0, csr_mhartid, 0},
    [0xF15] = {"mconfigptr", 0, csr_zero, 0},
    [0x300] = {"mstatus", 0, csr_mstatus, csr_set_mstatus},
    [0x301] = {"misa", 0, csr_misa, 0},
    [0x302] = {"medeleg", 0, csr_medeleg, csr_set_medeleg},
    [0x303] = {"mideleg", 0, csr_mideleg, csr_set_mideleg},
    [0x304] = {"mie", 0, csr_mie, csr_set_mie},
    [0x305] = {"mtvec", 0, csr_mtvec, csr_set_mtvec},
    [0x306] = {"mcounteren", 0, csr_mcounteren, csr_set_mcounteren},
    [0x30A] = {"menvcfg", 0, csr_menvcfg, csr_set_menvcfg},
    [0x320] = {"mcountinhibit", 0, csr_mcountinhibit, csr_set_mcountinhibit},
    [0x323 ... 0x33F] = {"mhpmevent", 0, csr_zero, 0},
    [0x340] = {"mscratch", 0, csr_mscratch, csr_set_mscratch},
    [0x341] = {"mepc", 0, csr_mepc, csr_set_mepc},
    [0x342] = {"mcause", 0, csr_mcause, csr_set_mcause},
    [0x343] = {"mtval", 0, csr_mtval, csr_set_mtval},
    [CSR_MIP] = {"mip", 0, csr_mip, csr_set_mip},
    [0x3A0] = {"pmpcfg0", 0, csr_pmpcfg, csr_set_pmpcfg},
    [0x3A2] = {"pmpcfg2", 0, csr_pmpcfg, csr_set_pmpcfg},
    [0x3B0 ... 0x3BF] = {"pmpaddr", 0, csr_pmpaddr, csr_set_pmpaddr},
    [0x7A0] = {"tselect", 0, csr_zero, 0},
    [0x7A1] = {"tdata1", 0, csr_zero, 0},
    [0x7A2] = {"tdata2", 0, csr_zero, 0},
    [0x7A3] = {"tdata3", 0, csr_zero, 0},
    [CSR_MCYCLE] = {"mcycle", 0, csr_mcycle, csr_set_mcycle},
    [0xB02] = {"minstret", 0, csr_minstret, csr_set_minstret},
    [0xB03 ... 0xB1F] = {"mhpmcounter", 0, csr_zero, 0},
};
