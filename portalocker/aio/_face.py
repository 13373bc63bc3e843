"""A lock for tasks is the face of a blocking half."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from typing import Self

Value = TypeVar('Value')


class OfHalf(Generic[Value]):
    """An attribute that is read and written where the blocking half has it."""

    def __set_name__(self, owner: type[Face], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, lock: None, owner: object) -> Self: ...

    @overload
    def __get__(self, lock: Face, owner: object) -> Value: ...

    def __get__(self, lock: Face | None, owner: object) -> Self | Value:
        if lock is None:
            return self
        return getattr(lock._half, self._name)  # type: ignore[no-any-return]

    def __set__(self, lock: Face, value: Value) -> None:
        setattr(lock._half, self._name, value)


class Face:
    """What tasks see of a lock whose blocking half never waits itself.

    A copy has a half of its own: the same path and options, and no hold.
    """

    _half: Any

    #: what wait counters call it, see `portalocker.wait_counters.enable`
    counter_name: OfHalf[str | None] = OfHalf()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_half': copy.copy(self._half)}
