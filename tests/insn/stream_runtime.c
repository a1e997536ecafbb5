/* The run-time part of a random program: trap handlers of M and S mode, block sequencing, digest and output.
 */
#include "tests/insn/stream.h"

#include <stddef.h>

enum { X0 = 0, X5 = 5, X6, X7, X8, X9, X10, X20 = 20, X31 = 31 };

/* CSR numbers. */
enum {
    FFLAGS_FCSR = 0x003,
    FRM = 0x002,
    STVEC = 0x105,
    SENVCFG = 0x10a,
    SSCRATCH = 0x140,
    SEPC,
    SCAUSE,
    STVAL,
    SIP,
    SSTATUS = 0x100,
    SATP = 0x180,
    MSTATUS = 0x300,
    MEDELEG = 0x302,
    MIDELEG,
    MIE,
    MTVEC,
    MENVCFG = 0x30a,
    MSCRATCH = 0x340,
    MEPC,
    MCAUSE,
    MTVAL,
    MIP,
    PMPCFG0 = 0x3a0,
    PMPADDR0 = 0x3b0,
};

/* A handler's context page: integer registers, floating-point registers and fcsr, then these. */
enum {
    CTX_F = 256,
    CTX_FCSR = 512,
    CTX_FOLDED = 520, /* end of what is folded */
    CTX_DIGEST = 520,
    CTX_FACTOR = 528,
    CTX_MASK = 536, /* of mstatus bits in the digest: all but FS, XS and SD */
    CTX_REPEATS = 544,
    CTX_START = 552,
    CTX_BLOCK = 560,
    CTX_LAST = 568,
    CTX_MSTATUS = 576,
};

#define STATUS_MASK 0x7e19aaull
#define FACTOR      0x9e3779b97f4a7c15ull

static void ld(struct stream *s, unsigned rd, int offset, unsigned base)
{
    stream_put(s, INSN_LD, rd, base, offset);
}

static void sd(struct stream *s, unsigned rs, int offset, unsigned base)
{
    stream_put(s, INSN_SD, base, rs, offset);
}

static void csrr(struct stream *s, unsigned rd, unsigned csr)
{
    stream_put(s, INSN_CSRRS, rd, X0, csr);
}

static void csrw(struct stream *s, unsigned csr, unsigned rs)
{
    stream_put(s, INSN_CSRRW, X0, rs, csr);
}

static uint32_t branch(struct stream *s, enum isa_op op, unsigned a, unsigned b)
{
    return stream_put(s, op, a, b, 0);
}

/* A branch emitted before goes here. */
static void here(struct stream *s, uint32_t at)
{
    stream_patch(s, at, ISA_FIELD_IMM_B, (int32_t)(s->pos - at));
}

static void branch_back(struct stream *s, enum isa_op op, unsigned a, unsigned b, uint32_t target)
{
    stream_put(s, op, a, b, (int)(target - s->pos));
}

static void align(struct stream *s)
{
    while (s->pos & 3)
        stream_put(s, INSN_C_ADDI, X0, X0, 0);
}

/* x6 = digest of x6 and x5, with the factor in x9; x7 is clobbered. */
static void fold(struct stream *s)
{
    stream_put(s, INSN_XOR, X6, X6, X5);
    stream_put(s, INSN_MUL, X6, X6, X9);
    stream_put(s, INSN_SRLI, X7, X6, 29);
    stream_put(s, INSN_XOR, X6, X6, X7);
}

/* Folds the doublewords from x10 on; x8 is the first beyond them. */
static void fold_range(struct stream *s)
{
    uint32_t loop = s->pos;

    ld(s, X5, 0, X10);
    fold(s);
    stream_put(s, INSN_ADDI, X10, X10, 8);
    branch_back(s, INSN_BNE, X10, X8, loop);
}

static const uint8_t saved[] = {X5, X6, X7, X9};

static void save(struct stream *s)
{
    for (unsigned i = 0; i < sizeof saved; i++)
        sd(s, saved[i], saved[i] * 8, X31);
    ld(s, X6, CTX_DIGEST, X31);
    ld(s, X9, CTX_FACTOR, X31);
}

/* Whether a trap ends a reservation is open: this ends it. */
static void drop_reservation(struct stream *s)
{
    stream_put(s, INSN_SC_D, X5, X31, X5);
}

