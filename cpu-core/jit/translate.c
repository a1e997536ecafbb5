/* The front of the translator: which instructions make a block, and its frame of head, body, stubs. Knows the
 * instruction classes by their functions only. */
#include "cpu-core/jit/translate.h"

#include <time.h>

static uint32_t fetch(const uint8_t *page, unsigned offset)
{
    uint32_t bits = 0;

    memcpy(&bits, page + offset, 2);
    if (isa_length(bits) == 4 && offset + 4 <= PAGE_SIZE)
        memcpy(&bits, page + offset, 4);
    return bits;
}

static bool crosses(uint32_t bits, unsigned offset)
{
    return isa_length(bits) == 4 && offset + 4 > PAGE_SIZE;
}

unsigned translate_scan(const uint8_t *page, unsigned offset)
{
    struct insn in;

    for (unsigned n = 1; n < BLOCK_INSNS; n++) {
        uint32_t bits = offset < PAGE_SIZE ? fetch(page, offset) : 0;
        if (offset >= PAGE_SIZE || crosses(bits, offset) || isa_decode(bits, &in) != 0 ||
            isa_table[in.op].flags & ISA_END)
            return n;
        offset += in.len;
    }
    return BLOCK_INSNS;
}

static bool visited(const struct tr *t, int32_t offset)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->seq[i].offset == offset)
            return true;
    return false;
}

/* The number of instructions that the branch `in` at `offset` skips, if they compute one register that it
 * does not compare, step by step: they become straight-line code with the branch. Otherwise 0. */
static unsigned skips(const struct insn *in, const uint8_t *page, unsigned offset, struct insn *run)
{
    unsigned target = offset + (unsigned)in->imm, n = 0;

    offset += in->len;
    if (isa_table[in->op].cls != ISA_CLASS_BRANCH || in->imm <= in->len)
        return 0;
    while (offset < target && offset < PAGE_SIZE && n < SKIPS_MAX) {
        uint32_t bits = fetch(page, offset);
        const struct insn *first = run, *next = &run[n++];
        if (crosses(bits, offset) || isa_decode(bits, &run[n - 1]) != 0 ||
            isa_table[next->op].cls != ISA_CLASS_ALU || !next->rd || next->rd == in->rs1 ||
            next->rd == in->rs2 || next->rd != first->rd)
            return 0;
        offset += next->len;
    }
    return offset == target ? n : 0;
}

/* Whether the branch tries again what a failed sc did. */
static bool is_retry(const struct tr *t, const struct tr_insn *ti)
{
    const struct insn *sc;

    if (ti == t->seq || ti->in.op != INSN_BNE || ti->in.rs2 != 0)
        return false;
    sc = &ti[-1].in;
    return (sc->op == INSN_SC_W || sc->op == INSN_SC_D) && sc->rd == ti->in.rs1;
}

/* Whether the block goes on after a control transfer, and where. */
static bool follow(struct tr *t, struct tr_insn *ti, int32_t *offset, unsigned *exits)
{
    const struct insn *in = &ti->in;
    int32_t target = *offset + in->imm;

    switch (isa_table[in->op].cls) {
    case ISA_CLASS_BRANCH:
        if (in->imm < 0 && !is_retry(t, ti)) {
            if (visited(t, target))
                return false;
            if (!t->sure)
                t->sure = t->n;
        }
        if (++*exits > SIDE_EXITS)
            return false;
        ti->falls = true;
        *offset += in->len;
        return true;
    case ISA_CLASS_JUMP:
        if (in->op != INSN_JAL || target < 0 || target >= (int32_t)PAGE_SIZE || visited(t, target))
            return false;
        *offset = target;
        ti->falls = true;
        return true;
    case ISA_CLASS_SYS:
        if (in->op == INSN_SFENCE_VMA || in->op == INSN_SINVAL_VMA || in->op == INSN_SFENCE_W_INVAL ||
            in->op == INSN_SFENCE_INVAL_IR) {
            *offset += in->len;
            return true;
        }
        return false;
    case ISA_CLASS_HINT:
        if (in->op == INSN_PAUSE)
            return false;
        *offset += in->len;
        return true;
    default:
        *offset += in->len;
        return true;
    }
}

