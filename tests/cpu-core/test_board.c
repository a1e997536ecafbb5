/* The board as a whole: memory map, device tree, boot protocol, syscon, reboot. */
#include "cpu-core/board/board.h"
#include "cpu-core/board/devicetree.h"
#include "cpu-core/state/state.h"
#include "tests/cpu-core/link_double.h"
#include "tests/cpu-core/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)

static const uint8_t bios[] = {0x33, 0x04, 0x05, 0x00, 1, 2, 3, 4};
static const uint8_t kernel[] = {0x6f, 0x00, 0x00, 0x10, 5, 6, 7, 8};
static const uint8_t initrd[5000] = {'0', '7', '0', '7'};

struct fixture {
    struct rig rig;
    struct board *board;
    struct board_config cfg;
    enum board_request request;
    uint32_t status;
    char err[200];
};

static void request(void *arg, enum board_request what, uint32_t status)
{
    ((struct fixture *)arg)->request = what;
    ((struct fixture *)arg)->status = status;
}

static void ipi(void *arg, struct hart *from, unsigned to) {}

static int try_board(struct fixture *f)
{
    const struct board_hooks hooks = {ipi, request, f};
    rig_create(&f->rig, f->cfg.memory, f->cfg.cpus);
    f->board = NULL;
    int e = board_create(&f->board, &f->cfg, &f->rig.bus, f->rig.mmu, &f->rig.clock, f->rig.harts, &hooks,
                         f->err, sizeof f->err);
    return e ? e : board_boot(f->board, f->err, sizeof f->err);
}

static struct fixture defaults(void)
{
    struct fixture f = {.cfg = {.memory = 1024 * MIB,
                                .cpus = 2,
                                .mmu_levels = 4,
                                .slots = 8,
                                .seed = 1,
                                .append = "console=ttyS0",
                                .bios = bios,
                                .bios_len = sizeof bios,
                                .kernel = kernel,
                                .kernel_len = sizeof kernel,
                                .initrd = initrd,
                                .initrd_len = sizeof initrd}};
    return f;
}

static void finish(struct fixture *f)
{
    board_destroy(f->board);
    rig_destroy(&f->rig);
}

/* The addresses that QEMU 10 chooses for the same command line. */
static void test_placement(void **state)
{
    struct fixture f = defaults();
    assert_int_equal(try_board(&f), 0);
    assert_int_equal(rig_peek(&f.rig, 0x80000000, 8), 0x0403020100050433);
    assert_int_equal(rig_peek(&f.rig, 0x80200000, 8), 0x080706051000006f);
    assert_int_equal(rig_peek(&f.rig, 0xa0200000, 4), 0x37303730);
    const uint32_t rom[] = {0x00000297, 0x02828613, 0xf1402573, 0x0202b583, 0x0182b283, 0x00028067,
                            0x80000000, 0,          0xbfe00000, 0,          0x4942534f, 0,
                            2,          0,          0x80200000, 0,          1,          0,
                            0,          0,          0,          0};
    for (unsigned i = 0; i < sizeof rom / sizeof *rom; i++)
        assert_int_equal(rig_read(&f.rig, 0x1000 + 4 * i, 4), rom[i]);
    assert_int_equal(rig_read(&f.rig, 0xfff8, 8), 0);
    assert_int_equal(bus_write(&f.rig.bus, 0x1000, 4, 0), -EFAULT);
    size_t len;
    const void *fdt = board_fdt(f.board, &len);
    assert_memory_equal(ram_at(&f.rig.ram, 0xbfe00000), fdt, len);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(f.rig.hart[i].pc, 0x1000);
        assert_int_equal(f.rig.hart[i].mip, IRQ_MTIP);
    }
    finish(&f);
}

/* The six instructions at 0x1000 are fetched from ROM; nothing around it can be executed. */
static void test_fetch(void **state)
{
    struct fixture f = defaults();
    struct mmu_target t;
    assert_int_equal(try_board(&f), 0);
    assert_int_equal(mmu_fetch(&f.rig.hart[0], 0x1014, &t), 0);
    assert_int_equal(t.host[0] | t.host[1] << 8, 0x8067);
    assert_int_equal(mmu_fetch(&f.rig.hart[0], 0x2000, &t), -EFAULT);
    assert_int_equal(f.rig.hart[0].exc_cause, EXC_INSN_ACCESS);
    assert_int_equal(mmu_fetch(&f.rig.hart[0], 0x10000000, &t), -EFAULT);
    finish(&f);
}

