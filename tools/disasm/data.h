/* Bytes that are no instruction. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A directive for `unit` bytes, 1, 2 or 4, or fewer if `len` is less. Returns their number. */
static inline size_t disasm_data(const uint8_t *bytes, size_t len, size_t unit, char *text, size_t size)
{
    static const char *const names[] = {[1] = ".byte", [2] = ".2byte", [4] = ".4byte"};
    uint32_t value = 0;

    while (unit > len)
        unit /= 2;
    memcpy(&value, bytes, unit);
    snprintf(text, size, "%s 0x%0*x", names[unit], (int)(2 * unit), value);
    return unit;
}
