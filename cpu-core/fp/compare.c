/*
 * Comparisons, minimum and maximum, classification. Knows nothing of rounding.
 */
#include "cpu-core/fp/fp_internal.h"

FP_INLINE bool either_nan(struct format f, uint64_t a, uint64_t b)
{
    return unlikely(is_nan(f, a) || is_nan(f, b));
}

/* The result of a comparison with a NaN. */
FP_INLINE bool unordered(struct format f, uint64_t a, uint64_t b, bool quiet, uint32_t *fflags)
{
    if (!quiet || is_snan(f, a) || is_snan(f, b))
        *fflags |= FP_NV;
    return false;
}

/* a < b, with -0 below +0; no NaNs. */
FP_INLINE bool below(struct format f, uint64_t a, uint64_t b)
{
    bool sign = sign_of(f, a);
    return sign != sign_of(f, b) ? sign : sign != (a < b) && a != b;
}

FP_INLINE bool equal(struct format f, uint64_t a, uint64_t b)
{
    return a == b || magnitude(f, a | b) == 0;
}

FP_INLINE bool compare_eq(struct format f, uint64_t a, uint64_t b, uint32_t *fflags)
{
    if (either_nan(f, a, b))
        return unordered(f, a, b, true, fflags);
    return equal(f, a, b);
}

FP_INLINE bool compare_lt(struct format f, uint64_t a, uint64_t b, bool quiet, uint32_t *fflags)
{
    if (either_nan(f, a, b))
        return unordered(f, a, b, quiet, fflags);
    return below(f, a, b) && !equal(f, a, b);
}

FP_INLINE bool compare_le(struct format f, uint64_t a, uint64_t b, bool quiet, uint32_t *fflags)
{
    if (either_nan(f, a, b))
        return unordered(f, a, b, quiet, fflags);
    return below(f, a, b) || equal(f, a, b);
}

/* The operand that is the minimum, or the maximum; a NaN loses against a number if `numbers`, else it wins.
 */
FP_INLINE uint64_t choose(struct format f, uint64_t a, uint64_t b, bool maximum, bool numbers,
                          uint32_t *fflags)
{
    if (either_nan(f, a, b)) {
        uint64_t nan = propagate_nan(f, a, b, fflags);
        if (!numbers || (is_nan(f, a) && is_nan(f, b)))
            return nan;
        return is_nan(f, a) ? b : a;
    }
    return below(f, a, b) != maximum ? a : b;
}

FP_INLINE unsigned classify(struct format f, uint64_t a)
{
    bool sign = sign_of(f, a);

    if (is_nan(f, a))
        return is_snan(f, a) ? FP_CLASS_SNAN : FP_CLASS_QNAN;
    if (is_inf(f, a))
        return sign ? FP_CLASS_NEG_INF : FP_CLASS_POS_INF;
    if (is_zero(f, a))
        return sign ? FP_CLASS_NEG_ZERO : FP_CLASS_POS_ZERO;
    if (is_normal(f, a))
        return sign ? FP_CLASS_NEG_NORMAL : FP_CLASS_POS_NORMAL;
    return sign ? FP_CLASS_NEG_SUBNORMAL : FP_CLASS_POS_SUBNORMAL;
}

uint16_t fp_f16_min(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return (uint16_t)choose(F16, a, b, false, true, fflags);
}

uint16_t fp_f16_max(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return (uint16_t)choose(F16, a, b, true, true, fflags);
}

uint16_t fp_f16_minm(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return (uint16_t)choose(F16, a, b, false, false, fflags);
}

uint16_t fp_f16_maxm(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return (uint16_t)choose(F16, a, b, true, false, fflags);
}

uint32_t fp_f32_min(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return (uint32_t)choose(F32, a, b, false, true, fflags);
}

uint32_t fp_f32_max(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return (uint32_t)choose(F32, a, b, true, true, fflags);
}

uint32_t fp_f32_minm(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return (uint32_t)choose(F32, a, b, false, false, fflags);
}

uint32_t fp_f32_maxm(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return (uint32_t)choose(F32, a, b, true, false, fflags);
}

uint64_t fp_f64_min(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return choose(F64, a, b, false, true, fflags);
}

uint64_t fp_f64_max(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return choose(F64, a, b, true, true, fflags);
}

uint64_t fp_f64_minm(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return choose(F64, a, b, false, false, fflags);
}

uint64_t fp_f64_maxm(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return choose(F64, a, b, true, false, fflags);
}

bool fp_f16_eq(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return compare_eq(F16, a, b, fflags);
}

bool fp_f16_lt(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return compare_lt(F16, a, b, false, fflags);
}

bool fp_f16_le(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return compare_le(F16, a, b, false, fflags);
}

bool fp_f16_ltq(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return compare_lt(F16, a, b, true, fflags);
}

bool fp_f16_leq(uint16_t a, uint16_t b, uint32_t *fflags)
{
    return compare_le(F16, a, b, true, fflags);
}

bool fp_f32_eq(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return compare_eq(F32, a, b, fflags);
}

bool fp_f32_lt(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return compare_lt(F32, a, b, false, fflags);
}

bool fp_f32_le(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return compare_le(F32, a, b, false, fflags);
}

bool fp_f32_ltq(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return compare_lt(F32, a, b, true, fflags);
}

bool fp_f32_leq(uint32_t a, uint32_t b, uint32_t *fflags)
{
    return compare_le(F32, a, b, true, fflags);
}

bool fp_f64_eq(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return compare_eq(F64, a, b, fflags);
}

bool fp_f64_lt(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return compare_lt(F64, a, b, false, fflags);
}

bool fp_f64_le(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return compare_le(F64, a, b, false, fflags);
}

bool fp_f64_ltq(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return compare_lt(F64, a, b, true, fflags);
}

bool fp_f64_leq(uint64_t a, uint64_t b, uint32_t *fflags)
{
    return compare_le(F64, a, b, true, fflags);
}

unsigned fp_f16_class(uint16_t a)
{
    return classify(F16, a);
}

unsigned fp_f32_class(uint32_t a)
{
    return classify(F32, a);
}

unsigned fp_f64_class(uint64_t a)
{
    return classify(F64, a);
}