static void test_without_bios(void **state)
{
    struct fixture f = defaults();
    f.cfg.bios = NULL;
    f.cfg.memory = 256 * MIB;
    assert_int_equal(try_board(&f), 0);
    assert_int_equal(rig_peek(&f.rig, 0x80000000, 8), 0x080706051000006f);
    assert_int_equal(rig_read(&f.rig, 0x1018, 8), 0x80000000);
    assert_int_equal(rig_peek(&f.rig, 0x88000000, 4), 0x37303730); /* half the memory */
    finish(&f);
    f = defaults();
    f.cfg.kernel = f.cfg.initrd = NULL;
    f.cfg.append = NULL;
    assert_int_equal(try_board(&f), 0);
    assert_int_equal(rig_read(&f.rig, 0x1038, 8), 0); /* no next stage */
    finish(&f);
}

static const char *get_string(const void *fdt, const char *path, const char *name)
{
    return fdt_getprop(fdt, fdt_path_offset(fdt, path), name, NULL);
}

static uint32_t get_cell(const void *fdt, const char *path, const char *name, unsigned i)
{
    int len = 0;
    const fdt32_t *v = fdt_getprop(fdt, fdt_path_offset(fdt, path), name, &len);
    assert_non_null(v);
    assert_true((int)(4 * i) < len);
    return fdt32_to_cpu(v[i]);
}

static void test_device_tree(void **state)
{
    struct fixture f = defaults();
    size_t len;
    f.cfg.slots = 12;
    assert_int_equal(try_board(&f), 0);
    const void *t = board_fdt(f.board, &len);
    assert_int_equal(fdt_check_full(t, len), 0);
    assert_string_equal(get_string(t, "/", "compatible"), "riscv-virtio");
    assert_string_equal(get_string(t, "/chosen", "bootargs"), "console=ttyS0");
    assert_int_equal(get_cell(t, "/chosen", "linux,initrd-start", 1), 0xa0200000);
    assert_int_equal(get_cell(t, "/chosen", "linux,initrd-end", 1), 0xa0200000 + sizeof initrd);
    assert_int_equal(get_cell(t, "/memory@80000000", "reg", 3), 0x40000000);
    assert_int_equal(get_cell(t, "/cpus", "timebase-frequency", 0), 10000000);
    assert_string_equal(get_string(t, "/cpus/cpu@1", "mmu-type"), "riscv,sv48");
    assert_string_equal(get_string(t, "/cpus/cpu@0", "riscv,isa-base"), "rv64i");
    assert_int_equal(get_cell(t, "/cpus/cpu@0", "riscv,cboz-block-size", 0), 64);
    assert_int_equal(get_cell(t, "/soc/plic@c000000", "riscv,ndev", 0), 95);
    assert_int_equal(get_cell(t, "/soc/plic@c000000", "interrupts-extended", 7), 9);
    assert_int_equal(get_cell(t, "/soc/clint@2000000", "interrupts-extended", 5), 3);
    assert_int_equal(get_cell(t, "/soc/serial@10000000", "clock-frequency", 0), 3686400);
    assert_int_equal(get_cell(t, "/soc/virtio_mmio@10001000", "interrupts", 0), 1);
    assert_int_equal(get_cell(t, "/soc/virtio_mmio@10008000", "interrupts", 0), 8);
    assert_int_equal(get_cell(t, "/soc/virtio_mmio@1000c000", "interrupts", 0), 39);
    assert_true(fdt_path_offset(t, "/soc/virtio_mmio@10001000") <
                fdt_path_offset(t, "/soc/virtio_mmio@10002000"));
    assert_true(fdt_path_offset(t, "/cpus/cpu@2") < 0);
    assert_int_equal(get_cell(t, "/reboot", "value", 0), 0x7777);
    assert_int_equal(get_cell(t, "/poweroff", "regmap", 0), get_cell(t, "/soc/test@100000", "phandle", 0));
    finish(&f);
}

