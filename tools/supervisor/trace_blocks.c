/* The verb trace-blocks: translated blocks of a running machine, guest and host code side by side. */
#include "tools/disasm/blocks.h"
#include "tools/disasm/disasm.h"
#include "tools/supervisor/client.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/spec.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS       6000
#define DEFAULT_LAST 10
#define TEXT_MAX     160

static const char *privilege(const struct dump_block *b)
{
    static const char *const names[] = {"user", "supervisor", "?", "machine"};
    return names[b->priv & 3];
}

static const char *fp(const struct dump_block *b)
{
    static const char *const names[] = {"off", "on", "other rounding", "?"};
    return names[b->fp & 3];
}

/* The block's code consists of runs: what comes before the first instruction, then one for each. Instructions
 * that are one to the host share the run of the last of them. */
static void run_of(const struct dump_block *b, int i, uint32_t *from, uint32_t *to)
{
    const struct dump_insn *in = blocks_insns(b);
    *from = i < 0 ? 0 : in[i].at;
    *to = i + 1 < b->insns ? in[i + 1].at : b->code_len;
}

static size_t guest_text(const struct dump_block *b, unsigned i, char *text, size_t size)
{
    const struct dump_insn *in = &blocks_insns(b)[i];
    uint8_t bytes[4];
    memcpy(bytes, &in->bits, sizeof bytes);
    return disasm_riscv(bytes, (in->bits & 3) == 3 ? 4 : 2, blocks_pc(b, i), text, size);
}

/* Lines of host code; the first of them is beside the guest's text. */
static void print_host(const char *guest, const uint8_t *code, uint64_t address, uint32_t len)
{
    char text[TEXT_MAX];
    if (len == 0)
        printf("  %s\n", guest);
    for (uint32_t at = 0; at < len;) {
        size_t n = disasm_x64(code + at, len - at, address + at, text, sizeof text);
        printf("  %-52s | %012" PRIx64 "  %s\n", at ? "" : guest, address + at, text);
        at += (uint32_t)n;
    }
}

static void print_block(const struct dump_block *b, bool stubs)
{
    char guest[TEXT_MAX + 40], text[TEXT_MAX];
    uint32_t from, to;
    printf("block %016" PRIx64 "  physical %" PRIx64 ", %s, fp %s%s: %u instructions, %" PRIu32
           " bytes, stubs %" PRIu32 " bytes\n",
           b->va, b->pa, privilege(b), fp(b), b->flags & DUMP_SINGLE ? ", single accesses" : "", b->insns,
           b->code_len, b->stubs_len);
    if (b->executed)
        printf("executed %" PRIu64 " times\n", b->executed);
    for (int i = -1; i < b->insns; i++) {
        snprintf(guest, sizeof guest, "(entry)");
        if (i >= 0) {
            guest_text(b, (unsigned)i, text, sizeof text);
            snprintf(guest, sizeof guest, "%016" PRIx64 "  %s", blocks_pc(b, (unsigned)i), text);
        }
        run_of(b, i, &from, &to);
        if (i >= 0 || to > from)
            print_host(guest, blocks_code(b) + from, b->code + from, to - from);
    }
    if (stubs && b->stubs_len)
        print_host("(stubs)", blocks_stubs(b), b->stubs, b->stubs_len);
    putchar('\n');
}

static json_t *hex(uint64_t v)
{
    return json_sprintf("0x%" PRIx64, v);
}

static json_t *host_json(const uint8_t *code, uint64_t address, uint32_t len)
{
    json_t *list = json_array();
    char text[TEXT_MAX];
    for (uint32_t at = 0; at < len;) {
        size_t n = disasm_x64(code + at, len - at, address + at, text, sizeof text);
        json_array_append_new(
            list, json_pack("{s:o, s:i, s:s}", "address", hex(address + at), "len", (int)n, "text", text));
        at += (uint32_t)n;
    }
    return list;
}

static json_t *run_json(const struct dump_block *b, int i)
{
    uint32_t from, to;
    run_of(b, i, &from, &to);
    return host_json(blocks_code(b) + from, b->code + from, to - from);
}

