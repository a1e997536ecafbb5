/* Translation of the A extension. Harts take turns, so plain loads and stores are atomic. What misses, is
 * misaligned or must be tracked goes through the interpreter from its beginning. */
#include "cpu-core/jit/translate.h"

static bool is_word(const struct insn *in)
{
    return isa_table[in->op].size == 4;
}

/* The operand in memory; uses rax and rcx. */
static struct rm locate(struct tr *t, const struct insn *in, bool write, struct stub *s)
{
    return tr_check_aligned(t, in->rs1, isa_table[in->op].size, write, s);
}

/* rdx = the reservation set of the operand. */
static void reservation_set(struct tr *t, const struct insn *in, struct rm at)
{
    emit_lea(&t->e, RDX, at);
    emit_alu(&t->e, ALU_ADD, RDX, rm_at(&t->j->blocks.constants[CONST_TO_PA][0]));
    if (is_word(in))
        emit_alu_const(&t->e, ALU_AND, rm_reg(RDX), -8);
}

static void load_old(struct tr *t, const struct insn *in, unsigned reg, struct rm at)
{
    emit_op(&t->e, is_word(in) ? X_MOVSXD : X_MOV_LOAD | OPC_W, reg, at);
}

static void store_new(struct tr *t, const struct insn *in, unsigned reg, struct rm at)
{
    emit_op(&t->e, X_MOV_STORE | (is_word(in) ? 0 : OPC_W), reg, at);
}

static void set_valid(struct tr *t, unsigned value)
{
    emit_op_imm(&t->e, OPC(0, 0, 0xc6), 0, rm_mem(REG_HART, HART(res_valid)), 1, value);
}

static void load_reserved(struct tr *t, const struct insn *in)
{
    struct stub *s = tr_stub(t, STUB_STEP);
    struct rm at = locate(t, in, false, s);
    unsigned d = tr_dest(t, in->rd, RAX);

    reservation_set(t, in, at);
    emit_store(&t->e, rm_mem(REG_HART, HART(res_addr)), RDX);
    set_valid(t, 1);
    load_old(t, in, d, at);
    tr_set(t, in->rd, d);
    s->back = t->e.at;
}

static void store_conditional(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *s = tr_stub(t, STUB_STEP);
    struct rm at = locate(t, in, true, s);
    uint8_t *invalid, *other;

    reservation_set(t, in, at);
    emit_const(e, RAX, 1);
    emit_op_imm(e, OPC(0, 0, 0x80), ALU_CMP, rm_mem(REG_HART, HART(res_valid)), 1, 0);
    set_valid(t, 0);
    invalid = emit_jcc8(e, CC_E);
    emit_alu(e, ALU_CMP, RDX, rm_mem(REG_HART, HART(res_addr)));
    other = emit_jcc8(e, CC_NE);
    store_new(t, in, tr_use(t, in->rs2, RDX), at);
    emit_const(e, RAX, 0);
    emit_bind8(invalid, e->at);
    emit_bind8(other, e->at);
    tr_set(t, in->rd, RAX);
    s->back = e->at;
}

/* The operation as one on memory; false for those that the host has not. */
static bool memory_op(unsigned op, enum alu_op *alu)
{
    switch (op) {
    case INSN_AMOADD_W:
    case INSN_AMOADD_D:
        *alu = ALU_ADD;
        return true;
    case INSN_AMOXOR_W:
    case INSN_AMOXOR_D:
        *alu = ALU_XOR;
        return true;
    case INSN_AMOAND_W:
    case INSN_AMOAND_D:
        *alu = ALU_AND;
        return true;
    case INSN_AMOOR_W:
    case INSN_AMOOR_D:
        *alu = ALU_OR;
        return true;
    default:
        return false;
    }
}

/* Leaves the old value in rax and the new one in rdx. */
static void choose(struct tr *t, const struct insn *in, struct rm at)
{
    struct emitter *e = &t->e;
    enum x64_cond keep;

    load_old(t, in, RAX, at);
    emit_load(e, RDX, gx(t, in->rs2));
    switch (in->op) {
    case INSN_AMOSWAP_W:
    case INSN_AMOSWAP_D:
        return;
    case INSN_AMOMIN_W:
    case INSN_AMOMIN_D:
        keep = CC_L;
        break;
    case INSN_AMOMAX_W:
    case INSN_AMOMAX_D:
        keep = CC_G;
        break;
    case INSN_AMOMINU_W:
    case INSN_AMOMINU_D:
        keep = CC_B;
        break;
    default:
        keep = CC_A;
        break;
    }
    emit_op(e, OPC(0, 0, 0x3b) | (is_word(in) ? 0 : OPC_W), RAX, rm_reg(RDX));
    emit_op(e, X_CMOV(keep) | OPC_W, RDX, rm_reg(RAX));
}

static void modify(struct tr *t, const struct insn *in)
{
    struct stub *s = tr_stub(t, STUB_STEP);
    struct rm at = locate(t, in, true, s);
    enum alu_op alu;

    if (!memory_op(in->op, &alu)) {
        choose(t, in, at);
        store_new(t, in, RDX, at);
        tr_set(t, in->rd, RAX);
    } else {
        unsigned operand = tr_use(t, in->rs2, RDX);
        if (in->rd)
            load_old(t, in, RAX, at);
        emit_op(&t->e, OPC(0, 0, alu << 3 | 1) | (is_word(in) ? 0 : OPC_W), operand, at);
        tr_set(t, in->rd, RAX);
    }
    s->back = t->e.at;
}

bool tr_amo(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_LR_W:
    case INSN_LR_D:
        load_reserved(t, in);
        return true;
    case INSN_SC_W:
    case INSN_SC_D:
        store_conditional(t, in);
        return true;
    default:
        modify(t, in);
        return true;
    }
}
