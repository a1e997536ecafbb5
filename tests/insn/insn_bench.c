/* Measures what single mechanisms of an engine cost, with guest programs of a few instructions on a bare
 * machine:
 *
 *   insn_bench [--engine interp|jit] [--steps MILLIONS]
 *
 * Prints one JSON object of figures. Costs are differences between two loops that differ in the mechanism
 * alone, divided by how often the mmu counted it; a figure whose mechanism did not take place is left out.
 * Judges nothing. */
#include "cpu-core/jit/jit.h"
#include "cpu-core/jit/stats.h"
#include "tests/insn/bare.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMORY (32ull << 20)

/* Layout of RAM: code, page tables, what the test addresses map to, code to be translated once. */
#define TABLES     (RAM_BASE + (1ull << 20))
#define TABLE(n)   (TABLES + (n)*PAGE_SIZE)
#define LEAVES     65u
#define HALF       64u /* the table of leaves whose upper half is invalid */
#define DATA       (RAM_BASE + (2ull << 20))
#define ONCE       (RAM_BASE + (8ull << 20))
#define BLOCKS     40000u
#define BLOCK_ADDS 8u

/* Virtual addresses: pages of 2 MiB and pages of 4 KiB. As many as take both ways of the first level of a
 * bank, overflow it, and overflow the second one. */
#define LARGE_VA 0x100000000ull
#define SMALL_VA 0x140000000ull
#define FEW      16u
#define BOTH     2048u
#define MORE     4096u
#define MANY     32768u

#define PTE_TABLE 0x01ull
#define PTE_LEAF  0xcfull

enum { ZERO, T0 = 5, T1, T2, S0, S1, A0, A1, A2 };

struct program {
    uint32_t code[128];
    unsigned n;
};

static void put(struct program *p, uint32_t word)
{
    p->code[p->n++] = word;
}

static uint32_t addi(unsigned rd, unsigned rs1, int imm)
{
    return (uint32_t)imm << 20 | rs1 << 15 | rd << 7 | 0x13;
}
static uint32_t add(unsigned rd, unsigned rs1, unsigned rs2)
{
    return rs2 << 20 | rs1 << 15 | rd << 7 | 0x33;
}
static uint32_t and (unsigned rd, unsigned rs1, unsigned rs2)
{
    return add(rd, rs1, rs2) | 7u << 12;
}
static uint32_t xor (unsigned rd, unsigned rs1, unsigned rs2) {
    return add(rd, rs1, rs2) | 4u << 12;
} static uint32_t slli(unsigned rd, unsigned rs1, unsigned n)
{
    return addi(rd, rs1, (int)n) | 1u << 12;
}
static uint32_t ld(unsigned rd, unsigned rs1, int imm)
{
    return (uint32_t)imm << 20 | rs1 << 15 | 3u << 12 | rd << 7 | 0x03;
}
static uint32_t sd(unsigned rs2, unsigned rs1, unsigned imm)
{
    return imm >> 5 << 25 | rs2 << 20 | rs1 << 15 | 3u << 12 | (imm & 31) << 7 | 0x23;
}
static uint32_t jal_back(unsigned bytes)
{
    uint32_t off = -bytes;
    return (off >> 20 & 1) << 31 | (off >> 1 & 0x3ff) << 21 | (off >> 11 & 1) << 20 |
           (off >> 12 & 0xff) << 12 | 0x6f;
}

static void loop(struct program *p)
{
    put(p, jal_back(4 * p->n));
}

struct bench {
    struct bare b;
    const struct engine *engine;
    uint64_t steps;
    bool any; /* a figure was printed */
};

static void report(struct bench *t, const char *name, double value)
{
    printf("%s\n  \"%s\": %.3f", t->any ? "," : "{", name, value);
    t->any = true;
}

static void store(struct bench *t, uint64_t pa, const void *bytes, uint64_t len)
{
    if (mmu_dma_write(t->b.mmu, pa, bytes, len) < 0)
        abort();
}

static void store_pte(struct bench *t, uint64_t table, unsigned index, uint64_t pa, uint64_t flags)
{
    uint64_t pte = pa >> PAGE_SHIFT << 10 | flags;

    store(t, table + 8 * index, &pte, sizeof pte);
}

/* Sv39: RAM at its own address by one leaf; LARGE_VA: leaves of 2 MiB; SMALL_VA: leaves of 4 KiB. */
static void make_tables(struct bench *t)
{
    store_pte(t, TABLE(0), RAM_BASE >> 30, RAM_BASE, PTE_LEAF);
    store_pte(t, TABLE(0), LARGE_VA >> 30, TABLE(1), PTE_TABLE);
    store_pte(t, TABLE(0), SMALL_VA >> 30, TABLE(2), PTE_TABLE);
    for (unsigned i = 0; i < LEAVES; i++) {
        store_pte(t, TABLE(1), i, DATA, PTE_LEAF);
        store_pte(t, TABLE(2), i, TABLE(3 + i), PTE_TABLE);
        for (unsigned k = 0; k < (i == HALF ? 256 : 512); k++)
            store_pte(t, TABLE(3 + i), k, DATA, PTE_LEAF);
    }
}

