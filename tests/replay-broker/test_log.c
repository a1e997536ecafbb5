/* Logs written and read back: every kind of record and body, block borders, seeking, following a log that
 * grows, what a newer minor version may add. */
#include "replay-broker/block.h"
#include "replay-broker/record.h"
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { RECORDS = 5000 };

/* A log of RECORDS records in many blocks, properly ended. */
static int write_log(void)
{
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    for (uint64_t n = 1; n <= RECORDS; n += 50) {
        rig_append(w, n, n + 49);
        assert_int_equal(log_writer_flush(w), 0);
    }
    assert_int_equal(log_writer_end(w, "poweroff", 0, 5000123), 0);
    log_writer_destroy(w);
    return fd;
}

static void test_round_trip(void **state)
{
    int fd = write_log();
    struct log_reader *r = rig_open(fd);
    rig_expect(r, 1, RECORDS);
    struct journal_entry e;
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_ending(r), LOG_ENDED);
    assert_string_equal(log_reader_end(r)->reason, "poweroff");
    assert_int_equal(log_reader_end(r)->icount, 5000123);
    log_reader_close(r);

    struct log_summary s;
    struct log_error error;
    assert_int_equal(log_verify(fd, &s, &error), 0);
    assert_int_equal(s.records, RECORDS);
    assert_int_equal(s.state_hashes, RECORDS / 7);
    assert_int_equal(s.crossings, RECORDS - RECORDS / 7);
    assert_int_equal(s.blocks, RECORDS / 50 + 2);
    assert_int_equal(s.seq, rig_seq(RECORDS));
    assert_int_equal(s.icount, 5000123);
    assert_int_equal(s.unknown, 0);
    assert_int_equal(s.bytes, rig_size(fd));
    close(fd);
}

static void test_header(void **state)
{
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    struct log_reader *r = rig_open(fd);
    uint8_t want[512], got[512];
    size_t len = cleave__log_header__pack(rig_header(), want);
    assert_int_equal(cleave__log_header__get_packed_size(log_reader_header(r)), len);
    cleave__log_header__pack(log_reader_header(r), got);
    assert_memory_equal(got, want, len);
    log_reader_close(r);

    struct log_writer *second;
    assert_int_equal(log_writer_create(&second, fd, &(struct log_options){0}, rig_header()), -EEXIST);
    log_writer_destroy(w);
    close(fd);
}

static void test_large_bodies(void **state)
{
    static const uint32_t sizes[] = {0,       1, LOG_BLOCK_BYTES - 1, LOG_BLOCK_BYTES, 3 * LOG_BLOCK_BYTES,
                                     8 << 20, 5};
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };
    uint8_t *body = malloc(LOG_MAX_BLOCK);
    assert_non_null(body);
    uint64_t x = 1;
    for (uint32_t i = 0; i < LOG_MAX_BLOCK; i++)
        body[i] = i % 3 ? (uint8_t)((x = x * 6364136223846793005u + 1) >> 56) : 0;
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    struct journal_entry e = {.type = JOURNAL_CROSSING, .form = JOURNAL_INLINE, .body = body};
    e.c.direction = CROSSING_IN;
    for (unsigned i = 0; i < N; i++) {
        e.number = e.c.seq = i + 1;
        e.c.len = sizes[i];
        assert_int_equal(log_writer_append(w, &e), 0);
    }
    e.number = e.c.seq = N + 1;
    e.c.len = LOG_MAX_BLOCK;
    assert_int_equal(log_writer_append(w, &e), -EMSGSIZE);
    assert_int_equal(log_writer_end(w, "stop", 0, 0), 0);
    log_writer_destroy(w);

    struct log_reader *r = rig_open(fd);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(log_reader_next(r, &e), 1);
        assert_int_equal(e.c.len, sizes[i]);
        assert_int_equal(e.c.digest, XXH3_64bits(body, sizes[i]));
        if (sizes[i])
            assert_memory_equal(e.body, body, sizes[i]);
    }
    assert_int_equal(log_reader_next(r, &e), 0);
    log_reader_close(r);
    close(fd);
    free(body);
}