/* The end of a handler: back to the interrupted code. */
static void leave(struct stream *s, unsigned scratch, enum isa_op ret)
{
    drop_reservation(s);
    for (unsigned i = 0; i < sizeof saved; i++)
        ld(s, saved[i], saved[i] * 8, X31);
    stream_put(s, INSN_CSRRW, X31, X31, scratch);
    stream_put(s, ret);
}

/* Folds cause, value, pc and status of a trap; the cause is in x5. */
static void fold_trap(struct stream *s, unsigned tval, unsigned epc, unsigned status)
{
    fold(s);
    csrr(s, X5, tval);
    fold(s);
    csrr(s, X5, epc);
    fold(s);
    csrr(s, X5, status);
    ld(s, X7, CTX_MASK, X31);
    stream_put(s, INSN_AND, X5, X5, X7);
    fold(s);
    sd(s, X6, CTX_DIGEST, X31);
}

/* Sets `epc` behind the instruction that trapped; behind the call where the fetch trapped. */
static void skip(struct stream *s, unsigned cause, unsigned tval, unsigned epc)
{
    uint32_t fetch_access, fetch_page, illegal, known, done;

    csrr(s, X5, cause);
    stream_put(s, INSN_ADDI, X6, X5, -1);
    fetch_access = branch(s, INSN_BEQ, X6, X0);
    stream_put(s, INSN_ADDI, X6, X5, -12);
    fetch_page = branch(s, INSN_BEQ, X6, X0);
    stream_put(s, INSN_ADDI, X6, X5, -2);
    csrr(s, X5, epc);
    illegal = branch(s, INSN_BEQ, X6, X0);
    stream_put(s, INSN_SLLI, X6, X5, 35); /* read the instruction by its S-mode or physical address */
    stream_put(s, INSN_SRLI, X6, X6, 35);
    stream_put(s, INSN_BSETI, X6, X6, 31);
    stream_put(s, INSN_LHU, X6, X6, 0);
    known = branch(s, INSN_BEQ, X0, X0);
    here(s, illegal);
    csrr(s, X6, tval);
    here(s, known);
    stream_put(s, INSN_ANDI, X6, X6, 3);
    stream_put(s, INSN_ADDI, X6, X6, -3);
    stream_put(s, INSN_SLTIU, X6, X6, 1);
    stream_put(s, INSN_SH1ADD, X5, X6, X5);
    stream_put(s, INSN_ADDI, X5, X5, 2);
    csrw(s, epc, X5);
    done = branch(s, INSN_BEQ, X0, X0);
    here(s, fetch_access);
    here(s, fetch_page);
    csrw(s, epc, REG_LINK);
    here(s, done);
}

static uint32_t emit_s_handler(struct stream *s)
{
    uint32_t entry, exception;

    align(s);
    entry = s->pos;
    stream_put(s, INSN_CSRRW, X31, X31, SSCRATCH);
    save(s);
    csrr(s, X5, SCAUSE);
    fold_trap(s, STVAL, SEPC, SSTATUS);
    csrr(s, X5, SCAUSE);
    exception = branch(s, INSN_BGE, X5, X0);
    stream_put(s, INSN_CSRRCI, X0, 2, SIP);
    leave(s, SSCRATCH, INSN_SRET);
    here(s, exception);
    skip(s, SCAUSE, STVAL, SEPC);
    leave(s, SSCRATCH, INSN_SRET);
    return entry;
}

/* Prints x6 as 16 digits and a newline. */
static void emit_print(struct stream *s)
{
    uint32_t loop, wait, letter;

    stream_put(s, INSN_LUI, X5, 0x10000);
    stream_put(s, INSN_ADDI, X9, X0, 17);
    loop = s->pos;
    wait = s->pos;
    stream_put(s, INSN_LBU, X7, X5, 5);
    stream_put(s, INSN_ANDI, X7, X7, 0x20);
    branch_back(s, INSN_BEQ, X7, X0, wait);
    stream_put(s, INSN_ADDI, X9, X9, -1);
    stream_put(s, INSN_SRLI, X7, X6, 60);
    stream_put(s, INSN_SLLI, X6, X6, 4);
    stream_put(s, INSN_SLTIU, X8, X7, 10);
    stream_put(s, INSN_ADDI, X7, X7, '0');
    letter = branch(s, INSN_BNE, X8, X0);
    stream_put(s, INSN_ADDI, X7, X7, 'a' - '0' - 10);
    here(s, letter);
    letter = branch(s, INSN_BNE, X9, X0);
    stream_put(s, INSN_ADDI, X7, X0, '\n');
    here(s, letter);
    stream_put(s, INSN_SB, X5, X7, 0);
    branch_back(s, INSN_BNE, X9, X0, loop);
}

