/* The machine loop. Rules 1 to 7 of the crossings meet here: the order of things at a position is state hash,
 * a reboot that the guest asked for, then deadlines to a fixpoint before every inbound crossing and before
 * the step. Must not let the host's time in except through a clock crossing. */
#include "cpu-core/jit/jit.h"
#include "cpu-core/main/internal.h"
#include "cpu-core/state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLICE_BUSY       10000u  /* requests in flight: look at the rings often */
#define SLICE_HOST_CLOCK 100000u /* well under the millisecond between clock comparisons */
#define SLICE_VIRTUAL    1000000u
#define POLL_NS          1000000u
#define FLUSH_MS         5000u /* a device that is gone takes nothing */

uint64_t machine_host_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void machine_note_clock(struct machine *m, enum crossing_direction dir)
{
    uint64_t body[] = {m->clock.n0, m->clock.t0, m->clock.rate};
    m->jumped = false;
    crossings_note(m->crossings, dir, CROSSING_CLOCK, 0, body, sizeof body);
    m->stats.clock_crossings++;
}

static void position(void *arg, uint64_t *icount, uint64_t *pc)
{
    const struct machine *m = arg;
    *icount = m->in_slice ? hart_icount(m->in_slice) : m->icount;
    *pc = m->harts[m->current]->pc;
}

static void attention(void *arg)
{
    struct machine *m = arg;
    if (m->in_slice)
        hart_shorten(m->in_slice, hart_icount(m->in_slice) + 1);
}

/* With a virtual clock, jumps of an idle machine are a function of its state, but how many were made when
 * something comes in is not: a clock crossing marks the time. */
void machine_settle(void *arg)
{
    struct machine *m = arg;
    vclock_fire(&m->clock, m->icount);
    if (m->jumped && !m->feed)
        machine_note_clock(m, CROSSING_IN);
}

/* The same before what the machine says by itself, so that the time of everything can be read from a log. */
void machine_mark(void *arg)
{
    struct machine *m = arg;
    if (m->jumped && (!m->feed || machine_replay_marks(m)))
        machine_note_clock(m, CROSSING_OUT);
}

static int wait_for_device(void *arg)
{
    machine_announce(arg);
    return machine_wait(arg, -1);
}

static void device_fault(void *arg, const char *id, const char *why)
{
    Cleave__DeviceFault fault = CLEAVE__DEVICE_FAULT__INIT;
    fault.id = (char *)id;
    fault.why = (char *)why;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_DEVICE_FAULT;
    body.device_fault = &fault;
    machine_send(arg, &body);
}

static void clock_moved(void *arg, uint64_t icount)
{
    struct machine *m = arg;
    if (m->in_slice)
        hart_shorten(m->in_slice, icount);
}

static void ipi(void *arg, struct hart *from, unsigned to)
{
    from->yield = true;
}

static void guest_request(void *arg, enum board_request what, uint32_t status)
{
    struct machine *m = arg;
    m->request = what;
    m->request_status = status;
    attention(m);
}

static int create_harts(struct machine *m)
{
    for (unsigned i = 0; i < m->cfg.board.cpus; i++) {
        struct hart *h = aligned_alloc(64, (sizeof *h + 63) & ~(size_t)63);
        if (!h)
            return -ENOMEM;
        memset(h, 0, sizeof *h);
        h->id = (uint8_t)i;
        h->clock = &m->clock;
        h->harts = m->harts;
        h->nharts = m->cfg.board.cpus;
        m->harts[m->nharts++] = h;
    }
    return 0;
}

static int create_core(struct machine *m, char *err, size_t errlen)
{
    int e = ram_create(&m->ram, m->cfg.board.memory);
    if (e < 0) {
        snprintf(err, errlen, "cannot map %llu MiB of guest memory: %s",
                 (unsigned long long)m->cfg.board.memory >> 20, strerror(-e));
        return e;
    }
    e = create_harts(m);
    if (!e)
        e = mmu_create(&m->mmu, &m->ram, &m->bus, m->harts, m->nharts, m->cfg.board.mmu_levels,
                       m->cfg.no_tlb);
    if (!e)
        e = m->engine->create(&m->engine_data, m->mmu, m->cfg.no_tlb);
    if (!e && m->cfg.code_cache && m->engine == &jit_engine)
        e = jit_set_code_cache(m->engine_data, m->cfg.code_cache);
    if (!e && m->cfg.exact_stop && m->engine == &jit_engine)
        jit_stop_exactly(m->engine_data, m->cfg.stop_at);
    if (!e)
        machine_watch(m);
    if (!e && m->cfg.count_blocks && m->engine == &jit_engine)
        jit_count_blocks(m->engine_data);
    if (e < 0) {
        snprintf(err, errlen, "cannot create the harts: %s", strerror(-e));
        return e;
    }
    mmu_set_engine(m->mmu, m->engine, m->engine_data);
    return 0;
}

