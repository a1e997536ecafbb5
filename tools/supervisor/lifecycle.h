/* The life of a child process as a state × event table. Pure: it says what to do, others do it. */
#pragma once

enum child_state {
    CHILD_ABSENT,
    CHILD_STARTING,    /* spawned; expects Hello */
    CHILD_CONFIGURING, /* Configure or Machine sent; a device owes Describe, the vcpu Ready */
    CHILD_ATTACHING,   /* Attach sent to the vcpu, which owes Attached */
    CHILD_MAPPING,     /* Map sent; owes Mapped */
    CHILD_LINKING,     /* Link sent to the vcpu, which owes Linked */
    CHILD_SETTLING,    /* linked; owes Ready */
    CHILD_READY,       /* waits for Run */
    CHILD_RUNNING,
    CHILD_STOPPING, /* Stop sent; owes Stopped (the vcpu Exited) and its end */
    CHILD_DYING,    /* killed or ended; its death has not been seen yet */
    CHILD_STATES,
};

enum child_event {
    CHILD_SPAWNED,
    CHILD_HELLO,
    CHILD_DESCRIBED,
    CHILD_ATTACHED,
    CHILD_MAPPED,
    CHILD_LINKED,
    CHILD_SAID_READY,
    CHILD_RUN,     /* every child is ready */
    CHILD_STOP,    /* the machine stops */
    CHILD_STOPPED, /* it says that it has finished */
    CHILD_FAILED,  /* it says that it cannot go on */
    CHILD_FAULTED, /* it broke the protocol */
    CHILD_HUNG_UP, /* its control socket is at its end */
    CHILD_OVERDUE, /* the deadline of its state has passed */
    CHILD_EXITED,  /* reaped */
    CHILD_EVENTS,
};

enum child_action {
    ACTION_UNSET, /* not in the table: a defect that the test of the table finds */
    ACTION_IGNORE,
    ACTION_AWAIT_HELLO,
    ACTION_CONFIGURE,
    ACTION_ATTACH,
    ACTION_MAP,
    ACTION_LINK,
    ACTION_SETTLE,
    ACTION_READY,
    ACTION_RUN,
    ACTION_STOP,
    ACTION_AWAIT_END, /* it has said its last; the process must end now */
    ACTION_KILL,      /* with a cause already noted, or that of the event */
    ACTION_VIOLATION, /* a message that its state does not allow: kill */
    ACTION_GIVE_UP,   /* a killed process does not end */
    ACTION_BURIED,    /* reaped as expected */
    ACTION_DIED,      /* reaped without having been asked to end */
};

struct child_transition {
    enum child_action action;
    enum child_state next;
};

enum child_kind { CHILD_VCPU, CHILD_DEVICE, CHILD_BROKER };

struct child_transition lifecycle_next(enum child_kind kind, enum child_state state, enum child_event event);

const char *lifecycle_state_name(enum child_state state);
const char *lifecycle_event_name(enum child_event event);

/* Milliseconds that a child may stay in the state; 0 for ever. */
unsigned lifecycle_deadline(enum child_state state);
