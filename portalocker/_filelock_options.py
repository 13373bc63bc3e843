"""What a FileLock can be told: checked, kept, per thread where it says so."""

from __future__ import annotations

import _thread
import os
from _weakref import ref

from . import _filelock_opening, _signal_handlers, _warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

    from ._hold import Hold

_INFINITY = float('inf')
_CONTEXT_POLICIES = ('chain', 'group')
_CLOSE_POLICIES = ('default', 'raise', 'suppress')


def seconds(name: str, value: Any) -> float:
    """A number of seconds as a float; `TypeError` for anything else."""
    if type(value) is float:
        return value
    if isinstance(value, (bool, str, bytes)) or not hasattr(
        value, '__float__'
    ):
        raise TypeError(
            f'{name} must be a number of seconds, not {type(value).__name__}'
        )
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f'{name} is too large to be a number of seconds'
        ) from None


def timeout(value: Any, *, blocking: bool = True) -> float:
    """How long to wait; below zero and infinity mean for ever."""
    found = seconds('timeout', value)
    if found != found and blocking:
        raise ValueError('timeout must not be nan')
    return found


def poll_interval(value: Any) -> float:
    """The longest pause between two attempts."""
    found = seconds('poll_interval', value)
    if not 0 <= found < _INFINITY:
        raise ValueError(
            f'poll_interval must be finite and non-negative, not {found}'
        )
    if found > _thread.TIMEOUT_MAX:
        raise ValueError(
            f'poll_interval must be at most {_thread.TIMEOUT_MAX}, not {found}'
        )
    return found


def one_spelling(value: Any, misspelled: Any) -> Any:
    """What was given as `poll_interval`, or as `poll_intervall`."""
    if misspelled is None:
        return value
    _warning.warn_caller(
        'use poll_interval instead of poll_intervall',
        DeprecationWarning,
        globals(),
    )
    return misspelled


def blocking(value: Any) -> bool:
    """Whether to wait at all."""
    if not isinstance(value, bool):
        raise TypeError(f'blocking must be a bool, not {type(value).__name__}')
    return value


