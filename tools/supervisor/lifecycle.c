/* The tables. The next state follows from the action, so a cell of the matrices is an action, in three
 * letters. */
#include "tools/supervisor/lifecycle.h"

#include <stdint.h>

enum {
    nop = ACTION_IGNORE,
    hlo = ACTION_AWAIT_HELLO,
    cfg = ACTION_CONFIGURE,
    att = ACTION_ATTACH,
    map = ACTION_MAP,
    lnk = ACTION_LINK,
    stl = ACTION_SETTLE,
    rdy = ACTION_READY,
    run = ACTION_RUN,
    stp = ACTION_STOP,
    end = ACTION_AWAIT_END,
    kil = ACTION_KILL,
    BAD = ACTION_VIOLATION,
    giv = ACTION_GIVE_UP,
    bur = ACTION_BURIED,
    die = ACTION_DIED,
};

/* clang-format off */
static const uint8_t device_table[CHILD_STATES][CHILD_EVENTS] = {
/*                      spawned   descr.  mapped    ready     stop      failed    hung-up   exited
 *                           hello   attached  linked    run     stopped   faulted   overdue     */
[CHILD_ABSENT]      = { hlo, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop },
[CHILD_STARTING]    = { BAD, cfg, BAD, nop, BAD, nop, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_CONFIGURING] = { BAD, BAD, att, nop, BAD, nop, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_ATTACHING]   = { BAD, BAD, BAD, map, BAD, nop, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_MAPPING]     = { BAD, BAD, BAD, nop, lnk, nop, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_LINKING]     = { BAD, BAD, BAD, nop, BAD, stl, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_SETTLING]    = { BAD, BAD, BAD, nop, BAD, nop, rdy, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_READY]       = { BAD, BAD, BAD, nop, BAD, nop, BAD, run, stp, BAD, kil, kil, kil, nop, die },
[CHILD_RUNNING]     = { BAD, BAD, BAD, nop, BAD, nop, BAD, nop, stp, BAD, kil, kil, kil, nop, die },
[CHILD_STOPPING]    = { BAD, BAD, BAD, nop, BAD, nop, BAD, nop, nop, end, kil, kil, nop, kil, bur },
[CHILD_DYING]       = { BAD, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, giv, die },
};

/* Attached and Linked are events of the device that they name; Exited is the vcpu's `stopped`. */
static const uint8_t vcpu_table[CHILD_STATES][CHILD_EVENTS] = {
/*                      spawned   descr.  mapped    ready     stop      failed    hung-up   exited
 *                           hello   attached  linked    run     stopped   faulted   overdue     */
[CHILD_ABSENT]      = { hlo, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop },
[CHILD_STARTING]    = { BAD, cfg, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_CONFIGURING] = { BAD, BAD, BAD, BAD, BAD, BAD, rdy, nop, kil, end, kil, kil, kil, kil, die },
[CHILD_ATTACHING]   = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_MAPPING]     = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_LINKING]     = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_SETTLING]    = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_READY]       = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, run, stp, end, kil, kil, kil, nop, die },
[CHILD_RUNNING]     = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, stp, end, kil, kil, kil, nop, die },
[CHILD_STOPPING]    = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, nop, end, kil, kil, nop, kil, bur },
[CHILD_DYING]       = { BAD, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, giv, die },
};

static const uint8_t broker_table[CHILD_STATES][CHILD_EVENTS] = {
/*                      spawned   descr.  mapped    ready     stop      failed    hung-up   exited
 *                           hello   attached  linked    run     stopped   faulted   overdue     */
[CHILD_ABSENT]      = { hlo, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop },
[CHILD_STARTING]    = { BAD, cfg, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_CONFIGURING] = { BAD, BAD, BAD, BAD, BAD, BAD, rdy, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_ATTACHING]   = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_MAPPING]     = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_LINKING]     = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_SETTLING]    = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, kil, BAD, kil, kil, kil, kil, die },
[CHILD_READY]       = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, run, stp, BAD, kil, kil, kil, nop, die },
[CHILD_RUNNING]     = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, stp, BAD, kil, kil, kil, nop, die },
[CHILD_STOPPING]    = { BAD, BAD, BAD, BAD, BAD, BAD, BAD, nop, nop, end, kil, kil, nop, kil, bur },
[CHILD_DYING]       = { BAD, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, giv, die },
};
/* clang-format on */

/* Where an action leads; not for ACTION_IGNORE, which stays. */
static const uint8_t destinations[] = {
    [ACTION_AWAIT_HELLO] = CHILD_STARTING, [ACTION_CONFIGURE] = CHILD_CONFIGURING,
    [ACTION_ATTACH] = CHILD_ATTACHING,     [ACTION_MAP] = CHILD_MAPPING,
    [ACTION_LINK] = CHILD_LINKING,         [ACTION_SETTLE] = CHILD_SETTLING,
    [ACTION_READY] = CHILD_READY,          [ACTION_RUN] = CHILD_RUNNING,
    [ACTION_STOP] = CHILD_STOPPING,        [ACTION_AWAIT_END] = CHILD_STOPPING,
    [ACTION_KILL] = CHILD_DYING,           [ACTION_VIOLATION] = CHILD_DYING,
    [ACTION_GIVE_UP] = CHILD_ABSENT,       [ACTION_BURIED] = CHILD_ABSENT,
    [ACTION_DIED] = CHILD_ABSENT,
};

struct child_transition lifecycle_next(enum child_kind kind, enum child_state state, enum child_event event)
{
    uint8_t action = kind == CHILD_VCPU     ? vcpu_table[state][event]
                     : kind == CHILD_DEVICE ? device_table[state][event]
                                            : broker_table[state][event];
    return (struct child_transition){
        .action = (enum child_action)action,
        .next = action == ACTION_IGNORE ? state : (enum child_state)destinations[action],
    };
}

const char *lifecycle_state_name(enum child_state state)
{
    static const char *const names[CHILD_STATES] = {
        "absent",   "starting", "configuring", "attaching", "mapping", "linking",
        "settling", "ready",    "running",     "stopping",  "dying",
    };
    return names[state];
}

const char *lifecycle_event_name(enum child_event event)
{
    static const char *const names[CHILD_EVENTS] = {
        "spawned", "hello",   "described", "attached", "mapped",  "linked",  "ready",  "run",
        "stop",    "stopped", "failed",    "faulted",  "hung-up", "overdue", "exited",
    };
    return names[event];
}

unsigned lifecycle_deadline(enum child_state state)
{
    switch (state) {
    case CHILD_ABSENT:
    case CHILD_READY:
    case CHILD_RUNNING:
        return 0;
    case CHILD_STOPPING:
        return 10000; /* a flush to a slow disk */
    default:
        return 5000;
    }
}
