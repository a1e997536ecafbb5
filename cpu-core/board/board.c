/* The board: creates the register-level devices, puts them on the bus, wires their interrupts, and boots.
 * Must not know engines, rings or processes. */
#include "cpu-core/board/board.h"

#include "cpu-core/board/boot.h"
#include "cpu-core/board/clint.h"
#include "cpu-core/board/devicetree.h"
#include "cpu-core/board/plic.h"
#include "cpu-core/board/rtc.h"
#include "cpu-core/board/uart.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct board {
    struct board_config cfg;
    struct board_hooks hooks;
    struct mmu *mmu;
    struct hart *const *harts;
    struct now now;
    struct boot boot;
    struct clint clint;
    struct plic plic;
    struct uart uart;
    struct rtc rtc;
    struct virtio *slot[BOARD_VIRTIO_MAX];
};

enum { SYSCON_SIZE = 0x1000, SYSCON_FAIL = 0x3333, SYSCON_POWEROFF = 0x5555, SYSCON_REBOOT = 0x7777 };

/* The reset vector: the first page is backed, the rest of the region reads as zero. */
static int rom_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    const struct board *b = dev;
    *value = 0;
    if (offset < sizeof b->boot.rom)
        memcpy(value, b->boot.rom + offset, size);
    return 0;
}

static int rom_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    return -EFAULT;
}

static const struct bus_ops rom_ops = {rom_read, rom_write};

/* SiFive's test finisher: the low half tells what to do, the high half is the status of a failure. */
static int syscon_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = 0;
    return 0;
}

static int syscon_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct board *b = dev;
    uint16_t what = (uint16_t)value;
    if (offset || (what != SYSCON_FAIL && what != SYSCON_POWEROFF && what != SYSCON_REBOOT))
        return 0;
    enum board_request request = what == SYSCON_POWEROFF ? BOARD_POWEROFF
                                 : what == SYSCON_REBOOT ? BOARD_REBOOT
                                                         : BOARD_FAIL;
    uart_flush(&b->uart);
    b->hooks.request(b->hooks.arg, request, request == BOARD_FAIL ? (uint16_t)(value >> 16) : 0);
    return 0;
}

static const struct bus_ops syscon_ops = {syscon_read, syscon_write};

static void device_irq(void *arg, unsigned line, bool level)
{
    plic_input(&((struct board *)arg)->plic, line, level);
}

static void context_irq(void *arg, unsigned context, bool level)
{
    const struct board *b = arg;
    hart_irq_line(b->harts[context / 2], context & 1 ? IRQ_SEIP : IRQ_MEIP, level);
}

static struct irq_line line(struct board *b, unsigned irq)
{
    return (struct irq_line){device_irq, b, irq};
}

static int create_devices(struct board *b)
{
    const struct irq_line contexts = {context_irq, b, 0}, uart = line(b, IRQ_UART), rtc = line(b, IRQ_RTC);
    plic_init(&b->plic, 2 * b->cfg.cpus, &contexts);
    int err = clint_init(&b->clint, &b->now, b->harts, b->cfg.cpus);
    if (!err)
        err = uart_init(&b->uart, &b->now, &uart);
    if (!err)
        err = rtc_init(&b->rtc, &b->now, &rtc, b->cfg.rtc_start_ns);
    b->clint.ipi = b->hooks.ipi;
    b->clint.arg = b->hooks.arg;
    for (unsigned i = 0; i < b->cfg.slots && !err; i++) {
        const struct irq_line slot = line(b, IRQ_VIRTIO(i));
        err = virtio_create(&b->slot[i], b->mmu, &slot);
    }
    return err;
}

static int fill_bus(struct board *b, struct bus *bus)
{
    const struct bus_region fixed[] = {
        {MAP_ROM, MAP_ROM_SIZE, &rom_ops, b, "rom"},
        {MAP_SYSCON, SYSCON_SIZE, &syscon_ops, b, "syscon"},
        {MAP_RTC, RTC_SIZE, &rtc_bus_ops, &b->rtc, "rtc"},
        {MAP_CLINT, CLINT_SIZE, &clint_bus_ops, &b->clint, "clint"},
        {MAP_PLIC, PLIC_SIZE, &plic_bus_ops, &b->plic, "plic"},
        {MAP_UART, UART_SIZE, &uart_bus_ops, &b->uart, "uart"},
    };
    int err = 0;
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed && !err; i++)
        err = bus_add(bus, &fixed[i]);
    for (unsigned i = 0; i < b->cfg.slots && !err; i++) {
        const struct bus_region slot = {MAP_VIRTIO(i), VIRTIO_MMIO_SIZE, &virtio_bus_ops, b->slot[i],
                                        "virtio"};
        err = bus_add(bus, &slot);
    }
    return err;
}

