/* The crossing layer: the only code of cpu-core that touches rings. It stamps, orders and journals every message between the
 * machine and the device processes, keeps the private in-flight table, and hands what comes in to a front-end (virtio transport, UART).
 * Knows no device type and no guest memory. */
#pragma once

#include "ipc/channel.h"
#include "ipc/crossing.h"

#include <stdbool.h>
#include <stdint.h>

struct vclock;
struct state_io;
struct crossings; /* all links of a machine and its journal */
struct link;      /* one device */

/* A front-end's side of a link. All calls happen between steps, at a position, on the vcpu's one thread. */
struct link_sink {
    /* The request in `slot` of `queue` was answered: `len` bytes of response in private memory, valid during the call. `failed`: the device
     * process could not serve it (the front-end reports a device error). The slot is free afterwards. */
    void (*completed)(void *front, unsigned queue, unsigned slot, const uint8_t *data, uint32_t len, bool failed);
    /* True if the guest can take an inbound message of `len` bytes on `queue` now; a function of guest state. */
    bool (*room)(void *front, unsigned queue, uint32_t len);
    /* Takes the message; room() was just true. */
    void (*received)(void *front, unsigned queue, const uint8_t *data, uint32_t len);
    /* The configuration bytes changed (CONFIG crossing). */
    void (*config)(void *front, const uint8_t *config, uint32_t len);
};

/* Admission: reserves a slot and arena space for a request of `req_len` readable and `resp_cap` writable bytes. Returns the
 * slot (0..slots-1) or -ENOSPC: the chain stays in the available ring until a delivery makes room. -EMSGSIZE: never fits (the
 * front-end reports a device error). A function of guest state alone. */
int link_reserve(struct link *l, unsigned queue, uint32_t req_len, uint32_t resp_cap);

/* Where the readable bytes of the reserved request go: req_len bytes of the request arena. */
uint8_t *link_request_bytes(struct link *l, unsigned queue, unsigned slot);

/* Submits the reserved request: numbers, journals and publishes it. link_kick() rings the doorbell once after a batch. */
void link_submit(struct link *l, unsigned queue, unsigned slot);
void link_kick(struct link *l);

/* The guest resets the device: in-flight requests become orphans, whose completions are swallowed; their slots are free at once for the new
 * generation. Waits (host time only, invisible to the guest) if the orphans of an earlier reset are not finished. */
void link_reset(struct link *l);

/* Asks for inbound messages again after the guest made room (rx buffers posted, FIFO read). Takes effect at slice ends. */
void link_room_made(struct link *l, unsigned queue);

unsigned link_slots(const struct link *l, unsigned queue);