static void test_isa(void **state)
{
    static const char *const expected[] = {
        "i",      "m",       "a",      "f",      "d",       "c",        "zicbom",    "zicbop",
        "zicboz", "zicclsm", "zicntr", "zicond", "zicsr",   "zifencei", "zihintntl", "zihintpause",
        "zawrs",  "zfa",     "zfh",    "zfhmin", "zca",     "zcb",      "zba",       "zbb",
        "zbc",    "zbs",     "sstc",   "svadu",  "svinval", "svnapot",  "svpbmt",    "svvptc"};
    struct fixture f = defaults();
    size_t len;
    assert_int_equal(try_board(&f), 0);
    const void *t = board_fdt(f.board, &len);
    int cpu = fdt_path_offset(t, "/cpus/cpu@0"), n = (int)(sizeof expected / sizeof *expected);
    assert_int_equal(fdt_stringlist_count(t, cpu, "riscv,isa-extensions"), n);
    char joined[300] = "rv64";
    for (int i = 0; i < n; i++) {
        assert_true(fdt_stringlist_search(t, cpu, "riscv,isa-extensions", expected[i]) >= 0);
        if (i >= 6)
            strcat(joined, "_");
        strcat(joined, expected[i]);
    }
    assert_string_equal(get_string(t, "/cpus/cpu@0", "riscv,isa"), joined);
    finish(&f);
}

static void test_rng_seed(void **state)
{
    uint8_t a[32], b[32];
    struct fixture f = defaults();
    size_t flen;
    int len;
    devicetree_rng_seed(1, a);
    devicetree_rng_seed(2, b);
    assert_memory_not_equal(a, b, 32);
    assert_int_equal(try_board(&f), 0);
    const void *t = board_fdt(f.board, &flen),
               *seed = fdt_getprop(t, fdt_path_offset(t, "/chosen"), "rng-seed", &len);
    assert_int_equal(len, 32);
    assert_memory_equal(seed, a, 32);
    finish(&f);
}

static void test_syscon(void **state)
{
    struct fixture f = defaults();
    assert_int_equal(try_board(&f), 0);
    rig_write(&f.rig, 0x100000, 4, 0x1234);
    rig_write(&f.rig, 0x100004, 4, 0x5555);
    assert_int_equal(f.request, BOARD_NONE);
    rig_write(&f.rig, 0x100000, 4, 0x5555);
    assert_int_equal(f.request, BOARD_POWEROFF);
    rig_write(&f.rig, 0x100000, 4, 0x7777);
    assert_int_equal(f.request, BOARD_REBOOT);
    rig_write(&f.rig, 0x100000, 4, 42 << 16 | 0x3333);
    assert_int_equal(f.request, BOARD_FAIL);
    assert_int_equal(f.status, 42);
    finish(&f);
}

/* The last bytes before a power-off are not lost. */
static void test_output_before_poweroff(void **state)
{
    static struct link l;
    struct fixture f = defaults();
    assert_int_equal(try_board(&f), 0);
    double_init(&l, &board_uart_sink, f.board);
    board_uart_attach(f.board, &l);
    rig_write(&f.rig, 0x10000000, 1, '!');
    rig_write(&f.rig, 0x100000, 4, 0x5555);
    assert_int_equal(l.submissions, 1);
    assert_int_equal(l.request[0][0].bytes[0], '!');
    assert_true(board_flush(f.board));
    finish(&f);
}

static void test_interrupt_wiring(void **state)
{
    static struct link l;
    struct fixture f = defaults();
    assert_int_equal(try_board(&f), 0);
    double_init(&l, &board_uart_sink, f.board);
    board_uart_attach(f.board, &l);
    rig_write(&f.rig, 0xc000000 + 4 * 10, 4, 1);
    rig_write(&f.rig, 0xc002000 + 0x80 * 3, 4, 1 << 10); /* S-mode of hart 1 */
    rig_write(&f.rig, 0x10000001, 1, 1);
    assert_true(board_uart_sink.room(f.board, 1, 1));
    board_uart_sink.received(f.board, 1, (const uint8_t *)"x", 1);
    assert_true(f.rig.hart[1].mip & IRQ_SEIP);
    assert_false(f.rig.hart[0].mip & (IRQ_SEIP | IRQ_MEIP));
    assert_int_equal(rig_read(&f.rig, 0xc203004, 4), 10);
    assert_false(f.rig.hart[1].mip & IRQ_SEIP);
    finish(&f);
}

static void walk(void *arg, struct state_io *io)
{
    board_state(((struct fixture *)arg)->board, io);
}

