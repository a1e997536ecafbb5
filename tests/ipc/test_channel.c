/* Channels: geometry and layout, validation, both ends over plain memory and over sealed memfds, doorbells,
 * events, epochs. */
#include "ipc/channel_test.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct channel_geometry geometry(void)
{
    return (struct channel_geometry){
        .nqueues = 2,
        .blob_max = 100,
        .queue = {{.kind = CHANNEL_REQUESTS,
                   .slots = 5,
                   .max_request = 1000,
                   .max_response = 3000,
                   .request_bytes = 4000,
                   .response_bytes = 9000},
                  {.kind = CHANNEL_INBOUND, .slots = 6, .max_response = 1500, .response_bytes = 4096}},
    };
}

/* One field set to a value, and what the check then says. */
struct change {
    size_t at, size;
    uint64_t value;
    int want;
};

#define FIELD(type, member) offsetof(type, member), sizeof(((type *)0)->member)

static void apply(void *to, const struct change *c)
{
    memcpy((uint8_t *)to + c->at, &c->value, c->size);
}

static void test_geometry_bounds(void **state)
{
    typedef struct channel_geometry geo;
    static const struct change changes[] = {
        {FIELD(geo, blob_max), 0, 0},
        {FIELD(geo, nqueues), 0, -EINVAL},
        {FIELD(geo, nqueues), CHANNEL_MAX_QUEUES + 1, -EINVAL},
        {FIELD(geo, blob_max), CHANNEL_MAX_BLOB + 1, -EINVAL},
        {FIELD(geo, queue[0].kind), 0, -EINVAL},
        {FIELD(geo, queue[0].kind), 3, -EINVAL},
        {FIELD(geo, queue[0].slots), 0, -EINVAL},
        {FIELD(geo, queue[0].slots), 1025, -EINVAL},
        {FIELD(geo, queue[0].max_request), CHANNEL_MAX_MESSAGE + 1, -EINVAL},
        {FIELD(geo, queue[0].max_response), UINT32_MAX, -EINVAL},
        {FIELD(geo, queue[0].request_bytes), 999, -EINVAL},
        {FIELD(geo, queue[0].response_bytes), 2999, -EINVAL},
        {FIELD(geo, queue[0].request_bytes), UINT64_MAX, -EINVAL},
        {FIELD(geo, queue[0].response_bytes), CHANNEL_MAX_ARENA + 1, -EINVAL},
        {FIELD(geo, queue[1].slots), 4097, -EINVAL},
        {FIELD(geo, queue[1].max_request), 1, -EINVAL},
        {FIELD(geo, queue[1].request_bytes), 1, -EINVAL},
        {FIELD(geo, queue[1].max_response), 0, -EINVAL},
        {FIELD(geo, queue[1].response_bytes), 1499, -EINVAL},
    };
    for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct channel_geometry g = geometry();
        apply(&g, &changes[i]);
        assert_int_equal(channel_check(&g), changes[i].want);
    }
}

struct region {
    uint64_t at, len;
};

static void check_disjoint(const struct region *r, unsigned n, uint64_t size)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(r[i].at + r[i].len <= size);
        for (unsigned k = 0; k < i; k++)
            assert_true(!r[i].len || !r[k].len || r[i].at + r[i].len <= r[k].at ||
                        r[k].at + r[k].len <= r[i].at);
    }
}

