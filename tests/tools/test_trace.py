#!/usr/bin/env python3
"""The verbs on traces: on small invented runs that make_trace.c writes, whole, damaged and cut."""

import base64
import json
import os
import pathlib
import subprocess
import sys
import time

import rig

MAKE_TRACE = os.path.abspath(sys.argv.pop(2)) if len(sys.argv) > 2 else None
RECORDS = 16


class Case(rig.Case):
    def make(self, name, *words):
        subprocess.run([MAKE_TRACE, name, *map(str, words)], cwd=self.dir, env=self.environment, check=True)
        return name

    def with_files(self, name='full.trace', *words):
        self.path('Image', b'kernel ' * 1000)
        self.path('root.img', bytes(i * 7 >> 3 & 0xff for i in range(1 << 16)))
        return self.make(name, '--kernel', 'Image', '--disk', 'root.img', *words)

    def good(self, *words):
        status, out, err = self.command('trace', *words)
        self.assertEqual((status, err), (0, ''))
        return out

    def refused(self, status, text, *words):
        got, out, err = self.command('trace', *words)
        self.assertEqual(got, status, err)
        self.assertIn(text, err)
        self.assertTrue(err.startswith('cleave: '), err)
        return out

    def dump(self, *words):
        return [json.loads(line) for line in self.good('dump', *words).splitlines()]

    def change(self, name, at, byte=None):
        with open(self.dir / name, 'r+b') as file:
            file.seek(at)
            was = file.read(1)[0]
            file.seek(at)
            file.write(bytes([was ^ 0x10 if byte is None else byte]))


class Info(Case):
    def test_everything(self):
        info = json.loads(self.good('info', '--json', self.with_files()))
        self.assertEqual(info['isa'], 'rv64imafdc')
        self.assertEqual(info['seed'], 42)
        self.assertEqual(info['configuration']['memory'], 16777216)
        self.assertEqual([(f['role'], f['state']) for f in info['files']],
                         [('kernel', 'present'), ('disk:vda', 'present')])
        self.assertEqual(info['ending'], {'state': 'ended', 'icount': 5720, 'reason': 'poweroff', 'error': 0})
        self.assertEqual(info['steps'], 5720)
        self.assertEqual(info['virtual_ns'], 1000005720)
        self.assertEqual(info['records'], RECORDS)
        self.assertEqual(info['state_hashes'], 1)
        self.assertEqual(info['file_bytes'], 8192)
        self.assertEqual(info['bytes'], os.path.getsize(self.dir / 'full.trace'))
        devices = {d['id']: d['crossings'] for d in info['devices']}
        self.assertEqual(list(devices), ['serial0', 'vda', 'net0', 'machine'])
        self.assertEqual(devices['serial0']['request'], {'direction': 'out', 'count': 2, 'bytes': 20, 'inline': 20})
        self.assertEqual(devices['net0']['request'], {'direction': 'out', 'count': 1, 'bytes': 72, 'inline': 0})
        self.assertEqual(devices['vda']['completion'], {'direction': 'in', 'count': 2, 'bytes': 8192, 'inline': 0})
        self.assertEqual(devices['machine']['clock']['count'], 2)

    def test_for_people(self):
        out = self.good('info', self.with_files())
        for text in ('ended     poweroff, at step 5720', '1.000 s of virtual time', 'disk:vda     present',
                     'request    out          2       20 B       20 B\nvda        block null '):
            self.assertIn(text, out)

    def test_files(self):
        self.with_files()
        for name, change, state in (('root.img', lambda p: os.truncate(p, 1 << 15), 'changed'),
                                    ('root.img', os.unlink, 'missing')):
            change(self.dir / name)
            files = json.loads(self.good('info', '--json', 'full.trace'))['files']
            self.assertEqual(files[1]['state'], state)
        (self.dir / 'Image').unlink()  # the store has a copy
        self.assertEqual(json.loads(self.good('info', '--json', 'full.trace'))['files'][0]['state'], 'present')
        for item in (self.dir / 'state/cleave/store').iterdir():
            if not item.name.startswith('.'):
                item.unlink()
        self.assertEqual(json.loads(self.good('info', '--json', 'full.trace'))['files'][0]['state'], 'missing')


    def test_endings(self):
        self.make('t', '--open')
        info = json.loads(self.good('info', '--json', 't'))
        self.assertEqual(info['ending'], {'state': 'open', 'icount': 4720})
        size = info['bytes']
        os.truncate(self.dir / 't', size - 5)
        ending = json.loads(self.good('info', '--json', 't'))['ending']
        self.assertEqual(ending['state'], 'torn')
        self.assertLess(ending['offset'], size)
        self.assertIn('torn at offset', self.good('info', 't'))


