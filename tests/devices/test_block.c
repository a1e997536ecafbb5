/* cleave-block as a process: every request type, bad requests, order, failures of the back-end, overlays
 * across a kill. */
#include "tests/devices/harness.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECTOR = 512, DISK = 8 << 20, SECTORS = DISK / SECTOR, HEADER = sizeof(struct virtio_blk_outhdr) };

static const char *executable;

/* A sector's contents: its number and a version. */
static void fill(uint8_t *data, uint64_t sector, unsigned n, uint32_t version)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t number = sector + i;
        memset(data + i * SECTOR, (int)(version + number), SECTOR);
        memcpy(data + i * SECTOR, &number, sizeof(number));
        memcpy(data + i * SECTOR + 8, &version, sizeof(version));
    }
}

/* An unlinked file in the current directory: a real file system, unlike a memfd. */
static int make_file(uint64_t size, bool filled)
{
    char name[] = "blockXXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(name);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    uint8_t data[SECTOR];
    for (uint64_t i = 0; filled && i < size / SECTOR; i++) {
        fill(data, i, 1, 0);
        assert_int_equal(pwrite(fd, data, SECTOR, (off_t)(i * SECTOR)), SECTOR);
    }
    return fd;
}

static struct harness_config config(int image)
{
    return (struct harness_config){
        .executable = executable,
        .id = "vda",
        .options = {{"serial", "disk-0042"}, {"path", "root.img"}},
        .fds = {{"image", image}},
    };
}

static uint8_t command(struct harness *h, uint32_t type, uint64_t sector, const void *data, uint32_t len,
                       void *in, uint32_t in_len)
{
    struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(sector)};
    uint8_t *request = malloc(HEADER + len), *answer = malloc(in_len + 1);
    memcpy(request, &header, HEADER);
    if (len)
        memcpy(request + HEADER, data, len);
    assert_int_equal(harness_request(h, 0, request, HEADER + len, answer, in_len + 1), in_len + 1);
    if (in_len)
        memcpy(in, answer, in_len);
    uint8_t status = answer[in_len];
    free(request);
    free(answer);
    return status;
}

static uint8_t write_version(struct harness *h, uint64_t sector, unsigned n, uint32_t version)
{
    uint8_t *data = malloc((size_t)n * SECTOR);
    fill(data, sector, n, version);
    uint8_t status = command(h, VIRTIO_BLK_T_OUT, sector, data, n * SECTOR, NULL, 0);
    free(data);
    return status;
}

static uint8_t flush(struct harness *h)
{
    return command(h, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL, 0);
}

static void check_version(struct harness *h, uint64_t sector, unsigned n, uint32_t version)
{
    uint8_t *expected = malloc((size_t)n * SECTOR), *got = malloc((size_t)n * SECTOR);
    fill(expected, sector, n, version);
    assert_int_equal(command(h, VIRTIO_BLK_T_IN, sector, NULL, 0, got, n * SECTOR), VIRTIO_BLK_S_OK);
    assert_memory_equal(got, expected, (size_t)n * SECTOR);
    free(expected);
    free(got);
}

static void check_zeros(struct harness *h, uint64_t sector, unsigned n)
{
    uint8_t *expected = calloc(n, SECTOR), *got = malloc((size_t)n * SECTOR);
    assert_int_equal(command(h, VIRTIO_BLK_T_IN, sector, NULL, 0, got, n * SECTOR), VIRTIO_BLK_S_OK);
    assert_memory_equal(got, expected, (size_t)n * SECTOR);
    free(expected);
    free(got);
}

static struct virtio_blk_discard_write_zeroes segment(uint64_t sector, uint32_t n, uint32_t flags)
{
    return (struct virtio_blk_discard_write_zeroes){
        .sector = htole64(sector), .num_sectors = htole32(n), .flags = htole32(flags)};
}

