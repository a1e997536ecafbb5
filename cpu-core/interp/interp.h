/* The interpreter as a part of another engine: a cold tier that runs a given number of steps. Its private
 * data is what interp_engine.create() makes. */
#pragma once

#include "cpu-core/engine.h"

/* As interp_engine.run(), but stops with ENGINE_BUDGET after `steps` steps at the latest; earlier if the
 * slice was shortened meanwhile, even if h->left is not 0 yet. */
enum engine_exit interp_run_steps(void *engine, struct hart *h, uint64_t steps);
