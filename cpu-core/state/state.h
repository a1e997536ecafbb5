/* A walk over the machine's guest-visible state in a fixed, documented, little-endian order. One walk serves
 * the state hash now, and saving and loading later. Knows nothing of what the fields mean. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Visitor: `bytes` is called with the little-endian image of each field; when `loading`, it fills the buffer
 * instead. */
struct state_io {
    void (*bytes)(struct state_io *io, void *data, size_t len);
    int loading;
};

static inline void state_bytes(struct state_io *io, void *data, size_t len)
{
    io->bytes(io, data, len);
}
static inline void state_u64(struct state_io *io, uint64_t *v)
{
    io->bytes(io, v, sizeof *v);
}
static inline void state_u32(struct state_io *io, uint32_t *v)
{
    io->bytes(io, v, sizeof *v);
}
static inline void state_u16(struct state_io *io, uint16_t *v)
{
    io->bytes(io, v, sizeof *v);
}
static inline void state_u8(struct state_io *io, uint8_t *v)
{
    io->bytes(io, v, sizeof *v);
}
static inline void state_bool(struct state_io *io, _Bool *v)
{
    uint8_t b = *v;
    io->bytes(io, &b, 1);
    if (io->loading)
        *v = b != 0;
}

/* XXH3-64 of everything that `walk(arg, io)` visits. */
uint64_t state_hash(void (*walk)(void *arg, struct state_io *io), void *arg);
