/* `cleave trace list`: the recordings in the state directory, newest first. Reads headers and ends only. */
#include "tools/supervisor/message.h"
#include "tools/trace/state.h"
#include "tools/trace/trace.h"
#include "tools/trace/verb.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct item {
    char *path;
    int64_t created_ns;
    json_t *json;
};

struct listing {
    struct item *items;
    size_t n;
};

static const char *ending_of(struct trace *t, uint64_t *icount)
{
    struct log_summary s;
    int err = log_reader_seek(t->reader, UINT64_MAX);
    const Cleave__LogEnd *end = log_reader_end(t->reader);
    log_reader_summary(t->reader, &s);
    *icount = end ? end->icount : s.icount;
    if (err < 0)
        return "damaged";
    return end ? end->reason : log_reader_ending(t->reader) == LOG_TORN ? "torn" : "open";
}

static json_t *describe(struct trace *t)
{
    struct stat st;
    uint64_t icount;
    json_t *configuration = json_loads(t->header->configuration, 0, NULL);
    const char *name = json_string_value(json_object_get(configuration, "name"));
    json_t *ending = trace_json(ending_of(t, &icount));
    json_t *o = json_pack("{s:o, s:s, s:I, s:I, s:o, s:I}", "trace", trace_json(t->path), "machine",
                          name ? name : "", "created_ns", (json_int_t)t->header->created_ns, "bytes",
                          (json_int_t)(fstat(t->fd, &st) == 0 ? st.st_size : 0), "ended", ending, "icount",
                          (json_int_t)icount);
    json_decref(configuration);
    return o;
}

/* What is no trace is left out. */
static int add(struct listing *l, const char *directory, const char *name)
{
    struct trace t;
    struct failure f;
    struct item *items = realloc(l->items, (l->n + 1) * sizeof(*items));
    char *path = NULL;
    if (items)
        l->items = items;
    if (!items || asprintf(&path, "%s/%s", directory, name) < 0)
        return -ENOMEM;
    if (trace_open(&t, path, &f) < 0) {
        free(path);
        return 0;
    }
    items[l->n++] = (struct item){path, t.header->created_ns, describe(&t)};
    trace_close(&t);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->created_ns < y->created_ns ? 1 : x->created_ns > y->created_ns ? -1 : strcmp(x->path, y->path);
}

static int collect(struct listing *l, const char *directory)
{
    DIR *d = opendir(directory);
    const struct dirent *e;
    int err = 0;
    if (!d)
        return errno == ENOENT ? 0 : -errno;
    while (!err && (e = readdir(d)))
        err = e->d_name[0] == '.' ? 0 : add(l, directory, e->d_name);
    closedir(d);
    if (l->n)
        qsort(l->items, l->n, sizeof(*l->items), newest_first);
    return err;
}

static void print(const struct listing *l)
{
    char *text, when[32], bytes[32];
    size_t size;
    FILE *out = trace_print_begin(&text, &size);
    if (!out)
        return;
    if (l->n)
        fprintf(out, "%-16s %-19s %10s %16s  %-12s %s\n", "MACHINE", "RECORDED", "SIZE", "STEPS", "ENDED",
                "TRACE");
    for (size_t i = 0; i < l->n; i++) {
        const json_t *o = l->items[i].json;
        time_t seconds = (time_t)(l->items[i].created_ns / 1000000000);
        struct tm tm;
        if (!localtime_r(&seconds, &tm) || !strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm))
            when[0] = '\0';
        fprintf(
            out, "%-16s %-19s %10s %16lld  %-12s %s\n", json_string_value(json_object_get(o, "machine")),
            when,
            trace_size_text((uint64_t)json_integer_value(json_object_get(o, "bytes")), bytes, sizeof(bytes)),
            (long long)json_integer_value(json_object_get(o, "icount")),
            json_string_value(json_object_get(o, "ended")), l->items[i].path);
    }
    trace_print_end(out, &text, &size);
}

int verb_trace_list(const struct invocation *in, struct failure *f)
{
    struct listing l = {0};
    char directory[PATH_MAX];
    int err = state_path("traces", directory, sizeof(directory));
    if (!err)
        err = collect(&l, directory);
    if (err)
        failure_set(f, STATUS_FAILED, -err, "cannot list the traces: %s", strerror(-err));
    json_t *list = json_array();
    for (size_t i = 0; i < l.n; i++)
        json_array_append(list, l.items[i].json);
    if (!err && message_style.json)
        message_data(list);
    else if (!err)
        print(&l);
    json_decref(list);
    for (size_t i = 0; i < l.n; i++) {
        json_decref(l.items[i].json);
        free(l.items[i].path);
    }
    free(l.items);
    return err;
}
