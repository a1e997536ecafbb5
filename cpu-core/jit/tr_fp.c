/* Translation of floating point to scalar SSE. The host computes what RISC-V does, flags included, except
 * where a result is a NaN, operands are not boxed, or an instruction has no host equivalent in its rounding
 * mode: then it goes through the interpreter, and since nothing was written before, from its beginning. Flags
 * raised before that are a subset of the instruction's. */
#include "cpu-core/jit/translate.h"

#include "cpu-core/fp/fp.h"

enum { X0, X1, X2 };

static struct rm fr(unsigned r)
{
    return target_fpin[r] != REG_NONE ? rm_reg(target_fpin[r]) : rm_mem(REG_HART, HART_F(r));
}

static struct rm constant(const struct tr *t, enum constant c)
{
    return rm_at(t->j->blocks.constants[c]);
}

/* Vector register with the contents of `r`: its own, or `scratch` after a load. */
static unsigned use(struct tr *t, unsigned r, unsigned scratch)
{
    if (target_fpin[r] != REG_NONE)
        return target_fpin[r];
    emit_vex(&t->e, F_LOAD(true), scratch, 0, fr(r));
    return scratch;
}

/* f[r] = vector register `x`; `single`: it is boxed. */
static void set(struct tr *t, unsigned r, unsigned x, bool single)
{
    if (target_fpin[r] == REG_NONE)
        emit_vex(&t->e, F_STORE(true), x, 0, fr(r));
    else if (target_fpin[r] != x)
        emit_vex(&t->e, F_MOVE, target_fpin[r], 0, rm_reg(x));
    t->boxed = single ? t->boxed | 1u << r : t->boxed & ~(1u << r);
}

/* Leaves the block, after the instruction, unless `r` is boxed: what follows relies on it. */
static void need_box(struct tr *t, unsigned r)
{
    struct emitter *e = &t->e;
    struct stub *s;

    if (t->boxed >> r & 1)
        return;
    s = tr_stub(t, STUB_STEP_EXIT);
    if (target_fpin[r] == REG_NONE) {
        emit_alu_const32(e, ALU_CMP, rm_mem(REG_HART, HART_F(r) + 4), -1);
    } else {
        emit_vex_imm(e, F_EXTRACT32, target_fpin[r], 0, rm_reg(RAX), 1, 1);
        emit_alu_const32(e, ALU_CMP, rm_reg(RAX), -1);
    }
    stub_from(s, emit_jcc(e, CC_NE));
    t->boxed |= 1u << r;
}

static void need_boxes(struct tr *t, const struct insn *in, unsigned n)
{
    need_box(t, in->rs1);
    if (n > 1)
        need_box(t, in->rs2);
    if (n > 2)
        need_box(t, in->rs3);
}

static struct stub *begin(struct tr *t)
{
    return tr_stub(t, STUB_STEP);
}

/* A rounding mode in the instruction leaves the line unless frm, and with it the host's mode, is the same. */
static void need_mode(struct tr *t, const struct insn *in, struct stub *s)
{
    if (in->rm == 7)
        return;
    emit_op_imm(&t->e, OPC(0, 0, 0x80), ALU_CMP, rm_mem(REG_HART, HART(frm)), 1, in->rm);
    stub_from(s, emit_jcc(&t->e, CC_NE));
}

static void end(struct tr *t, struct stub *s)
{
    s->back = t->e.at;
}

/* f[rd] = xmm0 unless that is a NaN. */
static void finish(struct tr *t, const struct insn *in, bool d, struct stub *s)
{
    emit_vex(&t->e, F_UCOMI(d), X0, 0, rm_reg(X0));
    stub_from(s, emit_jcc(&t->e, CC_P));
    set(t, in->rd, X0, !d);
    end(t, s);
}

static void arithmetic(struct tr *t, const struct insn *in, bool d, unsigned opc)
{
    struct stub *s = begin(t);

    if (!d)
        need_boxes(t, in, 2);
    need_mode(t, in, s);
    emit_vex(&t->e, F_ARITH(d, opc), X0, use(t, in->rs1, X0), fr(in->rs2));
    finish(t, in, d, s);
}

