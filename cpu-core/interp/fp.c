/* Computational instructions of F, D, Zfh and Zfa: registers and rounding modes around the softfloat. */
#include "cpu-core/interp/internal.h"

#include "cpu-core/fp/fp.h"

#define SIGN16 0x8000u
#define SIGN32 0x80000000u
#define SIGN64 0x8000000000000000ull

static inline uint32_t s1(const struct hart *h, slot_t w)
{
    return fp_unbox32(h->f[slot_rs1(w)]);
}
static inline uint32_t s2(const struct hart *h, slot_t w)
{
    return fp_unbox32(h->f[slot_rs2(w)]);
}
static inline uint32_t s3(const struct hart *h, slot_t w)
{
    return fp_unbox32(h->f[slot_rs3(w)]);
}
static inline uint64_t d1(const struct hart *h, slot_t w)
{
    return h->f[slot_rs1(w)];
}
static inline uint64_t d2(const struct hart *h, slot_t w)
{
    return h->f[slot_rs2(w)];
}
static inline uint64_t d3(const struct hart *h, slot_t w)
{
    return h->f[slot_rs3(w)];
}
static inline uint16_t h1(const struct hart *h, slot_t w)
{
    return fp_unbox16(h->f[slot_rs1(w)]);
}
static inline uint16_t h2(const struct hart *h, slot_t w)
{
    return fp_unbox16(h->f[slot_rs2(w)]);
}
static inline uint16_t h3(const struct hart *h, slot_t w)
{
    return fp_unbox16(h->f[slot_rs3(w)]);
}
static inline uint64_t x1(const struct hart *h, slot_t w)
{
    return h->x[slot_rs1(w)];
}

/* The register that an instruction writes: the results of the functions below, which differ in what is
 * computed. */
struct result {
    uint64_t value;
    bool is_f;
};

static inline struct result to_x(uint64_t v)
{
    return (struct result){v, false};
}
static inline struct result to_w(uint32_t v)
{
    return (struct result){(uint64_t)(int64_t)(int32_t)v, false};
}
static inline struct result to_d(uint64_t v)
{
    return (struct result){v, true};
}
static inline struct result to_s(uint32_t v)
{
    return (struct result){fp_box32(v), true};
}
static inline struct result to_h(uint16_t v)
{
    return (struct result){fp_box16(v), true};
}

static struct result half_precision(const struct hart *h, slot_t w, unsigned rm, uint32_t *ff)
{
    switch (slot_op(w)) {
    case INSN_FADD_H:
        return to_h(fp_f16_add(h1(h, w), h2(h, w), rm, ff));
    case INSN_FSUB_H:
        return to_h(fp_f16_sub(h1(h, w), h2(h, w), rm, ff));
    case INSN_FMUL_H:
        return to_h(fp_f16_mul(h1(h, w), h2(h, w), rm, ff));
    case INSN_FDIV_H:
        return to_h(fp_f16_div(h1(h, w), h2(h, w), rm, ff));
    case INSN_FSQRT_H:
        return to_h(fp_f16_sqrt(h1(h, w), rm, ff));
    case INSN_FMADD_H:
        return to_h(fp_f16_fma(h1(h, w), h2(h, w), h3(h, w), rm, ff));
    case INSN_FMSUB_H:
        return to_h(fp_f16_fma(h1(h, w), h2(h, w), (uint16_t)(h3(h, w) ^ SIGN16), rm, ff));
    case INSN_FNMSUB_H:
        return to_h(fp_f16_fma((uint16_t)(h1(h, w) ^ SIGN16), h2(h, w), h3(h, w), rm, ff));
    case INSN_FNMADD_H:
        return to_h(
            fp_f16_fma((uint16_t)(h1(h, w) ^ SIGN16), h2(h, w), (uint16_t)(h3(h, w) ^ SIGN16), rm, ff));
    case INSN_FMIN_H:
        return to_h(fp_f16_min(h1(h, w), h2(h, w), ff));
    case INSN_FMAX_H:
        return to_h(fp_f16_max(h1(h, w), h2(h, w), ff));
    case INSN_FMINM_H:
        return to_h(fp_f16_minm(h1(h, w), h2(h, w), ff));
    case INSN_FMAXM_H:
        return to_h(fp_f16_maxm(h1(h, w), h2(h, w), ff));
    case INSN_FROUND_H:
        return to_h(fp_f16_round(h1(h, w), rm, ff));
    case INSN_FROUNDNX_H:
        return to_h(fp_f16_roundnx(h1(h, w), rm, ff));
    case INSN_FSGNJ_H:
        return to_h((uint16_t)((h1(h, w) & ~SIGN16) | (h2(h, w) & SIGN16)));
    case INSN_FSGNJN_H:
        return to_h((uint16_t)((h1(h, w) & ~SIGN16) | (~h2(h, w) & SIGN16)));
    case INSN_FSGNJX_H:
        return to_h((uint16_t)(h1(h, w) ^ (h2(h, w) & SIGN16)));
    case INSN_FEQ_H:
        return to_x(fp_f16_eq(h1(h, w), h2(h, w), ff));
    case INSN_FLT_H:
        return to_x(fp_f16_lt(h1(h, w), h2(h, w), ff));
    case INSN_FLE_H:
        return to_x(fp_f16_le(h1(h, w), h2(h, w), ff));
    case INSN_FLTQ_H:
        return to_x(fp_f16_ltq(h1(h, w), h2(h, w), ff));
    case INSN_FLEQ_H:
        return to_x(fp_f16_leq(h1(h, w), h2(h, w), ff));
    case INSN_FCLASS_H:
        return to_x(fp_f16_class(h1(h, w)));
    case INSN_FLI_H:
        return to_h(fp_f16_fli(slot_rs1(w)));
    case INSN_FCVT_W_H:
        return to_w((uint32_t)fp_f16_to_i32(h1(h, w), rm, ff));
    case INSN_FCVT_WU_H:
        return to_w(fp_f16_to_u32(h1(h, w), rm, ff));
    case INSN_FCVT_L_H:
        return to_x((uint64_t)fp_f16_to_i64(h1(h, w), rm, ff));
    case INSN_FCVT_LU_H:
        return to_x(fp_f16_to_u64(h1(h, w), rm, ff));
    case INSN_FCVT_H_W:
        return to_h(fp_f16_from_i32((int32_t)x1(h, w), rm, ff));
    case INSN_FCVT_H_WU:
        return to_h(fp_f16_from_u32((uint32_t)x1(h, w), rm, ff));
    case INSN_FCVT_H_L:
        return to_h(fp_f16_from_i64((int64_t)x1(h, w), rm, ff));
    default: /* fcvt.h.lu */
        return to_h(fp_f16_from_u64(x1(h, w), rm, ff));
    }
}

