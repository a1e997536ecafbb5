/* A translator with an error: `xori` with the operand 1 is translated as with 3. For the test build of the
 * vcpu that links it (--wrap=tr_int). */
#include "cpu-core/jit/translate.h"

bool __real_tr_int(struct tr *t, const struct insn *in);
bool __wrap_tr_int(struct tr *t, const struct insn *in);

bool __wrap_tr_int(struct tr *t, const struct insn *in)
{
    struct insn other = *in;
    if (in->op == INSN_XORI && in->imm == 1)
        other.imm = 3;
    return __real_tr_int(t, &other);
}
