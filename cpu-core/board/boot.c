/* Layout and loading of a boot. Must not know harts or devices. */
#include "cpu-core/board/boot.h"

#include "cpu-core/board/devicetree.h"
#include "cpu-core/mmu/mmu.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)

/* struct fw_dynamic_info of OpenSBI (include/sbi/fw_dynamic.h), version 2. */
struct fw_dynamic_info {
    uint64_t magic, version, next_addr, next_mode, options, boot_hart;
};
enum { FW_DYNAMIC_VERSION = 2, FW_DYNAMIC_MODE_S = 1 };
#define FW_DYNAMIC_MAGIC 0x4942534full /* "OSBI" */

__attribute__((format(printf, 3, 4))) static int bad(char *err, size_t errlen, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

static uint64_t align_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) & ~(to - 1);
}

static int open_named(struct image *img, const uint8_t *data, size_t len, const char *name, char *err,
                      size_t errlen)
{
    char why[160];
    if (!data)
        return 0;
    int e = image_open(img, data, len, !strcmp(name, "kernel"), why, sizeof why);
    return e ? bad(err, errlen, "%s: %s", name, why) : 0;
}

static int open_images(struct boot *b, const struct board_config *cfg, char *err, size_t errlen)
{
    int e = open_named(&b->bios, cfg->bios, cfg->bios_len, "bios", err, errlen);
    if (!e)
        e = open_named(&b->kernel, cfg->kernel, cfg->kernel_len, "kernel", err, errlen);
    if (e)
        return e;
    if (!cfg->bios && !cfg->kernel)
        return bad(err, errlen, "kernel: neither a kernel nor a bios was given");
    if (b->bios.format == IMAGE_GZIP || b->bios.format == IMAGE_LINUX)
        return bad(err, errlen, "bios: not an ELF or flat program");
    if (cfg->initrd && !cfg->initrd_len)
        return bad(err, errlen, "initrd: empty file");
    if (cfg->initrd && !cfg->kernel)
        return bad(err, errlen, "initrd: there is no kernel to take it");
    b->initrd = cfg->initrd;
    b->initrd_len = cfg->initrd ? cfg->initrd_len : 0;
    return 0;
}

/* Addresses that follow from the images; returns the lowest one of the kernel. */
static uint64_t place_images(struct boot *b)
{
    const struct image *bios = &b->bios, *kernel = &b->kernel;
    uint64_t bios_end = bios->format == IMAGE_ELF ? bios->high : RAM_BASE + bios->high;
    b->kernel_base = align_up(bios_end, 2 * MIB);
    if (kernel->format != IMAGE_NONE)
        b->next = kernel->format == IMAGE_ELF ? kernel->entry : b->kernel_base;
    if (bios->format == IMAGE_NONE)
        b->start = b->next;
    else
        b->start = bios->format == IMAGE_ELF ? bios->entry : RAM_BASE;
    return kernel->format == IMAGE_ELF ? kernel->low : b->kernel_base;
}

static int place_initrd(struct boot *b, const struct board_config *cfg, uint64_t kernel_low, char *err,
                        size_t errlen)
{
    uint64_t half = cfg->memory / 2;
    if (!b->initrd_len)
        return 0;
    b->initrd_at = kernel_low + (half < 512 * MIB ? half : 512 * MIB);
    if (b->initrd_at > b->fdt_at || b->initrd_len > b->fdt_at - b->initrd_at)
        return bad(err, errlen, "initrd: too large for memory: %zu bytes at 0x%llx, space ends at 0x%llx",
                   b->initrd_len, (unsigned long long)b->initrd_at, (unsigned long long)b->fdt_at);
    return 0;
}

static int build_fdt(struct boot *b, const struct board_config *cfg, uint64_t initrd_at)
{
    if (!cfg->device_tree)
        return devicetree_build(cfg, initrd_at, b->initrd_len, &b->fdt, &b->fdt_len);
    b->fdt = malloc(cfg->device_tree_len);
    if (!b->fdt)
        return -ENOMEM;
    memcpy(b->fdt, cfg->device_tree, cfg->device_tree_len);
    b->fdt_len = cfg->device_tree_len;
    return 0;
}

