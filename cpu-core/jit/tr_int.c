/* Translation of integer computation. Each function may use rax and rcx; rdx only where tr_mem.c knows. */
#include "cpu-core/jit/translate.h"

static unsigned dest(const struct tr *t, const struct insn *in)
{
    return tr_dest(t, in->rd, RAX);
}

/* rd = rs1 op rs2 */
static void binary(struct tr *t, const struct insn *in, enum alu_op op, bool commutes)
{
    struct emitter *e = &t->e;
    unsigned d = dest(t, in);

    if (in->rd == in->rs1 && !pinned(t, in->rd) && pinned(t, in->rs2)) {
        emit_alu_store(e, op, gx(t, in->rd), t->pin[in->rs2]);
        return;
    }
    if (in->rd == in->rs2 && pinned(t, in->rd) && in->rd != in->rs1) {
        if (commutes) {
            emit_alu(e, op, d, gx(t, in->rs1));
            return;
        }
        d = RAX;
    }
    emit_load(e, d, gx(t, in->rs1));
    emit_alu(e, op, d, gx(t, in->rs2));
    tr_set(t, in->rd, d);
}

static void add(struct tr *t, const struct insn *in)
{
    if (in->rs1 == 0 || in->rs2 == 0) {
        unsigned s = in->rs1 ? in->rs1 : in->rs2;
        if (pinned(t, in->rd)) {
            emit_load(&t->e, t->pin[in->rd], gx(t, s));
        } else {
            tr_set(t, in->rd, tr_use(t, s, RAX));
        }
    } else if (pinned(t, in->rd) && pinned(t, in->rs1) && pinned(t, in->rs2) && in->rd != in->rs1 &&
               in->rd != in->rs2) {
        emit_lea(&t->e, t->pin[in->rd], rm_sib(t->pin[in->rs1], t->pin[in->rs2], 0, 0));
    } else {
        binary(t, in, ALU_ADD, true);
    }
}

static void binary_const(struct tr *t, const struct insn *in, enum alu_op op)
{
    unsigned d = dest(t, in);

    if (in->rd == in->rs1) {
        emit_alu_const(&t->e, op, gx(t, in->rd), in->imm);
        return;
    }
    emit_load(&t->e, d, gx(t, in->rs1));
    emit_alu_const(&t->e, op, rm_reg(d), in->imm);
    tr_set(t, in->rd, d);
}

static void constant(struct tr *t, unsigned rd, int64_t value)
{
    if (pinned(t, rd))
        emit_const(&t->e, t->pin[rd], value);
    else
        emit_store_const(&t->e, gx(t, rd), (int32_t)value);
}

static void addi(struct tr *t, const struct insn *in)
{
    if (in->rs1 == 0) {
        constant(t, in->rd, in->imm);
    } else if (in->imm == 0) {
        struct insn move = {.rd = in->rd, .rs1 = in->rs1};
        add(t, &move);
    } else if (pinned(t, in->rd) && pinned(t, in->rs1) && in->rd != in->rs1) {
        emit_lea(&t->e, t->pin[in->rd], rm_mem(t->pin[in->rs1], in->imm));
    } else {
        binary_const(t, in, ALU_ADD);
    }
}

static void andi(struct tr *t, const struct insn *in)
{
    unsigned d = dest(t, in);

    if (in->imm == 255) {
        emit_op(&t->e, X_MOVZX8, d, gx(t, in->rs1));
        tr_set(t, in->rd, d);
    } else {
        binary_const(t, in, ALU_AND);
    }
}

static void auipc(struct tr *t, const struct insn *in)
{
    unsigned d = dest(t, in);

    emit_load(&t->e, d, rm_mem(REG_HART, HART(code_page)));
    emit_alu_const(&t->e, ALU_ADD, rm_reg(d), (int32_t)((uint32_t)in->imm << 12) + t->seq[t->i].offset);
    tr_set(t, in->rd, d);
}

