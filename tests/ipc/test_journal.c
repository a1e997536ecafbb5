/* The journal: order, wraparound, a full ring, who may write what, damage to every byte, hostile indices, and
 * either end killed at random moments. */
#include "ipc/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PAGE = 4096, SMALL = 4096, LARGE = 1 << 16, ENTRY = 96, MAX_BODY = 1500 };

struct journal {
    struct journal_producer *producer;
    int fd, tail_fd, producer_tail_fd;
};

static void setup(struct journal *j, uint64_t size)
{
    assert_int_equal(journal_tail_create(&j->tail_fd, &j->producer_tail_fd), 0);
    assert_int_equal(journal_create(&j->producer, size, j->producer_tail_fd, &j->fd), 0);
}

static void teardown(struct journal *j)
{
    journal_destroy(j->producer);
    close(j->fd);
    close(j->tail_fd);
    close(j->producer_tail_fd);
}

/* Entry `number`: everything about it follows from its number. */
static struct journal_entry make(uint64_t number, uint8_t *body)
{
    uint64_t r = XXH3_64bits(&number, sizeof(number));
    struct journal_entry e = {.number = number, .type = JOURNAL_CROSSING, .form = 1 + r % 4};
    e.c = (struct crossing){.seq = number,
                            .icount = number * 1000 + r % 1000,
                            .pc = r,
                            .request = r >> 7,
                            .arg = r >> 9,
                            .device = (uint16_t)(r >> 3),
                            .queue = (uint8_t)(r >> 5),
                            .direction = 1 + (r >> 11) % 2,
                            .kind = 1 + (r >> 13) % 9,
                            .len = (r >> 17) % MAX_BODY};
    for (uint32_t i = 0; i < e.c.len; i++)
        body[i] = (uint8_t)(r + i * 7);
    e.c.digest = XXH3_64bits(body, e.c.len);
    if (e.form >= JOURNAL_FILE)
        e.file = r >> 19;
    if (e.form == JOURNAL_FILE)
        e.offset = r >> 23;
    if (e.form == JOURNAL_FILE && r >> 29 & 1)
        e.tail = (uint32_t)((r >> 31) % (e.c.len + 1));
    e.body = e.form == JOURNAL_FILE ? body + e.c.len - e.tail : body;
    return e;
}

static void assert_entry(const struct journal_entry *got, uint64_t number)
{
    uint8_t body[MAX_BODY];
    struct journal_entry e = make(number, body);
    assert_int_equal(got->number, number);
    assert_int_equal(got->type, e.type);
    assert_int_equal(got->form, e.form);
    assert_int_equal(got->file, e.file);
    assert_int_equal(got->offset, e.offset);
    assert_int_equal(got->tail, e.tail);
    assert_int_equal(got->c.seq, e.c.seq);
    assert_int_equal(got->c.icount, e.c.icount);
    assert_int_equal(got->c.pc, e.c.pc);
    assert_int_equal(got->c.request, e.c.request);
    assert_int_equal(got->c.arg, e.c.arg);
    assert_int_equal(got->c.device, e.c.device);
    assert_int_equal(got->c.queue, e.c.queue);
    assert_int_equal(got->c.direction, e.c.direction);
    assert_int_equal(got->c.kind, e.c.kind);
    assert_int_equal(got->c.len, e.c.len);
    assert_int_equal(got->c.digest, e.c.digest);
    if (e.form == JOURNAL_INLINE && e.c.len)
        assert_memory_equal(got->body, body, e.c.len);
    else if (e.tail)
        assert_memory_equal(got->body, e.body, e.tail);
    else
        assert_null(got->body);
}

static int append(struct journal_producer *p, uint64_t number)
{
    uint8_t body[MAX_BODY];
    struct journal_entry e = make(number, body);
    return journal_append(p, &e);
}

static struct journal_consumer *attach(const struct journal *j, uint64_t after)
{
    struct journal_consumer *c;
    assert_int_equal(journal_attach(&c, j->fd, j->tail_fd, after), 0);
    return c;
}

static void expect(struct journal_consumer *c, uint64_t number)
{
    struct journal_entry e;
    assert_int_equal(journal_next(c, &e), 1);
    assert_entry(&e, number);
}

static void expect_none(struct journal_consumer *c)
{
    struct journal_entry e;
    assert_int_equal(journal_next(c, &e), 0);
}

static void test_wraps(void **state)
{
    struct journal j;
    setup(&j, SMALL);
    struct journal_consumer *c = attach(&j, 0);
    expect_none(c);
    uint64_t written = 0, read = 0;
    while (read < 2000) {
        int err;
        while ((err = append(j.producer, written + 1)) == 0)
            written++;
        assert_int_equal(err, -ENOSPC);
        while (read < written)
            expect(c, ++read);
        expect_none(c);
        assert_int_equal(append(j.producer, written + 1), -ENOSPC);
        journal_release(c, journal_position(c));
        assert_int_equal(journal_unreleased(j.producer), 0);
    }
    journal_detach(c);
    teardown(&j);
}

