/* cleave-serial: the outside of the board's UART or of a virtio-console (Virtual I/O Device 1.2, 5.3). This
 * file is the port: requests to bytes and bytes to messages, complete and in order, and the terminals
 * attached beside the back-end. A slow back-end holds the guest's requests back; an attached terminal never
 * does. */
#include "devices/serial/serial.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    INPUT_SIZE = 16384, /* bytes kept for the guest */
    MESSAGE_MAX = 256,  /* bytes of one message to the guest */
    INPUT_SLOTS = 256,
    OUTPUT_SLOTS = 64,
    OUTPUT_REQUEST = 4096,
    OUTPUT_BYTES = 64 << 10,
    CONSOLE_REQUEST = 64 << 10,
    CONSOLE_BYTES = 256 << 10,
    ATTACHED_SIZE = 64 << 10, /* bytes kept for an attached terminal that does not read */
    DRAIN_MS = 1000,          /* at a clean stop */
};

struct serial {
    struct device *device;
    const struct serial_backend *backend;
    void *backend_data;
    unsigned input_queue, output_queue;

    /* Requests whose bytes the back-end has not taken yet, and how many of the first one's it has. */
    struct request *first, **last;
    uint32_t taken;
    bool blocked;

    uint8_t input[INPUT_SIZE];
    uint32_t input_head, input_len; /* a ring */

    struct line attached; /* fd -1: none */
    uint8_t pending[ATTACHED_SIZE];
    uint32_t npending;
};

static const struct serial_backend *const backends[] = {&serial_stream, &serial_pty, &serial_unix,
                                                        &serial_file, &serial_null};

struct device *serial_device(struct serial *s)
{
    return s->device;
}

void *serial_backend_data(struct serial *s)
{
    return s->backend_data;
}

/* Input */

bool serial_wants_input(const struct serial *s)
{
    return INPUT_SIZE - s->input_len >= 2 * LINE_READ;
}

static void update_reading(struct serial *s)
{
    bool on = serial_wants_input(s);

    if (s->backend->reading)
        s->backend->reading(s, on);
    if (s->attached.fd >= 0)
        line_reading(&s->attached, on);
}

/* Hands over as much as there is room for. */
static void flush_input(struct serial *s)
{
    while (s->input_len) {
        uint32_t n = s->input_len < MESSAGE_MAX ? s->input_len : MESSAGE_MAX;
        if (n > INPUT_SIZE - s->input_head)
            n = INPUT_SIZE - s->input_head;
        if (device_event(s->device, s->input_queue, s->input + s->input_head, n) < 0)
            return;
        s->input_head = (s->input_head + n) % INPUT_SIZE;
        s->input_len -= n;
    }
}

void serial_input(struct serial *s, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        s->input[(s->input_head + s->input_len + i) % INPUT_SIZE] = data[i];
    s->input_len += (uint32_t)len;
    flush_input(s);
    if (!serial_wants_input(s))
        update_reading(s);
}

static void port_room(struct device *d)
{
    struct serial *s = device_data(d);

    flush_input(s);
    update_reading(s);
}

/* The attached terminal */

static void detach(struct serial *s)
{
    line_close(&s->attached);
    s->npending = 0;
}

static void write_attached(struct serial *s)
{
    while (s->npending && !s->attached.blocked) {
        ssize_t n = line_write(&s->attached, s->pending, s->npending);
        if (n == -EAGAIN)
            return;
        if (n < 0) {
            detach(s);
            return;
        }
        s->npending -= (uint32_t)n;
        memmove(s->pending, s->pending + n, s->npending);
    }
}

static void copy_to_attached(struct serial *s, const uint8_t *data, uint32_t len)
{
    if (s->attached.fd < 0)
        return;
    uint32_t n = len < ATTACHED_SIZE - s->npending ? len : ATTACHED_SIZE - s->npending;
    memcpy(s->pending + s->npending, data, n);
    s->npending += n;
    write_attached(s);
}

static void attached_input(struct line *l, const uint8_t *data, size_t len)
{
    serial_input(l->owner, data, len);
}

static void attached_writable(struct line *l)
{
    write_attached(l->owner);
}

static void attached_ended(struct line *l)
{
    detach(l->owner);
}

static const struct line_events attached_events = {attached_input, attached_writable, attached_ended};

static int port_command(struct device *d, const char *verb, struct control_message *m, char *text,
                        size_t textlen)
{
    struct serial *s = device_data(d);

    if (strcmp(verb, "attach"))
        return -EOPNOTSUPP;
    if (m->nfds != 1 || m->fds[0] < 0)
        return -EINVAL;
    detach(s);
    int err = line_open(&s->attached, device_loop(d), m->fds[0], &attached_events, s);
    if (err < 0) {
        s->attached.fd = -1;
        return err;
    }
    m->fds[0] = -1;
    line_reading(&s->attached, serial_wants_input(s));
    return 0;
}

