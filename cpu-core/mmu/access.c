/* Loads, stores, fetches and DMA: every access to guest memory that the inline hits of mmu.h do not serve. */
#include "cpu-core/board/bus.h"
#include "cpu-core/engine.h"
#include "cpu-core/mmu/internal.h"

#include <errno.h>
#include <string.h>

static uint64_t address_of(const struct mmu *m, const uint8_t *host)
{
    return RAM_BASE + (uint64_t)(host - m->ram->host);
}

/* Walks, and enters the result into the bank of the view. */
static int translate(struct hart *h, uint64_t va, enum mmu_access access, struct mmu_target *t)
{
    struct mmu *m = h->mmu;
    bool fetch = access == MMU_FETCH;
    uint8_t *host = fetch ? NULL : fill_from_second(m, h, va, access & MMU_WRITE);
    if (host) {
        *t = (struct mmu_target){.pa = address_of(m, host), .host = host};
        return 0;
    }
    struct walk w;
    int cause = walk(m, h, va, access, fetch ? h->priv : hart_data_priv(h), &w);
    if (cause) {
        hart_raise(h, (enum exception)cause, va);
        return -EFAULT;
    }
    t->pa = w.pa;
    t->host = NULL;
    if (!ram_contains(m->ram, w.pa, 1))
        return 0;
    t->host = ram_at(m->ram, w.pa);
    bank_fill(m, h, fetch ? h->fetch_bank : h->bank, &w, access);
    return 0;
}

int mmu_translate(struct hart *h, uint64_t va, unsigned size, enum mmu_access access, struct mmu_target *t)
{
    if (access == MMU_FETCH)
        return mmu_fetch(h, va, t);
    uint8_t *host = access & MMU_WRITE ? mmu_hit_write(h, va, size) : mmu_hit_read(h, va, size);
    if (!host)
        return translate(h, va, access, t);
    t->host = host;
    t->pa = address_of(h->mmu, host);
    return 0;
}

int mmu_fetch(struct hart *h, uint64_t va, struct mmu_target *t)
{
    const uint8_t *host = mmu_hit_fetch(h, va);
    if (host) {
        t->host = (uint8_t *)(uintptr_t)host;
        t->pa = address_of(h->mmu, t->host);
        return 0;
    }
    int err = translate(h, va, MMU_FETCH, t);
    if (!err && t->pa - h->mmu->rom_base < h->mmu->rom_len)
        t->host = h->mmu->rom + (t->pa - h->mmu->rom_base);
    if (!err && !t->host)
        err = hart_raise(h, EXC_INSN_ACCESS, va);
    return err;
}

/* Constant sizes become single moves. */
static inline void write_bytes(uint8_t *p, const void *bytes, unsigned size)
{
    switch (size) {
    case 1:
        memcpy(p, bytes, 1);
        break;
    case 2:
        memcpy(p, bytes, 2);
        break;
    case 4:
        memcpy(p, bytes, 4);
        break;
    case 8:
        memcpy(p, bytes, 8);
        break;
    default:
        memcpy(p, bytes, size);
        break;
    }
}

void store_untracked(struct mmu *m, struct hart *h, uint64_t pa, const void *bytes, unsigned len)
{
    uint64_t page = ram_page(pa);
    uint8_t *host = ram_at(m->ram, pa), attr = m->ram->attr[page];
    bool code = attr & PAGE_HELD && memcmp(host, bytes, len);
    if (!(attr & PAGE_DIRTY))
        ram_mark_dirty(m->ram, page);
    write_bytes(host, bytes, len);
    if (m->nharts > 1 || !h)
        hart_reservation_lost(m->harts, m->nharts, h, pa, len);
    if (!code)
        return;
    ++*(h ? &m->stats.code_stores : &m->stats.code_dma);
    m->engine->invalidate(m->engine_data, pa, len);
    if (h)
        h->code_dirty = true;
}

void mmu_phys_store(struct mmu *m, struct hart *h, uint64_t pa, const void *bytes, unsigned len)
{
    if (m->ram->attr[ram_page(pa)] & PAGE_WALKED)
        track_store(m, h, pa, bytes, len);
    store_untracked(m, h, pa, bytes, len);
}

