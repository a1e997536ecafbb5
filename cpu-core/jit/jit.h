/* The translator as others see it, beside the engine table of engine.h. */
#pragma once

#include "cpu-core/engine.h"

/* Code is translated when it has been entered `entries` times before (at most 255). Changes nothing that a
 * guest can see. `engine` is what jit_engine.create() made. */
void jit_set_heat(void *engine, unsigned entries);
