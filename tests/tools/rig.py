"""What the tests of the command share: tiny guests, running machines, and the check that nothing is left behind."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

CLEAVE = os.environ.get('CLEAVE', 'cleave')
DEADLINE = 60  # seconds for things that must happen; never a measure

UART = 0x10000000
TEST_DEVICE = 0x100000


def lui(rd, value):
    return (value & 0xfffff000) | rd << 7 | 0x37


def addi(rd, rs, value):
    return (value & 0xfff) << 20 | rs << 15 | rd << 7 | 0x13


def load_immediate(rd, value):
    low = ((value & 0xfff) ^ 0x800) - 0x800
    return [lui(rd, value - low), (low & 0xfff) << 20 | rd << 15 | rd << 7 | 0x1b]


def store_word(rs2, rs1):
    return rs2 << 20 | rs1 << 15 | 2 << 12 | 0x23


def store_byte(rs2, rs1):
    return rs2 << 20 | rs1 << 15 | 0x23


WFI = 0x10500073
JUMP_BACK = 0xffdff06f  # to the instruction before

IDLE = [WFI, JUMP_BACK]
BUSY = [0x0000006f]  # a jump to itself


def finish(value):
    """Stores `value` to the test device."""
    return load_immediate(5, TEST_DEVICE) + load_immediate(6, value) + [store_word(6, 5), WFI, JUMP_BACK]


POWEROFF = finish(0x5555)


def fail(status):
    return finish(status << 16 | 0x3333)


def put(text):
    code = load_immediate(5, UART)
    for byte in text:
        code += [addi(6, 0, byte), store_byte(6, 5)]
        code += [0x0052c383, 0x0203f393, 0xfe038ce3]  # lbu t2, 5(t0); andi t2, t2, 0x20; beqz t2, -8
    return code


# Turns the FIFOs on and sends back what it receives: addi t1, zero, 1; sb t1, 2(t0);
# lbu t1, 5(t0); andi t1, t1, 1; beqz t1, -8; lbu t1, 0(t0); sb t1, 0(t0); j -20
ECHO = load_immediate(5, UART) + [addi(6, 0, 1), 0x00628123, 0x0052c303, 0x00137313, 0xfe030ce3, 0x0002c303, 0x00628023,
                                  0xfedff06f]


def binary(words):
    return b''.join(struct.pack('<I', word & 0xffffffff) for word in words)


def image(words):
    """A Linux Image: header of 64 bytes whose first instruction jumps over it."""
    code = binary(words)
    header = struct.pack('<IIQQQIIQQII', 0x0400006f, 0, 0x200000, 64 + len(code), 0, 2, 0, 0, 0x5643534952, 0x05435352, 0)
    return header + code


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f'{what} did not happen within {DEADLINE} s')


def processes_with(marker):
    """Processes, zombies excepted, whose environment holds the marker."""
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if marker in (entry / 'environ').read_bytes():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Case(unittest.TestCase):
    """Each test has a directory, a runtime directory, and must leave no process and no file in the latter."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='cleave-test-'))
        self.runtime = self.dir / 'runtime'
        self.runtime.mkdir(mode=0o700)
        (self.dir / 'tmp').mkdir()
        self.marker = f'CLEAVE_TEST={self.dir.name}'.encode()
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.runtime), XDG_STATE_HOME=str(self.dir / 'state'),
                                TMPDIR=str(self.dir / 'tmp'),
                                CLEAVE_TEST=self.dir.name, TERM='dumb')
        self.started = []
        for name, code in (('idle', IDLE), ('poweroff', POWEROFF), ('echo', ECHO)):
            (self.dir / name).write_bytes(binary(code))

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        try:
            self.assert_nothing_left()
        finally:
            for pid in processes_with(self.marker):
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.dir, ignore_errors=True)

    def assert_nothing_left(self):
        wait_until(lambda: not processes_with(self.marker), 'the end of all processes')
        self.assertEqual(self.runtime_names(), [])
        self.assertEqual(os.listdir(self.dir / 'tmp'), [])

    def runtime_names(self):
        directory = self.runtime / 'cleave'
        return sorted(os.listdir(directory)) if directory.exists() else []

    def path(self, name, content=None):
        path = self.dir / name
        if content is not None:
            path.write_bytes(content)
        return str(path)

    def command(self, *words, **options):
        """Runs a command to its end: (status, stdout, stderr)."""
        done = subprocess.run([CLEAVE, *map(str, words)], cwd=self.dir, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=DEADLINE, **options)
        return done.returncode, done.stdout.decode(errors='replace'), done.stderr.decode(errors='replace')

    def start(self, *words, name='vm', **options):
        """Starts `cleave run --name NAME` and waits until the machine runs."""
        streams = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        streams.update(options)
        process = subprocess.Popen([CLEAVE, 'run', '--name', name, '--memory', '16M', *map(str, words)], cwd=self.dir,
                                   env=self.environment, **streams)
        self.started.append(process)
        wait_until(lambda: process.poll() is not None or self.state(name) == 'running', f'start of {name}')
        if process.poll() is not None:
            raise AssertionError(f'cleave run ended with {process.returncode}: {process.stderr.read().decode()}')
        return process

    def info(self, name='vm'):
        status, out, _ = self.command('info', name, '--json')
        return json.loads(out) if status == 0 else None

    def state(self, name='vm'):
        info = self.info(name)
        return info and info['state']

    def pid(self, role, name='vm'):
        return next(p['pid'] for p in self.info(name)['processes'] if p['role'] == role)


def main():
    global CLEAVE
    if len(sys.argv) > 1 and os.sep in sys.argv[1]:
        CLEAVE = os.path.abspath(sys.argv.pop(1))
    unittest.main(module='__main__', verbosity=2)
