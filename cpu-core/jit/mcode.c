/* The two mappings of the code memory. */
#include "cpu-core/jit/mcode.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* The second view of a shared mapping is made by mremap() from a length of 0 (mremap(2)). Anonymous memory
 * rather than a memfd: perf looks for the names of code only where no file is mapped. */
static int map_views(struct mcode *m)
{
    uint8_t *area =
        mmap(NULL, m->size + m->data_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        return -errno;
    m->run = area;
    m->data = area + m->size;
    if (mmap(m->data, m->data_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return -errno;
    m->write = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->write == MAP_FAILED) {
        m->write = NULL;
        return -errno;
    }
    if (mremap(m->write, 0, m->size, MREMAP_MAYMOVE | MREMAP_FIXED, area) == MAP_FAILED ||
        mprotect(area, m->size, PROT_READ | PROT_EXEC) < 0)
        return -errno;
    return 0;
}

int mcode_create(struct mcode *m, size_t size, size_t data_size)
{
    struct mcode new = {.size = size, .data_size = data_size};
    int rc = map_views(&new);

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