static void fold_pages(struct stream *s, uint32_t from, uint32_t len)
{
    stream_address(s, X10, X8, STREAM_BASE + from);
    stream_li(s, X8, (int32_t)len);
    stream_put(s, INSN_ADD, X8, X10, X8);
    fold_range(s);
}

/* All blocks are done: the memory they wrote, then power off. */
static void emit_finish(struct stream *s)
{
    fold_pages(s, DATA_REGION + PAGE_FIRST * 4096, (PAGE_LAST + 1 - PAGE_FIRST) * 4096);
    emit_print(s);
    stream_put(s, INSN_LUI, X5, 0x100);
    stream_li(s, X6, 0x5555);
    stream_put(s, INSN_SW, X5, X6, 0);
    stream_put(s, INSN_JAL, X0, 0);
}

static void field(struct stream *s, unsigned rd, size_t offset)
{
    ld(s, rd, (int)offset, X20);
}

static void copy_ptes(struct stream *s, uint32_t to)
{
    uint32_t loop;

    stream_address(s, X5, X6, STREAM_BASE + to);
    stream_put(s, INSN_ADDI, X6, X5, PTE_ENTRIES * 8);
    loop = s->pos;
    ld(s, X7, 0, X10);
    sd(s, X7, 0, X5);
    stream_put(s, INSN_ADDI, X10, X10, 8);
    stream_put(s, INSN_ADDI, X5, X5, 8);
    branch_back(s, INSN_BNE, X5, X6, loop);
}

/* The last-level tables are entry 1 of either half of the table above. */
static void link_tables(struct stream *s)
{
    stream_address(s, X5, X6, STREAM_BASE + TABLE_L1);
    stream_address(s, X6, X7, STREAM_BASE + TABLE_L0_S);
    stream_put(s, INSN_SRLI, X6, X6, 2);
    stream_put(s, INSN_ORI, X6, X6, 1);
    sd(s, X6, 8, X5);
    stream_address(s, X6, X7, STREAM_BASE + TABLE_L0_U);
    stream_put(s, INSN_SRLI, X6, X6, 2);
    stream_put(s, INSN_ORI, X6, X6, 1);
    stream_li(s, X7, 2048);
    stream_put(s, INSN_ADD, X5, X5, X7);
    sd(s, X6, 8, X5);
}

/* Enters the block whose descriptor x20 points to. */
static void emit_enter_block(struct stream *s)
{
    static const struct {
        uint8_t reg;
        size_t offset;
    } registers[] = {{REG_STACK, offsetof(struct descriptor, stack)},
                     {REG_SPECIALS, offsetof(struct descriptor, specials)},
                     {REG_MASK, offsetof(struct descriptor, mask)},
                     {REG_DATA, offsetof(struct descriptor, data)}};

    stream_put(s, INSN_CSRRCI, X0, 2, MIP);
    field(s, X10, offsetof(struct descriptor, ptes));
    copy_ptes(s, TABLE_L0_S);
    copy_ptes(s, TABLE_L0_U);
    link_tables(s);
    for (unsigned i = 0; i < sizeof registers / sizeof *registers; i++) {
        field(s, X5, registers[i].offset);
        sd(s, X5, registers[i].reg * 8, X31);
    }
    field(s, X5, offsetof(struct descriptor, repeats));
    sd(s, X5, CTX_REPEATS, X31);
    field(s, X5, offsetof(struct descriptor, start));
    sd(s, X5, CTX_START, X31);
    field(s, X5, offsetof(struct descriptor, mstatus));
    sd(s, X5, CTX_MSTATUS, X31);
    field(s, X5, offsetof(struct descriptor, frm));
    csrw(s, FRM, X5);
    field(s, X5, offsetof(struct descriptor, medeleg));
    csrw(s, MEDELEG, X5);
    field(s, X5, offsetof(struct descriptor, menvcfg));
    csrw(s, MENVCFG, X5);
    field(s, X5, offsetof(struct descriptor, senvcfg));
    csrw(s, SENVCFG, X5);
    field(s, X5, offsetof(struct descriptor, satp));
    csrw(s, SATP, X5);
    stream_put(s, INSN_SFENCE_VMA, X0, X0);
    stream_put(s, INSN_FENCE_I);
}

