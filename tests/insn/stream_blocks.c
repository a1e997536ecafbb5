/* Random blocks: units of one instruction, or of a few that set up the interesting one, chosen by the weights
 * of the instruction table and by the rules below for what needs a context. */
#include "tests/insn/stream.h"

#include <stddef.h>
#include <string.h>

#define BLOCK_UNITS 70u

enum {
    CSR_FFLAGS = 0x001,
    CSR_FRM,
    CSR_FCSR,
    CSR_SSTATUS = 0x100,
    CSR_SIE = 0x104,
    CSR_STVEC,
    CSR_SCOUNTEREN,
    CSR_SENVCFG = 0x10a,
    CSR_SSCRATCH = 0x140,
    CSR_SEPC,
    CSR_SCAUSE,
    CSR_STVAL,
    CSR_SIP,
    CSR_SATP = 0x180,
    CSR_MSTATUS = 0x300,
    CSR_MEDELEG = 0x302,
    CSR_MIDELEG,
    CSR_MIE,
    CSR_MTVEC,
    CSR_MCOUNTEREN,
    CSR_MENVCFG = 0x30a,
    CSR_MSCRATCH = 0x340,
    CSR_MEPC,
    CSR_MCAUSE,
    CSR_MTVAL,
    CSR_MIP,
    CSR_CYCLE = 0xc00,
};

#define STATUS_SIE  0x2u
#define STATUS_SPIE 0x20u
#define STATUS_SPP  0x100u
#define STATUS_MPP  0x1800u
#define STATUS_FS   0x6000u
#define STATUS_MPRV 0x20000u
#define STATUS_SUM  0x40000u
#define STATUS_MXR  0x80000u
#define STATUS_TVM  0x100000u
#define STATUS_TW   0x200000u
#define STATUS_TSR  0x400000u

static bool reserved(unsigned reg)
{
    return reg == 0 || reg == REG_STACK || reg >= REG_SCRATCH2;
}

static unsigned any_reg(struct stream *s)
{
    unsigned r;

    do
        r = stream_below(s, 32);
    while (reserved(r));
    return r;
}

static bool writes_x(const struct insn *in)
{
    const struct isa_info *info = &isa_table[in->op];

    return info->noperands > 0 && info->operands[0].target == ISA_TARGET_RD &&
           isa_fields[info->operands[0].field].kind == 'x';
}

/* Random operands for a line of the table, such that no constant register is written. */
static uint32_t random_bits(struct stream *s, unsigned line, struct insn *in)
{
    const struct isa_info *info = &isa_table[line];
    uint32_t bits;

    do
        bits = (info->match | ((uint32_t)stream_random(s) & ~info->mask)) & (info->len == 2 ? 0xffffu : ~0u);
    while (isa_decode(bits, in) != 0 || in->line != line ||
           (writes_x(in) && reserved(in->rd) && in->rd != 0));
    return bits;
}

static uint32_t position(const struct stream *s)
{
    return s->pos;
}

/* Branches over some of the following units. */

static void add_fixup(struct stream *s, uint32_t at, uint32_t from, int32_t bias, unsigned field)
{
    struct fixup *f = &s->fixups[s->nfixups++];

    *f = (struct fixup){at, from, bias, field, 1 + stream_below(s, 3)};
}

/* A unit is complete: offsets that end here, or would not fit later, are placed. */
static void unit_done(struct stream *s, bool last)
{
    for (unsigned i = 0; i < s->nfixups;) {
        struct fixup *f = &s->fixups[i];
        if (--f->units > 0 && !last && s->pos - f->from < 120) {
            i++;
            continue;
        }
        stream_patch(s, f->at, f->field, (int32_t)(s->pos - f->from) - f->bias);
        *f = s->fixups[--s->nfixups];
    }
}

static unsigned offset_field(unsigned line)
{
    const struct isa_info *info = &isa_table[line];

    return info->operands[info->noperands - 1].field;
}