/* rd = rs1 shifted by rs2; the VEX forms take the count modulo the operand size, as RISC-V does. */
static void shift(struct tr *t, const struct insn *in, unsigned opc)
{
    unsigned d = dest(t, in), count = tr_use(t, in->rs2, RCX);

    emit_vex(&t->e, opc | OPC_W, d, count, gx(t, in->rs1));
    tr_set(t, in->rd, d);
}

static void shift_const(struct tr *t, const struct insn *in, enum shift_op op)
{
    unsigned d = dest(t, in);

    if (in->rd == in->rs1) {
        if (in->imm)
            emit_shift(&t->e, op, gx(t, in->rd), (unsigned)in->imm);
        return;
    }
    emit_load(&t->e, d, gx(t, in->rs1));
    if (in->imm)
        emit_shift(&t->e, op, rm_reg(d), (unsigned)in->imm);
    tr_set(t, in->rd, d);
}

static void set_if(struct tr *t, const struct insn *in, enum x64_cond cc, bool immediate)
{
    struct emitter *e = &t->e;
    unsigned d = dest(t, in), a = RAX;
    bool clear = pinned(t, in->rd) && in->rd != in->rs1 && (immediate || in->rd != in->rs2);

    if (clear)
        emit_alu32(e, ALU_XOR, d, rm_reg(d));
    if (immediate) {
        emit_alu_const(e, ALU_CMP, gx(t, in->rs1), in->imm);
    } else {
        a = tr_use(t, in->rs1, RAX);
        emit_alu(e, ALU_CMP, a, gx(t, in->rs2));
    }
    emit_setcc(e, cc, clear ? d : RAX);
    if (!clear)
        emit_op(e, X_MOVZX8, d, rm_reg(RAX));
    tr_set(t, in->rd, d);
}

static void multiply(struct tr *t, const struct insn *in)
{
    unsigned d = dest(t, in), a = in->rs1, b = in->rs2;

    if (in->rd == b) {
        b = a;
        a = in->rd;
    }
    emit_load(&t->e, d, gx(t, a));
    emit_op(&t->e, X_IMUL | OPC_W, d, gx(t, b));
    tr_set(t, in->rd, d);
}

/* F7 /n: one-operand multiplication and division on rdx:rax. */
static void multiply_high(struct tr *t, const struct insn *in, unsigned extension)
{
    struct emitter *e = &t->e;

    emit_load(e, RAX, gx(t, in->rs1));
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, extension, gx(t, in->rs2));
    if (in->op == INSN_MULHSU) { /* less rs2 << 64 where rs1 is negative */
        emit_load(e, RCX, gx(t, in->rs1));
        emit_shift(e, SHIFT_SAR, rm_reg(RCX), 63);
        emit_alu(e, ALU_AND, RCX, gx(t, in->rs2));
        emit_alu(e, ALU_SUB, RDX, rm_reg(RCX));
    }
    tr_set(t, in->rd, RDX);
}

static void set_result(struct tr *t, unsigned rd, unsigned from, unsigned w)
{
    if (rd && w)
        tr_set(t, rd, from);
    else if (rd)
        tr_set_word(t, rd, from);
}