/* Nothing overlaps, everything is inside, and the arenas hold what admission may let in. */
static void test_layout(void **state)
{
    struct channel_geometry g = {.nqueues = CHANNEL_MAX_QUEUES, .blob_max = 777};
    for (unsigned i = 0; i < g.nqueues; i++)
        g.queue[i] = i % 2 ? geometry().queue[1] : geometry().queue[0];
    g.queue[0].slots = 1024;
    g.queue[1].slots = 4096;
    assert_int_equal(channel_check(&g), 0);
    struct channel_layout l;
    channel_layout(&g, &l);
    struct region out[40] = {{0, sizeof(struct channel_out_header)}},
                  in[40] = {{0, sizeof(struct channel_in_header)}};
    unsigned no = 1, ni = 1;
    for (unsigned i = 0; i < g.nqueues; i++) {
        uint64_t ring = (uint64_t)l.queue[i].entries * RING_ENTRY_SIZE;
        out[no++] = (struct region){l.queue[i].out_produced, 64};
        out[no++] = (struct region){l.queue[i].out_consumed, 64};
        in[ni++] = (struct region){l.queue[i].in_produced, 64};
        in[ni++] = (struct region){l.queue[i].in_consumed, 64};
        in[ni++] = (struct region){l.queue[i].completions, ring};
        in[ni++] = (struct region){l.queue[i].response_arena, l.queue[i].response_size};
        if (g.queue[i].kind == CHANNEL_INBOUND) {
            assert_true(l.queue[i].entries >= g.queue[i].slots);
            continue;
        }
        out[no++] = (struct region){l.queue[i].submissions, ring};
        out[no++] = (struct region){l.queue[i].request_arena, l.queue[i].request_size};
        assert_true(l.queue[i].entries >= 2 * g.queue[i].slots + 1);
        assert_true(l.queue[i].request_size / 2 >= g.queue[i].request_bytes + 63 * g.queue[i].slots);
        assert_true(l.queue[i].response_size / 2 >=
                    g.queue[i].response_bytes + (uint64_t)g.queue[i].slots * (70 + g.blob_max));
    }
    check_disjoint(out, no, l.out_size);
    check_disjoint(in, ni, l.in_size);
    assert_int_equal(l.out_size % 4096, 0);
    assert_int_equal(l.in_size % 4096, 0);
}

static void test_crc_sees_every_field(void **state)
{
    struct channel_geometry g = geometry();
    uint32_t crc = channel_layout_crc(&g);
    assert_int_equal(crc, channel_layout_crc(&g));
    g.queue[0].max_response++;
    assert_int_not_equal(crc, channel_layout_crc(&g));
    g = geometry();
    g.queue[1].slots++;
    assert_int_not_equal(crc, channel_layout_crc(&g));
    g = geometry();
    g.blob_max++;
    assert_int_not_equal(crc, channel_layout_crc(&g));
}

/* A request flows out and its answer back, with the bytes in the arenas. */
static void exchange(struct channel_front *f, struct channel_back *b, uint64_t seq)
{
    struct ring_request r = {.seq = seq,
                             .epoch = 3,
                             .slot = 1,
                             .op = RING_OP_REQUEST,
                             .req_len = 6,
                             .req_off = 128,
                             .resp_off = 64,
                             .resp_cap = 10,
                             .blob_cap = 100},
                        got;
    memcpy(f->ops->request_mem(f, 0) + 128, "hello", 6);
    assert_int_equal(f->ops->submit(f, 0, &r), 0);
    assert_int_equal(b->ops->request(b, 0, &got), 1);
    assert_memory_equal(&got, &r, sizeof(r));
    assert_int_equal(channel_check_request(&b->geometry, &b->layout, 0, &got), 0);
    assert_string_equal((const char *)b->ops->request_mem(b, 0) + got.req_off, "hello");
    memcpy(b->ops->response_mem(b, 0) + got.resp_off, "world", 6);
    struct ring_completion c = {.seq = seq, .epoch = 3, .slot = 1, .len = 6}, answer;
    assert_int_equal(b->ops->complete(b, 0, &c), 0);
    assert_int_equal(b->ops->backlog(b, 0), 1);
    assert_int_equal(f->ops->completion(f, 0, &answer), 1);
    assert_int_equal(channel_check_completion(&answer, &r), 0);
    assert_string_equal((const char *)f->ops->response_mem(f, 0) + r.resp_off, "world");
    assert_int_equal(f->ops->completion(f, 0, &answer), 0);
    assert_int_equal(b->ops->request(b, 0, &got), 0);
}

static void test_exchange(void **state)
{
    struct channel_pair p;
    struct channel_geometry g = geometry();
    assert_int_equal(channel_pair_create(&p, &g, 3), 0);
    for (uint64_t seq = 1; seq < 100; seq++)
        exchange(p.front, p.back, seq);
    channel_pair_destroy(&p);
}

