/* cleave-input: a virtio-input keyboard or absolute pointer (Virtual I/O Device 1.2, 5.8). Its events come
 * from commands of the supervisor, or all from a script with virtual times, which the vcpu delivers. */
#include "devices/common/device.h"
#include "devices/input/events.h"
#include "devices/input/keys.h"
#include "devices/input/script.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE_EVENT, QUEUE_STATUS, QUEUES };

enum {
    EVENT_BYTES = sizeof(struct virtio_input_event),
    EVENT_SLOTS = 1024,
    STATUS_SLOTS = 64,
    STATUS_REQUEST = 64,
    PENDING_MAX = 65536, /* events of commands that the guest has not taken */
    BUS_VIRTUAL_ID = 6,
};

struct input {
    struct device *device;
    enum events_kind kind;
    struct events pending; /* from `sent` on not taken yet */
    unsigned sent;
    struct script script;
    struct schedule_entry *schedule;
};

/* Commands */

static void flush(struct input *in)
{
    while (in->sent < in->pending.count &&
           device_event(in->device, QUEUE_EVENT, &in->pending.list[in->sent], EVENT_BYTES) == 0)
        in->sent++;
    if (in->sent < in->pending.count / 2)
        return;
    in->pending.count -= in->sent;
    memmove(in->pending.list, in->pending.list + in->sent, in->pending.count * sizeof *in->pending.list);
    in->sent = 0;
}

static int number_argument(const Cleave__DeviceCommand *c, const char *key, long min, long max, long *value,
                           char *text, size_t textlen)
{
    const char *s = control_value(c->args, c->n_args, key);

    if (!s || events_number(s, min, max, value))
        return 0;
    snprintf(text, textlen, "%s is a number from %ld to %ld, not '%s'", key, min, max, s);
    return -EINVAL;
}

static int pointer_command(struct input *in, const Cleave__DeviceCommand *c, char *text, size_t textlen)
{
    long x = -1, y = -1, buttons = 0, wheel = 0;
    int err = number_argument(c, "x", 0, EVENTS_POINTER_MAX, &x, text, textlen);

    if (!err)
        err = number_argument(c, "y", 0, EVENTS_POINTER_MAX, &y, text, textlen);
    if (!err)
        err = number_argument(c, "buttons", 0, 7, &buttons, text, textlen);
    if (!err)
        err = number_argument(c, "wheel", -100, 100, &wheel, text, textlen);
    if (!err && (x < 0 || y < 0)) {
        snprintf(text, textlen, "a pointer command has x and y");
        err = -EINVAL;
    }
    return err ? err : events_pointer(&in->pending, (int)x, (int)y, (unsigned)buttons, (int)wheel);
}

static int string_command(struct input *in, const Cleave__DeviceCommand *c, bool keys, char *text,
                          size_t textlen)
{
    const char *s = control_value(c->args, c->n_args, keys ? "keys" : "text");

    if (!s) {
        snprintf(text, textlen, "%s is missing", keys ? "keys" : "text");
        return -EINVAL;
    }
    return keys ? events_keys(&in->pending, s, text, textlen) : events_text(&in->pending, s, text, textlen);
}

static int input_command(struct device *d, const char *verb, struct control_message *m, char *text,
                         size_t textlen)
{
    struct input *in = device_data(d);
    const Cleave__DeviceCommand *c = m->body->device_command;
    bool keys = !strcmp(verb, "key"), pointer = !strcmp(verb, "pointer");
    unsigned before = in->pending.count;

    if (!keys && !pointer && strcmp(verb, "text"))
        return -EOPNOTSUPP;
    if (pointer != (in->kind == EVENTS_POINTER)) {
        snprintf(text, textlen, "input device '%s' is a %s", device_id(d), pointer ? "keyboard" : "pointer");
        return -EOPNOTSUPP;
    }
    if (in->schedule) {
        snprintf(text, textlen, "input device '%s' follows its script", device_id(d));
        return -EOPNOTSUPP;
    }
    int err = pointer ? pointer_command(in, c, text, textlen) : string_command(in, c, keys, text, textlen);
    if (!err && in->pending.count - in->sent > PENDING_MAX) {
        in->pending.count = before;
        snprintf(text, textlen, "the guest does not take its input");
        err = -EAGAIN;
    }
    flush(in);
    return err;
}

static void input_room(struct device *d)
{
    flush(device_data(d));
}

/* LEDs and the like: there is nothing to light. */
static void input_request(struct device *d, struct request *r)
{
    device_complete(d, r, 0);
}

/* Description */

static struct device_config_row *add_row(struct device_description *desc, unsigned select, unsigned subsel,
                                         const void *data, uint32_t len)
{
    struct device_config_row *row = &desc->rows[desc->nrows++];

    row->selector = select | subsel << 8;
    row->len = len;
    if (data)
        memcpy(row->data, data, len);
    return row;
}

static void set_bit(struct device_config_row *row, unsigned bit)
{
    row->data[bit / 8] |= (uint8_t)(1u << bit % 8);
    if (row->len <= bit / 8)
        row->len = bit / 8 + 1;
}

