/* Translation of branches and jumps. */
#include "cpu-core/jit/translate.h"

static void compare(struct tr *t, const struct insn *in)
{
    if (in->rs2 == 0 && pinned(t, in->rs1)) {
        emit_op(&t->e, X_TEST | OPC_W, t->pin[in->rs1], gx(t, in->rs1));
        return;
    }
    if (in->rs2 == 0 && in->rs1) {
        emit_alu_const(&t->e, ALU_CMP, gx(t, in->rs1), 0);
        return;
    }
    if (!pinned(t, in->rs1) && pinned(t, in->rs2))
        emit_alu_store(&t->e, ALU_CMP, gx(t, in->rs1), t->pin[in->rs2]);
    else
        emit_alu(&t->e, ALU_CMP, tr_use(t, in->rs1, RAX), gx(t, in->rs2));
}

static enum x64_cond condition(unsigned op)
{
    switch (op) {
    case INSN_BEQ:
        return CC_E;
    case INSN_BNE:
        return CC_NE;
    case INSN_BLT:
        return CC_L;
    case INSN_BGE:
        return CC_GE;
    case INSN_BLTU:
        return CC_B;
    default:
        return CC_AE;
    }
}

bool tr_branch(struct tr *t, const struct insn *in)
{
    const struct tr_insn *ti = &t->seq[t->i];
    enum x64_cond cc = condition(in->op);
    int32_t target = ti->offset + in->imm;
    uint8_t *over;

    if (ti->converted)
        return true;
    compare(t, in);
    if (ti->falls) {
        struct stub *s = tr_stub(t, STUB_EXIT);
        s->target = target;
        stub_from(s, emit_jcc(&t->e, cc));
        return true;
    }
    if (tr_is_head(t, target)) {
        emit_bind(emit_jcc(&t->e, cc), t->head);
    } else {
        over = emit_jcc(&t->e, cc ^ 1);
        tr_goto(t, &t->e, target);
        emit_bind(over, t->e.at);
    }
    tr_goto(t, &t->e, ti->offset + in->len);
    return true;
}

/* Adds `n` steps if the condition holds; uses rcx. */
static void refund_if(struct emitter *e, enum x64_cond cc, unsigned n)
{
    emit_setcc(e, cc, RCX);
    emit_op(e, X_MOVZX8, RCX, rm_reg(RCX));
    if (n == 3)
        emit_lea(e, RCX, rm_sib(RCX, RCX, 1, 0));
    emit_lea(e, REG_LEFT, rm_sib(REG_LEFT, RCX, n == 2, 0));
}

/* The instructions from t->i that are under the condition, unless the branch before them is taken, without a
 * jump. Skipped ones are no steps. */
unsigned tr_conditional(struct tr *t, const struct insn *branch)
{
    const struct tr_insn *run = &t->seq[t->i];
    struct emitter *e = &t->e;
    enum x64_cond taken = condition(branch->op);
    unsigned rd = run->in.rd, n = run->conditional, d = tr_dest(t, rd, RAX);

    t->groups[0].regs = 0;
    emit_load(e, RDX, gx(t, rd));
    for (unsigned k = 0; k < n; k++) {
        if (k + 1 < n && tr_fuse_pair(t, &run[k].in, &run[k + 1].in))
            k++;
        else
            tr_int(t, &run[k].in);
    }
    compare(t, branch);
    emit_load(e, d, gx(t, rd));
    emit_op(e, X_CMOV(taken) | OPC_W, d, rm_reg(RDX));
    tr_set(t, rd, d);
    refund_if(e, taken, n);
    return n - 1;
}

/* rd = the address after this instruction, computed in rcx if it lives in memory. */
static void set_link(struct tr *t, const struct insn *in)
{
    unsigned d;

    if (!in->rd)
        return;
    d = tr_dest(t, in->rd, RCX);
    emit_load(&t->e, d, rm_mem(REG_HART, HART(code_page)));
    emit_alu_const(&t->e, ALU_ADD, rm_reg(d), t->seq[t->i].offset + in->len);
    tr_set(t, in->rd, d);
}

/* Whether the jump goes where the instruction before says, from the page: a call to far away. */
static bool known_target(const struct tr *t, const struct insn *in, int32_t *target)
{
    const struct tr_insn *before = &t->seq[t->i ? t->i - 1 : 0];
    int64_t offset = (int64_t)(int32_t)((uint32_t)before->in.imm << 12) + before->offset + in->imm;

    if (before->in.op != INSN_AUIPC || before->in.rd != in->rs1 || !in->rs1 || offset != (int32_t)offset)
        return false;
    *target = (int32_t)offset & -2;
    return true;
}

bool tr_jump(struct tr *t, const struct insn *in)
{
    int32_t target = t->seq[t->i].offset + in->imm;

    if (in->op == INSN_JAL || known_target(t, in, &target)) {
        set_link(t, in);
        if (!t->seq[t->i].falls)
            tr_goto(t, &t->e, target);
        return true;
    }
    if (pinned(t, in->rs1) && in->imm) {
        emit_lea(&t->e, RAX, rm_mem(t->pin[in->rs1], in->imm));
    } else {
        emit_load(&t->e, RAX, gx(t, in->rs1));
        if (in->imm)
            emit_alu_const(&t->e, ALU_ADD, rm_reg(RAX), in->imm);
    }
    emit_alu_const(&t->e, ALU_AND, rm_reg(RAX), -2);
    set_link(t, in);
    tr_goto_address(t, &t->e);
    return true;
}
