/* Reading the options of the verbs on traces. Must not know what they are for. */
#include "tools/supervisor/spec.h"
#include "tools/trace/verb.h"

#include <errno.h>

int trace_option_number(const struct invocation *in, const char *name, uint64_t *n, struct failure *f)
{
    const char *value = options_get(in, name);
    if (value && spec_number(value, n) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: --%s: '%s' is not a number", in->verb->name, name,
                           value);
    return 0;
}

int trace_option_list(const struct invocation *in, const char *name, const char **values, unsigned room,
                      struct failure *f)
{
    unsigned n = 0;
    while (n < room && (values[n] = options_nth(in, name, n)))
        n++;
    if (n == room)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: --%s: too many", in->verb->name, name);
    return 0;
}
