/* Each generator walks the same tables; none knows a verb or an option by name. */
#include "tools/supervisor/pages.h"

#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define HELP_COLUMN 28
#define HELP_WIDTH  96

static const char exit_statuses[] =
    "0 done, 1 failed, 2 usage error, 3 no such machine, 4 wrong state, 5 timeout, 125 emulator fault";

static const char *const environment[][2] = {
    {"XDG_RUNTIME_DIR", "holds the directory cleave/ with one subdirectory per running machine; without it "
                        "/tmp/cleave-UID is used"},
    {"TMPDIR", "where temporary disk overlays live (default: /tmp)"},
    {"NO_COLOR", "when not empty, messages are not coloured"},
    {NULL, NULL},
};

/* Width on the terminal of UTF-8 text. */
static unsigned width(const char *s)
{
    unsigned n = 0;
    for (; *s; s++)
        n += (*s & 0xc0) != 0x80;
    return n;
}

/* The first word of a verb's name, and the rest or NULL. */
static const char *first_word(const struct verb *v, char *word, size_t size)
{
    size_t n = strcspn(v->name, " ");
    snprintf(word, size, "%.*s", (int)n, v->name);
    return v->name[n] ? v->name + n + 1 : NULL;
}

/* The verbs of a group follow each other: true for all of one but the first. */
static bool repeats_group(const struct verb *v)
{
    char word[64];
    return first_word(v, word, sizeof(word)) && v != verbs && verb_in_group(v - 1, word);
}

/* Writes words with line breaks; `column` is where the text stands, continuation lines are indented to
 * `indent`. */
