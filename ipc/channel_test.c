/* The test transport. Knows neither file descriptors nor processes. */
#include "ipc/channel_test.h"

#include "ipc/channel_ends.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct pair_front {
    struct memory_front memory;
    struct channel_pair *pair;
};

struct pair_back {
    struct memory_back memory;
    struct channel_pair *pair;
};

static void front_doorbell(struct memory_front *f)
{
    ((struct pair_front *)f)->pair->device_rings++;
}

static void back_doorbell(struct memory_back *b)
{
    ((struct pair_back *)b)->pair->vcpu_rings++;
}

static void front_close(struct channel_front *f)
{
    free(f);
}

static void back_close(struct channel_back *b)
{
    memory_back_fini((struct memory_back *)b);
    free(b);
}

static void back_trim(struct channel_back *b) {}

static void *map(uint64_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static struct channel_front *make_front(struct channel_pair *p, const struct channel_geometry *g)
{
    static struct channel_front_ops ops;
    ops = memory_front_ops;
    ops.close = front_close;
    struct pair_front *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    memory_front_init(&f->memory, g, p->out);
    f->memory.base.ops = &ops;
    f->memory.ring_doorbell = front_doorbell;
    f->pair = p;
    memory_front_link(&f->memory, p->in);
    return &f->memory.base;
}

static struct channel_back *make_back(struct channel_pair *p, const struct channel_geometry *g,
                                      uint32_t epoch)
{
    static struct channel_back_ops ops;
    ops = memory_back_ops;
    ops.close = back_close;
    ops.trim = back_trim;
    struct pair_back *b = calloc(1, sizeof(*b));
    if (!b)
        return NULL;
    if (memory_back_init(&b->memory, g, epoch, p->out, p->in) < 0) {
        free(b);
        return NULL;
    }
    b->memory.base.ops = &ops;
    b->memory.ring_doorbell = back_doorbell;
    b->pair = p;
    return &b->memory.base;
}

int channel_pair_create(struct channel_pair *p, const struct channel_geometry *g, uint32_t epoch)
{
    int err = channel_check(g);
    if (err)
        return err;
    struct channel_layout l;
    channel_layout(g, &l);
    *p = (struct channel_pair){.out = map(l.out_size), .in = map(l.in_size)};
    if (p->out && p->in) {
        struct channel_in_header h = channel_in_header_make(g);
        memcpy(p->in, &h, sizeof(h));
        p->front = make_front(p, g);
        p->back = make_back(p, g, epoch);
    }
    if (p->front && p->back)
        return 0;
    channel_pair_destroy(p);
    return -ENOMEM;
}

void channel_pair_destroy(struct channel_pair *p)
{
    struct channel_layout l = {0};
    if (p->front) {
        l = p->front->layout;
        p->front->ops->close(p->front);
    }
    if (p->back) {
        l = p->back->layout;
        p->back->ops->close(p->back);
    }
    if (p->out && l.out_size)
        munmap(p->out, l.out_size);
    if (p->in && l.in_size)
        munmap(p->in, l.in_size);
    *p = (struct channel_pair){0};
}
