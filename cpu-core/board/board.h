/* QEMU's `virt` machine: memory map, interrupt wiring, boot protocol, device tree. Owns the register-level
 * devices (CLINT, PLIC, UART, RTC, syscon) and the virtio-mmio slots; what a device does lives in its
 * process, behind a link. Knows harts through their interrupt lines and the mmu for DMA; no engine, ring or
 * process. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/crossing/crossing.h"
#include "cpu-core/hart/hart.h"
#include "cpu-core/virtio/virtio.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vclock;
struct board;
struct state_io;

#define BOARD_RESET_PC     0x1000ull
#define BOARD_VIRTIO_SLOTS 8  /* at QEMU's addresses and interrupts */
#define BOARD_VIRTIO_MAX   32 /* the rest after them; see devicetree.h for the map */
#define BOARD_PLIC_NDEV    95

/* What the guest asked of the machine through syscon. */
enum board_request { BOARD_NONE, BOARD_POWEROFF, BOARD_REBOOT, BOARD_FAIL };

struct board_config {
    uint64_t memory; /* bytes, page multiple */
    unsigned cpus;   /* 1..HART_MAX */
    unsigned mmu_levels;
    unsigned slots; /* BOARD_VIRTIO_SLOTS..BOARD_VIRTIO_MAX */
    uint64_t seed;  /* of /chosen/rng-seed */
    uint64_t rtc_start_ns;
    const char *append; /* NULL for none */
    /* Boot images, private copies that outlive the board; NULL where absent. */
    const uint8_t *bios, *kernel, *initrd;
    size_t bios_len, kernel_len, initrd_len;
    const uint8_t
        *device_tree; /* flattened, instead of the one that describes the board; NULL for that one */
    size_t device_tree_len;
};

/* Hooks into the machine loop. */
struct board_hooks {
    void (*ipi)(void *arg, struct hart *from,
                unsigned to); /* a hart wrote another hart's msip: its quantum ends */
    void (*request)(void *arg, enum board_request what, uint32_t status);
    void *arg;
};

/* Builds the board around wired harts and fills `bus`, which the mmu already refers to. -EINVAL with a
 * message in `err` that names the bad input ("kernel: not an ELF or Image"). */
int board_create(struct board **b, const struct board_config *cfg, struct bus *bus, struct mmu *mmu,
                 struct vclock *clock, struct hart *const *harts, const struct board_hooks *hooks, char *err,
                 size_t errlen);
void board_destroy(struct board *b);

/* Power-on and reboot: resets devices and harts, loads firmware, kernel, initrd, device tree and reset vector
 * over RAM, whose other contents stay, as on QEMU. Between slices only; the caller flushes its engine. */
int board_boot(struct board *b, char *err, size_t errlen);

/* The hart the engine is about to run: MMIO handlers attribute accesses to it. Its step accounting is the
 * board's clock, also between slices: hart_icount() of the hart that ran last is the machine's position
 * whenever board code runs. */
void board_set_current(struct board *b, struct hart *h);

struct virtio *board_slot(struct board *b, unsigned slot);

/* UART: transmitted bytes go to queue 0 of the link (requests, response 0 bytes), received ones come from
 * queue 1 (inbound). */
void board_uart_attach(struct board *b, struct link *l);
extern const struct link_sink board_uart_sink; /* front = struct board */

/* Hands output that the UART has gathered to the link at once, before the machine stops; power-off, reboot
 * and fail do so by themselves. False if some must wait for a completion: call again after one. */
bool board_flush(struct board *b);

/* The flattened device tree, for tests and the log header. */
const void *board_fdt(const struct board *b, size_t *len);

/* Visits every guest-visible field of the register-level devices and slots in the documented order. */
void board_state(struct board *b, struct state_io *io);
