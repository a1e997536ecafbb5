/*
 * The floating-point instructions under test: how each is encoded and what it takes and gives. Shared by the
 * guest program and the host, so it uses nothing beyond freestanding headers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum op {
    FADD_S,
    FSUB_S,
    FMUL_S,
    FDIV_S,
    FSQRT_S,
    FMADD_S,
    FMSUB_S,
    FNMSUB_S,
    FNMADD_S,
    FMIN_S,
    FMAX_S,
    FMINM_S,
    FMAXM_S,
    FEQ_S,
    FLT_S,
    FLE_S,
    FLTQ_S,
    FLEQ_S,
    FCLASS_S,
    FCVT_W_S,
    FCVT_WU_S,
    FCVT_L_S,
    FCVT_LU_S,
    FCVT_S_W,
    FCVT_S_WU,
    FCVT_S_L,
    FCVT_S_LU,
    FROUND_S,
    FROUNDNX_S,
    FADD_D,
    FSUB_D,
    FMUL_D,
    FDIV_D,
    FSQRT_D,
    FMADD_D,
    FMSUB_D,
    FNMSUB_D,
    FNMADD_D,
    FMIN_D,
    FMAX_D,
    FMINM_D,
    FMAXM_D,
    FEQ_D,
    FLT_D,
    FLE_D,
    FLTQ_D,
    FLEQ_D,
    FCLASS_D,
    FCVT_W_D,
    FCVT_WU_D,
    FCVT_L_D,
    FCVT_LU_D,
    FCVTMOD_W_D,
    FCVT_D_W,
    FCVT_D_WU,
    FCVT_D_L,
    FCVT_D_LU,
    FROUND_D,
    FROUNDNX_D,
    FCVT_S_D,
    FCVT_D_S,
    FCVT_S_H,
    FCVT_H_S,
    FCVT_D_H,
    FCVT_H_D,
    FADD_H,
    FSUB_H,
    FMUL_H,
    FDIV_H,
    FSQRT_H,
    FMADD_H,
    FMSUB_H,
    FNMSUB_H,
    FNMADD_H,
    FMIN_H,
    FMAX_H,
    FMINM_H,
    FMAXM_H,
    FEQ_H,
    FLT_H,
    FLE_H,
    FLTQ_H,
    FLEQ_H,
    FCLASS_H,
    FCVT_W_H,
    FCVT_WU_H,
    FCVT_L_H,
    FCVT_LU_H,
    FCVT_H_W,
    FCVT_H_WU,
    FCVT_H_L,
    FCVT_H_LU,
    FROUND_H,
    FROUNDNX_H,
    OP_COUNT,
};

/* Rounding modes 0..4: frm's valid values. */
#define RM_COUNT 5

enum operand {
    OPERAND_F16,
    OPERAND_F32,
    OPERAND_F64,
    OPERAND_INT,
};

struct op_info {
    const char *name;
    uint32_t insn; /* the word; sources x10/f10, f11, f12, destination x10 or f10, dynamic rounding mode */
    enum operand operand; /* of all sources; OPERAND_INT: x10 */
    enum operand result;  /* OPERAND_INT: the destination is x10 */
    bool rounds;          /* the result depends on frm */
};

extern const struct op_info op_table[OP_COUNT];

/* The number of rounding modes, from 0 up, that make a difference. */
static inline unsigned op_modes(const struct op_info *op)
{
    return op->rounds ? RM_COUNT : 1;
}
