/* The broker process: what it is to do comes with its first Configure. Must not outlive its supervisor. */
#include "replay-broker/serve.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define STEP_TIMEOUT_MS 30000

static int send_hello(int control)
{
    Cleave__Hello hello = CLEAVE__HELLO__INIT;
    hello.major = CONTROL_MAJOR;
    hello.minor = CONTROL_MINOR;
    hello.kind = (char *)"broker";
    hello.pid = (uint32_t)getpid();
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_HELLO;
    body.hello = &hello;
    return control_send(control, &body, NULL, 0);
}

int main(int argc, char **argv)
{
    struct control_message msg;
    prctl(PR_SET_NAME, argc > 1 ? argv[1] : "broker");
    signal(SIGPIPE, SIG_IGN);
    int err = send_hello(CONTROL_CHILD_FD);
    if (!err)
        err = control_expect(CONTROL_CHILD_FD, CLEAVE__CONTROL__BODY_CONFIGURE, STEP_TIMEOUT_MS, &msg);
    if (!err)
        err = serve(CONTROL_CHILD_FD, &msg);
    return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