static void square_root(struct tr *t, const struct insn *in, bool d)
{
    struct stub *s = begin(t);
    unsigned x;

    if (!d)
        need_boxes(t, in, 1);
    need_mode(t, in, s);
    x = use(t, in->rs1, X0);
    emit_vex(&t->e, F_ARITH(d, F_SQRT), X0, x, rm_reg(x));
    finish(t, in, d, s);
}

static void fused(struct tr *t, const struct insn *in, bool d, unsigned opc)
{
    struct stub *s = begin(t);

    if (!d)
        need_boxes(t, in, 3);
    need_mode(t, in, s);
    emit_vex(&t->e, target_fpin[in->rs1] != REG_NONE ? F_MOVE : F_LOAD(true), X0, 0, fr(in->rs1));
    emit_vex(&t->e, F_FMA(d, opc), X0, use(t, in->rs2, X1), fr(in->rs3));
    finish(t, in, d, s);
}

/* NaNs and equal operands, which may be zeros of different sign, leave the line. */
static void min_max(struct tr *t, const struct insn *in, bool d, unsigned opc)
{
    struct stub *s = begin(t);
    unsigned a;

    if (!d)
        need_boxes(t, in, 2);
    a = use(t, in->rs1, X0);
    emit_vex(&t->e, F_UCOMI(d), a, 0, fr(in->rs2));
    stub_from(s, emit_jcc(&t->e, CC_P));
    stub_from(s, emit_jcc(&t->e, CC_E));
    emit_vex(&t->e, F_ARITH(d, opc), X0, a, fr(in->rs2));
    set(t, in->rd, X0, !d);
    end(t, s);
}

static void sign(struct tr *t, const struct insn *in, bool d)
{
    struct emitter *e = &t->e;
    struct rm sign_bit = constant(t, d ? CONST_SIGN64 : CONST_SIGN32),
              others = constant(t, d ? CONST_ABS64 : CONST_ABS32);
    bool negate = in->op == INSN_FSGNJN_D || in->op == INSN_FSGNJN_S,
         xor = in->op == INSN_FSGNJX_D || in->op == INSN_FSGNJX_S;
    unsigned a;

    if (!d)
        need_boxes(t, in, 2);
    a = use(t, in->rs1, X0);
    if (in->rs1 == in->rs2) {
        if (negate)
            emit_vex(e, F_XOR, X0, a, sign_bit);
        else if (xor)
            emit_vex(e, F_AND, X0, a, others);
        a = negate || xor? X0 : a;
    } else {
        unsigned b = use(t, in->rs2, X1);
        if (negate) {
            emit_vex(e, F_LOAD(true), X2, 0, sign_bit);
            emit_vex(e, F_ANDN, X1, b, rm_reg(X2));
        } else {
            emit_vex(e, F_AND, X1, b, sign_bit);
        }
        if (!xor) {
            emit_vex(e, F_AND, X0, a, others);
            a = X0;
        }
        emit_vex(e, xor? F_XOR : F_OR, X0, a, rm_reg(X1));
        a = X0;
    }
    set(t, in->rd, a, !d);
}

static void compare(struct tr *t, const struct insn *in, bool d)
{
    struct emitter *e = &t->e;
    bool equal = in->op == INSN_FEQ_D || in->op == INSN_FEQ_S,
         less = in->op == INSN_FLT_D || in->op == INSN_FLT_S;
    bool quiet =
        in->op == INSN_FLEQ_D || in->op == INSN_FLEQ_S || in->op == INSN_FLTQ_D || in->op == INSN_FLTQ_S;

    less = less || in->op == INSN_FLTQ_D || in->op == INSN_FLTQ_S;
    if (!d)
        need_boxes(t, in, 2);
    if (equal) {
        emit_vex(e, F_UCOMI(d), use(t, in->rs1, X0), 0, fr(in->rs2));
        emit_setcc(e, CC_NP, RAX);
        emit_setcc(e, CC_E, RCX);
        emit_alu32(e, ALU_AND, RAX, rm_reg(RCX));
    } else { /* b above a; unordered sets carry */
        emit_vex(e, quiet ? F_UCOMI(d) : F_COMI(d), use(t, in->rs2, X0), 0, fr(in->rs1));
        emit_setcc(e, less ? CC_A : CC_AE, RAX);
    }
    emit_op(e, X_MOVZX8, RAX, rm_reg(RAX));
    tr_set(t, in->rd, RAX);
}