static uint64_t granules_of(int32_t offset, unsigned len)
{
    return 1ull << (offset >> GRANULE_SHIFT) | 1ull << ((offset + (int32_t)len - 1) >> GRANULE_SHIFT);
}

/* A block of the one instruction that crosses the page. Its second half is in another page, which can change
 * or be another one: such a block is found by address only, and looks at that half each time. */
static void collect_crossing(struct tr *t, uint32_t bits, int32_t offset)
{
    struct tr_insn *ti = &t->seq[t->n++];
    uint16_t rest;
    unsigned exits = SIDE_EXITS;

    memcpy(&rest, t->second, sizeof rest);
    bits |= (uint32_t)rest << 16;
    *ti = (struct tr_insn){.offset = (uint16_t)offset};
    t->block.granules = granules_of(offset, 2);
    if (isa_decode(bits, &ti->in) != 0)
        ti->in = (struct insn){.bits = bits, .op = ISA_COUNT, .len = 4};
    else if (isa_table[ti->in.op].cls != ISA_CLASS_JUMP && follow(t, ti, &offset, &exits))
        t->end = offset;
}

/* Decodes the block from the key's address; may go past branches back that do not end it in the end. */
static void collect_all(struct tr *t, const uint8_t *page)
{
    int32_t offset = (int32_t)(t->key.pa & ~PAGE_MASK);
    unsigned exits = 0;
    struct insn run[SKIPS_MAX];
    unsigned skipped;

    t->end = END_NONE;
    while (t->n < BLOCK_INSNS) {
        struct tr_insn *ti = &t->seq[t->n];
        uint32_t bits;
        if (offset >= (int32_t)PAGE_SIZE || (t->n && visited(t, offset)))
            break;
        bits = fetch(page, (unsigned)offset);
        if (crosses(bits, (unsigned)offset)) {
            if (t->n)
                break;
            collect_crossing(t, bits, offset);
            return;
        }
        *ti = (struct tr_insn){.offset = (uint16_t)offset};
        t->block.granules |= granules_of(offset, isa_length(bits));
        t->n++;
        if (isa_decode(bits, &ti->in) != 0) {
            ti->in = (struct insn){.bits = bits, .op = ISA_COUNT, .len = (uint8_t)isa_length(bits)};
            return;
        }
        skipped = skips(&ti->in, page, (unsigned)offset, run);
        if (skipped && t->n + skipped <= BLOCK_INSNS) {
            ti->falls = ti->converted = true;
            offset += ti->in.len;
            for (unsigned i = 0; i < skipped; i++) {
                t->seq[t->n++] = (struct tr_insn){
                    .in = run[i], .offset = (uint16_t)offset, .conditional = (uint8_t)(skipped - i)};
                t->block.granules |= granules_of(offset, run[i].len);
                offset += run[i].len;
            }
            continue;
        }
        if (!follow(t, ti, &offset, &exits))
            return;
    }
    t->end = offset;
}

static void collect(struct tr *t, const uint8_t *page)
{
    t->sure = 0;
    collect_all(t, page);
    if (!t->sure || regs_loop(t))
        return;
    /* Most branches back are taken: only in a loop of this block they are the exceptions. */
    t->n = t->sure;
    t->seq[t->n - 1].falls = false;
    t->end = END_NONE;
    t->block.granules = 0;
    for (unsigned i = 0; i < t->n; i++)
        t->block.granules |= granules_of(t->seq[i].offset, t->seq[i].in.len);
}

unsigned insn_target(const struct insn *in)
{
    if (in->op >= ISA_BASE_COUNT)
        return 0;
    switch (isa_table[in->op].cls) {
    case ISA_CLASS_STORE:
    case ISA_CLASS_FSTORE:
    case ISA_CLASS_FLOAD:
    case ISA_CLASS_BRANCH:
        return 0;
    default:
        return in->rd;
    }
}

unsigned tr_use(struct tr *t, unsigned r, unsigned scratch)
{
    if (pinned(t, r))
        return t->pin[r];
    if (r == 0)
        emit_const(&t->e, scratch, 0);
    else
        emit_load(&t->e, scratch, gx(t, r));
    return scratch;
}