static struct result single_precision(const struct hart *h, slot_t w, unsigned rm, uint32_t *ff)
{
    switch (slot_op(w)) {
    case INSN_FADD_S:
        return to_s(fp_f32_add(s1(h, w), s2(h, w), rm, ff));
    case INSN_FSUB_S:
        return to_s(fp_f32_sub(s1(h, w), s2(h, w), rm, ff));
    case INSN_FMUL_S:
        return to_s(fp_f32_mul(s1(h, w), s2(h, w), rm, ff));
    case INSN_FDIV_S:
        return to_s(fp_f32_div(s1(h, w), s2(h, w), rm, ff));
    case INSN_FSQRT_S:
        return to_s(fp_f32_sqrt(s1(h, w), rm, ff));
    case INSN_FMADD_S:
        return to_s(fp_f32_fma(s1(h, w), s2(h, w), s3(h, w), rm, ff));
    case INSN_FMSUB_S:
        return to_s(fp_f32_fma(s1(h, w), s2(h, w), s3(h, w) ^ SIGN32, rm, ff));
    case INSN_FNMSUB_S:
        return to_s(fp_f32_fma(s1(h, w) ^ SIGN32, s2(h, w), s3(h, w), rm, ff));
    case INSN_FNMADD_S:
        return to_s(fp_f32_fma(s1(h, w) ^ SIGN32, s2(h, w), s3(h, w) ^ SIGN32, rm, ff));
    case INSN_FMIN_S:
        return to_s(fp_f32_min(s1(h, w), s2(h, w), ff));
    case INSN_FMAX_S:
        return to_s(fp_f32_max(s1(h, w), s2(h, w), ff));
    case INSN_FMINM_S:
        return to_s(fp_f32_minm(s1(h, w), s2(h, w), ff));
    case INSN_FMAXM_S:
        return to_s(fp_f32_maxm(s1(h, w), s2(h, w), ff));
    case INSN_FROUND_S:
        return to_s(fp_f32_round(s1(h, w), rm, ff));
    case INSN_FROUNDNX_S:
        return to_s(fp_f32_roundnx(s1(h, w), rm, ff));
    case INSN_FSGNJ_S:
        return to_s((s1(h, w) & ~SIGN32) | (s2(h, w) & SIGN32));
    case INSN_FSGNJN_S:
        return to_s((s1(h, w) & ~SIGN32) | (~s2(h, w) & SIGN32));
    case INSN_FSGNJX_S:
        return to_s(s1(h, w) ^ (s2(h, w) & SIGN32));
    case INSN_FEQ_S:
        return to_x(fp_f32_eq(s1(h, w), s2(h, w), ff));
    case INSN_FLT_S:
        return to_x(fp_f32_lt(s1(h, w), s2(h, w), ff));
    case INSN_FLE_S:
        return to_x(fp_f32_le(s1(h, w), s2(h, w), ff));
    case INSN_FLTQ_S:
        return to_x(fp_f32_ltq(s1(h, w), s2(h, w), ff));
    case INSN_FLEQ_S:
        return to_x(fp_f32_leq(s1(h, w), s2(h, w), ff));
    case INSN_FCLASS_S:
        return to_x(fp_f32_class(s1(h, w)));
    case INSN_FLI_S:
        return to_s(fp_f32_fli(slot_rs1(w)));
    case INSN_FCVT_W_S:
        return to_w((uint32_t)fp_f32_to_i32(s1(h, w), rm, ff));
    case INSN_FCVT_WU_S:
        return to_w(fp_f32_to_u32(s1(h, w), rm, ff));
    case INSN_FCVT_L_S:
        return to_x((uint64_t)fp_f32_to_i64(s1(h, w), rm, ff));
    case INSN_FCVT_LU_S:
        return to_x(fp_f32_to_u64(s1(h, w), rm, ff));
    case INSN_FCVT_S_W:
        return to_s(fp_f32_from_i32((int32_t)x1(h, w), rm, ff));
    case INSN_FCVT_S_WU:
        return to_s(fp_f32_from_u32((uint32_t)x1(h, w), rm, ff));
    case INSN_FCVT_S_L:
        return to_s(fp_f32_from_i64((int64_t)x1(h, w), rm, ff));
    case INSN_FCVT_S_LU:
        return to_s(fp_f32_from_u64(x1(h, w), rm, ff));
    case INSN_FMV_X_W:
        return to_w((uint32_t)d1(h, w));
    default: /* fmv.w.x */
        return to_s((uint32_t)x1(h, w));
    }
}

