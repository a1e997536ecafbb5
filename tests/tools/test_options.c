/* Parsing from the verb tables, and that help, manual pages and completion follow the same tables. */
#include "tools/supervisor/options.h"
#include "tools/supervisor/pages.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct invocation in;
static struct failure f;

static int parse(const char *verb, char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    memset(&f, 0, sizeof(f));
    return options_parse(verb_find(verb), argc, argv, &in, &f);
}

static void test_values(void **state)
{
    char *argv[] = {"--memory", "1G",          "vm.yaml",     "--cpus=2", "--disk",
                    "a",        "--disk=b,ro", "--memory=2G", "--json",   NULL};
    assert_int_equal(parse("run", argv), 0);
    assert_string_equal(options_get(&in, "memory"), "2G");
    assert_string_equal(options_get(&in, "cpus"), "2");
    assert_string_equal(options_nth(&in, "disk", 0), "a");
    assert_string_equal(options_nth(&in, "disk", 1), "b,ro");
    assert_null(options_nth(&in, "disk", 2));
    assert_true(options_has(&in, "json"));
    assert_false(options_has(&in, "quiet"));
    assert_int_equal(in.nargs, 1);
    assert_string_equal(in.args[0], "vm.yaml");
}

static void test_double_dash(void **state)
{
    char *argv[] = {"vm", "text", "--", "--json", NULL};
    assert_int_equal(parse("input", argv), 0);
    assert_int_equal(in.nargs, 3);
    assert_string_equal(in.args[2], "--json");
    assert_false(options_has(&in, "json"));
}

static void refuse(const char *verb, char **argv, const char *text, const char *hint)
{
    assert_int_equal(parse(verb, argv), -EINVAL);
    assert_int_equal(f.status, STATUS_USAGE);
    assert_non_null(strstr(f.text, text));
    assert_non_null(strstr(f.hint, hint));
}

static void test_refusals(void **state)
{
    refuse("run", (char *[]){"--memroy", "1G", NULL}, "unknown option '--memroy'", "--memory");
    refuse("run", (char *[]){"--frobnicate", NULL}, "unknown option", "cleave run --help");
    refuse("run", (char *[]){"--mem", "1G", NULL}, "unknown option '--mem'", "--memory");
    refuse("run", (char *[]){"-m", "1G", NULL}, "unknown option '-m'", "");
    refuse("run", (char *[]){"--memory", NULL}, "needs a value", "");
    refuse("run", (char *[]){"--no-tlb=1", NULL}, "takes no value", "");
    refuse("run", (char *[]){"--clock", "sundial", NULL}, "'sundial' is not one of host|virtual", "");
    refuse("run", (char *[]){"a.yaml", "b.yaml", NULL}, "unexpected argument 'b.yaml'", "usage:");
    refuse("info", (char *[]){NULL}, "argument is missing", "usage:");
}

static const char *verb_name(const void *ctx, unsigned i)
{
    return verbs[i].name;
}

static void test_nearest(void **state)
{
    assert_string_equal(options_nearest("rnu", verb_name, NULL), "run");
    assert_string_equal(options_nearest("consol", verb_name, NULL), "console");
    assert_string_equal(options_nearest("stopp", verb_name, NULL), "stop");
    assert_null(options_nearest("frobnicate", verb_name, NULL));
    assert_null(options_nearest("x", verb_name, NULL));
}

static char *printed(void (*print)(FILE *out, const void *arg), const void *arg)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    print(out, arg);
    fclose(out);
    return text;
}

static void print_help(FILE *out, const void *verb)
{
    pages_help(out, verb);
}

static void print_man(FILE *out, const void *verb)
{
    pages_man(out, verb);
}

static void print_completion(FILE *out, const void *shell)
{
    assert_int_equal(pages_completion(out, shell), 0);
}

/* A dash is "\-" in man(7), and there is one between the words of a verb. */
static void man_name(const char *before, const char *name, char *out)
{
    out += sprintf(out, "%s", before);
    for (; *name; name++) {
        if (*name == '-' || *name == ' ')
            *out++ = '\\';
        *out++ = *name == ' ' ? '-' : *name;
    }
    *out = '\0';
}

static void check_rows(const struct option_row *row, const char *help, const char *man, const char *bash,
                       const char *zsh, const char *fish)
{
    for (; row->name; row++) {
        char name[80];
        snprintf(name, sizeof(name), "--%s", row->name);
        assert_non_null(strstr(help, name));
        assert_non_null(strstr(bash, name));
        assert_non_null(strstr(zsh, name));
        snprintf(name, sizeof(name), "-l %s", row->name);
        assert_non_null(strstr(fish, name));
        man_name("\\-\\-", row->name, name);
        assert_non_null(strstr(man, name));
        assert_true((row->kind == OPTION_FLAG) == (row->metavar == NULL));
        assert_true((row->completes == COMPLETES_CHOICE) == (row->choices != NULL));
        assert_non_null(row->help);
    }
}

static void test_no_drift(void **state)
{
    char *bash = printed(print_completion, "bash"), *zsh = printed(print_completion, "zsh");
    char *fish = printed(print_completion, "fish"), *list = printed(print_help, NULL),
         *page = printed(print_man, NULL);
    for (unsigned i = 0; i < nverbs; i++) {
        const struct verb *v = &verbs[i];
        char name[80], *help = printed(print_help, v), *man = printed(print_man, v);
        check_rows(v->options, help, man, bash, zsh, fish);
        check_rows(option_common, help, man, bash, zsh, fish);
        assert_true(v->hidden || strstr(list, v->name));
        man_name("cleave\\-", v->name, name);
        assert_true(v->hidden || strstr(page, name));
        assert_non_null(v->run);
        assert_true(v->max_args >= v->min_args);
        free(help);
        free(man);
    }
    assert_int_equal(pages_completion(stdout, "tcsh"), -EINVAL);
    free(bash);
    free(zsh);
    free(fish);
    free(list);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),  cmocka_unit_test(test_double_dash), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_no_drift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
