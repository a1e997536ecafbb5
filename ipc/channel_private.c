/* The transport of a replay: the vcpu's end alone, over private memory. Nothing leaves and nothing arrives by
 * it: requests go into its request memory and stay there, and the replay puts recorded answers where a device
 * would. Knows no recording. */
#include "ipc/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct private_front {
    struct channel_front base;
    uint8_t *out, *in; /* laid out like the memfds, their headers unused */
};

static int submit(struct channel_front *f, unsigned queue, const struct ring_request *r)
{
    return -ENOTCONN;
}
static int completion(struct channel_front *f, unsigned queue, struct ring_completion *c)
{
    return 0;
}
static int event(struct channel_front *f, unsigned queue, struct ring_event *e)
{
    return 0;
}
static void event_done(struct channel_front *f, unsigned queue) {}
static void kick(struct channel_front *f) {}
static void wait_flag(struct channel_front *f, bool waiting) {}

static uint8_t *request_mem(struct channel_front *f, unsigned queue)
{
    return ((struct private_front *)f)->out + f->layout.queue[queue].request_arena;
}

uint8_t *channel_private_response(struct channel_front *f, unsigned queue)
{
    return ((struct private_front *)f)->in + f->layout.queue[queue].response_arena;
}

static const uint8_t *response_mem(struct channel_front *f, unsigned queue)
{
    return channel_private_response(f, queue);
}

static void close_front(struct channel_front *base)
{
    struct private_front *f = (struct private_front *)base;
    if (f->out)
        munmap(f->out, base->layout.out_size);
    if (f->in)
        munmap(f->in, base->layout.in_size);
    free(f);
}

static const struct channel_front_ops ops = {.submit = submit,
                                             .completion = completion,
                                             .event = event,
                                             .event_done = event_done,
                                             .kick = kick,
                                             .wait_flag = wait_flag,
                                             .request_mem = request_mem,
                                             .response_mem = response_mem,
                                             .close = close_front};

static uint8_t *map(uint64_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int channel_private_create(const struct channel_geometry *g, struct channel_front **front)
{
    int err = channel_check(g);
    if (err)
        return err;
    struct private_front *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->base = (struct channel_front){.ops = &ops, .geometry = *g};
    channel_layout(g, &f->base.layout);
    f->out = map(f->base.layout.out_size);
    f->in = map(f->base.layout.in_size);
    if (!f->out || !f->in) {
        close_front(&f->base);
        return -ENOMEM;
    }
    *front = &f->base;
    return 0;
}