static struct result double_precision(const struct hart *h, slot_t w, unsigned rm, uint32_t *ff)
{
    switch (slot_op(w)) {
    case INSN_FADD_D:
        return to_d(fp_f64_add(d1(h, w), d2(h, w), rm, ff));
    case INSN_FSUB_D:
        return to_d(fp_f64_sub(d1(h, w), d2(h, w), rm, ff));
    case INSN_FMUL_D:
        return to_d(fp_f64_mul(d1(h, w), d2(h, w), rm, ff));
    case INSN_FDIV_D:
        return to_d(fp_f64_div(d1(h, w), d2(h, w), rm, ff));
    case INSN_FSQRT_D:
        return to_d(fp_f64_sqrt(d1(h, w), rm, ff));
    case INSN_FMADD_D:
        return to_d(fp_f64_fma(d1(h, w), d2(h, w), d3(h, w), rm, ff));
    case INSN_FMSUB_D:
        return to_d(fp_f64_fma(d1(h, w), d2(h, w), d3(h, w) ^ SIGN64, rm, ff));
    case INSN_FNMSUB_D:
        return to_d(fp_f64_fma(d1(h, w) ^ SIGN64, d2(h, w), d3(h, w), rm, ff));
    case INSN_FNMADD_D:
        return to_d(fp_f64_fma(d1(h, w) ^ SIGN64, d2(h, w), d3(h, w) ^ SIGN64, rm, ff));
    case INSN_FMIN_D:
        return to_d(fp_f64_min(d1(h, w), d2(h, w), ff));
    case INSN_FMAX_D:
        return to_d(fp_f64_max(d1(h, w), d2(h, w), ff));
    case INSN_FMINM_D:
        return to_d(fp_f64_minm(d1(h, w), d2(h, w), ff));
    case INSN_FMAXM_D:
        return to_d(fp_f64_maxm(d1(h, w), d2(h, w), ff));
    case INSN_FROUND_D:
        return to_d(fp_f64_round(d1(h, w), rm, ff));
    case INSN_FROUNDNX_D:
        return to_d(fp_f64_roundnx(d1(h, w), rm, ff));
    case INSN_FSGNJ_D:
        return to_d((d1(h, w) & ~SIGN64) | (d2(h, w) & SIGN64));
    case INSN_FSGNJN_D:
        return to_d((d1(h, w) & ~SIGN64) | (~d2(h, w) & SIGN64));
    case INSN_FSGNJX_D:
        return to_d(d1(h, w) ^ (d2(h, w) & SIGN64));
    case INSN_FEQ_D:
        return to_x(fp_f64_eq(d1(h, w), d2(h, w), ff));
    case INSN_FLT_D:
        return to_x(fp_f64_lt(d1(h, w), d2(h, w), ff));
    case INSN_FLE_D:
        return to_x(fp_f64_le(d1(h, w), d2(h, w), ff));
    case INSN_FLTQ_D:
        return to_x(fp_f64_ltq(d1(h, w), d2(h, w), ff));
    case INSN_FLEQ_D:
        return to_x(fp_f64_leq(d1(h, w), d2(h, w), ff));
    case INSN_FCLASS_D:
        return to_x(fp_f64_class(d1(h, w)));
    case INSN_FLI_D:
        return to_d(fp_f64_fli(slot_rs1(w)));
    case INSN_FCVT_W_D:
        return to_w((uint32_t)fp_f64_to_i32(d1(h, w), rm, ff));
    case INSN_FCVT_WU_D:
        return to_w(fp_f64_to_u32(d1(h, w), rm, ff));
    case INSN_FCVT_L_D:
        return to_x((uint64_t)fp_f64_to_i64(d1(h, w), rm, ff));
    case INSN_FCVT_LU_D:
        return to_x(fp_f64_to_u64(d1(h, w), rm, ff));
    case INSN_FCVT_D_W:
        return to_d(fp_f64_from_i32((int32_t)x1(h, w)));
    case INSN_FCVT_D_WU:
        return to_d(fp_f64_from_u32((uint32_t)x1(h, w)));
    case INSN_FCVT_D_L:
        return to_d(fp_f64_from_i64((int64_t)x1(h, w), rm, ff));
    case INSN_FCVT_D_LU:
        return to_d(fp_f64_from_u64(x1(h, w), rm, ff));
    case INSN_FCVTMOD_W_D:
        return to_w((uint32_t)fp_f64_to_i32_mod(d1(h, w), ff));
    case INSN_FMV_X_D:
        return to_x(d1(h, w));
    default: /* fmv.d.x */
        return to_d(x1(h, w));
    }
}

