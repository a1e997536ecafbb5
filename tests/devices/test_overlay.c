/* The overlay against a model of the disk in memory: random accesses, reopening, torn tails, foreign files.
 */
#include "devices/block/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DISK = 3 * 1024 * 1024 + 5 * SECTOR, /* ends inside a cluster */
    SECTORS = DISK / SECTOR,
    JOURNAL_AT = 4096,
    ENTRY = 32,
};

struct fixture {
    int base, file;
    struct disk *disk;
    uint8_t *model;
};

static int make_base(unsigned seed)
{
    int fd = memfd_create("base", MFD_CLOEXEC);
    assert_true(fd >= 0);
    srand(seed);
    uint8_t bytes[SECTOR];
    for (unsigned i = 0; i < SECTORS; i++) {
        memset(bytes, rand(), sizeof(bytes));
        memcpy(bytes, &i, sizeof(i));
        assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    }
    return fd;
}

/* Opens copies of the descriptors, which the overlay closes. */
static int open_disk(struct fixture *f, uint64_t *cut)
{
    int file = dup(f->file), base = dup(f->base);
    int err = overlay_open(file, base, DISK, &f->disk, cut);
    if (err) {
        close(file);
        close(base);
    }
    return err;
}

static void setup(struct fixture *f)
{
    uint64_t cut;
    f->base = make_base(1);
    f->file = memfd_create("overlay", MFD_CLOEXEC);
    f->model = malloc(DISK);
    assert_int_equal(pread(f->base, f->model, DISK, 0), DISK);
    assert_int_equal(open_disk(f, &cut), 0);
    assert_int_equal(cut, 0);
}

static void teardown(struct fixture *f)
{
    f->disk->ops->close(f->disk);
    close(f->base);
    close(f->file);
    free(f->model);
}

static uint64_t reopen(struct fixture *f)
{
    uint64_t cut;
    f->disk->ops->close(f->disk);
    assert_int_equal(open_disk(f, &cut), 0);
    return cut;
}

static void check_all(struct fixture *f)
{
    uint8_t *bytes = malloc(DISK);
    assert_int_equal(f->disk->ops->read(f->disk, 0, bytes, DISK), 0);
    assert_memory_equal(bytes, f->model, DISK);
    free(bytes);
}

static void write_sectors(struct fixture *f, uint64_t sector, uint64_t n, unsigned fill)
{
    uint8_t *data = malloc(n * SECTOR);
    for (uint64_t i = 0; i < n * SECTOR; i++)
        data[i] = (uint8_t)(fill + i / 97);
    assert_int_equal(f->disk->ops->write(f->disk, sector * SECTOR, data, n * SECTOR), 0);
    memcpy(f->model + sector * SECTOR, data, n * SECTOR);
    free(data);
}

static void zero_sectors(struct fixture *f, uint64_t sector, uint64_t n)
{
    assert_int_equal(f->disk->ops->zero(f->disk, sector * SECTOR, n * SECTOR, true), 0);
    memset(f->model + sector * SECTOR, 0, n * SECTOR);
}

static void random_step(struct fixture *f)
{
    uint64_t sector = (uint64_t)rand() % SECTORS, max = SECTORS - sector;
    uint64_t n = 1 + (uint64_t)rand() % (rand() % 8 ? 24 : 2000);
    n = n < max ? n : max;
    uint8_t bytes[8 * SECTOR];
    switch (rand() % 6) {
    case 0:
        zero_sectors(f, sector, n);
        break;
    case 1:
        assert_int_equal(f->disk->ops->flush(f->disk), 0);
        break;
    case 2:
        n = n < 8 ? n : max < 8 ? max : 8;
        assert_int_equal(f->disk->ops->read(f->disk, sector * SECTOR, bytes, n * SECTOR), 0);
        assert_memory_equal(bytes, f->model + sector * SECTOR, n * SECTOR);
        break;
    default:
        write_sectors(f, sector, n, (unsigned)rand());
    }
}

static void test_random(void **state)
{
    struct fixture f;
    setup(&f);
    srand(7);
    check_all(&f);
    for (unsigned i = 0; i < 6000; i++) {
        random_step(&f);
        if (i % 500 == 0) {
            assert_int_equal(reopen(&f), 0);
            check_all(&f);
        }
    }
    check_all(&f);
    teardown(&f);
}

/* Every alignment of a short range against cluster borders and the disk's end. */
static void test_edges(void **state)
{
    struct fixture f;
    setup(&f);
    for (uint64_t n = 1; n <= 20; n++)
        for (uint64_t at = 0; at < 9; at++) {
            write_sectors(&f, 16 + at, n, (unsigned)(n * at));
            zero_sectors(&f, 80 + at, n);
            write_sectors(&f, SECTORS - n, n, (unsigned)at);
            zero_sectors(&f, SECTORS - n, n);
        }
    zero_sectors(&f, 0, SECTORS);
    check_all(&f);
    write_sectors(&f, 0, SECTORS, 3);
    assert_int_equal(reopen(&f), 0);
    check_all(&f);
    teardown(&f);
}

static void test_base_is_not_written(void **state)
{
    struct fixture f;
    setup(&f);
    uint8_t *before = malloc(DISK), *after = malloc(DISK);
    assert_int_equal(pread(f.base, before, DISK, 0), DISK);
    srand(3);
    for (unsigned i = 0; i < 500; i++)
        random_step(&f);
    assert_int_equal(pread(f.base, after, DISK, 0), DISK);
    assert_memory_equal(before, after, DISK);
    free(before);
    free(after);
    teardown(&f);
}

/* Where the journal's entry `index` lies; the tests stay in the first area. */
static off_t entry_at(unsigned index)
{
    return JOURNAL_AT + (off_t)index * ENTRY;
}

