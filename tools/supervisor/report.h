/* What a machine tells about itself, as JSON. */
#pragma once

#include "tools/supervisor/machine.h"

/* New references; NULL without memory. */
json_t *report_info(const struct machine *m);
json_t *report_stats(const struct machine *m, const char *vcpu_json);
json_t *report_result(const struct machine *m);
