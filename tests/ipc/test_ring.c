/* Rings: order, full and empty, wraparound of the indices, impossible indices of a hostile peer, and two
 * processes at once. */
#include "ipc/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 8 };

struct shared {
    struct ring_index produced, consumed;
    unsigned char entries[SIZE * RING_ENTRY_SIZE];
};

struct ring {
    struct shared *shared;
    struct ring_producer producer;
    struct ring_consumer consumer;
};

/* A ring whose free-running indices begin at `start`. */
static void setup(struct ring *r, uint32_t start)
{
    struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(s, MAP_FAILED);
    atomic_store(&s->produced.value, start);
    atomic_store(&s->consumed.value, start);
    r->shared = s;
    r->producer = (struct ring_producer){&s->produced, &s->consumed, s->entries, SIZE, start};
    r->consumer = (struct ring_consumer){&s->produced, &s->consumed, s->entries, SIZE, start};
}

static void teardown(struct ring *r)
{
    munmap(r->shared, sizeof(*r->shared));
}

static struct ring_request entry(uint64_t seq)
{
    return (struct ring_request){
        .seq = seq, .req_off = seq * 3, .resp_off = ~seq, .directive = seq ^ 0x5555, .features = seq << 7};
}

static void expect(struct ring *r, uint64_t seq)
{
    struct ring_request got, want = entry(seq);
    assert_int_equal(ring_peek(&r->consumer, &got), 1);
    assert_memory_equal(&got, &want, sizeof(got));
    ring_drop(&r->consumer);
}

static const uint32_t starts[] = {0, 1, 0x7ffffffc, 0xfffffff0, 0xfffffffd, 0xffffffff};

/* Random pushes and drops against a counter model, across the wrap of the indices. */
static void test_model(void **state)
{
    for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct ring r;
        setup(&r, starts[i]);
        srand(i);
        uint64_t pushed = 0, dropped = 0;
        for (unsigned step = 0; step < 5000; step++) {
            assert_int_equal(ring_room(&r.producer), SIZE - (pushed - dropped));
            assert_int_equal(ring_ready(&r.consumer), pushed - dropped);
            if (rand() % 2) {
                struct ring_request e = entry(pushed);
                int err = ring_push(&r.producer, &e);
                assert_int_equal(err, pushed - dropped == SIZE ? -ENOSPC : 0);
                pushed += !err;
            } else if (pushed > dropped) {
                expect(&r, dropped++);
            } else {
                struct ring_request e;
                assert_int_equal(ring_peek(&r.consumer, &e), 0);
            }
        }
        teardown(&r);
    }
}

/* A producer index too far ahead, or behind, is no entry but an error; likewise a consumer index. */
static void test_hostile_indices(void **state)
{
    static const uint32_t bad[] = {SIZE + 1, SIZE + 2, 0x80000000, 0xffffffff, 0xfffffff0};
    for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        for (unsigned k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
            struct ring r;
            struct ring_request e = entry(1);
            setup(&r, starts[i]);
            atomic_store(&r.shared->produced.value, starts[i] + bad[k]);
            assert_int_equal(ring_ready(&r.consumer), -EPROTO);
            assert_int_equal(ring_peek(&r.consumer, &e), -EPROTO);
            atomic_store(&r.shared->consumed.value, starts[i] - bad[k]);
            assert_int_equal(ring_room(&r.producer), -EPROTO);
            assert_int_equal(ring_push(&r.producer, &e), -EPROTO);
            teardown(&r);
        }
}

/* What the peer writes after an entry was copied changes nothing. */
static void test_copy_is_private(void **state)
{
    struct ring r;
    struct ring_request e = entry(5), got;
    setup(&r, 0);
    assert_int_equal(ring_push(&r.producer, &e), 0);
    assert_int_equal(ring_peek(&r.consumer, &got), 1);
    memset(r.shared->entries, 0xff, sizeof(r.shared->entries));
    assert_memory_equal(&got, &e, sizeof(e));
    teardown(&r);
}

enum { STRESS = 300000 };

static void produce(struct ring *r)
{
    for (uint64_t seq = 0; seq < STRESS;) {
        struct ring_request e = entry(seq);
        int err = ring_push(&r->producer, &e);
        if (err == 0)
            seq++;
        else if (err == -ENOSPC)
            sched_yield();
        else
            _exit(1);
    }
    _exit(0);
}

/* Every entry arrives whole and in order between two processes. */
static void test_two_processes(void **state)
{
    struct ring r;
    setup(&r, 0xffffff00);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        produce(&r);
    for (uint64_t seq = 0; seq < STRESS;) {
        if (ring_ready(&r.consumer) > 0)
            expect(&r, seq++);
        else
            sched_yield();
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    teardown(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_hostile_indices),
        cmocka_unit_test(test_copy_is_private),
        cmocka_unit_test(test_two_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
