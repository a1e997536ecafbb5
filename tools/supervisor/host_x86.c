/* Capabilities of an x86-64 processor. */
#include "tools/supervisor/host.h"

#include <stddef.h>

const char *host_translator_lacks(void)
{
    __builtin_cpu_init();
    return !__builtin_cpu_supports("popcnt") ? "POPCNT"
           : !__builtin_cpu_supports("bmi")  ? "BMI1"
           : !__builtin_cpu_supports("bmi2") ? "BMI2"
           : !__builtin_cpu_supports("avx2") ? "AVX2"
           : !__builtin_cpu_supports("fma")  ? "FMA"
                                             : NULL;
}
