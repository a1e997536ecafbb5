/* Writing a "newc" cpio archive, the format of initramfs images. Knows no file system. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Appends one regular file with mode, owner root and no times, at the current offset of `fd`, which must be a
 * multiple of 4 from where the archive begins. 0 or negative errno of the write. */
int cpio_file(int fd, const char *name, uint32_t mode, const void *data, size_t len);

/* Ends the archive. */
int cpio_trailer(int fd);

/* Writes zero bytes until the offset `at` becomes a multiple of 4. */
int cpio_align(int fd, uint64_t at);
