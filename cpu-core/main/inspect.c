/* The registers of a hart between two steps, for tools. Must not change what it shows. */
#include "cpu-core/isa/isa.h"
#include "cpu-core/main/internal.h"

#include <stdio.h>
#include <string.h>

#define CSRS     4096u
#define MAX_LIST 512u
#define NAME     24u

struct list {
    Cleave__Register item[MAX_LIST], *items[MAX_LIST];
    char name[MAX_LIST][NAME];
    unsigned n;
};

static void put(struct list *l, uint64_t value, const char *stem, unsigned number, bool numbered)
{
    if (l->n == MAX_LIST)
        return;
    unsigned i = l->n++;
    snprintf(l->name[i], NAME, numbered ? "%s%u" : "%s", stem, number);
    cleave__register__init(&l->item[i]);
    l->item[i].name = l->name[i];
    l->item[i].value = value;
    l->items[i] = &l->item[i];
}

/* CSRs of a group share a stem, which says nothing of its first number: the number in the group. */
static void put_csrs(struct list *l, const struct hart *h)
{
    const char *before = NULL;
    unsigned in_group = 0;
    for (unsigned csr = 0; csr < CSRS; csr++) {
        const char *name = hart_csr_name(csr), *next = csr + 1 < CSRS ? hart_csr_name(csr + 1) : NULL;
        uint64_t value;
        if (!name || hart_csr_peek(h, csr, &value) < 0)
            continue;
        bool same = before && !strcmp(before, name);
        in_group = same ? in_group + 1 : 0;
        put(l, value, name, in_group, same || (next && !strcmp(next, name)));
        before = name;
    }
}

/* As machine_schedule() will choose. */
static struct hart *next_hart(const struct machine *m)
{
    struct hart *h = m->harts[m->current];
    if (!h->wait && m->quantum_left)
        return h;
    for (unsigned i = 1; i <= m->nharts; i++)
        if (!m->harts[(m->current + i) % m->nharts]->wait)
            return m->harts[(m->current + i) % m->nharts];
    return h;
}

/* The bytes that the next step fetches: 0, 2 or 4. */
static size_t next_insn(struct hart *h, uint8_t bytes[4])
{
    struct mmu_target t;
    uint16_t half[2];
    if (h->wait || h->irq_ready || mmu_fetch(h, h->pc, &t) < 0)
        return 0;
    memcpy(&half[0], t.host, 2);
    if (isa_length(half[0]) == 4) {
        if (mmu_fetch(h, h->pc + 2, &t) < 0)
            return 0;
        memcpy(&half[1], t.host, 2);
    }
    memcpy(bytes, half, isa_length(half[0]));
    return isa_length(half[0]);
}

void machine_report_registers(struct machine *m)
{
    static struct list l;
    struct hart *h = next_hart(m);
    uint8_t insn[4];
    l.n = 0;
    put(&l, h->pc, "pc", 0, false);
    for (unsigned i = 1; i < 32; i++)
        put(&l, h->x[i], "x", i, true);
    for (unsigned i = 0; i < 32; i++)
        put(&l, h->f[i], "f", i, true);
    put(&l, h->priv, "priv", 0, false);
    put_csrs(&l, h);
    Cleave__Registers registers = CLEAVE__REGISTERS__INIT;
    registers.icount = m->icount;
    registers.hart = h->id;
    registers.pc = h->pc;
    registers.insn.len = next_insn(h, insn);
    registers.insn.data = insn;
    registers.list = l.items;
    registers.n_list = l.n;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_REGISTERS;
    body.registers = &registers;
    machine_send(m, &body);
}
