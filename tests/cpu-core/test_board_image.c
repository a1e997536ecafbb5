/* Boot image formats, good and bad. */
#include "cpu-core/board/image.h"
#include "tests/cpu-core/rig.h"

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MEMORY (8ull << 20)
#define LIMIT  (RAM_BASE + MEMORY)

static char err[160];

static void assert_open_fails(const void *data, size_t len, int strict, const char *why)
{
    struct image img;
    assert_int_equal(image_open(&img, data, len, strict, err, sizeof err), -EINVAL);
    assert_string_equal(err, why);
}

struct elf {
    Elf64_Ehdr eh;
    Elf64_Phdr ph[3];
    uint8_t body[64];
};

static struct elf make_elf(void)
{
    struct elf e = {
        .eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_EXEC,
               .e_machine = EM_RISCV,
               .e_entry = RAM_BASE + 0x104,
               .e_phoff = offsetof(struct elf, ph),
               .e_phentsize = sizeof(Elf64_Phdr),
               .e_phnum = 3},
        .ph = {{.p_type = PT_LOAD,
                .p_offset = offsetof(struct elf, body),
                .p_paddr = RAM_BASE + 0x100,
                .p_filesz = 64,
                .p_memsz = 0x2000},
               {.p_type = PT_NOTE, .p_offset = UINT64_MAX, .p_filesz = 9},
               {.p_type = PT_LOAD, .p_offset = UINT64_MAX, .p_paddr = 1, .p_filesz = 9}},
    };
    memset(e.body, 0xab, sizeof e.body);
    return e;
}

static void test_elf(void **state)
{
    struct rig r;
    struct elf e = make_elf();
    struct image img;
    uint64_t end = 0;
    rig_create(&r, MEMORY, 1);
    rig_poke(&r, RAM_BASE + 0x20f8, 8, 0x1111111111111111);
    rig_poke(&r, RAM_BASE + 0x2100, 8, 0x2222222222222222);
    assert_int_equal(image_open(&img, (void *)&e, sizeof e, 1, err, sizeof err), 0);
    assert_int_equal(img.format, IMAGE_ELF);
    assert_int_equal(img.entry, RAM_BASE + 0x104);
    assert_int_equal(image_load(&img, r.mmu, 0, LIMIT, &end, err, sizeof err), 0);
    assert_int_equal(end, RAM_BASE + 0x2100);
    assert_int_equal(rig_peek(&r, RAM_BASE + 0x138, 8), 0xabababababababab);
    assert_int_equal(rig_peek(&r, RAM_BASE + 0x140, 8), 0);
    assert_int_equal(rig_peek(&r, RAM_BASE + 0x20f8, 8), 0); /* bss is cleared */
    assert_int_equal(rig_peek(&r, RAM_BASE + 0x2100, 8), 0x2222222222222222);
    assert_int_equal(image_load(&img, r.mmu, 0, RAM_BASE + 0x2000, &end, err, sizeof err), -EINVAL);
    assert_string_equal(err,
                        "ELF segments from 0x80000100 to 0x80002100 do not fit into memory, space ends at "
                        "0x80002000");
    rig_destroy(&r);
}

static void test_bad_elf(void **state)
{
    struct elf e = make_elf();
    for (size_t len = 4; len < sizeof e; len++)
        assert_open_fails(&e, len, 1, "truncated ELF");
    e.eh.e_machine = EM_X86_64;
    assert_open_fails(&e, sizeof e, 1, "not a 64-bit RISC-V ELF");
    e = make_elf();
    e.eh.e_ident[EI_CLASS] = ELFCLASS32;
    assert_open_fails(&e, sizeof e, 0, "not a 64-bit RISC-V ELF");
    e = make_elf();
    e.eh.e_phentsize = 8;
    assert_open_fails(&e, sizeof e, 1, "malformed ELF program headers");
    e = make_elf();
    e.eh.e_phoff = UINT64_MAX - 8;
    assert_open_fails(&e, sizeof e, 1, "truncated ELF");
    e = make_elf();
    e.ph[0].p_memsz = 8;
    assert_open_fails(&e, sizeof e, 1, "malformed ELF segment at 0x80000100");
    e = make_elf();
    e.ph[0].p_memsz = UINT64_MAX;
    assert_open_fails(&e, sizeof e, 1, "malformed ELF segment at 0x80000100");
    e = make_elf();
    e.eh.e_phnum = 0;
    assert_open_fails(&e, sizeof e, 1, "ELF without loadable segments");
}

