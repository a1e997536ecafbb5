/* Pairs of instructions that compilers make for want of a single one, translated as one. Both are steps;
 * since neither can trap, nothing can happen between them. Knows no memory access. */
#include "cpu-core/jit/translate.h"

/* rd = part of rs1 from bit 0, extended: slli and a right shift. */
static bool extract(struct tr *t, const struct insn *a, const struct insn *b)
{
    struct emitter *e = &t->e;
    unsigned d = tr_dest(t, a->rd, RAX), left = (unsigned)a->imm, right = (unsigned)b->imm;
    bool is_signed = b->op == INSN_SRAI;

    if (!is_signed && left == 32 && right <= 32) {
        emit_load32(e, d, gx(t, a->rs1));
        if (right < 32)
            emit_shift(e, SHIFT_SHL, rm_reg(d), 32 - right);
    } else if (left == right && left == 32) {
        emit_op(e, X_MOVSXD, d, gx(t, a->rs1));
    } else if (left == right && left == 48) {
        emit_op(e, is_signed ? X_MOVSX16 : X_MOVZX16, d, gx(t, a->rs1));
    } else if (left == right && left == 56) {
        emit_op(e, is_signed ? X_MOVSX8 : X_MOVZX8, d, gx(t, a->rs1));
    } else {
        return false;
    }
    tr_set(t, a->rd, d);
    return true;
}

/* rd = (rs1 << 1..3) + another register. */
static bool scaled_sum(struct tr *t, const struct insn *a, const struct insn *b)
{
    unsigned other = b->rs1 == a->rd ? b->rs2 : b->rs1, d = tr_dest(t, a->rd, RAX), index, base;

    if (a->imm < 1 || a->imm > 3 || other == a->rd || other == 0)
        return false;
    index = tr_use(t, a->rs1, RCX);
    base = tr_use(t, other, RAX);
    emit_lea(&t->e, d, rm_sib(base, index, (unsigned)a->imm, 0));
    tr_set(t, a->rd, d);
    return true;
}

static bool shifted(struct tr *t, const struct insn *a, const struct insn *b)
{
    switch (b->op) {
    case INSN_SRLI:
    case INSN_SRAI:
        return b->rs1 == a->rd && extract(t, a, b);
    case INSN_ADD:
        return (b->rs1 == a->rd || b->rs2 == a->rd) && scaled_sum(t, a, b);
    default:
        return false;
    }
}

static bool upper(struct tr *t, const struct insn *a, const struct insn *b)
{
    int64_t value = (int64_t)(int32_t)((uint32_t)a->imm << 12) + b->imm;

    if (b->rs1 != a->rd || (b->op != INSN_ADDI && b->op != INSN_ADDIW))
        return false;
    if (b->op == INSN_ADDIW)
        value = (int32_t)value;
    if (value != (int32_t)value)
        return false;
    if (pinned(t, a->rd))
        emit_const(&t->e, t->pin[a->rd], value);
    else
        emit_store_const(&t->e, gx(t, a->rd), (int32_t)value);
    return true;
}

static bool address(struct tr *t, const struct insn *a, const struct insn *b)
{
    int64_t offset = (int64_t)(int32_t)((uint32_t)a->imm << 12) + t->seq[t->i].offset + b->imm;
    unsigned d = tr_dest(t, a->rd, RAX);

    if (b->op != INSN_ADDI || b->rs1 != a->rd || offset != (int32_t)offset)
        return false;
    emit_load(&t->e, d, rm_mem(REG_HART, HART(code_page)));
    emit_alu_const(&t->e, ALU_ADD, rm_reg(d), (int32_t)offset);
    tr_set(t, a->rd, d);
    return true;
}

static bool quotient_and_remainder(struct tr *t, const struct insn *a, const struct insn *b)
{
    static const uint16_t pairs[][2] = {
        {INSN_DIV, INSN_REM}, {INSN_DIVU, INSN_REMU}, {INSN_DIVW, INSN_REMW}, {INSN_DIVUW, INSN_REMUW}};

    if (a->rs1 != b->rs1 || a->rs2 != b->rs2 || a->rd == a->rs1 || a->rd == a->rs2 || a->rd == b->rd ||
        !b->rd)
        return false;
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (a->op == pairs[i][0] && b->op == pairs[i][1]) {
            tr_divide(t, a, a->rd, b->rd);
            return true;
        }
        if (a->op == pairs[i][1] && b->op == pairs[i][0]) {
            tr_divide(t, a, b->rd, a->rd);
            return true;
        }
    }
    return false;
}

bool tr_fuse_pair(struct tr *t, const struct insn *a, const struct insn *b)
{
    if (!a->rd)
        return false;
    if (isa_table[a->op].cls == ISA_CLASS_DIV)
        return quotient_and_remainder(t, a, b);
    if (b->rd != a->rd)
        return false;
    switch (a->op) {
    case INSN_SLLI:
        return shifted(t, a, b);
    case INSN_LUI:
        return upper(t, a, b);
    case INSN_AUIPC:
        return address(t, a, b);
    default:
        return false;
    }
}

bool tr_fuse(struct tr *t)
{
    const struct tr_insn *first = &t->seq[t->i];

    return t->i + 1 < t->n && !first->falls && !first[1].falls && !first[1].conditional &&
           tr_fuse_pair(t, &first->in, &first[1].in);
}
