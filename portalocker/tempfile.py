"""Temporary files and directories that nobody can guess, steal, lose or leak.

It takes the place of the standard library's module of that name, on every
Python and system with the behaviour of the newest one:

>>> from portalocker import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     with tempfile.NamedTemporaryFile('w+', dir=folder) as file:
...         file.write('only we can find it')
19

What is different, and what more there is (`TemporaryDirectory(lock=True)`,
`pin`), is said in docs/reference/tempfile.rst.
"""

# Every name that is not public begins with an underscore: users list the
# names of this module, and what they rebind is read when it is needed.
from __future__ import annotations as _annotations

import errno as _errno
import io as _io
import os as _os
import sys as _sys
from _thread import allocate_lock as _allocate_lock
from _warnings import warn as _warn

from . import _after_fork, _tree_removal
from ._owned_directory import DirectoryCleaner as _DirectoryCleaner
from ._owned_file import (
    GenericAlias as _GenericAlias,
)
from ._owned_file import (
    _TemporaryFileCloser as _TemporaryFileCloser,
)
from ._owned_file import (
    _TemporaryFileWrapper as _TemporaryFileWrapper,
)
from ._owned_file import (
    buffered as _buffered,
)
from ._spooling import SpooledFile as _SpooledFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, AnyStr, Self

__all__ = [
    'TMP_MAX',
    'NamedTemporaryFile',
    'SpooledTemporaryFile',
    'TemporaryDirectory',
    'TemporaryFile',
    'gettempdir',
    'gettempdirb',
    'gettempprefix',
    'gettempprefixb',
    'mkdtemp',
    'mkstemp',
    'mktemp',
    'tempdir',
]

_IS_WINDOWS = _os.name == 'nt'

_text_openflags = (
    _os.O_RDWR | _os.O_CREAT | _os.O_EXCL | getattr(_os, 'O_NOFOLLOW', 0)
)
_bin_openflags = _text_openflags | getattr(_os, 'O_BINARY', 0)
# without O_EXCL, so that the file can be given a name later
_nameless_openflags = _os.O_RDWR | getattr(_os, 'O_TMPFILE', 0)
_directory_openflags = getattr(_os, 'O_DIRECTORY', 0) | getattr(
    _os, 'O_PATH', _os.O_RDONLY
)
_O_TMPFILE_WORKS = hasattr(_os, 'O_TMPFILE')

#: how many names are tried. Names are random: more than a few that exist
#: mean that something else is wrong
TMP_MAX = 20 if _IS_WINDOWS else 10_000

#: how names begin
template = 'tmp'

#: the directory of all that is not told another one; None: not yet chosen
tempdir: str | bytes | None = None

_once_lock = _allocate_lock()
_name_sequence: _RandomNameSequence | None = None
_io_open = _io.open


def _in_child() -> None:
    global _once_lock
    _once_lock = _allocate_lock()  # a thread of the parent may have had it


if hasattr(_os, 'register_at_fork'):
    _os.register_at_fork(after_in_child=_in_child)


class _RandomNameSequence:
    """Endless names from the system's random source, 40 bits each."""

    characters = 'abcdefghijklmnopqrstuvwxyz012345'
    _letters = (characters * 8).encode()  # any byte -> a letter
    _places = tuple(slice(n, n + 8) for n in range(0, 8 * 64, 8))

    def __init__(self) -> None:
        self._ready: list[str] = []
        _after_fork.forget_in_child(self)

    def _forget_parent(self) -> None:
        self._ready.clear()

    def __iter__(self) -> _RandomNameSequence:
        return self

    def __next__(self) -> str:
        try:
            return self._ready.pop()
        except IndexError:
            return self._next_of_many()

    def _next_of_many(self) -> str:
        letters = _os.urandom(8 * 64).translate(self._letters).decode('ascii')
        first, *others = map(letters.__getitem__, self._places)
        self._ready += others
        return first

    @property
    def rng(self) -> Any:
        """The system's random source as an object of module `random`."""
        from random import SystemRandom

        return SystemRandom()


def _get_candidate_names() -> Iterator[str]:
    global _name_sequence
    if _name_sequence is None:
        with _once_lock:
            if _name_sequence is None:
                _name_sequence = _RandomNameSequence()
    return _name_sequence


# -- the directory for temporary files --


