/* The host's floating-point control register as the guest's rounding mode and accrued flags. The host's own
 * mode is the default one: code of the emulator does no floating point while the engine runs. */
#include "cpu-core/fp/fp.h"
#include "cpu-core/jit/internal.h"

#include <immintrin.h>

#define MXCSR_DEFAULT 0x1f80u /* all exceptions masked, to nearest */
#define MXCSR_RC      13

void fp_enter(const struct hart *h)
{
    static const uint8_t rc[8] = {[FP_RNE] = 0, [FP_RTZ] = 3, [FP_RDN] = 1, [FP_RUP] = 2};

    _mm_setcsr(MXCSR_DEFAULT | (unsigned)rc[h->frm] << MXCSR_RC);
}

void fp_leave(struct hart *h)
{
    unsigned m = _mm_getcsr();

    h->fflags |= (m & 0x01 ? FP_NV : 0) | (m & 0x04 ? FP_DZ : 0) | (m & 0x08 ? FP_OF : 0) |
                 (m & 0x10 ? FP_UF : 0) | (m & 0x20 ? FP_NX : 0);
    _mm_setcsr(MXCSR_DEFAULT);
}
