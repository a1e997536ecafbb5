/* The life-cycle tables: complete, and with the properties that the supervisor counts on. */
#include "tools/supervisor/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const enum child_kind kinds[] = {CHILD_VCPU, CHILD_DEVICE, CHILD_BROKER};

static void test_total(void **state)
{
    for (unsigned k = 0; k < 3; k++) {
        for (int s = 0; s < CHILD_STATES; s++) {
            for (int e = 0; e < CHILD_EVENTS; e++) {
                struct child_transition t =
                    lifecycle_next(kinds[k], (enum child_state)s, (enum child_event)e);
                if (t.action == ACTION_UNSET)
                    fail_msg("kind %u: %s × %s is not in the table", k,
                             lifecycle_state_name((enum child_state)s),
                             lifecycle_event_name((enum child_event)e));
                assert_true(t.action != ACTION_IGNORE || t.next == (enum child_state)s);
            }
        }
    }
}

/* Whatever the state, the death of the process leads to ABSENT, and something that is not ABSENT can be
 * brought to an end. */
static void test_death_is_final(void **state)
{
    for (unsigned k = 0; k < 3; k++) {
        for (int s = CHILD_STARTING; s < CHILD_STATES; s++) {
            struct child_transition t = lifecycle_next(kinds[k], (enum child_state)s, CHILD_EXITED);
            assert_int_equal(t.next, CHILD_ABSENT);
            t = lifecycle_next(kinds[k], (enum child_state)s, CHILD_STOP);
            assert_true(t.next == CHILD_STOPPING || t.next == CHILD_DYING);
            t = lifecycle_next(kinds[k], (enum child_state)s, CHILD_FAULTED);
            assert_int_equal(t.next, CHILD_DYING);
        }
    }
}

/* A state in which the supervisor waits for the process has a deadline, and its passing changes the state. */
static void test_no_endless_wait(void **state)
{
    for (unsigned k = 0; k < 3; k++) {
        for (int s = CHILD_STARTING; s < CHILD_STATES; s++) {
            struct child_transition t = lifecycle_next(kinds[k], (enum child_state)s, CHILD_OVERDUE);
            assert_true((lifecycle_deadline((enum child_state)s) != 0) == (t.next != (enum child_state)s));
        }
    }
}

static void walk(enum child_kind kind, const enum child_event *events, const enum child_state *states)
{
    enum child_state s = CHILD_ABSENT;
    for (; *states != CHILD_STATES; events++, states++) {
        s = lifecycle_next(kind, s, *events).next;
        assert_int_equal(s, *states);
    }
}

static void test_device_path(void **state)
{
    walk(CHILD_DEVICE,
         (const enum child_event[]){CHILD_SPAWNED, CHILD_HELLO, CHILD_DESCRIBED, CHILD_ATTACHED, CHILD_MAPPED,
                                    CHILD_LINKED, CHILD_SAID_READY, CHILD_RUN, CHILD_STOP, CHILD_STOPPED,
                                    CHILD_EXITED},
         (const enum child_state[]){CHILD_STARTING, CHILD_CONFIGURING, CHILD_ATTACHING, CHILD_MAPPING,
                                    CHILD_LINKING, CHILD_SETTLING, CHILD_READY, CHILD_RUNNING, CHILD_STOPPING,
                                    CHILD_STOPPING, CHILD_ABSENT, CHILD_STATES});
}

static void test_vcpu_path(void **state)
{
    walk(CHILD_VCPU,
         (const enum child_event[]){CHILD_SPAWNED, CHILD_HELLO, CHILD_SAID_READY, CHILD_RUN, CHILD_STOPPED,
                                    CHILD_EXITED},
         (const enum child_state[]){CHILD_STARTING, CHILD_CONFIGURING, CHILD_READY, CHILD_RUNNING,
                                    CHILD_STOPPING, CHILD_ABSENT, CHILD_STATES});
}

/* A broker is told to stop when it has said nothing of its own accord, and says Stopped. */
static void test_broker_path(void **state)
{
    walk(CHILD_BROKER,
         (const enum child_event[]){CHILD_SPAWNED, CHILD_HELLO, CHILD_SAID_READY, CHILD_RUN, CHILD_STOP,
                                    CHILD_STOPPED, CHILD_EXITED},
         (const enum child_state[]){CHILD_STARTING, CHILD_CONFIGURING, CHILD_READY, CHILD_RUNNING,
                                    CHILD_STOPPING, CHILD_STOPPING, CHILD_ABSENT, CHILD_STATES});
    assert_int_equal(lifecycle_next(CHILD_BROKER, CHILD_RUNNING, CHILD_STOPPED).action, ACTION_VIOLATION);
}

/* A message that skips a step is a violation, not progress. */
static void test_no_shortcut(void **state)
{
    static const enum child_event progress[] = {CHILD_DESCRIBED, CHILD_MAPPED, CHILD_SAID_READY,
                                                CHILD_STOPPED};
    for (unsigned i = 0; i < 4; i++) {
        struct child_transition t = lifecycle_next(CHILD_DEVICE, CHILD_STARTING, progress[i]);
        assert_int_equal(t.action, ACTION_VIOLATION);
        assert_int_equal(t.next, CHILD_DYING);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_total),           cmocka_unit_test(test_death_is_final),
        cmocka_unit_test(test_no_endless_wait), cmocka_unit_test(test_device_path),
        cmocka_unit_test(test_vcpu_path),       cmocka_unit_test(test_broker_path),
        cmocka_unit_test(test_no_shortcut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
