/* Parsing by table, and the near-miss suggestions. Knows no verb by name. */
#include "tools/supervisor/options.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

const struct option_row option_common[] = {
    {"json", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL,
     "write data and messages as JSON, one object a line"},
    {"quiet", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "no notices, only errors and results"},
    {"verbose", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "more notices, such as the guest's boot log"},
    {"help", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "show this help"},
    {0},
};

static const struct option_row *find_in(const struct option_row *rows, const char *name, size_t len)
{
    for (; rows && rows->name; rows++) {
        if (strlen(rows->name) == len && memcmp(rows->name, name, len) == 0)
            return rows;
    }
    return NULL;
}

const struct option_row *options_find(const struct verb *verb, const char *name, size_t len)
{
    const struct option_row *row = find_in(verb->options, name, len);
    return row ? row : find_in(option_common, name, len);
}

bool options_choice(const char *choices, unsigned i, char *buf, size_t size)
{
    for (; choices; i--) {
        size_t n = strcspn(choices, "|");
        if (i == 0) {
            if (n >= size)
                return false;
            memcpy(buf, choices, n);
            buf[n] = '\0';
            return true;
        }
        choices = choices[n] ? choices + n + 1 : NULL;
    }
    return false;
}

static unsigned distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    size_t la = strlen(a), lb = strlen(b);
    if (la > MAX || lb > MAX)
        return MAX;
    unsigned row[MAX + 1];
    for (size_t j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

const char *options_nearest(const char *word, const char *(*next)(const void *ctx, unsigned i),
                            const void *ctx)
{
    const char *best = NULL, *name;
    unsigned least = 3;
    size_t len = strlen(word);
    if (len < 2)
        return NULL;
    for (unsigned i = 0; (name = next(ctx, i)); i++) {
        bool prefix = len >= 3 && strncmp(word, name, len) == 0;
        unsigned d = prefix ? 1 : distance(word, name);
        if (d < least && d < strlen(name)) {
            least = d;
            best = name;
        }
    }
    return best;
}

static const char *row_name(const void *ctx, unsigned i)
{
    const struct verb *verb = ctx;
    unsigned own = 0, common = 0;
    while (verb->options && verb->options[own].name)
        own++;
    while (option_common[common].name)
        common++;
    if (i < own)
        return verb->options[i].name;
    return i - own < common ? option_common[i - own].name : NULL;
}

static int unknown(const struct verb *verb, const char *arg, const char *name, size_t len, struct failure *f)
{
    char word[64];
    size_t n = len < sizeof(word) ? len : sizeof(word) - 1;
    memcpy(word, name, n);
    word[n] = '\0';
    failure_set(f, STATUS_USAGE, EINVAL, "%s: unknown option '%s'", verb->name, arg);
    const char *near = options_nearest(word, row_name, verb);
    if (near)
        return failure_hint(f, "did you mean --%s?", near);
    return failure_hint(f, "'cleave %s --help' lists the options", verb->name);
}

static int check_choice(const struct verb *verb, const struct option_row *row, const char *value,
                        struct failure *f)
{
    char choice[64];
    for (unsigned i = 0; options_choice(row->choices, i, choice, sizeof(choice)); i++) {
        if (strcmp(choice, value) == 0)
            return 0;
    }
    return failure_set(f, STATUS_USAGE, EINVAL, "%s: --%s: '%s' is not one of %s", verb->name, row->name,
                       value, row->choices);
}

static int add(struct invocation *in, const struct option_row *row, const char *value, struct failure *f)
{
    if (in->nset == sizeof(in->set) / sizeof(in->set[0]))
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: too many options", in->verb->name);
    if (row->completes == COMPLETES_CHOICE) {
        int err = check_choice(in->verb, row, value, f);
        if (err)
            return err;
    }
    in->set[in->nset].row = row;
    in->set[in->nset++].value = value;
    return 0;
}

/* One option at argv[0]; returns how many words it took. */
static int parse_option(struct invocation *in, int argc, char **argv, struct failure *f)
{
    const struct verb *verb = in->verb;
    const char *name = argv[0] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct option_row *row = options_find(verb, name, len);
    if (!row)
        return unknown(verb, argv[0], name, len, f);
    if (row->kind == OPTION_FLAG) {
        if (value)
            return failure_set(f, STATUS_USAGE, EINVAL, "%s: --%s takes no value", verb->name, row->name);
        int err = add(in, row, "", f);
        return err ? err : 1;
    }
    if (!value && argc < 2)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: --%s needs a value: %s", verb->name, row->name,
                           row->metavar);
    int err = add(in, row, value ? value : argv[1], f);
    return err ? err : (value ? 1 : 2);
}

static int add_argument(struct invocation *in, const char *word, struct failure *f)
{
    const struct verb *verb = in->verb;
    unsigned max = sizeof(in->args) / sizeof(in->args[0]);
    if (in->nargs >= verb->max_args || in->nargs >= max) {
        failure_set(f, STATUS_USAGE, EINVAL, "%s: unexpected argument '%s'", verb->name, word);
        return failure_hint(f, "usage: cleave %s [OPTION]… %s", verb->name, verb->positionals);
    }
    in->args[in->nargs++] = word;
    return 0;
}

int options_parse(const struct verb *verb, int argc, char **argv, struct invocation *in, struct failure *f)
{
    *in = (struct invocation){.verb = verb};
    bool options = true;
    for (int i = 0; i < argc;) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
            i++;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            int used = parse_option(in, argc - i, argv + i, f);
            if (used < 0)
                return used;
            i += used;
        } else if (options && strcmp(argv[i], "-h") == 0) {
            int err = add(in, options_find(verb, "help", 4), "", f);
            if (err)
                return err;
            i++;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            return unknown(verb, argv[i], argv[i] + 1, strlen(argv[i] + 1), f);
        } else {
            int err = add_argument(in, argv[i++], f);
            if (err)
                return err;
        }
    }
    if (in->nargs < verb->min_args && !options_has(in, "help")) {
        failure_set(f, STATUS_USAGE, EINVAL, "%s: an argument is missing", verb->name);
        return failure_hint(f, "usage: cleave %s [OPTION]… %s", verb->name, verb->positionals);
    }
    return 0;
}

const char *options_get(const struct invocation *in, const char *name)
{
    assert(options_find(in->verb, name, strlen(name)));
    for (unsigned i = in->nset; i-- > 0;) {
        if (strcmp(in->set[i].row->name, name) == 0)
            return in->set[i].value;
    }
    return NULL;
}

bool options_has(const struct invocation *in, const char *name)
{
    return options_get(in, name) != NULL;
}

const char *options_nth(const struct invocation *in, const char *name, unsigned nth)
{
    assert(options_find(in->verb, name, strlen(name)));
    for (unsigned i = 0; i < in->nset; i++) {
        if (strcmp(in->set[i].row->name, name) == 0 && nth-- == 0)
            return in->set[i].value;
    }
    return NULL;
}
