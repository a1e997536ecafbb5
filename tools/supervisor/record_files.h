/* The files of a recording: where traces are kept, which of them stay, and the copies of boot images that
 * they refer to. Knows paths and limits, no process and no message. */
#pragma once

#include "tools/supervisor/failure.h"
#include "tools/trace/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_KEEP       8                   /* traces of machines with the same name */
#define RECORD_KEEP_BYTES (UINT64_C(4) << 30) /* of all traces in the state directory */
#define RECORD_LIMIT      (UINT64_C(1) << 30) /* of one trace, by default */
#define RECORD_MIN_LIMIT  UINT64_C(131072)

/* Makes an empty file for a trace, mode 0600, and locks it: at `path`, or without one in STATE/traces under a
 * name made from `machine`. Writes its absolute path to `out`. Returns the descriptor or negative errno with
 * the failure. */
int record_create(const char *path, const char *machine, char *out, size_t size, struct failure *f);

/* Removes traces from STATE/traces: all but the last RECORD_KEEP of each name, and the oldest of all while
 * they have more than RECORD_KEEP_BYTES; then what no trace refers to. Never one that is being written. */
void record_collect(void);

/* A file that the machine is started from or reads. */
struct record_file {
    uint32_t id;
    char role[48];
    char name[300]; /* absolute if it is a path */
    int fd;         /* owned */
    bool unused;    /* for information only: no record refers to it */
    bool store;     /* to be copied into the content store */
    bool embed;     /* to be copied into the trace instead */
    bool digested;  /* `digest` is known, and a copy is in the store if it is to be there */
    struct store_digest digest;
    uint64_t size, first_digest, last_digest;
    int64_t mtime_ns;
};

/* Fills in what identifies the file's contents, and copies it if it is to be stored. Takes a while. 0 or
 * negative errno. */
int record_identify(struct record_file *file, const struct store *store);
