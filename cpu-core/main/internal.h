/* What the files of the machine loop share. Not for others. */
#pragma once

#include "cpu-core/main/governor.h"
#include "cpu-core/main/machine.h"
#include "ipc/feed.h"
#include "ipc/journal.h"

/* Crossings seen, as a running digest: equal digests mean equal histories. */
struct digest_journal {
    uint64_t count, digest;
};

#define RECORDING_COUNTERS(X) X(entries) X(stalls)

#define RECORDING_DEVICES 64

/* The vcpu's end of the journal. */
struct recording {
    struct journal_producer *journal;  /* NULL: nothing is recorded, or not any more */
    uint64_t kept_requests;            /* devices whose requests are kept, a bit for each index */
    uint32_t files[RECORDING_DEVICES]; /* what completions of each device may refer to, or 0 */
    uint64_t announced;                /* entries that the consumer was woken for */
    bool hurried;                      /* it was told that the journal fills up */
    uint64_t next_hash;                /* position of the next state hash that nobody asked for */
    struct {
#define X(name) uint64_t name;
        RECORDING_COUNTERS(X)
#undef X
    } stats;
};

#define MACHINE_COUNTERS(X) X(slices) X(switches) X(idle_waits) X(clock_crossings) X(reboots)

/* A control command that becomes a crossing between two steps. */
struct machine_command {
    uint8_t what;  /* field number in Control */
    char body[64]; /* id of the device that it is about, "" for the machine itself */
};

struct stimer {
    struct vtimer timer;
    struct hart *hart;
};

#define WATCH_LINE 256

/* Lines about the translator that are not written yet. */
struct machine_watch {
    char log[16384], map[16384];
    size_t log_len, map_len;
};

struct machine {
    struct machine_config cfg;
    struct machine_host host;
    struct ram ram;
    struct mmu *mmu;
    struct bus bus;
    struct board *board;
    struct vclock clock;
    struct hart *harts[HART_MAX];
    unsigned nharts;
    struct stimer stimers[HART_MAX];
    const struct engine *engine;
    void *engine_data;
    struct crossings *crossings;
    struct digest_journal journal;
    struct recording recording;
    int journal_fd; /* until machine_take_journal() */
    struct governor governor;
    struct feed *feed; /* NULL: the machine is live */
    struct {
        bool hash_known; /* a recorded state hash agreed */
        uint64_t hash_icount, hash;
        uint64_t asked_windows, taken_windows;
        uint64_t host_zero; /* real-time speed: host ns that stands for virtual time 0 */
        bool read;          /* all of the recording: how it ends is known */
        bool exit_noted;    /* end_hash is that of the machine's exit, before its last output */
    } replay;

    uint64_t icount;
    uint64_t quantum_left; /* state: steps until the current hart's turn ends */
    uint32_t current;      /* state: the hart whose turn it is */
    struct hart *in_slice; /* the hart that the engine runs now, or NULL between slices */
    unsigned next_hash_at;
    uint64_t next_hash_every;

    enum board_request request; /* what the guest asked through syscon */
    uint32_t request_status;
    uint64_t end_hash;
    bool paused, stopping;
    bool jumped; /* virtual clock: the idle machine's time jumped since the last clock crossing */
    struct machine_command *commands; /* served, and not yet crossings */
    unsigned ncommands, room_commands;
    uint64_t next_poll_ns; /* host time at which control is looked at again */
    struct machine_watch watch;
    char fault[160];
    struct {
#define X(name) uint64_t name;
        MACHINE_COUNTERS(X)
#undef X
    } stats;
};

/* machine.c: the parts of the loop.
 *
 * Host ns, monotonic. */
uint64_t machine_host_now(void);

/* Fires every deadline due at the current position. */
void machine_settle(void *machine);

/* Reports the hashes that were asked for at this position: before anything is applied to it. */
void machine_report_hashes(struct machine *m);

void machine_reboot(struct machine *m);

/* Journals what the clock now says: inbound if that is a decision of the host, or before what comes in from
 * outside; else outbound. */
void machine_note_clock(struct machine *m, enum crossing_direction dir);

/* Before a state hash, or a crossing that the machine makes by itself. */
void machine_mark(void *machine);

/* Virtual ns of the next thing that can end the wait of a hart by itself. */
uint64_t machine_next_due(const struct machine *m);

/* The hart whose turn it is, or NULL if all wait. */
struct hart *machine_schedule(struct machine *m);

/* Runs the hart to the next thing that is due, at most `longest` steps. */
void machine_slice(struct machine *m, struct hart *h, uint64_t longest);

/* True if the machine ends at this position; machine_note_exit() is the crossing that says so, with the state
 * hash. */
bool machine_ends(struct machine *m, enum machine_end *end, uint32_t *status);
void machine_note_exit(struct machine *m, enum machine_end end);

/* True if a mark of the clock comes next in the recording (those of version 1.0 have fewer). */
bool machine_replay_marks(struct machine *m);

/* replay.c: -ENOMEM; and machine_run() for a machine that replays. */
int machine_replay_create(struct machine *m);
enum machine_end machine_replay(struct machine *m, uint32_t *status);

/* journal.c: makes the journal if there is to be one, and its memfd in *fd, or -1. */
int machine_journal_create(struct machine *m, int *fd);
extern const struct journal_ops machine_journal_ops; /* context: struct machine */
void machine_journal_hash(struct machine *m, uint64_t hash);

/* Wakes the consumer for what came since it was woken last: about each millisecond, and before a wait. */
void machine_announce(struct machine *m);

/* Between slices: waits while the journal is nearly full. */
void machine_journal_room(struct machine *m);

/* inspect.c: reports the registers of the hart whose turn it is; changes nothing. */
void machine_report_registers(struct machine *m);

/* stimer.c: the supervisor timers of all harts; reset makes them follow the harts' reset state. */
int stimer_create(struct machine *m);
void stimer_reset(struct machine *m);

/* watch.c: begins to watch the translator, if the configuration says so; writes what has come together. */
void machine_watch(struct machine *m);
void machine_watch_flush(struct machine *m);

/* Serves every control message that is there. */
void machine_control(struct machine *m);

/* The one wait: blocks until a doorbell, a control message or `timeout_ns` (negative: no limit), and serves
 * control. -ECANCELED if the machine is to stop. */
int machine_wait(struct machine *m, int64_t timeout_ns);

/* Sends to the supervisor; a full socket is waited for, a dead one stops the machine. */
void machine_send(struct machine *m, const Cleave__Control *body);

void machine_report_hash(struct machine *m, const char *why);
void machine_fail(struct machine *m, const char *why);