/* Goes to the start of the block with all registers from the context. */
static void emit_resume_block(struct stream *s)
{
    drop_reservation(s);
    ld(s, X5, CTX_START, X31);
    csrw(s, MEPC, X5);
    ld(s, X5, CTX_MSTATUS, X31);
    csrw(s, MSTATUS, X5);
    ld(s, X5, X31 * 8, X31);
    csrw(s, MSCRATCH, X5);
    for (unsigned i = 1; i < X31; i++)
        ld(s, i, (int)i * 8, X31);
    stream_put(s, INSN_CSRRW, X31, X31, MSCRATCH);
    stream_put(s, INSN_MRET);
}

static void save_everything(struct stream *s)
{
    csrr(s, X5, MSCRATCH);
    sd(s, X5, X31 * 8, X31);
    for (unsigned i = 1; i < X31; i++)
        if (i < X5 || (i > X7 && i != X9))
            sd(s, i, (int)i * 8, X31);
    csrr(s, X5, MSTATUS);
    sd(s, X5, CTX_MSTATUS, X31);
    stream_li(s, X5, 0x6000);
    stream_put(s, INSN_CSRRS, X0, X5, MSTATUS);
    for (unsigned i = 0; i < 32; i++)
        stream_put(s, INSN_FSD, X31, i, CTX_F + (int)i * 8);
    csrr(s, X5, FFLAGS_FCSR);
    sd(s, X5, CTX_FCSR, X31);
}

/* A block has been executed once more. Every eighth time its registers are folded; the last time also the
 * page tables. */
static void emit_block_end(struct stream *s)
{
    uint32_t all, again, more;

    ld(s, X5, CTX_REPEATS, X31);
    stream_put(s, INSN_ADDI, X5, X5, -1);
    sd(s, X5, CTX_REPEATS, X31);
    stream_put(s, INSN_ANDI, X7, X5, 7);
    all = branch(s, INSN_BEQ, X7, X0);
    ld(s, X5, CTX_START, X31);
    csrw(s, MEPC, X5);
    leave(s, MSCRATCH, INSN_MRET);

    here(s, all);
    save_everything(s);
    stream_put(s, INSN_ADDI, X10, X31, 0);
    stream_put(s, INSN_ADDI, X8, X31, CTX_FOLDED);
    fold_range(s);
    stream_address(s, X10, X8, STREAM_BASE + CONTEXT_S);
    ld(s, X5, CTX_DIGEST, X10);
    fold(s);
    sd(s, X6, CTX_DIGEST, X31);
    ld(s, X5, CTX_REPEATS, X31);
    again = branch(s, INSN_BEQ, X5, X0);
    emit_resume_block(s);

    here(s, again);
    fold_pages(s, TABLE_L0_S, PTE_ENTRIES * 8);
    fold_pages(s, TABLE_L0_U, PTE_ENTRIES * 8);
    sd(s, X6, CTX_DIGEST, X31);
    emit_print(s);
    ld(s, X20, CTX_BLOCK, X31);
    stream_put(s, INSN_ADDI, X20, X20, sizeof(struct descriptor));
    sd(s, X20, CTX_BLOCK, X31);
    ld(s, X5, CTX_LAST, X31);
    ld(s, X6, CTX_DIGEST, X31);
    ld(s, X9, CTX_FACTOR, X31);
    more = branch(s, INSN_BNE, X20, X5);
    emit_finish(s);
    here(s, more);
    emit_enter_block(s);
    emit_resume_block(s);
}

static uint32_t emit_m_handler(struct stream *s)
{
    uint32_t entry, ecall;

    align(s);
    entry = s->pos;
    stream_put(s, INSN_CSRRW, X31, X31, MSCRATCH);
    save(s);
    csrr(s, X5, MCAUSE);
    stream_put(s, INSN_ADDI, X7, X5, -8);
    stream_put(s, INSN_SLTIU, X7, X7, 4);
    ecall = branch(s, INSN_BNE, X7, X0);
    fold_trap(s, MTVAL, MEPC, MSTATUS);
    skip(s, MCAUSE, MTVAL, MEPC);
    leave(s, MSCRATCH, INSN_MRET);
    here(s, ecall);
    emit_block_end(s);
    return entry;
}

