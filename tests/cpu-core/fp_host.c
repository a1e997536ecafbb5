/*
 * The host's floating point as an oracle: C operators and <math.h> under <fenv.h>. Operands are volatile
 * because compilers move and fold floating point across fenv calls.
 */
#include "tests/cpu-core/fp_host.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

#include "cpu-core/fp/fp.h"

static float float_of(uint64_t reg)
{
    uint32_t bits = (uint32_t)reg;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double double_of(uint64_t reg)
{
    double value;
    memcpy(&value, &reg, sizeof value);
    return value;
}

static uint64_t reg_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return fp_box32(isnan(value) ? FP_F32_NAN : bits);
}

static uint64_t reg_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return isnan(value) ? FP_F64_NAN : bits;
}

static uint32_t host_flags(void)
{
    int raised = fetestexcept(FE_ALL_EXCEPT);
    return (raised & FE_INEXACT ? FP_NX : 0) | (raised & FE_UNDERFLOW ? FP_UF : 0) |
           (raised & FE_OVERFLOW ? FP_OF : 0) | (raised & FE_DIVBYZERO ? FP_DZ : 0) |
           (raised & FE_INVALID ? FP_NV : 0);
}

static bool run_float(enum op op, const uint64_t x[3], uint64_t *result)
{
    volatile float a = float_of(x[0]), b = float_of(x[1]), c = float_of(x[2]), r;

    switch (op) {
    case FADD_S:
        r = a + b;
        break;
    case FSUB_S:
        r = a - b;
        break;
    case FMUL_S:
        r = a * b;
        break;
    case FDIV_S:
        r = a / b;
        break;
    case FSQRT_S:
        r = sqrtf(a);
        break;
    case FMADD_S:
        r = fmaf(a, b, c);
        break;
    case FMSUB_S:
        r = fmaf(a, b, -c);
        break;
    case FNMSUB_S:
        r = fmaf(-a, b, c);
        break;
    case FNMADD_S:
        r = fmaf(-a, b, -c);
        break;
    case FROUND_S:
        r = nearbyintf(a);
        break;
    case FROUNDNX_S:
        r = rintf(a);
        break;
    default:
        return false;
    }
    *result = reg_of_float(r);
    return true;
}

static bool run_double(enum op op, const uint64_t x[3], uint64_t *result)
{
    volatile double a = double_of(x[0]), b = double_of(x[1]), c = double_of(x[2]), r;

    switch (op) {
    case FADD_D:
        r = a + b;
        break;
    case FSUB_D:
        r = a - b;
        break;
    case FMUL_D:
        r = a * b;
        break;
    case FDIV_D:
        r = a / b;
        break;
    case FSQRT_D:
        r = sqrt(a);
        break;
    case FMADD_D:
        r = fma(a, b, c);
        break;
    case FMSUB_D:
        r = fma(a, b, -c);
        break;
    case FNMSUB_D:
        r = fma(-a, b, c);
        break;
    case FNMADD_D:
        r = fma(-a, b, -c);
        break;
    case FROUND_D:
        r = nearbyint(a);
        break;
    case FROUNDNX_D:
        r = rint(a);
        break;
    default:
        return false;
    }
    *result = reg_of_double(r);
    return true;
}

static bool run_comparison(enum op op, const uint64_t x[3], uint64_t *result)
{
    /* Widening a signalling NaN in a register that is no operand would raise invalid. */
    if (!(op >= FEQ_S && op <= FLEQ_S) && !(op >= FEQ_D && op <= FLEQ_D))
        return false;
    bool single = op_table[op].operand == OPERAND_F32;
    volatile double a = single ? (double)float_of(x[0]) : double_of(x[0]);
    volatile double b = single ? (double)float_of(x[1]) : double_of(x[1]);

    switch (op) {
    case FEQ_S:
    case FEQ_D:
        *result = a == b;
        return true;
    case FLT_S:
    case FLT_D:
        *result = a < b;
        return true;
    case FLE_S:
    case FLE_D:
        *result = a <= b;
        return true;
    case FLTQ_S:
    case FLTQ_D:
        *result = isless(a, b);
        return true;
    case FLEQ_S:
    case FLEQ_D:
        *result = islessequal(a, b);
        return true;
    default:
        return false;
    }
}

