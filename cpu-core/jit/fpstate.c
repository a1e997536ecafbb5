/* The host's floating-point control register as the guest's rounding mode and accrued flags. The host's own
 * mode is the default one: code of the emulator does no floating point while the engine runs. */
#include "cpu-core/fp/fp.h"
#include "cpu-core/jit/internal.h"

#include <immintrin.h>

unsigned fp_flags(unsigned m)
{
    return (m & 0x01 ? FP_NV : 0u) | (m & 0x04 ? FP_DZ : 0u) | (m & 0x08 ? FP_OF : 0u) |
           (m & 0x10 ? FP_UF : 0u) | (m & 0x20 ? FP_NX : 0u);
}

void fp_enter(struct hart *h)
{
    h->mxcsr = MXCSR_DEFAULT | (h->frm < 4 ? MXCSR_MODES >> 2 * h->frm & 3 : 0) << MXCSR_RC;
    _mm_setcsr(h->mxcsr);
}

void fp_leave(struct hart *h)
{
    h->fflags |= fp_flags(_mm_getcsr());
    _mm_setcsr(MXCSR_DEFAULT);
}