unsigned tr_dest(const struct tr *t, unsigned r, unsigned scratch)
{
    return pinned(t, r) ? t->pin[r] : scratch;
}

void tr_set(struct tr *t, unsigned r, unsigned host)
{
    if (r)
        emit_store(&t->e, gx(t, r), host);
}

struct stub *tr_stub(struct tr *t, enum stub_kind kind)
{
    struct stub *s = &t->stubs[t->nstubs++];

    *s = (struct stub){.kind = (uint8_t)kind, .insn = (uint8_t)t->i};
    return s;
}

struct site tr_site(const struct tr *t, unsigned i)
{
    return (struct site){
        .offset = t->seq[i].offset, .len = t->seq[i].in.len, .refund = (uint8_t)(t->n - i), .size = 1};
}

static unsigned class_of(const struct insn *in)
{
    return in->op < ISA_BASE_COUNT ? isa_table[in->op].cls : ISA_CLASS_COUNT;
}

void tr_step(struct tr *t)
{
    struct site s = tr_site(t, t->i);

    regs_give_back(t, &t->e);
    emit_const(&t->e, RAX, class_of(&t->seq[t->i].in));
    emit_const(&t->e, RCX, site_pack(&s));
    emit_call_run(&t->e, t->j->step);
    regs_take(t, &t->e);
    t->boxed = 0;
}

static bool translate_insn(struct tr *t, const struct insn *in)
{
    if (in->op >= ISA_BASE_COUNT)
        return false;
    switch (isa_table[in->op].cls) {
    case ISA_CLASS_ALU:
    case ISA_CLASS_MUL:
    case ISA_CLASS_DIV:
        return tr_int(t, in);
    case ISA_CLASS_LOAD:
        return tr_load(t, in);
    case ISA_CLASS_STORE:
        return tr_store(t, in);
    case ISA_CLASS_BRANCH:
        return tr_branch(t, in);
    case ISA_CLASS_JUMP:
        return tr_jump(t, in);
    case ISA_CLASS_FLOAD:
        return t->key.fp != FP_MODE_OFF && tr_fload(t, in);
    case ISA_CLASS_FSTORE:
        return t->key.fp != FP_MODE_OFF && tr_fstore(t, in);
    case ISA_CLASS_FP:
        return t->key.fp != FP_MODE_OFF && tr_fp(t, in);
    case ISA_CLASS_AMO:
        return tr_amo(t, in);
    case ISA_CLASS_CSR:
        return tr_csr(t, in);
    case ISA_CLASS_SYS:
        return tr_sys(t, in);
    case ISA_CLASS_CBO:
        return tr_cbo(t, in);
    case ISA_CLASS_FENCE:
        return true;
    case ISA_CLASS_HINT:
        return in->op != INSN_PAUSE;
    default:
        return false;
    }
}

/* Binds the jumps to the cold code being emitted. */
static void bind_stub(struct tr *t, const struct stub *s)
{
    for (unsigned i = 0; i < s->njumps; i++)
        emit_bind(s->jumps[i], t->cold.at);
}

static void step_stub(struct tr *t, const struct stub *s)
{
    struct site site = tr_site(t, s->insn);

    if (s->hit)
        tr_refill(t, s);
    regs_give_back(t, &t->cold);
    emit_const(&t->cold, RAX, class_of(&t->seq[s->insn].in));
    emit_const(&t->cold, RCX, site_pack(&site));
    emit_call_run(&t->cold, t->j->step);
    if (s->kind == STUB_STEP) {
        regs_take(t, &t->cold);
        emit_jmp_to(&t->cold, s->back);
        return;
    }
    emit_alu_const(&t->cold, ALU_ADD, rm_reg(REG_LEFT), site.refund - 1);
    emit_const(&t->cold, RAX, site.offset + site.len);
    emit_const(&t->cold, RCX, EXIT_LOOKUP);
    emit_jmp_run(&t->cold, t->j->exit_at);
}

