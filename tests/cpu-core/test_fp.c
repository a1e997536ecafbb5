/*
 * The softfloat against directed cases and the host's floating point; half precision, exhaustively where it
 * has one operand, also against double precision.
 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu-core/fp/fp.h"
#include "tests/cpu-core/fp_half.h"
#include "tests/cpu-core/fp_host.h"
#include "tests/cpu-core/fp_vectors.h"
#include "tests/fp/model.h"
#include "tests/fp/operands.h"

static const unsigned cases_per_op_and_mode = 20000;

static uint64_t to_register(enum operand operand, uint64_t value)
{
    switch (operand) {
    case OPERAND_F16:
        return fp_box16((uint16_t)value);
    case OPERAND_F32:
        return fp_box32((uint32_t)value);
    default:
        return value;
    }
}

static void assert_outcome(enum op op, const uint64_t x[3], unsigned rm, uint64_t result, uint32_t fflags)
{
    uint32_t got_flags = 0;
    uint64_t got = model_run(op, x, rm, &got_flags);

    if (got != result || got_flags != fflags)
        fail_msg("%s rm %u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 ": got %016" PRIx64 " flags %02" PRIx32
                 ", expected %016" PRIx64 " flags %02" PRIx32,
                 op_table[op].name, rm, x[0], x[1], x[2], got, got_flags, result, fflags);
}

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < fp_vector_count; i++) {
        const struct vector *v = &fp_vectors[i];
        const struct op_info *info = &op_table[v->op];
        uint64_t x[3];
        for (int j = 0; j < 3; j++)
            x[j] = to_register(info->operand, v->x[j]);
        for (unsigned rm = 0; rm < RM_COUNT; rm++)
            if (v->modes >> rm & 1)
                assert_outcome(v->op, x, rm, to_register(info->result, v->result), v->fflags);
    }
}

static void test_flags_accumulate(void **state)
{
    uint32_t fflags = FP_DZ | FP_OF;

    (void)state;
    fp_f64_add(UINT64_C(0x3ff0000000000000), 1, FP_RNE, &fflags);
    assert_int_equal(fflags, FP_DZ | FP_OF | FP_NX);
    fp_f64_add(0, 0, FP_RNE, &fflags);
    assert_int_equal(fflags, FP_DZ | FP_OF | FP_NX);
}

static void test_boxing(void **state)
{
    (void)state;
    assert_int_equal(fp_box32(0x3f800000), UINT64_C(0xffffffff3f800000));
    assert_int_equal(fp_unbox32(UINT64_C(0xffffffff3f800000)), 0x3f800000);
    assert_int_equal(fp_unbox32(UINT64_C(0xfffffffe3f800000)), FP_F32_NAN);
    assert_int_equal(fp_unbox32(0x3f800000), FP_F32_NAN);
    assert_int_equal(fp_box16(0x3c00), UINT64_C(0xffffffffffff3c00));
    assert_int_equal(fp_unbox16(UINT64_C(0xffffffffffff3c00)), 0x3c00);
    assert_int_equal(fp_unbox16(UINT64_C(0xfffffffffffe3c00)), FP_F16_NAN);
    assert_int_equal(fp_unbox16(UINT64_C(0xffffffff00003c00)), FP_F16_NAN);
}

static uint64_t bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void test_load_immediate(void **state)
{
    /* The half-precision forms of what that format has below its normal numbers and not at all. */
    static const uint16_t halves[32] = {
        [1] = 0x0400, [2] = 0x0100, [3] = 0x0200, [29] = 0x7c00, [30] = 0x7c00, [31] = FP_F16_NAN};
    static const double values[30] = {
        -1.0,  0,      0x1p-16, 0x1p-15, 0x1p-8, 0x1p-7, 0.0625, 0.125, 0.25,    0.3125,
        0.375, 0.4375, 0.5,     0.625,   0.75,   0.875,  1.0,    1.25,  1.5,     1.75,
        2.0,   2.5,    3.0,     4.0,     8.0,    16.0,   128.0,  256.0, 32768.0, 65536.0,
    };

    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        if (i == 1)
            continue;
        assert_int_equal(fp_f64_fli(i), bits_of_double(values[i]));
        assert_int_equal(fp_f32_fli(i), bits_of_float((float)values[i]));
    }
    for (unsigned i = 0; i < 32; i++) {
        uint32_t fflags = 0;
        if (halves[i])
            assert_int_equal(fp_f16_fli(i), halves[i]);
        else
            assert_int_equal(fp_f16_to_f64(fp_f16_fli(i), &fflags), fp_f64_fli(i));
    }
    assert_int_equal(fp_f64_fli(1), UINT64_C(0x0010000000000000));
    assert_int_equal(fp_f32_fli(1), 0x00800000);
    assert_int_equal(fp_f64_fli(30), UINT64_C(0x7ff0000000000000));
    assert_int_equal(fp_f32_fli(30), 0x7f800000);
    assert_int_equal(fp_f64_fli(31), FP_F64_NAN);
    assert_int_equal(fp_f32_fli(31), FP_F32_NAN);
}

static bool all_boxed(enum operand operand, const uint64_t x[3])
{
    return operand != OPERAND_F32 || (x[0] & x[1] & x[2]) >> 32 == UINT32_MAX;
}

