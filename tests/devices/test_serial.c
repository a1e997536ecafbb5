/* cleave-serial over real sockets, pseudo-terminals and files: every byte, in order, whatever the reader
 * does. */
#include "tests/devices/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

enum { OUTPUT = 0, INPUT = 1 }; /* queues of a UART */

static const char *executable;
static struct harness h;

static struct harness_config config(const char *type, const char *backend)
{
    return (struct harness_config){
        .executable = executable, .id = "serial.com0", .options = {{"type", type}, {"backend", backend}}};
}

static void start_with(const char *backend, const char *name, int fd)
{
    struct harness_config c = config("uart", backend);

    if (name)
        c.fds[0] = (struct harness_fd){name, fd};
    assert_true(harness_start(&h, &c));
}

static int start_stream(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    start_with("stream", "stream", pair[1]);
    close(pair[1]);
    return pair[0];
}

static void output(const void *data, uint32_t len)
{
    assert_int_equal(harness_request(&h, OUTPUT, data, len, NULL, 0), 0);
}

/* The bytes of a stream follow from their place. */
static void fill(uint8_t *p, uint32_t len, uint64_t from)
{
    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)((from + i) * 167 >> 3);
}

static void expect_bytes(int fd, const void *expected, size_t len)
{
    char got[8192];

    for (size_t at = 0; at < len;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, HARNESS_PATIENCE_MS), 1);
        ssize_t n = read(fd, got, len - at < sizeof got ? len - at : sizeof got);
        assert_true(n > 0);
        assert_memory_equal(got, (const char *)expected + at, n);
        at += (size_t)n;
    }
}

/* Input of the guest until `len` bytes came. */
static void expect_input(unsigned queue, const void *expected, size_t len)
{
    char got[4096];

    for (size_t at = 0; at < len;) {
        int n = harness_event(&h, queue, got, sizeof got, HARNESS_PATIENCE_MS);
        assert_true(n > 0);
        assert_true(at + (size_t)n <= len);
        assert_memory_equal(got, (const char *)expected + at, n);
        at += (size_t)n;
    }
}

static void test_description(void **state)
{
    static const struct {
        const char *type, *backend, *option;
        bool closed;
        unsigned virtio_id;
    } cases[] = {
        {"uart", "null", NULL, true, 0},
        {"console", "null", NULL, true, 3},
        {"uart", "stream", NULL, false, 0},
        {"uart", "stream", "noinput", true, 0},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        int pair[2];
        struct harness_config c = config(cases[i].type, cases[i].backend);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        c.options[2] = (struct harness_option){cases[i].option, "1"};
        c.fds[0] = (struct harness_fd){"stream", pair[1]};
        assert_true(harness_start(&h, &c));
        const Cleave__Describe *d = h.describe.body->describe;
        assert_int_equal(d->virtio_id, cases[i].virtio_id);
        assert_int_equal(d->closed, cases[i].closed);
        assert_int_equal(d->inbound_merge,
                         cases[i].virtio_id != 0); /* a byte stream: spread over small buffers */
        unsigned in = cases[i].virtio_id ? 0 : 1;
        assert_int_equal(d->queues[in]->kind, CHANNEL_INBOUND);
        assert_int_equal(d->queues[1 - in]->kind, CHANNEL_REQUESTS);
        assert_true(d->queues[1 - in]->max_request >= 1024);
        harness_check_pss(&h, 8192);
        harness_stop(&h);
        close(pair[0]);
        close(pair[1]);
    }
}

static void test_stream(void **state)
{
    int fd = start_stream();

    output("hello ", 6);
    output("world\n", 6);
    output("", 0);
    expect_bytes(fd, "hello world\n", 12);
    assert_int_equal(write(fd, "root\n", 5), 5);
    expect_input(INPUT, "root\n", 5);
    close(fd);
    harness_stop(&h);
}

/* A console has its queues the other way round. */
static void test_console(void **state)
{
    struct harness_config c = config("console", "stream");
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c.fds[0] = (struct harness_fd){"stream", pair[1]};
    assert_true(harness_start(&h, &c));
    harness_request(&h, 1, "out", 3, NULL, 0);
    expect_bytes(pair[0], "out", 3);
    assert_int_equal(write(pair[0], "in", 2), 2);
    expect_input(0, "in", 2);
    harness_stop(&h);
    close(pair[0]);
    close(pair[1]);
}

