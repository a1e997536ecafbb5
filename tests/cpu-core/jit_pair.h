/* Two machines side by side, one run by the translator and one by an interpreter that caches nothing, and the
 * encodings that tests make programs of. For cmocka programs. */
#pragma once

#include "tests/insn/bare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct pair {
    struct bare jit, interp;
    uint64_t random;
};

/* A pseudo-random number below `n`. */
uint32_t pair_below(struct pair *p, uint32_t n);

/* Two machines at the start of the same random program; `heat` as of jit_set_heat(). */
struct pair *pair_begin(uint64_t seed, bool fences, unsigned heat);
void pair_end(struct pair *p);

/* Opens memory to all modes, by the first PMP entry. */
void pair_open_memory(struct pair *p);

/* Runs both for `slice` steps; fails if their visible states differ then. */
void pair_run(struct pair *p, uint64_t slice, bool with_ram);

static inline uint32_t type_r(uint32_t funct7, unsigned rs2, unsigned rs1, uint32_t funct3, unsigned rd,
                              uint32_t opcode)
{
    return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static inline uint32_t type_i(int32_t imm, unsigned rs1, uint32_t funct3, unsigned rd, uint32_t opcode)
{
    return (uint32_t)imm << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static inline uint32_t type_s(int32_t imm, unsigned rs2, unsigned rs1, uint32_t funct3)
{
    return type_r((uint32_t)imm >> 5 & 0x7f, rs2, rs1, funct3, (uint32_t)imm & 31, 0x23);
}

static inline uint32_t type_b(int32_t imm, unsigned rs2, unsigned rs1, uint32_t funct3)
{
    uint32_t u = (uint32_t)imm;
    return type_r((u >> 12 & 1) << 6 | (u >> 5 & 0x3f), rs2, rs1, funct3, (u >> 1 & 15) << 1 | (u >> 11 & 1),
                  0x63);
}

static inline uint32_t csr(unsigned number, unsigned rs1, unsigned funct3, unsigned rd)
{
    return type_i((int32_t)number, rs1, funct3, rd, 0x73);
}