def mode(value: Any) -> int | None:
    """Permissions of a file that is created, None where -1 leaves them."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'mode must be an int, not {type(value).__name__}')
    if value == -1:
        return None
    if not 0 <= value <= 0o777:
        raise ValueError(f'mode={value:#o} must be within 0o000-0o777')
    if value & 0o600 != 0o600:
        raise ValueError(
            f'mode={value:#o} must grant the owner read and write'
        )
    return value


def path(value: Any) -> str:
    """The path of a lock file as text."""
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(
            f'lock_file must be a str or os.PathLike[str], not '
            f'{type(text).__name__}'
        )
    return text


def one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    """A word that is known."""
    if value not in known:
        words = ', '.join(map(repr, known[:-1]))
        raise ValueError(
            f'{name} must be {words} or {known[-1]!r}, got {value!r}'
        )
    return value  # type: ignore[no-any-return]


def _as_given(name: str, doc: str) -> Any:
    """A property: what the constructor was given under this name."""
    return property(lambda settings: settings._options[name], doc=doc)


class AsGiven:
    """What a lock was made with, as it was given."""

    # By name; whatever the constructor was given
    _options: dict[str, Any]

    context_error_policy: Any = _as_given(
        'context_error_policy',
        """What a block raises where its body and the release fail.""",
    )
    close_error_policy: Any = _as_given(
        'close_error_policy', """Whether errors of closing the file raise."""
    )
    on_acquired: Any = _as_given(
        'on_acquired', """Called with the descriptor of a lock just taken."""
    )
    lifetime: Any = _as_given('lifetime', """None: a hold does not expire.""")
    fallback_to_soft: Any = _as_given(
        'fallback_to_soft', """False: what locks is never changed."""
    )
    preserve_lock_file: Any = _as_given(
        'preserve_lock_file', """As given; the file is always preserved."""
    )


class Settings(AsGiven):
    """What may be changed after a lock was made, and what may be read.

    Where the lock is thread-local, a change is one of the calling thread.
    """

    # What threads changed, each for itself; None: nothing
    _of_thread: Any
    _openings: Iterable[int]
    _hold: Hold
    _lock_file: str
    _path: str

    def _find_path(self) -> str:
        """Where the file is now; whoever holds through us has pinned it."""
        if self._hold.owner is None:
            self._path = _filelock_opening.absolute(self._lock_file)
        return self._path

    def _set_up(self, lock_file: Any, options: dict[str, Any]) -> None:
        self._lock_file = self._path = path(lock_file)
        may_block = blocking(options['blocking'])
        options['timeout'] = timeout(options['timeout'], blocking=may_block)
        options['poll_interval'] = poll_interval(options['poll_interval'])
        self._mode = mode(options['mode'])
        self._is_relative = not os.path.isabs(self._path)
        self._get_ready()
        one_of(
            'context_error_policy',
            options['context_error_policy'],
            _CONTEXT_POLICIES,
        )
        one_of(
            'close_error_policy',
            options['close_error_policy'],
            _CLOSE_POLICIES,
        )
        if options['lifetime'] is not None:
            self._refuse('lifetime', 'a lock that expires excludes nobody')
        if options['fallback_to_soft']:
            self._refuse(
                'fallback_to_soft',
                'who falls back does not exclude who does not; have all use '
                'SoftFileLock',
            )
        self._options = options
        self._is_thread_local = bool(options['thread_local'])
        self._groups_errors = options['context_error_policy'] == 'group'
        self._raises_close_errors = options['close_error_policy'] == 'raise'
        self._on_acquired = options['on_acquired']
        # What `acquire()` without arguments asks for
        self._may_wait = may_block and options['timeout'] != 0

    def _get_ready(self) -> None:
        """Make what no copy of the lock is to have."""
        # What opens the file, where that is all there is to do
        self._of_thread = None
        self._openings = (
            ()
            if self._is_relative or self._mode is not None
            else _signal_handlers.openings(self._path, _filelock_opening.USUAL)
        )

    def _refuse(self, option: str, why: str) -> NoReturn:
        raise TypeError(
            f'{type(self).__name__} does not support non-default lock '
            f'options: {option} ({why})'
        )

    def _setting(self, name: str) -> Any:
        if self._of_thread is not None:
            found = getattr(self._of_thread, name, None)
            if found is not None:
                return found
        return self._options[name]

    def _change(self, name: str, value: Any) -> None:
        if self._is_thread_local:
            if self._of_thread is None:
                self._of_thread = _thread._local()
            setattr(self._of_thread, name, value)
        else:
            self._options[name] = value
            self._may_wait = (
                self._options['blocking'] and self._options['timeout'] != 0
            )

    @property
    def lock_file(self) -> str:
        """The path of the lock file, as it was given."""
        return self._lock_file

    @property
    def timeout(self) -> float:
        """Seconds to wait: below zero for ever, 0 for one attempt."""
        return self._setting('timeout')  # type: ignore[no-any-return]

    @timeout.setter
    def timeout(self, value: Any) -> None:
        if isinstance(value, str):
            _warning.warn_caller(
                'a timeout is a number of seconds, not a str',
                DeprecationWarning,
                globals(),
            )
            value = float(value)
        self._change('timeout', timeout(value, blocking=self.blocking))

    @property
    def poll_interval(self) -> float:
        """Seconds between two attempts, at most; most waits are woken."""
        return self._setting('poll_interval')  # type: ignore[no-any-return]

    @poll_interval.setter
    def poll_interval(self, value: Any) -> None:
        self._change('poll_interval', poll_interval(value))

    @property
    def blocking(self) -> bool:
        """Whether `acquire()` waits at all."""
        return self._setting('blocking')  # type: ignore[no-any-return]

    @blocking.setter
    def blocking(self, value: Any) -> None:
        self._change('blocking', blocking(value))

    @property
    def mode(self) -> int:
        """Permissions of a new lock file; 0o666 is subject to the umask.

        That is what a lock asks for which was given no mode of its own.
        """
        return 0o666 if self._mode is None else self._mode

    @property
    def has_explicit_mode(self) -> bool:
        """Whether `mode` was given."""
        return self._mode is not None

    @property
    def is_singleton(self) -> bool:
        """Whether all locks of this class on one path are one object."""
        return bool(self._options['is_singleton'])

    def is_thread_local(self) -> bool:
        """Whether settings and releases are those of each thread."""
        return self._is_thread_local


# Guards _singletons
_mutex = _thread.allocate_lock()
_singletons: dict[tuple[type, str], ref[Any]] = {}


class SingletonMeta(type):
    """Makes one object for each path where `is_singleton=True`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not kwargs.get('is_singleton'):
            return made
        return one_for_all(made)


def one_for_all(made: Any) -> Any:
    """The lock of this class and path that there is, else this one.

    Raises `ValueError` where the other one was made with other options.
    """
    key = type(made), _canonical(made.lock_file)
    with _mutex:
        reference = _singletons.get(key)
        known = reference() if reference is not None else None
        if known is None:
            _singletons[key] = ref(made, _forgetter(key))
            return made
    _check_same(known._options, made._options)
    return known


def _forgetter(key: tuple[type, str]) -> Any:
    def forget(gone: object) -> None:
        # Without the mutex: it may run anywhere, and one step is enough
        if _singletons.get(key) is gone:
            _singletons.pop(key, None)

    return forget


def _canonical(lock_file: str) -> str:
    """A path by which all its spellings are known but a final link."""
    directory, name = os.path.split(lock_file)
    return os.path.normcase(os.path.join(os.path.realpath(directory), name))


def _check_same(known: dict[str, Any], given: dict[str, Any]) -> None:
    lines = [
        f'\t{name} (existing lock has {known[name]!r} but {value!r} was '
        'passed)'
        for name, value in given.items()
        if known[name] != value
    ]
    if lines:
        raise ValueError(
            'Singleton lock instances cannot be initialized with differing '
            'arguments\nNon-matching arguments: \n' + '\n'.join(lines)
        )


def _forget_parent() -> None:
    global _mutex
    _mutex = _thread.allocate_lock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_parent)
