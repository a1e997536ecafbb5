/* From the configuration to what each device process is told: program, options, descriptors. Opens everything
 * that a device needs and that must outlive its process. Knows DEVICES.md, not the protocol. */
#pragma once

#include "tools/supervisor/config.h"
#include "tools/supervisor/images.h"

#define PLAN_MAX_OPTIONS 80
#define PLAN_MAX_FDS     4

struct plan_option {
    const char *key;
    char *value;
};

struct plan_device {
    const char *kind; /* "block": program cleave-block, role block.ID */
    const char *id;   /* the configuration's */
    int slot;         /* virtio-mmio slot, -1 for the UART */
    unsigned noptions;
    struct plan_option options[PLAN_MAX_OPTIONS];
    unsigned nfds; /* kept open while the machine exists */
    const char *fd_names[PLAN_MAX_FDS];
    int fds[PLAN_MAX_FDS];
    bool is_disk;
    struct disk_image disk; /* re-opened for every incarnation */
    bool writable;          /* the disk's image */
    char *socket;           /* path of a unix socket to remove at the end */
    char *terminal;         /* name of a pty */
};

struct plan {
    unsigned n, slots;
    struct plan_device *devices; /* in the machine's fixed order */
};

/* `stdio`: connected stream socket whose other end is the command's terminal, taken over; -1 when no port
 * uses it. `noinput`: nothing will be typed there. */
int plan_create(const struct config *c, int stdio, bool noinput, struct plan *p, struct failure *f);

/* Closes descriptors, removes sockets. */
void plan_release(struct plan *p);

/* Removes the sockets that a dead supervisor left behind: those of the configuration that nobody listens on.
 */
void plan_sweep(const struct config *c);
