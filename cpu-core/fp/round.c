/*
 * Rounding: results at the edges of a format's range, rounding to integral values, and the Zfa constants.
 */
#include "cpu-core/fp/fp_internal.h"

uint64_t fp_round_pack_edge(struct format f, struct unpacked u, unsigned rm, uint32_t *fflags)
{
    uint64_t increment = round_increment(rm, u.sign, (UINT64_C(1) << (62 - f.frac)) - 1);
    bool carry = (u.sig + increment) >> 63;

    if (u.exp + carry >= f.exp_max) {
        *fflags |= FP_OF | FP_NX;
        return with_sign(f, u.sign, infinity(f) - (increment == 0));
    }
    if (u.exp >= 1)
        return round_in_range(f, u, rm, FP_NX, fflags);

    /* Tiny unless rounding with an unbounded exponent would reach the smallest normal number. */
    bool tiny = u.exp + carry < 1;
    struct unpacked denormalized = {u.sign, 1, shift_right_jam(u.sig, 1 - u.exp)};
    return round_in_range(f, denormalized, rm, tiny ? FP_NX | FP_UF : FP_NX, fflags);
}

/* 0 < |a| < 1. */
FP_INLINE uint64_t round_fraction(struct format f, uint64_t a, unsigned rm)
{
    const uint64_t half = (uint64_t)(bias(f) - 1) << f.frac;
    bool sign = sign_of(f, a);
    bool up;

    if (rm == FP_RNE)
        up = magnitude(f, a) > half;
    else if (rm == FP_RMM)
        up = magnitude(f, a) >= half;
    else
        up = rm != FP_RTZ && (rm == FP_RUP) != sign;
    return with_sign(f, sign, up ? (uint64_t)bias(f) << f.frac : 0);
}

/* 1 <= |a| < 2^frac. The carry out of the fraction increments the exponent, as it should. */
FP_INLINE uint64_t round_mixed(struct format f, uint64_t a, unsigned rm)
{
    uint64_t unit = UINT64_C(1) << (f.frac - (exponent(f, a) - bias(f)));
    uint64_t mask = unit - 1;
    uint64_t r = (a + round_increment(rm, sign_of(f, a), mask)) & ~mask;

    if (rm == FP_RNE && (a & mask) == unit >> 1)
        r &= ~unit;
    return r;
}

FP_INLINE uint64_t round_integral(struct format f, uint64_t a, unsigned rm, uint32_t inexact,
                                  uint32_t *fflags)
{
    int exp = exponent(f, a) - bias(f);

    if (is_nan(f, a))
        return propagate_nan(f, a, a, fflags);
    if (is_zero(f, a) || exp >= f.frac)
        return a;
    uint64_t r = exp < 0 ? round_fraction(f, a, rm) : round_mixed(f, a, rm);
    if (r != a)
        *fflags |= inexact;
    return r;
}

uint16_t fp_f16_round(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)round_integral(F16, a, rm, 0, fflags);
}

uint16_t fp_f16_roundnx(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)round_integral(F16, a, rm, FP_NX, fflags);
}

uint32_t fp_f32_round(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)round_integral(F32, a, rm, 0, fflags);
}

uint32_t fp_f32_roundnx(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)round_integral(F32, a, rm, FP_NX, fflags);
}

uint64_t fp_f64_round(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return round_integral(F64, a, rm, 0, fflags);
}

uint64_t fp_f64_roundnx(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return round_integral(F64, a, rm, FP_NX, fflags);
}

/* The constants 2..29 of the specification's table are quarters / 4 * 2^exp. */
struct constant {
    int8_t exp;
    uint8_t quarters;
};

static const struct constant constants[32] = {
    [2] = {-16, 4}, [3] = {-15, 4}, [4] = {-8, 4},  [5] = {-7, 4},  [6] = {-4, 4},  [7] = {-3, 4},
    [8] = {-2, 4},  [9] = {-2, 5},  [10] = {-2, 6}, [11] = {-2, 7}, [12] = {-1, 4}, [13] = {-1, 5},
    [14] = {-1, 6}, [15] = {-1, 7}, [16] = {0, 4},  [17] = {0, 5},  [18] = {0, 6},  [19] = {0, 7},
    [20] = {1, 4},  [21] = {1, 5},  [22] = {1, 6},  [23] = {2, 4},  [24] = {3, 4},  [25] = {4, 4},
    [26] = {7, 4},  [27] = {8, 4},  [28] = {15, 4}, [29] = {16, 4},
};

FP_INLINE uint64_t load_immediate(struct format f, unsigned index)
{
    switch (index) {
    case 0:
        return with_sign(f, true, (uint64_t)bias(f) << f.frac);
    case 1:
        return implicit_bit(f);
    case 30:
        return infinity(f);
    case 31:
        return canonical_nan(f);
    default: { /* subnormal or infinite where the format has no such exponent: half precision */
        struct constant c = constants[index];
        struct unpacked u = {false, bias(f) + c.exp, (uint64_t)c.quarters << 60};
        uint32_t ignored = 0;
        return round_pack(f, u, FP_RNE, &ignored);
    }
    }
}

uint16_t fp_f16_fli(unsigned index)
{
    return (uint16_t)load_immediate(F16, index);
}

uint32_t fp_f32_fli(unsigned index)
{
    return (uint32_t)load_immediate(F32, index);
}

uint64_t fp_f64_fli(unsigned index)
{
    return load_immediate(F64, index);
}
