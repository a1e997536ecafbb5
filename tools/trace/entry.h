/* A record as members of a JSON object. Knows no verb. */
#pragma once

#include "tools/trace/line.h"
#include "tools/trace/trace.h"

void entry_members(struct line *l, const struct trace *t, const struct journal_entry *e);