/* The device tree's size does not depend on the initrd's place, so a first one, with any place, tells where
 * it goes. */
static int place_fdt(struct boot *b, const struct board_config *cfg, char *err, size_t errlen)
{
    int e = build_fdt(b, cfg, RAM_BASE);
    if (e)
        return e;
    if (b->fdt_len > cfg->memory)
        return bad(err, errlen, "memory: too small for the device tree");
    b->fdt_at = (RAM_BASE + cfg->memory - b->fdt_len) & ~(2 * MIB - 1);
    return 0;
}

static int overlap_checked(struct boot *b, uint64_t kernel_low, char *err, size_t errlen)
{
    b->kernel_limit = b->initrd_len && b->initrd_at >= kernel_low ? b->initrd_at : b->fdt_at;
    b->bios_limit = b->fdt_at;
    if (b->bios.format == IMAGE_ELF && b->kernel.format == IMAGE_ELF && b->kernel.low < b->bios.high &&
        b->bios.low < b->kernel.high)
        return bad(err, errlen, "kernel: overlaps the bios at 0x%llx", (unsigned long long)b->kernel.low);
    if (b->bios.format == IMAGE_FLAT && b->kernel.format == IMAGE_ELF &&
        b->kernel.low < RAM_BASE + b->bios.len)
        return bad(err, errlen, "kernel: overlaps the bios at 0x%llx", (unsigned long long)b->kernel.low);
    return 0;
}

/* The reset vector of QEMU's hw/riscv/boot.c, and what it refers to. */
static void write_rom(struct boot *b)
{
    static const uint32_t code[6] = {
        0x00000297, /* auipc t0, 0 */
        0x02828613, /* addi  a2, t0, 40: the information block */
        0xf1402573, /* csrr  a0, mhartid */
        0x0202b583, /* ld    a1, 32(t0) */
        0x0182b283, /* ld    t0, 24(t0) */
        0x00028067, /* jr    t0 */
    };
    const uint64_t addresses[2] = {b->start, b->fdt_at};
    const struct fw_dynamic_info info = {
        .magic = FW_DYNAMIC_MAGIC,
        .version = FW_DYNAMIC_VERSION,
        .next_addr = b->next,
        .next_mode = FW_DYNAMIC_MODE_S,
    };
    memcpy(b->rom, code, sizeof code);
    memcpy(b->rom + 24, addresses, sizeof addresses);
    memcpy(b->rom + 40, &info, sizeof info);
}

int boot_plan(struct boot *b, const struct board_config *cfg, char *err, size_t errlen)
{
    *b = (struct boot){0};
    int e = open_images(b, cfg, err, errlen);
    if (!e)
        e = place_fdt(b, cfg, err, errlen);
    if (e)
        return e;
    uint64_t kernel_low = place_images(b);
    if ((e = place_initrd(b, cfg, kernel_low, err, errlen)) ||
        (e = overlap_checked(b, kernel_low, err, errlen)))
        return e;
    free(b->fdt);
    b->fdt = NULL;
    e = build_fdt(b, cfg, b->initrd_at);
    if (!e)
        write_rom(b);
    return e;
}

void boot_release(struct boot *b)
{
    free(b->fdt);
    b->fdt = NULL;
}

int boot_load(const struct boot *b, struct mmu *m, char *err, size_t errlen)
{
    char why[160];
    uint64_t end;
    if (b->bios.format != IMAGE_NONE &&
        image_load(&b->bios, m, RAM_BASE, b->bios_limit, &end, why, sizeof why))
        return bad(err, errlen, "bios: %s", why);
    if (b->kernel.format != IMAGE_NONE &&
        image_load(&b->kernel, m, b->kernel_base, b->kernel_limit, &end, why, sizeof why))
        return bad(err, errlen, "kernel: %s", why);
    if (mmu_dma_write(m, b->initrd_at, b->initrd, b->initrd_len) < 0 && b->initrd_len)
        return bad(err, errlen, "initrd: too large for memory");
    if (mmu_dma_write(m, b->fdt_at, b->fdt, b->fdt_len) < 0)
        return bad(err, errlen, "memory: too small for the device tree");
    return 0;
}
