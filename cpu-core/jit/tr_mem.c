/* Translation of integer loads and stores: the inline hit of a translation bank, and groups of accesses that
 * share one. */
#include "cpu-core/jit/translate.h"

#define PAIR_SHIFT 5  /* log2 of the size of a pair of slots */
#define ZERO_BLOCK 64 /* bytes of cbo.zero */

_Static_assert(sizeof(struct tlb_pair) == 1 << PAIR_SHIFT, "pairs are indexed by a shift");

static struct rm addend_at(bool write)
{
    int32_t table = write ? offsetof(struct tlb_bank, w) : offsetof(struct tlb_bank, r);

    return rm_sib(REG_BANK, RCX, 0, table + (int32_t)offsetof(struct tlb_slot, addend));
}

/* Jumps to the stub unless the bank has the page of the bytes low..high off `base`, and none of the bits
 * `align` is set in the address of the last; rcx = offset of the slot. */
static void check_tag(struct tr *t, unsigned base, int32_t low, int32_t high, unsigned align, bool write,
                      struct stub *miss)
{
    struct emitter *e = &t->e;
    int32_t table = write ? offsetof(struct tlb_bank, w) : offsetof(struct tlb_bank, r);
    unsigned from = RAX;

    miss->again = e->at;
    miss->low = (int16_t)low;
    miss->high = (int16_t)high;
    miss->write = write;
    if (!pinned(t, base)) {
        emit_load(e, RAX, gx(t, base));
        if (low)
            emit_alu_const(e, ALU_ADD, rm_reg(RAX), low);
    } else if (low) {
        emit_lea(e, RAX, rm_mem(t->pin[base], low));
    } else {
        from = t->pin[base];
    }
    emit_vex_imm(e, V_RORX, RCX, 0, rm_reg(from), 1, PAGE_SHIFT - PAIR_SHIFT);
    emit_alu_const32(e, ALU_AND, rm_reg(RCX), (TLB_SLOTS - 1) << PAIR_SHIFT);
    if (from != RAX && !high)
        emit_load(e, RAX, rm_reg(from));
    else if (from != RAX || (high != low && pinned(t, base)))
        emit_lea(e, RAX, rm_mem(t->pin[base], high));
    else if (high != low)
        emit_alu_const(e, ALU_ADD, rm_reg(RAX), high - low);
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -(int32_t)PAGE_SIZE | (int32_t)align);
    emit_alu(e, ALU_CMP, RAX, rm_sib(REG_BANK, RCX, 0, table + (int32_t)offsetof(struct tlb_slot, tag)));
    stub_from(miss, emit_jcc(e, CC_NE));
    miss->hit = e->at;
}

/* The operand for displacement `imm` off `base`, `addend` being the result of a check. */
static struct rm operand(const struct tr *t, unsigned base, unsigned addend, int32_t imm)
{
    return pinned(t, base) ? rm_sib(t->pin[base], addend, 0, imm) : rm_mem(addend, imm);
}

/* dest = what operand() takes, after a check. */
static void take_addend(struct tr *t, unsigned base, bool write, unsigned dest)
{
    emit_load(&t->e, dest, addend_at(write));
    if (!pinned(t, base))
        emit_alu(&t->e, ALU_ADD, dest, gx(t, base));
}

struct rm tr_check_aligned(struct tr *t, unsigned base, unsigned size, bool write, struct stub *miss)
{
    check_tag(t, base, 0, 0, size - 1, write, miss);
    take_addend(t, base, write, RCX);
    return operand(t, base, RCX, 0);
}

/* dest = the addend of an access that checked its tag, which was the same last time: the access need not wait
 * for the bank. */
static void guess_addend(struct tr *t, bool write, unsigned dest)
{
    struct stub *other = tr_stub(t, STUB_ADDEND);

    other->word = blocks_word(&t->j->blocks);
    other->reg = (uint8_t)dest;
    other->write = write;
    emit_load(&t->e, dest, rm_at(other->word));
    emit_alu(&t->e, ALU_CMP, dest, addend_at(write));
    stub_from(other, emit_jcc(&t->e, CC_NE));
    other->back = t->e.at;
}

