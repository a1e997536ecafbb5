#!/usr/bin/env python3
"""Recording: where traces go, which of them stay, how they end, and what happens when they cannot be written. Replays show that they hold."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import unittest

import rig

# Sends a byte each millisecond of guest time or so, for ever: crossings in both directions.
CHATTER = rig.load_immediate(5, rig.UART) + [
    rig.addi(6, 0, ord('x')), rig.store_byte(6, 5), 0x0052c383, 0x0203f393, 0xfe038ce3, rig.JUMP_BACK - (12 << 20)]


class Case(rig.Case):
    def setUp(self):
        super().setUp()
        self.state_home = self.dir / 'state'
        self.traces = self.state_home / 'cleave' / 'traces'

    def ending(self, trace):
        status, out, err = self.command('trace', 'info', trace, '--json')
        self.assertEqual(status, 0, err)
        return json.loads(out)['ending']

    def replay(self, trace):
        """The position and hash where a replay of all of the trace ends."""
        status, _, err = self.command('replay', trace, '--json', '--engine', 'interp')
        self.assertEqual(status, 0, err)
        result = [json.loads(line) for line in err.splitlines() if '"exit"' in line][-1]
        return result['icount'], result['hash']

    def record(self, *words, trace='t'):
        """Runs to the end; the result."""
        status, _, err = self.command('run', '--memory', '16M', '--json', '--record', trace, *words)
        self.assertEqual(status, 0, err)
        return [json.loads(line) for line in err.splitlines() if '"exit"' in line][-1]

    def events(self, process):
        process.wait()
        return [json.loads(line) for line in process.stderr.read().decode().splitlines()]


class Place(Case):
    def test_named(self):
        result = self.record('--bios', 'poweroff')
        self.assertEqual(os.stat(self.dir / 't').st_mode & 0o777, 0o600)
        ending = self.ending('t')
        self.assertEqual((ending['state'], ending['reason'], ending['icount']), ('ended', 'poweroff', result['icount']))
        self.assertEqual(self.replay('t'), (result['icount'], result['hash']))

    def test_default(self):
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'poweroff', '--name', 'web'), (0, '', ''))
        trace, = self.traces.iterdir()
        self.assertRegex(trace.name, r'^web-\d{8}-\d{6}-\d+\.trace$')
        self.assertEqual(trace.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.traces.stat().st_mode & 0o777, 0o700)
        (self.dir / 'poweroff').unlink()
        self.replay(trace)

    def test_none(self):
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff', '--no-record', '--json')
        self.assertEqual(status, 0)
        self.assertNotIn('"trace"', err)
        self.assertFalse(self.traces.exists())

    def test_last_ones_stay(self):
        for _ in range(10):
            self.command('run', '--memory', '16M', '--bios', 'poweroff', '--name', 'a-1')
        self.command('run', '--memory', '16M', '--bios', 'poweroff', '--name', 'a')
        names = [t.name for t in self.traces.iterdir()]
        self.assertEqual(len([n for n in names if n.startswith('a-1-')]), 8)
        self.assertEqual(len(names), 9)

    def test_running_one_stays(self):
        machine = self.start('--bios', 'idle', name='a')
        for _ in range(10):
            self.command('run', '--memory', '16M', '--bios', 'poweroff', '--name', 'a')
        self.assertTrue(any(f'-{self.pid("supervisor", "a")}.' in t.name for t in self.traces.iterdir()))
        self.command('stop', 'a')
        machine.wait()

    def test_refused(self):
        self.path('there', b'x')
        for path, why in (('there', 'File exists'), ('.', 'Is a directory'), ('no/where', 'No such file or directory'),
                          ('/dev/full', 'not a regular file'), ('/proc/x', 'No such file or directory')):
            with self.subTest(path):
                status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff', '--record', path)
                self.assertEqual(status, 1)
                self.assertTrue(err.startswith(f"cleave: cannot record to '{path}': {why}"), err)
        self.assertEqual((self.dir / 'there').read_bytes(), b'x')
        for words in (('--record', 'a', '--no-record'), ('--no-record', '--record-require'), ('--record-limit', '1K'),
                      ('--record-limit', 'much')):
            self.assertEqual(self.command('run', '--bios', 'poweroff', *words)[0], 2)

    def test_in_use(self):
        self.start('--bios', 'idle', '--record', 't')
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff', '--record', 't')
        self.assertEqual(status, 1)
        self.assertIn("cannot record to 't'", err)
        self.command('stop', 'vm')

    def test_default_place_unusable(self):
        self.environment['XDG_STATE_HOME'] = '/proc/none'
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff')
        self.assertEqual(status, 0)
        self.assertIn('nothing is recorded: cannot record to', err)
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff', '--record-require')
        self.assertEqual(status, 1)
        result = self.record('--bios', 'poweroff')  # without a content store the files' own paths serve
        self.assertEqual(self.replay('t')[1], result['hash'])

    def test_nothing_left_of_a_failed_start(self):
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'missing', '--record', 't')[0], 1)
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'idle', '--kernel', 'idle', '--record', 't')[0], 1)
        self.assertFalse((self.dir / 't').exists())

    def test_file_keys(self):
        self.path('vm.yaml', b'bios: poweroff\nmemory: 16M\nrecord: sub/t\nrecord-limit: 2M\nrecord-require: yes\n')
        (self.dir / 'sub').mkdir()
        self.assertEqual(self.command('run', 'vm.yaml'), (0, '', ''))
        self.assertEqual(self.ending('sub/t')['reason'], 'poweroff')

    def test_report(self):
        self.start('--bios', 'idle', '--record', 't')
        rig.wait_until(lambda: os.stat(self.dir / 't').st_size > 0, 'header')
        record = json.loads(self.command('stats', 'vm', '--json')[1])['record']
        self.assertEqual((record['state'], record['trace']), ('on', str(self.dir / 't')))
        self.assertEqual(record['bytes'], os.stat(self.dir / 't').st_size)
        self.assertGreaterEqual(record['blocks'], 1)
        self.assertEqual(record['stalls'], 0)
        self.assertIn(f'recording  on: {self.dir}/t', self.command('info', 'vm')[1])
        self.assertIn('record.blocks', self.command('stats', 'vm')[1])
        self.command('stop', 'vm')


class Endings(Case):
    def chatter(self, *words):
        self.path('chatter', rig.binary(CHATTER))
        return self.start('--bios', 'chatter', '--serial', 'null', '--json', '--record', 't', *words)

    def assert_replayed(self, ending):
        """An outbound crossing, if it is the last record, takes the step behind the position where the trace ends."""
        self.assertIn(self.replay('t')[0] - ending['icount'], (0, 1))

    def grown(self, bytes_):
        rig.wait_until(lambda: os.stat(self.dir / 't').st_size > bytes_, 'growth of the trace')

    def cut_short(self, machine, reason, error):
        """The machine goes on when the recording has ended."""
        rig.wait_until(lambda: self.info()['record']['state'] == 'ended', 'end of the recording')
        before = json.loads(self.command('stats', 'vm', '--json')[1])['vcpu']['icount']
        rig.wait_until(lambda: json.loads(self.command('stats', 'vm', '--json')[1])['vcpu']['icount'] > before, 'steps')
        self.command('stop', 'vm')
        events = self.events(machine)
        event, = [e for e in events if e['event'] == 'recording-ended']
        self.assertEqual((event['reason'], event['error']), (reason, error))
        ending = self.ending('t')
        self.assertEqual((ending['state'], ending['reason'], ending['error']), ('ended', reason, error))
        self.assert_replayed(ending)

    def test_size_limit(self):
        machine = self.chatter('--record-limit', '128K')
        self.cut_short(machine, 'size limit reached', 27)
        self.assertLessEqual(os.stat(self.dir / 't').st_size, 128 << 10)

    def test_required(self):
        machine = self.chatter('--record-limit', '128K', '--record-require')
        rig.wait_until(lambda: self.state() == 'paused', 'pause')
        self.assertIn('size limit reached', self.info()['why'])
        self.assertEqual(self.command('resume', 'vm')[0], 4)
        self.command('stop', 'vm')
        machine.wait()
        self.assert_replayed(self.ending('t'))

    def test_broker_killed_again_and_again(self):
        machine = self.chatter()
        for n in range(8):
            self.grown(os.stat(self.dir / 't').st_size)
            pid = self.pid('broker')
            os.kill(pid, signal.SIGKILL)
            rig.wait_until(lambda: self.pid('broker') not in (0, pid), 'successor')
        self.grown(os.stat(self.dir / 't').st_size)
        self.assertEqual(self.command('stop', 'vm')[0], 0)
        result = self.events(machine)[-1]
        self.assertEqual(self.ending('t')['icount'], result['icount'])
        self.assertEqual(self.replay('t'), (result['icount'], result['hash']))

    def test_broker_cannot_live(self):
        machine = self.chatter()
        os.truncate(self.dir / 't', 0)  # no successor can continue this
        os.kill(self.pid('broker'), signal.SIGKILL)
        rig.wait_until(lambda: self.info()['record']['state'] == 'ended', 'end of the recording')
        self.assertEqual(self.state(), 'running')
        self.command('stop', 'vm')
        self.assertEqual(machine.wait(), 0)

    def test_commands_and_deaths_of_devices(self):
        machine = self.chatter()
        for _ in range(3):
            self.assertEqual(self.command('pause', 'vm')[0], 0)
            self.assertEqual(self.command('resume', 'vm')[0], 0)
        os.kill(self.pid('rng.rng0'), signal.SIGKILL)
        rig.wait_until(lambda: self.state() == 'paused', 'pause')
        self.command('stop', 'vm')
        result = self.events(machine)[-1]
        _, out, _ = self.command('trace', 'dump', 't', '--kind', 'control', '--bodies')
        records = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(records), 7)
        self.assertEqual(base64.b64decode(records[-1]['body']), b'rng0')
        self.assertEqual(self.replay('t'), (result['icount'], result['hash']))

    def test_vcpu_killed(self):
        machine = self.chatter()
        self.grown(20000)
        os.kill(self.pid('vcpu'), signal.SIGKILL)
        machine.wait()
        ending = self.ending('t')
        self.assertEqual(ending['state'], 'ended')
        self.assertEqual(ending['reason'], 'vcpu died: killed by signal 9 (Killed)')
        self.assert_replayed(ending)

    def test_supervisor_killed(self):
        machine = self.chatter()
        self.grown(20000)
        os.kill(self.pid('supervisor'), signal.SIGKILL)
        machine.wait()
        ending = self.ending('t')
        self.assertEqual((ending['state'], ending['reason']), ('ended', 'the supervisor died'))
        self.assert_replayed(ending)

    def test_all_killed(self):
        machine = self.chatter()
        self.grown(20000)
        for process in self.info()['processes']:
            with contextlib.suppress(ProcessLookupError):  # some end with the supervisor
                os.kill(process['pid'], signal.SIGKILL)
        machine.wait()
        self.assertIn(self.ending('t')['state'], ('open', 'torn', 'ended'))
        self.assertGreater(self.replay('t')[0], 0)

    def small_disk(self):
        disk = self.dir / 'small'
        disk.mkdir()
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=128k', 'none', disk], capture_output=True).returncode:
            self.skipTest('needs the right to mount')
        return disk

    def test_no_room_for_the_header(self):
        disk = self.small_disk()
        try:
            self.environment['XDG_STATE_HOME'] = str(disk)
            (disk / 'filler').write_bytes(bytes(122880))
            status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff')
            self.assertEqual(status, 0, err)
            self.assertIn('cannot begin the trace: No space left on device', err)
            status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff', '--record', disk / 't')
            self.assertEqual(status, 1)
            self.assertIn('cannot begin the trace: No space left on device', err)
            self.assertFalse((disk / 't').exists())
        finally:
            subprocess.run(['umount', '-l', disk], check=True)

    def test_full_disk(self):
        disk = self.small_disk()
        try:
            os.symlink(disk / 't', self.dir / 't')
            machine = self.chatter()
            self.cut_short(machine, 'No space left on device', 28)
        finally:
            subprocess.run(['umount', '-l', disk], check=True)

    def test_full_disk_required(self):
        disk = self.small_disk()
        try:
            os.symlink(disk / 't', self.dir / 't')
            machine = self.chatter('--record-require')
            rig.wait_until(lambda: self.state() == 'paused', 'pause')
            self.assertIn('No space left on device', self.info()['why'])
            subprocess.run(['mount', '-o', 'remount,size=8m', disk], check=True)
            rig.wait_until(lambda: self.state() == 'running', 'going on')
            self.command('stop', 'vm')
            result = self.events(machine)[-1]
            self.assertEqual(self.replay('t'), (result['icount'], result['hash']))
        finally:
            subprocess.run(['umount', '-l', disk], check=True)


rig.main()
