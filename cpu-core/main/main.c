/* The vcpu process: handshake, run, report the end. Must not outlive its supervisor. */
#include "cpu-core/main/startup.h"
#include "ipc/feed.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

static void report_end(int control, struct machine *m, enum machine_end end, uint32_t status)
{
    static const char *const why[] = {[MACHINE_POWEROFF] = "poweroff",
                                      [MACHINE_GUEST_FAIL] = "fail",
                                      [MACHINE_STOPPED] = "stop",
                                      [MACHINE_STOP_AT] = "stop-at",
                                      [MACHINE_FAULT] = "fault",
                                      [MACHINE_DIVERGED] = "diverged",
                                      [MACHINE_RECORDING_ENDS] = "recording-ends"};
    Cleave__Exited exited = CLEAVE__EXITED__INIT;
    exited.icount = machine_icount(m);
    exited.why = (char *)(end == MACHINE_FAULT ? machine_fault(m) : why[end]);
    exited.guest_status = status;
    exited.fault = end == MACHINE_FAULT;
    exited.hash = machine_end_hash(m);
    const struct feed_end *e = machine_recording_end(m);
    if (e) {
        exited.ending = e->ending;
        exited.reason = (char *)e->reason;
        exited.error = e->error;
    }
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_EXITED;
    body.exited = &exited;
    control_send(control, &body, NULL, 0);
}

int main(int argc, char **argv)
{
    struct machine *m = NULL;
    uint32_t status;
    prctl(PR_SET_NAME, argc > 1 ? argv[1] : "vcpu");
    signal(SIGPIPE, SIG_IGN);
    if (startup(CONTROL_CHILD_FD, &m) < 0) {
        machine_destroy(m);
        return EXIT_FAILURE;
    }
    enum machine_end end = machine_run(m, &status);
    report_end(CONTROL_CHILD_FD, m, end, status);
    machine_destroy(m);
    return end == MACHINE_FAULT ? EXIT_FAILURE : EXIT_SUCCESS;
}
