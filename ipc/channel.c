/* Geometry, layout and validation of a channel: arithmetic only. Knows no transport. */
#include "ipc/channel.h"

#include <errno.h>

#define PAGE  4096ull
#define INDEX sizeof(struct ring_index)

/* The index lines follow the header in the first page of each memfd. */
#define FIRST_INDEX 512

_Static_assert(sizeof(struct channel_out_header) <= FIRST_INDEX, "header overlaps the indices");
_Static_assert(sizeof(struct channel_in_header) <= FIRST_INDEX, "header overlaps the indices");
_Static_assert(FIRST_INDEX + 2 * CHANNEL_MAX_QUEUES * sizeof(struct ring_index) <= CHANNEL_HEADER_SIZE,
               "indices leave the first page");

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static bool requests_ok(const struct channel_queue *q)
{
    return q->slots >= 1 && q->slots <= 1024 && q->max_request <= CHANNEL_MAX_MESSAGE &&
           q->max_response <= CHANNEL_MAX_MESSAGE && q->request_bytes >= q->max_request &&
           q->request_bytes <= CHANNEL_MAX_ARENA && q->response_bytes >= q->max_response &&
           q->response_bytes <= CHANNEL_MAX_ARENA;
}

static bool inbound_ok(const struct channel_queue *q)
{
    return q->slots >= 1 && q->slots <= 4096 && q->max_request == 0 && q->request_bytes == 0 &&
           q->max_response >= 1 && q->max_response <= CHANNEL_MAX_MESSAGE &&
           q->response_bytes >= q->max_response && q->response_bytes <= CHANNEL_MAX_ARENA;
}

int channel_check(const struct channel_geometry *g)
{
    if (g->nqueues < 1 || g->nqueues > CHANNEL_MAX_QUEUES || g->blob_max > CHANNEL_MAX_BLOB)
        return -EINVAL;
    for (unsigned i = 0; i < g->nqueues; i++) {
        const struct channel_queue *q = &g->queue[i];
        bool ok = q->kind == CHANNEL_REQUESTS  ? requests_ok(q)
                  : q->kind == CHANNEL_INBOUND ? inbound_ok(q)
                                               : false;
        if (!ok)
            return -EINVAL;
    }
    return 0;
}

