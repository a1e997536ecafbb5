/* From decoded instructions to the interpreter's slots. Knows the layout of slots and nothing of harts. */
#include "cpu-core/interp/internal.h"

#include <string.h>

static slot_t pack(unsigned op, const struct insn *in, int32_t imm)
{
    return (slot_t)op | (in->len == 2 ? SLOT_SHORT : 0) | (slot_t)in->rd << 16 | (slot_t)in->rs1 << 24 |
           (slot_t)in->rs2 << 32 | (slot_t)(uint32_t)imm << 40;
}

static unsigned far_op(unsigned op)
{
    switch (op) {
    case INSN_BEQ:
        return SLOT_BEQ_FAR;
    case INSN_BNE:
        return SLOT_BNE_FAR;
    case INSN_BLT:
        return SLOT_BLT_FAR;
    case INSN_BGE:
        return SLOT_BGE_FAR;
    case INSN_BLTU:
        return SLOT_BLTU_FAR;
    case INSN_BGEU:
        return SLOT_BGEU_FAR;
    case INSN_JAL:
        return SLOT_JAL_FAR;
    default:
        return SLOT_J_FAR;
    }
}

static slot_t pack_transfer(unsigned op, const struct insn *in, unsigned offset)
{
    bool near = (uint32_t)((int32_t)offset + in->imm) < PAGE_SIZE;

    return pack(near ? op : far_op(op), in, in->imm / 2);
}

slot_t slot_make(uint32_t bits, unsigned offset)
{
    struct insn in;

    if (isa_decode(bits, &in) != 0) {
        struct insn none = {.len = (uint8_t)isa_length(bits)};
        return pack(SLOT_ILLEGAL, &none, 0);
    }
    switch (isa_table[in.op].cls) {
    case ISA_CLASS_ALU:
    case ISA_CLASS_MUL:
    case ISA_CLASS_DIV:
        return pack(in.rd == 0 ? SLOT_NOP : in.op, &in, in.imm);
    case ISA_CLASS_FENCE:
        return pack(SLOT_NOP, &in, 0);
    case ISA_CLASS_HINT:
        return pack(in.op == INSN_PAUSE ? INSN_PAUSE : SLOT_NOP, &in, 0);
    case ISA_CLASS_BRANCH:
        return pack_transfer(in.op, &in, offset);
    case ISA_CLASS_JUMP:
        if (in.op == INSN_JAL)
            return pack_transfer(in.rd == 0 ? SLOT_J : INSN_JAL, &in, offset);
        return pack(in.rd == 0 ? SLOT_JR : INSN_JALR, &in, in.imm);
    case ISA_CLASS_FP:
        return pack(in.op, &in, in.rs3 | in.rm << 5);
    default:
        return pack(in.op, &in, in.imm);
    }
}

slot_t slot_fill(struct code_page *p, unsigned index)
{
    const uint8_t *code = p->host + index * 2;
    uint32_t bits = 0;
    slot_t w;

    memcpy(&bits, code, 2);
    if (isa_length(bits) == 4) {
        if (index == PAGE_HALVES - 1) {
            w = SLOT_CROSS;
            goto out;
        }
        memcpy(&bits, code, 4);
    }
    w = slot_make(bits, index * 2);
out:
    p->slots[index] = w;
    p->stores = 0;
    return w;
}
