"""OnceFlag: one call runs, the others wait for it."""

from __future__ import annotations

from _thread import get_ident

from . import _lot
from ._shapes import Uncopied, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    P = ParamSpec('P')


class OnceFlag(Uncopied):
    """What is done once is done by one thread, while the others wait.

    CPython's name: _PyOnceFlag.

    _is_done | _runner | meaning
    no       | 0       | not run, or the last run failed
    no       | ident   | that thread runs fn
    yes      | 0       | done, for ever

    >>> flag = OnceFlag()
    >>> flag.do(print, 'hello')
    hello
    True
    >>> flag.do(print, 'hello')
    False
    """

    __slots__ = ('__weakref__', '_generation', '_is_done', '_runner')

    def __init__(self) -> None:
        self._is_done = False
        self._runner = 0
        # The process, counted in forks, in which _runner began
        self._generation = 0

    def done(self) -> bool:
        """Whether a call has succeeded."""
        return self._is_done

    def do(
        self,
        fn: Callable[P, object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> bool:
        """Call `fn` unless a call has succeeded; whether this one did.

        Waits while another thread runs its function. If that one raises, its
        caller sees the exception, and one of those who wait runs its own
        function. RuntimeError if fn itself comes back here.
        """
        if self._is_done:
            return False
        if not self._become_runner():
            return False
        succeeded = False
        try:
            fn(*args, **kwargs)
            succeeded = True
        finally:
            self._finish(succeeded)
        return True

    def _become_runner(self) -> bool:
        me = get_ident()
        while not self._is_done:
            with _lot.guard:
                _lot.refuse_callbacks()
                runner = self._holder()
                if runner == me:
                    raise RuntimeError(
                        'cannot run fn: this OnceFlag is already running in '
                        'this thread'
                    )
                if not self._is_done and not runner:
                    self._runner = me
                    self._generation = _lot.generation
                    return True
            _lot.wait(_lot.Waiter(self), self._may_wait, -1)
        return False

    def _finish(self, succeeded: bool) -> None:
        with _lot.guard:
            self._is_done = succeeded
            self._runner = 0
            _lot.wake_all(self)

    def _may_wait(self) -> bool:
        return not self._is_done and self._holder() != 0

    def _holder(self) -> int:
        """Who runs fn: nobody, if a fork has left that thread behind."""
        if (
            self._generation == _lot.generation
            or self._runner == _lot.survivor
        ):
            return self._runner
        return 0

    def _at_fork_reinit(self) -> None:
        """Forget a run that a forked child will never see end."""
        self._runner = 0

    def __repr__(self) -> str:
        claim = 'running' if self._holder() else 'not run'
        claim = 'done' if self._is_done else claim
        return f'<{name_of(self)} at {id(self):#x}: {claim}>'
