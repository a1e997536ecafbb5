/* The reader of dumps. */
#include "tools/disasm/blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DUMP_MAX ((off_t)1 << 30)

static int read_all(int fd, uint8_t *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, bytes + done, len - done, (off_t)done);
        if (n == 0)
            return -EBADMSG;
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The record at `bytes`, of which `left` bytes are there, if it is whole and its parts are within it. */
static const struct dump_block *check(const uint8_t *bytes, size_t left)
{
    const struct dump_block *b = (const void *)bytes;
    uint64_t need = sizeof *b;
    if (left < sizeof *b || b->size > left || b->size % 8 || b->insns == 0)
        return NULL;
    need += b->insns * sizeof(struct dump_insn) + (uint64_t)b->code_len + b->stubs_len;
    if (need > b->size)
        return NULL;
    for (unsigned i = 0; i < b->insns; i++) {
        const struct dump_insn *in = &blocks_insns(b)[i];
        if (in->at > b->code_len || in->offset > 4094 || (i && in->at < in[-1].at))
            return NULL;
    }
    return b;
}

static int index_blocks(struct blocks_dump *d, size_t len)
{
    struct dump_header h;
    size_t at = sizeof h;
    memcpy(&h, d->bytes, sizeof h);
    if (memcmp(h.magic, DUMP_MAGIC, sizeof h.magic) || h.blocks > len / sizeof(struct dump_block))
        return -EBADMSG;
    d->blocks = calloc(h.blocks + 1, sizeof(const struct dump_block *));
    if (!d->blocks)
        return -ENOMEM;
    for (; d->n < h.blocks; d->n++) {
        const struct dump_block *b = check(d->bytes + at, len - at);
        if (!b)
            return -EBADMSG;
        d->blocks[d->n] = b;
        at += b->size;
    }
    return 0;
}

int blocks_read(int fd, struct blocks_dump *d)
{
    struct stat st;
    *d = (struct blocks_dump){0};
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < (off_t)sizeof(struct dump_header) || st.st_size > DUMP_MAX)
        return st.st_size > DUMP_MAX ? -EFBIG : -EBADMSG;
    size_t len = (size_t)st.st_size;
    d->bytes = malloc(len);
    int err = d->bytes ? read_all(fd, d->bytes, len) : -ENOMEM;
    if (!err)
        err = index_blocks(d, len);
    if (err)
        blocks_release(d);
    return err;
}

void blocks_release(struct blocks_dump *d)
{
    free(d->bytes);
    free(d->blocks);
    *d = (struct blocks_dump){0};
}

bool blocks_has(const struct dump_block *b, uint64_t pc)
{
    for (unsigned i = 0; i < b->insns; i++) {
        uint64_t offset = blocks_insns(b)[i].offset;
        if (pc == (b->va & ~(uint64_t)4095) + offset || pc == (b->pa & ~(uint64_t)4095) + offset)
            return true;
    }
    return false;
}