class List(Case):
    def test_list(self):
        self.assertEqual(json.loads(self.good('list', '--json')), [])
        directory = self.dir / 'state/cleave/traces'
        directory.mkdir(parents=True)
        self.make(directory / 'a.trace')
        self.make(directory / 'b.trace', '--open')
        (directory / 'notes').write_text('no trace')
        listed = json.loads(self.good('list', '--json'))
        self.assertEqual([(t['machine'], t['ended'], t['icount']) for t in listed],
                         [('vm', 'poweroff', 5720), ('vm', 'open', 4720)])
        self.assertEqual(listed[0]['trace'], str(directory / 'a.trace'))
        out = self.good('list').splitlines()
        self.assertEqual(len(out), 3)
        self.assertRegex(out[1], r'^vm +2023-11-14 .* 5720  poweroff +/.*/a.trace$')


class Dump(Case):
    def test_all(self):
        records = self.dump(self.make('t'), '--bodies')
        self.assertEqual([r['record'] for r in records], list(range(1, RECORDS + 1)))
        self.assertEqual(records[1], {
            'record': 2, 'icount': 1000, 'pc': '0xffffffff800003e8', 'kind': 'request', 'seq': 2, 'direction': 'out',
            'device': 'serial0', 'queue': 0, 'request': 1001, 'arg': 0, 'len': 10, 'digest': records[1]['digest'],
            'form': 'inline', 'body': base64.b64encode(b'hello\r\nsm\xc3').decode()})
        self.assertEqual((records[-1]['kind'], records[-1]['action']), ('exit', 'poweroff'))
        same = next(r for r in records if r['form' if 'form' in r else 'kind'] == 'same')
        self.assertEqual(base64.b64decode(same['body']), bytes(4096))
        self.assertNotIn('body', next(r for r in records if r.get('form') == 'digest'))
        self.assertEqual(next(r for r in records if r['kind'] == 'hash')['hash'], f'{1720 * 31:016x}')

    def test_filters(self):
        self.make('t', '--repeat', 3)
        self.assertEqual({r['device'] for r in self.dump('t', '--device', 'net0')}, {'net0'})
        self.assertEqual({r['device'] for r in self.dump('t', '--device', 'net0', '--device', 'machine')},
                         {'net0', 'machine'})
        self.assertEqual({r['kind'] for r in self.dump('t', '--kind', 'hash', '--kind', 'clock')}, {'hash', 'clock'})
        part = self.dump('t', '--from', 1720, '--until', '0x1ab8')
        self.assertEqual((part[0]['icount'], part[-1]['icount']), (1720, 6820))
        self.assertEqual(self.dump('t', '--from', 1 << 40), [])
        self.refused(2, "no device 'vdb' in this trace\nhint: 'cleave trace info t' lists", 'dump', 't', '--device', 'vdb')
        self.refused(2, "'x' is not a number", 'dump', 't', '--from', 'x')
        self.refused(2, "is not one of", 'dump', 't', '--kind', 'x')

    def test_bodies_of_files(self):
        self.with_files()
        page = (self.dir / 'root.img').read_bytes()[32768:36864]
        read = self.dump('full.trace', '--bodies', '--device', 'vda', '--kind', 'completion')
        self.assertEqual([base64.b64decode(r['body']) for r in read], [page, page])
        os.rename(self.dir / 'root.img', self.dir / 'moved.img')
        words = ('dump', 'full.trace', '--bodies')
        self.refused(1, 'cannot open disk:vda: root.img: No such file or directory\nhint: --image vda=FILE', *words)
        self.good(*words, '--image', 'vda=moved.img')
        self.good(*words, '--image', 'disk:vda=moved.img')
        self.refused(2, "no file 'vdb' in this trace", *words, '--image', 'vdb=moved.img')
        self.refused(2, "is not ID=FILE", *words, '--image', 'moved.img')
        self.change('moved.img', 5000)
        self.refused(1, 'image changed: moved.img (disk:vda)', *words, '--image', 'vda=moved.img')


