/*
 * Addition, subtraction, multiplication and division. Knows nothing of other operations.
 */
#include "cpu-core/fp/fp_internal.h"

/* |a| >= |b| and a is an infinity or a NaN. */
static __attribute__((noinline)) uint64_t add_special(struct format f, uint64_t a, uint64_t b,
                                                      uint32_t *fflags)
{
    if (is_nan(f, a))
        return propagate_nan(f, a, b, fflags);
    if (is_inf(f, b) && sign_of(f, a) != sign_of(f, b))
        return invalid(f, fflags);
    return a;
}

/* The significand of a finite value with the implicit bit at bit 61: room for a carry, guard bits below. */
FP_INLINE uint64_t addend(struct format f, uint64_t a)
{
    uint64_t sig = fraction(f, a) | (uint64_t)(exponent(f, a) != 0) << f.frac;
    return sig << (61 - f.frac);
}

FP_INLINE uint64_t add(struct format f, uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    if (magnitude(f, a) < magnitude(f, b)) {
        uint64_t t = a;
        a = b;
        b = t;
    }
    int exp_a = exponent(f, a);
    int exp_b = exponent(f, b);
    if (unlikely(exp_a == f.exp_max))
        return add_special(f, a, b, fflags);
    exp_a += exp_a == 0;
    exp_b += exp_b == 0;

    bool same_sign = sign_of(f, a) == sign_of(f, b);
    uint64_t sig_a = addend(f, a);
    uint64_t sig_b = shift_right_jam(addend(f, b), exp_a - exp_b);
    uint64_t sum = same_sign ? sig_a + sig_b : sig_a - sig_b;
    if (sum == 0)
        return with_sign(f, same_sign ? sign_of(f, a) : rm == FP_RDN, 0);

    int shift = __builtin_clzll(sum) - 1;
    struct unpacked r = {sign_of(f, a), exp_a + 1 - shift, sum << shift};
    return round_pack(f, r, rm, fflags);
}

/* Either operand is zero, infinite or a NaN. */
static __attribute__((noinline)) uint64_t mul_special(struct format f, uint64_t a, uint64_t b,
                                                      uint32_t *fflags)
{
    bool sign = sign_of(f, a) != sign_of(f, b);

    if (is_nan(f, a) || is_nan(f, b))
        return propagate_nan(f, a, b, fflags);
    if (!is_inf(f, a) && !is_inf(f, b))
        return with_sign(f, sign, 0);
    if (is_zero(f, a) || is_zero(f, b))
        return invalid(f, fflags);
    return with_sign(f, sign, infinity(f));
}

/* Whether an operand is zero, infinite or a NaN, so that the significands alone do not give the result. */
FP_INLINE bool has_special(struct format f, uint64_t a, uint64_t b)
{
    if (!unlikely(!is_normal(f, a) || !is_normal(f, b)))
        return false;
    return is_zero(f, a) || is_zero(f, b) || exponent(f, a) == f.exp_max || exponent(f, b) == f.exp_max;
}

FP_INLINE uint64_t mul(struct format f, uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    if (has_special(f, a, b))
        return mul_special(f, a, b, fflags);

    struct unpacked ua = unpack(f, a);
    struct unpacked ub = unpack(f, b);
    u128 product = (u128)ua.sig * (ub.sig << 1);
    uint64_t sig = (uint64_t)(product >> 64) | ((uint64_t)product != 0);
    int carry = (int)(sig >> 62);
    struct unpacked r = {ua.sign != ub.sign, ua.exp + ub.exp - bias(f) + carry, sig << (1 - carry)};
    return round_pack(f, r, rm, fflags);
}

/* Either operand is zero, infinite or a NaN. */
static __attribute__((noinline)) uint64_t div_special(struct format f, uint64_t a, uint64_t b,
                                                      uint32_t *fflags)
{
    bool sign = sign_of(f, a) != sign_of(f, b);

    if (is_nan(f, a) || is_nan(f, b))
        return propagate_nan(f, a, b, fflags);
    if ((is_inf(f, a) && is_inf(f, b)) || (is_zero(f, a) && is_zero(f, b)))
        return invalid(f, fflags);
    if (is_inf(f, a))
        return with_sign(f, sign, infinity(f));
    if (is_inf(f, b) || is_zero(f, a))
        return with_sign(f, sign, 0);
    *fflags |= FP_DZ;
    return with_sign(f, sign, infinity(f));
}

/* a * 2^62 / b with a sticky bit 0; b is in [2^62, 2^63), a in [b, 2b). */
FP_INLINE uint64_t divide(struct format f, uint64_t a, uint64_t b)
{
    if (f.frac <= 23) {
        /* b has 24 significant bits, so one 64-bit division yields 40 bits of the quotient. */
        uint64_t divisor = b >> 39;
        return a / divisor << 23 | (a % divisor != 0);
    }
    u128 dividend = (u128)a << 62;
    uint64_t quotient = (uint64_t)(dividend / b);
    return quotient | ((uint64_t)dividend - quotient * b != 0);
}

FP_INLINE uint64_t div(struct format f, uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    if (has_special(f, a, b))
        return div_special(f, a, b, fflags);

    struct unpacked ua = unpack(f, a);
    struct unpacked ub = unpack(f, b);
    int borrow = ua.sig < ub.sig;
    struct unpacked r = {ua.sign != ub.sign, ua.exp - ub.exp + bias(f) - borrow,
                         divide(f, ua.sig << borrow, ub.sig)};
    return round_pack(f, r, rm, fflags);
}

uint16_t fp_f16_add(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)add(F16, a, b, rm, fflags);
}

uint16_t fp_f16_sub(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)add(F16, a, b ^ sign_bit(F16), rm, fflags);
}

uint16_t fp_f16_mul(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)mul(F16, a, b, rm, fflags);
}

uint16_t fp_f16_div(uint16_t a, uint16_t b, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)div(F16, a, b, rm, fflags);
}

uint32_t fp_f32_add(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)add(F32, a, b, rm, fflags);
}

uint32_t fp_f32_sub(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)add(F32, a, b ^ sign_bit(F32), rm, fflags);
}

uint32_t fp_f32_mul(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)mul(F32, a, b, rm, fflags);
}

uint32_t fp_f32_div(uint32_t a, uint32_t b, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)div(F32, a, b, rm, fflags);
}

uint64_t fp_f64_add(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    return add(F64, a, b, rm, fflags);
}

uint64_t fp_f64_sub(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    return add(F64, a, b ^ sign_bit(F64), rm, fflags);
}

uint64_t fp_f64_mul(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    return mul(F64, a, b, rm, fflags);
}

uint64_t fp_f64_div(uint64_t a, uint64_t b, unsigned rm, uint32_t *fflags)
{
    return div(F64, a, b, rm, fflags);
}
