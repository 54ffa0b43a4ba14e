"""Waiting for something about a batch: as long as it takes, without hanging on what can no longer happen."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from nbqueue import errors
from nbqueue.client.bar import Bar, Lines
from nbqueue.client.display import Progress
from nbqueue.store.requests.looking import BatchState

if TYPE_CHECKING:
    from nbqueue.client.batch import Batch
    from nbqueue.store.subscription import Watch


T = TypeVar("T")

_LOOK = 2.0
"""Seconds after which a wait reads the state again, whatever it heard."""

_PATIENCE = 0.2
"""Seconds after which a wait first looks whether anybody serves the batch."""


class _Stopped(Exception):
    """Whoever awaited has gone."""


class Waiting:
    """One wait for something about a batch: hears of changes, shows progress, says when nobody serves it."""

    def __init__(
        self, batch: Batch, timeout: float | None, stop: threading.Event | None, *, progress: Progress | None = None
    ) -> None:
        self._batch = batch
        self._queue = batch.queue
        self._timeout = timeout
        self._stop = stop
        self._progress = batch._progress if progress is None else progress

    def __enter__(self) -> Waiting:
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout
        self._watching = self._queue.listener.watch(self._batch.id)
        self.watch: Watch = self._watching.__enter__()
        self._bar = Bar(self._progress)
        self._lines = Lines(self._progress)
        self._attended_at = time.monotonic() - _LOOK + _PATIENCE
        self._has_warned = False
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._bar.close()
        self._watching.__exit__(None, None, None)
        if isinstance(error, KeyboardInterrupt):
            error.add_note(
                f"nbqueue: the jobs of batch {self._batch.id} go on. q.batch({self._batch.id!r}) comes back to them, "
                f"q.batch({self._batch.id!r}).cancel() cancels them"
            )
        elif isinstance(error, errors.ServerUnreachable):
            error.add_note(
                f"nbqueue: this says nothing about the jobs of batch {self._batch.id}. When the server can be reached, "
                f"q.batch({self._batch.id!r}) comes back to them"
            )

    def refresh(self) -> BatchState:
        """Read the counts and show them."""
        state = self._batch.state
        self._bar.show(state)
        return state

    def until(self, look: Callable[[], T | None]) -> T:
        """Look now, after each hint and every two seconds, until there is something."""
        while True:
            version = self.watch.version
            found = look()
            if found is not None:
                return found
            now = time.monotonic()
            pause = _LOOK
            if self._deadline is not None:
                pause = min(pause, self._deadline - now)
                if pause <= 0:
                    raise errors.WaitTimeout(
                        f"batch {self._batch.id}: not there within {self._timeout:g} seconds; the jobs go on"
                    )
            if self._stop is not None:
                if self._stop.is_set():
                    raise _Stopped
                pause = min(pause, 0.25)
            if now - self._attended_at >= _LOOK:
                self._attended_at = now
                self._attend()
            pause = min(pause, self._attended_at + _LOOK - now)
            if self._lines.is_due:
                self._lines.show(self._batch.state)
            if self._bar.is_wanted:
                self.refresh()
                pause = min(pause, 0.1)
                time.sleep(0.02)
            self.watch.wait(version, pause)

    def _attend(self) -> None:
        state = self._batch.state
        if state.done:
            return
        problem = self._queue.attend(state)
        if problem and not self._has_warned:
            self._has_warned = True
            warnings.warn(problem, errors.NoWorkerWarning, stacklevel=6)


async def in_thread(wait: Callable[[threading.Event], T]) -> T:
    """Wait in a thread, so that the event loop goes on; who is canceled leaves no thread behind."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(wait, stop)
    finally:
        stop.set()
