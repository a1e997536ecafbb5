/* The state of one hart and everything that changes it by the rules of the privileged architecture: CSRs,
 * traps, interrupts, privilege, PMP. Knows the mmu only as the owner of address translation, and no device,
 * ring or engine. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct mmu;
struct vclock;
struct tlb_bank;
struct state_io;

#define HART_MAX         8
#define HART_GROUPS      3 /* translations of accesses that a translated block keeps in memory */
#define HART_PMP_ENTRIES 16

enum priv { PRIV_U = 0, PRIV_S = 1, PRIV_M = 3 };

/* Exception codes, privileged specification table "mcause values after trap". */
enum exception {
    EXC_INSN_MISALIGNED = 0,
    EXC_INSN_ACCESS = 1,
    EXC_ILLEGAL = 2,
    EXC_BREAKPOINT = 3,
    EXC_LOAD_MISALIGNED = 4,
    EXC_LOAD_ACCESS = 5,
    EXC_STORE_MISALIGNED = 6,
    EXC_STORE_ACCESS = 7,
    EXC_ECALL_U = 8,
    EXC_ECALL_S = 9,
    EXC_ECALL_M = 11,
    EXC_INSN_PAGE = 12,
    EXC_LOAD_PAGE = 13,
    EXC_STORE_PAGE = 15,
};

/* Bits of mip and mie. */
enum irq_bit {
    IRQ_SSIP = 1u << 1,
    IRQ_MSIP = 1u << 3,
    IRQ_STIP = 1u << 5,
    IRQ_MTIP = 1u << 7,
    IRQ_SEIP = 1u << 9,
    IRQ_MEIP = 1u << 11,
};

/* mstatus fields. */
#define MSTATUS_SIE  (1ull << 1)
#define MSTATUS_MIE  (1ull << 3)
#define MSTATUS_SPIE (1ull << 5)
#define MSTATUS_MPIE (1ull << 7)
#define MSTATUS_SPP  (1ull << 8)
#define MSTATUS_MPP  (3ull << 11)
#define MSTATUS_FS   (3ull << 13)
#define MSTATUS_MPRV (1ull << 17)
#define MSTATUS_SUM  (1ull << 18)
#define MSTATUS_MXR  (1ull << 19)
#define MSTATUS_TVM  (1ull << 20)
#define MSTATUS_TW   (1ull << 21)
#define MSTATUS_TSR  (1ull << 22)
#define MSTATUS_UXL  (3ull << 32)
#define MSTATUS_SXL  (3ull << 34)
#define MSTATUS_SD   (1ull << 63)

#define MENVCFG_FIOM  (1ull << 0)
#define MENVCFG_CBIE  (3ull << 4)
#define MENVCFG_CBCFE (1ull << 6)
#define MENVCFG_CBZE  (1ull << 7)
#define MENVCFG_ADUE  (1ull << 61)
#define MENVCFG_PBMTE (1ull << 62)
#define MENVCFG_STCE  (1ull << 63)

/* Why a hart does not execute. Waiting harts cost no steps. */
enum hart_wait {
    HART_RUNS = 0,
    HART_WFI, /* until an interrupt is pending in mip & mie, whatever mstatus says */
    HART_WRS, /* wrs.nto, wrs.sto: until the reservation is lost, an interrupt is pending, or (sto) the
                 deadline passes */
};

#define HART_VIEWS 5 /* enum tlb_view of mmu.h */

/* Hot fields first: a translator addresses them with short displacements. The state is guest-visible unless
 * the comment says otherwise; hart_state() lists what is hashed and saved, in its documented order. */
struct hart {
    uint64_t x[32]; /* x[0] is always 0 */
    uint64_t pc;    /* of the instruction that executes next (or now, inside a helper) */

    /* Step accounting of the running slice; not guest-visible as such. `limit` is the machine-wide icount at
     * which the slice ends and `left` the steps until then, so the number of completed steps is limit - left:
     * exact whenever C code outside the engine runs. hart_shorten() moves both. */
    uint64_t limit;
    int64_t left;

    struct tlb_bank *bank;       /* data accesses of the current view; not guest-visible; see mmu.h */
    struct tlb_bank *fetch_bank; /* instruction fetch of the current view (MPRV does not affect it) */

    struct tlb_bank *views[HART_VIEWS]; /* what each view of the current root has, so that translated code
                                           can change the privilege by itself; NULL: not known, ask the MMU */

