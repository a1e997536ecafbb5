/* An assembler for x86-64: appends encoded instructions at a cursor. Knows nothing of guests, blocks or the
 * code memory's bounds: the caller leaves room. */
#pragma once

#include "cpu-core/jit/target_x64.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Code is written at `at` and will run at `at` + `run`. */
struct emitter {
    uint8_t *at;
    intptr_t run;
};

/* A register or memory operand. */
struct rm {
    enum { RM_REG, RM_BASE, RM_SIB, RM_RIP } kind;
    uint8_t base, index, scale; /* scale: log2 */
    int32_t disp;
    uintptr_t address; /* RM_RIP: within 2 GiB of the code */
};

static inline struct rm rm_reg(unsigned r)
{
    return (struct rm){.kind = RM_REG, .base = (uint8_t)r};
}
static inline struct rm rm_mem(unsigned base, int32_t disp)
{
    return (struct rm){.kind = RM_BASE, .base = (uint8_t)base, .disp = disp};
}
static inline struct rm rm_sib(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct rm){.kind = RM_SIB,
                       .base = (uint8_t)base,
                       .index = (uint8_t)index,
                       .scale = (uint8_t)scale,
                       .disp = disp};
}
static inline struct rm rm_at(const void *address)
{
    return (struct rm){.kind = RM_RIP, .address = (uintptr_t)address};
}

/* Opcodes: byte, map (1: 0F, 2: 0F 38, 3: 0F 3A), mandatory prefix (1: 66, 2: F3, 3: F2), operand sizes. */
#define OPC(map, pp, byte) ((byte) | (map) << 8 | (pp) << 12)
#define OPC_BYTE_REG       0x10000 /* the register operand is a byte: 4..7 need a REX prefix */
#define OPC_BYTE_RM        0x20000 /* the r/m operand is a byte */
#define OPC_W              0x40000 /* 64-bit operands */

#define X_MOV_LOAD    OPC(0, 0, 0x8b)
#define X_MOV_STORE   OPC(0, 0, 0x89)
#define X_MOV_STORE8  (OPC(0, 0, 0x88) | OPC_BYTE_REG)
#define X_MOV_STORE16 OPC(0, 1, 0x89)
#define X_LEA         OPC(0, 0, 0x8d)
#define X_MOVSXD      (OPC(0, 0, 0x63) | OPC_W)
#define X_MOVSX8      (OPC(1, 0, 0xbe) | OPC_W | OPC_BYTE_RM)
#define X_MOVSX16     (OPC(1, 0, 0xbf) | OPC_W)
#define X_MOVZX8      (OPC(1, 0, 0xb6) | OPC_BYTE_RM)
#define X_MOVZX16     OPC(1, 0, 0xb7)
#define X_TEST        OPC(0, 0, 0x85)
#define X_IMUL        OPC(1, 0, 0xaf)
#define X_ALU(op)     OPC(0, 0, 0x03u + 8u * (op)) /* op r, r/m */
#define X_LZCNT       OPC(1, 2, 0xbd)
#define X_TZCNT       OPC(1, 2, 0xbc)
#define X_POPCNT      OPC(1, 2, 0xb8)
#define X_BT          OPC(1, 0, 0xa3)
#define X_BTS         OPC(1, 0, 0xab)
#define X_BTR         OPC(1, 0, 0xb3)
#define X_BTC         OPC(1, 0, 0xbb)
#define X_CMOV(cc)    OPC(1, 0, 0x40 + (cc))

/* VEX-encoded general purpose operations. */
#define V_ANDN OPC(2, 0, 0xf2)
#define V_SHLX OPC(2, 1, 0xf7)
#define V_SARX OPC(2, 2, 0xf7)
#define V_SHRX OPC(2, 3, 0xf7)
#define V_RORX OPC(3, 3, 0xf0)