static void write_csr(struct bench *t, unsigned csr, uint64_t value)
{
    uint64_t old;

    if (hart_csr(&t->b.hart, 0, csr, 1, value, false, true, &old) < 0)
        abort();
}

/* A fresh machine with the program at the start of RAM; with paging in supervisor mode, else in machine mode.
 */
static void begin(struct bench *t, const struct program *p, bool paging)
{
    if (bare_create(&t->b, t->engine, MEMORY, false) < 0) {
        fputs("insn_bench: cannot create a machine\n", stderr);
        exit(EXIT_FAILURE);
    }
    store(t, RAM_BASE, p->code, 4 * p->n);
    if (!paging)
        return;
    make_tables(t);
    write_csr(t, 0x3b0, ~0ull >> 10); /* pmpaddr0: everything */
    write_csr(t, 0x3a0, 0x1f);        /* pmpcfg0: NAPOT, RWX */
    write_csr(t, 0x180, 8ull << 60 | TABLE(0) >> PAGE_SHIFT);
    t->b.hart.priv = PRIV_S;
    mmu_context_changed(&t->b.hart);
}

static double run(struct bench *t, uint64_t steps)
{
    struct timespec a, b;

    clock_gettime(CLOCK_MONOTONIC, &a);
    bare_run(&t->b, steps);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
}

/* ns per round of a loop of `insns` instructions, after warming up. */
static double round_ns(struct bench *t, unsigned insns)
{
    run(t, t->steps / 8);
    return run(t, t->steps) / ((double)t->steps / insns);
}

static void integer_loop(struct bench *t)
{
    struct program p = {0};

    put(&p, slli(T0, A0, 13));
    put(&p, xor(A0, A0, T0));
    put(&p, addi(A1, A1, 7));
    put(&p, add(A0, A0, A1));
    put(&p, slli(T0, A0, 17));
    put(&p, xor(A0, A0, T0));
    put(&p, add(A2, A2, A0));
    loop(&p);
    begin(t, &p, false);
    t->b.hart.x[A0] = 1;
    report(t, "mips.integer", 1e3 * p.n / round_ns(t, p.n));
    bare_destroy(&t->b);
}

/* Loads through `pages` pages from `va` on; the counters of the mmu are those of the measured rounds. */
static double walk_pages(struct bench *t, uint64_t va, unsigned pages, struct mmu_stats *s)
{
    struct program p = {0};
    double ns;

    put(&p, add(T0, S0, T1));
    put(&p, ld(T2, T0, 0));
    put(&p, add(T1, T1, A0));
    put(&p, and(T1, T1, A1));
    loop(&p);
    begin(t, &p, true);
    t->b.hart.x[S0] = va;
    t->b.hart.x[A0] = PAGE_SIZE;
    t->b.hart.x[A1] = (pages - 1) * PAGE_SIZE;
    run(t, t->steps / 8);
    *s = *mmu_stats(t->b.mmu);
    ns = run(t, t->steps) / ((double)t->steps / p.n);
    s->walks = mmu_stats(t->b.mmu)->walks - s->walks;
    s->large_fills = mmu_stats(t->b.mmu)->large_fills - s->large_fills;
    s->page_fills = mmu_stats(t->b.mmu)->page_fills - s->page_fills;
    bare_destroy(&t->b);
    return ns;
}

/* What a round costs above `hit`, if most rounds count in `events`. */
static void report_miss(struct bench *t, const char *name, double ns, double hit, uint64_t events)
{
    double rounds = (double)t->steps / 5;

    if ((double)events > 0.5 * rounds)
        report(t, name, (ns - hit) * rounds / (double)events);
}

static void tlb_misses(struct bench *t)
{
    struct mmu_stats s;
    double hit = walk_pages(t, LARGE_VA, FEW, &s), ns;

    report(t, "mips.load", 5e3 / hit);
    ns = walk_pages(t, LARGE_VA, BOTH, &s);
    if (s.walks + s.large_fills < t->steps / 100)
        report(t, "tlb.second_way_ns", ns - hit);
    ns = walk_pages(t, LARGE_VA, MORE, &s);
    report_miss(t, "tlb.second_level_large_ns", ns, hit, s.large_fills);
    ns = walk_pages(t, SMALL_VA, MORE, &s);
    report_miss(t, "tlb.second_level_ns", ns, hit, s.page_fills);
    ns = walk_pages(t, SMALL_VA, MANY, &s);
    report_miss(t, "tlb.walk_ns", ns, hit, s.walks);
}

