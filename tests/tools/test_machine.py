#!/usr/bin/env python3
"""A running machine: its commands, its terminal, and that neither signals nor deaths leave anything behind."""

import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import subprocess
import termios
import time
import unittest

import rig


class Commands(rig.Case):
    def test_poweroff_and_fail(self):
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'poweroff'), (0, '', ''))
        self.path('fail', rig.binary(rig.fail(7)))
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'fail')
        self.assertEqual((status, err), (1, 'cleave: the guest failed with status 7\n'))

    def test_ps_info_stats(self):
        self.start('--bios', 'idle', '--disk', self.path('disk', bytes(4096)), '--net', 'echo')
        machine, = json.loads(self.command('ps', '--json')[1])
        self.assertEqual(machine['name'], 'vm')
        roles = [p['role'] for p in machine['processes']]
        self.assertEqual(roles, ['supervisor', 'vcpu', 'broker', 'serial.serial0', 'block.vda', 'net.net0', 'rng.rng0'])
        for process in machine['processes'][1:]:
            with open(f'/proc/{process["pid"]}/cmdline', 'rb') as f:
                self.assertEqual(f.read().split(b'\0')[1], process['role'].encode())
        stats = json.loads(self.command('stats', 'vm', '--json')[1])
        self.assertGreater(stats['vcpu']['icount'], 0)
        self.assertTrue(all(p['pss_kib'] > 0 for p in stats['processes']))
        info = self.info()
        self.assertEqual(info['memory'], 16 << 20)
        self.assertEqual([d['slot'] for d in info['devices']], [-1, 0, 1, 2])
        self.assertIn('block.vda', self.command('ps')[1])
        self.assertIn('vda', self.command('info', 'vm')[1])
        self.assertIn('icount', self.command('stats', 'vm')[1])
        self.assertEqual(self.command('stop', 'vm')[0], 0)
        self.assertEqual(self.started[0].wait(), 0)

    def test_pause_resume(self):
        machine = self.start('--bios', 'idle')
        self.assertEqual(self.command('resume', 'vm')[0], 4)
        self.assertEqual(self.command('pause', 'vm')[0], 0)
        self.assertEqual(self.state(), 'paused')
        status, _, err = self.command('pause', 'vm')
        self.assertEqual(status, 4)
        self.assertIn("machine 'vm' is paused", err)
        self.assertEqual(self.command('resume', 'vm')[0], 0)
        self.assertEqual(self.state(), 'running')
        self.assertEqual(self.command('kill', 'vm')[0], 0)
        self.assertEqual(machine.wait(), 0)

    def test_stop_of_a_paused_machine(self):
        machine = self.start('--bios', 'idle')
        self.command('pause', 'vm')
        self.assertEqual(self.command('stop', 'vm')[0], 0)
        self.assertEqual(machine.wait(), 0)

    def test_stop_timeout(self):
        machine = self.start('--bios', 'idle')
        vcpu = self.pid('vcpu')
        os.kill(vcpu, signal.SIGSTOP)
        self.assertEqual(self.command('stop', 'vm', '--timeout', '1')[0], 5)
        self.assertEqual(self.command('stop', 'vm', '--force')[0], 0)
        machine.wait()

    def test_several_machines(self):
        self.start('--bios', 'idle', name='one')
        self.start('--bios', 'idle', name='two')
        self.assertEqual([m['name'] for m in json.loads(self.command('ps', '--json')[1])], ['one', 'two'])
        self.command('stop', 'one')
        self.command('stop', 'two')

    def test_hashes_repeat(self):
        def run():
            status, _, err = self.command('run', '--memory', '16M', '--bios', 'echo', '--serial', 'null', '--clock', 'virtual',
                                          '--hash-at', '1000', '--stop-at', '5000', '--hash-at-exit')
            self.assertEqual(status, 0, err)
            return [line for line in err.splitlines() if line.startswith('hash ')]
        first = run()
        self.assertEqual([line.split()[1] for line in first], ['1000', '5000'])
        self.assertEqual(run(), first)

    def test_json_result(self):
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'poweroff', '--json', '--hash-at-exit')
        events = [json.loads(line) for line in err.splitlines()]
        self.assertEqual([e['event'] for e in events], ['started', 'hash', 'exit'])
        self.assertEqual((status, events[-1]['why'], events[-1]['status']), (0, 'poweroff', 0))
        self.assertEqual(events[1]['hash'], events[2]['hash'])

    def test_configuration_file(self):
        self.path('vm.yaml', b'bios: poweroff\nmemory: 16M\nserials: [{backend: "null"}]\nrng: off\n')
        self.assertEqual(self.command('run', 'vm.yaml')[0], 0)
        self.assertEqual(self.command('doctor', 'vm.yaml')[0], 0)