static void test_elf_outside_memory(void **state)
{
    struct rig r;
    struct elf e = make_elf();
    struct image img;
    uint64_t end;
    rig_create(&r, MEMORY, 1);
    e.ph[0].p_paddr = 0x1000;
    assert_int_equal(image_open(&img, (void *)&e, sizeof e, 1, err, sizeof err), 0);
    assert_int_equal(image_load(&img, r.mmu, 0, LIMIT, &end, err, sizeof err), -EINVAL);
    rig_destroy(&r);
}

static const uint8_t *make_linux(size_t len, uint64_t image_size)
{
    static uint8_t image[300000];
    memset(image, 0, sizeof image);
    for (size_t i = 64; i < len; i++)
        image[i] = (uint8_t)(i * 7 >> 3);
    memcpy(image, "\x6f\x00\x00\x10", 4); /* j 0x100 */
    memcpy(image + 16, &image_size, 8);
    memcpy(image + 48, "RISCV\0\0\0RSC\x05", 12);
    return image;
}

static void test_linux(void **state)
{
    struct rig r;
    struct image img;
    uint64_t end = 0;
    rig_create(&r, MEMORY, 1);
    const uint8_t *data = make_linux(300000, 0x100000);
    assert_int_equal(image_open(&img, data, 300000, 1, err, sizeof err), 0);
    assert_int_equal(img.format, IMAGE_LINUX);
    assert_int_equal(image_load(&img, r.mmu, RAM_BASE + 0x200000, LIMIT, &end, err, sizeof err), 0);
    assert_int_equal(end, RAM_BASE + 0x300000);
    assert_int_equal(rig_peek(&r, RAM_BASE + 0x200000 + 299992, 8), *(const uint64_t *)(data + 299992));
    assert_int_equal(image_load(&img, r.mmu, RAM_BASE + 0x200000, RAM_BASE + 0x2fffff, &end, err, sizeof err),
                     -EINVAL);
    assert_string_equal(err, "too large for memory: 1048576 bytes at 0x80200000, space ends at 0x802fffff");
    assert_int_equal(image_load(&img, r.mmu, LIMIT, RAM_BASE, &end, err, sizeof err), -EINVAL);
    rig_destroy(&r);
}

static void test_truncated_efi_stub(void **state)
{
    uint8_t *data = (uint8_t *)make_linux(4096, 8192);
    struct image img;
    uint32_t pe = 64, raw[2] = {2048, 2048}; /* one section: size and place in the file */
    uint16_t nsections = 1, optional = 16;
    memcpy(data, "MZ", 2);
    memcpy(data + 60, &pe, 4);
    memcpy(data + 64, "PE\0", 4);
    memcpy(data + 70, &nsections, 2);
    memcpy(data + 84, &optional, 2);
    memcpy(data + 64 + 24 + 16 + 16, raw, 8);
    assert_int_equal(image_open(&img, data, 4096, 1, err, sizeof err), 0);
    assert_open_fails(data, 4095, 1, "truncated Image");
}

static size_t compress_gzip(const void *data, size_t len, uint8_t *out, size_t space)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)data;
    z.avail_in = (uInt)len;
    z.next_out = out;
    z.avail_out = (uInt)space;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = z.total_out;
    deflateEnd(&z);
    return n;
}