def _candidate_tempdir_list() -> list[str]:
    candidates = [
        directory
        for name in ('TMPDIR', 'TEMP', 'TMP')
        if (directory := _os.getenv(name))
    ]
    if _IS_WINDOWS:
        candidates += [
            _os.path.expanduser(r'~\AppData\Local\Temp'),
            _os.path.expandvars(r'%SYSTEMROOT%\Temp'),
            r'c:\temp',
            r'c:\tmp',
            r'\temp',
            r'\tmp',
        ]
    else:
        candidates += ['/tmp', '/var/tmp', '/usr/tmp']  # noqa: S108
    try:
        candidates.append(_os.getcwd())
    except (AttributeError, OSError):
        candidates.append(_os.curdir)
    return candidates


def _get_default_tempdir(dirlist: Iterable[str] | None = None) -> str:
    """Return the first directory that can be written; warn of bad choices."""
    failures: dict[str, OSError] = {}
    for candidate in _candidate_tempdir_list() if dirlist is None else dirlist:
        directory = (
            candidate
            if candidate == _os.curdir
            else _os.path.abspath(candidate)
        )
        try:
            _try_to_write(directory)
        except OSError as error:
            failures.setdefault(candidate, error)
            continue
        _warn_of_replacement(failures, directory)
        return directory
    text = ', '.join(
        f'{candidate!r} ({error.strerror or error})'
        for candidate, error in failures.items()
    )
    raise FileNotFoundError(
        _errno.ENOENT, f'No usable temporary directory found in {text}'
    )


def _try_to_write(directory: str) -> None:
    names = _RandomNameSequence()
    attempt = 0
    while True:
        path = _os.path.join(directory, next(names))
        try:
            fd = _os.open(path, _bin_openflags, 0o600)
            break
        except OSError as error:
            attempt += 1
            _check_collision(error, directory, attempt)
    try:
        try:
            _os.write(fd, b'portalocker')
        finally:
            _os.close(fd)
    finally:
        try:
            _os.unlink(path)
        except OSError as error:
            error.strerror = f'{error.strerror}, {path!r} is left behind'
            raise


def _warn_of_replacement(failures: dict[str, OSError], chosen: str) -> None:
    for name in ('TMPDIR', 'TEMP', 'TMP'):
        configured = _os.getenv(name)
        if configured in failures:
            error = failures[configured]
            _warn_caller(
                f'cannot use {name}={configured!r}: '
                f'{error.strerror or error}; using {chosen!r}'
            )
            return


def _warn_caller(message: str) -> None:
    from . import _warning

    _warning.warn_caller(message, RuntimeWarning, globals())


def _gettempdir() -> str | bytes:
    global tempdir
    if tempdir is None:
        with _once_lock:
            if tempdir is None:
                tempdir = _get_default_tempdir()
    return tempdir


def gettempdir() -> str:
    """Return the directory for temporary files, which is chosen once.

    It is `tempdir` where that was set; else the first that can be written of
    TMPDIR, TEMP, TMP from the environment, the system's own directories and
    the current one. A configured directory that cannot be used is told by a
    RuntimeWarning. Raises FileNotFoundError where none can be written.
    """
    return _os.fsdecode(_gettempdir())


def gettempdirb() -> bytes:
    """Return the same as `gettempdir`, as bytes."""
    return _os.fsencode(_gettempdir())


def gettempprefix() -> str:
    """Return how names of temporary files begin, without a directory."""
    return _os.fsdecode(template)


def gettempprefixb() -> bytes:
    """Return the same as `gettempprefix`, as bytes."""
    return _os.fsencode(template)


# -- files and directories with a new name --


def _infer_return_type(*args: Any) -> type:
    """Return str or bytes, as all arguments are that are not None."""
    return_type: type | None = None
    for arg in args:
        if arg is None:
            continue
        if isinstance(arg, _os.PathLike):
            arg = _os.fspath(arg)
        kind = bytes if isinstance(arg, bytes) else str
        if return_type is not None and return_type is not kind:
            raise TypeError(
                'cannot mix bytes and str in the parts of a temporary name'
            )
        return_type = kind
    if return_type is None:
        return str if tempdir is None or isinstance(tempdir, str) else bytes
    return return_type


def _sanitize_params(
    prefix: Any, suffix: Any, dir: Any
) -> tuple[Any, Any, Any, type]:
    if (
        prefix is None
        and suffix is None
        and dir is None
        and type(tempdir) is str
    ):
        return template, '', tempdir, str
    output_type = _infer_return_type(prefix, suffix, dir)
    if suffix is None:
        suffix = output_type()
    if prefix is None:
        prefix = gettempprefix() if output_type is str else gettempprefixb()
    if dir is None:
        dir = gettempdir() if output_type is str else gettempdirb()
    return prefix, suffix, dir, output_type


