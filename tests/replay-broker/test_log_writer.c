/* A writer that is killed, that runs out of room, or that meets its limit: what is in the file is right, and
 * it can be continued or ended. */
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Fails the child: the parent sees no progress. */
static void write_on(int fd, bool create)
{
    struct log_writer *w;
    struct log_error error;
    if (create ? log_writer_create(&w, fd, &(struct log_options){0}, rig_header())
               : log_writer_reopen(&w, fd, &(struct log_options){0}, &error))
        _exit(1);
    for (uint64_t n = log_writer_status(w).records + 1;; n++) {
        struct journal_entry e = rig_entry(n);
        if (log_writer_append(w, &e) || (n % 13 == 0 && log_writer_flush(w)))
            _exit(1);
    }
}

/* Each incarnation continues where the file ends; in the end there is no gap. */
static void test_killed(void **state)
{
    enum { ROUNDS = 60 };
    int fd = rig_file();
    struct log_summary s = {0};
    struct log_error error;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t before = s.records;
        int pid = rig_fork();
        if (!pid)
            write_on(fd, round == 0);
        uint64_t size = rig_size(fd);
        for (unsigned i = 0; i < 100000 && rig_size(fd) <= size + 4096; i++)
            sched_yield();
        nanosleep(&(struct timespec){.tv_nsec = (long)(next_random() % 500) * 1000}, NULL);
        rig_kill(pid);
        assert_int_equal(log_verify(fd, &s, &error), 0);
        assert_true(s.records >= before);
        assert_true(s.ending != LOG_ENDED);
    }
    assert_true(s.records > 1000);
    struct log_writer *w;
    assert_int_equal(log_writer_reopen(&w, fd, &(struct log_options){0}, &error), 0);
    assert_int_equal(log_writer_status(w).records, s.records);
    assert_int_equal(log_writer_status(w).seq, rig_seq(s.records));
    assert_int_equal(log_writer_end(w, "stop", 0, 0), 0);
    log_writer_destroy(w);
    assert_int_equal(log_writer_reopen(&w, fd, &(struct log_options){0}, &error), -EALREADY);
    struct log_reader *r = rig_open(fd);
    rig_expect(r, 1, s.records);
    log_reader_close(r);
    close(fd);
}

/* Appends until it fails. Returns the first entry that was not taken. */
static uint64_t fill(struct log_writer *w, int *err)
{
    for (uint64_t n = 1;; n++) {
        struct journal_entry e = rig_entry(n);
        *err = log_writer_append(w, &e);
        if (*err)
            return n;
    }
}

static void expect_ended(int fd, uint64_t records, const char *reason, int error)
{
    struct log_reader *r = rig_open(fd);
    struct journal_entry e;
    rig_expect(r, 1, records);
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(log_reader_ending(r), LOG_ENDED);
    assert_string_equal(log_reader_end(r)->reason, reason);
    assert_int_equal(log_reader_end(r)->error, error);
    assert_int_equal(log_reader_end(r)->icount, records * 1000);
    log_reader_close(r);
}

static void test_size_limit(void **state)
{
    for (uint64_t limit = LOG_MIN_LIMIT; limit < 2000000; limit += 333333) {
        int fd = rig_file(), err;
        struct log_writer *w;
        assert_int_equal(log_writer_create(&w, fd, &(struct log_options){.max_bytes = limit}, rig_header()),
                         0);
        uint64_t refused = fill(w, &err);
        assert_int_equal(err, -EFBIG);
        assert_int_equal(log_writer_flush(w), -EFBIG);
        uint64_t records = log_writer_status(w).records;
        assert_true(records < refused);
        assert_int_equal(log_writer_end(w, "size limit", EFBIG, refused * 1000), 0);
        log_writer_destroy(w);
        assert_true(rig_size(fd) <= limit);
        expect_ended(fd, records, "size limit", EFBIG);
        close(fd);
    }
    struct log_writer *w;
    int fd = rig_file();
    assert_int_equal(log_writer_create(&w, fd, &(struct log_options){.max_bytes = 1000}, rig_header()),
                     -EINVAL);
    close(fd);
}

static void test_process_limit(void **state)
{
    int fd = rig_file(), pid = rig_fork(), status;
    if (!pid) {
        struct log_writer *w;
        int err;
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 300000, .rlim_max = 300000});
        if (log_writer_create(&w, fd, &(struct log_options){0}, rig_header()))
            _exit(1);
        fill(w, &err);
        if (err != -EFBIG || log_writer_end(w, "limit", EFBIG, 0))
            _exit(2);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct log_summary s;
    struct log_error error;
    assert_int_equal(log_verify(fd, &s, &error), 0);
    assert_true(s.records > 100);
    expect_ended(fd, s.records, "limit", EFBIG);
    close(fd);
}

/* A file system of its own that is too small and goes with the process; false where mounting is not allowed.
 */
static bool small_disk(char *path)
{
    strcpy(path, "/tmp/cleave-log-XXXXXX");
    assert_non_null(mkdtemp(path));
    if ((unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", path, "tmpfs", 0, "size=1m") == 0)
        return true;
    rmdir(path);
    return false;
}

static void write_junk(const char *path, off_t size)
{
    static const uint8_t junk[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (off_t at = 0; at < size; at += 4096)
        assert_int_equal(pwrite(fd, junk, 4096, at), 4096);
    close(fd);
}

/* Full: nothing is taken, the end can be written; room again: the recording goes on. */
static void test_disk_full(void **state)
{
    char dir[32], log[64], junk[64];
    if (!small_disk(dir))
        skip();
    snprintf(log, sizeof(log), "%s/log", dir);
    snprintf(junk, sizeof(junk), "%s/junk", dir);
    for (unsigned freed = 0; freed < 2; freed++) {
        int fd = open(log, O_RDWR | O_CREAT | O_CLOEXEC, 0600), err;
        assert_true(fd >= 0);
        write_junk(junk, 600 << 10);
        struct log_writer *w = rig_create(fd);
        uint64_t refused = fill(w, &err);
        assert_int_equal(err, -ENOSPC);
        assert_int_equal(log_writer_flush(w), -ENOSPC);
        uint64_t records = log_writer_status(w).records;
        assert_true(records > 0 && records < refused);
        if (freed) {
            unlink(junk);
            rig_append(w, refused, refused + 5);
            records = refused + 5;
        }
        assert_int_equal(log_writer_end(w, "no space left on device", ENOSPC, 0), 0);
        log_writer_destroy(w);
        expect_ended(fd, records, "no space left on device", ENOSPC);
        close(fd);
        unlink(log);
        unlink(junk);
    }
    umount(dir);
    rmdir(dir);
}

static void test_long_reason(void **state)
{
    char reason[2 * LOG_MAX_REASON + 1] = "";
    memset(reason, 'x', sizeof(reason) - 1);
    int fd = rig_file();
    struct log_writer *w = rig_create(fd);
    assert_int_equal(log_writer_end(w, reason, 0, 7), 0);
    log_writer_destroy(w);
    struct log_reader *r = rig_open(fd);
    struct journal_entry e;
    assert_int_equal(log_reader_next(r, &e), 0);
    assert_int_equal(strlen(log_reader_end(r)->reason), LOG_MAX_REASON);
    assert_int_equal(log_reader_end(r)->icount, 7);
    log_reader_close(r);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_process_limit), cmocka_unit_test(test_long_reason),
        cmocka_unit_test(test_disk_full), /* last: changes the process's namespace */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
