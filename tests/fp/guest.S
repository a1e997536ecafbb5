# Entry of the guest program: hart 0 in M-mode at reset with the floating-point unit on; other harts park.
    .section .text.entry
    .globl _start
_start:
    csrr    t0, mhartid
    bnez    t0, park
    la      sp, stack_top
    li      t0, 1 << 13         # mstatus.FS = initial
    csrs    mstatus, t0
    la      t0, bss_start
    la      t1, bss_end
1:  bgeu    t0, t1, 2f
    sd      zero, 0(t0)
    addi    t0, t0, 8
    j       1b
2:  call    guest_main
park:
    wfi
    j       park