static void unit_branch(struct stream *s, unsigned line)
{
    struct insn in;
    uint32_t bits = random_bits(s, line, &in);
    uint32_t at = stream_bits(s, bits);

    add_fixup(s, at, at, 0, offset_field(line));
}

/* An indirect jump through a register that gets the address first. */
static void unit_jump_register(struct stream *s, unsigned line)
{
    struct insn in;
    uint32_t bits, auipc, addi;
    int32_t bias;

    do
        bits = random_bits(s, line, &in);
    while (reserved(in.rs1));
    bias = in.imm;
    auipc = stream_put(s, INSN_AUIPC, in.rs1, 0);
    if (bias < -1800 || bias > 1800) {
        bias = (int32_t)stream_below(s, 64) - 32;
        bits = isa_place(bits, ISA_FIELD_IMM_I, bias);
    }
    addi = stream_put(s, INSN_ADDI, in.rs1, in.rs1, 0);
    stream_bits(s, bits);
    add_fixup(s, addi, auipc, bias, ISA_FIELD_IMM_I);
}

static void unit_jump(struct stream *s, unsigned line)
{
    if (isa_table[line].base == INSN_JALR)
        unit_jump_register(s, line);
    else
        unit_branch(s, line);
}

/* A loop of a few integer instructions. */
static void unit_loop(struct stream *s)
{
    static const uint16_t body[] = {INSN_ADD,  INSN_XOR, INSN_MUL, INSN_C_ADDI,
                                    INSN_SRLI, INSN_SUB, INSN_C_MV};
    struct insn in;
    uint32_t start;

    stream_put(s, INSN_ADDI, REG_SCRATCH, 0, 1 + (int)stream_below(s, 6));
    start = position(s);
    for (unsigned n = 1 + stream_below(s, 3); n > 0; n--)
        stream_bits(s, random_bits(s, body[stream_below(s, sizeof body / sizeof *body)], &in));
    stream_put(s, INSN_ADDI, REG_SCRATCH, REG_SCRATCH, -1);
    stream_put(s, INSN_BNE, REG_SCRATCH, 0, (int)(start - position(s)));
}

/* Memory. */

/* Makes `reg` an address whose sum with `imm` is in the data: anywhere, or at a page edge, aligned to `size`
 * if asked for. */
static void set_address(struct stream *s, unsigned reg, int32_t imm, unsigned size, bool aligned)
{
    if (stream_one_in(s, 4)) {
        stream_put(s, INSN_ANDI, reg, reg, 15);
        stream_li(s, REG_SCRATCH, (int32_t)(1 + stream_below(s, 15)) * 4096 - 8 - imm);
        stream_put(s, INSN_ADD, reg, reg, REG_SCRATCH);
    } else {
        stream_put(s, INSN_AND, reg, reg, REG_MASK);
    }
    if (aligned && size > 1)
        stream_put(s, INSN_ANDI, reg, reg, -(int)size);
    stream_put(s, INSN_ADD, reg, reg, REG_DATA);
}

static bool is_store(unsigned cls)
{
    return cls == ISA_CLASS_STORE || cls == ISA_CLASS_FSTORE;
}

static void unit_memory(struct stream *s, unsigned line)
{
    unsigned cls = isa_table[line].cls;
    struct insn in;
    uint32_t bits;

    for (;;) {
        bits = random_bits(s, line, &in);
        if (in.rs1 == REG_STACK || in.rs1 == REG_DATA || (in.rs1 == REG_SPECIALS && !is_store(cls)))
            break;
        if (reserved(in.rs1))
            continue;
        set_address(s, in.rs1, in.imm, isa_table[line].size, stream_one_in(s, 2));
        break;
    }
    stream_bits(s, bits);
}

