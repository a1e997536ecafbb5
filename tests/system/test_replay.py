"""Recorded machines run again to the same states: whole sessions with either engine, in all timings, recordings that are still being
written, damaged ones."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import machine

check = machine.check


def replay(trace, *words, limit=600, status=0):
    """(messages of --json, console bytes) of a replay that ends with `status`."""
    done = subprocess.run([machine.CLEAVE, 'replay', str(trace), '--json', *map(str, words)], capture_output=True, timeout=limit,
                          stdin=subprocess.DEVNULL)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    check(done.returncode == status, f'{trace} {words}: status {done.returncode}\n{done.stderr.decode()[-2000:]}')
    return found, done.stdout


def hashes(messages):
    """{icount: hash} of all that was asked for, and (icount, hash) at the end."""
    every = {m['icount']: m['hash'] for m in messages if m.get('event') == 'hash'}
    ends = [(m['icount'], m['hash']) for m in messages if m.get('event') == 'exit' and 'hash' in m]
    return every, ends[0] if ends else None


def same(recorded, trace, console, engine, every=10_000_000):
    started = time.monotonic()
    messages, text = replay(trace, '--engine', engine, '--hash-every', every)
    got, want = hashes(messages), hashes(recorded)
    check(want[1] and got[1] == want[1], f'{engine}: the end is {got[1]}, not {want[1]}')
    differ = [n for n, value in want[0].items() if n in got[0] and got[0][n] != value]
    check(not differ and len(got[0]) >= len(want[0]) - 1 > 3, f'{engine}: hashes differ at {differ[:3]}')
    check(console is None or text == console, f'{engine}: another console')
    print(f'{engine}: {len(got[0])} equal hashes, {got[1][0]} steps in {time.monotonic() - started:.1f} s', flush=True)


def record(trace, *words, every=10_000_000):
    return machine.Machine(*machine.demo(), '--record', trace, '--hash-every', every, '--hash-at-exit', '--json', *words)


FIO = ('fio --name=v --filename=/root/fio --size=8M --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --randseed=7 '
       '--allrandrepeat=1 --eta=never | grep -c err= | sed s,^,errors-,')
SIZE = 2 << 20
SERVER = f'''import hashlib,socket; s=socket.create_server(("",7000)); print("listen"+"ing", flush=True); c,_=s.accept()
d=c.recv({SIZE}, socket.MSG_WAITALL); print("dig"+"est", hashlib.sha256(d).hexdigest(), flush=True)'''


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def use(m, port, seed):
    """What a user does at the console: a disk under load, a program, a transfer from the host, a reboot, more of it, the end."""
    data = random.Random(seed).randbytes(SIZE)
    at = m.expect('# ')
    m.type(FIO + '\n')
    at = m.expect('errors-1', since=at)
    m.type("python3 -c 'print(sum(i * i for i in range(300000)), \"com\" + \"puted\")'\n")
    at = m.expect('computed', since=at)
    m.type(f"python3 -c '{SERVER}'\n")
    at = m.expect('listening', since=at)
    with socket.create_connection(('127.0.0.1', port)) as c:
        c.sendall(data)
        at = m.expect(f'digest {hashlib.sha256(data).hexdigest()}', since=at)
    m.type('for i in 1 2 3 4; do md5sum /usr/bin/python3 & done; wait; echo do\\ne\n')
    at = m.expect('done\r\n', since=at)
    m.type('sync; echo b > /proc/sysrq-trigger\n')
    at = m.expect('# ', since=at + 200)
    m.type('echo $((6 * 7))-answer; head -c 100000 /dev/hwrng | md5sum\n')
    at = m.expect('42-answer', since=at)
    m.type('exit\n')
    check(m.wait(120) == 0, m.shown())


def session(engine='jit', *others):
    """A session with four harts, recorded with one engine and replayed with the others."""
    with tempfile.TemporaryDirectory() as folder:
        trace, port = pathlib.Path(folder, 'trace'), free_port()
        with record(trace, '--engine', engine, '--cpus', '4', '--net', f'user,hostfwd=tcp:127.0.0.1:{port}-:7000') as m:
            use(m, port, 1)
        for other in others or ('jit', 'interp'):
            same(m.results(), trace, m.text, other)


def sessions(count='20'):
    """Many of them, for what goes wrong seldom."""
    for n in range(int(count)):
        session('interp' if n % 10 == 9 else 'jit', 'interp' if n % 5 == 4 else 'jit')


def short(*words):
    """A script's run, recorded with `words`, replayed with both engines."""
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder, 'trace')
        text = 'cat /proc/interrupts; head -c 100000 /dev/hwrng | md5sum; head -c 3000000 /dev/vda | md5sum; ping -c 2 -i 0.2 10.0.2.2'
        with record(trace, '--batch', machine.script(folder, text), *words) as m:
            check(m.wait(300) == 0, m.shown())
        for engine in 'jit', 'interp':
            same(m.results(), trace, None, engine)