static void test_describes_itself(void **state)
{
    struct harness h;
    int image = make_file(DISK, false);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    const Cleave__Describe *d = h.describe.body->describe;
    struct virtio_blk_config conf = {0};
    assert_int_equal(d->virtio_id, 2);
    assert_true(d->config.len <= sizeof(conf));
    memcpy(&conf, d->config.data, d->config.len);
    assert_int_equal(le64toh(conf.capacity), SECTORS);
    assert_int_equal(le32toh(conf.blk_size), SECTOR);
    assert_true(d->features & 1u << VIRTIO_BLK_F_FLUSH);
    assert_false(d->features & 1u << VIRTIO_BLK_F_RO);
    /* The largest request of a driver that keeps to the limits must fit. */
    assert_true((uint64_t)le32toh(conf.size_max) * le32toh(conf.seg_max) < d->queues[0]->max_response);
    char id[20];
    assert_int_equal(command(&h, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, id, 20), VIRTIO_BLK_S_OK);
    assert_memory_equal(id, "disk-0042\0\0\0\0\0\0\0\0\0\0", 20);
    harness_stop(&h);
    close(image);
}

static void check_latency(struct harness *h, size_t n, uint64_t base, uint64_t bandwidth, uint64_t jitter)
{
    const Cleave__Describe *d = h->describe.body->describe;
    assert_int_equal(d->n_latency, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(d->latency[i]->base_ns, base);
        assert_int_equal(d->latency[i]->bandwidth, bandwidth);
        assert_int_equal(d->latency[i]->jitter_ns, jitter);
    }
}

static void test_latency(void **state)
{
    struct harness h;
    int image = make_file(DISK, false);
    struct harness_config c = config(image);
    unsigned n = 0;
    while (c.options[n].key)
        n++;
    assert_true(harness_start(&h, &c));
    const Cleave__Describe *d = h.describe.body->describe;
    size_t rules = d->n_latency;
    uint64_t seed = d->latency_seed;
    assert_int_equal(rules, 4);
    assert_memory_equal(d->latency[1]->prefix.data, "\1\0\0\0", 4);
    assert_int_equal(d->latency[1]->base_ns, 40000);
    harness_stop(&h);

    c.options[n] = (struct harness_option){"latency", "5"};
    c.options[n + 1] = (struct harness_option){"bandwidth", "4096"};
    c.options[n + 2] = (struct harness_option){"jitter", "0"};
    c.index++;
    assert_true(harness_start(&h, &c));
    check_latency(&h, rules, 5, 4096, 0);
    assert_true(h.describe.body->describe->latency_seed != seed);
    harness_stop(&h);

    c.options[n].value = "60000000001";
    assert_false(harness_start(&h, &c));
    assert_non_null(strstr(h.failure, "latency"));
    close(image);
}

