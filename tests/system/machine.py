"""Starting and watching real machines for the system tests. Knows no single test.

The environment names what to run: CLEAVE (the command), CLEAVE_GUEST (a folder of tools/guest/build), CLEAVE_STOCK (of tools/guest/stock);
CLEAVE_ENGINE is the engine of machines for which the test names none.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

CLEAVE = os.environ.get('CLEAVE', 'build/cleave')
SKIP = 77
STATE = tempfile.TemporaryDirectory(prefix='cleave-state-')  # every run is recorded
os.environ['XDG_STATE_HOME'] = STATE.name


def guest():
    if 'CLEAVE_GUEST' not in os.environ:
        print('CLEAVE_GUEST is not set')
        sys.exit(SKIP)
    return pathlib.Path(os.environ['CLEAVE_GUEST'])


def stock():
    if 'CLEAVE_STOCK' not in os.environ:
        print('CLEAVE_STOCK is not set')
        sys.exit(SKIP)
    return pathlib.Path(os.environ['CLEAVE_STOCK'])


def demo(*more, append='console=ttyS0 quiet', root=True):
    """Arguments of a machine with the demo guest; its root disk is never written."""
    g = guest()
    words = ['--kernel', g / 'Image', '--bios', g / 'fw_dynamic.bin', '--initrd', g / 'initrd.cpio', '--append', append]
    if root:
        words += ['--disk', f'{g / "root.img"},overlay,id=vda']
    return [str(w) for w in (*words, *more)]


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def engine(arguments):
    named = '--engine' in arguments or 'CLEAVE_ENGINE' not in os.environ
    return [] if named else ['--engine', os.environ['CLEAVE_ENGINE']]


class Machine:
    """A running machine whose console is a pair of pipes."""

    def __init__(self, *arguments):
        self.text = b''
        self.errors = b''
        self.changed = threading.Condition()
        self.process = subprocess.Popen([CLEAVE, 'run', *engine(arguments), *map(str, arguments)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.readers = [threading.Thread(target=self.read, args=('text', self.process.stdout)),
                        threading.Thread(target=self.read, args=('errors', self.process.stderr))]
        for reader in self.readers:
            reader.start()

    def read(self, name, stream):
        while chunk := os.read(stream.fileno(), 65536):
            with self.changed:
                setattr(self, name, getattr(self, name) + chunk)
                self.changed.notify_all()

    def expect(self, what, limit=300, since=0):
        """Waits until `what` is on the console at or after position `since`; returns the position behind it."""
        what = what.encode() if isinstance(what, str) else what
        end = time.monotonic() + limit
        with self.changed:
            while (at := self.text.find(what, since)) < 0:
                if time.monotonic() > end or (self.process.poll() is not None and not self.readers[0].is_alive()):
                    raise AssertionError(f'{what!r} is not on the console:\n{self.shown()}')
                self.changed.wait(0.2)
            return at + len(what)

    def shown(self):
        return '\n'.join(part[-3000:].decode(errors='replace') for part in (self.text, self.errors))

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait(self, limit=300):
        """Waits for the end; returns the exit status."""
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'the machine did not end:\n{self.shown()}') from None
        for reader in self.readers:
            reader.join()
        return status

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for reader in self.readers:
            reader.join()

    def results(self):
        """Messages of --json, in order."""
        found = []
        for line in self.errors.splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def script(folder, text, name='batch'):
    path = pathlib.Path(folder, name)
    path.write_text(text)
    return path


def batch(text, *arguments, limit=600, append='console=ttyS0 quiet'):
    """Runs a script in the demo guest; returns (exit status, its output)."""
    with tempfile.TemporaryDirectory() as folder:
        with Machine(*demo(append=append), '--batch', script(folder, text), *arguments) as m:
            status = m.wait(limit)
            return status, m.text.decode(errors='replace') + m.errors.decode(errors='replace')


def passes(text, *arguments, limit=600, append='console=ttyS0 quiet'):
    status, output = batch(text, *arguments, limit=limit, append=append)
    check(status == 0, f'exit status {status}:\n{output[-3000:]}')
    return output


def processes(m):
    """{role: pid} of the machine's processes."""
    found, todo = {}, [m.process.pid]
    while todo:
        pid = todo.pop()
        for task in os.listdir(f'/proc/{pid}/task'):
            for child in open(f'/proc/{pid}/task/{task}/children').read().split():
                words = open(f'/proc/{child}/cmdline').read().split('\0')
                found[words[1] if len(words) > 2 else words[0]] = int(child)
                todo.append(int(child))
    return found


def main(cases):
    """Runs the case named on the command line."""
    name, *arguments = sys.argv[1:]
    cases[name](*arguments)