# (dir, prefix) as given, and where their names begin
_known_head: tuple[Any, Any, Any] = (None, None, None)


def _head(dir: Any, prefix: Any) -> Any:
    """Return the absolute path of all names in `dir` up to the random part."""
    global _known_head
    absolute = _os.path.abspath(dir)
    head = _os.path.join(absolute, prefix)
    if absolute == dir:  # it depends on no current directory
        _known_head = dir, prefix, head
    return head


def _check_collision(error: OSError, dir: Any, attempt: int) -> None:
    """Raise the error unless another name is worth a try."""
    if not isinstance(error, FileExistsError) and not (
        # there, creating a file over a directory is refused as not permitted
        _IS_WINDOWS
        and isinstance(error, PermissionError)
        and _os.path.isdir(dir)
    ):
        raise error
    if attempt >= TMP_MAX:
        if isinstance(error, PermissionError):
            raise error
        raise FileExistsError(
            _errno.EEXIST, 'No usable temporary file name found', dir
        ) from error


def _mkstemp_inner(
    dir: Any, pre: Any, suf: Any, flags: int, output_type: type
) -> tuple[int, Any]:
    """Create a file of a new name; return descriptor and absolute path."""
    known_dir, known_prefix, head = _known_head
    if dir is not known_dir or pre is not known_prefix:
        head = _head(dir, pre)
    names = _get_candidate_names()
    attempt = 0
    while True:
        name: Any = next(names)
        if output_type is bytes:
            name = _os.fsencode(name)
        file = head + name + suf
        _sys.audit('tempfile.mkstemp', file)
        try:
            return _os.open(file, flags, 0o600), file
        except OSError as error:
            attempt += 1
            _check_collision(error, dir, attempt)


def mkstemp(
    suffix: AnyStr | None = None,
    prefix: AnyStr | None = None,
    dir: Any = None,
    text: bool = False,
) -> tuple[int, AnyStr]:
    """Create a file of a new name; return its descriptor and absolute path.

    Only the user can read and write it, no other process inherits the
    descriptor, and no other file was opened by mistake: symbolic links and
    existing files are passed over. Whoever calls it closes the descriptor and
    removes the file.

    The name is `prefix`, eight random letters, `suffix`, in directory `dir`.
    All three are str or all are bytes, and so is the path. Raises what the
    system says about `dir`, and FileExistsError after `TMP_MAX` names.

    >>> import os
    >>> fd, path = mkstemp('.log')
    >>> os.close(fd)
    >>> os.unlink(path)
    """
    prefix, suffix, dir, output_type = _sanitize_params(prefix, suffix, dir)
    flags = _text_openflags if text else _bin_openflags
    return _mkstemp_inner(dir, prefix, suffix, flags, output_type)


def mkdtemp(
    suffix: AnyStr | None = None,
    prefix: AnyStr | None = None,
    dir: Any = None,
) -> AnyStr:
    """Make a directory of a new name that only the user can enter.

    The path is absolute. Whoever calls it removes the directory. Parameters
    and errors are those of `mkstemp`.

    >>> import os
    >>> os.rmdir(mkdtemp())
    """
    prefix, suffix, dir, output_type = _sanitize_params(prefix, suffix, dir)
    path: AnyStr
    path, _ = _make_directory(dir, prefix, suffix, output_type)
    return path


def _make_directory(
    dir: Any,
    prefix: Any,
    suffix: Any,
    output_type: type,
    make: Callable[[Any], int] | None = None,
) -> tuple[Any, Any]:
    """Make a directory of a new name; return the path, and what `make` did."""
    known_dir, known_prefix, head = _known_head
    if dir is not known_dir or prefix is not known_prefix:
        head = _head(dir, prefix)
    names = _get_candidate_names()
    attempt = 0
    while True:
        name: Any = next(names)
        if output_type is bytes:
            name = _os.fsencode(name)
        path = head + name + suffix
        _sys.audit('tempfile.mkdtemp', path)
        try:
            if make is not None:
                return path, make(path)
            _os.mkdir(path, 0o700)
            return path, None
        except OSError as error:
            attempt += 1
            _check_collision(error, dir, attempt)


def _exists(path: Any) -> bool:
    try:
        _os.lstat(path)
    except OSError:
        return False
    return True


