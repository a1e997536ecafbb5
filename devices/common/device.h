/* The device runtime: everything that the device processes have in common (handshake, rings, event loop,
 * reset order, stop). A device kind supplies a struct device_ops and a main() that calls device_main(). Knows
 * no device type. */
#pragma once

#include "ipc/channel.h"
#include "ipc/control.h"
#include "ipc/latency.h"
#include "ipc/sandbox.h"
#include "ipc/schedule.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct device;

/* A request being served. The input is a private copy or the read-only request arena: it does not change
 * while served. Owned by the runtime; valid until device_complete(). */
struct request {
    uint64_t seq;
    unsigned queue;
    const uint8_t *in; /* what the guest wrote: driver-readable bytes */
    uint32_t in_len;
    uint8_t *out; /* space for the driver-writable bytes */
    uint32_t out_cap;
    uint64_t features;    /* what the driver accepted of the device's */
    void *user;           /* the device kind's */
    struct request *next; /* the device kind's, for its queues */
    /* runtime-private */
    uint8_t *blob;
    uint32_t blob_cap;
    uint16_t slot;
};

#define DEVICE_MERGE_ALWAYS   UINT32_MAX
#define DEVICE_MERGE_NO_COUNT UINT32_MAX

/* What the kind tells about itself after configure(); copied by the runtime. */
struct device_description {
    uint32_t virtio_id;
    uint64_t features;
    uint8_t config[CHANNEL_MAX_CONFIG];
    uint32_t config_len;
    uint32_t selector_len, selector_data, selector_size_at; /* see Describe in control.proto */
    struct device_config_row {
        uint32_t selector;
        uint8_t data[128];
        uint32_t len;
    } rows[48];
    unsigned nrows;
    struct channel_geometry geometry;
    uint8_t blob[1024]; /* initial device state */
    uint32_t blob_len;
    /* Messages of inbound queues may span several guest buffers when the driver accepted feature bit
     * merge_feature (DEVICE_MERGE_ALWAYS: in any case); their number is written as 16 bits at merge_count_at
     * of the first (virtio-net's num_buffers; DEVICE_MERGE_NO_COUNT: nowhere, the queue is a byte stream). */
    bool inbound_merge;
    uint32_t merge_feature, merge_count_at;
    /* Messages due at virtual times, ascending in ns; owned by the kind, read once after configure(). */
    const struct schedule_entry *schedule;
    unsigned nschedule;
    bool closed;
    bool record_requests; /* a recording keeps the bytes of requests, not only their digest */
    bool file;            /* device_complete_file() is used */
    const char *backend;
    unsigned sandbox; /* enum sandbox_right: what it does when it runs */
    /* Fixed timing; the kind's defaults, which the options `latency`, `bandwidth` and `jitter` replace in
     * every rule. The runtime sets the seed. */
    struct latency_model latency;
};

struct device_ops {
    const char *kind; /* "block", "net", … */
    size_t size;      /* bytes of the kind's own data, zeroed, at device_data() */

    /* Parses options, takes descriptors out of `fds`, checks the back-end and fills the description. On
     * failure returns negative errno after device_error(). */
    int (*configure)(struct device *d, struct device_description *desc);
    /* The machine runs: start reading from outside. 0, or negative errno after device_error(). May be NULL.
     */
    int (*run)(struct device *d);
    /* A request; complete it now or later, on the loop's thread. Requests of a queue arrive in submission
     * order. */
    void (*request)(struct device *d, struct request *r);
    /* The guest reset the device: called when every earlier request has been completed. May be NULL. */
    void (*reset)(struct device *d);
    /* A command from the supervisor: 0 or negative errno, with text for the reply. fds in m may be taken. May
     * be NULL. */
    int (*command)(struct device *d, const char *verb, struct control_message *m, char *text, size_t textlen);
    /* The vcpu took events: there is room again. May be NULL. */
    void (*room)(struct device *d);
    /* Clean stop: no request comes any more and those in flight have been completed, unless that took over
     * two seconds. Write out what the back-end still holds and close it. May be NULL. */
    void (*stop)(struct device *d);
};

/* Runs the device process to its end; returns the exit status. argv[1] is the role shown in the command line
 * ("block.vda"). */
int device_main(int argc, char **argv, const struct device_ops *ops);

void *device_data(struct device *d);
uv_loop_t *device_loop(struct device *d);
const char *device_id(const struct device *d);
uint64_t device_seed(const struct device *d); /* differs by VM seed and device index */

/* Option `key` of the configuration, or NULL; its index-th occurrence, from 0, of a repeatable one; a
 * descriptor that came with it, by name, now owned by the caller, or -1. */
const char *device_option(const struct device *d, const char *key);
const char *device_option_at(const struct device *d, const char *key, unsigned index);
int device_take_fd(struct device *d, const char *name);

/* Completes a request with `len` bytes in r->out, every one of them written; r is gone afterwards. With
 * `blob` the device's state changes along with it. */
void device_complete(struct device *d, struct request *r, uint32_t len);
void device_complete_blob(struct device *d, struct request *r, uint32_t len, const void *blob,
                          uint32_t blob_len);
/* The same for a response whose first file_len bytes are those at file_off of the immutable file behind the
 * device. */
void device_complete_file(struct device *d, struct request *r, uint32_t len, uint64_t file_off,
                          uint32_t file_len);

/* Sends an unsolicited message. -ENOSPC without room (the caller keeps it or drops it with device_dropped()),
 * -EMSGSIZE. */
int device_event(struct device *d, unsigned queue, const void *data, uint32_t len);
/* The same for a message that answers request `r` of a deterministic responder; call it before completing r.
 */
int device_answer(struct device *d, const struct request *r, unsigned queue, const void *data, uint32_t len);
void device_dropped(struct device *d, uint64_t count);

/* Records why configure(), run() or the back-end failed, as text that names the object; goes to the
 * supervisor as the process's Failure. Returns -err. */
int device_error(struct device *d, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Reports a failure and ends the process, without a clean stop. */
void device_fail(struct device *d, int err, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
/* Tells the supervisor something unasked: a DeviceReply with tag 0 ("quit" for the escape sequence of the
 * terminal). */
void device_notify(struct device *d, const char *text);
/* A line for the VM's log, without newline. At most ten a second reach it, and how many did not is said. */
void device_log(struct device *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
