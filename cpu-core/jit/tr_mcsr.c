/* Translation of CSR instructions of machine mode: what firmware touches at each of its traps. */
#include "cpu-core/jit/tr_csr.h"

#define MSTATUS_WRITABLE                                                                                     \
    (MSTATUS_SIE | MSTATUS_MIE | MSTATUS_SPIE | MSTATUS_MPIE | MSTATUS_SPP | MSTATUS_MPP | MSTATUS_FS |      \
     MSTATUS_MPRV | MSTATUS_SUM | MSTATUS_MXR | MSTATUS_TVM | MSTATUS_TW | MSTATUS_TSR)
#define MPP_NONE (2u << 11) /* no such mode */

/* With MPRV the data bank depends on most of it. */
static void change_status(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *slow = tr_stub(t, STUB_CSR);
    uint8_t *off;

    csr_new_status(t, in, MSTATUS_WRITABLE);
    emit_load(e, RDX, rm_reg(RAX));
    emit_alu(e, ALU_XOR, RDX, rm_reg(RCX));
    emit_test32(e, rm_reg(RDX), MSTATUS_FS | MSTATUS_MXR | MSTATUS_MPRV);
    stub_from(slow, emit_jcc(e, CC_NE));
    emit_test32(e, rm_reg(RCX), MSTATUS_MPRV);
    stub_from(slow, emit_jcc(e, CC_NE));
    emit_load32(e, RDX, rm_reg(RCX));
    emit_alu_const32(e, ALU_AND, rm_reg(RDX), (int32_t)MSTATUS_MPP);
    emit_alu_const32(e, ALU_CMP, rm_reg(RDX), MPP_NONE);
    stub_from(slow, emit_jcc(e, CC_E));
    emit_test32(e, rm_reg(RCX), MSTATUS_MIE);
    off = emit_jcc(e, CC_E);
    csr_check_pending(t, slow);
    emit_bind(off, e->at);
    emit_store(e, at(HART(mstatus)), RCX);
    csr_read_status(t, e, in->rd, UINT64_MAX);
    slow->back = e->at;
}

static void status(struct tr *t, const struct insn *in)
{
    if (writes(in)) {
        change_status(t, in);
        return;
    }
    emit_load(&t->e, RAX, at(HART(mstatus)));
    csr_read_status(t, &t->e, in->rd, UINT64_MAX);
}

/* mie and mip: `other` is what makes an interrupt of `place`. Operands with any of the bits `refused` are the
 * helper's. */
static void interrupts(struct tr *t, const struct insn *in, int32_t place, int32_t other, uint32_t writable,
                       uint32_t refused)
{
    struct emitter *e = &t->e;
    struct stub *slow = NULL;
    uint8_t *closed;

    if (writes(in)) {
        slow = tr_stub(t, STUB_CSR);
        csr_operand(t, in);
        if (refused) {
            emit_test32(e, rm_reg(RCX), refused);
            stub_from(slow, emit_jcc(e, CC_NE));
        }
        emit_alu_const(e, ALU_AND, rm_reg(RCX), (int32_t)writable);
    }
    emit_load(e, RAX, at(place));
    if (writes(in)) {
        csr_combine(e, form_of(in));
        emit_test32(e, at(HART(mstatus)), MSTATUS_MIE);
        closed = emit_jcc8(e, CC_E);
        emit_op(e, X_TEST | OPC_W, RCX, at(other));
        stub_from(slow, emit_jcc(e, CC_NE));
        emit_bind8(closed, e->at);
        emit_store(e, at(place), RCX);
    }
    tr_set(t, in->rd, RAX);
    if (slow)
        slow->back = e->at;
}

bool csr_machine(struct tr *t, const struct insn *in, unsigned csr)
{
    switch (csr) {
    case CSR_MSTATUS:
        status(t, in);
        return true;
    case CSR_MIE:
        interrupts(t, in, HART(mie), HART(mip),
                   IRQ_SSIP | IRQ_STIP | IRQ_SEIP | IRQ_MSIP | IRQ_MTIP | IRQ_MEIP, 0);
        return true;
    case CSR_MIP:
        if (form_of(in) == FORM_WRITE)
            return false;
        interrupts(t, in, HART(mip), HART(mie), IRQ_SSIP, IRQ_STIP | IRQ_SEIP);
        return true;
    case CSR_MHARTID:
        if (writes(in))
            return false;
        load_byte(&t->e, RAX, HART(id));
        tr_set(t, in->rd, RAX);
        return true;
    default:
        return false;
    }
}
