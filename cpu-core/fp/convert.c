/*
 * Conversions between floating-point formats. Knows nothing of integers.
 */
#include "cpu-core/fp/fp_internal.h"

FP_INLINE uint64_t convert(struct format from, struct format to, uint64_t a, unsigned rm, uint32_t *fflags)
{
    bool sign = sign_of(from, a);

    if (unlikely(exponent(from, a) == from.exp_max)) {
        if (is_inf(from, a))
            return with_sign(to, sign, infinity(to));
        if (is_snan(from, a))
            *fflags |= FP_NV;
        return canonical_nan(to);
    }
    if (is_zero(from, a))
        return with_sign(to, sign, 0);

    struct unpacked u = unpack(from, a);
    u.exp += bias(to) - bias(from);
    return round_pack(to, u, rm, fflags);
}

uint32_t fp_f16_to_f32(uint16_t a, uint32_t *fflags)
{
    return (uint32_t)convert(F16, F32, a, FP_RNE, fflags);
}

uint64_t fp_f16_to_f64(uint16_t a, uint32_t *fflags)
{
    return convert(F16, F64, a, FP_RNE, fflags);
}

uint64_t fp_f32_to_f64(uint32_t a, uint32_t *fflags)
{
    return convert(F32, F64, a, FP_RNE, fflags);
}

uint16_t fp_f32_to_f16(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)convert(F32, F16, a, rm, fflags);
}

uint16_t fp_f64_to_f16(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)convert(F64, F16, a, rm, fflags);
}

uint32_t fp_f64_to_f32(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)convert(F64, F32, a, rm, fflags);
}
