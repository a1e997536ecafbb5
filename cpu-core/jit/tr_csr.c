/* Translation of CSR instructions: in line what needs no more than the hart's memory, the rest through the
 * helper. */
#include "cpu-core/jit/translate.h"

#include "cpu-core/time/vclock.h"

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
#define CSR_CYCLE      0xc00
#define CSR_TIME       0xc01
#define CSR_INSTRET    0xc02

#define COUNTER_CY 1u /* in mcounteren, scounteren and mcountinhibit */
#define COUNTER_TM 2u
#define COUNTER_IR 4u

enum form { FORM_WRITE = 1, FORM_SET, FORM_CLEAR };

static enum form form_of(const struct insn *in)
{
    return (enum form)(isa_table[in->op].match >> 12 & 3);
}

static bool writes(const struct insn *in)
{
    return form_of(in) == FORM_WRITE || in->rs1;
}

static struct rm at(int32_t place)
{
    return rm_mem(REG_HART, place);
}

static void not(struct emitter * e, unsigned reg)
{
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 2, rm_reg(reg));
}

static void load_byte(struct emitter *e, unsigned reg, int32_t place)
{
    emit_op(e, X_MOVZX8 & ~(unsigned)OPC_BYTE_RM, reg, at(place));
}

static void test_byte(struct emitter *e, int32_t place, unsigned bits)
{
    emit_op_imm(e, OPC(0, 0, 0xf6), 0, at(place), 1, bits);
}

/* rcx = the operand. */
static void operand(struct tr *t, const struct insn *in)
{
    if (isa_table[in->op].match >> 14 & 1)
        emit_const(&t->e, RCX, in->rs1);
    else
        emit_load(&t->e, RCX, gx(t, in->rs1));
}

/* Calls the helper. */
static void call(struct tr *t, const struct insn *in)
{
    struct site s = tr_site(t, t->i);

    emit_const(&t->e, RAX, in->bits);
    emit_const(&t->e, RCX, site_pack(&s));
    emit_call_run(&t->e, t->j->csr);
}

/* A register without side effects. */
struct plain {
    uint16_t csr;
    bool narrow; /* 32 bits */
    int32_t place;
    int32_t writable;
    uint32_t refused; /* values with any of these bits are the helper's */
};

static const struct plain *find_plain(unsigned csr)
{
    static const struct plain table[] = {
        {CSR_SSCRATCH, false, HART(sscratch), -1, 0},
        {CSR_SEPC, false, HART(sepc), -2, 0},
        {CSR_SCAUSE, false, HART(scause), -1, 0},
        {CSR_STVAL, false, HART(stval), -1, 0},
        {CSR_STVEC, false, HART(stvec), -1, 2},
        {CSR_SCOUNTEREN, true, HART(scounteren), 7, 0},
        {CSR_SENVCFG, false, HART(senvcfg), MENVCFG_FIOM | MENVCFG_CBIE | MENVCFG_CBCFE | MENVCFG_CBZE,
         2u << 4}, /* CBIE of 2 is reserved */
        {CSR_MTVEC, false, HART(mtvec), -1, 2},
        {CSR_MSCRATCH, false, HART(mscratch), -1, 0},
        {CSR_MEPC, false, HART(mepc), -2, 0},
        {CSR_MCAUSE, false, HART(mcause), -1, 0},
        {CSR_MTVAL, false, HART(mtval), -1, 0},
    };

    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].csr == csr)
            return &table[i];
    return NULL;
}

/* rcx = the new value, from the operand in rcx and the old value in rax. */
static void combine(struct emitter *e, enum form form)
{
    if (form == FORM_CLEAR)
        not(e, RCX);
    if (form != FORM_WRITE)
        emit_alu(e, form == FORM_SET ? ALU_OR : ALU_AND, RCX, rm_reg(RAX));
}

static void plain(struct tr *t, const struct insn *in, const struct plain *p)
{
    struct emitter *e = &t->e;
    struct stub *slow = NULL;
    unsigned w = p->narrow ? 0 : OPC_W;

    if (writes(in))
        operand(t, in);
    if (in->rd || form_of(in) != FORM_WRITE)
        emit_op(e, X_MOV_LOAD | w, RAX, at(p->place));
    if (writes(in)) {
        combine(e, form_of(in));
        if (p->refused) {
            slow = tr_stub(t, STUB_CSR);
            emit_test32(e, rm_reg(RCX), p->refused);
            stub_from(slow, emit_jcc(e, CC_NE));
        }
        if (p->writable != -1)
            emit_alu_const(e, ALU_AND, rm_reg(RCX), p->writable);
        emit_op(e, X_MOV_STORE | w, RCX, at(p->place));
    }
    tr_set(t, in->rd, RAX);
    if (slow)
        slow->back = e->at;
}

