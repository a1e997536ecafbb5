/* Command lines from tables: one table of options per verb drives parsing, --help, man pages and shell
 * completion. Knows the verbs' tables, not what the verbs do. */
#pragma once

#include "tools/supervisor/failure.h"

#include <stdbool.h>
#include <stddef.h>

enum option_kind {
    OPTION_FLAG,   /* takes no value */
    OPTION_STRING, /* the last one counts */
    OPTION_LIST,   /* may be repeated */
};

enum option_completes { COMPLETES_NOTHING, COMPLETES_FILE, COMPLETES_MACHINE, COMPLETES_CHOICE };

struct option_row {
    const char *name; /* without the dashes */
    enum option_kind kind;
    const char *metavar; /* NULL for a flag */
    enum option_completes completes;
    const char *choices; /* "a|b|c", checked when `completes` is COMPLETES_CHOICE; else NULL */
    const char *help;
};

struct invocation;

struct verb {
    const char *name;
    const char *positionals; /* for the synopsis: "[CONFIG]", "MACHINE key|text|pointer ARG…", "" */
    unsigned min_args, max_args;
    enum option_completes completes;  /* of the positionals */
    const char *choices;              /* of the positionals */
    const char *summary;              /* one line */
    const char *description;          /* paragraphs separated by an empty line */
    const struct option_row *options; /* ends with a NULL name */
    int (*run)(const struct invocation *in,
               struct failure *f); /* exit status; negative errno with `f` filled in */
    bool hidden;
};

/* Options that every verb takes. */
extern const struct option_row option_common[];

/* A parsed command line. Strings point into argv. */
struct invocation {
    const struct verb *verb;
    unsigned nargs;
    const char *args[64];
    unsigned nset;
    struct {
        const struct option_row *row;
        const char *value;
    } set[256];
};

/* Parses the words after the verb. `--name VALUE`, `--name=VALUE`, `--` ends the options. -EINVAL with a
 * usage failure. */
int options_parse(const struct verb *verb, int argc, char **argv, struct invocation *in, struct failure *f);

/* Value of an option, NULL when absent; a flag's value is "". `name` must be in the verb's table. */
const char *options_get(const struct invocation *in, const char *name);
bool options_has(const struct invocation *in, const char *name);
/* i-th value of a list, or NULL. */
const char *options_nth(const struct invocation *in, const char *name, unsigned i);

/* Row of the verb's table or of the common one, or NULL. */
const struct option_row *options_find(const struct verb *verb, const char *name, size_t len);

/* The i-th of the choices "a|b|c", copied to `buf`; false past the end. */
bool options_choice(const char *choices, unsigned i, char *buf, size_t size);

/* Closest of the names by edit distance, NULL when none is near. `next` yields the names, NULL at the end. */
const char *options_nearest(const char *word, const char *(*next)(const void *ctx, unsigned i),
                            const void *ctx);
