"""Debian packages of a foreign suite or architecture, fetched and unpacked beside the host's own.

An AptRoot is a directory with a private apt state: apt verifies the indices' signatures against Debian's keyring and
the packages against the indices, and the host's package state is never read or written. The mirror is the one in the
host's own apt sources; DEBIAN_MIRROR overrides it.

cached() keeps what is built from such packages: one folder per digest of the inputs, put in place by one rename.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'


class Failure(Exception):
    """A step that failed; the message is for the user."""


def say(message):
    print(message, file=sys.stderr, flush=True)


def run(*command, **options):
    """Runs a command and returns its standard output; raises Failure with the end of what it wrote to stderr."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **options)
    if done.returncode != 0:
        tail = '\n'.join(done.stderr.decode(errors='replace').strip().splitlines()[-8:])
        raise Failure(f'{shlex.join(str(word) for word in command[:6])} failed (status {done.returncode})\n{tail}')
    return done.stdout.decode(errors='replace')


def host_mirror():
    if mirror := os.environ.get('DEBIAN_MIRROR'):
        return mirror
    urls = run('apt-get', 'indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages').split()
    for url in urls:
        if url.rstrip('/').endswith('/debian'):
            return url
    raise Failure("no Debian mirror in the host's apt sources\nhint: set DEBIAN_MIRROR to the URL of one")


class AptRoot:
    """A private apt state in `state` for `architecture` and `suite`."""

    def __init__(self, state, architecture, suite):
        self.state = pathlib.Path(state).resolve()
        self.archives = self.state / 'cache' / 'archives'
        (self.archives / 'partial').mkdir(parents=True, exist_ok=True)
        (self.state / 'lists' / 'partial').mkdir(parents=True, exist_ok=True)
        (self.state / 'status').write_text('')
        (self.state / 'sources.list').write_text(
            f'deb [arch={architecture} signed-by={KEYRING}] {host_mirror()} {suite} main\n')
        (self.state / 'apt.conf').write_text(f'''\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::sourcelist "{self.state}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "-";
Dir::State "{self.state}";
Dir::State::lists "{self.state}/lists";
Dir::State::status "{self.state}/status";
Dir::Cache "{self.state}/cache";
''')

    def _apt(self, program, *arguments, **options):
        environment = dict(os.environ, APT_CONFIG=str(self.state / 'apt.conf'), LC_ALL='C')
        return run(program, *arguments, env=environment, **options)

    def update(self):
        self._apt('apt-get', '-q', 'update')

    def dependency(self, package, pattern):
        """The name of the direct dependency of `package` that matches the regular expression `pattern`."""
        for name in re.findall(r'Depends: (\S+)', self._apt('apt-cache', 'depends', package)):
            if re.fullmatch(pattern, name):
                return name
        raise Failure(f'package {package} depends on nothing like {pattern}')

    def fetch(self, packages):
        """Downloads exactly these packages; returns their files in the order given."""
        files = []
        for package in packages:
            with tempfile.TemporaryDirectory(dir=self.state) as empty:
                plan = self._apt('apt-get', '-qq', '--print-uris', 'download', package, cwd=empty)
            files += self._planned(plan)
            self._apt('apt-get', '-q', 'download', package, cwd=self.archives)
        return files

    def fetch_closure(self, packages):
        """Downloads these packages and all that they depend on; returns the files."""
        with tempfile.TemporaryDirectory(dir=self.state) as empty:
            os.mkdir(os.path.join(empty, 'partial'))
            plan = self._apt('apt-get', '-qq', '--print-uris', '-o', f'Dir::Cache::archives={empty}', 'install',
                             *packages)
        self._apt('apt-get', '-q', '-y', '--download-only', 'install', *packages)
        return self._planned(plan)

    def _planned(self, plan):
        files = [self.archives / line.split()[1] for line in plan.splitlines() if line.startswith("'")]
        if not files:
            raise Failure('apt-get planned no download')
        return files


def unpack(files, root):
    """Unpacks package files into `root`, without running their maintainer scripts."""
    root.mkdir(parents=True, exist_ok=True)
    # base-files brings the links from /bin, /lib and /sbin into /usr that everything else relies on.
    for file in sorted(files, key=lambda f: not f.name.startswith('base-files_')):
        if not file.exists():
            raise Failure(f'{file.name} was not downloaded')
        run('dpkg-deb', '-x', file, root)


def digest(files, *words):
    """A digest of the contents of `files` and of the strings `words`."""
    total = hashlib.sha256()
    for part in [pathlib.Path(file).read_bytes() for file in files] + [word.encode() for word in words]:
        total.update(len(part).to_bytes(8, 'little') + part)
    return total.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path):
    with open(path, 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting for another build in {path.parent}')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(out, key, build):
    """Returns the folder out/key; if it does not exist yet, build(folder) fills it first.

    The folder appears complete or not at all, and `out/current` points to it. Folders of other keys are removed.
    """
    out = pathlib.Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out / 'lock'):
        if not (out / key).is_dir():
            for stale in out.glob('new.*'):
                shutil.rmtree(stale)
            with tempfile.TemporaryDirectory(dir=out, prefix='new.', ignore_cleanup_errors=True) as work:
                fresh = pathlib.Path(work) / key
                fresh.mkdir()
                build(fresh)
                fresh.rename(out / key)
        link = out / 'new.link'
        link.unlink(missing_ok=True)
        link.symlink_to(key)
        link.replace(out / 'current')
        for old in out.iterdir():
            if old.is_dir() and not old.is_symlink() and re.fullmatch('[0-9a-f]{16}', old.name) and old.name != key:
                shutil.rmtree(old)
    return out / key


def need_commands(**packages):
    """Checks that commands exist; the values name the packages to install."""
    path = os.environ.get('PATH', '') + ':/usr/sbin:/sbin'
    os.environ['PATH'] = path
    missing = [package for command, package in packages.items() if not shutil.which(command.replace('_', '-'))]
    if not os.path.exists(KEYRING):
        missing.append('debian-archive-keyring')
    if missing:
        raise Failure('missing commands\nhint: apt-get install ' + ' '.join(missing))


def main(entry):
    """Runs entry(); a Failure ends the program with its message and status 1."""
    name = os.path.relpath(sys.argv[0])
    try:
        entry()
    except Failure as failure:
        sys.exit(f'{name}: {failure}')
    except KeyboardInterrupt:
        sys.exit(f'{name}: interrupted')