int machine_create(struct machine **ret, const struct machine_config *cfg, const struct machine_host *host,
                   char *err, size_t errlen)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m) {
        snprintf(err, errlen, "cannot create the machine: %s", strerror(ENOMEM));
        return -ENOMEM;
    }
    m->journal_fd = -1;
    m->cfg = *cfg;
    m->host = *host;
    m->engine = cfg->engine;
    m->quantum_left = MACHINE_QUANTUM;
    m->next_hash_every = cfg->hash_every ? cfg->hash_every : VCLOCK_NEVER;
    vclock_init(&m->clock, GOVERNOR_NOMINAL_RATE);
    m->clock.moved = clock_moved;
    m->clock.moved_arg = m;
    struct crossings_host ch = {
        position, wait_for_device, device_fault, machine_settle, attention, machine_mark, m};
    struct board_hooks hooks = {ipi, guest_request, m};
    int e = create_core(m, err, errlen);
    if (!e)
        e = stimer_create(m);
    if (!e) {
        e = crossings_create(&m->crossings, &m->clock, cfg->fixed_timing, &ch, &machine_journal_ops, m);
        if (!e && host->feed >= 0)
            e = machine_replay_create(m);
        if (e < 0)
            snprintf(err, errlen, "cannot create the crossing layer: %s", strerror(-e));
    }
    if (!e && (e = machine_journal_create(m, &m->journal_fd)) < 0)
        snprintf(err, errlen, "cannot create the journal: %s", strerror(-e));
    if (!e)
        e = board_create(&m->board, &cfg->board, &m->bus, m->mmu, &m->clock, m->harts, &hooks, err, errlen);
    if (!e)
        e = board_boot(m->board, err, errlen);
    if (e < 0) {
        machine_destroy(m);
        return e;
    }
    *ret = m;
    return 0;
}

void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    crossings_destroy(m->crossings);
    feed_destroy(m->feed);
    if (m->board)
        board_destroy(m->board);
    if (m->engine_data)
        m->engine->destroy(m->engine_data);
    if (m->mmu)
        mmu_destroy(m->mmu);
    for (unsigned i = 0; i < m->nharts; i++)
        free(m->harts[i]);
    ram_destroy(&m->ram);
    machine_end_recording(m);
    if (m->journal_fd >= 0)
        close(m->journal_fd);
    free(m->commands);
    free(m);
}

int machine_take_journal(struct machine *m)
{
    int fd = m->journal_fd;
    m->journal_fd = -1;
    return fd;
}

void machine_keep_requests(struct machine *m, unsigned index)
{
    if (index < RECORDING_DEVICES)
        m->recording.kept_requests |= 1ull << index;
}

void machine_refer_to(struct machine *m, unsigned index, uint32_t id)
{
    if (index < RECORDING_DEVICES)
        m->recording.files[index] = id;
}

struct crossings *machine_crossings(struct machine *m)
{
    return m->crossings;
}
struct board *machine_board(struct machine *m)
{
    return m->board;
}
uint64_t machine_icount(const struct machine *m)
{
    return m->icount;
}
uint64_t machine_end_hash(const struct machine *m)
{
    return m->end_hash;
}

const char *machine_fault(const struct machine *m)
{
    return m->fault;
}

void machine_fail(struct machine *m, const char *why)
{
    if (!m->fault[0])
        snprintf(m->fault, sizeof m->fault, "%s", why);
}

static void visit(void *arg, struct state_io *io)
{
    struct machine *m = arg;
    state_u64(io, &m->icount);
    state_u32(io, &m->current);
    state_u64(io, &m->quantum_left);
    vclock_state(&m->clock, io);
    for (unsigned i = 0; i < m->nharts; i++)
        hart_state(m->harts[i], io);
    board_state(m->board, io);
    crossings_state(m->crossings, io);
}

uint64_t machine_hash(struct machine *m)
{
    return mmu_ram_hash(m->mmu) + state_hash(visit, m);
}

/* Hashes that were asked for at this position: before anything is applied to it. */
void machine_report_hashes(struct machine *m)
{
    while (m->next_hash_at < m->cfg.nhash_at && m->cfg.hash_at[m->next_hash_at] <= m->icount) {
        if (m->cfg.hash_at[m->next_hash_at] == m->icount) {
            machine_report_hash(m, "hash-at");
            if (m->cfg.inspect)
                machine_report_registers(m);
        }
        m->next_hash_at++;
    }
    if (m->icount >= m->next_hash_every) {
        machine_report_hash(m, "hash-every");
        m->next_hash_every += m->cfg.hash_every;
    }
    if (m->recording.journal && m->icount >= m->recording.next_hash)
        machine_journal_hash(m, machine_hash(m));
}