def mktemp(
    suffix: str = '', prefix: str = template, dir: str | None = None
) -> str:
    """Return a path that nothing had when it was looked for.

    Somebody else may take it before you do: use `mkstemp` wherever you can.
    """
    if dir is None:
        dir = gettempdir()
    names = _get_candidate_names()
    for _ in range(TMP_MAX):
        path = _os.path.join(dir, prefix + next(names) + suffix)
        if not _exists(path):
            return path
    raise FileExistsError(
        _errno.EEXIST, 'No usable temporary file name found', dir
    )


# -- files that are removed when they are closed --


def _is_usual(
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> bool:
    """Whether `io.open` would do nothing but what `_buffered` does."""
    return (
        mode == 'w+b'
        and buffering == -1
        and encoding is errors is newline is None
        and _io.open is _io_open
    )


def _name_raw(file: Any, name: Any) -> None:
    raw = getattr(file, 'buffer', file)
    raw = getattr(raw, 'raw', raw)
    raw.name = name


def _remove_after(error: BaseException, path: Any) -> None:
    """Remove a file that could not be given to the caller."""
    try:
        _os.unlink(path)
    except OSError as second:
        error.add_note(f'{path!r} is left behind: {second.strerror}')


class _NewFile:
    """A file that gets its name when it is opened."""

    __slots__ = ('name', 'where')

    def __init__(self, *where: Any) -> None:
        self.where = where
        self.name: Any = None

    def open(self, *_: object) -> int:
        """Open it as `io.open` wants it."""
        fd, self.name = _mkstemp_inner(*self.where)
        return fd

    def unopened(self, delete: bool, delete_on_close: bool) -> Any:
        """Return an object that has not asked for a file object yet."""
        fd = self.open()
        try:
            return _TemporaryFileWrapper(
                None, self.name, delete, delete_on_close, fd
            )
        except BaseException:
            _os.close(fd)
            raise


def NamedTemporaryFile(
    mode: str = 'w+b',
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    delete: bool = True,
    *,
    errors: str | None = None,
    delete_on_close: bool = True,
) -> Any:
    """Create a file with a name and open it; it is removed when closed.

    `file.name` is its absolute path. With `delete_on_close` off the file
    stays when it is closed, so that others can open it, and is removed at the
    end of the `with` block; with `delete` off it stays for ever. In any case
    a file that nobody has any more is closed. The other parameters are those
    of `open` and of `mkstemp`.

    The file stays if another one was put in its place, and a child that was
    forked meanwhile does not remove it. What is killed leaves it behind: put
    it into a `TemporaryDirectory(lock=True)` where that matters.

    >>> with NamedTemporaryFile('w+') as file:
    ...     file.write('text')
    4
    """
    prefix, suffix, dir, output_type = _sanitize_params(prefix, suffix, dir)
    flags = _bin_openflags
    if _sys.platform == 'win32' and delete and delete_on_close:
        flags |= getattr(_os, 'O_TEMPORARY', 0)
    new = _NewFile(dir, prefix, suffix, flags, output_type)
    try:
        if _is_usual(mode, buffering, encoding, errors, newline):
            return new.unopened(delete, delete_on_close)
        if 'b' not in mode:
            encoding = _io.text_encoding(encoding)
        file = _io.open(
            dir, mode, buffering, encoding, errors, newline, opener=new.open
        )
        try:
            _name_raw(file, new.name)
            return _TemporaryFileWrapper(
                file, new.name, delete, delete_on_close
            )
        except BaseException:
            file.close()
            raise
    except BaseException as error:
        if new.name is not None and flags == _bin_openflags:
            _remove_after(error, new.name)
        raise


def _open_nameless(dir: Any) -> int | None:
    """Return a descriptor of a file without a name; None: cannot here."""
    global _O_TMPFILE_WORKS
    try:
        return _os.open(dir, _nameless_openflags, 0o600)
    except IsADirectoryError:  # an old kernel took it for a directory's mode
        _O_TMPFILE_WORKS = False
    except OSError:
        pass  # a file system without them; or mkstemp will tell
    return None


def _open_unlinked(prefix: Any, suffix: Any, dir: Any, kind: type) -> int:
    """Return a descriptor of a file that has lost its name."""
    fd, name = _mkstemp_inner(dir, prefix, suffix, _bin_openflags, kind)
    try:
        _os.unlink(name)
    except BaseException:
        _os.close(fd)
        raise
    return fd


def TemporaryFile(
    mode: str = 'w+b',
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    *,
    errors: str | None = None,
) -> Any:
    """Open a file that has no name; it vanishes with its last descriptor.

    Nothing leaves it behind, not even SIGKILL. On Linux it never had a name
    where the file system can do that, and can still be given one by linking
    `/proc/self/fd/N`. Parameters are those of `open` and of `mkstemp`.

    >>> with TemporaryFile() as file:
    ...     file.write(b'bytes')
    5
    """
    prefix, suffix, dir, output_type = _sanitize_params(prefix, suffix, dir)
    if _is_usual(mode, buffering, encoding, errors, newline):
        new_fd = _open_nameless(dir) if _O_TMPFILE_WORKS else None
        if new_fd is not None:
            return _buffered(new_fd)
    new_fd = None

    def opener(*_: object) -> int:
        nonlocal new_fd
        if _O_TMPFILE_WORKS:
            new_fd = _open_nameless(dir)
        if new_fd is None:
            new_fd = _open_unlinked(prefix, suffix, dir, output_type)
        return new_fd

    if 'b' not in mode:
        encoding = _io.text_encoding(encoding)
    file = _io.open(
        dir, mode, buffering, encoding, errors, newline, opener=opener
    )
    _name_raw(file, new_fd)
    return file


if _os.name != 'posix' or _sys.platform == 'cygwin':
    # there, no file can lose its name while it is open
    TemporaryFile = NamedTemporaryFile


# -- files in memory until they grow --


class SpooledTemporaryFile(_SpooledFile):
    """A file that is in memory until it has more than `max_size` bytes.

    Then, or when `fileno` or `rollover` is called, it moves to a
    `TemporaryFile` with the other parameters; with `max_size` 0 it moves for
    the last two alone. If that fails (the disk is full), the error is
    raised, the file stays in memory as it was before the call, and all of its
    methods go on working.

    >>> with SpooledTemporaryFile(max_size=1000) as file:
    ...     file.write(b'bytes')
    5
    """

    def _open_file(self) -> Any:
        return TemporaryFile(**self._TemporaryFileArgs)


# -- directories that are removed with all that is in them --


def _make_living_directory(
    suffix: Any, prefix: Any, dir: Any, lock: Any, *, marked: bool
) -> tuple[Any, int]:
    """Make a directory as `mkdtemp` does, and hold it."""
    if lock not in {True, 'shared'}:
        raise ValueError(
            f'cannot lock a directory with lock={lock!r}: it is True, '
            "'shared' or False"
        )
    from . import _living_directory as living

    if prefix is None:
        prefix = living.PREFIX
        if _infer_return_type(suffix, dir) is bytes:
            prefix = _os.fsencode(prefix)
    prefix, suffix, dir, output_type = _sanitize_params(prefix, suffix, dir)

    def make(path: Any) -> Any:
        return living.make(path, shared=lock == 'shared', marked=marked)

    return _make_directory(dir, prefix, suffix, output_type, make)


class TemporaryDirectory:
    """A directory that is removed with all that is in it.

    `name` is its absolute path, and what `with` gives. It is removed at the
    end of the `with` block, by `cleanup`, when nobody has the object any
    more, or at the end of the process; with `delete` off, by `cleanup` alone.
    Removal follows no link, repairs permissions, and removes everything that
    can be removed before it raises the first error, with the others as its
    notes; `ignore_cleanup_errors` keeps it silent. A child that was forked
    meanwhile never removes its parent's directory, not even by `cleanup`.

    `lock=True` holds an exclusive lock on the directory itself while the
    object lives, `lock='shared'` one that others can join with `pin`; `fd` is
    the descriptor that holds it. Programs that remove what is old
    (systemd-tmpfiles) pass over it, and what a killed process leaves can be
    told from what is in use. Forked children, and others that are given the
    descriptor, keep the directory alive too. Raises AlreadyLocked or OSError
    where directories cannot be locked, as on NFS.

    The other parameters are those of `mkdtemp`.

    >>> import os
    >>> with TemporaryDirectory(lock=True) as folder:
    ...     os.listdir(folder)
    []
    """

    def __init__(
        self,
        suffix: Any = None,
        prefix: Any = None,
        dir: Any = None,
        ignore_cleanup_errors: bool = False,
        *,
        delete: bool = True,
        lock: Any = False,
    ) -> None:
        fd = None
        if lock is False:
            self.name = mkdtemp(suffix, prefix, dir)
        else:
            self.name, fd = _make_living_directory(
                suffix, prefix, dir, lock, marked=delete
            )
        self._finalizer = _DirectoryCleaner(
            type(self), self.name, fd, ignore_cleanup_errors, delete
        )

    @property
    def fd(self) -> int | None:
        """The descriptor that holds the lock; None: there is no lock."""
        return self._finalizer.fd

    def cleanup(self) -> None:
        """Remove the directory with all that is in it, if it exists.

        Raises the first of the errors, with the others in its notes, after
        all was removed that can be; nothing with `ignore_cleanup_errors`.
        """
        self._finalizer.remove()

    def keep(self) -> Any:
        """Let the directory stay for ever, unlocked; return its path."""
        self._finalizer.release('keep', lambda: None)
        return self.name

    def persist(self, dst: Any, *, replace: bool = False) -> str:
        """Let the directory stay under the name `dst`; return that path.

        It is one step, inside one file system. What has the name already
        is never replaced (FileExistsError), unless `replace` is asked for;
        then what was there is removed, as `atomic.replace_directory` says.
        Where it fails, the directory is as temporary as before.
        """
        target = _os.path.abspath(_os.fsdecode(dst))
        source = _os.fsdecode(self.name)
        move = _replace_directory if replace else _rename_to_new_name
        self._finalizer.release('persist', lambda: move(source, target))
        self.name = target
        return target

    @classmethod
    def _rmtree(
        cls, name: Any, ignore_errors: bool = False, repeated: bool = False
    ) -> None:
        errors = _tree_removal.remove_tree(name)
        if not ignore_errors:
            _tree_removal.raise_first(errors)

    @classmethod
    def _cleanup(
        cls,
        name: Any,
        warn_message: str,
        ignore_errors: bool = False,
        delete: bool = True,
    ) -> None:
        if delete:
            cls._rmtree(name, ignore_errors)
            _warn(warn_message, ResourceWarning)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name!r}>'

    def __enter__(self) -> Any:
        return self.name

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._finalizer.delete:
            self._finalizer.remove()
        else:
            self._finalizer.let_go()

    __class_getitem__: Any = classmethod(_GenericAlias)


