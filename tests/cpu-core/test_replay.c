/* A run of the crossing layer with a device at the other end, captured as windows, and replayed without one:
 * the front-end sees the same, in both timings; whatever differs is named. */
#include "cpu-core/crossing/crossing.h"
#include "cpu-core/time/vclock.h"
#include "ipc/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOTS   4
#define DATA    64
#define STEPS   3000u
#define WINDOWS 64

/* A machine whose guest is a script over positions, and the device of the live one. */
struct rig {
    struct vclock clock;
    struct vtimer beat;
    struct crossings *cs;
    struct link *link;
    struct channel_back *back;
    int device_bell, vcpu_bell;
    uint64_t icount;
    char seen[4096], output[1024];
    size_t nseen, noutput;
    bool room;
    /* The recording: made by the live machine, read by the other. */
    struct feed_window *window;
    int fd[WINDOWS];
    unsigned nfds, next;
    struct feed *feed;
};

static uint32_t mirrored; /* device of the next replay */

static void see(struct rig *r, const char *what, unsigned long long a, unsigned long long b)
{
    r->nseen += (size_t)snprintf(r->seen + r->nseen, sizeof r->seen - r->nseen, "%llu%s%llu,%llu ",
                                 (unsigned long long)r->icount, what, a, b);
    assert_true(r->nseen < sizeof r->seen);
}

static void position(void *arg, uint64_t *icount, uint64_t *pc)
{
    *icount = ((struct rig *)arg)->icount;
    *pc = 0x1000 + 4 * *icount;
}

static struct ring_request take(struct rig *r)
{
    struct ring_request q;
    assert_int_equal(r->back->ops->request(r->back, 0, &q), 1);
    return q;
}

/* Answers the oldest request with its own bytes, reversed, and the number of answers as device state. */
static void answer(struct rig *r)
{
    struct ring_request q = take(r);
    struct ring_completion c = {.seq = q.seq, .epoch = q.epoch, .slot = q.slot};
    if (q.op == RING_OP_REQUEST) {
        uint8_t *to = r->back->ops->response_mem(r->back, 0) + q.resp_off;
        const uint8_t *from = r->back->ops->request_mem(r->back, 0) + q.req_off;
        c.len = q.req_len;
        for (uint32_t i = 0; i < q.req_len; i++)
            to[i] = from[q.req_len - 1 - i];
        if (q.seq % 2) {
            c.blob_len = 8;
            memcpy(to + ((q.resp_cap + 7) & ~7u), &q.seq, sizeof q.seq);
        }
    }
    assert_int_equal(r->back->ops->complete(r->back, 0, &c), 0);
}

static int wait_for_device(void *arg)
{
    struct rig *r = arg;
    uint64_t rings;
    answer(r);
    r->back->ops->kick(r->back);
    assert_int_equal(read(r->vcpu_bell, &rings, sizeof rings), sizeof rings);
    return 0;
}

static void fault(void *arg, const char *id, const char *why)
{
    fail_msg("%s: %s", id, why);
}

static void settle(void *arg)
{
    struct rig *r = arg;
    vclock_fire(&r->clock, r->icount);
}

static void mark(void *arg) {}

static void attention(void *arg) {}

/* Captures what a log would keep: requests as digests, but for every other one. */
static void append(void *arg, const struct crossing *c, const void *body, const struct crossing_file *file)
{
    struct rig *r = arg;
    bool inlined = c->direction == CROSSING_IN || c->request % 2;
    struct journal_entry e = {.number = c->seq,
                              .type = JOURNAL_CROSSING,
                              .form = inlined ? JOURNAL_INLINE : JOURNAL_DIGEST,
                              .c = *c,
                              .body = body};
    assert_int_equal(feed_window_add(r->window, &e), 0);
    if (feed_window_entries(r->window) == 7) {
        struct feed_end end = {.ending = FEED_GOES_ON};
        r->fd[r->nfds++] = feed_window_seal(r->window, &end);
    }
}

static void output(void *arg, const struct crossing *c, const void *data)
{
    struct rig *r = arg;
    memcpy(r->output + r->noutput, data, c->len);
    r->noutput += c->len;
}