/* Values that do not fit have no defined result in C: false for those near or beyond a limit. */
static bool run_to_integer(enum op op, const uint64_t x[3], uint64_t *result)
{
    bool single = op_table[op].operand == OPERAND_F32;
    volatile double a = single ? (double)float_of(x[0]) : double_of(x[0]);

    switch (op) {
    case FCVT_W_S:
    case FCVT_W_D:
        if (!(fabs(a) < 0x7fffffff))
            return false;
        *result = (uint64_t)llrint(a);
        return true;
    case FCVT_WU_S:
    case FCVT_WU_D:
        if (!(a >= 0 && a < 0xffffffff))
            return false;
        *result = (uint64_t)(int32_t)(uint32_t)llrint(a);
        return true;
    case FCVT_L_S:
    case FCVT_L_D:
        if (!(fabs(a) < 0x1p63))
            return false;
        *result = (uint64_t)llrint(a);
        return true;
    case FCVT_LU_S:
    case FCVT_LU_D:
        if (!(a >= 0 && a < 0x1p64))
            return false;
        *result = a < 0x1p63 ? (uint64_t)llrint(a) : (uint64_t)llrint(a - 0x1p63) ^ UINT64_C(1) << 63;
        return true;
    default:
        return false;
    }
}

static bool run_from_integer(enum op op, uint64_t x, uint64_t *result)
{
    volatile int32_t word = (int32_t)x;
    volatile uint32_t unsigned_word = (uint32_t)x;
    volatile int64_t doubleword = (int64_t)x;
    /* Halved with a sticky bit, since compilers' own sequences for 64-bit unsigned integers do not round
     * right. */
    volatile int64_t half = (int64_t)(x >> 1 | (x & 1));
    bool huge = x >> 63;

    switch (op) {
    case FCVT_S_W:
        *result = reg_of_float((float)word);
        return true;
    case FCVT_S_WU:
        *result = reg_of_float((float)(int64_t)unsigned_word);
        return true;
    case FCVT_S_L:
        *result = reg_of_float((float)doubleword);
        return true;
    case FCVT_S_LU:
        *result = reg_of_float(huge ? 2 * (float)half : (float)doubleword);
        return true;
    case FCVT_D_W:
        *result = reg_of_double(word);
        return true;
    case FCVT_D_WU:
        *result = reg_of_double((double)(int64_t)unsigned_word);
        return true;
    case FCVT_D_L:
        *result = reg_of_double((double)doubleword);
        return true;
    case FCVT_D_LU:
        *result = reg_of_double(huge ? 2 * (double)half : (double)doubleword);
        return true;
    default:
        return false;
    }
}

static bool run_between_formats(enum op op, const uint64_t x[3], uint64_t *result)
{
    volatile float single = float_of(x[0]);
    volatile double wide = double_of(x[0]);

    if (op == FCVT_S_D)
        *result = reg_of_float((float)wide);
    else if (op == FCVT_D_S)
        *result = reg_of_double(single);
    else
        return false;
    return true;
}

static bool host_dispatch(enum op op, const uint64_t x[3], uint64_t *result)
{
    return run_float(op, x, result) || run_double(op, x, result) || run_comparison(op, x, result) ||
           run_to_integer(op, x, result) || run_from_integer(op, x[0], result) ||
           run_between_formats(op, x, result);
}

bool host_supports(enum op op)
{
    const uint64_t zeros[3] = {0};
    uint64_t result;
    return host_dispatch(op, zeros, &result);
}

/* Infinity times zero plus a quiet NaN: IEEE 754 leaves the invalid operation exception open. */
static bool is_open_fma(enum op op, const uint64_t x[3])
{
    switch (op) {
    case FMADD_S:
    case FMSUB_S:
    case FNMSUB_S:
    case FNMADD_S:
        return isnan(float_of(x[2]));
    case FMADD_D:
    case FMSUB_D:
    case FNMSUB_D:
    case FNMADD_D:
        return isnan(double_of(x[2]));
    default:
        return false;
    }
}

bool host_run(enum op op, const uint64_t x[3], unsigned rm, uint64_t *result, uint32_t *fflags)
{
    static const int modes[] = {
        [FP_RNE] = FE_TONEAREST, [FP_RTZ] = FE_TOWARDZERO, [FP_RDN] = FE_DOWNWARD, [FP_RUP] = FE_UPWARD};
    uint64_t r;

    if (is_open_fma(op, x))
        return false;
    fesetround(modes[rm]);
    feclearexcept(FE_ALL_EXCEPT);
    bool judged = host_dispatch(op, x, &r);
    uint32_t raised = host_flags();
    fesetround(FE_TONEAREST);
    if (!judged)
        return false;
    *result = r;
    *fflags = raised;
    return true;
}

bool host_detects_tininess_after_rounding(void)
{
    /* 2^-1022 * (1 - 2^-54), which rounds to the smallest normal number. */
    volatile double x = 0x1p-537, y = -0x1p-539, z = 0x1p-1022, r;

    feclearexcept(FE_ALL_EXCEPT);
    r = fma(x, y, z);
    return r == 0x1p-1022 && !fetestexcept(FE_UNDERFLOW);
}
