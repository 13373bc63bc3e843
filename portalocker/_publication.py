"""Write beside, sync, then appear under the real name in one step."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys

from . import _publication_attributes, _publication_draft, exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Any

    from ._publication_draft import Anchor, Draft

_DURABILITIES = ('file', 'full', 'data')
_PROBE_FLAGS = (
    os.O_WRONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)
_OLD_FILE_FLAGS = (
    os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)


class AtomicWriter:
    """A file that appears whole, or not at all, when the block is left.

    What the parameters mean is said by `open_atomic`. One object can be
    entered again after it was left, not while it is entered.
    """

    # not None exactly while entered and not yet published or discarded
    _draft: Draft | None = None

    def __init__(
        self,
        filename: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        binary: bool = True,
        *,
        overwrite: bool = False,
        mode: int | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        durable: str | bool = 'file',
        preserve: Iterable[str] = _publication_attributes.KINDS_OF_ATTRIBUTES,
        follow_symlinks: bool = True,
        make_parents: bool = True,
    ) -> None:
        self.filename = os.fsdecode(filename)
        self.binary = bool(binary)
        self.overwrite = overwrite
        self.mode = mode
        self.durable = durable
        self.preserve = tuple(preserve)
        self.follow_symlinks = follow_symlinks
        self.make_parents = make_parents
        self.encoding = encoding
        self.errors = errors
        self.newline = newline
        self._check_arguments()

    def _check_arguments(self) -> None:
        if self.durable is not False and self.durable not in _DURABILITIES:
            raise ValueError(
                "durable must be 'file', 'full', 'data' or False, "
                f'not {self.durable!r}'
            )
        known = _publication_attributes.KINDS_OF_ATTRIBUTES
        for kind in self.preserve:
            if kind not in known:
                raise ValueError(
                    f'preserve must name some of {known}, not {kind!r}'
                )
        if self.mode is not None and not isinstance(self.mode, int):
            raise TypeError(
                'mode must be permission bits such as 0o644, '
                f'not {self.mode!r}'
            )
        if self.binary and (self.encoding, self.errors, self.newline) != (
            None,
            None,
            None,
        ):
            raise ValueError(
                'a binary file takes no encoding, errors or newline'
            )

    def __enter__(self) -> Any:
        if self._draft is not None:
            raise RuntimeError(
                f'cannot write {self.filename!r}: already entered'
            )
        self._anchor, self._name = self._anchored(self.filename)
        try:
            self._found = self._check_destination()
            draft = self._open_draft()
            try:
                self._open_handle(draft.fd)
            except BaseException:
                draft.discard()
                raise
        except BaseException:
            self._anchor.close()
            raise
        self._pid = os.getpid()
        self._draft = draft
        return self._handle

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        draft = self._draft
        if kind is not None or draft is None or os.getpid() != self._pid:
            self.discard()
            return
        try:
            self._publish(draft)
        finally:
            self._draft = None
            self._close(draft)

    def __del__(self) -> None:
        if self._draft is not None:
            self.discard()

    def discard(self) -> None:
        """Give up what was written; leaving the block publishes nothing."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        if os.getpid() != self._pid:
            draft.disown()
        self._close(draft)

    def _close(self, draft: Draft) -> None:
        """Close all; a draft that has not appeared vanishes."""
        try:
            self._handle.close()
        except (OSError, ValueError):
            pass  # full disk, detached: what is not written is not wanted
        finally:
            # the number of the descriptor will soon be somebody else's
            self._raw.close()
            draft.discard()
            self._anchor.close()

    def _anchored(self, path: str) -> tuple[Anchor, str]:
        """Open the directory of `path`; return it with the last name."""
        parent, name = _split(path)
        if not name:
            code = errno.EISDIR if path else errno.ENOENT
            raise OSError(code, os.strerror(code), path)
        try:
            return _publication_draft.Anchor(parent), name
        except FileNotFoundError:
            if not self.make_parents:
                raise
        _make_directories(parent, is_synced=self.durable == 'full')
        return _publication_draft.Anchor(parent), name

    def _check_destination(self) -> os.stat_result | None:
        """Return the status of the file to be replaced, if there is one."""
        found = self._anchor.status(self._name)
        if found is None:
            return None
        if not self.overwrite:
            raise _destination_exists(self.filename)
        if stat.S_ISLNK(found.st_mode):
            if not self.follow_symlinks:
                return None
            found = self._follow_link()
        if found is not None:
            _refuse_irregular(found, self.filename)
            self._refuse_read_only(found)
        return found

    def _follow_link(self) -> os.stat_result | None:
        target = os.path.realpath(self.filename)
        anchor, name = self._anchored(target)
        self._anchor.close()
        self._anchor, self._name = anchor, name
        return anchor.status(name)

    def _refuse_read_only(self, found: os.stat_result) -> None:
        """A rename would replace what we may not write."""
        try:
            if sys.platform == 'win32':
                if not found.st_mode & stat.S_IWRITE:
                    raise PermissionError(
                        errno.EACCES, os.strerror(errno.EACCES)
                    )
                return
            os.close(self._anchor.open(self._name, _PROBE_FLAGS))
        except OSError as error:
            # a program that runs: all but its content may be replaced
            if error.errno != errno.ETXTBSY:
                error.filename = self.filename
                raise

    def _open_draft(self) -> Draft:
        # while it is written, the old file's secrets stay as closed
        is_private = self.mode is not None or (
            self._found is not None and 'mode' in self.preserve
        )
        try:
            return _publication_draft.open_draft(
                self._anchor, 0o600 if is_private else 0o666
            )
        except OSError as error:
            error.filename = self.filename
            raise

    def _open_handle(self, fd: int) -> None:
        # closefd: whoever closes the handle leaves us the descriptor
        self._raw = io.FileIO(fd, 'wb', closefd=False)
        self._handle: Any = io.BufferedWriter(self._raw)
        if not self.binary:
            self._handle = io.TextIOWrapper(
                self._handle,
                io.text_encoding(self.encoding),
                self.errors,
                self.newline,
            )

    def _publish(self, draft: Draft) -> None:
        try:
            self._handle.close()
        except OSError as error:
            error.filename = self.filename
            raise
        try:
            if self.overwrite:
                self._carry_over_from_old(draft.fd)
            if self.mode is not None:
                _change_mode(draft, self.mode)
        except OSError as error:
            self._keep(draft, error)
            raise
        try:
            _publication_draft.sync_file(draft.fd, self.durable)
        except OSError as error:
            error.filename = self.filename
            raise
        self._appear(draft)
        if self.durable == 'full':
            self._sync_directory()

    def _appear(self, draft: Draft) -> None:
        try:
            if self.overwrite:
                draft.replace(self._name)
                return
            draft.appear_as(self._name)
        except FileExistsError as error:
            exists = _destination_exists(self.filename)
            self._keep(draft, exists)
            raise exists from error
        except OSError as error:
            self._keep(draft, error)
            raise

    def _carry_over_from_old(self, fd: int) -> None:
        """The file may have changed since we entered, or be gone."""
        kinds = set(self.preserve)
        if self.mode is not None:
            kinds.discard('mode')
        old = self._open_old_file() if kinds else None
        try:
            found = self._found if old is None else os.fstat(old)
            if found is not None and stat.S_ISREG(found.st_mode):
                _publication_attributes.carry_attributes_over(
                    old, found, fd, kinds
                )
        finally:
            if old is not None:
                os.close(old)

    def _open_old_file(self) -> int | None:
        try:
            return self._anchor.open(self._name, _OLD_FILE_FLAGS)
        except PermissionError:
            return self._anchor.open(self._name, _PROBE_FLAGS)
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

    def _sync_directory(self) -> None:
        try:
            self._anchor.sync()
        except OSError as error:
            error.filename = self.filename
            error.add_note(
                f'{self.filename!r} is complete, but its name may not '
                'survive a power failure'
            )
            raise


