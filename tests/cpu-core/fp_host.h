/*
 * The host's floating point as an oracle for the softfloat.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/fp/ops.h"

/* Whether the host has an equivalent of the instruction. */
bool host_supports(enum op op);

/*
 * Runs `op` on registers x[] (all boxed properly) in rounding mode rm, which is not FP_RMM. Stores the
 * destination register and the raised flags as RISC-V has them; false, storing nothing, where the host's
 * rules differ from RISC-V's for these operands.
 */
bool host_run(enum op op, const uint64_t x[3], unsigned rm, uint64_t *result, uint32_t *fflags);

/* Whether the host raises underflow as RISC-V does. */
bool host_detects_tininess_after_rounding(void);
