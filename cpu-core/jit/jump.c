/* Finds code that is translated already for an address that the jump cache has not got. Translated code calls
 * this file without saving vector registers: it is compiled to use none, and calls only what is. */
#include "cpu-core/jit/internal.h"

const uint8_t *jump_find(struct hart *h, uint64_t pc)
{
    struct jit *j = h->translator;
    const uint8_t *host = mmu_hit_fetch(h, pc);
    const struct block *b;

    if (!host || ((pc & ~PAGE_MASK) == PAGE_SIZE - 2 && isa_length(*host) != 2))
        return NULL;
    b = blocks_find(&j->blocks, &(struct block_key){.pa = RAM_BASE + (uint64_t)(host - j->ram->host),
                                                    .priv = h->priv,
                                                    .fp = (uint8_t)fp_mode(h)});
    if (!b)
        return NULL;
    jump_remember(h, pc, b);
    h->code_page = pc & PAGE_MASK;
    j->stats.refound++;
    return b->code;
}
