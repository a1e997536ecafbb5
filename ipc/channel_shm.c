/* The shared-memory transport: creation, sealing, verification and mapping of the two memfds, and eventfd
 * doorbells. Knows no process and no message. */
#include "ipc/channel_ends.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct shm_front {
    struct memory_front memory;
    int doorbell; /* the device's; -1 unlinked */
};

struct shm_back {
    struct memory_back memory;
    int doorbell; /* the vcpu's */
};

/* A full counter (EAGAIN) has the peer woken all the same. */
static void ring_eventfd(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));
    (void)n;
}

static void front_doorbell(struct memory_front *f)
{
    ring_eventfd(((struct shm_front *)f)->doorbell);
}

static void back_doorbell(struct memory_back *b)
{
    ring_eventfd(((struct shm_back *)b)->doorbell);
}

static int create_memfd(const char *name, uint64_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* Maps a peer's memfd after checking that it can change neither its size nor its seals. */
static int map_verified(int fd, uint64_t size, int seals, int prot, void **map)
{
    struct stat st;
    int have = fcntl(fd, F_GET_SEALS);
    if (have < 0 || (have & seals) != seals || fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
        return -EPROTO;
    void *p = mmap(NULL, size, prot, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *map = p;
    return 0;
}

void channel_front_unlink(struct channel_front *base)
{
    struct shm_front *f = (struct shm_front *)base;
    if (!f->memory.in)
        return;
    munmap((void *)f->memory.in, base->layout.in_size);
    close(f->doorbell);
    f->doorbell = -1;
    memory_front_link(&f->memory, NULL);
}

static void front_close(struct channel_front *base)
{
    channel_front_unlink(base);
    munmap(((struct shm_front *)base)->memory.out, base->layout.out_size);
    free(base);
}

static const struct channel_front_ops *front_ops(void)
{
    static struct channel_front_ops ops;
    ops = memory_front_ops;
    ops.close = front_close;
    return &ops;
}

/* The mapping must exist before F_SEAL_FUTURE_WRITE, which forbids any later writable one. */
static int map_and_seal_out(int fd, uint64_t size, uint8_t **out)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    if (fcntl(fd, F_ADD_SEALS, CHANNEL_OUT_SEALS) < 0) {
        int err = -errno;
        munmap(p, size);
        return err;
    }
    *out = p;
    return 0;
}

int channel_out_create(const struct channel_geometry *g, struct channel_front **front, int *fd)
{
    int err = channel_check(g);
    if (err)
        return err;
    struct channel_layout l;
    channel_layout(g, &l);
    struct shm_front *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    int out_fd = create_memfd("cleave-out", l.out_size);
    if (out_fd < 0) {
        free(f);
        return out_fd;
    }
    uint8_t *out = NULL;
    err = map_and_seal_out(out_fd, l.out_size, &out);
    if (err) {
        close(out_fd);
        free(f);
        return err;
    }
    memory_front_init(&f->memory, g, out);
    f->memory.base.ops = front_ops();
    f->memory.ring_doorbell = front_doorbell;
    f->doorbell = -1;
    *front = &f->memory.base;
    *fd = out_fd;
    return 0;
}

int channel_in_create(const struct channel_geometry *g)
{
    int err = channel_check(g);
    if (err)
        return err;
    struct channel_layout l;
    channel_layout(g, &l);
    int fd = create_memfd("cleave-in", l.in_size);
    if (fd < 0)
        return fd;
    struct channel_in_header h = channel_in_header_make(g);
    if (pwrite(fd, &h, sizeof(h), 0) != sizeof(h) || fcntl(fd, F_ADD_SEALS, CHANNEL_IN_SEALS) < 0) {
        err = errno ? -errno : -EIO;
        close(fd);
        return err;
    }
    return fd;
}

int channel_front_link(struct channel_front *base, int in_fd, int device_doorbell)
{
    struct shm_front *f = (struct shm_front *)base;
    void *in = NULL;
    int err = map_verified(in_fd, base->layout.in_size, CHANNEL_IN_SEALS, PROT_READ, &in);
    if (err)
        return err;
    const struct channel_in_header *h = in;
    bool ok = h->magic == CHANNEL_IN_MAGIC && h->version == CHANNEL_VERSION &&
              h->layout_crc == channel_layout_crc(&base->geometry);
    int doorbell = ok ? fcntl(device_doorbell, F_DUPFD_CLOEXEC, 3) : -1;
    if (doorbell < 0) {
        err = ok ? -errno : -EPROTO;
        munmap(in, base->layout.in_size);
        return err;
    }
    channel_front_unlink(base);
    f->doorbell = doorbell;
    memory_front_link(&f->memory, in);
    return 0;
}

int channel_watch(int in_fd, const struct channel_in_header **header)
{
    void *p = mmap(NULL, CHANNEL_HEADER_SIZE, PROT_READ, MAP_SHARED, in_fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *header = p;
    return 0;
}

void channel_unwatch(const struct channel_in_header *header)
{
    munmap((void *)header, CHANNEL_HEADER_SIZE);
}

static void unmap_back(struct shm_back *b)
{
    if (b->memory.out)
        munmap((void *)b->memory.out, b->memory.base.layout.out_size);
    if (b->memory.in)
        munmap(b->memory.in, b->memory.base.layout.in_size);
}

static void back_close(struct channel_back *base)
{
    struct shm_back *b = (struct shm_back *)base;
    unmap_back(b);
    close(b->doorbell);
    memory_back_fini(&b->memory);
    free(b);
}

static void drop_pages(const uint8_t *at, uint64_t size)
{
    if (size)
        madvise((void *)at, size, MADV_DONTNEED);
}

static void back_trim(struct channel_back *base)
{
    for (unsigned i = 0; i < base->geometry.nqueues; i++) {
        drop_pages(base->ops->request_mem(base, i), base->layout.queue[i].request_size);
        drop_pages(base->ops->response_mem(base, i), base->layout.queue[i].response_size);
    }
}

static const struct channel_back_ops *back_ops(void)
{
    static struct channel_back_ops ops;
    ops = memory_back_ops;
    ops.trim = back_trim;
    ops.close = back_close;
    return &ops;
}

static int map_back(struct shm_back *b, const struct channel_geometry *g, uint32_t epoch, int out_fd,
                    int in_fd)
{
    struct channel_layout l;
    channel_layout(g, &l);
    b->memory.base.layout = l;
    void *out = NULL, *in = NULL;
    int err = map_verified(out_fd, l.out_size, CHANNEL_OUT_SEALS, PROT_READ, &out);
    if (err)
        return err;
    b->memory.out = out;
    err = map_verified(in_fd, l.in_size, CHANNEL_IN_SEALS, PROT_READ | PROT_WRITE, &in);
    if (err)
        return err;
    b->memory.in = in;
    const struct channel_out_header *h = out;
    if (h->magic != CHANNEL_OUT_MAGIC || h->version != CHANNEL_VERSION ||
        h->layout_crc != channel_layout_crc(g))
        return -EPROTO;
    return memory_back_init(&b->memory, g, epoch, out, in);
}

int channel_back_open(const struct channel_geometry *g, uint32_t epoch, int out_fd, int in_fd,
                      int vcpu_doorbell, struct channel_back **back)
{
    int err = channel_check(g);
    if (err)
        return err;
    struct shm_back *b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->doorbell = fcntl(vcpu_doorbell, F_DUPFD_CLOEXEC, 3);
    err = b->doorbell < 0 ? -errno : map_back(b, g, epoch, out_fd, in_fd);
    if (err) {
        unmap_back(b);
        if (b->doorbell >= 0)
            close(b->doorbell);
        free(b);
        return err;
    }
    b->memory.base.ops = back_ops();
    b->memory.ring_doorbell = back_doorbell;
    *back = &b->memory.base;
    return 0;
}
