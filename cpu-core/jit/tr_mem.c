/* Translation of integer loads and stores: the inline hit of a translation bank, and groups of accesses that
 * share one. */
#include "cpu-core/jit/translate.h"

#define SLOT_SHIFT    4 /* log2 of the size of a slot */
#define GROUP_SPAN    512
#define GROUP_MEMBERS 2u
#define ZERO_BLOCK    64 /* bytes of cbo.zero */

_Static_assert(sizeof(struct tlb_slot) == 1 << SLOT_SHIFT, "slots are indexed by a shift");

static bool is_load(const struct insn *in)
{
    return in->op < ISA_BASE_COUNT &&
           (isa_table[in->op].cls == ISA_CLASS_LOAD || isa_table[in->op].cls == ISA_CLASS_FLOAD);
}

static bool is_store(const struct insn *in)
{
    return in->op < ISA_BASE_COUNT &&
           (isa_table[in->op].cls == ISA_CLASS_STORE || isa_table[in->op].cls == ISA_CLASS_FSTORE);
}

/* Whether rdx survives the instruction's translation and `base` keeps its value. */
static bool ends_group(const struct insn *in, unsigned base)
{
    if (in->op >= ISA_BASE_COUNT)
        return true;
    switch (isa_table[in->op].cls) {
    case ISA_CLASS_MUL:
        return in->rd == base || (in->op != INSN_MUL && in->op != INSN_MULW);
    case ISA_CLASS_DIV:
    case ISA_CLASS_AMO:
    case ISA_CLASS_CBO:
    case ISA_CLASS_CSR:
    case ISA_CLASS_SYS:
        return true;
    case ISA_CLASS_STORE:
    case ISA_CLASS_FSTORE:
    case ISA_CLASS_FLOAD:
    case ISA_CLASS_BRANCH:
        return false;
    default:
        return in->rd == base;
    }
}

/* The accesses off `base` of one kind from instruction `from` on, as far as they can be a group. */
static struct span look_ahead(const struct tr *t, unsigned from, unsigned base, bool write)
{
    struct span s = {0};

    for (unsigned k = from; k < t->n; k++) {
        const struct insn *in = &t->seq[k].in;
        if ((write ? is_store(in) : is_load(in)) && in->rs1 == base) {
            int32_t low = in->imm, high = in->imm + isa_table[in->op].size - 1;
            if (s.members && s.low < low)
                low = s.low;
            if (s.members && s.high > high)
                high = s.high;
            if (high - low >= GROUP_SPAN)
                break;
            s = (struct span){low, high, s.members + 1};
        }
        if (ends_group(in, base) || t->seq[k].conditional)
            break;
    }
    return s;
}

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
    emit_vex_imm(e, V_RORX, RCX, 0, rm_reg(from), 1, PAGE_SHIFT - SLOT_SHIFT);
    emit_alu_const32(e, ALU_AND, rm_reg(RCX), (TLB_SLOTS - 1) << SLOT_SHIFT);
    if (from != RAX && !high)
        emit_load(e, RAX, rm_reg(from));
    else if (from != RAX || (high != low && pinned(t, base)))
        emit_lea(e, RAX, rm_mem(t->pin[base], high));
    else if (high != low)
        emit_alu_const(e, ALU_ADD, rm_reg(RAX), high - low);
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -(int32_t)PAGE_SIZE | (int32_t)align);
    emit_alu(e, ALU_CMP, RAX, rm_sib(REG_BANK, RCX, 0, table + (int32_t)offsetof(struct tlb_slot, tag)));
    stub_from(miss, emit_jcc(e, CC_NE));
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

/* Opens a group, or adds a kind of access to the live one. */
static void open_group(struct tr *t, unsigned base, bool write, const struct span *s)
{
    struct stub *miss = tr_stub(t, STUB_GROUP);
    struct span *other = write ? &t->group_read : &t->group_write;

    check_tag(t, base, s->low, s->high, 0, write, miss);
    take_addend(t, base, write, RDX);
    if (t->group_base != base || s->low > other->high || s->high < other->low)
        *other = (struct span){0}; /* may be on another page */
    t->group_base = (uint8_t)base;
    *(write ? &t->group_write : &t->group_read) = *s;
    t->j->stats.groups++;
}

static bool in_group(struct tr *t, const struct insn *in, bool write)
{
    unsigned base = in->rs1;
    const struct span *live = write ? &t->group_write : &t->group_read;
    struct span s;

    if (t->key.single || base == 0)
        return false;
    if (t->group_base == base && live->members && in->imm >= live->low &&
        in->imm + isa_table[in->op].size - 1 <= live->high)
        return true;
    s = look_ahead(t, t->i, base, write);
    if (s.members < GROUP_MEMBERS)
        return false;
    if (t->group_base && t->group_base != base &&
        (look_ahead(t, t->i, t->group_base, false).members ||
         look_ahead(t, t->i, t->group_base, true).members))
        return false;
    open_group(t, base, write, &s);
    return true;
}

