/* Runtime directories: one per machine, locked while it exists, holding its control socket. Knows no
 * protocol. */
#pragma once

#include "tools/supervisor/failure.h"

#include <stdbool.h>
#include <sys/types.h>

/* A machine's directory; the lock belongs to the open description, so it is held until every process that
 * shares it is gone. */
struct runtime {
    int parent; /* …/cleave */
    int dir, lock;
    char name[65];
};

/* Creates and locks the directory of machine `name`; what a dead machine left there is removed.
 * STATUS_WRONG_STATE when it runs. */
int runtime_create(const char *name, struct runtime *r, struct failure *f);

/* Creates the listening SOCK_SEQPACKET socket "control" in it; returns it, non-blocking. */
int runtime_listen(const struct runtime *r, struct failure *f);

/* Removes the directory and releases the lock. */
void runtime_remove(struct runtime *r);

/* Closes our descriptors without removing anything. */
void runtime_close(struct runtime *r);

/* Connects to the machine's control socket. STATUS_NO_MACHINE. */
int runtime_connect(const char *name, int *fd, struct failure *f);

/* Calls `each` for every running machine; stale directories are removed on the way. */
int runtime_list(int (*each)(void *ctx, const char *name), void *ctx, struct failure *f);

/* "/run/user/1000/cleave", for messages and checks. */
int runtime_path(char *path, size_t size);
