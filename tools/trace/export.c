/* `cleave trace export`: chooses format, device and output. */
#include "tools/trace/export.h"
#include "tools/trace/output.h"
#include "tools/trace/verb.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LIST 32

struct format {
    const char *name, *ending;
    const char *kind; /* of the device it is about, or NULL */
    const char *what; /* is missing without such a device */
};

static const struct format formats[] = {
    {"chrome", ".json", NULL, NULL},
    {"pcap", ".pcap", "net", "network card"},
    {"asciicast", ".cast", "serial", "serial port"},
};

#define NFORMATS (sizeof(formats) / sizeof(formats[0]))

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), e = strlen(ending);
    return n > e && strcmp(text + n - e, ending) == 0;
}

static const struct format *choose_format(const struct invocation *in, struct failure *f)
{
    const char *name = options_get(in, "format");
    for (size_t i = 0; i < NFORMATS; i++) {
        if (name ? strcmp(name, formats[i].name) == 0
                 : in->nargs > 1 && ends_with(in->args[1], formats[i].ending)) {
            return &formats[i];
        }
    }
    failure_set(f, STATUS_USAGE, EINVAL, "trace export: which format?");
    failure_hint(f, "give --format, or an output whose name ends with .json, .pcap or .cast");
    return NULL;
}

static int choose_device(const struct invocation *in, const struct trace *t, const struct format *format,
                         const Cleave__LogDevice **out, struct failure *f)
{
    const char *id = options_get(in, "device");
    if (id && !format->kind)
        return failure_set(f, STATUS_USAGE, EINVAL, "trace export: --device has no meaning for %s",
                           format->name);
    for (size_t i = 0; format->kind && i < t->header->n_devices; i++) {
        const Cleave__LogDevice *d = t->header->devices[i];
        if (strcmp(d->kind, format->kind) == 0 && (!id || strcmp(d->id, id) == 0)) {
            *out = d;
            return 0;
        }
    }
    if (!format->kind)
        return 0;
    if (id)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: no %s '%s' in this trace", t->path, format->what,
                           id);
    return failure_set(f, STATUS_FAILED, ENODEV, "%s: the machine has no %s", t->path, format->what);
}

static bool is_trace(const struct trace *t, const char *path)
{
    struct stat from, to;
    return path && stat(path, &to) == 0 && fstat(t->fd, &from) == 0 && to.st_dev == from.st_dev &&
           to.st_ino == from.st_ino;
}

static int export(const struct invocation *in, struct trace *t, const char *const *images, struct failure *f)
{
    const struct format *format = choose_format(in, f);
    const Cleave__LogDevice *d = NULL;
    const char *path = in->nargs > 1 ? in->args[1] : NULL;
    struct output output;
    int err = format ? choose_device(in, t, format, &d, f) : -EINVAL;
    if (!err && is_trace(t, path))
        err = failure_set(f, STATUS_USAGE, EINVAL, "%s: is the trace itself", path);
    if (!err)
        err = output_open(&output, path, true, f);
    if (err)
        return err;
    FILE *out = output_stream(&output, f);
    if (!out)
        return output_finish(&output, -EIO, f);
    if (strcmp(format->name, "chrome") == 0)
        err = export_chrome(t, out, f);
    else if (strcmp(format->name, "pcap") == 0)
        err = export_pcap(t, d, images, out, f);
    else
        err = export_asciicast(t, d, out, f);
    return output_finish(&output, err, f);
}

int verb_trace_export(const struct invocation *in, struct failure *f)
{
    struct trace t;
    const char *images[MAX_LIST];
    int err = trace_option_list(in, "image", images, MAX_LIST, f);
    if (!err)
        err = trace_open(&t, in->args[0], f);
    if (err)
        return err;
    err = export(in, &t, images, f);
    trace_close(&t);
    return err;
}