/* The register that the instruction copies; 0: it does something else. */
static unsigned copied(const struct insn *in)
{
    if (in->op == INSN_ADD && (in->rs1 == 0 || in->rs2 == 0))
        return in->rs1 | in->rs2;
    return in->op == INSN_ADDI && in->imm == 0 ? in->rs1 : 0;
}

/* The register whose value before instruction `from` is what `r` holds before instruction `to`; 0: neither.
 */
static unsigned held_before(const struct tr *t, unsigned from, unsigned to, unsigned r)
{
    while (r && to-- > from) {
        const struct tr_insn *ti = &t->seq[to];
        if (insn_target(&ti->in) == r)
            r = ti->conditional ? 0 : copied(&ti->in);
    }
    return r;
}

/* A load of the next element of a list: its address comes from the same load, one round of a loop before, so
 * that what counts is how soon the access can start. */
static bool loads_next(const struct tr *t, const struct insn *in)
{
    unsigned r;

    if (in->op != INSN_LD || !in->rd || !pinned(t, in->rs1))
        return false;
    if (in->rd == in->rs1)
        return true;
    r = regs_loop(t) ? held_before(t, 0, t->i, in->rs1) : 0;
    return r && held_before(t, t->i + 1, t->n, r) == in->rd;
}

static struct rm group_at(const struct group *g)
{
    return rm_mem(REG_HART, HART(group_addend) + 8 * (g->place - 1));
}

static struct rm group_operand(const struct tr *t, const struct group *g, const struct insn *in,
                               unsigned from)
{
    return g->host ? rm_mem(from, g->delta[in->rs1] + in->imm) : rm_sib(t->pin[in->rs1], from, 0, in->imm);
}

/* Begins a group with the access `in`; its operand. */
static struct rm open_group(struct tr *t, const struct insn *in, const struct group *g)
{
    struct stub *miss = tr_stub(t, STUB_GROUP);
    bool next = loads_next(t, in);
    unsigned to = !g->place ? RDX : next ? RAX : RCX;

    miss->keep = g->place && t->groups[0].regs;
    check_tag(t, in->rs1, g->checked.low, g->checked.high, 0, g->write, miss);
    if (next)
        guess_addend(t, g->write, to);
    else
        take_addend(t, in->rs1, g->write, to);
    if (g->place)
        emit_store(&t->e, group_at(g), to);
    t->groups[g->place] = *g;
    t->j->stats.groups++;
    return group_operand(t, g, in, to);
}

struct rm tr_access(struct tr *t, const struct insn *in, bool write, struct stub **miss)
{
    int32_t low = in->imm, high = in->imm + isa_table[in->op].size - 1;
    const struct group *live = group_of(t, in, write);
    struct group g;

    *miss = NULL;
    if (live) {
        t->j->stats.grouped++;
        if (live->place)
            emit_load(&t->e, RCX, group_at(live));
        return group_operand(t, live, in, live->place ? RCX : RDX);
    }
    if (group_find(t, in, write, &g)) {
        t->j->stats.grouped++;
        return open_group(t, in, &g);
    }
    t->j->stats.ungrouped++;
    *miss = tr_stub(t, write ? STUB_STORE : STUB_LOAD);
    check_tag(t, in->rs1, low, high, 0, write, *miss);
    if (loads_next(t, in)) {
        guess_addend(t, false, RAX);
        return operand(t, in->rs1, RAX, in->imm);
    }
    take_addend(t, in->rs1, write, RCX);
    return operand(t, in->rs1, RCX, in->imm);
}