static void test_state_hash(void **state)
{
    struct journal j;
    setup(&j, SMALL);
    struct journal_consumer *c = attach(&j, 0);
    struct journal_entry e = {
        .type = JOURNAL_STATE_HASH, .form = JOURNAL_DIGEST, .c = {.icount = 7, .digest = 9}};
    assert_int_equal(journal_append(j.producer, &e), 0);
    assert_int_equal(journal_next(c, &e), 1);
    assert_int_equal(e.number, 1);
    assert_int_equal(e.type, JOURNAL_STATE_HASH);
    assert_int_equal(e.c.icount, 7);
    assert_int_equal(e.c.digest, 9);
    journal_detach(c);
    teardown(&j);
}

static void test_limits(void **state)
{
    struct journal j;
    struct journal_producer *p;
    int fd;
    setup(&j, SMALL);
    assert_int_equal(journal_create(&p, SMALL + 8, j.producer_tail_fd, &fd), -EINVAL);
    assert_int_equal(journal_create(&p, SMALL / 2, j.producer_tail_fd, &fd), -EINVAL);
    assert_int_equal(journal_create(&p, SMALL, j.fd, &fd), -EPROTO);
    struct journal_consumer *c;
    assert_int_equal(journal_attach(&c, j.tail_fd, j.tail_fd, 0), -EPROTO);
    assert_int_equal(journal_attach(&c, STDIN_FILENO, j.tail_fd, 0), -EPROTO);

    static uint8_t body[SMALL];
    struct journal_entry e = {.type = JOURNAL_CROSSING, .form = JOURNAL_INLINE, .body = body};
    e.c.len = SMALL - ENTRY + 1;
    assert_int_equal(journal_append(j.producer, &e), -EINVAL);
    e.c.direction = CROSSING_IN;
    assert_int_equal(journal_append(j.producer, &e), -EMSGSIZE);
    e.c.len--;
    e.c.digest = XXH3_64bits(body, e.c.len);
    assert_int_equal(journal_append(j.producer, &e), 0);
    c = attach(&j, 0);
    assert_int_equal(journal_next(c, &e), 1);
    assert_int_equal(e.c.len, SMALL - ENTRY);
    journal_detach(c);
    teardown(&j);
}

static void test_rights(void **state)
{
    struct journal j;
    setup(&j, SMALL);
    assert_ptr_equal(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, j.fd, 0), MAP_FAILED);
    assert_int_equal(errno, EPERM);
    assert_int_equal(pwrite(j.fd, "", 1, 0), -1);
    assert_int_equal(ftruncate(j.fd, 0), -1);
    assert_ptr_equal(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, j.producer_tail_fd, 0), MAP_FAILED);
    assert_int_equal(errno, EACCES);
    assert_int_equal(ftruncate(j.tail_fd, 0), -1);
    teardown(&j);
}

static void test_hostile_tail(void **state)
{
    struct journal j;
    setup(&j, SMALL);
    while (append(j.producer, 1) == 0)
        ;
    _Atomic uint64_t *tail = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, j.tail_fd, 0);
    assert_ptr_not_equal(tail, MAP_FAILED);
    static const uint64_t bad[] = {SMALL * 2, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        *tail = bad[i];
        assert_int_equal(append(j.producer, 1), -EPROTO);
        assert_int_equal(journal_unreleased(j.producer), -EPROTO);
        struct journal_consumer *c;
        assert_int_equal(journal_attach(&c, j.fd, j.tail_fd, 0), -EPROTO);
    }
    munmap(tail, PAGE);
    teardown(&j);
}

static void test_reattach(void **state)
{
    struct journal j;
    setup(&j, LARGE);
    for (uint64_t n = 1; n <= 20; n++)
        assert_int_equal(append(j.producer, n), 0);
    struct journal_consumer *c = attach(&j, 0);
    for (uint64_t n = 1; n <= 12; n++) {
        expect(c, n);
        if (n == 8)
            journal_release(c, journal_position(c));
    }
    journal_detach(c);

    c = attach(&j, 8);
    expect(c, 9);
    journal_detach(c);
    c = attach(&j, 12);
    expect(c, 13);
    journal_detach(c);
    c = attach(&j, 20);
    expect_none(c);
    journal_detach(c);
    c = attach(&j, 7); /* entry 8 is in no log */
    struct journal_entry e;
    assert_int_equal(journal_next(c, &e), -EPROTO);
    journal_detach(c);

    journal_destroy(j.producer); /* what is published stays readable */
    j.producer = NULL;
    c = attach(&j, 10);
    for (uint64_t n = 11; n <= 20; n++)
        expect(c, n);
    expect_none(c);
    journal_detach(c);
    teardown(&j);
}

