/* The crossing layer against a device's end of a real shared-memory channel in the same process: admission,
 * order, resets, fixed timing, peers that break the rules, and re-issue to a successor. */
#include "cpu-core/crossing/crossing.h"
#include "cpu-core/time/vclock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOTS 4
#define DATA  64

/* What the front-end saw, in order: 'c' slot, 'e' first byte. */
struct rig {
    struct vclock clock;
    struct crossings *cs;
    struct link *link;
    struct channel_back *back;
    int out_fd, device_bell, vcpu_bell;
    uint64_t icount;
    uint32_t epoch;
    char seen[256];
    unsigned nseen, faults, waits;
    uint64_t outs, ins;
    struct crossing_file file; /* of the last completion */
    bool room;
    unsigned answer_on_wait; /* requests that the device answers while the machine waits */
};

static void position(void *arg, uint64_t *icount, uint64_t *pc)
{
    *icount = ((struct rig *)arg)->icount;
    *pc = 0;
}

static void answer(struct rig *r, unsigned queue, const void *data, uint32_t len);

static int wait_for_device(void *arg)
{
    struct rig *r = arg;
    r->waits++;
    if (!r->answer_on_wait)
        return -ECANCELED;
    r->answer_on_wait--;
    answer(r, 0, "w", 1);
    uint64_t rings;
    r->back->ops->kick(r->back);
    assert_int_equal(read(r->vcpu_bell, &rings, sizeof rings), sizeof rings); /* a real wait would end */
    return 0;
}

static void fault(void *arg, const char *id, const char *why)
{
    ((struct rig *)arg)->faults++;
}
static void attention(void *arg) {}

static void settle(void *arg)
{
    struct rig *r = arg;
    vclock_fire(&r->clock, r->icount);
}

static void mark(void *arg) {}

static void append(void *arg, const struct crossing *c, const void *body, const struct crossing_file *file)
{
    struct rig *r = arg;
    if (c->kind == CROSSING_COMPLETION)
        r->file = file ? *file : (struct crossing_file){0};
    if (c->direction == CROSSING_IN)
        r->ins++;
    else
        r->outs++;
}

static void completed(void *front, unsigned queue, unsigned slot, const uint8_t *data, uint32_t len,
                      bool failed)
{
    struct rig *r = front;
    r->seen[r->nseen++] = (char)('0' + slot);
    r->seen[r->nseen++] = failed ? '!' : len ? (char)data[0] : '-';
}

static bool room(void *front, unsigned queue, uint32_t len)
{
    return ((struct rig *)front)->room;
}

static void received(void *front, unsigned queue, const uint8_t *data, uint32_t len)
{
    struct rig *r = front;
    r->seen[r->nseen++] = (char)data[0];
}

static const struct link_sink sink = {completed, room, received, NULL};
static const struct journal_ops journal = {append};

static const struct channel_geometry geometry = {
    .nqueues = 2,
    .blob_max = 16,
    .queue = {{.kind = CHANNEL_REQUESTS,
               .slots = SLOTS,
               .max_request = DATA,
               .max_response = DATA,
               .request_bytes = SLOTS * DATA,
               .response_bytes = SLOTS * DATA},
              {.kind = CHANNEL_INBOUND, .slots = 16, .max_response = DATA, .response_bytes = 4096}}};

static void connect_device(struct rig *r, bool reissue)
{
    if (r->back)
        r->back->ops->close(r->back);
    int in = channel_in_create(&geometry);
    assert_true(in >= 0);
    r->epoch++;
    assert_int_equal(channel_back_open(&geometry, r->epoch, r->out_fd, in, r->vcpu_bell, &r->back), 0);
    assert_int_equal(link_connect(r->link, r->epoch, in, r->device_bell, reissue), 0);
    close(in);
}

static struct rig *start_with(bool fixed, bool file, const struct latency_model *latency)
{
    struct rig *r = calloc(1, sizeof *r);
    struct crossings_host host = {position, wait_for_device, fault, settle, attention, mark, r};
    struct link_config cfg = {.id = "test", .geometry = geometry, .latency = *latency, .file = file};
    r->room = true;
    r->device_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->vcpu_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    vclock_init(&r->clock, 1ull << 32);
    assert_int_equal(crossings_create(&r->cs, &r->clock, fixed, &host, &journal, r), 0);
    assert_int_equal(link_create(r->cs, &cfg, &r->link, &r->out_fd), 0);
    link_bind(r->link, &sink, r);
    connect_device(r, false);
    return r;
}