static void read_write(struct harness *h)
{
    check_version(h, 0, 100, 0);
    assert_int_equal(write_version(h, 10, 1, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(write_version(h, 12, 30, 2), VIRTIO_BLK_S_OK);
    check_version(h, 10, 1, 1);
    check_version(h, 11, 1, 0);
    check_version(h, 12, 30, 2);
    assert_int_equal(write_version(h, SECTORS - 1, 1, 3), VIRTIO_BLK_S_OK);
    check_version(h, SECTORS - 1, 1, 3);
    assert_int_equal(write_version(h, 0, SECTORS, 4), VIRTIO_BLK_S_OK);
    check_version(h, 0, SECTORS, 4);
    assert_int_equal(flush(h), VIRTIO_BLK_S_OK);
}

static void zero_and_discard(struct harness *h)
{
    assert_int_equal(write_version(h, 0, 4096, 5), VIRTIO_BLK_S_OK);
    struct virtio_blk_discard_write_zeroes seg[3] = {segment(1, 1, 0), segment(64, 80, 0),
                                                     segment(1003, 22, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)};
    assert_int_equal(command(h, VIRTIO_BLK_T_WRITE_ZEROES, 0, seg, sizeof(seg), NULL, 0), VIRTIO_BLK_S_OK);
    check_version(h, 0, 1, 5);
    check_zeros(h, 1, 1);
    check_version(h, 2, 62, 5);
    check_zeros(h, 64, 80);
    check_version(h, 144, 859, 5);
    check_zeros(h, 1003, 22);
    check_version(h, 1025, 100, 5);
    seg[0] = segment(2000, 500, 0);
    assert_int_equal(command(h, VIRTIO_BLK_T_DISCARD, 0, seg, sizeof(seg[0]), NULL, 0), VIRTIO_BLK_S_OK);
    check_zeros(h, 2000, 500);
    check_version(h, 2500, 100, 5);
    seg[0] = segment(77, 0, 0);
    assert_int_equal(command(h, VIRTIO_BLK_T_DISCARD, 0, seg, sizeof(seg[0]), NULL, 0), VIRTIO_BLK_S_OK);
}

static void test_raw(void **state)
{
    struct harness h;
    int image = make_file(DISK, true);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    read_write(&h);
    zero_and_discard(&h);
    harness_stop(&h);
    uint8_t expected[SECTOR], got[SECTOR];
    fill(expected, 2500, 1, 5);
    assert_int_equal(pread(image, got, SECTOR, 2500 * SECTOR), SECTOR);
    assert_memory_equal(got, expected, SECTOR);
    struct stat st;
    assert_int_equal(fstat(image, &st), 0);
    assert_int_equal(st.st_size, DISK);
    close(image);
}

static void test_overlay(void **state)
{
    struct harness h;
    int image = make_file(DISK, true), overlay = make_file(0, false);
    struct harness_config c = config(image);
    c.fds[1] = (struct harness_fd){"overlay", overlay};
    assert_true(harness_start(&h, &c));
    read_write(&h);
    zero_and_discard(&h);
    harness_stop(&h);
    assert_true(harness_start(&h, &c));
    check_version(&h, 2500, 100, 5);
    check_zeros(&h, 2000, 500);
    check_version(&h, 8000, 100, 4);
    harness_stop(&h);
    uint8_t expected[SECTOR], got[SECTOR];
    for (unsigned i = 0; i < SECTORS; i++) {
        fill(expected, i, 1, 0);
        assert_int_equal(pread(image, got, SECTOR, (off_t)i * SECTOR), SECTOR);
        assert_memory_equal(got, expected, SECTOR);
    }
    close(image);
    close(overlay);
}

static void test_readonly(void **state)
{
    struct harness h;
    int image = make_file(DISK, true);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", image);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct harness_config c = config(fd);
    c.options[2] = (struct harness_option){"readonly", "1"};
    assert_true(harness_start(&h, &c));
    assert_true(h.describe.body->describe->features & 1u << VIRTIO_BLK_F_RO);
    check_version(&h, 5, 20, 0);
    assert_int_equal(write_version(&h, 5, 1, 1), VIRTIO_BLK_S_IOERR);
    struct virtio_blk_discard_write_zeroes seg = segment(5, 1, 0);
    assert_int_equal(command(&h, VIRTIO_BLK_T_DISCARD, 0, &seg, sizeof(seg), NULL, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(flush(&h), VIRTIO_BLK_S_OK);
    check_version(&h, 5, 20, 0);
    harness_stop(&h);
    close(fd);
    close(image);
}

/* The status byte of a request whose header and lengths may be anything. */
static uint8_t odd(struct harness *h, const void *request, uint32_t len, uint32_t answer_len)
{
    uint8_t *answer = malloc(answer_len);
    memset(answer, 0xee, answer_len);
    assert_int_equal(harness_request(h, 0, request, len, answer, answer_len), answer_len);
    for (uint32_t i = 0; i + 1 < answer_len; i++)
        assert_int_equal(answer[i], 0);
    uint8_t status = answer[answer_len - 1];
    free(answer);
    return status;
}

static uint8_t odd_type(struct harness *h, uint32_t type, uint64_t sector, uint32_t len, uint32_t answer_len)
{
    uint8_t request[HEADER + 4096] = {0};
    struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(sector)};
    memcpy(request, &header, HEADER);
    return odd(h, request, HEADER + len, answer_len);
}

static void test_bad_requests(void **state)
{
    struct harness h;
    int image = make_file(DISK, true);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    uint8_t none;
    assert_int_equal(odd_type(&h, 77, 0, 0, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_SECURE_ERASE, 0, 16, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, SECTORS, 0, 513), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, SECTORS - 1, 0, 1025), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, UINT64_MAX, 0, 513), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, UINT64_MAX / SECTOR, 0, 513), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, 0, 0, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, 0, 0, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_OUT, SECTORS, 512, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_OUT, 0, 100, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_OUT, 0, 100, 50), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_GET_ID, 0, 0, 20), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_DISCARD, 0, 0, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_DISCARD, 0, 15, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_DISCARD, 0, 17 * 16, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd(&h, "short", 5, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(odd(&h, "", 0, 40), VIRTIO_BLK_S_IOERR);
    struct virtio_blk_outhdr header = {.type = htole32(VIRTIO_BLK_T_OUT)};
    assert_int_equal(harness_request(&h, 0, &header, HEADER, &none, 0), 0);
    struct virtio_blk_discard_write_zeroes seg = segment(5, 1, 2);
    assert_int_equal(command(&h, VIRTIO_BLK_T_WRITE_ZEROES, 0, &seg, sizeof(seg), NULL, 0),
                     VIRTIO_BLK_S_UNSUPP);
    seg = segment(5, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
    assert_int_equal(command(&h, VIRTIO_BLK_T_DISCARD, 0, &seg, sizeof(seg), NULL, 0), VIRTIO_BLK_S_UNSUPP);
    seg = segment(SECTORS, 1, 0);
    assert_int_equal(command(&h, VIRTIO_BLK_T_DISCARD, 0, &seg, sizeof(seg), NULL, 0), VIRTIO_BLK_S_IOERR);
    seg = segment(0, UINT32_MAX, 0);
    assert_int_equal(command(&h, VIRTIO_BLK_T_DISCARD, 0, &seg, sizeof(seg), NULL, 0), VIRTIO_BLK_S_IOERR);
    check_version(&h, 0, SECTORS, 0);
    harness_stop(&h);
    close(image);
}

static unsigned submit_write(struct harness *h, uint64_t sector, unsigned n, uint32_t version)
{
    uint8_t *request = malloc(HEADER + (size_t)n * SECTOR);
    struct virtio_blk_outhdr header = {.type = htole32(VIRTIO_BLK_T_OUT), .sector = htole64(sector)};
    memcpy(request, &header, HEADER);
    fill(request + HEADER, sector, n, version);
    unsigned slot = harness_submit(h, 0, request, HEADER + n * SECTOR, 1);
    free(request);
    return slot;
}

static unsigned submit_read(struct harness *h, uint64_t sector, unsigned n)
{
    struct virtio_blk_outhdr header = {.type = htole32(VIRTIO_BLK_T_IN), .sector = htole64(sector)};
    return harness_submit(h, 0, &header, HEADER, n * SECTOR + 1);
}

/* The completion of a read, as far as it refers to the image. */
static struct ring_completion reference(struct harness *h, uint64_t sector, unsigned n)
{
    unsigned slot = submit_read(h, sector, n);
    uint32_t len;
    const uint8_t *got = harness_answer(h, 0, slot, &len);
    assert_int_equal(len, n * SECTOR + 1);
    assert_int_equal(got[len - 1], VIRTIO_BLK_S_OK);
    struct ring_completion c = h->slots[0][slot].completion;
    harness_release(h, 0, slot);
    return c;
}

static void assert_refers(struct harness *h, uint64_t sector, unsigned n, bool refers)
{
    struct ring_completion c = reference(h, sector, n);
    assert_int_equal(c.file_len, refers ? n * SECTOR : 0);
    assert_int_equal(c.file_off, refers ? sector * SECTOR : 0);
}

/* What a read-only image or an overlay's base holds is not only sent but said to come from there. */
static void test_references(void **state)
{
    struct harness h;
    int image = make_file(DISK, true), overlay = make_file(0, false);
    struct harness_config c = config(image);
    unsigned n = 0;
    assert_true(harness_start(&h, &c));
    assert_false(h.describe.body->describe->file);
    assert_refers(&h, 0, 8, false);
    harness_stop(&h);

    while (c.options[n].key)
        n++;
    c.options[n] = (struct harness_option){"readonly", "1"};
    assert_true(harness_start(&h, &c));
    assert_true(h.describe.body->describe->file);
    assert_refers(&h, 3, 100, true);
    harness_stop(&h);

    c.options[n] = (struct harness_option){0};
    c.fds[1] = (struct harness_fd){"overlay", overlay};
    assert_true(harness_start(&h, &c));
    assert_true(h.describe.body->describe->file);
    assert_refers(&h, 100, 1, true);
    assert_int_equal(write_version(&h, 1009, 1, 1), VIRTIO_BLK_S_OK);
    assert_refers(&h, 1009, 1, false);
    assert_refers(&h, 0, 2000, false);
    assert_refers(&h, 0, 800, true);
    harness_stop(&h);
    close(image);
    close(overlay);
}

/* Writes and reads of the same sectors, all in flight at once: every read sees the write before it, and the
 * last write stays. */
static void check_order(struct harness *h)
{
    enum { DEPTH = 120 };
    unsigned slots[DEPTH];
    uint8_t expected[24 * SECTOR];
    srand(11);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t sector = (uint64_t)rand() % (SECTORS - 64);
        uint32_t version = round * DEPTH + 100, len;
        for (unsigned i = 0; i < DEPTH; i += 2) {
            slots[i] = submit_write(h, sector, 24, version + i);
            slots[i + 1] = submit_read(h, sector + 3, 20);
        }
        for (unsigned i = 0; i < DEPTH; i += 2) {
            assert_int_equal(*harness_answer(h, 0, slots[i], &len), VIRTIO_BLK_S_OK);
            const uint8_t *got = harness_answer(h, 0, slots[i + 1], &len);
            fill(expected, sector + 3, 20, version + i);
            assert_int_equal(len, 20 * SECTOR + 1);
            assert_memory_equal(got, expected, 20 * SECTOR);
        }
        for (unsigned i = 0; i < DEPTH; i++)
            harness_release(h, 0, slots[i]);
        check_version(h, sector, 24, version + DEPTH - 2);
    }
}

