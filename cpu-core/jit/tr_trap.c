/* Changes of privilege: ecall, sret, mret, and the fixed code behind them, which moves the hart to another
 * view of the current root as the records in hart.views have it. Whatever they do not cover is the helpers'.
 *
 * The fixed code keeps all registers of the guest. With ZF set the change is complete and rax is the address
 * to go on at; otherwise nothing happened. No entry makes an interrupt ready: while translated code runs none
 * is, a trap closes what it enters, and returns look at what is pending. */
#include "cpu-core/jit/translate.h"

#define SLOW_MAX 24u

struct slow {
    uint8_t *jumps[SLOW_MAX];
    unsigned n;
};

static struct rm at(int32_t place)
{
    return rm_mem(REG_HART, place);
}

static void slow_if(struct slow *s, struct emitter *e, enum x64_cond cc)
{
    s->jumps[s->n++] = emit_jcc(e, cc);
}

static void bind_slow(const struct slow *s, const struct emitter *e)
{
    for (unsigned i = 0; i < s->n; i++)
        emit_bind(s->jumps[i], e->at);
}

static void store8(struct emitter *e, int32_t place, unsigned value)
{
    emit_op_imm(e, OPC(0, 0, 0xc6), 0, at(place), 1, value);
}

/* Jumps are those of the bank in rdx. Uses rcx. */
static void take_jumps(struct emitter *e)
{
    emit_load(e, RCX, rm_mem(RDX, offsetof(struct tlb_bank, jumps)));
    emit_store(e, at(HART(jumps)), RCX);
    emit_const(e, RCX, (int64_t)MODE_MASK);
    emit_alu(e, ALU_AND, RCX, at(HART(jump_salt)));
    emit_alu(e, ALU_XOR, RCX, rm_mem(RDX, offsetof(struct tlb_bank, salt)));
    emit_store(e, at(HART(jump_salt)), RCX);
}

static struct rm view_at(enum tlb_view view)
{
    return at(HART(views) + (int32_t)(view * sizeof(struct tlb_bank *)));
}

/* reg = the bank of a view. */
static void load_bank(struct emitter *e, unsigned reg, enum tlb_view view, struct slow *slow)
{
    emit_load(e, reg, view_at(view));
    emit_op(e, X_TEST | OPC_W, reg, rm_reg(reg));
    slow_if(slow, e, CC_E);
}

/* Fetches, data accesses and jumps are those of `view` from here on. Uses rcx and rdx. */
static void enter_view(struct emitter *e, enum tlb_view view, struct slow *slow)
{
    if (view == TLB_VIEW_M) {
        emit_test32(e, at(HART(mstatus)), MSTATUS_MPRV);
        slow_if(slow, e, CC_NE);
    }
    load_bank(e, RDX, view == TLB_VIEW_S ? TLB_VIEW_CODE : view, slow);
    emit_load(e, RCX, rm_mem(RDX, offsetof(struct tlb_bank, fetch_gen)));
    emit_alu(e, ALU_CMP, RCX, rm_mem(RDX, offsetof(struct tlb_bank, jumps_gen)));
    slow_if(slow, e, CC_NE);
    if (view == TLB_VIEW_S) {
        emit_load(e, RCX, view_at(TLB_VIEW_S_SUM));
        emit_test32(e, at(HART(mstatus)), MSTATUS_SUM);
        emit_op(e, X_CMOV(CC_E) | OPC_W, RCX, view_at(TLB_VIEW_S));
        emit_op(e, X_TEST | OPC_W, RCX, rm_reg(RCX));
        slow_if(slow, e, CC_E);
    } else {
        emit_load(e, RCX, rm_reg(RDX));
    }
    emit_store(e, at(HART(fetch_bank)), RDX);
    emit_store(e, at(HART(bank)), RCX);
    emit_load(e, REG_BANK, rm_reg(RCX));
    take_jumps(e);
}

/* The fields of mstatus and the registers of the privilege that traps go to. */
struct level {
    enum tlb_view view;
    uint8_t priv, ie, pie, pp; /* bit numbers of xIE, xPIE, the lowest of xPP */
    uint32_t pp_mask;
    int32_t epc, cause, tval, tvec;
};

static const struct level supervisor = {
    TLB_VIEW_S, PRIV_S, 1, 5, 8, (uint32_t)MSTATUS_SPP, HART(sepc), HART(scause), HART(stval), HART(stvec)};
