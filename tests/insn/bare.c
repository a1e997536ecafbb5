/* The bare machine of bare.h. */
#include "tests/insn/bare.h"

#include "cpu-core/state/state.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MMU_LEVELS 5 /* Sv57 */

static int uart_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = offset == 5 ? 0x60 : 0; /* LSR: transmitter empty */
    return 0;
}

static int uart_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct bare *b = dev;

    if (offset == 0 && b->put)
        b->put(b->put_arg, (uint8_t)value);
    return 0;
}

static int test_read(void *dev, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = 0;
    return 0;
}

/* QEMU's sifive_test: 0x5555 passes, 0x3333 fails with the status in the upper half. */
static int test_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct bare *b = dev;

    if (offset != 0)
        return 0;
    b->stopped = true;
    b->status = (value & 0xffff) == 0x5555 ? 0 : (unsigned)(value >> 16 & 0xffff);
    hart_shorten(&b->hart, 0);
    return 0;
}

static const struct bus_ops uart_ops = {uart_read, uart_write};
static const struct bus_ops test_ops = {test_read, test_write};

static int create_parts(struct bare *b, const struct engine *ops, uint64_t memory, bool no_tlb)
{
    struct bus_region uart = {0x10000000, 0x100, &uart_ops, b, "uart"};
    struct bus_region test = {0x100000, 0x1000, &test_ops, b, "test"};
    int rc = ram_create(&b->ram, memory);

    if (!rc)
        rc = bus_add(&b->bus, &uart);
    if (!rc)
        rc = bus_add(&b->bus, &test);
    if (!rc)
        rc = mmu_create(&b->mmu, &b->ram, &b->bus, b->harts, 1, MMU_LEVELS, no_tlb);
    if (!rc)
        rc = ops->create(&b->engine, b->mmu, no_tlb);
    return rc;
}

int bare_create(struct bare *b, const struct engine *ops, uint64_t memory, bool no_tlb)
{
    int rc;

    memset(b, 0, sizeof *b);
    vclock_init(&b->clock, 1ull << 32);
    b->harts[0] = &b->hart;
    b->hart.harts = b->harts;
    b->hart.nharts = 1;
    b->hart.clock = &b->clock;
    b->ops = ops;
    rc = create_parts(b, ops, memory, no_tlb);
    if (rc) {
        bare_destroy(b);
        return rc;
    }
    mmu_set_engine(b->mmu, ops, b->engine);
    hart_reset(&b->hart, RAM_BASE);
    return 0;
}

void bare_destroy(struct bare *b)
{
    if (b->engine)
        b->ops->destroy(b->engine);
    mmu_destroy(b->mmu);
    ram_destroy(&b->ram);
}

/* A read-only view of a file. */
struct view {
    const uint8_t *bytes;
    size_t len;
};

static bool inside(const struct view *v, uint64_t offset, uint64_t len)
{
    return offset <= v->len && len <= v->len - offset;
}

static int map_file(const char *path, struct view *v)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0) {
        rc = -errno;
    } else if (st.st_size == 0) {
        rc = -EINVAL;
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            rc = -errno;
        *v = (struct view){p, (size_t)st.st_size};
    }
    close(fd);
    return rc;
}

static int load_segments(struct bare *b, const struct view *v, const Elf64_Ehdr *eh)
{
    for (unsigned i = 0; i < eh->e_phnum; i++) {
        uint64_t at = eh->e_phoff + (uint64_t)i * sizeof(Elf64_Phdr);
        Elf64_Phdr ph;
        if (!inside(v, at, sizeof ph))
            return -EINVAL;
        memcpy(&ph, v->bytes + at, sizeof ph);
        if (ph.p_type != PT_LOAD || ph.p_filesz == 0)
            continue;
        if (!inside(v, ph.p_offset, ph.p_filesz))
            return -EINVAL;
        int rc = mmu_dma_write(b->mmu, ph.p_paddr, v->bytes + ph.p_offset, ph.p_filesz);
        if (rc)
            return rc;
    }
    return 0;
}

static bool section(const struct view *v, const Elf64_Ehdr *eh, unsigned i, Elf64_Shdr *sh)
{
    uint64_t at = eh->e_shoff + (uint64_t)i * sizeof *sh;

    if (i >= eh->e_shnum || !inside(v, at, sizeof *sh))
        return false;
    memcpy(sh, v->bytes + at, sizeof *sh);
    return inside(v, sh->sh_offset, sh->sh_type == SHT_NOBITS ? 0 : sh->sh_size);
}

static bool name_is(const struct view *v, const Elf64_Shdr *names, uint32_t at, const char *name)
{
    return at < names->sh_size && names->sh_size - at > strlen(name) &&
           memcmp(v->bytes + names->sh_offset + at, name, strlen(name) + 1) == 0;
}

/* Value of a symbol, 0 if there is none. */
static uint64_t find_symbol(const struct view *v, const Elf64_Ehdr *eh, const char *name)
{
    for (unsigned i = 0; i < eh->e_shnum; i++) {
        Elf64_Shdr symbols, names;
        if (!section(v, eh, i, &symbols) || symbols.sh_type != SHT_SYMTAB ||
            !section(v, eh, symbols.sh_link, &names))
            continue;
        for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= symbols.sh_size; at += sizeof(Elf64_Sym)) {
            Elf64_Sym sym;
            memcpy(&sym, v->bytes + symbols.sh_offset + at, sizeof sym);
            if (name_is(v, &names, sym.st_name, name))
                return sym.st_value;
        }
    }
    return 0;
}

static int load_view(struct bare *b, const struct view *v, uint64_t *entry, uint64_t *tohost)
{
    Elf64_Ehdr eh;

    if (v->len < sizeof eh || memcmp(v->bytes, ELFMAG, SELFMAG) != 0)
        return mmu_dma_write(b->mmu, RAM_BASE, v->bytes, v->len);
    memcpy(&eh, v->bytes, sizeof eh);
    if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_RISCV ||
        eh.e_phentsize != sizeof(Elf64_Phdr))
        return -EINVAL;
    *entry = eh.e_entry;
    *tohost = find_symbol(v, &eh, "tohost");
    return load_segments(b, v, &eh);
}

int bare_load(struct bare *b, const char *path, uint64_t *tohost)
{
    uint64_t entry = RAM_BASE;
    struct view v = {0};
    int rc = map_file(path, &v);

    *tohost = 0;
    if (rc)
        return rc;
    rc = load_view(b, &v, &entry, tohost);
    munmap((void *)v.bytes, v.len);
    if (!rc)
        hart_reset(&b->hart, entry);
    return rc;
}

void bare_run(struct bare *b, uint64_t steps)
{
    uint64_t end = b->steps + steps;

    while (b->steps < end && !b->stopped) {
        hart_slice_begin(&b->hart, b->steps, end - b->steps);
        b->ops->run(b->engine, &b->hart);
        b->steps += hart_slice_end(&b->hart);
        b->hart.wait = HART_RUNS;
    }
}

static void visit_hart(void *arg, struct state_io *io)
{
    hart_state(arg, io);
}

uint64_t bare_hash(struct bare *b, bool with_ram)
{
    uint64_t hash = state_hash(visit_hart, &b->hart);

    return with_ram ? hash + ram_hash_full(&b->ram) : hash;
}
