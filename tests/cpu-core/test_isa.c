/* The decoder made from the instruction table: every line, every compressed encoding, reserved forms, operand
 * placement and text. */
#include "cpu-core/isa/isa.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* With any operands, a line decodes as itself, as a more specific line, or, where it has reserved operands,
 * not at all. */
static void test_every_line(void **state)
{
    uint64_t random = 1;

    for (unsigned line = 0; line < ISA_COUNT; line++) {
        const struct isa_info *info = &isa_table[line];
        unsigned hits = 0;
        for (unsigned i = 0; i < 2000; i++) {
            uint32_t free_bits = ~info->mask & (info->len == 2 ? 0xffffu : ~0u);
            uint32_t bits = info->match | ((uint32_t)next(&random) & free_bits);
            struct insn in;
            if (isa_decode(bits, &in) != 0) {
                assert_true(info->nonzero != ISA_FIELD_CONST || info->flags & ISA_RM || line == INSN_C_MV ||
                            line == INSN_C_LUI);
                continue;
            }
            assert_int_equal(in.bits, bits);
            assert_int_equal(in.len, info->len);
            assert_int_equal(in.op, isa_table[in.line].base);
            assert_true(in.op < ISA_BASE_COUNT);
            hits += in.line == line;
            if (in.line != line)
                assert_int_equal(isa_table[in.line].mask & info->mask, info->mask);
        }
        assert_true(hits > 0);
    }
}

static uint64_t value_of(const struct insn *in, unsigned target)
{
    const uint64_t values[] = {0, in->rd, in->rs1, in->rs2, in->rs3, in->rm, (uint64_t)(int64_t)in->imm};

    return values[target];
}

/* What isa_place() puts into a field is what the decoder gets out. */
static void test_operands(void **state)
{
    uint64_t random = 2;

    for (unsigned line = 0; line < ISA_COUNT; line++)
        for (unsigned i = 0; i < isa_table[line].noperands; i++) {
            const struct isa_operand *o = &isa_table[line].operands[i];
            const struct isa_field *f = &isa_fields[o->field];
            if (o->field == ISA_FIELD_CONST || o->target == ISA_TARGET_RM)
                continue;
            for (unsigned n = 0; n < 100; n++) {
                int32_t value =
                    (int32_t)(((uint32_t)next(&random) & ((1u << f->width) - 1)) << f->shift) + f->plus;
                struct insn in;
                if (f->is_signed)
                    value = (int32_t)((uint32_t)value << (32 - f->width - f->shift)) >>
                            (32 - f->width - f->shift);
                if (isa_decode(isa_place(isa_table[line].match | 0x5a5 << 7, o->field, value), &in) == 0 &&
                    in.line == line)
                    assert_int_equal(value_of(&in, o->target), (uint64_t)(int64_t)value);
            }
        }
}

static void test_illegal(void **state)
{
    static const uint32_t illegal[] = {
        0x0000,                /* all zeros */
        0x0004,                /* c.addi4spn without immediate */
        0x2001,                /* c.addiw to x0 */
        0x6001,                /* c.lui without immediate */
        0x6101,                /* c.addi16sp without immediate */
        0x4002,                /* c.lwsp to x0 */
        0x6002,                /* c.ldsp to x0 */
        0x8002,                /* c.jr x0 */
        0x9c79,                /* reserved arithmetic */
        0x8c40,                /* reserved Zcb store */
        0x0000701b,            /* OP-IMM-32 with funct3 7 */
        0x02000033 | 1u << 31, /* OP with an unknown funct7 */
        0x0000707f,            /* unknown major opcode */
        0x00005053,            /* fadd.s with rm = 5 */
        0x02006053,            /* fadd.d with rm = 6 */
        0x06000053,            /* fadd.q */
        0x1000202f | 1u << 20, /* lr.w with rs2 */
        0xffffffff,
        0x30200073 | 1u << 7, /* mret with rd */
        0x12000073 | 1u << 7, /* sfence.vma with rd */
        0x00004073,           /* SYSTEM with funct3 4 */
    };

    for (unsigned i = 0; i < sizeof illegal / sizeof *illegal; i++) {
        struct insn in, before;
        memset(&in, 0x55, sizeof in);
        before = in;
        if (isa_decode(illegal[i], &in) != -EINVAL)
            fail_msg("%#x decodes as %s", illegal[i], isa_name(in.line));
        assert_memory_equal(&in, &before, sizeof in);
    }
}

/* How many of the 49152 compressed encodings are legal, counted from the C and Zcb chapters' encoding tables.
 */
static void test_compressed_space(void **state)
{
    unsigned quadrant[3] = {0};

    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        struct insn in;
        if ((bits & 3) != 3 && isa_decode(bits, &in) == 0) {
            assert_int_equal(in.len, 2);
            quadrant[bits & 3]++;
        }
    }
    /* Quadrant 0: c.addi4spn 255 * 8, six full rows, and in row 4 c.lbu, c.lhu with c.lh, c.sb (256 each) and
     * c.sh (128). */
    assert_int_equal(quadrant[0], 255 * 8 + 6 * 2048 + 3 * 256 + 128);
    /* Quadrant 1: c.addi, c.addiw but x0, c.li, c.lui and c.addi16sp with immediate, arithmetic, c.j,
     * branches. */
    assert_int_equal(quadrant[1],
                     2048 + 31 * 64 + 2048 + 32 * 63 + (3 * 512 + 6 * 64 + 64 + 8 * 6) + 3 * 2048);
    /* Quadrant 2: c.slli, c.fldsp, loads but to x0, jumps and moves but c.jr x0, three stores. */
    assert_int_equal(quadrant[2], 2048 + 2048 + 2 * 31 * 64 + 2047 + 3 * 2048);
}

static void test_text(void **state)
{
    static const struct {
        uint32_t bits;
        const char *text;
    } cases[] = {
        {0xfff50513, "addi a0,a0,-1"},
        {0x157d, "c.addi a0,a0,-1"},
        {0x00813083, "ld ra,sp,8"},
        {0xfe0516e3, "bne a0,zero,0xfec"},
        {0x02c5f553, "fadd.d fa0,fa1,fa2,dyn"},
        {0x30529073, "csrrw zero,t0,0x305"},
        {0x00000073, "ecall"},
        {0x0100000f, "pause"},
        {0x00200033, "ntl.p1"},
        {0x9002, "c.ebreak"},
        {0x0000, ".half 0x0000"},
        {0xffffffff, ".word 0xffffffff"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64], cut[6];
        assert_int_equal(isa_format(cases[i].bits, 0x1000, text, sizeof text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_true(isa_format(cases[i].bits, 0x1000, cut, sizeof cut) < sizeof cut);
        assert_memory_equal(cut, text, strlen(cut));
    }
    assert_int_equal(isa_format(0, 0, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_line), cmocka_unit_test(test_operands),
        cmocka_unit_test(test_illegal),    cmocka_unit_test(test_compressed_space),
        cmocka_unit_test(test_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