/* What the host traps on or leaves undefined is computed beside the division. */
void tr_divide(struct tr *t, const struct insn *in, unsigned quotient, unsigned remainder)
{
    struct emitter *e = &t->e;
    uint8_t *zero, *minus = NULL, *done, *done2 = NULL;
    unsigned w =
        in->op == INSN_DIV || in->op == INSN_DIVU || in->op == INSN_REM || in->op == INSN_REMU ? OPC_W : 0;
    bool is_signed = in->op == INSN_DIV || in->op == INSN_REM || in->op == INSN_DIVW || in->op == INSN_REMW;

    emit_op(e, X_MOV_LOAD | w, RCX, gx(t, in->rs2));
    emit_op(e, X_MOV_LOAD | w, RAX, gx(t, in->rs1));
    emit_op(e, X_TEST | w, RCX, rm_reg(RCX));
    zero = emit_jcc8(e, CC_E);
    if (is_signed) {
        emit_op_imm(e, OPC(0, 0, 0x83) | w, ALU_CMP, rm_reg(RCX), 1, -1);
        minus = emit_jcc8(e, CC_E);
        emit_op(e, OPC(0, 0, 0x99) | w, 0, rm_reg(RAX)); /* cqo, cdq: the ModRM byte is taken back */
        e->at--;
    } else {
        emit_alu32(e, ALU_XOR, RDX, rm_reg(RDX));
    }
    emit_op(e, OPC(0, 0, 0xf7) | w, is_signed ? 7 : 6, rm_reg(RCX));
    done = emit_jmp8(e);
    if (is_signed) { /* by -1 */
        emit_bind8(minus, e->at);
        emit_alu32(e, ALU_XOR, RDX, rm_reg(RDX));
        emit_op(e, OPC(0, 0, 0xf7) | w, 3, rm_reg(RAX)); /* neg */
        done2 = emit_jmp8(e);
    }
    emit_bind8(zero, e->at);
    emit_op(e, X_MOV_LOAD | w, RDX, rm_reg(RAX));
    emit_op_imm(e, OPC(0, 0, 0xc7) | OPC_W, 0, rm_reg(RAX), 4, -1);
    emit_bind8(done, e->at);
    if (done2)
        emit_bind8(done2, e->at);
    set_result(t, quotient, RAX, w);
    set_result(t, remainder, RDX, w); /* after it: may use rax */
}

/* rd = rs1 << by plus rs2; `w`: all of rs1, else its low half. */
static void shift_add(struct tr *t, const struct insn *in, unsigned by, unsigned w)
{
    unsigned a, b, d = dest(t, in);

    if (w) {
        a = tr_use(t, in->rs1, RAX);
    } else {
        emit_load32(&t->e, RAX, gx(t, in->rs1));
        a = RAX;
    }
    b = tr_use(t, in->rs2, RCX);
    emit_lea(&t->e, d, rm_sib(b, a, by, 0));
    tr_set(t, in->rd, d);
}

static void unary(struct tr *t, const struct insn *in, unsigned opc)
{
    unsigned d = dest(t, in);

    emit_op(&t->e, opc, d, gx(t, in->rs1));
    tr_set(t, in->rd, d);
}

static void unary_word(struct tr *t, const struct insn *in, unsigned opc)
{
    emit_op(&t->e, opc, RAX, gx(t, in->rs1));
    tr_set(t, in->rd, RAX);
}

static void min_max(struct tr *t, const struct insn *in, enum x64_cond keep_second)
{
    struct emitter *e = &t->e;

    emit_load(e, RAX, gx(t, in->rs1));
    emit_alu(e, ALU_CMP, RAX, gx(t, in->rs2));
    emit_op(e, X_CMOV(keep_second) | OPC_W, RAX, gx(t, in->rs2));
    tr_set(t, in->rd, RAX);
}

static void conditional_zero(struct tr *t, const struct insn *in, enum x64_cond zero)
{
    struct emitter *e = &t->e;

    emit_const(e, RCX, 0);
    emit_load(e, RAX, gx(t, in->rs1));
    emit_alu_const(e, ALU_CMP, gx(t, in->rs2), 0);
    emit_op(e, X_CMOV(zero) | OPC_W, RAX, rm_reg(RCX));
    tr_set(t, in->rd, RAX);
}

