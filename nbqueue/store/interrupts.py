"""A KeyboardInterrupt held back until an answer is read."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` turns numbers into enums and back, which takes 7 us
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@contextlib.contextmanager
def held_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold a KeyboardInterrupt back until the end of the block; the value tells whether one waits.

    Only the main thread receives signals; in any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _never
        return
    former = _signal.getsignal(signal.SIGINT)
    if not callable(former):  # ignored, or not Python's: there is nothing to hold back
        yield _never
        return
    caught: list[Any] = []
    try:
        _signal.signal(signal.SIGINT, lambda number, frame: caught.append(frame))
        yield lambda: bool(caught)
    finally:
        _signal.signal(signal.SIGINT, former)
        if caught:
            former(signal.SIGINT, caught[0])


def _never() -> bool:
    return False
