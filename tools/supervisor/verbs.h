/* The verbs of the command. */
#pragma once

#include "tools/supervisor/options.h"

/* Ends with a NULL name. A name of two words, "trace info", is a verb of the group "trace". */
extern const struct verb verbs[];
extern const unsigned nverbs;

const struct verb *verb_find(const char *name);

/* The verb that the first words name, and how many they are, or NULL. */
const struct verb *verb_of_words(int n, char *const *words, int *used);

/* True if a verb belongs to the group, by its name's first word. */
bool verb_in_group(const struct verb *verb, const char *group);
bool verb_is_group(const char *group);

/* Implementations: exit status, or negative errno with the failure filled in. */
int verb_run(const struct invocation *in, struct failure *f);
int verb_replay(const struct invocation *in, struct failure *f);
int verb_ps(const struct invocation *in, struct failure *f);
int verb_info(const struct invocation *in, struct failure *f);
int verb_stats(const struct invocation *in, struct failure *f);
int verb_stop(const struct invocation *in, struct failure *f);
int verb_kill(const struct invocation *in, struct failure *f);
int verb_pause(const struct invocation *in, struct failure *f);
int verb_resume(const struct invocation *in, struct failure *f);
int verb_console(const struct invocation *in, struct failure *f);
int verb_input(const struct invocation *in, struct failure *f);
int verb_trace_blocks(const struct invocation *in, struct failure *f);
int verb_doctor(const struct invocation *in, struct failure *f);
int verb_completion(const struct invocation *in, struct failure *f);
int verb_man(const struct invocation *in, struct failure *f);