def _rename_to_new_name(source: str, target: str) -> None:
    """Rename a directory; of several to one name, one wins."""
    if _sys.platform == 'win32':
        _os.rename(source, target)
        return
    from . import _publication_renaming

    old_place, old_name = _os.path.split(source)
    new_place, new_name = _os.path.split(target)
    old_fd = _os.open(old_place, _directory_openflags)
    try:
        new_fd = _os.open(new_place, _directory_openflags)
        try:
            _publication_renaming.rename_to_new_name(
                old_fd, old_name, new_fd, new_name
            )
        except OSError as error:
            error.filename, error.filename2 = source, target
            raise
        finally:
            _os.close(new_fd)
    finally:
        _os.close(old_fd)


def _replace_directory(source: str, target: str) -> None:
    from . import atomic

    atomic.replace_directory(source, target, durable=False)


class _Pin:
    """Holds a directory, so that nobody takes it for old or abandoned.

    `pin(path)` takes a shared lock on the directory itself, at once, which
    any number of processes may have, until `close`, the end of the `with`
    block, or the end of the process and of the children that it forks. The
    programs that remove what is old (systemd-tmpfiles, `reapers.reap`) pass
    over the directory meanwhile; what is in it can be changed as before.

    `fd` is the descriptor that holds the lock. Raises AlreadyLocked where it
    is held exclusively (`TemporaryDirectory(lock=True)`, a reaper that
    removes it), and FileNotFoundError where it is gone.

    >>> import os
    >>> from portalocker.tempfile import pin
    >>> with TemporaryDirectory() as folder, pin(folder) as pinned:
    ...     os.fstat(pinned.fd).st_ino == os.stat(folder).st_ino
    True
    """

    fd = -1

    def __init__(self, path: Any) -> None:
        from . import _living_directory

        self._path = _os.fspath(path)
        self.fd = _living_directory.hold(self._path, shared=True)

    def close(self) -> None:
        """Let the directory go."""
        from . import _living_directory

        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            _living_directory.let_go(self._path, fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, close: Callable[[int], None] = _os.close) -> None:
        if self.fd >= 0:
            close(self.fd)


def __getattr__(name: str) -> Any:
    # what the standard library's module does not have is not in its listing
    if name == 'pin':
        return _Pin
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


del TYPE_CHECKING