class Verify(Case):
    def test_good(self):
        self.assertIn('full.trace: good: 16 records', self.good('verify', self.with_files()))
        result = json.loads(self.good('verify', '--json', 'full.trace'))
        self.assertEqual((result['good'], result['references'], result['missing_files']), (True, 2, 0))

    def test_missing_file_is_no_damage(self):
        self.with_files()
        (self.dir / 'root.img').unlink()
        out = self.good('verify', 'full.trace')
        self.assertIn('1 of the files that it needs are not here; 2 references', out)

    def test_changed_image(self):
        self.with_files()
        self.change('root.img', 4097)
        self.refused(1, 'image changed: root.img (disk:vda)', 'verify', 'full.trace')

    def test_large_image_changed_in_the_middle(self):
        """Size and both ends are as they were: the read's own digest tells."""
        self.path('big.img', os.urandom(3 << 20))
        self.make('t', '--disk', 'big.img')
        self.change('big.img', (3 << 19) - 1)
        self.good('verify', 't')
        self.change('big.img', 3 << 19)
        self.refused(1, 'image changed: big.img (disk:vda): the 4096 bytes at offset 1572864 are not those of record 11',
                     'verify', 't')

    def test_every_byte_flipped(self):
        self.make('t')
        whole = (self.dir / 't').read_bytes()
        for at in range(len(whole)):
            with self.subTest(at):
                self.path('bad', whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])
                self.refused(1, 'bad: ', 'verify', 'bad')

    def test_cut_at_every_byte(self):
        self.make('t')
        whole = (self.dir / 't').read_bytes()
        header = 96 + int.from_bytes(whole[60:64], 'little')
        records = 0
        for size in range(len(whole)):
            self.path('cut', whole[:size])
            with self.subTest(size):
                if size < header:
                    self.refused(1, 'the file is empty' if size == 0 else 'the file ends inside a block', 'verify', 'cut')
                    continue
                verdict = json.loads(self.good('verify', '--json', 'cut'))
                self.assertIn(verdict['ending'], ('open', 'torn'))
                self.assertGreaterEqual(verdict['records'], records)
                records = verdict['records']
        self.assertEqual(records, RECORDS)

    def test_not_a_trace(self):
        for verb in ('info', 'dump', 'verify', 'export'):
            self.refused(1, 'cannot open trace: none: No such file or directory', verb, 'none')
            self.refused(1, 'cannot open trace: tmp: not a regular file', verb, 'tmp')
            self.refused(1, 'text: not a trace', verb, self.path('text', b'hello, world\n' * 100))
            self.refused(1, 'empty: the file is empty', verb, self.path('empty', b''))
            self.make('new')
            self.change('new', 8, 9)
            self.refused(1, 'new: a newer format than this cleave reads', verb, 'new')
            self.refused(2, "an argument is missing", verb)


