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

from . import _after_fork, _owned_directory, _owned_file
from ._owned_file import (
    _TemporaryFileCloser as _TemporaryFileCloser,
)
from ._owned_file import (
    _TemporaryFileWrapper as _TemporaryFileWrapper,
)
from ._random_names import RandomNameSequence as _RandomNameSequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any, AnyStr, Literal, TypeAlias, overload

    from ._file_shapes import (
        AnyPath,
        BytesPath,
        OpenBinaryMode,
        OpenTextMode,
        StrPath,
    )
    from ._pinning import pin as pin
    from ._spooling import SpooledTemporaryFile as SpooledTemporaryFile

    Lock: TypeAlias = Literal['shared'] | bool
else:
    AnyStr = None

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
# Windows removes such a file when it is closed
_brief_flag = getattr(_os, 'O_TEMPORARY', 0)
# without O_EXCL, so that the file can be given a name later
_nameless_openflags = _os.O_RDWR | getattr(_os, 'O_TMPFILE', 0)
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


def _in_child() -> None:
    global _once_lock
    _once_lock = _allocate_lock()  # a thread of the parent may have had it


if hasattr(_os, 'register_at_fork'):
    _os.register_at_fork(after_in_child=_in_child)


def _get_candidate_names() -> Iterator[str]:
    global _name_sequence
    if _name_sequence is None:
        with _once_lock:
            if _name_sequence is None:
                _name_sequence = _RandomNameSequence()
    return _name_sequence


# -- the directory for temporary files --


def _places() -> Any:
    with _after_fork.late_import:
        from . import _temporary_places as places
    return places


def _candidate_tempdir_list() -> list[str]:
    candidates: list[str] = _places().candidates()
    return candidates


def _get_default_tempdir(dirlist: Iterable[str] | None = None) -> str:
    """Return the first directory that can be written; warn of bad choices."""

    def create(directory: str) -> tuple[int, str]:
        attempt = 0
        while True:
            path = _os.path.join(directory, next(names))
            try:
                return _os.open(path, _bin_openflags, 0o600), path
            except OSError as error:
                attempt += 1
                _check_collision(error, directory, attempt)

    names = _RandomNameSequence()
    if dirlist is None:
        dirlist = _candidate_tempdir_list()
    chosen: str
    chosen, warning = _places().first_usable(dirlist, create)
    if warning:
        with _after_fork.late_import:
            from . import _warning

        _warning.warn_caller(warning, RuntimeWarning, globals())
    return chosen


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
        if not isinstance(arg, (str, bytes)):
            raise TypeError(
                f'cannot make a temporary name of {arg!r}: its parts are '
                f'str, bytes or os.PathLike objects, not {type(arg).__name__}'
            )
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
    suffix = output_type() if suffix is None else _os.fspath(suffix)
    if prefix is None:
        prefix = gettempprefix() if output_type is str else gettempprefixb()
    if dir is None:
        dir = gettempdir() if output_type is str else gettempdirb()
    return prefix, suffix, dir, output_type


# (dir, prefix) as given, and where their names begin
_known_head: tuple[Any, Any, Any] = ((), (), ())


def _head(dir: Any, prefix: Any) -> Any:
    """Return the absolute path of all names in `dir` up to the random part."""
    global _known_head
    known_dir, known_prefix, head = _known_head
    if dir is known_dir and prefix is known_prefix:
        return head
    absolute = _os.path.abspath(dir)
    head = _os.path.join(absolute, prefix)
    # it depends on no current directory
    if absolute == dir and type(head) is str:
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


def _create(
    where: tuple[Any, Any, Any, type],
    event: str,
    make: Callable[[Any], Any],
    attempt: int = 0,
) -> tuple[Any, Any]:
    """Return what `make` makes of the first path that is free, and that."""
    prefix, suffix, dir, output_type = where
    head = _head(dir, prefix)
    names = _get_candidate_names()
    while True:
        name: Any = next(names)
        if output_type is bytes:
            name = _os.fsencode(name)
        path = head + name + suffix
        _sys.audit(event, path)
        try:
            return make(path), path
        except OSError as error:
            attempt += 1
            _check_collision(error, dir, attempt)


def _mkstemp_inner(
    dir: Any,
    pre: Any,
    suf: Any,
    flags: int,
    output_type: type,
    attempt: int = 0,
) -> tuple[int, Any]:
    """Create a file of a new name; return descriptor and absolute path."""

    def make(path: Any) -> int:
        return _os.open(path, flags, 0o600)

    where = (pre, suf, dir, output_type)
    return _create(where, 'tempfile.mkstemp', make, attempt)


def _open_new(
    suffix: Any, prefix: Any, dir: Any, flags: int
) -> tuple[int, Any]:
    """Do what `mkstemp` does."""
    attempt = 0
    if suffix is prefix is dir is None:
        # in one step where all is as it was the last time
        known_dir, known_prefix, head = _known_head
        if tempdir is known_dir and template is known_prefix:
            path = head + _get_candidate_names().__next__()
            _sys.audit('tempfile.mkstemp', path)
            try:
                return _os.open(path, flags, 0o600), path
            except OSError as error:
                attempt = 1
                _check_collision(error, tempdir, attempt)
    prefix, suffix, dir, output_type = _sanitize_params(prefix, suffix, dir)
    return _mkstemp_inner(dir, prefix, suffix, flags, output_type, attempt)