static int check_config(const struct board_config *cfg, char *err, size_t errlen)
{
    if (!cfg->cpus || cfg->cpus > HART_MAX)
        snprintf(err, errlen, "cpus: %u is not between 1 and %u", cfg->cpus, HART_MAX);
    else if (cfg->slots < BOARD_VIRTIO_SLOTS || cfg->slots > BOARD_VIRTIO_MAX)
        snprintf(err, errlen, "slots: %u is not between %u and %u", cfg->slots, BOARD_VIRTIO_SLOTS,
                 BOARD_VIRTIO_MAX);
    else if (!cfg->memory || cfg->memory % PAGE_SIZE)
        snprintf(err, errlen, "memory: %llu bytes are not whole pages", (unsigned long long)cfg->memory);
    else
        return 0;
    return -EINVAL;
}

int board_create(struct board **ret, const struct board_config *cfg, struct bus *bus, struct mmu *mmu,
                 struct vclock *clock, struct hart *const *harts, const struct board_hooks *hooks, char *err,
                 size_t errlen)
{
    int e = check_config(cfg, err, errlen);
    if (e)
        return e;
    struct board *b = calloc(1, sizeof *b);
    if (!b) {
        snprintf(err, errlen, "board: %s", strerror(ENOMEM));
        return -ENOMEM;
    }
    b->cfg = *cfg;
    b->hooks = *hooks;
    b->mmu = mmu;
    b->harts = harts;
    b->now = (struct now){clock, harts[0]};
    *err = 0;
    e = boot_plan(&b->boot, cfg, err, errlen);
    if (!e)
        e = create_devices(b);
    if (!e)
        e = fill_bus(b, bus);
    if (e) {
        if (!*err)
            snprintf(err, errlen, "board: %s", strerror(-e));
        board_destroy(b);
        return e;
    }
    mmu_set_rom(mmu, MAP_ROM, b->boot.rom, sizeof b->boot.rom);
    *ret = b;
    return 0;
}

void board_destroy(struct board *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < BOARD_VIRTIO_MAX; i++)
        virtio_destroy(b->slot[i]);
    clint_destroy(&b->clint);
    uart_destroy(&b->uart);
    rtc_destroy(&b->rtc);
    boot_release(&b->boot);
    free(b);
}

/* Harts first: devices drive their interrupt lines anew. */
static void reset_all(struct board *b)
{
    uint64_t position = hart_icount(b->now.hart);
    for (unsigned i = 0; i < b->cfg.cpus; i++) {
        hart_slice_begin(b->harts[i], position, 0);
        hart_reset(b->harts[i], BOARD_RESET_PC);
    }
    for (unsigned i = 0; i < b->cfg.slots; i++)
        virtio_reset(b->slot[i]);
    uart_reset(&b->uart);
    rtc_reset(&b->rtc);
    plic_reset(&b->plic);
    clint_reset(&b->clint);
}

int board_boot(struct board *b, char *err, size_t errlen)
{
    reset_all(b);
    int e = boot_load(&b->boot, b->mmu, err, errlen);
    mmu_flush(b->mmu);
    return e;
}

void board_set_current(struct board *b, struct hart *h)
{
    b->now.hart = h;
}

struct virtio *board_slot(struct board *b, unsigned slot)
{
    return slot < b->cfg.slots ? b->slot[slot] : NULL;
}

void board_uart_attach(struct board *b, struct link *l)
{
    b->uart.link = l;
}

bool board_flush(struct board *b)
{
    return uart_flush(&b->uart);
}

static void uart_completed(void *front, unsigned queue, unsigned slot, const uint8_t *data, uint32_t len,
                           bool failed)
{
    uart_link_sink.completed(&((struct board *)front)->uart, queue, slot, data, len, failed);
}

static bool uart_room(void *front, unsigned queue, uint32_t len)
{
    return uart_link_sink.room(&((struct board *)front)->uart, queue, len);
}

static void uart_received(void *front, unsigned queue, const uint8_t *data, uint32_t len)
{
    uart_link_sink.received(&((struct board *)front)->uart, queue, data, len);
}

static void uart_config(void *front, const uint8_t *config, uint32_t len)
{
    uart_link_sink.config(&((struct board *)front)->uart, config, len);
}

const struct link_sink board_uart_sink = {uart_completed, uart_room, uart_received, uart_config};

const void *board_fdt(const struct board *b, size_t *len)
{
    *len = b->boot.fdt_len;
    return b->boot.fdt;
}

/* Order: PLIC, UART, RTC, then the slots from 0 on. The CLINT's registers are in the harts. */
void board_state(struct board *b, struct state_io *io)
{
    plic_state(&b->plic, io);
    uart_state(&b->uart, io);
    rtc_state(&b->rtc, io);
    for (unsigned i = 0; i < b->cfg.slots; i++)
        virtio_state(b->slot[i], io);
    if (io->loading)
        clint_loaded(&b->clint);
}
