/* The broker process: its first message says whether it serves a log or records one. */
#include "ipc/sandbox.h"
#include "replay-broker/recording.h"
#include "replay-broker/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* What it serves from is open; what it sends are memory files. */
static int serve_confined(struct control_message *first)
{
    const char *wanted = first->body->configure->sandbox;
    int err = strcmp(wanted, "off") ? sandbox_enter(SANDBOX_FILES | SANDBOX_MEMORY) : 0;
    if (err && !strcmp(wanted, "require")) {
        fprintf(stderr, "cannot enter a sandbox: %s\n", strerror(-err));
        control_release(first);
        return err;
    }
    return serve(CONTROL_CHILD_FD, first);
}

int main(int argc, char **argv)
{
    struct control_message msg;
    prctl(PR_SET_NAME, argc > 1 ? argv[1] : "broker");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of the write */
    int err = send_hello(CONTROL_CHILD_FD);
    if (!err)
        err = control_wait(CONTROL_CHILD_FD, STEP_TIMEOUT_MS, &msg);
    if (err)
        return EXIT_FAILURE;
    switch (msg.body->body_case) {
    case CLEAVE__CONTROL__BODY_CONFIGURE:
        err = serve_confined(&msg);
        break;
    case CLEAVE__CONTROL__BODY_RECORD:
        err = recording(CONTROL_CHILD_FD, &msg);
        break;
    default:
        control_release(&msg);
        err = -EPROTO;
    }
    return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
