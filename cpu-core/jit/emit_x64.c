/* Encoding of x86-64 instructions. */
#include "cpu-core/jit/emit_x64.h"

static inline void put8(struct emitter *e, unsigned v)
{
    *e->at++ = (uint8_t)v;
}

static inline void put32(struct emitter *e, uint32_t v)
{
    memcpy(e->at, &v, sizeof v);
    e->at += sizeof v;
}

static void put_imm(struct emitter *e, unsigned len, int64_t imm)
{
    memcpy(e->at, &imm, len);
    e->at += len;
}

static unsigned rex_bits(unsigned reg, const struct rm *rm)
{
    unsigned bits = (reg & 8) >> 1;

    if (rm->kind != RM_RIP)
        bits |= (rm->base & 8u) >> 3;
    if (rm->kind == RM_SIB)
        bits |= (rm->index & 8u) >> 2;
    return bits;
}

/* ModRM, SIB and displacement. */
static void put_modrm(struct emitter *e, unsigned reg, const struct rm *rm, unsigned imm_len)
{
    unsigned base = rm->base & 7u, mod;

    reg = (reg & 7) << 3;
    if (rm->kind == RM_REG) {
        put8(e, 0xc0 | reg | base);
        return;
    }
    if (rm->kind == RM_RIP) {
        put8(e, 0x05 | reg);
        put32(e, (uint32_t)((intptr_t)rm->address - ((intptr_t)e->at + 4 + (intptr_t)imm_len + e->run)));
        return;
    }
    mod = rm->disp == 0 && base != (RBP & 7) ? 0 : rm->disp == (int8_t)rm->disp ? 0x40 : 0x80;
    if (rm->kind == RM_SIB || base == RSP) {
        unsigned index = rm->kind == RM_SIB ? rm->index & 7u : RSP;
        put8(e, mod | reg | RSP);
        put8(e, (unsigned)rm->scale << 6 | index << 3 | base);
    } else {
        put8(e, mod | reg | base);
    }
    if (mod == 0x40)
        put8(e, (uint8_t)rm->disp);
    else if (mod == 0x80)
        put32(e, (uint32_t)rm->disp);
}

void emit_op_imm(struct emitter *e, unsigned opc, unsigned reg, struct rm rm, unsigned imm_len, int64_t imm)
{
    static const uint8_t prefix[4] = {0, 0x66, 0xf3, 0xf2};
    unsigned map = opc >> 8 & 15, pp = opc >> 12 & 3;
    unsigned rex = rex_bits(reg, &rm) | (opc & OPC_W ? 8 : 0);

    if (pp)
        put8(e, prefix[pp]);
    if (rex || (opc & OPC_BYTE_REG && reg >= 4) || (opc & OPC_BYTE_RM && rm.kind == RM_REG && rm.base >= 4))
        put8(e, 0x40 | rex);
    if (map)
        put8(e, 0x0f);
    if (map >= 2)
        put8(e, map == 2 ? 0x38 : 0x3a);
    put8(e, opc);
    put_modrm(e, reg, &rm, imm_len);
    put_imm(e, imm_len, imm);
}

void emit_vex_imm(struct emitter *e, unsigned opc, unsigned reg, unsigned v, struct rm rm, unsigned imm_len,
                  int64_t imm)
{
    unsigned map = opc >> 8 & 15, pp = opc >> 12 & 3, rex = rex_bits(reg, &rm), w = opc & OPC_W ? 0x80 : 0;

    if (map == 1 && !w && !(rex & 3)) {
        put8(e, 0xc5);
        put8(e, (rex & 4 ? 0 : 0x80) | (~v & 15) << 3 | pp);
    } else {
        put8(e, 0xc4);
        put8(e, (~rex & 7) << 5 | map);
        put8(e, w | (~v & 15) << 3 | pp);
    }
    put8(e, opc);
    put_modrm(e, reg, &rm, imm_len);
    put_imm(e, imm_len, imm);
}

void emit_load(struct emitter *e, unsigned reg, struct rm rm)
{
    if (rm.kind != RM_REG || rm.base != reg)
        emit_op(e, X_MOV_LOAD | OPC_W, reg, rm);
}

void emit_load32(struct emitter *e, unsigned reg, struct rm rm)
{
    emit_op(e, X_MOV_LOAD, reg, rm);
}

void emit_store(struct emitter *e, struct rm rm, unsigned reg)
{
    if (rm.kind != RM_REG || rm.base != reg)
        emit_op(e, X_MOV_STORE | OPC_W, reg, rm);
}

void emit_const(struct emitter *e, unsigned reg, int64_t value)
{
    if (value == (uint32_t)value) {
        if (reg & 8)
            put8(e, 0x41);
        put8(e, 0xb8 | (reg & 7));
        put32(e, (uint32_t)value);
    } else if (value == (int32_t)value) {
        emit_op_imm(e, OPC(0, 0, 0xc7) | OPC_W, 0, rm_reg(reg), 4, value);
    } else {
        put8(e, 0x48 | (reg & 8) >> 3);
        put8(e, 0xb8 | (reg & 7));
        put_imm(e, 8, value);
    }
}