static inline uint64_t read_bytes(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    switch (size) {
    case 1:
        memcpy(&v, p, 1);
        break;
    case 2:
        memcpy(&v, p, 2);
        break;
    case 4:
        memcpy(&v, p, 4);
        break;
    case 8:
        memcpy(&v, p, 8);
        break;
    default:
        memcpy(&v, p, size);
        break;
    }
    return v;
}

static bool crosses(uint64_t va, unsigned size)
{
    return (va & ~PAGE_MASK) + size > PAGE_SIZE;
}

/* The two parts of an access that crosses a page, both in RAM, translated in order; the exception names the
 * failing part. */
static int translate_crossing(struct hart *h, uint64_t va, unsigned first, enum mmu_access access,
                              struct mmu_target *t)
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t part = i ? va + first : va;
        int err = mmu_translate(h, part, 1, access, &t[i]);
        if (err)
            return err;
        if (!t[i].host)
            return hart_raise(h, access == MMU_READ ? EXC_LOAD_ACCESS : EXC_STORE_ACCESS, part);
    }
    return 0;
}

static int load_crossing(struct hart *h, uint64_t va, unsigned size, uint64_t *value)
{
    unsigned first = (unsigned)(PAGE_SIZE - (va & ~PAGE_MASK));
    struct mmu_target t[2];
    int err = translate_crossing(h, va, first, MMU_READ, t);
    if (err)
        return err;
    *value = read_bytes(t[0].host, first) | read_bytes(t[1].host, size - first) << 8 * first;
    return 0;
}

int mmu_load(struct hart *h, uint64_t va, unsigned size, uint64_t *value)
{
    const uint8_t *host = mmu_hit_read(h, va, size);
    if (host) {
        *value = read_bytes(host, size);
        return 0;
    }
    if (crosses(va, size))
        return load_crossing(h, va, size, value);
    struct mmu_target t;
    int err = translate(h, va, MMU_READ, &t);
    if (err)
        return err;
    if (t.host) {
        *value = read_bytes(t.host, size);
        return 0;
    }
    h->mmu->stats.mmio_loads++;
    return bus_read(h->mmu->bus, t.pa, size, value) ? hart_raise(h, EXC_LOAD_ACCESS, va) : 0;
}

/* A store may change the PTEs of its own translation: the tracked path sees the bytes before they are
 * written. */
static int store_crossing(struct hart *h, uint64_t va, unsigned size, uint64_t value)
{
    unsigned first = (unsigned)(PAGE_SIZE - (va & ~PAGE_MASK));
    struct mmu_target t[2];
    int err = translate_crossing(h, va, first, MMU_WRITE, t);
    if (err)
        return err;
    uint64_t rest = value >> 8 * first;
    mmu_phys_store(h->mmu, h, t[0].pa, &value, first);
    mmu_phys_store(h->mmu, h, t[1].pa, &rest, size - first);
    return 0;
}

int mmu_store(struct hart *h, uint64_t va, unsigned size, uint64_t value)
{
    uint8_t *host = mmu_hit_write(h, va, size);
    if (host) {
        write_bytes(host, &value, size);
        return 0;
    }
    if (crosses(va, size))
        return store_crossing(h, va, size, value);
    struct mmu_target t;
    int err = translate(h, va, MMU_WRITE, &t);
    if (err)
        return err;
    if (t.host) {
        mmu_phys_store(h->mmu, h, t.pa, &value, size);
        return 0;
    }
    h->mmu->stats.mmio_stores++;
    return bus_write(h->mmu->bus, t.pa, size, value) ? hart_raise(h, EXC_STORE_ACCESS, va) : 0;
}

int mmu_dma_read(struct mmu *m, uint64_t pa, void *dst, uint64_t len)
{
    if (!ram_contains(m->ram, pa, len))
        return -EFAULT;
    memcpy(dst, ram_at(m->ram, pa), len);
    return 0;
}

int mmu_dma_write(struct mmu *m, uint64_t pa, const void *src, uint64_t len)
{
    if (!ram_contains(m->ram, pa, len))
        return -EFAULT;
    const uint8_t *bytes = src;
    while (len) {
        uint64_t room = PAGE_SIZE - (pa & ~PAGE_MASK), n = len < room ? len : room;
        mmu_phys_store(m, NULL, pa, bytes, (unsigned)n);
        pa += n;
        bytes += n;
        len -= n;
    }
    return 0;
}
