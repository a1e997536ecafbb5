/* Translation of CSR, privileged and cache-block instructions: what is a plain register of the hart in line,
 * the rest through helpers. */
#include "cpu-core/jit/translate.h"

#include "cpu-core/time/vclock.h"

#define CSR_FFLAGS   0x001
#define CSR_FRM      0x002
#define CSR_FCSR     0x003
#define CSR_SSTATUS  0x100
#define CSR_SSCRATCH 0x140
#define CSR_SEPC     0x141
#define CSR_SCAUSE   0x142
#define CSR_STVAL    0x143
#define CSR_TIME     0xc01

#define COUNTER_TM 2 /* in mcounteren and scounteren */

/* Calls `helper` with the instruction's bits in rax. */
static void call(struct tr *t, const struct insn *in, const uint8_t *helper)
{
    struct site s = tr_site(t, t->i);

    emit_const(&t->e, RAX, in->bits);
    emit_const(&t->e, RCX, site_pack(&s));
    emit_call_run(&t->e, helper);
}

/* Place of a supervisor CSR without side effects, 0 for others. */
static int32_t plain_register(unsigned csr)
{
    switch (csr) {
    case CSR_SSCRATCH:
        return HART(sscratch);
    case CSR_SEPC:
        return HART(sepc);
    case CSR_SCAUSE:
        return HART(scause);
    case CSR_STVAL:
        return HART(stval);
    default:
        return 0;
    }
}

static bool plain(struct tr *t, const struct insn *in, int32_t place)
{
    struct emitter *e = &t->e;
    struct rm reg = rm_mem(REG_HART, place);

    if (in->op == INSN_CSRRS && in->rs1 == 0) {
        emit_load(e, RAX, reg);
        tr_set(t, in->rd, RAX);
        return true;
    }
    if (in->op != INSN_CSRRW)
        return false;
    emit_load(e, RCX, gx(t, in->rs1));
    if (place == HART(sepc))
        emit_alu_const(e, ALU_AND, rm_reg(RCX), -2);
    if (in->rd)
        emit_load(e, RAX, reg);
    emit_store(e, reg, RCX);
    tr_set(t, in->rd, RAX);
    return true;
}

#define SSTATUS_WRITABLE (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)

/* test of bits of a register or a place in memory, 32 bits wide */
static void test_bits(struct emitter *e, struct rm rm, uint64_t bits)
{
    emit_op_imm(e, OPC(0, 0, 0xf7), 0, rm, 4, (int64_t)bits);
}

/* rd = sstatus, where rax has mstatus. */
static void read_sstatus(struct tr *t, struct emitter *e, unsigned rd)
{
    uint8_t *clean;

    if (!rd)
        return;
    emit_const(e, RCX, (int64_t)(SSTATUS_WRITABLE | MSTATUS_UXL));
    emit_alu(e, ALU_AND, RAX, rm_reg(RCX));
    emit_load(e, RCX, rm_reg(RAX));
    emit_op_imm(e, OPC(0, 0, 0xf7), 2, rm_reg(RCX), 0, 0); /* not: FS is 3 where both bits become 0 */
    test_bits(e, rm_reg(RCX), MSTATUS_FS);
    clean = emit_jcc8(e, CC_NE);
    emit_op_imm(e, OPC(1, 0, 0xba) | OPC_W, 5, rm_reg(RAX), 1, 63); /* bts */
    emit_bind8(clean, e->at);
    emit_store(e, gx(t, rd), RAX);
}

/* To the stub if an interrupt might become ready: in translated code none is while SIE is off. */
static void check_pending(struct tr *t, struct stub *slow)
{
    emit_load(&t->e, RDX, rm_mem(REG_HART, HART(mip)));
    emit_alu(&t->e, ALU_AND, RDX, rm_mem(REG_HART, HART(mie)));
    stub_from(slow, emit_jcc(&t->e, CC_NE));
}

/* rcx = mstatus after the instruction, rax before it. */
static void new_sstatus(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    emit_load(e, RAX, rm_mem(REG_HART, HART(mstatus)));
    emit_load(e, RCX, gx(t, in->rs1));
    emit_alu_const(e, ALU_AND, rm_reg(RCX), (int32_t)SSTATUS_WRITABLE);
    if (in->op == INSN_CSRRS) {
        emit_alu(e, ALU_OR, RCX, rm_reg(RAX));
    } else if (in->op == INSN_CSRRC) {
        emit_op_imm(e, OPC(0, 0, 0xf7) | OPC_W, 2, rm_reg(RCX), 0, 0); /* not */
        emit_alu(e, ALU_AND, RCX, rm_reg(RAX));
    } else {
        emit_load(e, RDX, rm_reg(RAX));
        emit_alu_const(e, ALU_AND, rm_reg(RDX), (int32_t) ~(uint32_t)SSTATUS_WRITABLE);
        emit_alu(e, ALU_OR, RCX, rm_reg(RDX));
    }
}