static void test_request_validation(void **state)
{
    typedef struct ring_request req;
    struct channel_geometry g = geometry();
    struct channel_layout l;
    channel_layout(&g, &l);
    uint64_t last_req = (l.queue[0].request_size - 1000) & ~7ull, last_resp = l.queue[0].response_size - 3104;
    const struct change changes[] = {
        {FIELD(req, seq), 5, 0},
        {FIELD(req, req_off), last_req, 0},
        {FIELD(req, req_off), last_req + 8, -EPROTO},
        {FIELD(req, resp_off), last_resp, 0},
        {FIELD(req, resp_off), last_resp + 8, -EPROTO},
        {FIELD(req, req_len), 1001, -EPROTO},
        {FIELD(req, resp_cap), 3001, -EPROTO},
        {FIELD(req, blob_cap), 101, -EPROTO},
        {FIELD(req, req_off), UINT64_MAX - 7, -EPROTO},
        {FIELD(req, resp_off), UINT64_MAX - 7, -EPROTO},
        {FIELD(req, resp_off), 4, -EPROTO},
        {FIELD(req, op), 0, -EPROTO},
        {FIELD(req, flags), 2, -EPROTO},
        {FIELD(req, slot), RING_SLOT_NONE, -EPROTO},
        {FIELD(req, op), RING_OP_RESET, -EPROTO},
    };
    for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct ring_request r = {.op = RING_OP_REQUEST, .req_len = 1000, .resp_cap = 3000, .blob_cap = 100};
        apply(&r, &changes[i]);
        assert_int_equal(channel_check_request(&g, &l, 0, &r), changes[i].want);
    }
    struct ring_request reset = {.op = RING_OP_RESET, .slot = RING_SLOT_NONE};
    assert_int_equal(channel_check_request(&g, &l, 0, &reset), 0);
}

static void test_completion_validation(void **state)
{
    typedef struct ring_completion com;
    const struct ring_request r = {.seq = 9, .epoch = 2, .slot = 4, .resp_cap = 50, .blob_cap = 20};
    static const struct change changes[] = {
        {FIELD(com, len), 0, 0},
        {FIELD(com, seq), 8, -EPROTO},
        {FIELD(com, epoch), 1, -EPROTO},
        {FIELD(com, slot), 5, -EPROTO},
        {FIELD(com, len), 51, -EPROTO},
        {FIELD(com, blob_len), 21, -EPROTO},
        {FIELD(com, status), 2, -EPROTO},
        {FIELD(com, file_len), 50, 0},
        {FIELD(com, file_len), 51, -EPROTO},
        {FIELD(com, file_off), 512, -EPROTO},
        {FIELD(com, reserved32), 1, -EPROTO},
        {FIELD(com, reserved[0]), 1, -EPROTO},
        {FIELD(com, reserved[2]), 1, -EPROTO},
    };
    for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct ring_completion c = {.seq = 9, .epoch = 2, .slot = 4, .len = 50, .blob_len = 20};
        apply(&c, &changes[i]);
        assert_int_equal(channel_check_completion(&c, &r), changes[i].want);
    }
    struct ring_completion c = {
        .seq = 9, .epoch = 2, .slot = 4, .len = 50, .file_len = 50, .file_off = INT64_MAX - 50};
    assert_int_equal(channel_check_completion(&c, &r), 0);
    c.file_off++;
    assert_int_equal(channel_check_completion(&c, &r), -EPROTO);
    c.file_off = 0;
    c.status = RING_STATUS_FAILED;
    assert_int_equal(channel_check_completion(&c, &r), -EPROTO);
}

static void test_event_validation(void **state)
{
    typedef struct ring_event ev;
    struct channel_geometry g = geometry();
    struct channel_layout l;
    channel_layout(&g, &l);
    uint64_t last = l.queue[1].response_size - 1500;
    const struct change changes[] = {
        {FIELD(ev, off), last, 0},
        {FIELD(ev, off), last + 1, -EPROTO},
        {FIELD(ev, off), UINT64_MAX, -EPROTO},
        {FIELD(ev, seq), 4, -EPROTO},
        {FIELD(ev, epoch), 3, -EPROTO},
        {FIELD(ev, len), 1501, -EPROTO},
        {FIELD(ev, reserved[0]), 1, -EPROTO},
        {FIELD(ev, reserved[3]), 1, -EPROTO},
    };
    for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct ring_event e = {.seq = 5, .epoch = 2, .len = 1500};
        apply(&e, &changes[i]);
        assert_int_equal(channel_check_event(&g, &l, 1, &e, 2, 5), changes[i].want);
    }
}

