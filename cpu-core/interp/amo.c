/* Load-reserved, store-conditional and atomic memory operations. Misaligned ones trap. They work on RAM only:
 * load-reserved and atomic operations elsewhere are access faults. A store-conditional is translated, and
 * faults, as a store whether or not its reservation holds. */
#include "cpu-core/interp/internal.h"

#include <string.h>

/* Reservations cover an aligned doubleword. */
#define RESERVATION_MASK (~7ull)

static uint64_t pa_of(const struct ram *ram, const uint8_t *host)
{
    return RAM_BASE + (uint64_t)(host - ram->host);
}

static uint64_t extend(unsigned size, uint64_t v)
{
    return size == 4 ? (uint64_t)(int64_t)(int32_t)v : v;
}

static uint64_t get(const uint8_t *host, unsigned size)
{
    uint64_t v = 0;

    memcpy(&v, host, size);
    return extend(size, v);
}

static int load_reserved(const struct interp *e, struct hart *h, slot_t w, unsigned size)
{
    uint64_t va = h->x[slot_rs1(w)];
    const uint8_t *host = mmu_hit_read(h, va, size);
    struct mmu_target t;
    int rc = STEP_NEXT;

    if (va & (size - 1))
        return hart_raise(h, EXC_LOAD_MISALIGNED, va);
    if (!host) {
        if (mmu_translate(h, va, size, MMU_READ, &t) < 0)
            return -1;
        if (!t.host)
            return hart_raise(h, EXC_LOAD_ACCESS, va);
        host = t.host;
        rc = STEP_SYNC;
    }
    h->res_addr = pa_of(e->ram, host) & RESERVATION_MASK;
    h->res_valid = true;
    h->x[slot_rd(w)] = get(host, size);
    h->x[0] = 0;
    return rc;
}

/* Finds the bytes of an AMO or store-conditional, which need write permission even if nothing is stored.
 * *slow: they must be written through the mmu. t->host is NULL where there is no RAM. */
static int locate(const struct interp *e, struct hart *h, uint64_t va, unsigned size, enum mmu_access access,
                  struct mmu_target *t, bool *slow)
{
    uint8_t *host = mmu_hit_write(h, va, size);

    if (va & (size - 1))
        return hart_raise(h, EXC_STORE_MISALIGNED, va);
    *slow = !host;
    if (!host)
        return mmu_translate(h, va, size, access, t);
    t->host = host;
    t->pa = pa_of(e->ram, host);
    return 0;
}

static void put(struct hart *h, const struct mmu_target *t, bool slow, uint64_t value, unsigned size)
{
    if (slow)
        mmu_phys_store(h->mmu, h, t->pa, &value, size);
    else
        memcpy(t->host, &value, size);
}

static int store_conditional(const struct interp *e, struct hart *h, slot_t w, unsigned size)
{
    uint64_t va = h->x[slot_rs1(w)];
    struct mmu_target t;
    bool slow, held;

    if (locate(e, h, va, size, MMU_WRITE, &t, &slow) < 0)
        return -1;
    held = h->res_valid && t.host && h->res_addr == (t.pa & RESERVATION_MASK);
    h->res_valid = false;
    if (held)
        put(h, &t, slow, h->x[slot_rs2(w)], size);
    h->x[slot_rd(w)] = !held;
    h->x[0] = 0;
    return slow ? STEP_SYNC : STEP_NEXT;
}

/* `a` is memory, `b` the register; both sign-extended from the operation's size, which keeps signed and
 * unsigned order. */
static uint64_t combine(unsigned op, uint64_t a, uint64_t b)
{
    switch (op) {
    case INSN_AMOSWAP_W:
    case INSN_AMOSWAP_D:
        return b;
    case INSN_AMOADD_W:
    case INSN_AMOADD_D:
        return a + b;
    case INSN_AMOXOR_W:
    case INSN_AMOXOR_D:
        return a ^ b;
    case INSN_AMOAND_W:
    case INSN_AMOAND_D:
        return a & b;
    case INSN_AMOOR_W:
    case INSN_AMOOR_D:
        return a | b;
    case INSN_AMOMIN_W:
    case INSN_AMOMIN_D:
        return (int64_t)a < (int64_t)b ? a : b;
    case INSN_AMOMAX_W:
    case INSN_AMOMAX_D:
        return (int64_t)a > (int64_t)b ? a : b;
    case INSN_AMOMINU_W:
    case INSN_AMOMINU_D:
        return a < b ? a : b;
    default:
        return a > b ? a : b;
    }
}

int interp_amo(const struct interp *e, struct hart *h, slot_t w)
{
    unsigned op = slot_op(w), size = isa_table[op].size;
    uint64_t va = h->x[slot_rs1(w)], old;
    struct mmu_target t;
    bool slow;

    if (op == INSN_LR_W || op == INSN_LR_D)
        return load_reserved(e, h, w, size);
    if (op == INSN_SC_W || op == INSN_SC_D)
        return store_conditional(e, h, w, size);
    if (locate(e, h, va, size, MMU_AMO, &t, &slow) < 0)
        return -1;
    if (!t.host)
        return hart_raise(h, EXC_STORE_ACCESS, va);
    old = get(t.host, size);
    put(h, &t, slow, combine(op, old, extend(size, h->x[slot_rs2(w)])), size);
    h->x[slot_rd(w)] = old;
    h->x[0] = 0;
    return slow ? STEP_SYNC : STEP_NEXT;
}
