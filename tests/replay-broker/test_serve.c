/* The server against a replaying end in the same process: bodies from everywhere, every kind of ending, a log
 * that grows, peers that go. */
#include "ipc/feed.h"
#include "replay-broker/serve.h"
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { IMAGE = 3, PAGE = 4096 };

struct rig {
    int log, image, control, feed, pid;
};

static void send_configure(int control, const char *follow, char **names, int *fds, unsigned n)
{
    Cleave__KeyValue option = CLEAVE__KEY_VALUE__INIT, *options[] = {&option};
    Cleave__Configure msg = CLEAVE__CONFIGURE__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    option.key = (char *)"follow";
    option.value = (char *)follow;
    msg.id = (char *)"broker";
    msg.options = options;
    msg.n_options = 1;
    msg.fds = names;
    msg.n_fds = n;
    body.body_case = CLEAVE__CONTROL__BODY_CONFIGURE;
    body.configure = &msg;
    assert_int_equal(control_send(control, &body, fds, n), 0);
}

static void send_run(int control)
{
    Cleave__Run run = CLEAVE__RUN__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RUN;
    body.run = &run;
    assert_int_equal(control_send(control, &body, NULL, 0), 0);
}

/* Starts a server for r->log; with an image, that too. */
static void start(struct rig *r, bool follow)
{
    int control[2], feed[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, feed), 0);
    r->pid = rig_fork();
    if (!r->pid) {
        struct control_message msg;
        close(control[0]);
        close(feed[0]);
        int err = control_wait(control[1], -1, &msg);
        _exit(err ? 9 : serve(control[1], &msg) ? 1 : 0);
    }
    char *names[] = {(char *)"log", (char *)"feed", (char *)"file:3"};
    int fds[] = {r->log, feed[1], r->image};
    send_configure(control[0], follow ? "on" : "off", names, fds, 2);
    if (r->image >= 0)
        send_configure(control[0], "off", names + 2, fds + 2, 1);
    send_run(control[0]);
    close(control[1]);
    close(feed[1]);
    r->control = control[0];
    r->feed = feed[0];
}

