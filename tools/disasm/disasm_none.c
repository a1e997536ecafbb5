/* The disassembler of a build without one. */
#include "tools/disasm/data.h"
#include "tools/disasm/disasm.h"

bool disasm_available(void)
{
    return false;
}

size_t disasm_riscv(const uint8_t *bytes, size_t len, uint64_t address, char *text, size_t size)
{
    return disasm_data(bytes, len, (bytes[0] & 3) == 3 ? 4 : 2, text, size);
}

size_t disasm_x64(const uint8_t *bytes, size_t len, uint64_t address, char *text, size_t size)
{
    return disasm_data(bytes, len, 1, text, size);
}