struct rm tr_access(struct tr *t, const struct insn *in, bool write, struct stub **miss)
{
    int32_t low = in->imm, high = in->imm + isa_table[in->op].size - 1;

    *miss = NULL;
    if (in_group(t, in, write)) {
        t->j->stats.grouped++;
        return operand(t, in->rs1, RDX, in->imm);
    }
    t->j->stats.ungrouped++;
    *miss = tr_stub(t, write ? STUB_STORE : STUB_LOAD);
    check_tag(t, in->rs1, low, high, 0, write, *miss);
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

/* A load of the next element of a list: its address comes from the load before, so that what counts is how
 * soon the access can start. It starts with the addend of last time, which is compared beside it. */
static bool load_next(struct tr *t, const struct insn *in)
{
    struct emitter *e = &t->e;
    struct stub *miss, *other;
    uint64_t *last;
    unsigned d = t->pin[in->rd];

    if (in->op != INSN_LD || in->rd != in->rs1 || !pinned(t, in->rd))
        return false;
    last = blocks_word(&t->j->blocks);
    miss = tr_stub(t, STUB_LOAD);
    other = tr_stub(t, STUB_ADDEND);
    check_tag(t, in->rs1, in->imm, in->imm + 7, 0, false, miss);
    emit_load(e, RAX, rm_at(last));
    emit_alu(e, ALU_CMP, RAX, addend_at(false));
    stub_from(other, emit_jcc(e, CC_NE));
    other->back = e->at;
    other->word = last;
    emit_load(e, d, rm_sib(d, RAX, 0, in->imm));
    miss->back = e->at;
    return true;
}

bool tr_load(struct tr *t, const struct insn *in)
{
    struct stub *miss;
    struct rm from;
    unsigned d = tr_dest(t, in->rd, RAX);

    if (load_next(t, in))
        return true;
    from = tr_access(t, in, false, &miss);

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
    const uint8_t *begin = e->at;
    struct stub *s;

    if (in->op != INSN_CBO_ZERO)
        return false;
    s = tr_stub(t, STUB_ZERO);
    check_zeroing(t, s);
    check_tag(t, in->rs1, 0, 0, 0, true, s);
    s->again = begin;
    emit_load(e, RCX, addend_at(true));
    emit_load(e, RAX, gx(t, in->rs1));
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -ZERO_BLOCK);
    emit_vex(e, F_XOR, 0, 0, rm_reg(0));
    for (int32_t at = 0; at < ZERO_BLOCK; at += 16)
        emit_vex(e, OPC(1, 0, 0x11), 0, 0, rm_sib(RAX, RCX, 0, at)); /* vmovups */
    s->back = e->at;
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

void tr_group_update(struct tr *t, const struct insn *in)
{
    if (t->group_base && ends_group(in, t->group_base))
        t->group_base = 0;
}

/* rax = base + displacement, in cold code. */
static void stub_address(struct tr *t, unsigned base, int32_t disp)
{
    emit_load(&t->cold, RAX, gx(t, base));
    if (disp)
        emit_alu_const(&t->cold, ALU_ADD, rm_reg(RAX), disp);
}

void tr_refill(struct tr *t, const struct stub *s)
{
    stub_address(t, t->seq[s->insn].in.rs1, s->low);
    emit_call_run(&t->cold, t->j->refill[s->write]);
    emit_bind(emit_jcc(&t->cold, CC_NE), s->again);
}

static void group_stub(struct tr *t, const struct stub *s, const struct insn *in)
{
    struct site site = tr_site(t, s->insn);
    uint32_t range = (uint32_t)(in->imm - s->low) | (uint32_t)(s->high - s->low + 1) << 16;
    struct link *l;
    uint8_t *split;

    site.size = isa_table[in->op].size;
    site.sext = is_store(in);
    regs_give_back(t, &t->cold);
    emit_const(&t->cold, RCX, site_pack(&site));
    emit_const(&t->cold, RDX, range);
    emit_call_run(&t->cold, t->j->group);
    emit_op(&t->cold, X_TEST, RAX, rm_reg(RAX));
    split = emit_jcc(&t->cold, CC_E);
    regs_take(t, &t->cold);
    emit_jmp_to(&t->cold, s->again);
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
        emit_load(&t->cold, RAX, addend_at(false));
        emit_store(&t->cold, rm_at(s->word), RAX);
        emit_jmp_to(&t->cold, s->back);
        return;
    }
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
