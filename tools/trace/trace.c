/* Opening traces, and names for what is in them. Must not know verbs. */
#include "tools/trace/trace.h"

#include "ipc/control.h"

#include "tools/trace/line.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const kinds[TRACE_KINDS] = {
    [TRACE_KIND_HASH] = "hash",     [CROSSING_COMPLETION] = "completion",
    [CROSSING_EVENT] = "event",     [CROSSING_CONFIG] = "config",
    [CROSSING_BLOB] = "blob",       [CROSSING_CLOCK] = "clock",
    [CROSSING_CONTROL] = "control", [CROSSING_REQUEST] = "request",
    [CROSSING_RESET] = "reset",     [CROSSING_EXIT] = "exit",
};

int trace_fail(const char *path, const struct log_error *e, struct failure *f)
{
    char place[200];
    log_error_text(e, place, sizeof(place));
    switch (e->err) {
    case -EMEDIUMTYPE:
        return failure_set(f, STATUS_FAILED, EMEDIUMTYPE, "%s: not a trace", path);
    case -EPROTONOSUPPORT:
        return failure_set(f, STATUS_FAILED, EPROTONOSUPPORT, "%s: %s", path, e->why);
    case -ENODATA:
    case -EBADMSG:
    case -ENOTSUP:
        if (e->err == -ENODATA && e->block == 0)
            return failure_set(f, STATUS_FAILED, ENODATA, "%s: %s", path, e->why);
        return failure_set(f, STATUS_FAILED, -e->err, "%s: damaged: %s", path, place);
    default:
        return failure_set(f, STATUS_FAILED, -e->err, "%s: %s: %s", path, place, strerror(-e->err));
    }
}

static int open_file(const char *path, struct failure *f)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int err = fd < 0 || fstat(fd, &st) < 0 ? errno : S_ISREG(st.st_mode) ? 0 : EINVAL;
    if (!err)
        return fd;
    if (fd >= 0)
        close(fd);
    if (err == EINVAL)
        return failure_set(f, STATUS_FAILED, err, "cannot open trace: %s: not a regular file", path);
    return failure_set(f, STATUS_FAILED, err, "cannot open trace: %s: %s", path, strerror(err));
}

int trace_open(struct trace *t, const char *path, struct failure *f)
{
    struct log_error error;
    int fd = open_file(path, f);
    if (fd < 0)
        return fd;
    struct trace out = {.path = path, .fd = fd};
    if (log_reader_open(&out.reader, fd, &error) < 0) {
        close(fd);
        return trace_fail(path, &error, f);
    }
    out.header = log_reader_header(out.reader);
    *t = out;
    return 0;
}

void trace_close(struct trace *t)
{
    log_reader_close(t->reader);
    close(t->fd);
}

int trace_next(struct trace *t, struct journal_entry *e, struct failure *f)
{
    int got = log_reader_next(t->reader, e);
    return got < 0 ? trace_fail(t->path, log_reader_error(t->reader), f) : got;
}

const Cleave__LogDevice *trace_device_at(const struct trace *t, unsigned index)
{
    for (size_t i = 0; i < t->header->n_devices; i++) {
        if (t->header->devices[i]->index == index)
            return t->header->devices[i];
    }
    return NULL;
}

const Cleave__LogDevice *trace_device_named(const struct trace *t, const char *id)
{
    for (size_t i = 0; i < t->header->n_devices; i++) {
        if (strcmp(t->header->devices[i]->id, id) == 0)
            return t->header->devices[i];
    }
    return NULL;
}

const char *trace_device(const struct trace *t, unsigned index)
{
    const Cleave__LogDevice *d = trace_device_at(t, index);
    return d ? d->id : index == TRACE_MACHINE ? "machine" : "?";
}

const char *trace_kind(const struct journal_entry *e)
{
    if (e->type == JOURNAL_STATE_HASH)
        return kinds[TRACE_KIND_HASH];
    return e->c.kind && e->c.kind < TRACE_KINDS ? kinds[e->c.kind] : "?";
}

const char *trace_action(const struct journal_entry *e)
{
    static const char *const exits[] = {"poweroff", "fail", "stop", "stop-at", "fault"};
    if (e->type != JOURNAL_CROSSING)
        return NULL;
    if (e->c.kind == CROSSING_EXIT)
        return e->c.arg < sizeof(exits) / sizeof(exits[0]) ? exits[e->c.arg] : NULL;
    if (e->c.kind != CROSSING_CONTROL || e->c.arg > UINT16_MAX)
        return NULL;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&cleave__control__descriptor, (unsigned)e->c.arg);
    return field ? field->name : NULL;
}

const char *trace_kind_name(int kind)
{
    return kinds[kind];
}

int trace_kind_named(const char *name)
{
    for (int i = 0; i < TRACE_KINDS; i++) {
        if (strcmp(kinds[i], name) == 0)
            return i;
    }
    return -EINVAL;
}

void trace_clock_apply(struct trace_clock *c, const struct journal_entry *e)
{
    uint64_t body[3];
    if (e->type != JOURNAL_CROSSING || e->c.kind != CROSSING_CLOCK || !e->body || e->c.len != sizeof(body))
        return;
    memcpy(body, e->body, sizeof(body));
    *c = (struct trace_clock){le64toh(body[0]), le64toh(body[1]), le64toh(body[2])};
}

uint64_t trace_clock_ns(const struct trace_clock *c, uint64_t icount)
{
    __extension__ typedef unsigned __int128 u128;
    u128 steps = icount > c->n0 ? icount - c->n0 : 0;
    u128 ns = c->t0 + (steps * c->rate >> 32);
    return ns < UINT64_MAX ? (uint64_t)ns : UINT64_MAX;
}

json_t *trace_json(const char *text)
{
    char *quoted = NULL;
    size_t size;
    json_t *o = json_string(text);
    FILE *out = o ? NULL : open_memstream(&quoted, &size);
    if (out) {
        line_quote(out, text, strlen(text));
        o = fclose(out) == 0 ? json_loads(quoted, JSON_DECODE_ANY, NULL) : NULL;
    }
    free(quoted);
    return o;
}

FILE *trace_print_begin(char **text, size_t *size)
{
    return open_memstream(text, size);
}

int trace_print_end(FILE *out, char **text, const size_t *size)
{
    int err = fclose(out) == 0 ? 0 : -EIO;
    for (size_t i = 0; !err && i < *size; i++) {
        unsigned char c = (unsigned char)(*text)[i];
        putchar((c < 0x20 && c != '\n') || c == 0x7f ? '?' : c);
    }
    free(*text);
    return err;
}

const char *trace_size_text(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned u = 0;
    double v = (double)bytes;
    for (; v >= 1024; u++)
        v /= 1024;
    snprintf(buf, size, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}
