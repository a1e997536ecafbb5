/* A direct-mapped table. The guest chooses the bodies, and can find two with the same public digest; so they
 * are told apart by a second one with a secret seed. */
#include "replay-broker/repeats.h"

#include <stdlib.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOTS    16384u /* a power of two */
#define MIN_BODY 256u   /* shorter ones are left to the compressor */

struct slot {
    uint64_t digest, secret, number;
    uint32_t len;
};

struct repeats {
    uint64_t seed;
    struct slot slot[SLOTS];
};

struct repeats *repeats_create(void)
{
    struct repeats *t = calloc(1, sizeof(*t));
    if (t && getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
        free(t);
        return NULL;
    }
    return t;
}

void repeats_destroy(struct repeats *t)
{
    free(t);
}

void repeats_fold(struct repeats *t, struct journal_entry *e)
{
    if (e->type != JOURNAL_CROSSING || e->form != JOURNAL_INLINE || e->c.len < MIN_BODY)
        return;
    struct slot *s = &t->slot[e->c.digest & (SLOTS - 1)];
    struct slot now = {e->c.digest, XXH3_64bits_withSeed(e->body, e->c.len, t->seed), e->number, e->c.len};
    if (s->number && s->digest == now.digest && s->secret == now.secret && s->len == now.len) {
        e->form = JOURNAL_SAME;
        e->file = s->number;
        e->body = NULL;
        return;
    }
    *s = now;
}
