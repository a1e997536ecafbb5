/* Capabilities of an x86-64 processor. */
#include "tools/supervisor/host.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stddef.h>

#define EXTENDED_FEATURES 0x80000001u
#define ECX_LZCNT         (1u << 5)

/* Where it is missing its encoding is another instruction, with other results. */
static bool has_lzcnt(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(EXTENDED_FEATURES, &eax, &ebx, &ecx, &edx) && ecx & ECX_LZCNT;
}

const char *host_translator_lacks(void)
{
    __builtin_cpu_init();
    return !__builtin_cpu_supports("popcnt") ? "POPCNT"
           : !has_lzcnt()                    ? "LZCNT"
           : !__builtin_cpu_supports("bmi")  ? "BMI1"
           : !__builtin_cpu_supports("bmi2") ? "BMI2"
           : !__builtin_cpu_supports("avx2") ? "AVX2"
           : !__builtin_cpu_supports("fma")  ? "FMA"
                                             : NULL;
}
