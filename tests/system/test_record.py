"""What a recording survives: processes killed at random moments of a session with disk, network and entropy, and a trace whose disk
stands still. Every trace opens, says where it ends, and replays to there."""

import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

import machine

WORK = '''
dd if=/dev/vda of=/dev/null bs=64k count=128 iflag=direct 2>/dev/null
dd if=/dev/hwrng bs=512 count=4 2>/dev/null | md5sum
ping -c 3 -i 0.2 10.0.2.2 >/dev/null
dd if=/dev/zero of=/root/x bs=4k count=256 oflag=sync 2>/dev/null
md5sum /root/x
'''

VICTIMS = ('vcpu', 'broker', 'run', 'all')  # `run` is what the supervisor is called


def ending(trace):
    done = subprocess.run([machine.CLEAVE, 'trace', 'info', '--json', trace], capture_output=True)
    machine.check(done.returncode == 0, done.stderr.decode())
    return json.loads(done.stdout)['ending']


def replay(trace):
    """(icount, hash) where the replay of all of the trace ends."""
    done = subprocess.run([machine.CLEAVE, 'replay', '--json', trace], capture_output=True)
    machine.check(done.returncode == 0, f'the replay ended with {done.returncode}: {done.stderr.decode()[-2000:]}')
    result = [json.loads(line) for line in done.stderr.decode().splitlines() if '"exit"' in line][-1]
    return result['icount'], result['hash']


def wait_for_event(m, name):
    end = time.monotonic() + 60
    while not any(r.get('event') == name for r in m.results()):
        machine.check(time.monotonic() < end and m.process.poll() is None, f'no event {name}:\n{m.shown()}')
        time.sleep(0.01)


def kill(m, victim):
    found = machine.processes(m)
    for role, pid in found.items():
        if victim in (role, 'all'):
            os.kill(pid, signal.SIGKILL)
    if victim == 'all':
        m.process.kill()


def one(folder, victim, delay):
    """Whether the machine still ran when the victim was killed."""
    trace = pathlib.Path(folder, 'trace')
    trace.unlink(missing_ok=True)
    with machine.Machine(*machine.demo(), '--net', 'echo', '--json', '--record', trace, '--batch',
                         machine.script(folder, WORK)) as m:
        wait_for_event(m, 'started')
        time.sleep(delay)
        late = m.process.poll() is not None
        if not late:
            kill(m, victim)
        status = m.wait(120)
    end = ending(trace)
    late = late or victim == 'all' and (end['state'], end.get('reason')) == ('ended', 'poweroff')
    icount, state = replay(trace)
    print(f'{"too late: " * late}{victim} after {delay:.2f} s: {end["state"]}, {end.get("reason", "")}, replayed to {icount}', flush=True)
    # An outbound crossing, if it is the last record, takes the step behind the position where the trace ends.
    machine.check(icount - end['icount'] in (0, 1), f'replayed to {icount}, the trace ends at {end["icount"]}')
    if victim == 'broker':
        result = [r for r in m.results() if r.get('event') == 'exit'][-1]
        machine.check(status == 0 and end['reason'] == 'poweroff', f'status {status}, {end}')
        machine.check((icount, state) == (result['icount'], result['hash']), f'{result}, replayed to {icount}, {state}')
    elif victim == 'all' and not late:
        machine.check(end['state'] != 'ended', f'{end}')
    return not late


def kills(count='20', seed='1'):
    r = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as folder:
        os.environ['XDG_STATE_HOME'] = folder
        n = 0
        for _ in range(2 * int(count)):
            n += one(folder, VICTIMS[n % len(VICTIMS)], r.random() * 2.5)
            if n == int(count):
                return
        raise AssertionError(f'only {n} kills found a machine that ran')


def stalled():
    """The broker does not come back from its disk: the machine waits for a second, then goes on without; the trace gets its end when
    the disk comes back."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ['XDG_STATE_HOME'] = folder
        trace = pathlib.Path(folder, 'trace')
        with machine.Machine(*machine.demo('--json', '--record', trace)) as m:
            at = m.expect('# ')
            m.type('dd if=/dev/urandom of=big bs=1M count=80 oflag=direct; echo rea""dy\n') # not the image's: recorded whole
            at = m.expect('ready\r\n', since=at)
            broker = machine.processes(m)['broker']
            os.kill(broker, signal.SIGSTOP)
            try:
                m.type('dd if=big of=/dev/null bs=1M iflag=direct; echo do""ne\n')
                m.expect('done\r\n', since=at)
                wait_for_event(m, 'recording-ended')
            finally:
                os.kill(broker, signal.SIGCONT)
            m.stop()
        end = ending(trace)
        print(end)
        machine.check(end['state'] == 'ended' and 'no progress' in end['reason'] and end['error'] == 110, str(end))
        machine.check(replay(trace)[0] - end['icount'] in (0, 1), 'the replay ends elsewhere')


machine.main({'kills': kills, 'stalled': stalled})
