/* Filling in a failure. Knows nothing of who prints it. */
#include "tools/supervisor/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *f, int status, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof(f->text), fmt, ap);
    va_end(ap);
    f->status = status;
    f->hint[0] = '\0';
    return err > 0 ? -err : -EIO;
}

int failure_hint(struct failure *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->hint, sizeof(f->hint), fmt, ap);
    va_end(ap);
    return -EINVAL;
}