static const struct level machine = {
    TLB_VIEW_M, PRIV_M, 3, 7, 11, (uint32_t)MSTATUS_MPP, HART(mepc), HART(mcause), HART(mtval), HART(mtvec)};

static void done(struct emitter *e)
{
    emit_alu32(e, ALU_XOR, RCX, rm_reg(RCX));
    emit_ret(e);
}

/* A trap at rax, with cause and tval recorded in the hart, into `l`. */
static void emit_entry(struct emitter *e, const struct level *l, struct slow *slow)
{
    uint32_t cleared = 1u << l->ie | 1u << l->pie | l->pp_mask;

    enter_view(e, l->view, slow);
    emit_store(e, at(l->epc), RAX);
    emit_load(e, RAX, at(HART(exc_cause)));
    emit_store(e, at(l->cause), RAX);
    emit_load(e, RAX, at(HART(exc_tval)));
    emit_store(e, at(l->tval), RAX);
    emit_alu_const(e, ALU_ADD, at(HART(traps)), 1);
    store8(e, HART(res_valid), 0);
    emit_load(e, RAX, at(HART(mstatus)));
    emit_load32(e, RCX, rm_reg(RAX));
    emit_alu_const32(e, ALU_AND, rm_reg(RCX), 1 << l->ie);
    emit_shift32(e, SHIFT_SHL, rm_reg(RCX), l->pie - l->ie);
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -1 - (int32_t)cleared);
    emit_alu(e, ALU_OR, RAX, rm_reg(RCX));
    emit_op(e, X_MOVZX8 & ~(unsigned)OPC_BYTE_RM, RCX, at(HART(priv)));
    emit_shift32(e, SHIFT_SHL, rm_reg(RCX), l->pp);
    emit_alu(e, ALU_OR, RAX, rm_reg(RCX));
    emit_store(e, at(HART(mstatus)), RAX);
    store8(e, HART(priv), l->priv);
    emit_load(e, RAX, at(l->tvec));
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -4);
    done(e);
}

/* From U or S, rax: address of what traps. */
static void emit_trap(struct emitter *e, struct slow *slow)
{
    uint8_t *kept;

    emit_load(e, RDX, at(HART(medeleg)));
    emit_load(e, RCX, at(HART(exc_cause)));
    emit_op(e, X_BT | OPC_W, RCX, rm_reg(RDX));
    kept = emit_jcc(e, CC_AE);
    emit_entry(e, &supervisor, slow);
    emit_bind(kept, e->at);
    emit_entry(e, &machine, slow);
}

/* The view and privilege that the bit of xPP in eax says. */
static void emit_lower(struct emitter *e, uint32_t is_s, struct slow *slow)
{
    uint8_t *to_s, *over;

    emit_test32(e, rm_reg(RAX), is_s);
    to_s = emit_jcc(e, CC_NE);
    enter_view(e, TLB_VIEW_U, slow);
    store8(e, HART(priv), PRIV_U);
    over = emit_jmp(e);
    emit_bind(to_s, e->at);
    enter_view(e, TLB_VIEW_S, slow);
    store8(e, HART(priv), PRIV_S);
    emit_bind(over, e->at);
}

/* From `l` to S or U, unless an interrupt might be ready then. */
static void emit_xret(struct emitter *e, const struct level *l, struct slow *slow)
{
    uint32_t cleared = 1u << l->ie | l->pp_mask | (uint32_t)MSTATUS_MPRV;

    emit_load(e, RCX, at(HART(mip)));
    emit_op(e, X_TEST | OPC_W, RCX, at(HART(mie)));
    slow_if(slow, e, CC_NE);
    emit_load(e, RAX, at(HART(mstatus)));
    if (l->priv == PRIV_S) {
        emit_test32(e, rm_reg(RAX), MSTATUS_TSR);
        slow_if(slow, e, CC_NE);
    } else {
        emit_test32(e, rm_reg(RAX), 1u << (l->pp + 1)); /* back to M */
        slow_if(slow, e, CC_NE);
    }
    emit_lower(e, 1u << l->pp, slow);
    emit_load32(e, RCX, rm_reg(RAX));
    emit_shift32(e, SHIFT_SHR, rm_reg(RCX), l->pie - l->ie);
    emit_alu_const32(e, ALU_AND, rm_reg(RCX), 1 << l->ie);
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -1 - (int32_t)cleared);
    emit_alu(e, ALU_OR, RAX, rm_reg(RCX));
    emit_alu_const(e, ALU_OR, rm_reg(RAX), 1 << l->pie);
    emit_store(e, at(HART(mstatus)), RAX);
    emit_load(e, RAX, at(l->epc));
    done(e);
}

