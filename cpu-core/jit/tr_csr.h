/* What the files that translate CSR instructions share. Not for others. */
#pragma once

#include "cpu-core/jit/translate.h"

#define CSR_FFLAGS     0x001
#define CSR_FRM        0x002
#define CSR_FCSR       0x003
#define CSR_SSTATUS    0x100
#define CSR_SIE        0x104
#define CSR_STVEC      0x105
#define CSR_SCOUNTEREN 0x106
#define CSR_SENVCFG    0x10a
#define CSR_SSCRATCH   0x140
#define CSR_SEPC       0x141
#define CSR_SCAUSE     0x142
#define CSR_STVAL      0x143
#define CSR_SIP        0x144
#define CSR_STIMECMP   0x14d
#define CSR_SATP       0x180
#define CSR_MTVEC      0x305
#define CSR_MSCRATCH   0x340
#define CSR_MEPC       0x341
#define CSR_MCAUSE     0x342
#define CSR_MTVAL      0x343
#define CSR_MSTATUS    0x300
#define CSR_MIE        0x304
#define CSR_MIP        0x344
#define CSR_CYCLE      0xc00
#define CSR_TIME       0xc01
#define CSR_INSTRET    0xc02
#define CSR_MHARTID    0xf14

#define COUNTER_CY 1u /* in mcounteren, scounteren and mcountinhibit */
#define COUNTER_TM 2u
#define COUNTER_IR 4u

enum form { FORM_WRITE = 1, FORM_SET, FORM_CLEAR };

static inline enum form form_of(const struct insn *in)
{
    return (enum form)(isa_table[in->op].match >> 12 & 3);
}

static inline bool writes(const struct insn *in)
{
    return form_of(in) == FORM_WRITE || in->rs1;
}

static inline struct rm at(int32_t place)
{
    return rm_mem(REG_HART, place);
}

static inline void not(struct emitter * e, unsigned reg)
{
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 2, rm_reg(reg));
}

static inline void load_byte(struct emitter *e, unsigned reg, int32_t place)
{
    emit_op(e, X_MOVZX8 & ~(unsigned)OPC_BYTE_RM, reg, at(place));
}

static inline void test_byte(struct emitter *e, int32_t place, unsigned bits)
{
    emit_op_imm(e, OPC(0, 0, 0xf6), 0, at(place), 1, bits);
}

/* tr_csr.c: rcx = the operand; then rcx = the new value, from that and the old one in rax. */
void csr_operand(struct tr *t, const struct insn *in);
void csr_combine(struct emitter *e, enum form form);

/* rcx = mstatus after the instruction, which may change the bits `writable`; rax = before it. Uses rdx. */
void csr_new_status(struct tr *t, const struct insn *in, uint64_t writable);

/* rd = mstatus in rax, of which software sees `visible`. Uses rcx. */
void csr_read_status(struct tr *t, struct emitter *e, unsigned rd, uint64_t visible);

/* To the stub if an interrupt might become ready: in translated code none is while xIE is off. Uses rdx. */
void csr_check_pending(struct tr *t, struct stub *slow);

/* tr_fcsr.c, tr_mcsr.c: false if the helper has it. */
bool csr_fp(struct tr *t, const struct insn *in, unsigned csr);
bool csr_machine(struct tr *t, const struct insn *in, unsigned csr);
