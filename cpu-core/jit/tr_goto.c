/* Going from block to block: links within the page, and what remembers where jumps to other pages and to
 * computed addresses led to. */
#include "cpu-core/jit/translate.h"

#define JUMP_SHIFT 4 /* log2 of the size of a slot */
_Static_assert(sizeof(struct jump_slot) == 1 << JUMP_SHIFT, "slots are indexed by a shift");

/* Jumps through the link to the block at `offset`; its stub follows in the cold code. */
static void goto_link(struct tr *t, struct emitter *e, uint16_t offset, bool single)
{
    struct link *l = blocks_link(&t->j->blocks, offset, single);

    regs_give_back(t, e);
    t->block.nlinks++;
    emit_jmp_mem(e, rm_at(&l->code));
    l->stub = t->cold.at + t->cold.run;
    l->code = l->stub;
    emit_op(&t->cold, X_LEA | OPC_W, RDX, rm_at(l));
    emit_jmp_run(&t->cold, t->j->exit_link);
}

/* rcx = slot of the jump cache for the address in rax; the result is a jump to bind, taken if the slot has
 * another one. Uses rdx. */
static uint8_t *find_slot(struct emitter *e)
{
    emit_load(e, RDX, rm_mem(REG_HART, HART(jump_salt)));
    emit_alu(e, ALU_XOR, RDX, rm_reg(RAX));
    emit_op_imm(e, OPC(0, 0, 0x69), RCX, rm_reg(RDX), 4, (int32_t)JUMP_HASH);
    emit_shift32(e, SHIFT_SHR, rm_reg(RCX), 18 - JUMP_SHIFT);
    emit_alu_const32(e, ALU_AND, rm_reg(RCX), (int32_t)(JUMP_SLOTS - 1) << JUMP_SHIFT);
    emit_alu(e, ALU_ADD, RCX, rm_mem(REG_HART, HART(jumps)));
    emit_alu(e, ALU_CMP, RDX, rm_mem(RCX, offsetof(struct jump_slot, tag)));
    return emit_jcc(e, CC_NE);
}

static void jump_to_block(struct emitter *e)
{
    emit_jmp_mem(e, rm_mem(RCX, offsetof(struct block, code)));
}

static void bind_run(const struct emitter *e, uint8_t *jump, const uint8_t *to)
{
    int32_t disp = (int32_t)((intptr_t)to - ((intptr_t)jump + 4 + e->run));

    memcpy(jump, &disp, sizeof disp);
}

static void go(const struct jit *j, struct emitter *e)
{
    uint8_t *miss = find_slot(e);

    emit_load(e, RCX, rm_mem(RCX, offsetof(struct jump_slot, block)));
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -(int32_t)PAGE_SIZE);
    emit_store(e, rm_mem(REG_HART, HART(code_page)), RAX);
    jump_to_block(e);
    bind_run(e, miss, j->exit_lookup);
}

void tr_goto_address(struct tr *t, struct emitter *e)
{
    regs_give_back(t, e);
    go(t->j, e);
}

/* Jumps to a fixed distance: the site remembers for one page that it runs in, in one translation regime,
 * where that led to. */
static void goto_far(struct tr *t, struct emitter *e, int32_t target)
{
    struct jump_slot *far = blocks_far(&t->j->blocks);
    int32_t pages = target & -(int32_t)PAGE_SIZE;
    uint8_t *miss;

    regs_give_back(t, e);
    emit_load(e, RAX, rm_mem(REG_HART, HART(code_page)));
    emit_load(e, RDX, rm_mem(REG_HART, HART(jump_salt)));
    emit_alu(e, ALU_XOR, RDX, rm_reg(RAX));
    emit_alu(e, ALU_CMP, RDX, rm_at(&far->tag));
    miss = emit_jcc(e, CC_NE);
    emit_load(e, RCX, rm_at(&far->block));
    if (pages) {
        emit_alu_const(e, ALU_ADD, rm_reg(RAX), pages);
        emit_store(e, rm_mem(REG_HART, HART(code_page)), RAX);
    }
    emit_op(e, X_LEA | OPC_W, RDX, rm_at(far)); /* for emit_stale() */
    jump_to_block(e);
    emit_bind(miss, t->cold.at);
    emit_alu_const(&t->cold, ALU_ADD, rm_reg(RAX), target);
    emit_op(&t->cold, X_LEA | OPC_W, RDX, rm_at(far));
    emit_jmp_run(&t->cold, t->j->far);
}