static void test_reboot(void **state)
{
    struct fixture f = defaults();
    assert_int_equal(try_board(&f), 0);
    uint64_t fresh = state_hash(walk, &f);
    rig_advance(&f.rig, 1000);
    rig_poke(&f.rig, 0x80200000, 8, 0);
    rig_poke(&f.rig, 0x80300000, 8, 99);
    rig_write(&f.rig, 0xc000000 + 4 * 10, 4, 1);
    rig_write(&f.rig, 0x10000007, 1, 0x77);
    rig_write(&f.rig, 0x101010, 4, 1);
    f.rig.hart[1].pc = 77;
    assert_true(state_hash(walk, &f) != fresh);
    assert_int_equal(board_boot(f.board, f.err, sizeof f.err), 0);
    assert_true(state_hash(walk, &f) == fresh);
    assert_int_equal(rig_peek(&f.rig, 0x80200000, 8), 0x080706051000006f);
    assert_int_equal(rig_peek(&f.rig, 0x80300000, 8), 99); /* memory is not cleared */
    assert_int_equal(f.rig.hart[1].pc, 0x1000);
    assert_int_equal(hart_icount(&f.rig.hart[1]), 1000); /* time goes on */
    finish(&f);
}

static void test_slots(void **state)
{
    struct fixture f = defaults();
    f.cfg.slots = 32;
    assert_int_equal(try_board(&f), 0);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(rig_read(&f.rig, 0x10001000 + 0x1000 * i, 4), 0x74726976);
        assert_int_equal(rig_read(&f.rig, 0x10001008 + 0x1000 * i, 4), 0);
        assert_non_null(board_slot(f.board, i));
    }
    assert_null(board_slot(f.board, 32));
    finish(&f);
}

static void assert_refused(struct fixture *f, const char *why)
{
    memset(f->err, 0, sizeof f->err);
    assert_int_equal(try_board(f), -EINVAL);
    assert_string_equal(f->err, why);
    finish(f);
}

static void test_bad_input(void **state)
{
    static const uint8_t text[] = "hello, this is a text file\n", gzip[64] = {0x1f, 0x8b, 8};
    uint8_t *big = calloc(1, 65 * MIB);
    assert_non_null(big);
    struct fixture f = defaults();
    f.cfg.kernel_len = 0;
    assert_refused(&f, "kernel: empty file");
    f = defaults();
    f.cfg.kernel = text;
    f.cfg.kernel_len = sizeof text - 1;
    assert_refused(&f, "kernel: not an ELF or Image, nor a flat program");
    f = defaults();
    f.cfg.bios = text;
    f.cfg.bios_len = sizeof text - 1;
    assert_refused(&f, "bios: not an ELF or Image, nor a flat program");
    f.cfg.bios = gzip;
    assert_refused(&f, "bios: not an ELF or flat program");
    f = defaults();
    f.cfg.kernel = gzip;
    f.cfg.kernel_len = 12;
    assert_refused(&f, "kernel: truncated gzip data");
    f = defaults();
    f.cfg.initrd_len = 0;
    assert_refused(&f, "initrd: empty file");
    f = defaults();
    f.cfg.kernel = NULL;
    assert_refused(&f, "initrd: there is no kernel to take it");
    f.cfg.bios = f.cfg.initrd = NULL;
    assert_refused(&f, "kernel: neither a kernel nor a bios was given");
    f = defaults();
    f.cfg.memory = 64 * MIB;
    f.cfg.initrd = big;
    f.cfg.initrd_len = 31 * MIB;
    assert_refused(&f,
                   "initrd: too large for memory: 32505856 bytes at 0x82200000, space ends at 0x83e00000");
    f = defaults();
    f.cfg.memory = 64 * MIB;
    memcpy(big, kernel, sizeof kernel);
    f.cfg.kernel = big;
    f.cfg.kernel_len = 33 * MIB;
    assert_refused(&f,
                   "kernel: too large for memory: 34603008 bytes at 0x80200000, space ends at 0x82200000");
    f = defaults();
    f.cfg.memory = 64 * MIB;
    f.cfg.bios = big;
    f.cfg.bios_len = 65 * MIB;
    f.cfg.initrd = NULL;
    assert_refused(&f, "bios: too large for memory: 68157440 bytes at 0x80000000, space ends at 0x83e00000");
    f = defaults();
    f.cfg.memory = 4096;
    f.cfg.initrd = NULL;
    assert_refused(&f, "memory: too small for the device tree");
    f = defaults();
    f.cfg.slots = 33;
    assert_refused(&f, "slots: 33 is not between 8 and 32");
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_without_bios),
        cmocka_unit_test(test_device_tree),
        cmocka_unit_test(test_isa),
        cmocka_unit_test(test_rng_seed),
        cmocka_unit_test(test_syscon),
        cmocka_unit_test(test_output_before_poweroff),
        cmocka_unit_test(test_interrupt_wiring),
        cmocka_unit_test(test_reboot),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
