"""A file at a path, as what has to be opened and locked."""

from __future__ import annotations

from . import _opening, constants, exceptions, portalocker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from . import types


class FileDoor:
    """How a lock file is named, opened and locked.

    The options may be assigned while nothing is held: they count from the
    next `acquire()` on. Raises `LockException` otherwise.
    """

    #: whether the file is emptied once it is locked
    truncate: bool
    #: whether a shared lock lets in first whoever waits for an exclusive one
    _gives_way = False

    def _lead_to(
        self,
        filename: types.Filename,
        mode: str,
        flags: constants.LockFlags,
        file_open_kwargs: dict[str, Any],
    ) -> None:
        """All options, of a lock that is being made."""
        self._filename = _opening.path_text(filename)
        self._path = _opening.absolute_path(self._filename)
        self.truncate = 'w' in mode
        self._open_mode = mode
        self._flags = flags
        self._file_open_kwargs = file_open_kwargs

    def _work_out(self) -> None:
        """What each attempt needs of the options."""
        flags = int(self._flags)
        # What one attempt asks for: it never waits in the system
        self._is_blocking = not flags & constants.LOCK_NB
        self._attempt_flags = self._flags
        if self._is_blocking:
            self._attempt_flags = (
                self._flags | constants.LockFlags.NON_BLOCKING
            )
        self._is_shared = bool(flags & constants.LOCK_SH)
        self._open_kwargs = self._file_open_kwargs
        if 'w' in self._open_mode:
            # Only the holder may truncate: open the file as it is
            opener = _opening.intact_opener(self._open_kwargs.get('opener'))
            self._open_kwargs = {**self._open_kwargs, 'opener': opener}

    def _is_in_use(self) -> bool:
        """Whether something is held that the options belong to."""
        raise NotImplementedError

    def _change(self, option: str, **fields: Any) -> None:
        if self._is_in_use():
            raise exceptions.LockException(
                f'cannot change the {option} of the lock on {self._path!r}: '
                'it is held'
            )
        before = {name: getattr(self, name) for name in fields}
        self.__dict__.update(fields)
        try:
            self._work_out()
        except BaseException:
            self.__dict__.update(before)
            raise

    @property
    def filename(self) -> str:
        """The path, as it was given."""
        return self._filename

    @filename.setter
    def filename(self, filename: types.Filename) -> None:
        text = _opening.path_text(filename)
        path = _opening.absolute_path(text)
        self._change('filename', _filename=text, _path=path)

    @property
    def mode(self) -> str:
        """As for `open()`; 'a' where 'w' was given, since nothing is lost."""
        return self._open_mode.replace('w', 'a')

    @mode.setter
    def mode(self, mode: str) -> None:
        self._change('mode', _open_mode=mode, truncate='w' in mode)

    @property
    def flags(self) -> constants.LockFlags:
        """How the lock is taken."""
        return self._flags

    @flags.setter
    def flags(self, flags: constants.LockFlags) -> None:
        self._change('flags', _flags=flags)

    @property
    def file_open_kwargs(self) -> dict[str, Any]:
        """What `open()` gets besides path and mode."""
        return self._file_open_kwargs

    @file_open_kwargs.setter
    def file_open_kwargs(self, file_open_kwargs: dict[str, Any]) -> None:
        self._change('file_open_kwargs', _file_open_kwargs=file_open_kwargs)

    def _get_fh(self) -> IO[Any]:
        """Open the file."""
        if self._open_kwargs:
            return open(self._path, self._open_mode, **self._open_kwargs)
        return open(self._path, self._open_mode)

    def _get_lock(self, fh: IO[Any]) -> IO[Any]:
        """Try to lock the open file, without waiting."""
        try:
            portalocker.lock(fh, self._attempt_flags)
        except (exceptions.LockException, RuntimeError, TypeError):
            raise
        except Exception as error:  # whatever LOCKER raises
            if portalocker.uses_ours():  # a signal handler did
                raise
            raise exceptions.LockException(error) from error
        return fh

    def _prepare_fh(self, fh: IO[Any]) -> IO[Any]:
        """Make the locked file ready for its holder."""
        if self.truncate:
            fh.seek(0)
            fh.truncate(0)
        return fh
