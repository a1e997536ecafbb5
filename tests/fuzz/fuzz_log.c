/* Fuzz target: a hostile log. The first byte chooses: the rest is the file as it is; or it is a series of
 * blocks whose chain and checksums are made good, so that their contents are reached. Whatever is read must
 * be in order, and a writer must be able to continue behind it. */
#include "tests/fuzz/fuzz.h"

#include "replay-broker/block.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

static volatile uint8_t sink;

static void check(bool ok)
{
    if (!ok)
        abort();
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
        b.first_icount = last.last_icount + take(in, 1);
        b.last_icount = b.first_icount + take(in, 1);
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

static void read_entry(const struct journal_entry *e)
{
    check(e->type == JOURNAL_CROSSING || e->type == JOURNAL_STATE_HASH);
    if (e->form == JOURNAL_INLINE)
        for (uint32_t i = 0; i < e->c.len; i++)
            sink = ((const uint8_t *)e->body)[i];
}

static void read_from(struct log_reader *r, uint64_t icount)
{
    struct journal_entry e;
    uint64_t number = 0;
    for (int i = 0; i < 100000 && log_reader_next(r, &e) > 0; i++) {
        check(e.number > number && e.c.icount >= icount);
        number = e.number;
        icount = e.c.icount;
        read_entry(&e);
    }
}

static int take_bytes(void *ctx, const uint8_t *data, size_t len)
{
    uint64_t *total = ctx;
    for (size_t i = 0; i < len; i++)
        sink = data[i];
    *total += len;
    return 0;
}

static void read_files(struct log_reader *r)
{
    for (uint32_t id = 0; id < 3; id++) {
        uint64_t total = 0;
        int64_t got = log_reader_file(r, id, take_bytes, &total);
        check(got < 0 || (uint64_t)got == total);
    }
}

/* A log that a writer accepts for continuation has all of its new records found behind what could be read
 * before. */
static void continue_log(int fd)
{
    struct log_writer *w;
    struct log_error error;
    struct log_summary before, after;
    if (log_writer_reopen(&w, fd, &(struct log_options){0}, &error) < 0)
        return;
    struct log_status s = log_writer_status(w);
    int readable = log_verify(fd, &before, &error);
    struct journal_entry e = {.number = s.records + 1,
                              .type = JOURNAL_STATE_HASH,
                              .form = JOURNAL_DIGEST,
                              .c = {.icount = s.icount, .digest = 1}};
    check(log_writer_append(w, &e) == 0);
    check(log_writer_end(w, "fuzz", 0, 0) == 0);
    log_writer_destroy(w);
    check(log_verify(fd, &after, &error) == readable);
    check(after.records == before.records + (readable == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint64_t seek = take(&in, 1);
    int fd = memfd_create("log", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    if (seek & 1)
        write_blocks(fd, &in);
    else if (file_write(fd, 0, in.p, (size_t)(in.end - in.p)) < 0)
        abort();

    struct log_reader *r;
    struct log_error error;
    char text[160];
    if (log_reader_open(&r, fd, &error) == 0) {
        read_from(r, 0);
        if (log_reader_seek(r, seek) == 0)
            read_from(r, seek);
        if (log_reader_seek_record(r, seek / 2) == 0)
            read_from(r, 0);
        read_files(r);
        log_reader_close(r);
        continue_log(fd);
    } else {
        check(error.err < 0 && *log_error_text(&error, text, sizeof(text)));
    }
    close(fd);
    return 0;
}
