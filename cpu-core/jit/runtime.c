/* The engine: finds or makes the block at h->pc, enters translated code, and does what it left for. Makes the
 * fixed code through which translated code is entered and left and calls helpers. */
#include "cpu-core/interp/interp.h"
#include "cpu-core/jit/internal.h"
#include "cpu-core/jit/jit.h"
#include "cpu-core/jit/translate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEAT_DEFAULT 4u

/* The fixed code. */

static void move_pins(struct emitter *e, bool load)
{
    for (unsigned r = 1; r < 32; r++)
        if (target_pin[r] != REG_NONE)
            emit_op(e, (load ? X_MOV_LOAD : X_MOV_STORE) | OPC_W, target_pin[r], rm_mem(REG_HART, HART_X(r)));
}

static void move_fpins(struct emitter *e, bool load)
{
    for (unsigned r = 0; r < 32; r++)
        if (target_fpin[r] != REG_NONE)
            emit_vex(e, load ? F_LOAD(true) : F_STORE(true), target_fpin[r], 0, rm_mem(REG_HART, HART_F(r)));
}

/* The same if they are loaded. */
static void move_live_fpins(struct emitter *e, bool load)
{
    uint8_t *over;

    emit_alu_const32(e, ALU_CMP, rm_mem(REG_HART, HART(f_loaded)), 0);
    over = emit_jcc(e, CC_E);
    move_fpins(e, load);
    emit_bind(over, e->at);
}

static void forget_fpins(struct emitter *e)
{
    emit_op_imm(e, OPC(0, 0, 0xc7), 0, rm_mem(REG_HART, HART(f_loaded)), 4, 0);
}

static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15};

static void emit_enter(struct emitter *e)
{
    for (unsigned i = 0; i < sizeof saved; i++)
        emit_push(e, saved[i]);
    emit_alu_const(e, ALU_SUB, rm_reg(RSP), 8);
    emit_lea(e, REG_HART, rm_mem(RDI, HART_BIAS));
    emit_load(e, RAX, rm_reg(RSI));
    emit_load(e, REG_LEFT, rm_mem(REG_HART, HART(left)));
    emit_load(e, REG_BANK, rm_mem(REG_HART, HART(bank)));
    move_pins(e, true);
    emit_op(e, OPC(0, 0, 0xff), 4, rm_reg(RAX));
}

static void emit_return(struct emitter *e)
{
    emit_alu_const(e, ALU_ADD, rm_reg(RSP), 8);
    for (unsigned i = sizeof saved; i-- > 0;)
        emit_pop(e, saved[i]);
    emit_ret(e);
}

/* Registers that a call of a C function loses and translated code uses, vector registers apart. */
static const uint8_t lost[] = {RAX, RDX, RSI, RDI, R8, R9, R10, R11};

static void save_lost(struct emitter *e)
{
    for (unsigned i = 0; i < sizeof lost; i++)
        emit_push(e, lost[i]);
}

static void restore_lost(struct emitter *e)
{
    for (unsigned i = sizeof lost; i-- > 0;)
        emit_pop(e, lost[i]);
}

/* Goes on at the address in rax, where the jump cache missed, unless it takes the engine. */
static void emit_find(struct jit *j, struct emitter *e, void *const *function)
{
    uint8_t *unknown;

    j->exit_lookup = e->at + e->run;
    save_lost(e);
    emit_lea(e, RDI, rm_mem(REG_HART, -HART_BIAS));
    emit_load(e, RSI, rm_reg(RAX));
    emit_op(e, OPC(0, 0, 0xff), 2, rm_at(function));
    emit_load(e, RCX, rm_reg(RAX));
    restore_lost(e);
    emit_op(e, X_TEST | OPC_W, RCX, rm_reg(RCX));
    unknown = emit_jcc8(e, CC_E);
    emit_op(e, OPC(0, 0, 0xff), 4, rm_reg(RCX));
    emit_bind8(unknown, e->at);
}