static void emit_start(struct stream *s, uint32_t m_handler, uint32_t s_handler)
{
    stream_address(s, X5, X6, STREAM_BASE + m_handler);
    csrw(s, MTVEC, X5);
    stream_address(s, X5, X6, STREAM_BASE + s_handler);
    csrw(s, STVEC, X5);
    stream_address(s, X5, X6, STREAM_BASE + CONTEXT_S);
    csrw(s, SSCRATCH, X5);
    stream_address(s, X31, X6, STREAM_BASE + CONTEXT_M);
    csrw(s, MSCRATCH, X31);
    stream_li(s, X5, -1);
    csrw(s, PMPADDR0, X5);
    stream_li(s, X5, 0x1f);
    csrw(s, PMPCFG0, X5);
    stream_li(s, X5, 2);
    csrw(s, MIDELEG, X5);
    csrw(s, MIE, X5);
    stream_li(s, X5, 0x6000);
    csrw(s, MSTATUS, X5);
    stream_address(s, X5, X6, STREAM_BASE + DATA_REGION + PAGE_SPECIALS * 4096);
    for (unsigned i = 0; i < 32; i++) {
        stream_put(s, INSN_FLD, i, X5, (int)i * 8);
        ld(s, X6, (int)i * 8, X5);
        if (i > 0)
            sd(s, X6, (int)i * 8, X31);
    }
    ld(s, X20, CTX_BLOCK, X31);
    emit_enter_block(s);
    emit_resume_block(s);
}

/* Values at which arithmetic changes its behaviour, then random ones. */
static uint64_t special(struct stream *s)
{
    static const uint64_t values[] = {0,
                                      1,
                                      ~0ull,
                                      1ull << 63,
                                      ~0ull >> 1,
                                      0x80000000,
                                      0x7fffffff,
                                      0xffffffff80000000,
                                      0x3ff0000000000000,
                                      0xbff0000000000000,
                                      0x7ff0000000000000,
                                      0xfff0000000000000,
                                      0x7ff8000000000000,
                                      0x7ff0000000000001,
                                      0x000fffffffffffff,
                                      0x0010000000000000,
                                      0x7fefffffffffffff,
                                      0x43e0000000000000,
                                      0xc3e0000000000000,
                                      0x41dfffffffc00000,
                                      0xffffffff3f800000,
                                      0xffffffff7f800000,
                                      0xffffffffff800000,
                                      0xffffffff7f800001,
                                      0xffffffff7fc00000,
                                      0xffffffff00000001,
                                      0xffffffff007fffff,
                                      0xffffffff00800000,
                                      0xffffffff7f7fffff,
                                      0xffffffff4f000000,
                                      0xffffffffffff7c00,
                                      0xffffffffffff7c01,
                                      0xffffffffffff0001,
                                      0xffffffffffff7bff};
    uint64_t r = stream_random(s);

    switch (stream_below(s, 6)) {
    case 0:
        return values[stream_below(s, sizeof values / sizeof *values)] ^
               (stream_one_in(s, 4) ? 1ull << 63 : 0);
    case 1: /* double with a moderate exponent */
        return (r & 0x800fffffffffffff) | (uint64_t)(1023 - 40 + stream_below(s, 80)) << 52;
    case 2: /* boxed single */
        return 0xffffffff00000000 | (r & 0x807fffff) | (127u - 30 + stream_below(s, 60)) << 23;
    case 3: /* few significant bits */
        return (r & 0xff) << stream_below(s, 57);
    case 4:
        return (uint64_t)(int64_t)(int32_t)r;
    default:
        return r;
    }
}

/* A random last-level entry for page `page` of the region. Patch pages map only patch pages, so that
 * whatever is mapped there may be executed, and never the same one (DIFFERENCES.md). */