static unsigned load_opcode(unsigned op)
{
    switch (op) {
    case INSN_LB:
        return X_MOVSX8 & ~(unsigned)OPC_BYTE_RM;
    case INSN_LH:
        return X_MOVSX16;
    case INSN_LW:
        return X_MOVSXD;
    case INSN_LD:
        return X_MOV_LOAD | OPC_W;
    case INSN_LBU:
        return X_MOVZX8 & ~(unsigned)OPC_BYTE_RM;
    case INSN_LHU:
        return X_MOVZX16;
    default:
        return X_MOV_LOAD;
    }
}

bool tr_load(struct tr *t, const struct insn *in)
{
    struct stub *miss;
    struct rm from = tr_access(t, in, false, &miss);
    unsigned d = tr_dest(t, in->rd, RAX);

    emit_op(&t->e, load_opcode(in->op), d, from);
    tr_set(t, in->rd, d);
    if (miss)
        miss->back = t->e.at;
    return true;
}

static unsigned store_opcode(unsigned size)
{
    return size == 1   ? X_MOV_STORE8
           : size == 2 ? X_MOV_STORE16
           : size == 4 ? X_MOV_STORE
                       : X_MOV_STORE | OPC_W;
}

bool tr_store(struct tr *t, const struct insn *in)
{
    struct stub *miss;
    struct rm to = tr_access(t, in, true, &miss);

    emit_op(&t->e, store_opcode(isa_table[in->op].size), tr_use(t, in->rs2, RAX), to);
    if (miss)
        miss->back = t->e.at;
    return true;
}

/* Leaves the line unless the environment configuration lets the privilege zero blocks. */
static void check_zeroing(struct tr *t, struct stub *s)
{
    static const int32_t places[] = {HART(menvcfg), HART(senvcfg)};
    unsigned n = t->key.priv == PRIV_M ? 0 : t->key.priv == PRIV_S ? 1 : 2;

    for (unsigned i = 0; i < n; i++) {
        emit_op_imm(&t->e, OPC(0, 0, 0xf6), 0, rm_mem(REG_HART, places[i]), 1, MENVCFG_CBZE); /* test */
        stub_from(s, emit_jcc(&t->e, CC_E));
    }
}

bool tr_cbo(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *s, *forbidden;

    if (in->op != INSN_CBO_ZERO)
        return false;
    forbidden = tr_stub(t, STUB_ZERO);
    check_zeroing(t, forbidden);
    s = tr_stub(t, STUB_ZERO);
    check_tag(t, in->rs1, 0, 0, 0, true, s);
    emit_load(e, RCX, addend_at(true));
    emit_load(e, RAX, gx(t, in->rs1));
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -ZERO_BLOCK);
    emit_vex(e, F_XOR, 0, 0, rm_reg(0));
    for (int32_t at = 0; at < ZERO_BLOCK; at += 16)
        emit_vex(e, OPC(1, 0, 0x11), 0, 0, rm_sib(RAX, RCX, 0, at)); /* vmovups */
    forbidden->back = s->back = e->at;
    return true;
}

static void zero_stub(struct tr *t, const struct stub *s, const struct insn *in)
{
    struct site site = tr_site(t, s->insn);

    regs_give_back(t, &t->cold);
    emit_const(&t->cold, RAX, in->bits);
    emit_const(&t->cold, RCX, site_pack(&site));
    emit_call_run(&t->cold, t->j->cbo_zero);
    regs_take(t, &t->cold);
    emit_jmp_to(&t->cold, s->back);
}

void tr_refill(struct tr *t, const struct stub *s)
{
    emit_call_run(&t->cold, t->j->refill[s->write]);
    emit_bind(emit_jcc(&t->cold, CC_B), s->hit);
    emit_bind(emit_jcc(&t->cold, CC_NE), s->again);
}

/* rax = base + displacement, in cold code. */
static void stub_address(struct tr *t, unsigned base, int32_t disp)
{
    emit_load(&t->cold, RAX, gx(t, base));
    if (disp)
        emit_alu_const(&t->cold, ALU_ADD, rm_reg(RAX), disp);
}

/* A jump to bind, taken if the first and the last byte of the check that missed lie in different pages: rax
 * has the page of the last one, rcx the slot of the first. Uses rdx. */
