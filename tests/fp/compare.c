/*
 * Compares the softfloat with the floating point of another RISC-V emulator, which runs guest.c: both draw
 * the same operands for each instruction and rounding mode and fold the results and flags into a digest.
 * Where digests differ, halving finds the first case that does.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fp/model.h"
#include "tests/fp/operands.h"

extern char **environ;

enum { EXIT_SKIP = 77, LINE_SIZE = 128 };

struct options {
    uint64_t count;
    uint64_t seed;
    const char *op;
    const char *guest;
    const char *qemu;
    char **command;
};

/* The emulator, with its serial port on a pair of pipes. */
struct emulator {
    pid_t pid;
    FILE *to;
    FILE *from;
};

static void fail(const char *what)
{
    fprintf(stderr, "fp-compare: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void emulator_start(struct emulator *e, char **command)
{
    int to[2], from[2];
    posix_spawn_file_actions_t actions;

    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
        fail("pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
    errno = posix_spawnp(&e->pid, command[0], &actions, NULL, command, environ);
    if (errno)
        fail(command[0]);
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    e->to = fdopen(to[1], "w");
    e->from = fdopen(from[0], "r");
    if (!e->to || !e->from)
        fail("fdopen");
}

static void emulator_send(struct emulator *e, const char *command)
{
    if (fputs(command, e->to) == EOF || fflush(e->to) == EOF)
        fail("cannot write to the emulator");
}

static void emulator_receive(struct emulator *e, char line[LINE_SIZE])
{
    if (!fgets(line, LINE_SIZE, e->from)) {
        fprintf(stderr, "fp-compare: the emulator closed its serial port\n");
        exit(EXIT_FAILURE);
    }
}

static int emulator_stop(struct emulator *e)
{
    int status;

    emulator_send(e, "q\n");
    fclose(e->to);
    if (waitpid(e->pid, &status, 0) < 0)
        fail("waitpid");
    fclose(e->from);
    return status;
}

static void model_digests(enum op op, uint64_t seed, uint64_t from, uint64_t to, uint64_t digest[RM_COUNT])
{
    unsigned modes = op_modes(&op_table[op]);

    memset(digest, 0, RM_COUNT * sizeof digest[0]);
    for (uint64_t i = from; i < to; i++) {
        uint64_t x[3];
        draw_operands(seed, i, op_table[op].operand, x);
        for (unsigned rm = 0; rm < modes; rm++) {
            uint32_t fflags = 0;
            uint64_t result = model_run(op, x, rm, &fflags);
            digest[rm] = digest_fold(digest[rm], result, fflags);
        }
    }
}

/* A bit for each rounding mode whose digests differ. */
static unsigned differing_modes(struct emulator *e, enum op op, uint64_t seed, uint64_t from, uint64_t to)
{
    char line[LINE_SIZE];
    char *next = line;
    uint64_t ours[RM_COUNT];
    unsigned differing = 0;

    snprintf(line, sizeof line, "d %x %" PRIx64 " %" PRIx64 " %" PRIx64 "\n", op, seed, from, to);
    emulator_send(e, line);
    model_digests(op, seed, from, to, ours);
    emulator_receive(e, line);
    for (unsigned rm = 0; rm < op_modes(&op_table[op]); rm++)
        differing |= (unsigned)(strtoull(next, &next, 16) != ours[rm]) << rm;
    return differing;
}

static void report(struct emulator *e, enum op op, unsigned rm, uint64_t seed, uint64_t index)
{
    char line[LINE_SIZE];
    char *next = line;
    uint64_t x[3];
    uint32_t fflags = 0;

    draw_operands(seed, index, op_table[op].operand, x);
    uint64_t ours = model_run(op, x, rm, &fflags);
    snprintf(line, sizeof line, "r %x %" PRIx64 " %" PRIx64 " %x\n", op, seed, index, rm);
    emulator_send(e, line);
    emulator_receive(e, line);
    uint64_t theirs = strtoull(next, &next, 16);
    fprintf(stderr,
            "fp-compare: %s rm %u, case %" PRIu64 ": operands %016" PRIx64 " %016" PRIx64 " %016" PRIx64
            ": softfloat %016" PRIx64 " flags %02" PRIx32 ", emulator %016" PRIx64 " flags %02llx\n",
            op_table[op].name, rm, index, x[0], x[1], x[2], ours, fflags, theirs, strtoull(next, NULL, 16));
}

/* Reports the first case that differs in the rounding mode, which some case below `count` does. */
static void find_difference(struct emulator *e, enum op op, unsigned rm, uint64_t seed, uint64_t count)
{
    uint64_t from = 0;
    uint64_t to = count;

    while (to - from > 1) {
        uint64_t middle = from + (to - from) / 2;
        if (differing_modes(e, op, seed, from, middle) >> rm & 1)
            to = middle;
        else
            from = middle;
    }
    report(e, op, rm, seed, from);
}

static unsigned compare_op(struct emulator *e, enum op op, uint64_t seed, uint64_t count)
{
    unsigned differing = differing_modes(e, op, seed, 0, count);

    for (unsigned rm = 0; rm < RM_COUNT; rm++)
        if (differing >> rm & 1)
            find_difference(e, op, rm, seed, count);
    return (unsigned)__builtin_popcount(differing);
}

static bool op_selected(const struct options *o, enum op op)
{
    return !o->op || strcmp(o->op, op_table[op].name) == 0;
}

static int compare_all(struct emulator *e, const struct options *o)
{
    unsigned tests = 0;
    unsigned failures = 0;

    for (enum op op = 0; op < OP_COUNT; op++) {
        if (!op_selected(o, op))
            continue;
        failures += compare_op(e, op, o->seed, o->count);
        tests += op_modes(&op_table[op]);
    }
    if (tests == 0) {
        fprintf(stderr, "fp-compare: no such instruction: %s\n", o->op);
        return 2;
    }
    printf("%u of %u instructions and rounding modes equal, %" PRIu64 " cases each, seed %" PRIu64 "\n",
           tests - failures, tests, o->count, o->seed);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

static uint64_t parse_number(const char *text)
{
    char *end;

    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno || end == text || *end || *text == '-') {
        fprintf(stderr, "fp-compare: not a number: %s\n", text);
        exit(2);
    }
    return value;
}

static void parse_options(struct options *o, int argc, char **argv)
{
    static const struct option table[] = {
        {"count", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, 's'},
        {"op", required_argument, NULL, 'o'},    {"guest", required_argument, NULL, 'g'},
        {"qemu", required_argument, NULL, 'q'},  {NULL, 0, NULL, 0},
    };
    int opt;

    while ((opt = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (opt) {
        case 'c':
            o->count = parse_number(optarg);
            break;
        case 's':
            o->seed = parse_number(optarg);
            break;
        case 'o':
            o->op = optarg;
            break;
        case 'g':
            o->guest = optarg;
            break;
        case 'q':
            o->qemu = optarg;
            break;
        default:
            fprintf(stderr,
                    "usage: fp-compare [--count N] [--seed N] [--op NAME] --guest ELF [--qemu PROGRAM]\n"
                    "       fp-compare [--count N] [--seed N] [--op NAME] -- EMULATOR ARGUMENT...\n");
            exit(2);
        }
    }
    o->command = optind < argc ? argv + optind : NULL;
}

int main(int argc, char **argv)
{
    struct options o = {.count = 100000, .seed = 1, .qemu = getenv("CLEAVE_QEMU")};
    struct emulator e;

    parse_options(&o, argc, argv);
    char *qemu[] = {(char *)o.qemu,
                    "-M",
                    "virt",
                    "-cpu",
                    "rv64,zfa=true,zfh=true",
                    "-m",
                    "64M",
                    "-bios",
                    (char *)o.guest,
                    "-display",
                    "none",
                    "-monitor",
                    "none",
                    "-serial",
                    "stdio",
                    NULL};
    if (!o.command && (!o.qemu || !o.guest)) {
        fprintf(stderr, "fp-compare: skipped: no emulator given by --qemu or CLEAVE_QEMU\n");
        return EXIT_SKIP;
    }
    signal(SIGPIPE, SIG_IGN);
    emulator_start(&e, o.command ? o.command : qemu);
    int result = compare_all(&e, &o);
    if (emulator_stop(&e) != 0) {
        fprintf(stderr, "fp-compare: the emulator failed\n");
        result = EXIT_FAILURE;
    }
    return result;
}
