"""A job's turn to run: it gives its place away while it waits for other jobs, and takes one again to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nbqueue.protocol.messages import GoesOn, Waits
from nbqueue.protocol.page import Page

_FIRST_LOOK, _LOOK = 0.001, 0.02
"""Seconds between two looks at whether there is a place, at first and later."""

Key = tuple[int, int]
"""Number of the run, and index of the job."""


class Turn:
    """The place that the running job has among those which its worker runs at once. Threads may share it.

    It is away while at least one thread of the job waits: one that waits for another thread, as in an event loop, or
    in a pool of threads, cannot be told from one that works.

    Parameters
    ----------
    page : Page
    tell : callable
        Sends the worker a message.
    """

    def __init__(self, page: Page, tell: Callable[[Waits | GoesOn], None]) -> None:
        self._cells = page.cells
        self._tell = tell
        self._lock = threading.Lock()
        self._key: Key = (-1, -1)
        self._waiting = 0
        """How many threads of this job wait."""
        self._ticket = 0

    def give_away(self, batch: str) -> Key | None:
        """A thread of the job waits for jobs of a batch from now on; returns what `take_back` wants to know."""
        key = self._now()
        if key[1] < 0:
            return None
        with self._lock:
            if key != self._key:
                self._key, self._waiting = key, 0
            self._waiting += 1
            if self._waiting == 1:
                self._tell(Waits(*key, batch))
        return key

    def take_back(self, key: Key | None, *, at_once: bool = False) -> None:
        """It does not wait any more. Blocks until there is a place for its job, unless that is stopped `at_once`."""
        with self._lock:
            if key is None or key != self._key:
                return
            self._waiting -= 1
            if self._waiting or key != self._now():
                return
            self._ticket += 1
            ticket = self._ticket
            self._tell(GoesOn(*key, 0 if at_once else ticket))
        pause = _FIRST_LOOK
        while not at_once and self._wants(key, ticket):
            time.sleep(pause)
            pause = min(2 * pause, _LOOK)

    def _wants(self, key: Key, ticket: int) -> bool:
        """Whether it still waits for its place: another thread may have begun to wait, or the job has ended."""
        is_there = self._cells[Page.PLACE] >= ticket or self._waiting or self._ticket != ticket
        return not is_there and key == self._now()

    def _now(self) -> Key:
        return self._cells[Page.NUMBER], self._cells[Page.INDEX]
