/* Text of guest and host instructions. A build without a disassembler library has the same functions, and
 * says so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: the functions below give data directives only. */
bool disasm_available(void);

/* Writes the first instruction of `bytes` (at least 1) as text, always terminated; `address` is where it is,
 * for targets of jumps. Returns the bytes it takes, 1 to `len`: what is no instruction is a data directive.
 */
size_t disasm_riscv(const uint8_t *bytes, size_t len, uint64_t address, char *text, size_t size);
size_t disasm_x64(const uint8_t *bytes, size_t len, uint64_t address, char *text, size_t size);
