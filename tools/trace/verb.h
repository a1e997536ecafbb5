/* The verbs on traces, for the table of verbs. Each returns an exit status, or a negative errno with the
 * failure filled in. */
#pragma once

#include "tools/supervisor/options.h"

#include <stdint.h>

int verb_trace_list(const struct invocation *in, struct failure *f);
int verb_trace_info(const struct invocation *in, struct failure *f);
int verb_trace_dump(const struct invocation *in, struct failure *f);
int verb_trace_verify(const struct invocation *in, struct failure *f);
int verb_trace_pack(const struct invocation *in, struct failure *f);
int verb_trace_bisect(const struct invocation *in, struct failure *f);
int verb_trace_diff(const struct invocation *in, struct failure *f);
int verb_trace_export(const struct invocation *in, struct failure *f);

/* For the verbs' own use: an option that is a number, *n untouched if it was not given; -EINVAL with the
 * failure filled in. */
int trace_option_number(const struct invocation *in, const char *name, uint64_t *n, struct failure *f);

/* The values of a list option, ending with NULL; at most `room` - 1. */
int trace_option_list(const struct invocation *in, const char *name, const char **values, unsigned room,
                      struct failure *f);