static void emit_stub(struct tr *t, struct stub *s)
{
    unsigned refund = t->n - s->insn;

    bind_stub(t, s);
    switch (s->kind) {
    case STUB_BUDGET:
        regs_give_back(t, &t->cold);
        emit_alu_const(&t->cold, ALU_ADD, rm_reg(REG_LEFT), (int32_t)t->n);
        emit_const(&t->cold, RAX, t->seq[0].offset);
        emit_const(&t->cold, RCX, EXIT_BUDGET);
        emit_jmp_run(&t->cold, t->j->exit_at);
        break;
    case STUB_CHANGED:
        emit_const(&t->cold, RAX, t->seq[0].offset);
        emit_const(&t->cold, RCX, EXIT_STEP);
        emit_jmp_run(&t->cold, t->j->exit_at);
        break;
    case STUB_EXIT:
        if (refund > 1)
            emit_alu_const(&t->cold, ALU_ADD, rm_reg(REG_LEFT), (int32_t)refund - 1);
        tr_goto(t, &t->cold, s->target);
        break;
    case STUB_CSR:
    case STUB_STATUS:
        tr_csr_stub(t, s);
        break;
    case STUB_TRAP:
        tr_trap_stub(t, s);
        break;
    case STUB_STEP:
    case STUB_STEP_EXIT:
        step_stub(t, s);
        break;
    default:
        tr_mem_stub(t, s);
        break;
    }
}

static void emit_end(struct tr *t)
{
    if (t->end != END_NONE) {
        tr_goto(t, &t->e, t->end);
    } else {
        const struct tr_insn *last = &t->seq[t->n - 1];
        unsigned cls = class_of(&last->in);
        if (cls == ISA_CLASS_BRANCH || cls == ISA_CLASS_JUMP)
            return;
        regs_give_back(t, &t->e);
        emit_const(&t->e, RAX, last->offset + last->in.len);
        emit_const(&t->e, RCX, EXIT_LOOKUP);
        emit_jmp_run(&t->e, t->j->exit_at);
    }
}

static bool uses_fp(const struct tr *t)
{
    for (unsigned i = 0; i < t->n; i++) {
        const struct insn *in = &t->seq[i].in;
        if (in->op < ISA_BASE_COUNT && (isa_table[in->op].flags & ISA_FS ||
                                        (isa_table[in->op].cls == ISA_CLASS_CSR && (in->imm & 0xfff) <= 3)))
            return true;
    }
    return false;
}

/* Blocks with floating point are entered with its registers loaded, which implies that mstatus.FS is dirty.
 * Jumps from the block to its head need not look again. */
static void emit_fp_entry(struct tr *t)
{
    struct emitter *e = &t->e;
    uint8_t *over;

    if (t->key.fp == FP_MODE_OFF || !uses_fp(t))
        return;
    emit_alu_const32(e, ALU_CMP, rm_mem(REG_HART, HART(f_loaded)), 0);
    over = emit_jcc8(e, CC_NE);
    emit_const(e, RAX, t->seq[0].offset);
    emit_call_run(e, t->j->load_fpins);
    emit_bind8(over, e->at);
}

/* Leaves where the second half of the instruction is not what was translated. */
static void emit_second_check(struct tr *t)
{
    struct stub *s = tr_stub(t, STUB_CHANGED);
    uint16_t rest;

    memcpy(&rest, t->second, sizeof rest);
    emit_const(&t->e, RAX, (int64_t)(intptr_t)t->second);
    emit_op(&t->e, X_MOVZX16, RAX, rm_mem(RAX, 0));
    emit_alu_const32(&t->e, ALU_CMP, rm_reg(RAX), rest);
    stub_from(s, emit_jcc(&t->e, CC_NE));
}

/* Counts the execution that begins. */
static void emit_count(struct tr *t)
{
    uint64_t *word = blocks_word(&t->j->blocks);

    emit_op(&t->e, OPC(0, 0, 0xff) | OPC_W, 0, rm_at(word)); /* inc */
    t->block.executed = word;
}

/* What is known after instruction t->i. */
static void known_after(struct tr *t)
{
    group_update(t);
    width_update(t, &t->seq[t->i]);
}

/* How many of the next instructions have to stay together. */
static unsigned inseparable(const struct tr *t)
{
    return t->seq[t->i].converted ? 1u + t->seq[t->i + 1].conditional : 1;
}

