/* Control messages: round trip with descriptors, and what a hostile peer may put into a datagram. */
#include "ipc/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct sockets {
    int a, b;
};

static struct sockets open_sockets(void)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    return (struct sockets){pair[0], pair[1]};
}

static void close_sockets(struct sockets *s)
{
    close(s->a);
    close(s->b);
}

static unsigned open_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static Cleave__Control log_message(Cleave__Log *log, char *text)
{
    cleave__log__init(log);
    log->text = text;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LOG;
    body.log = log;
    return body;
}

static void test_round_trip(void **state)
{
    struct sockets s = open_sockets();
    unsigned before = open_fds();
    char *names[] = {"image", "overlay"};
    Cleave__KeyValue one = CLEAVE__KEY_VALUE__INIT, two = CLEAVE__KEY_VALUE__INIT,
                     three = CLEAVE__KEY_VALUE__INIT;
    one.key = two.key = "forward";
    one.value = "a";
    two.value = "b";
    three.key = "readonly";
    three.value = "1";
    Cleave__KeyValue *options[] = {&one, &two, &three};
    Cleave__Configure c = CLEAVE__CONFIGURE__INIT;
    c.id = "vda";
    c.seed = UINT64_MAX;
    c.options = options;
    c.n_options = 3;
    c.fds = names;
    c.n_fds = 2;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_CONFIGURE;
    body.configure = &c;
    int fds[2] = {memfd_create("one", 0), memfd_create("two", 0)};
    assert_int_equal(write(fds[1], "two", 3), 3);
    assert_int_equal(control_send(s.a, &body, fds, 2), 0);
    close(fds[0]);
    close(fds[1]);

    struct control_message m;
    assert_int_equal(control_recv(s.b, &m), 1);
    assert_int_equal(m.body->body_case, CLEAVE__CONTROL__BODY_CONFIGURE);
    const Cleave__Configure *got = m.body->configure;
    assert_string_equal(got->id, "vda");
    assert_true(got->seed == UINT64_MAX);
    assert_string_equal(control_value(got->options, got->n_options, "readonly"), "1");
    assert_string_equal(control_value_at(got->options, got->n_options, "forward", 1), "b");
    assert_null(control_value_at(got->options, got->n_options, "forward", 2));
    assert_null(control_value(got->options, got->n_options, "absent"));
    assert_int_equal(m.nfds, 2);
    int fd = control_take_fd(&m, got->fds, got->n_fds, "overlay");
    char text[3];
    assert_int_equal(pread(fd, text, 3, 0), 3);
    assert_memory_equal(text, "two", 3);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(control_take_fd(&m, got->fds, got->n_fds, "overlay"), -1);
    assert_int_equal(control_take_fd(&m, got->fds, got->n_fds, "absent"), -1);
    close(fd);
    control_release(&m);
    assert_int_equal(open_fds(), before);
    close_sockets(&s);
}

static void test_end_of_file(void **state)
{
    struct sockets s = open_sockets();
    struct control_message m;
    Cleave__Log log;
    Cleave__Control body = log_message(&log, "last words");
    assert_int_equal(control_recv(s.b, &m), -EAGAIN);
    assert_int_equal(control_send(s.a, &body, NULL, 0), 0);
    close(s.a);
    assert_int_equal(control_send(s.b, &body, NULL, 0), -EPIPE);
    assert_int_equal(control_recv(s.b, &m), 1);
    assert_string_equal(m.body->log->text, "last words");
    control_release(&m);
    assert_int_equal(control_recv(s.b, &m), 0);
    close(s.b);
}

static void test_limits(void **state)
{
    struct sockets s = open_sockets();
    static char text[CONTROL_MAX_BYTES + 1];
    Cleave__Log log;
    struct control_message m;
    memset(text, 'x', CONTROL_MAX_BYTES - 16);
    Cleave__Control body = log_message(&log, text);
    assert_int_equal(control_send(s.a, &body, NULL, 0), 0);
    assert_int_equal(control_recv(s.b, &m), 1);
    assert_int_equal(strlen(m.body->log->text), CONTROL_MAX_BYTES - 16);
    control_release(&m);
    memset(text, 'x', CONTROL_MAX_BYTES);
    assert_int_equal(control_send(s.a, &body, NULL, 0), -EMSGSIZE);
    text[0] = 0;
    int fds[CONTROL_MAX_FDS + 1];
    for (unsigned i = 0; i < CONTROL_MAX_FDS + 1; i++)
        fds[i] = s.a;
    assert_int_equal(control_send(s.a, &body, fds, CONTROL_MAX_FDS + 1), -EMSGSIZE);
    assert_int_equal(control_send(s.a, &body, fds, CONTROL_MAX_FDS), 0);
    assert_int_equal(control_recv(s.b, &m), 1);
    assert_int_equal(m.nfds, CONTROL_MAX_FDS);
    control_release(&m);
    close_sockets(&s);
}

