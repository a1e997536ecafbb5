/* Latency models: 64-bit integers only, so that every host computes the same. */
#include "ipc/latency.h"

#include <errno.h>
#include <string.h>

int latency_check(const struct latency_model *m)
{
    if (m->nrules > LATENCY_MAX_RULES)
        return -EINVAL;
    for (uint32_t i = 0; i < m->nrules; i++) {
        const struct latency_rule *r = &m->rule[i];
        if (r->prefix_len > LATENCY_MAX_PREFIX || r->base_ns > LATENCY_MAX_NS ||
            r->jitter_ns > LATENCY_MAX_NS || (r->bandwidth && r->bandwidth < LATENCY_MIN_BANDWIDTH))
            return -EINVAL;
    }
    return 0;
}

/* SplitMix64: the seq-th number of the seed's stream. */
static uint64_t draw(uint64_t seed, uint64_t seq)
{
    uint64_t z = seed + seq * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static const struct latency_rule *find(const struct latency_model *m, const void *request, uint32_t len)
{
    for (uint32_t i = 0; i < m->nrules; i++) {
        const struct latency_rule *r = &m->rule[i];
        if (r->prefix_len <= len && (!r->prefix_len || memcmp(request, r->prefix, r->prefix_len) == 0))
            return r;
    }
    return NULL;
}

uint64_t latency_of(const struct latency_model *m, uint64_t seq, const void *request, uint32_t req_len,
                    uint32_t resp_cap)
{
    const struct latency_rule *r = find(m, request, req_len);
    if (!r)
        return 1;
    uint64_t ns = r->base_ns;
    if (r->bandwidth) /* below 2^33 bytes, so that the product has less than 63 bits */
        ns += ((uint64_t)req_len + resp_cap) * UINT64_C(1000000000) / r->bandwidth;
    if (r->jitter_ns)
        ns += draw(m->seed, seq) % (r->jitter_ns + 1);
    return ns ? ns : 1;
}
