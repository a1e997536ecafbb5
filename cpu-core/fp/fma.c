/*
 * Fused multiply-add: the product exact in 128 bits, one rounding. Knows nothing of other operations.
 */
#include "cpu-core/fp/fp_internal.h"

/* A finite value other than zero, as struct unpacked, with sig in [2^125, 2^126). */
struct wide {
    bool sign;
    int exp;
    u128 sig;
};

/* a or b is zero, infinite or a NaN, or c is infinite or a NaN. */
static __attribute__((noinline)) uint64_t fma_special(struct format f, uint64_t a, uint64_t b, uint64_t c,
                                                      unsigned rm, uint32_t *fflags)
{
    bool sign = sign_of(f, a) != sign_of(f, b);
    bool inf = is_inf(f, a) || is_inf(f, b);
    bool zero = is_zero(f, a) || is_zero(f, b);

    if (inf && zero)
        return invalid(f, fflags);
    if (is_nan(f, a) || is_nan(f, b) || is_nan(f, c)) {
        if (is_snan(f, c))
            *fflags |= FP_NV;
        return propagate_nan(f, a, b, fflags);
    }
    if (inf) {
        if (is_inf(f, c) && sign_of(f, c) != sign)
            return invalid(f, fflags);
        return with_sign(f, sign, infinity(f));
    }
    if (!is_zero(f, c) || sign_of(f, c) == sign)
        return c;
    return with_sign(f, rm == FP_RDN, 0);
}

FP_INLINE bool has_special(struct format f, uint64_t a, uint64_t b, uint64_t c)
{
    if (!unlikely(!is_normal(f, a) || !is_normal(f, b) || !is_normal(f, c)))
        return false;
    return is_zero(f, a) || is_zero(f, b) || exponent(f, a) == f.exp_max || exponent(f, b) == f.exp_max ||
           exponent(f, c) == f.exp_max;
}

FP_INLINE u128 shift_right_jam128(u128 a, int n)
{
    if (n >= 128)
        return a != 0;
    return a >> n | ((a & (((u128)1 << n) - 1)) != 0);
}

FP_INLINE struct wide multiply(struct format f, struct unpacked a, struct unpacked b)
{
    u128 product = (u128)a.sig * b.sig;
    int carry = (int)(product >> 125);
    return (struct wide){a.sign != b.sign, a.exp + b.exp - bias(f) + carry, product << (1 - carry)};
}

/* Narrows a significand other than zero, below 2^127, to 64 bits with a sticky bit 0, and rounds. */
FP_INLINE uint64_t round_wide(struct format f, struct wide w, unsigned rm, uint32_t *fflags)
{
    uint64_t high = (uint64_t)(w.sig >> 64);
    int zeros = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)w.sig);
    u128 sig = w.sig << (zeros - 1);
    struct unpacked r = {w.sign, w.exp + 2 - zeros, (uint64_t)(sig >> 64) | ((uint64_t)sig != 0)};
    return round_pack(f, r, rm, fflags);
}

FP_INLINE uint64_t add_wide(struct format f, struct wide a, struct wide b, unsigned rm, uint32_t *fflags)
{
    if (a.exp < b.exp || (a.exp == b.exp && a.sig < b.sig)) {
        struct wide t = a;
        a = b;
        b = t;
    }
    u128 aligned = shift_right_jam128(b.sig, a.exp - b.exp);
    a.sig = a.sign == b.sign ? a.sig + aligned : a.sig - aligned;
    if (a.sig == 0)
        return with_sign(f, rm == FP_RDN, 0);
    return round_wide(f, a, rm, fflags);
}

FP_INLINE uint64_t multiply_add(struct format f, uint64_t a, uint64_t b, uint64_t c, unsigned rm,
                                uint32_t *fflags)
{
    if (has_special(f, a, b, c))
        return fma_special(f, a, b, c, rm, fflags);

    struct wide product = multiply(f, unpack(f, a), unpack(f, b));
    if (unlikely(is_zero(f, c)))
        return round_wide(f, product, rm, fflags);
    struct unpacked uc = unpack(f, c);
    return add_wide(f, product, (struct wide){uc.sign, uc.exp, (u128)uc.sig << 63}, rm, fflags);
}

uint16_t fp_f16_fma(uint16_t a, uint16_t b, uint16_t c, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)multiply_add(F16, a, b, c, rm, fflags);
}

uint32_t fp_f32_fma(uint32_t a, uint32_t b, uint32_t c, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)multiply_add(F32, a, b, c, rm, fflags);
}

uint64_t fp_f64_fma(uint64_t a, uint64_t b, uint64_t c, unsigned rm, uint32_t *fflags)
{
    return multiply_add(F64, a, b, c, rm, fflags);
}
