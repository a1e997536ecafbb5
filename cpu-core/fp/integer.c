/*
 * Conversions between floating point and integers. Knows nothing of other formats' conversions.
 */
#include "cpu-core/fp/fp_internal.h"

/* The range of an integer type: -2^63 <= min, max < 2^64, both given as 64-bit two's complement. */
struct range {
    uint64_t min;
    uint64_t max;
};

static const struct range I32 = {(uint64_t)INT32_MIN, INT32_MAX};
static const struct range U32 = {0, UINT32_MAX};
static const struct range I64 = {(uint64_t)INT64_MIN, INT64_MAX};
static const struct range U64 = {0, UINT64_MAX};

/* The magnitude of a finite value other than zero, below 2^64, rounded to an integer. */
FP_INLINE uint64_t round_magnitude(struct format f, struct unpacked u, unsigned rm, bool *inexact)
{
    const uint64_t half = UINT64_C(1) << 63;
    int shift = 63 - (u.exp - bias(f));
    uint64_t sig = u.sig << 1;
    uint64_t whole = shift < 64 ? sig >> shift : 0;
    uint64_t lost = shift == 0 ? 0 : shift <= 64 ? sig << (64 - shift) : 1;
    bool up;

    if (rm == FP_RNE)
        up = lost > half || (lost == half && (whole & 1));
    else if (rm == FP_RMM)
        up = lost >= half;
    else
        up = lost && rm != FP_RTZ && (rm == FP_RUP) != u.sign;
    *inexact = lost;
    return whole + up;
}

FP_INLINE uint64_t to_integer(struct format f, struct range range, uint64_t a, unsigned rm, uint32_t *fflags)
{
    bool sign = sign_of(f, a);
    uint64_t limit = sign ? -range.min : range.max;

    if (is_zero(f, a))
        return 0;
    if (!unlikely(exponent(f, a) - bias(f) >= 64 || exponent(f, a) == f.exp_max)) {
        bool inexact;
        uint64_t mag = round_magnitude(f, unpack(f, a), rm, &inexact);
        if (!unlikely(mag > limit)) {
            *fflags |= inexact ? FP_NX : 0;
            return sign ? -mag : mag;
        }
    }
    *fflags |= FP_NV;
    return sign && !is_nan(f, a) ? range.min : range.max;
}

/* `mag` with sign to the format. */
FP_INLINE uint64_t from_integer(struct format f, bool sign, uint64_t mag, unsigned rm, uint32_t *fflags)
{
    if (mag == 0)
        return 0;
    int zeros = __builtin_clzll(mag);
    uint64_t sig = mag << zeros;
    struct unpacked u = {sign, bias(f) + 63 - zeros, sig >> 1 | (sig & 1)};
    return round_pack(f, u, rm, fflags);
}

FP_INLINE uint64_t from_signed(struct format f, int64_t a, unsigned rm, uint32_t *fflags)
{
    return from_integer(f, a < 0, a < 0 ? -(uint64_t)a : (uint64_t)a, rm, fflags);
}

int32_t fp_f16_to_i32(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return (int32_t)to_integer(F16, I32, a, rm, fflags);
}

uint32_t fp_f16_to_u32(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)to_integer(F16, U32, a, rm, fflags);
}

int64_t fp_f16_to_i64(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return (int64_t)to_integer(F16, I64, a, rm, fflags);
}

uint64_t fp_f16_to_u64(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return to_integer(F16, U64, a, rm, fflags);
}

int32_t fp_f32_to_i32(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (int32_t)to_integer(F32, I32, a, rm, fflags);
}

uint32_t fp_f32_to_u32(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)to_integer(F32, U32, a, rm, fflags);
}

int64_t fp_f32_to_i64(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (int64_t)to_integer(F32, I64, a, rm, fflags);
}

uint64_t fp_f32_to_u64(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return to_integer(F32, U64, a, rm, fflags);
}

int32_t fp_f64_to_i32(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (int32_t)to_integer(F64, I32, a, rm, fflags);
}

uint32_t fp_f64_to_u32(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)to_integer(F64, U32, a, rm, fflags);
}

int64_t fp_f64_to_i64(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (int64_t)to_integer(F64, I64, a, rm, fflags);
}

uint64_t fp_f64_to_u64(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return to_integer(F64, U64, a, rm, fflags);
}

int32_t fp_f64_to_i32_mod(uint64_t a, uint32_t *fflags)
{
    int exp = exponent(F64, a) - bias(F64);
    int32_t saturated = fp_f64_to_i32(a, FP_RTZ, fflags);

    if (exp < 31)
        return saturated;
    if (exponent(F64, a) == F64.exp_max || exp - F64.frac >= 32)
        return 0;
    uint64_t sig = fraction(F64, a) | implicit_bit(F64);
    uint64_t mag = exp < F64.frac ? sig >> (F64.frac - exp) : sig << (exp - F64.frac);
    return (int32_t)(uint32_t)(sign_of(F64, a) ? -mag : mag);
}

uint16_t fp_f16_from_i32(int32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)from_signed(F16, a, rm, fflags);
}

uint16_t fp_f16_from_u32(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)from_integer(F16, false, a, rm, fflags);
}

uint16_t fp_f16_from_i64(int64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)from_signed(F16, a, rm, fflags);
}

uint16_t fp_f16_from_u64(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)from_integer(F16, false, a, rm, fflags);
}

uint32_t fp_f32_from_i32(int32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)from_signed(F32, a, rm, fflags);
}

uint32_t fp_f32_from_u32(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)from_integer(F32, false, a, rm, fflags);
}

uint32_t fp_f32_from_i64(int64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)from_signed(F32, a, rm, fflags);
}

uint32_t fp_f32_from_u64(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)from_integer(F32, false, a, rm, fflags);
}

uint64_t fp_f64_from_i32(int32_t a)
{
    uint32_t exact = 0;
    return from_signed(F64, a, FP_RNE, &exact);
}

uint64_t fp_f64_from_u32(uint32_t a)
{
    uint32_t exact = 0;
    return from_integer(F64, false, a, FP_RNE, &exact);
}

uint64_t fp_f64_from_i64(int64_t a, unsigned rm, uint32_t *fflags)
{
    return from_signed(F64, a, rm, fflags);
}

uint64_t fp_f64_from_u64(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return from_integer(F64, false, a, rm, fflags);
}
