/* Fuzz target: a device process that writes anything into the memory it shares with the vcpu. The input is a
 * series of (offset, value) writes to `in`, between which the vcpu's end is polled; whatever passes
 * validation is read to its last byte. */
#include "tests/fuzz/fuzz.h"

#include "ipc/channel_test.h"

#include <stdlib.h>
#include <string.h>

enum { EPOCH = 1 };

static const struct channel_geometry geometry = {
    .nqueues = 2,
    .blob_max = 64,
    .queue = {{.kind = CHANNEL_REQUESTS,
               .slots = 4,
               .max_request = 256,
               .max_response = 512,
               .request_bytes = 1024,
               .response_bytes = 2048},
              {.kind = CHANNEL_INBOUND, .slots = 4, .max_response = 512, .response_bytes = 4096}},
};

static volatile uint8_t sink;

static void read_span(const uint8_t *at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        sink = at[i];
}

static void poll_front(struct channel_front *f, const struct ring_request *in_flight, uint64_t *event_seq)
{
    struct ring_completion c;
    struct ring_event e;
    while (f->ops->completion(f, 0, &c) > 0)
        if (c.slot == in_flight->slot && channel_check_completion(&c, in_flight) == 0)
            read_span(f->ops->response_mem(f, 0) + in_flight->resp_off,
                      channel_response_span(in_flight->resp_cap, c.blob_len));
    while (f->ops->event(f, 1, &e) > 0) {
        if (channel_check_event(&f->geometry, &f->layout, 1, &e, EPOCH, *event_seq + 1) < 0)
            return;
        read_span(f->ops->response_mem(f, 1) + e.off, e.len);
        f->ops->event_done(f, 1);
        ++*event_seq;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct channel_pair p;
    if (channel_pair_create(&p, &geometry, EPOCH) < 0)
        abort();
    const struct ring_request r = {
        .seq = 1, .epoch = EPOCH, .slot = 2, .op = RING_OP_REQUEST, .resp_cap = 512, .blob_cap = 64};
    if (p.front->ops->submit(p.front, 0, &r) < 0)
        abort();
    uint64_t event_seq = 0;
    for (size_t at = 0; at + 6 <= size; at += 6) {
        uint16_t off;
        memcpy(&off, data + at, 2);
        uint64_t to = (uint64_t)off * 4 % p.front->layout.in_size;
        memcpy(p.in + to, data + at + 2, 4);
        poll_front(p.front, &r, &event_seq);
    }
    channel_pair_destroy(&p);
    return 0;
}