class Pages(rig.Case):
    def test_every_verb_has_an_installed_page(self):
        listed = re.findall(r"^  ([a-z][a-z-]*(?: [a-z]+)?)  ", self.command('--help')[1], re.MULTILINE)
        meson = (pathlib.Path(__file__).parents[2] / 'docs/man/meson.build').read_text()
        installed = re.findall(r"'([a-z -]+)'", re.search(r"^verbs = \[(.*?)\]$", meson, re.MULTILINE | re.DOTALL).group(1))
        self.assertEqual(installed, listed)

    def test_completion_scripts_are_accepted(self):
        script = self.command('completion', 'bash')[1]
        probe = script + 'COMP_WORDS=(cleave run --clo); COMP_CWORD=2; _cleave; echo "${COMPREPLY[@]}"\n'
        done = subprocess.run(['bash', '-eu', '-c', probe], capture_output=True, env=self.environment)
        self.assertEqual((done.returncode, done.stdout), (0, b'--clock\n'), done.stderr)
        for shell in ('zsh', 'fish'):
            if shutil.which(shell):
                path = self.path(shell, self.command('completion', shell)[1].encode())
                done = subprocess.run([shell, '-n', path], capture_output=True)
                self.assertEqual((done.returncode, done.stderr), (0, b''))


class Input(rig.Case):
    def test_events(self):
        self.start('--bios', 'idle', '--input', 'keyboard', '--input', 'pointer')
        for words in (('key', 'a', 'ctrl-alt-delete'), ('text', 'hello, world'), ('pointer', '100', '200', '1')):
            self.assertEqual(self.command('input', 'vm', *words), (0, '', ''))
        for status, words in ((1, ('key', 'nosuchkey')), (2, ('pointer', '1')), (2, ('pointer', '1', '99999')),
                              (2, ('wheel', '1')), (1, ('key', 'a', '--device', 'nosuch'))):
            got, _, err = self.command('input', 'vm', *words)
            self.assertEqual(got, status, err)
            self.assertTrue(err.startswith('cleave: '))
        self.command('stop', 'vm')

    def test_no_device(self):
        self.start('--bios', 'idle')
        status, _, err = self.command('input', 'vm', 'key', 'a')
        self.assertEqual(status, 1)
        self.assertIn('hint: start the machine with --input keyboard', err)
        self.command('stop', 'vm')


