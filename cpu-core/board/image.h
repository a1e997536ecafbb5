/* Boot images: recognises their formats and puts them into guest memory. Knows formats and RAM, and not what
 * an image is for. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct mmu;

enum image_format {
    IMAGE_NONE,
    IMAGE_ELF,   /* 64-bit little-endian RISC-V, loaded at its physical addresses */
    IMAGE_LINUX, /* RISC-V boot image (Linux Documentation/arch/riscv/boot-image-header.rst), with or without
                    EFI stub */
    IMAGE_GZIP,  /* of an IMAGE_LINUX */
    IMAGE_FLAT,  /* instructions from the first byte on */
};

/* An image that passed the checks of its format. The bytes are borrowed. */
struct image {
    enum image_format format;
    const uint8_t *data;
    size_t len;
    uint64_t low, high, entry; /* ELF: physical range with bss, entry point. Others: 0, size in memory, 0,
                                  relative to where they go */
};

/* Recognises an image. A flat one is accepted only if it can be a program: it does not look like text, and,
 * with `strict`, its first instruction is one of those that boot code begins with (jal, auipc, lui, csr
 * access, li, mv and their compressed forms). Reasons, for the caller to put the name of the image before:
 * "empty file", "truncated ELF", … */
int image_open(struct image *img, const uint8_t *data, size_t len, int strict, char *err, size_t errlen);

/* Loads it: an ELF to its own addresses, anything else to `base`; *end receives the first address after it,
 * bss included. -EINVAL with the reason if it would reach `limit` or leave memory, or if compressed data is
 * bad. */
int image_load(const struct image *img, struct mmu *m, uint64_t base, uint64_t limit, uint64_t *end,
               char *err, size_t errlen);
