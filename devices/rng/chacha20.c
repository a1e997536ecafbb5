/* ChaCha20 as RFC 8439 has it; little-endian loads and stores, whatever the host. */
#include "devices/rng/chacha20.h"

static uint32_t load(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t rotate(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void quarter(uint32_t *s, unsigned a, unsigned b, unsigned c, unsigned d)
{
    s[a] += s[b], s[d] = rotate(s[d] ^ s[a], 16);
    s[c] += s[d], s[b] = rotate(s[b] ^ s[c], 12);
    s[a] += s[b], s[d] = rotate(s[d] ^ s[a], 8);
    s[c] += s[d], s[b] = rotate(s[b] ^ s[c], 7);
}

static void block(const uint32_t in[16], uint8_t out[64])
{
    uint32_t s[16];
    for (unsigned i = 0; i < 16; i++)
        s[i] = in[i];
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 4; i++)
            quarter(s, i, i + 4, i + 8, i + 12);
        for (unsigned i = 0; i < 4; i++)
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
    }
    for (unsigned i = 0; i < 16; i++)
        for (unsigned byte = 0; byte < 4; byte++)
            out[4 * i + byte] = (uint8_t)((s[i] + in[i]) >> (8 * byte));
}

void chacha20_stream(const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint8_t *out,
                     size_t len)
{
    uint32_t state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    for (unsigned i = 0; i < 8; i++)
        state[4 + i] = load(key + 4 * i);
    for (unsigned i = 0; i < 3; i++)
        state[13 + i] = load(nonce + 4 * i);
    for (size_t done = 0; done < len; done += 64) {
        uint8_t bytes[64];
        state[12] = counter++;
        block(state, bytes);
        for (size_t i = 0; i < 64 && done + i < len; i++)
            out[done + i] = bytes[i];
    }
}
