/* What translated code could get wrong, all at once and on every hart: code that other harts, the hart itself
 * and a disk write while it runs, page tables that change without fences, timer and inter-processor
 * interrupts at any instruction, rounding modes, and a floating-point unit that goes off. Runs as a flat
 * program in place of the firmware; everything it meets is folded into digests in its memory, which the state
 * hash covers. The test writes the seed over SEED in the program file, and code for the arena on the disk. */
#include <stdint.h>

#define SEED        0x5eed5eed5eed5eedull
#define HARTS       8
#define ROUNDS      1500
#define STACK       8192
#define ARENA_PAGES 4
#define SLOTS       (ARENA_PAGES * 512 - 1) /* 8 bytes each, from 6 bytes into the arena on */
#define WINDOW      0x40000000ull           /* 16 pages in S- and U-mode's address space */
#define WINDOWS     16
#define ENTRY_ADDI  0x00050513u /* addi a0, a0, 0 */
#define CLINT       0x2000000ull
#define MTIME       (*(volatile uint64_t *)(CLINT + 0xbff8))
#define VIRTIO      0x10001000ull
#define POWER       (*(volatile uint32_t *)0x100000)

#define read_csr(name)                                                                                       \
    ({                                                                                                       \
        uint64_t value_;                                                                                     \
        __asm__ volatile("csrr %0, " name : "=r"(value_));                                                   \
        value_;                                                                                              \
    })
#define write_csr(name, value) __asm__ volatile("csrw " name ", %0" ::"r"((uint64_t)(value)) : "memory")
#define set_csr(name, value)   __asm__ volatile("csrs " name ", %0" ::"r"((uint64_t)(value)) : "memory")
#define clear_csr(name, value) __asm__ volatile("csrc " name ", %0" ::"r"((uint64_t)(value)) : "memory")

#define MSTATUS_MPP  (3u << 11)
#define MSTATUS_FS   (3u << 13)
#define MSTATUS_MIE  (1u << 3)
#define MSTATUS_MPIE (1u << 7)
#define MSTATUS_SPIE (1u << 5)
#define MSTATUS_SIE  (1u << 1)
#define MPP_S        (1u << 11)

/* races.S knows the layout. */
struct hart {
    uint64_t frame[32];     /* registers that a trap into M-mode interrupted */
    uint64_t s_frame[32];   /* the same of S-mode */
    uint64_t back, back_sp; /* where leave() goes on */
    uint64_t id, random, digest, unused;
    uint8_t m_stack[STACK], s_stack[STACK], stack[STACK];
} __attribute__((aligned(4096)));

struct hart harts[HARTS];
static volatile uint64_t seed = SEED;
static uint8_t arena[(ARENA_PAGES + 1) * 4096] __attribute__((aligned(4096)));
static uint8_t data[ARENA_PAGES * 4096] __attribute__((aligned(4096)));
static volatile uint64_t root[512] __attribute__((aligned(4096)));
static volatile uint64_t middle[512] __attribute__((aligned(4096)));
static volatile uint64_t last[512] __attribute__((aligned(4096)));
static volatile uint64_t started, done, contended, count;

uint64_t call(uint64_t at, uint64_t a0);
void enter(struct hart *h, uint64_t pc, uint64_t a0, uint64_t status);
uint64_t floating(uint64_t seed, uint64_t rounding);
void trap_entry(void);
void s_trap_entry(void);

static uint64_t rnd(struct hart *h)
{
    h->random = h->random * 6364136223846793005ull + 1442695040888963407ull;
    return h->random >> 33;
}

static void fold(struct hart *h, uint64_t value)
{
    h->digest = (h->digest ^ value) * 0x9e3779b97f4a7c15ull;
    h->digest ^= h->digest >> 29;
}

static void arm(struct hart *h)
{
    *(volatile uint64_t *)(CLINT + 0x4000 + 8 * h->id) = MTIME + rnd(h) % 16;
}