static void test_extremes(void **state)
{
    static const struct crossing c[] = {
        {.seq = 1, .icount = 0, .pc = UINT64_MAX, .request = UINT64_MAX, .direction = CROSSING_IN},
        {.seq = 2,
         .icount = 1ull << 63,
         .pc = 0,
         .request = 0,
         .arg = UINT64_MAX,
         .direction = CROSSING_OUT,
         .device = 0xfffe,
         .queue = 255,
         .kind = 255,
         .len = UINT32_MAX,
         .digest = UINT64_MAX},
        {.seq = UINT64_MAX, .icount = UINT64_MAX, .pc = 1ull << 63, .request = 1, .direction = CROSSING_IN},
    };
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    struct journal_entry e = {.type = JOURNAL_CROSSING, .form = JOURNAL_DIGEST};
    for (unsigned i = 0; i < 3; i++) {
        e.number = i + 1;
        e.c = c[i];
        assert_int_equal(log_writer_append(w, &e), 0);
    }
    assert_int_equal(log_writer_flush(w), 0);
    log_writer_destroy(w);
    struct log_reader *r = rig_open(fd);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(log_reader_next(r, &e), 1);
        assert_int_equal(e.c.seq, c[i].seq);
        assert_int_equal(e.c.icount, c[i].icount);
        assert_int_equal(e.c.pc, c[i].pc);
        assert_int_equal(e.c.request, c[i].request);
        assert_int_equal(e.c.arg, c[i].arg);
        assert_int_equal(e.c.device, c[i].device);
        assert_int_equal(e.c.len, c[i].len);
        assert_int_equal(e.c.digest, c[i].digest);
    }
    log_reader_close(r);
    close(fd);
}

static void test_order_enforced(void **state)
{
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    rig_append(w, 1, 10);
    for (unsigned flushed = 0; flushed < 2; flushed++) {
        struct journal_entry e = rig_entry(12);
        assert_int_equal(log_writer_append(w, &e), -EINVAL);
        e = rig_entry(11);
        e.c.icount = 9999;
        assert_int_equal(log_writer_append(w, &e), -EINVAL);
        e = rig_entry(11);
        e.c.seq = rig_seq(10);
        assert_int_equal(log_writer_append(w, &e), -EINVAL);
        e = rig_entry(11);
        e.form = 9;
        assert_int_equal(log_writer_append(w, &e), -EINVAL);
        assert_int_equal(log_writer_flush(w), 0);
    }
    rig_append(w, 11, 12);
    assert_int_equal(log_writer_flush(w), 0);
    struct log_reader *r = rig_open(fd);
    rig_expect(r, 1, 12);
    log_reader_close(r);
    log_writer_destroy(w);
    close(fd);
}

static void test_seek(void **state)
{
    int fd = write_log();
    struct log_reader *r = rig_open(fd);
    struct journal_entry e;
    static const uint64_t at[] = {0, 1000, 1001, 50000, 50001, 2500000, 4999999, 5000000, 49000, 1};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        assert_int_equal(log_reader_seek(r, at[i]), 0);
        uint64_t n = at[i] ? (at[i] + 999) / 1000 : 1;
        rig_expect(r, n, n + 60 < RECORDS ? n + 60 : RECORDS);
    }
    for (uint64_t n = 1; n <= RECORDS; n += 37) {
        assert_int_equal(log_reader_seek_record(r, n), 0);
        rig_expect(r, n, n);
    }
    assert_int_equal(log_reader_seek(r, 5000001), 0);
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_seek(r, UINT64_MAX), 0);
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_ending(r), LOG_ENDED);
    assert_non_null(log_reader_end(r));
    log_reader_close(r);

    r = rig_open(fd); /* straight to the end */
    assert_int_equal(log_reader_seek(r, UINT64_MAX), 0);
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_ending(r), LOG_ENDED);
    assert_string_equal(log_reader_end(r)->reason, "poweroff");
    log_reader_close(r);
    close(fd);
}

