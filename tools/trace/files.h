/* The files of a trace's header: found in the trace itself, in the content store, or at their path, and taken
 * only if they are what was recorded. Knows no record. */
#pragma once

#include "tools/trace/trace.h"

enum file_state {
    FILE_PRESENT, /* in the content store, or at its path */
    FILE_STORED,  /* in the trace */
    FILE_UNUSED,  /* not needed */
    FILE_MISSING,
    FILE_CHANGED, /* there, but not what was recorded */
};

const char *file_state_name(enum file_state s);

/* Opens the contents of a file of t's header for reading. `path`: where to look for it, or NULL for the path
 * in the header. *state says in any case how it is. Returns a descriptor or negative errno. */
int trace_file_open(struct trace *t, const Cleave__LogFile *file, const char *path, enum file_state *state);

/* Only the state. */
enum file_state trace_file_state(struct trace *t, const Cleave__LogFile *file, const char *path);

/* The header's file with this id, or NULL. */
const Cleave__LogFile *trace_file(const struct trace *t, uint64_t id);

/* True if `id` names the file: its role "disk:vda", or what follows the colon. */
bool trace_file_is(const Cleave__LogFile *file, const char *id, size_t len);
