/* The flattened device tree of the board, as QEMU's `virt` has it for the devices that exist here. Knows the
 * memory map, no device. */
#pragma once

#include "cpu-core/board/board.h"

/* Physical map and interrupt wiring of QEMU 10's `virt` machine (hw/riscv/virt.c). Slots from the ninth on
 * continue behind the eighth: there is nothing on QEMU's board up to 0x10100000, and interrupts 36 to 59 are
 * free between its PCI and platform-bus ones. */
#define MAP_ROM       0x1000ull
#define MAP_ROM_SIZE  0xf000ull
#define MAP_SYSCON    0x100000ull
#define MAP_RTC       0x101000ull
#define MAP_CLINT     0x2000000ull
#define MAP_PLIC      0xc000000ull
#define MAP_UART      0x10000000ull
#define MAP_VIRTIO(i) (0x10001000ull + 0x1000ull * (i))
#define IRQ_VIRTIO(i) ((i) < BOARD_VIRTIO_SLOTS ? 1 + (i) : 36 + (i)-BOARD_VIRTIO_SLOTS)
#define IRQ_UART      10
#define IRQ_RTC       11

/* Builds the tree into *fdt (malloc, *len bytes). An initrd range of length 0 means none. -ENOMEM. */
int devicetree_build(const struct board_config *cfg, uint64_t initrd, uint64_t initrd_len, void **fdt,
                     size_t *len);

/* /chosen/rng-seed: four successive outputs of SplitMix64, big-endian, from the state seed ^
 * 0x726e672d73656564 ("rng-seed"). */
void devicetree_rng_seed(uint64_t seed, uint8_t out[32]);
