"""Write beside, sync, then appear under the real name in one step."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys

from . import (
    _after_fork,
    _publication_attributes,
    _publication_directory,
    _publication_draft,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import (
        Any,
        Generic,
        Literal,
        TypeAlias,
        TypedDict,
        TypeVar,
        Unpack,
        overload,
    )

    from ._publication_draft import Draft

    AnyPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

    class Options(TypedDict, total=False):
        overwrite: bool
        mode: int | None
        durable: str | bool
        preserve: Iterable[str]
        follow_symlinks: bool
        make_parents: bool

    class TextOptions(Options, total=False):
        encoding: str | None
        errors: str | None
        newline: str | None

    HandleT = TypeVar('HandleT', bound=io.IOBase)

    class _WriterOf(Generic[HandleT]):
        """What can be subscripted with the type of its file."""

else:

    class _WriterOf:
        """What can be subscripted with the type of its file."""

        __class_getitem__ = classmethod(type(list[int]))

    HandleT = None


_ALL_KINDS = _publication_attributes.KINDS_OF_ATTRIBUTES
_ALL_BITS = 0o177777  # as `st_mode` has them, with the kind of file
# whoever closes the handle leaves us the descriptor
_CLOSES_DESCRIPTOR = False
_PROBE_FLAGS = (
    os.O_WRONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)
_OLD_FILE_FLAGS = (
    os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)


class open_atomic(_WriterOf[HandleT]):  # noqa: N801 - as `open` is
    """Write a file that appears whole under its name, or not at all.

    A context manager that gives the file to write to; leaving the block
    publishes what was written, an exception discards it. Readers never see
    half a file.

    `binary`
        whether bytes are written; else text, with `encoding`, `errors` and
        `newline` as for `open()`.
    `overwrite`
        replace a file that exists, keeping its `preserve` ('mode', 'owner',
        'xattr'). Without it a file that exists, or that another process
        creates meanwhile, is never touched.
    `mode`
        permission bits of the file; the default is what `open()` gives.
    `durable`
        what survives a power failure when the block is left: 'file' (the
        default) its content, 'data' the same without time stamps, 'full'
        also its name; False leaves it to the system.
    `follow_symlinks`
        whether a symbolic link is written through, as by `open()`.
    `make_parents`
        whether missing directories are created.

    It does not wait for locks. Raises `DestinationExists` on entry and on
    leaving, and `OSError` where the system refuses; an error while publishing
    names the file that still has the content. See
    docs/explanation/atomic_writing.rst.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'result.txt')
    >>> with open_atomic(path, binary=False) as file:
    ...     file.write('all of it')
    9
    >>> with open(path) as file:
    ...     file.read()
    'all of it'
    """

    # not None exactly while entered and not yet published or discarded
    _draft: Draft | None = None
    # the file that will be replaced, as it was found
    _found: os.stat_result | None = None
    _handle: Any

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: open_atomic[io.BufferedWriter],
            filename: AnyPath,
            binary: Literal[True] = True,
            **options: Unpack[Options],
        ) -> None: ...
        @overload
        def __init__(
            self: open_atomic[io.TextIOWrapper],
            filename: AnyPath,
            binary: Literal[False],
            **options: Unpack[TextOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: open_atomic[Any],
            filename: AnyPath,
            binary: bool = True,
            **options: Unpack[TextOptions],
        ) -> None: ...

    def __init__(
        self,
        filename: AnyPath,
        binary: bool = True,
        *,
        overwrite: bool = False,
        mode: int | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        durable: str | bool = 'file',
        preserve: Iterable[str] = _ALL_KINDS,
        follow_symlinks: bool = True,
        make_parents: bool = True,
    ) -> None:
        self.filename: str = (
            filename if type(filename) is str else os.fsdecode(filename)
        )
        self.binary = binary
        self.overwrite = overwrite
        self.mode = mode
        self.durable = durable
        self.preserve: Iterable[str] = preserve
        self.follow_symlinks = follow_symlinks
        self.make_parents = make_parents
        if not binary or encoding or errors or newline is not None:
            self._choose_encoding(encoding, errors, newline)
        if not (durable == 'file' and preserve is _ALL_KINDS and mode is None):
            self._check_arguments()

    def _choose_encoding(self, *encoding: str | None) -> None:
        if self.binary:
            raise ValueError(
                'a binary file takes no encoding, errors or newline'
            )
        self._encoding = encoding

    def _check_arguments(self) -> None:
        _publication_draft.check_durability(self.durable)
        self.preserve = tuple(self.preserve)
        for kind in self.preserve:
            if kind not in _ALL_KINDS:
                raise ValueError(
                    f'preserve must name some of {_ALL_KINDS}, not {kind!r}'
                )
        if self.mode is not None:
            _check_mode(self.mode)

    def __enter__(self) -> HandleT:
        if self._draft is not None:
            raise RuntimeError(
                f'cannot write {self.filename!r}: already entered'
            )
        parent, self._name = _split(self.filename)
        if not self._name:
            code = errno.EISDIR if parent else errno.ENOENT
            raise OSError(code, os.strerror(code), self.filename)
        try:
            draft = _publication_draft.Draft(parent)
        except FileNotFoundError:
            draft = self._anchored(parent)
        try:
            if self.overwrite or not draft.is_free(self._name):
                draft = self._check_destination(draft)
                self._refuse_irreplaceable(draft)
            # while it is written, the old file's secrets stay as closed
            is_private = self._found is not None and 'mode' in self.preserve
            fd = draft.open(
                0o600 if is_private or self.mode is not None else 0o666
            )
        except BaseException as error:
            draft.discard()
            if isinstance(error, OSError):
                error.filename = self.filename
            raise
        try:
            self._raw = io.FileIO(fd, 'wb', _CLOSES_DESCRIPTOR)
            self._handle = io.BufferedWriter(self._raw)
            if not self.binary:
                self._encode()
        except BaseException:
            draft.discard()
            raise
        self._fork_count = _after_fork.fork_count
        self._draft = draft
        return self._handle  # type: ignore[no-any-return]

    def _encode(self) -> None:
        encoding, errors, newline = self._encoding
        self._handle = io.TextIOWrapper(
            self._handle, io.text_encoding(encoding), errors, newline
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        draft = self._draft
        if (
            kind is not None
            or draft is None
            or self._fork_count != _after_fork.fork_count
        ):
            self.discard()
            return
        try:
            self._publish(draft)
        finally:
            self._draft = None
            self._raw.close()  # whoever detached it keeps no descriptor
            draft.discard()

    def __del__(self) -> None:
        if self._draft is not None:
            self.discard()

    def discard(self) -> None:
        """Give up what was written; leaving the block publishes nothing."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        if self._fork_count != _after_fork.fork_count:
            draft.disown()
        try:
            self._close_handle()
        finally:
            draft.discard()

    def _close_handle(self) -> None:
        try:
            self._handle.close()
        except (OSError, ValueError):
            # full disk, detached: what is not written is not wanted; but the
            # number of the descriptor will soon be somebody else's
            self._raw.close()

    def _anchored(self, path: str) -> Draft:
        """Open the directory, making it where it is missing."""
        try:
            return _publication_draft.Draft(path)
        except FileNotFoundError:
            if not self.make_parents:
                raise
        _publication_directory.make_directories(
            path, is_synced=self.durable == 'full'
        )
        return _publication_draft.Draft(path)

    def _check_destination(self, draft: Draft) -> Draft:
        """Find the file to be replaced; refuse what must not be."""
        self._found = None
        found = draft.status(self._name)
        if found is None:
            return draft
        if not self.overwrite:
            raise _destination_exists(self.filename)
        if stat.S_ISLNK(found.st_mode):
            if not self.follow_symlinks:
                return draft
            parent, self._name = _split(os.path.realpath(self.filename))
            target = self._anchored(parent)
            draft.discard()
            draft = target
            found = draft.status(self._name)
        self._found = found
        return draft

    def _refuse_irreplaceable(self, draft: Draft) -> None:
        """A rename would replace what we may not write, or not open."""
        found = self._found
        if found is None:
            return
        _refuse_irregular(found, self.filename)
        if sys.platform == 'win32':
            if not found.st_mode & stat.S_IWRITE:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        try:
            os.close(draft.open_name(self._name, _PROBE_FLAGS))
        except OSError as error:
            # a program that runs: all but its content may be replaced
            if error.errno != errno.ETXTBSY:
                raise

    def _publish(self, draft: Draft) -> None:
        """Bring all of it to the disk, then let it appear."""
        try:
            self._handle.close()
            if self.overwrite or self.mode is not None:
                self._give_attributes(draft)
            if self.durable is not False:
                _publication_draft.sync_file(draft.fd, self.durable)
        except OSError as error:
            error.filename = self.filename
            raise
        try:
            if self.overwrite:
                draft.replace(self._name)
            else:
                draft.appear_as(self._name)
        except FileExistsError as error:
            exists = _destination_exists(self.filename)
            self._keep(draft, exists)
            raise exists from error
        except OSError as error:
            self._keep(draft, error)
            raise
        if self.durable == 'full':
            self._sync_directory(draft)

    def _give_attributes(self, draft: Draft) -> None:
        try:
            if self.overwrite:
                self._carry_over_from_old(draft)
            if self.mode is not None:
                _change_mode(draft, self.mode)
        except OSError as error:
            self._keep(draft, error)
            raise

    def _carry_over_from_old(self, draft: Draft) -> None:
        """The file may have changed since we entered, or be gone."""
        kinds = set(self.preserve)
        if self.mode is not None:
            kinds.discard('mode')
        old = self._open_old_file(draft) if kinds else None
        try:
            found = self._found if old is None else os.fstat(old)
            if found is not None and stat.S_ISREG(found.st_mode):
                _publication_attributes.carry_attributes_over(
                    old, found, draft.fd, kinds
                )
        finally:
            if old is not None:
                os.close(old)

    def _open_old_file(self, draft: Draft) -> int | None:
        try:
            return draft.open_name(self._name, _OLD_FILE_FLAGS)
        except PermissionError:
            return draft.open_name(self._name, _PROBE_FLAGS)
        except OSError as error:
            # ELOOP: a link that is not to be followed, or appeared since
            if error.errno in {errno.ENOENT, errno.ELOOP}:
                return None
            raise

    def _keep(self, draft: Draft, error: OSError) -> None:
        """Let the error say where the bytes are: `filename2`, and a note."""
        error.filename = self.filename
        try:
            error.filename2 = draft.keep()
        except OSError as failure:
            error.add_note(f'what was written could not be kept: {failure}')
        else:
            error.add_note(f'what was written is kept in {error.filename2!r}')

    def _sync_directory(self, draft: Draft) -> None:
        try:
            draft.sync()
        except OSError as error:
            error.filename = self.filename
            error.add_note(
                f'{self.filename!r} is complete, but its name may not '
                'survive a power failure'
            )
            raise