def timings():
    short('--engine', 'interp', '--net', 'user')
    short('--timing', 'fixed', '--cpus', '2', '--net', 'echo')
    with tempfile.TemporaryDirectory() as folder:
        keys = machine.script(folder, '1s key a\n2s key b\n3s text typed\n', 'keys')
        short('--clock', 'virtual', '--cpus', '2', '--net', 'echo', '--net', 'user', '--input', f'keyboard,script={keys}')


def durations(trace, device):
    """Of its requests, in virtual us."""
    events = json.loads(subprocess.check_output([machine.CLEAVE, 'trace', 'export', trace, '--format', 'chrome']))['traceEvents']
    process, = [e['pid'] for e in events if e['name'] == 'process_name' and e['args']['name'].startswith(f'{device} ')]
    begun = {e['id']: e['ts'] for e in events if e['ph'] == 'b' and e['pid'] == process}
    return [e['ts'] - begun[e['id']] for e in events if e['ph'] == 'e' and e['pid'] == process and 'ended' not in e['args']]


def latencies():
    """Fixed timing with latencies, bandwidths and jitter of the user's: answers come late, in an order that differs from that of the
    requests, and the same again in a replay."""
    text = ('set -e; ping -c 3 -i 0.1 10.0.2.2; dd if=/dev/vdb bs=64k iflag=direct of=/dev/null & md5sum /dev/vda2 /dev/vdb || md5sum /dev/vdb; '
            'head -c 20000 /dev/hwrng | md5sum; dd if=/dev/zero of=/dev/vdb bs=4k count=200 oflag=direct; wait; md5sum /dev/vdb')
    for words in ('--timing', 'fixed', '--engine', 'jit'), ('--clock', 'virtual', '--engine', 'interp', '--seed', '5'):
        with tempfile.TemporaryDirectory() as folder:
            trace, data = pathlib.Path(folder, 'trace'), pathlib.Path(folder, 'data')
            data.write_bytes(random.Random(3).randbytes(4 << 20))
            with record(trace, '--disk', f'{data},id=data,overlay,latency=300us,bandwidth=50M,jitter=400us', '--net', 'echo,latency=2ms,jitter=1ms',
                        '--serial', 'stdio,latency=50us,jitter=20us', '--cpus', '2', '--batch', machine.script(folder, text), *words) as m:
                check(m.wait(300) == 0, m.shown())
            for device, least in ('data', 300), ('net0', 2000), ('serial0', 50):
                took = durations(trace, device)
                print(f'{device}: {len(took)} requests took {min(took):.0f} to {max(took):.0f} us', flush=True)
                check(least <= min(took) < max(took), f'{device}: {min(took)}')
            for engine in 'jit', 'interp':
                same(m.results(), trace, None, engine)
            replay(trace, '--device', 'data')
            replay(trace, '--device', 'net0')