uint64_t stream_pte(struct stream *s, unsigned page, bool user)
{
    bool code = page >= PAGE_PATCH;
    unsigned target =
        code ? page + 2 * stream_below(s, 2) : PAGE_FIRST + stream_below(s, PAGE_LAST - PAGE_FIRST + 1);
    uint64_t ppn, flags = 0xcf; /* D A X W R V */

    if (!stream_one_in(s, 3))
        target = page;
    ppn = (STREAM_BASE + DATA_REGION) / 4096 + target;
    if (stream_one_in(s, 4))
        flags &= ~(1ull << stream_below(s, 8)); /* one permission, V, A or D less */
    if (stream_one_in(s, 3))
        flags &= ~0xc0ull;
    if (stream_one_in(s, 8))
        flags &= stream_random(s);
    flags = stream_one_in(s, 12) ? flags ^ (user ? 0 : 0x10) : flags | (user ? 0x10 : 0);
    if (stream_one_in(s, 40))
        flags |= 1ull << (54 + stream_below(s, 10));
    if (!(flags & 4)) /* DIFFERENCES.md: atomic operations on read-only pages */
        flags |= 0x40;
    if (flags >> 63) /* DIFFERENCES.md: reserved NAPOT sizes */
        flags |= 0xc0;
    return ppn << 10 | flags;
}

#define LEAF_RX 0xcbu /* V R X A D */
#define LEAF_RW 0xc7u
#define LEAF_U  0x10u

static uint64_t leaf(uint32_t offset, uint64_t flags)
{
    return (STREAM_BASE + offset) >> 2 | flags;
}

static unsigned pool_page(unsigned i)
{
    if (i < PTE_POOL_DATA)
        return PAGE_FIRST + i % (PAGE_LAST + 1 - PAGE_FIRST);
    return i < PTE_POOL_PATCH1 ? PAGE_PATCH : PAGE_PATCH + 1;
}

static void fill_last_level(struct stream *s, uint32_t table, bool user)
{
    stream_store64(s, table + PTE_SELF * 8, leaf(table, LEAF_RW | (user ? LEAF_U : 0)));
    for (unsigned i = 0; i < PTE_POOL_SIZE; i++)
        stream_store64(s, table + PTE_POOL + i * 8, stream_pte(s, pool_page(i), user));
}

/* Code and handler state are mapped by large pages. */
static void fill_tables(struct stream *s)
{
    stream_store64(s, TABLE_ROOT57, leaf(TABLE_ROOT48, 1));
    stream_store64(s, TABLE_ROOT48, leaf(TABLE_ROOT39, 1));
    stream_store64(s, TABLE_ROOT39 + 2 * 8, leaf(TABLE_L1, 1));
    stream_store64(s, TABLE_L1, leaf(0, LEAF_RX));
    stream_store64(s, TABLE_L1 + 2 * 8, leaf(CONTEXT_M, LEAF_RW));
    stream_store64(s, TABLE_L1 + 256 * 8, leaf(0, LEAF_RX | LEAF_U));
    fill_last_level(s, TABLE_L0_S, false);
    fill_last_level(s, TABLE_L0_U, true);
}

void stream_runtime(struct stream *s, unsigned blocks)
{
    uint32_t jump, m_handler, s_handler;

    jump = stream_put(s, INSN_JAL, X0, 0);
    m_handler = emit_m_handler(s);
    s_handler = emit_s_handler(s);
    stream_patch(s, jump, ISA_FIELD_IMM_J, (int32_t)(s->pos - jump));
    emit_start(s, m_handler, s_handler);

    fill_tables(s);
    stream_store64(s, CONTEXT_M + CTX_FACTOR, FACTOR);
    stream_store64(s, CONTEXT_S + CTX_FACTOR, FACTOR);
    stream_store64(s, CONTEXT_M + CTX_MASK, STATUS_MASK);
    stream_store64(s, CONTEXT_S + CTX_MASK, STATUS_MASK);
    stream_store64(s, CONTEXT_M + CTX_BLOCK, STREAM_BASE + DESCRIPTORS);
    stream_store64(s, CONTEXT_M + CTX_LAST, STREAM_BASE + DESCRIPTORS + blocks * sizeof(struct descriptor));
    for (unsigned i = 0; i < 512; i++)
        stream_store64(s, DATA_REGION + PAGE_SPECIALS * 4096 + i * 8, special(s));
    for (unsigned i = 0; i < (PAGE_LAST + 1 - PAGE_FIRST) * 512; i++)
        stream_store64(s, DATA_REGION + PAGE_FIRST * 4096 + i * 8, special(s));
    for (unsigned i = 0; i < 4 * 4096; i += 2) { /* c.jr x27 */
        s->image[DATA_REGION + PAGE_PATCH * 4096 + i] = 0x82;
        s->image[DATA_REGION + PAGE_PATCH * 4096 + i + 1] = 0x8d;
    }
}