static void test_order(void **state)
{
    for (unsigned with_overlay = 0; with_overlay < 2; with_overlay++) {
        struct harness h;
        int image = make_file(DISK, false), overlay = make_file(0, false);
        struct harness_config c = config(image);
        if (with_overlay)
            c.fds[1] = (struct harness_fd){"overlay", overlay};
        assert_true(harness_start(&h, &c));
        check_order(&h);
        harness_check_pss(&h, 8192);
        harness_stop(&h);
        close(image);
        close(overlay);
    }
}

/* A reset comes after everything before it. */
static void test_reset(void **state)
{
    struct harness h;
    int image = make_file(DISK, false);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    unsigned slots[60];
    for (unsigned i = 0; i < 60; i++)
        slots[i] = submit_write(&h, i * 100, 64, i);
    harness_reset(&h);
    for (unsigned i = 0; i < 60; i++) {
        assert_true(harness_answered(&h, 0, slots[i]));
        harness_release(&h, 0, slots[i]);
    }
    for (unsigned i = 0; i < 60; i++)
        check_version(&h, i * 100, 64, i);
    harness_stop(&h);
    close(image);
}

/* Killed with writes in flight, over and over. What was completed is there; of a write that was not, each
 * sector may have any version from the last completed one on. */
static void kill_and_check(bool with_overlay)
{
    enum { AREAS = 32, LENGTH = 40 };
    uint32_t done[AREAS] = {0};
    int image = make_file(DISK, true), overlay = make_file(0, false);
    struct harness_config c = config(image);
    if (with_overlay)
        c.fds[1] = (struct harness_fd){"overlay", overlay};
    srand(5);
    for (uint32_t round = 1; round <= 25; round++) {
        struct harness h;
        unsigned slots[AREAS];
        assert_true(harness_start(&h, &c));
        for (unsigned a = 0; a < AREAS; a++) {
            uint8_t got[LENGTH * SECTOR], expected[SECTOR];
            assert_int_equal(command(&h, VIRTIO_BLK_T_IN, a * 501, NULL, 0, got, sizeof(got)),
                             VIRTIO_BLK_S_OK);
            for (unsigned i = 0; i < LENGTH; i++) {
                uint32_t version;
                memcpy(&version, got + i * SECTOR + 8, sizeof(version));
                assert_in_range(version, done[a], round - 1);
                fill(expected, a * 501 + i, 1, version);
                assert_memory_equal(got + i * SECTOR, expected, SECTOR);
            }
            slots[a] = submit_write(&h, a * 501, LENGTH, round);
        }
        uint32_t len;
        for (unsigned wait_for = (unsigned)rand() % AREAS, a = 0; a < wait_for; a++)
            harness_answer(&h, 0, slots[a], &len);
        for (unsigned a = 0; a < AREAS; a++)
            if (h.slots[0][slots[a]].answered)
                done[a] = round;
        harness_kill(&h);
    }
    close(image);
    close(overlay);
}