static void apply_clock(struct machine *m, uint64_t jump_to, uint64_t rate)
{
    machine_settle(m);
    vclock_set(&m->clock, m->icount, jump_to, rate);
    machine_note_clock(m, CROSSING_IN);
}

/* About once a millisecond of host time: control, and the comparison of the clocks. */
static void poll_host(struct machine *m)
{
    uint64_t now = machine_host_now(), rate;
    if (now < m->next_poll_ns)
        return;
    m->next_poll_ns = now + POLL_NS;
    machine_announce(m);
    machine_control(m);
    if (!m->cfg.virtual_clock &&
        governor_check(&m->governor, now, vclock_ns(&m->clock, m->icount), m->icount, &rate))
        apply_clock(m, 0, rate);
}

/* Virtual ns of the next thing that can end the wait of a hart by itself. */
uint64_t machine_next_due(const struct machine *m)
{
    uint64_t due = m->clock.next_due;
    for (unsigned i = 0; i < m->nharts; i++)
        if (m->harts[i]->wait == HART_WRS && m->harts[i]->wrs_deadline < due)
            due = m->harts[i]->wrs_deadline;
    return due;
}

/* The hart whose turn it is, or NULL if all wait. A switch clears the reservation, which ends a wait for its
 * loss. */
struct hart *machine_schedule(struct machine *m)
{
    struct hart *old = m->harts[m->current];
    uint64_t now = vclock_ns(&m->clock, m->icount);
    if (old->wait == HART_WRS && old->wrs_deadline <= now)
        old->wait = HART_RUNS;
    if (!old->wait && m->quantum_left)
        return old;
    for (unsigned i = 1; i <= m->nharts; i++) {
        unsigned next = (m->current + i) % m->nharts;
        if (m->harts[next]->wait)
            continue;
        if (next != m->current) {
            old->res_valid = false;
            if (old->wait == HART_WRS)
                old->wait = HART_RUNS;
            m->current = next;
            m->stats.switches++;
        }
        m->quantum_left = MACHINE_QUANTUM;
        return m->harts[next];
    }
    return NULL;
}

/* All harts wait. Virtual clock: time jumps to the next deadline, and without one stands still until input
 * comes. Host clock: the host waits until the deadline or a doorbell, then time jumps to the host's. */
static void idle(struct machine *m)
{
    uint64_t due = machine_next_due(m), rate = m->clock.rate;
    if (m->cfg.virtual_clock && due != VCLOCK_NEVER) {
        vclock_set(&m->clock, m->icount, due, rate);
        m->jumped = true;
        return;
    }
    m->stats.idle_waits++;
    machine_announce(m);
    if (m->cfg.images)
        images_pack_some(m->cfg.images);
    crossings_waiting(m->crossings, true);
    if (!crossings_ready(m->crossings)) {
        int64_t timeout = -1;
        if (due != VCLOCK_NEVER) {
            timeout = (int64_t)(governor_host(&m->governor, due) - machine_host_now());
            timeout = timeout < 0 ? 0 : timeout;
        }
        machine_wait(m, timeout);
    }
    crossings_waiting(m->crossings, false);
    if (m->cfg.virtual_clock)
        return;
    uint64_t now = machine_host_now(), virtual_now = governor_virtual(&m->governor, now);
    if (virtual_now > vclock_ns(&m->clock, m->icount))
        apply_clock(m, virtual_now, rate);
    governor_skip(&m->governor, now, m->icount);
}

static uint64_t longest_slice(const struct machine *m)
{
    if (crossings_busy(m->crossings))
        return SLICE_BUSY;
    return m->cfg.virtual_clock ? SLICE_VIRTUAL : SLICE_HOST_CLOCK;
}

/* Steps until something is due, at most `budget`. */
static uint64_t budget_of(const struct machine *m, uint64_t budget)
{
    uint64_t n = m->icount;
    if (m->nharts > 1 && m->quantum_left < budget)
        budget = m->quantum_left;
    uint64_t ends[] = {vclock_next_step(&m->clock), m->next_hash_every,
                       m->cfg.stop_at ? m->cfg.stop_at : VCLOCK_NEVER,
                       m->next_hash_at < m->cfg.nhash_at ? m->cfg.hash_at[m->next_hash_at] : VCLOCK_NEVER};
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends[i] > n && ends[i] - n < budget)
            budget = ends[i] - n;
    return budget;
}

