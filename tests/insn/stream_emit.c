/* Emission of instructions by the instruction table, and the pseudo-random numbers that choose them. */
#include "tests/insn/stream.h"

#include <stdarg.h>
#include <string.h>

uint64_t stream_random(struct stream *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15ull; /* splitmix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint32_t stream_below(struct stream *s, uint32_t n)
{
    return (uint32_t)((stream_random(s) >> 32) * n >> 32);
}

bool stream_one_in(struct stream *s, uint32_t n)
{
    return stream_below(s, n) == 0;
}

uint32_t stream_bits(struct stream *s, uint32_t bits)
{
    uint32_t at = s->pos, len = isa_length(bits);
    struct insn in;

    if (at + len > CODE_END) {
        s->failed = true;
        return 0;
    }
    if (isa_decode(bits, &in) == 0)
        s->emitted[in.line]++;
    memcpy(s->image + at, &bits, len);
    s->pos += len;
    return at;
}

uint32_t stream_put(struct stream *s, enum isa_op op, ...)
{
    const struct isa_info *info = &isa_table[op];
    uint32_t bits = info->match;
    va_list args;

    va_start(args, op);
    for (unsigned i = 0; i < info->noperands; i++)
        if (info->operands[i].field != ISA_FIELD_CONST)
            bits = isa_place(bits, info->operands[i].field, va_arg(args, int));
    va_end(args);
    return stream_bits(s, bits);
}

void stream_patch(struct stream *s, uint32_t at, unsigned field, int32_t offset)
{
    uint32_t bits = 0, len;

    memcpy(&bits, s->image + at, 2);
    len = isa_length(bits);
    memcpy(&bits, s->image + at, len);
    bits = isa_place(bits, field, offset);
    memcpy(s->image + at, &bits, len);
}

void stream_li(struct stream *s, unsigned rd, int32_t value)
{
    int32_t low = (int32_t)((uint32_t)value << 20) >> 20;
    int32_t high = (int32_t)((uint32_t)value - (uint32_t)low) >> 12;

    if (high != 0)
        stream_put(s, INSN_LUI, rd, high);
    if (high == 0)
        stream_put(s, INSN_ADDI, rd, 0, low);
    else
        stream_put(s, INSN_ADDIW, rd, rd, low);
}

void stream_address(struct stream *s, unsigned rd, unsigned tmp, uint64_t address)
{
    stream_put(s, INSN_ADDI, rd, 0, 1);
    stream_put(s, INSN_SLLI, rd, rd, 31);
    stream_li(s, tmp, (int32_t)(address - STREAM_BASE));
    stream_put(s, INSN_ADD, rd, rd, tmp);
}

void stream_store64(struct stream *s, uint32_t offset, uint64_t value)
{
    memcpy(s->image + offset, &value, sizeof value);
}
