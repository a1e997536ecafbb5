/* A serial port: what the port itself (serial.c) and its back-ends share. A back-end is where the guest's
 * bytes go and input comes from; it knows no queue and no request. */
#pragma once

#include "devices/common/device.h"
#include "devices/serial/line.h"

struct serial;

struct serial_backend {
    const char *name;
    bool closed;      /* brings nothing in from outside */
    unsigned sandbox; /* enum sandbox_right */
    size_t size;      /* bytes of serial_backend_data(), zeroed */

    /* Checks options and descriptors; on failure negative errno after device_error(). */
    int (*open)(struct serial *s);
    /* The machine runs. May be NULL. */
    void (*start)(struct serial *s);
    /* Takes some of the guest's bytes: their number, or -EAGAIN, after which serial_writable() follows. Bytes
     * that have nowhere to go are taken. */
    ssize_t (*write)(struct serial *s, const uint8_t *data, size_t len);
    /* Input is wanted (there is room for LINE_READ bytes) or not. May be NULL. */
    void (*reading)(struct serial *s, bool on);
};

extern const struct serial_backend serial_stream, serial_pty, serial_unix, serial_file, serial_null;

struct device *serial_device(struct serial *s);
void *serial_backend_data(struct serial *s);

/* True while input is wanted. */
bool serial_wants_input(const struct serial *s);

/* Bytes for the guest, at most LINE_READ while input is wanted. They are kept until the guest takes them. */
void serial_input(struct serial *s, const uint8_t *data, size_t len);

/* The back-end takes bytes again. */
void serial_writable(struct serial *s);