void machine_slice(struct machine *m, struct hart *h, uint64_t longest)
{
    board_set_current(m->board, h);
    hart_slice_begin(h, m->icount, budget_of(m, longest));
    m->in_slice = h;
    enum engine_exit why = m->engine->run(m->engine_data, h);
    m->in_slice = NULL;
    uint64_t steps = hart_slice_end(h);
    m->icount += steps;
    m->stats.slices++;
    if (why == ENGINE_FAULT)
        machine_fail(m, "the engine ran out of memory");
    if (h->yield || h->wait)
        m->quantum_left = 0;
    else if (m->nharts > 1)
        m->quantum_left -= steps;
    else /* one hart: its turns follow each other */
        m->quantum_left = MACHINE_QUANTUM - (MACHINE_QUANTUM - m->quantum_left + steps) % MACHINE_QUANTUM;
    h->yield = false;
}

void machine_reboot(struct machine *m)
{
    char err[160];
    m->request = BOARD_NONE;
    m->stats.reboots++;
    if (m->cfg.images)
        images_unpack(m->cfg.images);
    if (board_boot(m->board, err, sizeof err) < 0) {
        machine_fail(m, err);
        return;
    }
    m->engine->flush(m->engine_data);
    stimer_reset(m);
    m->current = 0;
    m->quantum_left = MACHINE_QUANTUM;
}

/* Commands that came in since the last position: each is a crossing here, and a reset takes effect. */
static void apply_commands(struct machine *m)
{
    for (unsigned i = 0; i < m->ncommands; i++) {
        struct machine_command c = m->commands[i]; /* a reboot may wait, and take more commands meanwhile */
        machine_settle(m);
        crossings_note(m->crossings, CROSSING_IN, CROSSING_CONTROL, c.what, c.body, (uint32_t)strlen(c.body));
        if (c.what == CLEAVE__CONTROL__BODY_RESET)
            machine_reboot(m);
    }
    m->ncommands = 0;
}

bool machine_ends(struct machine *m, enum machine_end *end, uint32_t *status)
{
    *status = m->request == BOARD_FAIL ? m->request_status : 0;
    if (m->fault[0])
        *end = MACHINE_FAULT;
    else if (m->request == BOARD_POWEROFF)
        *end = MACHINE_POWEROFF;
    else if (m->request == BOARD_FAIL)
        *end = MACHINE_GUEST_FAIL;
    else if (m->stopping)
        *end = MACHINE_STOPPED;
    else if (m->cfg.stop_at && m->icount >= m->cfg.stop_at)
        *end = MACHINE_STOP_AT;
    else
        return false;
    return true;
}

void machine_note_exit(struct machine *m, enum machine_end end)
{
    machine_watch_flush(m);
    machine_settle(m);
    m->end_hash = machine_hash(m);
    crossings_note(m->crossings, CROSSING_OUT, CROSSING_EXIT, end, &m->end_hash, sizeof m->end_hash);
}

static void wait_while_paused(struct machine *m)
{
    machine_announce(m);
    while (m->paused && !m->stopping)
        machine_wait(m, -1);
    governor_resync(&m->governor, machine_host_now(), vclock_ns(&m->clock, m->icount), m->icount);
}

/* What the guest sent before the end reaches its device, though the guest does not see the answers any more.
 */
static void flush_output(struct machine *m)
{
    for (unsigned ms = 0; ms < FLUSH_MS && !board_flush(m->board) && machine_wait(m, POLL_NS) == 0; ms++)
        crossings_accept(m->crossings);
    for (unsigned i = 0; crossings_at(m->crossings, i); i++)
        link_kick(crossings_at(m->crossings, i));
}

enum machine_end machine_run(struct machine *m, uint32_t *status)
{
    enum machine_end end;
    if (m->feed)
        return machine_replay(m, status);
    governor_start(&m->governor, machine_host_now(), vclock_ns(&m->clock, m->icount), m->icount);
    for (;;) {
        machine_report_hashes(m);
        if (m->request == BOARD_REBOOT)
            machine_reboot(m);
        poll_host(m);
        machine_journal_room(m);
        if (m->paused)
            wait_while_paused(m);
        apply_commands(m);
        if (machine_ends(m, &end, status))
            break;
        vclock_fire(&m->clock, m->icount);
        crossings_accept(m->crossings);
        if (vclock_next_step(&m->clock) <= m->icount)
            continue; /* a delivery armed a deadline for this very position */
        struct hart *h = machine_schedule(m);
        if (h)
            machine_slice(m, h, longest_slice(m));
        else
            idle(m);
    }
    machine_note_exit(m, end);
    flush_output(m);
    machine_announce(m);
    return end;
}
