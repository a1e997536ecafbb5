/* The goldfish RTC. Must not know any clock but virtual time. */
#include "cpu-core/board/rtc.h"

#include "cpu-core/state/state.h"

#include <errno.h>

enum {
    TIME_LOW = 0x00,
    TIME_HIGH = 0x04,
    ALARM_LOW = 0x08,
    ALARM_HIGH = 0x0c,
    IRQ_ENABLED = 0x10,
    CLEAR_ALARM = 0x14,
    ALARM_STATUS = 0x18,
    CLEAR_INTERRUPT = 0x1c,
};

static uint64_t time_of_day(const struct rtc *r)
{
    return r->offset + now_ns(r->now);
}

static void update(struct rtc *r)
{
    irq_set(&r->irq, r->pending && r->enabled);
}

static void ring(struct rtc *r)
{
    r->armed = false;
    r->pending = true;
    vclock_arm(r->now->clock, &r->timer, VCLOCK_NEVER);
    update(r);
}

static void due(void *arg)
{
    ring(arg);
}

/* Arms the deadline of the alarm, or rings when it has passed. */
static void arm(struct rtc *r)
{
    if (r->alarm <= time_of_day(r)) {
        ring(r);
        return;
    }
    r->armed = true;
    vclock_arm(r->now->clock, &r->timer, r->alarm - r->offset);
}

static void disarm(struct rtc *r)
{
    r->armed = false;
    vclock_arm(r->now->clock, &r->timer, VCLOCK_NEVER);
}

static uint64_t with_low(uint64_t v, uint32_t low)
{
    return (v & ~0xffffffffull) | low;
}
static uint64_t with_high(uint64_t v, uint32_t high)
{
    return (v & 0xffffffff) | (uint64_t)high << 32;
}

/* The guest sets the clock; an armed alarm follows it. */
static void set_time(struct rtc *r, uint64_t now)
{
    r->offset = now - now_ns(r->now);
    if (r->armed)
        arm(r);
}

static int rtc_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    struct rtc *r = dev;
    if (size != 4)
        return -EFAULT;
    uint64_t now = time_of_day(r);
    switch (offset) {
    case TIME_LOW:
        r->time_high = (uint32_t)(now >> 32);
        *value = (uint32_t)now;
        break;
    case TIME_HIGH:
        *value = r->time_high;
        break;
    case ALARM_LOW:
        *value = (uint32_t)r->alarm;
        break;
    case ALARM_HIGH:
        *value = r->alarm >> 32;
        break;
    case IRQ_ENABLED:
        *value = r->enabled;
        break;
    case ALARM_STATUS:
        *value = r->armed;
        break;
    default:
        *value = 0;
    }
    return 0;
}

static int rtc_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *r = dev;
    if (size != 4)
        return -EFAULT;
    uint32_t v = (uint32_t)value;
    switch (offset) {
    case TIME_LOW:
        set_time(r, with_low(time_of_day(r), v));
        break;
    case TIME_HIGH:
        set_time(r, with_high(time_of_day(r), v));
        break;
    case ALARM_LOW:
        r->alarm = with_low(r->alarm, v);
        arm(r);
        break;
    case ALARM_HIGH:
        r->alarm = with_high(r->alarm, v);
        break;
    case IRQ_ENABLED:
        r->enabled = v & 1;
        update(r);
        break;
    case CLEAR_ALARM:
        disarm(r);
        break;
    case CLEAR_INTERRUPT:
        r->pending = false;
        update(r);
        break;
    default:
        break;
    }
    return 0;
}

const struct bus_ops rtc_bus_ops = {rtc_read, rtc_write};

int rtc_init(struct rtc *r, const struct now *now, const struct irq_line *irq, uint64_t start_ns)
{
    *r = (struct rtc){.now = now, .irq = *irq, .start_ns = start_ns, .offset = start_ns};
    r->timer = (struct vtimer){.due = VCLOCK_NEVER, .order = 0x200, .fire = due, .arg = r};
    return vclock_add(now->clock, &r->timer);
}

void rtc_destroy(struct rtc *r)
{
    if (r->now)
        vclock_remove(r->now->clock, &r->timer);
}

void rtc_reset(struct rtc *r)
{
    disarm(r);
    r->offset = r->start_ns;
    r->alarm = 0;
    r->time_high = 0;
    r->pending = r->enabled = false;
    update(r);
}

/* Order: offset, alarm, latched high half, armed, pending, enabled. */
void rtc_state(struct rtc *r, struct state_io *io)
{
    state_u64(io, &r->offset);
    state_u64(io, &r->alarm);
    state_u32(io, &r->time_high);
    state_bool(io, &r->armed);
    state_bool(io, &r->pending);
    state_bool(io, &r->enabled);
    if (io->loading)
        update(r);
}