static struct rig *start(bool fixed)
{
    return start_with(fixed, false, &(struct latency_model){.nrules = 1, .rule = {{.base_ns = 1000}}});
}

static void stop(struct rig *r)
{
    r->back->ops->close(r->back);
    crossings_destroy(r->cs);
    close(r->out_fd);
    close(r->device_bell);
    close(r->vcpu_bell);
    free(r);
}

static int submit(struct rig *r, char c)
{
    int slot = link_reserve(r->link, 0, 1, DATA);
    if (slot < 0)
        return slot;
    *link_request_bytes(r->link, 0, (unsigned)slot) = (uint8_t)c;
    link_submit(r->link, 0, (unsigned)slot);
    link_kick(r->link);
    return slot;
}

static struct ring_request take(struct rig *r)
{
    struct ring_request q;
    assert_int_equal(r->back->ops->request(r->back, 0, &q), 1);
    return q;
}

static struct ring_completion answer_to(const struct ring_request *q, uint32_t len)
{
    return (struct ring_completion){.seq = q->seq, .epoch = q->epoch, .slot = q->slot, .len = len};
}

/* Takes the oldest request and answers it. */
static void answer(struct rig *r, unsigned queue, const void *data, uint32_t len)
{
    struct ring_request q = take(r);
    if (q.op == RING_OP_REQUEST)
        memcpy(r->back->ops->response_mem(r->back, queue) + q.resp_off, data, len);
    struct ring_completion c = answer_to(&q, q.op == RING_OP_REQUEST ? len : 0);
    assert_int_equal(r->back->ops->complete(r->back, 0, &c), 0);
}

static void advance(struct rig *r, uint64_t n)
{
    r->icount = n;
    vclock_fire(&r->clock, n);
    crossings_accept(r->cs);
}

static void test_live(void **state)
{
    struct rig *r = start(false);
    assert_int_equal(submit(r, 'a'), 0);
    assert_int_equal(submit(r, 'b'), 1);
    assert_true(crossings_busy(r->cs));
    struct ring_request a = take(r), b = take(r);
    assert_int_equal(r->back->ops->request_mem(r->back, 0)[a.req_off], 'a');
    struct ring_completion cb = answer_to(&b, 0), ca = answer_to(&a, 0);
    r->back->ops->complete(r->back, 0, &cb);
    r->back->ops->complete(r->back, 0, &ca);
    assert_int_equal(r->nseen, 0);
    assert_int_equal(crossings_accept(r->cs), 2);
    assert_string_equal(r->seen, "1-0-");
    assert_false(crossings_busy(r->cs));
    assert_int_equal(r->outs, 2);
    assert_int_equal(r->ins, 2);
    stop(r);
}

static void test_admission(void **state)
{
    struct rig *r = start(false);
    assert_int_equal(link_reserve(r->link, 0, DATA + 1, 0), -EMSGSIZE);
    assert_int_equal(link_reserve(r->link, 0, 0, DATA + 1), -EMSGSIZE);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(submit(r, 'a'), i);
    assert_int_equal(submit(r, 'x'), -ENOSPC);
    answer(r, 0, "r", 1);
    assert_int_equal(submit(r, 'x'), -ENOSPC); /* arrived is not delivered */
    crossings_accept(r->cs);
    assert_int_equal(submit(r, 'x'), 0);
    stop(r);
}

static void test_reset(void **state)
{
    struct rig *r = start(false);
    submit(r, 'a');
    submit(r, 'b');
    link_reset(r->link);
    assert_int_equal(r->waits, 0);
    for (int i = 0; i < SLOTS; i++) /* all slots belong to the new generation */
        assert_int_equal(submit(r, 'n'), i);
    answer(r, 0, "o", 1); /* orphans */
    answer(r, 0, "o", 1);
    assert_int_equal(crossings_accept(r->cs), 0);
    answer(r, 0, "", 0); /* the reset */
    answer(r, 0, "n", 1);
    assert_int_equal(crossings_accept(r->cs), 1);
    assert_string_equal(r->seen, "0n");
    assert_int_equal(r->faults, 0);
    stop(r);
}