/* Events of random lengths, sent whenever there is room and taken at random: all arrive whole, in order, and
 * what is still in the ring is never overwritten. */
static void test_events(void **state)
{
    struct channel_pair p;
    struct channel_geometry g = geometry();
    assert_int_equal(channel_pair_create(&p, &g, 3), 0);
    uint64_t sent = 0, taken = 0;
    uint32_t lengths[8];
    uint8_t data[1500];
    srand(2);
    for (unsigned step = 0; step < 100000; step++) {
        if (rand() % 2) {
            uint32_t len = (uint32_t)rand() % (rand() % 3 ? 200 : 1501);
            memset(data, (int)(sent + 1), len);
            int err = p.back->ops->event(p.back, 1, 0, data, len);
            assert_true(err == 0 || err == -ENOSPC);
            if (!err)
                lengths[sent++ % 8] = len;
            else
                assert_true(sent > taken);
        } else {
            struct ring_event e;
            int got = p.front->ops->event(p.front, 1, &e);
            assert_int_equal(got, sent > taken);
            if (!got)
                continue;
            assert_int_equal(channel_check_event(&g, &p.front->layout, 1, &e, 3, taken + 1), 0);
            assert_int_equal(e.len, lengths[taken % 8]);
            const uint8_t *bytes = p.front->ops->response_mem(p.front, 1) + e.off;
            for (uint32_t i = 0; i < e.len; i++)
                assert_int_equal(bytes[i], (uint8_t)(taken + 1));
            p.front->ops->event_done(p.front, 1);
            taken++;
        }
        assert_int_equal(p.back->ops->backlog(p.back, 1), sent - taken);
    }
    assert_true(taken > 10000);
    assert_int_equal(p.back->ops->event(p.back, 1, 0, data, 1501), -EMSGSIZE);
    channel_pair_destroy(&p);
}

/* A doorbell is rung only for what the peer waits for, and sleep never misses what came before it. */
static void test_doorbells(void **state)
{
    struct channel_pair p;
    struct channel_geometry g = geometry();
    struct ring_request r = {.op = RING_OP_REQUEST};
    struct ring_completion c = {0};
    struct ring_event e;
    uint8_t data[1500] = {0};
    assert_int_equal(channel_pair_create(&p, &g, 3), 0);

    p.front->ops->submit(p.front, 0, &r);
    p.front->ops->kick(p.front);
    assert_int_equal(p.device_rings, 0);
    assert_false(p.back->ops->sleep(p.back));
    p.back->ops->request(p.back, 0, &r);
    assert_true(p.back->ops->sleep(p.back));
    p.front->ops->kick(p.front);
    assert_int_equal(p.device_rings, 0);
    p.front->ops->submit(p.front, 0, &r);
    p.front->ops->kick(p.front);
    assert_int_equal(p.device_rings, 1);
    p.back->ops->awake(p.back);
    p.back->ops->request(p.back, 0, &r);

    p.back->ops->complete(p.back, 0, &c);
    p.back->ops->kick(p.back);
    assert_int_equal(p.vcpu_rings, 0);
    p.front->ops->wait_flag(p.front, true);
    p.back->ops->kick(p.back);
    assert_int_equal(p.vcpu_rings, 0);
    p.back->ops->complete(p.back, 0, &c);
    p.back->ops->kick(p.back);
    assert_int_equal(p.vcpu_rings, 1);
    p.front->ops->wait_flag(p.front, false);

    /* Taken events matter to a device only once it found no room. */
    assert_int_equal(p.back->ops->event(p.back, 1, 0, data, 1500), 0);
    assert_true(p.back->ops->sleep(p.back));
    p.front->ops->event(p.front, 1, &e);
    p.front->ops->event_done(p.front, 1);
    p.front->ops->kick(p.front);
    assert_int_equal(p.device_rings, 1);
    p.back->ops->awake(p.back);
    while (p.back->ops->event(p.back, 1, 0, data, 1500) == 0)
        ;
    assert_false(p.back->ops->room(p.back));
    assert_true(p.back->ops->sleep(p.back));
    p.front->ops->event(p.front, 1, &e);
    p.front->ops->event_done(p.front, 1);
    p.front->ops->kick(p.front);
    assert_int_equal(p.device_rings, 2);
    p.back->ops->awake(p.back);
    assert_false(p.back->ops->sleep(p.back));
    assert_true(p.back->ops->room(p.back));
    assert_false(p.back->ops->room(p.back));
    assert_true(p.back->ops->sleep(p.back));
    channel_pair_destroy(&p);
}

