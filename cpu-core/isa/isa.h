/* The instruction set as data: decoder, names and properties of every instruction, made from rv64.insn. Knows
 * nothing of harts or memory. */
#pragma once

#include "cpu-core/isa/isa_gen.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A decoded instruction. Members that the instruction does not have are 0. */
struct insn {
    uint32_t bits; /* as fetched; 16 bits for a compressed instruction: what mtval holds when it is illegal */
    uint16_t op;   /* enum isa_op below ISA_BASE_COUNT: what to execute */
    uint16_t line; /* enum isa_op: the table's line; differs from op for compressed instructions */
    uint8_t len;   /* bytes: 2 or 4 */
    uint8_t rd, rs1, rs2, rs3;
    uint8_t rm;  /* 0..4 or 7 */
    int32_t imm; /* immediate, shift amount or CSR number; lui, auipc: the upper 20 bits, signed */
};

/* Decodes the instruction in the low 16 or 32 bits of `bits` (which of them, bits 1:0 say). Returns 0, or
 * -EINVAL for an illegal or reserved encoding, `out` untouched. What depends on state (FS, frm, privilege,
 * CSR numbers) is not checked. */
int isa_decode(uint32_t bits, struct insn *out);

/* Bytes of the instruction whose low 16 bits are given. */
static inline unsigned isa_length(uint32_t bits)
{
    return (bits & 3) == 3 ? 4 : 2;
}

/* Where the bits of an operand are: parts from the most significant, then value = (raw << shift) + plus. */
struct isa_field {
    const char *name;
    uint8_t target; /* enum isa_target */
    char kind;      /* 'x' integer register, 'f' floating-point register, 'n' number */
    uint8_t is_signed, width, shift, plus, nparts;
    struct {
        uint8_t low, width;
    } parts[8];
};

enum isa_target {
    ISA_TARGET_NONE,
    ISA_TARGET_RD,
    ISA_TARGET_RS1,
    ISA_TARGET_RS2,
    ISA_TARGET_RS3,
    ISA_TARGET_RM,
    ISA_TARGET_IMM,
};

/* An operand of a line: a field, or (ISA_FIELD_CONST) a constant of a compressed form. */
struct isa_operand {
    uint8_t target; /* enum isa_target */
    uint8_t field;  /* enum isa_field_id */
    int16_t constant;
};

/* A line of the table. */
struct isa_info {
    const char *name;
    uint32_t mask, match;
    uint8_t len, size; /* bytes of the encoding; bytes accessed in memory */
    uint8_t cls;       /* enum isa_class */
    uint8_t ext;       /* enum isa_ext */
    uint8_t priv;      /* lowest privilege, enum priv */
    uint8_t weight;    /* relative frequency in random test programs */
    uint8_t nonzero;   /* field that must not be 0, ISA_FIELD_CONST for none */
    uint8_t noperands;
    uint16_t flags; /* ISA_FS, ISA_TRAP, ISA_END, ISA_IRQ, ISA_SEXT, ISA_FF, ISA_RM */
    uint16_t base;  /* enum isa_op: what it expands to, itself unless compressed */
    struct isa_operand operands[5];
};

extern const struct isa_info isa_table[ISA_COUNT];
extern const struct isa_field isa_fields[ISA_FIELD_COUNT];
extern const char *const isa_ext_names[ISA_EXT_COUNT];
extern const char *const isa_class_names[ISA_CLASS_COUNT];

static inline const char *isa_name(unsigned op)
{
    return isa_table[op].name;
}

/* `bits` with `value` placed in a field. The value's low bits that the field's shift drops must be 0. */
uint32_t isa_place(uint32_t bits, enum isa_field_id field, int32_t value);

/* Writes the instruction as text for logs ("c.addi a0,a0,-1"); branch and jump targets are absolute, from
 * `pc`. Always terminated; returns the length written, cut to `size` - 1. An undecodable one is ".word
 * 0x...". */
size_t isa_format(uint32_t bits, uint64_t pc, char *text, size_t size);
