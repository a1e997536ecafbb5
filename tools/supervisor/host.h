/* What this host's processor can do for the translator. Knows no engine's code. */
#pragma once

/* What the translator needs and this processor, or its operating system, does not have, as a name for
 * messages; NULL if nothing is missing. The translator emits for x86-64-v3 (x86-64 psABI, microarchitecture
 * levels). */
const char *host_translator_lacks(void);
