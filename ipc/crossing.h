/* The crossing: a message between the vcpu process and anything else, as the journal sees it. Knows neither
 * rings nor devices. */
#pragma once

#include <stdint.h>

enum crossing_direction { CROSSING_IN = 1, CROSSING_OUT = 2 };

enum crossing_kind {
    CROSSING_COMPLETION = 1, /* in: body is the data scattered to the guest */
    CROSSING_EVENT,          /* in: packet, serial or input bytes */
    CROSSING_CONFIG,         /* in: new configuration bytes of a device */
    CROSSING_BLOB,           /* in: new device state */
    CROSSING_CLOCK,          /* in: n0, t0, rate */
    CROSSING_CONTROL,        /* in: pause, resume, reset, stop; device death and return */
    CROSSING_REQUEST,        /* out: body is the request */
    CROSSING_RESET,          /* out: device reset by the guest */
    CROSSING_EXIT,           /* out: power-off, reboot, fail */
};

/* Host-endian in memory; the log's format is its own. */
struct crossing {
    uint64_t seq;     /* counts from 1 */
    uint64_t icount;  /* position: completed steps */
    uint64_t pc;      /* of the current hart */
    uint64_t request; /* seq of the ring request that it is or answers, or 0 */
    uint64_t arg;     /* kind-specific: status, generation */
    uint16_t device;  /* index in the fixed device order; 0xffff for the machine itself */
    uint8_t queue;
    uint8_t direction; /* enum crossing_direction */
    uint8_t kind;      /* enum crossing_kind */
    uint8_t reserved[3];
    uint32_t len;    /* bytes of the body */
    uint64_t digest; /* XXH3-64 of the body */
};

/* Where the first `len` bytes of a body are besides: in the immutable file that the crossing's device reads.
 */
struct crossing_file {
    uint64_t offset;
    uint32_t len;
};

/* Where crossings go, in order. `append` is called once for each, with the private copy of the body; `file`
 * is NULL for most. Never fails the guest: a journal that cannot take an entry deals with it by its own
 * policy. */
struct journal_ops {
    void (*append)(void *journal, const struct crossing *c, const void *body,
                   const struct crossing_file *file);
};
