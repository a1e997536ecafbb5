/* Runs a real device executable and plays the supervisor and the vcpu towards it: the handshake, requests
 * with answers, events, reset, commands, stop, kill. Whatever breaks the protocol fails the test that runs.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ipc/channel.h"
#include "ipc/control.h"

#include <sys/types.h>

/* How long the harness waits for a device before it takes it for hung. */
#define HARNESS_PATIENCE_MS 30000

struct harness_option {
    const char *key, *value;
};

struct harness_fd {
    const char *name;
    int fd; /* stays the caller's */
};

struct harness_config {
    const char *executable;
    const char *id;
    uint64_t seed;
    uint32_t index;
    struct harness_option options[16]; /* up to the first without a key */
    struct harness_fd fds[CONTROL_MAX_FDS];
};

struct harness_slot {
    bool used, answered;
    struct ring_request request;
    struct ring_completion completion;
};

struct harness {
    pid_t pid;
    int control;
    struct control_message describe; /* what the device says of itself: describe.body->describe */
    struct channel_front *front;
    uint32_t epoch;
    uint64_t seq, events_seen[CHANNEL_MAX_QUEUES];
    struct harness_slot *slots[CHANNEL_MAX_QUEUES];
    struct arena *requests[CHANNEL_MAX_QUEUES], *responses[CHANNEL_MAX_QUEUES];
    int out_fd, in_fd, device_doorbell, vcpu_doorbell;
    uint64_t features; /* put into every request; all that the device offers, to begin with */
    char failure[512]; /* text of the device's Failure */
    int failure_err;
    unsigned logs;
    char log[512];    /* the newest line */
    char notice[512]; /* the newest unasked DeviceReply */
};

/* Starts a device and runs the handshake up to Run. False if the device reported a failure (h->failure) and
 * ended. */
bool harness_start(struct harness *h, const struct harness_config *c);

/* The steps of it, for tests that stop half-way: the process with its Hello taken; Configure to Describe; the
 * channel to Ready; Run. */
void harness_spawn(struct harness *h, const struct harness_config *c);
bool harness_configure(struct harness *h, const struct harness_config *c);
void harness_link(struct harness *h);
void harness_run(struct harness *h);

/* Submits a request and returns its slot; harness_answer() waits for its completion and gives the response,
 * in place until harness_release(). */
unsigned harness_submit(struct harness *h, unsigned queue, const void *data, uint32_t len, uint32_t resp_cap);
const uint8_t *harness_answer(struct harness *h, unsigned queue, unsigned slot, uint32_t *len);
void harness_release(struct harness *h, unsigned queue, unsigned slot);
bool harness_answered(struct harness *h, unsigned queue, unsigned slot); /* without waiting */

/* Submit, wait, copy to `resp`, release. Returns the length of the response. */
uint32_t harness_request(struct harness *h, unsigned queue, const void *data, uint32_t len, void *resp,
                         uint32_t resp_cap);

/* Publishes an entry as it is. */
void harness_submit_raw(struct harness *h, unsigned queue, const struct ring_request *r);

/* The guest's reset: returns when the device has completed it. */
void harness_reset(struct harness *h);

/* Takes the next event: its length, or -1 after `timeout_ms` without one. */
int harness_event(struct harness *h, unsigned queue, void *data, uint32_t cap, int timeout_ms);

/* A command with its arguments (up to the first without a key) and perhaps a descriptor (-1 for none): err of
 * the reply. */
int harness_command(struct harness *h, const char *verb, const struct harness_option *args, int fd,
                    char *text, size_t textlen);

/* Takes control messages that have come; waits up to `timeout_ms` for the first. */
void harness_poll_control(struct harness *h, int timeout_ms);

/* Ends: Stop, Stopped and exit status 0; SIGKILL; the supervisor's death; or the end that a failed device
 * comes to by itself (status 1, h->failure set). */
void harness_stop(struct harness *h);
void harness_kill(struct harness *h);
void harness_abandon(
    struct harness *h); /* the supervisor dies: the device must end by itself, with status 1 */
void harness_expect_failure(struct harness *h);

/* Proportional set size of the device process in KiB; a check against a limit, which does not bind a process
 * under a sanitizer. */
unsigned harness_pss(const struct harness *h);
void harness_check_pss(const struct harness *h, unsigned limit);
