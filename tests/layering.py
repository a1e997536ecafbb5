#!/usr/bin/env python3
"""Checks the rules of the tree that a compiler does not: who may include what, and the form of the files.

  - ipc uses nothing else in the tree; cpu-core, devices and replay-broker use themselves and ipc; tools and tests all
  - the vcpu does not see the disassembler or an event loop
  - an include in quotes names a file from the top of the tree, or one that the build generates
  - headers do not include each other in a circle, and have #pragma once
  - a file begins with a comment on its role and has at most 800 lines
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
MAY_USE = {
    'ipc': {'ipc'},
    'cpu-core': {'cpu-core', 'ipc'},
    'devices': {'devices', 'ipc'},
    'replay-broker': {'replay-broker', 'ipc'},
    'tools': {'cpu-core', 'devices', 'ipc', 'replay-broker', 'tools'},
    'tests': {'cpu-core', 'devices', 'ipc', 'replay-broker', 'tests', 'tools'},
}
FORBIDDEN_LIBRARIES = {'cpu-core': {'capstone', 'uv.h'}}
MAX_LINES = 800
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def sources():
    for folder in MAY_USE:
        for path in sorted((TOP / folder).rglob('*')):
            if path.suffix in ('.c', '.h') and path.is_file():
                yield path


def generated_names():
    """File names that the build makes: outputs of custom targets, and the headers of protobuf-c."""
    names = set()
    for build in TOP.glob('**/meson.build'):
        names.update(re.findall(r"'([\w.-]+\.h)'", build.read_text()))
    for proto in TOP.glob('**/*.proto'):
        names.add(f'{proto.stem}.pb-c.h')
    return names


def check_file(path, generated, complain):
    """Checks one file; returns the headers of the tree that it includes."""
    folder, name = path.relative_to(TOP).parts[0], str(path.relative_to(TOP))
    text, headers = path.read_text(), []
    for ours, system in INCLUDE.findall(text):
        for library in FORBIDDEN_LIBRARIES.get(folder, ()):
            if (ours or system).split('/')[0] == library:
                complain(f'{name}: {folder} may not use {library}')
        if not ours:
            continue
        used = ours.split('/')[0]
        if used in MAY_USE and used not in MAY_USE[folder]:
            complain(f'{name}: {folder} may not use {used}: {ours}')
        if (TOP / ours).is_file():
            headers.append(ours)
        elif pathlib.PurePath(ours).name not in generated:
            complain(f'{name}: {ours} is no file from the top of the tree')
    if path.suffix == '.h' and not re.search(r'^#pragma once$', text, re.MULTILINE):
        complain(f'{name}: no #pragma once')
    if not text.startswith(('/*', '//')):
        complain(f'{name}: does not begin with a comment on its role')
    if (lines := text.count('\n')) > MAX_LINES:
        complain(f'{name}: {lines} lines, more than {MAX_LINES}')
    return headers


def find_circle(graph):
    done = set()

    def visit(name, trail):
        if name in trail:
            return trail[trail.index(name):] + [name]
        if name in done:
            return None
        for header in graph.get(name, ()):
            if circle := visit(header, trail + [name]):
                return circle
        done.add(name)
        return None

    for name in graph:
        if circle := visit(name, []):
            return circle
    return None


def main():
    problems, graph, generated = [], {}, generated_names()
    for path in sources():
        graph[str(path.relative_to(TOP))] = check_file(path, generated, problems.append)
    if circle := find_circle(graph):
        problems.append('headers in a circle: ' + ' -> '.join(circle))
    print('\n'.join(problems) or f'{len(graph)} files, nothing to complain about')
    return 1 if problems else 0


sys.exit(main())
