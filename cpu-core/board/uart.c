/* The UART. Must not know a terminal, a process or host time: when the guest sees the transmitter empty is a
 * function of guest state. */
#include "cpu-core/board/uart.h"

#include "cpu-core/state/state.h"

#include <errno.h>
#include <string.h>

enum reg { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REGS };

enum {
    IER_RDI = 1, /* received data, and its timeout */
    IER_THRI = 2,
    IER_RLSI = 4,
    IER_MSI = 8,
    IIR_MSI = 0x0,
    IIR_NONE = 0x1,
    IIR_THRI = 0x2,
    IIR_RDI = 0x4,
    IIR_RLSI = 0x6,
    IIR_TIMEOUT = 0xc,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 1,
    FCR_CLEAR_RX = 2,
    FCR_CLEAR_TX = 4,
    LCR_DLAB = 0x80,
    MCR_DTR = 0x01,
    MCR_RTS = 0x02,
    MCR_OUT1 = 0x04,
    MCR_OUT2 = 0x08,
    MCR_LOOP = 0x10,
    LSR_DR = 0x01,
    LSR_OE = 0x02,
    LSR_ERRORS = 0x1e,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    MSR_DELTAS = 0x0f,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
};

enum { QUEUE_TX = 0, QUEUE_RX = 1 };

static bool fifo_on(const struct uart *u)
{
    return u->fcr & FCR_ENABLE;
}
static unsigned capacity(const struct uart *u)
{
    return fifo_on(u) ? UART_FIFO : 1;
}

static unsigned trigger(const struct uart *u)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return fifo_on(u) ? levels[u->fcr >> 6] : 1;
}

/* The highest-priority pending interrupt, PC16550D table "interrupt control functions". */
static unsigned interrupt_id(const struct uart *u)
{
    if (u->ier & IER_RLSI && u->lsr & LSR_ERRORS)
        return IIR_RLSI;
    if (u->ier & IER_RDI && u->rx_timeout)
        return IIR_TIMEOUT;
    if (u->ier & IER_RDI && u->rx_count >= trigger(u))
        return IIR_RDI;
    if (u->ier & IER_THRI && u->thr_pending)
        return IIR_THRI;
    if (u->ier & IER_MSI && u->msr & MSR_DELTAS)
        return IIR_MSI;
    return IIR_NONE;
}

static void update(struct uart *u)
{
    u->lsr = (uint8_t)((u->lsr & ~LSR_DR) | (u->rx_count ? LSR_DR : 0));
    irq_set(&u->irq, interrupt_id(u) != IIR_NONE);
}

/* A character went into or out of the receive FIFO: the timeout starts again. */
static void rx_moved(struct uart *u)
{
    bool counts = fifo_on(u) && u->rx_count;
    vclock_arm(u->now->clock, &u->rx_timer, counts ? now_ns(u->now) + 4 * UART_CHAR_NS : VCLOCK_NEVER);
}

static void rx_push(struct uart *u, uint8_t byte)
{
    if (u->rx_count == capacity(u)) {
        u->lsr |= LSR_OE;
        if (fifo_on(u))
            return;
        u->rx_count = 0;
    }
    u->rx[u->rx_count++] = byte;
}

/* Moves what waits on the line into the FIFO, and asks for more when the line is empty. */
static void refill(struct uart *u)
{
    if (u->mcr & MCR_LOOP || u->rx_count == capacity(u))
        return;
    bool moved = u->line_pos < u->line_len;
    while (u->line_pos < u->line_len && u->rx_count < capacity(u))
        rx_push(u, u->line[u->line_pos++]);
    if (u->line_pos == u->line_len)
        u->line_pos = u->line_len = 0;
    if (moved)
        rx_moved(u);
    if (!u->line_len && u->rx_count < capacity(u) && u->link)
        link_room_made(u->link, QUEUE_RX);
}

static uint8_t rx_pop(struct uart *u)
{
    uint8_t byte = u->rx[0];
    if (!u->rx_count)
        return byte;
    u->rx_count--;
    memmove(u->rx, u->rx + 1, u->rx_count);
    u->rx_timeout = false;
    rx_moved(u);
    refill(u);
    update(u);
    return byte;
}

static void rx_clear(struct uart *u)
{
    u->rx_count = 0;
    u->rx_timeout = false;
    rx_moved(u);
}

static void tx_empty(struct uart *u)
{
    u->tx_count = 0;
    u->tx_stalled = false;
    vclock_arm(u->now->clock, &u->tx_timer, VCLOCK_NEVER);
    u->lsr |= LSR_THRE | LSR_TEMT;
    u->thr_pending = true;
}

/* Hands the gathered message to the link, or leaves it until a slot is free. A link that never takes such a
 * message loses it. */