/* Loads a constant worth computing with. */
static void unit_special(struct stream *s)
{
    int offset = (int)(stream_below(s, 510) * 8) - 2048;

    if (stream_one_in(s, 2))
        stream_put(s, INSN_LD, any_reg(s), REG_SPECIALS, offset);
    else
        stream_put(s, INSN_FLD, stream_below(s, 32), REG_SPECIALS, offset);
}

/* An aligned access to where there is nothing, in bare mode to memory. */
static void unit_nothing(struct stream *s)
{
    static const enum isa_op ops[] = {INSN_LW, INSN_LD,  INSN_LBU,      INSN_SD,
                                      INSN_SH, INSN_FLD, INSN_AMOADD_W, INSN_AMOSWAP_D};
    enum isa_op op = ops[stream_below(s, sizeof ops / sizeof *ops)];
    unsigned reg = any_reg(s);

    stream_put(s, INSN_ANDI, reg, reg, 0x7f8);
    stream_put(s, INSN_ADD, reg, reg, REG_DATA);
    stream_li(s, REG_SCRATCH, (int32_t)(PAGE_NOTHING - PAGE_DATA) * 4096);
    stream_put(s, INSN_ADD, reg, reg, REG_SCRATCH);
    if (isa_table[op].cls == ISA_CLASS_AMO)
        stream_put(s, op, any_reg(s), reg, any_reg(s));
    else if (is_store(isa_table[op].cls))
        stream_put(s, op, reg, any_reg(s), 0);
    else
        stream_put(s, op, any_reg(s), reg, 0);
}

static void unit_amo(struct stream *s, unsigned line)
{
    struct insn in;
    uint32_t bits;

    do
        bits = random_bits(s, line, &in);
    while (reserved(in.rs1));
    set_address(s, in.rs1, 0, isa_table[line].size, !stream_one_in(s, 16));
    stream_bits(s, bits);
}

/* Load-reserved and store-conditional to one address; now and then a second store-conditional, which fails.
 */
static void unit_reserve(struct stream *s)
{
    bool wide = stream_one_in(s, 2);
    unsigned address = any_reg(s), value = any_reg(s);

    set_address(s, address, 0, 8, true);
    stream_put(s, wide ? INSN_LR_D : INSN_LR_W, REG_SCRATCH, address);
    stream_put(s, INSN_ADD, REG_SCRATCH, REG_SCRATCH, value);
    stream_put(s, wide ? INSN_SC_D : INSN_SC_W, REG_SCRATCH2, address, REG_SCRATCH);
    if (stream_one_in(s, 3))
        stream_put(s, wide ? INSN_SC_D : INSN_SC_W, any_reg(s), address, value);
}

static void unit_cbo(struct stream *s)
{
    static const enum isa_op ops[] = {INSN_CBO_INVAL, INSN_CBO_CLEAN, INSN_CBO_FLUSH, INSN_CBO_ZERO};
    unsigned reg = any_reg(s);

    set_address(s, reg, 0, 1, false);
    stream_put(s, ops[stream_below(s, 4)], reg);
}

/* CSRs. */

struct csr_rule {
    uint16_t csr;
    uint32_t bits; /* that may be written */
    bool masked;   /* what is read has bits that may differ: FS, SD */
};

static const struct csr_rule csrs_u[] = {
    {CSR_FFLAGS, ~0u, false}, {CSR_FRM, ~0u, false}, {CSR_FCSR, ~0u, false}, {CSR_FCSR, 0x7f, false}};
static const struct csr_rule csrs_s[] = {{CSR_SEPC, ~1u, false},
                                         {CSR_SCAUSE, 0x3f, false},
                                         {CSR_STVAL, ~0u, false},
                                         {CSR_SCOUNTEREN, 7, false},
                                         {CSR_SENVCFG, 0xc0, false},
                                         {CSR_SIE, 2, false},
                                         {CSR_SIP, 2, false},
                                         {CSR_SSTATUS, STATUS_SUM | STATUS_MXR | STATUS_SIE, true},
                                         {CSR_SSTATUS, STATUS_SPP | STATUS_SPIE | STATUS_FS, true}};
