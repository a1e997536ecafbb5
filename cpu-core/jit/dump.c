/* Writing of the dump. */
#include "cpu-core/jit/dump.h"

#include "cpu-core/jit/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Room for the largest record: a block's code, its stubs, and its instructions. */
#define RECORD_MAX (sizeof(struct dump_block) + 3 * BLOCK_BYTES_MAX)

struct writer {
    const struct jit *jit;
    int fd, err;
    uint64_t blocks;
    size_t used;
    uint8_t buffer[4 * RECORD_MAX];
};

static void write_out(struct writer *w)
{
    for (size_t done = 0; !w->err && done < w->used;) {
        ssize_t n = write(w->fd, w->buffer + done, w->used - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            w->err = n == 0 ? -EIO : -errno;
    }
    w->used = 0;
}

static void append(struct writer *w, const void *bytes, size_t len)
{
    memcpy(w->buffer + w->used, bytes, len);
    w->used += len;
}

/* The instruction at `offset`; a block that crosses its page has the rest of its only one in `second`. */
static uint32_t fetch_bits(const struct writer *w, const struct block_key *key, unsigned offset)
{
    const uint8_t *at = ram_at(w->jit->ram, (key->pa & PAGE_MASK) + offset);
    uint16_t low, high = 0;

    memcpy(&low, at, sizeof low);
    if (isa_length(low) == 4)
        memcpy(&high, key->second ? ram_at(w->jit->ram, key->second) : at + 2, sizeof high);
    return low | (uint32_t)high << 16;
}

static void append_block(struct writer *w, const struct block *b)
{
    static const uint8_t zeros[8];
    const struct blocks *t = &w->jit->blocks;
    size_t size = sizeof(struct dump_block) + b->insns * sizeof(struct dump_insn) + b->code_len + b->cold_len;
    size_t padded = (size + 7) & ~(size_t)7;
    const uint8_t *cold = block_stubs(b);
    struct dump_block d = {.size = (uint32_t)padded,
                           .insns = b->insns,
                           .priv = b->key.priv,
                           .fp = b->key.fp,
                           .pa = b->key.pa,
                           .va = b->va,
                           .code = (uint64_t)(uintptr_t)b->code,
                           .stubs = (uint64_t)(uintptr_t)(t->code.run + (cold - t->code.write)),
                           .code_len = b->code_len,
                           .stubs_len = b->cold_len,
                           .flags = b->key.single ? DUMP_SINGLE : 0,
                           .executed = b->executed ? *b->executed : 0};

    if (w->used + padded > sizeof w->buffer)
        write_out(w);
    append(w, &d, sizeof d);
    for (unsigned i = 0; i < b->insns; i++) {
        struct dump_insn in = {fetch_bits(w, &b->key, b->map[i].offset), b->map[i].offset, b->map[i].at};
        append(w, &in, sizeof in);
    }
    append(w, b->code, b->code_len);
    append(w, cold, b->cold_len);
    append(w, zeros, padded - size);
}

/* Calls `visit` for the live blocks, those translated first in the lead. */
static void for_each_block(struct writer *w, void (*visit)(struct writer *w, const struct block *b))
{
    const struct blocks *t = &w->jit->blocks;

    for (unsigned i = 1; i <= REGIONS; i++) {
        const struct region *r = &t->regions[(t->current + i) % REGIONS];
        for (uint32_t k = 0; k < r->nblocks; k++)
            if (r->blocks[k].live)
                visit(w, &r->blocks[k]);
    }
}

static void count_block(struct writer *w, const struct block *b)
{
    w->blocks++;
}

int jit_dump(const void *engine, int fd)
{
    struct writer *w = calloc(1, sizeof *w);
    struct dump_header h = {.magic = DUMP_MAGIC};
    int err;

    if (!w)
        return -ENOMEM;
    w->jit = engine;
    w->fd = fd;
    if (!w->jit->off)
        for_each_block(w, count_block);
    h.blocks = w->blocks;
    append(w, &h, sizeof h);
    if (!w->jit->off)
        for_each_block(w, append_block);
    write_out(w);
    err = w->err;
    free(w);
    return err;
}
