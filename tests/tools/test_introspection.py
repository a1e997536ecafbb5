#!/usr/bin/env python3
"""Looking into the translator of a running machine: counters and translated code."""

import json
import pathlib
import re
import unittest

import rig

# auipc sp, 0x1 (beyond the code's page); then a loop: addi a0, a0, 1; sd a0, 0(sp); ld a1, 0(sp); jal zero, -12
LOOP = [0x00001117, 0x00150513, 0x00a13023, 0x00013583, 0xff5ff06f]
START = 0x80000000


class Translator(rig.Case):
    def begin(self, *words):
        self.path('loop', rig.binary(LOOP))
        self.start('--bios', 'loop', '--serial', 'null', *words)
        rig.wait_until(lambda: self.vcpu()['icount'] > 1000000, 'progress of the loop')

    def vcpu(self):
        return json.loads(self.command('stats', 'vm', '--json')[1])['vcpu']

    def test_counters(self):
        self.begin('--engine', 'jit')
        jit = self.vcpu()['jit']
        self.assertGreaterEqual(jit['blocks'], 1)
        self.assertGreaterEqual(jit['insns'], 4)
        self.assertGreater(jit['code_bytes'], jit['insns'])
        self.assertLess(jit['code_used'], jit['code_limit'])
        self.assertEqual(jit['live_blocks'], jit['blocks'] - jit['dropped'])
        self.assertGreater(jit['cold_steps'], 0)
        self.assertGreater(jit['translate_ns'], 0)
        self.assertLessEqual(sum(jit['exits'].values()), jit['entries'])
        self.assertEqual(sum(jit['interpreted'].values()), 0)
        self.assertGreater(jit['rates']['translated_steps'], 0.99)
        self.assertGreater(jit['rates']['chain_rate'], 0.99)
        self.assertIn('jit.exits.budget', self.command('stats', 'vm')[1])
        self.command('stop', 'vm')

    def test_most_executed(self):
        self.begin('--engine', 'jit', '--count-blocks', '--clock', 'virtual')
        status, out, err = self.command('trace-blocks', 'vm', '--top', '1', '--json')
        if 'no disassembly' not in err:
            self.assertEqual(status, 0, err)
            block, = map(json.loads, out.splitlines())
            self.assertGreater(block['executed'], 100000)
            self.assertLessEqual(block['executed'] * 4, self.vcpu()['icount'])
        self.command('stop', 'vm')

    def test_code_cache(self):
        self.begin('--engine', 'jit', '--code-cache', '3M')
        jit = self.vcpu()['jit']
        self.assertEqual(jit['code_limit'], 3 << 20)
        self.assertLessEqual(jit['code_used'], jit['code_limit'])
        self.command('stop', 'vm')
        for size in ('1M', '2G', 'much'):
            status, _, err = self.command('run', '--bios', 'loop', '--code-cache', size)
            self.assertEqual(status, 2)
            self.assertIn('code-cache', err)

    def test_log(self):
        self.path('loop', rig.binary(LOOP))
        status, _, err = self.command('run', '--memory', '16M', '--bios', 'loop', '--serial', 'null', '--engine', 'jit',
                                      '--stop-at', '1000000', '--log', 'jit')
        self.assertEqual(status, 0, err)
        line = r'^cleave: vcpu: jit \d+: translated 0000000080000004 \(physical 80000004, machine\): 4 instructions, '
        self.assertRegex(err, re.compile(line, re.MULTILINE))
        status, _, err = self.command('run', '--bios', 'loop', '--engine', 'interp', '--log', 'jit')
        self.assertEqual(status, 2)
        self.assertIn('the engine is interp', err)

    def test_replay(self):
        """A replay takes the options about the translator as a run does."""
        self.path('loop', rig.binary(LOOP))
        words = ('--memory', '16M', '--bios', 'loop', '--serial', 'null', '--stop-at', '1000000', '--clock', 'virtual')
        self.assertEqual(self.command('run', *words, '--record', 't', '--engine', 'interp')[0], 0)
        maps = set(pathlib.Path('/tmp').glob('perf-*.map'))
        status, _, err = self.command('replay', 't', '--log', 'jit', '--engine', 'jit', '--code-cache', '2M', '--perf-map')
        self.assertEqual(status, 0, err)
        line = r'^cleave: vcpu: jit \d+: translated 0000000080000004 \(physical 80000004, machine\): 4 instructions, '
        self.assertRegex(err, re.compile(line, re.MULTILINE))
        written, = set(pathlib.Path('/tmp').glob('perf-*.map')) - maps
        self.addCleanup(written.unlink)
        self.assertIn('guest:machine:80000004\n', written.read_text())
        status, _, err = self.command('replay', 't', '--json', '--log', 'jit', '--engine', 'jit')
        self.assertIn('translated', [m for m in map(json.loads, err.splitlines()) if m['event'] == 'log'][0]['text'])
        for text, *words in (('the engine is interp', '--log', 'jit', '--engine', 'interp'), ('the engine is interp', '--perf-map', '--engine', 'interp'),
                             ('outside of 2M to 1G', '--code-cache', '1M'), ('is not a size', '--code-cache', 'much'),
                             ("'x' is not one of jit", '--log', 'x')):
            status, _, err = self.command('replay', 't', *words)
            self.assertEqual((status, text in err), (2, True), err)

    def test_perf_map(self):
        self.begin('--engine', 'jit', '--perf-map')
        path = pathlib.Path(f'/tmp/perf-{self.pid("vcpu")}.map')
        self.addCleanup(path.unlink)
        rig.wait_until(lambda: 'guest:machine:80000004\n' in path.read_text(), 'an entry for the loop')
        for line in path.read_text().splitlines():
            self.assertRegex(line, r'^[0-9a-f]+ [0-9a-f]+ guest:(user|supervisor|machine):[0-9a-f]+(:stubs)?$')
        self.command('stop', 'vm')

    def test_interpreter_has_none(self):
        self.begin('--engine', 'interp')
        self.assertNotIn('jit', self.vcpu())
        status, _, err = self.command('trace-blocks', 'vm')
        self.assertIn(status, (1, 4))
        self.assertTrue('engine is interp' in err or 'no disassembly' in err, err)
        self.command('stop', 'vm')

    def test_blocks(self):
        self.begin('--engine', 'jit')
        status, out, err = self.command('trace-blocks', 'vm', '--pc', hex(START + 4), '--stubs', '--json')
        if 'no disassembly' in err:
            self.command('stop', 'vm')
            self.skipTest('the build has no disassembly')
        self.assertEqual(status, 0, err)
        for block in map(json.loads, out.splitlines()):
            self.assertEqual((block['privilege'], block['fp'], block['physical']), ('machine', 'off', block['pc']))
            texts = {int(insn['pc'], 16): insn['text'] for insn in block['insns']}
            self.assertEqual(texts, {START + 4: 'addi a0, a0, 1', START + 8: 'sd a0, 0(sp)', START + 12: 'ld a1, 0(sp)',
                                     START + 16: 'j -0xc'})
            code = block['entry'] + [line for insn in block['insns'] for line in insn['host']]
            self.assertEqual(sum(line['len'] for line in code), block['code_bytes'])
            self.assertEqual(sum(line['len'] for line in block['stubs']), block['stub_bytes'])
            self.assertIn('jmp', code[-1]['text'])
        status, out, _ = self.command('trace-blocks', 'vm', '--last', '1')
        self.assertEqual((status, out.count('block ')), (0, 1))
        self.assertIn('addi a0, a0, 1', out)
        status, _, err = self.command('trace-blocks', 'vm', '--pc', '4')
        self.assertEqual((status, err), (1, "cleave: machine 'vm' has no translated block with 0x4\n"))
        self.assertEqual(self.command('trace-blocks', 'vm', '--last', 'many')[0], 2)
        status, _, err = self.command('trace-blocks', 'vm', '--top', '1')
        self.assertEqual(status, 4)
        self.assertIn('hint: start it with --count-blocks', err)
        self.command('stop', 'vm')


if __name__ == '__main__':
    rig.main()