class Serial(rig.Case):
    def test_stdio(self):
        machine = self.start('--bios', 'echo')
        machine.stdin.write(b'ping')
        machine.stdin.flush()
        self.assertEqual(self.read(machine.stdout.fileno(), 4), b'ping')
        machine.stdin.close()
        time.sleep(0.2)
        self.assertEqual(self.state(), 'running')
        self.command('stop', 'vm')
        self.assertEqual(machine.wait(), 0)

    def read(self, fd, count):
        data = b''
        while len(data) < count:
            piece = os.read(fd, count - len(data))
            self.assertTrue(piece, data)
            data += piece
        return data

    def test_console(self):
        self.start('--bios', 'echo', '--serial', 'null')
        console = subprocess.Popen([rig.CLEAVE, 'console', 'vm'], env=self.environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        self.started.append(console)
        console.stdin.write(b'hello')
        console.stdin.flush()
        self.assertEqual(self.read(console.stdout.fileno(), 5), b'hello')
        self.command('stop', 'vm')
        self.assertEqual(console.wait(), 0)

    def test_unix_socket(self):
        path = self.path('sock')
        self.start('--bios', 'echo', '--serial', f'unix:{path}')
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b'hello')
            self.assertEqual(self.read(client.fileno(), 5), b'hello')
        self.command('stop', 'vm')
        self.started[0].wait()
        self.assertFalse(os.path.exists(path))

    def test_pty(self):
        self.start('--bios', 'echo', '--serial', 'pty')
        name = next(d['path'] for d in self.info()['devices'] if d['id'] == 'serial0')
        fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b'hello\r')
        self.assertEqual(self.read(fd, 6), b'hello\r')
        os.close(fd)
        self.command('stop', 'vm')

    def test_file(self):
        self.path('print', rig.binary(rig.put(b'to a file\n') + rig.POWEROFF))
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'print', '--serial', 'file:out')[0], 0)
        with open(self.path('out'), 'rb') as f:
            self.assertEqual(f.read(), b'to a file\n')

    def test_output_before_poweroff(self):
        text = b'x' * 3000 + b'\n'
        self.path('print', rig.binary(rig.put(text) + rig.POWEROFF))
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'print'), (0, text.decode(), ''))

    def test_closed_stdout(self):
        self.path('print', rig.binary(rig.put(b'y' * 2000) + rig.IDLE))
        read, write = os.pipe()
        os.close(read)
        machine = self.start('--bios', 'idle', stdout=write)
        os.close(write)
        self.command('stop', 'vm')
        self.assertEqual(machine.wait(), 0)


class Batch(rig.Case):
    def run_batch(self, code, *words):
        self.path('script', b'#!/bin/sh\ntrue\n')
        return self.command('run', '--memory', '32M', '--bios', 'none', '--kernel', self.path('kernel', rig.image(code)),
                            '--batch', 'script', *words)

    def test_statuses(self):
        begin, end = b'\x1ecleave-batch-begin\x1e\n', b'\x1ecleave-batch-end 7\x1e\n'
        self.assertEqual(self.run_batch(rig.put(b'boot\n' + begin + b'hello\n' + end) + rig.fail(7)), (7, 'hello\n', ''))
        self.assertEqual(self.run_batch(rig.put(begin + b'hello\n') + rig.POWEROFF), (0, 'hello\n', ''))

    def test_failure_before_the_script(self):
        status, out, err = self.run_batch(rig.put(b'init: no root disk\n') + rig.fail(125))
        self.assertEqual((status, out), (125, ''))
        self.assertIn('init: no root disk\n', err)

    def test_stopped(self):
        status, out, err = self.run_batch(rig.BUSY, '--stop-at', '100')
        self.assertEqual((status, out), (0, ''))

    def test_interrupted(self):
        self.path('script', b'true\n')
        machine = self.start('--bios', 'none', '--kernel', self.path('kernel', rig.image(rig.IDLE)), '--memory', '32M',
                             '--batch', 'script')
        machine.send_signal(signal.SIGTERM)
        self.assertEqual(machine.wait(), 125)
        self.assertIn(b'stopped before the script ended', machine.stderr.read())

    def test_device_death(self):
        self.path('script', b'true\n')
        machine = self.start('--bios', 'none', '--kernel', self.path('kernel', rig.image(rig.IDLE)), '--memory', '32M',
                             '--batch', 'script')
        os.kill(self.pid('rng.rng0'), signal.SIGKILL)
        self.assertEqual(machine.wait(), 125)
        self.assertIn(b'device rng.rng0 died: killed by signal 9', machine.stderr.read())


