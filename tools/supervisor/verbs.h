/* The verbs of the command. */
#pragma once

#include "tools/supervisor/options.h"

extern const struct verb verbs[]; /* ends with a NULL name */
extern const unsigned nverbs;

const struct verb *verb_find(const char *name);

/* Implementations: exit status, or negative errno with the failure filled in. */
int verb_run(const struct invocation *in, struct failure *f);
int verb_ps(const struct invocation *in, struct failure *f);
int verb_info(const struct invocation *in, struct failure *f);
int verb_stats(const struct invocation *in, struct failure *f);
int verb_stop(const struct invocation *in, struct failure *f);
int verb_kill(const struct invocation *in, struct failure *f);
int verb_pause(const struct invocation *in, struct failure *f);
int verb_resume(const struct invocation *in, struct failure *f);
int verb_console(const struct invocation *in, struct failure *f);
int verb_input(const struct invocation *in, struct failure *f);
int verb_doctor(const struct invocation *in, struct failure *f);
int verb_completion(const struct invocation *in, struct failure *f);
int verb_man(const struct invocation *in, struct failure *f);