/* The data bank for the new SUM, where rdx has the changed bits and rcx the new ones. Returns the jump that
 * is taken while the bank with SUM is not known. */
static uint8_t *switch_bank(struct emitter *e)
{
    uint8_t *same, *unknown;

    test_bits(e, rm_reg(RDX), MSTATUS_SUM);
    same = emit_jcc8(e, CC_E);
    emit_load(e, RDX, rm_mem(REG_HART, HART(sum_bank)));
    emit_op(e, X_TEST | OPC_W, RDX, rm_reg(RDX));
    unknown = emit_jcc(e, CC_E);
    test_bits(e, rm_reg(RCX), MSTATUS_SUM);
    emit_op(e, X_CMOV(CC_E) | OPC_W, RDX, rm_mem(REG_HART, HART(fetch_bank)));
    emit_load(e, REG_BANK, rm_reg(RDX));
    emit_store(e, rm_mem(REG_HART, HART(bank)), RDX);
    emit_bind8(same, e->at);
    return unknown;
}

/* With a register operand: anything but FS and MXR may change in the line. */
static void change_sstatus(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR), *status = tr_stub(t, STUB_STATUS);
    uint8_t *off;

    new_sstatus(t, in);
    test_bits(e, rm_reg(RCX), MSTATUS_SIE);
    off = emit_jcc(e, CC_E);
    check_pending(t, slow);
    emit_bind(off, e->at);
    emit_load(e, RDX, rm_reg(RAX));
    emit_alu(e, ALU_XOR, RDX, rm_reg(RCX));
    test_bits(e, rm_reg(RDX), MSTATUS_FS | MSTATUS_MXR);
    stub_from(status, emit_jcc(e, CC_NE));
    stub_from(slow, switch_bank(e));
    emit_store(e, rm_mem(REG_HART, HART(mstatus)), RCX);
    read_sstatus(t, e, in->rd);
    slow->back = status->back = e->at;
}

static void csr_helper(struct tr *t, const struct stub *s)
{
    struct site site = tr_site(t, s->insn);

    emit_const(&t->cold, RAX, t->seq[s->insn].in.bits);
    emit_const(&t->cold, RCX, site_pack(&site));
    emit_call_run(&t->cold, t->j->csr);
    emit_jmp_to(&t->cold, s->back);
}

/* FS changes, as at each entry of a kernel and each return from it: the next instruction is one of another
 * block. The helper has what remains: MXR, registers that are still the host's, modes that the host lacks. */
static void change_fs(struct tr *t, const struct stub *s)
{
    struct emitter *e = &t->cold;
    struct site site = tr_site(t, s->insn);
    uint8_t *slow[4], *off;

    test_bits(e, rm_reg(RDX), MSTATUS_MXR);
    slow[0] = emit_jcc(e, CC_NE);
    emit_alu_const32(e, ALU_CMP, rm_mem(REG_HART, HART(f_loaded)), 0);
    slow[1] = emit_jcc(e, CC_NE);
    emit_op_imm(e, OPC(0, 0, 0x80), ALU_CMP, rm_mem(REG_HART, HART(frm)), 1, 4);
    slow[2] = emit_jcc(e, CC_AE);
    slow[3] = switch_bank(e);
    emit_store(e, rm_mem(REG_HART, HART(mstatus)), RCX);
    read_sstatus(t, e, t->seq[s->insn].in.rd);
    emit_alu_const(e, ALU_AND, rm_mem(REG_HART, HART(jump_salt)), -1 - (int32_t)MODE_FP_ON);
    test_bits(e, rm_mem(REG_HART, HART(mstatus)), MSTATUS_FS);
    off = emit_jcc8(e, CC_E);
    emit_alu_const(e, ALU_OR, rm_mem(REG_HART, HART(jump_salt)), MODE_FP_ON);
    emit_bind8(off, e->at);
    if (site.refund > 1)
        emit_alu_const(e, ALU_ADD, rm_reg(REG_LEFT), site.refund - 1);
    emit_load(e, RAX, rm_mem(REG_HART, HART(code_page)));
    emit_alu_const(e, ALU_ADD, rm_reg(RAX), site.offset + site.len);
    tr_goto_address(t, e);
    for (unsigned i = 0; i < sizeof slow / sizeof *slow; i++)
        emit_bind(slow[i], e->at);
}