/* Between the formats. */
static void convert(struct tr *t, const struct insn *in, bool from_d)
{
    struct emitter *e = &t->e;
    struct stub *s = begin(t);

    if (!from_d)
        need_box(t, in->rs1);
    else
        need_mode(t, in, s);
    emit_vex(e, F_ONES, X0, X0, rm_reg(X0)); /* a box, and no dependency */
    emit_vex(e, F_CONVERT(from_d), X0, X0, fr(in->rs1));
    finish(t, in, !from_d, s);
}

#define ROUND_MXCSR 4 /* in the host's mode */
#define ROUND_QUIET 8 /* raises nothing */

/* To integer: results that the host marks as invalid leave the line. `w`: 64 bits. */
static bool to_int(struct tr *t, const struct insn *in, bool d, unsigned w)
{
    static const uint8_t modes[] = {[FP_RNE] = 0, [FP_RDN] = 1, [FP_RUP] = 2};
    struct emitter *e = &t->e;
    struct stub *s;
    struct rm from = fr(in->rs1);
    bool static_mode = in->rm != 7 && in->rm != FP_RTZ;

    if (in->rm == FP_RMM)
        return false;
    s = begin(t);
    if (!d)
        need_box(t, in->rs1);
    if (static_mode) {
        emit_vex_imm(e, F_ROUND(d), X0, X0, from, 1, modes[in->rm] | ROUND_QUIET);
        from = rm_reg(X0);
    }
    emit_vex(e, (in->rm == 7 ? F_TO_INT(d) : F_TRUNC(d)) | w, RAX, 0, from);
    emit_op_imm(e, OPC(0, 0, 0x83) | w, ALU_CMP, rm_reg(RAX), 1, 1);
    stub_from(s, emit_jcc(e, CC_O));
    if (static_mode)
        emit_vex_imm(e, F_ROUND(d), X0, X0, fr(in->rs1), 1, modes[in->rm]); /* raises inexact */
    if (!w)
        emit_op(e, X_MOVSXD, RAX, rm_reg(RAX));
    tr_set(t, in->rd, RAX);
    end(t, s);
    return true;
}

/* To an unsigned integer: what is rounded without a flag and then has a sign or a large exponent leaves the
 * line. */
static bool to_unsigned(struct tr *t, const struct insn *in, bool d, bool wide)
{
    static const uint8_t modes[] = {
        [FP_RNE] = 0, [FP_RTZ] = 3, [FP_RDN] = 1, [FP_RUP] = 2, [7] = ROUND_MXCSR};
    struct emitter *e = &t->e;
    struct stub *s;

    if (in->rm == FP_RMM)
        return false;
    s = begin(t);
    if (!d)
        need_box(t, in->rs1);
    emit_vex_imm(e, F_ROUND(d), X0, X0, fr(in->rs1), 1, modes[in->rm] | ROUND_QUIET);
    emit_vex(e, d ? F_TO_GPR : F_TO_GPR32, X0, 0, rm_reg(RAX));
    emit_shift(e, SHIFT_SHR, rm_reg(RAX), d ? 52 : 23);
    emit_alu_const32(e, ALU_CMP, rm_reg(RAX), (d ? 1023 : 127) + (wide ? 63 : 32));
    stub_from(s, emit_jcc(e, CC_AE));
    emit_vex(e, F_TRUNC(d) | OPC_W, RAX, 0, rm_reg(X0));
    emit_vex_imm(e, F_ROUND(d), X0, X0, fr(in->rs1), 1, modes[in->rm]); /* raises inexact */
    if (!wide)
        emit_op(e, X_MOVSXD, RAX, rm_reg(RAX));
    tr_set(t, in->rd, RAX);
    end(t, s);
    return true;
}