static struct ring_index *index_at(uint8_t *memory, uint64_t off)
{
    return (struct ring_index *)(memory + off);
}

static void test_hostile_indices(void **state)
{
    struct channel_pair p;
    struct channel_geometry g = geometry();
    struct ring_completion c;
    struct ring_event e;
    struct ring_request r = {0};
    assert_int_equal(channel_pair_create(&p, &g, 3), 0);
    const struct channel_layout *l = &p.front->layout;
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t bad = 17 + (uint32_t)rand() % 100000;
        atomic_store(&index_at(p.in, l->queue[0].in_produced)->value, bad);
        atomic_store(&index_at(p.in, l->queue[0].in_consumed)->value, bad);
        atomic_store(&index_at(p.in, l->queue[1].in_produced)->value, bad);
        atomic_store(&index_at(p.out, l->queue[1].out_consumed)->value, bad);
        assert_int_equal(p.front->ops->completion(p.front, 0, &c), -EPROTO);
        assert_int_equal(p.front->ops->submit(p.front, 0, &r), -EPROTO);
        assert_int_equal(p.front->ops->event(p.front, 1, &e), -EPROTO);
        assert_int_equal(p.back->ops->event(p.back, 1, 0, "x", 1), -EPROTO);
    }
    channel_pair_destroy(&p);
}

struct shm {
    struct channel_front *front;
    struct channel_back *back;
    int out, in, device_doorbell, vcpu_doorbell;
};

static void shm_open_pair(struct shm *s, const struct channel_geometry *g)
{
    assert_int_equal(channel_out_create(g, &s->front, &s->out), 0);
    s->in = channel_in_create(g);
    s->device_doorbell = eventfd(0, EFD_NONBLOCK);
    s->vcpu_doorbell = eventfd(0, EFD_NONBLOCK);
    assert_true(s->in >= 0 && s->device_doorbell >= 0 && s->vcpu_doorbell >= 0);
    assert_int_equal(channel_back_open(g, 3, s->out, s->in, s->vcpu_doorbell, &s->back), 0);
    assert_int_equal(channel_front_link(s->front, s->in, s->device_doorbell), 0);
}

static void shm_close(struct shm *s)
{
    s->back->ops->close(s->back);
    s->front->ops->close(s->front);
    close(s->out);
    close(s->in);
    close(s->device_doorbell);
    close(s->vcpu_doorbell);
}

static void test_shm_exchange(void **state)
{
    struct shm s;
    struct channel_geometry g = geometry();
    struct ring_completion c;
    shm_open_pair(&s, &g);
    for (uint64_t seq = 1; seq < 50; seq++)
        exchange(s.front, s.back, seq);

    /* The next incarnation begins with empty rings, and an old one cannot reach its memory. */
    s.back->ops->complete(s.back, 0, &(struct ring_completion){.seq = 1});
    int in = channel_in_create(&g);
    struct channel_back *next;
    assert_int_equal(channel_back_open(&g, 4, s.out, in, s.vcpu_doorbell, &next), 0);
    assert_int_equal(channel_front_link(s.front, in, s.device_doorbell), 0);
    assert_int_equal(s.front->ops->completion(s.front, 0, &c), 0);
    exchange(s.front, next, 60);
    s.back->ops->complete(s.back, 0, &(struct ring_completion){.seq = 2});
    assert_int_equal(s.front->ops->completion(s.front, 0, &c), 0);

    channel_front_unlink(s.front);
    assert_int_equal(s.front->ops->completion(s.front, 0, &c), 0);
    assert_int_equal(s.front->ops->submit(s.front, 0, &(struct ring_request){0}), -ENOTCONN);
    assert_null(s.front->ops->response_mem(s.front, 0));
    s.front->ops->kick(s.front);
    next->ops->close(next);
    close(in);
    shm_close(&s);
}