class Deaths(rig.Case):
    WORDS = ('--bios', 'idle', '--serial', 'stdio', '--serial', 'unix:sock', '--net', 'echo')

    def begin(self):
        disk = self.path('disk', bytes(4096))
        return self.start(*self.WORDS, '--disk', f'{disk},overlay')

    def end(self, machine):
        status = machine.wait(timeout=rig.DEADLINE)
        self.assert_nothing_left()
        self.assertFalse(os.path.exists(self.path('sock')))
        return status, machine.stderr.read().decode()

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                machine = self.begin()
                machine.send_signal(number)
                self.assertEqual(self.end(machine), (-number, ''))

    def test_vcpu(self):
        machine = self.begin()
        os.kill(self.pid('vcpu'), signal.SIGKILL)
        self.assertEqual(self.end(machine), (125, 'cleave: vcpu died: killed by signal 9 (Killed)\n'))

    def test_supervisor(self):
        machine = self.begin()
        os.kill(self.pid('supervisor'), signal.SIGKILL)
        self.assertEqual(self.end(machine), (125, 'cleave: the supervisor died: killed by signal 9 (Killed)\n'))

    def test_supervisor_is_signalled(self):
        machine = self.begin()
        os.kill(self.pid('supervisor'), signal.SIGTERM)
        self.assertEqual(self.end(machine), (0, ''))

    def test_command(self):
        machine = self.begin()
        machine.kill()
        self.assertEqual(self.end(machine)[0], -9)

    def test_devices(self):
        for role in ('serial.serial0', 'serial.serial1', 'block.vda', 'net.net0', 'rng.rng0'):
            with self.subTest(role):
                machine = self.begin()
                os.kill(self.pid(role), signal.SIGABRT)
                rig.wait_until(lambda: self.state() == 'paused', 'pause')
                self.assertIn(f'device {role} died: killed by signal 6', self.info()['why'])
                self.assertEqual(self.command('resume', 'vm')[0], 4)
                self.assertEqual(self.command('stop', 'vm')[0], 0)
                status, err = self.end(machine)
                self.assertEqual(status, 0)
                self.assertIn(f'cleave: device {role} died: killed by signal 6 (Aborted)', err)

    def test_sandbox(self):
        """All child processes are confined, with all their threads, unless that is turned off."""
        disk, keys = self.path('disk', bytes(4096)), self.path('keys', b'1s key a\n')
        words = (*self.WORDS, '--disk', disk, '--disk', f'{disk}2,overlay', '--serial', 'pty', '--serial', 'file:out', '--serial', 'null',
                 '--net', 'user', '--net', 'stream,path=wire,listen', '--input', f'keyboard,script={keys}', '--input', 'pointer')
        self.path('disk2', bytes(4096))
        for more, setting, expected in ((), '', True), (('--sandbox', 'require'), 'off', True), (('--sandbox', 'off'), '', False), ((), 'off', False):
            with self.subTest(more + (setting,)):
                self.environment['CLEAVE_SANDBOX'] = setting
                machine = self.start(*words, *more)
                found = {p['role']: p for p in json.loads(self.command('stats', 'vm', '--json')[1])['processes']}
                self.assertEqual({role for role, p in found.items() if p['sandbox']},
                                 found.keys() - {'supervisor'} if expected else set())
                self.assertGreaterEqual(len(found), 14)
                for role, p in found.items() if expected else ():
                    for task in pathlib.Path(f'/proc/{p["pid"]}/task').iterdir() if p['sandbox'] else ():
                        status = (task / 'status').read_text()
                        self.assertRegex(status, r'\nNoNewPrivs:\s1\nSeccomp:\s2\n', role)
                self.assertEqual(self.command('stop', 'vm')[0], 0)
                self.end(machine)
        self.environment['CLEAVE_SANDBOX'] = 'perhaps'
        status, _, err = self.command('run', '--bios', 'idle')
        self.assertEqual((status, "sandbox: 'perhaps' is not one of on, off, require" in err), (2, True), err)

    def test_hung_device(self):
        machine = self.begin()
        os.kill(self.pid('net.net0'), signal.SIGSTOP)
        self.assertEqual(self.command('stop', 'vm')[0], 0)
        status, err = self.end(machine)
        self.assertEqual(status, 125)
        self.assertIn('net.net0 died while it stopped: did not stop within 10 s', err)

    def test_stalled_command(self):
        machine = self.start('--bios', self.path('busy', rig.binary(rig.BUSY)), '--clock', 'virtual', '--hash-every', '1000',
                             stderr=subprocess.DEVNULL)
        machine.send_signal(signal.SIGSTOP)
        before = json.loads(self.command('stats', 'vm', '--json')[1])['vcpu']['icount']
        rig.wait_until(lambda: json.loads(self.command('stats', 'vm', '--json')[1])['vcpu']['icount'] > before + 5000000,
                       'progress beside a stalled command')
        self.assertEqual(self.command('stop', 'vm')[0], 0)
        machine.send_signal(signal.SIGCONT)
        self.assertEqual(machine.wait(timeout=rig.DEADLINE), 0)

    def test_both(self):
        machine = self.begin()
        supervisor = self.pid('supervisor')
        machine.kill()
        os.kill(supervisor, signal.SIGKILL)
        machine.wait()
        rig.wait_until(lambda: not rig.processes_with(self.marker), 'the end of all processes')
        self.assertEqual(self.command('ps', '--json')[1], '[]\n')
        self.assertEqual(self.runtime_names(), [])
        os.unlink(self.path('sock'))

    def test_stale_directory(self):
        os.makedirs(self.runtime / 'cleave/vm', mode=0o700)
        for name in ('lock', 'control'):
            (self.runtime / 'cleave/vm' / name).write_bytes(b'')
        machine = self.begin()
        self.command('stop', 'vm')
        self.assertEqual(self.end(machine)[0], 0)