static void test_gzip(void **state)
{
    static uint8_t packed[400000];
    struct rig r;
    struct image img;
    uint64_t end = 0;
    const uint8_t *data = make_linux(300000, 0x80000);
    size_t len = compress_gzip(data, 300000, packed, sizeof packed);
    rig_create(&r, MEMORY, 1);
    assert_int_equal(image_open(&img, packed, len, 1, err, sizeof err), 0);
    assert_int_equal(img.format, IMAGE_GZIP);
    assert_int_equal(image_load(&img, r.mmu, RAM_BASE, LIMIT, &end, err, sizeof err), 0);
    assert_int_equal(end, RAM_BASE + 0x80000);
    assert_memory_equal(ram_at(&r.ram, RAM_BASE), data, 300000);
    for (size_t cut = 2; cut < len; cut += len / 50) {
        img.len = cut;
        assert_int_equal(image_load(&img, r.mmu, RAM_BASE, LIMIT, &end, err, sizeof err), -EINVAL);
        assert_string_equal(err, "truncated gzip data");
    }
    img.len = len;
    packed[len - 6] ^= 1; /* the checksum */
    assert_int_equal(image_load(&img, r.mmu, RAM_BASE, LIMIT, &end, err, sizeof err), -EINVAL);
    assert_string_equal(err, "corrupt gzip data");
    packed[len - 6] ^= 1;
    assert_int_equal(image_load(&img, r.mmu, RAM_BASE, RAM_BASE + 0x40000, &end, err, sizeof err), -EINVAL);
    assert_string_equal(err, "too large for memory: 524288 bytes at 0x80000000, space ends at 0x80040000");
    assert_int_equal(image_load(&img, r.mmu, LIMIT, LIMIT, &end, err, sizeof err), -EINVAL);
    len = compress_gzip("hello", 5, packed, sizeof packed);
    assert_int_equal(image_open(&img, packed, len, 1, err, sizeof err), 0);
    assert_int_equal(image_load(&img, r.mmu, RAM_BASE, LIMIT, &end, err, sizeof err), -EINVAL);
    assert_string_equal(err, "gzip data that is not an Image");
    rig_destroy(&r);
}

static void test_flat(void **state)
{
    static const char *const programs[] = {
        "\x2a\x82\xae\x84\x93\x01\x00\x00", /* U-Boot: mv tp, a0 */
        "\x33\x04\x05\x00\xb3\x84\x05\x00", /* OpenSBI: add s0, a0, zero */
        "\x6f\x00\x00\x10\x00\x00\x00\x00", /* j */
        "\x01\xa0\x00\x00\x00\x00\x00\x00", /* c.j */
        "\x17\x01\x00\x00\x13\x01\x01\x00", /* auipc sp */
        "\x73\x25\x40\xf1\x00\x00\x00\x00", /* csrr a0, mhartid */
        "\x93\x02\x00\x00\x00\x00\x00\x00", /* li t0, 0 */
    };
    static const char nothing[64], script[] = "#!/bin/sh\necho I am not a kernel\n", zip[64] = "PK\3\4\x14",
                                   png[64] = "\x89PNG\r\n\x1a\n", bzimage[64] = "MZ\xea\7";
    const char *why = "not an ELF or Image, nor a flat program";
    struct image img;
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) {
        assert_int_equal(image_open(&img, (const uint8_t *)programs[i], 8, 1, err, sizeof err), 0);
        assert_int_equal(img.format, IMAGE_FLAT);
    }
    assert_open_fails(script, sizeof script - 1, 0, why);
    assert_open_fails(nothing, sizeof nothing, 1, why);
    assert_open_fails(zip, sizeof zip, 1, why);
    assert_open_fails(png, sizeof png, 1, why);
    assert_open_fails(bzimage, sizeof bzimage, 1, why);
    assert_open_fails("", 0, 1, "empty file");
    assert_open_fails("\x13", 1, 1, why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elf),
        cmocka_unit_test(test_bad_elf),
        cmocka_unit_test(test_elf_outside_memory),
        cmocka_unit_test(test_linux),
        cmocka_unit_test(test_truncated_efi_stub),
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