class Damage(Case):
    """Whatever is wrong with a file: a message and status 1, or the end that a killed writer leaves. What is printed before
    it is right."""

    VERBS = (('info',), ('dump', '--bodies'), ('diff', 't'), ('pack', 'out'), ('export', '--format', 'chrome'),
             ('export', '--format', 'asciicast'))

    def run_verb(self, verb, name):
        words = (verb[0], name, *verb[1:]) if verb[0] != 'diff' else (*verb, name)
        status, out, err = self.command('trace', *words)
        (self.dir / 'out').unlink(missing_ok=True)
        self.assertIn(status, (0, 1), (verb, err))
        self.assertEqual(bool(err), status == 1 and not (verb[0] == 'diff' and out) or 'has no end' in err, (verb, err))
        return status, out

    def test_every_byte_flipped(self):
        whole = (self.dir / self.make('t')).read_bytes()
        good = self.good('dump', 't', '--bodies')
        for at in range(len(whole)):
            with self.subTest(at):
                self.path('bad', whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])
                status, out = self.run_verb(self.VERBS[1], 'bad')
                self.assertEqual(status, 1)
                self.assertTrue(good.startswith(out))
                self.assertEqual(self.run_verb(self.VERBS[at % len(self.VERBS)], 'bad')[0], 1)

    def test_cut_at_every_byte(self):
        whole = (self.dir / self.make('t')).read_bytes()
        good = self.good('dump', 't', '--bodies')
        header = 96 + int.from_bytes(whole[60:64], 'little')
        for size in range(len(whole)):
            with self.subTest(size):
                self.path('cut', whole[:size])
                status, out = self.run_verb(self.VERBS[1], 'cut')
                self.assertEqual(status, 1 if size < header else 0)
                self.assertTrue(good.startswith(out))
                self.run_verb(self.VERBS[size % len(self.VERBS)], 'cut')

    def test_packed_files_flipped(self):
        self.with_files()
        self.good('pack', 'full.trace', 'packed')
        whole = (self.dir / 'packed').read_bytes()
        for at in range(0, len(whole), 3):
            with self.subTest(at):
                self.path('bad', whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])
                self.refused(1, 'bad: ', 'verify', 'bad')


class Pack(Case):
    def test_needs_nothing(self):
        self.with_files(words := 'full.trace', '--repeat', 50)
        before = self.dump(words, '--bodies')
        result = json.loads(self.good('pack', '--json', 'full.trace', 'packed'))
        self.assertEqual((result['files'], result['inlined']), (1, 100))
        (self.dir / 'root.img').unlink()
        (self.dir / 'Image').unlink()
        self.environment['XDG_STATE_HOME'] = str(self.dir / 'other')
        after = self.dump('packed', '--bodies')
        self.assertEqual([r['form'] for r in after if r.get('device') == 'vda' and r['kind'] == 'completion'][:3],
                         ['inline', 'same', 'same'])
        for records in (before, after):
            for r in records:
                for key in ('form', 'file', 'offset', 'same_as'):
                    r.pop(key, None)
        self.assertEqual(before, after)
        self.assertIn('packed: good', self.good('verify', 'packed'))
        info = json.loads(self.good('info', '--json', 'packed'))
        self.assertEqual([f['state'] for f in info['files']], ['stored', 'unused'])
        self.assertEqual(info['ending']['state'], 'ended')
        self.assertEqual(os.stat(self.dir / 'packed').st_mode & 0o777, 0o600)
        self.assertIn('equal', self.good('diff', 'full.trace', 'packed'))

    def test_kernel_that_the_store_does_not_have(self):
        self.with_files('full.trace', '--uncopied')
        self.assertEqual(json.loads(self.good('info', '--json', 'full.trace'))['files'][0]['digest'], '')
        self.good('pack', 'full.trace', 'packed')
        (self.dir / 'Image').unlink()
        file = json.loads(self.good('info', '--json', 'packed'))['files'][0]
        self.assertEqual((file['state'], len(file['digest'])), ('stored', 32))
        self.refused(1, 'cannot open kernel: Image: No such file or directory\nhint: --image kernel=FILE', 'pack',
                     'full.trace', 'again')

    def test_again(self):
        self.with_files()
        self.good('pack', 'full.trace', 'once')
        self.good('pack', 'once', 'twice')
        self.assertEqual(self.dump('once', '--bodies'), self.dump('twice', '--bodies'))
        self.assertEqual([f['state'] for f in json.loads(self.good('info', '--json', 'twice'))['files']],
                         ['stored', 'unused'])

    def test_stored_file_damaged(self):
        self.with_files()
        self.good('pack', 'full.trace', 'packed')
        packed = (self.dir / 'packed').read_bytes()
        header = 96 + int.from_bytes(packed[60:64], 'little')
        self.change('packed', header + 96 + 10)
        self.refused(1, 'packed: damaged: block 1 at offset', 'verify', 'packed')
        self.assertEqual(json.loads(self.good('info', '--json', 'packed'))['files'][0]['state'], 'changed')

    def test_without_end(self):
        self.with_files('open', '--open')
        status, out, err = self.command('trace', 'pack', 'open', 'packed')
        self.assertEqual(status, 0)
        self.assertIn('open has no end', err)
        self.assertEqual(json.loads(self.good('info', '--json', 'packed'))['ending']['state'], 'open')

    def test_refused(self):
        self.with_files()
        self.path('there', b'')
        self.refused(1, 'cannot create there: File exists', 'pack', 'full.trace', 'there')
        self.refused(1, 'cannot create none/x: No such file', 'pack', 'full.trace', 'none/x')
        self.change('root.img', 40000)
        self.refused(1, 'image changed: root.img (disk:vda)', 'pack', 'full.trace', 'out')
        (self.dir / 'root.img').unlink()
        self.refused(1, 'cannot open disk:vda: root.img: No such file', 'pack', 'full.trace', 'out')
        self.assertFalse((self.dir / 'out').exists())
        self.with_files()
        self.change('full.trace', os.path.getsize(self.dir / 'full.trace') - 300)
        self.refused(1, 'full.trace: damaged', 'pack', 'full.trace', 'out')
        self.assertFalse((self.dir / 'out').exists())


