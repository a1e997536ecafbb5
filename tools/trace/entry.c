/* Records as JSON. Must not know who asks. */
#include "tools/trace/entry.h"

#include "tools/trace/files.h"

static void print_form(struct line *l, const struct trace *t, const struct journal_entry *e)
{
    const Cleave__LogFile *file;
    switch (e->form) {
    case JOURNAL_INLINE:
        line_text(l, "form", "inline");
        return;
    case JOURNAL_FILE:
        line_text(l, "form", "file");
        file = trace_file(t, e->file);
        line_text(l, "file", file ? file->role : "?");
        line_number(l, "offset", e->offset);
        return;
    case JOURNAL_SAME:
        line_text(l, "form", "same");
        line_number(l, "same_as", e->file);
        return;
    default:
        line_text(l, "form", "digest");
    }
}

static void print_crossing(struct line *l, const struct trace *t, const struct journal_entry *e)
{
    const struct crossing *c = &e->c;
    line_number(l, "seq", c->seq);
    line_text(l, "direction", c->direction == CROSSING_IN ? "in" : "out");
    line_text(l, "device", trace_device(t, c->device));
    line_number(l, "queue", c->queue);
    if (c->request)
        line_number(l, "request", c->request);
    line_number(l, "arg", c->arg);
    if (trace_action(e))
        line_text(l, "action", trace_action(e));
    line_number(l, "len", c->len);
    line_hex(l, "digest", "", c->digest, 16);
    print_form(l, t, e);
}

void entry_members(struct line *l, const struct trace *t, const struct journal_entry *e)
{
    line_number(l, "record", e->number);
    line_number(l, "icount", e->c.icount);
    line_hex(l, "pc", "0x", e->c.pc, 1);
    line_text(l, "kind", trace_kind(e));
    if (e->type == JOURNAL_STATE_HASH)
        line_hex(l, "hash", "", e->c.digest, 16);
    else
        print_crossing(l, t, e);
}
