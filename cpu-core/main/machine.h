/* The machine loop: owns icount, the order of harts, virtual time's relation to the host's, and every wait of
 * the vcpu process. The only module that knows all others of cpu-core; knows no device type. */
#pragma once

#include "cpu-core/board/board.h"
#include "cpu-core/crossing/crossing.h"
#include "cpu-core/engine.h"
#include "cpu-core/main/images.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/time/vclock.h"
#include "ipc/control.h"

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_QUANTUM 10000u /* steps that a hart runs before the next one's turn */

struct machine_config {
    struct board_config board;
    struct images
        *images; /* that board's boot images point into, plain; NULL if they are elsewhere. Borrowed */
    const struct engine *engine;
    bool no_tlb;
    bool count_blocks;   /* the translator counts how often each block is executed */
    bool log_jit;        /* tell the supervisor what the translator does */
    uint64_t code_cache; /* bytes of translated code, 0 for the engine's default */
    bool virtual_clock;
    bool fixed_timing;
    bool hash_at_exit;
    uint64_t hash_every;     /* steps, 0 for never */
    const uint64_t *hash_at; /* ascending */
    unsigned nhash_at;
    bool inspect;     /* with each hash of hash_at the registers are reported */
    uint64_t stop_at; /* icount, 0 for never */
    bool realtime;    /* a replay takes as long as the recording did */
    bool exact_stop;  /* translated code is left at stop_at, not before it */
    uint32_t mirror;  /* a replay tells all requests to this device: its index + 1, or 0 */
};

/* How the machine reaches the world outside the vcpu process. */
struct machine_host {
    int control;  /* socket of the supervisor */
    int doorbell; /* eventfd that devices ring */
    int perf_map; /* file for the addresses of translated code, or -1 */
    int feed;     /* socket that gives the windows of a recording: the machine replays it. -1: it is live */
    int tail;     /* of the journal, which the machine makes; -1: nothing is recorded */
    int bell, urgent;    /* eventfds of the journal's consumer: entries have come; they must be taken now */
    bool record_require; /* the machine waits rather than to go on unrecorded */
};

enum machine_end {
    MACHINE_POWEROFF,
    MACHINE_GUEST_FAIL, /* syscon "fail" with a status */
    MACHINE_STOPPED,    /* told to stop, or the supervisor is gone */
    MACHINE_STOP_AT,
    MACHINE_FAULT,          /* the emulator failed */
    MACHINE_DIVERGED,       /* a replay did something else than the recording has */
    MACHINE_RECORDING_ENDS, /* a recording without an exit was replayed to its end */
};

struct machine;

/* Builds a machine at power-on state. -errno with a message in `err` that names what failed. */
int machine_create(struct machine **m, const struct machine_config *cfg, const struct machine_host *host,
                   char *err, size_t errlen);
void machine_destroy(struct machine *m);

struct crossings *machine_crossings(struct machine *m);
struct board *machine_board(struct machine *m);

/* The journal's memfd, or -1; the caller's from now on. */
int machine_take_journal(struct machine *m);

/* Nothing more is put into the journal. */
void machine_end_recording(struct machine *m);

/* The recording keeps the bytes of the requests to this device. */
void machine_keep_requests(struct machine *m, unsigned index);

/* Completions of the device may refer to a file, which the recording calls `id`. */
void machine_refer_to(struct machine *m, unsigned index, uint32_t id);

/* Runs until the machine ends; *status receives the guest's status of MACHINE_GUEST_FAIL. */
enum machine_end machine_run(struct machine *m, uint32_t *status);

uint64_t machine_icount(const struct machine *m);

/* Hash of RAM plus hash of all other state, at the present position. */
uint64_t machine_hash(struct machine *m);

/* The hash at the position where machine_run() ended. */
uint64_t machine_end_hash(const struct machine *m);

/* Why the emulator failed, after MACHINE_FAULT. */
const char *machine_fault(const struct machine *m);

/* How the recording ends, after a replay that read all of it; else NULL. */
const struct feed_end *machine_recording_end(const struct machine *m);

/* Counters as a JSON object, allocated; the caller frees it. NULL when out of memory. */
char *machine_stats(struct machine *m);