class DamagedReplay(Case):
    """A recorded machine that prints and powers off: its replay prints that or less, and says why."""

    TEXT = 'hello, world\r\n'

    def setUp(self):
        super().setUp()
        self.path('print', rig.binary(rig.put(self.TEXT.encode()) + rig.POWEROFF))
        words = ('run', '--memory', '16M', '--rng', 'off', '--bios', 'print', '--record', 't')
        self.assertEqual(self.command(*words)[:2], (0, self.TEXT))
        self.whole = (self.dir / 't').read_bytes()
        self.blocks, at = [], 0
        while at < len(self.whole):
            self.blocks.append(at)
            at += 96 + int.from_bytes(self.whole[at + 60:at + 64], 'little')
        self.end = self.blocks[-1]

    def places(self):
        """Every byte, but of the header's message some."""
        return [*range(96), *range(96, self.blocks[1], 7), *range(self.blocks[1], len(self.whole))]

    def replay(self, content):
        status, out, err = self.command('replay', self.path('bad', content))
        self.assertTrue(self.TEXT.startswith(out), out)
        return status, out, err

    def test_flipped(self):
        for at in self.places():
            with self.subTest(at):
                status, out, err = self.replay(self.whole[:at] + bytes([self.whole[at] ^ 1 << at % 8]) + self.whole[at + 1:])
                self.assertEqual(status, 1)
                self.assertRegex(err, 'bad: .*(damaged|block|not a trace|format)')
                if at >= self.end:  # the machine's end comes before the log's
                    self.assertEqual(out, self.TEXT)
                self.refused(1, 'bad: ', 'verify', 'bad')

    def test_cut(self):
        for size in self.places():
            with self.subTest(size):
                status, out, err = self.replay(self.whole[:size])
                if size < self.blocks[1]:
                    self.assertEqual((status, out), (1, ''))
                elif size < self.end:
                    self.assertEqual(status, 0)
                    self.assertIn('the recording stops at icount', err)
                else:
                    self.assertEqual((status, out), (0, self.TEXT))
                    self.assertIn("behind the machine's end", err)

    def test_more_behind_the_end(self):
        status, out, err = self.replay(self.whole + b'more')
        self.assertEqual((status, out), (1, self.TEXT))
        self.assertIn('bad: ', err)
        self.refused(1, 'bad: ', 'verify', 'bad')

    def test_files(self):
        def refused(text, *words):
            status, out, err = self.command('replay', *words)
            self.assertEqual((status, out), (1, ''))
            self.assertIn(text, err)

        refused('cannot open trace: none: No such file or directory', 'none')
        refused('print: not a trace', 'print')
        refused('newer: a newer format than this cleave reads', self.path('newer', self.whole[:8] + b'\x09' + self.whole[9:]))
        os.rename(self.dir / 'print', self.dir / 'moved')
        self.assertEqual(self.command('replay', 't')[:2], (0, self.TEXT))  # the store has a copy
        self.environment['XDG_STATE_HOME'] = str(self.dir / 'elsewhere')
        refused('cannot open bios: ', 't')
        self.assertEqual(self.command('replay', 't', '--image', 'bios=moved')[:2], (0, self.TEXT))
        self.change('moved', 8)
        refused('image changed: moved (bios)', 't', '--image', 'bios=moved')


