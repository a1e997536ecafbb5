/* The reader of block dumps: what the translator writes, and what a hostile process might. */
#include "cpu-core/jit/jit.h"
#include "tests/insn/bare.h"
#include "tools/disasm/blocks.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static const uint32_t code[] = {0x00150513 /* addi a0, a0, 1 */, 0x00a58593 /* addi a1, a1, 10 */,
                                0xff9ff06f /* jal zero, -8 */};

/* A dump of a loop of three instructions, in a fresh file. */
static int make_dump(void)
{
    static struct bare b;
    int fd = memfd_create("blocks", 0);

    assert_int_equal(bare_create(&b, &jit_engine, 1 << 20, false), 0);
    jit_set_heat(b.engine, 0);
    jit_count_blocks(b.engine);
    assert_int_equal(mmu_dma_write(b.mmu, RAM_BASE, code, sizeof code), 0);
    bare_run(&b, 1000);
    assert_int_equal(jit_dump(b.engine, fd), 0);
    bare_destroy(&b);
    return fd;
}

static void test_content(void **state)
{
    struct blocks_dump d;
    int fd = make_dump();

    assert_int_equal(blocks_read(fd, &d), 0);
    assert_int_equal(d.n, 1);
    const struct dump_block *b = d.blocks[0];
    assert_int_equal(b->pa, RAM_BASE);
    assert_int_equal(b->va, RAM_BASE);
    assert_int_equal(b->priv, PRIV_M);
    assert_int_equal(b->insns, 3);
    assert_int_equal(b->executed, 1000 / 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(blocks_insns(b)[i].bits, code[i]);
        assert_int_equal(blocks_pc(b, i), RAM_BASE + 4 * i);
        assert_true(blocks_has(b, RAM_BASE + 4 * i));
    }
    assert_false(blocks_has(b, RAM_BASE + 12));
    assert_true(b->code_len > 0 && b->stubs_len > 0);
    blocks_release(&d);
    close(fd);
}

static void test_cut(void **state)
{
    struct blocks_dump d;
    int fd = make_dump();
    off_t len = lseek(fd, 0, SEEK_END);

    while (len-- > 0) {
        assert_int_equal(ftruncate(fd, len), 0);
        assert_int_equal(blocks_read(fd, &d), -EBADMSG);
    }
    close(fd);
}

/* What is accepted lies within what was read. */
static unsigned sum(const struct blocks_dump *d)
{
    unsigned total = 0;

    for (size_t i = 0; i < d->n; i++) {
        const struct dump_block *b = d->blocks[i];
        for (unsigned k = 0; k < b->insns; k++)
            for (uint32_t at = 0; at < blocks_insns(b)[k].at; at++)
                total += blocks_code(b)[at];
        for (uint32_t k = 0; k < b->stubs_len; k++)
            total += blocks_stubs(b)[k];
    }
    return total;
}

static void test_damage(void **state)
{
    struct blocks_dump d;
    int fd = make_dump();
    off_t len = lseek(fd, 0, SEEK_END);
    unsigned total = 0;

    for (off_t at = 0; at < len; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t good, bad;
            assert_int_equal(pread(fd, &good, 1, at), 1);
            bad = good ^ (uint8_t)(1u << bit);
            assert_int_equal(pwrite(fd, &bad, 1, at), 1);
            if (blocks_read(fd, &d) == 0) {
                total += sum(&d);
                blocks_release(&d);
            }
            assert_int_equal(pwrite(fd, &good, 1, at), 1);
        }
    assert_true(total > 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
