/* The way from the journal to the log, with the real thing at both ends: producer and recorder are processes
 * and are killed at random moments. */
#include "replay-broker/recorder.h"
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { JOURNAL_SIZE = 1 << 19 };

struct rig {
    struct journal_producer *producer;
    int journal_fd, tail_fd, producer_tail_fd, log_fd;
};

static void setup(struct rig *g)
{
    assert_int_equal(journal_tail_create(&g->tail_fd, &g->producer_tail_fd), 0);
    assert_int_equal(journal_create(&g->producer, JOURNAL_SIZE, g->producer_tail_fd, &g->journal_fd), 0);
    g->log_fd = rig_file();
}

static void teardown(struct rig *g)
{
    journal_destroy(g->producer);
    close(g->journal_fd);
    close(g->tail_fd);
    close(g->producer_tail_fd);
    close(g->log_fd);
}

/* Takes up recording, as a new broker does. */
static int recorder_open(struct recorder *r, const struct rig *g)
{
    struct log_writer *w;
    struct journal_consumer *c;
    struct log_error error;
    int err = log_writer_reopen(&w, g->log_fd, &(struct log_options){0}, &error);
    if (err)
        return err;
    err = journal_attach(&c, g->journal_fd, g->tail_fd, log_writer_status(w).records);
    if (err)
        return err;
    recorder_init(r, c, w, NULL);
    return 0;
}

static void recorder_close(struct recorder *r)
{
    journal_detach(r->journal);
    log_writer_destroy(r->log);
}

static int append(struct rig *g, uint64_t number)
{
    struct journal_entry e = rig_entry(number);
    return journal_append(g->producer, &e);
}

static void test_space_follows_file(void **state)
{
    struct rig g;
    struct recorder r;
    setup(&g);
    log_writer_destroy(rig_create(g.log_fd));
    assert_int_equal(recorder_open(&r, &g), 0);
    uint64_t n = 0;
    while (append(&g, n + 1) == 0)
        n++;
    int64_t before = journal_unreleased(g.producer);
    assert_int_equal(recorder_step(&r), 0);
    int64_t after = journal_unreleased(g.producer);
    assert_true(after < before && after > 0); /* the open block's */
    assert_true(log_writer_pending(r.log));
    assert_int_equal(recorder_flush(&r), 0);
    assert_int_equal(journal_unreleased(g.producer), 0);
    assert_int_equal(log_writer_status(r.log).records, n);
    recorder_close(&r);
    struct log_reader *reader = rig_open(g.log_fd);
    rig_expect(reader, 1, n);
    log_reader_close(reader);
    teardown(&g);
}

/* A log without room takes nothing and loses nothing. */
static void test_refused(void **state)
{
    struct rig g;
    struct recorder r;
    struct log_writer *w;
    struct journal_consumer *c;
    setup(&g);
    assert_int_equal(
        log_writer_create(&w, g.log_fd, &(struct log_options){.max_bytes = LOG_MIN_LIMIT}, rig_header()), 0);
    assert_int_equal(journal_attach(&c, g.journal_fd, g.tail_fd, 0), 0);
    recorder_init(&r, c, w, NULL);
    uint64_t n = 0;
    while (append(&g, n + 1) == 0)
        n++;
    int64_t before = journal_unreleased(g.producer);
    assert_int_equal(recorder_step(&r), -EFBIG);
    assert_int_equal(recorder_step(&r), -EFBIG);
    assert_int_equal(recorder_flush(&r), -EFBIG);
    assert_int_equal(journal_unreleased(g.producer), before);
    recorder_close(&r);

    assert_int_equal(recorder_open(&r, &g), 0); /* the limit is lifted */
    assert_int_equal(recorder_step(&r), 0);
    assert_int_equal(recorder_flush(&r), 0);
    assert_int_equal(log_writer_status(r.log).records, n);
    recorder_close(&r);
    teardown(&g);
}