/* SIE on or off. */
static void change_sie(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    bool on = in->op == INSN_CSRRSI;
    struct stub *slow = on ? tr_stub(t, STUB_CSR) : NULL;

    if (on)
        check_pending(t, slow);
    if (in->rd)
        emit_load(e, RAX, rm_mem(REG_HART, HART(mstatus)));
    emit_alu_const(e, on ? ALU_OR : ALU_AND, rm_mem(REG_HART, HART(mstatus)),
                   on ? (int32_t)MSTATUS_SIE : -1 - (int32_t)MSTATUS_SIE);
    read_sstatus(t, e, in->rd);
    if (on)
        slow->back = e->at;
}

static bool supervisor_status(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_CSRRS:
    case INSN_CSRRC:
        if (in->rs1 == 0) {
            emit_load(&t->e, RAX, rm_mem(REG_HART, HART(mstatus)));
            read_sstatus(t, &t->e, in->rd);
            return true;
        }
        /* fallthrough */
    case INSN_CSRRW:
        change_sstatus(t, in);
        return true;
    case INSN_CSRRSI:
    case INSN_CSRRCI:
        if (in->rs1 != MSTATUS_SIE)
            return false;
        change_sie(t, in);
        return true;
    default:
        return false;
    }
}

void tr_csr_stub(struct tr *t, struct stub *s)
{
    if (s->kind == STUB_STATUS)
        change_fs(t, s);
    csr_helper(t, s);
}

/* rax = fflags: what the hart has and what MXCSR collected since. Uses rdx. */
static void read_fflags(struct tr *t)
{
    struct emitter *e = &t->e;

    emit_vex(e, OPC(1, 0, 0xae), 3, 0, rm_mem(REG_HART, HART(mxcsr_now))); /* vstmxcsr */
    emit_load32(e, RAX, rm_mem(REG_HART, HART(mxcsr_now)));
    emit_alu_const32(e, ALU_AND, rm_reg(RAX), 63);
    emit_lea(e, RDX, rm_at(t->j->blocks.constants[CONST_FFLAGS]));
    emit_op(e, X_MOVZX8 & ~(unsigned)OPC_BYTE_RM, RAX, rm_sib(RDX, RAX, 0, 0));
    emit_alu32(e, ALU_OR, RAX, rm_mem(REG_HART, HART(fflags)));
}

/* Changes of fflags want FS dirty, which it is in blocks with floating point. */
static bool accrued(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    bool immediate = in->op == INSN_CSRRWI, write = immediate || in->op == INSN_CSRRW;

    if (!write && !(in->op == INSN_CSRRS && in->rs1 == 0))
        return false;
    if (immediate)
        emit_const(e, RCX, in->rs1);
    else if (write)
        emit_load(e, RCX, gx(t, in->rs1));
    if (in->rd) {
        read_fflags(t);
        tr_set(t, in->rd, RAX);
    }
    if (write) {
        emit_alu_const32(e, ALU_AND, rm_reg(RCX), 31);
        emit_op(e, X_MOV_STORE, RCX, rm_mem(REG_HART, HART(fflags)));
        emit_vex(e, OPC(1, 0, 0xae), 2, 0, rm_mem(REG_HART, HART(mxcsr))); /* vldmxcsr */
    }
    return true;
}

/* Reads of frm and fcsr; writes change what code is translated under. */
static bool rounding(struct tr *t, const struct insn *in, bool whole)
{
    struct emitter *e = &t->e;

    if (in->op != INSN_CSRRS || in->rs1)
        return false;
    if (whole)
        read_fflags(t);
    emit_op(e, X_MOVZX8 & ~(unsigned)OPC_BYTE_RM, RCX, rm_mem(REG_HART, HART(frm)));
    if (whole) {
        emit_shift32(e, SHIFT_SHL, rm_reg(RCX), 5);
        emit_alu32(e, ALU_OR, RCX, rm_reg(RAX));
    }
    tr_set(t, in->rd, RCX);
    return true;
}

static bool fp_register(struct tr *t, const struct insn *in, unsigned csr)
{
    if (t->key.fp == FP_MODE_OFF)
        return false;
    switch (csr) {
    case CSR_FFLAGS:
        return accrued(t, in);
    case CSR_FRM:
        return rounding(t, in, false);
    case CSR_FCSR:
        return rounding(t, in, true);
    default:
        return false;
    }
}

