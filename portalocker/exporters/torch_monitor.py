"""Wait counters of torch.monitor, told of every wait of ours.

They have the names of our counters, so that what reads
`pytorch.filelock.enter` goes on to do so.
"""

from __future__ import annotations

import sys

from .. import wait_counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ['attach', 'detach']


def attach() -> bool:
    """Tell torch.monitor of every wait from now on; whether torch is loaded.

    Torch is never imported here: that takes a second. Where it is not loaded
    yet nothing happens; call it again later.
    """
    monitor = sys.modules.get('torch.monitor')
    if not hasattr(monitor, '_WaitCounter'):
        return False
    wait_counters.remove_sink(_begin)
    wait_counters.add_sink(_begin)
    return True


def detach() -> None:
    """Tell it of no more waits."""
    wait_counters.remove_sink(_begin)


def _begin(name: str) -> Callable[[], object]:
    guard = sys.modules['torch.monitor']._WaitCounter(name).guard()
    guard.__enter__()
    return guard.__exit__  # type: ignore[no-any-return]
