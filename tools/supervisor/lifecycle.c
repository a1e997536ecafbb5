/* The tables. Columns are events in the order of enum child_event. */
#include "tools/supervisor/lifecycle.h"

#define IGN(state)                                                                                           \
    {                                                                                                        \
        ACTION_IGNORE, CHILD_##state                                                                         \
    }
#define GO(action, state)                                                                                    \
    {                                                                                                        \
        ACTION_##action, CHILD_##state                                                                       \
    }
#define BAD                                                                                                  \
    {                                                                                                        \
        ACTION_VIOLATION, CHILD_DYING                                                                        \
    }
#define KILL                                                                                                 \
    {                                                                                                        \
        ACTION_KILL, CHILD_DYING                                                                             \
    }
#define DIED                                                                                                 \
    {                                                                                                        \
        ACTION_DIED, CHILD_ABSENT                                                                            \
    }

/* clang-format off */
static const struct child_transition device_table[CHILD_STATES][CHILD_EVENTS] = {
/*                     SPAWNED                    HELLO                       DESCRIBED             ATTACHED            MAPPED               LINKED                SAID_READY          RUN                STOP                STOPPED                  FAILED FAULTED HUNG_UP OVERDUE EXITED */
[CHILD_ABSENT]      = {GO(AWAIT_HELLO, STARTING), IGN(ABSENT),                IGN(ABSENT),          IGN(ABSENT),        IGN(ABSENT),         IGN(ABSENT),          IGN(ABSENT),        IGN(ABSENT),       IGN(ABSENT),        IGN(ABSENT),             IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT)},
[CHILD_STARTING]    = {BAD,                       GO(CONFIGURE, CONFIGURING), BAD,                  IGN(STARTING),      BAD,                 IGN(STARTING),        BAD,                IGN(STARTING),     KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_CONFIGURING] = {BAD,                       BAD,                        GO(ATTACH, ATTACHING), IGN(CONFIGURING),  BAD,                 IGN(CONFIGURING),     BAD,                IGN(CONFIGURING),  KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_ATTACHING]   = {BAD,                       BAD,                        BAD,                  GO(MAP, MAPPING),   BAD,                 IGN(ATTACHING),       BAD,                IGN(ATTACHING),    KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_MAPPING]     = {BAD,                       BAD,                        BAD,                  IGN(MAPPING),       GO(LINK, LINKING),   IGN(MAPPING),         BAD,                IGN(MAPPING),      KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_LINKING]     = {BAD,                       BAD,                        BAD,                  IGN(LINKING),       BAD,                 GO(SETTLE, SETTLING), BAD,                IGN(LINKING),      KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_SETTLING]    = {BAD,                       BAD,                        BAD,                  IGN(SETTLING),      BAD,                 IGN(SETTLING),        GO(READY, READY),   IGN(SETTLING),     KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_READY]       = {BAD,                       BAD,                        BAD,                  IGN(READY),         BAD,                 IGN(READY),           BAD,                GO(RUN, RUNNING),  GO(STOP, STOPPING), BAD,                     KILL, KILL, KILL, IGN(READY), DIED},
[CHILD_RUNNING]     = {BAD,                       BAD,                        BAD,                  IGN(RUNNING),       BAD,                 IGN(RUNNING),         BAD,                IGN(RUNNING),      GO(STOP, STOPPING), BAD,                     KILL, KILL, KILL, IGN(RUNNING), DIED},
[CHILD_STOPPING]    = {BAD,                       BAD,                        BAD,                  IGN(STOPPING),      BAD,                 IGN(STOPPING),        BAD,                IGN(STOPPING),     IGN(STOPPING),      GO(AWAIT_END, STOPPING), KILL, KILL, IGN(STOPPING), KILL, GO(BURIED, ABSENT)},
[CHILD_DYING]       = {BAD,                       IGN(DYING),                 IGN(DYING),           IGN(DYING),         IGN(DYING),          IGN(DYING),           IGN(DYING),         IGN(DYING),        IGN(DYING),         IGN(DYING),              IGN(DYING), IGN(DYING), IGN(DYING), GO(GIVE_UP, ABSENT), DIED},
};

/* Attached and Linked are events of the device that they name; Exited is the vcpu's STOPPED. */
static const struct child_transition vcpu_table[CHILD_STATES][CHILD_EVENTS] = {
/*                     SPAWNED                    HELLO                       DESCRIBED ATTACHED MAPPED LINKED SAID_READY          RUN               STOP                STOPPED                  FAILED FAULTED HUNG_UP OVERDUE EXITED */
[CHILD_ABSENT]      = {GO(AWAIT_HELLO, STARTING), IGN(ABSENT),                IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT),      IGN(ABSENT),        IGN(ABSENT),             IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT), IGN(ABSENT)},
[CHILD_STARTING]    = {BAD,                       GO(CONFIGURE, CONFIGURING), BAD,      BAD,     BAD,   BAD,   BAD,                IGN(STARTING),    KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_CONFIGURING] = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   GO(READY, READY),   IGN(CONFIGURING), KILL,               GO(AWAIT_END, STOPPING), KILL, KILL, KILL, KILL, DIED},
[CHILD_ATTACHING]   = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                IGN(ATTACHING),   KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_MAPPING]     = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                IGN(MAPPING),     KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_LINKING]     = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                IGN(LINKING),     KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_SETTLING]    = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                IGN(SETTLING),    KILL,               BAD,                     KILL, KILL, KILL, KILL, DIED},
[CHILD_READY]       = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                GO(RUN, RUNNING), GO(STOP, STOPPING), GO(AWAIT_END, STOPPING), KILL, KILL, KILL, IGN(READY), DIED},
[CHILD_RUNNING]     = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                IGN(RUNNING),     GO(STOP, STOPPING), GO(AWAIT_END, STOPPING), KILL, KILL, KILL, IGN(RUNNING), DIED},
[CHILD_STOPPING]    = {BAD,                       BAD,                        BAD,      BAD,     BAD,   BAD,   BAD,                IGN(STOPPING),    IGN(STOPPING),      GO(AWAIT_END, STOPPING), KILL, KILL, IGN(STOPPING), KILL, GO(BURIED, ABSENT)},
[CHILD_DYING]       = {BAD,                       IGN(DYING),                 IGN(DYING), IGN(DYING), IGN(DYING), IGN(DYING), IGN(DYING), IGN(DYING),           IGN(DYING),         IGN(DYING),              IGN(DYING), IGN(DYING), IGN(DYING), GO(GIVE_UP, ABSENT), DIED},
};
/* clang-format on */

struct child_transition lifecycle_next(enum child_kind kind, enum child_state state, enum child_event event)
{
    return kind == CHILD_VCPU ? vcpu_table[state][event] : device_table[state][event];
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
