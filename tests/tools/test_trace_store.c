/* The content store: copies, damage, concurrent writers, and what is collected. */
#include "replay-broker/log.h"
#include "tools/trace/state.h"
#include "tools/trace/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[] = "/tmp/cleave-store-XXXXXX";

static int enter(void **state)
{
    return mkdtemp(base) ? setenv("XDG_STATE_HOME", base, 1) : -1;
}

static int leave(void **state)
{
    char command[100];
    snprintf(command, sizeof(command), "rm -rf '%s'", base);
    return system(command);
}

static int bytes_file(const char *bytes, size_t len)
{
    int fd = memfd_create("bytes", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, 0), len);
    return fd;
}

static struct store_digest put(const char *bytes, size_t len)
{
    struct store s;
    struct store_digest d;
    uint64_t size;
    int fd = bytes_file(bytes, len);
    assert_int_equal(store_open(&s), 0);
    assert_int_equal(store_put(&s, fd, &d, &size), 0);
    assert_int_equal(size, len);
    store_close(&s);
    close(fd);
    return d;
}

static int get(const struct store_digest *d)
{
    struct store s;
    assert_int_equal(store_open(&s), 0);
    int fd = store_get(&s, d);
    store_close(&s);
    return fd;
}

static void object_path(const struct store_digest *d, char path[PATH_MAX])
{
    char name[STORE_NAME_SIZE], in[64];
    snprintf(in, sizeof(in), "store/%s", store_name(d, name));
    assert_int_equal(state_path(in, path, PATH_MAX), 0);
}

static void test_known_digest(void **state)
{
    char name[STORE_NAME_SIZE];
    struct store_digest d = put("", 0);
    /* XXH3-128 of nothing, seed 0: from the reference implementation's test vectors. */
    assert_string_equal(store_name(&d, name), "99aa06d3014798d86001c324468d497f");
}

static void test_put_and_get(void **state)
{
    char back[8];
    struct stat st;
    char path[PATH_MAX];
    struct store_digest d = put("kernel", 6);
    int fd = get(&d);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, back, sizeof(back)), 6);
    assert_memory_equal(back, "kernel", 6);
    close(fd);
    object_path(&d, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    ino_t was = st.st_ino;
    put("kernel", 6);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_ino, was);
    assert_int_equal(state_path("store", path, sizeof(path)), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_large(void **state)
{
    size_t len = (5u << 20) + 17;
    char *bytes = malloc(len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    struct store_digest d = put(bytes, len);
    int fd = get(&d);
    char *back = malloc(len);
    assert_non_null(back);
    assert_int_equal(pread(fd, back, len, 0), len);
    assert_memory_equal(back, bytes, len);
    close(fd);
    free(back);
    free(bytes);
}

static void test_damage(void **state)
{
    char path[PATH_MAX];
    struct store_digest d = put("initrd", 6);
    object_path(&d, path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "X", 1, 2), 1);
    close(fd);
    assert_int_equal(get(&d), -EBADMSG);
    put("initrd", 6); /* mends it */
    fd = get(&d);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(get(&d), -EBADMSG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(get(&d), -ENOENT);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(get(&d), -EBADMSG);
    assert_int_equal(rmdir(path), 0);
}

static void test_concurrent(void **state)
{
    enum { PROCESSES = 6, ROUNDS = 40 };
    for (int i = 0; i < PROCESSES; i++) {
        if (fork())
            continue;
        char bytes[64];
        for (int r = 0; r < ROUNDS; r++) {
            int len = snprintf(bytes, sizeof(bytes), "object %d", r);
            struct store_digest d = put(bytes, (size_t)len);
            int fd = get(&d);
            if (fd < 0)
                _exit(1);
            close(fd);
        }
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

/* A trace with one file. */
static void write_trace(const char *path, struct store_digest *d)
{
    struct log_writer *w;
    Cleave__LogHeader h;
    Cleave__LogFile file, *files[] = {&file};
    cleave__log_header__init(&h);
    cleave__log_file__init(&file);
    file.digest = (ProtobufCBinaryData){.len = STORE_DIGEST_BYTES, .data = d->bytes};
    h.files = files;
    h.n_files = 1;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(log_writer_create(&w, fd, &(struct log_options){0}, &h), 0);
    log_writer_destroy(w);
    close(fd);
}

static bool stored(const struct store_digest *d)
{
    int fd = get(d);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void trace_path(const char *name, char path[PATH_MAX])
{
    char in[64];
    int dir = state_open("traces");
    assert_true(dir >= 0);
    close(dir);
    snprintf(in, sizeof(in), "traces/%s", name);
    assert_int_equal(state_path(in, path, PATH_MAX), 0);
}

static void test_collect(void **state)
{
    char inside[PATH_MAX], outside[PATH_MAX], rubbish[PATH_MAX];
    struct store s;
    struct store_collected c;
    struct store_digest a = put("named by a trace", 16), b = put("named by one elsewhere", 22),
                        n = put("not named", 9);
    trace_path("vm-1.trace", inside);
    write_trace(inside, &a);
    trace_path("rubbish.trace", rubbish);
    int fd = open(rubbish, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "rubbish", 7), 7);
    close(fd);
    snprintf(outside, sizeof(outside), "%s/my.trace", base);
    write_trace(outside, &b);
    assert_int_equal(store_open(&s), 0);
    assert_int_equal(store_keep(&s, outside), 0);
    assert_int_equal(store_keep(&s, outside), 0);
    assert_int_equal(store_collect(&c), -EAGAIN);
    assert_true(stored(&n));
    store_close(&s);

    assert_int_equal(store_collect(&c), 0);
    assert_true(c.objects >= 1 && c.bytes >= 9);
    assert_true(stored(&a));
    assert_true(stored(&b));
    assert_false(stored(&n));

    assert_int_equal(unlink(inside), 0);
    assert_int_equal(unlink(outside), 0);
    assert_int_equal(store_collect(&c), 0);
    assert_int_equal(c.objects, 2);
    assert_int_equal(c.bytes, 38);
    assert_false(stored(&a));
    assert_false(stored(&b));
}

/* A trace that this version cannot read may name anything. */
static void test_collect_newer(void **state)
{
    char path[PATH_MAX];
    struct store_collected c;
    struct store_digest a = put("x", 1), n = put("y", 1);
    trace_path("newer.trace", path);
    write_trace(path, &a);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\x7f", 1, 8), 1);
    close(fd);
    assert_int_equal(store_collect(&c), -EPROTONOSUPPORT);
    assert_true(stored(&n));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(store_collect(&c), 0);
    assert_false(stored(&n));
}

static void test_no_state_directory(void **state)
{
    struct store s;
    char file[PATH_MAX];
    snprintf(file, sizeof(file), "%s/file", base);
    close(open(file, O_RDWR | O_CREAT, 0600));
    setenv("XDG_STATE_HOME", file, 1);
    assert_int_equal(store_open(&s), -ENOTDIR);
    setenv("XDG_STATE_HOME", "relative", 1);
    setenv("HOME", "", 1);
    assert_int_equal(store_open(&s), -ENOENT);
    setenv("XDG_STATE_HOME", base, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_digest),  cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_large),         cmocka_unit_test(test_damage),
        cmocka_unit_test(test_concurrent),    cmocka_unit_test(test_collect),
        cmocka_unit_test(test_collect_newer), cmocka_unit_test(test_no_state_directory),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
