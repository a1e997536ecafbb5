/* Translation of CSR instructions: in line what needs no more than the hart's memory, the rest through the
 * helper. Here: what is the same for every privilege, and supervisor mode. */
#include "cpu-core/jit/tr_csr.h"

#include "cpu-core/time/vclock.h"

void csr_operand(struct tr *t, const struct insn *in)
{
    if (isa_table[in->op].match >> 14 & 1)
        emit_const(&t->e, RCX, in->rs1);
    else
        emit_load(&t->e, RCX, gx(t, in->rs1));
}

void csr_combine(struct emitter *e, enum form form)
{
    if (form == FORM_CLEAR)
        not(e, RCX);
    if (form != FORM_WRITE)
        emit_alu(e, form == FORM_SET ? ALU_OR : ALU_AND, RCX, rm_reg(RAX));
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

static void plain(struct tr *t, const struct insn *in, const struct plain *p)
{
    struct emitter *e = &t->e;
    struct stub *slow = NULL;
    unsigned w = p->narrow ? 0 : OPC_W;

    if (writes(in))
        csr_operand(t, in);
    if (in->rd || form_of(in) != FORM_WRITE)
        emit_op(e, X_MOV_LOAD | w, RAX, at(p->place));
    if (writes(in)) {
        csr_combine(e, form_of(in));
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

#define SSTATUS_VISIBLE (SSTATUS_WRITABLE | MSTATUS_UXL)

void csr_read_status(struct tr *t, struct emitter *e, unsigned rd, uint64_t visible)
{
    uint8_t *clean;

    if (!rd)
        return;
    if (visible != UINT64_MAX) {
        emit_const(e, RCX, (int64_t)visible);
        emit_alu(e, ALU_AND, RAX, rm_reg(RCX));
    }
    emit_load(e, RCX, rm_reg(RAX));
    not(e, RCX); /* FS is 3 where both bits become 0 */
    emit_test32(e, rm_reg(RCX), MSTATUS_FS);
    clean = emit_jcc8(e, CC_NE);
    emit_op_imm(e, OPC(1, 0, 0xba) | OPC_W, 5, rm_reg(RAX), 1, 63); /* bts */
    emit_bind8(clean, e->at);
    emit_store(e, gx(t, rd), RAX);
}

void csr_check_pending(struct tr *t, struct stub *slow)
{
    emit_load(&t->e, RDX, at(HART(mip)));
    emit_alu(&t->e, ALU_AND, RDX, at(HART(mie)));
    stub_from(slow, emit_jcc(&t->e, CC_NE));
}

void csr_new_status(struct tr *t, const struct insn *in, uint64_t writable)
{
    struct emitter *e = &t->e;

    emit_load(e, RAX, at(HART(mstatus)));
    csr_operand(t, in);
    emit_alu_const(e, ALU_AND, rm_reg(RCX), (int32_t)writable);
    if (form_of(in) != FORM_WRITE) {
        csr_combine(e, form_of(in));
        return;
    }
    emit_load(e, RDX, rm_reg(RAX));
    emit_alu_const(e, ALU_AND, rm_reg(RDX), (int32_t) ~(uint32_t)writable);
    emit_alu(e, ALU_OR, RCX, rm_reg(RDX));
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

/* Anything but FS and MXR may change in the line. */
static void change_sstatus(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR), *status = tr_stub(t, STUB_STATUS);
    uint8_t *off;

    csr_new_status(t, in, SSTATUS_WRITABLE);
    emit_test32(e, rm_reg(RCX), MSTATUS_SIE);
    off = emit_jcc(e, CC_E);
    csr_check_pending(t, slow);
    emit_bind(off, e->at);
    emit_load(e, RDX, rm_reg(RAX));
    emit_alu(e, ALU_XOR, RDX, rm_reg(RCX));
    emit_test32(e, rm_reg(RDX), MSTATUS_FS | MSTATUS_MXR);
    stub_from(status, emit_jcc(e, CC_NE));
    stub_from(slow, switch_bank(e));
    emit_store(e, at(HART(mstatus)), RCX);
    csr_read_status(t, e, in->rd, SSTATUS_VISIBLE);
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
    csr_read_status(t, e, t->seq[s->insn].in.rd, SSTATUS_VISIBLE);
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
        csr_check_pending(t, slow);
    if (in->rd)
        emit_load(e, RAX, at(HART(mstatus)));
    emit_alu_const(e, on ? ALU_OR : ALU_AND, at(HART(mstatus)),
                   on ? (int32_t)MSTATUS_SIE : -1 - (int32_t)MSTATUS_SIE);
    csr_read_status(t, e, in->rd, SSTATUS_VISIBLE);
    if (on)
        slow->back = e->at;
}

static void supervisor_status(struct tr *t, const struct insn *in)
{
    if (!writes(in)) {
        emit_load(&t->e, RAX, at(HART(mstatus)));
        csr_read_status(t, &t->e, in->rd, SSTATUS_VISIBLE);
    } else if ((in->op == INSN_CSRRSI || in->op == INSN_CSRRCI) && in->rs1 == MSTATUS_SIE) {
        change_sie(t, in);
    } else {
        change_sstatus(t, in);
    }
}

void tr_csr_stub(struct tr *t, struct stub *s)
{
    if (s->kind == STUB_STATUS)
        change_fs(t, s);
    csr_helper(t, s);
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
        csr_operand(t, in);
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
            csr_combine(e, form_of(in));
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
    csr_operand(t, in);
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
        supervisor_status(t, in);
        return true;
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
    return (csr <= CSR_FCSR && csr_fp(t, in, csr)) || counter(t, in, csr) ||
           (t->key.priv == PRIV_S && supervisor(t, in, csr)) ||
           (t->key.priv == PRIV_M && csr_machine(t, in, csr));
}

bool tr_csr(struct tr *t, const struct insn *in)
{
    if (!in_line(t, in, (unsigned)in->imm & 0xfff))
        call(t, in);
    return true;
}