def follow():
    """A replay that starts while its recording is made ends with it, in the same state."""
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder, 'trace')
        with record(trace) as m:
            m.expect('OpenSBI')
            other = subprocess.Popen([machine.CLEAVE, 'replay', '--follow', '--json', str(trace)], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
            at = m.expect('# ')
            m.type('sleep 1; echo $((6 * 7))-answer\n')
            m.expect('42-answer', since=at)
            check(other.poll() is None, 'the replay did not follow')
            m.type('exit\n')
            check(m.wait(120) == 0, m.shown())
            text, errors = other.communicate(timeout=120)
        check(other.returncode == 0 and text == m.text, errors.decode()[-2000:])
        check(hashes([json.loads(line) for line in errors.splitlines()])[1] == hashes(m.results())[1], errors.decode()[-2000:])


def limits():
    """--until, --hash-at and --speed realtime."""
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder, 'trace')
        with record(trace, '--batch', machine.script(folder, 'sleep 3'), every=50_000_000) as m:
            check(m.wait(300) == 0, m.shown())
        every, (end, _) = hashes(m.results())
        at = sorted(every)[len(every) // 2]
        messages, _ = replay(trace, '--until', at, '--hash-at', 50_000_000)
        got, last = hashes(messages)
        check(got[50_000_000] == every[50_000_000] and last[0] == at < end, str(messages))
        started = time.monotonic()
        replay(trace)
        fast = time.monotonic() - started
        replay(trace, '--speed', 'realtime')
        slow = time.monotonic() - started - fast
        print(f'{fast:.1f} s at full speed, {slow:.1f} s in real time', flush=True)
        check(slow > 3, 'real time passed too fast')


def program(folder):
    """A flat program: prints on the UART, waits for virtual time to pass, and powers off."""
    words = [0x100002b7, 0x00100313, 0x00628123]   # lui t0, 0x10000: the UART; its FIFO on
    for c in b'hello\n':
        words += [0x00000313 | c << 20, 0x00628023]  # addi t1, x0, c; sb t1, 0(t0)
    words += [0x00010337, 0xfff30313, 0xfe031ee3]  # lui t1, 16; addi t1, t1, -1; bnez t1, -4
    words += [0x001002b7, 0x00005337, 0x55530313, 0x0062a023, 0x0000006f]  # syscon: 0x5555
    path = pathlib.Path(folder, 'program.bin')
    path.write_bytes(struct.pack(f'<{len(words)}I', *words))
    return path


def small(folder):
    """The trace of a tiny machine and its end."""
    trace = pathlib.Path(folder, 'small')
    with machine.Machine('--bios', program(folder), '--memory', '16M', '--record', trace, '--hash-every', '10000', '--json') as m:
        check(m.wait(60) == 0 and b'hello' in m.text, m.shown())
    return trace, hashes(m.results())[1]


def outcome(trace, full):
    """A replay of a damaged trace: shorter, or refused with a reason; never another state, a crash or a hang."""
    done = subprocess.run([machine.CLEAVE, 'replay', str(trace), '--json'], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    messages = [json.loads(line) for line in done.stderr.splitlines()]
    _, end = hashes(messages)
    if done.returncode == 0:
        shorter = [m for m in messages if m.get('event') == 'notice' and 'the recording stops at' in m['text']]
        check(end == full or (end and shorter and end[0] <= full[0]), f'status 0 and {end}:\n{done.stderr.decode()}')
        return 'shorter' if shorter else 'whole'
    check(done.returncode == 1 and any(m.get('error') for m in messages), f'{done.returncode}:\n{done.stderr.decode()}')
    return 'refused'


def toggling(folder):
    """A flat program that flips the lowest bit of t2 two thousand times, prints, and powers off."""
    words = [0x7d000313, 0x0013c393, 0x00238e33, 0xfff30313, 0xfe031ae3]  # t1 = 2000; xori t2, t2, 1; add t3, t2, t2; t1--; bnez
    words += [0x100002b7, 0x02138313, 0x00628023]                         # the UART: '!' + t2
    words += [0x001002b7, 0x00005337, 0x55530313, 0x0062a023, 0x0000006f]  # syscon: 0x5555
    path = pathlib.Path(folder, 'toggling.bin')
    path.write_bytes(struct.pack(f'<{len(words)}I', *words))
    return path


def planted(vcpu):
    """An engine with an error in one instruction: the replay diverges, and bisect names the instruction."""
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder, 'trace')
        with machine.Machine('--bios', toggling(folder), '--memory', '16M', '--record', trace, '--json') as m:
            check(m.wait(60) == 0, m.shown())
        cleave = pathlib.Path(folder, 'cleave')
        shutil.copy(machine.CLEAVE, cleave)
        shutil.copy(pathlib.Path(machine.CLEAVE).parent / 'cleave-broker', folder)
        shutil.copy(vcpu, pathlib.Path(folder, 'cleave-vcpu'))
        done = subprocess.run([cleave, 'replay', '--engine', 'jit', '--json', trace], capture_output=True, timeout=60)
        report = [json.loads(line) for line in done.stderr.splitlines()][0]
        check(done.returncode == 6 and report['event'] == 'diverged', done.stderr.decode())
        done = subprocess.run([cleave, 'trace', 'bisect', '--json', trace], capture_output=True, timeout=200)
        found = [m for m in map(json.loads, done.stderr.splitlines()) if m.get('event') == 'bisected']
        check(done.returncode == 6 and found, done.stderr.decode())
        here = [i for i in found[0]['instructions'] if i['icount'] == found[0]['at']]
        check(found[0]['differ'] - found[0]['agree'] == 1 and here[0]['pc'] == '0000000080000004', done.stderr.decode())
        check(found[0]['registers'][0]['register'] == 'x7', done.stderr.decode())
        print(here[0], found[0]['registers'], flush=True)
        done = subprocess.run([machine.CLEAVE, 'trace', 'bisect', '--json', trace], capture_output=True, timeout=200)
        check(done.returncode == 0, done.stderr.decode())


def mistranslated(vcpu):
    """A translator with an error in one instruction of a block, whose result is gone when the block ends: bisect names it, not
    what the error led to."""
    words = [0x00010337, 0x00104e93, 0x01d40433, 0x00000e93, 0xfff30313, 0xfe0318e3]  # t1 = 65536; xori t4, zero, 1; add s0, s0, t4;
    words += [0x001002b7, 0x00005337, 0x55530313, 0x0062a023, 0x0000006f]             # t4 = 0; t1--; bnez; syscon: 0x5555
    with tempfile.TemporaryDirectory() as folder:
        trace, bios = pathlib.Path(folder, 'trace'), pathlib.Path(folder, 'bios')
        bios.write_bytes(struct.pack(f'<{len(words)}I', *words))
        with machine.Machine('--bios', bios, '--memory', '16M', '--record', trace, '--json', '--engine', 'interp') as m:
            check(m.wait(60) == 0, m.shown())
        for name in 'cleave', 'cleave-broker':
            shutil.copy(pathlib.Path(machine.CLEAVE).parent / name, folder)
        shutil.copy(vcpu, pathlib.Path(folder, 'cleave-vcpu'))
        done = subprocess.run([pathlib.Path(folder, 'cleave'), 'trace', 'bisect', '--json', trace], capture_output=True, timeout=200)
        found = [m for m in map(json.loads, done.stderr.splitlines()) if m.get('event') == 'bisected']
        check(done.returncode == 6 and found, done.stderr.decode())
        here = [i for i in found[0]['instructions'] if i['icount'] == found[0]['at']]
        print(here[0], found[0]['registers'], flush=True)
        check(found[0]['differ'] - found[0]['agree'] == 1 and found[0]['at'] == found[0]['agree'], done.stderr.decode())
        check(here[0]['pc'] == '0000000080000004' and [r['register'] for r in found[0]['registers']] == ['x29'], done.stderr.decode())
        done = subprocess.run([machine.CLEAVE, 'trace', 'bisect', '--json', trace], capture_output=True, timeout=200)
        check(done.returncode == 0, done.stderr.decode())


def answer(alter):
    """A device that answered one request otherwise than in the recording: the first thing that comes of it is reported."""
    with tempfile.TemporaryDirectory() as folder:
        trace, other, data = (pathlib.Path(folder, name) for name in ('trace', 'other', 'data'))
        data.write_bytes(random.Random(1).randbytes(1 << 20))
        with record(trace, '--disk', f'{data},id=data', '--batch', machine.script(folder, 'md5sum /dev/vdb')) as m:
            check(m.wait(300) == 0, m.shown())
        request = int(subprocess.check_output([alter, trace, other, 'data']))
        messages, _ = replay(other, status=6)
        report = [m for m in messages if m.get('event') == 'diverged'][0]
        print(f'request {request} of data:', report, flush=True)
        check(report['field'] in ('digest', 'pc', 'icount', 'state hash', 'length') and report['recorded']['icount'] > 0, str(report))
        check('agreed' in report and report['agreed']['icount'] <= report['icount'], str(report))
        replay(trace)
        for device in 'vda', 'data', 'rng0', 'serial0':
            replay(trace, '--device', device)
        replay(trace, '--device', 'rng0', '--wrap', 'env PLAIN=1')
        messages, _ = replay(other, '--device', 'data', status=6)
        report = [m for m in messages if m.get('event') == 'device-differs'][0]
        check((report['request'], report['field']) == (request, 'digest'), str(report))
        replay(trace, '--device', 'data', '--wrap', 'false', status=1)
        data.write_bytes(bytes(1 << 20))
        replay(trace, '--device', 'data', status=1)
        replay(trace, '--device', 'none', status=2)


def dump(trace, *words):
    text = subprocess.check_output([machine.CLEAVE, 'trace', 'dump', trace, *words], stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in text.splitlines()]


def devices(*planted):
    """Device processes with an error in one answer: `replay --device` names the request; the proper ones answer as recorded."""
    with tempfile.TemporaryDirectory() as folder:
        trace, data = pathlib.Path(folder, 'trace'), pathlib.Path(folder, 'data')
        data.write_bytes(random.Random(1).randbytes(3 << 20))
        text = 'set -e; md5sum /dev/vdb; head -c 100000 /dev/hwrng | md5sum; ping -c 3 -i 0.2 10.0.2.2'
        with record(trace, '--disk', f'{data},id=data,ro', '--net', 'echo,id=net', '--batch', machine.script(folder, text)) as m:
            check(m.wait(300) == 0, m.shown())
        for program in map(pathlib.Path, planted):
            kind = program.name.split('-')[1]
            device, sign = {'block': ('data', 'completion'), 'net': ('net', 'event'), 'rng': ('rng0', 'completion')}[kind]
            answers = [r for r in dump(trace, '--device', device) if r['kind'] == sign and r['request'] and r['len'] > 1]
            chosen = answers[len(answers) * 2 // 3]
            bin = pathlib.Path(folder, kind)
            bin.mkdir()
            for name in 'cleave', 'cleave-broker', 'cleave-vcpu':
                shutil.copy(pathlib.Path(machine.CLEAVE).parent / name, bin)
            shutil.copy(program, bin / f'cleave-{kind}')
            for number, status in ('0', 0), (str(chosen['request']), 6):
                done = subprocess.run([bin / 'cleave', 'replay', '--json', '--device', device, trace], capture_output=True, timeout=200,
                                      stdin=subprocess.DEVNULL, env={**os.environ, 'PLANTED_REQUEST': number})
                check(done.returncode == status, f'{device}: {done.returncode}\n{done.stderr.decode()}')
            report, = [m for m in map(json.loads, done.stderr.splitlines()) if m.get('event') == 'device-differs']
            print(report, flush=True)
            check({k: report[k] for k in ('device', 'request', 'seq', 'icount', 'queue', 'recorded')} ==
                  {k: chosen[k] for k in ('device', 'request', 'seq', 'icount', 'queue')} | {'recorded': chosen['digest']}, str(chosen))
            check(report['field'] == ('digest of the message' if kind == 'net' else 'digest'), str(report))


def image():
    """A disk image that is not what it was is told from a machine that is not: at the start by size and ends, else where it was read."""
    with tempfile.TemporaryDirectory() as folder:
        trace, data, spare = (pathlib.Path(folder, name) for name in ('trace', 'data', 'spare'))
        content = random.Random(2).randbytes(8 << 20)
        data.write_bytes(content)
        text = 'dd if=/dev/vdb bs=64k skip=32 count=32 iflag=direct | md5sum'
        with record(trace, '--disk', f'{data},id=data,ro', '--batch', machine.script(folder, text)) as m:
            check(m.wait(300) == 0, m.shown())
        check([r for r in dump(trace, '--device', 'data') if r['form'] == 'file'], 'nothing refers to the image')
        stat = os.stat(data)

        def changed(at):
            data.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])
            os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))

        for at, refused in (100, True), (3 << 20, True), (6 << 20, False), ((8 << 20) - 1, True):
            changed(at)
            messages, _ = replay(trace, status=refused)
            errors = [m['error'] for m in messages if 'error' in m]
            check(bool(errors) == refused and all('image changed' in e and str(data) in e for e in errors), f'{at}: {messages}')
            check(not [m for m in messages if m.get('event') == 'diverged'], str(messages))
            print(at, errors, flush=True)
        data.write_bytes(content)
        replay(trace)
        data.rename(spare)
        replay(trace, status=1)
        replay(trace, '--image', f'data={spare}')