static const struct csr_rule csrs_m[] = {
    {CSR_MEPC, ~1u, false},
    {CSR_MCAUSE, 0x3f, false},
    {CSR_MTVAL, ~0u, false},
    {CSR_MCOUNTEREN, 7, false},
    {CSR_MEDELEG, 0, false},
    {CSR_MIDELEG, 0, false},
    {CSR_MSTATUS, STATUS_MPRV | STATUS_MPP | STATUS_SUM | STATUS_MXR, true},
    {CSR_MSTATUS, STATUS_MPRV | STATUS_FS | STATUS_SIE, true}};

static const struct csr_rule *pick_csr(struct stream *s)
{
    unsigned set = stream_below(s, 3);

    if (set == 1 && s->mode != MODE_U)
        return &csrs_s[stream_below(s, sizeof csrs_s / sizeof *csrs_s)];
    if (set == 2 && s->mode == MODE_M)
        return &csrs_m[stream_below(s, sizeof csrs_m / sizeof *csrs_m)];
    if (stream_one_in(s, 10)) /* what the mode may not touch, or has no right to write */
        return &csrs_m[stream_below(s, 2)];
    return &csrs_u[stream_below(s, sizeof csrs_u / sizeof *csrs_u)];
}

static void unit_csr(struct stream *s)
{
    static const enum isa_op by_register[] = {INSN_CSRRW, INSN_CSRRS, INSN_CSRRC};
    static const enum isa_op by_constant[] = {INSN_CSRRWI, INSN_CSRRSI, INSN_CSRRCI};
    const struct csr_rule *rule = pick_csr(s);
    unsigned kind = stream_below(s, 3), rd = stream_one_in(s, 4) ? 0 : any_reg(s);

    if (rule->bits == 0) /* read only */
        kind = 1 + kind % 2;
    if (rule->masked) { /* read-modify-write of the permitted bits; only those are kept of what is read */
        stream_li(s, REG_SCRATCH, (int32_t)(rule->bits & (uint32_t)stream_random(s)));
        stream_put(s, by_register[1 + kind % 2], REG_SCRATCH2, REG_SCRATCH, rule->csr);
        stream_li(s, REG_SCRATCH, (int32_t)(rule->bits & ~STATUS_FS));
        stream_put(s, INSN_AND, REG_SCRATCH2, REG_SCRATCH2, REG_SCRATCH);
        stream_put(s, INSN_ADDI, rd, REG_SCRATCH2, 0);
    } else if (stream_one_in(s, 2)) {
        stream_put(s, by_constant[kind], rd, stream_below(s, 32) & rule->bits, rule->csr);
    } else {
        stream_li(s, REG_SCRATCH, (int32_t)(rule->bits & (uint32_t)stream_random(s)));
        stream_put(s, by_register[kind], rd, stream_one_in(s, 4) ? 0 : REG_SCRATCH, rule->csr);
    }
}

/* What the handlers rely on, another value for the time of one instruction. */
static void unit_swap(struct stream *s)
{
    static const uint16_t csrs[] = {CSR_STVEC, CSR_SSCRATCH, CSR_MTVEC, CSR_MSCRATCH};
    uint16_t csr = csrs[stream_below(s, s->mode == MODE_M ? 4 : 2)];

    if (s->mode == MODE_U)
        return;
    stream_put(s, INSN_CSRRW, REG_SCRATCH2, any_reg(s), csr);
    stream_put(s, INSN_CSRRW, stream_one_in(s, 4) ? 0 : any_reg(s), REG_SCRATCH2, csr);
}