static void submit(struct rig *r, unsigned n)
{
    int slot = link_reserve(r->link, 0, 2, DATA);
    if (slot < 0) {
        see(r, "full", 0, 0);
        return;
    }
    uint8_t *bytes = link_request_bytes(r->link, 0, (unsigned)slot);
    bytes[0] = (uint8_t)('a' + n % 26);
    bytes[1] = (uint8_t)('A' + n % 26);
    link_submit(r->link, 0, (unsigned)slot);
    link_kick(r->link);
}

static void completed(void *front, unsigned queue, unsigned slot, const uint8_t *data, uint32_t len,
                      bool failed)
{
    struct rig *r = front;
    see(r, "c", slot, failed ? 999 : len ? data[0] : 0);
    if (r->icount % 3 == 0)
        submit(r, (unsigned)r->icount);
}

static bool room(void *front, unsigned queue, uint32_t len)
{
    return ((struct rig *)front)->room;
}

static void received(void *front, unsigned queue, const uint8_t *data, uint32_t len)
{
    see(front, "e", len, data[0]);
}

/* A deadline of the machine's own, which sends. */
static void beat(void *arg)
{
    struct rig *r = arg;
    see(r, "b", 0, 0);
    submit(r, 25);
    vclock_arm(&r->clock, &r->beat, vclock_ns(&r->clock, r->icount) + 170);
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

static struct rig *create(bool fixed, struct feed *feed)
{
    struct rig *r = calloc(1, sizeof *r);
    struct crossings_host host = {position, wait_for_device, fault, settle, attention, mark, r};
    struct link_config cfg = {
        .id = "test", .geometry = geometry, .latency = {.nrules = 1, .rule = {{.base_ns = 100}}}};
    struct replay_hooks hooks = {.output = output, .arg = r, .mirror = mirrored};
    int out_fd;
    r->room = true;
    r->feed = feed;
    vclock_init(&r->clock, 1ull << 32);
    r->beat = (struct vtimer){.due = VCLOCK_NEVER, .order = 1, .fire = beat, .arg = r};
    assert_int_equal(vclock_add(&r->clock, &r->beat), 0);
    vclock_arm(&r->clock, &r->beat, 500);
    assert_int_equal(crossings_create(&r->cs, &r->clock, fixed, &host, &journal, r), 0);
    if (feed)
        assert_int_equal(crossings_replay(r->cs, feed, &hooks), 0);
    assert_int_equal(link_create(r->cs, &cfg, &r->link, &out_fd), 0);
    link_bind(r->link, &sink, r);
    if (feed) {
        assert_int_equal(out_fd, -1);
        return r;
    }
    assert_int_equal(feed_window_create(&r->window), 0);
    r->device_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->vcpu_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int in = channel_in_create(&geometry);
    assert_int_equal(channel_back_open(&geometry, 1, out_fd, in, r->vcpu_bell, &r->back), 0);
    assert_int_equal(link_connect(r->link, 1, in, r->device_bell, false), 0);
    close(in);
    close(out_fd);
    return r;
}

static void destroy(struct rig *r)
{
    if (r->back) {
        r->back->ops->close(r->back);
        close(r->device_bell);
        close(r->vcpu_bell);
    }
    crossings_destroy(r->cs);
    vclock_remove(&r->clock, &r->beat);
    feed_window_destroy(r->window);
    feed_destroy(r->feed);
    free(r);
}

/* What the guest does in the step at this position. */
static void guest(struct rig *r)
{
    if (r->icount % 37 == 5)
        submit(r, (unsigned)(r->icount / 37));
    if (r->icount % 400 == 399)
        link_reset(r->link);
    if (r->icount % 90 == 0) {
        r->room = !r->room;
        if (r->room)
            link_room_made(r->link, 1);
    }
}

/* What the device does, whenever it likes. */
static void device(struct rig *r)
{
    struct ring_request q;
    if (r->icount % 11 == 3 && r->back->ops->peek(r->back, 0, &q) == 1)
        answer(r);
    if (r->icount % 53 == 7)
        assert_int_equal(r->back->ops->event(r->back, 1, 0, &"xyz"[r->icount % 3], 1), 0);
}

static void run_live(struct rig *r)
{
    for (; r->icount < STEPS; r->icount++) {
        device(r);
        settle(r);
        crossings_accept(r->cs);
        guest(r);
    }
    struct feed_end end = {.ending = FEED_ENDED, .icount = STEPS};
    r->fd[r->nfds++] = feed_window_seal(r->window, &end);
}

static int next_window(void *arg)
{
    struct rig *live = arg;
    return live->next < live->nfds ? dup(live->fd[live->next++]) : -EPIPE;
}

static void run_replay(struct rig *r)
{
    const struct journal_entry *e;
    for (; r->icount < STEPS && !crossings_difference(r->cs); r->icount++) {
        settle(r);
        while (!crossings_difference(r->cs) && feed_peek(r->feed, &e) == 1 && e->c.icount == r->icount &&
               e->c.direction == CROSSING_IN && crossings_replay_apply(r->cs, e))
            settle(r);
        guest(r);
    }
}

static struct rig *record(bool fixed)
{
    struct rig *r = create(fixed, NULL);
    run_live(r);
    return r;
}

static struct rig *replay(struct rig *live, bool fixed)
{
    struct feed *feed;
    struct feed_source source = {next_window, live};
    live->next = 0;
    assert_int_equal(feed_create(&feed, &source), 0);
    struct rig *r = create(fixed, feed);
    run_replay(r);
    return r;
}

static void release(struct rig *live)
{
    for (unsigned i = 0; i < live->nfds; i++)
        close(live->fd[i]);
    destroy(live);
}

static void compare_runs(bool fixed)
{
    struct rig *live = record(fixed), *r = replay(live, fixed);
    const struct journal_entry *e;
    const struct replay_difference *d = crossings_difference(r->cs);
    if (d)
        fail_msg("record %llu: %s", (unsigned long long)d->record, d->field);
    assert_string_equal(r->seen, live->seen);
    assert_int_equal(feed_peek(r->feed, &e), 0);
    assert_int_equal(feed_ending(r->feed)->ending, FEED_ENDED);
    assert_int_equal(crossings_seq(r->cs), crossings_seq(live->cs));
    assert_true(live->nseen > 500 && r->noutput > 20);
    destroy(r);
    release(live);
}

static void test_live_timing(void **state)
{
    compare_runs(false);
}
static void test_fixed_timing(void **state)
{
    compare_runs(true);
}

/* Every entry of the recording changed in turn, in one field: the replay names that entry, or a later one
 * that the change made impossible. */
struct change {
    unsigned at, field;
    bool drop;
};

static void alter(struct journal_entry *e, unsigned field, uint8_t *copy)
{
    switch (field) {
    case 0:
        e->c.pc += 4;
        break;
    case 1: /* the request that an event names is the device's word: nothing contradicts it */
        *(e->c.kind == CROSSING_EVENT ? &e->c.seq : &e->c.request) += 1;
        break;
    case 2:
        e->c.arg++;
        break;
    case 3:
        e->c.icount++;
        break;
    case 4:
        e->c.digest ^= 1;
        break;
    default: /* another answer of the device: its bytes and their digest */
        if (e->form == JOURNAL_INLINE && e->c.len) {
            memcpy(copy, e->body, e->c.len);
            copy[0] ^= 1;
            e->body = copy;
            e->c.digest = XXH3_64bits(copy, e->c.len);
        }
    }
}

/* The recording in one window, with entry `at` altered or dropped. */
static int altered(struct rig *live, const struct change *change)
{
    struct feed_source source = {next_window, live};
    struct feed *feed;
    struct feed_window *w;
    const struct journal_entry *e;
    uint8_t copy[DATA];
    live->next = 0;
    assert_int_equal(feed_create(&feed, &source), 0);
    assert_int_equal(feed_window_create(&w), 0);
    for (unsigned i = 0; feed_peek(feed, &e) == 1; i++, feed_take(feed)) {
        struct journal_entry x = *e;
        if (i == change->at && !change->drop)
            alter(&x, change->field, copy);
        if (i != change->at || !change->drop)
            assert_int_equal(feed_window_add(w, &x), 0);
    }
    int fd = feed_window_seal(w, feed_ending(feed));
    feed_window_destroy(w);
    feed_destroy(feed);
    return fd;
}

static void check_change(struct rig *live, const struct change *change)
{
    struct rig other = {.fd = {altered(live, change)}, .nfds = 1};
    struct rig *r = replay(&other, false);
    const struct replay_difference *d = crossings_difference(r->cs);
    const struct journal_entry *e;
    bool rest = !d && feed_peek(r->feed, &e) == 1; /* the loop of a machine says so */
    if (!d && !rest && !strcmp(r->seen, live->seen))
        fail_msg("entry %u, field %u: not noticed", change->at, change->field);
    if (d && !change->drop && d->record && d->record < change->at + 1)
        fail_msg("entry %u, field %u: reported at record %llu", change->at, change->field,
                 (unsigned long long)d->record);
    destroy(r);
    close(other.fd[0]);
}

static void test_differences_are_named(void **state)
{
    struct rig *live = record(false);
    unsigned entries = (unsigned)crossings_seq(live->cs);
    for (unsigned i = 0; i < entries; i++) {
        for (unsigned field = 0; field < 5; field++)
            check_change(live, &(struct change){.at = i, .field = field});
        if (i + 1 < entries) /* without its last entry a recording is a shorter one */
            check_change(live, &(struct change){.at = i, .drop = true});
    }
    release(live);
}

/* The device's answer 20 was another one: what the guest sees differs there, and before it nothing. */
static void test_another_answer(void **state)
{
    struct rig *live = record(false);
    struct change change = {.at = 20, .field = 5};
    struct rig other = {.fd = {altered(live, &change)}, .nfds = 1};
    struct rig *r = replay(&other, false);
    assert_string_not_equal(r->seen, live->seen);
    destroy(r);
    close(other.fd[0]);
    release(live);
}

/* Windows that no recording has. */
static void test_hostile_windows(void **state)
{
    struct feed_end end = {.ending = FEED_ENDED};
    struct journal_entry e = {
        .number = 1, .type = JOURNAL_CROSSING, .form = JOURNAL_INLINE, .c = {.len = 8}, .body = "12345678"};
    struct feed_window *w;
    const struct journal_entry *got;
    for (size_t at = 0;; at++) {
        uint8_t bytes[2048];
        assert_int_equal(feed_window_create(&w), 0);
        assert_int_equal(feed_window_add(w, &e), 0);
        int fd = feed_window_seal(w, &end);
        ssize_t n = pread(fd, bytes, sizeof bytes, 0);
        close(fd);
        feed_window_destroy(w);
        if (at == (size_t)n)
            break;
        bytes[at] ^= 0xff;
        struct rig r = {.nfds = 1};
        r.fd[0] = memfd_create("window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(write(r.fd[0], bytes, (size_t)n), n);
        assert_int_equal(
            fcntl(r.fd[0], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL), 0);
        struct feed_source source = {next_window, &r};
        assert_int_equal(feed_create(&r.feed, &source), 0);
        while (feed_peek(r.feed, &got) == 1)
            feed_take(r.feed);
        feed_destroy(r.feed);
        close(r.fd[0]);
    }
}

/* Requests of which the recording has digests alone are told as well, once each. */
static void test_mirror(void **state)
{
    struct rig *live = record(false), *some = replay(live, false);
    mirrored = 1;
    struct rig *all = replay(live, false);
    mirrored = 2;
    struct rig *other = replay(live, false);
    mirrored = 0;
    assert_true(all->noutput > some->noutput);
    assert_int_equal(all->noutput, 2 * link_stats(all->link)->requests);
    assert_int_equal(other->noutput, some->noutput);
    destroy(some);
    destroy(all);
    destroy(other);
    release(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_live_timing),           cmocka_unit_test(test_fixed_timing),
        cmocka_unit_test(test_differences_are_named), cmocka_unit_test(test_another_answer),
        cmocka_unit_test(test_hostile_windows),       cmocka_unit_test(test_mirror),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
