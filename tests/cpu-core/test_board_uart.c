/* UART: transmit timing and batching, admission, receive FIFO and timeout, interrupt priorities, loopback. */
#include "cpu-core/board/uart.h"
#include "cpu-core/state/state.h"
#include "tests/cpu-core/link_double.h"
#include "tests/cpu-core/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = RBR, FCR = IIR };

struct fixture {
    struct rig rig;
    struct now now;
    struct uart uart;
    struct link link;
    bool irq;
};

static void irq(void *arg, unsigned line, bool level)
{
    assert_int_equal(line, 10);
    ((struct fixture *)arg)->irq = level;
}

static int setup(void **state)
{
    static struct fixture f;
    rig_create(&f.rig, 1 << 20, 1);
    f.now = (struct now){&f.rig.clock, &f.rig.hart[0]};
    f.irq = false;
    const struct irq_line line = {irq, &f, 10};
    assert_int_equal(uart_init(&f.uart, &f.now, &line), 0);
    double_init(&f.link, &uart_link_sink, &f.uart);
    f.uart.link = &f.link;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    uart_destroy(&f->uart);
    rig_destroy(&f->rig);
    return 0;
}

static uint8_t rd(struct fixture *f, unsigned reg)
{
    uint64_t v = 0;
    assert_int_equal(uart_bus_ops.read(&f->uart, reg, 1, &v), 0);
    return (uint8_t)v;
}

static void wr(struct fixture *f, unsigned reg, uint8_t v)
{
    assert_int_equal(uart_bus_ops.write(&f->uart, reg, 1, v), 0);
}

static void receive(struct fixture *f, const char *s)
{
    assert_true(uart_link_sink.room(&f->uart, 1, (uint32_t)strlen(s)));
    uart_link_sink.received(&f->uart, 1, (const uint8_t *)s, (uint32_t)strlen(s));
}

static void test_transmit(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 1);
    assert_int_equal(rd(f, LSR), 0x60);
    wr(f, IER, 2);
    assert_true(f->irq); /* enabling it while the transmitter is empty interrupts */
    assert_int_equal(rd(f, IIR), 0xc2);
    assert_false(f->irq); /* reading IIR takes it away */
    assert_int_equal(rd(f, IIR), 0xc1);
    for (const char *p = "hello, world\n"; *p; p++)
        wr(f, THR, (uint8_t)*p);
    assert_int_equal(rd(f, LSR), 0);
    rig_advance(&f->rig, UART_CHAR_NS - 1);
    assert_int_equal(rd(f, LSR), 0);
    rig_advance(&f->rig, 1);
    assert_int_equal(rd(f, LSR), 0x60);
    assert_true(f->irq);
    assert_int_equal(f->link.submissions, 0);
    rig_advance(&f->rig, UART_FLUSH_NS);
    assert_int_equal(f->link.submissions, 1);
    assert_int_equal(f->link.kicks, 1);
    assert_int_equal(f->link.request[0][0].len, 13);
    assert_int_equal(f->link.request[0][0].cap, 0);
    assert_memory_equal(f->link.request[0][0].bytes, "hello, world\n", 13);
    double_complete(&f->link, 0, 0, "", 0);
    rig_advance(&f->rig, 10 * UART_FLUSH_NS);
    assert_int_equal(f->link.submissions, 1);
}

/* Sends one byte a character time, as a polling driver does; false when the transmitter stays busy. */
static bool send_polling(struct fixture *f, uint8_t byte)
{
    wr(f, THR, byte);
    rig_advance(&f->rig, UART_CHAR_NS);
    return rd(f, LSR) & 0x20;
}

