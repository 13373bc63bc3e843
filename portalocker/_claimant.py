"""Who holds, inside one process: a token for each thread.

Thread numbers are used again for new threads; a token never is, as long as
anybody keeps it.
"""

from __future__ import annotations

import _thread

_local = _thread._local()


class Claimant:
    """One thread, as the holder of a lock."""

    __slots__ = ('__weakref__',)


def current_claimant() -> Claimant:
    """The token of the calling thread."""
    try:
        token: Claimant = _local.token
    except AttributeError:
        token = _local.token = Claimant()
    return token
