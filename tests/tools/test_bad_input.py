#!/usr/bin/env python3
"""Everything that can be wrong with what a user gives: one message that names it, and the exit status of its class."""

import ctypes
import json
import os
import pathlib
import shutil
import socket
import subprocess
import unittest

import rig


def bound_by_modes():
    """Gives up root's right to pass over file modes (capabilities 1 and 2), for the program that is executed next."""
    prctl, drop_from_bounding_set = ctypes.CDLL(None).prctl, 24
    for capability in (1, 2):
        prctl(drop_from_bounding_set, capability, 0, 0, 0)


class BadInput(rig.Case):
    def refuse(self, status, text, *words, **options):
        got, out, err = self.command(*words, **options)
        self.assertEqual(got, status, err)
        self.assertIn(text, err)
        self.assertTrue(err.startswith('cleave: '), err)
        self.assertEqual(out, '')

    def run_refused(self, status, text, *words, **options):
        self.refuse(status, text, 'run', '--memory', '16M', *words, **options)

    def test_verbs(self):
        self.refuse(2, "unknown verb 'rnu'\nhint: did you mean 'cleave run'?", 'rnu')
        self.refuse(2, "did you mean --memory?", 'run', '--memroy', '1G')
        self.refuse(2, "usage: cleave info", 'info')
        self.refuse(3, "no machine named 'nobody' is running", 'info', 'nobody')
        self.refuse(3, "no machine named '../x' is running", 'stop', '../x')

    def test_boot_files(self):
        bios = ('--bios', 'idle')
        for what, words in (('kernel', ('--kernel', 'F', '--bios', 'none')), ('bios', ('--bios', 'F')),
                            ('initrd', ('--kernel', 'good', '--bios', 'idle', '--initrd', 'F')),
                            ('batch script', ('--kernel', 'good', '--bios', 'idle', '--batch', 'F'))):
            status = 125 if what.startswith('batch') else 1
            self.path('good', rig.image(rig.POWEROFF))
            with self.subTest(what):
                def given(name):
                    return [name if word == 'F' else word for word in words]
                self.run_refused(status, f'cannot open {what}: missing: No such file or directory', *given('missing'))
                self.path('empty', b'')
                self.run_refused(status, f'cannot open {what}: empty: the file is empty', *given('empty'))
                self.run_refused(status, f'cannot open {what}: tmp: Is a directory', *given('tmp'))
                self.run_refused(status, f'cannot open {what}: /dev/null: not a regular file', *given('/dev/null'))
                os.truncate(self.path('huge', b'x'), 1 << 40)
                self.run_refused(status, 'huge', *given('huge'))

    def test_not_a_kernel(self):
        self.run_refused(1, 'kernel', '--bios', 'none', '--kernel', self.path('text', b'hello, world\n' * 100))
        self.run_refused(1, 'kernel', '--bios', 'none', '--kernel', self.path('elf', b'\x7fELF' + bytes(100)))
        self.run_refused(1, 'kernel', '--bios', 'none', '--kernel', self.path('gz', b'\x1f\x8b\x08' + b'x' * 100))

    def test_unreadable(self):
        os.chmod(self.path('secret', bytes(4096)), 0o000)
        os.chmod(self.path('readable', bytes(4096)), 0o444)
        os.chmod(self.dir, 0o555)
        for words, text in ((('--bios', 'secret'), 'cannot open bios: secret: Permission denied'),
                            (('--bios', 'idle', '--disk', 'secret'), "cannot open disk 'vda': secret: Permission denied"),
                            (('--bios', 'idle', '--disk', 'readable'), "add ',ro' or ',overlay'"),
                            (('--bios', 'idle', '--disk', 'readable,overlay=new'), 'cannot open overlay'),
                            (('--bios', 'idle', '--serial', 'file:out'), "cannot open output of 'serial0': out: Permission"),
                            (('--bios', 'idle', '--net', 'echo,pcap=out'), "cannot open capture of 'net0': out: Permission"),
                            (('--bios', 'idle', '--serial', 'unix:sock'), 'cannot listen on sock: Permission denied')):
            with self.subTest(words):
                self.run_refused(1, text, *words, preexec_fn=bound_by_modes)
        os.rmdir(self.runtime / 'cleave')
        os.chmod(self.runtime, 0o500)
        self.run_refused(1, 'Permission denied\nhint: set XDG_RUNTIME_DIR', '--bios', 'idle', preexec_fn=bound_by_modes)
        os.chmod(self.runtime, 0o700)
        os.chmod(self.dir, 0o700)

    def test_disks(self):
        for spec, text in (('missing', "cannot open disk 'vda': missing: No such file or directory"),
                           ('tmp', "cannot open disk 'vda': tmp: Is a directory"),
                           ('empty', "cannot open disk 'vda': empty: the file is empty"),
                           ('cut', 'are not a multiple of 512: is the file truncated?'),
                           ('/dev/null', 'neither a file nor a block device'),
                           ('good,overlay=tmp', 'cannot open overlay')):
            self.path('empty', b'')
            self.path('cut', bytes(1000))
            self.path('good', bytes(1024))
            with self.subTest(spec):
                self.run_refused(1, text, '--bios', 'idle', '--disk', spec)

    def test_disk_in_use(self):
        self.path('disk', bytes(4096))
        self.run_refused(1, "disk 'vdb': disk is in use", '--bios', 'idle', '--disk', 'disk', '--disk', 'disk')
        machine = self.start('--bios', 'idle', '--disk', 'disk')
        self.run_refused(1, "disk 'vda': disk is in use by another process", '--bios', 'idle', '--disk', 'disk')
        self.run_refused(1, "disk 'vda': disk is in use by another process", '--bios', 'idle', '--disk', 'disk,ro')
        self.assertEqual(self.command('stop', 'vm')[0], 0)
        machine.wait()
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'poweroff', '--disk', 'disk')[0], 0)

    def test_read_only_disks_are_shared(self):
        self.path('disk', bytes(4096))
        self.start('--bios', 'idle', '--disk', 'disk,ro')
        self.assertEqual(self.command('run', '--memory', '16M', '--bios', 'poweroff', '--disk', 'disk,overlay')[0], 0)
        self.command('stop', 'vm')

    def test_sizes(self):
        for words in (('--memory', '0'), ('--memory', '1'), ('--memory', '1000000G'), ('--memory', 'x'), ('--cpus', '0'),
                      ('--cpus', '9'), ('--cpus', '-1')):
            with self.subTest(words):
                self.refuse(2, words[0].strip('-'), 'run', '--bios', 'idle', *words)

    def test_configuration_file(self):
        for text, expect in (('bios: idle\nmemroy: 1G\n', "vm.yaml:2:1: unknown key 'memroy'"),
                             ('bios: idle\ncpus: many\n', "vm.yaml:2:7: cpus: 'many' is not a number"),
                             ('bios: idle\nbios: idle\n', "vm.yaml:2:1: duplicate key 'bios'"),
                             ('bios: idle\ndisks: [{path: a, id: x}, {path: b, id: x}]\n', "two devices are called 'x'"),
                             ('bios: [\n', 'vm.yaml:')):
            with self.subTest(text):
                self.path('vm.yaml', text.encode())
                self.refuse(2, expect, 'run', 'vm.yaml')
        self.refuse(2, 'cannot open configuration: none.yaml: No such file or directory', 'run', 'none.yaml')
        self.refuse(2, 'not a regular file', 'run', 'tmp')

    def test_busy_port(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
            self.run_refused(1, str(port), '--bios', 'idle', '--net', f'user,hostfwd=tcp:127.0.0.1:{port}-:22')

    def test_busy_socket(self):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(self.path('busy'))
            server.listen()
            self.run_refused(1, 'cannot listen on busy: Address already in use', '--bios', 'idle', '--serial', 'unix:busy')
            self.assertTrue(os.path.exists(self.path('busy')))

    def test_busy_name(self):
        self.start('--bios', 'idle')
        self.run_refused(4, "a machine named 'vm' is running", '--bios', 'idle', '--name', 'vm')
        self.command('stop', 'vm')

    def test_resources(self):
        def few_files():
            import resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
        got, _, err = self.command('run', '--memory', '16M', '--bios', 'idle', preexec_fn=few_files)
        self.assertEqual(got, 125)
        self.assertIn('the limit is 12\nhint: ulimit -n', err)

    def test_processes_limited(self):
        if os.geteuid() != 0:
            self.skipTest('needs to become another user')
        os.chmod(self.dir, 0o755)
        os.chown(self.runtime, 4242, 4242)
        # The other user need not be able to enter the build folder.
        programs = self.dir / 'programs'
        programs.mkdir()
        for program in pathlib.Path(rig.CLEAVE).parent.glob('cleave*'):
            if program.is_file():
                shutil.copy2(program, programs)

        def few_processes():
            import resource
            resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))
            os.setgid(4242)
            os.setuid(4242)
        self.run_refused(125, 'Resource temporarily unavailable', '--bios', 'idle', preexec_fn=few_processes,
                         executable=programs / 'cleave')

    def test_json(self):
        for words, status in ((('run', '--json', '--bios', 'missing'), 1), (('rnu', '--json'), 2), (('info', 'x', '--json'), 3)):
            got, out, err = self.command(*words)
            event = json.loads(err.splitlines()[0])
            self.assertEqual((got, event['event'], event['status'], out), (status, 'error', status, ''))

    def test_batch_failures_are_125(self):
        self.path('script', b'true\n')
        for words in (('--kernel', 'missing', '--bios', 'idle'), ('--bios', 'idle'), ('--kernel', 'idle', '--cpus', '0')):
            got, _, err = self.command('run', '--batch', 'script', *words)
            self.assertEqual(got, 125, err)
            self.assertTrue(err.startswith('cleave: '))

    def test_full_stdout(self):
        with open('/dev/full', 'wb') as full:
            done = subprocess.run([rig.CLEAVE, 'doctor'], env=self.environment, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'cannot write to stdout', done.stderr)


if __name__ == '__main__':
    rig.main()
