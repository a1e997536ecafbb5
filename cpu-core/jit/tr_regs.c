/* Registers of loops. A block that jumps to its own head lends host registers of guest registers that it uses
 * little to those that it uses most, for as long as it stays in itself: it takes them when it is entered and
 * gives them back wherever it is left or code is called that knows the fixed assignment. Knows no
 * instruction's translation. */
#include "cpu-core/jit/translate.h"

#define WRITE_WEIGHT 3u /* a result in memory delays what uses it; a source in memory costs little */
#define LEAST_WEIGHT 3u

/* Whether the translation of every instruction tells this file where it leaves the block. */
static bool all_known(const struct tr *t)
{
    for (unsigned i = 0; i < t->n; i++) {
        const struct insn *in = &t->seq[i].in;
        if (in->op >= ISA_BASE_COUNT)
            return false;
        switch (isa_table[in->op].cls) {
        case ISA_CLASS_CSR:
        case ISA_CLASS_SYS:
            return false;
        default:
            break;
        }
    }
    return true;
}

bool regs_loop(const struct tr *t)
{
    if (t->end != END_NONE && tr_is_head(t, t->end))
        return true;
    for (unsigned i = 0; i < t->n; i++) {
        const struct insn *in = &t->seq[i].in;
        if (in->op < ISA_BASE_COUNT && (isa_table[in->op].cls == ISA_CLASS_BRANCH || in->op == INSN_JAL) &&
            tr_is_head(t, t->seq[i].offset + in->imm))
            return true;
    }
    return false;
}

/* What a guest register's being in a host register is worth, and in the block's bit sets. */
struct use {
    unsigned weight[32];
    uint32_t written;
};

static void read(struct use *u, unsigned r)
{
    u->weight[r]++;
}

static void write(struct use *u, unsigned r)
{
    u->weight[r] += WRITE_WEIGHT;
    u->written |= 1u << r;
}

static void count(const struct insn *in, struct use *u)
{
    switch (isa_table[in->op].cls) {
    case ISA_CLASS_ALU:
    case ISA_CLASS_MUL:
    case ISA_CLASS_DIV:
    case ISA_CLASS_AMO:
        read(u, in->rs2);
        /* fallthrough */
    case ISA_CLASS_LOAD:
    case ISA_CLASS_JUMP:
        read(u, in->rs1);
        write(u, in->rd);
        break;
    case ISA_CLASS_STORE:
    case ISA_CLASS_BRANCH:
        read(u, in->rs2);
        read(u, in->rs1);
        break;
    case ISA_CLASS_FLOAD:
    case ISA_CLASS_FSTORE:
    case ISA_CLASS_CBO:
        read(u, in->rs1);
        break;
    case ISA_CLASS_FP: /* some write an integer register */
        u->written |= 1u << in->rd;
        break;
    default:
        break;
    }
}

/* The guest register without (or with) a host register of its own that is worth most (or least); 0: none. */
static unsigned pick(const struct tr *t, const struct use *u, bool own)
{
    unsigned best = 0;

    for (unsigned r = 1; r < 32; r++) {
        if (pinned(t, r) != own || (own && t->pin[r] != target_pin[r]))
            continue;
        if (!best || (own ? u->weight[r] < u->weight[best] : u->weight[r] > u->weight[best]))
            best = r;
    }
    return best;
}

void regs_choose(struct tr *t)
{
    struct use u = {0};

    memcpy(t->pin, target_pin, sizeof t->pin);
    t->nlent = 0;
    if (!regs_loop(t) || !all_known(t))
        return;
    for (unsigned i = 0; i < t->n; i++)
        count(&t->seq[i].in, &u);
    while (t->nlent < sizeof t->lent / sizeof *t->lent) {
        unsigned to = pick(t, &u, false), from = pick(t, &u, true);
        if (!to || !from || u.weight[to] < LEAST_WEIGHT || u.weight[to] <= u.weight[from] + 1)
            break;
        t->lent[t->nlent++] = (struct lent){(uint8_t)from, (uint8_t)to, t->pin[from], u.written >> to & 1};
        t->pin[to] = t->pin[from];
        t->pin[from] = REG_NONE;
    }
}

void regs_enter(struct tr *t, struct emitter *e)
{
    for (unsigned i = 0; i < t->nlent; i++) {
        emit_store(e, rm_mem(REG_HART, HART_X(t->lent[i].from)), t->lent[i].host);
        emit_load(e, t->lent[i].host, rm_mem(REG_HART, HART_X(t->lent[i].to)));
    }
}

void regs_give_back(const struct tr *t, struct emitter *e)
{
    for (unsigned i = 0; i < t->nlent; i++) {
        if (t->lent[i].written)
            emit_store(e, rm_mem(REG_HART, HART_X(t->lent[i].to)), t->lent[i].host);
        emit_load(e, t->lent[i].host, rm_mem(REG_HART, HART_X(t->lent[i].from)));
    }
}

void regs_take(const struct tr *t, struct emitter *e)
{
    for (unsigned i = 0; i < t->nlent; i++)
        emit_load(e, t->lent[i].host, rm_mem(REG_HART, HART_X(t->lent[i].to)));
}
