/* Blocks in memory and in the file. Must not know records. */
#include "replay-broker/block.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lz4hc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MAX_RATIO 256u /* LZ4 packs no better */

static const char magic[8] = {'C', 'L', 'E', 'A', 'V', 'E', 'L', 'G'};

/* All fields little-endian. */
struct wire {
    char magic[8];
    uint16_t major, minor, type, encoding;
    uint64_t number, previous;
    uint64_t first_icount, last_icount;
    uint64_t first_record;
    uint32_t records, stored, raw, zero;
    uint64_t last_seq;
    uint64_t payload;
    uint64_t check; /* XXH3-64 of what lies before */
};

_Static_assert(sizeof(struct wire) == BLOCK_HEADER_SIZE, "layout in the file");

int log_fail(struct log_error *e, int err, uint64_t number, uint64_t offset, const char *why)
{
    *e = (struct log_error){.err = err, .block = number, .offset = offset, .why = why};
    return err;
}

const char *log_error_text(const struct log_error *e, char *buf, size_t size)
{
    snprintf(buf, size, "block %" PRIu64 " at offset %" PRIu64 ": %s", e->block, e->offset, e->why);
    return buf;
}

static uint64_t header_check(const struct wire *w)
{
    return XXH3_64bits(w, offsetof(struct wire, check));
}

size_t block_bound(size_t raw)
{
    return BLOCK_HEADER_SIZE + (size_t)LZ4_compressBound((int)raw);
}

size_t block_seal(struct block *b, const uint8_t *raw, uint8_t *out, int level)
{
    uint8_t *payload = out + BLOCK_HEADER_SIZE;
    int len = (int)b->raw, bound = LZ4_compressBound(len);
    int packed = level ? LZ4_compress_HC((const char *)raw, (char *)payload, len, bound, level)
                       : LZ4_compress_default((const char *)raw, (char *)payload, len, bound);
    b->encoding = packed > 0 && (uint32_t)packed < b->raw ? BLOCK_LZ4 : BLOCK_RAW;
    b->stored = b->encoding == BLOCK_LZ4 ? (uint32_t)packed : b->raw;
    if (b->encoding == BLOCK_RAW)
        memcpy(payload, raw, b->raw);
    b->payload = XXH3_64bits(payload, b->stored);
    struct wire w = {.major = htole16(b->major),
                     .minor = htole16(b->minor),
                     .type = htole16(b->type),
                     .encoding = htole16(b->encoding),
                     .number = htole64(b->number),
                     .previous = htole64(b->previous),
                     .first_icount = htole64(b->first_icount),
                     .last_icount = htole64(b->last_icount),
                     .first_record = htole64(b->first_record),
                     .records = htole32(b->records),
                     .stored = htole32(b->stored),
                     .raw = htole32(b->raw),
                     .last_seq = htole64(b->last_seq),
                     .payload = htole64(b->payload)};
    memcpy(w.magic, magic, sizeof(magic));
    b->check = header_check(&w);
    w.check = htole64(b->check);
    memcpy(out, &w, sizeof(w));
    return BLOCK_HEADER_SIZE + b->stored;
}

static struct block block_from_wire(const struct wire *w)
{
    return (struct block){.major = le16toh(w->major),
                          .minor = le16toh(w->minor),
                          .type = le16toh(w->type),
                          .encoding = le16toh(w->encoding),
                          .number = le64toh(w->number),
                          .previous = le64toh(w->previous),
                          .first_icount = le64toh(w->first_icount),
                          .last_icount = le64toh(w->last_icount),
                          .first_record = le64toh(w->first_record),
                          .records = le32toh(w->records),
                          .stored = le32toh(w->stored),
                          .raw = le32toh(w->raw),
                          .last_seq = le64toh(w->last_seq),
                          .payload = le64toh(w->payload),
                          .check = le64toh(w->check)};
}

/* What is wrong with a header on its own, or NULL. The version comes before the checksum: another one may
 * keep it elsewhere. */
static const char *header_fault(const struct wire *w, const struct block *b, bool first, int *err)
{
    *err = -EBADMSG;
    if (memcmp(w->magic, magic, sizeof(magic)) != 0) {
        *err = first ? -EMEDIUMTYPE : -EBADMSG;
        return first ? "not a cleave log" : "not the beginning of a block";
    }
    if (b->major != LOG_MAJOR) {
        *err = -EPROTONOSUPPORT;
        return b->major > LOG_MAJOR ? "a newer format than this cleave reads"
                                    : "a format that this cleave does not read";
    }
    if (b->check != header_check(w))
        return "header checksum does not match";
    if (b->stored > b->raw || b->raw > LOG_MAX_BLOCK || b->raw / MAX_RATIO > b->stored)
        return "impossible length";
    return NULL;
}

