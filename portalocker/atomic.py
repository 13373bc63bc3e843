"""What appears whole, is replaced whole, is changed whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys

from . import (
    _living_directory,
    _publication_directory,
    _publication_draft,
    _publication_renaming,
    _tree_removal,
    exceptions,
    portalocker,
    utils,
)
from ._publication import (
    open_atomic,
    write_bytes_atomic,
    write_text_atomic,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias, TypeVar, Unpack, overload

    from ._publication import Options

    Bytes: TypeAlias = bytes | bytearray | memoryview
    BytesT = TypeVar('BytesT', bound=Bytes)

__all__ = [
    'open_atomic',
    'replace_directory',
    'update_atomic',
    'write_bytes_atomic',
    'write_text_atomic',
]

_NO_LINK = getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
# Windows syncs what can be written to
_FILE_FLAGS = (os.O_RDWR if os.name == 'nt' else os.O_RDONLY) | _NO_LINK
_DIRECTORY_FLAGS = os.O_RDONLY | getattr(os, 'O_DIRECTORY', 0) | _NO_LINK
# a directory that only its owner can enter: its sticky bit is our mark
_OTHERS_BITS = stat.S_IRWXG | stat.S_IRWXO
_MARK = _living_directory.MARK
_REPLACEABLE = {stat.S_IFDIR, stat.S_IFLNK}
_TRIES = 100  # somebody else makes and removes what we replace


if TYPE_CHECKING:

    @overload
    def update_atomic(
        filename: str | os.PathLike[str],
        change: Callable[[bytes], BytesT],
        binary: Literal[True] = True,
        *,
        default: bytes | None = None,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> BytesT: ...
    @overload
    def update_atomic(
        filename: str | os.PathLike[str],
        change: Callable[[str], str],
        binary: Literal[False],
        *,
        default: str | None = None,
        timeout: float | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **options: Unpack[Options],
    ) -> str: ...


def update_atomic(
    filename: str | os.PathLike[str],
    change: Callable[[Any], Any],
    binary: bool = True,
    *,
    default: Any = None,
    timeout: float | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **options: Any,
) -> Any:
    """Replace what is in a file by `change(what is in it)`, losing no update.

    Of all that update a file in this way one works at a time, so each sees
    what the one before has made of it, though every one of them replaces the
    file that is locked. Readers need no lock: they see the file before or
    after. Returns what was written.

    `change`
        is called with the content, bytes or, where `binary` is off, text; it
        may be called again where the file had to be made and somebody else
        was faster. An exception of it leaves the file as it was.
    `default`
        what is in a file that does not exist; None: `FileNotFoundError`.
    `timeout`
        seconds to wait for the others; None: `utils.DEFAULT_TIMEOUT`.
    `encoding`, `errors`, `newline`
        of a text, as for `open()`.

    The other options are those of `open_atomic`. Raises `AlreadyLocked` at
    the end of the timeout, and what `open_atomic` raises. The lock is on the
    file itself; on Windows, where a locked file cannot be replaced, and with
    record locks it is on `filename + '.lock'`.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'count')
    >>> update_atomic(path, lambda old: b'%d' % (int(old) + 1), default=b'0')
    b'1'
    >>> update_atomic(path, lambda old: b'%d' % (int(old) + 1))
    b'2'
    """
    text = {'encoding': encoding, 'errors': errors, 'newline': newline}
    update = _Update(
        _publication_directory.anchored(filename),
        change,
        default,
        reading={'mode': 'rb'} if binary else {'mode': 'r', **text},
        writing={'binary': binary, **text, **options},
    )
    return update.carry_out(timeout)


class _Update:
    """One change of one file."""

    def __init__(
        self,
        path: str,
        change: Callable[[Any], Any],
        default: Any,
        reading: dict[str, Any],
        writing: dict[str, Any],
    ) -> None:
        open_atomic(path, overwrite=True, **writing)  # refuses bad options
        self._path = path
        self._change = change
        self._default = default
        self._reading = reading
        self._writing = writing

    def carry_out(self, timeout: float | None) -> Any:
        # to replace a file means to open and close it, which lets go of a
        # record lock of this process
        is_beside = os.name == 'nt' or not portalocker.locks_open_files()
        while True:
            lock = utils.Lock(
                self._path + '.lock' if is_beside else self._path,
                'ab' if is_beside else 'r+b',
                utils.DEFAULT_TIMEOUT if timeout is None else timeout,
                fail_when_locked=False,
            )
            try:
                lock.acquire()
            except FileNotFoundError:
                if self._default is None:
                    raise
            else:
                try:
                    return self._replace()
                finally:
                    lock.release()
            try:
                return self._write(
                    self._change(self._default), overwrite=False
                )
            except exceptions.DestinationExists as error:
                # somebody else was faster: see what we make of that
                if error.filename2 is not None:
                    os.unlink(error.filename2)

    def _replace(self) -> Any:
        try:
            with open(self._path, **self._reading) as fh:
                content = fh.read()
        except FileNotFoundError:
            if self._default is None:
                raise
            content = self._default
        changed = self._change(content)
        if isinstance(changed, str) is not isinstance(content, str):
            raise TypeError(
                f'cannot update {self._path!r}: the function was given '
                f'{type(content).__name__} and returned '
                f'{type(changed).__name__}'
            )
        return self._write(changed, overwrite=True)

    def _write(self, content: Any, *, overwrite: bool) -> Any:
        with open_atomic(
            self._path, overwrite=overwrite, **self._writing
        ) as fh:
            fh.write(content)
        return content


def replace_directory(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    durable: str | bool = 'file',
    allow_gap: bool = False,
) -> str | None:
    """Let a directory appear under a name, in place of the one that is there.

    It is one step: whoever opens `destination` finds the old directory or the
    new one, never none and never a mixture. Both have to be on one file
    system. A symbolic link is replaced itself. The old directory is removed
    with all in it; where somebody has a `flock` on it, it stays under the
    name `source`, marked for `reapers.reap` to remove it later.

    `durable`
        what survives a power failure: 'file' (the default) what is in the
        files and directories of `source`, 'data' the same without time
        stamps, 'full' also the name; False leaves it to the system.
    `allow_gap`
        Linux and macOS can swap two names; elsewhere, and on some network
        file systems, this raises `OSError` (`ENOTSUP`) unless a moment is
        allowed in which `destination` does not exist. Of those that replace
        it in this way one works at a time (not on Windows).

    Returns the path of the old directory where it had to stay, else None. It
    waits for the disk, not for locks; with `allow_gap` up to 2.5 seconds for
    others. Raises `NotADirectoryError` where either is something else, and
    `OSError` where one is in the other or both are one (`EINVAL`), and where
    the system refuses; then `destination` is what it was.

    >>> import os, tempfile
    >>> place = tempfile.mkdtemp()
    >>> for version in ('1', '2'):
    ...     new = os.path.join(place, 'new')
    ...     os.mkdir(new)
    ...     os.mkdir(os.path.join(new, version))
    ...     replace_directory(new, os.path.join(place, 'site'))
    >>> os.listdir(place), os.listdir(os.path.join(place, 'site'))
    (['site'], ['2'])
    """
    _publication_draft.check_durability(durable)
    source, destination = (
        os.path.normpath(_publication_directory.anchored(path))
        for path in (source, destination)
    )
    swap = _Swap(source, destination)
    try:
        swap.prepare(durable)
        has_old = swap.take_place(allow_gap=allow_gap)
        if durable == 'full':
            swap.sync()
        return swap.remove_old() if has_old else None
    finally:
        swap.close()


class _Swap:
    """A directory on its way into the place of another."""

    def __init__(self, source: str, destination: str) -> None:
        self._source = source
        self._destination = destination
        above, self._old_name = os.path.split(source)
        below, self._new_name = os.path.split(destination)
        self._above = _publication_directory.Directory(above)
        try:
            self._place = _publication_directory.Directory(below)
        except BaseException:
            self._above.close()
            raise

    def close(self) -> None:
        """Let go of the directories."""
        try:
            self._above.close()
        finally:
            self._place.close()

    def prepare(self, durable: str | bool) -> None:
        """Refuse what cannot be, and bring all to the disk."""
        found = self._above.status(self._old_name)
        if found is None or not stat.S_ISDIR(found.st_mode):
            code = errno.ENOENT if found is None else errno.ENOTDIR
            raise OSError(code, os.strerror(code), self._source)
        self._refuse_one_in_the_other(found)
        if durable is not False:
            _sync_tree(self._source, durable)
        is_marked = _living_directory.may_be_dead(found)
        if is_marked and not found.st_mode & _OTHERS_BITS:
            # it was to go with its holder, and shall stay
            os.chmod(self._source, stat.S_IMODE(found.st_mode) & ~_MARK)

    def _refuse_one_in_the_other(self, found: os.stat_result) -> None:
        source, destination = (
            os.path.join(os.path.realpath(os.path.dirname(path)), name, '')
            for path, name in (
                (self._source, self._old_name),
                (self._destination, self._new_name),
            )
        )
        there = self._place.status(self._new_name)
        if there is not None and os.path.samestat(there, found):
            cause = 'itself'
        elif source.startswith(destination) or destination.startswith(source):
            cause = 'one that is in it, or the other way round'
        else:
            return
        raise OSError(
            errno.EINVAL,
            f'cannot replace a directory by {cause}',
            self._source,
            None,
            self._destination,
        )

    def take_place(self, *, allow_gap: bool) -> bool:
        """Appear; whether the old one has got our former place."""
        for _ in range(_TRIES):
            found = self._place.status(self._new_name)
            try:
                if found is None:
                    self._move_in()
                    return False
                if stat.S_IFMT(found.st_mode) not in _REPLACEABLE:
                    raise NotADirectoryError(
                        errno.ENOTDIR,
                        os.strerror(errno.ENOTDIR),
                        self._destination,
                    )
                self._change_places(allow_gap=allow_gap)
            except (FileExistsError, FileNotFoundError):
                # it has appeared, or gone, since we looked
                if self._above.status(self._old_name) is None:
                    raise
            else:
                return True
        raise FileExistsError(
            errno.EEXIST, os.strerror(errno.EEXIST), self._destination
        )

    def _move_in(self) -> None:
        above, place = self._above.dir_fd, self._place.dir_fd
        if above is None or place is None:
            os.rename(self._source, self._destination)  # Windows: if free
        else:
            _publication_renaming.rename_to_new_name(
                above, self._old_name, place, self._new_name
            )

    def _change_places(self, *, allow_gap: bool) -> None:
        above, place = self._above.dir_fd, self._place.dir_fd
        try:
            if above is None or place is None:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            _publication_renaming.exchange(
                above, self._old_name, place, self._new_name
            )
        except OSError as error:
            if error.errno not in _publication_renaming.NO_SUCH_RENAME:
                raise
            if not allow_gap:
                raise OSError(
                    errno.ENOTSUP,
                    'cannot swap directories in one step here, and no gap is '
                    'allowed',
                    self._destination,
                ) from error
            if sys.platform == 'win32' or place is None:
                self._change_places_in_steps()
            else:
                with _publication_renaming.DirectoryLock(place):
                    self._change_places_in_steps()

    def _change_places_in_steps(self) -> None:
        aside = f'{self._new_name[:200]}.{os.urandom(8).hex()}.old'
        self._rename(self._place, self._new_name, self._place, aside)
        try:
            self._rename(
                self._above, self._old_name, self._place, self._new_name
            )
        except BaseException:
            self._rename(self._place, aside, self._place, self._new_name)
            raise
        try:
            self._rename(self._place, aside, self._above, self._old_name)
        except OSError as error:
            old = os.path.join(self._place.present_path(), aside)
            error.add_note(
                f'{self._destination!r} was replaced; the old one is {old!r}'
            )
            raise

    def _rename(
        self,
        source: _publication_directory.Directory,
        old: str,
        target: _publication_directory.Directory,
        new: str,
    ) -> None:
        _publication_renaming.insist(
            os.rename,
            source.at(old),
            target.at(new),
            src_dir_fd=source.dir_fd,
            dst_dir_fd=target.dir_fd,
        )

    def sync(self) -> None:
        """Make both names survive a power failure."""
        self._place.sync()
        self._above.sync()

    def remove_old(self) -> str | None:
        """Remove what was replaced; its path where somebody holds it."""
        found = self._above.status(self._old_name)
        if found is None:
            return None
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(
                self._above.at(self._old_name), dir_fd=self._above.dir_fd
            )
            return None
        fd = -1
        try:
            if self._above.dir_fd is not None:
                fd = self._above.open_name(self._old_name, _DIRECTORY_FLAGS)
                _living_directory.mark(fd)
                _living_directory.lock(fd, self._source, shared=False)
        except exceptions.AlreadyLocked:
            os.close(fd)
            return self._source
        except OSError:
            pass  # not ours, or nothing can be locked here
        try:
            errors = _tree_removal.remove_tree(
                self._above.at(self._old_name), self._above.dir_fd
            )
        finally:
            if fd >= 0:
                os.close(fd)
        for error in errors:
            error.add_note(f'{self._destination!r} was replaced all the same')
        _tree_removal.raise_first(errors)
        return None


def _sync_tree(path: str, durable: str | bool) -> None:
    """Bring all files and directories below `path` to the disk."""
    for folder, _, names in os.walk(path, topdown=False, onerror=_raise):
        for name in names:
            _sync_if_regular(os.path.join(folder, name), durable)
        directory = _publication_directory.Directory(folder)
        try:
            directory.sync()
        finally:
            directory.close()


def _raise(error: OSError) -> None:
    raise error


def _sync_if_regular(path: str, durable: str | bool) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    fd = os.open(path, _FILE_FLAGS)
    try:
        _publication_draft.sync_file(fd, durable)
    finally:
        os.close(fd)