/* rax = vclock_ns() of the steps completed before this instruction; to the stub where it saturates. */
static void virtual_time(struct tr *t, struct stub *slow)
{
    struct emitter *e = &t->e;

    emit_load(e, RCX, rm_mem(REG_HART, HART(clock)));
    emit_load(e, RAX, rm_mem(REG_HART, HART(limit)));
    emit_alu(e, ALU_SUB, RAX, rm_reg(REG_LEFT));
    emit_alu_const(e, ALU_SUB, rm_reg(RAX), (int32_t)(t->n - t->i));
    emit_alu(e, ALU_SUB, RAX, rm_mem(RCX, offsetof(struct vclock, n0)));
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 4, rm_mem(RCX, offsetof(struct vclock, rate))); /* mul */
    emit_op_imm(e, OPC(1, 0, 0xac) | OPC_W, RDX, rm_reg(RAX), 1, 32);                   /* shrd */
    emit_shift(e, SHIFT_SHR, rm_reg(RDX), 32);
    stub_from(slow, emit_jcc(e, CC_NE));
    emit_alu(e, ALU_ADD, RAX, rm_mem(RCX, offsetof(struct vclock, t0)));
    stub_from(slow, emit_jcc(e, CC_B));
}

#define TICK_NS (1000000000u / VCLOCK_TIMEBASE_HZ)
_Static_assert(TICK_NS == 100 && VCLOCK_NEVER == UINT64_MAX, "what the division and the carry stand for");

static bool read_time(struct tr *t, const struct insn *in)
{
    static const int32_t opens[] = {HART(mcounteren), HART(scounteren)};
    struct emitter *e = &t->e;
    struct stub *slow;

    if (in->op != INSN_CSRRS || in->rs1)
        return false;
    slow = tr_stub(t, STUB_CSR);
    for (unsigned i = 0; i < (t->key.priv == PRIV_M ? 0u : t->key.priv == PRIV_S ? 1u : 2u); i++) {
        emit_op_imm(e, OPC(0, 0, 0xf6), 0, rm_mem(REG_HART, opens[i]), 1, COUNTER_TM); /* test of a byte */
        stub_from(slow, emit_jcc(e, CC_E));
    }
    virtual_time(t, slow);
    emit_shift(e, SHIFT_SHR, rm_reg(RAX), 2);
    emit_const(e, RCX, 0x28f5c28f5c28f5c3); /* 2^66 / 25, rounded up */
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 4, rm_reg(RCX));
    emit_shift(e, SHIFT_SHR, rm_reg(RDX), 2);
    tr_set(t, in->rd, RDX);
    slow->back = e->at;
    return true;
}

bool tr_csr(struct tr *t, const struct insn *in)
{
    unsigned csr = (unsigned)in->imm & 0xfff;
    int32_t place = plain_register(csr);

    if (csr <= CSR_FCSR && fp_register(t, in, csr))
        return true;
    if (csr == CSR_TIME && read_time(t, in))
        return true;
    if (t->key.priv >= PRIV_S && place && plain(t, in, place))
        return true;
    if (t->key.priv == PRIV_S && csr == CSR_SSTATUS && supervisor_status(t, in))
        return true;
    call(t, in, t->j->csr);
    return true;
}

/* Of address translation, which needs none: it does no more than trap where TVM wants it. */
static bool fence(struct tr *t)
{
    struct stub *s;

    if (t->key.priv == PRIV_U)
        return false;
    if (t->key.priv == PRIV_M)
        return true;
    s = tr_stub(t, STUB_STEP);
    test_bits(&t->e, rm_mem(REG_HART, HART(mstatus)), MSTATUS_TVM);
    stub_from(s, emit_jcc(&t->e, CC_NE));
    s->back = t->e.at;
    return true;
}

bool tr_sys(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_ECALL:
        call(t, in, t->j->ecall);
        return true;
    case INSN_SRET:
        call(t, in, t->j->sret);
        return true;
    case INSN_MRET:
        call(t, in, t->j->mret);
        return true;
    case INSN_SFENCE_W_INVAL:
    case INSN_SFENCE_INVAL_IR:
        return t->key.priv >= PRIV_S;
    case INSN_SFENCE_VMA:
    case INSN_SINVAL_VMA:
        return fence(t);
    default:
        return false;
    }
}
