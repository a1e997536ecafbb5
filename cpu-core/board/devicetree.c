/* Writes the device tree with libfdt, nodes in the order in which a guest should probe them: slot 0 comes
 * first, so the first disk is vda. Must not know what is plugged into a slot. */
#include "cpu-core/board/devicetree.h"

#include "cpu-core/board/clint.h"
#include "cpu-core/board/plic.h"
#include "cpu-core/board/rtc.h"
#include "cpu-core/board/uart.h"
#include "cpu-core/mmu/ram.h"
#include "cpu-core/time/vclock.h"
#include "cpu-core/virtio/virtio.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PHANDLE_INTC = 1,
    PHANDLE_CPU = 0x10,
    PHANDLE_PLIC = 0x20,
    PHANDLE_TEST = 0x21,
    BLOCK_SIZE = 64,
    SYSCON_SIZE = 0x1000
};

/* riscv,isa-extensions beyond the single letters, in the canonical order of the ISA manual. Zca is named
 * because Zcb depends on it. */
static const char *const single_letters[] = {"i", "m", "a", "f", "d", "c"};
static const char *const extensions[] = {
    "zicbom",      "zicbop", "zicboz", "zicclsm", "zicntr",  "zicond",  "zicsr",  "zifencei", "zihintntl",
    "zihintpause", "zawrs",  "zfa",    "zfh",     "zfhmin",  "zca",     "zcb",    "zba",      "zbb",
    "zbc",         "zbs",    "sstc",   "svadu",   "svinval", "svnapot", "svpbmt", "svvptc",
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A tree being written; the first error stays. */
struct tree {
    void *fdt;
    int err;
};

static void begin(struct tree *t, const char *name)
{
    if (!t->err)
        t->err = fdt_begin_node(t->fdt, name);
}

static void begin_at(struct tree *t, const char *name, uint64_t unit)
{
    char full[48];
    snprintf(full, sizeof full, "%s@%llx", name, (unsigned long long)unit);
    begin(t, full);
}

static void end(struct tree *t)
{
    if (!t->err)
        t->err = fdt_end_node(t->fdt);
}

static void bytes(struct tree *t, const char *name, const void *data, size_t len)
{
    if (!t->err)
        t->err = fdt_property(t->fdt, name, data, (int)len);
}

static void string(struct tree *t, const char *name, const char *s)
{
    bytes(t, name, s, strlen(s) + 1);
}
static void flag(struct tree *t, const char *name)
{
    bytes(t, name, "", 0);
}

static void cells(struct tree *t, const char *name, const uint32_t *v, unsigned n)
{
    fdt32_t be[4 * HART_MAX];
    for (unsigned i = 0; i < n; i++)
        be[i] = cpu_to_fdt32(v[i]);
    bytes(t, name, be, n * sizeof *be);
}

static void cell(struct tree *t, const char *name, uint32_t v)
{
    cells(t, name, &v, 1);
}

static void cell64(struct tree *t, const char *name, uint64_t v)
{
    cells(t, name, (uint32_t[]){(uint32_t)(v >> 32), (uint32_t)v}, 2);
}

static void reg(struct tree *t, uint64_t base, uint64_t size)
{
    cells(t, "reg",
          (uint32_t[]){(uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(size >> 32), (uint32_t)size}, 4);
}

static void interrupt(struct tree *t, uint32_t irq)
{
    cell(t, "interrupts", irq);
    cell(t, "interrupt-parent", PHANDLE_PLIC);
}

static void isa(struct tree *t)
{
    char isa_string[256] = "rv64", list[256];
    size_t at = strlen(isa_string), len = 0;
    for (unsigned i = 0; i < COUNT(single_letters); i++) {
        at += (size_t)snprintf(isa_string + at, sizeof isa_string - at, "%s", single_letters[i]);
        len += (size_t)snprintf(list + len, sizeof list - len, "%s", single_letters[i]) + 1;
    }
    for (unsigned i = 0; i < COUNT(extensions); i++) {
        at += (size_t)snprintf(isa_string + at, sizeof isa_string - at, "_%s", extensions[i]);
        len += (size_t)snprintf(list + len, sizeof list - len, "%s", extensions[i]) + 1;
    }
    string(t, "riscv,isa", isa_string);
    string(t, "riscv,isa-base", "rv64i");
    bytes(t, "riscv,isa-extensions", list, len);
}

static void cpu(struct tree *t, const struct board_config *cfg, unsigned i)
{
    const char *mmu = cfg->mmu_levels == 3   ? "riscv,sv39"
                      : cfg->mmu_levels == 4 ? "riscv,sv48"
                                             : "riscv,sv57";
    begin_at(t, "cpu", i);
    cell(t, "phandle", PHANDLE_CPU + i);
    string(t, "device_type", "cpu");
    cell(t, "reg", i);
    string(t, "status", "okay");
    string(t, "compatible", "riscv");
    isa(t);
    cell(t, "riscv,cbom-block-size", BLOCK_SIZE);
    cell(t, "riscv,cbop-block-size", BLOCK_SIZE);
    cell(t, "riscv,cboz-block-size", BLOCK_SIZE);
    string(t, "mmu-type", mmu);
    begin(t, "interrupt-controller");
    cell(t, "#interrupt-cells", 1);
    flag(t, "interrupt-controller");
    string(t, "compatible", "riscv,cpu-intc");
    cell(t, "phandle", PHANDLE_INTC + i);
    end(t);
    end(t);
}

static void cpus(struct tree *t, const struct board_config *cfg)
{
    char core[16];
    begin(t, "cpus");
    cell(t, "#address-cells", 1);
    cell(t, "#size-cells", 0);
    cell(t, "timebase-frequency", VCLOCK_TIMEBASE_HZ);
    for (unsigned i = 0; i < cfg->cpus; i++)
        cpu(t, cfg, i);
    begin(t, "cpu-map");
    begin(t, "cluster0");
    for (unsigned i = 0; i < cfg->cpus; i++) {
        snprintf(core, sizeof core, "core%u", i);
        begin(t, core);
        cell(t, "cpu", PHANDLE_CPU + i);
        end(t);
    }
    end(t);
    end(t);
    end(t);
}

void devicetree_rng_seed(uint64_t seed, uint8_t out[32])
{
    uint64_t state = seed ^ 0x726e672d73656564ull;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        z ^= z >> 31;
        for (unsigned byte = 0; byte < 8; byte++)
            out[8 * i + byte] = (uint8_t)(z >> (56 - 8 * byte));
    }
}

static void chosen(struct tree *t, const struct board_config *cfg, uint64_t initrd, uint64_t initrd_len)
{
    uint8_t seed[32];
    begin(t, "chosen");
    string(t, "bootargs", cfg->append ? cfg->append : "");
    string(t, "stdout-path", "/soc/serial@10000000");
    if (initrd_len) {
        cell64(t, "linux,initrd-start", initrd);
        cell64(t, "linux,initrd-end", initrd + initrd_len);
    }
    devicetree_rng_seed(cfg->seed, seed);
    bytes(t, "rng-seed", seed, sizeof seed);
    end(t);
}

/* interrupts-extended of a controller that drives lines `a` and `b` of every hart. */
static void hart_lines(struct tree *t, unsigned cpus_count, uint32_t a, uint32_t b)
{
    uint32_t v[4 * HART_MAX];
    for (unsigned i = 0; i < cpus_count; i++) {
        const uint32_t lines[4] = {PHANDLE_INTC + i, a, PHANDLE_INTC + i, b};
        memcpy(v + 4 * i, lines, sizeof lines);
    }
    cells(t, "interrupts-extended", v, 4 * cpus_count);
}

static void controllers(struct tree *t, const struct board_config *cfg)
{
    begin_at(t, "clint", MAP_CLINT);
    bytes(t, "compatible", "sifive,clint0\0riscv,clint0", sizeof "sifive,clint0\0riscv,clint0");
    reg(t, MAP_CLINT, CLINT_SIZE);
    hart_lines(t, cfg->cpus, 3, 7);
    end(t);
    begin_at(t, "plic", MAP_PLIC);
    cell(t, "phandle", PHANDLE_PLIC);
    cell(t, "riscv,ndev", BOARD_PLIC_NDEV);
    reg(t, MAP_PLIC, PLIC_SIZE);
    hart_lines(t, cfg->cpus, 11, 9);
    flag(t, "interrupt-controller");
    bytes(t, "compatible", "sifive,plic-1.0.0\0riscv,plic0", sizeof "sifive,plic-1.0.0\0riscv,plic0");
    cell(t, "#address-cells", 0);
    cell(t, "#interrupt-cells", 1);
    end(t);
}

static void platform_devices(struct tree *t)
{
    begin_at(t, "test", MAP_SYSCON);
    cell(t, "phandle", PHANDLE_TEST);
    reg(t, MAP_SYSCON, SYSCON_SIZE);
    bytes(t, "compatible", "sifive,test1\0sifive,test0\0syscon", sizeof "sifive,test1\0sifive,test0\0syscon");
    end(t);
    begin_at(t, "serial", MAP_UART);
    interrupt(t, IRQ_UART);
    cell(t, "clock-frequency", UART_CLOCK_HZ);
    reg(t, MAP_UART, UART_SIZE);
    string(t, "compatible", "ns16550a");
    end(t);
    begin_at(t, "rtc", MAP_RTC);
    interrupt(t, IRQ_RTC);
    reg(t, MAP_RTC, RTC_SIZE);
    string(t, "compatible", "google,goldfish-rtc");
    end(t);
}

static void soc(struct tree *t, const struct board_config *cfg)
{
    begin(t, "soc");
    cell(t, "#address-cells", 2);
    cell(t, "#size-cells", 2);
    string(t, "compatible", "simple-bus");
    flag(t, "ranges");
    controllers(t, cfg);
    platform_devices(t);
    for (unsigned i = 0; i < cfg->slots; i++) {
        begin_at(t, "virtio_mmio", MAP_VIRTIO(i));
        interrupt(t, IRQ_VIRTIO(i));
        reg(t, MAP_VIRTIO(i), VIRTIO_MMIO_SIZE);
        string(t, "compatible", "virtio,mmio");
        end(t);
    }
    end(t);
}

static void syscon_action(struct tree *t, const char *name, const char *compatible, uint32_t value)
{
    begin(t, name);
    cell(t, "value", value);
    cell(t, "offset", 0);
    cell(t, "regmap", PHANDLE_TEST);
    string(t, "compatible", compatible);
    end(t);
}

static int write_tree(struct tree *t, int size, const struct board_config *cfg, uint64_t initrd,
                      uint64_t initrd_len)
{
    t->err = fdt_create(t->fdt, size);
    if (!t->err)
        t->err = fdt_finish_reservemap(t->fdt);
    begin(t, "");
    cell(t, "#address-cells", 2);
    cell(t, "#size-cells", 2);
    string(t, "compatible", "riscv-virtio");
    string(t, "model", "riscv-virtio,qemu");
    chosen(t, cfg, initrd, initrd_len);
    begin(t, "aliases");
    string(t, "serial0", "/soc/serial@10000000");
    end(t);
    begin_at(t, "memory", RAM_BASE);
    string(t, "device_type", "memory");
    reg(t, RAM_BASE, cfg->memory);
    end(t);
    cpus(t, cfg);
    soc(t, cfg);
    syscon_action(t, "poweroff", "syscon-poweroff", 0x5555);
    syscon_action(t, "reboot", "syscon-reboot", 0x7777);
    end(t);
    if (!t->err)
        t->err = fdt_finish(t->fdt);
    return t->err;
}

int devicetree_build(const struct board_config *cfg, uint64_t initrd, uint64_t initrd_len, void **fdt,
                     size_t *len)
{
    size_t size = 32768 + (cfg->append ? strlen(cfg->append) : 0);
    struct tree t = {.fdt = calloc(1, size)};
    if (!t.fdt || write_tree(&t, (int)size, cfg, initrd, initrd_len)) {
        free(t.fdt);
        return -ENOMEM;
    }
    *fdt = t.fdt;
    *len = fdt_totalsize(t.fdt);
    return 0;
}