void emit_store_const(struct emitter *e, struct rm rm, int32_t value)
{
    emit_op_imm(e, OPC(0, 0, 0xc7) | OPC_W, 0, rm, 4, value);
}

void emit_lea(struct emitter *e, unsigned reg, struct rm rm)
{
    emit_op(e, X_LEA | OPC_W, reg, rm);
}

void emit_alu(struct emitter *e, enum alu_op op, unsigned reg, struct rm rm)
{
    emit_op(e, OPC(0, 0, 0x03 + 8 * op) | OPC_W, reg, rm);
}

void emit_alu32(struct emitter *e, enum alu_op op, unsigned reg, struct rm rm)
{
    emit_op(e, X_ALU(op), reg, rm);
}

void emit_alu_store(struct emitter *e, enum alu_op op, struct rm rm, unsigned reg)
{
    emit_op(e, OPC(0, 0, 0x01 + 8 * op) | OPC_W, reg, rm);
}

static void alu_const(struct emitter *e, unsigned w, enum alu_op op, struct rm rm, int32_t value)
{
    if (value == (int8_t)value)
        emit_op_imm(e, OPC(0, 0, 0x83) | w, op, rm, 1, value);
    else
        emit_op_imm(e, OPC(0, 0, 0x81) | w, op, rm, 4, value);
}

void emit_alu_const(struct emitter *e, enum alu_op op, struct rm rm, int32_t value)
{
    alu_const(e, OPC_W, op, rm, value);
}

void emit_alu_const32(struct emitter *e, enum alu_op op, struct rm rm, int32_t value)
{
    alu_const(e, 0, op, rm, value);
}

void emit_test32(struct emitter *e, struct rm rm, uint64_t bits)
{
    emit_op_imm(e, OPC(0, 0, 0xf7), 0, rm, 4, (int64_t)bits);
}

void emit_shift(struct emitter *e, enum shift_op op, struct rm rm, unsigned count)
{
    emit_op_imm(e, OPC(0, 0, 0xc1) | OPC_W, op, rm, 1, count);
}

void emit_shift32(struct emitter *e, enum shift_op op, struct rm rm, unsigned count)
{
    emit_op_imm(e, OPC(0, 0, 0xc1), op, rm, 1, count);
}

void emit_shift_cl(struct emitter *e, unsigned w, enum shift_op op, struct rm rm)
{
    emit_op(e, OPC(0, 0, 0xd3) | w, op, rm);
}

void emit_setcc(struct emitter *e, enum x64_cond cc, unsigned reg)
{
    emit_op(e, OPC(1, 0, 0x90u + cc) | OPC_BYTE_RM, 0, rm_reg(reg));
}

void emit_push(struct emitter *e, unsigned reg)
{
    if (reg & 8)
        put8(e, 0x41);
    put8(e, 0x50 | (reg & 7));
}

void emit_pop(struct emitter *e, unsigned reg)
{
    if (reg & 8)
        put8(e, 0x41);
    put8(e, 0x58 | (reg & 7));
}

void emit_ret(struct emitter *e)
{
    put8(e, 0xc3);
}

uint8_t *emit_jcc(struct emitter *e, enum x64_cond cc)
{
    put8(e, 0x0f);
    put8(e, 0x80u | cc);
    put32(e, 0);
    return e->at - 4;
}

uint8_t *emit_jmp(struct emitter *e)
{
    put8(e, 0xe9);
    put32(e, 0);
    return e->at - 4;
}

uint8_t *emit_jcc8(struct emitter *e, enum x64_cond cc)
{
    put8(e, 0x70u | cc);
    put8(e, 0);
    return e->at - 1;
}

uint8_t *emit_jmp8(struct emitter *e)
{
    put8(e, 0xeb);
    put8(e, 0);
    return e->at - 1;
}

void emit_bind(uint8_t *jump, const uint8_t *target)
{
    int32_t disp = (int32_t)(target - (jump + 4));

    memcpy(jump, &disp, sizeof disp);
}

void emit_bind8(uint8_t *jump, const uint8_t *target)
{
    *jump = (uint8_t)(target - (jump + 1));
}

void emit_jmp_to(struct emitter *e, const uint8_t *target)
{
    emit_bind(emit_jmp(e), target);
}

static void put_rel32(struct emitter *e, const void *target)
{
    put32(e, (uint32_t)((intptr_t)target - ((intptr_t)e->at + 4 + e->run)));
}

void emit_jmp_run(struct emitter *e, const void *target)
{
    put8(e, 0xe9);
    put_rel32(e, target);
}

void emit_call_run(struct emitter *e, const void *target)
{
    put8(e, 0xe8);
    put_rel32(e, target);
}

void emit_jmp_mem(struct emitter *e, struct rm rm)
{
    emit_op(e, OPC(0, 0, 0xff), 4, rm);
}