/* The exits: each falls into what follows it. Returns with struct jit_exit in rax and rdx. */
static void emit_exits(struct jit *j, struct emitter *e, void *const *find)
{
    uint8_t *common;

    emit_find(j, e, find);
    emit_const(e, RCX, EXIT_LOOKUP);
    common = emit_jmp8(e);
    j->exit_link = e->at + e->run;
    emit_op(e, X_MOVZX16, RAX, rm_mem(RDX, offsetof(struct link, offset)));
    emit_const(e, RCX, EXIT_LINK);
    j->exit_at = e->at + e->run;
    emit_alu(e, ALU_ADD, RAX, rm_mem(REG_HART, HART(code_page)));
    emit_bind8(common, e->at);
    emit_store(e, rm_mem(REG_HART, HART(pc)), RAX);
    emit_store(e, rm_mem(REG_HART, HART(left)), REG_LEFT);
    move_pins(e, false);
    move_live_fpins(e, false);
    forget_fpins(e);
    emit_load(e, RAX, rm_reg(RCX));
    emit_return(e);
}

/* A call of a helper from a stub: rax: address, ecx: site, edx: a group. Keeps rdx. Returns the
 * helper's value in rax, or leaves.
 */
static const uint8_t *emit_helper(struct emitter *e, void *const *function)
{
    const uint8_t *begin = e->at + e->run;
    uint8_t *leave, *out;

    emit_push(e, RDX);
    move_pins(e, false);
    move_live_fpins(e, false);
    emit_lea(e, RDI, rm_mem(REG_HART, -HART_BIAS));
    emit_load(e, RSI, rm_reg(RAX));
    emit_load(e, R8, rm_reg(RDX));
    emit_load32(e, RDX, rm_reg(RCX));
    emit_load(e, RCX, rm_reg(REG_LEFT));
    emit_op(e, OPC(0, 0, 0xff), 2, rm_at(function));
    emit_op(e, X_TEST | OPC_W, RDX, rm_reg(RDX));
    leave = emit_jcc(e, CC_S);
    emit_load(e, REG_LEFT, rm_reg(RDX));
    emit_load(e, REG_BANK, rm_mem(REG_HART, HART(bank)));
    move_pins(e, true);
    move_live_fpins(e, true);
    emit_pop(e, RDX);
    emit_ret(e);
    emit_bind(leave, e->at);
    forget_fpins(e);
    emit_op(e, X_TEST | OPC_W, RAX, rm_reg(RAX));
    out = emit_jcc8(e, CC_E);
    emit_load(e, REG_LEFT, rm_mem(REG_HART, HART(left)));
    emit_load(e, REG_BANK, rm_mem(REG_HART, HART(bank)));
    move_pins(e, true);
    emit_alu_const(e, ALU_ADD, rm_reg(RSP), 16);
    emit_op(e, OPC(0, 0, 0xff), 4, rm_reg(RAX));
    emit_bind8(out, e->at);
    emit_alu_const(e, ALU_ADD, rm_reg(RSP), 16);
    emit_const(e, RAX, EXIT_LEFT);
    emit_return(e);
    return begin;
}

/* What a bank has beside the first slot, for an access whose check left its page in rax and the slot's offset
 * in rcx. */
static const uint8_t *emit_refill(struct emitter *e, bool write, void *const *function)
{
    const uint8_t *begin = e->at + e->run;
    int32_t table = write ? offsetof(struct tlb_bank, w) : offsetof(struct tlb_bank, r);
    int32_t second = sizeof(struct tlb_slot);
    uint8_t *miss;

    emit_alu(e, ALU_CMP, RAX,
             rm_sib(REG_BANK, RCX, 0, table + second + (int32_t)offsetof(struct tlb_slot, tag)));
    miss = emit_jcc8(e, CC_NE);
    emit_alu_const(e, ALU_ADD, rm_reg(RCX), second);
    *e->at++ = 0xf9; /* stc */
    emit_ret(e);
    emit_bind8(miss, e->at);
    save_lost(e);
    emit_push(e, RCX);
    emit_lea(e, RDI, rm_mem(REG_HART, -HART_BIAS));
    emit_load(e, RSI, rm_reg(RAX));
    emit_const(e, RDX, write);
    emit_op(e, OPC(0, 0, 0xff), 2, rm_at(function));
    emit_op(e, OPC(0, 0, 0x84), RAX, rm_reg(RAX)); /* test of bytes */
    emit_pop(e, RCX);
    restore_lost(e);
    emit_ret(e);
    return begin;
}

