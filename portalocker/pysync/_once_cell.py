"""OnceCell and @once: a value that is computed once."""

from __future__ import annotations

from functools import update_wrapper
from typing import Generic, TypeVar

from ._core import core
from ._shapes import Uncopied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar('T')


class OnceCell(Uncopied, Generic[T]):
    """A place for a value that one thread computes, while the others wait.

    A computation that raises leaves the cell empty, and the next caller
    tries again.

    >>> cell = OnceCell()
    >>> cell.get(lambda: 6 * 7), cell.get(lambda: 'never called')
    (42, 42)
    """

    __slots__ = ('__weakref__', '_flag', '_value')

    _value: T

    def __init__(self) -> None:
        self._flag = core.OnceFlag()

    def get(self, fn: Callable[[], T], /) -> T:
        """Return the value; `fn()` computes it if nobody has.

        Waits while another thread computes it. RuntimeError if fn itself
        asks for it.
        """
        try:
            return self._value  # set once, and complete from then on
        except AttributeError:
            self._flag.do(self._fill, fn)
            return self._value

    def done(self) -> bool:
        """Whether there is a value."""
        return self._flag.done()

    def _fill(self, fn: Callable[[], T]) -> None:
        self._value = fn()


def once(fn: Callable[[], T], /) -> Callable[[], T]:
    """Decorate a function without parameters: it is called once.

    All callers get the value of that call. See OnceCell for errors.

    >>> @once
    ... def settings():
    ...     print('reading')
    ...     return {'colour': 'green'}
    >>> settings() is settings()
    reading
    True
    """
    cell: OnceCell[T] = OnceCell()

    def get() -> T:
        return cell.get(fn)

    return update_wrapper(get, fn)