static void send(struct uart *u)
{
    if (u->link && u->message_len) {
        int slot = link_reserve(u->link, QUEUE_TX, u->message_len, 0);
        if (slot == -ENOSPC) {
            u->send_due = true;
            return;
        }
        if (slot >= 0) {
            memcpy(link_request_bytes(u->link, QUEUE_TX, (unsigned)slot), u->message, u->message_len);
            link_submit(u->link, QUEUE_TX, (unsigned)slot);
            link_kick(u->link);
        }
    }
    u->send_due = false;
    u->message_len = 0;
    vclock_arm(u->now->clock, &u->flush_timer, VCLOCK_NEVER);
}

/* The FIFO's bytes leave for the message; the transmitter stays busy while that has no room for them. */
static void transmit(struct uart *u)
{
    if (u->message_len + u->tx_count > UART_MESSAGE)
        send(u);
    if (u->message_len + u->tx_count > UART_MESSAGE) {
        u->tx_stalled = true;
        return;
    }
    if (!u->message_len && u->tx_count)
        vclock_arm(u->now->clock, &u->flush_timer, now_ns(u->now) + UART_FLUSH_NS);
    memcpy(u->message + u->message_len, u->tx, u->tx_count);
    u->message_len = (uint16_t)(u->message_len + u->tx_count);
    tx_empty(u);
    if (u->message_len == UART_MESSAGE)
        send(u);
}

static void tx_due(void *arg)
{
    struct uart *u = arg;
    transmit(u);
    update(u);
}

static void flush_due(void *arg)
{
    send(arg);
}

static void rx_due(void *arg)
{
    struct uart *u = arg;
    u->rx_timeout = true;
    update(u);
}

static void write_thr(struct uart *u, uint8_t byte)
{
    u->thr_pending = false;
    if (u->mcr & MCR_LOOP) {
        rx_push(u, byte);
        rx_moved(u);
        u->thr_pending = true;
        return;
    }
    if (!u->tx_count && !u->tx_stalled)
        vclock_arm(u->now->clock, &u->tx_timer, now_ns(u->now) + UART_CHAR_NS);
    if (u->tx_count == capacity(u)) {
        if (fifo_on(u))
            return;
        u->tx_count = 0;
    }
    u->tx[u->tx_count++] = byte;
    u->lsr &= (uint8_t) ~(LSR_THRE | LSR_TEMT);
}

static void write_fcr(struct uart *u, uint8_t value)
{
    if ((value ^ u->fcr) & FCR_ENABLE)
        value |= FCR_CLEAR_RX | FCR_CLEAR_TX;
    u->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
    if (value & FCR_CLEAR_RX)
        rx_clear(u);
    if (value & FCR_CLEAR_TX && u->tx_count)
        tx_empty(u);
    refill(u);
}

static void write_ier(struct uart *u, uint8_t value)
{
    if (value & ~u->ier & IER_THRI && u->lsr & LSR_THRE)
        u->thr_pending = true;
    u->ier = value & 0x0f;
}

/* In loopback the modem outputs are wired to the inputs. */
static uint8_t modem_inputs(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_DCD | MSR_DSR | MSR_CTS;
    return (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct uart *u, uint8_t value)
{
    u->mcr = value & 0x1f;
    uint8_t inputs = modem_inputs(u), changed = (uint8_t)(inputs ^ (u->msr & 0xf0));
    changed &= (uint8_t) ~(inputs & MSR_RI); /* the ring indicator counts on its trailing edge only */
    u->msr = (uint8_t)(inputs | (u->msr & MSR_DELTAS) | changed >> 4);
    refill(u);
}

static uint8_t read_iir(struct uart *u)
{
    unsigned id = interrupt_id(u);
    if (id == IIR_THRI) {
        u->thr_pending = false;
        update(u);
    }
    return (uint8_t)(id | (fifo_on(u) ? IIR_FIFO : 0));
}

static uint8_t read_and_clear(struct uart *u, uint8_t *reg, uint8_t bits)
{
    uint8_t value = *reg;
    *reg &= (uint8_t)~bits;
    update(u);
    return value;
}

static int uart_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    struct uart *u = dev;
    bool latch = u->lcr & LCR_DLAB;
    switch (offset) {
    case REG_DATA:
        *value = latch ? u->dll : rx_pop(u);
        return 0;
    case REG_IER:
        *value = latch ? u->dlm : u->ier;
        return 0;
    case REG_IIR_FCR:
        *value = read_iir(u);
        return 0;
    case REG_LCR:
        *value = u->lcr;
        return 0;
    case REG_MCR:
        *value = u->mcr;
        return 0;
    case REG_LSR:
        *value = read_and_clear(u, &u->lsr, LSR_ERRORS);
        return 0;
    case REG_MSR:
        *value = read_and_clear(u, &u->msr, MSR_DELTAS);
        return 0;
    case REG_SCR:
        *value = u->scr;
        return 0;
    default:
        return -EFAULT;
    }
}