class SelfContained(Case):
    def test_run(self):
        words = ('run', '--memory', '16M', '--bios', 'poweroff', '--record', 't', '--self-contained')
        self.assertEqual(self.command(*words)[0], 0)
        (self.dir / 'poweroff').unlink()
        self.environment['XDG_STATE_HOME'] = str(self.dir / 'elsewhere')
        file, = json.loads(self.good('info', '--json', 't'))['files']
        self.assertEqual((file['role'], file['state']), ('bios', 'stored'))
        self.good('verify', 't')
        status, _, err = self.command('replay', 't', '--json')
        self.assertEqual((status, json.loads(err.splitlines()[-1])['why']), (0, 'poweroff'))
        store = [item.name for item in (self.dir / 'state/cleave/store').iterdir() if len(item.name) == 32]
        self.assertEqual(store, [])

    def test_configuration(self):
        self.path('vm.yaml', b'bios: poweroff\nmemory: 16M\nself-contained: yes\n')
        self.assertEqual(self.command('run', 'vm.yaml', '--record', 't')[0], 0)
        self.assertEqual(json.loads(self.good('info', '--json', 't'))['files'][0]['state'], 'stored')
        status, _, err = self.command('run', '--bios', 'poweroff', '--no-record', '--self-contained')
        self.assertEqual(status, 2)
        self.assertIn('no-record excludes self-contained', err)

    def test_no_room(self):
        self.path('large', b'\x73\0\0\0' + os.urandom(2 << 20))
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'large', '--record', 't', '--self-contained',
                                      '--record-limit', '1M')
        self.assertEqual(status, 1)
        self.assertIn("cannot record to '", err)
        self.assertIn('size limit reached', err)


class Diff(Case):
    def differ(self, *words):
        status, out, err = self.command('trace', 'diff', *words)
        self.assertEqual((status, err), (1, ''))
        return out

    def test_equal(self):
        self.make('a')
        self.make('b')
        self.assertEqual(self.good('diff', 'a', 'b'), 'equal: 15 crossings, 1 state hashes\n')
        self.assertEqual(json.loads(self.good('diff', '--json', 'a', 'b')),
                         {'equal': True, 'crossings': 15, 'state_hashes': 1, 'header': []})

    def test_first_difference(self):
        self.make('a', '--repeat', 3)
        self.with_files('b', '--repeat', 3)
        out = self.differ('a', 'b')
        self.assertIn('the machines differ in: files\n', out)
        self.assertIn('first difference: digest\n', out)
        found = json.loads(self.differ('--json', 'a', 'b'))
        self.assertEqual((found['equal'], found['field'], found['crossings']), (False, 'digest', 10))
        self.assertEqual((found['a']['device'], found['a']['seq'], found['b']['seq']), ('vda', 11, 11))
        self.assertNotEqual(found['a']['digest'], found['b']['digest'])

    def test_position(self):
        self.make('a', '--exit', 10)
        self.make('b', '--exit', 11)
        found = json.loads(self.differ('--json', 'a', 'b'))
        self.assertEqual((found['field'], found['a']['icount'], found['b']['icount']), ('icount', 5730, 5731))
        self.assertIn('* icount     5730                     5731', self.differ('a', 'b'))

    def test_one_ends(self):
        self.make('a')
        self.make('b', '--open')
        found = json.loads(self.differ('--json', 'a', 'b'))
        self.assertEqual((found['field'], found['a']['kind'], found['b']), ('end', 'exit', None))
        self.assertIn('(the end)', self.differ('a', 'b'))

    def test_damaged(self):
        self.make('a')
        self.make('b')
        self.change('b', os.path.getsize(self.dir / 'b') - 300)
        self.refused(1, 'b: damaged: block', 'diff', 'a', 'b')
        self.refused(1, 'cannot open trace: c', 'diff', 'a', 'c')


