/* Private to the device runtime: its state, shared by handshake, service loop and reports. Knows no device
 * type. */
#pragma once

#include "devices/common/device.h"

#define DEVICE_ID_MAX 64

/* Where the process is in its life; docs/PROTOCOL.md has the messages. */
enum device_phase {
    PHASE_HANDSHAKE,
    PHASE_READY, /* waits for Run; the rings are not looked at */
    PHASE_RUNNING,
    PHASE_STOPPING, /* no new requests; waits for those in flight */
};

struct device {
    const struct device_ops *ops;
    void *data;
    const char *role;
    enum device_phase phase;
    struct device_description description;

    int control;
    struct control_message configure; /* kept: options and names point into it */

    uint32_t epoch;
    struct channel_back *back;
    int doorbell;
    struct request *pool, *free_requests;
    unsigned in_flight;
    uint64_t last_seq;
    bool barrier; /* `reset` waits until nothing is in flight */
    unsigned reset_queue;
    struct ring_request reset;
    uint64_t touched; /* arena bytes used since the last trim */

    uv_loop_t loop;
    uv_poll_t control_poll, doorbell_poll;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t heartbeat, stop_deadline;

    char failure[512];
    int failure_err;
    unsigned log_tokens, log_suppressed;
    uint64_t log_refilled_ms;
};

/* Hello … Linked: 0, -ECANCELED when told to stop instead, other negative errno with d->failure set. */
int device_handshake(struct device *d);
void device_say_ready(struct device *d);

/* Runs the event loop; it ends with the process. Negative errno, with d->failure set, if it cannot be set up.
 */
int device_loop_run(struct device *d);

/* Prepares the request pool for the queues of the channel. -ENOMEM. */
int device_serve_init(struct device *d);

/* Dispatches a bounded batch of requests. True if there may be more. */
bool device_serve(struct device *d);

/* Sends a control message, waiting for room in the socket up to a second. */
void device_send(struct device *d, const Cleave__Control *body);

/* Sends the recorded failure and ends the process. */
void device_abort(struct device *d) __attribute__((noreturn));

/* Answers Stop and ends the process. */
void device_stopped(struct device *d) __attribute__((noreturn));