/* rd = rs1 with a bit changed by bts, btr or btc. */
static void bit(struct tr *t, const struct insn *in, unsigned opc, unsigned extension, bool immediate)
{
    emit_load(&t->e, RAX, gx(t, in->rs1));
    if (immediate)
        emit_op_imm(&t->e, OPC(1, 0, 0xba) | OPC_W, extension, rm_reg(RAX), 1, in->imm);
    else
        emit_op(&t->e, opc | OPC_W, tr_use(t, in->rs2, RCX), rm_reg(RAX));
    tr_set(t, in->rd, RAX);
}

static void bit_extract(struct tr *t, const struct insn *in, bool immediate)
{
    struct emitter *e = &t->e;

    if (immediate) {
        emit_load(e, RAX, gx(t, in->rs1));
        if (in->imm)
            emit_shift(e, SHIFT_SHR, rm_reg(RAX), (unsigned)in->imm);
    } else {
        emit_vex(e, V_SHRX | OPC_W, RAX, tr_use(t, in->rs2, RCX), gx(t, in->rs1));
    }
    emit_alu_const32(e, ALU_AND, rm_reg(RAX), 1);
    tr_set(t, in->rd, RAX);
}

/* rol, ror and their word forms by a register. */
static void rotate(struct tr *t, const struct insn *in, enum shift_op op, unsigned w)
{
    struct emitter *e = &t->e;

    emit_load(e, RCX, gx(t, in->rs2));
    emit_op(e, X_MOV_LOAD | w, RAX, gx(t, in->rs1));
    emit_shift_cl(e, w, op, rm_reg(RAX));
    if (w)
        tr_set(t, in->rd, RAX);
    else
        tr_set_word(t, in->rd, RAX);
}

static void rotate_const(struct tr *t, const struct insn *in)
{
    unsigned d = dest(t, in);

    emit_vex_imm(&t->e, V_RORX | OPC_W, d, 0, gx(t, in->rs1), 1, in->imm);
    tr_set(t, in->rd, d);
}

static void inverted(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    switch (in->op) {
    case INSN_ANDN:
        emit_vex(e, V_ANDN | OPC_W, RAX, tr_use(t, in->rs2, RCX), gx(t, in->rs1));
        break;
    case INSN_ORN:
        emit_load(e, RAX, gx(t, in->rs2));
        emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 2, rm_reg(RAX)); /* not */
        emit_alu(e, ALU_OR, RAX, gx(t, in->rs1));
        break;
    default: /* xnor */
        emit_load(e, RAX, gx(t, in->rs2));
        emit_alu(e, ALU_XOR, RAX, gx(t, in->rs1));
        emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 2, rm_reg(RAX));
        break;
    }
    tr_set(t, in->rd, RAX);
}

static void byte_swap(struct tr *t, const struct insn *in)
{
    emit_load(&t->e, RAX, gx(t, in->rs1));
    emit_op(&t->e, OPC(1, 0, 0xc8) | OPC_W, 0, rm_reg(RAX)); /* bswap rax has no ModRM byte */
    t->e.at--;
    tr_set(t, in->rd, RAX);
}

static void or_combine(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    emit_vex(e, OPC(1, 1, 0x6e) | OPC_W, 0, 0, gx(t, in->rs1)); /* vmovq xmm0, rs1 */
    emit_vex(e, OPC(1, 1, 0xef), 1, 1, rm_reg(1));              /* vpxor xmm1, xmm1, xmm1 */
    emit_vex(e, OPC(1, 1, 0x74), 0, 0, rm_reg(1));              /* vpcmpeqb xmm0, xmm0, xmm1 */
    emit_vex(e, OPC(1, 1, 0x7e) | OPC_W, 0, 0, rm_reg(RAX));    /* vmovq rax, xmm0 */
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 2, rm_reg(RAX));
    tr_set(t, in->rd, RAX);
}

