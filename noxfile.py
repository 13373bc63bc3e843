"""The tasks of a developer: `nox` runs the usual ones, `nox -l` lists all."""

from __future__ import annotations

import os

import nox

nox.options.sessions = ['lint', 'types', 'tests']
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ['3.11', '3.12', '3.13']
DOCS = 'build/docs'
PLATFORMS = ['linux', 'darwin', 'win32']


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests: `nox -s tests-3.12 -- -k laws`."""
    session.install('-e', '.[tests]')
    session.run('python', '-m', 'pytest', '-n', '4', *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style; `nox -s lint -- --fix` mends what it can."""
    session.install('-e', '.[lint]')
    session.run('ruff', 'check', *session.posargs)
    if '--fix' in session.posargs:
        session.run('ruff', 'format')
    else:
        session.run('ruff', 'format', '--check')


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, as each platform sees them."""
    session.install('-e', '.[tests,lint]')
    for platform in PLATFORMS:
        session.run('mypy', '--platform', platform)
    python = session.bin + '/python'
    session.run('basedpyright', '--pythonpath', python)
    with session.chdir(session.create_tmp()):  # as users have it: installed
        session.run(
            'basedpyright', '--ignoreexternal', '--verifytypes', 'portalocker'
        )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs; a warning is an error."""
    session.install('-e', '.[docs,tests]')
    session.run('sphinx-build', '-q', '-W', '--keep-going', 'docs', DOCS)


@nox.session
def release(session: nox.Session) -> None:
    """Build wheels and sdist, and try each in a clean environment."""
    session.run('bash', '.ci/release', external=True)


@nox.session
def stress(session: nox.Session) -> None:
    """Kill holders at random moments for minutes; nothing may be lost."""
    session.install('-e', '.[tests]')
    session.run(
        *('python', '-m', 'pytest', '-m', 'stress', '--timeout=1800'),
        *session.posargs,
        env={'PORTALOCKER_STRESS': '1'},
    )


@nox.session
def noise(session: nox.Session) -> None:
    """Run the tests while threads pause at random lines of the package."""
    session.install('-e', '.[tests]')
    rooms = ['laws', 'server_laws', 'event_loop', 'modules', 'pysync']
    session.run(
        *('python', '-m', 'pytest', '-n', '2', '-p', 'noise'),
        *(session.posargs or [f'tests/{room}' for room in rooms]),
        env={'PYTHONPATH': 'tests'},
    )


@nox.session
def windows(session: nox.Session) -> None:
    """Run the Windows tests with the command in WINDOWS_PYTHON.

    See tests/windows_on_linux/README.rst for what the command may be.
    """
    if not os.environ.get('WINDOWS_PYTHON'):
        session.error('set WINDOWS_PYTHON to the command of a Windows Python')
    session.install('-e', '.[tests]')
    session.run(
        *('python', '-m', 'pytest', '-s', 'tests/windows_on_linux'),
        *session.posargs,
    )


@nox.session
@nox.parametrize('sanitizer', ['address', 'thread'])
def sanitized(session: nox.Session, sanitizer: str) -> None:
    """Run the tests of `pysync` on an extension that is watched; gcc."""
    session.install('setuptools', '.[tests]')
    session.run(
        *('bash', '.ci/sanitized', sanitizer, '-k', 'native'),
        *session.posargs,
        external=True,
    )


@nox.session(venv_backend='none')
def free_threaded(session: nox.Session) -> None:
    """Test `pysync` without the GIL, on FREE_THREADED_PYTHON.

    Without that one CPython is built for it; Debian.
    """
    folder = os.path.abspath('.nox/python3.13t')
    interpreter = os.environ.get('FREE_THREADED_PYTHON')
    if not interpreter:
        session.run('bash', '.ci/free_threaded', folder)
        interpreter = f'{folder}/bin/python3.13t'
    python = os.path.join(folder, 'venv', 'bin', 'python')
    session.run(interpreter, '-m', 'venv', f'{folder}/venv')
    # without what has no wheel for it: hypothesis, the server's client
    requirements = ['setuptools', 'pytest', 'pytest-timeout', 'pytest-xdist']
    session.run(python, '-m', 'pip', 'install', '-q', *requirements)
    session.run(python, '-m', 'pip', 'install', '-q', '--no-deps', '-e', '.')
    session.run(*(python, '-m', 'pytest', 'tests/pysync'), *session.posargs)


@nox.session
@nox.parametrize('version', ['5.0.1', '6.*', '7.*', '8.*'])
def redis_client(session: nox.Session, version: str) -> None:
    """Test the locks on a Redis server with old and new clients."""
    session.install('-e', '.[tests]', f'redis=={version}')
    session.run('python', '-m', 'pytest', 'tests/redis_lock', *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure us beside the others; see benchmarks/README.rst."""
    session.install('-e', '.[benchmarks]')
    session.run('python', 'benchmarks/run.py', *session.posargs)
