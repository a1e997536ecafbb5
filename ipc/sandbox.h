/* A child process gives up the system calls that it does not need, by a filter that nothing takes off again.
 * Knows no kind of process. */
#pragma once

/* What a process may do besides working with the descriptors, memory and clocks that it has: reading,
 * writing, polling, messages with descriptors in them. */
enum sandbox_right {
    SANDBOX_THREADS = 1 << 0,  /* begin threads */
    SANDBOX_FILES = 1 << 1,    /* open files: read and write at positions, size, room, sync */
    SANDBOX_MEMORY = 1 << 2,   /* make memory files and seal them */
    SANDBOX_INTERNET = 1 << 3, /* sockets of IPv4 and IPv6; files opened for reading, as the resolver's */
    SANDBOX_CONNECT = 1 << 4,  /* make unix sockets and connect them */
    SANDBOX_ACCEPT = 1 << 5,   /* accept connections */
    SANDBOX_TERMINAL = 1 << 6, /* open the other end of a pseudo-terminal */
    SANDBOX_TAP = 1 << 7,      /* set offloads of a tap interface */
};

/* Takes effect for all threads, and cannot be undone; no privilege comes by exec any more either. What is not
 * allowed fails with EPERM; what only an intruder calls (exec, fork, ptrace, mount and the like) kills the
 * process. 0, or negative errno: the host has no such filters, and nothing has changed but the privileges. */
int sandbox_enter(unsigned rights);
