/* Integer operations whose RISC-V results C does not give directly. */
#pragma once

#include <stdint.h>

/* Division by zero gives all ones and the dividend; the overflowing quotient is the dividend ("M", Division
 * Operations). */
static inline int64_t arith_div(int64_t a, int64_t b)
{
    if (b == 0)
        return -1;
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}

static inline int64_t arith_rem(int64_t a, int64_t b)
{
    if (b == 0)
        return a;
    return b == -1 ? 0 : a % b;
}

/* Every byte that is not zero becomes 0xff. */
static inline uint64_t arith_orc_b(uint64_t a)
{
    a |= a >> 4;
    a |= a >> 2;
    a |= a >> 1;
    return (a & 0x0101010101010101ull) * 0xff;
}

/* Carry-less product: low half, high half, and bits 63 to 126. */
static inline unsigned __int128 arith_clmul_wide(uint64_t a, uint64_t b)
{
    unsigned __int128 r = 0;

    for (unsigned i = 0; i < 64; i++)
        r ^= (unsigned __int128)(a & (0 - (b >> i & 1))) << i;
    return r;
}

static inline uint64_t arith_clmul(uint64_t a, uint64_t b)
{
    return (uint64_t)arith_clmul_wide(a, b);
}
static inline uint64_t arith_clmulh(uint64_t a, uint64_t b)
{
    return (uint64_t)(arith_clmul_wide(a, b) >> 64);
}
static inline uint64_t arith_clmulr(uint64_t a, uint64_t b)
{
    return (uint64_t)(arith_clmul_wide(a, b) >> 63);
}
