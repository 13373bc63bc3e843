"""The single-file build: what becomes of each line, what is refused."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import types
from collections.abc import Callable

import pytest

from portalocker import __about__, __main__
from portalocker.commands import _one_namespace

MODULES = {'exceptions', 'some_import', 'portalocker'}

Package = Callable[..., pathlib.Path]


@pytest.fixture
def package(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Package:
    """Write a package of one's own, and have `combine` take it."""

    def write(**sources: str) -> pathlib.Path:
        folder = tmp_path / 'portalocker'
        folder.mkdir()
        about = '_STAMPED_VERSION: str | None = None\n'
        for name, text in {'__about__': about, **sources}.items():
            (folder / f'{name}.py').write_text(text)
        (tmp_path / 'README.rst').write_text('Read me.\n')
        (tmp_path / 'LICENSE').write_text('Do as you like.\n')
        monkeypatch.setattr(__main__, 'base_path', tmp_path)
        monkeypatch.setattr(__main__, 'src_path', folder)
        monkeypatch.setattr(shutil, 'which', lambda _: None)
        _one_namespace.bindings_of.cache_clear()
        return folder

    return write


@pytest.fixture
def combined(
    package: Package, tmp_path: pathlib.Path
) -> Callable[..., types.ModuleType]:
    """Write a package, combine it, import the product."""

    def build(face: str, **sources: str) -> types.ModuleType:
        package(__init__=f'from . import __about__\n{face}', **sources)
        output = tmp_path / 'out' / 'one.py'
        __main__.main(['combine', '--output-file', str(output)])
        return import_file(output)

    return build


