/* Runs one program on the bare machine:
 *
 *   insn_runner [--engine interp|jit] [--heat N] [--no-tlb] [--lockstep[=N]] [--exact] [--max-steps N]
 *               [--memory MIB] [--trace] PROGRAM
 *
 * A program ends by writing its `tohost` word (1 is success) or the test device. Exit status: 0 it succeeded,
 * 1 it failed (the number of the failing test is printed), 2 usage or unreadable file, 3 lockstep found a
 * difference, 5 no end after N steps.
 * --lockstep runs a second machine that interprets and caches nothing beside the first, and compares their
 * states after slices of random length, at most N (61) steps; 1 compares every step; with --exact what
 * is shorter than a block is translated too. --trace prints every instruction. Code is translated when it was
 * entered N times, at once without --heat. The number of steps that were compared goes to stderr. */
#include "cpu-core/isa/isa.h"
#include "cpu-core/jit/jit.h"
#include "tests/insn/bare.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE          20000u   /* steps between looks at tohost */
#define LOCKSTEP_RAM   1000000u /* steps between comparisons of RAM */
#define LOCKSTEP_SLICE 61u      /* longest slice, unless said otherwise */
#define DEFAULT_STEPS  100000000ull
#define DEFAULT_MEMORY 128u
#define STATUS_DIFFERS 3
#define STATUS_NO_END  5

struct options {
    const char *program;
    const struct engine *engine;
    bool no_tlb, trace, exact;
    uint64_t max_steps, memory, heat;
    uint64_t lockstep; /* longest slice; 0: one machine only */
};

static void put_stdout(void *arg, uint8_t byte)
{
    putchar(byte);
}

/* Looks at tohost. True if the program ended, *failed is then the number of the failing test or 0. Console
 * output by the host interface is printed and acknowledged. */
static bool ended(struct bare *b, uint64_t tohost, uint64_t *failed)
{
    static const uint64_t zero;
    uint64_t value = 0;

    if (b->stopped) {
        *failed = b->status;
        return true;
    }
    if (!tohost || mmu_dma_read(b->mmu, tohost, &value, sizeof value) || value == 0)
        return false;
    if (value & 1) {
        *failed = value >> 1;
        return true;
    }
    if (value >> 48 == 0x0101)
        putchar((int)(value & 0xff));
    mmu_dma_write(b->mmu, tohost, &zero, sizeof zero);
    return false;
}

static void trace_step(struct bare *b)
{
    struct hart *h = &b->hart;
    struct mmu_target t;
    uint64_t pc = h->pc;
    uint32_t bits = 0;
    char text[64] = "(not fetched)";

    if (mmu_fetch(h, pc, &t) == 0) {
        memcpy(&bits, t.host, 2);
        if (isa_length(bits) == 4 && mmu_fetch(h, pc + 2, &t) == 0) {
            uint16_t high;
            memcpy(&high, t.host, 2);
            bits |= (uint32_t)high << 16;
        }
        isa_format(bits, pc, text, sizeof text);
    }
    printf("%10" PRIu64 " %u %016" PRIx64 " %s\n", b->steps, h->priv, pc, text);
    bare_run(b, 1);
}

static int report(uint64_t failed, uint64_t steps)
{
    if (failed == 0)
        return 0;
    printf("test %" PRIu64 " failed after %" PRIu64 " steps\n", failed, steps);
    return 1;
}

static int run(struct bare *b, const struct options *o, uint64_t tohost)
{
    uint64_t failed;

    while (b->steps < o->max_steps) {
        uint64_t room = o->max_steps - b->steps;
        if (o->trace)
            trace_step(b);
        else
            bare_run(b, room < SLICE ? room : SLICE);
        if (ended(b, tohost, &failed))
            return report(failed, b->steps);
    }
    printf("no end after %" PRIu64 " steps\n", b->steps);
    return STATUS_NO_END;
}

/* Pseudo-random slice lengths; the generator's seed is constant, so that a difference can be reproduced. */
static uint64_t next_slice(uint64_t *state, uint64_t longest)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return 1 + (*state >> 33) % longest;
}

static void print_registers(const char *name, const uint64_t *a, const uint64_t *b)
{
    for (unsigned i = 0; i < 32; i++)
        if (a[i] != b[i])
            printf("%s%u: %#" PRIx64 ", should be %#" PRIx64 "\n", name, i, a[i], b[i]);
}

static void print_differences(const struct hart *a, const struct hart *b)
{
    const struct {
        const char *name;
        uint64_t a, b;
    } fields[] = {{"pc", a->pc, b->pc},
                  {"privilege", a->priv, b->priv},
                  {"mstatus", a->mstatus, b->mstatus},
                  {"fflags", a->fflags, b->fflags},
                  {"frm", a->frm, b->frm},
                  {"mcause", a->mcause, b->mcause},
                  {"mepc", a->mepc, b->mepc},
                  {"mtval", a->mtval, b->mtval},
                  {"scause", a->scause, b->scause},
                  {"sepc", a->sepc, b->sepc},
                  {"stval", a->stval, b->stval},
                  {"traps", a->traps, b->traps},
                  {"reservation", a->res_valid ? a->res_addr : 0, b->res_valid ? b->res_addr : 0}};

    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].a != fields[i].b)
            printf("%s: %#" PRIx64 ", should be %#" PRIx64 "\n", fields[i].name, fields[i].a, fields[i].b);
    print_registers("x", a->x, b->x);
    print_registers("f", a->f, b->f);
}

