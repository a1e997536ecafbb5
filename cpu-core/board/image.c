/* Image formats. The files are untrusted: every offset is checked before use. Must not know the board's
 * layout. */
#include "cpu-core/board/image.h"

#include "cpu-core/mmu/mmu.h"

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define CHUNK 65536u

/* The boot image header of RISC-V Linux; an EFI stub makes code0 the "MZ" of a PE file. */
struct linux_header {
    uint32_t code0, code1;
    uint64_t text_offset, image_size, flags;
    uint32_t version, res1;
    uint64_t res2, magic;
    uint32_t magic2, pe_offset;
};
#define LINUX_MAGIC2 0x05435352u /* "RSC\x05" */

__attribute__((format(printf, 3, 4))) static int bad(char *err, size_t errlen, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

static bool inside(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

static void segment_at(const struct image *img, const Elf64_Ehdr *eh, unsigned i, Elf64_Phdr *ph)
{
    memcpy(ph, img->data + eh->e_phoff + (uint64_t)i * sizeof *ph, sizeof *ph);
}

static int check_segment(struct image *img, const Elf64_Phdr *ph, char *err, size_t errlen)
{
    uint64_t end;
    if (!inside(ph->p_offset, ph->p_filesz, img->len))
        return bad(err, errlen, "truncated ELF");
    if (ph->p_memsz < ph->p_filesz || __builtin_add_overflow(ph->p_paddr, ph->p_memsz, &end))
        return bad(err, errlen, "malformed ELF segment at 0x%llx", (unsigned long long)ph->p_paddr);
    if (ph->p_paddr < img->low)
        img->low = ph->p_paddr;
    if (end > img->high)
        img->high = end;
    return 0;
}

static int open_elf(struct image *img, char *err, size_t errlen)
{
    Elf64_Ehdr eh;
    Elf64_Phdr ph;
    if (img->len < sizeof eh)
        return bad(err, errlen, "truncated ELF");
    memcpy(&eh, img->data, sizeof eh);
    if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_machine != EM_RISCV)
        return bad(err, errlen, "not a 64-bit RISC-V ELF");
    if (eh.e_phnum && eh.e_phentsize != sizeof ph)
        return bad(err, errlen, "malformed ELF program headers");
    if (!inside(eh.e_phoff, (uint64_t)eh.e_phnum * sizeof ph, img->len))
        return bad(err, errlen, "truncated ELF");
    img->format = IMAGE_ELF;
    img->low = UINT64_MAX;
    img->entry = eh.e_entry;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        segment_at(img, &eh, i, &ph);
        int e = ph.p_type == PT_LOAD && ph.p_memsz ? check_segment(img, &ph, err, errlen) : 0;
        if (e)
            return e;
    }
    return img->high ? 0 : bad(err, errlen, "ELF without loadable segments");
}

/* The sections of an EFI stub's PE header tell how long the file must be; returns that, or 0 if it has none.
 */
static uint64_t pe_file_size(const struct image *img, const struct linux_header *h)
{
    uint64_t size = 0, at = h->pe_offset;
    uint16_t nsections, optional;
    uint32_t raw[2];
    if ((h->code0 & 0xffff) != 0x5a4d || !inside(at, 24, img->len) || memcmp(img->data + at, "PE\0\0", 4))
        return 0;
    memcpy(&nsections, img->data + at + 6, 2);
    memcpy(&optional, img->data + at + 20, 2);
    at += 24 + optional;
    for (unsigned i = 0; i < nsections && inside(at, 40, img->len); i++, at += 40) {
        memcpy(raw, img->data + at + 16, sizeof raw);
        if ((uint64_t)raw[0] + raw[1] > size)
            size = (uint64_t)raw[0] + raw[1];
    }
    return size;
}

static bool linux_header(const uint8_t *data, size_t len, struct linux_header *h)
{
    if (len < sizeof *h)
        return false;
    memcpy(h, data, sizeof *h);
    return h->magic2 == LINUX_MAGIC2;
}

static int open_linux(struct image *img, const struct linux_header *h, char *err, size_t errlen)
{
    if (pe_file_size(img, h) > img->len)
        return bad(err, errlen, "truncated Image");
    img->format = IMAGE_LINUX;
    img->high = h->image_size > img->len ? h->image_size : img->len;
    return 0;
}

static bool looks_like_text(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len && i < 16; i++)
        if ((p[i] < 0x20 && (p[i] < '\t' || p[i] > '\r')) || p[i] == 0x7f)
            return false;
    return true;
}

/* Whether boot code may begin with this instruction: it neither touches memory nor depends on registers that
 * nobody set. */
static bool begins_a_program(const uint8_t *p, size_t len)
{
    uint32_t insn = 0;
    if (len < 4)
        return false;
    memcpy(&insn, p, sizeof insn);
    unsigned funct3 = insn >> 12 & 7, rs1 = insn >> 15 & 31;
    switch (insn & 3) {
    case 1:
        return (insn >> 13 & 7) == 5; /* c.j */
    case 2:
        return (insn >> 12 & 15) == 8 && (insn >> 7 & 31) && (insn >> 2 & 31); /* c.mv */
    case 3:
        break;
    default:
        return false;
    }
    switch (insn & 0x7f) {
    case 0x6f: /* jal */
    case 0x17: /* auipc */
    case 0x37: /* lui */
    case 0x0f: /* fence */
        return true;
    case 0x73: /* csr access */
        return funct3 & 3;
    case 0x13: /* li, mv */
        return !funct3 && (!rs1 || !(insn >> 20));
    case 0x33: /* mv as add with x0 */
        return !funct3 && !(insn >> 25) && (!rs1 || !(insn >> 20 & 31));
    default:
        return false;
    }
}