static void test_follow(void **state)
{
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    struct log_reader *r = rig_open(fd);
    struct journal_entry e;
    for (uint64_t n = 1; n < 500; n += 100) {
        assert_int_equal(log_reader_next(r, &e), 0);
        assert_int_equal(log_reader_ending(r), LOG_OPEN);
        rig_append(w, n, n + 99);
        assert_int_equal(log_writer_flush(w), 0);
        rig_expect(r, n, n + 99);
    }
    assert_int_equal(log_writer_end(w, "stop", 0, 0), 0);
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_ending(r), LOG_ENDED);
    assert_int_equal(log_reader_end(r)->icount, 500000);
    log_reader_close(r);
    log_writer_destroy(w);
    close(fd);
}

/* Blocks written by hand, chained to the file's last one. */
struct forger {
    int fd;
    struct block last;
    uint64_t end;
};

static void forger_open(struct forger *f, int fd)
{
    struct places p = {.fd = fd};
    struct log_error e;
    while (places_extend(&p, &e) > 0)
        ;
    *f = (struct forger){.fd = fd, .last = p.at[p.n - 1].block, .end = p.end};
    places_free(&p);
}

static void forge(struct forger *f, struct block b, const uint8_t *raw, size_t len)
{
    uint8_t out[1024];
    b.major = b.major ? b.major : LOG_MAJOR;
    b.number = f->last.number + 1;
    b.previous = f->last.check;
    b.first_record = f->last.first_record + f->last.records;
    b.last_seq = b.last_seq ? b.last_seq : f->last.last_seq;
    b.raw = (uint32_t)len;
    size_t size = block_seal(&b, raw, out, 0);
    assert_int_equal(file_write(f->fd, f->end, out, size), 0);
    f->last = b;
    f->end += size;
}

static void test_newer_minor(void **state)
{
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    rig_append(w, 1, 3);
    assert_int_equal(log_writer_flush(w), 0);
    log_writer_destroy(w);

    struct forger f;
    forger_open(&f, fd);
    const struct block unknown = {
        .minor = 9, .type = 77, .records = 2, .first_icount = 3500, .last_icount = 3600};
    forge(&f, unknown, (const uint8_t *)"what is this", 12);
    /* A record of an unknown type (field 99), then a state hash with an unknown field beside it. */
    const uint8_t records[] = {6,    0x08, 10, 0x9a, 0x06, 1,    'x',                      /* steps 10 */
                               0x12, 0x08, 5,  0x22, 9,    0x09, 1,   2, 3, 4, 5, 6, 7, 8, /* steps 5, hash */
                               0x9a, 0x06, 2,  'y',  'z'};
    const struct block data = {
        .minor = 9, .type = BLOCK_DATA, .records = 2, .first_icount = 4000, .last_icount = 4015};
    forge(&f, data, records, sizeof(records));

    struct log_reader *r = rig_open(fd);
    rig_expect(r, 1, 3);
    struct journal_entry e;
    assert_int_equal(log_reader_next(r, &e), 1);
    assert_int_equal(e.number, 7);
    assert_int_equal(e.type, JOURNAL_STATE_HASH);
    assert_int_equal(e.c.icount, 4015);
    assert_int_equal(e.c.digest, 0x0807060504030201);
    assert_int_equal(log_reader_next(r, &e), 0);
    log_reader_close(r);
    struct log_summary s;
    struct log_error error;
    assert_int_equal(log_verify(fd, &s, &error), 0);
    assert_int_equal(s.unknown, 3);
    assert_int_equal(s.records, 7);
    close(fd);
}