/* A slow reader holds requests back, and gets every byte in order. */
static void test_back_pressure(void **state)
{
    enum { REQUESTS = 64, LEN = 1024, ROUNDS = 40 };
    static uint8_t data[LEN], got[REQUESTS * LEN];
    int fd = start_stream();
    uint64_t sent = 0, read_bytes = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned slots[REQUESTS], answered = 0;
        uint32_t len;
        for (unsigned i = 0; i < REQUESTS; i++) {
            fill(data, LEN, sent);
            slots[i] = harness_submit(&h, OUTPUT, data, LEN, 0);
            sent += LEN;
        }
        while (answered < REQUESTS) {
            uint32_t want = 1 + (uint32_t)(read_bytes * 7 % 3000);
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (harness_answered(&h, OUTPUT, slots[answered])) {
                harness_answer(&h, OUTPUT, slots[answered], &len);
                harness_release(&h, OUTPUT, slots[answered++]);
                continue;
            }
            if (poll(&p, 1, 10) != 1)
                continue;
            ssize_t n = read(fd, got, want);
            assert_true(n > 0);
            static uint8_t expected[sizeof got];
            fill(expected, (uint32_t)n, read_bytes);
            assert_memory_equal(got, expected, n);
            read_bytes += (uint64_t)n;
        }
    }
    while (read_bytes < sent) {
        static uint8_t expected[sizeof got];
        ssize_t n = read(fd, got, sizeof got);
        assert_true(n > 0);
        fill(expected, (uint32_t)n, read_bytes);
        assert_memory_equal(got, expected, n);
        read_bytes += (uint64_t)n;
    }
    close(fd);
    harness_stop(&h);
}

/* What was submitted before Stop is written, even to a reader that comes late. */
static void test_stop_drains(void **state)
{
    enum { REQUESTS = 60, LEN = 1000 };
    static uint8_t data[REQUESTS * LEN];
    int fd = start_stream();

    fill(data, sizeof data, 0);
    for (unsigned i = 0; i < REQUESTS; i++)
        harness_submit(&h, OUTPUT, data + i * LEN, LEN, 0);
    harness_stop(&h);
    expect_bytes(fd, data, sizeof data);
    close(fd);
}

/* A reader that went away: output goes nowhere, the guest goes on. */
static void test_dead_reader(void **state)
{
    char data[1000] = {0};
    int fd = start_stream();

    for (unsigned i = 0; i < 60; i++)
        harness_submit(&h, OUTPUT, data, sizeof data, 0);
    close(fd);
    for (unsigned i = 0; i < 60; i++) {
        uint32_t len;
        harness_answer(&h, OUTPUT, i, &len);
        harness_release(&h, OUTPUT, i);
    }
    for (unsigned i = 0; i < 2000; i++)
        output(data, sizeof data);
    harness_stop(&h);
}

/* The end of the input is not the end of the port. */
static void test_end_of_input(void **state)
{
    int fd = start_stream();

    assert_int_equal(write(fd, "last", 4), 4);
    shutdown(fd, SHUT_WR);
    expect_input(INPUT, "last", 4);
    output("still here", 10);
    expect_bytes(fd, "still here", 10);
    close(fd);
    harness_stop(&h);
}

/* A guest that takes no input stops the sender; then all of it comes. */
static void test_input_is_kept(void **state)
{
    enum { TOTAL = 2000000 };
    static uint8_t data[TOTAL];
    int fd = start_stream();
    uint32_t sent = 0, got = 0;
    unsigned stuck = 0;

    fill(data, TOTAL, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (stuck < 50) {
        ssize_t n = write(fd, data + sent, TOTAL - sent);
        stuck = n < 0 ? stuck + 1 : 0;
        sent += n > 0 ? (uint32_t)n : 0;
        if (n < 0)
            usleep(1000);
    }
    assert_true(sent > 16384 && sent < TOTAL);
    while (got < TOTAL) {
        char buf[4096];
        int n = harness_event(&h, INPUT, buf, sizeof buf, HARNESS_PATIENCE_MS);
        assert_true(n > 0);
        assert_memory_equal(buf, data + got, n);
        got += (uint32_t)n;
        ssize_t w = sent < TOTAL ? write(fd, data + sent, TOTAL - sent) : 0;
        sent += w > 0 ? (uint32_t)w : 0;
    }
    close(fd);
    harness_stop(&h);
}

static void test_noinput(void **state)
{
    struct harness_config c = config("uart", "stream");
    int pair[2];
    char buf[16];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c.fds[0] = (struct harness_fd){"stream", pair[1]};
    c.options[2] = (struct harness_option){"noinput", "1"};
    assert_true(harness_start(&h, &c));
    assert_int_equal(write(pair[0], "typed", 5), 5);
    output("x", 1);
    output("y", 1);
    assert_int_equal(harness_event(&h, INPUT, buf, sizeof buf, 0), -1);
    expect_bytes(pair[0], "xy", 2);
    harness_stop(&h);
    close(pair[0]);
    close(pair[1]);
}

/* pty */

static int open_master(char *slave, size_t size)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(grantpt(fd), 0);
    assert_int_equal(unlockpt(fd), 0);
    assert_int_equal(ptsname_r(fd, slave, size), 0);
    return fd;
}

