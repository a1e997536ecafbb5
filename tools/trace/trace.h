/* An opened trace, for the verbs that read one: the file, its reader, and how its parts are called in
 * messages. Knows no verb. */
#pragma once

#include "replay-broker/log.h"
#include "tools/supervisor/failure.h"

#include <jansson.h>
#include <stdio.h>

struct trace {
    const char *path; /* as given; the caller's */
    int fd;
    struct log_reader *reader;
    const Cleave__LogHeader *header;
};

/* Opens the trace at `path`. STATUS_FAILED with the failure filled in. */
int trace_open(struct trace *t, const char *path, struct failure *f);
void trace_close(struct trace *t);

/* The failure for an error of the reader: the trace, the place in it, what is wrong. Returns e->err. */
int trace_fail(const char *path, const struct log_error *e, struct failure *f);

/* The next record; 1, 0 at the end, or negative errno with the failure filled in. */
int trace_next(struct trace *t, struct journal_entry *e, struct failure *f);

#define TRACE_MACHINE 0xffffu /* crossing.device of the machine itself */

/* The id of a crossing's device: "vda", "machine", or "?" for one that the header does not list. */
const char *trace_device(const struct trace *t, unsigned index);
/* The header's entry of a device, by crossing.device or by id; NULL if there is none. */
const Cleave__LogDevice *trace_device_at(const struct trace *t, unsigned index);
const Cleave__LogDevice *trace_device_named(const struct trace *t, const char *id);

/* "completion", "request", …; "hash" for a state hash; "?" for an unknown kind. */
const char *trace_kind(const struct journal_entry *e);

/* What a control crossing did ("reset", "unlink", …), or a machine's exit why ("poweroff", …); NULL for other
 * records and unknown values. */
const char *trace_action(const struct journal_entry *e);

const char *trace_kind_name(int kind); /* by number, below TRACE_KINDS */

/* Number of the kind called `name`, TRACE_KIND_HASH for "hash", or -EINVAL. */
#define TRACE_KINDS     10
#define TRACE_KIND_HASH 0
int trace_kind_named(const char *name);
#define TRACE_KIND_NAMES "hash|completion|event|config|blob|clock|control|request|reset|exit"

/* Virtual time as the crossings so far have set it: what cpu-core's clock computes. */
struct trace_clock {
    uint64_t n0, t0, rate;
};
#define TRACE_CLOCK_START ((struct trace_clock){.rate = 1ull << 32})

/* Takes a clock crossing in; other records do nothing. */
void trace_clock_apply(struct trace_clock *c, const struct journal_entry *e);
uint64_t trace_clock_ns(const struct trace_clock *c, uint64_t icount);

/* Text from a trace as a JSON string: what is no UTF-8 becomes U+FFFD. */
json_t *trace_json(const char *text);

/* "1.5 MiB", written to buf (32 bytes do). */
const char *trace_size_text(uint64_t bytes, char *buf, size_t size);

/* Output for people on stdout: control characters in it are shown as '?', since it may come from a trace.
 * Printed by trace_print_end(); what
 * trace_print_begin() is given must stay until then. */
FILE *trace_print_begin(char **text, size_t *size);
int trace_print_end(FILE *out, char **text, const size_t *size);