/* What is wrong with a block in its place, or NULL. */
static const char *chain_fault(const struct block *before, const struct block *b)
{
    if (!before)
        return b->type != BLOCK_HEADER || b->number || b->first_record != 1 || b->records
                   ? "not a header block"
                   : NULL;
    if (b->number != before->number + 1 || b->previous != before->check)
        return "does not follow the block before";
    if (before->type == BLOCK_END)
        return "something follows the end block";
    if (b->type == BLOCK_HEADER)
        return "a second header block";
    if (b->first_record != before->first_record + before->records)
        return "records are missing";
    if (b->first_icount < before->last_icount || b->last_icount < b->first_icount ||
        b->last_seq < before->last_seq)
        return "positions go backwards";
    return NULL;
}

int64_t file_read(int fd, uint64_t offset, void *to, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *)to + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (int64_t)done;
}

int file_write(int fd, uint64_t offset, const void *from, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const uint8_t *)from + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

static int places_add(struct places *p, const struct block *b)
{
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        struct place *at = realloc(p->at, room * sizeof(*at));
        if (!at)
            return -ENOMEM;
        p->at = at;
        p->room = room;
    }
    p->at[p->n++] = (struct place){.offset = p->end, .block = *b};
    p->end += BLOCK_HEADER_SIZE + b->stored;
    return 0;
}

int places_extend(struct places *p, struct log_error *e)
{
    struct wire w;
    struct stat st;
    int64_t got = file_read(p->fd, p->end, &w, sizeof(w));
    if (got < 0)
        return log_fail(e, (int)got, p->n, p->end, "cannot be read");
    if (got == 0)
        return 0;
    if (got < (int64_t)sizeof(w) && p->n && p->at[p->n - 1].block.type == BLOCK_END)
        return log_fail(e, -EBADMSG, p->n, p->end, "something follows the end block");
    if (got < (int64_t)sizeof(w))
        return log_fail(e, -ENODATA, p->n, p->end, "the file ends inside a block header");
    struct block b = block_from_wire(&w);
    int err;
    const char *why = header_fault(&w, &b, p->n == 0, &err);
    if (!why)
        why = chain_fault(p->n ? &p->at[p->n - 1].block : NULL, &b);
    if (why)
        return log_fail(e, err, p->n, p->end, why);
    if (fstat(p->fd, &st) < 0)
        return log_fail(e, -errno, p->n, p->end, "cannot be read");
    if ((uint64_t)st.st_size < p->end + sizeof(w) + b.stored)
        return log_fail(e, -ENODATA, p->n, p->end, "the file ends inside a block");
    err = places_add(p, &b);
    return err ? log_fail(e, err, p->n, p->end, "out of memory") : 1;
}

void places_free(struct places *p)
{
    free(p->at);
}

static int reserve(uint8_t **buffer, size_t *size, size_t need)
{
    if (need <= *size)
        return 0;
    uint8_t *p = realloc(*buffer, need);
    if (!p)
        return -ENOMEM;
    *buffer = p;
    *size = need;
    return 0;
}

void block_buffer_free(struct block_buffer *b)
{
    free(b->stored);
    free(b->raw);
}

static int unpack(const struct block *b, const struct block_buffer *buffer, const char **why)
{
    if (XXH3_64bits(buffer->stored, b->stored) != b->payload) {
        *why = "payload checksum does not match";
        return -EBADMSG;
    }
    if (b->encoding == BLOCK_RAW && b->stored == b->raw) {
        memcpy(buffer->raw, buffer->stored, b->raw);
        return 0;
    }
    if (b->encoding != BLOCK_LZ4) {
        *why = b->encoding == BLOCK_RAW ? "impossible length" : "an unknown compression";
        return b->encoding == BLOCK_RAW ? -EBADMSG : -ENOTSUP;
    }
    if (LZ4_decompress_safe((const char *)buffer->stored, (char *)buffer->raw, (int)b->stored, (int)b->raw) !=
        (int)b->raw) {
        *why = "payload cannot be decompressed";
        return -EBADMSG;
    }
    return 0;
}

int places_payload(const struct places *p, size_t i, struct block_buffer *buffer, struct log_error *e)
{
    const struct place *at = &p->at[i];
    const struct block *b = &at->block;
    /* At least one byte: an empty payload has buffers too. */
    if (reserve(&buffer->stored, &buffer->stored_size, b->stored + 1) < 0 ||
        reserve(&buffer->raw, &buffer->raw_size, b->raw + 1) < 0)
        return log_fail(e, -ENOMEM, b->number, at->offset, "out of memory");
    int64_t got = file_read(p->fd, at->offset + BLOCK_HEADER_SIZE, buffer->stored, b->stored);
    if (got < 0)
        return log_fail(e, (int)got, b->number, at->offset, "cannot be read");
    if (got < b->stored)
        return log_fail(e, -ENODATA, b->number, at->offset, "the file ends inside a block");
    const char *why;
    int err = unpack(b, buffer, &why);
    return err ? log_fail(e, err, b->number, at->offset, why) : 0;
}