    /* Of the translator, not guest-visible, set when it is entered: the virtual page that translated code
     * runs in, the cache of jump targets for fetch_bank, what their tags are mixed with, its private data,
     * and what the running block keeps of its accesses' translations. */
    uint64_t code_page;
    void *jumps;
    uint64_t jump_salt;
    uint64_t group_addend[HART_GROUPS], group_saved;
    void *translator;
    uint32_t f_loaded;         /* f[] is in host registers, and mstatus.FS is dirty */
    uint32_t mxcsr, mxcsr_now; /* the host's control register without flags; scratch for reading it */

    uint64_t f[32];
    uint32_t fflags; /* 5 bits */
    uint8_t frm;     /* 3 bits, as written: 5..7 are legal to hold and make rounding instructions illegal */
    uint8_t priv;
    uint8_t wait; /* enum hart_wait */
    uint8_t id;
    bool irq_ready;  /* an interrupt would be taken before the next instruction; recomputed by
                        hart_irq_update() */
    bool yield;      /* the quantum ends after this instruction: pause, wfi, wrs, IPI to another hart */
    bool code_dirty; /* code of the running block may have changed: the engine re-reads after this instruction
                      */

    uint64_t mstatus; /* SD is derived when read */
    uint64_t mip; /* what devices, timers and software set; SEIP as written by software is kept in seip_sw */
    uint64_t mie;
    bool seip_sw;
    bool seip_plic;

    uint64_t medeleg, mideleg;
    uint64_t mtvec, mepc, mcause, mtval, mscratch;
    uint64_t stvec, sepc, scause, stval, sscratch;
    uint64_t satp;
    uint64_t stimecmp, mtimecmp;
    uint64_t menvcfg, senvcfg;
    uint32_t mcounteren, scounteren, mcountinhibit;

    uint8_t pmpcfg[HART_PMP_ENTRIES];
    uint64_t pmpaddr[HART_PMP_ENTRIES]; /* as written, 54 bits */

    /* Derived from pmpcfg and pmpaddr, not guest-visible: the physical pages each entry matches, first > last
     * for none. */
    uint64_t pmp_first[HART_PMP_ENTRIES], pmp_last[HART_PMP_ENTRIES];
    uint64_t pmp_near_first,
        pmp_near_last;    /* pages around the last one checked that share its deciding entry */
    uint8_t pmp_near_cfg; /* configuration of that entry, 0 if no entry matches */
    uint8_t pmp_used;     /* entries beyond this index match nothing */
    bool pmp_locked;      /* some entry binds M-mode */

    /* Reservation of LR: physical address of the doubleword-aligned reservation set. Lost on SC, trap, hart
     * switch, and on a store by another hart or a device into the set. */
    uint64_t res_addr;
    bool res_valid;
    uint64_t wrs_deadline; /* virtual ns at which wrs.sto gives up */

    /* Counters: mcycle counts the machine's steps (the harts share one core), minstret this hart's retired
     * ones. */
    uint64_t steps;      /* steps of this hart up to the start of the slice */
    uint64_t slice_left; /* value of `left` when the slice began: steps in this slice = slice_left - left */
    uint64_t traps;      /* steps that trapped instead of retiring */
    uint64_t mcycle_off, minstret_off;
    uint64_t mcycle_stop, minstret_stop; /* raw values latched while mcountinhibit stops them */

    /* The exception raised by the access or instruction in progress; valid between its detection and
     * hart_trap(). */
    uint64_t exc_cause, exc_tval;

    /* Non-guest-visible wiring, constant after start. */
    struct mmu *mmu;
    struct vclock *clock;
    struct hart *const *harts; /* all harts of the machine, by id */
    unsigned nharts;
    const struct hart_hooks *hooks;
    void *hooks_arg;
};

/* What a hart asks of the machine around it. All are called with limit - left exact. */
struct hart_hooks {
    void (*stimecmp_changed)(void *arg, struct hart *h); /* stimecmp or menvcfg.STCE was written */
};

/* Sets the reset state of hart `id`: M-mode, pc = reset_pc, everything else as the privileged specification,
 * section "Reset", and QEMU's virt board have it (menvcfg.ADUE and PBMTE are 1). The wiring fields are kept.
 */
void hart_reset(struct hart *h, uint64_t reset_pc);

/* Completed machine-wide steps at this point of execution. */
static inline uint64_t hart_icount(const struct hart *h)
{
    return h->limit - (uint64_t)h->left;
}

/* Ends the running slice at icount `n` at the latest (n >= hart_icount(h) + 1 is not required: an earlier n
 * ends it after this instruction). Has no guest-visible effect by itself. */