def damage(rounds='120', seed='1'):
    """A sample of all flipped bytes and of all lengths; the reader alone is tested with every one."""
    choose, counts = random.Random(int(seed)), {}
    with tempfile.TemporaryDirectory() as folder:
        trace, full = small(folder)
        whole, bad = trace.read_bytes(), pathlib.Path(folder, 'bad')
        check(outcome(trace, full) == 'whole', 'the sound trace')
        for n in range(int(rounds)):
            at = choose.randrange(len(whole))
            flipped = bytearray(whole)
            flipped[at] ^= 1 << choose.randrange(8)
            for what, data in ('flipped', flipped), ('cut', whole[:at]):
                bad.write_bytes(data)
                try:
                    result = outcome(bad, full)
                except (AssertionError, subprocess.TimeoutExpired) as e:
                    raise AssertionError(f'{what} at byte {at} of {len(whole)}: {e}') from None
                check(result != 'whole', f'{what} at byte {at} of {len(whole)}: not noticed')
                counts[what, result] = counts.get((what, result), 0) + 1
        print(len(whole), 'bytes:', counts, flush=True)


if __name__ == '__main__':
    machine.main({f.__name__: f for f in (session, sessions, timings, latencies, follow, limits, damage, planted, mistranslated, answer, devices, image)})