#define SSTATUS_WRITABLE (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)

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
    emit_test32(e, rm_reg(RCX), MSTATUS_FS);
    clean = emit_jcc8(e, CC_NE);
    emit_op_imm(e, OPC(1, 0, 0xba) | OPC_W, 5, rm_reg(RAX), 1, 63); /* bts */
    emit_bind8(clean, e->at);
    emit_store(e, gx(t, rd), RAX);
}

/* To the stub if an interrupt might become ready: in translated code none is while SIE is off. */
static void check_pending(struct tr *t, struct stub *slow)
{
    emit_load(&t->e, RDX, at(HART(mip)));
    emit_alu(&t->e, ALU_AND, RDX, at(HART(mie)));
    stub_from(slow, emit_jcc(&t->e, CC_NE));
}

/* rcx = mstatus after the instruction, rax before it. */
static void new_sstatus(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;

    emit_load(e, RAX, at(HART(mstatus)));
    emit_load(e, RCX, gx(t, in->rs1));
    emit_alu_const(e, ALU_AND, rm_reg(RCX), (int32_t)SSTATUS_WRITABLE);
    if (in->op == INSN_CSRRS) {
        emit_alu(e, ALU_OR, RCX, rm_reg(RAX));
    } else if (in->op == INSN_CSRRC) {
        not(e, RCX);
        emit_alu(e, ALU_AND, RCX, rm_reg(RAX));
    } else {
        emit_load(e, RDX, rm_reg(RAX));
        emit_alu_const(e, ALU_AND, rm_reg(RDX), (int32_t) ~(uint32_t)SSTATUS_WRITABLE);
        emit_alu(e, ALU_OR, RCX, rm_reg(RDX));
    }
}

/* The data bank for the new SUM, where rdx has the changed bits and rcx the new ones. Returns the jump that
 * is taken while that bank is not known. */
