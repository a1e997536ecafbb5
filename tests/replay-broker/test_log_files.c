/* Logs that bring their files along: blocks of files before the records, read back whole or not at all. */
#include "replay-broker/block.h"
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGE = (2 << 20) + 777, SMALL = 300, LARGE_ID = 7, SMALL_ID = 9, RECORDS = 30 };

static uint8_t large[LARGE], small[SMALL];

static int file_of(const uint8_t *bytes, size_t len)
{
    int fd = rig_file();
    assert_int_equal(file_write(fd, 0, bytes, len), 0);
    return fd;
}

static void fill(void)
{
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i / 3 ^ i >> 11);
    for (size_t i = 0; i < SMALL; i++)
        small[i] = (uint8_t)(i * 7);
}

static int write_log(int level)
{
    struct log_writer *w;
    fill();
    int fd = rig_file(), a = file_of(large, LARGE), b = file_of(small, SMALL);
    assert_int_equal(log_writer_create(&w, fd, &(struct log_options){.level = level}, rig_header()), 0);
    assert_int_equal(log_writer_file(w, LARGE_ID, a, LARGE), 0);
    assert_int_equal(log_writer_file(w, SMALL_ID, b, SMALL), 0);
    rig_append(w, 1, RECORDS);
    assert_int_equal(log_writer_file(w, SMALL_ID, b, SMALL), -EINVAL);
    assert_int_equal(log_writer_flush(w), 0);
    assert_int_equal(log_writer_file(w, SMALL_ID, b, SMALL), -EINVAL);
    assert_int_equal(log_writer_end(w, "poweroff", 0, RECORDS * 1000), 0);
    log_writer_destroy(w);
    close(a);
    close(b);
    return fd;
}

struct taken {
    uint8_t bytes[LARGE];
    size_t len;
};

static int take(void *ctx, const uint8_t *data, size_t len)
{
    struct taken *t = ctx;
    assert_true(len <= sizeof(t->bytes) - t->len);
    memcpy(t->bytes + t->len, data, len);
    t->len += len;
    return 0;
}

static int refuse(void *ctx, const uint8_t *data, size_t len)
{
    return -ENOSPC;
}

static void test_read_back(void **state)
{
    static struct taken t;
    for (int level = 0; level <= 12; level += 6) {
        int fd = write_log(level);
        struct log_reader *r = rig_open(fd);
        rig_expect(r, 1, 5);
        t.len = 0;
        assert_int_equal(log_reader_file(r, LARGE_ID, take, &t), LARGE);
        assert_memory_equal(t.bytes, large, LARGE);
        t.len = 0;
        assert_int_equal(log_reader_file(r, SMALL_ID, take, &t), SMALL);
        assert_memory_equal(t.bytes, small, SMALL);
        assert_int_equal(log_reader_file(r, 1, take, &t), -ENOENT);
        assert_int_equal(log_reader_file(r, SMALL_ID, refuse, NULL), -ENOSPC);
        rig_expect(r, 6, RECORDS);
        assert_int_equal(log_reader_seek_record(r, 3), 0);
        rig_expect(r, 3, RECORDS);
        log_reader_close(r);
        close(fd);
    }
}

static void test_level_packs_better(void **state)
{
    int fast = write_log(0), slow = write_log(12);
    assert_true(rig_size(slow) < rig_size(fast));
    close(fast);
    close(slow);
}

static void test_short_file(void **state)
{
    int fd = rig_file(), file = file_of(small, SMALL);
    struct log_writer *w = rig_create(fd);
    assert_int_equal(log_writer_file(w, SMALL_ID, file, SMALL + 1), -ENODATA);
    rig_append(w, 1, 3);
    assert_int_equal(log_writer_end(w, "poweroff", 0, 3000), 0);
    log_writer_destroy(w);
    struct log_reader *r = rig_open(fd);
    rig_expect(r, 1, 3);
    log_reader_close(r);
    close(file);
    close(fd);
}

/* A byte of a file block is damage to whoever wants the file and to log_verify(), and hides no record. */
static void test_damage(void **state)
{
    struct log_summary s;
    struct log_error error;
    static struct taken t;
    uint8_t byte;
    int fd = write_log(0);
    struct places p = {.fd = fd};
    while (places_extend(&p, &error) > 0)
        ;
    assert_int_equal(p.at[4].block.type, BLOCK_FILE);
    uint64_t at = p.at[4].offset + BLOCK_HEADER_SIZE + 20;
    assert_int_equal(log_verify(fd, &s, &error), 0);
    assert_int_equal(s.records, RECORDS);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(log_verify(fd, &s, &error), -EBADMSG);
    assert_int_equal(error.block, 4);
    struct log_reader *r = rig_open(fd);
    t.len = 0;
    assert_int_equal(log_reader_file(r, SMALL_ID, take, &t), -EBADMSG);
    assert_int_equal(log_reader_error(r)->block, 4);
    rig_expect(r, 1, RECORDS);
    log_reader_close(r);
    places_free(&p);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_level_packs_better),
        cmocka_unit_test(test_short_file),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
