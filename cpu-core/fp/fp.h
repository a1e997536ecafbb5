/*
 * Floating point of the F, D, Zfh and Zfa extensions in integer arithmetic.
 *
 * Operands and results are raw IEEE 754 encodings. No function touches the host's floating point, global
 * state or memory other than *fflags, so equal arguments give equal results on every host. This module knows
 * nothing of registers, CSRs, instruction encodings or traps: the caller resolves the rounding mode, boxes
 * and unboxes registers, injects signs, and negates operands for the fused multiply variants (FMSUB, FNMADD,
 * FNMSUB).
 *
 * Rules common to all functions (RISC-V unprivileged specification, "F" version 2.2, NaN generation and
 * subnormal arithmetic):
 *   - A NaN result is the canonical quiet NaN, whatever the operands' payloads and signs.
 *   - A signalling NaN operand raises NV, unless a function says otherwise.
 *   - Tininess is detected after rounding; UF is raised only for results that are both tiny and inexact.
 *   - `rm` is one of enum fp_rm. Other values are the caller's illegal-instruction case and must not be
 * passed.
 *   - Raised flags are ORed into *fflags; flags already set there are kept.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Rounding modes, encoded as in frm and in the instructions' rm field. */
enum fp_rm {
    FP_RNE = 0, /* to nearest, ties to even */
    FP_RTZ = 1, /* towards zero */
    FP_RDN = 2, /* towards minus infinity */
    FP_RUP = 3, /* towards plus infinity */
    FP_RMM = 4, /* to nearest, ties away from zero */
};

/* Accrued exceptions, encoded as in fflags. */
enum fp_flag {
    FP_NX = 1,  /* inexact */
    FP_UF = 2,  /* underflow */
    FP_OF = 4,  /* overflow */
    FP_DZ = 8,  /* divide by zero */
    FP_NV = 16, /* invalid operation */
};

/* Bits of the mask that FCLASS returns. */
enum fp_class {
    FP_CLASS_NEG_INF = 1 << 0,
    FP_CLASS_NEG_NORMAL = 1 << 1,
    FP_CLASS_NEG_SUBNORMAL = 1 << 2,
    FP_CLASS_NEG_ZERO = 1 << 3,
    FP_CLASS_POS_ZERO = 1 << 4,
    FP_CLASS_POS_SUBNORMAL = 1 << 5,
    FP_CLASS_POS_NORMAL = 1 << 6,
    FP_CLASS_POS_INF = 1 << 7,
    FP_CLASS_SNAN = 1 << 8,
    FP_CLASS_QNAN = 1 << 9,
};

#define FP_F16_NAN UINT16_C(0x7e00)
#define FP_F32_NAN UINT32_C(0x7fc00000)
#define FP_F64_NAN UINT64_C(0x7ff8000000000000)

/*
 * NaN boxing ("D", NaN boxing of narrower values): a narrower value sits in the low bits below ones; a
 * register that is not properly boxed reads as the canonical NaN of the narrower format.
 */
static inline uint64_t fp_box32(uint32_t value)
{
    return UINT64_C(0xffffffff00000000) | value;
}

static inline uint32_t fp_unbox32(uint64_t reg)
{
    return reg >= UINT64_C(0xffffffff00000000) ? (uint32_t)reg : FP_F32_NAN;
}

static inline uint64_t fp_box16(uint16_t value)
{
    return UINT64_C(0xffffffffffff0000) | value;
}

static inline uint16_t fp_unbox16(uint64_t reg)
{
    return reg >= UINT64_C(0xffffffffffff0000) ? (uint16_t)reg : FP_F16_NAN;
}

/*
 * Arithmetic (F/D, computational instructions). fma computes a * b + c with one rounding; infinity times zero
 * raises NV even when c is a quiet NaN. A division of a finite non-zero value by zero raises DZ; the square
 * root of a value below zero raises NV and gives NaN, that of -0 is -0.
 */