static json_t *block_json(const struct dump_block *b, bool stubs)
{
    json_t *insns = json_array();
    char text[TEXT_MAX];
    for (unsigned i = 0; i < b->insns; i++) {
        guest_text(b, i, text, sizeof text);
        json_array_append_new(insns, json_pack("{s:o, s:o, s:s, s:o}", "pc", hex(blocks_pc(b, i)), "bits",
                                               hex(blocks_insns(b)[i].bits), "text", text, "host",
                                               run_json(b, (int)i)));
    }
    json_t *o = json_pack("{s:o, s:o, s:s, s:s, s:b, s:i, s:i, s:o, s:o}", "pc", hex(b->va), "physical",
                          hex(b->pa), "privilege", privilege(b), "fp", fp(b), "single",
                          (int)(b->flags & DUMP_SINGLE), "code_bytes", (int)b->code_len, "stub_bytes",
                          (int)b->stubs_len, "entry", run_json(b, -1), "insns", insns);
    if (b->executed)
        json_object_set_new(o, "executed", json_integer((json_int_t)b->executed));
    if (stubs)
        json_object_set_new(o, "stubs", host_json(blocks_stubs(b), b->stubs, b->stubs_len));
    return o;
}

static void show(const struct dump_block *b, bool stubs)
{
    if (!message_style.json) {
        print_block(b, stubs);
        return;
    }
    json_t *o = block_json(b, stubs);
    message_data(o);
    json_decref(o);
}

static int number_option(const struct invocation *in, const char *name, uint64_t *n, struct failure *f)
{
    const char *value = options_get(in, name);
    if (value && spec_number(value, n) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "--%s: '%s' is not a number", name, value);
    return 0;
}

static uint64_t work(const struct dump_block *b)
{
    return b->executed * b->insns;
}

static int by_work(const void *a, const void *b)
{
    uint64_t x = work(*(const struct dump_block *const *)a), y = work(*(const struct dump_block *const *)b);
    return x < y ? 1 : x > y ? -1 : 0;
}

static int show_top(const struct invocation *in, struct blocks_dump *d, uint64_t top, struct failure *f)
{
    qsort(d->blocks, d->n, sizeof(const struct dump_block *), by_work);
    if (d->n && work(d->blocks[0]) == 0) {
        failure_set(f, STATUS_WRONG_STATE, ENODATA, "machine '%s' does not count its blocks", in->args[0]);
        return failure_hint(f, "start it with --count-blocks");
    }
    for (size_t i = 0; i < d->n && i < top && work(d->blocks[i]); i++)
        show(d->blocks[i], options_has(in, "stubs"));
    return STATUS_OK;
}

static int show_chosen(const struct invocation *in, const struct blocks_dump *d, uint64_t pc, uint64_t last,
                       struct failure *f)
{
    bool by_pc = options_has(in, "pc"), stubs = options_has(in, "stubs");
    size_t shown = 0;
    for (size_t i = by_pc || d->n < last ? 0 : d->n - last; i < d->n; i++) {
        if (by_pc && !blocks_has(d->blocks[i], pc))
            continue;
        show(d->blocks[i], stubs);
        shown++;
    }
    if (by_pc && !shown)
        return failure_set(f, STATUS_FAILED, ENOENT, "machine '%s' has no translated block with 0x%" PRIx64,
                           in->args[0], pc);
    return STATUS_OK;
}

int verb_trace_blocks(const struct invocation *in, struct failure *f)
{
    uint64_t pc = 0, last = DEFAULT_LAST, top = 0;
    struct blocks_dump d;
    struct answer a;
    int err = number_option(in, "pc", &pc, f);
    if (!err)
        err = number_option(in, "last", &last, f);
    if (!err)
        err = number_option(in, "top", &top, f);
    if (err)
        return err;
    if (!disasm_available()) {
        failure_set(f, STATUS_FAILED, ENOTSUP, "this build of cleave has no disassembly");
        failure_hint(f, "build it with capstone 5, of the host or made by tools/disasm/build-capstone");
        return -ENOTSUP;
    }
    err = client_ask(in->args[0], "blocks", NULL, ASK_MS, &a, f);
    if (err)
        return err;
    err = a.fd < 0 ? -EPROTO : blocks_read(a.fd, &d);
    client_release(&a);
    if (err)
        return failure_set(f, STATUS_FAILED, -err, "cannot read the blocks of machine '%s': %s", in->args[0],
                           strerror(-err));
    err = options_has(in, "top") ? show_top(in, &d, top, f) : show_chosen(in, &d, pc, last, f);
    blocks_release(&d);
    return err;
}