static uint8_t *crosses(struct emitter *e)
{
    emit_vex_imm(e, V_RORX, RDX, 0, rm_reg(RAX), 1, PAGE_SHIFT - PAIR_SHIFT);
    emit_alu_const32(e, ALU_AND, rm_reg(RDX), (TLB_SLOTS - 1) << PAIR_SHIFT);
    emit_alu32(e, ALU_CMP, RDX, rm_reg(RCX));
    return emit_jcc(e, CC_NE);
}

static void group_stub(struct tr *t, const struct stub *s, const struct insn *in)
{
    struct site site = tr_site(t, s->insn);
    uint32_t range = group_pack((unsigned)(in->imm - s->low), (unsigned)(s->high - s->low + 1), s->write);
    struct link *l;
    uint8_t *split, *two;

    if (s->keep)
        emit_store(&t->cold, rm_mem(REG_HART, HART(group_saved)), RDX);
    two = crosses(&t->cold);
    stub_address(t, in->rs1, s->low);
    site.size = isa_table[in->op].size;
    site.sext = isa_table[in->op].cls == ISA_CLASS_STORE || isa_table[in->op].cls == ISA_CLASS_FSTORE;
    regs_give_back(t, &t->cold);
    emit_const(&t->cold, RCX, site_pack(&site));
    emit_const(&t->cold, RDX, range);
    emit_call_run(&t->cold, t->j->group);
    if (s->keep)
        emit_load(&t->cold, RDX, rm_mem(REG_HART, HART(group_saved)));
    emit_op(&t->cold, X_TEST, RAX, rm_reg(RAX));
    split = emit_jcc(&t->cold, CC_E);
    regs_take(t, &t->cold);
    emit_jmp_to(&t->cold, s->again);
    emit_bind(two, t->cold.at);
    regs_give_back(t, &t->cold);
    emit_bind(split, t->cold.at);
    emit_alu_const(&t->cold, ALU_ADD, rm_reg(REG_LEFT), site.refund);
    l = blocks_link(&t->j->blocks, site.offset, true);
    t->block.nlinks++;
    emit_jmp_mem(&t->cold, rm_at(&l->code));
    l->code = l->stub = t->cold.at + t->cold.run;
    emit_op(&t->cold, X_LEA | OPC_W, RDX, rm_at(l));
    emit_jmp_run(&t->cold, t->j->exit_link);
}

void tr_mem_stub(struct tr *t, struct stub *s)
{
    const struct insn *in = &t->seq[s->insn].in;
    struct site site = tr_site(t, s->insn);

    if (s->kind == STUB_ADDEND) {
        emit_load(&t->cold, s->reg, addend_at(s->write));
        emit_store(&t->cold, rm_at(s->word), s->reg);
        emit_jmp_to(&t->cold, s->back);
        return;
    }
    if (s->hit)
        tr_refill(t, s);
    if (s->kind == STUB_GROUP) {
        group_stub(t, s, in);
        return;
    }
    if (s->kind == STUB_ZERO) {
        zero_stub(t, s, in);
        return;
    }
    site.size = isa_table[in->op].size;
    site.sext = isa_table[in->op].flags & ISA_SEXT;
    site.reg = s->kind == STUB_LOAD ? in->rd : in->rs2;
    site.fp = isa_table[in->op].flags & ISA_FS;
    stub_address(t, in->rs1, in->imm);
    regs_give_back(t, &t->cold);
    emit_const(&t->cold, RCX, site_pack(&site));
    emit_call_run(&t->cold, s->kind == STUB_LOAD ? t->j->load : t->j->store);
    regs_take(t, &t->cold);
    if (site.fp && s->kind == STUB_LOAD)
        tr_fp_stub(t, s);
    else if (s->kind == STUB_LOAD && in->rd)
        emit_store(&t->cold, gx(t, in->rd), RAX);
    emit_jmp_to(&t->cold, s->back);
}