if TYPE_CHECKING:

    @overload
    def mkstemp(  # pyright: ignore[reportOverlappingOverload]
        suffix: str | None = None,
        prefix: str | None = None,
        dir: StrPath | None = None,
        text: bool = False,
    ) -> tuple[int, str]: ...
    @overload
    def mkstemp(
        suffix: bytes | None = None,
        prefix: bytes | None = None,
        dir: BytesPath | None = None,
        text: bool = False,
    ) -> tuple[int, bytes]: ...


def mkstemp(
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    text: bool = False,
) -> tuple[int, Any]:
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
    return _open_new(
        suffix, prefix, dir, _text_openflags if text else _bin_openflags
    )


if TYPE_CHECKING:

    @overload
    def mkdtemp(  # pyright: ignore[reportOverlappingOverload]
        suffix: str | None = None,
        prefix: str | None = None,
        dir: StrPath | None = None,
    ) -> str: ...
    @overload
    def mkdtemp(
        suffix: bytes | None = None,
        prefix: bytes | None = None,
        dir: BytesPath | None = None,
    ) -> bytes: ...


def mkdtemp(suffix: Any = None, prefix: Any = None, dir: Any = None) -> Any:
    """Make a directory of a new name that only the user can enter.

    The path is absolute. Whoever calls it removes the directory. Parameters
    and errors are those of `mkstemp`.

    >>> import os
    >>> os.rmdir(mkdtemp())
    """
    attempt = 0
    if suffix is prefix is dir is None:
        known_dir, known_prefix, head = _known_head
        if tempdir is known_dir and template is known_prefix:
            path = head + _get_candidate_names().__next__()
            _sys.audit('tempfile.mkdtemp', path)
            try:
                _os.mkdir(path, 0o700)
            except OSError as error:
                attempt = 1
                _check_collision(error, tempdir, attempt)
            else:
                return path

    def make(path: Any) -> None:
        _os.mkdir(path, 0o700)

    where = _sanitize_params(prefix, suffix, dir)
    return _create(where, 'tempfile.mkdtemp', make, attempt)[1]


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


if TYPE_CHECKING:

    @overload
    def NamedTemporaryFile(
        mode: OpenTextMode,
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: AnyPath | None = None,
        delete: bool = True,
        *,
        errors: str | None = None,
        delete_on_close: bool = True,
    ) -> _TemporaryFileWrapper[str]: ...
    @overload
    def NamedTemporaryFile(
        mode: OpenBinaryMode = 'w+b',
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: AnyPath | None = None,
        delete: bool = True,
        *,
        errors: str | None = None,
        delete_on_close: bool = True,
    ) -> _TemporaryFileWrapper[bytes]: ...
    @overload
    def NamedTemporaryFile(
        mode: str = 'w+b',
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: AnyPath | None = None,
        delete: bool = True,
        *,
        errors: str | None = None,
        delete_on_close: bool = True,
    ) -> _TemporaryFileWrapper[Any]: ...


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
) -> _TemporaryFileWrapper[Any]:
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
    is_brief = delete and delete_on_close
    flags = _bin_openflags | (_brief_flag if is_brief else 0)
    how = (mode, buffering, encoding, errors, newline)
    if not (
        is_brief
        and how == _owned_file.USUAL
        and _io.open is _owned_file.io_open
    ):
        if 'b' not in mode:
            how = (mode, buffering, _io.text_encoding(encoding), *how[3:])
        where = (suffix, prefix, dir)
        return _open_named(how, where, flags, delete, delete_on_close)
    fd, name = _open_new(suffix, prefix, dir, flags)
    try:
        # nobody has asked for a file object yet
        return _TemporaryFileWrapper(None, name, delete, delete_on_close, fd)
    except BaseException as error:
        _os.close(fd)
        _remove_after(error, name, flags)
        raise


def _open_named(
    how: tuple[str, int, str | None, str | None, str | None],
    where: tuple[Any, Any, Any],
    flags: int,
    delete: bool,
    delete_on_close: bool,
) -> _TemporaryFileWrapper[Any]:
    """Return a file that is open in any manner, and removed at any time."""
    name = None

    def opener(*_: object) -> int:
        nonlocal name
        fd, name = _open_new(*where, flags)
        return fd

    file: Any = None
    try:
        if _owned_file.is_usual(how):
            file = _owned_file.buffered(opener())
        else:
            file = _io.open(_os.curdir, *how, opener=opener)
        _owned_file.name_raw(file, name)
        return _TemporaryFileWrapper(file, name, delete, delete_on_close)
    except BaseException as error:
        if file is not None:
            file.close()
        if name is not None:
            _remove_after(error, name, flags)
        raise


