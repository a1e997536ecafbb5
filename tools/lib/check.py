#!/usr/bin/env python3
"""Builds cleave in three ways and runs its tests; called by tools/check, which prepares host and guests.

The steps, each counted as a test: formatting, layering, and the builds by gcc (release, in build/), clang (build-clang/)
and gcc with address and undefined-behaviour sanitizers (build-asan/). Then the tests, by meson suite:

  unit, differential   on the release build; unit also with the sanitizers
  system               on the release build, whole machines
  soak                 only with --soak: the long ones, without time limits

A suite that takes longer than its budget is reported, and nothing fails on time alone. Tests find the demo guest, the
stock images and a QEMU to compare with in CLEAVE_GUEST, CLEAVE_STOCK and CLEAVE_QEMU.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ('cpu-core', 'devices', 'ipc', 'replay-broker', 'tests', 'tools')
BUILDS = {
    'gcc': ('build', 'gcc', ['--buildtype=release']),
    'clang': ('build-clang', 'clang', ['--buildtype=release']),
    'sanitizers': ('build-asan', 'gcc', ['--buildtype=debugoptimized', '-Db_sanitize=address,undefined']),
}
BUDGETS = {'build': 4 * 60, 'unit and differential': 6 * 60, 'system': 12 * 60}
SUITES = ('unit', 'differential', 'system', 'soak')
PASSED = {'OK', 'EXPECTEDFAIL'}
SKIPPED = {'SKIP'}
SHOWN_LINES = 40


class Report:
    """Counts and prints results as they come."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def result(self, name, verdict, seconds, output=''):
        print(f'{verdict:4}  {name}  ({seconds:.1f} s)', flush=True)
        if verdict == 'ok':
            self.passed += 1
            return
        (self.skipped if verdict == 'skip' else self.failed).append(name)
        for line in output.strip().splitlines()[-SHOWN_LINES:]:
            print(f'      | {line}')

    def budget(self, suite, seconds):
        limit = BUDGETS.get(suite)
        over = f', over its budget of {limit // 60} min' if limit and seconds > limit else ''
        print(f'----  {suite}: {seconds:.0f} s{over}', flush=True)


def run(command, environment=None):
    """Runs a command at the top of the tree; returns (status, output, seconds)."""
    start = time.monotonic()
    done = subprocess.run([str(word) for word in command], cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environment)
    return done.returncode, done.stdout.decode(errors='replace'), time.monotonic() - start


def step(report, name, command, environment=None):
    status, output, seconds = run(command, environment)
    report.result(name, 'FAIL' if status else 'ok', seconds, output)
    return status == 0


def check_sources(report):
    files = [path for folder in FOLDERS for path in sorted((TOP / folder).rglob('*')) if path.suffix in ('.c', '.h')]
    step(report, 'format', ['clang-format', '--dry-run', '-Werror', *files])
    step(report, 'layering', [sys.executable, 'tests/layering.py'])


def build(report, name):
    folder, compiler, options = BUILDS[name]
    if not (TOP / folder / 'build.ninja').exists():
        status, output, seconds = run(['meson', 'setup', *options, folder], dict(os.environ, CC=compiler))
        if status:
            report.result(f'build {name}', 'FAIL', seconds, output)
            return False
    return step(report, f'build {name}', ['ninja', '-C', folder])


def read_log(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(errors='replace').splitlines() if line.strip()]


def check_suites(report, name):
    """A test outside the suites would silently not run."""
    tests = json.loads(run(['meson', 'introspect', '--tests', BUILDS[name][0]])[1])
    lost = [entry['name'] for entry in tests
            if not {suite.split(':')[-1] for suite in entry['suite']} & set(SUITES)]
    report.result('every test is in a suite', 'FAIL' if lost else 'ok', 0, '\n'.join(lost))


def test(report, name, suites, arguments=()):
    """Runs meson suites in one build and takes the results from meson's log."""
    folder = BUILDS[name][0]
    label = '-'.join(['check', *suites])
    log = TOP / folder / 'meson-logs' / f'{label}.json'
    log.unlink(missing_ok=True)
    chosen = [word for suite in suites for word in ('--suite', suite)]
    status, output, seconds = run(['meson', 'test', '-C', folder, '--no-rebuild', '--logbase', label, *chosen, *arguments])
    failed_before = len(report.failed)
    for entry in read_log(log):
        verdict = 'ok' if entry['result'] in PASSED else 'skip' if entry['result'] in SKIPPED else 'FAIL'
        text = '\n'.join(filter(None, [entry['result'] if verdict == 'FAIL' else '', entry.get('stdout'),
                                       entry.get('stderr')]))
        report.result(f'{name}: {entry["name"]}', verdict, entry['duration'], text)
    if status and len(report.failed) == failed_before:
        report.result(f'{name}: meson test {" ".join(suites)}', 'FAIL', seconds, output)


def timed(report, suite, steps):
    start = time.monotonic()
    steps()
    report.budget(suite, time.monotonic() - start)


def main():
    parser = argparse.ArgumentParser(prog='tools/check', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--soak', action='store_true', help='also run the long tests')
    parser.add_argument('--riscv-tests', metavar='DIR', help='also run the riscv-tests programs found in DIR')
    arguments = parser.parse_args()

    report, built = Report(), {}
    check_sources(report)
    timed(report, 'build', lambda: built.update({name: build(report, name) for name in BUILDS}))
    if built['gcc']:
        check_suites(report, 'gcc')
        timed(report, 'unit and differential', lambda: test(report, 'gcc', ['unit', 'differential']))
    if built['sanitizers']:
        timed(report, 'unit with sanitizers', lambda: test(report, 'sanitizers', ['unit']))
    if built['gcc'] and arguments.riscv_tests:
        runner = TOP / BUILDS['gcc'][0] / 'tests/insn/insn_runner'
        for engine in ('interp', 'jit'):
            step(report, f'riscv-tests {engine}', [sys.executable, 'tests/insn/riscv-tests.py', '--runner', runner,
                                                   '--engine', engine, '--lockstep', arguments.riscv_tests])
    if built['gcc']:
        timed(report, 'system', lambda: test(report, 'gcc', ['system']))
        if arguments.soak:
            timed(report, 'soak', lambda: test(report, 'gcc', ['soak'], ['--timeout-multiplier', '0']))

    for title, names in (('skipped', report.skipped), ('failed', report.failed)):
        if names:
            print(f'{title}: {", ".join(names)}')
    print(f'{report.passed} passed, {len(report.failed)} failed')
    return 1 if report.failed else 0


sys.exit(main())