/* Loads the floating-point registers, or leaves where FS is not dirty. eax: offset of the block. */
static void emit_load_fpins(struct jit *j, struct emitter *e)
{
    uint8_t *clean;

    j->load_fpins = e->at + e->run;
    emit_load32(e, RCX, rm_mem(REG_HART, HART(mstatus)));
    emit_op_imm(e, OPC(0, 0, 0xf7), 2, rm_reg(RCX), 0, 0); /* not */
    emit_op_imm(e, OPC(0, 0, 0xf7), 0, rm_reg(RCX), 4, MSTATUS_FS);
    clean = emit_jcc(e, CC_NE);
    move_fpins(e, true);
    emit_op_imm(e, OPC(0, 0, 0xc7), 0, rm_mem(REG_HART, HART(f_loaded)), 4, 1);
    emit_ret(e);
    emit_bind(clean, e->at);
    emit_alu_const(e, ALU_ADD, rm_reg(RSP), 8);
    emit_const(e, RCX, EXIT_FP);
    emit_jmp_run(e, j->exit_at);
}

static void emit_spill_fpins(struct jit *j, struct emitter *e)
{
    j->spill_fpins = e->at + e->run;
    move_live_fpins(e, false);
    forget_fpins(e);
    emit_ret(e);
}

/* Places of the functions among the pointers; the calls of emit_helper() follow the others. */
enum { HELPER_FIND, HELPER_REFILL, HELPER_CALLS };

static void emit_fixed(struct jit *j)
{
    struct region *r = &j->blocks.regions[0];
    struct emitter e = {r->hot, j->blocks.code.run - j->blocks.code.write};
    const uint8_t *enter = e.at + e.run;
    void **helpers = j->blocks.helpers;
    static const uint64_t constants[][2] = {
        [CONST_SIGN64] = {1ull << 63, 1ull << 63}, [CONST_ABS64] = {~0ull >> 1, ~0ull >> 1},
        [CONST_SIGN32] = {1ull << 31, 0},          [CONST_ABS32] = {~(1ull << 31), ~0ull},
        [CONST_BOX] = {0xffffffff00000000ull, 0},
    };

    const struct {
        const uint8_t **entry;
        void *function;
    } calls[] = {
        {&j->load, (void *)(uintptr_t)helper_load},         {&j->store, (void *)(uintptr_t)helper_store},
        {&j->group, (void *)(uintptr_t)helper_group},       {&j->step, (void *)(uintptr_t)helper_step},
        {&j->csr, (void *)(uintptr_t)helper_csr},           {&j->ecall, (void *)(uintptr_t)helper_ecall},
        {&j->sret, (void *)(uintptr_t)helper_sret},         {&j->mret, (void *)(uintptr_t)helper_mret},
        {&j->cbo_zero, (void *)(uintptr_t)helper_cbo_zero}, {&j->helper_trap, (void *)(uintptr_t)helper_trap},
    };

    for (unsigned i = 0; i < sizeof constants / sizeof *constants; i++)
        memcpy(j->blocks.constants[i], constants[i], sizeof constants[i]);
    j->blocks.constants[CONST_TO_PA][0] = RAM_BASE - (uint64_t)(uintptr_t)j->ram->host;
    for (unsigned i = 0; i < 64; i++)
        ((uint8_t *)j->blocks.constants[CONST_FFLAGS])[i] = (uint8_t)fp_flags(i);
    helpers[HELPER_FIND] = (void *)(uintptr_t)jump_find;
    helpers[HELPER_REFILL] = (void *)(uintptr_t)mmu_refill;
    emit_enter(&e);
    emit_exits(j, &e, &helpers[HELPER_FIND]);
    goto_emit_fixed(j, &e);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        helpers[HELPER_CALLS + i] = calls[i].function;
        *calls[i].entry = emit_helper(&e, &helpers[HELPER_CALLS + i]);
    }
    for (unsigned write = 0; write < 2; write++)
        j->refill[write] = emit_refill(&e, write, &helpers[HELPER_REFILL]);
    emit_load_fpins(j, &e);
    emit_spill_fpins(j, &e);
    trap_emit_fixed(j, &e);
    memcpy(&j->enter, &enter, sizeof enter);
    j->blocks.fixed_len = (size_t)(e.at - r->hot);
    r->hot = e.at;
}

