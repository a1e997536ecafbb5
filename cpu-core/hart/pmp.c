/* Physical memory protection, privileged specification section "Physical Memory Protection", with G = 10: the
 * grain is 4 KiB, so that a page is uniform and PMP folds into translation. Knows no CSR number and no
 * translation. */
#include "cpu-core/hart/internal.h"
#include "cpu-core/mmu/ram.h"

#define CFG_R 0x01
#define CFG_W 0x02
#define CFG_X 0x04
#define CFG_A 0x18
#define CFG_L 0x80

#define A_OFF   0x00
#define A_TOR   0x08
#define A_NA4   0x10
#define A_NAPOT 0x18

#define ADDR_BITS 54
#define ADDR_MASK ((1ull << ADDR_BITS) - 1)
#define GRAIN     10
#define ADDR_PAGE (PAGE_SHIFT - 2) /* pmpaddr counts 4-byte units */

bool pmp_set_cfg(struct hart *h, unsigned i, uint8_t cfg)
{
    if (h->pmpcfg[i] & CFG_L)
        return false;
    cfg &= CFG_R | CFG_W | CFG_X | CFG_A | CFG_L;
    if (!(cfg & CFG_R)) /* R = 0 with W = 1 is reserved */
        cfg &= (uint8_t)~CFG_W;
    if ((cfg & CFG_A) == A_NA4) /* not selectable when G >= 1 */
        cfg |= A_NAPOT;
    if (h->pmpcfg[i] == cfg)
        return false;
    h->pmpcfg[i] = cfg;
    return true;
}

bool pmp_set_addr(struct hart *h, unsigned i, uint64_t addr)
{
    if (h->pmpcfg[i] & CFG_L)
        return false;
    if (i + 1 < HART_PMP_ENTRIES && h->pmpcfg[i + 1] & CFG_L && (h->pmpcfg[i + 1] & CFG_A) == A_TOR)
        return false;
    addr &= ADDR_MASK;
    if (h->pmpaddr[i] == addr)
        return false;
    h->pmpaddr[i] = addr;
    return true;
}

uint64_t pmp_get_addr(const struct hart *h, unsigned i)
{
    if ((h->pmpcfg[i] & CFG_A) == A_NAPOT)
        return h->pmpaddr[i] | ((1ull << (GRAIN - 1)) - 1);
    return h->pmpaddr[i] & ~((1ull << GRAIN) - 1);
}

static void entry_range(const struct hart *h, unsigned i, uint64_t *first, uint64_t *last)
{
    uint64_t addr = h->pmpaddr[i];
    *first = 1;
    *last = 0;
    switch (h->pmpcfg[i] & CFG_A) {
    case A_TOR: {
        uint64_t from = i ? h->pmpaddr[i - 1] >> ADDR_PAGE : 0, to = addr >> ADDR_PAGE;
        if (from < to) {
            *first = from;
            *last = to - 1;
        }
        break;
    }
    case A_NAPOT: {
        uint64_t ones = addr | ((1ull << (GRAIN - 1)) - 1);
        uint64_t low = ones ^ (ones + 1); /* the trailing ones and the zero above them */
        *first = (ones & ~low & ADDR_MASK) >> ADDR_PAGE;
        *last = ((ones | low) & ADDR_MASK) >> ADDR_PAGE;
        break;
    }
    default:
        break;
    }
}

void pmp_derive(struct hart *h)
{
    h->pmp_used = 0;
    h->pmp_locked = false;
    h->pmp_near_first = 1; /* an empty interval */
    h->pmp_near_last = 0;
    for (unsigned i = 0; i < HART_PMP_ENTRIES; i++) {
        entry_range(h, i, &h->pmp_first[i], &h->pmp_last[i]);
        if (h->pmp_first[i] > h->pmp_last[i])
            continue;
        h->pmp_used = (uint8_t)(i + 1);
        h->pmp_locked |= (h->pmpcfg[i] & CFG_L) != 0;
    }
}

/* Finds the lowest-numbered entry that matches the page, and how far around it that entry (or none) decides.
 */
static void find_near(struct hart *h, uint64_t page)
{
    uint64_t first = 0, last = UINT64_MAX;
    h->pmp_near_cfg = 0;
    for (unsigned i = 0; i < h->pmp_used; i++) {
        if (h->pmp_first[i] > h->pmp_last[i])
            continue;
        if (page < h->pmp_first[i]) {
            last = last < h->pmp_first[i] ? last : h->pmp_first[i] - 1;
        } else if (page > h->pmp_last[i]) {
            first = first > h->pmp_last[i] ? first : h->pmp_last[i] + 1;
        } else {
            first = first > h->pmp_first[i] ? first : h->pmp_first[i];
            last = last < h->pmp_last[i] ? last : h->pmp_last[i];
            h->pmp_near_cfg = h->pmpcfg[i];
            break;
        }
    }
    h->pmp_near_first = first;
    h->pmp_near_last = last;
}

bool hart_pmp_allows(struct hart *h, uint64_t pa, unsigned access, unsigned priv)
{
    if (priv == PRIV_M && !h->pmp_locked)
        return true;
    uint64_t page = pa >> PAGE_SHIFT;
    if (page < h->pmp_near_first || page > h->pmp_near_last)
        find_near(h, page);
    return (h->pmp_near_cfg & access) == access || (priv == PRIV_M && !(h->pmp_near_cfg & CFG_L));
}