static void test_admission(void **state)
{
    struct fixture *f = *state;
    unsigned sent = 0;
    f->link.slots = 2;
    wr(f, FCR, 1);
    while (send_polling(f, (uint8_t)sent))
        assert_true(++sent < 100000);
    /* The last one waits in the transmitter, the message is full. */
    assert_int_equal(double_in_flight(&f->link, 0), 2);
    assert_int_equal(sent, f->link.request[0][0].len + f->link.request[0][1].len + UART_MESSAGE);
    rig_advance(&f->rig, 1000000);
    assert_int_equal(rd(f, LSR), 0);
    assert_false(uart_flush(&f->uart));
    double_complete(&f->link, 0, 1, "", 0);
    assert_int_equal(rd(f, LSR), 0x60);
    assert_int_equal(double_in_flight(&f->link, 0), 2);
    assert_int_equal(f->link.request[0][1].len, UART_MESSAGE);
    double_complete(&f->link, 0, 0, "", 0);
    assert_true(uart_flush(&f->uart));
    assert_int_equal(f->link.request[0][0].len, 1);
}

static void test_stream_is_complete(void **state)
{
    struct fixture *f = *state;
    uint8_t expected = 0;
    wr(f, FCR, 1);
    for (unsigned i = 0; i < 20000; i++) {
        wr(f, THR, (uint8_t)i);
        if (i % 16 == 15)
            rig_advance(&f->rig, UART_CHAR_NS);
        for (unsigned slot = 0; slot < f->link.slots; slot++) {
            if (!f->link.request[0][slot].busy)
                continue;
            for (unsigned k = 0; k < f->link.request[0][slot].len; k++)
                assert_int_equal(f->link.request[0][slot].bytes[k], expected++);
            double_complete(&f->link, 0, slot, "", 0);
        }
    }
    assert_true(f->link.submissions < 20000 / 500);
}

static void test_detached(void **state)
{
    struct fixture *f = *state;
    f->uart.link = NULL;
    for (unsigned i = 0; i < 5000; i++)
        assert_true(send_polling(f, 'x'));
    rig_advance(&f->rig, UART_FLUSH_NS);
    assert_true(uart_flush(&f->uart));
}

static void test_receive(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 0x81); /* trigger at 8 */
    wr(f, IER, 1);
    receive(f, "abc");
    assert_false(f->irq);
    assert_int_equal(rd(f, LSR) & 1, 1);
    rig_advance(&f->rig, 4 * UART_CHAR_NS - 1);
    assert_false(f->irq);
    rig_advance(&f->rig, 1);
    assert_true(f->irq);
    assert_int_equal(rd(f, IIR), 0xcc);
    assert_int_equal(rd(f, RBR), 'a');
    assert_false(f->irq); /* a character left: the timeout starts again */
    rig_advance(&f->rig, 4 * UART_CHAR_NS);
    assert_int_equal(rd(f, IIR), 0xcc);
    assert_int_equal(rd(f, RBR), 'b');
    assert_int_equal(rd(f, RBR), 'c');
    assert_int_equal(rd(f, LSR), 0x60);
    rig_advance(&f->rig, 100 * UART_CHAR_NS);
    assert_false(f->irq);
    receive(f, "12345678");
    assert_int_equal(rd(f, IIR), 0xc4);
    assert_int_equal(rd(f, RBR), '1');
    assert_false(f->irq);
}

static void test_long_input(void **state)
{
    struct fixture *f = *state;
    char s[201];
    for (unsigned i = 0; i < 200; i++)
        s[i] = (char)('A' + i % 26);
    s[200] = 0;
    wr(f, FCR, 1);
    receive(f, s);
    assert_false(uart_link_sink.room(&f->uart, 1, 1));
    unsigned made = f->link.room_made[1];
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(rd(f, LSR), 0x61);
        assert_int_equal(rd(f, RBR), (uint8_t)s[i]);
    }
    assert_true(f->link.room_made[1] > made);
    assert_true(uart_link_sink.room(&f->uart, 1, 1));
    assert_int_equal(rd(f, LSR), 0x60);
}

static void test_oversized_input(void **state)
{
    struct fixture *f = *state;
    static uint8_t huge[UART_LINE + 1];
    wr(f, IER, 4);
    uart_link_sink.received(&f->uart, 1, huge, sizeof huge);
    assert_int_equal(rd(f, IIR), 0x06);
    assert_int_equal(rd(f, LSR), 0x63);
    assert_int_equal(rd(f, LSR), 0x61);
    assert_false(f->irq);
}

