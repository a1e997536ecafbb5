/* The newc format: a header of 6 + 13 * 8 ASCII characters, the name with its terminator, padding to 4, data,
 * padding to 4. */
#include "tools/supervisor/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES 110

static int put(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int cpio_align(int fd, uint64_t at)
{
    return put(fd, "\0\0\0", (4 - at % 4) % 4);
}

static int entry(int fd, const char *name, uint32_t mode, uint32_t nlink, const void *data, size_t len)
{
    char header[HEADER_BYTES + 1] = "070701";
    size_t namesize = strlen(name) + 1;
    if (len > UINT32_MAX)
        return -EFBIG;
    /* inode, mode, uid, gid, nlink, mtime, size, device, rdevice, name size, check */
    const uint32_t fields[] = {0, mode, 0, 0, nlink, 0, (uint32_t)len, 0, 0, 0, 0, (uint32_t)namesize, 0};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        snprintf(header + 6 + 8 * i, 9, "%08X", fields[i]);
    int err = put(fd, header, HEADER_BYTES);
    if (!err)
        err = put(fd, name, namesize);
    if (!err)
        err = cpio_align(fd, HEADER_BYTES + namesize);
    if (!err)
        err = put(fd, data, len);
    return err ? err : cpio_align(fd, len);
}

int cpio_file(int fd, const char *name, uint32_t mode, const void *data, size_t len)
{
    return entry(fd, name, 0100000 | mode, 1, data, len);
}

int cpio_trailer(int fd)
{
    return entry(fd, "TRAILER!!!", 0, 1, "", 0);
}
