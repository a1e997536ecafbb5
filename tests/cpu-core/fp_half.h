/*
 * Double precision as an oracle for half precision.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/fp/ops.h"

/* Whether the instruction is one on half precision with a double-precision form. */
bool half_supports(enum op op);

/*
 * The destination register of `op` on registers x[] in rounding mode rm, and the flags it raises in *fflags,
 * as the double-precision form of the instruction gives them on widened operands.
 */
uint64_t half_run(enum op op, const uint64_t x[3], unsigned rm, uint32_t *fflags);