int image_open(struct image *img, const uint8_t *data, size_t len, int strict, char *err, size_t errlen)
{
    struct linux_header h;
    *img = (struct image){.data = data, .len = len};
    if (!len)
        return bad(err, errlen, "empty file");
    if (len >= SELFMAG && !memcmp(data, ELFMAG, SELFMAG))
        return open_elf(img, err, errlen);
    if (linux_header(data, len, &h))
        return open_linux(img, &h, err, errlen);
    if (len >= 2 && data[0] == 0x1f && data[1] == 0x8b) {
        img->format = IMAGE_GZIP;
        return 0;
    }
    if (looks_like_text(data, len) || (strict && !begins_a_program(data, len)))
        return bad(err, errlen, "not an ELF or Image, nor a flat program");
    img->format = IMAGE_FLAT;
    img->high = len;
    return 0;
}

static int too_large(uint64_t base, uint64_t size, uint64_t limit, char *err, size_t errlen)
{
    return bad(err, errlen, "too large for memory: %llu bytes at 0x%llx, space ends at 0x%llx",
               (unsigned long long)size, (unsigned long long)base, (unsigned long long)limit);
}

static int zero(struct mmu *m, uint64_t pa, uint64_t len)
{
    static const uint8_t zeros[CHUNK];
    int err = 0;
    for (uint64_t done = 0; done < len && !err; done += CHUNK)
        err = mmu_dma_write(m, pa + done, zeros, len - done < CHUNK ? len - done : CHUNK);
    return err;
}

static int load_elf(const struct image *img, struct mmu *m, uint64_t limit, uint64_t *end, char *err,
                    size_t errlen)
{
    Elf64_Ehdr eh;
    Elf64_Phdr ph;
    if (!ram_contains(mmu_ram(m), img->low, img->high - img->low) || img->high > limit)
        return bad(err, errlen,
                   "ELF segments from 0x%llx to 0x%llx do not fit into memory, space ends at 0x%llx",
                   (unsigned long long)img->low, (unsigned long long)img->high, (unsigned long long)limit);
    memcpy(&eh, img->data, sizeof eh);
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        segment_at(img, &eh, i, &ph);
        if (ph.p_type != PT_LOAD || !ph.p_memsz)
            continue;
        int e = mmu_dma_write(m, ph.p_paddr, img->data + ph.p_offset, ph.p_filesz);
        if (!e)
            e = zero(m, ph.p_paddr + ph.p_filesz, ph.p_memsz - ph.p_filesz);
        if (e)
            return bad(err, errlen, "malformed ELF segment at 0x%llx", (unsigned long long)ph.p_paddr);
    }
    *end = img->high;
    return 0;
}

/* Inflates into memory at `base`, chunk by chunk. `z` is ready. */
static int inflate_to(z_stream *z, struct mmu *m, uint64_t base, uint64_t limit, uint64_t *end, char *err,
                      size_t errlen)
{
    uint8_t out[CHUNK];
    struct linux_header h = {0};
    uint64_t at = base;
    int status = Z_OK;
    while (status == Z_OK) {
        z->next_out = out;
        z->avail_out = sizeof out;
        status = inflate(z, Z_NO_FLUSH);
        uint64_t n = sizeof out - z->avail_out;
        if (status == Z_BUF_ERROR || (status == Z_OK && z->avail_out))
            return bad(err, errlen, "truncated gzip data");
        if (status != Z_OK && status != Z_STREAM_END)
            return bad(err, errlen, "corrupt gzip data");
        if (at == base && !linux_header(out, n, &h))
            return bad(err, errlen, "gzip data that is not an Image");
        if (n > limit - at)
            return too_large(base, h.image_size > at - base + n ? h.image_size : at - base + n, limit, err,
                             errlen);
        if (mmu_dma_write(m, at, out, n) < 0)
            return too_large(base, at - base + n, limit, err, errlen);
        at += n;
    }
    if (h.image_size > limit - base)
        return too_large(base, h.image_size, limit, err, errlen);
    *end = h.image_size > at - base ? base + h.image_size : at;
    return 0;
}

static int load_gzip(const struct image *img, struct mmu *m, uint64_t base, uint64_t limit, uint64_t *end,
                     char *err, size_t errlen)
{
    z_stream z = {0};
    if (img->len > UINT32_MAX)
        return bad(err, errlen, "more than 4 GiB of gzip data");
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return bad(err, errlen, "no memory to decompress");
    z.next_in = (Bytef *)img->data;
    z.avail_in = (uInt)img->len;
    int e = inflate_to(&z, m, base, limit, end, err, errlen);
    inflateEnd(&z);
    return e;
}

int image_load(const struct image *img, struct mmu *m, uint64_t base, uint64_t limit, uint64_t *end,
               char *err, size_t errlen)
{
    if (img->format == IMAGE_ELF)
        return load_elf(img, m, limit, end, err, errlen);
    if (base > limit)
        return too_large(base, img->len, limit, err, errlen);
    if (img->format == IMAGE_GZIP)
        return load_gzip(img, m, base, limit, end, err, errlen);
    if (img->high > limit - base || mmu_dma_write(m, base, img->data, img->len) < 0)
        return too_large(base, img->high, limit, err, errlen);
    *end = base + img->high;
    return 0;
}