/* Finding code. */

/* Makes the jump cache of a bank valid, with nothing in it. */
static void renew_jumps(struct jit *j, const struct hart *h, struct tlb_bank *b)
{
    unsigned index = h->id * TLB_BANKS + b->index;
    struct jump_cache *c = &j->jumps[index];

    if (++c->gen == SALT_GENS) {
        memset(c->slots, 0, sizeof c->slots);
        blocks_forget_fars(&j->blocks);
        c->gen = 1; /* generation 0 would make empty slots valid */
    }
    b->jumps = c->slots;
    b->salt = (uint64_t)c->gen << SALT_SHIFT ^ (uint64_t)index << SALT_BANK;
    b->jumps_gen = b->fetch_gen;
}

void jit_sync_context(struct jit *j, struct hart *h)
{
    struct tlb_bank *b = h->fetch_bank;

    if (j->reuses[h->id] != j->blocks.reuses) { /* slots point to blocks that exist no more */
        j->reuses[h->id] = j->blocks.reuses;
        mmu_forget_jumps(h);
    }
    if (b->jumps_gen != b->fetch_gen)
        renew_jumps(j, h, b);
    h->jumps = b->jumps;
    h->jump_salt = b->salt ^ mode_of(h);
}

/* Host address of the page that h->pc is in. NULL: not RAM; negative in *err: an exception is recorded. */
static const uint8_t *fetch_page(struct jit *j, struct hart *h, int *err)
{
    struct mmu_target t;

    *err = mmu_fetch(h, h->pc, &t);
    if (*err || !ram_contains(j->ram, t.pa, 1))
        return NULL;
    return ram_at(j->ram, t.pa & PAGE_MASK);
}

static uint64_t pa_of(const struct jit *j, const uint8_t *page, uint64_t pc)
{
    return RAM_BASE + (uint64_t)(page - j->ram->host) + (pc & ~PAGE_MASK);
}

static bool is_hot(struct jit *j, uint64_t pa)
{
    uint8_t *heat = &j->heat[(pa >> 1) * 0x9e3779b97f4a7c15ull >> 48];

    if (*heat >= j->heat_min)
        return true;
    ++*heat;
    return false;
}

/* The rest of the instruction at h->pc, if it crosses the page; *known: that page is RAM and can be fetched.
 */
static const uint8_t *fetch_second(struct jit *j, struct hart *h, const uint8_t *page, bool *known)
{
    struct mmu_target t;

    *known = true;
    if ((h->pc & ~PAGE_MASK) != PAGE_SIZE - 2 || isa_length(page[PAGE_SIZE - 2]) == 2)
        return NULL;
    *known = mmu_fetch(h, h->pc + 2, &t) == 0 && ram_contains(j->ram, t.pa, 1);
    return *known ? ram_at(j->ram, t.pa) : NULL;
}

/* The block for h->pc, whose page is at `page`; NULL while it is cold or cannot be fetched as a whole. */
static struct block *block_at(struct jit *j, struct hart *h, const uint8_t *page, bool single)
{
    bool known;
    const uint8_t *second = fetch_second(j, h, page, &known);
    struct block_key key = {pa_of(j, page, h->pc), second ? pa_of(j, second, 0) : 0, h->priv,
                            (uint8_t)fp_mode(h), single};
    struct block *b = known ? blocks_find(&j->blocks, &key) : NULL;
    uint64_t dropped;

    if (b || !known || !is_hot(j, key.pa))
        return b;
    dropped = j->blocks.counts.dropped;
    b = translate(j, &key, page, second);
    b->va = h->pc;
    watch_dropped(j, JIT_EVICTED, 0, 0, dropped);
    watch_translated(j, b);
    return b;
}

