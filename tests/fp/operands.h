/*
 * Edge-weighted operands and the digest over results. Everything is a function of (seed, index) in integers
 * alone, so that guest and host draw the same operands and any single case can be drawn again. Freestanding.
 */
#pragma once

#include <stdint.h>

#include "tests/fp/ops.h"

struct draw {
    uint64_t state;
};

/* splitmix64 */
static inline uint64_t draw_next(struct draw *d)
{
    uint64_t z = d->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* An integer in [0, n) from the low 32 bits of r. */
static inline int draw_below(uint64_t r, int n)
{
    return (int)((uint64_t)(uint32_t)r * (uint64_t)n >> 32);
}

/* A pattern of `width` bits that is near ties, carries and cancellations more often than chance has it. */
static inline uint64_t edge_bits(struct draw *d, int width)
{
    uint64_t r = draw_next(d);
    uint64_t all = ~UINT64_C(0) >> (64 - width);
    uint64_t bit = UINT64_C(1) << draw_below(r, width);

    switch (r >> 60) {
    case 0:
        return 0;
    case 1:
        return all;
    case 2:
        return bit;
    case 3:
        return all ^ bit;
    case 4:
        return bit - 1;
    case 5:
        return all & ~(bit - 1);
    case 6:
        return draw_next(d) & all & ~(bit - 1);
    case 7:
        return (draw_next(d) | (bit - 1)) & all;
    default:
        return draw_next(d) & all;
    }
}

/* A biased exponent; `max` is that of infinities. */
static inline int edge_exponent(struct draw *d, int frac, int max)
{
    uint64_t r = draw_next(d);

    switch (r >> 60) {
    case 0:
        return 0;
    case 1:
        return draw_below(r, 4);
    case 2:
        return max;
    case 3:
        return max - draw_below(r, 4);
    case 4:
    case 5:
        return max / 2 - 2 + draw_below(r, 5);
    case 6:
    case 7:
        return max / 2 - frac + draw_below(r, 2 * frac);
    case 8:
    case 9:
        return max / 2 - 2 + draw_below(r, max / 2 < 68 ? max / 2 : 68);
    case 10:
        return draw_below(r, frac + 3 < max ? frac + 3 : max);
    default:
        return draw_below(r, max + 1);
    }
}

static inline int clamp_exponent(int exp, int max)
{
    return exp < 0 ? 0 : exp > max ? max : exp;
}

/* The exponent of a second operand, so that sums cancel and products and quotients fall at the range's edges.
 */
static inline int second_exponent(struct draw *d, int first, int frac, int max)
{
    uint64_t r = draw_next(d);

    switch (r >> 61) {
    case 0:
        return clamp_exponent(first - 1 + draw_below(r, 3), max);
    case 1:
        return clamp_exponent(first - frac - 3 + draw_below(r, 2 * frac + 7), max);
    case 2:
        return clamp_exponent(max / 2 - first - frac - 3 + draw_below(r, frac + 6), max);
    case 3:
        return clamp_exponent(first + max / 2 - 3 + draw_below(r, frac + 6), max);
    case 4:
        return clamp_exponent(max - first + max / 2 - 3 + draw_below(r, 6), max);
    default:
        return edge_exponent(d, frac, max);
    }
}

/* The exponent of an addend to a product whose exponent is `product`. */
static inline int third_exponent(struct draw *d, int product, int frac, int max)
{
    uint64_t r = draw_next(d);

    switch (r >> 62) {
    case 0:
        return clamp_exponent(product - 1 + draw_below(r, 4), max);
    case 1:
        return clamp_exponent(product - 2 * frac - 4 + draw_below(r, 4 * frac + 8), max);
    default:
        return edge_exponent(d, frac, max);
    }
}

static inline void draw_floats(struct draw *d, int width, int frac, uint64_t x[3])
{
    int max = (1 << (width - 1 - frac)) - 1;
    int exp[3];
    uint64_t bits[3];

    exp[0] = edge_exponent(d, frac, max);
    exp[1] = second_exponent(d, exp[0], frac, max);
    exp[2] = third_exponent(d, exp[0] + exp[1] - max / 2, frac, max);
    for (int i = 0; i < 3; i++)
        bits[i] = edge_bits(d, frac);
    uint64_t r = draw_next(d);
    if ((r >> 32 & 7) == 0)
        bits[1] = bits[0] ^ (r >> 35 & 3);
    if ((r >> 40 & 7) == 0)
        bits[2] = bits[0] ^ (r >> 43 & 3);
    for (int i = 0; i < 3; i++)
        x[i] = (r >> i & 1) << (width - 1) | (uint64_t)exp[i] << frac | bits[i];
    if (width == 64)
        return;
    for (int i = 0; i < 3; i++) {
        uint64_t high = ~UINT64_C(0) << width;
        /* One register in 64 is not a boxed value. */
        x[i] |= (r >> (8 + 8 * i) & 63) == 0 ? draw_next(d) & high : high;
    }
}

/* The registers f10, f11, f12, or x10 in x[0], of case `index`. */
static inline void draw_operands(uint64_t seed, uint64_t index, enum operand operand, uint64_t x[3])
{
    struct draw d = {seed};

    d.state = draw_next(&d) + index * UINT64_C(0xd1342543de82ef95);
    switch (operand) {
    case OPERAND_F16:
        draw_floats(&d, 16, 10, x);
        break;
    case OPERAND_F32:
        draw_floats(&d, 32, 23, x);
        break;
    case OPERAND_F64:
        draw_floats(&d, 64, 52, x);
        break;
    case OPERAND_INT: {
        int width = 1 + draw_below(draw_next(&d), 64);
        x[0] = edge_bits(&d, width);
        if (draw_next(&d) & 1)
            x[0] = -x[0];
        x[1] = x[2] = 0;
        break;
    }
    }
}

static inline uint64_t digest_fold(uint64_t digest, uint64_t result, uint64_t fflags)
{
    digest = (digest ^ result) * UINT64_C(0x9e3779b97f4a7c15);
    digest = (digest ^ digest >> 29 ^ fflags) * UINT64_C(0xbf58476d1ce4e5b9);
    return digest ^ digest >> 32;
}
