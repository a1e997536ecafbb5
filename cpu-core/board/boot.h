/* The boot protocol of QEMU's `virt` machine: where images go, what the reset vector says. Knows images and
 * the device tree; no register-level device. */
#pragma once

#include "cpu-core/board/board.h"
#include "cpu-core/board/image.h"

/* What is decided once, at power-on; every boot repeats it. */
struct boot {
    struct image bios, kernel; /* IMAGE_NONE if absent */
    const uint8_t *initrd;
    size_t initrd_len;
    uint64_t start;       /* where the reset vector jumps to */
    uint64_t next;        /* where the firmware goes next; 0 without a kernel */
    uint64_t kernel_base; /* of a kernel that is not an ELF */
    uint64_t initrd_at, fdt_at;
    uint64_t bios_limit, kernel_limit; /* first address that the image must not reach */
    void *fdt;
    size_t fdt_len;
    uint8_t rom[0x1000]; /* reset vector and fw_dynamic information, at BOARD_RESET_PC */
};

/* Checks the images and lays them out as QEMU 10 does: firmware at the start of memory; kernel at the next
 * multiple of 2 MiB, or at the start of memory without firmware; initrd half the memory, at most 512 MiB,
 * above the kernel; device tree at the highest multiple of 2 MiB at which it fits. -EINVAL with the reason,
 * the bad object's name first, or -ENOMEM. */
int boot_plan(struct boot *b, const struct board_config *cfg, char *err, size_t errlen);
void boot_release(struct boot *b);

/* Puts everything into memory. Other memory keeps its contents. */
int boot_load(const struct boot *b, struct mmu *m, char *err, size_t errlen);
