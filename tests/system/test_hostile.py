"""A guest that breaks every rule of virtio, on every kind of device: the machine ends as the guest says, with every process alive until
then, and a well-behaved guest on the same host afterwards finds nothing amiss."""

import pathlib
import tempfile

import machine


SEED = (0x5eed5eed5eed5eed).to_bytes(8, 'little')


def run(image, seeds='1'):
    image = pathlib.Path(image)
    with tempfile.TemporaryDirectory() as folder:
        disks = [pathlib.Path(folder, name) for name in ('a', 'b')]
        for disk in disks:
            disk.write_bytes(b'x' * (2 << 20))
        for seed in range(int(seeds)):
            program = pathlib.Path(folder, 'program')
            program.write_bytes(image.read_bytes().replace(SEED, (seed + 1).to_bytes(8, 'little')))
            for timing in ('live', 'fixed'):
                with machine.Machine('--bios', program, '--memory', '64M', '--disk', f'{disks[0]},id=a', '--disk',
                                     f'{disks[1]},id=b,overlay', '--net', 'echo', '--net', 'user', '--serial', 'null',
                                     '--serial', 'null', '--input', 'keyboard', '--timing', timing) as m:
                    status = m.wait(120)
                    machine.check(status == 0, f'seed {seed + 1}, {timing}: exit status {status}\n{m.shown()}')


machine.main({'run': run})
