/* Translation of the privileged instructions but those that return from traps. */
#include "cpu-core/jit/translate.h"

/* Of address translation, which needs none: it does no more than trap where TVM wants it. */
static bool fence(struct tr *t)
{
    struct stub *s;

    if (t->key.priv == PRIV_U)
        return false;
    if (t->key.priv == PRIV_M)
        return true;
    s = tr_stub(t, STUB_STEP);
    emit_test32(&t->e, rm_mem(REG_HART, HART(mstatus)), MSTATUS_TVM);
    stub_from(s, emit_jcc(&t->e, CC_NE));
    s->back = t->e.at;
    return true;
}

bool tr_sys(struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_ECALL:
    case INSN_SRET:
    case INSN_MRET:
        tr_trap(t, in);
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