static void test_full_socket(void **state)
{
    struct sockets s = open_sockets();
    Cleave__Log log;
    Cleave__Control body = log_message(&log, "more");
    int err;
    while ((err = control_send(s.a, &body, NULL, 0)) == 0)
        ;
    assert_int_equal(err, -EAGAIN);
    close_sockets(&s);
}

/* Sends bytes as they are, with n copies of a descriptor. */
static void send_raw(int socket, const void *data, size_t len, unsigned n)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(64 * sizeof(int))];
    } space;
    struct iovec iov = {(void *)data, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n) {
        memset(&space, 0, sizeof(space));
        msg.msg_control = space.bytes;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        for (unsigned i = 0; i < n; i++)
            memcpy(CMSG_DATA(c) + i * sizeof(int), &socket, sizeof(int));
    }
    assert_int_equal(sendmsg(socket, &msg, MSG_NOSIGNAL), len);
}

static void test_bad_datagrams(void **state)
{
    struct sockets s = open_sockets();
    struct control_message m;
    Cleave__Log log;
    Cleave__Control body = log_message(&log, "hello");
    uint8_t good[64];
    size_t len = cleave__control__pack(&body, good);
    unsigned before = open_fds();

    for (size_t cut = 1; cut < len; cut++) {
        send_raw(s.a, good, cut, 1);
        assert_int_equal(control_recv(s.b, &m), -EPROTO);
    }
    send_raw(s.a, good, len, CONTROL_MAX_FDS + 1);
    assert_int_equal(control_recv(s.b, &m), -EPROTO);
    send_raw(s.a, good, len, 64);
    assert_int_equal(control_recv(s.b, &m), -EPROTO);
    static uint8_t large[CONTROL_MAX_BYTES + 1];
    memcpy(large, good, len);
    send_raw(s.a, large, sizeof(large), 3);
    assert_int_equal(control_recv(s.b, &m), -EPROTO);
    /* No body: an unknown field alone. */
    send_raw(s.a, "\xf8\x3f\x01", 3, 1);
    assert_int_equal(control_recv(s.b, &m), -EPROTO);
    /* An empty datagram reads as the end, and its descriptors are closed. */
    send_raw(s.a, "", 0, 2);
    assert_int_equal(control_recv(s.b, &m), 0);
    assert_int_equal(open_fds(), before);
    close_sockets(&s);
}

/* Random bytes and damaged messages: an error or a message that can be walked and released, nothing else. */
static void test_garbage(void **state)
{
    struct sockets s = open_sockets();
    struct control_message m;
    Cleave__Queue queue = CLEAVE__QUEUE__INIT, *queues[] = {&queue, &queue, &queue};
    Cleave__Describe d = CLEAVE__DESCRIBE__INIT;
    d.queues = queues;
    d.n_queues = 3;
    d.backend = "raw";
    Cleave__Attach attach = CLEAVE__ATTACH__INIT;
    attach.id = "vda";
    attach.describe = &d;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_ATTACH;
    body.attach = &attach;
    uint8_t good[256], bytes[256];
    size_t len = cleave__control__pack(&body, good);
    unsigned before = open_fds(), understood = 0;
    srand(4);
    for (unsigned i = 0; i < 50000; i++) {
        size_t n = len;
        memcpy(bytes, good, len);
        if (i % 2)
            for (unsigned k = 0; k < 1 + (unsigned)rand() % 4; k++)
                bytes[(unsigned)rand() % len] = (uint8_t)rand();
        else
            for (n = 1 + (unsigned)rand() % 200; n && (unsigned)rand() % 256 > 1; n--)
                bytes[n] = (uint8_t)rand();
        send_raw(s.a, bytes, n ? n : 1, (unsigned)rand() % 4);
        int got = control_recv(s.b, &m);
        assert_true(got == 1 || got == -EPROTO);
        if (got == 1) {
            understood++;
            control_release(&m);
        }
    }
    assert_true(understood > 1000);
    assert_int_equal(open_fds(), before);
    close_sockets(&s);
}

static void test_expect(void **state)
{
    struct sockets s = open_sockets();
    struct control_message m;
    Cleave__Log log;
    Cleave__Control body = log_message(&log, "x");
    assert_int_equal(control_expect(s.b, CLEAVE__CONTROL__BODY_LOG, 10, &m), -ETIMEDOUT);
    control_send(s.a, &body, NULL, 0);
    assert_int_equal(control_expect(s.b, CLEAVE__CONTROL__BODY_HELLO, 1000, &m), -EPROTO);
    control_send(s.a, &body, NULL, 0);
    assert_int_equal(control_expect(s.b, CLEAVE__CONTROL__BODY_LOG, -1, &m), 0);
    control_release(&m);
    close(s.a);
    assert_int_equal(control_expect(s.b, CLEAVE__CONTROL__BODY_LOG, 1000, &m), -EPIPE);
    close(s.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_end_of_file),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_full_socket),
        cmocka_unit_test(test_bad_datagrams), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_expect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