static bool zbb(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_ANDN:
    case INSN_ORN:
    case INSN_XNOR:
        inverted(t, in);
        return true;
    case INSN_CLZ:
        unary(t, in, X_LZCNT | OPC_W);
        return true;
    case INSN_CTZ:
        unary(t, in, X_TZCNT | OPC_W);
        return true;
    case INSN_CPOP:
        unary(t, in, X_POPCNT | OPC_W);
        return true;
    case INSN_CLZW:
        unary_word(t, in, X_LZCNT);
        return true;
    case INSN_CTZW:
        unary_word(t, in, X_TZCNT);
        return true;
    case INSN_CPOPW:
        unary_word(t, in, X_POPCNT);
        return true;
    case INSN_SEXT_B:
        unary(t, in, X_MOVSX8);
        return true;
    case INSN_SEXT_H:
        unary(t, in, X_MOVSX16);
        return true;
    case INSN_ZEXT_H:
        unary(t, in, X_MOVZX16);
        return true;
    case INSN_MAX:
        min_max(t, in, CC_L);
        return true;
    case INSN_MAXU:
        min_max(t, in, CC_B);
        return true;
    case INSN_MIN:
        min_max(t, in, CC_G);
        return true;
    case INSN_MINU:
        min_max(t, in, CC_A);
        return true;
    case INSN_ROL:
        rotate(t, in, SHIFT_ROL, OPC_W);
        return true;
    case INSN_ROR:
        rotate(t, in, SHIFT_ROR, OPC_W);
        return true;
    case INSN_ROLW:
        rotate(t, in, SHIFT_ROL, 0);
        return true;
    case INSN_RORW:
        rotate(t, in, SHIFT_ROR, 0);
        return true;
    case INSN_RORI:
        rotate_const(t, in);
        return true;
    case INSN_RORIW:
        emit_load32(&t->e, RAX, gx(t, in->rs1));
        emit_shift32(&t->e, SHIFT_ROR, rm_reg(RAX), (unsigned)in->imm);
        tr_set_word(t, in->rd, RAX);
        return true;
    case INSN_REV8:
        byte_swap(t, in);
        return true;
    case INSN_ORC_B:
        or_combine(t, in);
        return true;
    default:
        return false;
    }
}

static bool zba_zbs(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_ADD_UW:
        shift_add(t, in, 0, 0);
        return true;
    case INSN_SH1ADD:
        shift_add(t, in, 1, OPC_W);
        return true;
    case INSN_SH2ADD:
        shift_add(t, in, 2, OPC_W);
        return true;
    case INSN_SH3ADD:
        shift_add(t, in, 3, OPC_W);
        return true;
    case INSN_SH1ADD_UW:
        shift_add(t, in, 1, 0);
        return true;
    case INSN_SH2ADD_UW:
        shift_add(t, in, 2, 0);
        return true;
    case INSN_SH3ADD_UW:
        shift_add(t, in, 3, 0);
        return true;
    case INSN_SLLI_UW:
        emit_load32(&t->e, RAX, gx(t, in->rs1));
        if (in->imm)
            emit_shift(&t->e, SHIFT_SHL, rm_reg(RAX), (unsigned)in->imm);
        tr_set(t, in->rd, RAX);
        return true;
    case INSN_BSET:
        bit(t, in, X_BTS, 5, false);
        return true;
    case INSN_BCLR:
        bit(t, in, X_BTR, 6, false);
        return true;
    case INSN_BINV:
        bit(t, in, X_BTC, 7, false);
        return true;
    case INSN_BSETI:
        bit(t, in, X_BTS, 5, true);
        return true;
    case INSN_BCLRI:
        bit(t, in, X_BTR, 6, true);
        return true;
    case INSN_BINVI:
        bit(t, in, X_BTC, 7, true);
        return true;
    case INSN_BEXT:
        bit_extract(t, in, false);
        return true;
    case INSN_BEXTI:
        bit_extract(t, in, true);
        return true;
    case INSN_CZERO_EQZ:
        conditional_zero(t, in, CC_E);
        return true;
    case INSN_CZERO_NEZ:
        conditional_zero(t, in, CC_NE);
        return true;
    default:
        return zbb(t, in);
    }
}