/* Stores to a page table: one that changes the PTE of a page that is loaded from in each round, so that the
 * table stays tracked, and `stores` to PTEs that are invalid and stay so. */
static double table_stores(struct bench *t, unsigned stores, uint64_t *tracked)
{
    struct program p = {0};
    uint64_t before;
    double ns;

    put(&p, ld(T0, S0, 0));
    put(&p, xor(A2, A2, S1));
    put(&p, sd(A2, A0, -256 * 8));
    put(&p, addi(A1, A1, 16)); /* bit 0, V, stays 0 */
    for (unsigned i = 0; i < stores; i++)
        put(&p, sd(A1, A0, 8 * i));
    loop(&p);
    begin(t, &p, true);
    t->b.hart.x[S0] = SMALL_VA + HALF * 512 * PAGE_SIZE;
    t->b.hart.x[S1] = 1 << 10; /* the next page */
    t->b.hart.x[A2] = DATA >> PAGE_SHIFT << 10 | PTE_LEAF;
    t->b.hart.x[A0] = TABLE(3 + HALF) + 256 * 8;
    run(t, t->steps / 8);
    before = mmu_stats(t->b.mmu)->tracked_stores;
    ns = run(t, t->steps) / ((double)t->steps / p.n);
    *tracked = mmu_stats(t->b.mmu)->tracked_stores - before;
    bare_destroy(&t->b);
    return ns;
}

static void tracked_stores(struct bench *t)
{
    const unsigned many = 16;
    uint64_t none, tracked;
    double without = table_stores(t, 0, &none), with = table_stores(t, many, &tracked);

    if ((double)tracked > 0.9 * (double)t->steps * many / (many + 5))
        report(t, "store.page_table_ns", (with - without) / many);
}

/* Stores beside the running code, in its page: changed bytes that nothing was made of. */
static double code_page_stores(struct bench *t, uint64_t offset)
{
    struct program p = {0};
    double ns;

    put(&p, addi(A1, A1, 1));
    put(&p, sd(A1, S0, 0));
    loop(&p);
    begin(t, &p, false);
    t->b.hart.x[S0] = RAM_BASE + offset;
    ns = round_ns(t, p.n);
    bare_destroy(&t->b);
    return ns;
}

/* Blocks that are entered once each, through jumps by register. */
static void cold_code(struct bench *t)
{
    static uint32_t code[BLOCKS * (BLOCK_ADDS + 2) + 1];
    struct program jump = {0};
    struct jit_stats s;
    struct jit_memory memory;
    unsigned n = 0;
    double ns;

    for (unsigned i = 0; i < BLOCKS; i++) {
        for (unsigned k = 0; k < BLOCK_ADDS; k++)
            code[n++] = k % 2 ? addi(A0, A0, (int)k) : xor(A1, A1, A0);
        code[n++] = T0 << 7 | 0x17;             /* auipc t0, 0 */
        code[n++] = 8u << 20 | T0 << 15 | 0x67; /* jalr zero, t0, 8 */
    }
    code[n++] = 0x6f;
    put(&jump, S0 << 15 | 0x67);
    begin(t, &jump, false);
    store(t, ONCE, code, sizeof code);
    t->b.hart.x[S0] = ONCE;
    if (t->engine == &jit_engine)
        jit_set_heat(t->b.engine, 0);
    ns = run(t, n);
    report(t, "first_run.insns_per_s", 1e9 * n / ns);
    if (t->engine == &jit_engine) {
        jit_get_stats(t->b.engine, &s, &memory);
        report(t, "translate.blocks_per_s", 1e9 * (double)s.blocks / ns);
        report(t, "translate.ns_per_insn", (double)s.translate_ns / (double)s.insns);
        report(t, "translate.bytes_per_insn", (double)(s.code_bytes + s.stub_bytes) / (double)s.insns);
    }
    bare_destroy(&t->b);
}

static const struct engine *engine_named(const char *name)
{
    return !strcmp(name, "jit") ? &jit_engine : !strcmp(name, "interp") ? &interp_engine : NULL;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"engine", required_argument, NULL, 'e'}, {"steps", required_argument, NULL, 's'}, {0}};
    static struct bench t = {.engine = &jit_engine, .steps = 20000000};
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
        if (c == 'e')
            t.engine = engine_named(optarg);
        else if (c == 's')
            t.steps = strtoull(optarg, NULL, 10) * 1000000;
        if (c == '?' || !t.engine || !t.steps) {
            fputs("usage: insn_bench [--engine interp|jit] [--steps MILLIONS]\n", stderr);
            return 2;
        }
    }
    integer_loop(&t);
    tlb_misses(&t);
    tracked_stores(&t);
    report(&t, "store.code_page_ns",
           code_page_stores(&t, PAGE_SIZE / 2) - code_page_stores(&t, PAGE_SIZE + PAGE_SIZE / 2));
    cold_code(&t);
    printf("\n}\n");
    return 0;
}
