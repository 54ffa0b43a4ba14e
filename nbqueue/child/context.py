"""What a job reaches of the process that runs it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbqueue.protocol.page import Page
from nbqueue.store.requests.running import Progress, Shown

if TYPE_CHECKING:
    from nbqueue.child.turn import Turn
    from nbqueue.protocol.descriptors import Descriptors  # a client on Windows has none


class Telling:
    """Tells the worker how far the running job is. Threads may share it."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lock = threading.RLock()
        self._job = (-1, -1)
        self._total: float | None = None
        self._text = ""
        self._says_itself = False
        self._is_telling = False

    def say(self, done: float, total: float | None, text: str | None) -> None:
        """The job says it itself."""
        text = None if text is None else str(text)
        with self._lock:
            if not self._is_telling:
                self._tell(done, total, text, says_itself=True)

    def hear(self, done: float, total: float | None, text: str) -> None:
        """A bar shows it: what the job says itself is worth more. It is passed over where somebody tells something just
        now, which may be this very thread: a bar closes itself when it is collected as garbage."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._is_telling:
                    self._tell(done, total, text, says_itself=False)
            finally:
                self._lock.release()

    def _tell(self, done: float, total: float | None, text: str | None, *, says_itself: bool) -> None:
        self._is_telling = True
        try:
            cells = self._page.cells
            number, index = job = cells[Page.NUMBER], cells[Page.INDEX]
            if index < 0 or not math.isfinite(done) or (self._says_itself and not says_itself and job == self._job):
                return
            if job != self._job or says_itself != self._says_itself:  # what was said of another job, or by a bar
                self._job, self._total, self._text, self._says_itself = job, None, "", says_itself
            if not says_itself or total is not None:
                self._total = total if total is not None and math.isfinite(total) and total > 0 else None
            self._text = self._text if text is None else text
            self._page.say(number, index, Progress(done, self._total, self._text))
        finally:
            self._is_telling = False


@dataclass(frozen=True, slots=True)
class LastWords:
    """What a cell has printed, until it has told the worker: it is found if the process ends before."""

    keep: Callable[[int, bytes], int]
    """Keeps text of a stream (its place in `STREAMS`); returns how many bytes the cell has printed with it."""
    handed_on: Callable[[int], None]
    """So many bytes were told."""


@dataclass(frozen=True, slots=True)
class Running:
    """The child of a worker that runs the present job."""

    show: Callable[[Shown], None]
    """Has Redis keep a Jupyter message for those who look at the job. One thread at a time."""
    stop: type[BaseException]
    """Raised inside a job that shall end."""
    descriptors: Descriptors
    """Where what is written to the descriptors 1 and 2 can be read."""
    progress: Telling
    """Tells the worker how far the job is."""
    last_words: LastWords
    """Where a cell keeps what it is about to show."""
    turn: Turn
    """Its place among the jobs that its worker runs at once."""
    job: Callable[[], Any]
    """The job that runs, see `current.CurrentJob`; None between jobs."""


class _Process:
    """Of this process."""

    running: Running | None = None


def use(running: Running | None) -> None:
    """This process runs jobs from now on, or none any more."""
    _Process.running = running


def running() -> Running | None:
    """The child that this process is; None where no worker started it."""
    return _Process.running
