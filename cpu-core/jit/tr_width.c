/* How many bits the values of registers need at most, as far as the block's own instructions tell. Emits
 * nothing.
 */
#include "cpu-core/jit/translate.h"

#define ALL 64u

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned most(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

/* Of a two's complement number, the sign included. */
static unsigned bits_of(int64_t v)
{
    return 64 - (unsigned)__builtin_clrsbll(v);
}

/* Of the whole result of an instruction that works on words. */
static unsigned word_result(const struct tr *t, const struct insn *in)
{
    unsigned a = t->width[in->rs1], b = t->width[in->rs2], by = (unsigned)in->imm;

    switch (in->op) {
    case INSN_ADDIW:
        return in->imm ? most(a, bits_of(in->imm)) + 1 : a;
    case INSN_ADDW:
    case INSN_SUBW:
        return most(a, b) + 1;
    case INSN_MULW:
        return a + b;
    case INSN_SLLIW:
        return a + by;
    case INSN_SRAIW:
        return a <= 32 ? a : ALL;
    default:
        return ALL;
    }
}

bool width_fits_word(const struct tr *t, const struct insn *in)
{
    return word_result(t, in) <= 32;
}

static unsigned load_width(unsigned op)
{
    switch (op) {
    case INSN_LB:
        return 8;
    case INSN_LBU:
        return 9;
    case INSN_LH:
        return 16;
    case INSN_LHU:
        return 17;
    case INSN_LW:
        return 32;
    case INSN_LWU:
        return 33;
    default:
        return ALL;
    }
}

static unsigned word_width(const struct tr *t, const struct insn *in)
{
    unsigned by = (unsigned)in->imm, a = least(t->width[in->rs1], 32);

    switch (in->op) {
    case INSN_SRAIW:
        return a > by ? a - by : 1;
    case INSN_SRLIW:
        return by ? 33 - by : 32;
    default:
        return least(word_result(t, in), 32);
    }
}

static unsigned alu_width(const struct tr *t, const struct insn *in)
{
    unsigned a = t->width[in->rs1], b = t->width[in->rs2], by = (unsigned)in->imm;

    switch (in->op) {
    case INSN_LUI:
        return 32;
    case INSN_ADDI:
        return !in->rs1 ? bits_of(in->imm) : in->imm ? most(a, bits_of(in->imm)) + 1 : a;
    case INSN_ADD:
        return !in->rs1 ? b : !in->rs2 ? a : most(a, b) + 1;
    case INSN_SUB:
        return most(a, b) + 1;
    case INSN_ANDI:
        return in->imm >= 0 ? bits_of(in->imm) : most(a, bits_of(in->imm));
    case INSN_ORI:
    case INSN_XORI:
        return most(a, bits_of(in->imm));
    case INSN_AND:
    case INSN_OR:
    case INSN_XOR:
        return most(a, b);
    case INSN_SLLI:
        return a + by;
    case INSN_SRLI:
        return by ? 65 - by : a;
    case INSN_SRAI:
        return a > by ? a - by : 1;
    case INSN_SLT:
    case INSN_SLTU:
    case INSN_SLTI:
    case INSN_SLTIU:
        return 2;
    case INSN_MUL:
        return a + b;
    case INSN_SEXT_B:
        return 8;
    case INSN_SEXT_H:
        return 16;
    case INSN_ZEXT_H:
        return 17;
    case INSN_ADDIW:
    case INSN_ADDW:
    case INSN_SUBW:
    case INSN_MULW:
    case INSN_SLLIW:
    case INSN_SRLIW:
    case INSN_SRAIW:
    case INSN_SLLW:
    case INSN_SRLW:
    case INSN_SRAW:
    case INSN_DIVW:
    case INSN_DIVUW:
    case INSN_REMW:
    case INSN_REMUW:
        return word_width(t, in);
    default:
        return ALL;
    }
}

void width_begin(struct tr *t)
{
    memset(t->width, ALL, sizeof t->width);
    t->width[0] = 1;
}

void width_update(struct tr *t, const struct tr_insn *ti)
{
    const struct insn *in = &ti->in;
    unsigned rd = insn_target(in), w = ALL;

    if (!rd)
        return;
    switch (isa_table[in->op].cls) {
    case ISA_CLASS_LOAD:
        w = load_width(in->op);
        break;
    case ISA_CLASS_ALU:
    case ISA_CLASS_MUL:
    case ISA_CLASS_DIV:
        w = least(alu_width(t, in), ALL);
        break;
    default:
        break;
    }
    t->width[rd] = (uint8_t)(ti->conditional ? most(w, t->width[rd]) : w);
}