uint16_t fp_f16_add(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_sub(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_mul(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_div(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_sqrt(uint16_t a, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_fma(uint16_t a, uint16_t b, uint16_t c, unsigned rm, uint32_t *fflags);

uint32_t fp_f32_add(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_sub(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_mul(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_div(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_sqrt(uint32_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_fma(uint32_t a, uint32_t b, uint32_t c, unsigned rm, uint32_t *fflags);

uint64_t fp_f64_add(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_sub(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_mul(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_div(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_sqrt(uint64_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_fma(uint64_t a, uint64_t b, uint64_t c, unsigned rm, uint32_t *fflags);

/*
 * Minimum and maximum; -0 is less than +0. min and max (FMIN, FMAX: IEEE 754-2019 minimumNumber,
 * maximumNumber) give the other operand when one is a NaN, and NaN when both are. minm and maxm (Zfa FMINM,
 * FMAXM: minimum, maximum) give NaN when either is one. Both raise NV for a signalling NaN.
 */
uint16_t fp_f16_min(uint16_t a, uint16_t b, uint32_t *fflags);
uint16_t fp_f16_max(uint16_t a, uint16_t b, uint32_t *fflags);
uint16_t fp_f16_minm(uint16_t a, uint16_t b, uint32_t *fflags);
uint16_t fp_f16_maxm(uint16_t a, uint16_t b, uint32_t *fflags);

uint32_t fp_f32_min(uint32_t a, uint32_t b, uint32_t *fflags);
uint32_t fp_f32_max(uint32_t a, uint32_t b, uint32_t *fflags);
uint32_t fp_f32_minm(uint32_t a, uint32_t b, uint32_t *fflags);
uint32_t fp_f32_maxm(uint32_t a, uint32_t b, uint32_t *fflags);

uint64_t fp_f64_min(uint64_t a, uint64_t b, uint32_t *fflags);
uint64_t fp_f64_max(uint64_t a, uint64_t b, uint32_t *fflags);
uint64_t fp_f64_minm(uint64_t a, uint64_t b, uint32_t *fflags);
uint64_t fp_f64_maxm(uint64_t a, uint64_t b, uint32_t *fflags);

/*
 * Comparisons; false when either operand is a NaN. eq (FEQ), ltq and leq (Zfa FLTQ, FLEQ) are quiet: only a
 * signalling NaN raises NV. lt and le (FLT, FLE) are signalling: any NaN raises NV.
 */
bool fp_f16_eq(uint16_t a, uint16_t b, uint32_t *fflags);
bool fp_f16_lt(uint16_t a, uint16_t b, uint32_t *fflags);
bool fp_f16_le(uint16_t a, uint16_t b, uint32_t *fflags);
bool fp_f16_ltq(uint16_t a, uint16_t b, uint32_t *fflags);
bool fp_f16_leq(uint16_t a, uint16_t b, uint32_t *fflags);

bool fp_f32_eq(uint32_t a, uint32_t b, uint32_t *fflags);
bool fp_f32_lt(uint32_t a, uint32_t b, uint32_t *fflags);
bool fp_f32_le(uint32_t a, uint32_t b, uint32_t *fflags);
bool fp_f32_ltq(uint32_t a, uint32_t b, uint32_t *fflags);
bool fp_f32_leq(uint32_t a, uint32_t b, uint32_t *fflags);

bool fp_f64_eq(uint64_t a, uint64_t b, uint32_t *fflags);
bool fp_f64_lt(uint64_t a, uint64_t b, uint32_t *fflags);
bool fp_f64_le(uint64_t a, uint64_t b, uint32_t *fflags);
bool fp_f64_ltq(uint64_t a, uint64_t b, uint32_t *fflags);
bool fp_f64_leq(uint64_t a, uint64_t b, uint32_t *fflags);

/* FCLASS: exactly one bit of enum fp_class; raises nothing, also for a signalling NaN. */
unsigned fp_f16_class(uint16_t a);
unsigned fp_f32_class(uint32_t a);
unsigned fp_f64_class(uint64_t a);

/*
 * To integer (F/D, FCVT.int.fmt). A value that after rounding does not fit raises NV alone and gives the
 * nearest representable integer; NaN raises NV and gives the largest one.
 */
int32_t fp_f16_to_i32(uint16_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f16_to_u32(uint16_t a, unsigned rm, uint32_t *fflags);
int64_t fp_f16_to_i64(uint16_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f16_to_u64(uint16_t a, unsigned rm, uint32_t *fflags);

int32_t fp_f32_to_i32(uint32_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_to_u32(uint32_t a, unsigned rm, uint32_t *fflags);
int64_t fp_f32_to_i64(uint32_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f32_to_u64(uint32_t a, unsigned rm, uint32_t *fflags);

int32_t fp_f64_to_i32(uint64_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f64_to_u32(uint64_t a, unsigned rm, uint32_t *fflags);
int64_t fp_f64_to_i64(uint64_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_to_u64(uint64_t a, unsigned rm, uint32_t *fflags);

/*
 * Zfa FCVTMOD.W.D: a truncated towards zero, modulo 2^32, as a signed integer; 0 for infinities and NaN.
 * Flags are those of fp_f64_to_i32 with FP_RTZ.
 */
int32_t fp_f64_to_i32_mod(uint64_t a, uint32_t *fflags);

/* From integer (F/D, FCVT.fmt.int). The 32-bit forms to f64 are exact. */
uint16_t fp_f16_from_i32(int32_t a, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_from_u32(uint32_t a, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_from_i64(int64_t a, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_from_u64(uint64_t a, unsigned rm, uint32_t *fflags);

uint32_t fp_f32_from_i32(int32_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_from_u32(uint32_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_from_i64(int64_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_from_u64(uint64_t a, unsigned rm, uint32_t *fflags);

uint64_t fp_f64_from_i32(int32_t a);
uint64_t fp_f64_from_u32(uint32_t a);
uint64_t fp_f64_from_i64(int64_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_from_u64(uint64_t a, unsigned rm, uint32_t *fflags);

/* Between formats (D, Zfh). Widening is exact, so it needs no rounding mode. */
uint32_t fp_f16_to_f32(uint16_t a, uint32_t *fflags);
uint64_t fp_f16_to_f64(uint16_t a, uint32_t *fflags);
uint64_t fp_f32_to_f64(uint32_t a, uint32_t *fflags);
uint16_t fp_f32_to_f16(uint32_t a, unsigned rm, uint32_t *fflags);
uint16_t fp_f64_to_f16(uint64_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f64_to_f32(uint64_t a, unsigned rm, uint32_t *fflags);

/*
 * Zfa FROUND and FROUNDNX: to an integral value in the same format; zero results keep the operand's sign.
 * Only roundnx raises NX.
 */
uint16_t fp_f16_round(uint16_t a, unsigned rm, uint32_t *fflags);
uint16_t fp_f16_roundnx(uint16_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_round(uint32_t a, unsigned rm, uint32_t *fflags);
uint32_t fp_f32_roundnx(uint32_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_round(uint64_t a, unsigned rm, uint32_t *fflags);
uint64_t fp_f64_roundnx(uint64_t a, unsigned rm, uint32_t *fflags);

/*
 * Zfa FLI.H, FLI.S and FLI.D: the constant that the rs1 field selects; index 0..31. Half precision has the
 * constants 2 and 3 as subnormals, and infinity for constant 29, 2^16.
 */
uint16_t fp_f16_fli(unsigned index);
uint32_t fp_f32_fli(unsigned index);
uint64_t fp_f64_fli(unsigned index);
