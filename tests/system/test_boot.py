"""Images that nobody adapted boot: Debian with one and four harts, Debian's installer to its first dialog, U-Boot to its prompt."""

import machine


def debian(harts):
    out = machine.passes('nproc; uname -m; grep -c ^processor /proc/cpuinfo; ls -l /dev/vda /dev/hwrng', '--cpus', harts, '--memory', '512M')
    words = out.split()
    machine.check(words[:3] == [harts, 'riscv64', harts], out)


def paging(mode):
    out = machine.passes('grep -m1 mmu /proc/cpuinfo', '--mmu', mode)
    machine.check(mode in out, out)


def installer():
    s = machine.stock()
    with machine.Machine('--kernel', s / 'installer-linux', '--initrd', s / 'installer-initrd.gz', '--append',
                         'console=ttyS0', '--memory', '1G', '--bios', machine.guest() / 'fw_dynamic.bin') as m:
        m.expect('Select a language', 400)


def uboot():
    with machine.Machine('--kernel', machine.stock() / 'u-boot.bin', '--bios', machine.guest() / 'fw_dynamic.bin',
                         '--memory', '256M') as m:
        at = m.expect('Hit any key to stop autoboot')
        m.type('\n')
        at = m.expect('=> ', since=at)
        m.type('version\n')
        m.expect('U-Boot 20', since=at)


def shell():
    """What is typed reaches the shell, and its end powers the machine off."""
    with machine.Machine(*machine.demo()) as m:
        at = m.expect('# ')
        m.type('echo $((6 * 7))-answer\n')
        at = m.expect('42-answer', since=at)
        m.type('exit\n')
        status = m.wait(60)
        machine.check(status == 0, f'exit status {status}')


machine.main({'debian': debian, 'paging': paging, 'installer': installer, 'uboot': uboot, 'shell': shell})