static void test_killed_raw(void **state)
{
    kill_and_check(false);
}

static void test_killed_overlay(void **state)
{
    kill_and_check(true);
}

/* The back-end is full: an error for the request, a line in the log, and service goes on. */
static void full(bool with_overlay)
{
    struct harness h;
    int image = make_file(DISK, false), overlay = make_file(0, false);
    struct harness_config c = config(image);
    struct rlimit old, small = {1 << 20, 1 << 20};
    if (with_overlay)
        c.fds[1] = (struct harness_fd){"overlay", overlay};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(harness_start(&h, &c));
    small.rlim_max = old.rlim_max;
    assert_int_equal(prlimit(h.pid, RLIMIT_FSIZE, &small, NULL), 0);
    assert_int_equal(write_version(&h, 0, 64, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(write_version(&h, 4096, 8000, 2), VIRTIO_BLK_S_IOERR);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(write_version(&h, 4096, 4096, 2), VIRTIO_BLK_S_IOERR);
    assert_int_equal(flush(&h), VIRTIO_BLK_S_OK);
    check_version(&h, 0, 64, 1);
    harness_poll_control(&h, 0);
    assert_in_range(h.logs, 1, 100);
    assert_non_null(strstr(h.log, "disk 'vda': write failed: File too large"));
    assert_int_equal(prlimit(h.pid, RLIMIT_FSIZE, &old, NULL), 0);
    assert_int_equal(write_version(&h, 4096, 64, 3), VIRTIO_BLK_S_OK);
    harness_stop(&h);
    if (with_overlay) {
        assert_true(harness_start(&h, &c));
        check_version(&h, 0, 64, 1);
        check_version(&h, 4096, 64, 3);
        harness_stop(&h);
    }
    close(image);
    close(overlay);
}

static void test_full_raw(void **state)
{
    full(false);
}

static void test_full_overlay(void **state)
{
    full(true);
}

/* The image shrinks under a running machine. */
static void test_truncated_image(void **state)
{
    struct harness h;
    int image = make_file(DISK, true);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    assert_int_equal(ftruncate(image, DISK / 2), 0);
    assert_int_equal(odd_type(&h, VIRTIO_BLK_T_IN, SECTORS / 2 - 4, 0, 8 * SECTOR + 1), VIRTIO_BLK_S_IOERR);
    check_version(&h, 0, 100, 0);
    harness_stop(&h);
    close(image);
}

static void expect_refusal(const struct harness_config *c, const char *text)
{
    struct harness h;
    assert_false(harness_start(&h, c));
    if (!strstr(h.failure, text))
        fail_msg("'%s' instead of '%s'", h.failure, text);
    assert_non_null(strstr(h.failure, "disk 'vda': "));
}

static void test_bad_images(void **state)
{
    int empty = make_file(0, false), odd_size = make_file(1000, false), good = make_file(DISK, true);
    int other = make_file(DISK, false), dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int text = make_file(4096, true), overlay = make_file(0, false),
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct harness_config c = config(empty);
    expect_refusal(&c, "root.img: the image is empty");
    c = config(odd_size);
    expect_refusal(&c, "the size, 1000 bytes, is not a multiple of 512");
    c = config(dir);
    expect_refusal(&c, "neither a file nor a block device");
    c = config(null);
    expect_refusal(&c, "neither a file nor a block device");
    c = config(good);
    c.fds[0].name = "picture";
    expect_refusal(&c, "no image");
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", good);
    int readable = open(path, O_RDONLY | O_CLOEXEC);
    c = config(readable);
    expect_refusal(&c, "not open for writing");

    c = config(good);
    c.fds[1] = (struct harness_fd){"overlay", text};
    expect_refusal(&c, "overlay: not an overlay file");
    struct harness h;
    c.fds[1].fd = overlay;
    assert_true(harness_start(&h, &c));
    harness_stop(&h);
    c.fds[0].fd = other;
    expect_refusal(&c, "made over another image, or the image has changed");
    int fds[] = {empty, odd_size, good, other, dir, text, overlay, null, readable};
    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        close(fds[i]);
}

/* A process without memory for the stacks of its threads says so. */
static void test_no_threads(void **state)
{
    struct harness h;
    int image = make_file(DISK, false);
    struct harness_config c = config(image);
    harness_spawn(&h, &c);
    char path[64], line[256];
    unsigned long kb = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)h.pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) && sscanf(line, "VmSize: %lu kB", &kb) != 1)
        ;
    fclose(f);
    struct rlimit space = {(kb + 2048) << 10, (kb + 2048) << 10};
    assert_int_equal(prlimit(h.pid, RLIMIT_AS, &space, NULL), 0);
    assert_false(harness_configure(&h, &c));
    assert_non_null(strstr(h.failure, "disk 'vda': cannot start threads"));
    close(image);
}

