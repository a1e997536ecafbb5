#!/usr/bin/env python3
"""Generates the C form of the instruction table: gen.py rv64.insn OUT.h OUT.c DISPATCH.h

OUT.h has the enumerations and field accessors, OUT.c the decoder and the description of every line, DISPATCH.h the
initialisers of a handler table for an interpreter. Errors in the table, overlapping encodings first of all, end the
build."""

import sys

TARGETS = ("rd", "rs1", "rs2", "rs3", "rm", "imm")
ATTRIBUTES = ("fs", "trap", "end", "irq", "sext", "ff")
PRIVILEGES = {"U": 0, "S": 1, "M": 3}


class TableError(Exception):
    pass


def c_name(name):
    return name.replace(".", "_")


class Field:
    def __init__(self, words):
        self.name, self.target, self.kind = words[:3]
        self.signed = words[3:4] == ["signed"]
        self.shift = self.plus = 0
        self.parts = []  # (low bit, width) from the most significant part
        for word in words[4 if self.signed else 3:]:
            if word.startswith("<<"):
                self.shift = int(word[2:])
            elif word.startswith("+"):
                self.plus = int(word[1:])
            else:
                high, _, low = word.partition(":")
                low = int(low or high)
                self.parts.append((low, int(high) - low + 1))
        if self.target not in TARGETS + ("-",) or self.kind not in ("x", "f", "n") or not self.parts:
            raise TableError(f"field {self.name}: bad definition")
        self.width = sum(width for _, width in self.parts)
        self.mask = sum(((1 << width) - 1) << low for low, width in self.parts)

    def raw(self):
        """C expression of the field's bits, unshifted."""
        terms, left = [], self.width
        for low, width in self.parts:
            left -= width
            terms.append(f"((bits >> {low} & {(1 << width) - 1:#x}u) << {left})")
        return " | ".join(terms)

    def accessor(self):
        value = f"({self.raw()})"
        if self.signed:
            value = f"((int32_t)({value} << {32 - self.width}) >> {32 - self.width})"
        if self.shift:
            value = f"({value} * {1 << self.shift})"
        if self.plus:
            value = f"({value} + {self.plus})"
        return f"static inline int32_t isa_field_{self.name}(uint32_t bits)\n{{\n    return (int32_t){value};\n}}\n"


class Insn:
    def __init__(self, table, words):
        self.name, pattern, operands, self.ext, self.cls = words[:5]
        self.id = "INSN_" + c_name(self.name).upper()
        pattern = pattern.replace("_", "")
        if len(pattern) not in (16, 32) or set(pattern) - set("01."):
            raise TableError(f"{self.name}: bad pattern")
        self.length = len(pattern) // 8
        self.mask = int("".join("0" if c == "." else "1" for c in pattern), 2)
        self.match = int(pattern.replace(".", "0"), 2)
        self.base, self.operands = self.parse_operands(table, operands)
        self.size, self.weight, self.priv, self.nonzero, self.over = 0, 10, "U", [], []
        self.attributes = set(table.classes[self.cls])
        for flag in words[5:]:
            self.parse_flag(table, flag)

    def fail(self, why):
        raise TableError(f"{self.name}: {why}")

    def parse_operands(self, table, text):
        """Returns the base instruction (None if this is one) and (target, field or constant) pairs."""
        base, colon, names = text.rpartition(":")
        names = [n for n in names.split(",") if n not in ("", "-")]
        if not colon:
            fields = [table.fields[n] for n in names]
            return None, [(f.target, f) for f in fields]
        base = table.by_name[base]
        wanted = [f for _, f in base.operands]
        if len(names) != len(wanted):
            self.fail(f"{base.name} has {len(wanted)} operands")
        values = [table.fields[n] if n in table.fields else int(n) for n in names]
        for value, field in zip(values, wanted):
            if isinstance(value, Field) and value.kind != field.kind:
                self.fail(f"{value.name} can not be {field.name}")
        return base, [(f.target, v) for v, f in zip(values, wanted)]

    def parse_flag(self, table, flag):
        key, _, value = flag.partition("=")
        if flag in ATTRIBUTES:
            self.attributes.add(flag)
        elif key == "size":
            self.size = int(value)
        elif key == "w":
            self.weight = int(value)
        elif key == "priv":
            self.priv = value
        elif key == "nz":
            self.nonzero = [table.fields[n] for n in value.split(",")]
        elif key == "over":
            self.over = value.split(",")
        else:
            self.fail(f"unknown flag {flag}")

    def has_rm(self):
        return any(target == "rm" for target, _ in self.operands)