static void test_shm_doorbells(void **state)
{
    struct shm s;
    struct channel_geometry g = geometry();
    struct ring_request r = {.op = RING_OP_REQUEST};
    uint64_t count;
    shm_open_pair(&s, &g);
    assert_true(s.back->ops->sleep(s.back));
    s.front->ops->submit(s.front, 0, &r);
    s.front->ops->kick(s.front);
    assert_int_equal(read(s.device_doorbell, &count, 8), 8);
    assert_int_equal(count, 1);
    s.front->ops->wait_flag(s.front, true);
    s.back->ops->complete(s.back, 0, &(struct ring_completion){0});
    s.back->ops->kick(s.back);
    assert_int_equal(read(s.vcpu_doorbell, &count, 8), 8);

    /* A counter that a peer has filled up holds nobody up. */
    count = UINT64_MAX - 1;
    assert_int_equal(write(s.device_doorbell, &count, 8), 8);
    s.front->ops->submit(s.front, 0, &r);
    s.front->ops->kick(s.front);
    shm_close(&s);
}

/* What the device is given: `out` cannot be written or mapped writable, neither can be resized or unsealed.
 */
static void test_seals(void **state)
{
    struct shm s;
    struct channel_geometry g = geometry();
    shm_open_pair(&s, &g);
    assert_int_equal(fcntl(s.out, F_GET_SEALS) & CHANNEL_OUT_SEALS, CHANNEL_OUT_SEALS);
    assert_int_equal(fcntl(s.in, F_GET_SEALS) & CHANNEL_IN_SEALS, CHANNEL_IN_SEALS);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, s.out, 0), MAP_FAILED);
    assert_int_equal(pwrite(s.out, "x", 1, 0), -1);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, s.out, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
    munmap(map, 4096);
    int fds[] = {s.out, s.in};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ftruncate(fds[i], 0), -1);
        assert_int_equal(ftruncate(fds[i], 1 << 30), -1);
        assert_int_equal(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE), -1);
    }
    assert_int_equal(fallocate(s.out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    shm_close(&s);
}

/* Memory that is not what it should be is refused by whoever would map it. */
static void test_foreign_memory(void **state)
{
    struct shm s;
    struct channel_geometry g = geometry(), other = geometry();
    struct channel_back *b;
    shm_open_pair(&s, &g);
    other.queue[0].slots++;
    int unsealed = memfd_create("unsealed", MFD_ALLOW_SEALING), wrong = channel_in_create(&other);
    assert_int_equal(ftruncate(unsealed, (off_t)s.front->layout.in_size), 0);
    assert_int_equal(channel_front_link(s.front, unsealed, s.device_doorbell), -EPROTO);
    assert_int_equal(channel_back_open(&g, 3, s.out, unsealed, s.vcpu_doorbell, &b), -EPROTO);
    assert_int_equal(channel_back_open(&g, 3, s.in, s.in, s.vcpu_doorbell, &b), -EPROTO);
    assert_int_equal(channel_front_link(s.front, s.vcpu_doorbell, s.device_doorbell), -EPROTO);
    assert_int_equal(channel_front_link(s.front, s.out, s.device_doorbell), -EPROTO);
    assert_int_equal(channel_front_link(s.front, wrong, s.device_doorbell), -EPROTO);
    assert_int_equal(channel_back_open(&other, 3, s.out, wrong, s.vcpu_doorbell, &b), -EPROTO);
    /* Sealed and of the right size, but never initialised. */
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, CHANNEL_IN_SEALS), 0);
    assert_int_equal(channel_front_link(s.front, unsealed, s.device_doorbell), -EPROTO);
    /* A failed link leaves the present one alone. */
    exchange(s.front, s.back, 5);
    close(unsealed);
    close(wrong);
    shm_close(&s);
}

static void test_watch(void **state)
{
    struct shm s;
    struct channel_geometry g = geometry();
    const struct channel_in_header *h;
    shm_open_pair(&s, &g);
    assert_int_equal(channel_watch(s.in, &h), 0);
    atomic_store(&s.back->ops->header(s.back)->heartbeat, 17);
    atomic_store(&s.back->ops->header(s.back)->progress, 99);
    assert_int_equal(atomic_load(&h->heartbeat), 17);
    assert_int_equal(atomic_load(&h->progress), 99);
    channel_unwatch(h);
    shm_close(&s);
}

