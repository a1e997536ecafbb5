/* The present, as register-level devices see it: the position of the hart that runs, or ran last. */
#pragma once

#include "cpu-core/hart/hart.h"
#include "cpu-core/time/vclock.h"

struct now {
    struct vclock *clock;
    struct hart *hart; /* its step accounting is exact whenever a device is called */
};

static inline uint64_t now_ns(const struct now *n)
{
    return vclock_ns(n->clock, hart_icount(n->hart));
}