static void stop(struct rig *r)
{
    int status;
    close(r->control);
    close(r->feed);
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int next_window(void *arg)
{
    struct rig *r = arg;
    struct control_message msg;
    Cleave__FeedRequest request = CLEAVE__FEED_REQUEST__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FEED_REQUEST;
    body.feed_request = &request;
    assert_int_equal(control_send(r->feed, &body, NULL, 0), 0);
    if (control_expect(r->feed, CLEAVE__CONTROL__BODY_FEED_WINDOW, 20000, &msg) < 0)
        return -EPIPE;
    assert_int_equal(msg.nfds, 1);
    int fd = msg.fds[0];
    msg.fds[0] = -1;
    control_release(&msg);
    return fd;
}

static struct feed *open_feed(struct rig *r)
{
    struct feed *f;
    struct feed_source source = {next_window, r};
    assert_int_equal(feed_create(&f, &source), 0);
    return f;
}

static void fill_page(uint8_t *page, uint64_t n)
{
    for (size_t i = 0; i < PAGE; i++)
        page[i] = (uint8_t)(n * 31 + i);
}

/* A completion of PAGE bytes in each form, over and over: inline, the same again, from page n of the image.
 */
static struct journal_entry entry(uint64_t number, uint8_t *page)
{
    uint64_t n = (number - 1) / 3;
    fill_page(page, n);
    struct journal_entry e = {.number = number,
                              .type = JOURNAL_CROSSING,
                              .form = JOURNAL_INLINE,
                              .c = {.seq = number,
                                    .icount = number * 10,
                                    .request = number,
                                    .direction = CROSSING_IN,
                                    .kind = CROSSING_COMPLETION,
                                    .len = PAGE,
                                    .digest = XXH3_64bits(page, PAGE)},
                              .body = page};
    if (number % 3 == 1)
        return e;
    e.body = NULL;
    e.form = number % 3 == 2 ? JOURNAL_SAME : JOURNAL_FILE;
    e.file = number % 3 == 2 ? number - 1 : IMAGE;
    e.offset = number % 3 == 2 ? 0 : n * PAGE;
    if (number % 6 == 0) { /* the end of it comes along */
        e.tail = 1 + (uint32_t)(n % 200);
        e.body = page + PAGE - e.tail;
    }
    return e;
}

static void append(struct log_writer *w, uint64_t from, uint64_t to)
{
    uint8_t page[PAGE];
    for (uint64_t n = from; n <= to; n++) {
        struct journal_entry e = entry(n, page);
        assert_int_equal(log_writer_append(w, &e), 0);
    }
}

static struct log_writer *create(struct rig *r, uint64_t entries)
{
    Cleave__LogHeader header = CLEAVE__LOG_HEADER__INIT;
    Cleave__LogFile file = CLEAVE__LOG_FILE__INIT, *files[] = {&file};
    struct log_writer *w;
    uint8_t page[PAGE];
    file.id = IMAGE;
    file.role = (char *)"disk:vda";
    file.name = (char *)"root.img";
    header.files = files;
    header.n_files = 1;
    *r = (struct rig){.log = rig_file(), .image = rig_file()};
    for (uint64_t n = 0; n <= entries / 3; n++) {
        fill_page(page, n);
        assert_int_equal(pwrite(r->image, page, PAGE, (off_t)(n * PAGE)), PAGE);
    }
    assert_int_equal(log_writer_create(&w, r->log, &(struct log_options){0}, &header), 0);
    return w;
}

static void release(struct rig *r)
{
    close(r->log);
    if (r->image >= 0)
        close(r->image);
}

/* Takes entries from `from` on; the number of the last one. */
static uint64_t take(struct feed *f, uint64_t from, uint64_t to)
{
    const struct journal_entry *e;
    uint8_t page[PAGE];
    uint64_t n = from;
    for (; n <= to && feed_peek(f, &e) == 1; n++) {
        struct journal_entry want = entry(n, page);
        assert_int_equal(e->number, n);
        assert_int_equal(e->form, JOURNAL_INLINE);
        assert_memory_equal(&e->c, &want.c, sizeof want.c);
        assert_memory_equal(e->body, page, PAGE);
        feed_take(f);
    }
    return n - 1;
}

static const struct feed_end *serve_all(struct rig *r, uint64_t expected, struct feed_end *end)
{
    start(r, false);
    struct feed *f = open_feed(r);
    const struct journal_entry *e;
    assert_int_equal(take(f, 1, UINT64_MAX - 1), expected);
    assert_int_equal(feed_peek(f, &e), 0);
    *end = *feed_ending(f);
    feed_destroy(f);
    stop(r);
    return end;
}

enum { MANY = 3000 }; /* entries: several windows */

static void test_bodies(void **state)
{
    struct rig r;
    struct feed_end end;
    struct log_writer *w = create(&r, MANY);
    append(w, 1, MANY);
    assert_int_equal(log_writer_end(w, "poweroff", 0, MANY * 10 + 7), 0);
    log_writer_destroy(w);
    serve_all(&r, MANY, &end);
    assert_int_equal(end.ending, FEED_ENDED);
    assert_int_equal(end.icount, MANY * 10 + 7);
    assert_string_equal(end.reason, "poweroff");
    release(&r);
}

static void test_endings(void **state)
{
    struct rig r;
    struct feed_end end;
    struct log_writer *w = create(&r, 90);
    append(w, 1, 30);
    assert_int_equal(log_writer_flush(w), 0);
    serve_all(&r, 30, &end);
    assert_int_equal(end.ending, FEED_OPEN);
    assert_int_equal(end.icount, 300);
    uint64_t good = rig_size(r.log);
    append(w, 31, 60);
    assert_int_equal(log_writer_flush(w), 0);
    log_writer_destroy(w);
    assert_int_equal(ftruncate(r.log, (off_t)good + 200), 0);
    serve_all(&r, 30, &end);
    assert_int_equal(end.ending, FEED_TORN);
    uint8_t byte;
    assert_int_equal(pread(r.log, &byte, 1, (off_t)good - 1), 1);
    byte ^= 1;
    assert_int_equal(pwrite(r.log, &byte, 1, (off_t)good - 1), 1);
    serve_all(&r, 0, &end);
    assert_int_equal(end.ending, FEED_BAD);
    assert_non_null(strstr(end.reason, "block 1"));
    release(&r);
}

static void test_image(void **state)
{
    struct rig r;
    struct feed_end end;
    struct log_writer *w = create(&r, 30);
    append(w, 1, 30);
    assert_int_equal(log_writer_flush(w), 0);
    log_writer_destroy(w);
    assert_int_equal(pwrite(r.image, "?", 1, 4 * PAGE + 100), 1);
    serve_all(&r, 14, &end); /* entry 15 is page 4 */
    assert_int_equal(end.ending, FEED_BAD);
    assert_string_equal(end.reason, "image changed: root.img: other bytes at offset 16384");
    assert_int_equal(ftruncate(r.image, 100), 0);
    serve_all(&r, 2, &end);
    assert_non_null(strstr(end.reason, "image changed: root.img"));
    close(r.image);
    r.image = -1;
    serve_all(&r, 2, &end);
    assert_string_equal(end.reason, "image missing: root.img");
    release(&r);
}

/* A file that is written goes on as long as its writer keeps its lock. */
static void test_follow(void **state)
{
    struct rig r;
    struct log_writer *w = create(&r, 90);
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", r.log);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int holder = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(holder, F_OFD_SETLK, &lock), 0);
    append(w, 1, 10);
    assert_int_equal(log_writer_flush(w), 0);
    start(&r, true);
    struct feed *f = open_feed(&r);
    const struct journal_entry *e;
    assert_int_equal(take(f, 1, 10), 10);
    append(w, 11, 20);
    assert_int_equal(log_writer_flush(w), 0);
    assert_int_equal(take(f, 11, 20), 20);
    log_writer_destroy(w);
    lock.l_type = F_UNLCK; /* the child has the descriptor too */
    assert_int_equal(fcntl(holder, F_OFD_SETLK, &lock), 0);
    close(holder);
    assert_int_equal(feed_peek(f, &e), 0);
    assert_int_equal(feed_ending(f)->ending, FEED_OPEN);
    feed_destroy(f);
    stop(&r);
    release(&r);
}

/* The replaying end goes while the server waits for more. */
static void test_leave(void **state)
{
    struct rig r;
    struct log_writer *w = create(&r, 90);
    append(w, 1, 10);
    assert_int_equal(log_writer_flush(w), 0);
    for (int ends = 0; ends < 2; ends++) {
        start(&r, false);
        struct feed *f = open_feed(&r);
        assert_int_equal(take(f, 1, ends ? 10 : 5), ends ? 10 : 5);
        feed_destroy(f);
        stop(&r);
    }
    log_writer_destroy(w);
    release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies), cmocka_unit_test(test_endings), cmocka_unit_test(test_image),
        cmocka_unit_test(test_follow), cmocka_unit_test(test_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
