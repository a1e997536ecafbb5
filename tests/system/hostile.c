/* A driver that breaks every rule of virtio on every slot, on the bare machine, and then powers off: emulator
 * and device processes must outlive it. Its decisions come from the seed alone, which the test writes over
 * SEED in the program file. */
#include <stdint.h>

#define SEED   0x5eed5eed5eed5eedull
#define SLOTS  8
#define ROUNDS 4000
#define RINGS  0x80400000ull
#define RAM    0x80000000ull

static volatile uint64_t seed = SEED;
static uint64_t state;

static uint64_t rnd(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static volatile uint32_t *reg(unsigned slot, unsigned offset)
{
    return (volatile uint32_t *)(0x10001000ull + slot * 0x1000 + offset);
}

/* An address that is sometimes good: in the rings, in RAM, at its edge, or anywhere. */
static uint64_t address(void)
{
    switch (rnd() % 8) {
    case 0:
        return rnd();
    case 1:
        return RAM - rnd() % 4096;
    case 2:
        return ~0ull - rnd() % 64;
    default:
        return RINGS + rnd() % 0x100000;
    }
}

static void queue_address(unsigned slot, unsigned offset, uint64_t value)
{
    *reg(slot, offset) = (uint32_t)value;
    *reg(slot, offset + 4) = (uint32_t)(value >> 32);
}

/* A proper start-up, except where the dice say otherwise. */
static void start(unsigned slot)
{
    *reg(slot, 0x70) = 0;
    *reg(slot, 0x70) = 3;
    for (unsigned half = 0; half < 2; half++) {
        *reg(slot, 0x14) = half;
        uint32_t offered = *reg(slot, 0x10);
        *reg(slot, 0x24) = half;
        *reg(slot, 0x20) = rnd() % 4 ? offered & ~(rnd() % 3 ? 1u << rnd() % 32 : 0) : (uint32_t)rnd();
    }
    *reg(slot, 0x70) = 11;
    for (unsigned queue = 0; queue < 4; queue++) {
        *reg(slot, 0x30) = rnd() % 16 ? queue : (uint32_t)rnd();
        uint32_t max = *reg(slot, 0x34);
        *reg(slot, 0x38) = rnd() % 4 ? (max < 16 ? max : 16) : (uint32_t)rnd();
        uint64_t base = RINGS + (slot * 4 + queue) * 0x4000;
        queue_address(slot, 0x80, rnd() % 8 ? base : address());
        queue_address(slot, 0x90, rnd() % 8 ? base + 0x1000 : address());
        queue_address(slot, 0xa0, rnd() % 8 ? base + 0x2000 : address());
        *reg(slot, 0x44) = 1;
    }
    *reg(slot, 0x70) = rnd() % 8 ? 15 : (uint32_t)rnd();
}

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* Chains that loop, nest, overlap, are absurdly long, or are nearly right. */
static void fill(unsigned slot, unsigned queue)
{
    uint64_t base = RINGS + (slot * 4 + queue) * 0x4000;
    volatile struct desc *d = (volatile struct desc *)base;
    volatile uint16_t *avail = (volatile uint16_t *)(base + 0x1000);
    for (unsigned i = 0; i < 16; i++) {
        d[i].addr = address();
        d[i].len = rnd() % 4 ? (uint32_t)(rnd() % 4096) : (uint32_t)rnd();
        d[i].flags = rnd() % 2 ? (uint16_t)(rnd() % 8) : (uint16_t)(i < 2);
        d[i].next = rnd() % 4 ? (uint16_t)(i + 1) : (uint16_t)rnd();
    }
    if (rnd() % 2) { /* a header that a block device takes seriously, and a status byte */
        volatile uint32_t *header = (volatile uint32_t *)(RINGS + 0xf0000);
        header[0] = (uint32_t)(rnd() % 16);
        header[2] = (uint32_t)(rnd() % 4096);
        header[3] = rnd() % 8 ? 0 : (uint32_t)rnd();
        d[0].addr = RINGS + 0xf0000, d[0].len = 16, d[0].flags = 1, d[0].next = 1;
        d[1].addr = RINGS + 0xf1000, d[1].len = (uint32_t)(rnd() % 9 * 512), d[1].flags = 3, d[1].next = 2;
        d[2].addr = RINGS + 0xf8000, d[2].len = 1, d[2].flags = 2;
    }
    for (unsigned i = 0; i < 16; i++)
        avail[2 + i] = rnd() % 4 ? (uint16_t)(rnd() % 16) : (uint16_t)rnd();
    avail[0] = (uint16_t)rnd();
    avail[1] = rnd() % 4 ? (uint16_t)(avail[1] + rnd() % 20) : (uint16_t)rnd();
}

void run(void)
{
    state = seed;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned slot = rnd() % SLOTS;
        switch (rnd() % 8) {
        case 0:
            start(slot);
            break;
        case 1:
            *reg(slot, rnd() % 0x200 & ~3u) = (uint32_t)rnd();
            break;
        case 2:
            (void)*reg(slot, rnd() % 0x1000 & ~3u);
            break;
        case 3:
            *reg(slot, 0x70) = 0;
            break;
        default:
            fill(slot, rnd() % 4);
            *reg(slot, 0x50) = rnd() % 8 ? (uint32_t)(rnd() % 4) : (uint32_t)rnd();
        }
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        *reg(slot, 0x70) = 0;
    *(volatile uint32_t *)0x100000 = 0x5555;
}

/* Traps are part of the game: skip the instruction. All of this program's are 4 bytes long. */
__asm__(".section .text.start\n"
        ".globl _start\n"
        "_start: la sp, _start + 0x100000\n"
        "la t0, trap\n"
        "csrw mtvec, t0\n"
        "call run\n"
        "1: j 1b\n"
        ".align 2\n"
        "trap: csrw mscratch, t0\n"
        "csrr t0, mepc\n"
        "addi t0, t0, 4\n"
        "csrw mepc, t0\n"
        "csrr t0, mscratch\n"
        "mret\n");
