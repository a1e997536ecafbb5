/* The output of a serial port as asciicast version 2: a header line, then one line per request with its
 * virtual time. Characters that a message border cuts are put together again. */
#include "tools/trace/bodies.h"
#include "tools/trace/export.h"
#include "tools/trace/line.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 80, ROWS = 24, MAX_CHARACTER = 4 };

struct cast {
    FILE *out;
    struct trace_clock clock;
    char cut[MAX_CHARACTER]; /* the beginning of a character */
    size_t ncut;
};

/* How many bytes at the end of the text are the beginning of a UTF-8 sequence that goes on. */
static size_t unfinished(const uint8_t *text, size_t len)
{
    for (size_t n = 1; n < MAX_CHARACTER && n <= len; n++) {
        uint8_t c = text[len - n];
        size_t want = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : 2;
        if (c >= 0xc2 && c < 0xf5)
            return n < want ? n : 0;
        if ((c & 0xc0) != 0x80)
            return 0;
    }
    return 0;
}

static void put_text(struct cast *c, uint64_t ns, const char *text, size_t len)
{
    if (!len)
        return;
    fprintf(c->out, "[%" PRIu64 ".%06u, \"o\", ", ns / 1000000000, (unsigned)(ns % 1000000000 / 1000));
    line_quote(c->out, text, len);
    fputs("]\n", c->out);
}

/* `text` has room for MAX_CHARACTER bytes before it. */
static void put(struct cast *c, uint64_t ns, const uint8_t *data, size_t len, char *text)
{
    memcpy(text, c->cut, c->ncut);
    memcpy(text + c->ncut, data, len);
    len += c->ncut;
    c->ncut = unfinished((const uint8_t *)text, len);
    len -= c->ncut;
    put_text(c, ns, text, len);
    memcpy(c->cut, text + len, c->ncut);
}

static void put_header(const struct trace *t, const Cleave__LogDevice *d, FILE *out)
{
    fprintf(out, "{\"version\": 2, \"width\": %d, \"height\": %d, \"timestamp\": %" PRId64 ", \"title\": ",
            COLUMNS, ROWS, t->header->created_ns / 1000000000);
    line_quote(out, d->id, strlen(d->id));
    fputs(", \"env\": {\"TERM\": \"xterm-256color\"}}\n", out);
}

static int put_request(struct cast *c, struct bodies *b, const struct journal_entry *e, struct failure *f)
{
    const uint8_t *data;
    int got = bodies_get(b, e, &data, f);
    if (got < 0)
        return got;
    if (!got)
        return failure_set(f, STATUS_FAILED, ENODATA, "%s: the output of %s is not in the trace",
                           b->trace->path, trace_device(b->trace, e->c.device));
    char *text = malloc(e->c.len + (size_t)MAX_CHARACTER);
    if (!text)
        return failure_set(f, STATUS_FAILED, ENOMEM, "%s: %s", b->trace->path, strerror(ENOMEM));
    put(c, trace_clock_ns(&c->clock, e->c.icount), data, e->c.len, text);
    free(text);
    return 0;
}

static int put_requests(struct cast *c, struct bodies *b, unsigned device, struct failure *f)
{
    struct journal_entry e;
    int got;
    while ((got = trace_next(b->trace, &e, f)) > 0) {
        trace_clock_apply(&c->clock, &e);
        if (e.type == JOURNAL_CROSSING && e.c.kind == CROSSING_REQUEST && e.c.device == device && e.c.len)
            got = put_request(c, b, &e, f);
        if (got < 0)
            break;
    }
    return got;
}

int export_asciicast(struct trace *t, const Cleave__LogDevice *d, FILE *out, struct failure *f)
{
    struct cast c = {.out = out, .clock = TRACE_CLOCK_START};
    struct bodies b;
    int err = bodies_init(&b, t, NULL, f);
    if (err)
        return err;
    put_header(t, d, out);
    err = put_requests(&c, &b, d->index, f);
    bodies_free(&b);
    return err;
}
