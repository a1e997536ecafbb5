"""The machine is a function of its inputs: equal state hashes in run after run under changing load, with and without cached
translations, and no other process can see the guest's memory."""

import os
import random
import subprocess
import sys
import tempfile

import machine

WORK = '''
dd if=/dev/vda of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null
dd if=/dev/hwrng bs=512 count=4 2>/dev/null | md5sum
ping -c 5 -i 0.2 10.0.2.2 >/dev/null
md5sum /usr/bin/python3 >/dev/null
dd if=/dev/zero of=/root/x bs=4k count=256 oflag=sync 2>/dev/null
'''


def load(n):
    """Host load that comes and goes: a different one for each run."""
    return [subprocess.Popen([sys.executable, '-c', f'''
import random, time
r = random.Random({n * 10 + k})
while True:
    end = time.monotonic() + r.random() * 0.2
    while time.monotonic() < end: pass
    time.sleep(r.random() * 0.3)
''']) for k in range(n % 3)]


def one(folder, harts, seed, n):
    noise = load(n)
    try:
        with machine.Machine(*machine.demo(), '--clock', 'virtual', '--seed', str(seed), '--net', 'echo', '--cpus', str(harts),
                             '--hash-at-exit', '--json', '--batch', machine.script(folder, WORK)) as m:
            status = m.wait(600)
            ends = [r for r in m.results() if 'hash' in r]
            machine.check(status == 0 and ends, m.shown())
            return ends[-1].get('icount'), ends[-1]['hash']
    finally:
        for p in noise:
            p.kill()
            p.wait()


def repeat(runs='3', harts='1'):
    """Virtual clock, closed back-ends with disk, echo network and entropy in use."""
    with tempfile.TemporaryDirectory() as folder:
        seen = [one(folder, harts, 5, n) for n in range(int(runs))]
        print(seen)
        machine.check(len(set(seen)) == 1, f'{runs} runs ended differently: {seen}')
        other = one(folder, harts, 6, 0)
        machine.check(other != seen[0], 'another seed gave the same state')


def hashes(*arguments):
    with machine.Machine(*machine.demo(), '--clock', 'virtual', '--seed', '1', '--json', '--serial', 'null', *arguments) as m:
        m.wait(3000)
        return [(r.get('icount'), r['hash']) for r in m.results() if 'hash' in r]


def latencies(stop='3000000000'):
    """Answers come when the disk's latency model and the seed say: values given in place of its own change the run, and repeat."""
    g = machine.guest()
    words = machine.demo('--clock', 'virtual', '--json', '--serial', 'null', '--hash-every', '250000000', '--stop-at', stop, root=False)

    def run(keys, seed='1'):
        with machine.Machine(*words, '--disk', f'{g / "root.img"},overlay,id=vda{keys}', '--seed', seed) as m:
            m.wait(600)
            return [(r.get('icount'), r['hash']) for r in m.results() if 'hash' in r]
    own, slow = run(''), run(',latency=2ms,bandwidth=20M,jitter=1ms')
    machine.check(len(own) >= 10, f'{len(own)} hashes')
    machine.check(own != slow, 'the latencies of the disk change nothing')
    equal(slow, run(',latency=2ms,bandwidth=20M,jitter=1ms'), ('first', 'second'))
    machine.check(slow != run(',latency=2ms,bandwidth=20M'), 'the jitter changes nothing')


def equal(expected, found, names):
    for a, b in zip(expected, found):
        machine.check(a == b, f'{names[0]} {a}, {names[1]} {b}')
    machine.check(len(expected) == len(found), 'one run was shorter')


def cache(stop='300000000'):
    """Cached translations, by either engine, against walking at every access: equal hashes every 10 million steps."""
    words = ('--hash-every', '10000000', '--stop-at', stop)
    without = hashes(*words, '--engine', 'interp', '--no-tlb')
    machine.check(len(without) >= int(stop) // 10000000, f'{len(without)} hashes')
    for name in ('interp', 'auto'):
        equal(without, hashes(*words, '--engine', name), ('without a TLB', name))


def engines(stop='1000000000', harts='1'):
    """The translator against the interpreter: equal hashes every 10 million steps, with disk and network."""
    words = ('--hash-every', '10000000', '--stop-at', stop, '--cpus', harts, '--net', 'echo')
    runs = [hashes(*words, '--engine', engine) for engine in ('interp', 'auto')]
    machine.check(len(runs[0]) >= int(stop) // 10000000, f'{len(runs[0])} hashes')
    equal(*runs, ('interpreted', 'translated'))


def isolation():
    """Guest memory holds a pattern; nothing but the vcpu process has a mapping that could be it, or finds the pattern in what it maps."""
    mib = 256
    pattern = random.Random(1).randbytes(16).hex()
    with machine.Machine(*machine.demo(), '--memory', f'{mib}M', '--net', 'user', '--input', 'keyboard') as m:
        at = m.expect('# ')
        m.type(f"python3 -c \"x = b'{pattern}' * 1000000; print('held', flush=True); import time; time.sleep(1000)\"\n")
        m.expect('held\r\n', since=at)
        found = machine.processes(m)
        machine.check(any(role.startswith('block') for role in found) and 'vcpu' in found, str(found))
        needle = pattern.encode() * 4
        for role, pid in {**found, 'cleave': m.process.pid}.items():
            whole, hits = scan(pid, mib << 20, needle)
            if role == 'vcpu':
                machine.check(whole and hits, 'the scan does not find guest memory where it is')
            else:
                machine.check(not whole and not hits, f'{role} maps guest memory')


def scan(pid, size, needle):
    """(is there a mapping as large as the guest's RAM that is in use, does the needle stand in any mapping)"""
    whole = hits = False
    with open(f'/proc/{pid}/mem', 'rb', 0) as memory:
        for line in open(f'/proc/{pid}/maps'):
            fields = line.split()
            start, end = (int(x, 16) for x in fields[0].split('-'))
            if 'r' not in fields[1] or fields[-1] in ('[vvar]', '[vsyscall]'):
                continue
            if fields[1][3] == 'p' and len(fields) == 5 and end - start >= size:
                whole = True
            hits = hits or search(memory, pid, start, end, needle)
    return whole, hits


def search(memory, pid, start, end, needle):
    """Reads only pages that are present: a sparse arena is not filled by looking at it."""
    pages = os.open(f'/proc/{pid}/pagemap', os.O_RDONLY)
    try:
        for block in range(start, end, 1 << 21):
            n = (min(end, block + (1 << 21)) - block) // 4096
            flags = os.pread(pages, n * 8, block // 4096 * 8)
            if not any(flags[i * 8 + 7] & 0xc0 for i in range(len(flags) // 8)):
                continue
            try:
                if needle in os.pread(memory.fileno(), n * 4096, block):
                    return True
            except OSError:
                pass
    finally:
        os.close(pages)
    return False


machine.main({'repeat': repeat, 'latencies': latencies, 'cache': cache, 'engines': engines, 'isolation': isolation})
