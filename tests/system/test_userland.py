"""A real userland: python's own tests, databases, stress; keys that are typed from outside."""

import subprocess
import tempfile

import machine


def python(*modules):
    out = machine.passes(f'python3 -m test {" ".join(modules)}', '--memory', '1G', limit=3000)
    machine.check('Result: SUCCESS' in out or 'SUCCESS' in out, out)


def mixed():
    machine.passes('''set -e
stress-ng --cpu 2 --vm 2 --vm-bytes 64M --fork 2 --switch 2 --pipe 2 --timeout 10 --verify --quiet
sqlite3 /root/t.db 'create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c where x<20000)
    insert into t select x, hex(randomblob(20)) from c; create index i on t(b); pragma integrity_check' | grep ok
dd if=/dev/urandom bs=1M count=4 2>/dev/null >/tmp/x
xz -1 -c /tmp/x | xz -dc | cmp - /tmp/x
openssl speed -seconds 1 -bytes 1024 sha256 2>/dev/null >/dev/null
''', '--cpus', '2')


def keys():
    """A key typed by 'cleave input' is read from /dev/input, and so is a movement of the pointer."""
    text = '''#!/usr/bin/python3
import glob, os, select, struct
files = {os.open(p, os.O_RDONLY): p for p in glob.glob('/dev/input/event*')}
print('ready', flush=True)
want = {(1, 30, 1): 'key', (3, 0, 1234): 'pointer'}
while want:
    for f in select.select(list(files), [], [])[0]:
        for at in struct.iter_unpack('<qqHHi', os.read(f, 24 * 64)):
            name = want.pop(at[2:], None)
            if name: print('got', name, flush=True)
'''
    with tempfile.TemporaryDirectory() as folder:
        with machine.Machine(*machine.demo(), '--name', f'keys-{machine.os.getpid()}', '--input', 'keyboard', '--input',
                             'pointer', '--batch', machine.script(folder, text)) as m:
            m.expect('ready')
            name = f'keys-{machine.os.getpid()}'
            subprocess.run([machine.CLEAVE, 'input', name, 'key', 'a'], check=True)
            subprocess.run([machine.CLEAVE, 'input', name, 'pointer', '1234', '99'], check=True)
            status = m.wait(60)
            machine.check(status == 0 and b'got key' in m.text and b'got pointer' in m.text, m.shown())


def status():
    """The script's status is that of the command."""
    for text, want in (('exit 0', 0), ('exit 7', 7), ('kill -9 $$', 137), ('echo to stderr >&2; exit 255', 255)):
        got, out = machine.batch(text)
        machine.check(got == want, f'{text}: exit status {got}\n{out}')


machine.main({'python': python, 'mixed': mixed, 'keys': keys, 'status': status})
