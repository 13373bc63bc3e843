"""Raise in the middle of our own code, at each step where Python may.

Python runs signal handlers at some of its steps only: at the first step of a
function, when a loop goes back, and when a call of something written in C
returned (its value is lost then, if the handler raises). `Interruption`
raises at the n-th such step inside the package, so that every one can be
tried in turn, and the outcome is the same each time.
"""

from __future__ import annotations

import dis
import pathlib
import sys
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any

import portalocker

_PACKAGE = str(pathlib.Path(portalocker.__file__).parent)
_CALLS = frozenset(('CALL', 'CALL_KW', 'CALL_FUNCTION_EX'))
# Where a function begins, or a generator goes on
_ENTRY = 'RESUME'
_LOOKS = frozenset((_ENTRY, 'JUMP_BACKWARD'))

# code -> offset -> what stands there
_instructions: dict[CodeType, dict[int, dis.Instruction]] = {}


class Handled(Exception):
    """What the handler raises."""


class Interruption:
    """A `with` block in which our code is interrupted at its n-th step.

    `was_raised` tells whether it had so many; `place` where that was.
    """

    def __init__(self, nth: int) -> None:
        self._left = nth
        self.error = Handled(f'step {nth}')
        self.was_raised = False
        self.came_out = False
        self.place = ''
        # Of the frames that run: the instruction before, and what it called
        self._before: dict[FrameType, str] = {}
        self._called: dict[FrameType, str] = {}

    def __enter__(self) -> Interruption:
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.stop()
        self.came_out = error is self.error
        return self.came_out

    def spare(self, action: Callable[[], object]) -> None:
        """Do something that is not to be interrupted."""
        trace, profile = sys.gettrace(), sys.getprofile()
        sys.settrace(None)
        sys.setprofile(None)
        action()
        sys.setprofile(profile)
        sys.settrace(trace)

    def forget(self) -> None:
        """Let go what the error leads to: all that was interrupted."""
        self.error = Handled()

    def stop(self) -> None:
        """From here on nothing is interrupted."""
        sys.settrace(None)
        sys.setprofile(None)
        self._before.clear()
        self._called.clear()

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ('c_return', 'c_exception'):
            self._called[frame] = ''

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_back is not None:
            self._called[frame.f_back] = frame.f_code.co_name
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        self._before[frame] = _ENTRY
        return self._trace_steps

    def _trace_steps(self, frame: FrameType, event: str, _: Any) -> Any:
        if event != 'opcode':
            return self._trace_steps
        now = _instruction(frame)
        before = self._before.get(frame, '')
        called = self._called.pop(frame, '')
        self._before[frame] = now.opname
        # A function in Python returns without a look at signals
        if now.opname != 'PUSH_EXC_INFO' and (
            before in _LOOKS
            or (before in _CALLS and called in ('', '__init__'))
        ):
            self._step(frame, now)
        return self._trace_steps

    def _step(self, frame: FrameType, now: dis.Instruction) -> None:
        self._left -= 1
        if self._left < 0 and not self.was_raised:
            self.was_raised = True
            name = pathlib.Path(frame.f_code.co_filename).name
            self.place = f'{name}:{frame.f_lineno} {frame.f_code.co_name}'
            self.place += f' before {now.opname}'
            raise self.error


def _instruction(frame: FrameType) -> dis.Instruction:
    code = frame.f_code
    if code not in _instructions:
        _instructions[code] = {
            found.offset: found for found in dis.get_instructions(code)
        }
    return _instructions[code][frame.f_lasti]
