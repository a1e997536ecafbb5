/* Fuzz target: the commands that read traces, on a hostile one (log_blocks.h). The first byte also chooses
 * the command. Each must end with a status, or a failure that says something. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/log_blocks.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/verbs.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WORDS 6

/* The words after "trace"; TRACE stands for the file. */
static const char *const commands[][MAX_WORDS] = {
    {"info", "TRACE"},
    {"info", "TRACE", "--json"},
    {"dump", "TRACE", "--bodies"},
    {"dump", "TRACE", "--kind", "completion", "--from=300"},
    {"verify", "TRACE"},
    {"diff", "TRACE", "TRACE"},
    {"export", "TRACE", "--format=chrome"},
    {"export", "TRACE", "--format=asciicast"},
    {"pack", "TRACE", "/dev/null/out"},
};

static void prepare(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    setenv("XDG_STATE_HOME", "/dev/null/state", 1);
    if (!freopen("/dev/null", "w", stdout))
        abort();
    message_style.quiet = true;
}

static void run(const char *const *words, const char *path)
{
    static struct invocation in;
    struct failure f = {0};
    char *argv[MAX_WORDS], name[32];
    int argc = 0;
    snprintf(name, sizeof(name), "trace %s", words[0]);
    for (const char *const *w = words + 1; w < words + MAX_WORDS && *w; w++)
        argv[argc++] = (char *)(strcmp(*w, "TRACE") == 0 ? path : *w);
    const struct verb *verb = verb_find(name);
    if (options_parse(verb, argc, argv, &in, &f) < 0)
        abort();
    message_style.json = options_has(&in, "json");
    int status = verb->run(&in, &f);
    if (status < 0 ? !f.text[0] || !f.status : status > 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[40];
    prepare();
    int fd = log_blocks_file(data, size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    run(commands[(size ? data[0] >> 1 : 0) % (sizeof(commands) / sizeof(commands[0]))], path);
    close(fd);
    return 0;
}