void hart_shorten(struct hart *h, uint64_t n);

/* Raises exception `cause` with `tval` for the instruction in progress: records it and returns -EFAULT. */
int hart_raise(struct hart *h, enum exception cause, uint64_t tval);

/* Takes the recorded exception: the instruction at h->pc traps. Updates the trap CSRs, privilege, pc,
 * counters and bank, and clears the reservation. The step is counted by the engine. */
void hart_trap(struct hart *h);

/* Takes the highest-priority pending enabled interrupt, if any; returns true if one was taken. Not a step. */
bool hart_interrupt(struct hart *h);

/* Recomputes irq_ready, and wakes a hart whose wait ended. Call after any change of mip, mie, mideleg,
 * mstatus or priv. */
void hart_irq_update(struct hart *h);

/* Sets or clears bits of mip that hardware drives (MSIP, MTIP, MEIP, SEIP from the PLIC, STIP under Sstc). */
void hart_irq_line(struct hart *h, uint64_t bits, bool level);

/* CSR access by the instruction `insn` at h->pc, with the privilege, existence and WARL rules of the
 * specification. On an illegal access raises EXC_ILLEGAL and returns -EFAULT. `write` is false for
 * csrrs/csrrc with rs1 = x0, `read` is false for csrrw with rd = x0; `op` follows funct3 & 3: 1 write, 2 set,
 * 3 clear. `*old` receives the value read. */
int hart_csr(struct hart *h, uint32_t insn, unsigned csr, unsigned op, uint64_t operand, bool read,
             bool write, uint64_t *old);

/* CSR value as software would read it in M-mode; for tools and tests, no side effects. -ENOENT if there is no
 * such CSR. */
int hart_csr_peek(const struct hart *h, unsigned csr, uint64_t *value);

/* Name of a CSR, NULL if there is none of that number. Numbered groups (pmpaddr, mhpmcounter, mhpmevent)
 * share the stem. */
const char *hart_csr_name(unsigned csr);

/* xRET, WFI, SFENCE.VMA/SINVAL and friends: check privilege and apply; -EFAULT with the exception recorded.
 * mret and sret set h->pc. */
int hart_mret(struct hart *h, uint32_t insn);
int hart_sret(struct hart *h, uint32_t insn);
int hart_wfi(
    struct hart *h,
    uint32_t insn); /* pc is advanced by the caller; sets wait and yield unless something is pending */
int hart_wrs(struct hart *h, uint32_t insn, bool timeout);
int hart_sfence_check(struct hart *h, uint32_t insn); /* only traps where it must: caches are invisible */
int hart_cbo_check(struct hart *h, uint32_t insn,
                   unsigned op); /* 0 inval, 1 clean, 2 flush, 4 zero: envcfg rules */

/* mstatus.FS: true if floating-point instructions are legal. hart_fp_dirty() records a write of f, fflags or
 * frm. */
static inline bool hart_fp_on(const struct hart *h)
{
    return (h->mstatus & MSTATUS_FS) != 0;
}
static inline void hart_fp_dirty(struct hart *h)
{
    h->mstatus |= MSTATUS_FS;
}

/* PMP: access types as in pmpcfg bits (1 R, 2 W, 4 X). True if all bytes of the 4 KiB page of `pa` allow
 * `access` at privilege `priv` (grain is 4 KiB, so a page is uniform). */
bool hart_pmp_allows(struct hart *h, uint64_t pa, unsigned access, unsigned priv);

/* The privilege of loads and stores: MPRV applied. */
static inline unsigned hart_data_priv(const struct hart *h)
{
    return h->mstatus & MSTATUS_MPRV && h->priv == PRIV_M ? (unsigned)(h->mstatus & MSTATUS_MPP) >> 11
                                                          : h->priv;
}

/* Counters as software reads them at this point (N completed steps). */
uint64_t hart_mcycle(const struct hart *h);
uint64_t hart_minstret(const struct hart *h);

/* Bookkeeping around an engine run, called by the machine loop: begin grants `budget` steps from machine
 * icount `now`; end accounts for the steps taken and returns their number. */
void hart_slice_begin(struct hart *h, uint64_t now, uint64_t budget);
uint64_t hart_slice_end(struct hart *h);

/* Drops reservations of other harts (and, with h == NULL via the mmu, of all) that cover the written bytes.
 */
void hart_reservation_lost(struct hart *const *harts, unsigned n, const struct hart *writer, uint64_t pa,
                           unsigned len);

/* Visits every guest-visible field in the documented order. */
void hart_state(struct hart *h, struct state_io *io);
