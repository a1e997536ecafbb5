/* The vcpu's end of the journal: puts every crossing and state hash in, wakes the consumer, and waits when
 * there is no room. Whatever happens to the consumer must not reach the guest: a journal that cannot take an
 * entry ends the recording. */
#include "cpu-core/main/internal.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define JOURNAL_SIZE (32u << 20)
#define STALL_NS     1000000000u /* without progress of a full journal's consumer */
#define ROOM_WAIT_NS 1000000u    /* between looks at a full journal */
#define LATE_NS      10000000u   /* a look that comes later than this was not ours to make: the host slept */
#define HASH_STEPS   1000000000ull /* between the state hashes that nobody asked for */

static void ring(int eventfd)
{
    uint64_t one = 1;
    ssize_t n = write(eventfd, &one, sizeof one); /* a counter at its limit wakes as well */
    (void)n;
}

int machine_journal_create(struct machine *m, int *fd)
{
    struct recording *r = &m->recording;
    *fd = -1;
    if (m->host.tail < 0)
        return 0;
    r->next_hash = HASH_STEPS;
    return journal_create(&r->journal, JOURNAL_SIZE, m->host.tail, fd);
}

void machine_end_recording(struct machine *m)
{
    journal_destroy(m->recording.journal);
    m->recording.journal = NULL;
}

static void give_up(struct machine *m, const char *reason, int err)
{
    machine_end_recording(m);
    Cleave__RecordingEnded ended = CLEAVE__RECORDING_ENDED__INIT;
    ended.reason = (char *)reason;
    ended.err = err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_RECORDING_ENDED;
    body.recording_ended = &ended;
    machine_send(m, &body);
}

/* How long the consumer of a full journal has made no progress, in time that this process ran. */
struct stall {
    uint64_t looked, waited;
    int64_t unreleased;
};

static struct stall stall_begin(struct machine *m)
{
    m->recording.stats.stalls++;
    return (struct stall){machine_host_now(), 0, journal_unreleased(m->recording.journal)};
}

/* False when the recording has to end, with its reason told. `reachable`: control is served meanwhile. */
static bool stall_bearable(struct machine *m, struct stall *s, bool reachable)
{
    int64_t unreleased = journal_unreleased(m->recording.journal);
    uint64_t now = machine_host_now(), passed = now - s->looked;
    if (unreleased < 0) {
        give_up(m, "the journal's consumer broke the protocol", EPROTO);
        return false;
    }
    s->waited = unreleased == s->unreleased ? s->waited + (passed < LATE_NS ? passed : LATE_NS) : 0;
    s->looked = now;
    s->unreleased = unreleased;
    if (s->waited < STALL_NS)
        return true;
    struct pollfd control = {.fd = m->host.control, .events = POLLIN};
    if (m->host.record_require && (reachable || poll(&control, 1, 0) == 0))
        return true;
    give_up(m, "the disk of the trace made no progress for 1 s", ETIMEDOUT);
    return false;
}

static void append(struct machine *m, const struct journal_entry *e)
{
    struct recording *r = &m->recording;
    struct stall s;
    bool waits = false;
    int err;
    while (r->journal && (err = journal_append(r->journal, e)) < 0) {
        if (err == -ENOSPC) {
            if (!waits)
                s = stall_begin(m);
            waits = true;
            ring(m->host.urgent);
            struct timespec pause = {0, ROOM_WAIT_NS};
            nanosleep(&pause, NULL);
            stall_bearable(m, &s, false);
        } else {
            give_up(m, err == -EMSGSIZE ? "a message is larger than the journal" : "the journal is damaged",
                    -err);
        }
    }
    r->stats.entries++;
}

/* What the guest said to a device whose requests are kept, the machine's exit, and all that comes in. */
static bool keeps_body(const struct machine *m, const struct crossing *c)
{
    if (!c->len)
        return false;
    if (c->direction == CROSSING_IN || c->kind == CROSSING_EXIT || c->kind == CROSSING_CLOCK)
        return true;
    return c->kind == CROSSING_REQUEST && c->device < RECORDING_DEVICES &&
           m->recording.kept_requests >> c->device & 1;
}

/* The data is where it was read from; what follows it comes along. */
static void refer(struct journal_entry *e, uint32_t id, const struct crossing_file *file)
{
    e->form = JOURNAL_FILE;
    e->file = id;
    e->offset = file->offset;
    e->tail = e->c.len - file->len;
    e->body = (const uint8_t *)e->body + file->len;
}

static void append_crossing(void *arg, const struct crossing *c, const void *body,
                            const struct crossing_file *file)
{
    struct machine *m = arg;
    struct digest_journal *d = &m->journal;
    uint64_t link[] = {d->digest, c->seq,   c->icount, c->pc,        c->request, c->arg,
                       c->device, c->queue, c->kind,   c->direction, c->len,     c->digest};
    d->count++;
    d->digest = XXH3_64bits(link, sizeof link);
    if (!m->recording.journal)
        return;
    struct journal_entry e = {.type = JOURNAL_CROSSING, .form = JOURNAL_DIGEST, .c = *c, .body = body};
    if (keeps_body(m, c))
        e.form = JOURNAL_INLINE;
    if (file && c->device < RECORDING_DEVICES && m->recording.files[c->device])
        refer(&e, m->recording.files[c->device], file);
    append(m, &e);
}

const struct journal_ops machine_journal_ops = {append_crossing};

void machine_journal_hash(struct machine *m, uint64_t hash)
{
    if (!m->recording.journal)
        return;
    machine_mark(m);
    struct journal_entry e = {.type = JOURNAL_STATE_HASH,
                              .form = JOURNAL_DIGEST,
                              .c = {.icount = m->icount, .pc = m->harts[m->current]->pc, .digest = hash}};
    append(m, &e);
    m->recording.next_hash = m->icount + HASH_STEPS;
}

void machine_announce(struct machine *m)
{
    struct recording *r = &m->recording;
    if (!r->journal || r->announced == r->stats.entries)
        return;
    r->announced = r->stats.entries;
    r->hurried = false;
    ring(m->host.bell);
}

void machine_journal_room(struct machine *m)
{
    struct recording *r = &m->recording;
    if (!r->journal)
        return;
    if (journal_unreleased(r->journal) <= JOURNAL_SIZE / 2) {
        r->hurried = false;
        return;
    }
    if (!r->hurried)
        ring(m->host.urgent);
    r->hurried = true;
    if (journal_unreleased(r->journal) <= JOURNAL_SIZE / 4 * 3)
        return;
    struct stall s = stall_begin(m);
    while (stall_bearable(m, &s, true) && journal_unreleased(r->journal) > JOURNAL_SIZE / 4 * 3) {
        ring(m->host.urgent);
        if (machine_wait(m, ROOM_WAIT_NS) < 0 || !r->journal)
            return;
    }
}
