/* A processor that the translator has no code for. */
#include "tools/supervisor/host.h"

const char *host_translator_lacks(void)
{
    return "an x86-64 processor";
}
