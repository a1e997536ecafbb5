/* What tools need of the instruction table beyond decoding: placing operands and formatting. */
#include "cpu-core/isa/isa.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const x_names[32] = {"zero", "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "s0", "s1", "a0",
                                        "a1",   "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5",
                                        "s6",   "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"};
static const char *const f_names[32] = {"ft0", "ft1", "ft2",  "ft3",  "ft4", "ft5", "ft6",  "ft7",
                                        "fs0", "fs1", "fa0",  "fa1",  "fa2", "fa3", "fa4",  "fa5",
                                        "fa6", "fa7", "fs2",  "fs3",  "fs4", "fs5", "fs6",  "fs7",
                                        "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11"};
static const char *const rm_names[8] = {"rne", "rtz", "rdn", "rup", "rmm", "?", "?", "dyn"};

uint32_t isa_place(uint32_t bits, enum isa_field_id field, int32_t value)
{
    const struct isa_field *f = &isa_fields[field];
    uint32_t raw = (uint32_t)(value - f->plus) >> f->shift;
    unsigned left = f->width;

    for (unsigned i = 0; i < f->nparts; i++) {
        uint32_t mask = (1u << f->parts[i].width) - 1;
        left -= f->parts[i].width;
        bits &= ~(mask << f->parts[i].low);
        bits |= (raw >> left & mask) << f->parts[i].low;
    }
    return bits;
}

static int64_t operand_value(const struct insn *in, unsigned target)
{
    switch (target) {
    case ISA_TARGET_RD:
        return in->rd;
    case ISA_TARGET_RS1:
        return in->rs1;
    case ISA_TARGET_RS2:
        return in->rs2;
    case ISA_TARGET_RS3:
        return in->rs3;
    case ISA_TARGET_RM:
        return in->rm;
    default:
        return in->imm;
    }
}

/* Register file of an operand; a constant operand of a compressed form is what the base's operand is. */
static char operand_kind(const struct insn *in, unsigned i)
{
    return isa_fields[isa_table[in->op].operands[i].field].kind;
}

static int format_operand(const struct insn *in, unsigned i, uint64_t pc, char *text, size_t size)
{
    const struct isa_info *info = &isa_table[in->line];
    unsigned target = info->operands[i].target;
    int64_t value = operand_value(in, target);
    char kind = operand_kind(in, i);

    if (kind == 'x')
        return snprintf(text, size, "%s", x_names[value & 31]);
    if (kind == 'f')
        return snprintf(text, size, "%s", f_names[value & 31]);
    if (target == ISA_TARGET_RM)
        return snprintf(text, size, "%s", rm_names[value & 7]);
    if (info->cls == ISA_CLASS_BRANCH || in->op == INSN_JAL)
        return snprintf(text, size, "0x%" PRIx64, pc + (uint64_t)value);
    if (info->cls == ISA_CLASS_CSR && target == ISA_TARGET_IMM)
        return snprintf(text, size, "0x%x", (unsigned)value & 0xfff);
    return snprintf(text, size, "%" PRId64, value);
}

size_t isa_format(uint32_t bits, uint64_t pc, char *text, size_t size)
{
    struct insn in;
    size_t at;

    if (size == 0)
        return 0;
    if (isa_decode(bits, &in) != 0) {
        int n = isa_length(bits) == 2 ? snprintf(text, size, ".half 0x%04x", bits & 0xffff)
                                      : snprintf(text, size, ".word 0x%08x", bits);
        return (size_t)n < size ? (size_t)n : size - 1;
    }
    at = (size_t)snprintf(text, size, "%s", isa_name(in.line));
    for (unsigned i = 0; i < isa_table[in.line].noperands && at < size - 1; i++) {
        at += (size_t)snprintf(text + at, size - at, "%c", i == 0 ? ' ' : ',');
        if (at < size)
            at += (size_t)format_operand(&in, i, pc, text + at, size - at);
    }
    return at < size ? at : size - 1;
}
