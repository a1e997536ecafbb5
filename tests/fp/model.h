/*
 * What each instruction under test computes, in terms of the softfloat.
 */
#pragma once

#include <stdint.h>

#include "tests/fp/ops.h"

/* The destination register after `op` on registers x[]; rm is the dynamic rounding mode, flags are ORed into
 * *fflags. */
uint64_t model_run(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags);