/* A dropped block was jumped to, which rcx points to. The slot of the site, if it has one, in rdx must be
 * emptied, or each time would end here. */
static void emit_stale(struct jit *j, struct emitter *e)
{
    const struct jump_slot *fars;
    size_t size = blocks_fars(&j->blocks, &fars);
    uint8_t *other, *none;

    j->blocks.stale = e->at + e->run;
    emit_const(e, RAX, (int64_t)(intptr_t)fars);
    emit_op(e, X_ALU(ALU_SUB) | OPC_W, RAX, rm_reg(RDX));
    emit_op(e, OPC(0, 0, 0xf7) | OPC_W, 3, rm_reg(RAX)); /* neg */
    emit_alu_const(e, ALU_CMP, rm_reg(RAX), (int32_t)size);
    none = emit_jcc8(e, CC_AE);
    emit_alu(e, ALU_CMP, RCX, rm_mem(RDX, offsetof(struct jump_slot, block)));
    other = emit_jcc8(e, CC_NE);
    emit_op_imm(e, OPC(0, 0, 0xc7) | OPC_W, 0, rm_mem(RDX, offsetof(struct jump_slot, tag)), 4, 0);
    emit_bind8(none, e->at);
    emit_bind8(other, e->at);
    emit_load(e, RAX, rm_mem(RCX, offsetof(struct block, key.pa)));
    emit_alu_const32(e, ALU_AND, rm_reg(RAX), (int32_t)PAGE_SIZE - 1);
    emit_alu(e, ALU_ADD, RAX, rm_mem(REG_HART, HART(code_page)));
    emit_jmp_run(e, j->exit_lookup);
}

void goto_emit_fixed(struct jit *j, struct emitter *e)
{
    uint8_t *miss;

    j->go = e->at + e->run;
    go(j, e);

    /* Jumps to the address in rax, and lets the slot of the site in rdx know. */
    j->far = e->at + e->run;
    emit_push(e, RDX);
    miss = find_slot(e);
    emit_load(e, RCX, rm_mem(RCX, offsetof(struct jump_slot, block)));
    emit_pop(e, RDX);
    emit_store(e, rm_mem(RDX, offsetof(struct jump_slot, block)), RCX);
    emit_load(e, RCX, rm_mem(REG_HART, HART(code_page)));
    emit_alu(e, ALU_XOR, RCX, rm_mem(REG_HART, HART(jump_salt)));
    emit_store(e, rm_mem(RDX, offsetof(struct jump_slot, tag)), RCX);
    emit_load(e, RCX, rm_mem(RDX, offsetof(struct jump_slot, block)));
    emit_alu_const(e, ALU_AND, rm_reg(RAX), -(int32_t)PAGE_SIZE);
    emit_store(e, rm_mem(REG_HART, HART(code_page)), RAX);
    jump_to_block(e);
    emit_bind(miss, e->at);
    emit_pop(e, RDX);
    emit_jmp_run(e, j->exit_lookup);
    emit_stale(j, e);
}

void tr_goto(struct tr *t, struct emitter *e, int32_t target)
{
    if (tr_is_head(t, target))
        emit_jmp_to(e, t->head);
    else if (target >= 0 && target < (int32_t)PAGE_SIZE - 2) /* there may be one that crosses */
        goto_link(t, e, (uint16_t)target, false);
    else
        goto_far(t, e, target);
}