class Table:
    def __init__(self, path):
        self.fields, self.classes, self.insns, self.by_name = {}, {}, [], {}
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                words = line.split("#")[0].split()
                try:
                    if words:
                        self.add(words)
                except (TableError, KeyError, ValueError, IndexError) as error:
                    raise TableError(f"{path}:{number}: {error}") from error
        self.insns.sort(key=lambda i: i.length == 2)
        self.check_overlaps()

    def add(self, words):
        if words[0] == "field":
            self.fields[words[1]] = Field(words[1:])
        elif words[0] == "class":
            self.classes[words[1]] = words[2:]
        else:
            insn = Insn(self, words)
            if insn.name in self.by_name:
                raise TableError(f"{insn.name} twice")
            self.by_name[insn.name] = insn
            self.insns.append(insn)

    def check_overlaps(self):
        for i, a in enumerate(self.insns):
            for b in self.insns[i + 1:]:
                if a.length != b.length or (a.match ^ b.match) & a.mask & b.mask:
                    continue
                special, general = (a, b) if a.mask & b.mask == b.mask else (b, a)
                if special.mask & general.mask != general.mask or general.name not in special.over:
                    raise TableError(f"{a.name} and {b.name} overlap")

    def extensions(self):
        return list(dict.fromkeys(i.ext for i in self.insns))


def accept_name(insn):
    """Name of the function that fills in the operands of this shape."""
    values = [v.name if isinstance(v, Field) else f"k{v}".replace("-", "m") for _, v in insn.operands]
    targets = [t for t, v in insn.operands if not isinstance(v, Field)]
    return "_".join([f"accept{insn.length * 8}", *values, *(["to", *targets] if targets else [])])


def emit_accept(insn):
    lines = [f"static int {accept_name(insn)}(struct insn *out, unsigned op, unsigned line, uint32_t bits)", "{"]
    values = {target: value for target, value in insn.operands}
    if insn.has_rm():
        lines += ["    unsigned rm = (unsigned)isa_field_rm(bits);",
                  "    if (rm == 5 || rm == 6)", "        return -EINVAL;"]
    members = [f".bits = bits", ".op = (uint16_t)op", ".line = (uint16_t)line", f".len = {insn.length}"]
    for target, value in values.items():
        cast = "" if target == "imm" else "(uint8_t)"
        expr = f"isa_field_{value.name}(bits)" if isinstance(value, Field) else str(value)
        members.append(f".{target} = {cast}{expr}")
    lines += [f"    *out = (struct insn){{{', '.join(members)}}};", "    return 0;", "}", ""]
    return "\n".join(lines)


def emit_leaf(insn, indent):
    pad = " " * indent
    lines = []
    for field in insn.nonzero:
        lines += [f"{pad}if (({field.raw()}) == 0)", f"{pad}    return -EINVAL;"]
    op = (insn.base or insn).id
    lines.append(f"{pad}return {accept_name(insn)}(out, {op}, {insn.id}, bits);")
    return lines


def emit_node(insns, used, indent):
    """Decision tree: switch on the bits that all candidates fix, then on the rest; lines that win over others first."""
    pad = " " * indent
    common = ~used & 0xffffffff
    for insn in insns:
        common &= insn.mask
    if common:
        lines = [f"{pad}switch (bits & {common:#x}u) {{"]
        for value in sorted({i.match & common for i in insns}):
            lines.append(f"{pad}case {value:#x}u:")
            lines += emit_node([i for i in insns if i.match & common == value], used | common, indent + 4)
        return lines + [f"{pad}default:", f"{pad}    return -EINVAL;", f"{pad}}}"]
    lines = []
    for insn in sorted(insns, key=lambda i: -bin(i.mask).count("1")):
        rest = insn.mask & ~used
        if not rest:
            return lines + emit_leaf(insn, indent)
        lines.append(f"{pad}if ((bits & {rest:#x}u) == {insn.match & rest:#x}u) {{")
        lines += emit_leaf(insn, indent + 4) + [f"{pad}}}"]
    return lines + [f"{pad}return -EINVAL;"]


def emit_decoder(table, length):
    insns = [i for i in table.insns if i.length == length]
    return [f"static int decode{length * 8}(uint32_t bits, struct insn *out)", "{", *emit_node(insns, 0, 4), "}", ""]


def emit_field_table(table):
    lines = ["const struct isa_field isa_fields[ISA_FIELD_COUNT] = {"]
    for f in table.fields.values():
        parts = ", ".join(f"{{{low}, {width}}}" for low, width in f.parts)
        target = "ISA_TARGET_NONE" if f.target == "-" else f"ISA_TARGET_{f.target.upper()}"
        lines.append(f'    [ISA_FIELD_{f.name.upper()}] = {{.name = "{f.name}", .target = {target}, .kind = \'{f.kind}\', '
                     f".is_signed = {int(f.signed)}, .width = {f.width}, .shift = {f.shift}, .plus = {f.plus}, "
                     f".nparts = {len(f.parts)}, .parts = {{{parts}}}}},")
    return lines + ["};", ""]


