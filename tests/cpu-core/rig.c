/* The rig. Must not know any device. */
#include "tests/cpu-core/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

void rig_create(struct rig *r, uint64_t memory, unsigned nharts)
{
    memset(r, 0, sizeof *r);
    assert_int_equal(ram_create(&r->ram, memory), 0);
    vclock_init(&r->clock, 1ull << 32);
    r->nharts = nharts;
    for (unsigned i = 0; i < nharts; i++) {
        struct hart *h = &r->hart[i];
        h->id = (uint8_t)i;
        h->clock = &r->clock;
        h->harts = r->harts;
        h->nharts = nharts;
        r->harts[i] = h;
    }
    assert_int_equal(mmu_create(&r->mmu, &r->ram, &r->bus, r->harts, nharts, 5, true), 0);
    for (unsigned i = 0; i < nharts; i++)
        hart_reset(&r->hart[i], RAM_BASE);
}

void rig_destroy(struct rig *r)
{
    mmu_destroy(r->mmu);
    ram_destroy(&r->ram);
}

uint64_t rig_now(const struct rig *r)
{
    return hart_icount(&r->hart[0]);
}

void rig_advance(struct rig *r, uint64_t ns)
{
    uint64_t end = rig_now(r) + ns;
    for (;;) {
        uint64_t due = vclock_next_step(&r->clock), to = due < end ? due : end;
        for (unsigned i = 0; i < r->nharts; i++)
            hart_slice_begin(&r->hart[i], to, 0);
        vclock_fire(&r->clock, to);
        if (to == end)
            return;
    }
}

uint64_t rig_read(const struct rig *r, uint64_t pa, unsigned size)
{
    uint64_t value = 0;
    assert_int_equal(bus_read(&r->bus, pa, size, &value), 0);
    return value;
}

void rig_write(const struct rig *r, uint64_t pa, unsigned size, uint64_t value)
{
    assert_int_equal(bus_write(&r->bus, pa, size, value), 0);
}

uint64_t rig_peek(const struct rig *r, uint64_t pa, unsigned size)
{
    uint64_t value = 0;
    assert_int_equal(mmu_dma_read(r->mmu, pa, &value, size), 0);
    return value;
}

void rig_poke(const struct rig *r, uint64_t pa, unsigned size, uint64_t value)
{
    assert_int_equal(mmu_dma_write(r->mmu, pa, &value, size), 0);
}