/* Without FLUSH a driver expects writes to be durable when they complete; that works and is not slower than a
 * test may be. */
static void test_write_through(void **state)
{
    struct harness h;
    int image = make_file(DISK, false);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    h.features = 0;
    assert_int_equal(write_version(&h, 10, 10, 1), VIRTIO_BLK_S_OK);
    check_version(&h, 10, 10, 1);
    harness_stop(&h);
    close(image);
}

/* The largest request that the queue takes, as firmware sends it. */
static void test_large(void **state)
{
    enum { LARGE = 64 << 20 };
    struct harness h;
    int image = make_file(2 * LARGE, false);
    struct harness_config c = config(image);
    assert_true(harness_start(&h, &c));
    assert_int_equal(write_version(&h, 100, LARGE / SECTOR, 9), VIRTIO_BLK_S_OK);
    check_version(&h, 100, LARGE / SECTOR, 9);
    harness_stop(&h);
    close(image);
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-block";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describes_itself),
        cmocka_unit_test(test_latency),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_overlay),
        cmocka_unit_test(test_readonly),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_killed_raw),
        cmocka_unit_test(test_killed_overlay),
        cmocka_unit_test(test_full_raw),
        cmocka_unit_test(test_full_overlay),
        cmocka_unit_test(test_truncated_image),
        cmocka_unit_test(test_bad_images),
        cmocka_unit_test(test_no_threads),
        cmocka_unit_test(test_write_through),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