/* What a valid checksum does not excuse. */
static void test_wrong_contents(void **state)
{
    static const uint8_t hash[] = {13, 0x08, 5, 0x22, 9, 0x09, 1, 2, 3, 4, 5, 6, 7, 8};
    static const struct {
        struct block block;
        uint8_t raw[16];
        size_t len;
        int err;
        const char *why;
    } cases[] = {
        {{.major = 2, .type = BLOCK_DATA}, {0}, 1, -EPROTONOSUPPORT, "a newer format than this cleave reads"},
        {{.type = BLOCK_HEADER}, {0}, 1, -EBADMSG, "a second header block"},
        {{.type = BLOCK_DATA, .records = 1, .first_icount = 9, .last_icount = 8},
         {0},
         1,
         -EBADMSG,
         "positions go backwards"},
        {{.type = BLOCK_DATA, .first_icount = 10000, .last_icount = 10000},
         {0},
         1,
         -EBADMSG,
         "a data block without records"},
        {{.type = BLOCK_DATA, .records = 1, .first_icount = 10000, .last_icount = 10000},
         {200, 1},
         2,
         -EBADMSG,
         "a record cannot be read"},
        {{.type = BLOCK_DATA, .records = 1, .first_icount = 10000, .last_icount = 10000},
         {13},
         14,
         -EBADMSG,
         "the last record is not where the header says"},
        {{.type = BLOCK_DATA, .records = 2, .first_icount = 10000, .last_icount = 10005},
         {13},
         14,
         -EBADMSG,
         "a record cannot be read"},
        {{.type = BLOCK_DATA, .records = 1, .first_icount = 10000, .last_icount = 10005},
         {13},
         15,
         -EBADMSG,
         "something follows the last record"},
        {{.type = BLOCK_END, .first_icount = 10000, .last_icount = 10000},
         {9},
         2,
         -EBADMSG,
         "its message has a bad length"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = rig_file();
        struct log_writer *w = rig_create(fd);
        rig_append(w, 1, 3);
        assert_int_equal(log_writer_flush(w), 0);
        log_writer_destroy(w);
        struct forger f;
        forger_open(&f, fd);
        uint64_t offset = f.end;
        uint8_t raw[16];
        memcpy(raw, cases[i].raw[0] == 13 ? hash : cases[i].raw, sizeof(hash));
        memset(raw + sizeof(hash), 0, sizeof(raw) - sizeof(hash));
        forge(&f, cases[i].block, raw, cases[i].len);

        struct log_reader *r = rig_open(fd);
        struct journal_entry e;
        rig_expect(r, 1, 3);
        int got;
        while ((got = log_reader_next(r, &e)) > 0)
            ;
        assert_int_equal(got, cases[i].err);
        assert_string_equal(log_reader_error(r)->why, cases[i].why);
        assert_int_equal(log_reader_error(r)->block, 2);
        assert_int_equal(log_reader_error(r)->offset, offset);
        assert_int_equal(log_reader_next(r, &e), cases[i].err);
        log_reader_close(r);
        close(fd);
    }
}

static void test_not_a_log(void **state)
{
    struct log_reader *r;
    struct log_error error;
    char text[128];
    int fd = rig_file();
    assert_int_equal(log_reader_open(&r, fd, &error), -ENODATA);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(log_reader_open(&r, fd, &error), -EMEDIUMTYPE);
    assert_string_equal(log_error_text(&error, text, sizeof(text)), "block 0 at offset 0: not a cleave log");
    struct log_writer *w;
    assert_int_equal(log_writer_reopen(&w, fd, &(struct log_options){0}, &error), -EMEDIUMTYPE);
    assert_int_equal(rig_size(fd), 1 << 20);
    close(fd);
    assert_int_equal(log_reader_open(&r, -1, &error), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_header),
        cmocka_unit_test(test_large_bodies),   cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_order_enforced), cmocka_unit_test(test_seek),
        cmocka_unit_test(test_follow),         cmocka_unit_test(test_newer_minor),
        cmocka_unit_test(test_wrong_contents), cmocka_unit_test(test_not_a_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