static void test_reset_waits_for_older_orphans(void **state)
{
    struct rig *r = start(false);
    submit(r, 'a');
    link_reset(r->link);
    r->answer_on_wait = 2;
    link_reset(r->link);
    assert_int_equal(r->waits, 2);
    assert_int_equal(r->nseen, 0);
    stop(r);
}

static void test_fixed(void **state)
{
    struct rig *r = start(true);
    r->icount = 100;
    submit(r, 'a');
    r->icount = 150;
    submit(r, 'b');
    struct ring_request a = take(r), b = take(r);
    struct ring_completion cb = answer_to(&b, 0), ca = answer_to(&a, 0);
    r->back->ops->complete(r->back, 0, &cb);
    r->back->ops->complete(r->back, 0, &ca);
    advance(r, 1099);
    assert_int_equal(r->nseen, 0);
    assert_int_equal(vclock_next_step(&r->clock), 1100);
    advance(r, 1100);
    assert_string_equal(r->seen, "0-");
    assert_int_equal(vclock_next_step(&r->clock),
                     2100); /* after the previous one's, not its own submission */
    advance(r, 2100);
    assert_string_equal(r->seen, "0-1-");
    stop(r);
}

static void test_fixed_uses_the_model(void **state)
{
    const struct latency_model latency = {
        .seed = 3,
        .nrules = 2,
        .rule = {{{'a'}, 1, .base_ns = 10, .bandwidth = 1000000000}, {.base_ns = 500}}};
    struct rig *r = start_with(true, false, &latency);
    r->icount = 100;
    submit(r, 'a'); /* 1 byte and room for DATA more, 1 ns each */
    assert_int_equal(vclock_next_step(&r->clock), 100 + 10 + 1 + DATA);
    answer(r, 0, "", 0);
    advance(r, 111 + DATA);
    assert_string_equal(r->seen, "0-");
    submit(r, 'b');
    assert_int_equal(vclock_next_step(&r->clock), 111 + DATA + 500);
    stop(r);
}

static void test_references_to_a_file(void **state)
{
    for (unsigned allowed = 0; allowed < 2; allowed++) {
        const struct latency_model none = {0};
        struct rig *r = start_with(false, allowed, &none);
        submit(r, 'a');
        struct ring_request q = take(r);
        struct ring_completion c = answer_to(&q, 9);
        c.file_off = 4096;
        c.file_len = 8;
        r->back->ops->complete(r->back, 0, &c);
        crossings_accept(r->cs);
        assert_int_equal(r->faults, !allowed);
        assert_int_equal(r->file.offset, allowed ? 4096 : 0);
        assert_int_equal(r->file.len, allowed ? 8 : 0);
        if (allowed) {
            submit(r, 'b');
            answer(r, 0, "x", 1);
            crossings_accept(r->cs);
            assert_int_equal(r->file.len, 0);
        }
        stop(r);
    }
}

static void test_fixed_waits_for_a_late_device(void **state)
{
    struct rig *r = start(true);
    submit(r, 'a');
    r->answer_on_wait = 1;
    advance(r, 1000);
    assert_int_equal(r->waits, 1);
    assert_string_equal(r->seen, "0w");
    stop(r);
}

static void test_fixed_events_follow_their_cause(void **state)
{
    struct rig *r = start(true);
    submit(r, 'a');
    submit(r, 'b');
    struct ring_request a = take(r), b = take(r);
    struct ring_completion ca = answer_to(&a, 0), cb = answer_to(&b, 0);
    r->back->ops->event(r->back, 1, a.seq, "A", 1);
    r->back->ops->complete(r->back, 0, &ca);
    r->back->ops->event(r->back, 1, b.seq, "B", 1);
    r->back->ops->complete(r->back, 0, &cb);
    crossings_accept(r->cs);
    assert_int_equal(r->nseen, 0); /* the device ran ahead */
    r->room = false;
    advance(r, 1000);
    assert_string_equal(r->seen, "0-");
    r->room = true;
    link_room_made(r->link, 1);
    crossings_accept(r->cs);
    assert_string_equal(r->seen, "0-A");
    advance(r, 2000);
    assert_string_equal(r->seen, "0-A1-B");
    stop(r);
}