/* From an integer; `exact`: no rounding can occur. */
static bool from_int(struct tr *t, const struct insn *in, bool d, unsigned w, bool is_unsigned, bool exact)
{
    struct emitter *e = &t->e;
    struct stub *s = exact || in->rm == 7 ? NULL : begin(t);

    if (s)
        need_mode(t, in, s);
    emit_vex(e, F_ONES, X0, X0, rm_reg(X0));
    if (is_unsigned) {
        emit_load32(e, RAX, gx(t, in->rs1));
        emit_vex(e, F_FROM_INT(d) | OPC_W, X0, X0, rm_reg(RAX));
    } else {
        emit_vex(e, F_FROM_INT(d) | w, X0, X0, gx(t, in->rs1));
    }
    set(t, in->rd, X0, !d);
    if (s)
        end(t, s);
    return true;
}

/* From 64 bits without a sign; what the host would take for negative leaves the line. */
static bool from_unsigned(struct tr *t, const struct insn *in, bool d)
{
    struct emitter *e = &t->e;
    struct stub *s = begin(t);

    need_mode(t, in, s);
    emit_load(e, RAX, gx(t, in->rs1));
    emit_op(e, X_TEST | OPC_W, RAX, rm_reg(RAX));
    stub_from(s, emit_jcc(e, CC_S));
    emit_vex(e, F_ONES, X0, X0, rm_reg(X0));
    emit_vex(e, F_FROM_INT(d) | OPC_W, X0, X0, rm_reg(RAX));
    set(t, in->rd, X0, !d);
    end(t, s);
    return true;
}

static bool move(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    switch (in->op) {
    case INSN_FMV_X_D:
        emit_vex(e, F_TO_GPR, use(t, in->rs1, X0), 0, rm_reg(RAX));
        tr_set(t, in->rd, RAX);
        return true;
    case INSN_FMV_X_W:
        emit_vex(e, F_TO_GPR32, use(t, in->rs1, X0), 0, rm_reg(RAX));
        emit_op(e, X_MOVSXD, RAX, rm_reg(RAX));
        tr_set(t, in->rd, RAX);
        return true;
    case INSN_FMV_D_X:
        emit_vex(e, F_FROM_GPR, X0, 0, gx(t, in->rs1));
        set(t, in->rd, X0, false);
        return true;
    default: /* fmv.w.x */
        emit_vex(e, F_FROM_GPR32, X0, 0, gx(t, in->rs1));
        emit_vex(e, F_OR, X0, X0, constant(t, CONST_BOX));
        set(t, in->rd, X0, true);
        return true;
    }
}

static bool without_rounding(struct tr *t, const struct insn *in)
{
    bool d = isa_table[in->op].match >> 25 & 1;

    switch (in->op) {
    case INSN_FSGNJ_D:
    case INSN_FSGNJN_D:
    case INSN_FSGNJX_D:
    case INSN_FSGNJ_S:
    case INSN_FSGNJN_S:
    case INSN_FSGNJX_S:
        sign(t, in, d);
        return true;
    case INSN_FMIN_D:
    case INSN_FMIN_S:
        min_max(t, in, d, F_MIN);
        return true;
    case INSN_FMAX_D:
    case INSN_FMAX_S:
        min_max(t, in, d, F_MAX);
        return true;
    case INSN_FEQ_D:
    case INSN_FLT_D:
    case INSN_FLE_D:
    case INSN_FLTQ_D:
    case INSN_FLEQ_D:
    case INSN_FEQ_S:
    case INSN_FLT_S:
    case INSN_FLE_S:
    case INSN_FLTQ_S:
    case INSN_FLEQ_S:
        compare(t, in, d);
        return true;
    case INSN_FMV_X_D:
    case INSN_FMV_X_W:
    case INSN_FMV_D_X:
    case INSN_FMV_W_X:
        return move(t, in);
    case INSN_FCVT_D_S:
        convert(t, in, false);
        return true;
    case INSN_FCVT_D_W:
        return from_int(t, in, true, 0, false, true);
    case INSN_FCVT_D_WU:
        return from_int(t, in, true, 0, true, true);
    case INSN_FCVT_W_D:
    case INSN_FCVT_W_S:
        return to_int(t, in, d, 0);
    case INSN_FCVT_L_D:
    case INSN_FCVT_L_S:
        return to_int(t, in, d, OPC_W);
    case INSN_FCVT_WU_D:
    case INSN_FCVT_WU_S:
        return to_unsigned(t, in, d, false);
    case INSN_FCVT_LU_D:
    case INSN_FCVT_LU_S:
        return to_unsigned(t, in, d, true);
    default:
        return false;
    }
}