def _destination_exists(filename: str) -> exceptions.DestinationExists:
    error = exceptions.DestinationExists(
        errno.EEXIST, os.strerror(errno.EEXIST), filename
    )
    error.add_note('overwrite=True replaces what is there')
    return error


def _refuse_irregular(found: os.stat_result, filename: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        code, text = errno.EISDIR, os.strerror(errno.EISDIR)
    elif stat.S_ISLNK(found.st_mode):
        code, text = errno.ELOOP, os.strerror(errno.ELOOP)
    elif not stat.S_ISREG(found.st_mode):
        code, text = errno.EINVAL, 'cannot replace: not a regular file'
    else:
        return
    raise OSError(code, text, filename)


def _split(path: str) -> tuple[str, str]:
    if sys.platform == 'win32':
        return os.path.split(path)
    parent, slash, name = path.rpartition('/')
    return parent or slash, name


def _check_mode(mode: Any) -> None:
    is_number = isinstance(mode, int) and not isinstance(mode, bool)
    if not is_number or not 0 <= mode <= _ALL_BITS:
        kind = ValueError if is_number else TypeError
        raise kind(f'mode must be permission bits such as 0o644, not {mode!r}')


def _change_mode(draft: Draft, mode: int) -> None:
    if hasattr(os, 'fchmod'):
        os.fchmod(draft.fd, mode)
    else:
        assert draft.name is not None
        os.chmod(draft.at(draft.name), mode)


def write_bytes_atomic(
    filename: AnyPath,
    content: bytes | bytearray | memoryview,
    **options: Unpack[Options],
) -> None:
    """Write a whole file of bytes that appears in one step, or not at all.

    The options are those of `open_atomic`; without `overwrite=True` a file
    that exists is never touched. Raises what `open_atomic` raises, and does
    not wait for locks.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'result')
    >>> write_bytes_atomic(path, b'all of it')
    >>> with open(path, 'rb') as file:
    ...     file.read()
    b'all of it'
    """
    with open_atomic(filename, **options) as fh:
        fh.write(content)


def write_text_atomic(
    filename: AnyPath, content: str, **options: Unpack[TextOptions]
) -> None:
    """Write a whole file of text that appears in one step, or not at all.

    The options are those of `open_atomic`; without `overwrite=True` a file
    that exists is never touched. Raises what `open_atomic` raises, and does
    not wait for locks.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'result')
    >>> write_text_atomic(path, 'all of it', encoding='utf-8')
    >>> with open(path, encoding='utf-8') as file:
    ...     file.read()
    'all of it'
    """
    with open_atomic(filename, binary=False, **options) as fh:
        fh.write(content)
