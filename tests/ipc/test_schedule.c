/* Schedules in memfds: what goes in comes out; what a hostile peer passes off as one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ipc/schedule.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static void test_round_trip(void **state)
{
    static const uint8_t bytes[] = "0123456789abcdef";
    const struct schedule_entry in[] = {
        {0, 0, 1, bytes}, {5, 1, 0, bytes}, {5, 2, 16, bytes}, {UINT64_MAX, 7, 7, bytes + 3}};
    struct schedule out;

    int fd = schedule_create(in, 4);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(schedule_read(fd, &out), 0);
    assert_int_equal(out.n, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(out.list[i].ns, in[i].ns);
        assert_int_equal(out.list[i].queue, in[i].queue);
        assert_int_equal(out.list[i].len, in[i].len);
        assert_memory_equal(out.list[i].data, in[i].data, in[i].len);
    }
    schedule_free(&out);
    close(fd);
    fd = schedule_create(NULL, 0);
    assert_int_equal(schedule_read(fd, &out), 0);
    assert_int_equal(out.n, 0);
    schedule_free(&out);
    close(fd);
}

static void test_too_long(void **state)
{
    static const uint8_t byte;
    struct schedule_entry entry = {0, 0, SCHEDULE_MAX_BYTES, &byte};

    assert_int_equal(schedule_create(&entry, 1), -E2BIG);
}

static int sealed(const void *bytes, size_t len, int seals)
{
    int fd = memfd_create("hostile", MFD_ALLOW_SEALING);

    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void refused(int fd)
{
    struct schedule out;

    assert_int_equal(schedule_read(fd, &out), -EPROTO);
    close(fd);
}

static void test_hostile(void **state)
{
    struct {
        uint64_t ns;
        uint32_t queue, len;
        uint64_t data;
    } r[2] = {{5, 0, 8, 0}, {5, 0, 8, 0}};
    struct schedule out;

    int fd = sealed(r, sizeof r, SEALS);
    assert_int_equal(schedule_read(fd, &out), 0);
    assert_int_equal(out.n, 2);
    schedule_free(&out);
    close(fd);

    refused(sealed(r, sizeof r, SEALS & ~F_SEAL_SHRINK));
    refused(sealed(r, sizeof r, SEALS & ~F_SEAL_WRITE));
    refused(sealed(r, sizeof r, F_SEAL_SEAL));
    for (size_t len = 1; len < sizeof r; len++)
        if (len != sizeof r[0])
            refused(sealed(r, len, SEALS));
    r[1].ns = 4;
    refused(sealed(r, sizeof r, SEALS));
    r[1].ns = 5;
    r[1].len = 9;
    refused(sealed(r, sizeof r, SEALS));
    r[1].len = 0xffffffff;
    refused(sealed(r, sizeof r, SEALS));
    refused(open("/dev/null", O_RDWR));
    fd = memfd_create("hostile", MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, (off_t)SCHEDULE_MAX_BYTES + 1), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    refused(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
