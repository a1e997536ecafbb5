/* The relation of virtual and host time. Must not read a clock. */
#include "cpu-core/main/governor.h"

#define TOLERANCE_NS 500000ll
#define PAUSE_NS     100000000ll
#define HORIZON_NS   20000000ll /* an error is worked off over this time */
#define MIN_RATE     (GOVERNOR_NOMINAL_RATE / 8)
#define MAX_RATE     (GOVERNOR_NOMINAL_RATE * 4)

void governor_start(struct governor *g, uint64_t host_ns, uint64_t virtual_ns, uint64_t icount)
{
    *g = (struct governor){.rate = GOVERNOR_NOMINAL_RATE};
    governor_resync(g, host_ns, virtual_ns, icount);
}

void governor_skip(struct governor *g, uint64_t host_ns, uint64_t icount)
{
    g->last_host = host_ns;
    g->last_icount = icount;
}

void governor_resync(struct governor *g, uint64_t host_ns, uint64_t virtual_ns, uint64_t icount)
{
    g->host_zero = host_ns - virtual_ns;
    governor_skip(g, host_ns, icount);
}

uint64_t governor_virtual(const struct governor *g, uint64_t host_ns)
{
    int64_t ns = (int64_t)(host_ns - g->host_zero);
    return ns > 0 ? (uint64_t)ns : 0;
}

uint64_t governor_host(const struct governor *g, uint64_t ns)
{
    return g->host_zero + ns;
}

static void measure(struct governor *g, uint64_t host_ns, uint64_t icount)
{
    uint64_t steps = icount - g->last_icount, ns = host_ns - g->last_host;
    if (steps < 1000)
        return;
    unsigned __int128 rate = ((unsigned __int128)ns << 32) / steps;
    if (rate > MAX_RATE)
        rate = MAX_RATE;
    g->rate = (3 * g->rate + (uint64_t)rate) / 4;
    governor_skip(g, host_ns, icount);
}

bool governor_check(struct governor *g, uint64_t host_ns, uint64_t virtual_ns, uint64_t icount,
                    uint64_t *rate)
{
    measure(g, host_ns, icount);
    int64_t error = (int64_t)(host_ns - g->host_zero - virtual_ns);
    if (error > PAUSE_NS) {
        g->host_zero += (uint64_t)error;
        return false;
    }
    if (error < TOLERANCE_NS && error > -TOLERANCE_NS)
        return false;
    int64_t correction = error > HORIZON_NS / 2    ? HORIZON_NS / 2
                         : error < -HORIZON_NS / 2 ? -HORIZON_NS / 2
                                                   : error;
    __int128 wanted = (__int128)g->rate * (HORIZON_NS + correction) / HORIZON_NS;
    *rate = wanted < (__int128)MIN_RATE   ? MIN_RATE
            : wanted > (__int128)MAX_RATE ? MAX_RATE
                                          : (uint64_t)wanted;
    return true;
}