/* Output */

static void pump(struct serial *s)
{
    while (s->first && !s->blocked) {
        struct request *r = s->first;
        while (s->taken < r->in_len) {
            ssize_t n = s->backend->write(s, r->in + s->taken, r->in_len - s->taken);
            if (n == -EAGAIN) {
                s->blocked = true;
                return;
            }
            s->taken += (uint32_t)n;
        }
        s->first = r->next;
        if (!s->first)
            s->last = &s->first;
        s->taken = 0;
        device_complete(s->device, r, 0);
    }
}

void serial_writable(struct serial *s)
{
    s->blocked = false;
    pump(s);
}

static void port_request(struct device *d, struct request *r)
{
    struct serial *s = device_data(d);

    copy_to_attached(s, r->in, r->in_len);
    r->next = NULL;
    *s->last = r;
    s->last = &r->next;
    pump(s);
}

/* Set-up */

static int choose_backend(struct serial *s)
{
    const char *name = device_option(s->device, "backend");

    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (name && !strcmp(backends[i]->name, name)) {
            s->backend = backends[i];
            s->backend_data = calloc(1, s->backend->size ? s->backend->size : 1);
            return s->backend_data ? 0
                                   : device_error(s->device, ENOMEM, "no memory for serial port '%s'",
                                                  device_id(s->device));
        }
    return device_error(s->device, EINVAL, "unknown back-end '%s' of serial port '%s'", name ? name : "",
                        device_id(s->device));
}

static void describe(struct serial *s, bool console, struct device_description *desc)
{
    struct channel_queue input = {.kind = CHANNEL_INBOUND,
                                  .slots = INPUT_SLOTS,
                                  .max_response = MESSAGE_MAX,
                                  .response_bytes = INPUT_SLOTS * 64},
                         output = {.kind = CHANNEL_REQUESTS,
                                   .slots = OUTPUT_SLOTS,
                                   .max_request = console ? CONSOLE_REQUEST : OUTPUT_REQUEST,
                                   .request_bytes = console ? CONSOLE_BYTES : OUTPUT_BYTES};

    desc->virtio_id = console ? VIRTIO_ID_CONSOLE : 0;
    desc->config_len = console ? sizeof(struct virtio_console_config) : 0;
    desc->inbound_merge = console;
    desc->merge_feature = DEVICE_MERGE_ALWAYS;
    desc->merge_count_at = DEVICE_MERGE_NO_COUNT;
    desc->geometry.nqueues = 2;
    desc->geometry.queue[s->input_queue] = input;
    desc->geometry.queue[s->output_queue] = output;
    desc->closed = s->backend->closed || device_option(s->device, "noinput");
    desc->record_requests = true;
    desc->backend = s->backend->name;
    desc->sandbox = s->backend->sandbox;
    desc->latency = (struct latency_model){.nrules = 1, .rule[0] = {.base_ns = 20000}};
}

static int port_configure(struct device *d, struct device_description *desc)
{
    struct serial *s = device_data(d);
    const char *type = device_option(d, "type");
    bool console = type && !strcmp(type, "console");

    s->device = d;
    s->last = &s->first;
    s->attached.fd = -1;
    if (!console && (!type || strcmp(type, "uart")))
        return device_error(d, EINVAL, "unknown type '%s' of serial port '%s'", type ? type : "",
                            device_id(d));
    s->input_queue = console ? 0 : 1;
    s->output_queue = console ? 1 : 0;
    int err = choose_backend(s);
    if (!err)
        err = s->backend->open(s);
    if (!err)
        describe(s, console, desc);
    return err;
}

static int port_run(struct device *d)
{
    struct serial *s = device_data(d);

    if (s->backend->start)
        s->backend->start(s);
    update_reading(s);
    return 0;
}

/* The back-end has everything by now; an attached terminal gets a moment to read its part. */
static void port_stop(struct device *d)
{
    struct serial *s = device_data(d);
    struct pollfd p = {.fd = s->attached.fd, .events = POLLOUT};

    while (s->npending && poll(&p, 1, DRAIN_MS) > 0) {
        s->attached.blocked = false;
        write_attached(s);
    }
}

static const struct device_ops ops = {
    .kind = "serial",
    .size = sizeof(struct serial),
    .configure = port_configure,
    .run = port_run,
    .request = port_request,
    .command = port_command,
    .room = port_room,
    .stop = port_stop,
};

int main(int argc, char **argv)
{
    return device_main(argc, argv, &ops);
}