/* A slot's instructions all change a0 alone, also in mixtures of an old and a new one. */
static uint64_t slot_code(struct hart *h)
{
    uint64_t addi = ENTRY_ADDI | (rnd(h) & 0xfff) << 20, next = rnd(h) % 4 ? 0x0001 : 0x8082;
    return addi | next << 32 | (0x0501ull | (rnd(h) & 31) << 2) << 48; /* then nop or ret, then c.addi a0 */
}

static uint64_t any_slot(struct hart *h)
{
    return 8 * (rnd(h) % SLOTS) + 6;
}

static void patch(struct hart *h, uint64_t base)
{
    *(volatile uint64_t *)(base + any_slot(h)) = slot_code(h);
}

/* Interrupts and exceptions. */

static void interrupted(struct hart *h, uint64_t cause)
{
    if (cause == 7) {
        arm(h);
        if (rnd(h) % 4 == 0)
            patch(h, (uint64_t)arena);
    } else {
        *(volatile uint32_t *)(CLINT + 4 * h->id) = 0;
    }
}

static void leave(struct hart *h)
{
    write_csr("mepc", h->back);
    h->frame[2] = h->back_sp;
    set_csr("mstatus", MSTATUS_MPP | MSTATUS_MPIE);
}

void trap(struct hart *h)
{
    uint64_t cause = read_csr("mcause"), epc = read_csr("mepc");

    fold(h, epc);
    fold(h, cause);
    fold(h, read_csr("mtval"));
    fold(h, h->frame[10]);
    if (cause >> 63) {
        interrupted(h, cause << 1 >> 1);
    } else if (cause == 2) { /* the unit is off */
        set_csr("mstatus", rnd(h) % 2 ? 1u << 13 : MSTATUS_FS);
    } else if (cause == 1 || cause == 12) {
        if (h->frame[1] == 0 || epc == 0)
            leave(h);
        else
            write_csr("mepc", h->frame[1]);
    } else {
        write_csr("mepc", epc + ((*(volatile uint16_t *)epc & 3) == 3 ? 4 : 2));
    }
}

/* S-mode's timer; nothing else is delegated. */
void s_trap(struct hart *h)
{
    fold(h, read_csr("sepc"));
    fold(h, h->s_frame[10]);
    write_csr("0x14d", read_csr("time") + rnd(h) % 8); /* stimecmp */
}

/* Rounds. */

static void round_patch(struct hart *h)
{
    uint64_t a0 = rnd(h);

    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = (uint64_t)arena + any_slot(h);
        for (unsigned k = 0; k < 12; k++)
            a0 = call(at, a0);
        patch(h, (uint64_t)arena);
    }
    fold(h, a0);
}

static void round_atomics(struct hart *h)
{
    for (unsigned i = 0; i < 100; i++) {
        uint64_t old, failed;
        __asm__ volatile("lr.d %0, (%2)\n addi %0, %0, 3\n sc.d %1, %0, (%2)"
                         : "=&r"(old), "=&r"(failed)
                         : "r"(&contended)
                         : "memory");
        fold(h, old + failed);
        fold(h, __atomic_fetch_xor(&count, old, __ATOMIC_RELAXED));
        fold(h, (uint64_t)__atomic_fetch_add((volatile uint32_t *)&count, 5, __ATOMIC_RELAXED));
        if (i % 32 == 0)
            __asm__ volatile(".insn i 0x0f, 0, x0, x0, 0x010"); /* pause */
    }
}

static void round_message(struct hart *h)
{
    *(volatile uint32_t *)(CLINT + 4 * (rnd(h) % started)) = 1;
    fold(h, contended);
}

static void round_floating(struct hart *h)
{
    if (rnd(h) % 4 == 0)
        clear_csr("mstatus", MSTATUS_FS);
    for (unsigned i = 0; i < 12; i++)
        fold(h, floating(rnd(h) << 20 ^ rnd(h), rnd(h) % 5));
}

