/* Translation of the A extension. Harts take turns, so plain loads and stores are atomic. What misses, is
 * misaligned or must be tracked goes through the interpreter from its beginning. */
#include "cpu-core/jit/translate.h"

static bool is_word(const struct insn *in)
{
    return isa_table[in->op].size == 4;
}

/* rcx = host address of the operand. */
static struct stub *locate(struct tr *t, const struct insn *in, bool write)
{
    struct emitter *e = &t->e;
    struct stub *s = tr_stub(t, STUB_STEP);
    unsigned base = tr_use(t, in->rs1, RAX);

    emit_op_imm(e, OPC(0, 0, 0xf7), 0, rm_reg(base), 4, isa_table[in->op].size - 1); /* test */
    stub_from(s, emit_jcc(e, CC_NE));
    tr_check(t, in->rs1, 0, 0, write, RCX, s);
    emit_alu(e, ALU_ADD, RCX, gx(t, in->rs1));
    return s;
}

/* rdx = the reservation set of the host address in rcx. */
static void reservation_set(struct tr *t)
{
    emit_const(&t->e, RDX, (int64_t)(RAM_BASE - (uint64_t)(uintptr_t)t->j->ram->host));
    emit_alu(&t->e, ALU_ADD, RDX, rm_reg(RCX));
    emit_alu_const(&t->e, ALU_AND, rm_reg(RDX), -8);
}

static void load_old(struct tr *t, const struct insn *in)
{
    emit_op(&t->e, is_word(in) ? X_MOVSXD : X_MOV_LOAD | OPC_W, RAX, rm_mem(RCX, 0));
}

static void store_new(struct tr *t, const struct insn *in, unsigned reg)
{
    emit_op(&t->e, X_MOV_STORE | (is_word(in) ? 0 : OPC_W), reg, rm_mem(RCX, 0));
}

static void set_valid(struct tr *t, unsigned value)
{
    emit_op_imm(&t->e, OPC(0, 0, 0xc6), 0, rm_mem(REG_HART, HART(res_valid)), 1, value);
}

static void load_reserved(struct tr *t, const struct insn *in)
{
    struct stub *s = locate(t, in, false);

    reservation_set(t);
    emit_store(&t->e, rm_mem(REG_HART, HART(res_addr)), RDX);
    set_valid(t, 1);
    load_old(t, in);
    tr_set(t, in->rd, RAX);
    s->back = t->e.at;
}

static void store_conditional(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *s = locate(t, in, true);
    uint8_t *invalid, *other;

    reservation_set(t);
    emit_const(e, RAX, 1);
    emit_op_imm(e, OPC(0, 0, 0x80), ALU_CMP, rm_mem(REG_HART, HART(res_valid)), 1, 0);
    set_valid(t, 0);
    invalid = emit_jcc8(e, CC_E);
    emit_alu(e, ALU_CMP, RDX, rm_mem(REG_HART, HART(res_addr)));
    other = emit_jcc8(e, CC_NE);
    store_new(t, in, tr_use(t, in->rs2, RDX));
    emit_const(e, RAX, 0);
    emit_bind8(invalid, e->at);
    emit_bind8(other, e->at);
    tr_set(t, in->rd, RAX);
    s->back = e->at;
}

static void modify(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *s = locate(t, in, true);
    unsigned w = is_word(in) ? 0 : OPC_W;
    enum x64_cond keep;

    load_old(t, in);
    emit_load(e, RDX, gx(t, in->rs2));
    switch (in->op) {
    case INSN_AMOADD_W:
    case INSN_AMOADD_D:
        emit_alu(e, ALU_ADD, RDX, rm_reg(RAX));
        break;
    case INSN_AMOXOR_W:
    case INSN_AMOXOR_D:
        emit_alu(e, ALU_XOR, RDX, rm_reg(RAX));
        break;
    case INSN_AMOAND_W:
    case INSN_AMOAND_D:
        emit_alu(e, ALU_AND, RDX, rm_reg(RAX));
        break;
    case INSN_AMOOR_W:
    case INSN_AMOOR_D:
        emit_alu(e, ALU_OR, RDX, rm_reg(RAX));
        break;
    case INSN_AMOSWAP_W:
    case INSN_AMOSWAP_D:
        break;
    default: /* the old value stays where it is the smaller or larger one */
        keep = in->op == INSN_AMOMIN_W || in->op == INSN_AMOMIN_D     ? CC_L
               : in->op == INSN_AMOMAX_W || in->op == INSN_AMOMAX_D   ? CC_G
               : in->op == INSN_AMOMINU_W || in->op == INSN_AMOMINU_D ? CC_B
                                                                      : CC_A;
        emit_op(e, OPC(0, 0, 0x3b) | w, RAX, rm_reg(RDX));
        emit_op(e, X_CMOV(keep) | OPC_W, RDX, rm_reg(RAX));
        break;
    }
    store_new(t, in, RDX);
    tr_set(t, in->rd, RAX);
    s->back = e->at;
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
