"""A token for each thread."""

from __future__ import annotations

import gc
import threading
import weakref

from portalocker import _claimant


def token_of_another_thread() -> _claimant.Claimant:
    tokens: list[_claimant.Claimant] = []
    thread = threading.Thread(
        target=lambda: tokens.append(_claimant.current_claimant())
    )
    thread.start()
    thread.join()
    return tokens.pop()


def test_a_thread_keeps_its_token() -> None:
    assert _claimant.current_claimant() is _claimant.current_claimant()


def test_threads_have_different_tokens() -> None:
    first, second = token_of_another_thread(), token_of_another_thread()
    assert first is not second
    assert _claimant.current_claimant() not in (first, second)


def test_a_token_goes_with_its_thread() -> None:
    reference = weakref.ref(token_of_another_thread())
    gc.collect()
    assert reference() is None
