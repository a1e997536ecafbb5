/*
 * Double precision as an oracle for half precision. A double-precision result that was rounded to odd (cut
 * off, with the lowest bit set if anything was lost) rounds on to half precision as the exact value would, in
 * every mode and with the same flags: its fraction is more than two bits longer, and half-precision operands
 * take no double-precision result into overflow or underflow.
 */
#include "tests/cpu-core/fp_half.h"

#include "cpu-core/fp/fp.h"
#include "tests/fp/model.h"

struct form {
    enum op op;
    unsigned sources; /* 0: there is no such form */
};

/* Without FCLASS_H: values below half precision's normal range are normal in double precision. */
static const struct form double_form[OP_COUNT] = {
    [FADD_H] = {FADD_D, 2},         [FSUB_H] = {FSUB_D, 2},       [FMUL_H] = {FMUL_D, 2},
    [FDIV_H] = {FDIV_D, 2},         [FSQRT_H] = {FSQRT_D, 1},     [FMADD_H] = {FMADD_D, 3},
    [FMSUB_H] = {FMSUB_D, 3},       [FNMSUB_H] = {FNMSUB_D, 3},   [FNMADD_H] = {FNMADD_D, 3},
    [FMIN_H] = {FMIN_D, 2},         [FMAX_H] = {FMAX_D, 2},       [FMINM_H] = {FMINM_D, 2},
    [FMAXM_H] = {FMAXM_D, 2},       [FEQ_H] = {FEQ_D, 2},         [FLT_H] = {FLT_D, 2},
    [FLE_H] = {FLE_D, 2},           [FLTQ_H] = {FLTQ_D, 2},       [FLEQ_H] = {FLEQ_D, 2},
    [FCVT_W_H] = {FCVT_W_D, 1},     [FCVT_WU_H] = {FCVT_WU_D, 1}, [FCVT_L_H] = {FCVT_L_D, 1},
    [FCVT_LU_H] = {FCVT_LU_D, 1},   [FCVT_H_W] = {FCVT_D_W, 1},   [FCVT_H_WU] = {FCVT_D_WU, 1},
    [FCVT_H_L] = {FCVT_D_L, 1},     [FCVT_H_LU] = {FCVT_D_LU, 1}, [FROUND_H] = {FROUND_D, 1},
    [FROUNDNX_H] = {FROUNDNX_D, 1},
};

bool half_supports(enum op op)
{
    return double_form[op].sources != 0;
}

uint64_t half_run(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags)
{
    struct form form = double_form[op];
    uint64_t wide[3] = {x[0]}, result;
    uint32_t raised = 0;

    if (op_table[op].operand == OPERAND_F16)
        for (unsigned i = 0; i < form.sources; i++)
            wide[i] = fp_f16_to_f64(fp_unbox16(x[i]), fflags);
    result = model_run(form.op, wide, rm, &raised);
    if (op_table[op].result == OPERAND_F16) {
        /* FROUNDNX raises NX for what it took away; its integer is exact in both formats. */
        if (raised & FP_NX && op != FROUNDNX_H)
            result = model_run(form.op, wide, FP_RTZ, &raised) | 1;
        result = fp_box16(fp_f64_to_f16(result, rm, fflags));
    }
    *fflags |= raised;
    return result;
}
