"""Programs that race with what engines keep: races.c gives one state at every position, whatever engine runs it, whatever it caches, and
wherever the machine stops to look."""

import pathlib
import random
import tempfile

import machine

SEED = (0x5eed5eed5eed5eed).to_bytes(8, 'little')
DISK = 1 << 20


def slots(r):
    """What races.c has in its arena: code of 8 bytes each, from 6 bytes into a page on."""
    code = b'\x05\x00\x82\x80\x01\x05'
    while len(code) < DISK:
        addi = 0x50513 | r.randrange(4096) << 20
        goes_on = 0x8082 if r.randrange(4) == 0 else 0x0001
        code += (addi | goes_on << 32 | (0x0501 | r.randrange(32) << 2) << 48).to_bytes(8, 'little')
    return code[:DISK]


def hashes(program, disk, harts, *arguments):
    with machine.Machine('--bios', program, '--memory', '64M', '--cpus', str(harts), '--disk', f'{disk},ro', '--clock', 'virtual',
                         '--serial', 'null', '--no-record', '--json', '--hash-at-exit', *arguments) as m:
        status = m.wait(300)
        machine.check(status == 0, f'exit status {status}\n{m.shown()}')
        return [(r.get('icount'), r['hash']) for r in m.results() if r['event'] == 'hash']


def run(image, seeds='1'):
    image = pathlib.Path(image).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        program, disk = pathlib.Path(folder, 'program'), pathlib.Path(folder, 'disk')
        for seed in range(1, int(seeds) + 1):
            harts = 1 + seed % 4
            program.write_bytes(image.replace(SEED, seed.to_bytes(8, 'little')))
            disk.write_bytes(slots(random.Random(seed)))
            often = ('--hash-every', str(9973 + 2 * seed))
            translated = hashes(program, disk, harts, '--engine', 'auto', *often)
            interpreted = hashes(program, disk, harts, '--engine', 'interp', *often)
            machine.check(len(interpreted) > 1000, f'seed {seed}: {len(interpreted)} hashes')
            for a, b in zip(interpreted, translated):
                machine.check(a == b, f'seed {seed}, {harts} harts: interpreted {a}, translated {b}')
            machine.check(len(interpreted) == len(translated), f'seed {seed}: one run was shorter')
            for name, more in (('without stops', ()), ('without a TLB', ('--engine', 'interp', '--no-tlb'))):
                end = hashes(program, disk, harts, *more)[-1]
                machine.check(end == interpreted[-1], f'seed {seed}, {harts} harts: {name} {end}, otherwise {interpreted[-1]}')
            print(f'seed {seed}, {harts} harts: {len(interpreted)} positions, {interpreted[-1]}')


machine.main({'run': run})
