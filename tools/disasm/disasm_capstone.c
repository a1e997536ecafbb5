/* The disassembler by capstone. */
#include "tools/disasm/data.h"
#include "tools/disasm/disasm.h"

#include <capstone/capstone.h>

bool disasm_available(void)
{
    return true;
}

/* One handle a process and instruction set, opened at first use. */
static bool decode(csh *handle, cs_arch arch, unsigned mode, const uint8_t *bytes, size_t len,
                   uint64_t address, char *text, size_t size, size_t *used)
{
    cs_insn *insn;

    if (!*handle && cs_open(arch, (cs_mode)mode, handle) != CS_ERR_OK)
        return false;
    if (cs_disasm(*handle, bytes, len, address, 1, &insn) != 1)
        return false;
    snprintf(text, size, "%s%s%s", insn->mnemonic, insn->op_str[0] ? " " : "", insn->op_str);
    *used = insn->size;
    cs_free(insn, 1);
    return true;
}

size_t disasm_riscv(const uint8_t *bytes, size_t len, uint64_t address, char *text, size_t size)
{
    static csh handle;
    size_t used;

    if (decode(&handle, CS_ARCH_RISCV, CS_MODE_RISCV64 | CS_MODE_RISCVC, bytes, len, address, text, size,
               &used))
        return used;
    return disasm_data(bytes, len, (bytes[0] & 3) == 3 ? 4 : 2, text, size);
}

size_t disasm_x64(const uint8_t *bytes, size_t len, uint64_t address, char *text, size_t size)
{
    static csh handle;
    size_t used;

    if (decode(&handle, CS_ARCH_X86, CS_MODE_64, bytes, len, address, text, size, &used))
        return used;
    return disasm_data(bytes, len, 1, text, size);
}
