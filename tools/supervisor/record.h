/* The recording of a machine: the journal's descriptors, the broker process, and how both end. Whatever goes
 * wrong with it, the machine goes on, unless the configuration requires the recording. Part of the machine.
 */
#pragma once

#include "tools/supervisor/child.h"
#include "tools/supervisor/record_files.h"

#include <jansson.h>
#include <limits.h>

struct machine;

enum record_state {
    RECORD_OFF,       /* not wanted, or not possible */
    RECORD_PREPARING, /* until every process is ready and the files are identified */
    RECORD_STARTING,  /* the broker writes the header */
    RECORD_ON,
    RECORD_ENDED, /* with `reason` */
};

#define RECORD_MAX_FILES 40

struct record {
    struct machine *machine;
    enum record_state state;
    char path[PATH_MAX];
    char reason[640]; /* why it ended */
    int err;          /* positive errno, 0 if it ended with the machine */
    int log;          /* the trace, locked */
    int entries, tail, tail_reader, bell, urgent;
    struct control_message journal; /* what the vcpu said of it; body is NULL before */
    struct child broker;
    char program[4096];
    bool finishing;  /* the vcpu is gone: the log ends as soon as the broker can */
    bool paused;     /* the machine waits for the recording */
    unsigned deaths; /* of brokers in a row that wrote nothing */
    int64_t bytes;   /* of the log at the last of them */
    uv_timer_t restart;
    /* Filled in by a thread while the processes start. */
    uv_work_t work;
    bool working;
    struct store store;
    bool have_store;
    int store_err;
    unsigned nfiles;
    struct record_file files[RECORD_MAX_FILES];
    char stats[300];    /* of the log, as the broker last said */
    uint64_t stats_tag; /* of the request that it answered */
    struct {            /* the vcpu's answer, which waits for the broker's */
        uint64_t tag;
        char *json;
        uv_timer_t limit;
    } held;
};

void record_init(struct machine *m);

/* Opens the trace and prepares the journal, if the machine is to be recorded. A default place that cannot be
 * used is told as an event, and nothing is recorded. 0, or negative errno with the failure. */
int record_open(struct machine *m, struct failure *f);

/* The descriptors that the vcpu makes the journal with, appended to the lists; returns the new number. */
unsigned record_fds(const struct machine *m, char **names, int *fds, unsigned n);

/* What the recording calls the image of the index-th device, if it is not written and the recording refers to
 * it; else 0. */
uint32_t record_file_of(const struct machine *m, unsigned index);

/* Messages of the vcpu. */
void record_take_journal(struct machine *m, struct control_message *msg);
void record_cannot_append(struct machine *m, const Cleave__RecordingEnded *e);

/* All other processes are ready: true if the machine can run; otherwise machine_run_if_ready() is called
 * again. */
bool record_is_ready(struct machine *m);
void record_run(struct machine *m);

/* The vcpu is gone: the rest of the journal goes to the log. Can be called again. */
void record_finish(struct machine *m);
bool record_is_gone(const struct machine *m);

/* Asks the broker for the log's figures; passes the vcpu's answer to the same request on when they are here,
 * or the broker does not answer. */
void record_ask_stats(struct machine *m, uint64_t tag);
void record_pass_stats(struct machine *m, uint64_t tag, const char *vcpu_json);

/* State, file and figures, as far as they are known. */
json_t *record_report(const struct machine *m);

void record_release(struct machine *m);

/* record_header.c: the packed LogHeader as a memfd, or negative errno. */
int record_header(const struct machine *m);