def emit_info(insn):
    flags = [f"ISA_{a.upper()}" for a in ATTRIBUTES if a in insn.attributes] + (["ISA_RM"] if insn.has_rm() else [])
    operands = []
    for target, value in insn.operands:
        field = f"ISA_FIELD_{value.name.upper()}" if isinstance(value, Field) else "ISA_FIELD_CONST"
        constant = 0 if isinstance(value, Field) else value
        operands.append(f"{{ISA_TARGET_{target.upper()}, {field}, {constant}}}")
    nonzero = [f"ISA_FIELD_{f.name.upper()}" for f in insn.nonzero] or ["ISA_FIELD_CONST"]
    return (f'    [{insn.id}] = {{.name = "{insn.name}", .mask = {insn.mask:#x}, .match = {insn.match:#x}, '
            f".len = {insn.length}, .size = {insn.size}, .cls = ISA_CLASS_{insn.cls.upper()}, "
            f".ext = ISA_EXT_{insn.ext.upper()}, .flags = {' | '.join(flags) or 0}, .priv = {PRIVILEGES[insn.priv]}, "
            f".weight = {insn.weight}, .base = {(insn.base or insn).id}, .nonzero = {nonzero[0]}, "
            f".noperands = {len(operands)}, .operands = {{{', '.join(operands) or '{0}'}}}}},")


def emit_enum(name, prefix, values, last):
    return [f"enum {name} {{", *(f"    {prefix}{v}," for v in values), f"    {last}", "};", ""]


def write(path, lines):
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")


def write_header(table, path):
    base = [i for i in table.insns if not i.base]
    lines = ["/* Generated from rv64.insn. */", "#pragma once", "", "#include <stdint.h>", ""]
    lines += ["enum isa_op {", *(f"    {i.id}," for i in base), "    ISA_BASE_COUNT,"]
    lines += [f"    {i.id}{' = ISA_BASE_COUNT' if n == 0 else ''}," for n, i in enumerate(table.insns[len(base):])]
    lines += ["    ISA_COUNT", "};", ""]
    lines += emit_enum("isa_class", "ISA_CLASS_", [c.upper() for c in table.classes], "ISA_CLASS_COUNT")
    lines += emit_enum("isa_ext", "ISA_EXT_", [e.upper() for e in table.extensions()], "ISA_EXT_COUNT")
    lines += emit_enum("isa_field_id", "ISA_FIELD_", ["CONST", *(f.upper() for f in table.fields)], "ISA_FIELD_COUNT")
    lines += [f"#define ISA_{a.upper()} {1 << n:#x}u" for n, a in enumerate((*ATTRIBUTES, "rm"))] + [""]
    lines += [f.accessor() for f in table.fields.values()]
    write(path, lines)


def write_tables(table, path):
    lines = ["/* Generated from rv64.insn. */", '#include "cpu-core/isa/isa.h"', "", "#include <errno.h>", ""]
    shapes = {accept_name(i): i for i in table.insns}
    lines += [emit_accept(i) for i in shapes.values()]
    lines += emit_decoder(table, 4) + emit_decoder(table, 2)
    lines += ["int isa_decode(uint32_t bits, struct insn *out)", "{",
              "    return (bits & 3) == 3 ? decode32(bits, out) : decode16(bits & 0xffff, out);", "}", ""]
    lines += ["const char *const isa_ext_names[ISA_EXT_COUNT] = {"]
    lines += [f'    [ISA_EXT_{e.upper()}] = "{e}",' for e in table.extensions()] + ["};", ""]
    lines += ["const char *const isa_class_names[ISA_CLASS_COUNT] = {"]
    lines += [f'    [ISA_CLASS_{c.upper()}] = "{c}",' for c in table.classes] + ["};", ""]
    lines += emit_field_table(table)
    lines += ["const struct isa_info isa_table[ISA_COUNT] = {", *(emit_info(i) for i in table.insns), "};"]
    write(path, lines)


def write_dispatch(table, path):
    lines = ["/* Generated from rv64.insn: HANDLER for every base instruction, SHORT for those that have a compressed form. */"]
    lines += [f"HANDLER({i.id}, {c_name(i.name)}, {i.cls})" for i in table.insns if not i.base]
    short = {i.base.name: i.base for i in table.insns if i.base}
    lines += [f"SHORT({i.id}, {c_name(i.name)}, {i.cls})" for i in short.values()]
    write(path, lines)


def main():
    try:
        table = Table(sys.argv[1])
    except TableError as error:
        sys.exit(f"gen.py: {error}")
    write_header(table, sys.argv[2])
    write_tables(table, sys.argv[3])
    write_dispatch(table, sys.argv[4])


main()