static int differ(const struct bare *a, const struct bare *b, uint64_t slice)
{
    print_differences(&a->hart, &b->hart);
    printf("states differ after %" PRIu64 " steps, equal %" PRIu64 " steps before; pc %#" PRIx64 "\n",
           a->steps, slice, a->hart.pc);
    return STATUS_DIFFERS;
}

static int run_lockstep(struct bare *a, struct bare *b, const struct options *o, uint64_t tohost)
{
    uint64_t random = 1, next_ram = LOCKSTEP_RAM, failed = 0, ignored;

    while (a->steps < o->max_steps) {
        uint64_t slice = next_slice(&random, o->lockstep);
        bool with_ram = a->steps >= next_ram;
        if (o->exact && o->engine == &jit_engine)
            jit_stop_exactly(a->engine, a->steps + slice);
        bare_run(a, slice);
        bare_run(b, slice);
        bool over = ended(a, tohost, &failed);
        ended(b, tohost, &ignored);
        if (a->steps != b->steps || bare_hash(a, with_ram || over) != bare_hash(b, with_ram || over))
            return differ(a, b, slice);
        if (over) {
            fprintf(stderr, "%" PRIu64 " steps compared\n", a->steps);
            return report(failed, a->steps);
        }
        if (with_ram)
            next_ram += LOCKSTEP_RAM;
    }
    printf("no end after %" PRIu64 " steps\n", a->steps);
    return STATUS_NO_END;
}

static int usage(void)
{
    fputs("usage: insn_runner [--engine interp|jit] [--heat N] [--no-tlb] [--lockstep[=N]] [--max-steps N] "
          "[--memory MIB] [--trace] PROGRAM\n",
          stderr);
    return 2;
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;

    *value = strtoull(text, &end, 0);
    return end != text && *end == '\0' && *value > 0;
}

static bool parse_engine(const char *name, const struct engine **engine)
{
    static const struct engine *const engines[] = {&interp_engine, &jit_engine};

    for (unsigned i = 0; i < sizeof engines / sizeof *engines; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return *engine = engines[i], true;
    return false;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {{"no-tlb", no_argument, NULL, 'n'},
                                          {"lockstep", optional_argument, NULL, 'l'},
                                          {"trace", no_argument, NULL, 't'},
                                          {"max-steps", required_argument, NULL, 'm'},
                                          {"memory", required_argument, NULL, 'M'},
                                          {"engine", required_argument, NULL, 'e'},
                                          {"heat", required_argument, NULL, 'H'},
                                          {"exact", no_argument, NULL, 'x'},
                                          {0}};
    int c;

    *o = (struct options){.engine = &interp_engine, .max_steps = DEFAULT_STEPS, .memory = DEFAULT_MEMORY};
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        bool ok = c != '?';
        o->no_tlb |= c == 'n';
        o->trace |= c == 't';
        o->exact |= c == 'x';
        if (c == 'l') {
            o->lockstep = LOCKSTEP_SLICE;
            ok = !optarg || parse_number(optarg, &o->lockstep);
        }
        if (c == 'm')
            ok = parse_number(optarg, &o->max_steps);
        if (c == 'M')
            ok = parse_number(optarg, &o->memory);
        if (c == 'H')
            ok = parse_number(optarg, &o->heat);
        if (c == 'e')
            ok = parse_engine(optarg, &o->engine);
        if (!ok)
            return -1;
    }
    if (optind != argc - 1)
        return -1;
    o->program = argv[optind];
    return 0;
}

static int prepare(struct bare *b, const struct options *o, const struct engine *engine, bool no_tlb,
                   uint64_t *tohost)
{
    int rc = bare_create(b, engine, o->memory << 20, no_tlb);

    if (rc) {
        fprintf(stderr, "insn_runner: cannot make a machine: %s\n", strerror(-rc));
        return rc;
    }
    if (engine == &jit_engine)
        jit_set_heat(b->engine, (unsigned)o->heat);
    rc = bare_load(b, o->program, tohost);
    if (rc) {
        fprintf(stderr, "insn_runner: cannot load '%s': %s\n", o->program, strerror(-rc));
        bare_destroy(b);
    }
    return rc;
}

int main(int argc, char **argv)
{
    static struct bare first, second;
    struct options o;
    uint64_t tohost;
    int status;

    if (parse(argc, argv, &o) < 0)
        return usage();
    if (prepare(&first, &o, o.engine, o.no_tlb, &tohost) < 0)
        return 2;
    first.put = put_stdout;
    if (!o.lockstep) {
        status = run(&first, &o, tohost);
    } else {
        if (prepare(&second, &o, &interp_engine, true, &tohost) < 0)
            return 2;
        status = run_lockstep(&first, &second, &o, tohost);
        bare_destroy(&second);
    }
    bare_destroy(&first);
    return status;
}