static void add_identity(struct device_description *desc, const char *name, const char *serial,
                         uint16_t product)
{
    struct virtio_input_devids ids = {
        .bustype = BUS_VIRTUAL_ID, .vendor = 0x0627, .product = product, .version = 1};

    add_row(desc, VIRTIO_INPUT_CFG_ID_NAME, 0, name, (uint32_t)strlen(name));
    add_row(desc, VIRTIO_INPUT_CFG_ID_SERIAL, 0, serial, (uint32_t)strnlen(serial, 64));
    add_row(desc, VIRTIO_INPUT_CFG_ID_DEVIDS, 0, &ids, sizeof ids);
}

static void describe_keyboard(struct input *in, struct device_description *desc)
{
    add_identity(desc, "cleave keyboard", device_id(in->device), 1);
    struct device_config_row *keys = add_row(desc, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, NULL, 0);
    for (unsigned code = 0; code < KEYS_END; code++)
        if (keys_exists(code))
            set_bit(keys, code);
    struct device_config_row *leds = add_row(desc, VIRTIO_INPUT_CFG_EV_BITS, EV_LED, NULL, 0);
    set_bit(leds, LED_NUML);
    set_bit(leds, LED_CAPSL);
    set_bit(leds, LED_SCROLLL);
    add_row(desc, VIRTIO_INPUT_CFG_EV_BITS, EV_REP, "", 1);
}

static void describe_pointer(struct input *in, struct device_description *desc)
{
    static const struct virtio_input_absinfo range = {.max = EVENTS_POINTER_MAX};

    add_identity(desc, "cleave pointer", device_id(in->device), 3);
    struct device_config_row *keys = add_row(desc, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, NULL, 0);
    set_bit(keys, BTN_LEFT);
    set_bit(keys, BTN_RIGHT);
    set_bit(keys, BTN_MIDDLE);
    set_bit(add_row(desc, VIRTIO_INPUT_CFG_EV_BITS, EV_REL, NULL, 0), REL_WHEEL);
    struct device_config_row *axes = add_row(desc, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS, NULL, 0);
    set_bit(axes, ABS_X);
    set_bit(axes, ABS_Y);
    add_row(desc, VIRTIO_INPUT_CFG_ABS_INFO, ABS_X, &range, sizeof range);
    add_row(desc, VIRTIO_INPUT_CFG_ABS_INFO, ABS_Y, &range, sizeof range);
}

static void describe(struct input *in, struct device_description *desc)
{
    desc->virtio_id = VIRTIO_ID_INPUT;
    desc->config_len = sizeof(struct virtio_input_config);
    desc->selector_len = 2;
    desc->selector_size_at = offsetof(struct virtio_input_config, size);
    desc->selector_data = offsetof(struct virtio_input_config, u);
    if (in->kind == EVENTS_POINTER)
        describe_pointer(in, desc);
    else
        describe_keyboard(in, desc);
    desc->geometry =
        (struct channel_geometry){.nqueues = QUEUES,
                                  .queue = {
                                      [QUEUE_EVENT] = {.kind = CHANNEL_INBOUND,
                                                       .slots = EVENT_SLOTS,
                                                       .max_response = EVENT_BYTES,
                                                       .response_bytes = EVENT_SLOTS * CHANNEL_UNIT},
                                      [QUEUE_STATUS] = {.kind = CHANNEL_REQUESTS,
                                                        .slots = STATUS_SLOTS,
                                                        .max_request = STATUS_REQUEST,
                                                        .request_bytes = STATUS_SLOTS * STATUS_REQUEST},
                                  }};
    desc->closed = in->schedule;
    desc->backend = in->schedule ? "script" : "commands";
    desc->latency = (struct latency_model){.nrules = 1, .rule[0] = {.base_ns = 10000}};
}

static int read_script(struct input *in, struct device_description *desc)
{
    struct device *d = in->device;
    char text[320];
    int fd = device_take_fd(d, "script");

    if (fd < 0)
        return 0;
    int err = script_read(&in->script, fd, in->kind, text, sizeof text);
    close(fd);
    if (err)
        return device_error(d, -err, "script of input device '%s': %s", device_id(d), text);
    unsigned n = in->script.events.count;
    in->schedule = calloc(n + 1, sizeof *in->schedule);
    if (!in->schedule)
        return device_error(d, ENOMEM, "script of input device '%s': %s", device_id(d), strerror(ENOMEM));
    for (unsigned i = 0; i < n; i++)
        in->schedule[i] = (struct schedule_entry){
            .ns = in->script.ns[i],
            .queue = QUEUE_EVENT,
            .data = (const uint8_t *)&in->script.events.list[i],
            .len = EVENT_BYTES,
        };
    desc->schedule = in->schedule;
    desc->nschedule = n;
    return 0;
}

static int input_configure(struct device *d, struct device_description *desc)
{
    struct input *in = device_data(d);
    const char *type = device_option(d, "type");

    in->device = d;
    in->kind = type && !strcmp(type, "pointer") ? EVENTS_POINTER : EVENTS_KEYBOARD;
    if (in->kind == EVENTS_KEYBOARD && (!type || strcmp(type, "keyboard")))
        return device_error(d, EINVAL, "unknown type '%s' of input device '%s'", type ? type : "",
                            device_id(d));
    int err = read_script(in, desc);
    if (!err)
        describe(in, desc);
    return err;
}

static const struct device_ops ops = {
    .kind = "input",
    .size = sizeof(struct input),
    .configure = input_configure,
    .request = input_request,
    .command = input_command,
    .room = input_room,
};

int main(int argc, char **argv)
{
    return device_main(argc, argv, &ops);
}
