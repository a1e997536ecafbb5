#!/usr/bin/env python3
"""Traces of whole machines in the hands of the commands that read them: a recorded session of the demo guest with a network
card, exported, packed and replayed.

  test_trace.py pcap|cast|chrome|clock|pack
"""

import collections
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import machine

check = machine.check


def run(*words, environment=None):
    """(stdout, stderr) of a command that succeeds."""
    done = subprocess.run([machine.CLEAVE, *map(str, words)], capture_output=True, env=environment,
                          stdin=subprocess.DEVNULL)
    check(done.returncode == 0, f'{words}: {done.returncode}\n{done.stderr.decode()[-2000:]}')
    return done.stdout.decode(), done.stderr.decode()


def cleave(*words):
    return run(*words)[0]


def record(folder):
    """Records a session; returns the trace."""
    trace = folder / 'session.trace'
    status, output = machine.batch('ping -c 3 10.0.2.2 && head -c 100000 /dev/vda | sha256sum && echo "grüße"', '--net',
                                   f'echo,pcap={folder / "live.pcap"}', '--record', trace)
    check(status == 0, output[-3000:])
    return trace


def frames(path):
    raw, at, found = path.read_bytes(), 24, []
    magic, *_, link = struct.unpack('<IHHIIII', raw[:24])
    check((magic, link) == (0xa1b23c4d, 1), f'{magic:x} {link}')
    while at < len(raw):
        seconds, ns, length, whole = struct.unpack('<IIII', raw[at:at + 16])
        check(length == whole and ns < 10**9, f'{length} of {whole} bytes')
        found.append((seconds * 10**9 + ns, raw[at + 16:at + 16 + length]))
        at += 16 + length
    check(at == len(raw), 'the capture ends inside a frame')
    return found


def pcap(folder):
    """What the device captured, live, is what the export has: received from the trace, sent from a replay."""
    trace = record(folder)
    cleave('trace', 'export', trace, folder / 'trace.pcap')
    live, exported = frames(folder / 'live.pcap'), frames(folder / 'trace.pcap')
    check(collections.Counter(f for _, f in live) == collections.Counter(f for _, f in exported),
          f'{len(live)} frames live, {len(exported)} exported')
    check(len(exported) >= 6, f'{len(exported)} frames')
    check(exported == sorted(exported, key=lambda f: f[0]), 'times go backwards')
    pings = [f for _, f in exported if f[12:14] == b'\x08\x00' and f[23] == 1]
    check([f[34] for f in pings] == [8, 0] * (len(pings) // 2), 'an answer before its question')


def clock(folder):
    """A virtual clock: times in the exports are those that a replay computes, and the guest's own."""
    trace, text = folder / 'session.trace', 'ping -c 2 10.0.2.2; for i in 1 2 3; do sleep $i; echo at-$(cut -d" " -f1 /proc/uptime); done'
    status, output = machine.batch(text, '--net', 'echo', '--clock', 'virtual', '--cpus', '2', '--record', trace, '--hash-every', '100000000')
    check(status == 0, output[-3000:])
    cleave('trace', 'export', trace, folder / 'trace.json')
    cleave('trace', 'export', trace, folder / 'trace.pcap')
    _, *lines = map(json.loads, cleave('trace', 'export', trace, '--format', 'asciicast').splitlines())
    offsets = [at - float(data.split('at-')[1].split()[0]) for at, _, data in lines if 'at-' in data]
    print(offsets, flush=True)
    check(len(offsets) == 3 and max(offsets) - min(offsets) < 0.05, f'the guest saw other times: {offsets}')
    events = json.loads((folder / 'trace.json').read_text())['traceEvents']
    times = [e['args']['virtual_ns'] for e in events if 'virtual_ns' in e.get('args', {})]
    check(times == sorted(times), 'times go backwards')
    nets = {e['pid'] for e in events if e['name'] == 'process_name' and e['args']['name'] == 'net0 (net)'}
    start = json.loads(cleave('trace', 'info', '--json', trace))['rtc_start_ns']
    sent = [e['args']['virtual_ns'] for e in events if e['ph'] == 'b' and e['pid'] in nets and 'queue 1' in e['name']]
    captured = [at - start for at, frame in frames(folder / 'trace.pcap')]
    check(sent and set(sent) <= set(captured), f'{len(set(sent) - set(captured))} of {len(sent)} frames have another time')


def cast(folder):
    """The lines of the cast make the console's output."""
    trace = record(folder)
    head, *lines = map(json.loads, cleave('trace', 'export', trace, '--format', 'asciicast').splitlines())
    check(head['version'] == 2, str(head))
    text = ''.join(data for _, kind, data in lines if kind == 'o').replace('\r\n', '\n')
    for line in ('OpenSBI', '3 packets transmitted, 3 received', 'grüße'):
        check(line in text, f'{line} is not in the cast')
    check([t for t, *_ in lines] == sorted(t for t, *_ in lines), 'times go backwards')


def chrome(folder):
    trace = record(folder)
    info = json.loads(cleave('trace', 'info', '--json', trace))
    cleave('trace', 'export', trace, folder / 'trace.json')
    events = json.loads((folder / 'trace.json').read_text())['traceEvents']
    requests = sum(d['crossings'].get('request', {}).get('count', 0) for d in info['devices'])
    begun = {e['id']: e for e in events if e['ph'] == 'b'}
    ended = {e['id']: e for e in events if e['ph'] == 'e'}
    check(requests == len(begun) == len(ended), f'{requests} requests, {len(begun)} slices, {len(ended)} ends')
    check(all(e['ts'] <= ended[i]['ts'] for i, e in begun.items()), 'a slice ends before it begins')
    names = {e['args']['name'] for e in events if e['name'] == 'process_name'}
    check(names >= {'machine', 'vda (block)', 'net0 (net)', 'serial0 (serial)'}, str(names))


def pack(folder):
    """A packed trace replays to the same state where no file of the machine is."""
    trace = record(folder)
    cleave('trace', 'verify', trace)
    cleave('trace', 'pack', trace, folder / 'packed')
    cleave('trace', 'verify', folder / 'packed')
    cleave('trace', 'diff', trace, folder / 'packed')
    results = []
    for path, state in ((trace, os.environ['XDG_STATE_HOME']), (folder / 'packed', folder / 'elsewhere')):
        printed, events = run('replay', path, '--json', environment=dict(os.environ, XDG_STATE_HOME=str(state)))
        end = json.loads(events.splitlines()[-1])
        check(end['event'] == 'exit' and end['why'] == 'poweroff', str(end))
        results.append((printed, end['icount'], end['hash']))
    check(results[0] == results[1], f'{results[0][1:]} and, packed, {results[1][1:]}')
    files = json.loads(cleave('trace', 'info', '--json', folder / 'packed'))['files']
    check({f['state'] for f in files} <= {'stored', 'unused'}, str(files))


with tempfile.TemporaryDirectory() as scratch:
    os.environ['XDG_STATE_HOME'] = scratch + '/state'
    {'pcap': pcap, 'cast': cast, 'chrome': chrome, 'clock': clock, 'pack': pack}[sys.argv[1]](pathlib.Path(scratch))
