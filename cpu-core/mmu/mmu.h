/* Address translation and the only path to guest memory. The guest sees a machine without a TLB (every access
 * walks, every fetch reads memory); the banks here are caches of walks that can never be told apart from
 * walking. Knows harts and RAM, hands physical addresses outside RAM to the bus, and tells the engine when
 * bytes it decoded change. */
#pragma once

#include "cpu-core/hart/hart.h"
#include "cpu-core/mmu/ram.h"

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct engine;

/* Bank geometry. Slots are chosen by the low bits of the virtual page number. Those for data are pairs: the
 * second one is for what was pushed out of the first. */
#define TLB_SLOTS       1024
#define TLB_FETCH_SLOTS 256
#define TLB_FETCH_MARKS 8192
#define TLB_LARGE_SLOTS 64
#define TLB_LARGE_SHIFT 21
#define TLB_PAGES       16384 /* per hart: the second level of all its banks */
#define TLB_PAGES_GROUP 512   /* of those, for pages of one 2 MiB */
#define TLB_BANKS       16    /* per hart */
#define TLB_NO_TAG      8ull  /* matches no page address, with what misaligns 8 bytes or without */
#define TLB_RUN         16    /* slots whose use is known together */

/* 4 KiB translation: `tag` is the virtual page address, `addend` turns a virtual address into a host address.
 * Exists only for RAM, so a hit can not fault. An r or x slot implies A = 1, a w slot D = 1 and a page that
 * is neither held nor walked. */
struct tlb_slot {
    uint64_t tag;
    uint64_t addend;
};

/* Views with different permissions have different banks. MXR = 1 and effective privilege from MPRV use
 * TLB_VIEW_NONE: walked every time. In S-mode TLB_VIEW_CODE is for fetches: a bank that roots share whose
 * entries lead to the same tables, or else the one of TLB_VIEW_S. */
enum tlb_view { TLB_VIEW_U, TLB_VIEW_S, TLB_VIEW_S_SUM, TLB_VIEW_M, TLB_VIEW_CODE, TLB_VIEW_NONE };

struct tlb_pair {
    struct tlb_slot way[2];
};

struct tlb_bank {
    struct tlb_pair r[TLB_SLOTS];
    struct tlb_pair w[TLB_SLOTS];
    struct tlb_slot x[TLB_FETCH_SLOTS];
    struct tlb_slot large_r[TLB_LARGE_SLOTS]; /* second level: 2 MiB that lie in one leaf and in RAM, by their
                                                 first page */
    struct tlb_slot large_w[TLB_LARGE_SLOTS];
    struct tlb_slot *pages;                 /* second level: 4 KiB, shared by the banks of the hart */
    uint32_t pages_used;                    /* a bit for each group of it that may have entries of the bank */
    uint16_t pages_id;                      /* low bits of the tags that are the bank's; 0: it has none */
    uint8_t used[TLB_SLOTS / TLB_RUN];      /* 1: r or w may have entries in this run of slots */
    uint64_t fetched[TLB_FETCH_MARKS / 64]; /* hashed pages with fetch translations since fetch_gen changed */
    uint64_t
        fetch_gen; /* what was derived from fetch translations of this bank holds while this is unchanged */
    uint64_t jumps_gen; /* of the translator: the next two are valid while this is fetch_gen */
    void *jumps;        /* cache of jump targets by what was fetched through this bank, */
    uint64_t salt;      /* and what its tags are mixed with, the floating-point mode apart */
    uint64_t root;      /* satp (MODE and PPN, ASID cleared) the bank belongs to; 0 for bare */
    uint8_t view;
    uint8_t hart, index; /* whose bank, and which one of them */
    bool fetches;        /* x may have entries */
    bool in_use;         /* cleared once: what is not marked as used is empty */
    uint64_t last_use;
};

enum mmu_access { MMU_READ = 1, MMU_WRITE = 2, MMU_FETCH = 4, MMU_AMO = 3 };

/* Result of a translation of bytes within one page. */
struct mmu_target {
    uint64_t pa;
    uint8_t *host; /* NULL when pa is not RAM */
};

/* Counters of the mmu; one line each gives the field and its name in `stats`. read_fills, write_fills and
 * fetch_fills are entries of the first level, large_fills and page_fills those that came from the second.
 * code_stores and code_dma are changes of bytes in pages that an engine holds, by harts and by others. */
/* clang-format off */
#define MMU_COUNTERS(X) \
    X(walks) \
    X(read_fills) \
    X(write_fills) \
    X(fetch_fills) \
    X(tracked_stores) \
    X(pte_drops) \
    X(range_drops) \
    X(bank_flushes) \
    X(large_fills) \
    X(page_fills) \
    X(write_revokes) \
    X(code_stores) \
    X(code_dma) \
    X(mmio_loads) \
    X(mmio_stores)
/* clang-format on */

struct mmu_stats {
#define X(name) uint64_t name;
    MMU_COUNTERS(X)
#undef X
};

/* Creates the translation state of a machine with `nharts` harts over `ram` and `bus` (borrowed).
 * `max_levels` is 3, 4 or 5 (`mmu: sv39|sv48|sv57`): satp modes above it are not implemented. `no_tlb` never
 * caches a translation. */
int mmu_create(struct mmu **m, struct ram *ram, const struct bus *bus, struct hart *const *harts,
               unsigned nharts, unsigned max_levels, bool no_tlb);
void mmu_destroy(struct mmu *m);

