/* Opening what a machine boots from and stores to, with an error that names the object for everything that
 * can be wrong. Knows files and locks, no processes. */
#pragma once

#include "tools/supervisor/config.h"

/* Boot images as read-only descriptors; -1 for one that the machine does not have. */
struct boot_images {
    int kernel, bios, initrd;
};

/* Opens kernel, firmware and initrd. Without `bios` in the configuration the system's OpenSBI is taken. With
 * a batch script the initrd is a memfd with the script's archive appended. */
int images_open_boot(const struct config *c, struct boot_images *b, struct failure *f);
void images_close_boot(struct boot_images *b);

/* A disk as the supervisor holds it while the machine exists: descriptions that carry the machine's locks. */
struct disk_image {
    int image;
    int overlay; /* -1 without one */
};

int images_open_disk(const struct config_disk *d, struct disk_image *i, struct failure *f);
void images_close_disk(struct disk_image *i);

/* A new description of the same file for one incarnation of a device process, with the incarnation's own
 * lock: while an earlier one still holds it, -EBUSY. */
int images_incarnate(int fd, bool writable, int *out, const char *id, struct failure *f);

/* Opens a file that a device only writes (`what` names it in the message): created, truncated. */
int images_open_output(const char *what, const char *id, const char *path, int *fd, struct failure *f);

/* Opens a non-empty regular file for reading. */
int images_open_input(const char *what, const char *path, int *fd, struct failure *f);

/* The firmware used without --bios, or NULL when the system has none. */
const char *images_default_bios(void);
