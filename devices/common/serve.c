/* Requests and completions: takes requests of all queues in the order of their sequence numbers, validates
 * them, hands them to the kind, keeps the order around resets. Knows neither event loop nor control messages.
 */
#include "devices/common/device_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Requests dispatched between two polls of the event loop. */
#define BATCH 64

int device_serve_init(struct device *d)
{
    const struct channel_layout *l = &d->back->layout;
    size_t n = 0;
    for (unsigned i = 0; i < d->back->geometry.nqueues; i++)
        if (d->back->geometry.queue[i].kind == CHANNEL_REQUESTS)
            n += l->queue[i].entries;
    d->pool = calloc(n + 1, sizeof(*d->pool));
    if (!d->pool)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        d->pool[i].next = d->free_requests;
        d->free_requests = &d->pool[i];
    }
    return 0;
}

/* The queue whose oldest request has the smallest sequence number; -1 if all are empty. */
static int smallest(struct device *d, struct ring_request *r)
{
    int found = -1;
    for (unsigned i = 0; i < d->back->geometry.nqueues; i++) {
        struct ring_request head;
        if (d->back->geometry.queue[i].kind != CHANNEL_REQUESTS)
            continue;
        int got = d->back->ops->peek(d->back, i, &head);
        if (got < 0)
            device_fail(d, EPROTO, "%s: submission ring index out of range", device_id(d));
        if (got && (found < 0 || head.seq < r->seq)) {
            found = (int)i;
            *r = head;
        }
    }
    return found;
}

/* Requests are published in the order of seq. Once any is seen, every earlier one is visible, but perhaps in
 * a queue that was looked at before: hence the second look. */
static int next_request(struct device *d, struct ring_request *r)
{
    int queue = smallest(d, r);
    return queue < 0 ? queue : smallest(d, r);
}

static struct request *make_request(struct device *d, unsigned queue, const struct ring_request *r)
{
    struct request *q = d->free_requests;
    if (!q)
        device_fail(d, EPROTO, "%s: more requests in flight than agreed", device_id(d));
    d->free_requests = q->next;
    uint8_t *out = d->back->ops->response_mem(d->back, queue) + r->resp_off;
    *q = (struct request){
        .seq = r->seq,
        .queue = queue,
        .in = d->back->ops->request_mem(d->back, queue) + r->req_off,
        .in_len = r->req_len,
        .out = out,
        .out_cap = r->resp_cap,
        .features = r->features,
        .blob = out + channel_response_span(r->resp_cap, r->blob_cap) - r->blob_cap,
        .blob_cap = r->blob_cap,
        .slot = r->slot,
    };
    return q;
}

static void set_progress(struct device *d, uint64_t seq)
{
    atomic_store_explicit(&d->back->ops->header(d->back)->progress, seq, memory_order_relaxed);
}

static void push_completion(struct device *d, unsigned queue, const struct ring_completion *c)
{
    if (d->back->ops->complete(d->back, queue, c) < 0)
        device_fail(d, EPROTO, "%s: completion ring index out of range", device_id(d));
}

static void finish_reset(struct device *d)
{
    d->barrier = false;
    if (d->ops->reset)
        d->ops->reset(d);
    struct ring_completion c = {.seq = d->reset.seq, .epoch = d->epoch, .slot = RING_SLOT_NONE};
    push_completion(d, d->reset_queue, &c);
}

static void dispatch(struct device *d, unsigned queue, const struct ring_request *r)
{
    if (r->epoch != d->epoch || r->seq <= d->last_seq ||
        channel_check_request(&d->back->geometry, &d->back->layout, queue, r) < 0)
        device_fail(d, EPROTO, "%s: malformed request %llu", device_id(d), (unsigned long long)r->seq);
    d->last_seq = r->seq;
    if (r->op == RING_OP_RESET) {
        d->barrier = true;
        d->reset_queue = queue;
        d->reset = *r;
        return;
    }
    d->touched += r->req_len + r->resp_cap;
    d->in_flight++;
    set_progress(d, r->seq);
    d->ops->request(d, make_request(d, queue, r));
}

bool device_serve(struct device *d)
{
    for (unsigned n = 0; n < BATCH && d->phase == PHASE_RUNNING; n++) {
        if (d->barrier && d->in_flight)
            return false;
        if (d->barrier)
            finish_reset(d);
        struct ring_request r;
        int queue = next_request(d, &r);
        if (queue < 0)
            return false;
        d->back->ops->request(d->back, (unsigned)queue, &r);
        dispatch(d, (unsigned)queue, &r);
    }
    return true;
}

static void complete(struct device *d, struct request *r, const struct ring_completion *c)
{
    push_completion(d, r->queue, c);
    r->next = d->free_requests;
    d->free_requests = r;
    if (--d->in_flight == 0)
        set_progress(d, 0);
}

void device_complete(struct device *d, struct request *r, uint32_t len)
{
    device_complete_blob(d, r, len, NULL, 0);
}

void device_complete_blob(struct device *d, struct request *r, uint32_t len, const void *blob,
                          uint32_t blob_len)
{
    if (len > r->out_cap || blob_len > r->blob_cap)
        abort();
    if (blob_len)
        memcpy(r->blob, blob, blob_len);
    struct ring_completion c = {
        .seq = r->seq,
        .epoch = d->epoch,
        .slot = r->slot,
        .status = RING_STATUS_OK,
        .len = len,
        .blob_len = blob_len,
    };
    complete(d, r, &c);
}

void device_complete_file(struct device *d, struct request *r, uint32_t len, uint64_t file_off,
                          uint32_t file_len)
{
    if (len > r->out_cap || file_len > len)
        abort();
    struct ring_completion c = {
        .seq = r->seq,
        .epoch = d->epoch,
        .slot = r->slot,
        .status = RING_STATUS_OK,
        .len = len,
        .file_off = file_len ? file_off : 0,
        .file_len = file_len,
    };
    complete(d, r, &c);
}

static int send_event(struct device *d, unsigned queue, uint64_t cause, const void *data, uint32_t len)
{
    int err = d->back->ops->event(d->back, queue, cause, data, len);
    if (err == -EPROTO)
        device_fail(d, EPROTO, "%s: event ring index out of range", device_id(d));
    return err;
}

int device_event(struct device *d, unsigned queue, const void *data, uint32_t len)
{
    return send_event(d, queue, 0, data, len);
}

int device_answer(struct device *d, const struct request *r, unsigned queue, const void *data, uint32_t len)
{
    return send_event(d, queue, r->seq, data, len);
}

void device_dropped(struct device *d, uint64_t count)
{
    atomic_fetch_add_explicit(&d->back->ops->header(d->back)->dropped, count, memory_order_relaxed);
}