static void edit(struct hart *h)
{
    uint64_t page = (rnd(h) % 2 ? (uint64_t)arena : (uint64_t)data) + rnd(h) % ARENA_PAGES * 4096;
    uint64_t bits = rnd(h) & 0xdf;

    if (rnd(h) % 8)
        bits |= 0xcf;
    if (page >= (uint64_t)data && page < (uint64_t)data + sizeof data)
        bits &= ~8ull; /* it is no code */
    last[rnd(h) % WINDOWS] = page >> 2 | bits;
}

/* In S-mode: accesses and calls through the window while its entries change. */
static void supervise(struct hart *h)
{
    uint64_t a0 = 1;

    for (unsigned i = 0; i < 30; i++) {
        uint64_t at = WINDOW + rnd(h) % (WINDOWS * 4096 - 16);
        for (unsigned k = 0; k < 6; k++) {
            uint64_t value = k;
            __asm__ volatile("ld %0, (%1)" : "+r"(value) : "r"(at));
            fold(h, value);
            if ((at >> 3 & 1) == 0)
                a0 = call(WINDOW + any_slot(h), a0);
        }
        if (rnd(h) % 2)
            patch(h, WINDOW + rnd(h) % 3 * 4096); /* any place of three pages is in the window */
        if (rnd(h) % 2)
            edit(h);
        if (rnd(h) % 4 == 0)
            set_csr("sstatus", 1u << (18 + rnd(h) % 2));
        if (rnd(h) % 4 == 0)
            clear_csr("sstatus", 3u << 18);
        if (rnd(h) % 8 == 0)
            __asm__ volatile("sfence.vma" ::: "memory");
        fold(h, a0);
    }
}

static void round_supervisor(struct hart *h)
{
    write_csr("satp", 8ull << 60 | (rnd(h) % 2) << 44 | (uint64_t)root >> 12);
    write_csr("0x14d", read_csr("time") + rnd(h) % 8);
    enter(h, (uint64_t)supervise, (uint64_t)h, MPP_S | MSTATUS_SPIE | MSTATUS_SIE | MSTATUS_MPIE);
}

static void round_user(struct hart *h)
{
    edit(h);
    for (unsigned i = 0; i < 6; i++)
        enter(h, WINDOW + any_slot(h), rnd(h), MSTATUS_MPIE);
}

/* The disk: reads code into the arena while it runs. */

static struct {
    struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } desc[8];
    volatile uint16_t avail[4 + 8];
    volatile uint32_t used[1 + 2 * 8 + 1] __attribute__((aligned(4)));
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } request;
    volatile uint8_t status;
} queue __attribute__((aligned(4096)));

static uint64_t disk;

static volatile uint32_t *disk_register(unsigned offset)
{
    return (volatile uint32_t *)(disk + offset);
}

static void disk_address(unsigned offset, const volatile void *address)
{
    *disk_register(offset) = (uint32_t)(uint64_t)address;
    *disk_register(offset + 4) = (uint32_t)((uint64_t)address >> 32);
}

static void disk_start(void)
{
    for (disk = VIRTIO; *disk_register(8) != 2; disk += 0x1000)
        ;
    *disk_register(0x70) = 3;
    *disk_register(0x24) = 1;
    *disk_register(0x20) = 1; /* VIRTIO_F_VERSION_1 */
    *disk_register(0x24) = 0;
    *disk_register(0x20) = 0;
    *disk_register(0x70) = 11;
    *disk_register(0x30) = 0;
    *disk_register(0x38) = 8;
    disk_address(0x80, queue.desc);
    disk_address(0x90, queue.avail);
    disk_address(0xa0, queue.used);
    *disk_register(0x44) = 1;
    *disk_register(0x70) = 15;
}

