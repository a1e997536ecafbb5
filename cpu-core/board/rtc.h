/* Real-time clock, register-compatible with google,goldfish-rtc: nanoseconds since the epoch as a start value
 * plus virtual time, with an alarm. Knows no host clock. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/board/irq.h"
#include "cpu-core/board/now.h"

struct state_io;

#define RTC_SIZE 0x1000ull

struct rtc {
    const struct now *now;
    struct irq_line irq;
    struct vtimer timer;
    uint64_t start_ns;  /* of the epoch at virtual time 0, at power-on */
    uint64_t offset;    /* the same, as the guest has set it */
    uint64_t alarm;     /* ns of the epoch */
    uint32_t time_high; /* latched by a read of the low half */
    bool armed, pending, enabled;
};

/* Registers a timer with the clock of `now` (borrowed). -ENOSPC. */
int rtc_init(struct rtc *r, const struct now *now, const struct irq_line *irq, uint64_t start_ns);
void rtc_destroy(struct rtc *r);
void rtc_reset(struct rtc *r);

extern const struct bus_ops rtc_bus_ops; /* dev = struct rtc */

void rtc_state(struct rtc *r, struct state_io *io);