/* Runs. */

/* Interprets the basic block at h->pc, or `steps` instructions if that is not 0. Counts the steps. */
static void interpret(struct jit *j, struct hart *h, const uint8_t *page, uint64_t steps, uint64_t *counter)
{
    uint64_t begin = hart_icount(h);

    if (!steps)
        steps = page ? translate_scan(page, (unsigned)(h->pc & ~PAGE_MASK)) : 1;
    fp_leave(h);
    interp_run_steps(j->interp, h, steps);
    fp_enter(h);
    *counter += hart_icount(h) - begin;
}

static void drop_changed(struct jit *j, uint64_t pa, uint64_t len)
{
    uint64_t dropped = j->blocks.counts.dropped;

    blocks_invalidate(&j->blocks, pa, len);
    watch_dropped(j, JIT_CHANGED, pa, len, dropped);
}

/* The instruction at h->pc crosses the page and changed: its block goes. */
static void step_changed(struct jit *j, struct hart *h)
{
    int err;
    const uint8_t *page = fetch_page(j, h, &err);

    j->stats.changed_crossings++;
    if (page)
        drop_changed(j, pa_of(j, page, h->pc), 2);
    interpret(j, h, NULL, 1, &j->stats.steps[ISA_CLASS_COUNT]);
}

/* The slice ends inside the block at h->pc: a block without its end takes its place, and is gone afterwards.
 * It counts like the whole one, so that the slice is longer meanwhile, by what is left out. */
static void run_cut(struct jit *j, struct hart *h)
{
    int err;
    const uint8_t *page = fetch_page(j, h, &err);
    uint64_t begin = hart_icount(h), limit = h->limit, extra;
    struct block_key key = {.priv = h->priv, .fp = (uint8_t)fp_mode(h)};
    struct block *b;

    if (!page)
        return;
    key.pa = pa_of(j, page, h->pc);
    blocks_flush(&j->blocks);
    j->cut = (unsigned)h->left;
    b = translate(j, &key, page, NULL);
    j->cut = 0;
    extra = b->insns > h->left ? b->insns - (uint64_t)h->left : 0;
    h->limit += extra;
    h->slice_left += extra;
    h->left += (int64_t)extra;
    jit_sync_context(j, h);
    h->code_page = h->pc & PAGE_MASK;
    j->enter(h, b->code);
    blocks_flush(&j->blocks);
    extra = h->limit > limit ? h->limit - limit : 0;
    h->limit -= extra;
    h->slice_left -= extra;
    h->left -= (int64_t)extra;
    if (hart_icount(h) == begin) /* it begins with instructions that stay together */
        interpret(j, h, NULL, (uint64_t)h->left, &j->stats.tail_steps);
}

/* One round: until translated code needs the engine. */
static void round_trip(struct jit *j, struct hart *h, struct link **link)
{
    int err;
    uint64_t drops = j->blocks.drops;
    const uint8_t *page = fetch_page(j, h, &err);
    struct block *b = NULL;
    struct jit_exit x;

    if (err) {
        hart_trap(h);
        h->left--;
        j->stats.faults++;
        *link = NULL;
        return;
    }
    if (page)
        b = block_at(j, h, page, *link && (*link)->single);
    if (j->blocks.drops != drops)
        *link = NULL; /* its block may be gone */
    if (!b) {
        *link = NULL;
        j->stats.cold_runs++;
        interpret(j, h, page, 0, &j->stats.cold_steps);
        return;
    }
    jit_sync_context(j, h);
    if (*link && !b->key.second) {
        blocks_connect(&j->blocks, *link, b);
    } else {
        jump_remember(h, h->pc, b);
        j->stats.lookups++;
    }
    h->code_page = h->pc & PAGE_MASK;
    j->stats.entries++;
    x = j->enter(h, b->code);
    *link = x.reason == EXIT_LINK ? x.link : NULL;
    j->stats.exits[x.reason]++;
    if (h->left <= 0)
        return;
    if (x.reason == EXIT_LOOKUP && (h->pc & PAGE_MASK) != h->code_page)
        j->stats.other_page++;
    else if (x.reason == EXIT_BUDGET && h->limit == j->stop)
        run_cut(j, h);
    else if (x.reason == EXIT_BUDGET)
        interpret(j, h, NULL, (uint64_t)h->left, &j->stats.tail_steps);
    else if (x.reason == EXIT_FP)
        interpret(j, h, fetch_page(j, h, &err), 0, &j->stats.fp_steps);
    else if (x.reason == EXIT_STEP)
        step_changed(j, h);
}