static void test_events_wait_for_room(void **state)
{
    struct rig *r = start(false);
    r->room = false;
    assert_int_equal(r->back->ops->event(r->back, 1, 0, "x", 1), 0);
    assert_int_equal(r->back->ops->event(r->back, 1, 0, "y", 1), 0);
    assert_int_equal(crossings_accept(r->cs), 0);
    r->room = true;
    assert_int_equal(crossings_accept(r->cs), 0); /* until the front-end says so */
    link_room_made(r->link, 1);
    assert_int_equal(crossings_accept(r->cs), 2);
    assert_string_equal(r->seen, "xy");
    stop(r);
}

/* Every field of a completion that can be wrong. */
static void test_hostile_completions(void **state)
{
    for (unsigned field = 0; field < 9; field++) {
        struct rig *r = start(false);
        submit(r, 'a');
        struct ring_request q = take(r);
        struct ring_completion c = answer_to(&q, 0);
        switch (field) {
        case 0:
            c.seq++;
            break;
        case 1:
            c.epoch--;
            break;
        case 2:
            c.slot = 1;
            break;
        case 3:
            c.slot = 2 * SLOTS;
            break;
        case 4:
            c.slot = RING_SLOT_NONE;
            break;
        case 5:
            c.len = DATA + 1;
            break;
        case 6:
            c.blob_len = 17;
            break;
        case 7:
            c.status = 2;
            break;
        default:
            c.reserved[2] = 1;
            break;
        }
        r->back->ops->complete(r->back, 0, &c);
        crossings_accept(r->cs);
        assert_int_equal(r->faults, 1);
        assert_int_equal(r->nseen, 0);
        c = answer_to(&q, 0); /* a broken link stays broken */
        r->back->ops->complete(r->back, 0, &c);
        crossings_accept(r->cs);
        assert_int_equal(r->nseen, 0);
        stop(r);
    }
}

static void test_duplicate_completion(void **state)
{
    struct rig *r = start(false);
    submit(r, 'a');
    struct ring_request q = take(r);
    struct ring_completion c = answer_to(&q, 0);
    r->back->ops->complete(r->back, 0, &c);
    r->back->ops->complete(r->back, 0, &c);
    crossings_accept(r->cs);
    assert_int_equal(r->faults, 1);
    stop(r);
}

static void test_reissue(void **state)
{
    struct rig *r = start(false);
    submit(r, 'a');
    submit(r, 'b');
    struct ring_request a = take(r);
    struct ring_completion c = answer_to(&a, 0);
    r->back->ops->complete(r->back, 0, &c);
    crossings_accept(r->cs);
    link_disconnect(r->link);
    assert_int_equal(submit(r, 'c'), 0);
    connect_device(r, true);
    struct ring_request b = take(r), d = take(r);
    assert_int_equal(b.flags, RING_FLAG_REISSUE);
    assert_int_equal(b.epoch, r->epoch);
    assert_true(b.seq < d.seq);
    assert_int_equal(r->back->ops->request_mem(r->back, 0)[b.req_off], 'b');
    assert_int_equal(r->back->ops->request_mem(r->back, 0)[d.req_off], 'c');
    stop(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_live),
        cmocka_unit_test(test_admission),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_reset_waits_for_older_orphans),
        cmocka_unit_test(test_references_to_a_file),
        cmocka_unit_test(test_fixed),
        cmocka_unit_test(test_fixed_uses_the_model),
        cmocka_unit_test(test_fixed_waits_for_a_late_device),
        cmocka_unit_test(test_fixed_events_follow_their_cause),
        cmocka_unit_test(test_events_wait_for_room),
        cmocka_unit_test(test_hostile_completions),
        cmocka_unit_test(test_duplicate_completion),
        cmocka_unit_test(test_reissue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
