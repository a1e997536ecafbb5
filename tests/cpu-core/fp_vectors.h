/*
 * Directed cases: the corners of the rules, worked out by hand from the specification.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tests/fp/ops.h"

/* Operands and result are encodings in their own formats, not boxed; integer results are whole registers. */
struct vector {
    enum op op;
    unsigned modes; /* bit n: holds in rounding mode n */
    uint64_t x[3];
    uint64_t result;
    uint32_t fflags;
};

extern const struct vector fp_vectors[];
extern const size_t fp_vector_count;