static uint32_t entry_kind(struct fixture *f, unsigned index)
{
    uint32_t kind = 0;
    pread(f->file, &kind, sizeof(kind), entry_at(index) + 12);
    return kind;
}

static unsigned entries(struct fixture *f)
{
    unsigned n = 0;
    while (entry_kind(f, n))
        n++;
    return n;
}

/* The file cut at any byte of its last entry, or that entry damaged: it is gone, the rest is there, and the
 * log can be continued. */
static void test_torn_entry(void **state)
{
    for (unsigned damage = 0; damage <= ENTRY; damage++) {
        struct fixture f;
        setup(&f);
        write_sectors(&f, 8, 8, 1);
        write_sectors(&f, 100, 3, 2);
        uint8_t before[8 * SECTOR];
        memcpy(before, f.model + 40 * SECTOR, sizeof(before));
        write_sectors(&f, 40, 8, 3);
        memcpy(f.model + 40 * SECTOR, before, sizeof(before));
        unsigned last = entries(&f) - 1;
        uint8_t entry[ENTRY];
        assert_int_equal(pread(f.file, entry, ENTRY, entry_at(last)), ENTRY);
        if (damage == ENTRY)
            memset(entry, 0, ENTRY);
        else
            entry[damage] ^= 0x40;
        assert_int_equal(pwrite(f.file, entry, ENTRY, entry_at(last)), ENTRY);
        assert_int_equal(reopen(&f), damage == ENTRY ? 0 : 1);
        check_all(&f);
        write_sectors(&f, 41, 9, 4);
        assert_int_equal(reopen(&f), 0);
        check_all(&f);
        teardown(&f);
    }
}

/* Data that never reached the disk: entries from the first such one on are left out, unless a flush covered
 * them. */
static void test_lost_data(void **state)
{
    struct fixture f;
    setup(&f);
    write_sectors(&f, 0, 8, 1);
    assert_int_equal(f.disk->ops->flush(f.disk), 0);
    uint8_t *flushed = malloc(DISK);
    memcpy(flushed, f.model, DISK);
    write_sectors(&f, 16, 8, 2);
    write_sectors(&f, 32, 8, 3);
    unsigned n = entries(&f);
    assert_int_equal(n, 4);
    uint32_t unit;
    assert_int_equal(pread(f.file, &unit, 4, entry_at(2) + 8), 4);
    const uint8_t zeros[4096] = {0};
    assert_int_equal(pwrite(f.file, zeros, sizeof(zeros), (off_t)unit * 4096), sizeof(zeros));
    memcpy(f.model, flushed, DISK);
    assert_int_equal(reopen(&f), 2);
    check_all(&f);
    write_sectors(&f, 48, 8, 4);
    assert_int_equal(reopen(&f), 0);
    check_all(&f);
    free(flushed);
    teardown(&f);
}

/* A process killed between data and entry leaves nothing behind. */
static void test_data_without_entry(void **state)
{
    struct fixture f;
    setup(&f);
    write_sectors(&f, 0, 8, 1);
    struct stat st;
    assert_int_equal(fstat(f.file, &st), 0);
    uint8_t junk[8192];
    memset(junk, 0xaa, sizeof(junk));
    assert_int_equal(pwrite(f.file, junk, sizeof(junk), st.st_size), sizeof(junk));
    assert_int_equal(reopen(&f), 0);
    check_all(&f);
    write_sectors(&f, 8, 16, 2);
    assert_int_equal(reopen(&f), 0);
    check_all(&f);
    teardown(&f);
}

/* More entries than a journal area holds, and more data than a data area. */
static void test_segments(void **state)
{
    struct fixture f;
    setup(&f);
    for (unsigned i = 0; i < 5000; i++)
        write_sectors(&f, i % SECTORS, 1, i);
    for (unsigned i = 0; i < 20; i++)
        write_sectors(&f, 3, SECTORS - 3, i);
    assert_int_equal(reopen(&f), 0);
    check_all(&f);
    teardown(&f);
}

static int open_with(int file, int base, uint64_t size)
{
    struct disk *d;
    uint64_t cut;
    int err = overlay_open(file, base, size, &d, &cut);
    assert_int_not_equal(err, 0);
    return err;
}

static void test_refusals(void **state)
{
    struct fixture f;
    setup(&f);
    write_sectors(&f, 0, 8, 1);
    int other = make_base(2), text = memfd_create("text", 0);
    assert_int_equal(write(text, "hello", 5), 5);
    assert_int_equal(open_with(text, f.base, DISK), -EMEDIUMTYPE);
    assert_int_equal(open_with(f.file, other, DISK), -ESTALE);
    assert_int_equal(open_with(f.file, f.base, DISK - SECTOR), -ESTALE);
    assert_int_equal(open_with(f.file, f.base, DISK + SECTOR), -ENODATA);
    uint32_t version = 2;
    assert_int_equal(pwrite(f.file, &version, 4, 8), 4);
    assert_int_equal(open_with(f.file, f.base, DISK), -EPROTONOSUPPORT);
    version = 1;
    assert_int_equal(pwrite(f.file, &version, 4, 8), 4);
    uint8_t damaged;
    assert_int_equal(pread(f.file, &damaged, 1, 33), 1);
    damaged ^= 1;
    assert_int_equal(pwrite(f.file, &damaged, 1, 33), 1);
    assert_int_equal(open_with(f.file, f.base, DISK), -EMEDIUMTYPE);
    close(other);
    close(text);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_base_is_not_written),
        cmocka_unit_test(test_torn_entry),
        cmocka_unit_test(test_lost_data),
        cmocka_unit_test(test_data_without_entry),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