/* One of cycle, time and instret twice: no value is the same anywhere else, but it does not go back. */
static void unit_counter(struct stream *s)
{
    unsigned csr = CSR_CYCLE + stream_below(s, 3), rd = any_reg(s);

    stream_put(s, INSN_CSRRS, REG_SCRATCH, 0, csr);
    stream_put(s, INSN_CSRRS, REG_SCRATCH2, 0, csr);
    stream_put(s, INSN_SLTU, rd, REG_SCRATCH2, REG_SCRATCH);
    stream_put(s, INSN_ADDI, REG_SCRATCH, 0, 0);
    stream_put(s, INSN_ADDI, REG_SCRATCH2, 0, 0);
}

/* Dynamic rounding with each mode, the reserved ones less often. */
static void unit_frm(struct stream *s)
{
    stream_put(s, INSN_CSRRWI, 0, stream_one_in(s, 8) ? 5 + stream_below(s, 3) : stream_below(s, 5), CSR_FRM);
}

/* Privileged instructions. */

/* mret or sret to the next unit, in the same mode where the mode has the right to it. */
static void unit_return(struct stream *s)
{
    bool m = s->mode == MODE_M;
    uint32_t auipc = stream_put(s, INSN_AUIPC, REG_SCRATCH, 0);
    uint32_t addi = stream_put(s, INSN_ADDI, REG_SCRATCH, REG_SCRATCH, 0);

    if (s->mode != MODE_U) {
        stream_put(s, INSN_CSRRW, 0, REG_SCRATCH, m ? CSR_MEPC : CSR_SEPC);
        stream_li(s, REG_SCRATCH, m ? STATUS_MPP : STATUS_SPP);
        stream_put(s, INSN_CSRRS, 0, REG_SCRATCH, m ? CSR_MSTATUS : CSR_SSTATUS);
    }
    stream_put(s, m || (s->mode == MODE_U && stream_one_in(s, 2)) ? INSN_MRET : INSN_SRET);
    stream_patch(s, addi, ISA_FIELD_IMM_I, (int32_t)(position(s) - auipc));
}

static void unit_fence_vma(struct stream *s)
{
    switch (stream_below(s, s->mode == MODE_U ? 2 : 4)) {
    case 0:
        stream_put(s, INSN_SFENCE_VMA, stream_one_in(s, 2) ? 0 : REG_DATA,
                   stream_one_in(s, 2) ? 0 : any_reg(s));
        break;
    case 1:
        stream_put(s, INSN_SINVAL_VMA, stream_one_in(s, 2) ? 0 : REG_DATA,
                   stream_one_in(s, 2) ? 0 : any_reg(s));
        break;
    case 2:
        stream_put(s, INSN_SFENCE_W_INVAL);
        break;
    default:
        stream_put(s, INSN_SFENCE_INVAL_IR);
    }
}

/* In M-mode with an interrupt pending that is not taken there; elsewhere only where it is illegal. */
static void unit_wfi(struct stream *s)
{
    while ((s->pos & 4095) >= 4092 - 8) /* DIFFERENCES.md: wfi at the end of a page */
        stream_put(s, INSN_C_ADDI, 0, 0, 0);
    if (s->mode == MODE_M) {
        stream_put(s, INSN_CSRRSI, 0, 2, CSR_MIP);
        stream_put(s, INSN_CSRRSI, 0, 2, CSR_MIE);
        stream_put(s, INSN_WFI);
        stream_put(s, INSN_CSRRCI, 0, 2, CSR_MIP);
    } else if (s->mode == MODE_U) {
        stream_put(s, INSN_WFI);
    }
}

static void unit_system(struct stream *s)
{
    switch (stream_below(s, 8)) {
    case 0:
        stream_put(s, INSN_EBREAK);
        break;
    case 1:
        stream_put(s, INSN_C_EBREAK);
        break;
    case 2:
        unit_return(s);
        break;
    case 3:
        unit_wfi(s);
        break;
    case 4:
        stream_put(s, s->tw || stream_one_in(s, 2) ? INSN_WRS_STO : INSN_WRS_NTO);
        break;
    case 5: /* a software interrupt, taken at once if S-mode's are enabled */
        if (s->mode == MODE_S)
            stream_put(s, INSN_CSRRSI, 0, 2, CSR_SIP);
        break;
    default:
        unit_fence_vma(s);
    }
}

