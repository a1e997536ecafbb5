/* Entry, traps, and calls of races.c: struct hart is 7 pages, with the frames first, then `back`. */
        .set    S_FRAME, 256
        .set    BACK, 512
        .set    M_STACK, 560 + 8192
        .set    S_STACK, M_STACK + 8192
        .set    STACK, S_STACK + 8192
        .set    SIZE, 7 * 4096

        .section .text.start, "ax"
        .globl  _start, call, enter, floating, trap_entry, s_trap_entry
_start: la      sp, harts
        li      t0, SIZE
        mul     t0, t0, a0
        add     sp, sp, t0
        li      t0, STACK
        add     sp, sp, t0
        call    run

/* A trap: the registers go to `frame` of the hart, and back. */
        .macro  handler scratch, frame, stack, function, return
        csrrw   a0, \scratch, a0
        .irp    r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        sd      x\r, \frame + 8 * \r (a0)
        .endr
        csrr    t0, \scratch
        sd      t0, \frame + 80 (a0)
        csrw    \scratch, a0
        mv      s0, a0
        li      t0, \stack
        add     sp, a0, t0
        call    \function
        mv      a0, s0
        .irp    r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        ld      x\r, \frame + 8 * \r (a0)
        .endr
        ld      a0, \frame + 80 (a0)
        \return
        .endm

        .align  2
trap_entry:
        handler mscratch, 0, M_STACK, trap, mret
        .align  2
s_trap_entry:
        handler sscratch, S_FRAME, S_STACK, s_trap, sret

/* call(at, a0): the code returns to the caller. */
call:   mv      t0, a0
        mv      a0, a1
        jr      t0

/* enter(hart, pc, a0, status): runs `pc` in the mode that status says until it returns to 0. */
enter:  addi    sp, sp, -112
        .irp    r, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
        sd      x\r, (\r - 18) * 8 (sp)
        .endr
        sd      s0, 80(sp)
        sd      s1, 88(sp)
        sd      ra, 96(sp)
        la      t0, 1f
        sd      t0, BACK(a0)
        sd      sp, BACK + 8 (a0)
        csrci   mstatus, 8
        csrw    mepc, a1
        li      t0, 0x18a2
        csrc    mstatus, t0
        csrs    mstatus, a3
        mv      a0, a2
        li      ra, 0
        mret
1:
        .irp    r, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
        ld      x\r, (\r - 18) * 8 (sp)
        .endr
        ld      s0, 80(sp)
        ld      s1, 88(sp)
        ld      ra, 96(sp)
        addi    sp, sp, 112
        ret

/* floating(seed, rounding): bits of results and flags. */
floating:
        li      t6, 8
        li      t5, 0
1:      csrw    frm, a1
        fcvt.d.lu fa0, a0
        fcvt.d.l fa1, t6
        fdiv.d  fa2, fa0, fa1
        fsqrt.d fa3, fa2
        fmadd.d fa4, fa2, fa3, fa0
        fcvt.s.d fa5, fa4
        fmul.s  fa5, fa5, fa5
        csrwi   frm, 3
        fadd.s  fa6, fa5, fa1
        fsub.d  fa7, fa4, fa2
        fcvt.l.d t1, fa4
        fmv.x.d t2, fa7
        fmv.x.w t3, fa6
        csrrwi  t4, fflags, 0
        xor     t1, t1, t2
        add     t1, t1, t3
        xor     t5, t5, t1
        add     t5, t5, t4
        mul     a0, a0, t2
        xori    a1, a1, 1
        andi    a1, a1, 3
        addi    t6, t6, -1
        bnez    t6, 1b
        mv      a0, t5
        ret