/* Scalar floating point: `d` selects double precision. */
#define F_PP(d)       ((d) ? 3u : 2u)
#define F_ARITH(d, b) OPC(1, F_PP(d), b)
#define F_ADD         0x58
#define F_MUL         0x59
#define F_SUB         0x5c
#define F_MIN         0x5d
#define F_DIV         0x5e
#define F_MAX         0x5f
#define F_SQRT        0x51
#define F_LOAD(d)     OPC(1, F_PP(d), 0x10)
#define F_STORE(d)    OPC(1, F_PP(d), 0x11)
#define F_UCOMI(d)    OPC(1, (d) ? 1u : 0u, 0x2e)
#define F_COMI(d)     OPC(1, (d) ? 1u : 0u, 0x2f)
#define F_FROM_INT(d) OPC(1, F_PP(d), 0x2a)
#define F_TO_INT(d)   OPC(1, F_PP(d), 0x2d)
#define F_TRUNC(d)    OPC(1, F_PP(d), 0x2c)
#define F_CONVERT(d)  OPC(1, F_PP(d), 0x5a) /* from precision `d` to the other */
#define F_ROUND(d)    OPC(3, 1, (d) ? 0x0b : 0x0a)
#define F_FMA(d, b)   (OPC(2, 1, b) | ((d) ? OPC_W : 0))
#define F_MOVE        OPC(1, 1, 0x28)
#define F_AND         OPC(1, 1, 0x54)
#define F_ANDN        OPC(1, 1, 0x55)
#define F_OR          OPC(1, 1, 0x56)
#define F_XOR         OPC(1, 1, 0x57)
#define F_ONES        OPC(1, 1, 0x76) /* of a register with itself */
#define F_FROM_GPR    (OPC(1, 1, 0x6e) | OPC_W)
#define F_TO_GPR      (OPC(1, 1, 0x7e) | OPC_W)
#define F_FROM_GPR32  OPC(1, 1, 0x6e)
#define F_TO_GPR32    OPC(1, 1, 0x7e)
#define F_EXTRACT32   OPC(3, 1, 0x16)
#define F_EXTRACT64   (OPC(3, 1, 0x16) | OPC_W)
#define F_CARRYLESS   OPC(3, 1, 0x44)

enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum shift_op { SHIFT_ROL, SHIFT_ROR, SHIFT_SHL = 4, SHIFT_SHR, SHIFT_SAR = 7 };

/* One instruction with register operand (or opcode extension) `reg`; `imm_len` bytes of immediate follow. */
void emit_op_imm(struct emitter *e, unsigned opc, unsigned reg, struct rm rm, unsigned imm_len, int64_t imm);
static inline void emit_op(struct emitter *e, unsigned opc, unsigned reg, struct rm rm)
{
    emit_op_imm(e, opc, reg, rm, 0, 0);
}

/* VEX-encoded, 128-bit or scalar; `v` is the second source (0 where there is none). */
void emit_vex_imm(struct emitter *e, unsigned opc, unsigned reg, unsigned v, struct rm rm, unsigned imm_len,
                  int64_t imm);
static inline void emit_vex(struct emitter *e, unsigned opc, unsigned reg, unsigned v, struct rm rm)
{
    emit_vex_imm(e, opc, reg, v, rm, 0, 0);
}

/* 64-bit forms unless the name says 32. */
void emit_load(struct emitter *e, unsigned reg, struct rm rm);   /* nothing if it is the same register */
void emit_load32(struct emitter *e, unsigned reg, struct rm rm); /* zero-extends */
void emit_store(struct emitter *e, struct rm rm, unsigned reg);
void emit_const(struct emitter *e, unsigned reg, int64_t value); /* leaves the flags alone */
void emit_store_const(struct emitter *e, struct rm rm, int32_t value);
void emit_lea(struct emitter *e, unsigned reg, struct rm rm);
void emit_alu(struct emitter *e, enum alu_op op, unsigned reg, struct rm rm);
void emit_alu32(struct emitter *e, enum alu_op op, unsigned reg, struct rm rm);
void emit_alu_store(struct emitter *e, enum alu_op op, struct rm rm, unsigned reg);
void emit_alu_const(struct emitter *e, enum alu_op op, struct rm rm, int32_t value);
void emit_alu_const32(struct emitter *e, enum alu_op op, struct rm rm, int32_t value);
void emit_test32(struct emitter *e, struct rm rm, uint64_t bits); /* sets the flags for rm & bits */
void emit_shift(struct emitter *e, enum shift_op op, struct rm rm, unsigned count);
void emit_shift32(struct emitter *e, enum shift_op op, struct rm rm, unsigned count);
void emit_shift_cl(struct emitter *e, unsigned w, enum shift_op op, struct rm rm);
void emit_setcc(struct emitter *e, enum x64_cond cc, unsigned reg); /* the low byte */
void emit_push(struct emitter *e, unsigned reg);
void emit_pop(struct emitter *e, unsigned reg);
void emit_ret(struct emitter *e);

/* Jumps. Those that return a position are bound later. */
uint8_t *emit_jcc(struct emitter *e, enum x64_cond cc);
uint8_t *emit_jmp(struct emitter *e);
uint8_t *emit_jcc8(struct emitter *e, enum x64_cond cc); /* at most 127 bytes */
uint8_t *emit_jmp8(struct emitter *e);
void emit_bind(uint8_t *jump, const uint8_t *target); /* both in the writable view */
void emit_bind8(uint8_t *jump, const uint8_t *target);
void emit_jmp_to(struct emitter *e, const uint8_t *target); /* in the writable view */
void emit_jmp_run(struct emitter *e, const void *target);   /* by the address it runs at */
void emit_call_run(struct emitter *e, const void *target);
void emit_jmp_mem(struct emitter *e, struct rm rm);