static uint32_t power_of_two(uint32_t n)
{
    uint32_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

uint64_t channel_response_span(uint32_t resp_cap, uint32_t blob_cap)
{
    return blob_cap ? round_up(resp_cap, 8) + blob_cap : resp_cap;
}

static uint64_t request_arena_size(const struct channel_queue *q)
{
    if (q->kind == CHANNEL_INBOUND)
        return 0;
    return 2 * round_up(q->request_bytes + (uint64_t)q->slots * CHANNEL_UNIT, PAGE);
}

static uint64_t response_arena_size(const struct channel_queue *q, uint32_t blob_max)
{
    if (q->kind == CHANNEL_INBOUND)
        return round_up(q->response_bytes, PAGE);
    uint64_t per_slot = CHANNEL_UNIT + (blob_max ? 8 + (uint64_t)blob_max : 0);
    return 2 * round_up(q->response_bytes + q->slots * per_slot, PAGE);
}

/* Takes `size` bytes, in whole pages, from *end. */
static uint64_t place(uint64_t *end, uint64_t size)
{
    uint64_t at = *end;
    *end = at + round_up(size, PAGE);
    return at;
}

void channel_layout(const struct channel_geometry *g, struct channel_layout *l)
{
    *l = (struct channel_layout){.out_size = CHANNEL_HEADER_SIZE, .in_size = CHANNEL_HEADER_SIZE};
    for (unsigned i = 0; i < g->nqueues; i++) {
        const struct channel_queue *q = &g->queue[i];
        bool requests = q->kind == CHANNEL_REQUESTS;
        uint32_t entries = power_of_two(requests ? 2 * q->slots + 2 : q->slots);
        uint64_t ring = (uint64_t)entries * RING_ENTRY_SIZE;
        uint64_t first = FIRST_INDEX + 2 * i * INDEX;

        l->queue[i].entries = entries;
        l->queue[i].out_produced = l->queue[i].in_produced = first;
        l->queue[i].out_consumed = l->queue[i].in_consumed = first + INDEX;
        l->queue[i].submissions = place(&l->out_size, requests ? ring : 0);
        l->queue[i].request_size = request_arena_size(q);
        l->queue[i].request_arena = place(&l->out_size, l->queue[i].request_size);
        l->queue[i].completions = place(&l->in_size, ring);
        l->queue[i].response_size = response_arena_size(q, g->blob_max);
        l->queue[i].response_arena = place(&l->in_size, l->queue[i].response_size);
    }
}

/* CRC32C (Castagnoli, reflected 0x82f63b78) of the eight little-endian bytes of v. */
static uint32_t crc_u64(uint32_t crc, uint64_t v)
{
    for (unsigned byte = 0; byte < 8; byte++) {
        crc ^= (uint8_t)(v >> (8 * byte));
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

uint32_t channel_layout_crc(const struct channel_geometry *g)
{
    struct channel_layout l;
    channel_layout(g, &l);
    uint32_t crc = ~0u;
    crc = crc_u64(crc, CHANNEL_VERSION);
    crc = crc_u64(crc, g->nqueues);
    crc = crc_u64(crc, g->blob_max);
    crc = crc_u64(crc, l.out_size);
    crc = crc_u64(crc, l.in_size);
    for (unsigned i = 0; i < g->nqueues; i++) {
        const struct channel_queue *q = &g->queue[i];
        const uint64_t fields[] = {
            q->kind,
            q->slots,
            q->max_request,
            q->max_response,
            q->request_bytes,
            q->response_bytes,
            l.queue[i].entries,
            l.queue[i].out_produced,
            l.queue[i].out_consumed,
            l.queue[i].in_produced,
            l.queue[i].in_consumed,
            l.queue[i].submissions,
            l.queue[i].completions,
            l.queue[i].request_arena,
            l.queue[i].request_size,
            l.queue[i].response_arena,
            l.queue[i].response_size,
        };
        for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++)
            crc = crc_u64(crc, fields[k]);
    }
    return ~crc;
}

static bool inside(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

int channel_check_request(const struct channel_geometry *g, const struct channel_layout *l, unsigned queue,
                          const struct ring_request *r)
{
    const struct channel_queue *q = &g->queue[queue];
    if (r->flags & ~RING_FLAG_REISSUE)
        return -EPROTO;
    if (r->op == RING_OP_RESET)
        return r->slot == RING_SLOT_NONE && !r->req_len && !r->resp_cap && !r->blob_cap ? 0 : -EPROTO;
    if (r->op != RING_OP_REQUEST || r->slot == RING_SLOT_NONE)
        return -EPROTO;
    if (r->req_len > q->max_request || r->resp_cap > q->max_response || r->blob_cap > g->blob_max)
        return -EPROTO;
    if (r->req_off % 8 || r->resp_off % 8)
        return -EPROTO;
    if (!inside(r->req_off, r->req_len, l->queue[queue].request_size) ||
        !inside(r->resp_off, channel_response_span(r->resp_cap, r->blob_cap), l->queue[queue].response_size))
        return -EPROTO;
    return 0;
}

static bool all_zero(const uint64_t *words, size_t n)
{
    uint64_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= words[i];
    return any == 0;
}

static bool file_valid(const struct ring_completion *c)
{
    if (!c->file_len)
        return c->file_off == 0;
    return c->status == RING_STATUS_OK && c->file_len <= c->len &&
           c->file_off <= (uint64_t)INT64_MAX - c->file_len;
}

int channel_check_completion(const struct ring_completion *c, const struct ring_request *r)
{
    bool ok = c->epoch == r->epoch && c->seq == r->seq && c->slot == r->slot &&
              (c->status == RING_STATUS_OK || c->status == RING_STATUS_FAILED) && c->len <= r->resp_cap &&
              c->blob_len <= r->blob_cap && file_valid(c) && c->reserved32 == 0 && all_zero(c->reserved, 3);
    return ok ? 0 : -EPROTO;
}

int channel_check_event(const struct channel_geometry *g, const struct channel_layout *l, unsigned queue,
                        const struct ring_event *e, uint32_t epoch, uint64_t seq)
{
    bool ok = e->epoch == epoch && e->seq == seq && e->len <= g->queue[queue].max_response &&
              inside(e->off, e->len, l->queue[queue].response_size) && all_zero(e->reserved, 4);
    return ok ? 0 : -EPROTO;
}
