/*
 * Encodings, unpacking and rounding shared by the softfloat's sources. Not for use outside this folder.
 *
 * The arithmetic is written once for all formats: every function takes a struct format, which is a constant
 * in each caller, so that inlining leaves code for that format alone. Encodings of all widths travel in
 * uint64_t.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu-core/fp/fp.h"

#define FP_INLINE static inline __attribute__((always_inline))

typedef unsigned __int128 u128;

struct format {
    int width;   /* bits of the encoding */
    int frac;    /* bits of the stored fraction */
    int exp_max; /* biased exponent of infinities and NaNs; twice the bias plus one */
};

static const struct format F16 = {16, 10, 0x1f};
static const struct format F32 = {32, 23, 0xff};
static const struct format F64 = {64, 52, 0x7ff};

/* A finite value other than zero: (-1)^sign * sig / 2^62 * 2^(exp - bias), with sig in [2^62, 2^63). */
struct unpacked {
    bool sign;
    int exp;
    uint64_t sig;
};

FP_INLINE bool unlikely(bool condition)
{
    return __builtin_expect(condition, false);
}

FP_INLINE int bias(struct format f)
{
    return f.exp_max >> 1;
}

FP_INLINE uint64_t sign_bit(struct format f)
{
    return UINT64_C(1) << (f.width - 1);
}

FP_INLINE uint64_t implicit_bit(struct format f)
{
    return UINT64_C(1) << f.frac;
}

FP_INLINE uint64_t infinity(struct format f)
{
    return (uint64_t)f.exp_max << f.frac;
}

FP_INLINE uint64_t canonical_nan(struct format f)
{
    return infinity(f) | implicit_bit(f) >> 1;
}

FP_INLINE bool sign_of(struct format f, uint64_t a)
{
    return a >> (f.width - 1);
}

FP_INLINE uint64_t magnitude(struct format f, uint64_t a)
{
    return a & (sign_bit(f) - 1);
}

FP_INLINE int exponent(struct format f, uint64_t a)
{
    return (int)(magnitude(f, a) >> f.frac);
}

FP_INLINE uint64_t fraction(struct format f, uint64_t a)
{
    return a & (implicit_bit(f) - 1);
}

FP_INLINE uint64_t with_sign(struct format f, bool sign, uint64_t mag)
{
    return (uint64_t)sign << (f.width - 1) | mag;
}

FP_INLINE bool is_nan(struct format f, uint64_t a)
{
    return magnitude(f, a) > infinity(f);
}

FP_INLINE bool is_snan(struct format f, uint64_t a)
{
    return is_nan(f, a) && !(a & implicit_bit(f) >> 1);
}

FP_INLINE bool is_inf(struct format f, uint64_t a)
{
    return magnitude(f, a) == infinity(f);
}

FP_INLINE bool is_zero(struct format f, uint64_t a)
{
    return magnitude(f, a) == 0;
}

FP_INLINE bool is_normal(struct format f, uint64_t a)
{
    return (unsigned)(exponent(f, a) - 1) < (unsigned)(f.exp_max - 1);
}

/* The result of an operation that is invalid in itself, whatever NaNs it has as operands. */
FP_INLINE uint64_t invalid(struct format f, uint32_t *fflags)
{
    *fflags |= FP_NV;
    return canonical_nan(f);
}

/* The result of an operation that has a NaN among its operands. */
FP_INLINE uint64_t propagate_nan(struct format f, uint64_t a, uint64_t b, uint32_t *fflags)
{
    if (is_snan(f, a) || is_snan(f, b))
        *fflags |= FP_NV;
    return canonical_nan(f);
}

/* a / 2^n with every lost one kept in bit 0; n >= 0. */
FP_INLINE uint64_t shift_right_jam(uint64_t a, int n)
{
    if (n >= 64)
        return a != 0;
    return a >> n | ((a & ((UINT64_C(1) << n) - 1)) != 0);
}

/* `a` is finite and not zero. */
FP_INLINE struct unpacked unpack(struct format f, uint64_t a)
{
    struct unpacked u = {sign_of(f, a), exponent(f, a), fraction(f, a)};

    if (unlikely(u.exp == 0)) {
        int shift = __builtin_clzll(u.sig) - 1;
        u.exp = 63 - f.frac - shift;
        u.sig <<= shift;
    } else {
        u.sig = (u.sig | implicit_bit(f)) << (62 - f.frac);
    }
    return u;
}

/* What to add to a magnitude before the bits under `mask` are cut off; exact ties to even are the caller's.
 */
FP_INLINE uint64_t round_increment(unsigned rm, bool sign, uint64_t mask)
{
    if (rm == FP_RNE || rm == FP_RMM)
        return (mask >> 1) + 1;
    if (rm == FP_RTZ)
        return 0;
    return (rm == FP_RUP) != sign ? mask : 0;
}

/* The rounding step of round_pack for a result that is sure to be in range; `inexact` is raised if bits are
 * lost. */
FP_INLINE uint64_t round_in_range(struct format f, struct unpacked u, unsigned rm, uint32_t inexact,
                                  uint32_t *fflags)
{
    const int drop = 62 - f.frac;
    const uint64_t mask = (UINT64_C(1) << drop) - 1;
    uint64_t lost = u.sig & mask;
    uint64_t sig = (u.sig + round_increment(rm, u.sign, mask)) >> drop;

    if (lost) {
        *fflags |= inexact;
        sig &= ~(uint64_t)(rm == FP_RNE && lost == (mask >> 1) + 1);
    }
    /* The implicit bit in sig, if there, adds one to the exponent, and so does the carry of an all-ones
     * fraction. */
    return with_sign(f, u.sign, ((uint64_t)(u.exp - 1) << f.frac) + sig);
}

/* round_pack for results that may overflow or be subnormal. */
uint64_t fp_round_pack_edge(struct format f, struct unpacked u, unsigned rm, uint32_t *fflags);

/* Rounds to the format and encodes. Bit 0 of u.sig stands for all bits lost below it; u.exp may be out of
 * range. */
FP_INLINE uint64_t round_pack(struct format f, struct unpacked u, unsigned rm, uint32_t *fflags)
{
    if (unlikely((unsigned)(u.exp - 1) >= (unsigned)(f.exp_max - 2)))
        return fp_round_pack_edge(f, u, rm, fflags);
    return round_in_range(f, u, rm, FP_NX, fflags);
}
