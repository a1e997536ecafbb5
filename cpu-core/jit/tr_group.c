/* Access groups: accesses off registers that hold one value, apart from constants, share one check over their
 * range. This file decides which, and where each keeps what its check found; it follows the value through
 * copies and additions, and emits nothing. */
#include "cpu-core/jit/translate.h"

#define GROUP_SPAN  512
#define DELTA_MAX   2048
#define COPIES_BACK 6u /* instructions before the first access that may have copied its base */

static bool is_load(const struct insn *in)
{
    return in->op < ISA_BASE_COUNT &&
           (isa_table[in->op].cls == ISA_CLASS_LOAD || isa_table[in->op].cls == ISA_CLASS_FLOAD);
}

static bool is_store(const struct insn *in)
{
    return in->op < ISA_BASE_COUNT &&
           (isa_table[in->op].cls == ISA_CLASS_STORE || isa_table[in->op].cls == ISA_CLASS_FSTORE);
}

/* Whether rdx survives the instruction's translation. */
static bool keeps_rdx(const struct insn *in)
{
    if (in->op >= ISA_BASE_COUNT)
        return false;
    switch (isa_table[in->op].cls) {
    case ISA_CLASS_MUL:
        return in->op == INSN_MUL || in->op == INSN_MULW;
    case ISA_CLASS_DIV:
    case ISA_CLASS_AMO:
    case ISA_CLASS_CBO:
    case ISA_CLASS_CSR:
    case ISA_CLASS_SYS:
        return false;
    default:
        return true;
    }
}

/* Whether rd becomes *from + *delta. */
static bool copies(const struct insn *in, unsigned *from, int32_t *delta)
{
    *delta = 0;
    if (in->op == INSN_ADDI) {
        *from = in->rs1;
        *delta = in->imm;
    } else if (in->op == INSN_ADD && (in->rs1 == 0 || in->rs2 == 0)) {
        *from = in->rs1 | in->rs2;
    } else {
        return false;
    }
    return *from && in->rd;
}

static bool has(const struct group *g, unsigned r)
{
    return g->regs >> r & 1;
}

static void add(struct group *g, unsigned r, int32_t delta)
{
    g->regs |= 1u << r;
    g->delta[r] = (int16_t)delta;
}

/* Whether the instruction leaves alone how addresses are translated. */
static bool keeps_view(const struct insn *in)
{
    return in->op < ISA_BASE_COUNT && isa_table[in->op].cls != ISA_CLASS_CSR &&
           isa_table[in->op].cls != ISA_CLASS_SYS;
}

/* What is known after the instruction. */
static void step(struct group *g, const struct tr_insn *ti)
{
    const struct insn *in = &ti->in;
    unsigned from, rd = insn_target(in);
    int32_t delta;

    if (g->place ? !keeps_view(in) : ti->conditional || !keeps_rdx(in)) {
        g->regs = 0;
    } else if (!ti->conditional && copies(in, &from, &delta) && has(g, from)) {
        delta += g->delta[from];
        g->regs &= ~(1u << rd);
        if (delta >= -DELTA_MAX && delta <= DELTA_MAX)
            add(g, rd, delta);
    } else {
        g->regs &= ~(1u << rd);
    }
}

void group_update(struct tr *t)
{
    for (unsigned i = 0; i < GROUPS; i++)
        if (t->groups[i].regs)
            step(&t->groups[i], &t->seq[t->i]);
}

/* Registers that hold the value of `base` before instruction t->i. */
static void find_copies(const struct tr *t, unsigned base, struct group *g)
{
    uint32_t written = 1u << 0;

    for (unsigned k = t->i; k > 0 && t->i - k < COPIES_BACK && !(written >> base & 1); k--) {
        const struct insn *in = &t->seq[k - 1].in;
        unsigned from, rd = insn_target(in);
        int32_t delta;
        if (!t->seq[k - 1].conditional && copies(in, &from, &delta) && from == base && rd != base &&
            !(written >> rd & 1))
            add(g, rd, delta);
        written |= 1u << rd;
    }
}

static bool extend(struct span *s, int32_t low, int32_t high)
{
    if (s->members) {
        low = s->low < low ? s->low : low;
        high = s->high > high ? s->high : high;
    }
    if (high - low >= GROUP_SPAN)
        return false;
    *s = (struct span){low, high, s->members + 1};
    return true;
}

/* Whether the block is sure to go on with the next instruction. */
static bool goes_on(const struct tr_insn *ti)
{
    return !ti->falls || ti->converted || isa_table[ti->in.op].cls == ISA_CLASS_JUMP;
}

/* The accesses from instruction t->i on that can be members. One check for writing serves all where a store
 * is sure to follow: a page that may not be written is slow in any case then. */
static struct span members(const struct tr *t, struct group g, bool *write)
{
    struct span all = {0}, loads = {0};
    bool sure = true;

    for (unsigned k = t->i; k < t->n; k++) {
        const struct insn *in = &t->seq[k].in;
        bool load = is_load(in), store = is_store(in);
        if ((load || store) && has(&g, in->rs1) && (g.host || pinned(t, in->rs1))) {
            int32_t low = g.delta[in->rs1] + in->imm, high = low + isa_table[in->op].size - 1;
            *write |= store && sure;
            if (!extend(&all, low, high) || (load && !extend(&loads, low, high)))
                break;
        }
        sure = sure && goes_on(&t->seq[k]);
        step(&g, &t->seq[k]);
        if (!g.regs)
            break;
    }
    return *write ? all : loads;
}

const struct group *group_of(const struct tr *t, const struct insn *in, bool write)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        const struct group *g = &t->groups[i];
        int32_t low = g->delta[in->rs1] + in->imm;
        if (g->regs && has(g, in->rs1) && (!write || g->write) && (g->host || pinned(t, in->rs1)) &&
            low >= g->checked.low && low + isa_table[in->op].size - 1 <= g->checked.high)
            return g;
    }
    return NULL;
}

/* Whether the live group at a place has no more members. */
static bool is_free(const struct tr *t, unsigned place)
{
    bool unused = false;

    return !t->groups[place].regs || !members(t, t->groups[place], &unused).members;
}

/* A place in memory for a group off `base`: a free one, or that of another group off it; 0: none. */
static unsigned place_for(const struct tr *t, unsigned base)
{
    unsigned i;

    for (i = GROUPS - 1; i > 0 && !is_free(t, i); i--)
        ;
    if (i == 0)
        for (i = GROUPS - 1; i > 0 && !has(&t->groups[i], base); i--)
            ;
    return i;
}

bool group_find(const struct tr *t, const struct insn *in, bool write, struct group *g)
{
    unsigned place;
    struct group far;

    if (t->key.single || in->rs1 == 0)
        return false;
    *g = (struct group){.host = !pinned(t, in->rs1), .write = write};
    add(g, in->rs1, 0);
    find_copies(t, in->rs1, g);
    far = *g;
    g->checked = members(t, *g, &g->write);
    if (!is_free(t, 0))
        g->checked.members = 0;
    place = place_for(t, in->rs1);
    far.place = (uint8_t)place;
    if (place)
        far.checked = members(t, far, &far.write);
    if (far.checked.members > g->checked.members)
        *g = far;
    return g->checked.members >= 2;
}