static uint64_t random_satp(struct stream *s)
{
    static const uint32_t roots[] = {TABLE_ROOT39, TABLE_ROOT48, TABLE_ROOT57};
    unsigned depth = stream_below(s, 3);

    return (uint64_t)(8 + depth) << 60 | (uint64_t)stream_below(s, 4) << 44 |
           (STREAM_BASE + roots[depth]) >> 12;
}

/* Another table depth or address-space number for the same mapping, or none. */
static void unit_satp(struct stream *s)
{
    uint64_t satp = random_satp(s);

    if (s->mode != MODE_S)
        return;
    stream_li(s, REG_SCRATCH, (int32_t)(satp >> 44));
    stream_put(s, INSN_SLLI, REG_SCRATCH, REG_SCRATCH, 44);
    stream_li(s, REG_SCRATCH2, (int32_t)(satp & 0xfffff));
    stream_put(s, INSN_ADD, REG_SCRATCH, REG_SCRATCH, REG_SCRATCH2);
    stream_put(s, INSN_CSRRW, 0, stream_one_in(s, 8) ? 0 : REG_SCRATCH, CSR_SATP);
    if (s->fences)
        stream_put(s, INSN_SFENCE_VMA, 0, 0);
}

/* Page tables and code that change. */

/* Address of a last-level table plus PTE_POOL, by the block's addresses, in REG_SCRATCH. */
static bool table_address(struct stream *s)
{
    uint32_t table = stream_one_in(s, 2) ? TABLE_L0_S : TABLE_L0_U;
    int32_t distance = (int32_t)(table - (DATA_REGION + PAGE_DATA * 4096));

    if (s->mode == MODE_U || stream_one_in(s, 3))
        distance = (int32_t)(PTE_SELF - PAGE_DATA) * 4096; /* where the table maps itself */
    if (s->mode == MODE_M)
        distance = (int32_t)(table - (DATA_REGION + PAGE_DATA * 4096));
    if (s->mode == MODE_U && s->fences)
        return false; /* there is no fence in U-mode */
    stream_li(s, REG_SCRATCH, distance + (int32_t)PTE_POOL);
    stream_put(s, INSN_ADD, REG_SCRATCH, REG_SCRATCH, REG_DATA);
    return true;
}

static void unit_pte(struct stream *s)
{
    unsigned page = PAGE_FIRST + stream_below(s, PAGE_LAST - PAGE_FIRST + 1);
    unsigned entry = stream_below(s, PTE_POOL_DATA);

    if (stream_one_in(s, 6)) {
        bool second = stream_one_in(s, 2);
        page = PAGE_PATCH + second;
        entry = second ? PTE_POOL_PATCH1 + stream_below(s, PTE_POOL_SIZE - PTE_POOL_PATCH1)
                       : PTE_POOL_DATA + stream_below(s, PTE_POOL_PATCH1 - PTE_POOL_DATA);
    }
    if (s->tvm || !table_address(s))
        return;
    stream_put(s, INSN_LD, REG_SCRATCH2, REG_SCRATCH, entry * 8);
    stream_put(s, INSN_SD, REG_SCRATCH, REG_SCRATCH2, (int)(page * 8) - (int)PTE_POOL);
    if (s->fences)
        stream_put(s, INSN_SFENCE_VMA, 0, 0);
}

/* Code for the patch pages: an integer instruction, with a return behind it if it is short. The returning
 * halfword already follows a long one. */
