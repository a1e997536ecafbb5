/* UART, register-compatible with the National PC16550D (ns16550a), one byte a register. Its line is
 * infinitely patient: what the FIFO sends in one character time leaves as one batch, and what arrives waits
 * on the line until the FIFO has room. Knows its link, and nothing of what is at the other end. */
#pragma once

#include "cpu-core/board/bus.h"
#include "cpu-core/board/irq.h"
#include "cpu-core/board/now.h"
#include "cpu-core/crossing/crossing.h"

struct state_io;

#define UART_SIZE     0x100ull
#define UART_FIFO     16
#define UART_CLOCK_HZ 3686400

/* The line is as fast as if one character took 1 us, whatever the divisor says. A transmitter holding bytes
 * is empty again one character time after the first came, and the receive timeout is four. Bytes sent gather
 * into messages of at most UART_MESSAGE bytes that leave when full, and 100 us after their first byte
 * otherwise. */
#define UART_CHAR_NS  1000
#define UART_FLUSH_NS 100000
#define UART_MESSAGE  1024 /* the link must take requests of this size on queue 0 */
#define UART_LINE     4096 /* longest inbound message; the rest of a longer one is lost with an overrun error */

struct uart {
    const struct now *now;
    struct irq_line irq;
    struct link *link; /* NULL: nothing is attached, output vanishes */
    struct vtimer tx_timer, flush_timer, rx_timer;

    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    bool thr_pending; /* the transmitter became empty and nobody has looked */
    bool rx_timeout;
    bool tx_stalled; /* the transmitter waits for room in `message` */
    bool send_due;   /* `message` waits for a slot of the link */
    uint8_t rx[UART_FIFO], tx[UART_FIFO];
    uint8_t rx_count, tx_count;
    uint16_t line_pos, line_len, message_len;
    uint8_t line[UART_LINE];       /* arrived, not yet in the FIFO */
    uint8_t message[UART_MESSAGE]; /* sent, not yet handed to the link */
};

/* Registers three timers with the clock of `now` (borrowed). -ENOSPC. */
int uart_init(struct uart *u, const struct now *now, const struct irq_line *irq);
void uart_destroy(struct uart *u);

/* Power-on state of the registers. What was sent goes out; what arrived and was not read stays on the line.
 */
void uart_reset(struct uart *u);

/* Hands what is in the transmitter to the link at once. False if some must wait for a completion. */
bool uart_flush(struct uart *u);

extern const struct bus_ops uart_bus_ops;     /* dev = struct uart */
extern const struct link_sink uart_link_sink; /* front = struct uart */

void uart_state(struct uart *u, struct state_io *io);