/* The engine to notify; its invalidate() is called for stores into pages that an engine holds. */
void mmu_set_engine(struct mmu *m, const struct engine *e, void *engine);

unsigned mmu_max_levels(const struct mmu *m);
struct ram *mmu_ram(const struct mmu *m);
const struct mmu_stats *mmu_stats(const struct mmu *m);

/* Host address of `size` bytes at `va` by the first slots of the current bank, or NULL on a miss (also when
 * they cross a page).
 */
static inline uint8_t *mmu_hit_read(const struct hart *h, uint64_t va, unsigned size)
{
    const struct tlb_slot *s = &h->bank->r[(va >> PAGE_SHIFT) & (TLB_SLOTS - 1)].way[0];
    return s->tag == ((va + size - 1) & PAGE_MASK) ? (uint8_t *)(va + s->addend) : 0;
}
static inline uint8_t *mmu_hit_write(const struct hart *h, uint64_t va, unsigned size)
{
    const struct tlb_slot *s = &h->bank->w[(va >> PAGE_SHIFT) & (TLB_SLOTS - 1)].way[0];
    return s->tag == ((va + size - 1) & PAGE_MASK) ? (uint8_t *)(va + s->addend) : 0;
}

/* Host address of the 2 bytes at `va`, as by mmu_fetch() but from the hart's fetch bank alone; NULL if that
 * has not got them. To be called like mmu_refill(). */
const uint8_t *mmu_hit_fetch(struct hart *h, uint64_t va);

/* Moves what the hart's bank has for reading or writing the page of `va` to its first slot, or enters it
 * there from the second level, whatever lies at `va` in the page. False if there is no such entry, the page
 * may have none of its own, or it is there already. Uses no vector register and leaves the floating-point
 * environment alone: translated code calls it as it is. */
bool mmu_refill(struct hart *h, uint64_t va, bool write);

/* Full loads and stores of 1, 2, 4 or 8 bytes for the hart's current data view: any alignment, both pages of
 * a crossing access checked before a byte is written (tval names the failing part), MMIO (misaligned MMIO is
 * an access fault). On an exception: recorded in the hart, -EFAULT. Loads are zero-extended. */
int mmu_load(struct hart *h, uint64_t va, unsigned size, uint64_t *value);
int mmu_store(struct hart *h, uint64_t va, unsigned size, uint64_t value);

/* Translates for an access of `size` bytes that does not cross a page, setting A (and D for writes) as the
 * walk of an executing access does. -EFAULT with the exception recorded (MMU_AMO: load permission and store
 * permission, store/AMO fault codes). */
int mmu_translate(struct hart *h, uint64_t va, unsigned size, enum mmu_access access, struct mmu_target *t);

/* Memory outside RAM that instructions may be fetched from: `len` bytes at `base`, whole pages, borrowed,
 * constant while harts run. Data accesses there go to the bus. */
void mmu_set_rom(struct mmu *m, uint64_t base, uint8_t *host, uint64_t len);

/* Fetches: the host address of the 2 bytes at `va` (RAM and ROM only: execution from MMIO is an instruction
 * access fault) with the fetch bank's help, and their physical address. Each page of an instruction is
 * fetched when the instruction executes, in order. The answer holds for the whole page while the engine runs
 * this hart, until code_dirty is set or the privilege changes; what is kept longer holds while fetch_bank and
 * its fetch_gen stay the same. */
int mmu_fetch(struct hart *h, uint64_t va, struct mmu_target *t);

/* Writes to RAM at a translated physical address within one page: the path of every store that missed, of
 * AMO/SC/cbo.zero and the walker's A/D updates. Marks dirty, and on a tracked page drops derived entries and
 * code. `h` is the writer (NULL for DMA). */
void mmu_phys_store(struct mmu *m, struct hart *h, uint64_t pa, const void *bytes, unsigned len);

/* DMA by the crossing layer and boot loaders. -EFAULT (nothing copied) unless the whole range is RAM. */
int mmu_dma_read(struct mmu *m, uint64_t pa, void *dst, uint64_t len);
int mmu_dma_write(struct mmu *m, uint64_t pa, const void *src, uint64_t len);

/* An engine made something from bytes of this page: sets `holder` (PAGE_CODE or PAGE_DECODED) and revokes
 * write entries. mmu_release_code() clears it. */
void mmu_hold_code(struct mmu *m, uint64_t pa, enum page_attr holder);
void mmu_release_code(struct mmu *m, uint64_t pa, enum page_attr holder);

/* Selects the banks for the hart's current satp, privilege, SUM, MXR and MPRV; call after any of them
 * changed. */
void mmu_context_changed(struct hart *h);

/* Whether `satp` has a MODE that the machine implements: others are not written. */
bool mmu_satp_legal(const struct mmu *m, uint64_t satp);

/* In S-mode: writes satp and selects the banks, if all that this takes is known and valid, jumps_gen
 * included. False: nothing happened. To be called like mmu_refill(). */
bool mmu_switch_root(struct hart *h, uint64_t satp);

/* What the translator keeps in the banks of the hart is stale. */
void mmu_forget_jumps(struct hart *h);

/* PMP of the hart changed: forgets its banks. */
void mmu_pmp_changed(struct hart *h);

/* Forgets every cached translation of all harts (reboot, snapshot load). */
void mmu_flush(struct mmu *m);

/* Hash of RAM now; begins a new dirty epoch. */
uint64_t mmu_ram_hash(struct mmu *m);