static uint32_t patch_code(struct stream *s, bool crossing)
{
    static const uint16_t words[] = {INSN_ADD, INSN_SUB,  INSN_XOR,  INSN_ADDI,   INSN_SLTU, INSN_MUL,
                                     INSN_SRL, INSN_ADDW, INSN_ANDI, INSN_SH1ADD, INSN_DIVU};
    static const uint16_t halves[] = {INSN_C_ADDI, INSN_C_MV,  INSN_C_ADD,
                                      INSN_C_XOR,  INSN_C_SUB, INSN_C_SRLI};
    struct insn in;

    if (crossing || stream_one_in(s, 2))
        return random_bits(s, words[stream_below(s, sizeof words / sizeof *words)], &in);
    return random_bits(s, halves[stream_below(s, sizeof halves / sizeof *halves)], &in) | 0x8d82u << 16;
}

/* Writes an instruction into the patch pages and calls it. Places are 8 bytes apart, so that none overlap;
 * the last one of a page crosses into the next. */
static void unit_patch(struct stream *s)
{
    bool crossing = stream_one_in(s, 3);
    unsigned place = crossing ? 4094 : 8 * stream_below(s, 1023) + 6;
    uint32_t code = patch_code(s, crossing);

    stream_li(s, REG_SCRATCH, (int32_t)((PAGE_PATCH - PAGE_DATA) * 4096 + place));
    stream_put(s, INSN_ADD, REG_SCRATCH, REG_SCRATCH, REG_DATA);
    if (!stream_one_in(s, 3)) {
        stream_li(s, REG_SCRATCH2, (int32_t)code);
        stream_put(s, INSN_SW, REG_SCRATCH, REG_SCRATCH2, 0);
        if (s->fences)
            stream_put(s, INSN_FENCE_I);
    }
    stream_put(s, INSN_JALR, REG_LINK, REG_SCRATCH, 0);
}

/* An encoding that means nothing. */
static void unit_illegal(struct stream *s)
{
    struct insn in;
    uint32_t bits;

    do {
        unsigned line = stream_below(s, ISA_COUNT);
        uint32_t low = isa_table[line].len == 2 ? 0xffff : ~0u;
        bits = isa_table[line].match | ((uint32_t)stream_random(s) & ~isa_table[line].mask & low);
        bits ^= 1u << (2 + stream_below(s, isa_table[line].len * 8 - 2));
    } while ((bits & 0x1f) == 0x1f || isa_decode(bits, &in) == 0 || (bits & 0x7f) == 0x0f ||
             (bits & 0x7f) == 0x73);
    stream_bits(s, bits);
}

/* Blocks. */

static void unit_by_weight(struct stream *s)
{
    static unsigned total;
    unsigned line = 0, n;

    if (total == 0)
        for (unsigned i = 0; i < ISA_COUNT; i++)
            total += isa_table[i].weight;
    for (n = stream_below(s, total); n >= isa_table[line].weight; line++)
        n -= isa_table[line].weight;
    switch (isa_table[line].cls) {
    case ISA_CLASS_BRANCH:
        unit_branch(s, line);
        break;
    case ISA_CLASS_JUMP:
        unit_jump(s, line);
        break;
    case ISA_CLASS_LOAD:
    case ISA_CLASS_STORE:
    case ISA_CLASS_FLOAD:
    case ISA_CLASS_FSTORE:
        unit_memory(s, line);
        break;
    case ISA_CLASS_AMO:
        unit_amo(s, line);
        break;
    default: {
        struct insn in;
        if (line == INSN_C_ADDI16SP) { /* the stack pointer is put back */
            stream_put(s, INSN_C_ADDI16SP, -64);
            stream_put(s, INSN_C_ADDI16SP, 64);
        } else {
            stream_bits(s, random_bits(s, line, &in));
        }
    }
    }
}

