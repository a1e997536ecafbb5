/* One machine: the vcpu process, the device processes, and what joins them. Drives the handshake to Run and
 * the clean stop. Reports through an observer; knows neither clients nor terminals. */
#pragma once

#include "tools/supervisor/child.h"
#include "tools/supervisor/config.h"
#include "tools/supervisor/plan.h"
#include "tools/supervisor/record.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum machine_state {
    MACHINE_STARTING,
    MACHINE_RUNNING,
    MACHINE_PAUSED,
    MACHINE_STOPPING,
    MACHINE_STOPPED, /* no process is left */
};

struct machine;

/* How it ended. */
struct machine_result {
    int status;    /* enum status; for a batch run the guest's */
    char why[600]; /* "poweroff", "fail", "stop", "stop-at", or the emulator's fault */
    bool exited;   /* the vcpu reported icount and hash */
    uint64_t icount, hash;
    uint32_t guest_status;
    bool from_guest;        /* the guest ended it: poweroff or fail */
    struct failure failure; /* text is empty without one */
};

struct machine_observer {
    /* Something to tell the user: {"event": …}. The reference stays the machine's. */
    void (*event)(void *ctx, const json_t *event);
    /* Answers to requests, by tag. */
    void (*stats)(void *ctx, uint64_t tag, const char *json);
    void (*device_reply)(void *ctx, uint64_t tag, int err, const char *text);
    /* The state changed. */
    void (*changed)(void *ctx);
};

struct device {
    struct child child;
    struct machine *machine;
    const struct plan_device *plan;
    unsigned index;
    uint32_t epoch;
    bool attach_sent;
    struct control_message describe; /* body is NULL before */
    uint32_t layout_crc;             /* as the vcpu computed it */
    int out, in, doorbell;           /* `in` is held between Map and Link only */
};

struct machine {
    uv_loop_t *loop;
    const struct config *config;
    struct plan plan;
    struct boot_images boot;
    enum machine_state state;
    char paused_why[320];
    struct child vcpu;
    struct record record;
    char append[CONFIG_MAX_APPEND + 32]; /* the kernel's command line */
    uint64_t rtc_start_ns;
    char vcpu_program[4096];
    struct device *devices;
    int doorbell; /* of the vcpu */
    int perf_map; /* on its way to the vcpu, or -1 */
    bool ended;   /* result is final, processes may be left */
    bool killed;  /* the processes were not asked to stop */
    struct machine_result result;
    const struct machine_observer *observer;
    void *observer_ctx;
    uint64_t started_ns; /* uv_hrtime() */
};

/* Opens images and back-ends and starts the processes. On failure nothing runs and nothing is left. `stdio`
 * as for plan_create(). */
int machine_start(struct machine *m, uv_loop_t *loop, const struct config *c, int stdio,
                  const struct machine_observer *o, void *ctx, struct failure *f);

/* Begins a clean stop with the reason in the result; no-op once stopping. */
void machine_stop(struct machine *m, const char *why);

/* Kills every process. */
void machine_kill(struct machine *m, const char *why);

/* -EPERM with a failure (STATUS_WRONG_STATE) when the state forbids it; otherwise changed() follows. */
int machine_pause(struct machine *m, struct failure *f);
int machine_resume(struct machine *m, struct failure *f);

/* The answer comes by observer. */
int machine_stats(struct machine *m, uint64_t tag, struct failure *f);
int machine_dump_blocks(struct machine *m, uint64_t tag, int fd, struct failure *f); /* by device_reply() */
int machine_command(struct machine *m, struct device *d, uint64_t tag, const char *verb,
                    Cleave__KeyValue **args, size_t nargs, int fd, struct failure *f);

/* By id, or with a NULL id the first of the kind (and option type, if given). NULL. */
struct device *machine_device(struct machine *m, const char *kind, const char *type, const char *id);

const char *machine_state_name(const struct machine *m);

/* Releases what is left after MACHINE_STOPPED. */
void machine_release(struct machine *m);
