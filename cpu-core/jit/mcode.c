/* The two mappings of the code memory. */
#include "cpu-core/jit/mcode.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int map_views(struct mcode *m, int fd)
{
    uint8_t *area =
        mmap(NULL, m->size + m->data_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        return -errno;
    m->run = area;
    m->data = area + m->size;
    if (mmap(area, m->size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return -errno;
    if (mmap(m->data, m->data_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return -errno;
    m->write = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m->write == MAP_FAILED) {
        m->write = NULL;
        return -errno;
    }
    return 0;
}

int mcode_create(struct mcode *m, size_t size, size_t data_size)
{
    struct mcode new = {.size = size, .data_size = data_size};
    int fd = memfd_create("cleave-code", MFD_CLOEXEC), rc;

    if (fd < 0)
        return -errno;
    rc = ftruncate(fd, (off_t)size) < 0 ? -errno : map_views(&new, fd);
    close(fd);
    if (rc)
        mcode_destroy(&new);
    else
        *m = new;
    return rc;
}

void mcode_destroy(struct mcode *m)
{
    if (m->run)
        munmap((void *)m->run, m->size + m->data_size);
    if (m->write)
        munmap(m->write, m->size);
    memset(m, 0, sizeof *m);
}
