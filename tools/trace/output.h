/* A file that a verb writes: it has its name when it is complete, and not before. Knows no format. */
#pragma once

#include "tools/supervisor/failure.h"

#include <stdbool.h>
#include <stdio.h>

struct output {
    const char *path; /* borrowed; NULL: stdout */
    char *target;     /* what takes the name: behind symbolic links */
    char *name;       /* of the temporary file, NULL while it has none */
    bool direct;      /* stdout, or no regular file: written as it is */
    bool replace;
    int fd;     /* to read and write, unless it is direct */
    FILE *file; /* over fd; made by output_stream() */
};

/* Begins to write. With `replace` an existing file keeps its contents until output_finish(), its permissions
 * after it too; devices, pipes and, for a path of NULL, stdout are written directly. Without it a path that
 * exists is refused. A file has mode 0600. Negative errno with the failure filled in. */
int output_open(struct output *o, const char *path, bool replace, struct failure *f);

/* The stream over o->fd; it belongs to the output. NULL with the failure filled in. */
FILE *output_stream(struct output *o, struct failure *f);

/* Ends it: with err == 0 the file takes its name, otherwise nothing of it is left. Returns err, or the error
 * of this with the failure filled in. */
int output_finish(struct output *o, int err, struct failure *f);