enum { STRESS = 100000 };

/* The device's end in another process: echoes the request's bytes, asleep whenever there is nothing to do. */
static void echo_process(struct shm *s)
{
    struct ring_request r;
    for (unsigned done = 0; done < STRESS;) {
        int got = s->back->ops->request(s->back, 0, &r);
        if (got < 0)
            _exit(1);
        if (got) {
            memcpy(s->back->ops->response_mem(s->back, 0) + r.resp_off,
                   s->back->ops->request_mem(s->back, 0) + r.req_off, r.req_len);
            struct ring_completion c = {.seq = r.seq, .epoch = r.epoch, .slot = r.slot, .len = r.req_len};
            if (s->back->ops->complete(s->back, 0, &c) < 0)
                _exit(2);
            done++;
            continue;
        }
        s->back->ops->kick(s->back);
        if (!s->back->ops->sleep(s->back))
            continue;
        struct pollfd p = {.fd = s->device_doorbell, .events = POLLIN};
        if (poll(&p, 1, 30000) <= 0)
            _exit(3); /* a lost wake-up */
        uint64_t count;
        (void)!read(s->device_doorbell, &count, 8);
        s->back->ops->awake(s->back);
    }
    s->back->ops->kick(s->back);
    _exit(0);
}

static void wait_for_device(struct shm *s, struct ring_completion *c, int *got)
{
    s->front->ops->wait_flag(s->front, true);
    *got = s->front->ops->completion(s->front, 0, c);
    struct pollfd p = {.fd = s->vcpu_doorbell, .events = POLLIN};
    if (*got == 0)
        assert_int_equal(poll(&p, 1, 30000), 1);
    s->front->ops->wait_flag(s->front, false);
    uint64_t count;
    (void)!read(s->vcpu_doorbell, &count, 8);
}

/* No wake-up is lost and no byte mixed up between two processes that sleep as often as they can. */
static void test_two_processes(void **state)
{
    struct shm s;
    struct channel_geometry g = geometry();
    shm_open_pair(&s, &g);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        echo_process(&s);
    struct ring_request slots[5];
    bool busy[5] = {0};
    uint64_t sent = 0, answered = 0;
    while (answered < STRESS) {
        unsigned slot = (unsigned)(sent % 5);
        if (sent < STRESS && !busy[slot] && sent - answered < 1 + sent / 64 % 5) {
            slots[slot] = (struct ring_request){.seq = sent + 1,
                                                .epoch = 3,
                                                .slot = (uint16_t)slot,
                                                .op = RING_OP_REQUEST,
                                                .req_len = 8,
                                                .req_off = slot * 64,
                                                .resp_off = slot * 64,
                                                .resp_cap = 8};
            memcpy(s.front->ops->request_mem(s.front, 0) + slot * 64, &sent, 8);
            assert_int_equal(s.front->ops->submit(s.front, 0, &slots[slot]), 0);
            s.front->ops->kick(s.front);
            busy[slot] = true;
            sent++;
            continue;
        }
        struct ring_completion c;
        int got = s.front->ops->completion(s.front, 0, &c);
        if (got == 0)
            wait_for_device(&s, &c, &got);
        if (got == 0)
            continue;
        assert_int_equal(got, 1);
        assert_true(c.slot < 5 && busy[c.slot]);
        assert_int_equal(channel_check_completion(&c, &slots[c.slot]), 0);
        uint64_t echoed;
        memcpy(&echoed, s.front->ops->response_mem(s.front, 0) + c.slot * 64, 8);
        assert_int_equal(echoed, c.seq - 1);
        busy[c.slot] = false;
        answered++;
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    shm_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_geometry_bounds),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_crc_sees_every_field),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_request_validation),
        cmocka_unit_test(test_completion_validation),
        cmocka_unit_test(test_event_validation),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_doorbells),
        cmocka_unit_test(test_hostile_indices),
        cmocka_unit_test(test_shm_exchange),
        cmocka_unit_test(test_shm_doorbells),
        cmocka_unit_test(test_seals),
        cmocka_unit_test(test_foreign_memory),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_two_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
