/* Reset, step accounting, reservations and the visible state of a hart. */
#include "cpu-core/hart/internal.h"
#include "cpu-core/mmu/mmu.h"
#include "cpu-core/state/state.h"
#include "cpu-core/time/vclock.h"

#include <string.h>

void hart_reset(struct hart *h, uint64_t reset_pc)
{
    struct hart fresh = {
        .pc = reset_pc,
        .priv = PRIV_M,
        .id = h->id,
        .mstatus = 2ull << 32 | 2ull << 34, /* UXL = SXL = 64 bits, read-only */
        .menvcfg = MENVCFG_ADUE | MENVCFG_PBMTE,
        .limit = h->limit,
        .left = h->left,
        .slice_left = h->slice_left,
        .wrs_deadline = VCLOCK_NEVER,
        .mtimecmp = VCLOCK_NEVER,
        .bank = h->bank,
        .fetch_bank = h->fetch_bank,
        .mmu = h->mmu,
        .clock = h->clock,
        .harts = h->harts,
        .nharts = h->nharts,
        .hooks = h->hooks,
        .hooks_arg = h->hooks_arg,
    };
    /* Counters start at zero though the machine's icount goes on, and the running instruction is not counted.
     */
    fresh.mcycle_off = 0 - hart_icount(&fresh);
    fresh.steps = 0 - (fresh.slice_left - (uint64_t)fresh.left);
    *h = fresh;
    pmp_derive(h);
    if (h->mmu)
        mmu_pmp_changed(h);
    h->code_dirty = true;
}

void hart_shorten(struct hart *h, uint64_t n)
{
    uint64_t next = hart_icount(h) + 1;
    if (n < next)
        n = next;
    if (h->limit <= n)
        return;
    uint64_t cut = h->limit - n;
    h->limit -= cut;
    h->left -= (int64_t)cut;
    h->slice_left -= cut;
}

void hart_slice_begin(struct hart *h, uint64_t now, uint64_t budget)
{
    h->limit = now + budget;
    h->left = (int64_t)budget;
    h->slice_left = budget;
    h->yield = false;
}

uint64_t hart_slice_end(struct hart *h)
{
    uint64_t taken = h->slice_left - (uint64_t)h->left;
    h->steps += taken;
    h->limit -= (uint64_t)h->left;
    h->left = 0;
    h->slice_left = 0;
    return taken;
}

void hart_reservation_lost(struct hart *const *harts, unsigned n, const struct hart *writer, uint64_t pa,
                           unsigned len)
{
    for (unsigned i = 0; i < n; i++) {
        struct hart *h = harts[i];
        if (h == writer || !h->res_valid || pa >= h->res_addr + 8 || h->res_addr >= pa + len)
            continue;
        h->res_valid = false;
        if (h->wait == HART_WRS)
            h->wait = HART_RUNS;
    }
}

static void state_u64s(struct state_io *io, uint64_t *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        state_u64(io, &v[i]);
}

static void state_counters(struct hart *h, struct state_io *io)
{
    uint64_t steps = h->steps + (h->slice_left - (uint64_t)h->left);
    state_u64(io, &steps);
    if (io->loading) {
        h->steps = steps;
        h->slice_left = (uint64_t)h->left;
    }
    uint64_t *const fields[] = {&h->traps, &h->mcycle_off, &h->minstret_off, &h->mcycle_stop,
                                &h->minstret_stop};
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++)
        state_u64(io, fields[i]);
}

/* The order is the one of the lines below: integer registers 1..31, pc, floating point, mode, machine CSRs,
 * supervisor CSRs, environment, PMP, reservation, counters. Derived and wiring fields are left out. */
void hart_state(struct hart *h, struct state_io *io)
{
    state_u64s(io, h->x + 1, 31);
    state_u64(io, &h->pc);
    state_u64s(io, h->f, 32);
    state_u32(io, &h->fflags);
    state_u8(io, &h->frm);
    state_u8(io, &h->priv);
    state_u8(io, &h->wait);
    uint64_t *const csrs[] = {
        &h->mstatus,  &h->mip,   &h->mie,      &h->medeleg,  &h->mideleg, &h->mtvec,   &h->mepc,
        &h->mcause,   &h->mtval, &h->mscratch, &h->stvec,    &h->sepc,    &h->scause,  &h->stval,
        &h->sscratch, &h->satp,  &h->stimecmp, &h->mtimecmp, &h->menvcfg, &h->senvcfg,
    };
    for (unsigned i = 0; i < sizeof csrs / sizeof *csrs; i++)
        state_u64(io, csrs[i]);
    state_bool(io, &h->seip_sw);
    state_bool(io, &h->seip_plic);
    state_u32(io, &h->mcounteren);
    state_u32(io, &h->scounteren);
    state_u32(io, &h->mcountinhibit);
    state_bytes(io, h->pmpcfg, sizeof h->pmpcfg);
    state_u64s(io, h->pmpaddr, HART_PMP_ENTRIES);
    state_bool(io, &h->res_valid);
    uint64_t reserved = h->res_valid ? h->res_addr : 0;
    state_u64(io, &reserved);
    uint64_t deadline = h->wait == HART_WRS ? h->wrs_deadline : VCLOCK_NEVER;
    state_u64(io, &deadline);
    state_counters(h, io);
    if (!io->loading)
        return;
    h->res_addr = reserved;
    h->wrs_deadline = deadline;
    h->code_dirty = true;
    pmp_derive(h);
    mmu_pmp_changed(h);
    hart_irq_update(h);
}