static void test_pty(void **state)
{
    static uint8_t data[1024];
    char slave[64];
    int master = open_master(slave, sizeof slave);

    start_with("pty", "pty", master);
    /* Nobody listens: output goes nowhere, however much. */
    for (unsigned i = 0; i < 1000; i++)
        output(data, sizeof data);

    for (unsigned round = 0; round < 3; round++) {
        int fd = open(slave, O_RDWR | O_NOCTTY);
        assert_true(fd >= 0);
        struct termios t;
        assert_int_equal(tcgetattr(fd, &t), 0);
        assert_false(t.c_lflag & (ICANON | ECHO));
        assert_false(t.c_oflag & OPOST);
        assert_int_equal(write(fd, "typed\r", 6), 6);
        expect_input(INPUT, "typed\r", 6);
        for (unsigned i = 0; i < 20; i++) {
            unsigned slot;
            uint32_t len;
            fill(data, sizeof data, i * sizeof data);
            slot = harness_submit(&h, OUTPUT, data, sizeof data, 0);
            expect_bytes(fd, data, sizeof data);
            harness_answer(&h, OUTPUT, slot, &len);
            harness_release(&h, OUTPUT, slot);
        }
        close(fd);
        output("into the void", 13);
    }
    close(master);
    harness_stop(&h);
}

/* A reader that stops reading and then leaves does not hold the guest for ever. */
static void test_pty_abandoned(void **state)
{
    static uint8_t data[1024];
    char slave[64];
    int master = open_master(slave, sizeof slave);
    uint32_t len;

    start_with("pty", "pty", master);
    int fd = open(slave, O_RDWR | O_NOCTTY);
    assert_int_equal(write(fd, "x", 1), 1);
    expect_input(INPUT, "x", 1);
    unsigned n = 0;
    for (; n < 500; n++) {
        unsigned slot = harness_submit(&h, OUTPUT, data, sizeof data, 0);
        for (unsigned wait = 0; wait < 100 && !harness_answered(&h, OUTPUT, slot); wait++)
            usleep(1000);
        if (!harness_answered(&h, OUTPUT, slot))
            break;
        harness_release(&h, OUTPUT, slot);
    }
    assert_true(n < 500);
    close(fd);
    harness_answer(&h, OUTPUT, 0, &len);
    harness_release(&h, OUTPUT, 0);
    output("next", 4);
    close(master);
    harness_stop(&h);
}

/* unix */

static char socket_path[108];

