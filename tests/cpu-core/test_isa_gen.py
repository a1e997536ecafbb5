#!/usr/bin/env python3
"""What the table's generator must refuse: test_isa_gen.py GEN.py RV64.insn"""

import pathlib
import subprocess
import sys
import tempfile

LINES = [                               # (added to the table, what the message says)
    ('', None),
    ('twice  0000000_....._....._000_....._0110011  rd,rs1,rs2  I  alu', 'add and twice overlap'),
    ('half   0000000_....._....._0.._....._0110011  rd,rs1,rs2  I  alu', 'overlap'),
    ('add    1111111_....._....._000_....._0110011  rd,rs1,rs2  I  alu', 'add twice'),
    ('short  1111111_....._....._000_0110011  rd  I  alu', 'bad pattern'),
    ('odd    1111111_....._....._000_....._0110011  rd,nothing  I  alu', 'nothing'),
    ('odd    1111111_....._....._000_....._0110011  rd  I  nothing', 'nothing'),
    ('odd    1111111_....._....._000_....._0110011  rd  I  alu  nothing', 'unknown flag nothing'),
    ('c.odd  100111_..._11111_01  add:crs1p,crs1p  Zcb  alu', '3 operands'),
    ('c.odd  100111_..._11111_01  fadd.d:crs1p,crs1p,crs1p,0  Zcb  fp', 'can not be'),
    ('field  odd rd z 3:1', 'bad definition'),
]


def main():
    generator, table = sys.argv[1:]
    bad = 0
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / 'table'
        for line, message in LINES:
            path.write_text(pathlib.Path(table).read_text() + line + '\n')
            outputs = [pathlib.Path(directory) / name for name in ('a.h', 'a.c', 'b.h')]
            done = subprocess.run([sys.executable, generator, path, *outputs], stderr=subprocess.PIPE, text=True)
            if (done.returncode == 0) != (message is None) or (message or '') not in done.stderr:
                print(f'{line!r}: status {done.returncode}, {done.stderr!r}')
                bad += 1
    return 1 if bad else 0


sys.exit(main())
