/* A small log with every byte flipped, and cut at every byte: an error that says where, or a shorter reading
 * that says so; never other records than were written. */
#include "replay-broker/block.h"
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS = 40, BLOCK_RECORDS = 10 };

/* Where blocks begin, and with which record. */
struct border {
    uint64_t offset, records;
};

static int write_log(struct border *borders, unsigned *n)
{
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    *n = 0;
    borders[(*n)++] = (struct border){0, 0};
    for (uint64_t r = 1; r <= RECORDS; r += BLOCK_RECORDS) {
        borders[(*n)++] = (struct border){rig_size(fd), r - 1};
        rig_append(w, r, r + BLOCK_RECORDS - 1);
        assert_int_equal(log_writer_flush(w), 0);
    }
    borders[(*n)++] = (struct border){rig_size(fd), RECORDS};
    assert_int_equal(log_writer_end(w, "poweroff", 0, RECORDS * 1000), 0);
    log_writer_destroy(w);
    return fd;
}

/* The block that holds byte `at`. */
static unsigned block_of(const struct border *borders, unsigned n, uint64_t at)
{
    unsigned i = 0;
    while (i + 1 < n && borders[i + 1].offset <= at)
        i++;
    return i;
}

/* Reads as far as it goes; records must be the right ones. Returns their number; *got as of
 * log_reader_next(). */
static uint64_t read_all(struct log_reader *r, int *got)
{
    struct journal_entry e;
    uint64_t n = 0;
    while ((*got = log_reader_next(r, &e)) > 0)
        rig_assert_entry(&e, ++n);
    return n;
}

static void test_every_byte_flipped(void **state)
{
    struct border borders[16];
    unsigned blocks;
    int fd = write_log(borders, &blocks);
    for (uint64_t at = 0; at < rig_size(fd); at++) {
        uint8_t byte;
        struct log_reader *r;
        struct log_error error;
        unsigned block = block_of(borders, blocks, at);
        int damaged = rig_copy(fd, rig_size(fd)), got;
        assert_int_equal(pread(damaged, &byte, 1, (off_t)at), 1);
        byte ^= (uint8_t)(1u << at % 8);
        assert_int_equal(pwrite(damaged, &byte, 1, (off_t)at), 1);
        if (block == 0) {
            assert_true(log_reader_open(&r, damaged, &error) < 0);
        } else {
            r = rig_open(damaged);
            assert_int_equal(read_all(r, &got), borders[block].records);
            assert_true(got < 0);
            error = *log_reader_error(r);
            log_reader_close(r);
        }
        assert_int_equal(error.block, block);
        assert_int_equal(error.offset, borders[block].offset);
        assert_non_null(error.why);
        struct log_summary s;
        assert_true(log_verify(damaged, &s, &error) < 0);
        assert_int_equal(s.records, borders[block].records);
        close(damaged);
    }
    close(fd);
}

static void test_cut_at_every_byte(void **state)
{
    struct border borders[16];
    unsigned blocks;
    int fd = write_log(borders, &blocks);
    for (uint64_t size = 0; size < rig_size(fd); size++) {
        struct log_reader *r;
        struct log_error error;
        unsigned block = block_of(borders, blocks, size);
        int cut = rig_copy(fd, size), got;
        if (block == 0) {
            assert_int_equal(log_reader_open(&r, cut, &error), -ENODATA);
            close(cut);
            continue;
        }
        r = rig_open(cut);
        assert_int_equal(read_all(r, &got), borders[block].records);
        assert_int_equal(got, 0);
        bool border = size == borders[block].offset;
        assert_int_equal(log_reader_ending(r), border ? LOG_OPEN : LOG_TORN);
        if (!border)
            assert_int_equal(log_reader_error(r)->offset, borders[block].offset);
        assert_null(log_reader_end(r));
        log_reader_close(r);
        close(cut);
    }
    close(fd);
}

/* A writer that continues a damaged log cuts it where the reader stopped. */
static void test_every_byte_reopened(void **state)
{
    struct border borders[16];
    unsigned blocks;
    int fd = write_log(borders, &blocks);
    uint64_t last = borders[blocks - 2].offset, end = borders[blocks - 1].offset;
    for (uint64_t at = last; at < end; at++) {
        struct log_writer *w;
        struct log_error error;
        uint8_t byte;
        int damaged = rig_copy(fd, end);
        assert_int_equal(pread(damaged, &byte, 1, (off_t)at), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(damaged, &byte, 1, (off_t)at), 1);
        int err = log_writer_reopen(&w, damaged, &(struct log_options){0}, &error);
        if (err == -EPROTONOSUPPORT) { /* of another version: not ours to cut */
            assert_true(at - last >= 8 && at - last < 10);
            close(damaged);
            continue;
        }
        assert_int_equal(err, 0);
        assert_int_equal(log_writer_status(w).records, RECORDS - BLOCK_RECORDS);
        assert_int_equal(log_writer_status(w).cut, end - last);
        rig_append(w, RECORDS - BLOCK_RECORDS + 1, RECORDS + 5);
        assert_int_equal(log_writer_end(w, "stop", 0, 0), 0);
        log_writer_destroy(w);
        struct log_reader *r = rig_open(damaged);
        rig_expect(r, 1, RECORDS + 5);
        log_reader_close(r);
        close(damaged);
    }
    close(fd);
}

/* Blocks of another log, or of the same one in another order, do not pass for the next block. */
static void test_chain(void **state)
{
    struct border borders[16];
    unsigned blocks;
    int a = write_log(borders, &blocks), b = write_log(borders, &blocks), got;
    uint64_t half = borders[2].offset, size = rig_size(b);
    uint8_t bytes[16384];
    assert_true(size <= sizeof(bytes) && rig_size(a) == size);
    assert_int_equal(pread(b, bytes, size, 0), size);
    assert_int_equal(pwrite(a, bytes + half, size - half, (off_t)half), size - half);
    struct log_reader *r = rig_open(a);
    assert_int_equal(read_all(r, &got), BLOCK_RECORDS);
    assert_int_equal(got, -EBADMSG);
    assert_string_equal(log_reader_error(r)->why, "does not follow the block before");
    log_reader_close(r);

    uint64_t next = borders[3].offset; /* without its second data block */
    assert_int_equal(pwrite(b, bytes + next, size - next, (off_t)half), size - next);
    r = rig_open(b);
    assert_int_equal(read_all(r, &got), BLOCK_RECORDS);
    assert_int_equal(got, -EBADMSG);
    log_reader_close(r);
    close(a);
    close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_flipped),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_every_byte_reopened),
        cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