def _destination_exists(filename: str) -> exceptions.DestinationExists:
    return exceptions.DestinationExists(
        errno.EEXIST, os.strerror(errno.EEXIST), filename
    )


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


def _change_mode(draft: Draft, mode: int) -> None:
    if hasattr(os, 'fchmod'):
        os.fchmod(draft.fd, mode)
    else:
        assert draft.name is not None
        os.chmod(draft.anchor.at(draft.name), mode)


def _make_directories(path: str, *, is_synced: bool) -> None:
    """Make the directories of `path` that are missing, and sync them."""
    path = os.path.join(os.getcwd(), path)
    missing = []
    ancestor = path
    while not os.path.isdir(ancestor):
        missing.append(ancestor)
        ancestor = os.path.dirname(ancestor)
    os.makedirs(path, exist_ok=True)
    if is_synced:
        for made in missing:
            _publication_draft.sync_directory(os.path.dirname(made))


def open_atomic(
    filename: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    binary: bool = True,
    *,
    overwrite: bool = False,
    mode: int | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    durable: str | bool = 'file',
    preserve: Iterable[str] = _publication_attributes.KINDS_OF_ATTRIBUTES,
    follow_symlinks: bool = True,
    make_parents: bool = True,
) -> AtomicWriter:
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
    return AtomicWriter(
        filename,
        binary,
        overwrite=overwrite,
        mode=mode,
        encoding=encoding,
        errors=errors,
        newline=newline,
        durable=durable,
        preserve=preserve,
        follow_symlinks=follow_symlinks,
        make_parents=make_parents,
    )
