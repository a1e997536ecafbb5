#!/usr/bin/env python3
"""Compares an engine with QEMU, and with the interpreter without caches, on random self-logging guest programs.

Each seed makes three programs. The one with fences runs on QEMU and on insn_runner, and must print the same digests
(what may differ is listed in DIFFERENCES.md, and not generated). Those without run in lockstep with an interpreter that
caches nothing: one in short and in long slices of random length, a shorter one compared after every step. (The translator
leaves what is shorter than a block to its interpreter, unless it is told to stop exactly, as it is in the shorter one.) At the end
the lines of the instruction table that no program had are named; there must be none.

QEMU is --qemu or the environment's CLEAVE_QEMU; without it the status is 77: skipped. The first difference ends the
run with the command that reproduces it. Where QEMU differs, QEMU translating one instruction at a time decides.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

CPU = ('rv64,h=false,zfh=true,zcb=true,zicond=true,svinval=true,svnapot=true,svpbmt=true,svadu=true,svade=false,'
       'svvptc=true,zihpm=false')
STEPS_PER_PROGRAM = 9_000_000           # roughly, of 200 blocks
EVERY_STEP_SEED = 1 << 32
SHORT_SLICE, LONG_SLICE = 61, 1000
LIMIT_SECONDS = 300                     # protects against a hanging emulator
SKIPPED = 77
RETRIED = 'programs on which QEMU differs from itself'
COMPARED = 'steps in lockstep with the uncached interpreter'


class Difference(Exception):
    pass


def run(command):
    """Runs a command that must succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT_SECONDS)
    if done.returncode:
        raise Difference(f'{" ".join(map(str, command))}: status {done.returncode}\n'
                         f'{(done.stdout + done.stderr).decode(errors="replace")[-400:]}')
    return done


def output(command):
    return run(command).stdout.decode()


def generate(arguments, seed, path, *options):
    lines = output([arguments.generator, '--seed', str(seed), '--coverage', *options, path]).splitlines()
    return collections.Counter({name: int(count) for name, count in map(str.split, lines)})


def run_qemu(arguments, path, *options):
    return output([arguments.qemu, '-M', 'virt', '-cpu', CPU, '-m', '128M', '-smp', '1', '-bios', path, '-display', 'none',
                   '-serial', 'stdio', '-monitor', 'none', '-no-reboot', *options])


def compare_with_qemu(arguments, seed, path):
    coverage = generate(arguments, seed, path)
    ours = output([arguments.runner, f'--engine={arguments.engine}', path])
    qemu = run_qemu(arguments, path)
    if ours != qemu:
        qemu = run_qemu(arguments, path, '-accel', 'tcg,one-insn-per-tb=on')
        coverage[RETRIED] += 1
    for number, (a, b) in enumerate(zip(ours.splitlines(), qemu.splitlines())):
        if a != b:
            raise Difference(f'seed {seed}: block {number} differs from QEMU; {arguments.generator} --seed {seed} FILE, then '
                             f'{arguments.runner} --engine={arguments.engine} FILE')
    if ours != qemu or not ours:
        raise Difference(f'seed {seed}: one of the runs ended early')
    return coverage


def lockstep(arguments, path, longest, *words):
    """Returns the number of steps."""
    command = [arguments.runner, f'--engine={arguments.engine}', f'--lockstep={longest}', *words, path]
    return int(run(command).stderr.split()[0])


def compare_with_uncached(arguments, seed, path):
    factor = 5 if arguments.soak else 1
    coverage = generate(arguments, seed, path, '--no-fences', '--blocks', str(40 * factor))
    coverage[COMPARED] += lockstep(arguments, path, SHORT_SLICE) + lockstep(arguments, path, LONG_SLICE)
    coverage += generate(arguments, seed + EVERY_STEP_SEED, path, '--no-fences', '--blocks', str(10 * factor))
    coverage[COMPARED] += lockstep(arguments, path, 1, '--exact')
    return coverage


def run_seed(arguments, seed, directory):
    path = str(pathlib.Path(directory) / f'stream-{seed}')
    try:
        return compare_with_qemu(arguments, seed, path) + compare_with_uncached(arguments, seed, path)
    finally:
        pathlib.Path(path).unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--generator', required=True)
    parser.add_argument('--runner', required=True)
    parser.add_argument('--engine', default='interp', help='of insn_runner (default: %(default)s)')
    parser.add_argument('--qemu', default=os.environ.get('CLEAVE_QEMU'))
    parser.add_argument('--seed', type=int, default=1, help='of the first program')
    parser.add_argument('--programs', type=int, default=2)
    parser.add_argument('--soak', action='store_true', help='a billion instructions')
    parser.add_argument('--jobs', type=int, default=2)
    arguments = parser.parse_args()
    if not arguments.qemu:
        print('no QEMU to compare with: set CLEAVE_QEMU')
        return SKIPPED

    programs = 1_000_000_000 // STEPS_PER_PROGRAM + 1 if arguments.soak else arguments.programs
    coverage = collections.Counter()
    with tempfile.TemporaryDirectory(prefix='cleave-streams-') as directory, \
            concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(run_seed, arguments, arguments.seed + i, directory) for i in range(programs)]
        try:
            for run in concurrent.futures.as_completed(runs):
                coverage.update(run.result())
        except (Difference, subprocess.TimeoutExpired) as difference:
            pool.shutdown(cancel_futures=True)
            print(difference)
            return 1
    retried, compared = coverage.pop(RETRIED, 0), coverage.pop(COMPARED)
    missing = [name for name, count in coverage.items() if not count]
    print(f'{programs} programs, {sum(coverage.values())} instructions emitted, '
          f'{len(coverage) - len(missing)} of {len(coverage)} lines covered')
    print(f'{compared} {COMPARED}, no difference')
    if retried:
        print(f'{RETRIED}: {retried}')
    if missing:
        print('not covered:', *missing)
    return 1 if missing else 0


sys.exit(main())