static enum engine_exit jit_run(void *engine, struct hart *h)
{
    struct jit *j = engine;
    struct link *link = NULL;

    if (j->off)
        return interp_engine.run(j->interp, h);
    h->translator = j;
    fp_enter(h);
    while (!h->yield && h->wait == HART_RUNS && h->left > 0) {
        if (h->irq_ready && hart_interrupt(h))
            link = NULL;
        h->code_dirty = false;
        round_trip(j, h, &link);
    }
    fp_leave(h);
    return h->yield || h->wait != HART_RUNS ? ENGINE_YIELD : ENGINE_BUDGET;
}

/* Life. */

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

#define JUMPS_BYTES (HART_MAX * TLB_BANKS * sizeof(struct jump_cache))

static void jit_destroy(void *engine)
{
    struct jit *j = engine;

    if (j->interp)
        interp_engine.destroy(j->interp);
    blocks_destroy(&j->blocks);
    if (j->jumps)
        munmap(j->jumps, JUMPS_BYTES);
    free(j->heat);
    free(j->tr);
    free(j);
}

static int create_cache(struct jit *j)
{
    int rc = blocks_create(&j->blocks, j->mmu, JIT_CODE_DEFAULT);

    if (rc)
        return rc;
    j->jumps = map(JUMPS_BYTES);
    j->heat = calloc(1, HEAT_SLOTS);
    j->tr = calloc(1, sizeof *j->tr);
    if (!j->jumps || !j->heat || !j->tr)
        return -ENOMEM;
    emit_fixed(j);
    return 0;
}

static int jit_create(void **engine, struct mmu *mmu, int no_cache)
{
    struct jit *j = calloc(1, sizeof *j);
    int rc;

    if (!j)
        return -ENOMEM;
    j->mmu = mmu;
    j->ram = mmu_ram(mmu);
    j->carryless = __builtin_cpu_supports("pclmul");
    j->off = no_cache;
    j->heat_min = HEAT_DEFAULT;
    rc = interp_engine.create(&j->interp, mmu, no_cache);
    if (!rc && !no_cache)
        rc = create_cache(j);
    if (rc)
        jit_destroy(j);
    else
        *engine = j;
    return rc;
}

void jit_set_heat(void *engine, unsigned entries)
{
    struct jit *j = engine;

    j->heat_min = entries;
}

void jit_count_blocks(void *engine)
{
    struct jit *j = engine;

    j->count = true;
}

void jit_stop_exactly(void *engine, uint64_t n)
{
    struct jit *j = engine;

    j->stop = n;
}

int jit_set_code_cache(void *engine, uint64_t bytes)
{
    struct jit *j = engine;
    int rc;

    if (j->off)
        return 0;
    blocks_destroy(&j->blocks);
    rc = blocks_create(&j->blocks, j->mmu, bytes);
    if (!rc)
        emit_fixed(j);
    return rc;
}

static void jit_invalidate(void *engine, uint64_t pa, uint64_t len)
{
    struct jit *j = engine;

    interp_engine.invalidate(j->interp, pa, len);
    if (!j->off)
        drop_changed(j, pa, len);
}

static void jit_flush(void *engine)
{
    struct jit *j = engine;
    uint64_t dropped = j->blocks.counts.dropped;

    interp_engine.flush(j->interp);
    j->stats.flushes++;
    if (!j->off)
        blocks_flush(&j->blocks);
    watch_dropped(j, JIT_FLUSHED, 0, 0, dropped);
}

const struct engine jit_engine = {
    .name = "jit",
    .create = jit_create,
    .destroy = jit_destroy,
    .run = jit_run,
    .invalidate = jit_invalidate,
    .flush = jit_flush,
};