static int uart_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *u = dev;
    uint8_t byte = (uint8_t)value;
    if (offset >= REGS)
        return -EFAULT;
    if (u->lcr & LCR_DLAB && offset <= REG_IER) {
        *(offset == REG_DATA ? &u->dll : &u->dlm) = byte;
        return 0;
    }
    if (offset == REG_DATA)
        write_thr(u, byte);
    else if (offset == REG_IER)
        write_ier(u, byte);
    else if (offset == REG_IIR_FCR)
        write_fcr(u, byte);
    else if (offset == REG_LCR)
        u->lcr = byte;
    else if (offset == REG_MCR)
        write_mcr(u, byte);
    else if (offset == REG_SCR)
        u->scr = byte;
    update(u);
    return 0;
}

const struct bus_ops uart_bus_ops = {uart_read, uart_write};

static void uart_completed(void *front, unsigned queue, unsigned slot, const uint8_t *data, uint32_t len,
                           bool failed)
{
    struct uart *u = front;
    if (u->send_due)
        send(u);
    if (u->tx_stalled)
        transmit(u);
    update(u);
}

static bool uart_room(void *front, unsigned queue, uint32_t len)
{
    const struct uart *u = front;
    return !u->line_len && u->rx_count < capacity(u) && !(u->mcr & MCR_LOOP);
}

static void uart_received(void *front, unsigned queue, const uint8_t *data, uint32_t len)
{
    struct uart *u = front;
    if (len > UART_LINE) {
        len = UART_LINE;
        u->lsr |= LSR_OE;
    }
    memcpy(u->line, data, len);
    u->line_pos = 0;
    u->line_len = (uint16_t)len;
    refill(u);
    update(u);
}

static void uart_config(void *front, const uint8_t *config, uint32_t len) {}

const struct link_sink uart_link_sink = {uart_completed, uart_room, uart_received, uart_config};

static void power_on(struct uart *u)
{
    u->ier = u->fcr = u->lcr = u->scr = u->dlm = 0;
    u->dll = 12;
    u->mcr = MCR_OUT2;
    u->lsr = LSR_THRE | LSR_TEMT;
    u->msr = MSR_DCD | MSR_DSR | MSR_CTS;
    u->thr_pending = false;
    memset(u->rx, 0, sizeof u->rx);
}

int uart_init(struct uart *u, const struct now *now, const struct irq_line *irq)
{
    *u = (struct uart){.now = now, .irq = *irq};
    u->tx_timer = (struct vtimer){.due = VCLOCK_NEVER, .order = 0x100, .fire = tx_due, .arg = u};
    u->flush_timer = (struct vtimer){.due = VCLOCK_NEVER, .order = 0x101, .fire = flush_due, .arg = u};
    u->rx_timer = (struct vtimer){.due = VCLOCK_NEVER, .order = 0x102, .fire = rx_due, .arg = u};
    power_on(u);
    int err = vclock_add(now->clock, &u->tx_timer);
    if (!err)
        err = vclock_add(now->clock, &u->flush_timer);
    if (!err)
        err = vclock_add(now->clock, &u->rx_timer);
    if (err)
        uart_destroy(u);
    return err;
}

void uart_destroy(struct uart *u)
{
    if (!u->now)
        return;
    vclock_remove(u->now->clock, &u->tx_timer);
    vclock_remove(u->now->clock, &u->flush_timer);
    vclock_remove(u->now->clock, &u->rx_timer);
}

bool uart_flush(struct uart *u)
{
    if (u->tx_count)
        transmit(u);
    send(u);
    update(u);
    return !u->tx_count && !u->message_len;
}

void uart_reset(struct uart *u)
{
    uart_flush(u);
    tx_empty(u);
    rx_clear(u);
    power_on(u);
    refill(u);
    update(u);
}

/* Order: registers (ier, fcr, lcr, mcr, lsr, msr, scr, divisor), flags, receive FIFO, transmit FIFO, line,
 * message. */
void uart_state(struct uart *u, struct state_io *io)
{
    uint8_t *const regs[] = {&u->ier, &u->fcr, &u->lcr, &u->mcr, &u->lsr, &u->msr, &u->scr, &u->dll, &u->dlm};
    for (unsigned i = 0; i < sizeof regs / sizeof *regs; i++)
        state_u8(io, regs[i]);
    bool *const flags[] = {&u->thr_pending, &u->rx_timeout, &u->tx_stalled, &u->send_due};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        state_bool(io, flags[i]);
    state_u8(io, &u->rx_count);
    state_bytes(io, u->rx, sizeof u->rx);
    state_u8(io, &u->tx_count);
    state_bytes(io, u->tx, sizeof u->tx);
    state_u16(io, &u->line_pos);
    state_u16(io, &u->line_len);
    state_bytes(io, u->line, sizeof u->line);
    state_u16(io, &u->message_len);
    state_bytes(io, u->message, sizeof u->message);
    if (io->loading)
        update(u);
}