static uint8_t *switch_bank(struct emitter *e)
{
    uint8_t *same, *unknown;

    emit_test32(e, rm_reg(RDX), MSTATUS_SUM);
    same = emit_jcc8(e, CC_E);
    emit_load(e, RDX, at(HART(views[TLB_VIEW_S_SUM])));
    emit_test32(e, rm_reg(RCX), MSTATUS_SUM);
    emit_op(e, X_CMOV(CC_E) | OPC_W, RDX, at(HART(views[TLB_VIEW_S])));
    emit_op(e, X_TEST | OPC_W, RDX, rm_reg(RDX));
    unknown = emit_jcc(e, CC_E);
    emit_load(e, REG_BANK, rm_reg(RDX));
    emit_store(e, at(HART(bank)), RDX);
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
    emit_test32(e, rm_reg(RCX), MSTATUS_SIE);
    off = emit_jcc(e, CC_E);
    check_pending(t, slow);
    emit_bind(off, e->at);
    emit_load(e, RDX, rm_reg(RAX));
    emit_alu(e, ALU_XOR, RDX, rm_reg(RCX));
    emit_test32(e, rm_reg(RDX), MSTATUS_FS | MSTATUS_MXR);
    stub_from(status, emit_jcc(e, CC_NE));
    stub_from(slow, switch_bank(e));
    emit_store(e, at(HART(mstatus)), RCX);
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

/* The next instruction is one of another block: by the jump cache, since its page may be another one. */
static void goto_next(struct tr *t, struct emitter *e, unsigned insn)
{
    struct site site = tr_site(t, insn);

    if (site.refund > 1)
        emit_alu_const(e, ALU_ADD, rm_reg(REG_LEFT), site.refund - 1);
    emit_load(e, RAX, at(HART(code_page)));
    emit_alu_const(e, ALU_ADD, rm_reg(RAX), site.offset + site.len);
    tr_goto_address(t, e);
}

/* FS changes, as at each entry of a kernel and each return from it: floating-point registers go home, and the
 * next instruction is one of another block. The helper has what remains: MXR, modes that the host lacks. */
static void change_fs(struct tr *t, const struct stub *s)
{
    struct emitter *e = &t->cold;
    uint8_t *slow[3], *off;

    emit_test32(e, rm_reg(RDX), MSTATUS_MXR);
    slow[0] = emit_jcc(e, CC_NE);
    emit_op_imm(e, OPC(0, 0, 0x80), ALU_CMP, at(HART(frm)), 1, 4);
    slow[1] = emit_jcc(e, CC_AE);
    slow[2] = switch_bank(e);
    emit_call_run(e, t->j->spill_fpins);
    emit_store(e, at(HART(mstatus)), RCX);
    read_sstatus(t, e, t->seq[s->insn].in.rd);
    emit_alu_const(e, ALU_AND, at(HART(jump_salt)), -1 - (int32_t)MODE_FP_ON);
    emit_test32(e, at(HART(mstatus)), MSTATUS_FS);
    off = emit_jcc8(e, CC_E);
    emit_alu_const(e, ALU_OR, at(HART(jump_salt)), MODE_FP_ON);
    emit_bind8(off, e->at);
    goto_next(t, e, s->insn);
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
        emit_load(e, RAX, at(HART(mstatus)));
    emit_alu_const(e, on ? ALU_OR : ALU_AND, at(HART(mstatus)),
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
            emit_load(&t->e, RAX, at(HART(mstatus)));
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
        operand(t, in);
    if (in->rd || form_of(in) != FORM_WRITE)
        read_fflags(t);
    if (writes(in)) {
        combine(e, form_of(in));
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
        operand(t, in);
    if (in->rd || form_of(in) != FORM_WRITE)
        read_rounding(t, whole);
    if (!writes(in)) {
        tr_set(t, in->rd, RAX);
        return true;
    }
    slow = tr_stub(t, STUB_CSR);
    combine(e, form_of(in));
    emit_test32(e, rm_reg(RCX), 4u << (whole ? 5 : 0));
    stub_from(slow, emit_jcc(e, CC_NE));
    tr_set(t, in->rd, RAX);
    write_rounding(t, whole);
    slow->back = e->at;
    return true;
}

static bool fp_register(struct tr *t, const struct insn *in, unsigned csr)
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

/* To the stub unless the counter is open to the privilege. */
static void need_counter(struct tr *t, unsigned bit, struct stub *slow)
{
    static const int32_t opens[] = {HART(mcounteren), HART(scounteren)};
    unsigned n = t->key.priv == PRIV_M ? 0 : t->key.priv == PRIV_S ? 1 : 2;

    for (unsigned i = 0; i < n; i++) {
        test_byte(&t->e, opens[i], bit);
        stub_from(slow, emit_jcc(&t->e, CC_E));
    }
}

/* rax -= what hart.left is before this instruction. */
static void subtract_left(struct tr *t)
{
    emit_alu(&t->e, ALU_SUB, RAX, rm_reg(REG_LEFT));
    emit_alu_const(&t->e, ALU_SUB, rm_reg(RAX), (int32_t)(t->n - t->i));
}

/* rax = vclock_ns() of the steps completed before this instruction; to the stub where it saturates. */
static void virtual_time(struct tr *t, struct stub *slow)
{
    struct emitter *e = &t->e;

    emit_load(e, RCX, at(HART(clock)));
    emit_load(e, RAX, at(HART(limit)));
    subtract_left(t);
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

static void read_time(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR);

    need_counter(t, COUNTER_TM, slow);
    virtual_time(t, slow);
    emit_shift(e, SHIFT_SHR, rm_reg(RAX), 2);
    emit_const(e, RCX, 0x28f5c28f5c28f5c3); /* 2^66 / 25, rounded up */
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 4, rm_reg(RCX));
    emit_shift(e, SHIFT_SHR, rm_reg(RDX), 2);
    tr_set(t, in->rd, RDX);
    slow->back = e->at;
}

/* cycle and instret, as hart_mcycle() and hart_minstret() have them while they are not inhibited. */
static void read_counter(struct tr *t, const struct insn *in, bool retired)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR);
    unsigned bit = retired ? COUNTER_IR : COUNTER_CY;

    need_counter(t, bit, slow);
    test_byte(e, HART(mcountinhibit), bit);
    stub_from(slow, emit_jcc(e, CC_NE));
    emit_load(e, RAX, at(retired ? HART(steps) : HART(limit)));
    subtract_left(t);
    if (retired) {
        emit_alu(e, ALU_ADD, RAX, at(HART(slice_left)));
        emit_alu(e, ALU_SUB, RAX, at(HART(traps)));
    }
    emit_alu(e, ALU_ADD, RAX, at(retired ? HART(minstret_off) : HART(mcycle_off)));
    tr_set(t, in->rd, RAX);
    slow->back = e->at;
}

/* sie and sip: the delegated bits of `place`, of which `writable` can change; `other` is what makes an
 * interrupt of them, which S-mode takes if SIE is set. */
