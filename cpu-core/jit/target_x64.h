/* The host as the translator uses it: registers, condition codes, and which of them hold what while
 * translated code runs. Knows no encoding. */
#pragma once

#include "cpu-core/hart/hart.h"
#include "cpu-core/mmu/mmu.h"

#include <stddef.h>
#include <stdint.h>

enum x64_reg {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    REG_NONE = 0xff
};

enum x64_cond {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};

/* rax and rcx are scratch within one guest instruction. rdx is scratch too, and holds the host address of an
 * access group between its members. */
#define REG_HART RBP /* struct hart + HART_BIAS: x[] is within 8-bit displacements */
#define REG_BANK R14 /* the data bank */
#define REG_LEFT                                                                                             \
    R15 /* h->left less the instructions that the running block was charged for and has not executed */

/* xmm0 to xmm2 are scratch. The others hold the registers of target_fpin[] while hart.f_loaded: blocks load
 * them before their first floating-point instruction, calls and exits write them back. MXCSR has the guest's
 * rounding mode, and collects its flags. */
#define FSCRATCH 3u

#define HART_BIAS 128

#define HART(member) ((int32_t)offsetof(struct hart, member) - HART_BIAS)
#define HART_X(i)    ((int32_t)(offsetof(struct hart, x) + 8 * (size_t)(i)) - HART_BIAS)
#define HART_F(i)    ((int32_t)(offsetof(struct hart, f) + 8 * (size_t)(i)) - HART_BIAS)

/* Host register of a guest register in and between blocks; those without are memory operands. */
static const uint8_t target_pin[32] = {
    REG_NONE, REG_NONE, RBX,      REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, /* sp */
    R12,      R13,      RDI,      RSI,      R8,       R9,       R10,      R11,      /* s0 s1 a0-a5 */
    REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE,
    REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE,
};

/* Host vector register of a floating-point register: fa0-fa7, ft0-ft3, fs0. */
static const uint8_t target_fpin[32] = {
    11,       12,       13,       14,       REG_NONE, REG_NONE, REG_NONE, REG_NONE, /* ft0-ft3 */
    15,       REG_NONE, 3,        4,        5,        6,        7,        8,        /* fs0 fa0-fa5 */
    9,        10,       REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, /* fa6 fa7 */
    REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE, REG_NONE,
};
