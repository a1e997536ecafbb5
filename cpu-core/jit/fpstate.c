/* The host's floating-point control register as the guest's rounding mode and accrued flags. The host's own
 * mode is the default one: code of the emulator does no floating point while the engine runs. */
#include "cpu-core/fp/fp.h"
#include "cpu-core/jit/internal.h"

#include <immintrin.h>

#define MXCSR_DEFAULT 0x1f80u /* all exceptions masked, to nearest */
#define MXCSR_RC      13

unsigned fp_flags(unsigned m)
{
    return (m & 0x01 ? FP_NV : 0u) | (m & 0x04 ? FP_DZ : 0u) | (m & 0x08 ? FP_OF : 0u) |
           (m & 0x10 ? FP_UF : 0u) | (m & 0x20 ? FP_NX : 0u);
}

void fp_enter(struct hart *h)
{
    static const uint8_t rc[8] = {[FP_RNE] = 0, [FP_RTZ] = 3, [FP_RDN] = 1, [FP_RUP] = 2};

    h->mxcsr = MXCSR_DEFAULT | (unsigned)rc[h->frm] << MXCSR_RC;
    _mm_setcsr(h->mxcsr);
}

void fp_leave(struct hart *h)
{
    h->fflags |= fp_flags(_mm_getcsr());
    _mm_setcsr(MXCSR_DEFAULT);
}
