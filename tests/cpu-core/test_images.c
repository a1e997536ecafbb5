/* Boot images through packing and unpacking: the same bytes, less memory between. */
#include "cpu-core/main/images.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static size_t resident(const struct boot_image *i)
{
    size_t pages = (i->len + 4095) / 4096, n = 0;
    unsigned char *there = malloc(pages);
    assert_int_equal(mincore(i->data, i->len, there), 0);
    for (size_t k = 0; k < pages; k++)
        n += there[k] & 1;
    free(there);
    return n;
}

static void check_size(size_t size, int random)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    uint8_t *want = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        want[i] = random ? (uint8_t)rand() : (uint8_t)(i / 1000);
    assert_int_equal(write(fd, want, size), size);
    struct images s = {0};
    const struct boot_image *i;
    assert_int_equal(images_read(&s, fd, &i), 0);
    assert_int_equal(i->len, size);
    for (int round = 0; round < 2; round++) {
        if (size)
            assert_memory_equal(i->data, want, size);
        size_t plain = size ? resident(i) : 0;
        while (images_pack_some(&s))
            continue;
        if (!random && size > 4096)
            assert_in_range(resident(i), 0, plain / 100 + 1);
        images_unpack(&s);
    }
    if (size)
        assert_memory_equal(i->data, want, size);
    images_destroy(&s);
    free(want);
    close(fd);
}

static void test_sizes(void **state)
{
    const size_t sizes[] = {0, 1, 4095, 1 << 20, (1 << 20) + 1, (5 << 20) + 77};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_size(sizes[i], 0);
        check_size(sizes[i], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
