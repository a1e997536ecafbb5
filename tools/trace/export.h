/* The formats that traces are exported to. Each writes all of an opened trace to `out`; negative errno with
 * the failure filled in. */
#pragma once

#include "tools/trace/trace.h"

/* Chrome's trace event format, which Perfetto opens: a process per device, a slice per request. */
int export_chrome(struct trace *t, FILE *out, struct failure *f);

/* The traffic of a network card. `images`: "ID=FILE", where files of the trace are, ends with NULL. */
int export_pcap(struct trace *t, const Cleave__LogDevice *d, const char *const *images, FILE *out,
                struct failure *f);

/* What a serial port printed, as asciicast version 2. */
int export_asciicast(struct trace *t, const Cleave__LogDevice *d, FILE *out, struct failure *f);
