/* The hashing visitor. Must not know any field. */
#include "cpu-core/state/state.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct hasher {
    struct state_io io; /* first: the visitor is cast back */
    XXH3_state_t *xxh;
};

static void hash_bytes(struct state_io *io, void *data, size_t len)
{
    XXH3_64bits_update(((struct hasher *)io)->xxh, data, len);
}

uint64_t state_hash(void (*walk)(void *arg, struct state_io *io), void *arg)
{
    XXH3_state_t xxh;
    XXH3_INITSTATE(&xxh);
    XXH3_64bits_reset(&xxh);
    struct hasher h = {.io = {.bytes = hash_bytes}, .xxh = &xxh};
    walk(arg, &h.io);
    return XXH3_64bits_digest(&xxh);
}
