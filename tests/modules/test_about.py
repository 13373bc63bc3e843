"""The name and the version, and where the version was read."""

from __future__ import annotations

import importlib.metadata
import pathlib
import subprocess
import sys
import tomllib

import pytest

from portalocker import __about__

ROOT = pathlib.Path(__about__.__file__).resolve().parent.parent
PYPROJECT = ROOT / 'pyproject.toml'


def project() -> dict[str, str]:
    table: dict[str, str] = tomllib.loads(PYPROJECT.read_text())['project']
    return table


def run_python(program: str, *paths: pathlib.Path) -> str:
    """What a fresh interpreter prints that sees these folders only."""
    done = subprocess.run(
        [
            *(sys.executable, '-I', '-S', '-c'),
            f'import sys; sys.path[:0] = {list(map(str, paths))}; {program}',
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ('text', 'version'),
    [
        ("[project]\nname = 'a'\nversion = '1.2.3'\n", '1.2.3'),
        ('[project]\nversion = "1.2.3"\n', '1.2.3'),
        ("[project]\nversion='1.2.3'", '1.2.3'),
        ("[project]\n  version  =  '1.2.3'  # the last one\n", '1.2.3'),
        ("  [ project ]  # ours\nversion = '1.2.3'\n", '1.2.3'),
        ("[project]\r\nversion = '1.2.3'\r\n", '1.2.3'),
        ("[tool.x]\nversion = '9'\n[project]\nversion = '1'\n", '1'),
        ("[project]\nversion = '1'\n[tool.x]\nversion = '9'\n", '1'),
        ("[[tool.x]]\nversion = '9'\n[project]\nversion = '1'\n", '1'),
        ("[project]\n# version = '9'\nversion = '1'\n", '1'),
        ("[project]\ntarget-version = '9'\nversion = '1'\n", '1'),
        ("[project]\nkeywords = [\n  'a',\n]\nversion = '1'\n", '1'),
        ("[project]\nname = 'a'\n[tool.x]\nversion = '9'\n", None),
        ("[project.urls]\nversion = '9'\n", None),
        ("[tool.project]\nversion = '9'\n", None),
        ("version = '9'\n", None),
        ("[project]\ndynamic = ['version']\n", None),
        ("[project]\nversion = ''\n", None),
        ('[project]\nversion = 1\n', None),
        ("[project]\nversion = '1\n", None),
        ('', None),
    ],
)
def test_version_is_the_one_of_the_project_table(
    tmp_path: pathlib.Path, text: str, version: str | None
) -> None:
    path = tmp_path / 'pyproject.toml'
    path.write_text(text, encoding='utf-8', newline='')
    assert __about__._read_pyproject_version(path) == version


def test_missing_file_has_no_version(tmp_path: pathlib.Path) -> None:
    assert __about__._read_pyproject_version(tmp_path / 'none.toml') is None


def test_unreadable_file_has_no_version(tmp_path: pathlib.Path) -> None:
    assert __about__._read_pyproject_version(tmp_path) is None


def test_file_that_is_no_text_has_no_version(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'pyproject.toml'
    path.write_bytes(b"[project]\nversion = '1'\n\xff\xfe")
    assert __about__._read_pyproject_version(path) is None


@pytest.mark.skipif(not PYPROJECT.exists(), reason='needs a checkout')
class TestCheckout:
    def test_version_is_that_of_pyproject(self) -> None:
        assert __about__.get_version() == project()['version']
        assert __about__.__version__ == project()['version']

    def test_words_are_those_of_pyproject(self) -> None:
        assert __about__.__package_name__ == project()['name']
        assert __about__.__description__ == project()['description']
        assert __about__.__author__ in str(project()['authors'])


class TestCopies:
    """The package directory at other places than a checkout of ours."""

    @pytest.fixture
    def site(self, tmp_path: pathlib.Path) -> pathlib.Path:
        package = tmp_path / 'portalocker'
        package.mkdir()
        (package / '__init__.py').touch()
        source = pathlib.Path(__about__.__file__).read_text()
        (package / '__about__.py').write_text(source)
        return tmp_path

    ASK = 'import portalocker.__about__ as a; print(a.__version__)'

    def test_installed_package_has_the_version_of_its_metadata(
        self, site: pathlib.Path
    ) -> None:
        metadata = site / 'portalocker-7.8.dist-info' / 'METADATA'
        metadata.parent.mkdir()
        metadata.write_text(
            'Metadata-Version: 2.1\nName: portalocker\nVersion: 7.8\n'
        )
        assert run_python(self.ASK, site) == '7.8'

    def test_pyproject_beside_the_package_comes_first(
        self, site: pathlib.Path
    ) -> None:
        self.test_installed_package_has_the_version_of_its_metadata(site)
        (site / 'pyproject.toml').write_text(
            "[project]\nname = 'portalocker'\nversion = '9'\n"
        )
        assert run_python(self.ASK, site) == '9'

    def test_pyproject_of_somebody_else_is_ignored(
        self, site: pathlib.Path
    ) -> None:
        (site / 'pyproject.toml').write_text(
            "[project]\nname = 'an-application'\nversion = '9'\n"
        )
        assert run_python(self.ASK, site) == __about__.UNKNOWN_VERSION

    def test_bare_copy_does_not_invent_a_version(
        self, site: pathlib.Path
    ) -> None:
        assert run_python(self.ASK, site) == '0+unknown'

    def test_version_is_looked_up_when_it_is_asked_for(
        self, site: pathlib.Path
    ) -> None:
        program = (
            'import portalocker.__about__ as a; '
            "heavy = {'importlib.metadata', 're', 'email'}; "
            'print(heavy & set(sys.modules)); '
            "a.__version__; print('importlib.metadata' in sys.modules)"
        )
        assert run_python(program, site).split('\n') == ['set()', 'True']


def test_version_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vars(__about__).pop('__version__', None)
    asked = []

    def get_version() -> str:
        asked.append('version')
        return '1.0'

    monkeypatch.setattr(__about__, 'get_version', get_version)
    assert (__about__.__version__, __about__.__version__) == ('1.0', '1.0')
    assert asked == ['version']
    del __about__.__version__


def test_stamped_version_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__about__, '_STAMPED_VERSION', '3.3')
    assert __about__.get_version() == '3.3'


def test_distribution_without_metadata_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def not_found(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'version', not_found)
    monkeypatch.setattr(
        __about__, '__file__', str(tmp_path / 'portalocker' / '__about__.py')
    )
    assert __about__.get_version() == __about__.UNKNOWN_VERSION


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match='no_such_name'):
        __about__.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    'name',
    [
        '__author__',
        '__description__',
        '__email__',
        '__package_name__',
        '__url__',
        '__version__',
    ],
)
def test_every_word_says_something(name: str) -> None:
    word = getattr(__about__, name)
    assert isinstance(word, str)
    assert word.isascii()
    assert word