/* Writes rcx to satp. The search is C, which leaves alone what it does not return. */
static void emit_root(struct emitter *e, void *const *search, struct slow *slow)
{
    static const uint8_t lost[] = {RSI, RDI, R8, R9, R10, R11, RAX};

    for (unsigned i = 0; i < sizeof lost; i++) /* which aligns the stack */
        emit_push(e, lost[i]);
    emit_lea(e, RDI, rm_mem(REG_HART, -HART_BIAS));
    emit_load(e, RSI, rm_reg(RCX));
    emit_op(e, OPC(0, 0, 0xff), 2, rm_at(search)); /* call */
    emit_op(e, OPC(0, 0, 0x84), RAX, rm_reg(RAX)); /* test of bytes */
    for (unsigned i = sizeof lost; i-- > 0;)
        emit_pop(e, lost[i]);
    slow_if(slow, e, CC_E);
    emit_load(e, REG_BANK, at(HART(bank)));
    emit_load(e, RDX, at(HART(fetch_bank)));
    take_jumps(e);
    done(e);
}

/* Goes on with the recorded exception of the instruction at hart.pc, in U or S. */
static void emit_raised(struct jit *j, struct emitter *e)
{
    uint8_t *slow;

    j->raised = e->at + e->run;
    emit_load(e, RAX, at(HART(pc)));
    emit_call_run(e, j->trap);
    slow = emit_jcc8(e, CC_NE);
    emit_jmp_run(e, j->go);
    emit_bind8(slow, e->at);
    emit_call_run(e, j->helper_trap);
}

void trap_emit_fixed(struct jit *j, struct emitter *e)
{
    struct slow slow = {0};
    void **search = &j->blocks.helpers[HELPERS - 1];

    j->trap = e->at + e->run;
    emit_trap(e, &slow);
    j->to_sepc = e->at + e->run;
    emit_xret(e, &supervisor, &slow);
    j->to_mepc = e->at + e->run;
    emit_xret(e, &machine, &slow);
    j->to_root = e->at + e->run;
    *search = (void *)(uintptr_t)mmu_switch_root;
    emit_root(e, search, &slow);
    bind_slow(&slow, e);
    emit_op(e, X_TEST | OPC_W, RSP, rm_reg(RSP)); /* ZF = 0 */
    emit_ret(e);
    emit_raised(j, e);
}

/* The entry for the instruction, NULL: its helper is all there is. */
static const uint8_t *entry_of(const struct tr *t, const struct insn *in)
{
    switch (in->op) {
    case INSN_ECALL:
        return t->key.priv != PRIV_M ? t->j->trap : NULL;
    case INSN_SRET:
        return t->key.priv == PRIV_S ? t->j->to_sepc : NULL;
    default:
        return t->key.priv == PRIV_M ? t->j->to_mepc : NULL;
    }
}

static const uint8_t *helper_of(const struct tr *t, const struct insn *in)
{
    return in->op == INSN_ECALL ? t->j->ecall : in->op == INSN_SRET ? t->j->sret : t->j->mret;
}

static void call_helper(struct tr *t, struct emitter *e, unsigned insn)
{
    const struct insn *in = &t->seq[insn].in;
    struct site s = tr_site(t, insn);

    emit_const(e, RAX, in->bits);
    emit_const(e, RCX, site_pack(&s));
    emit_call_run(e, helper_of(t, in));
}

void tr_trap(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    const uint8_t *entry = entry_of(t, in);

    if (!entry) {
        call_helper(t, e, t->i);
        return;
    }
    if (in->op == INSN_ECALL) {
        emit_store_const(e, at(HART(exc_cause)), EXC_ECALL_U + t->key.priv);
        emit_store_const(e, at(HART(exc_tval)), 0);
        emit_load(e, RAX, at(HART(code_page)));
        emit_alu_const(e, ALU_ADD, rm_reg(RAX), t->seq[t->i].offset);
    }
    emit_call_run(e, entry);
    stub_from(tr_stub(t, STUB_TRAP), emit_jcc(e, CC_NE));
    tr_goto_address(t, e);
}

void tr_trap_stub(struct tr *t, const struct stub *s)
{
    call_helper(t, &t->cold, s->insn);
}
