/* Translation of instructions on fflags, frm and fcsr, whose values lie in the hart and in MXCSR. */
#include "cpu-core/jit/tr_csr.h"

/* rax = fflags: what the hart has and what MXCSR collected since. Uses rdx. */
static void read_fflags(struct tr *t)
{
    struct emitter *e = &t->e;

    emit_vex(e, OPC(1, 0, 0xae), 3, 0, at(HART(mxcsr_now))); /* vstmxcsr */
    emit_load32(e, RAX, at(HART(mxcsr_now)));
    emit_alu_const32(e, ALU_AND, rm_reg(RAX), 63);
    emit_lea(e, RDX, rm_at(t->j->blocks.constants[CONST_FFLAGS]));
    emit_op(e, X_MOVZX8 & ~(unsigned)OPC_BYTE_RM, RAX, rm_sib(RDX, RAX, 0, 0));
    emit_alu32(e, ALU_OR, RAX, at(HART(fflags)));
}

/* Changes of fflags want FS dirty, which it is in blocks with floating point. */
static void accrued(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    if (writes(in))
        csr_operand(t, in);
    if (in->rd || form_of(in) != FORM_WRITE)
        read_fflags(t);
    if (writes(in)) {
        csr_combine(e, form_of(in));
        emit_alu_const32(e, ALU_AND, rm_reg(RCX), 31);
        emit_op(e, X_MOV_STORE, RCX, at(HART(fflags)));
        emit_vex(e, OPC(1, 0, 0xae), 2, 0, at(HART(mxcsr))); /* vldmxcsr */
    }
    tr_set(t, in->rd, RAX);
}

/* From frm in edx, below 4, and what MXCSR is to have of flags in ecx: the host's rounding mode. */
static void set_mode(struct emitter *e)
{
    emit_op(e, X_MOV_STORE8 & ~(unsigned)OPC_BYTE_REG, RDX, at(HART(frm)));
    emit_alu32(e, ALU_ADD, RDX, rm_reg(RDX));
    emit_const(e, RAX, MXCSR_MODES);
    emit_vex(e, V_SHRX, RAX, RDX, rm_reg(RAX));
    emit_alu_const32(e, ALU_AND, rm_reg(RAX), 3);
    emit_shift32(e, SHIFT_SHL, rm_reg(RAX), MXCSR_RC);
    emit_alu_const32(e, ALU_OR, rm_reg(RAX), MXCSR_DEFAULT);
    emit_op(e, X_MOV_STORE, RAX, at(HART(mxcsr)));
    emit_alu32(e, ALU_OR, RAX, rm_reg(RCX));
    emit_op(e, X_MOV_STORE, RAX, at(HART(mxcsr_now)));
    emit_vex(e, OPC(1, 0, 0xae), 2, 0, at(HART(mxcsr_now))); /* vldmxcsr */
}

/* rcx is written to frm or fcsr. Modes that the host lacks are another translation's. */
static void write_rounding(struct tr *t, bool whole)
{
    struct emitter *e = &t->e;

    if (whole) {
        emit_load32(e, RDX, rm_reg(RCX));
        emit_alu_const32(e, ALU_AND, rm_reg(RDX), 31);
        emit_op(e, X_MOV_STORE, RDX, at(HART(fflags)));
        emit_shift32(e, SHIFT_SHR, rm_reg(RCX), 5);
    }
    emit_load32(e, RDX, rm_reg(RCX));
    emit_alu_const32(e, ALU_AND, rm_reg(RDX), 7);
    emit_const(e, RCX, 0);
    if (!whole) {
        emit_vex(e, OPC(1, 0, 0xae), 3, 0, at(HART(mxcsr_now))); /* vstmxcsr */
        emit_load32(e, RCX, at(HART(mxcsr_now)));
        emit_alu_const32(e, ALU_AND, rm_reg(RCX), MXCSR_FLAGS);
    }
    set_mode(e);
}

/* rax = frm or fcsr. Uses rdx. */
static void read_rounding(struct tr *t, bool whole)
{
    struct emitter *e = &t->e;

    if (!whole) {
        load_byte(e, RAX, HART(frm));
        return;
    }
    read_fflags(t);
    load_byte(e, RDX, HART(frm));
    emit_shift32(e, SHIFT_SHL, rm_reg(RDX), 5);
    emit_alu32(e, ALU_OR, RAX, rm_reg(RDX));
}

static bool rounding(struct tr *t, const struct insn *in, bool whole)
{
    struct emitter *e = &t->e;
    struct stub *slow;

    if (writes(in) && t->key.fp != FP_MODE_ON)
        return false;
    if (writes(in))
        csr_operand(t, in);
    if (in->rd || form_of(in) != FORM_WRITE)
        read_rounding(t, whole);
    if (!writes(in)) {
        tr_set(t, in->rd, RAX);
        return true;
    }
    slow = tr_stub(t, STUB_CSR);
    csr_combine(e, form_of(in));
    emit_test32(e, rm_reg(RCX), 4u << (whole ? 5 : 0));
    stub_from(slow, emit_jcc(e, CC_NE));
    tr_set(t, in->rd, RAX);
    write_rounding(t, whole);
    slow->back = e->at;
    return true;
}

bool csr_fp(struct tr *t, const struct insn *in, unsigned csr)
{
    if (t->key.fp == FP_MODE_OFF)
        return false;
    switch (csr) {
    case CSR_FFLAGS:
        accrued(t, in);
        return true;
    case CSR_FRM:
        return rounding(t, in, false);
    case CSR_FCSR:
        return rounding(t, in, true);
    default:
        return false;
    }
}
