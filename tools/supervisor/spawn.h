/* Starting a child process: the one path for all of them. Knows no protocol. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* A child that runs: a descriptor for its death, our end of its control socket, the reading end of its stderr
 * (both non-blocking). */
struct spawned {
    pid_t pid;
    int pidfd, control, errors;
};

/* Starts `path` with argv {path, role}: in a session of its own (no terminal, signals of the terminal do not
 * reach it), killed when this process dies, stdin and stdout on /dev/null, control socket on fd 3, no other
 * descriptor. An exec that fails is told on the child's stderr and ends it with status 127. Negative errno
 * when there is no process. Call from the main thread only: the death signal is tied to the thread. */
int spawn(const char *path, const char *role, struct spawned *s);

/* The same with any argument list, argv[0] a path. `foreground`: it stays in this session, with this
 * process's stdin, stdout and stderr. */
int spawn_command(char *const argv[], bool foreground, struct spawned *s);

/* Full path of the program `name` ("cleave-block"): beside this program, or in ../libexec/cleave. -ENOENT. */
int spawn_find(const char *name, char *path, size_t size);
