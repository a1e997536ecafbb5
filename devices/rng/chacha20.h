/* The ChaCha20 block function (RFC 8439, section 2.3) as a generator of bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes the first `len` bytes of the key stream of (key, nonce), block counter from `counter`; len up to
 * 2^38. */
void chacha20_stream(const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint8_t *out,
                     size_t len);