static bool is_cut(const struct tr *t, unsigned insns)
{
    return t->j->cut && t->i + insns > t->j->cut;
}

static void emit_cut(struct tr *t)
{
    regs_give_back(t, &t->e);
    emit_alu_const(&t->e, ALU_ADD, rm_reg(REG_LEFT), (int32_t)(t->n - t->i));
    emit_const(&t->e, RAX, t->seq[t->i].offset);
    emit_const(&t->e, RCX, EXIT_LOOKUP);
    emit_jmp_run(&t->e, t->j->exit_at);
}

static void emit_block(struct tr *t)
{
    struct stub *s = tr_stub(t, STUB_BUDGET);
    const uint8_t *begin = t->e.at;

    if (t->second)
        emit_second_check(t);
    emit_fp_entry(t);
    regs_enter(t, &t->e);
    t->head = t->e.at;
    if (t->n) {
        emit_alu_const(&t->e, ALU_SUB, rm_reg(REG_LEFT), (int32_t)t->n);
        stub_from(s, emit_jcc(&t->e, CC_L));
    }
    if (t->j->count)
        emit_count(t);
    for (t->i = 0; t->i < t->n && !is_cut(t, inseparable(t)); t->i++) {
        const struct insn *in = &t->seq[t->i].in;
        unsigned more = 0;
        t->begins[t->i] = (uint16_t)(t->e.at - begin);
        if (t->seq[t->i].conditional)
            more = tr_conditional(t, &t->seq[t->i - 1].in);
        else if (!is_cut(t, 2) && tr_fuse(t))
            more = 1;
        else if (!translate_insn(t, in))
            tr_step(t);
        known_after(t);
        while (more--) {
            t->begins[++t->i] = (uint16_t)(t->e.at - begin);
            known_after(t);
        }
    }
    if (t->i < t->n)
        emit_cut(t);
    else
        emit_end(t);
    for (unsigned i = 0; i < t->nstubs; i++)
        emit_stub(t, &t->stubs[i]);
}

/* Where the instructions' code begins, behind the stubs; returns the end. */
static uint8_t *append_map(struct tr *t, const uint8_t *stubs)
{
    struct block_insn *map;

    if ((uintptr_t)t->cold.at % _Alignof(struct block_insn))
        *t->cold.at++ = 0x90; /* nop */
    map = (struct block_insn *)(void *)t->cold.at;
    for (unsigned i = 0; i < t->n; i++)
        map[i] = (struct block_insn){t->seq[i].offset, t->begins[i]};
    t->block.map = map;
    t->block.cold_len = (uint32_t)(t->cold.at - stubs);
    return (uint8_t *)(map + t->n);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void count_block(const struct tr *t)
{
    struct jit_stats *s = &t->j->stats;

    s->blocks++;
    s->blocks_single += t->key.single;
    s->blocks_fp += t->key.fp != FP_MODE_OFF && uses_fp(t);
    s->blocks_crossing += t->second != NULL;
    s->insns += t->n;
    s->code_bytes += t->block.code_len;
    s->stub_bytes += t->block.cold_len;
}

struct block *translate(struct jit *j, const struct block_key *key, const uint8_t *page,
                        const uint8_t *second)
{
    struct tr *t = j->tr;
    struct region *r = blocks_region(&j->blocks);
    intptr_t run = j->blocks.code.run - j->blocks.code.write;
    uint64_t begin = now_ns();

    t->j = j;
    t->key = *key;
    t->block = (struct block){.key = *key};
    t->e = (struct emitter){r->hot, run};
    t->cold = (struct emitter){r->cold, run};
    t->n = t->nstubs = 0;
    t->second = second;
    memset(t->groups, 0, sizeof t->groups);
    t->boxed = 0;
    width_begin(t);
    collect(t, page);
    regs_choose(t);
    t->block.insns = (uint16_t)t->n;
    t->block.code = t->e.at + run;
    emit_block(t);
    t->block.code_len = (uint32_t)(t->e.at - r->hot);
    r->hot = t->e.at;
    r->cold = append_map(t, r->cold);
    count_block(t);
    j->stats.translate_ns += now_ns() - begin;
    return blocks_add(&j->blocks, &t->block);
}