static void wrap(FILE *out, const char *text, unsigned column, unsigned indent)
{
    while (*text) {
        size_t n = strcspn(text, " \n");
        char word[256];
        snprintf(word, sizeof(word), "%.*s", (int)n, text);
        if (column > indent && column + 1 + width(word) > HELP_WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fputs(word, out);
        column += width(word);
        text += n;
        if (strncmp(text, "\n\n", 2) == 0) {
            fprintf(out, "\n\n%*s", (int)indent, "");
            column = indent;
        }
        text += strspn(text, " \n");
    }
    fputc('\n', out);
}

static void help_options(FILE *out, const struct option_row *row)
{
    for (; row->name; row++) {
        char head[80];
        snprintf(head, sizeof(head), "  --%s%s%s", row->name, row->metavar ? " " : "",
                 row->metavar ? row->metavar : "");
        fputs(head, out);
        unsigned column = width(head);
        if (column + 2 > HELP_COLUMN) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%*s", (int)(HELP_COLUMN - column), "");
        wrap(out, row->help, HELP_COLUMN, HELP_COLUMN);
    }
}

static void help_command(FILE *out)
{
    fputs("usage: cleave VERB [OPTION]… [ARGUMENT]…\n\n", out);
    for (unsigned i = 0; i < nverbs; i++) {
        if (!verbs[i].hidden)
            fprintf(out, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
    }
    fputs("\n  --version    show the version\n\n'cleave VERB --help' tells more.\n", out);
}

void pages_group(FILE *out, const char *group)
{
    fprintf(out, "usage: cleave %s VERB [OPTION]… [ARGUMENT]…\n\n", group);
    for (unsigned i = 0; i < nverbs; i++) {
        if (verb_in_group(&verbs[i], group))
            fprintf(out, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
    }
    fprintf(out, "\n'cleave %s VERB --help' tells more.\n", group);
}

void pages_help(FILE *out, const struct verb *verb)
{
    if (!verb) {
        help_command(out);
        return;
    }
    fprintf(out, "usage: cleave %s [OPTION]…%s%s\n\n", verb->name, *verb->positionals ? " " : "",
            verb->positionals);
    wrap(out, verb->summary, 0, 0);
    fputc('\n', out);
    if (*verb->description) {
        wrap(out, verb->description, 0, 0);
        fputc('\n', out);
    }
    help_options(out, verb->options);
    help_options(out, option_common);
}

/* Text for man(7): a backslash, a dash and a leading dot or quote have a meaning there. */
static void troff(FILE *out, const char *text)
{
    bool start = true;
    for (; *text; text++) {
        if (strncmp(text, "\n\n", 2) == 0) {
            fputs("\n.PP\n", out);
            text++;
            start = true;
            continue;
        }
        if (start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
        start = *text == '\n';
    }
    fputc('\n', out);
}

/* A name within a line, its dashes as they are typed. */
static void troff_name(FILE *out, const char *name)
{
    for (; *name; name++)
        fprintf(out, *name == '-' ? "\\-" : "%c", *name);
}

/* The name of a verb's page: "cleave-trace-info" for the verb "trace info". */
static void page_name(FILE *out, const struct verb *verb)
{
    fputs("cleave\\-", out);
    for (const char *c = verb->name; *c; c++)
        fputs(*c == ' ' || *c == '-' ? "\\-" : (char[]){*c, '\0'}, out);
}

static void man_options(FILE *out, const struct option_row *row)
{
    for (; row->name; row++) {
        fputs(".TP\n.BI \"\\-\\-", out);
        troff_name(out, row->name);
        fprintf(out, "%s\" \"%s\"\n", row->metavar ? " " : "", row->metavar ? row->metavar : "");
        troff(out, row->help);
    }
}

static void man_environment(FILE *out)
{
    fputs(".SH ENVIRONMENT\n", out);
    for (unsigned i = 0; environment[i][0]; i++) {
        fprintf(out, ".TP\n.B %s\n", environment[i][0]);
        troff(out, environment[i][1]);
    }
}

static void man_command(FILE *out)
{
    fputs(".TH CLEAVE 1 \"\" cleave \"User Commands\"\n.SH NAME\ncleave \\- a RISC\\-V machine in separate "
          "processes\n"
          ".SH SYNOPSIS\n.B cleave\n.I VERB\n[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n",
          out);
    troff(out, "Runs unmodified 64-bit RISC-V systems. Processor, disks, network cards, serial ports and "
               "input devices live in "
               "processes of their own, which a supervisor starts and watches.");
    fputs(".SH VERBS\n", out);
    for (unsigned i = 0; i < nverbs; i++) {
        if (verbs[i].hidden)
            continue;
        fputs(".TP\n.BR ", out);
        page_name(out, &verbs[i]);
        fputs(" (1)\n", out);
        troff(out, verbs[i].summary);
    }
    fputs(".SH OPTIONS\nEvery verb takes:\n", out);
    man_options(out, option_common);
}

static void man_verb(FILE *out, const struct verb *verb)
{
    fputs(".TH ", out);
    page_name(out, verb);
    fputs(" 1 \"\" cleave \"User Commands\"\n.SH NAME\n", out);
    page_name(out, verb);
    fputs(" \\- ", out);
    troff(out, verb->summary);
    fprintf(out, ".SH SYNOPSIS\n.B cleave %s\n[\\fIOPTION\\fR]...\n", verb->name);
    if (*verb->positionals)
        troff(out, verb->positionals);
    if (*verb->description) {
        fputs(".SH DESCRIPTION\n", out);
        troff(out, verb->description);
    }
    fputs(".SH OPTIONS\n", out);
    man_options(out, verb->options);
    man_options(out, option_common);
}

void pages_man(FILE *out, const struct verb *verb)
{
    if (verb)
        man_verb(out, verb);
    else
        man_command(out);
    fputs(".SH EXIT STATUS\n", out);
    troff(out, exit_statuses);
    man_environment(out);
    fputs(".SH SEE ALSO\n.BR cleave (1)\n", out);
}

static void word_list(FILE *out, const struct option_row *row)
{
    for (; row->name; row++)
        fprintf(out, " --%s", row->name);
}

static void spaced_choices(FILE *out, const char *choices)
{
    char choice[64];
    for (unsigned i = 0; options_choice(choices, i, choice, sizeof(choice)); i++)
        fprintf(out, "%s%s", i ? " " : "", choice);
}

#define MACHINES "cleave ps --json 2>/dev/null | grep -o '\"name\":\"[^\"]*' | cut -d'\"' -f4"

/* What can stand right after `cleave`. */
static void first_words(FILE *out)
{
    char word[64];
    for (unsigned i = 0; i < nverbs; i++) {
        if (verbs[i].hidden || repeats_group(&verbs[i]))
            continue;
        first_word(&verbs[i], word, sizeof(word));
        fprintf(out, "%s ", word);
    }
}

static void second_words(FILE *out, const char *group)
{
    for (unsigned i = 0; i < nverbs; i++) {
        if (verb_in_group(&verbs[i], group))
            fprintf(out, "%s ", verbs[i].name + strlen(group) + 1);
    }
}

static void bash_reply(FILE *out, enum option_completes completes, const char *choices)
{
    switch (completes) {
    case COMPLETES_FILE:
        fputs("COMPREPLY=($(compgen -f -- \"$cur\"))", out);
        break;
    case COMPLETES_MACHINE:
        fputs("COMPREPLY=($(compgen -W \"$(" MACHINES ")\" -- \"$cur\"))", out);
        break;
    case COMPLETES_CHOICE:
        fputs("COMPREPLY=($(compgen -W \"", out);
        spaced_choices(out, choices);
        fputs("\" -- \"$cur\"))", out);
        break;
    case COMPLETES_NOTHING:
        fputs("COMPREPLY=()", out);
        break;
    }
}

static void bash_verb(FILE *out, const struct verb *v)
{
    fprintf(out, "    '%s')\n        case $prev in\n", v->name);
    for (const struct option_row *row = v->options; row->name; row++) {
        if (row->kind == OPTION_FLAG)
            continue;
        fprintf(out, "        --%s) ", row->name);
        bash_reply(out, row->completes, row->choices);
        fputs("; return ;;\n", out);
    }
    fputs("        esac\n        if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"", out);
    word_list(out, v->options);
    word_list(out, option_common);
    fputs("\" -- \"$cur\"))\n        else ", out);
    bash_reply(out, v->completes, v->choices);
    fputs("; fi ;;\n", out);
}

static void completion_bash(FILE *out)
{
    fputs("_cleave() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"",
          out);
    first_words(out);
    fputs(
        "--help --version\" -- \"$cur\")); return; fi\n    local verb=${COMP_WORDS[1]}\n    case $verb in\n",
        out);
    for (unsigned i = 0; i < nverbs; i++) {
        char group[64];
        if (!first_word(&verbs[i], group, sizeof(group)) || repeats_group(&verbs[i]))
            continue;
        fprintf(out, "    %s) if [ \"$COMP_CWORD\" -eq 2 ]; then COMPREPLY=($(compgen -W \"", group);
        second_words(out, group);
        fputs("--help\" -- \"$cur\")); return; fi; verb=\"$verb ${COMP_WORDS[2]}\" ;;\n", out);
    }
    fputs("    esac\n    case $verb in\n", out);
    for (unsigned i = 0; i < nverbs; i++)
        bash_verb(out, &verbs[i]);
    fputs("    esac\n}\ncomplete -o filenames -F _cleave cleave\n", out);
}

/* Inside single quotes, for zsh's specifications, which also give brackets and colons a meaning. */
static void zsh_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (strchr("[]:\\", *text))
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

static void zsh_action(FILE *out, enum option_completes completes, const char *choices)
{
    if (completes == COMPLETES_FILE)
        fputs("_files", out);
    else if (completes == COMPLETES_MACHINE)
        fputs("_cleave_machines", out);
    else if (completes == COMPLETES_CHOICE) {
        fputc('(', out);
        spaced_choices(out, choices);
        fputc(')', out);
    }
}

static void zsh_options(FILE *out, const struct option_row *row)
{
    for (; row->name; row++) {
        fprintf(out, "            '%s--%s[", row->kind == OPTION_LIST ? "*" : "", row->name);
        zsh_text(out, row->help);
        fputc(']', out);
        if (row->kind != OPTION_FLAG) {
            fputc(':', out);
            zsh_text(out, row->metavar);
            fputc(':', out);
            zsh_action(out, row->completes, row->choices);
        }
        fputs("' \\\n", out);
    }
}

/* The second words of each group. */
static void zsh_groups(FILE *out)
{
    for (unsigned i = 0; i < nverbs; i++) {
        char group[64];
        if (!first_word(&verbs[i], group, sizeof(group)) || repeats_group(&verbs[i]))
            continue;
        fprintf(out, "    if [[ $verb == %s ]]; then\n        if (( CURRENT == 2 )); then compadd -- ",
                group);
        second_words(out, group);
        fputs("; return; fi\n        verb=\"$verb $words[2]\"; shift words; (( CURRENT-- ))\n    fi\n", out);
    }
}

static void completion_zsh(FILE *out)
{
    fputs("#compdef cleave\n_cleave_machines() { compadd -- $(" MACHINES ") }\n_cleave() {\n"
          "    if (( CURRENT == 2 )); then\n        local -a verbs=(\n",
          out);
    for (unsigned i = 0; i < nverbs; i++) {
        char word[64];
        if (verbs[i].hidden || repeats_group(&verbs[i]))
            continue;
        bool group = first_word(&verbs[i], word, sizeof(word));
        fprintf(out, "            '%s:", word);
        zsh_text(out, group ? "a group of verbs" : verbs[i].summary);
        fputs("'\n", out);
    }
    fputs("        )\n        _describe verb verbs\n        return\n    fi\n    local verb=$words[2]\n    "
          "shift words; (( CURRENT-- ))\n",
          out);
    zsh_groups(out);
    fputs("    case $verb in\n", out);
    for (unsigned i = 0; i < nverbs; i++) {
        fprintf(out, "    '%s')\n        _arguments \\\n", verbs[i].name);
        zsh_options(out, verbs[i].options);
        zsh_options(out, option_common);
        fputs("            '*:argument:", out);
        zsh_action(out, verbs[i].completes, verbs[i].choices);
        fputs("' ;;\n", out);
    }
    /* The file may be sourced, or loaded by its first use. */
    fputs("    esac\n}\nif [ \"$funcstack[1]\" = _cleave ]; then _cleave \"$@\"; else compdef _cleave "
          "cleave; fi\n",
          out);
}

static void fish_text(FILE *out, const char *text)
{
    for (; *text; text++)
        fprintf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
}

static void fish_action(FILE *out, enum option_completes completes, const char *choices)
{
    if (completes == COMPLETES_FILE)
        fputs(" -F", out);
    else if (completes == COMPLETES_MACHINE)
        fputs(" -a '("
              "__cleave_machines"
              ")'",
              out);
    else if (completes == COMPLETES_CHOICE) {
        fputs(" -a '", out);
        spaced_choices(out, choices);
        fputc('\'', out);
    }
}

static void fish_options(FILE *out, const struct verb *v, const struct option_row *row)
{
    for (; row->name; row++) {
        fprintf(out, "complete -c cleave -n '__cleave_at %s' -l %s%s", v->name, row->name,
                row->kind == OPTION_FLAG ? "" : " -x");
        fish_action(out, row->completes, row->choices);
        fputs(" -d '", out);
        fish_text(out, row->help);
        fputs("'\n", out);
    }
}

/* The words of a verb's name, each where it can stand. */
static void fish_verb(FILE *out, const struct verb *v)
{
    char word[64];
    const char *second = first_word(v, word, sizeof(word));
    if (second && !repeats_group(v))
        fprintf(out, "complete -c cleave -n __fish_use_subcommand -a %s -d 'a group of verbs'\n", word);
    if (second)
        fprintf(
            out,
            "complete -c cleave -n '__cleave_at %s; and test (count (commandline -opc)) -eq 2' -a %s -d '",
            word, second);
    else
        fprintf(out, "complete -c cleave -n __fish_use_subcommand -a %s -d '", word);
    fish_text(out, v->summary);
    fputs("'\n", out);
}

static void completion_fish(FILE *out)
{
    fputs("function __cleave_machines\n    " MACHINES "\nend\n"
          "function __cleave_at\n    set -l words (commandline -opc)\n"
          "    test (count $words) -gt (count $argv); and test \"$words[2..(math 1 + (count $argv))]\" = "
          "\"$argv\"\nend\n"
          "complete -c cleave -f\n",
          out);
    for (unsigned i = 0; i < nverbs; i++) {
        const struct verb *v = &verbs[i];
        if (!v->hidden)
            fish_verb(out, v);
        fish_options(out, v, v->options);
        fish_options(out, v, option_common);
        if (v->completes != COMPLETES_NOTHING) {
            fprintf(out, "complete -c cleave -n '__cleave_at %s'", v->name);
            fish_action(out, v->completes, v->choices);
            fputc('\n', out);
        }
    }
}

int pages_completion(FILE *out, const char *shell)
{
    static const struct {
        const char *shell;
        void (*print)(FILE *out);
    } shells[] = {{"bash", completion_bash}, {"zsh", completion_zsh}, {"fish", completion_fish}};
    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
        if (strcmp(shells[i].shell, shell) == 0) {
            shells[i].print(out);
            return 0;
        }
    }
    return -EINVAL;
}
