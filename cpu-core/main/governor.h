/* Keeps virtual time near the host's: decides when a clock crossing is due and what it says. A pure
 * calculation over the times it is given; knows neither clocks nor the machine. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct governor {
    uint64_t host_zero; /* host ns that stands for virtual time 0 */
    uint64_t last_host, last_icount;
    uint64_t rate; /* measured host ns per step, 32.32, smoothed */
};

#define GOVERNOR_NOMINAL_RATE (1ull << 32) /* 1 ns a step */

void governor_start(struct governor *g, uint64_t host_ns, uint64_t virtual_ns, uint64_t icount);

/* Compares the clocks while the machine runs. True if a clock crossing is due, with the new rate in *rate:
 * the error exceeds 500 us. A lag of more than 100 ms counts as a pause and is not caught up. */
bool governor_check(struct governor *g, uint64_t host_ns, uint64_t virtual_ns, uint64_t icount,
                    uint64_t *rate);

/* Virtual time that the host's time stands for now. */
uint64_t governor_virtual(const struct governor *g, uint64_t host_ns);

/* Host ns at which virtual time `ns` comes. */
uint64_t governor_host(const struct governor *g, uint64_t ns);

/* The machine idled or paused: the next comparison starts at this point. governor_resync() also makes the two
 * clocks equal here. */
void governor_skip(struct governor *g, uint64_t host_ns, uint64_t icount);
void governor_resync(struct governor *g, uint64_t host_ns, uint64_t virtual_ns, uint64_t icount);