static void record(const struct rig *g)
{
    struct recorder r;
    if (recorder_open(&r, g))
        _exit(1);
    for (unsigned i = 1;; i++) {
        if (recorder_step(&r) || (i % 8 == 0 && recorder_flush(&r)))
            _exit(1);
        sched_yield();
    }
}

static void produce(struct rig *g)
{
    for (uint64_t n = 1;; n++)
        while (append(g, n) < 0)
            sched_yield();
}

static void test_both_killed(void **state)
{
    struct rig g;
    struct recorder r;
    setup(&g);
    log_writer_destroy(rig_create(g.log_fd));
    int producer = rig_fork();
    if (!producer)
        produce(&g);
    uint64_t x = 7;
    for (unsigned round = 0; round < 60; round++) {
        uint64_t size = rig_size(g.log_fd);
        int pid = rig_fork();
        if (!pid)
            record(&g);
        for (unsigned i = 0; i < 100000 && rig_size(g.log_fd) <= size + 4096; i++)
            sched_yield();
        x = x * 6364136223846793005u + 1;
        nanosleep(&(struct timespec){.tv_nsec = (long)(x >> 45)}, NULL);
        rig_kill(pid);
    }
    rig_kill(producer);

    assert_int_equal(recorder_open(&r, &g), 0); /* what the producer left */
    assert_int_equal(recorder_step(&r), 0);
    assert_int_equal(recorder_flush(&r), 0);
    uint64_t records = log_writer_status(r.log).records;
    assert_true(records > 1000);
    assert_int_equal(log_writer_end(r.log, "the vcpu died", 0, 0), 0);
    recorder_close(&r);
    struct log_reader *reader = rig_open(g.log_fd);
    struct journal_entry e;
    rig_expect(reader, 1, records);
    assert_int_equal(log_reader_next(reader, &e), 0);
    assert_int_equal(log_reader_ending(reader), LOG_ENDED);
    log_reader_close(reader);
    teardown(&g);
}

static struct journal_entry event(uint64_t number, const uint8_t *body, uint32_t len)
{
    return (struct journal_entry){.number = number,
                                  .type = JOURNAL_CROSSING,
                                  .form = JOURNAL_INLINE,
                                  .c = {.seq = number,
                                        .icount = number,
                                        .direction = CROSSING_IN,
                                        .kind = CROSSING_EVENT,
                                        .len = len,
                                        .digest = XXH3_64bits(body, len)},
                                  .body = body};
}

/* Bodies that come again are kept once; what is read back is the same. */
static void test_repeats(void **state)
{
    enum { LEN = 1000, BODIES = 5, ENTRIES = 40 };
    uint8_t body[BODIES][LEN];
    struct rig g;
    struct recorder r;
    setup(&g);
    log_writer_destroy(rig_create(g.log_fd));
    assert_int_equal(recorder_open(&r, &g), 0);
    r.repeats = repeats_create();
    for (unsigned i = 0; i < ENTRIES; i++) {
        memset(body[i % BODIES], (int)(i % BODIES), LEN);
        struct journal_entry e = event(i + 1, body[i % BODIES], i == 7 ? LEN - 1 : LEN);
        assert_int_equal(journal_append(g.producer, &e), 0);
    }
    assert_int_equal(recorder_step(&r), 0);
    assert_int_equal(recorder_flush(&r), 0);
    repeats_destroy(r.repeats);
    recorder_close(&r);
    struct log_reader *reader = rig_open(g.log_fd);
    struct journal_entry e;
    for (unsigned i = 0; i < ENTRIES; i++) {
        bool first = i < BODIES || i == 7;
        assert_int_equal(log_reader_next(reader, &e), 1);
        assert_int_equal(e.form, first ? JOURNAL_INLINE : JOURNAL_SAME);
        assert_int_equal(e.c.len, i == 7 ? LEN - 1 : LEN);
        assert_int_equal(e.c.digest, XXH3_64bits(body[i % BODIES], e.c.len));
        assert_true(first || e.file == i % BODIES + 1);
    }
    log_reader_close(reader);
    teardown(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_space_follows_file),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_both_killed),
        cmocka_unit_test(test_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