class Terminal(rig.Case):
    def setUp(self):
        super().setUp()
        self.master, self.slave = pty.openpty()
        self.modes = termios.tcgetattr(self.slave)

    def tearDown(self):
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)
        super().tearDown()

    def begin(self, code='echo'):
        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        return self.start('--bios', code, stdin=self.slave, stdout=self.slave, preexec_fn=own_terminal)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def read_for(self, text):
        data = b''
        while text not in data:
            piece = os.read(self.master, 1000)
            self.assertTrue(piece)
            data += piece
        return data

    def test_escape_keys(self):
        machine = self.begin()
        rig.wait_until(self.is_raw, 'raw mode')
        os.write(self.master, b'\x03')
        self.read_for(b'\x03')
        os.write(self.master, b'\x01\x01')
        self.read_for(b'\x01')
        os.write(self.master, b'\x01x')
        self.assertEqual(machine.wait(), 0)
        self.assertEqual(termios.tcgetattr(self.slave), self.modes)

    def test_modes_are_restored(self):
        for role, number in (('command', signal.SIGTERM), ('supervisor', signal.SIGKILL), ('vcpu', signal.SIGKILL),
                             ('command', signal.SIGKILL)):
            with self.subTest(role=role, number=number):
                machine = self.begin('idle')
                rig.wait_until(self.is_raw, 'raw mode')
                os.kill(machine.pid if role == 'command' else self.pid(role), number)
                machine.wait()
                rig.wait_until(lambda: termios.tcgetattr(self.slave) == self.modes, 'the return of the modes')
                self.assert_nothing_left()

    def test_suspend(self):
        machine = self.begin('idle')
        rig.wait_until(self.is_raw, 'raw mode')
        machine.send_signal(signal.SIGTSTP)
        rig.wait_until(lambda: termios.tcgetattr(self.slave) == self.modes, 'the return of the modes')
        machine.send_signal(signal.SIGCONT)
        rig.wait_until(self.is_raw, 'raw mode')
        os.write(self.master, b'\x01x')
        self.assertEqual(machine.wait(), 0)

    def test_closed_terminal(self):
        machine = self.begin('idle')
        rig.wait_until(self.is_raw, 'raw mode')
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1
        self.assertEqual(machine.wait(), -signal.SIGHUP)


if __name__ == '__main__':
    rig.main()