/* Returns how many of the cases the host could judge. */
static unsigned compare_with_host(enum op op, unsigned rm, uint32_t compared_flags)
{
    unsigned judged = 0;

    for (unsigned i = 0; i < cases_per_op_and_mode; i++) {
        uint64_t x[3], expected;
        uint32_t expected_flags;
        uint32_t fflags = 0;

        draw_operands(rm, i, op_table[op].operand, x);
        if (!all_boxed(op_table[op].operand, x) || !host_run(op, x, rm, &expected, &expected_flags))
            continue;
        judged++;
        uint64_t got = model_run(op, x, rm, &fflags);
        if (got != expected || (fflags ^ expected_flags) & compared_flags)
            assert_outcome(op, x, rm, expected, expected_flags);
    }
    return judged;
}

static void test_host(void **state)
{
    uint32_t flags = FP_NX | FP_OF | FP_DZ | FP_NV | (host_detects_tininess_after_rounding() ? FP_UF : 0);

    (void)state;
    for (enum op op = 0; op < OP_COUNT; op++) {
        if (!host_supports(op))
            continue;
        for (unsigned rm = FP_RNE; rm <= FP_RUP; rm++)
            assert_true(compare_with_host(op, rm, flags) > cases_per_op_and_mode / 5);
    }
}

static double half_value(uint16_t h)
{
    int exp = h >> 10 & 0x1f;
    double mag = exp ? ldexp(0x400 | (h & 0x3ff), exp - 25) : ldexp(h & 0x3ff, -24);
    return h >> 15 ? -mag : mag;
}

static void test_half_widening(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= UINT16_MAX; i++) {
        uint16_t h = (uint16_t)i;
        uint32_t fflags = 0;
        if ((h & 0x7c00) == 0x7c00)
            continue;
        assert_int_equal(fp_f16_to_f64(h, &fflags), bits_of_double(half_value(h)));
        assert_int_equal(fp_f16_to_f32(h, &fflags), bits_of_float((float)half_value(h)));
        for (unsigned rm = 0; rm < RM_COUNT; rm++) {
            assert_int_equal(fp_f32_to_f16(fp_f16_to_f32(h, &fflags), rm, &fflags), h);
            assert_int_equal(fp_f64_to_f16(fp_f16_to_f64(h, &fflags), rm, &fflags), h);
        }
        assert_int_equal(fflags, 0);
    }
}

/* Between each pair of neighbours: a quarter, a half and three quarters of the way, rounded in all modes. */
static void test_half_narrowing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 0x7bff; i++) {
        double low = half_value((uint16_t)i);
        double high = half_value((uint16_t)(i + 1));
        for (int quarter = 1; quarter <= 3; quarter++) {
            double value = low + (high - low) * quarter / 4;
            bool tie = quarter == 2;
            uint16_t nearest = (uint16_t)(i + (quarter > 2 || (tie && (i & 1))));
            uint16_t expected[RM_COUNT] = {nearest, (uint16_t)i, (uint16_t)i, (uint16_t)(i + 1),
                                           (uint16_t)(i + (quarter >= 2))};
            for (unsigned rm = 0; rm < RM_COUNT; rm++) {
                /* Halfway into the last gap below the normals, 11 digits would still end below them. */
                bool tiny = i < 0x3ff || (i == 0x3ff && (expected[rm] == i || quarter <= 2));
                uint32_t raised = tiny ? FP_UF | FP_NX : FP_NX;
                uint32_t fflags = 0;
                assert_int_equal(fp_f64_to_f16(bits_of_double(value), rm, &fflags), expected[rm]);
                assert_int_equal(fp_f32_to_f16(bits_of_float((float)value), rm, &fflags), expected[rm]);
                assert_int_equal(fflags, raised);
            }
        }
    }
}

/* Every half as the first operand, then operands as they are drawn. */
static void test_half_against_double(void **state)
{
    (void)state;
    for (enum op op = 0; op < OP_COUNT; op++) {
        if (!half_supports(op))
            continue;
        for (unsigned rm = 0; rm < op_modes(&op_table[op]); rm++)
            for (unsigned i = 0; i < 2 << 16; i++) {
                uint64_t x[3];
                uint32_t fflags = 0;
                draw_operands(rm, i, op_table[op].operand, x);
                if (op_table[op].operand == OPERAND_F16 && i <= UINT16_MAX)
                    x[0] = fp_box16((uint16_t)i);
                uint64_t expected = half_run(op, x, rm, &fflags);
                assert_outcome(op, x, rm, expected, fflags);
            }
    }
}

static unsigned half_class(uint16_t h)
{
    bool negative = h >> 15;
    unsigned mag = h & 0x7fff;

    if (mag > 0x7c00)
        return mag & 0x0200 ? FP_CLASS_QNAN : FP_CLASS_SNAN;
    if (mag == 0x7c00)
        return negative ? FP_CLASS_NEG_INF : FP_CLASS_POS_INF;
    if (mag >= 0x0400)
        return negative ? FP_CLASS_NEG_NORMAL : FP_CLASS_POS_NORMAL;
    if (mag)
        return negative ? FP_CLASS_NEG_SUBNORMAL : FP_CLASS_POS_SUBNORMAL;
    return negative ? FP_CLASS_NEG_ZERO : FP_CLASS_POS_ZERO;
}

static void test_half_class(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= UINT16_MAX; i++)
        assert_int_equal(fp_f16_class((uint16_t)i), half_class((uint16_t)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),        cmocka_unit_test(test_flags_accumulate),
        cmocka_unit_test(test_boxing),         cmocka_unit_test(test_load_immediate),
        cmocka_unit_test(test_host),           cmocka_unit_test(test_half_widening),
        cmocka_unit_test(test_half_narrowing), cmocka_unit_test(test_half_against_double),
        cmocka_unit_test(test_half_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