def _remove_after(error: BaseException, name: Any, flags: int) -> None:
    """Remove a file that could not be given to the caller."""
    if flags == _bin_openflags:  # else the system removes it
        _owned_file.remove_after(error, name)


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


if TYPE_CHECKING:

    @overload
    def TemporaryFile(
        mode: OpenTextMode,
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: AnyPath | None = None,
        *,
        errors: str | None = None,
    ) -> IO[str]: ...
    @overload
    def TemporaryFile(
        mode: OpenBinaryMode = 'w+b',
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: AnyPath | None = None,
        *,
        errors: str | None = None,
    ) -> IO[bytes]: ...
    @overload
    def TemporaryFile(
        mode: str = 'w+b',
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: AnyPath | None = None,
        *,
        errors: str | None = None,
    ) -> IO[Any]: ...


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
) -> IO[Any]:
    """Open a file that has no name; it vanishes with its last descriptor.

    Nothing leaves it behind, not even SIGKILL. On Linux it never had a name
    where the file system can do that, and can still be given one by linking
    `/proc/self/fd/N`. Parameters are those of `open` and of `mkstemp`.

    >>> with TemporaryFile() as file:
    ...     file.write(b'bytes')
    5
    """
    if suffix is prefix is dir is None and type(tempdir) is str:
        where: tuple[Any, Any, Any, type] = (template, '', tempdir, str)
    else:
        where = _sanitize_params(prefix, suffix, dir)
    how = (mode, buffering, encoding, errors, newline)
    if (
        _O_TMPFILE_WORKS
        and how == _owned_file.USUAL
        and _io.open is _owned_file.io_open
    ):
        fd = _open_nameless(where[2])
        if fd is not None:
            return _owned_file.buffered(fd)
    if 'b' not in mode:
        how = (mode, buffering, _io.text_encoding(encoding), *how[3:])
    return _open_unnamed(how, where)


def _open_unnamed(
    how: tuple[str, int, str | None, str | None, str | None],
    where: tuple[Any, Any, Any, type],
) -> IO[Any]:
    """Return a file that is open in any manner, on any file system."""
    prefix, suffix, dir, output_type = where
    fd = None

    def opener(*_: object) -> int:
        nonlocal fd
        if _O_TMPFILE_WORKS:
            fd = _open_nameless(dir)
        if fd is None:
            fd = _open_unlinked(prefix, suffix, dir, output_type)
        return fd

    file = _io.open(dir, *how, opener=opener)
    _owned_file.name_raw(file, fd)
    return file


if _os.name != 'posix' or _sys.platform == 'cygwin':
    # there, no file can lose its name while it is open
    TemporaryFile = NamedTemporaryFile


# -- directories that are removed with all that is in them --


class TemporaryDirectory(_owned_directory.OwnedDirectory[AnyStr]):
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

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: TemporaryDirectory[str],
            suffix: str | None = None,
            prefix: str | None = None,
            dir: StrPath | None = None,
            ignore_cleanup_errors: bool = False,
            *,
            delete: bool = True,
            lock: Lock = False,
        ) -> None: ...
        @overload
        def __init__(
            self: TemporaryDirectory[bytes],
            suffix: bytes | None = None,
            prefix: bytes | None = None,
            dir: BytesPath | None = None,
            ignore_cleanup_errors: bool = False,
            *,
            delete: bool = True,
            lock: Lock = False,
        ) -> None: ...

    def __init__(
        self,
        suffix: Any = None,
        prefix: Any = None,
        dir: Any = None,
        ignore_cleanup_errors: bool = False,
        *,
        delete: bool = True,
        lock: Lock = False,
    ) -> None:
        fd = None
        if lock is False:
            name = mkdtemp(suffix, prefix, dir)
        else:
            make, head = self._maker(lock, marked=delete)
            if prefix is None:
                prefix = head
                if _infer_return_type(suffix, dir) is bytes:
                    prefix = _os.fsencode(prefix)
            where = _sanitize_params(prefix, suffix, dir)
            fd, name = _create(where, 'tempfile.mkdtemp', make)
        self.name: AnyStr = name
        try:
            self._finalizer = _owned_directory.DirectoryCleaner(
                type(self), name, fd, ignore_cleanup_errors, delete
            )
        except BaseException:
            _owned_directory.undo(name, fd)
            raise


def _open_spooled(**how: Any) -> Any:
    return TemporaryFile(**how)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == 'SpooledTemporaryFile':
        with _after_fork.late_import:
            from . import _spooling

        _spooling.open_file = _open_spooled
        # another thread may have put something in its place
        return globals().setdefault(name, _spooling.SpooledTemporaryFile)
    # what the standard library's module does not have is not in its listing
    if name == 'pin':
        with _after_fork.late_import:
            from . import _pinning

        return _pinning.pin
    if name in {'_dont_follow_symlinks', '_resetperms'}:
        return getattr(_owned_directory.tree_removal(), name[1:])
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


if not TYPE_CHECKING:
    del AnyStr
del TYPE_CHECKING