bool tr_fp(struct tr *t, const struct insn *in)
{
    bool d = isa_table[in->op].match >> 25 & 1;

    if (isa_table[in->op].flags & ISA_RM && in->rm == 7 && t->key.fp == FP_MODE_SLOW)
        return false; /* illegal, or to nearest with ties away from zero */
    if (without_rounding(t, in))
        return true;
    if (!(isa_table[in->op].flags & ISA_RM) || in->rm == FP_RMM)
        return false;
    switch (in->op) {
    case INSN_FADD_D:
    case INSN_FADD_S:
        arithmetic(t, in, d, F_ADD);
        return true;
    case INSN_FSUB_D:
    case INSN_FSUB_S:
        arithmetic(t, in, d, F_SUB);
        return true;
    case INSN_FMUL_D:
    case INSN_FMUL_S:
        arithmetic(t, in, d, F_MUL);
        return true;
    case INSN_FDIV_D:
    case INSN_FDIV_S:
        arithmetic(t, in, d, F_DIV);
        return true;
    case INSN_FSQRT_D:
    case INSN_FSQRT_S:
        square_root(t, in, d);
        return true;
    case INSN_FMADD_D:
    case INSN_FMADD_S:
        fused(t, in, d, 0xa9);
        return true;
    case INSN_FMSUB_D:
    case INSN_FMSUB_S:
        fused(t, in, d, 0xab);
        return true;
    case INSN_FNMSUB_D:
    case INSN_FNMSUB_S:
        fused(t, in, d, 0xad);
        return true;
    case INSN_FNMADD_D:
    case INSN_FNMADD_S:
        fused(t, in, d, 0xaf);
        return true;
    case INSN_FCVT_S_D:
        convert(t, in, true);
        return true;
    case INSN_FCVT_S_W:
        return from_int(t, in, false, 0, false, false);
    case INSN_FCVT_S_WU:
        return from_int(t, in, false, 0, true, false);
    case INSN_FCVT_S_L:
        return from_int(t, in, false, OPC_W, false, false);
    case INSN_FCVT_D_L:
        return from_int(t, in, true, OPC_W, false, false);
    case INSN_FCVT_S_LU:
    case INSN_FCVT_D_LU:
        return from_unsigned(t, in, d);
    default:
        return false;
    }
}

bool tr_fload(struct tr *t, const struct insn *in)
{
    struct stub *miss;
    struct rm from;
    unsigned size = isa_table[in->op].size, x;

    if (size < 4)
        return false;
    from = tr_access(t, in, false, &miss);
    x = target_fpin[in->rd] != REG_NONE ? target_fpin[in->rd] : X0;
    emit_vex(&t->e, F_LOAD(size == 8), x, 0, from);
    if (size == 4)
        emit_vex(&t->e, F_OR, x, x, constant(t, CONST_BOX));
    set(t, in->rd, x, size == 4);
    if (miss)
        miss->back = t->e.at;
    return true;
}

void tr_fp_stub(struct tr *t, struct stub *s)
{
    unsigned r = t->seq[s->insn].in.rd;

    if (target_fpin[r] != REG_NONE)
        emit_vex(&t->cold, F_FROM_GPR, target_fpin[r], 0, rm_reg(RAX));
    else
        emit_store(&t->cold, rm_mem(REG_HART, HART_F(r)), RAX);
}

bool tr_fstore(struct tr *t, const struct insn *in)
{
    struct stub *miss;
    struct rm to;
    unsigned size = isa_table[in->op].size;

    if (size < 4)
        return false;
    to = tr_access(t, in, true, &miss);
    emit_vex(&t->e, F_STORE(size == 8), use(t, in->rs2, X0), 0, to);
    if (miss)
        miss->back = t->e.at;
    return true;
}