class Export(Case):
    def test_chrome(self):
        self.make('t', '--repeat', 2)
        self.good('export', 't', 'out.json')
        timeline = json.loads((self.dir / 'out.json').read_text())
        events = timeline['traceEvents']
        names = {e['pid']: e['args']['name'] for e in events if e['name'] == 'process_name'}
        self.assertEqual(names, {1: 'machine', 2: 'serial0 (serial)', 3: 'vda (block)', 4: 'net0 (net)'})
        slices = [e for e in events if e['ph'] in 'be']
        begun = {e['id']: e for e in slices if e['ph'] == 'b'}
        ended = {e['id']: e for e in slices if e['ph'] == 'e'}
        self.assertEqual(begun.keys(), ended.keys())
        self.assertEqual(len(begun), 10)
        for request, e in begun.items():
            self.assertLessEqual(e['ts'], ended[request]['ts'])
            self.assertEqual(e['ts'], e['args']['virtual_ns'] / 1000)
            self.assertIn('icount', e['args'])
        disk = [e for e in slices if e['pid'] == 3]
        self.assertEqual([e['ts'] for e in disk], [1.7, 1.72, 1.72, 1000004.72, 1000007.42, 1000007.44, 1000007.44, 2000010.44])
        self.assertEqual(sum(e['ph'] == 'i' for e in events), 2 * (2 + 1 + 1 + 1) + 1)

    def test_asciicast(self):
        self.make('t')
        self.assertEqual(self.good('export', 't', '--format', 'asciicast').splitlines(), [
            '{"version": 2, "width": 80, "height": 24, "timestamp": 1700000000, "title": "serial0", '
            '"env": {"TERM": "xterm-256color"}}',
            '[0.000001, "o", "hello\\r\\nsm"]',
            '[0.000001, "o", "ør \\u001b[1m\\ufffd\\r\\n"]'])
        self.good('export', 't', 'x.cast', '--device', 'serial0')

    def test_refused(self):
        self.make('t')
        self.refused(2, 'which format?\nhint: give --format, or an output whose name ends with .json, .pcap or .cast', 'export', 't')
        self.refused(2, "no serial port 'vda' in this trace", 'export', 't', 'x.cast', '--device', 'vda')
        self.refused(2, "is the trace itself", 'export', 't', 't', '--format', 'chrome')
        self.refused(1, 'cannot write none/x.json: No such file or directory', 'export', 't', 'none/x.json')
        self.refused(1, 'No space left on device', 'export', 't', '/dev/full', '--format', 'chrome')
        self.assertIn('good', self.good('verify', 't'))

    def test_whole_or_not_at_all(self):
        self.make('t')
        self.make('bad', '--repeat', 200)
        self.change('bad', os.path.getsize(self.dir / 'bad') - 300)
        before = set(os.listdir(self.dir))
        for name in 'out.json', 'out.cast':
            self.refused(1, 'bad: damaged', 'export', 'bad', name)
        self.assertEqual(set(os.listdir(self.dir)), before)
        for name in 'out.json', 'out.cast':
            self.path(name, b'as it was')
            os.chmod(self.dir / name, 0o640)
            self.refused(1, 'bad: damaged', 'export', 'bad', name)
            self.assertEqual((self.dir / name).read_bytes(), b'as it was')
            os.symlink(name, self.dir / f'link-{name}')
            self.good('export', 't', f'link-{name}')
            self.assertTrue((self.dir / f'link-{name}').is_symlink())
            self.assertIn(b'virtual' if 'json' in name else b'hello', (self.dir / name).read_bytes())
            self.assertEqual(os.stat(self.dir / name).st_mode & 0o777, 0o640)
        self.good('export', 't', 'new.json')
        self.assertEqual(os.stat(self.dir / 'new.json').st_mode & 0o777, 0o600)
        self.assertEqual(set(os.listdir(self.dir)) - before, {'out.json', 'out.cast', 'link-out.json', 'link-out.cast', 'new.json'})

    def test_killed(self):
        self.make('t', '--repeat', 20000)
        before = set(os.listdir(self.dir))
        for words in ('export', 't', 'out.json'), ('pack', 't', 'packed'):
            child = subprocess.Popen([rig.CLEAVE, 'trace', *words], cwd=self.dir, env=self.environment)
            time.sleep(0.02)
            child.kill()
            if child.wait() != 0:
                self.assertEqual(set(os.listdir(self.dir)), before)

    def test_virtual_clock(self):
        """A guest whose timer wakes it after half a second, three times, and that then prints: its jumps over that time are told."""
        wait = (rig.load_immediate(5, 0x2004000) + rig.load_immediate(28, 0x200bff8) + rig.load_immediate(7, 5000000) +
                [0x000e3303, 0x00730333, 0x0062b023] +  # ld t1, 0(t3): mtime; add t1, t1, t2; sd t1, 0(t0): mtimecmp
                rig.load_immediate(7, 0x80) + [0x3043a073, rig.WFI])  # csrs mie, t2: MTIE
        self.path('ticks', rig.binary((wait + rig.put(b'x\n')) * 3 + rig.POWEROFF))
        for words in (), ('--hash-every', '7'):
            self.assertEqual(self.command('run', '--memory', '16M', '--rng', 'off', '--bios', 'ticks', '--clock', 'virtual', '--record',
                                          f't{len(words)}', *words)[:2], (0, 'x\n' * 3))
        for name in 't0', 't2':
            lines = [json.loads(line) for line in self.good('export', name, '--format', 'asciicast').splitlines()[1:]]
            first = {round(at, 1) for at, _, text in lines}
            self.assertEqual(first, {0.5, 1.0, 1.5}, lines)
            self.assertEqual(json.loads(self.good('info', '--json', name))['virtual_ns'] // 10**7, 150)
            self.good('export', name, 'x.json')
            events = json.loads((self.dir / 'x.json').read_text())['traceEvents']
            times = [e['args']['virtual_ns'] for e in events if 'virtual_ns' in e.get('args', {})]
            self.assertEqual(times, sorted(times))
            self.assertEqual({e['args']['virtual_ns'] // 10**7 for e in events if e['name'] == 'hash'},
                             {0, 50, 100, 150} if name == 't2' else set())
            for engine in 'interp', 'jit':
                self.assertEqual(self.command('replay', name, '--engine', engine)[:2], (0, 'x\n' * 3))


class Words(Case):
    def test_groups(self):
        for words in (('trace', '--help'), ('help', 'trace')):
            status, out, _ = self.command(*words)
            self.assertEqual(status, 0)
            self.assertIn('trace verify', out)
        for status, text, words in ((2, 'trace: what to do is missing', ('trace',)),
                                    (2, "unknown verb 'trace infi'\nhint: did you mean 'cleave trace info'?", ('trace', 'infi'))):
            got, _, err = self.command(*words)
            self.assertEqual(got, status)
            self.assertIn(text, err)
        script = self.command('completion', 'bash')[1]
        for words, index, reply in (('cleave trace ver', 2, b'verify\n'), ('cleave trace dump --fr', 3, b'--from\n'),
                                    ('cleave repl', 1, b'replay\n')):
            probe = script + f'COMP_WORDS=({words}); COMP_CWORD={index}; _cleave; echo "${{COMPREPLY[@]}}"\n'
            done = subprocess.run(['bash', '-eu', '-c', probe], capture_output=True, env=self.environment)
            self.assertEqual((done.returncode, done.stdout), (0, reply), done.stderr)
        self.assertRegex(script, 'compgen -W "run [^"]* trace [^"]* doctor ')


rig.main()