def import_file(path: pathlib.Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location('the_product', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules['the_product'] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules['the_product']
    return module


def lines_of(path: pathlib.Path) -> str:
    return ''.join(__main__._read_file(path, set()))


@pytest.mark.parametrize(
    ('line', 'cleaned'),
    [
        ('raise exceptions.LockException(x)', 'raise LockException(x)'),
        ('x = some_import.spam.exceptions', 'x = spam.exceptions'),
        ('f(exceptions.A,exceptions.B)', 'f(A,B)'),
        ('x = self.exceptions.A', 'x = self.exceptions.A'),
        ('x = my_exceptions.A', 'x = my_exceptions.A'),
        ('x = exceptions_.A', 'x = exceptions_.A'),
        ('x = exceptions', 'x = exceptions'),
        ("x = 'exceptions.A'", "x = 'exceptions.A'"),
        ('x = "exceptions.A"', 'x = "exceptions.A"'),
        ("x('portalocker.utils')", "x('portalocker.utils')"),
        (r"x = 'it\'s exceptions.A'", r"x = 'it\'s exceptions.A'"),
        ("'a' + exceptions.A + 'b'", "'a' + A + 'b'"),
        ('"""Raise exceptions.A', '"""Raise exceptions.A'),
        ("f'exceptions.A {exceptions.A!r}'", "f'exceptions.A {A!r}'"),
        ("rb'exceptions.A'", "rb'exceptions.A'"),
        ('x = 1  # exceptions.A', 'x = 1  # exceptions.A'),
        ('x = exceptions.A  # exceptions.A', 'x = A  # exceptions.A'),
        ('spam = some_import.spam', ''),
        ('spam = spam', ''),
        ('spam: Any = spam  # eggs', ''),
        ('lock = portalocker.lock', ''),
        ('spam = spams', 'spam = spams'),
        ('spam = spam.spam', 'spam = spam.spam'),
        ('spam == spam', 'spam == spam'),
        ('    spam = spam', '    spam = spam'),
        ('', ''),
    ],
)
@pytest.mark.parametrize('end', ['', '\n'])
def test_line_is_cleaned(line: str, cleaned: str, end: str) -> None:
    expected = cleaned + end if cleaned or not line else ''
    assert __main__._clean_line(line + end, MODULES) == expected


def test_without_modules_a_line_stays_as_it_is() -> None:
    line = 'raise exceptions.LockException\n'
    assert __main__._clean_line(line, set()) == line


def test_type_checking_blocks_come_out_verbatim(package: Package) -> None:
    block = (
        'if TYPE_CHECKING:\n'
        '    from typing import Any\n'
        '\n'
        '    from . import types, no_such_module\n'
        '    Strange = first.Any  # as it is\n'
    )
    folder = package(
        first='One = 1\n',
        second=(
            'from __future__ import annotations\n'
            'from . import first\n'
            f'TYPE_CHECKING = False\n{block}'
            'x = first.One\n'
        ),
    )
    text = lines_of(folder / 'second.py')
    assert block in text
    assert text.startswith('One = 1\n')
    assert text.endswith('x = One\n')
    assert '__future__' not in text


def test_typing_type_checking_is_one_too(package: Package) -> None:
    block = 'if typing.TYPE_CHECKING:\n    from . import nowhere\n'
    folder = package(first=f'import typing\n{block}')
    assert block in lines_of(folder / 'first.py')


def test_each_module_is_inlined_once_where_it_is_first_imported(
    package: Package,
) -> None:
    folder = package(
        low='Low = 1\n',
        middle='from .low import Low\nMiddle = Low\n',
        high=(
            'from .middle import (\n    Middle,\n)\nfrom . import (\n'
            '    low,\n    middle,\n)\nHigh = low.Low + middle.Middle\n'
        ),
    )
    seen: set[pathlib.Path] = set()
    text = ''.join(__main__._read_file(folder / 'high.py', seen))
    assert text == 'Low = 1\nMiddle = Low\nHigh = Low + Middle\n'
    assert {path.stem for path in seen} == {'low', 'middle', 'high'}
    assert not list(__main__._read_file(folder / 'low.py', seen))


def test_strings_of_several_lines_come_out_verbatim(package: Package) -> None:
    text = (
        'from . import low\n'
        'x = """\nlow.Low\nlow = low\n"""\n'
        "def f():\n    '''Doc.\n\n    >>> low.Low\n    '''\n"
        '    return low.Low\n'
    )
    folder = package(low='Low = 1\n', high=text)
    assert lines_of(folder / 'high.py') == text.replace(
        'from . import low\n', 'Low = 1\n'
    ).replace('return low.Low', 'return Low')


def test_names_may_change_at_import(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined(
        'from .low import Low as Face\nfrom . import low as deep\n'
        'def low_down(): return deep.Low + Face\n',
        low='Low = 1\n',
    )
    assert product.low_down() == 2
    assert product.Face == 1


def test_docstrings_of_modules_do_no_harm(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined(
        '"""The face."""\nfrom __future__ import annotations\n'
        'from .low import Low\n',
        low='"""Low.\n\n>>> from . import low\n"""\nLow = 1\n',
    )
    assert product.Low == 1


def test_product_starts_with_the_future_readme_and_license(
    package: Package,
) -> None:
    folder = package(__init__='from . import __about__\n')
    readme = 'Back\\slash, "quotes""", caf\xe9.'
    (folder.parent / 'README.rst').write_text(readme, encoding='utf-8')
    text = __main__._combined_text()
    assert text.isascii()
    first, read_me, license_text, *_ = ast.parse(text).body
    assert ast.unparse(first) == 'from __future__ import annotations'
    assert isinstance(read_me, ast.Expr)
    assert ast.literal_eval(read_me.value).strip() == readme
    assert isinstance(license_text, ast.Expr)
    assert ast.literal_eval(license_text.value).strip() == 'Do as you like.'


def test_readme_may_be_markdown(package: Package) -> None:
    folder = package(__init__='from . import __about__\n')
    (folder.parent / 'README.rst').rename(folder.parent / 'README.md')
    assert 'Read me.' in __main__._combined_text()


def test_modules_are_reachable_as_attributes_and_rebind(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined(
        'from . import low\n',
        low='LIMIT = 1\ndef limit(): return LIMIT\n',
    )
    # loaded without being in sys.modules by name: see the next test
    assert product.limit() == 1


def test_rebinding_through_a_module_reaches_the_code(
    package: Package, tmp_path: pathlib.Path
) -> None:
    package(
        __init__='from . import __about__, low\n',
        low='LIMIT = 1\ndef limit(): return LIMIT\n',
    )
    __main__.main(['combine', '-o', str(tmp_path / 'one.py')])
    program = 'import one; one.low.LIMIT = 2; print(one.limit())'
    done = subprocess.run(
        [sys.executable, '-c', program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == '2\n', done.stderr


def test_lazy_attributes_of_all_modules_work(
    combined: Callable[..., types.ModuleType],
) -> None:
    lazy = (
        'def __getattr__(name):\n'
        '    if name == {0!r}: return {1!r}\n'
        '    raise AttributeError(name)\n'
    )
    product = combined(
        'from . import low\n' + lazy.format('late', 'face'),
        low=lazy.format('logger', 'low').replace('if name', 'if 1 or name'),
    )
    assert product.logger == 'low'
    assert product.late == 'face'


def test_lazy_attribute_may_raise_something_else(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined(
        'def __getattr__(name):\n'
        "    if name == 'RedisLock':\n"
        "        raise ImportError('pip install it')\n"
        '    raise AttributeError(name)\n'
    )
    with pytest.raises(ImportError, match='pip install it'):
        product.RedisLock  # noqa: B018
    assert not hasattr(product, 'no_such_name')


def test_version_is_stamped(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined('')
    assert product.__version__ == __about__.get_version()
    assert __about__.get_version() == product._STAMPED_VERSION


def test_unknown_version_is_refused(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(__init__='from . import __about__\n')
    unknown = __about__.UNKNOWN_VERSION
    monkeypatch.setattr(__about__, 'get_version', lambda: unknown)
    with pytest.raises(__main__.CombineError, match='version'):
        __main__._combined_text()


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        ('def _same(): ...', 'def _same(): ...'),
        ('_same = 1', '_same = 2'),
        ('class Same: ...', 'Same = 1'),
        ('import same', 'def same(): ...'),
        ('import os as same', 'import sys as same'),
        ('if 1:\n    _same = 1', 'try:\n    _same = 2\nfinally: pass'),
        ('for _same in (): ...', 'with open(__file__) as _same: ...'),
        ('_same: int = 1', '_same: int = 2'),
    ],
)
def test_name_that_means_two_things_is_refused(
    package: Package, first: str, second: str
) -> None:
    package(
        __init__='from . import __about__, low, high\n',
        low=first + '\n',
        high=second + '\n',
    )
    with pytest.raises(__main__.CombineError) as caught:
        __main__._combined_text()
    said = str(caught.value)
    assert 'low.py' in said
    assert 'high.py' in said
    assert 'same' in said.lower()


@pytest.mark.parametrize(
    'same',
    [
        'import os',
        'TYPE_CHECKING = False',
        'from typing import Any',
        '__all__ = []',
        'class C{0}:\n    def f(self):\n        _same = {0}',
    ],
)
def test_name_that_means_the_same_twice_is_fine(
    package: Package, same: str
) -> None:
    package(
        __init__='from . import __about__, low, high\n',
        low=same.format('1') + '\n',
        high=same.format('2') + '\n',
    )
    ast.parse(__main__._combined_text())


def test_module_that_another_system_lacks_is_no_second_meaning(
    package: Package,
) -> None:
    guarded = 'if 1:\n    import fcntl\nelse:\n    fcntl: Any = None\n'
    package(
        __init__='from . import __about__, low, high\n',
        low='import fcntl\n',
        high=guarded,
    )
    assert 'fcntl: Any = None' in __main__._combined_text()


def test_face_may_give_a_public_name_another_meaning(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined(
        'from . import low\nLOCK_EX = [low.LOCK_EX]\n', low='LOCK_EX = 2\n'
    )
    assert product.LOCK_EX == [2]


@pytest.mark.parametrize(
    ('source', 'cause'),
    [
        ('if 1:\n    from . import low\n', 'column 0'),
        ('def f():\n    from .low import Low as L\n', 'column 0'),
        ('def f():\n    from .. import low\n', 'outside'),
        ('try:\n    from .low import Low\nfinally:\n    pass\n', 'column 0'),
        ('from .. import low\n', 'outside'),
        ('from . import no_such\n', 'no_such'),
        ('from .no_such import x\n', 'no_such'),
        ('from . import low\nlow = 1\n', "'low'"),
        ('from . import low\nx = low.Missing\n', "'Missing'"),
        ('from . import low\nlow.Low = 2\n', "'Low'"),
        ('from . import low\ndef f(Low): return low.Low\n', "'Low'"),
        ('from . import low\ndef f(low): return low.Low\n', "'low'"),
        ('from . import low\ndef f():\n    Low = low.Low\n', "'Low'"),
        ("x = 'caf\xe9'\n", 'ASCII'),
    ],
)
def test_code_that_one_namespace_would_change_is_refused(
    package: Package, source: str, cause: str
) -> None:
    folder = package(low='Low = 1\n')
    high = folder / 'high.py'
    high.write_text(source, encoding='utf-8')
    with pytest.raises(__main__.CombineError, match=cause) as caught:
        lines_of(high)
    assert 'high.py:' in str(caught.value)


def test_import_in_a_function_stands_before_the_function(
    combined: Callable[..., types.ModuleType],
) -> None:
    product = combined(
        'from . import high\n',
        low='Low = 1\n\n\ndef one():\n    return Low\n',
        high=(
            'import functools\n\n\n'
            '@functools.cache\n'
            'def two():\n'
            '    from . import low\n'
            '    return low.Low + one()\n\n\n'
            'def __getattr__(name):\n'
            '    global one\n'
            '    from .low import one\n'
            '    return one\n'
        ),
    )
    assert (product.one(), product.two()) == (1, 2)


def test_local_name_of_another_function_is_no_matter(package: Package) -> None:
    source = (
        'from . import low\n'
        'def f(Low, low): return Low\n'
        'def g(): return low.Low\n'
    )
    folder = package(low='Low = 1\n', high=source)
    assert 'def g(): return Low\n' in lines_of(folder / 'high.py')


class TestFailure:
    """Whatever fails, the file that was there stays, and nothing else."""

    @pytest.fixture
    def output(self, tmp_path: pathlib.Path) -> pathlib.Path:
        path = tmp_path / 'out' / 'one.py'
        path.parent.mkdir()
        path.write_text('precious')
        return path

    @pytest.mark.parametrize(
        ('face', 'cause'),
        [
            ("raise SystemExit('does not run')", 'does not run'),
            ('from . import nowhere', 'nowhere'),
            ('def f(', 'closed'),
        ],
    )
    def test_nothing_is_written(
        self,
        package: Package,
        output: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
        face: str,
        cause: str,
    ) -> None:
        package(__init__=f'from . import __about__\n{face}\n')
        with pytest.raises(SystemExit) as caught:
            __main__.main(['combine', '-o', str(output)])
        assert caught.value.code == 1
        assert cause in capsys.readouterr().err
        assert output.read_text() == 'precious'
        assert list(output.parent.iterdir()) == [output]

    def test_missing_license_is_named(
        self,
        package: Package,
        output: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = package(__init__='from . import __about__\n')
        (folder.parent / 'LICENSE').unlink()

        def not_installed(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, 'files', not_installed)
        with pytest.raises(SystemExit):
            __main__.main(['combine', '-o', str(output)])
        assert 'LICENSE' in capsys.readouterr().err
        assert output.read_text() == 'precious'

    def test_folder_that_cannot_be_made_is_named(
        self,
        package: Package,
        output: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        package(__init__='from . import __about__\n')
        with pytest.raises(SystemExit):
            __main__.main(['combine', '-o', str(output / 'below' / 'x.py')])
        assert str(output) in capsys.readouterr().err


def test_output_is_replaced_and_says_where_it_is(
    package: Package,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package(__init__='from . import __about__\nx = 1\n')
    output = tmp_path / 'new' / 'folder' / 'one.py'
    for _ in range(2):
        __main__.combine(argparse.Namespace(output_file=output))
        assert str(output) in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ['one.py']
    assert output.stat().st_mode & 0o444 == 0o444


def test_what_is_no_file_is_left_alone_and_a_link_stays_one(
    package: Package, tmp_path: pathlib.Path
) -> None:
    package(__init__='from . import __about__\nx = 1\n')
    fifo, link, file = (tmp_path / name for name in ('fifo', 'link', 'file'))
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(OSError, match='not a regular file') as caught:
            __main__.combine(argparse.Namespace(output_file=path))
        assert caught.value.filename == str(path)
    assert fifo.is_fifo()
    link.symlink_to(file)
    __main__.combine(argparse.Namespace(output_file=link))
    assert link.is_symlink()
    assert 'x = 1' in file.read_text()


@pytest.mark.skipif(shutil.which('ruff') is None, reason='needs ruff')
class TestRuff:
    ruff = shutil.which('ruff')

    def test_product_is_formatted(
        self,
        package: Package,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        package(__init__='from . import __about__\nx   =   [ "a" ]\n')
        monkeypatch.setattr(shutil, 'which', lambda _: self.ruff)
        __main__.main(['combine', '-o', str(tmp_path / 'one.py')])
        assert "x = ['a']\n" in (tmp_path / 'one.py').read_text()

    def test_undefined_name_is_refused(
        self,
        package: Package,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        package(
            __init__='from . import __about__\n'
            'def f():\n    return no_such_name\n'
        )
        monkeypatch.setattr(shutil, 'which', lambda _: self.ruff)
        with pytest.raises(SystemExit):
            __main__.main(['combine', '-o', str(tmp_path / 'one.py')])
        assert 'no_such_name' in capsys.readouterr().err
        assert not (tmp_path / 'one.py').exists()


class TestInstalled:
    """Without a checkout the metadata brings README and LICENSE."""

    @pytest.fixture
    def site(self, tmp_path: pathlib.Path) -> pathlib.Path:
        shutil.copytree(
            pathlib.Path(__main__.__file__).parent,
            tmp_path / 'portalocker',
            ignore=shutil.ignore_patterns('__pycache__'),
        )
        folder = tmp_path / 'portalocker-7.8.dist-info'
        (folder / 'licenses').mkdir(parents=True)
        (folder / 'METADATA').write_text(
            'Metadata-Version: 2.4\nName: portalocker\nVersion: 7.8\n\n'
            'The long description.\n'
        )
        (folder / 'licenses' / 'LICENSE').write_text('The terms.\n')
        (folder / 'RECORD').write_text(
            f'{folder.name}/METADATA,,\n{folder.name}/licenses/LICENSE,,\n'
        )
        return tmp_path

    def run(
        self, site: pathlib.Path, *words: str
    ) -> subprocess.CompletedProcess[str]:
        program = (
            f'import sys; sys.path.insert(0, {str(site)!r}); '
            'import portalocker.__main__ as m; m.main(sys.argv[1:])'
        )
        return subprocess.run(
            [sys.executable, '-I', '-c', program, *words],
            capture_output=True,
            text=True,
            check=False,
        )

    def test_combine_works(self, site: pathlib.Path) -> None:
        output = site / 'out' / 'one.py'
        done = self.run(site, 'combine', '-o', str(output))
        assert done.returncode == 0, done.stderr
        text = output.read_text()
        assert 'The long description.' in text
        assert 'The terms.' in text
        assert "__version__ = '7.8'" in text.replace('"', "'")

    def test_version_is_printed(self, site: pathlib.Path) -> None:
        assert self.run(site, '--version').stdout == 'portalocker 7.8\n'


class TestCommandLine:
    def test_no_command_prints_help_and_fails(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            __main__.main([])
        assert caught.value.code == 2
        printed = capsys.readouterr()
        assert 'combine' in printed.err
        assert not printed.out

    def test_unknown_command_fails(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            __main__.main(['no-such-command'])
        assert caught.value.code == 2
        assert 'no-such-command' in capsys.readouterr().err

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        __main__.main(['--version'])
        version = __about__.get_version()
        assert capsys.readouterr().out == f'portalocker {version}\n'

    @pytest.mark.parametrize('word', ['run', 'who', 'combine'])
    def test_every_command_has_help(
        self, word: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            __main__.main([word, '--help'])
        assert caught.value.code == 0
        assert f'portalocker {word}' in capsys.readouterr().out
