#!/usr/bin/env python3
"""Runs the public riscv-tests on the bare-machine runner and counts what passes.

DIR holds the programs as that project names them: SUITE-p-TEST for physical and SUITE-v-TEST for virtual memory. The
runner gets one program, watches its `tohost` word and exits with status 0 when the program reports success.

With --expect FILE (lines "NAME pass" or "NAME" and anything else, as another emulator's results) the status is 0 when
everything passes that passes there; without it, when everything passes.
"""

import argparse
import collections
import concurrent.futures
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
NAME = re.compile(r'(rv64\w+)-([pv])-([\w-]+)')
MEMORY = {'p': 'physical', 'v': 'virtual'}
LIMIT_SECONDS = 120                     # protects against a hanging runner; slow is not wrong


def run_program(runner, options, path):
    """Returns None when the program passes, otherwise what the runner says."""
    try:
        done = subprocess.run([runner, *options, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return f'no end after {LIMIT_SECONDS} s'
    if done.returncode == 0:
        return None
    lines = done.stdout.decode(errors='replace').strip().splitlines()
    return lines[-1] if lines else f'status {done.returncode}'


def print_counts(results):
    counts = collections.defaultdict(lambda: [0, 0])
    for name, problem in results.items():
        suite, memory, _ = NAME.fullmatch(name).groups()
        for key in ((suite, memory), ('total', memory)):
            counts[key][0] += problem is None
            counts[key][1] += 1
    print(f'{"":16}{"physical":>12}{"virtual":>12}')
    for suite in [*sorted({suite for suite, _ in counts} - {'total'}), 'total']:
        cells = ['{}/{}'.format(*counts[suite, memory]) if (suite, memory) in counts else '-' for memory in MEMORY]
        print(f'{suite:16}' + ''.join(f'{cell:>12}' for cell in cells))


def read_expected(path):
    words = [line.split() for line in pathlib.Path(path).read_text().splitlines()]
    return {line[0]: line[1:] == ['pass'] for line in words if line}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dir', type=pathlib.Path)
    parser.add_argument('--runner', default=TOP / 'build/tests/insn/insn_runner', help='default: %(default)s')
    parser.add_argument('--only', default='', metavar='REGEX', help='run the programs whose names match')
    parser.add_argument('--expect', metavar='FILE', help="another emulator's results")
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--engine', default='interp', help='default: %(default)s')
    parser.add_argument('--lockstep', action='store_true', help='compare with the interpreter without caches all the way')
    parser.add_argument('--no-tlb', action='store_true', help='run without the TLB')
    parser.add_argument('--max-steps', metavar='N', help='give a program up after N steps')
    arguments = parser.parse_args()

    paths = sorted(path for path in arguments.dir.glob('rv64*')
                   if NAME.fullmatch(path.name) and re.search(arguments.only, path.name))
    if not paths:
        parser.error(f'no programs in {arguments.dir}')
    options = [f'--engine={arguments.engine}', *['--no-tlb'] * arguments.no_tlb, *['--lockstep'] * arguments.lockstep]
    options += ['--max-steps', arguments.max_steps] if arguments.max_steps else []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        problems = pool.map(lambda path: run_program(arguments.runner, options, path), paths)
        results = dict(zip([path.name for path in paths], problems))

    print_counts(results)
    expected = read_expected(arguments.expect) if arguments.expect else {}
    bad = 0
    for name, problem in results.items():
        if problem is not None:
            wanted = expected.get(name, True)
            bad += wanted
            print(f'{name}: {problem}' + ('' if wanted else ' (fails there too)'))
        elif not expected.get(name, True):
            print(f'{name}: passes here, fails there')
    return 1 if bad else 0


sys.exit(main())
