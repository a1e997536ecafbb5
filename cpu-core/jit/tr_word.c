/* Translation of computation on words, whose results are extended: in the destination itself where that is a
 * host register, and as the whole register's operation where the operands are known to be small. */
#include "cpu-core/jit/translate.h"

/* rd = the sign-extended low half of host register `from`. */
void tr_set_word(struct tr *t, unsigned rd, unsigned from)
{
    unsigned d = tr_dest(t, rd, RAX);

    emit_op(&t->e, X_MOVSXD, d, rm_reg(from));
    tr_set(t, rd, d);
}

/* The same operation on whole registers. */
static unsigned whole(unsigned op)
{
    switch (op) {
    case INSN_ADDIW:
        return INSN_ADDI;
    case INSN_ADDW:
        return INSN_ADD;
    case INSN_SUBW:
        return INSN_SUB;
    case INSN_MULW:
        return INSN_MUL;
    case INSN_SLLIW:
        return INSN_SLLI;
    default: /* sraiw */
        return INSN_SRAI;
    }
}

/* rd = rs1 op rs2 for a two-operand instruction of the host. */
static void binary(struct tr *t, const struct insn *in, unsigned opc, bool commutes)
{
    unsigned a = in->rs1, b = in->rs2, d = tr_dest(t, in->rd, RAX);

    if (in->rd == b && commutes) {
        b = a;
        a = in->rd;
    } else if (in->rd == b && a != b) {
        d = RAX;
    }
    if (in->rd != a || d == RAX)
        emit_load32(&t->e, d, gx(t, a));
    emit_op(&t->e, opc, d, gx(t, b));
    tr_set_word(t, in->rd, d);
}

static void add(struct tr *t, const struct insn *in)
{
    if (pinned(t, in->rs1) && pinned(t, in->rs2) && in->rd != in->rs1 && in->rd != in->rs2) {
        emit_op(&t->e, X_LEA, RAX, rm_sib(t->pin[in->rs1], t->pin[in->rs2], 0, 0));
        tr_set_word(t, in->rd, RAX);
    } else {
        binary(t, in, X_ALU(ALU_ADD), true);
    }
}

static void add_const(struct tr *t, const struct insn *in)
{
    unsigned d = tr_dest(t, in->rd, RAX);

    if (in->imm == 0) {
        emit_op(&t->e, X_MOVSXD, d, gx(t, in->rs1));
        tr_set(t, in->rd, d);
    } else if (pinned(t, in->rs1)) {
        emit_op(&t->e, X_LEA, RAX, rm_mem(t->pin[in->rs1], in->imm));
        tr_set_word(t, in->rd, RAX);
    } else {
        emit_load32(&t->e, RAX, gx(t, in->rs1));
        emit_alu_const32(&t->e, ALU_ADD, rm_reg(RAX), in->imm);
        tr_set_word(t, in->rd, RAX);
    }
}

/* The VEX forms take the count modulo the operand size, as RISC-V does. */
static void shift(struct tr *t, const struct insn *in, unsigned opc)
{
    unsigned count = tr_use(t, in->rs2, RCX), d = tr_dest(t, in->rd, RAX);

    emit_vex(&t->e, opc, d, count, gx(t, in->rs1));
    tr_set_word(t, in->rd, d);
}

static void shift_const(struct tr *t, const struct insn *in, enum shift_op op)
{
    unsigned d = tr_dest(t, in->rd, RAX);

    if (in->rd != in->rs1 || d == RAX)
        emit_load32(&t->e, d, gx(t, in->rs1));
    if (in->imm)
        emit_shift32(&t->e, op, rm_reg(d), (unsigned)in->imm);
    if (in->imm && op == SHIFT_SHR) /* the host's upper half is 0, and so is the sign */
        tr_set(t, in->rd, d);
    else
        tr_set_word(t, in->rd, d);
}

bool tr_word(struct tr *t, const struct insn *in)
{
    struct insn same = *in;

    if (width_fits_word(t, in)) {
        same.op = (uint16_t)whole(in->op);
        return tr_int(t, &same);
    }
    switch (in->op) {
    case INSN_ADDIW:
        add_const(t, in);
        return true;
    case INSN_ADDW:
        add(t, in);
        return true;
    case INSN_SUBW:
        binary(t, in, X_ALU(ALU_SUB), false);
        return true;
    case INSN_MULW:
        binary(t, in, X_IMUL, true);
        return true;
    case INSN_SLLIW:
        shift_const(t, in, SHIFT_SHL);
        return true;
    case INSN_SRLIW:
        shift_const(t, in, SHIFT_SHR);
        return true;
    case INSN_SRAIW:
        shift_const(t, in, SHIFT_SAR);
        return true;
    case INSN_SLLW:
        shift(t, in, V_SHLX);
        return true;
    case INSN_SRLW:
        shift(t, in, V_SHRX);
        return true;
    case INSN_SRAW:
        shift(t, in, V_SARX);
        return true;
    default:
        return false;
    }
}
