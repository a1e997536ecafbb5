/* The vcpu's end of a channel over mapped memory. Knows neither file descriptors nor what the requests mean.
 */
#include "ipc/channel_ends.h"

#include <errno.h>

static struct memory_front *self(struct channel_front *f)
{
    return (struct memory_front *)f;
}

static int submit(struct channel_front *base, unsigned queue, const struct ring_request *r)
{
    struct memory_front *f = self(base);
    if (!f->in)
        return -ENOTCONN;
    int err = ring_push(&f->queue[queue].submissions, r);
    if (!err)
        f->submitted = true;
    return err;
}

static int completion(struct channel_front *base, unsigned queue, struct ring_completion *c)
{
    struct memory_front *f = self(base);
    if (!f->in)
        return 0;
    int got = ring_peek(&f->queue[queue].completions, c);
    if (got > 0)
        ring_drop(&f->queue[queue].completions);
    return got;
}

static int event(struct channel_front *base, unsigned queue, struct ring_event *e)
{
    struct memory_front *f = self(base);
    return f->in ? ring_peek(&f->queue[queue].completions, e) : 0;
}

static void event_done(struct channel_front *base, unsigned queue)
{
    struct memory_front *f = self(base);
    ring_drop(&f->queue[queue].completions);
    f->taken = true;
}

static void kick(struct channel_front *base)
{
    struct memory_front *f = self(base);
    unsigned wanted = (f->submitted ? CHANNEL_WAIT_REQUESTS : 0) | (f->taken ? CHANNEL_WAIT_ROOM : 0);
    if (!wanted || !f->in)
        return;
    f->submitted = f->taken = false;
    /* Orders the published index before the read of the flag; the device does the opposite. */
    atomic_thread_fence(memory_order_seq_cst);
    const struct channel_in_header *h = (const struct channel_in_header *)f->in;
    if (atomic_load_explicit(&h->device_waits, memory_order_seq_cst) & wanted)
        f->ring_doorbell(f);
}

static void wait_flag(struct channel_front *base, bool waiting)
{
    struct channel_out_header *h = (struct channel_out_header *)self(base)->out;
    atomic_store_explicit(&h->vcpu_waits, waiting, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
}

static uint8_t *request_mem(struct channel_front *base, unsigned queue)
{
    return self(base)->out + base->layout.queue[queue].request_arena;
}

static const uint8_t *response_mem(struct channel_front *base, unsigned queue)
{
    const uint8_t *in = self(base)->in;
    return in ? in + base->layout.queue[queue].response_arena : NULL;
}

const struct channel_front_ops memory_front_ops = {
    .submit = submit,
    .completion = completion,
    .event = event,
    .event_done = event_done,
    .kick = kick,
    .wait_flag = wait_flag,
    .request_mem = request_mem,
    .response_mem = response_mem,
};

void channel_out_header_write(const struct channel_geometry *g, uint8_t *out)
{
    *(struct channel_out_header *)out = (struct channel_out_header){
        .magic = CHANNEL_OUT_MAGIC,
        .version = CHANNEL_VERSION,
        .layout_crc = channel_layout_crc(g),
    };
}

void memory_front_init(struct memory_front *f, const struct channel_geometry *g, uint8_t *out)
{
    f->base.geometry = *g;
    channel_layout(g, &f->base.layout);
    f->out = out;
    channel_out_header_write(g, out);
}

void memory_front_link(struct memory_front *f, const uint8_t *in)
{
    f->in = in;
    f->submitted = f->taken = false;
    for (unsigned i = 0; in && i < f->base.geometry.nqueues; i++) {
        const struct channel_layout *l = &f->base.layout;
        struct ring_producer *p = &f->queue[i].submissions;
        struct ring_consumer *c = &f->queue[i].completions;
        *p = (struct ring_producer){
            .produced = (struct ring_index *)(f->out + l->queue[i].out_produced),
            .consumed = (const struct ring_index *)(in + l->queue[i].in_consumed),
            .entries = f->out + l->queue[i].submissions,
            .size = l->queue[i].entries,
        };
        *c = (struct ring_consumer){
            .produced = (const struct ring_index *)(in + l->queue[i].in_produced),
            .consumed = (struct ring_index *)(f->out + l->queue[i].out_consumed),
            .entries = in + l->queue[i].completions,
            .size = l->queue[i].entries,
        };
        atomic_store_explicit(&p->produced->value, 0, memory_order_release);
        atomic_store_explicit(&c->consumed->value, 0, memory_order_release);
    }
}