static struct result conversion(const struct hart *h, slot_t w, unsigned rm, uint32_t *ff)
{
    switch (slot_op(w)) {
    case INSN_FCVT_S_D:
        return to_s(fp_f64_to_f32(d1(h, w), rm, ff));
    case INSN_FCVT_D_S:
        return to_d(fp_f32_to_f64(s1(h, w), ff));
    case INSN_FCVT_S_H:
        return to_s(fp_f16_to_f32(h1(h, w), ff));
    case INSN_FCVT_H_S:
        return to_h(fp_f32_to_f16(s1(h, w), rm, ff));
    case INSN_FCVT_D_H:
        return to_d(fp_f16_to_f64(h1(h, w), ff));
    case INSN_FCVT_H_D:
        return to_h(fp_f64_to_f16(d1(h, w), rm, ff));
    case INSN_FMV_X_H:
        return to_x((uint64_t)(int64_t)(int16_t)d1(h, w));
    default: /* fmv.h.x */
        return to_h((uint16_t)x1(h, w));
    }
}

/* Which of the four functions has the instruction. Conversions between formats belong to D and Zfhmin, the
 * others to the format that bits 26:25 of the encoding name. */
static struct result compute(const struct hart *h, slot_t w, unsigned rm, uint32_t *ff)
{
    const struct isa_info *info = &isa_table[slot_op(w)];

    if (info->ext == ISA_EXT_ZFHMIN || slot_op(w) == INSN_FCVT_S_D || slot_op(w) == INSN_FCVT_D_S)
        return conversion(h, w, rm, ff);
    if (info->ext == ISA_EXT_ZFH)
        return half_precision(h, w, rm, ff);
    return info->match >> 25 & 1 ? double_precision(h, w, rm, ff) : single_precision(h, w, rm, ff);
}

/* FS becomes dirty by what the instruction may change, not by whether it did, so that translated code need
 * not know. */
bool interp_fp(struct hart *h, slot_t w)
{
    unsigned flags = isa_table[slot_op(w)].flags, rm = 0;
    struct result r;

    if (flags & ISA_RM) {
        rm = slot_rm(w) == 7 ? h->frm : slot_rm(w);
        if (rm > FP_RMM)
            return false;
    }
    r = compute(h, w, rm, &h->fflags);
    if (r.is_f) {
        h->f[slot_rd(w)] = r.value;
    } else {
        h->x[slot_rd(w)] = r.value;
        h->x[0] = 0;
    }
    if (r.is_f || flags & ISA_FF)
        hart_fp_dirty(h);
    return true;
}