/* Products of polynomials over GF(2), by vector registers. */
static bool carryless(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    if (!t->j->carryless)
        return false;
    emit_vex(e, F_FROM_GPR, 0, 0, gx(t, in->rs1));
    emit_vex(e, F_FROM_GPR, 1, 0, gx(t, in->rs2));
    emit_vex_imm(e, F_CARRYLESS, 0, 0, rm_reg(1), 1, 0);
    if (in->op == INSN_CLMUL)
        emit_vex(e, F_TO_GPR, 0, 0, rm_reg(RAX));
    else
        emit_vex_imm(e, F_EXTRACT64, 0, 0, rm_reg(RAX), 1, 1);
    if (in->op == INSN_CLMULR) { /* bits 63 to 126 */
        emit_vex(e, F_TO_GPR, 0, 0, rm_reg(RCX));
        emit_op_imm(e, OPC(1, 0, 0xa4) | OPC_W, RCX, rm_reg(RAX), 1, 1); /* shld */
    }
    tr_set(t, in->rd, RAX);
    return true;
}

static bool multiplication(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_MUL:
        multiply(t, in);
        return true;
    case INSN_MULH:
        multiply_high(t, in, 5);
        return true;
    case INSN_MULHU:
    case INSN_MULHSU:
        multiply_high(t, in, 4);
        return true;
    case INSN_DIV:
    case INSN_DIVU:
    case INSN_DIVW:
    case INSN_DIVUW:
        tr_divide(t, in, in->rd, 0);
        return true;
    case INSN_REM:
    case INSN_REMU:
    case INSN_REMW:
    case INSN_REMUW:
        tr_divide(t, in, 0, in->rd);
        return true;
    case INSN_CLMUL:
    case INSN_CLMULH:
    case INSN_CLMULR:
        return carryless(t, in);
    default:
        return zba_zbs(t, in);
    }
}

bool tr_int(struct tr *t, const struct insn *in)
{
    if (in->rd == 0)
        return true;
    switch (in->op) {
    case INSN_LUI:
        constant(t, in->rd, (int32_t)((uint32_t)in->imm << 12));
        return true;
    case INSN_AUIPC:
        auipc(t, in);
        return true;
    case INSN_ADDI:
        addi(t, in);
        return true;
    case INSN_SLTI:
        set_if(t, in, CC_L, true);
        return true;
    case INSN_SLTIU:
        set_if(t, in, CC_B, true);
        return true;
    case INSN_XORI:
        binary_const(t, in, ALU_XOR);
        return true;
    case INSN_ORI:
        binary_const(t, in, ALU_OR);
        return true;
    case INSN_ANDI:
        andi(t, in);
        return true;
    case INSN_SLLI:
        shift_const(t, in, SHIFT_SHL);
        return true;
    case INSN_SRLI:
        shift_const(t, in, SHIFT_SHR);
        return true;
    case INSN_SRAI:
        shift_const(t, in, SHIFT_SAR);
        return true;
    case INSN_ADD:
        add(t, in);
        return true;
    case INSN_SUB:
        binary(t, in, ALU_SUB, false);
        return true;
    case INSN_SLL:
        shift(t, in, V_SHLX);
        return true;
    case INSN_SLT:
        set_if(t, in, CC_L, false);
        return true;
    case INSN_SLTU:
        set_if(t, in, CC_B, false);
        return true;
    case INSN_XOR:
        binary(t, in, ALU_XOR, true);
        return true;
    case INSN_SRL:
        shift(t, in, V_SHRX);
        return true;
    case INSN_SRA:
        shift(t, in, V_SARX);
        return true;
    case INSN_OR:
        binary(t, in, ALU_OR, true);
        return true;
    case INSN_AND:
        binary(t, in, ALU_AND, true);
        return true;
    default:
        return tr_word(t, in) || multiplication(t, in);
    }
}
