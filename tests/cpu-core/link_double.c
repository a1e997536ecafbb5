/* The scripted device. */
#include "tests/cpu-core/link_double.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void double_init(struct link *l, const struct link_sink *sink, void *front)
{
    l->sink = sink;
    l->front = front;
    l->slots = 8;
    l->max_req = l->max_resp = DOUBLE_BYTES;
    l->submissions = l->kicks = 0;
    memset(l->room_made, 0, sizeof l->room_made);
    link_reset(l);
    l->resets = 0;
}

int link_reserve(struct link *l, unsigned queue, uint32_t req_len, uint32_t resp_cap)
{
    if (req_len > l->max_req || resp_cap > l->max_resp)
        return -EMSGSIZE;
    for (unsigned slot = 0; slot < l->slots; slot++) {
        if (l->request[queue][slot].busy)
            continue;
        l->request[queue][slot].busy = true;
        l->request[queue][slot].submitted = false;
        l->request[queue][slot].len = req_len;
        l->request[queue][slot].cap = resp_cap;
        return (int)slot;
    }
    return -ENOSPC;
}

uint8_t *link_request_bytes(struct link *l, unsigned queue, unsigned slot)
{
    return l->request[queue][slot].bytes;
}

void link_submit(struct link *l, unsigned queue, unsigned slot)
{
    assert(l->request[queue][slot].busy && !l->request[queue][slot].submitted);
    l->request[queue][slot].submitted = true;
    l->submissions++;
}

void link_features(struct link *l, uint64_t features)
{
    l->features = features;
}

void link_kick(struct link *l)
{
    l->kicks++;
}

void link_reset(struct link *l)
{
    for (unsigned queue = 0; queue < CHANNEL_MAX_QUEUES; queue++)
        for (unsigned slot = 0; slot < DOUBLE_SLOTS; slot++)
            l->request[queue][slot].busy = false;
    l->resets++;
}

void link_room_made(struct link *l, unsigned queue)
{
    l->room_made[queue]++;
}

unsigned link_slots(const struct link *l, unsigned queue)
{
    return l->slots;
}

static void answer(struct link *l, unsigned queue, unsigned slot, const void *data, uint32_t len, bool failed)
{
    assert(l->request[queue][slot].busy && l->request[queue][slot].submitted);
    assert(len <= l->request[queue][slot].cap);
    l->request[queue][slot].busy = false;
    l->sink->completed(l->front, queue, slot, data, len, failed);
}

void double_complete(struct link *l, unsigned queue, unsigned slot, const void *data, uint32_t len)
{
    answer(l, queue, slot, data, len, false);
}

void double_fail(struct link *l, unsigned queue, unsigned slot)
{
    answer(l, queue, slot, NULL, 0, true);
}

unsigned double_in_flight(const struct link *l, unsigned queue)
{
    unsigned n = 0;
    for (unsigned slot = 0; slot < DOUBLE_SLOTS; slot++)
        n += l->request[queue][slot].busy;
    return n;
}
