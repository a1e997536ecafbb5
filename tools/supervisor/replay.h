/* Replaying a trace: what the processes are told, and what comes of it. Knows no options and prints nothing
 * but the console. */
#pragma once

#include "ipc/control.h"
#include "tools/trace/files.h"
#include "tools/trace/trace.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define REPLAY_MAX_HASHES 64
#define REPLAY_MAX_IMAGES 32

struct replay_options {
    const char *engine;
    const char *serial;  /* id of the port whose output is shown, NULL for the first */
    const char *mirror;  /* id of a device of the trace whose requests the observer is told, or NULL */
    const char *sandbox; /* of the processes; NULL for the default */
    const char *wrap;    /* command in front of a lone device's, or NULL */
    bool follow, realtime;
    uint64_t until; /* position at which it stops, 0 for the end */
    uint64_t hash_every, hash_at[REPLAY_MAX_HASHES];
    unsigned nhash_at;
    bool inspect;        /* the registers come with each hash of hash_at */
    bool exact;          /* `until` is reached in translated code */
    uint64_t code_cache; /* bytes, 0 for the default */
    bool log_jit, perf_map;
    const char *images[REPLAY_MAX_IMAGES]; /* "ID=FILE", ends with NULL */
};

/* What the replaying processes are given; made from the trace's header. */
struct replay_plan {
    struct trace *trace;
    const struct replay_options *options;
    const char *sandbox;
    json_t *configuration;
    int kernel, bios, initrd, device_tree;
    struct {
        uint32_t id;
        int fd;
    } image[REPLAY_MAX_IMAGES]; /* that records refer to */
    unsigned nimages;
};

/* Opens the files that the trace needs. The trace and the options are borrowed. STATUS_FAILED with the
 * failure filled in. */
int replay_plan(struct replay_plan *p, struct trace *t, const struct replay_options *o, struct failure *f);
void replay_plan_release(struct replay_plan *p);

/* Messages to the vcpu and to the broker: 0 or the error of control_send(). `feed` is the end of the socket
 * between the two; perf_map may be -1. */
int replay_send_machine(const struct replay_plan *p, int control, int feed, int perf_map);
int replay_send_device(const struct replay_plan *p, int control, unsigned i);
int replay_send_log(const struct replay_plan *p, int control, int feed);

/* How a recording ends: enum feed_ending. */
enum replay_ending {
    REPLAY_STOPS_EARLIER,
    REPLAY_ENDS_PROPERLY,
    REPLAY_ENDS_OPEN,
    REPLAY_ENDS_TORN,
    REPLAY_ENDS_BAD
};

/* How a replay ended. */
struct replay_result {
    int status;      /* enum status */
    char why[80];    /* Exited.why */
    int signal;      /* that asked for the end, or 0 */
    uint32_t ending; /* enum replay_ending */
    char reason[520];
    uint64_t icount; /* where it ended, and the state there */
    uint64_t hash;
    bool ended;                /* icount and hash are known */
    Cleave__Control *diverged; /* its message, NULL if it did not */
    struct failure failure;    /* text is empty without one */
};

/* What the owner is told while it runs. */
struct replay_observer {
    void (*hash)(void *ctx, const Cleave__StateHash *h);
    void (*registers)(void *ctx, const Cleave__Registers *r); /* may be NULL without `inspect` */
    void (*output)(void *ctx, const void *data, size_t len);  /* console bytes; may be NULL */
    bool (*enough)(void *ctx); /* asked after each message: true ends the replay; may be NULL */
    void (*mirrored)(void *ctx, const Cleave__Output *o);        /* a request, or a part of it */
    void (*log)(void *ctx, const char *role, const char *text);  /* lines of its log; may be NULL */
    void (*said)(void *ctx, const char *role, const char *text); /* a line on a process's stderr */
    void *ctx;
};

/* Runs the plan to its end, or until a signal asks for it. */
void replay_run(const struct replay_plan *p, const struct replay_observer *o, struct replay_result *r);
void replay_result_release(struct replay_result *r);

/* Feeds the requests of the trace to one real process of the device `id`, and compares its answers. 0,
 * STATUS_DIVERGED with the difference reported, or negative errno with the failure. */
int replay_device(struct trace *t, const char *id, const struct replay_options *o, struct failure *f);

/* The report of a divergence: one JSON object ("event": "diverged"), and lines of text for people, by a
 * callback. */
json_t *replay_diverged_json(const struct trace *t, const Cleave__Diverged *d);
void replay_diverged_text(const struct trace *t, const Cleave__Diverged *d, void (*line)(const char *text));
