/* The supervisor process: event loop, signals, and the machine's start and end. */
#pragma once

#include "tools/supervisor/config.h"
#include "tools/supervisor/runtime.h"

/* What the command that forks the supervisor leaves to it. */
struct supervisor_inherits {
    const struct config *config;
    struct runtime *runtime;
    int listen; /* the machine's control socket */
    int owner;  /* connection to the command; its end ends the machine */
    int stdio;  /* stream to the command's terminal, or -1 */
};

/* Runs the machine to its end; the exit status of the process. */
int supervisor_run(const struct supervisor_inherits *in);