static void round_disk(struct hart *h)
{
    uint16_t seen = (uint16_t)(queue.used[0] >> 16);
    uint64_t a0 = 0, at = (uint64_t)arena + any_slot(h), sectors = 1 + rnd(h) % 8;

    queue.request.type = 0;
    queue.request.sector = rnd(h) % 1024;
    queue.desc[0].addr = (uint64_t)&queue.request, queue.desc[0].len = 16;
    queue.desc[0].flags = 1, queue.desc[0].next = 1;
    queue.desc[1].addr = (uint64_t)arena + rnd(h) % (ARENA_PAGES * 8 - 8) * 512;
    queue.desc[1].len = (uint32_t)sectors * 512, queue.desc[1].flags = 3, queue.desc[1].next = 2;
    queue.desc[2].addr = (uint64_t)&queue.status, queue.desc[2].len = 1, queue.desc[2].flags = 2;
    queue.avail[2 + queue.avail[1] % 8] = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    queue.avail[1]++;
    *disk_register(0x50) = 0;
    while ((uint16_t)(queue.used[0] >> 16) == seen)
        a0 = call(at, a0);
    for (unsigned i = 0; i < 20; i++)
        a0 = call(at, a0);
    fold(h, a0 + queue.status);
}

static void play(struct hart *h)
{
    set_csr("mstatus", MSTATUS_MIE);
    switch (rnd(h) % (h->id ? 7 : 8)) {
    case 0:
    case 1:
        round_patch(h);
        break;
    case 2:
        round_atomics(h);
        break;
    case 3:
        round_floating(h);
        break;
    case 4:
        round_message(h);
        break;
    case 5:
        round_supervisor(h);
        break;
    case 6:
        round_user(h);
        break;
    default:
        round_disk(h);
    }
    clear_csr("mstatus", MSTATUS_MIE);
}

static void prepare(struct hart *h)
{
    *(volatile uint64_t *)arena = 0x05018082ull << 16 | 5; /* as if a slot were before; its last bytes */
    for (unsigned i = 0; i < SLOTS; i++)
        *(volatile uint64_t *)(arena + 8 * i + 6) = slot_code(h);
    *(volatile uint64_t *)(arena + 8 * SLOTS + 6) = (slot_code(h) & ~(0xffffull << 32)) | 0x8082ull << 32;
    for (unsigned i = 0; i < sizeof data; i += 8)
        *(volatile uint64_t *)(data + i) = rnd(h);
    root[1] = (uint64_t)middle >> 2 | 1;
    root[2] = 0x80000000ull >> 2 | 0xcf;
    middle[0] = (uint64_t)last >> 2 | 1;
    for (unsigned i = 0; i < 4 * WINDOWS; i++)
        edit(h);
    disk_start();
}

void run(uint64_t id)
{
    struct hart *h = &harts[id];

    h->id = id;
    h->random = seed + id;
    write_csr("mtvec", trap_entry);
    write_csr("mscratch", h);
    write_csr("stvec", s_trap_entry);
    write_csr("sscratch", h);
    write_csr("pmpaddr0", ~0ull);
    write_csr("pmpcfg0", 0x1f);
    write_csr("medeleg", 0);
    write_csr("mideleg", 1u << 5);
    write_csr("mcounteren", 7);
    write_csr("0x30a", 7ull << 61); /* menvcfg: STCE, PBMTE, ADUE */
    write_csr("sie", 1u << 5);
    set_csr("mie", 1u << 7 | 1u << 3);
    if (id == 0)
        prepare(h);
    while (__atomic_load_n(&started, __ATOMIC_RELAXED) != id)
        ;
    __atomic_fetch_add(&started, 1, __ATOMIC_RELAXED);
    arm(h);
    for (unsigned round = 0; round < ROUNDS; round++)
        play(h);
    __atomic_fetch_add(&done, 1, __ATOMIC_RELAXED);
    while (id || __atomic_load_n(&done, __ATOMIC_RELAXED) != started)
        ;
    POWER = 0x5555;
}