static void unit(struct stream *s)
{
    static void (*const rules[])(struct stream *) = {
        unit_special, unit_special, unit_special, unit_special, unit_reserve, unit_csr,
        unit_csr,     unit_frm,     unit_loop,    unit_patch,   unit_pte,     unit_system,
        unit_cbo,     unit_satp,    unit_illegal, unit_nothing, unit_swap,    unit_counter};

    if (stream_one_in(s, 4))
        rules[stream_below(s, sizeof rules / sizeof *rules)](s);
    else
        unit_by_weight(s);
}

static uint64_t random_mstatus(struct stream *s)
{
    uint64_t status = (uint64_t)s->mode << 11 | (stream_one_in(s, 12) ? 0 : STATUS_FS);

    status |= stream_random(s) & (STATUS_SUM | STATUS_MXR | STATUS_SPIE | STATUS_SIE);
    if (stream_one_in(s, 2))
        status &= ~(uint64_t)STATUS_MXR;
    if (s->tvm)
        status |= STATUS_TVM;
    return s->tw ? status | STATUS_TW : status;
}

static void random_ptes(struct stream *s, uint32_t at)
{
    for (unsigned user = 0; user < 2; user++)
        for (unsigned page = 0; page < PTE_ENTRIES; page++) {
            uint64_t pte = 0;
            if ((page >= PAGE_FIRST && page <= PAGE_LAST) || page == PAGE_PATCH || page == PAGE_PATCH + 1)
                pte = stream_pte(s, page, user);
            if (page == PAGE_SPECIALS)
                pte = (STREAM_BASE + DATA_REGION + PAGE_SPECIALS * 4096) >> 2 | (user ? 0x53 : 0x43);
            if (page == PAGE_NOTHING)
                pte = NOTHING >> 2 | (user ? 0xdf : 0xcf);
            stream_store64(s, at + (user * PTE_ENTRIES + page) * 8, pte);
        }
}

static void describe(struct stream *s, unsigned index)
{
    uint64_t offset = s->mode == MODE_U ? USER_OFFSET : 0, region = STREAM_BASE + DATA_REGION + offset;
    uint32_t ptes = PTE_SETS + index * 2 * PTE_ENTRIES * 8;
    struct descriptor d = {
        .start = STREAM_BASE + offset + s->pos,
        .repeats = 64,
        .mstatus = random_mstatus(s),
        .medeleg = stream_one_in(s, 2) ? 0 : stream_random(s) & 0xb0ff,
        .satp = random_satp(s),
        .menvcfg = (stream_random(s) & 0xf0) | (stream_one_in(s, 8) ? 0 : 1ull << 61) | 1ull << 62,
        .senvcfg = stream_random(s) & 0xf0,
        .frm = stream_below(s, 5),
        .stack = region + (PAGE_DATA + 8) * 4096,
        .specials = region + PAGE_SPECIALS * 4096 + 2048,
        .mask = 0xffff,
        .data = region + PAGE_DATA * 4096,
        .ptes = STREAM_BASE + ptes,
    };

    if (d.medeleg == 0 && s->mode == MODE_U && stream_one_in(s, 3))
        d.mstatus |= STATUS_TSR;
    if ((d.menvcfg & 0x30) == 0x20) /* reserved */
        d.menvcfg ^= 0x20;
    if ((d.senvcfg & 0x30) == 0x20)
        d.senvcfg ^= 0x20;
    memcpy(s->image + DESCRIPTORS + index * sizeof d, &d, sizeof d);
    random_ptes(s, ptes);
}

void stream_block(struct stream *s, unsigned index)
{
    static const enum stream_mode modes[] = {MODE_U, MODE_U, MODE_S, MODE_S, MODE_S, MODE_M};

    s->mode = modes[stream_below(s, sizeof modes / sizeof *modes)];
    s->tvm = stream_one_in(s, 12);
    s->tw = stream_one_in(s, 6);
    s->nfixups = 0;
    describe(s, index);
    for (unsigned i = 0; i < BLOCK_UNITS; i++) {
        unit(s);
        unit_done(s, false);
    }
    unit_done(s, true);
    stream_put(s, INSN_ECALL);
}
