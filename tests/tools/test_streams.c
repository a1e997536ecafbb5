/* Byte streams of the command: escape keys, the markers of a batch run, the archive with the script. */
#include "tools/supervisor/batch.h"
#include "tools/supervisor/images.h"
#include "tools/supervisor/terminal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static enum escape_event feed(struct escape *e, const char *in, const char *expect, size_t expect_used)
{
    uint8_t out[64];
    size_t used, len;
    enum escape_event event = escape_feed(e, (const uint8_t *)in, strlen(in), &used, out, &len);
    assert_int_equal(len, strlen(expect));
    assert_memory_equal(out, expect, len);
    assert_int_equal(used, expect_used);
    return event;
}

static void test_escape(void **state)
{
    struct escape e = {0};
    assert_int_equal(feed(&e, "abc", "abc", 3), ESCAPE_NONE);
    assert_int_equal(feed(&e, "a\x01xb", "a", 3), ESCAPE_QUIT);
    assert_int_equal(feed(&e, "\x01?", "", 2), ESCAPE_HELP);
    assert_int_equal(feed(&e, "\x01\x01", "\x01", 2), ESCAPE_NONE);
    assert_int_equal(feed(&e, "\x01q", "\x01q", 2), ESCAPE_NONE);
    assert_int_equal(feed(&e, "\x01", "", 1), ESCAPE_NONE);
    assert_int_equal(feed(&e, "x", "", 1), ESCAPE_QUIT);
}

/* Feeds `in` in pieces of `step` bytes; collects what comes out. */
static void run_batch(struct batch *b, const char *in, size_t n, size_t step, char *out, size_t *out_len)
{
    batch_init(b);
    *out_len = 0;
    for (size_t at = 0; at < n; at += step) {
        uint8_t o[300], log[300];
        size_t len, log_len, take = n - at < step ? n - at : step;
        batch_feed(b, (const uint8_t *)in + at, take, o, &len, log, &log_len);
        memcpy(out + *out_len, o, len);
        *out_len += len;
    }
    uint8_t o[64];
    size_t len;
    batch_flush(b, o, &len);
    memcpy(out + *out_len, o, len);
    *out_len += len;
}

#define RS "\x1e"

static void check_batch(const char *in, const char *expect, int status, enum batch_phase phase)
{
    for (size_t step = 1; step < 80; step++) {
        struct batch b;
        char out[300];
        size_t len;
        run_batch(&b, in, strlen(in), step, out, &len);
        assert_int_equal(len, strlen(expect));
        assert_memory_equal(out, expect, len);
        assert_int_equal(b.status, status);
        assert_int_equal(b.phase, phase);
    }
}

static void test_batch(void **state)
{
    check_batch("boot\n" RS "cleave-batch-begin" RS "\nhello\n" RS "cleave-batch-end 7" RS "\ntail\n",
                "hello\n", 7, BATCH_OVER);
    check_batch("boot\n" RS "cleave-batch-beg" RS "in", "", -1, BATCH_BOOTING);
    check_batch(RS RS "cleave-batch-begin" RS "\nx" RS "cleave-batch-end y" RS "\n" RS RS
                      "cleave-batch-end 255" RS "\n",
                "x" RS "cleave-batch-end y" RS "\n" RS, 255, BATCH_OVER);
    check_batch(RS "cleave-batch-begin" RS "\npart" RS "cleave-batch-e", "part" RS "cleave-batch-e", -1,
                BATCH_OUTPUT);
    check_batch(RS "cleave-batch-begin" RS "\n" RS "cleave-batch-end 1234" RS "\n",
                RS "cleave-batch-end 1234" RS "\n", -1, BATCH_OUTPUT);
}

static void test_boot_log_is_bounded(void **state)
{
    struct batch b;
    batch_init(&b);
    for (int i = 0; i < 1000; i++) {
        uint8_t line[100], out[200], log[200];
        size_t n = (size_t)snprintf((char *)line, sizeof(line), "line %d of the boot\n", i), out_len, log_len;
        batch_feed(&b, line, n, out, &out_len, log, &log_len);
        assert_int_equal(out_len, 0);
        assert_int_equal(log_len, n);
    }
    assert_true(b.boot_len <= sizeof(b.boot));
    assert_memory_equal(b.boot + b.boot_len - 21, "line 999 of the boot\n", 21);
}

static unsigned hex(const char *p)
{
    char field[9];
    memcpy(field, p, 8);
    field[8] = '\0';
    return (unsigned)strtoul(field, NULL, 16);
}

/* Header at `p`: returns its data, checks name and mode. */
static const char *entry(const char *p, const char *name, unsigned mode, unsigned *size)
{
    assert_memory_equal(p, "070701", 6);
    assert_int_equal(hex(p + 6 + 8), mode);
    *size = hex(p + 6 + 6 * 8);
    assert_int_equal(hex(p + 6 + 11 * 8), strlen(name) + 1);
    assert_string_equal(p + 110, name);
    return p + ((110 + strlen(name) + 1 + 3) & ~3UL);
}

static void make(const char *path, const char *text, size_t n)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    fclose(file);
}

static void test_batch_initrd(void **state)
{
    static const char script[] = "echo one\n";
    char initrd[] = "/tmp/cleave-initrd-XXXXXX", batch[] = "/tmp/cleave-batch-XXXXXX";
    close(mkstemp(initrd));
    close(mkstemp(batch));
    make(initrd, "12345", 5);
    make(batch, script, strlen(script));
    struct config c = {.bios = "none", .memory = 1 << 24, .initrd = initrd, .batch = batch};
    struct boot_images b;
    struct failure f;
    assert_int_equal(images_open_boot(&c, &b, &f), 0);
    char data[1024] = {0};
    assert_true(pread(b.initrd, data, sizeof(data) - 1, 0) > 0);
    assert_memory_equal(data, "12345\0\0\0", 8);
    unsigned size;
    const char *p = entry(data + 8, "cleave/batch", S_IFREG | 0755, &size);
    assert_int_equal(size, strlen(script));
    assert_memory_equal(p, script, size);
    entry(p + ((size + 3) & ~3U), "TRAILER!!!", 0, &size);
    images_close_boot(&b);
    unlink(initrd);
    unlink(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_boot_log_is_bounded),
        cmocka_unit_test(test_batch_initrd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
