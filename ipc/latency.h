/* Latency models: how long an answer takes in fixed timing, as data that a device process describes and the
 * vcpu evaluates. A function of the request and of a seed alone. Knows no device type. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LATENCY_MAX_RULES     8
#define LATENCY_MAX_PREFIX    8
#define LATENCY_MAX_NS        UINT64_C(60000000000)
#define LATENCY_MIN_BANDWIDTH UINT64_C(1024)

/* For the requests that begin with `prefix`. */
struct latency_rule {
    uint8_t prefix[LATENCY_MAX_PREFIX];
    uint32_t prefix_len;
    uint64_t base_ns;   /* 0..LATENCY_MAX_NS */
    uint64_t bandwidth; /* bytes a second, of the request and the space for its response; 0: without limit */
    uint64_t jitter_ns; /* 0 to this many ns are added, by seed and sequence number; 0..LATENCY_MAX_NS */
};

/* The first rule that matches holds; without one the answer is due after 1 ns. */
struct latency_model {
    uint64_t seed;
    uint32_t nrules;
    struct latency_rule rule[LATENCY_MAX_RULES];
};

/* 0, or -EINVAL for a value out of range. */
int latency_check(const struct latency_model *m);

/* Nanoseconds, at least 1, that the answer to request `seq` takes: req_len bytes at `request`, resp_cap bytes
 * that the answer may have. The model is a checked one. */
uint64_t latency_of(const struct latency_model *m, uint64_t seq, const void *request, uint32_t req_len,
                    uint32_t resp_cap);
