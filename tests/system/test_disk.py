"""Disks: verified random writes, across a reboot too; several disks, read-only and overlay disks; a host disk that fills up."""

import hashlib
import os
import pathlib
import subprocess
import tempfile

import machine

FIO = '''fio --name=v --filename={dev} --size={size} --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=16 \\
    --verify=crc32c --do_verify={verify} --verify_fatal=1 --randseed=7 --allrandrepeat=1 --eta=never {more} >/tmp/fio 2>&1
status=$?
grep -E 'err=|verify' /tmp/fio
[ $status = 0 ] || {{ cat /tmp/fio; exit 1; }}
'''


def sparse(folder, name, size):
    path = pathlib.Path(folder, name)
    with open(path, 'wb') as f:
        f.truncate(size)
    return path


def verify():
    out = machine.passes(FIO.format(dev='/root/fio', size='64M', verify=1, more=''))
    machine.check('err= 0' in out, out)


def reboot():
    """The data is written before a reboot of the guest and verified after it."""
    text = f'''
if [ "$(dd if=/dev/vdb bs=512 count=1 skip=262143 2>/dev/null | head -c 7)" != written ]; then
{FIO.format(dev='/dev/vdb', size='64M', verify=0, more='')}
printf written | dd of=/dev/vdb bs=512 seek=262143 conv=sync,fsync 2>/dev/null
echo rebooting; sleep 1
busybox reboot -f
sleep 60
fi
echo after the reboot
{FIO.format(dev='/dev/vdb', size='64M', verify=1, more='--verify_only')}
'''
    with tempfile.TemporaryDirectory() as folder:
        out = machine.passes(text, '--disk', f'{sparse(folder, "scratch.img", 128 << 20)},id=vdb')
    machine.check('after the reboot' in out and 'err= 0' in out, out)


def many():
    """Disks keep their order, serial numbers and modes; what the guest writes is in the file when it has ended."""
    with tempfile.TemporaryDirectory() as folder:
        disks = []
        for i in range(10):
            path = sparse(folder, f'd{i}', 1 << 20)
            path.write_bytes(bytes([i]) * (1 << 20))
            disks += ['--disk', f'{path},id=disk{i},serial=SERIAL{i}' + (',ro' if i == 3 else '')]
        out = machine.passes('''set -e
i=0
for d in b c d e f g h i j k; do
    [ "$(cat /sys/block/vd$d/serial)" = SERIAL$i ]
    [ "$(od -An -tu1 -N1 /dev/vd$d | tr -d ' ')" = $i ]
    i=$((i + 1))
done
[ "$(cat /sys/block/vde/ro)" = 1 ]
if dd if=/dev/zero of=/dev/vde bs=4k count=1 oflag=direct 2>/dev/null; then exit 1; fi
head -c 65536 /dev/urandom >/tmp/x
dd if=/tmp/x of=/dev/vdb bs=4k conv=fsync 2>/dev/null
sha256sum </tmp/x
''', *disks)
        written = hashlib.sha256((pathlib.Path(folder) / 'd0').read_bytes()[:65536]).hexdigest()
        machine.check(written in out, out)


def overlay():
    """An overlay keeps what was written, in a file of its own, and the base stays as it was."""
    with tempfile.TemporaryDirectory() as folder:
        base = sparse(folder, 'base', 16 << 20)
        base.write_bytes(b'base' * (4 << 20))
        before = hashlib.sha256(base.read_bytes()).digest()
        disk = ('--disk', f'{base},id=vdb,overlay={folder}/over')
        machine.passes('printf overlay | dd of=/dev/vdb bs=512 seek=1000 conv=sync,fsync', *disk)
        out = machine.passes('dd if=/dev/vdb bs=512 skip=1000 count=1 2>/dev/null | head -c 7; head -c 4 /dev/vdb', *disk)
        machine.check('overlaybase' in out, out)
        machine.check(hashlib.sha256(base.read_bytes()).digest() == before, 'the base was written')


def full():
    """The file system that holds an overlay fills up while the guest writes: the guest sees an I/O error and goes on."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder], check=True)
        try:
            base = sparse(folder, 'base', 64 << 20)
            out = machine.passes('''
if dd if=/dev/urandom of=/dev/vdb bs=64k count=512 oflag=direct; then exit 1; fi
echo survived
''', '--disk', f'{base},id=vdb')
        finally:
            subprocess.run(['umount', folder], check=True)
    machine.check('survived' in out and 'Input/output error' in out, out)
    machine.check('vdb' in out and 'No space left on device' in out, out)


if os.geteuid() != 0 and machine.sys.argv[1] == 'full':
    machine.sys.exit(machine.SKIP)
machine.main({'verify': verify, 'reboot': reboot, 'many': many, 'overlay': overlay, 'full': full})
