/*
 * The instructions under test in terms of the softfloat: register boxing, sign changes and extension of
 * results.
 */
#include "tests/fp/model.h"

#include <stdlib.h>

#include "cpu-core/fp/fp.h"

static uint64_t extend(uint32_t value)
{
    return (uint64_t)(int32_t)value;
}

static uint32_t negate32(uint32_t a)
{
    return a ^ UINT32_C(0x80000000);
}

static uint16_t negate16(uint16_t a)
{
    return a ^ 0x8000u;
}

static uint64_t negate64(uint64_t a)
{
    return a ^ UINT64_C(0x8000000000000000);
}

static uint64_t run_single(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags)
{
    uint32_t a = fp_unbox32(x[0]);
    uint32_t b = fp_unbox32(x[1]);
    uint32_t c = fp_unbox32(x[2]);

    switch (op) {
    case FADD_S:
        return fp_box32(fp_f32_add(a, b, rm, fflags));
    case FSUB_S:
        return fp_box32(fp_f32_sub(a, b, rm, fflags));
    case FMUL_S:
        return fp_box32(fp_f32_mul(a, b, rm, fflags));
    case FDIV_S:
        return fp_box32(fp_f32_div(a, b, rm, fflags));
    case FSQRT_S:
        return fp_box32(fp_f32_sqrt(a, rm, fflags));
    case FMADD_S:
        return fp_box32(fp_f32_fma(a, b, c, rm, fflags));
    case FMSUB_S:
        return fp_box32(fp_f32_fma(a, b, negate32(c), rm, fflags));
    case FNMSUB_S:
        return fp_box32(fp_f32_fma(negate32(a), b, c, rm, fflags));
    case FNMADD_S:
        return fp_box32(fp_f32_fma(negate32(a), b, negate32(c), rm, fflags));
    case FMIN_S:
        return fp_box32(fp_f32_min(a, b, fflags));
    case FMAX_S:
        return fp_box32(fp_f32_max(a, b, fflags));
    case FMINM_S:
        return fp_box32(fp_f32_minm(a, b, fflags));
    case FMAXM_S:
        return fp_box32(fp_f32_maxm(a, b, fflags));
    case FEQ_S:
        return fp_f32_eq(a, b, fflags);
    case FLT_S:
        return fp_f32_lt(a, b, fflags);
    case FLE_S:
        return fp_f32_le(a, b, fflags);
    case FLTQ_S:
        return fp_f32_ltq(a, b, fflags);
    case FLEQ_S:
        return fp_f32_leq(a, b, fflags);
    case FCLASS_S:
        return fp_f32_class(a);
    case FCVT_W_S:
        return (uint64_t)fp_f32_to_i32(a, rm, fflags);
    case FCVT_WU_S:
        return extend(fp_f32_to_u32(a, rm, fflags));
    case FCVT_L_S:
        return (uint64_t)fp_f32_to_i64(a, rm, fflags);
    case FCVT_LU_S:
        return fp_f32_to_u64(a, rm, fflags);
    case FROUND_S:
        return fp_box32(fp_f32_round(a, rm, fflags));
    case FROUNDNX_S:
        return fp_box32(fp_f32_roundnx(a, rm, fflags));
    case FCVT_D_S:
        return fp_f32_to_f64(a, fflags);
    case FCVT_H_S:
        return fp_box16(fp_f32_to_f16(a, rm, fflags));
    default:
        abort();
    }
}

static uint64_t run_double(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags)
{
    uint64_t a = x[0];
    uint64_t b = x[1];
    uint64_t c = x[2];

    switch (op) {
    case FADD_D:
        return fp_f64_add(a, b, rm, fflags);
    case FSUB_D:
        return fp_f64_sub(a, b, rm, fflags);
    case FMUL_D:
        return fp_f64_mul(a, b, rm, fflags);
    case FDIV_D:
        return fp_f64_div(a, b, rm, fflags);
    case FSQRT_D:
        return fp_f64_sqrt(a, rm, fflags);
    case FMADD_D:
        return fp_f64_fma(a, b, c, rm, fflags);
    case FMSUB_D:
        return fp_f64_fma(a, b, negate64(c), rm, fflags);
    case FNMSUB_D:
        return fp_f64_fma(negate64(a), b, c, rm, fflags);
    case FNMADD_D:
        return fp_f64_fma(negate64(a), b, negate64(c), rm, fflags);
    case FMIN_D:
        return fp_f64_min(a, b, fflags);
    case FMAX_D:
        return fp_f64_max(a, b, fflags);
    case FMINM_D:
        return fp_f64_minm(a, b, fflags);
    case FMAXM_D:
        return fp_f64_maxm(a, b, fflags);
    case FEQ_D:
        return fp_f64_eq(a, b, fflags);
    case FLT_D:
        return fp_f64_lt(a, b, fflags);
    case FLE_D:
        return fp_f64_le(a, b, fflags);
    case FLTQ_D:
        return fp_f64_ltq(a, b, fflags);
    case FLEQ_D:
        return fp_f64_leq(a, b, fflags);
    case FCLASS_D:
        return fp_f64_class(a);
    case FCVT_W_D:
        return (uint64_t)fp_f64_to_i32(a, rm, fflags);
    case FCVT_WU_D:
        return extend(fp_f64_to_u32(a, rm, fflags));
    case FCVT_L_D:
        return (uint64_t)fp_f64_to_i64(a, rm, fflags);
    case FCVT_LU_D:
        return fp_f64_to_u64(a, rm, fflags);
    case FCVTMOD_W_D:
        return (uint64_t)fp_f64_to_i32_mod(a, fflags);
    case FROUND_D:
        return fp_f64_round(a, rm, fflags);
    case FROUNDNX_D:
        return fp_f64_roundnx(a, rm, fflags);
    case FCVT_S_D:
        return fp_box32(fp_f64_to_f32(a, rm, fflags));
    case FCVT_H_D:
        return fp_box16(fp_f64_to_f16(a, rm, fflags));
    default:
        abort();
    }
}

