/* Blocks from an input: what is cheap to get right is made right, the rest is the input's. */
#include "tests/fuzz/log_blocks.h"

#include "replay-broker/block.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Offsets in a block's header: docs/LOG-FORMAT.md. */
enum { AT_ENCODING = 14, AT_RAW = 64, AT_CHECK = 88 };

struct input {
    const uint8_t *p, *end;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->p < in->end; i++)
        v |= (uint64_t)*in->p++ << 8 * i;
    return v;
}

/* Claims that the payload is compressed. */
static void claim_lz4(struct block *b, uint8_t *out, uint32_t raw)
{
    uint16_t encoding = htole16(BLOCK_LZ4);
    raw = htole32(raw);
    memcpy(out + AT_ENCODING, &encoding, sizeof(encoding));
    memcpy(out + AT_RAW, &raw, sizeof(raw));
    b->check = XXH3_64bits(out, AT_CHECK);
    uint64_t le = htole64(b->check);
    memcpy(out + AT_CHECK, &le, sizeof(le));
}

static void write_blocks(int fd, struct input *in)
{
    static uint8_t out[1 << 18];
    struct block last = {0};
    uint64_t end = 0;
    while (in->p < in->end) {
        unsigned type = (unsigned)take(in, 1);
        struct block b = {.major = LOG_MAJOR,
                          .minor = (uint16_t)(type >> 6),
                          .type = end ? type & 7 : BLOCK_HEADER,
                          .number = end ? last.number + 1 : 0,
                          .previous = last.check,
                          .first_record = end ? last.first_record + last.records : 1,
                          .records = end ? (uint32_t)take(in, 1) : 0};
        b.first_icount = last.last_icount + take(in, 2);
        b.last_icount = b.first_icount + take(in, 2);
        b.last_seq = last.last_seq + take(in, 1);
        uint64_t len = take(in, 2), left = (uint64_t)(in->end - in->p);
        b.raw = (uint32_t)(len < left ? len : left);
        size_t size = block_seal(&b, in->p, out, type & 8 ? 3 : 0);
        if (type & 0x20)
            claim_lz4(&b, out, (uint32_t)take(in, 3));
        in->p += b.raw < (uint64_t)(in->end - in->p) ? b.raw : (uint64_t)(in->end - in->p);
        if (file_write(fd, end, out, size) < 0)
            abort();
        end += size;
        last = b;
    }
}

int log_blocks_file(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint64_t how = take(&in, 1);
    int fd = memfd_create("log", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    if (how & 1)
        write_blocks(fd, &in);
    else if (file_write(fd, 0, in.p, (size_t)(in.end - in.p)) < 0)
        abort();
    return fd;
}