static void interrupts(struct tr *t, const struct insn *in, int32_t place, int32_t other, int32_t writable)
{
    struct emitter *e = &t->e;
    struct stub *slow = NULL;
    uint8_t *closed;

    if (writes(in)) {
        operand(t, in);
        emit_alu(e, ALU_AND, RCX, at(HART(mideleg)));
        if (writable != -1)
            emit_alu_const(e, ALU_AND, rm_reg(RCX), writable);
        if (form_of(in) == FORM_WRITE) {
            emit_load(e, RDX, at(HART(mideleg)));
            if (writable != -1)
                emit_alu_const(e, ALU_AND, rm_reg(RDX), writable);
            emit_vex(e, V_ANDN | OPC_W, RDX, RDX, at(place));
            emit_alu(e, ALU_OR, RCX, rm_reg(RDX));
        } else {
            emit_load(e, RAX, at(place));
            combine(e, form_of(in));
        }
        if (form_of(in) != FORM_CLEAR) {
            slow = tr_stub(t, STUB_CSR);
            emit_test32(e, at(HART(mstatus)), MSTATUS_SIE);
            closed = emit_jcc8(e, CC_E);
            emit_op(e, X_TEST | OPC_W, RCX, at(other));
            stub_from(slow, emit_jcc(e, CC_NE));
            emit_bind8(closed, e->at);
        }
    }
    if (in->rd) {
        emit_load(e, RAX, at(place));
        emit_alu(e, ALU_AND, RAX, at(HART(mideleg)));
    }
    if (writes(in))
        emit_store(e, at(place), RCX);
    tr_set(t, in->rd, RAX);
    if (slow)
        slow->back = e->at;
}

static void need_no_tvm(struct tr *t, struct stub *slow)
{
    emit_test32(&t->e, at(HART(mstatus)), MSTATUS_TVM);
    stub_from(slow, emit_jcc(&t->e, CC_NE));
}

static void write_satp(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR);

    need_no_tvm(t, slow);
    operand(t, in);
    emit_call_run(e, t->j->to_root);
    stub_from(slow, emit_jcc(e, CC_NE));
    goto_next(t, e, t->i);
    slow->back = e->at;
}

/* stimecmp and satp. */
static void read_guarded(struct tr *t, const struct insn *in, unsigned csr)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR);

    if (csr == CSR_SATP) {
        need_no_tvm(t, slow);
    } else {
        test_byte(e, HART(menvcfg) + 7, MENVCFG_STCE >> 56);
        stub_from(slow, emit_jcc(e, CC_E));
        need_counter(t, COUNTER_TM, slow);
    }
    emit_load(e, RAX, at(csr == CSR_SATP ? HART(satp) : HART(stimecmp)));
    tr_set(t, in->rd, RAX);
    slow->back = e->at;
}

static bool supervisor(struct tr *t, const struct insn *in, unsigned csr)
{
    switch (csr) {
    case CSR_SSTATUS:
        return supervisor_status(t, in);
    case CSR_SIE:
        interrupts(t, in, HART(mie), HART(mip), -1);
        return true;
    case CSR_SIP:
        interrupts(t, in, HART(mip), HART(mie), IRQ_SSIP);
        return true;
    case CSR_SATP:
    case CSR_STIMECMP:
        if (!writes(in))
            read_guarded(t, in, csr);
        else if (csr == CSR_SATP && form_of(in) == FORM_WRITE && !in->rd)
            write_satp(t, in);
        else
            return false;
        return true;
    default:
        return false;
    }
}

static bool counter(struct tr *t, const struct insn *in, unsigned csr)
{
    if (writes(in))
        return false;
    switch (csr) {
    case CSR_TIME:
        read_time(t, in);
        return true;
    case CSR_CYCLE:
    case CSR_INSTRET:
        read_counter(t, in, csr == CSR_INSTRET);
        return true;
    default:
        return false;
    }
}

/* False: the helper has it. */
static bool in_line(struct tr *t, const struct insn *in, unsigned csr)
{
    const struct plain *p = find_plain(csr);

    if (t->key.priv < (csr >> 8 & 3))
        return false;
    if (p) {
        plain(t, in, p);
        return true;
    }
    return (csr <= CSR_FCSR && fp_register(t, in, csr)) || counter(t, in, csr) ||
           (t->key.priv == PRIV_S && supervisor(t, in, csr));
}

bool tr_csr(struct tr *t, const struct insn *in)
{
    if (!in_line(t, in, (unsigned)in->imm & 0xfff))
        call(t, in);
    return true;
}