static uint64_t run_half(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags)
{
    uint16_t a = fp_unbox16(x[0]);
    uint16_t b = fp_unbox16(x[1]);
    uint16_t c = fp_unbox16(x[2]);

    switch (op) {
    case FADD_H:
        return fp_box16(fp_f16_add(a, b, rm, fflags));
    case FSUB_H:
        return fp_box16(fp_f16_sub(a, b, rm, fflags));
    case FMUL_H:
        return fp_box16(fp_f16_mul(a, b, rm, fflags));
    case FDIV_H:
        return fp_box16(fp_f16_div(a, b, rm, fflags));
    case FSQRT_H:
        return fp_box16(fp_f16_sqrt(a, rm, fflags));
    case FMADD_H:
        return fp_box16(fp_f16_fma(a, b, c, rm, fflags));
    case FMSUB_H:
        return fp_box16(fp_f16_fma(a, b, negate16(c), rm, fflags));
    case FNMSUB_H:
        return fp_box16(fp_f16_fma(negate16(a), b, c, rm, fflags));
    case FNMADD_H:
        return fp_box16(fp_f16_fma(negate16(a), b, negate16(c), rm, fflags));
    case FMIN_H:
        return fp_box16(fp_f16_min(a, b, fflags));
    case FMAX_H:
        return fp_box16(fp_f16_max(a, b, fflags));
    case FMINM_H:
        return fp_box16(fp_f16_minm(a, b, fflags));
    case FMAXM_H:
        return fp_box16(fp_f16_maxm(a, b, fflags));
    case FEQ_H:
        return fp_f16_eq(a, b, fflags);
    case FLT_H:
        return fp_f16_lt(a, b, fflags);
    case FLE_H:
        return fp_f16_le(a, b, fflags);
    case FLTQ_H:
        return fp_f16_ltq(a, b, fflags);
    case FLEQ_H:
        return fp_f16_leq(a, b, fflags);
    case FCLASS_H:
        return fp_f16_class(a);
    case FCVT_W_H:
        return (uint64_t)fp_f16_to_i32(a, rm, fflags);
    case FCVT_WU_H:
        return extend(fp_f16_to_u32(a, rm, fflags));
    case FCVT_L_H:
        return (uint64_t)fp_f16_to_i64(a, rm, fflags);
    case FCVT_LU_H:
        return fp_f16_to_u64(a, rm, fflags);
    case FROUND_H:
        return fp_box16(fp_f16_round(a, rm, fflags));
    case FROUNDNX_H:
        return fp_box16(fp_f16_roundnx(a, rm, fflags));
    case FCVT_D_H:
        return fp_f16_to_f64(a, fflags);
    case FCVT_S_H:
        return fp_box32(fp_f16_to_f32(a, fflags));
    default:
        abort();
    }
}

static uint64_t run_integer(enum op op, uint64_t a, unsigned rm, uint32_t *fflags)
{
    switch (op) {
    case FCVT_S_W:
        return fp_box32(fp_f32_from_i32((int32_t)a, rm, fflags));
    case FCVT_S_WU:
        return fp_box32(fp_f32_from_u32((uint32_t)a, rm, fflags));
    case FCVT_S_L:
        return fp_box32(fp_f32_from_i64((int64_t)a, rm, fflags));
    case FCVT_S_LU:
        return fp_box32(fp_f32_from_u64(a, rm, fflags));
    case FCVT_H_W:
        return fp_box16(fp_f16_from_i32((int32_t)a, rm, fflags));
    case FCVT_H_WU:
        return fp_box16(fp_f16_from_u32((uint32_t)a, rm, fflags));
    case FCVT_H_L:
        return fp_box16(fp_f16_from_i64((int64_t)a, rm, fflags));
    case FCVT_H_LU:
        return fp_box16(fp_f16_from_u64(a, rm, fflags));
    case FCVT_D_W:
        return fp_f64_from_i32((int32_t)a);
    case FCVT_D_WU:
        return fp_f64_from_u32((uint32_t)a);
    case FCVT_D_L:
        return fp_f64_from_i64((int64_t)a, rm, fflags);
    case FCVT_D_LU:
        return fp_f64_from_u64(a, rm, fflags);
    default:
        abort();
    }
}

uint64_t model_run(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags)
{
    switch (op_table[op].operand) {
    case OPERAND_F16:
        return run_half(op, x, rm, fflags);
    case OPERAND_F32:
        return run_single(op, x, rm, fflags);
    case OPERAND_F64:
        return run_double(op, x, rm, fflags);
    case OPERAND_INT:
        return run_integer(op, x[0], rm, fflags);
    }
    abort();
}