/* A journal's memory as a file of the same form, with `value` xored into the byte at `at`. */
static int forge(int fd, size_t size, size_t at, uint8_t value)
{
    static uint8_t copy[PAGE + SMALL];
    assert_int_equal(pread(fd, copy, size, 0), size);
    copy[at] ^= value;
    int forged = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(forged >= 0);
    assert_int_equal(pwrite(forged, copy, size, 0), size);
    assert_int_equal(
        fcntl(forged, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL), 0);
    return forged;
}

/* Whatever byte is damaged: entries before the damage are right, it is reported, and nothing else is read. */
static void test_damage(void **state)
{
    struct journal j;
    setup(&j, SMALL);
    uint64_t entries = 0;
    while (entries < 6 && append(j.producer, entries + 1) == 0)
        entries++;
    size_t used = (size_t)journal_unreleased(j.producer);
    for (size_t at = 0; at < PAGE + used; at++) {
        if (at >= 128 && at < PAGE)
            continue;
        struct journal forged = j;
        forged.fd = forge(j.fd, PAGE + SMALL, at, (uint8_t)(1u << at % 8));
        struct journal_consumer *c;
        if (journal_attach(&c, forged.fd, j.tail_fd, 0) == 0) {
            struct journal_entry e;
            uint64_t n = 0;
            int got;
            while ((got = journal_next(c, &e)) > 0)
                assert_entry(&e, ++n);
            assert_true(got == -EPROTO || got == -EBADMSG || (got == 0 && n == entries) ||
                        (got == 0 && at < 128 && n < entries));
            journal_detach(c);
        }
        close(forged.fd);
    }
    teardown(&j);
}

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void sleep_us(uint64_t us)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
}

/* A child that does not outlive the test. */
static pid_t fork_child(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static bool alive(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

static void kill_and_reap(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static pid_t fork_producer(struct journal *j)
{
    pid_t pid = fork_child();
    if (pid)
        return pid;
    for (uint64_t n = 1;; n++)
        while (append(j->producer, n) < 0)
            sched_yield();
}

static void test_producer_killed(void **state)
{
    for (unsigned round = 0; round < 100; round++) {
        struct journal j;
        setup(&j, LARGE);
        pid_t pid = fork_producer(&j);
        struct journal_consumer *c = attach(&j, 0);
        struct journal_entry e;
        uint64_t n = 0, until = next_random() % 1000;
        while (n < until) {
            int got = journal_next(c, &e);
            assert_true(got >= 0);
            if (got)
                assert_entry(&e, ++n);
            else
                sched_yield();
            journal_release(c, journal_position(c));
        }
        sleep_us(next_random() % 300);
        kill_and_reap(pid);
        int got;
        while ((got = journal_next(c, &e)) > 0)
            assert_entry(&e, ++n);
        assert_int_equal(got, 0);
        journal_detach(c);
        teardown(&j);
    }
}

/* "Persists" by setting *last, like a log whose newest block holds the entry, and releases some time later.
 */
static pid_t fork_consumer(const struct journal *j, _Atomic uint64_t *last)
{
    pid_t pid = fork_child();
    if (pid)
        return pid;
    uint64_t n = *last;
    struct journal_consumer *c;
    if (journal_attach(&c, j->fd, j->tail_fd, n) < 0)
        _exit(1);
    for (;;) {
        struct journal_entry e;
        int got = journal_next(c, &e);
        if (got < 0 || (got && e.number != n + 1))
            _exit(1);
        if (got)
            *last = ++n;
        if (!got || n % 16 == 0)
            journal_release(c, journal_position(c));
    }
}

static void test_consumer_killed(void **state)
{
    struct journal j;
    setup(&j, LARGE);
    _Atomic uint64_t *last = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(last, MAP_FAILED);
    pid_t producer = fork_producer(&j);
    for (unsigned round = 0; round < 100; round++) {
        uint64_t before = *last;
        pid_t pid = fork_consumer(&j, last);
        while (*last < before + 20 && alive(pid))
            sched_yield();
        sleep_us(next_random() % 500);
        kill_and_reap(pid);
        assert_true(*last >= before + 20);
    }
    kill_and_reap(producer);
    struct journal_consumer *c = attach(&j, *last);
    struct journal_entry e;
    uint64_t n = *last;
    int got;
    while ((got = journal_next(c, &e)) > 0)
        assert_entry(&e, ++n);
    assert_int_equal(got, 0);
    journal_detach(c);
    munmap((void *)last, PAGE);
    teardown(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wraps),           cmocka_unit_test(test_state_hash),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_rights),
        cmocka_unit_test(test_hostile_tail),    cmocka_unit_test(test_reattach),
        cmocka_unit_test(test_damage),          cmocka_unit_test(test_producer_killed),
        cmocka_unit_test(test_consumer_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