static void test_priorities(void **state)
{
    struct fixture *f = *state;
    wr(f, IER, 0x0f);
    receive(f, "x");
    f->uart.lsr |= 2;
    wr(f, MCR, 0x10 | 0x0a);
    wr(f, MCR, 0);
    const uint8_t order[] = {0x06, 0x04, 0x02, 0x00, 0x01};
    for (unsigned i = 0; i < sizeof order; i++) {
        assert_int_equal(rd(f, IIR), order[i]);
        if (order[i] == 0x06)
            rd(f, LSR);
        else if (order[i] == 0x04)
            rd(f, RBR);
        else if (order[i] == 0x00)
            rd(f, MSR);
    }
    assert_false(f->irq);
}

static void test_registers(void **state)
{
    struct fixture *f = *state;
    uint64_t v;
    wr(f, SCR, 0x5a);
    assert_int_equal(rd(f, SCR), 0x5a);
    wr(f, LCR, 0x83);
    wr(f, RBR, 0x34);
    wr(f, IER, 0x12);
    assert_int_equal(rd(f, RBR), 0x34);
    assert_int_equal(rd(f, IER), 0x12);
    wr(f, LCR, 0x03);
    assert_int_equal(rd(f, IER), 0);
    wr(f, IER, 0xff);
    assert_int_equal(rd(f, IER), 0x0f);
    assert_int_equal(rd(f, MSR), 0xb0);
    assert_int_equal(uart_bus_ops.read(&f->uart, 8, 1, &v), -EFAULT);
    assert_int_equal(uart_bus_ops.write(&f->uart, 8, 1, 0), -EFAULT);
}

static void test_loopback(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 1);
    wr(f, MCR, 0x1a); /* the probe of Linux: RTS and OUT2 show up as CTS and DCD */
    assert_int_equal(rd(f, MSR) & 0xf0, 0x90);
    wr(f, THR, 'q');
    assert_int_equal(rd(f, LSR), 0x61);
    assert_false(uart_link_sink.room(&f->uart, 1, 1));
    assert_int_equal(rd(f, RBR), 'q');
    for (unsigned i = 0; i < 17; i++)
        wr(f, THR, (uint8_t)i);
    assert_int_equal(rd(f, LSR), 0x63); /* the seventeenth overran */
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(rd(f, RBR), i);
    wr(f, MCR, 0);
    assert_true(uart_link_sink.room(&f->uart, 1, 1));
    rig_advance(&f->rig, 2 * UART_FLUSH_NS);
    assert_int_equal(f->link.submissions, 0);
}

static void test_fifo_reset(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 1);
    receive(f, "0123456789abcdefWAITING");
    wr(f, FCR, 3); /* the FIFO is emptied, what is still on the line is not */
    assert_int_equal(rd(f, RBR), 'W');
    wr(f, THR, 'x');
    wr(f, FCR, 5);
    assert_int_equal(rd(f, LSR) & 0x60, 0x60);
    rig_advance(&f->rig, 2 * UART_FLUSH_NS);
    assert_int_equal(f->link.submissions, 0);
    wr(f, FCR, 0); /* leaving FIFO mode empties both */
    assert_int_equal(rd(f, IIR), 0x01);
}

static void walk(void *arg, struct state_io *io)
{
    uart_state(arg, io);
}

static void test_reset(void **state)
{
    struct fixture *f = *state;
    uint64_t fresh = state_hash(walk, &f->uart);
    wr(f, FCR, 1);
    wr(f, IER, 3);
    wr(f, THR, 'z');
    assert_true(state_hash(walk, &f->uart) != fresh);
    uart_reset(&f->uart);
    assert_int_equal(f->link.submissions, 1); /* what was sent is not lost */
    assert_false(f->irq);
    memset(f->uart.tx, 0, sizeof f->uart.tx);
    memset(f->uart.message, 0, sizeof f->uart.message);
    assert_true(state_hash(walk, &f->uart) == fresh);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_transmit),  TEST(test_admission),  TEST(test_stream_is_complete), TEST(test_detached),
        TEST(test_receive),   TEST(test_long_input), TEST(test_oversized_input),    TEST(test_priorities),
        TEST(test_registers), TEST(test_loopback),   TEST(test_fifo_reset),         TEST(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
