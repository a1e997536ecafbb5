/*
 * Square root by exact integer roots: each level of the "Karatsuba square root" (Zimmermann, INRIA RR-3805)
 * doubles the digits with one division. Knows nothing of other operations.
 */
#include "cpu-core/fp/fp_internal.h"

/* root = floor(sqrt(n)), rem = n - root^2. */
struct root {
    uint64_t root;
    uint64_t rem;
};

/*
 * From the root of n to that of n * 2^2k + low, where low < 2^2k. Needs root >= 2^(k-1), which bounds the
 * correction to one step, and a result below 2^62.
 */
FP_INLINE struct root refine(struct root n, int k, uint64_t low)
{
    uint64_t dividend = n.rem << k | low >> k;
    uint64_t quotient = dividend / (2 * n.root);
    uint64_t rest = dividend % (2 * n.root);
    struct root r = {
        .root = (n.root << k) + quotient,
        .rem = (rest << k | (low & ((UINT64_C(1) << k) - 1))) - quotient * quotient,
    };
    if ((int64_t)r.rem < 0) {
        r.root--;
        r.rem += 2 * r.root + 1;
    }
    return r;
}

/* n in [2^14, 2^16), bit by bit. */
FP_INLINE struct root root16(uint32_t n)
{
    uint32_t root = 0;

    for (uint32_t bit = 0x80; bit; bit >>= 1) {
        uint32_t trial = root | bit;
        if (trial * trial <= n)
            root = trial;
    }
    return (struct root){root, n - root * root};
}

/* n in [2^60, 2^62). */
FP_INLINE struct root root62(uint64_t n)
{
    struct root r = root16((uint32_t)(n >> 46));
    r = refine(r, 8, n >> 30 & 0xffff);
    return refine(r, 15, n & 0x3fffffff);
}

static __attribute__((noinline)) uint64_t sqrt_special(struct format f, uint64_t a, uint32_t *fflags)
{
    if (is_nan(f, a))
        return propagate_nan(f, a, a, fflags);
    if (is_zero(f, a) || a == infinity(f))
        return a;
    return invalid(f, fflags);
}

FP_INLINE uint64_t square_root(struct format f, uint64_t a, unsigned rm, uint32_t *fflags)
{
    if (unlikely(is_zero(f, a) || sign_of(f, a) || exponent(f, a) == f.exp_max))
        return sqrt_special(f, a, fflags);

    struct unpacked u = unpack(f, a);
    int odd = (u.exp - bias(f)) & 1;
    /* The significands of both formats leave the two bits that go free. */
    struct root r = root62(u.sig >> (2 - odd));
    int exp = bias(f) + (u.exp - bias(f) - odd) / 2;
    uint64_t sig;
    if (f.frac <= 23) {
        sig = r.root << 32 | (r.rem != 0);
    } else {
        r = refine(r, 31, 0);
        sig = r.root << 1 | (r.rem != 0);
    }
    return round_pack(f, (struct unpacked){false, exp, sig}, rm, fflags);
}

uint16_t fp_f16_sqrt(uint16_t a, unsigned rm, uint32_t *fflags)
{
    return (uint16_t)square_root(F16, a, rm, fflags);
}

uint32_t fp_f32_sqrt(uint32_t a, unsigned rm, uint32_t *fflags)
{
    return (uint32_t)square_root(F32, a, rm, fflags);
}

uint64_t fp_f64_sqrt(uint64_t a, unsigned rm, uint32_t *fflags)
{
    return square_root(F64, a, rm, fflags);
}
