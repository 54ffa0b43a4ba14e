"""Waiting for something about a batch: as long as it takes, without hanging on what can no longer happen."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from nbqueue import errors
from nbqueue.client.bar import Bar, Lines
from nbqueue.client.handle import Progress
from nbqueue.client.session import Session
from nbqueue.client.turns import GivenAway
from nbqueue.store.requests.looking import BatchState
from nbqueue.store.subscription import Watch

T = TypeVar("T")

_LOOK = 2.0
"""Seconds after which a wait reads the state again, whatever it heard."""

_PATIENCE = 0.2
"""Seconds after which a wait first looks whether anybody serves the batch."""


class _Stopped(Exception):
    """Whoever awaited has gone."""


class Waiting:
    """One wait for something about a batch: hears of changes, shows progress, says when nobody serves it.

    Parameters
    ----------
    session : Session
    id : str
        Of the batch.
    timeout : float, optional
        Seconds.
    stop : threading.Event, optional
        Ends the wait when it is set.
    progress : {"auto", "bar", False}
    is_whole : bool
        Nothing but waiting and reading is done until the end of it: a job that waits takes its place only then.
    keeps_place : bool
        A job that waits keeps its place in its worker.
    """

    def __init__(
        self, session: Session, id: str, timeout: float | None, stop: threading.Event | None, progress: Progress,
        *, is_whole: bool = False, keeps_place: bool = False,
    ) -> None:  # fmt: skip
        self._session = session
        self._id = id
        self._timeout = timeout
        self._stop = stop
        self._progress = progress
        self._is_whole = is_whole
        self._place = None if keeps_place else GivenAway(id)

    def __enter__(self) -> Waiting:
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout
        self._watching = self._session.listener.watch(self._id)
        try:
            self.watch: Watch = self._watching.__enter__()
        except BaseException as error:
            self._note(error)
            raise
        self._bar = Bar(self._progress)
        self._lines = Lines(self._progress)
        self._attended_at = time.monotonic() - _LOOK + _PATIENCE
        self._has_warned = False
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._place is not None:
            self._place.end(error)
        self._bar.close()
        self._watching.__exit__(None, None, None)
        self._note(error)

    def _note(self, error: BaseException | None) -> None:
        """Say in an error that ends the wait how to come back."""
        back = f"q.batch({self._id!r})"
        if isinstance(error, KeyboardInterrupt):
            error.add_note(
                f"nbqueue: the jobs of batch {self._id} go on. {back} comes back to them, {back}.cancel() cancels them"
            )
        elif isinstance(error, errors.ServerUnreachable):
            error.add_note(
                f"nbqueue: this says nothing about the jobs of batch {self._id}. When the server can be reached, "
                f"{back} comes back to them"
            )

    def refresh(self) -> BatchState:
        """Read the counts and show them."""
        state = self._session.state(self._id)
        self._bar.show(state)
        return state

    def until(self, look: Callable[[], T | None]) -> T:
        """Look now, after each hint and every two seconds, until there is something."""
        found = self._until(look)
        if self._place is not None and not self._is_whole:
            self._place.end(None)
        return found

    def _until(self, look: Callable[[], T | None]) -> T:
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
                        f"batch {self._id}: not there within {self._timeout:g} seconds; the jobs go on"
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
                self._lines.show(self._session.state(self._id))
            if self._bar.is_wanted:
                self.refresh()
                pause = min(pause, 0.1)
                time.sleep(0.02)
            if self._place is not None:
                self._place.begin()
            self.watch.wait(version, pause)

    def _attend(self) -> None:
        state = self._session.state(self._id)
        if state.done:
            return
        problem = self._session.attend(state)
        if problem is not None and not self._has_warned:
            self._has_warned = True
            warnings.warn(str(problem), errors.NoWorkerWarning, stacklevel=6)


async def in_thread(wait: Callable[[threading.Event], T]) -> T:
    """Wait in a thread, so that the event loop goes on; who is canceled leaves no thread behind."""
    import asyncio  # here, because it takes 13 ms, and who awaits has it

    __tracebackhide__ = True
    stop = threading.Event()
    try:
        return await asyncio.to_thread(wait, stop)
    finally:
        stop.set()