static int listen_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/cleave-test-serial-%d", (int)getpid());
    strcpy(socket_path, a.sun_path);
    unlink(a.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static int connect_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(a.sun_path, socket_path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void test_unix(void **state)
{
    int listener = listen_unix();

    start_with("unix", "listen", listener);
    output("unheard", 7);
    for (unsigned i = 0; i < 3; i++) {
        int fd = connect_unix();
        assert_int_equal(write(fd, "hi", 2), 2);
        expect_input(INPUT, "hi", 2);
        output("yes?", 4);
        expect_bytes(fd, "yes?", 4);
        close(fd);
    }
    /* A second client waits until the first one has left. */
    int first = connect_unix(), second = connect_unix();
    assert_int_equal(write(first, "1", 1), 1);
    assert_int_equal(write(second, "2", 1), 1);
    expect_input(INPUT, "1", 1);
    output("first", 5);
    expect_bytes(first, "first", 5);
    close(first);
    expect_input(INPUT, "2", 1);
    output("second", 6);
    expect_bytes(second, "second", 6);
    /* One that leaves in the middle of much output. */
    static char data[1024];
    uint32_t len;
    for (unsigned i = 0; i < 60; i++)
        harness_submit(&h, OUTPUT, data, sizeof data, 0);
    close(second);
    for (unsigned i = 0; i < 60; i++) {
        harness_answer(&h, OUTPUT, i, &len);
        harness_release(&h, OUTPUT, i);
    }
    close(listener);
    unlink(socket_path);
    harness_stop(&h);
}

/* file */

static void test_file(void **state)
{
    static uint8_t data[4096], got[100 * 4096];
    int fd = memfd_create("output", 0);

    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    assert_int_equal(write(fd, "before", 6), 6);
    start_with("file", "file", fd);
    assert_true(h.describe.body->describe->closed);
    for (unsigned i = 0; i < 100; i++) {
        fill(data, sizeof data, i * sizeof data);
        output(data, sizeof data);
    }
    harness_stop(&h);
    assert_int_equal(pread(fd, got, 6, 0), 6);
    assert_memory_equal(got, "before", 6);
    assert_int_equal(pread(fd, got, sizeof got, 6), sizeof got);
    for (unsigned i = 0; i < 100; i++) {
        fill(data, sizeof data, i * sizeof data);
        assert_memory_equal(got + i * sizeof data, data, sizeof data);
    }
    close(fd);
}

/* A full disk loses output, says so once, and does not hold the guest. */
static void test_full_disk(void **state)
{
    int fd = open("/dev/full", O_WRONLY);

    start_with("file", "file", fd);
    for (unsigned i = 0; i < 100; i++)
        output("lost", 4);
    harness_poll_control(&h, 0);
    assert_int_equal(h.logs, 1);
    assert_non_null(strstr(h.log, strerror(ENOSPC)));
    close(fd);
    harness_stop(&h);
}

/* attach */

static int attach(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(harness_command(&h, "attach", NULL, pair[1], NULL, 0), 0);
    close(pair[1]);
    return pair[0];
}

static void test_attach(void **state)
{
    int fd = start_stream();
    char end;

    output("a", 1);
    int terminal = attach();
    output("b", 1);
    expect_bytes(fd, "ab", 2);
    expect_bytes(terminal, "b", 1);
    assert_int_equal(write(terminal, "from there", 10), 10);
    expect_input(INPUT, "from there", 10);
    assert_int_equal(write(fd, "from here", 9), 9);
    expect_input(INPUT, "from here", 9);

    /* A new one replaces it. */
    int second = attach();
    assert_int_equal(read(terminal, &end, 1), 0);
    output("c", 1);
    expect_bytes(second, "c", 1);
    close(second);
    output("d", 1);
    expect_bytes(fd, "cd", 2);
    assert_int_equal(harness_command(&h, "attach", NULL, -1, NULL, 0), EINVAL);
    close(terminal);
    close(fd);
    harness_stop(&h);
}

/* An attached terminal that does not read never holds the guest up. */
static void test_attached_sleeper(void **state)
{
    static uint8_t data[1024];
    struct harness_config c = config("uart", "null");

    assert_true(harness_start(&h, &c));
    int terminal = attach();
    fill(data, sizeof data, 0);
    for (unsigned i = 0; i < 2000; i++)
        output(data, sizeof data);
    expect_bytes(terminal, data, sizeof data);
    harness_stop(&h);
    close(terminal);
}

static void test_bad_configuration(void **state)
{
    static const struct {
        const char *type, *backend, *text;
    } bad[] = {
        {"uart", "smoke-signals", "unknown back-end 'smoke-signals'"},
        {"uart", "stream", "cannot use the stream"},
        {"uart", "pty", "cannot use the pty"},
        {"uart", "unix", "cannot use the socket"},
        {"uart", "file", "cannot use the file"},
        {"parallel", "null", "unknown type 'parallel'"},
    };

    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct harness_config c = config(bad[i].type, bad[i].backend);
        assert_false(harness_start(&h, &c));
        assert_non_null(strstr(h.failure, bad[i].text));
        assert_non_null(strstr(h.failure, "serial.com0"));
    }
    struct harness_config c = config("uart", "pty");
    int fd = open("/dev/null", O_RDWR);
    c.fds[0] = (struct harness_fd){"pty", fd};
    assert_false(harness_start(&h, &c));
    close(fd);
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-serial";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_console),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_stop_drains),
        cmocka_unit_test(test_dead_reader),
        cmocka_unit_test(test_end_of_input),
        cmocka_unit_test(test_input_is_kept),
        cmocka_unit_test(test_noinput),
        cmocka_unit_test(test_pty),
        cmocka_unit_test(test_pty_abandoned),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_attached_sleeper),
        cmocka_unit_test(test_bad_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
