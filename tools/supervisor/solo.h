/* One device process with nobody but this process behind it: both peers' sides of its protocol, one request
 * after the other. Knows no device kind and no trace. */
#pragma once

#include "ipc/channel.h"
#include "ipc/control.h"
#include "tools/supervisor/failure.h"
#include "tools/supervisor/spawn.h"

struct solo_slot {
    bool used, answered;
    struct ring_request request;
    struct ring_completion completion;
};

/* A message to the guest that answers a request: only length and digest are kept. */
struct solo_message {
    struct solo_message *next;
    uint64_t cause; /* the request */
    uint64_t digest;
    uint32_t len;
};

struct solo {
    struct spawned process;
    const char *role;
    bool foreground; /* it writes to this process's stderr itself */
    int patience_ms; /* for a message or an answer; negative: for ever */
    struct control_message describe;
    struct channel_front *front;
    int out_fd, in_fd, device_doorbell, vcpu_doorbell;
    uint64_t reset_seq; /* of the last reset */
    bool reset_done;
    struct solo_slot *slots[CHANNEL_MAX_QUEUES];
    struct arena *requests[CHANNEL_MAX_QUEUES], *responses[CHANNEL_MAX_QUEUES];
    struct {
        uint64_t seq; /* of the last event */
        struct solo_message *first, **last;
    } messages[CHANNEL_MAX_QUEUES];
    void (*said)(const char *role, const char *text);
};

/* Starts argv (its control socket is fd 3), and goes through the handshake to Run. The caller has set role,
 * foreground (it has this process's terminal), patience_ms and said; the rest is zero. The descriptors, which
 * c names, stay the caller's. On failure the failure is filled in and s is to be released as after success.
 */
int solo_start(struct solo *s, char *const argv[], const Cleave__Configure *c, const int *fds,
               struct failure *f);
void solo_release(struct solo *s);

/* Sends a request, numbered and sized as it was recorded. */
int solo_submit(struct solo *s, unsigned queue, uint64_t seq, uint64_t features, const void *data,
                uint32_t len, uint32_t resp_cap, struct failure *f);

/* The request's slot once it is answered, or NULL with the failure: dead, silent, or against the protocol.
 * -ETIMEDOUT in *err for a silent one. solo_free() ends the use of the slot and of the answer's bytes. */
struct solo_slot *solo_answer(struct solo *s, unsigned queue, uint64_t seq, int *err, struct failure *f);
const uint8_t *solo_bytes(const struct solo *s, unsigned queue, const struct solo_slot *slot);
const uint8_t *solo_blob(const struct solo *s, unsigned queue, const struct solo_slot *slot);
void solo_free(struct solo *s, unsigned queue, struct solo_slot *slot);

/* Takes the oldest message of an inbound queue that answers request `cause`, and forgets those that answer
 * earlier ones: 1 with *m filled in; 0 if the request is answered without one; negative as solo_answer()'s
 * *err.
 */
int solo_take_message(struct solo *s, unsigned queue, uint64_t cause, struct solo_message *m,
                      struct failure *f);

/* A device reset: everything in flight is finished and forgotten when it returns. */
int solo_reset(struct solo *s, uint64_t seq, uint64_t generation, struct failure *f);
