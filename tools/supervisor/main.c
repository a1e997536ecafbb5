/* The `cleave` command: finds the verb, parses its options, prints what went wrong. */
#include "tools/supervisor/message.h"
#include "tools/supervisor/pages.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *verb_name(const void *ctx, unsigned i)
{
    return verbs[i].name;
}

static int unknown_verb(int argc, char **words, struct failure *f)
{
    char word[80];
    bool group = verb_is_group(words[0]);
    if (group && (argc < 2 || words[1][0] == '-')) {
        failure_set(f, STATUS_USAGE, EINVAL, "%s: what to do is missing", words[0]);
        return failure_hint(f, "'cleave %s --help' lists it", words[0]);
    }
    snprintf(word, sizeof(word), "%s%s%s", words[0], group ? " " : "", group ? words[1] : "");
    failure_set(f, STATUS_USAGE, EINVAL, "unknown verb '%s'", word);
    const char *near = options_nearest(word, verb_name, NULL);
    if (near)
        return failure_hint(f, "did you mean 'cleave %s'?", near);
    return failure_hint(f, "'cleave --help' lists the verbs");
}

static bool has_word(int argc, char **argv, const char *word)
{
    size_t n = strlen(word);
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], word, n) == 0 && (argv[i][n] == '\0' || argv[i][n] == '='))
            return true;
    }
    return false;
}

static int run_verb(const struct verb *verb, int argc, char **argv, struct failure *f)
{
    static struct invocation in;
    int err = options_parse(verb, argc, argv, &in, f);
    if (err)
        return err;
    if (options_has(&in, "help")) {
        pages_help(stdout, verb);
        return STATUS_OK;
    }
    return verb->run(&in, f);
}

/* Later code may count on descriptors 0 to 2. */
static void open_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
    if (fd > STDERR_FILENO)
        close(fd);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Of the command, of a verb, or of a group of verbs. */
static int help(int argc, char **words, struct failure *f)
{
    int used;
    const struct verb *verb = argc ? verb_of_words(argc, words, &used) : NULL;
    if (argc == 1 && verb_is_group(words[0]))
        pages_group(stdout, words[0]);
    else if (argc && !verb)
        return unknown_verb(argc, words, f);
    else
        pages_help(stdout, verb);
    return STATUS_OK;
}

static int dispatch(int argc, char **argv, struct failure *f)
{
    if (argc < 2) {
        pages_help(stderr, NULL);
        return STATUS_USAGE;
    }
    if (is_help(argv[1]) || strcmp(argv[1], "help") == 0)
        return help(argc - 2, argv + 2, f);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        puts("cleave " CLEAVE_VERSION);
        return STATUS_OK;
    }
    if (argc > 2 && is_help(argv[2]) && verb_is_group(argv[1]))
        return help(1, argv + 1, f);
    int used;
    const struct verb *verb = verb_of_words(argc - 1, argv + 1, &used);
    return verb ? run_verb(verb, argc - 1 - used, argv + 1 + used, f) : unknown_verb(argc - 1, argv + 1, f);
}

int main(int argc, char **argv)
{
    struct failure f;
    open_standard_fds();
    setlocale(LC_CTYPE, "");
    message_style.json = has_word(argc, argv, "--json");
    message_style.quiet = has_word(argc, argv, "--quiet");
    message_style.verbose = has_word(argc, argv, "--verbose");
    int status = dispatch(argc, argv, &f);
    if (status < 0) {
        message_failure(&f);
        /* The status of a batch run is the guest's; whatever is wrong outside is 125. */
        bool batch = argc > 1 && strcmp(argv[1], "run") == 0 && has_word(argc, argv, "--batch");
        status = batch ? STATUS_FAULT : f.status;
    }
    if (fflush(stdout) == EOF && status == STATUS_OK) {
        failure_set(&f, STATUS_FAILED, errno, "cannot write to stdout: %s", strerror(errno));
        message_failure(&f);
        status = STATUS_FAILED;
    }
    return status;
}
