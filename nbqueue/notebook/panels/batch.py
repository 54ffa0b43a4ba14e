"""A batch, as what a panel shows: its counts, its failures, what its jobs print, the buttons that steer it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from nbqueue import errors
from nbqueue.client.batch import Batch
from nbqueue.client.launch import IDLE_TIME
from nbqueue.client.problem import Problem
from nbqueue.notebook.markup import batch as markup
from nbqueue.notebook.markup.parts import esc, notice, output_lines, wrong
from nbqueue.notebook.panels.display import Bundle, outcome_of
from nbqueue.notebook.widgets import Parts
from nbqueue.store.requests.looking import WorkerState
from nbqueue.view.shown import BatchShown
from nbqueue.view.snapshot import Follower, workers_of
from nbqueue.view.words import many

log = logging.getLogger("nbqueue.panel")

_DID = 8.0
"""Seconds for which a panel says what a click did."""

PAUSE, RESUME, CANCEL, RETRY, START = "Pause", "Resume", "Cancel", "Retry failed", "Start a worker"

_TIPS = {
    PAUSE: "Let what runs finish, and start nothing new",
    RESUME: "Go on",
    CANCEL: "Cancel what waits, and stop what runs",
    RETRY: "Run the failed jobs again",
    START: "On this machine, with as many processes as it has CPUs",
}


class BatchContent:
    """The content of a panel that shows a batch.

    Parameters
    ----------
    batch : Batch
    label : str
    expected : int, optional
        How many jobs it will have, where that is known before all are submitted.
    """

    tips = _TIPS

    def __init__(self, batch: Batch, label: str, expected: int | None) -> None:
        self.batch = batch
        self._label = label
        self._expected = expected
        self._is_restartable = batch.session.is_embedded
        self._follower = Follower(batch, label, expected)
        self._shown = self._follower.before(batch.session.now())
        self._is_live = True
        self._gone = ""
        """HTML in the place of a batch that is not there."""
        self._was_there = False
        self._has_failed = False
        self._did = ("", 0.0)
        """What the last click did, and when: it is said for a while, beside what was read after it."""
        self._read_at = 0.0
        """When the batch began to be read that is shown."""

    @property
    def id(self) -> str:
        return self.batch.id

    @property
    def problem(self) -> Problem | None:
        return self._shown.problem

    def caption(self) -> Bundle:
        """The line above the panel, a display of its own."""
        total = f"{many(self._expected, 'job')} · " if self._expected is not None else ""
        variable = "q" if self.batch.session.is_default else "queue"
        html = markup.caption(self._label, self.id, total, variable)
        return {"text/html": html, "text/plain": f"{self._label}: batch {self.id}"}

    def accept(self) -> None:
        """All jobs are submitted: a batch that is not there from now on was deleted."""
        self._was_there = True

    def fail(self) -> None:
        """Its submission raised: it is canceled and ends soon, or was never begun."""
        self._has_failed = True

    def look(self, workers: Sequence[WorkerState] | None, now: float | None) -> bool:
        now, began = self.batch.session.now() if now is None else now, time.monotonic()
        was_there = self._was_there  # now: what is submitted while it looks, it may have missed
        found = self._read(workers, now)
        if found is not None:
            self._shown, self._was_there, self._read_at = found, True, began
        elif was_there:
            words = f"{self._label}: batch {self.id} is not there any more, it was deleted or has expired"
            self._gone = notice(esc(words))
        else:
            self._shown = self._follower.before(now)
        if self._has_failed and self._is_empty:
            self._gone = wrong(f"{self._label}: nothing was submitted")
        self._is_live = not self._gone and self._shown.batch.state not in ("done", "canceled")
        return self._is_live

    def _read(self, workers: Sequence[WorkerState] | None, now: float) -> BatchShown | None:
        try:
            return self._follower.look(workers_of(self.batch.session.store) if workers is None else workers, now)
        except errors.NotFound:  # it was deleted between two looks at it
            return None
        except errors.ServerError as error:
            if not (self._has_failed and self._is_empty):
                raise
            log.warning("batch %s cannot be shown: %s", self.id, error)  # and it ends here
            return self._shown

    @property
    def _is_empty(self) -> bool:
        return self._shown.batch.known.total == 0

    def parts(self, *, is_reloaded: bool, unreachable: str = "") -> Parts:
        did, at = self._did
        shown = replace(
            self._shown,
            did=did if at <= self._read_at and time.monotonic() < at + _DID else "",
            is_reloaded=is_reloaded,
            unreachable=unreachable,
        )
        return Parts(
            head=markup.title(shown),
            above=(
                markup.progress(shown, live=True),
                markup.strip(shown),
                markup.numbers(shown) + markup.now_line(shown) + markup.job_bars(shown),
            ),
            failures=shown.failures,
            below=(self._gone or markup.notices(shown), output_lines(shown.output)),
            buttons=tuple(self._offered()) if self._is_live and not unreachable else (),
        )

    def bundle(self, *, is_left: bool = False) -> Bundle:
        if self._gone:
            html = self._gone
        elif self._is_live:
            words = "the kernel was shut down; its jobs go on" if is_left else "it goes on"
            html = markup.interrupted(self._shown, f"q.batch({self.id!r})", words)
        else:
            html = markup.ended(self._shown, "batch")
        return {"text/html": html, "text/plain": markup.plain(self._shown)}

    def revive(self) -> None:
        self._is_live, self._did = True, ("", 0.0)
        self._follower = Follower(self.batch, self._label)

    def act(self, button: str) -> None:
        did = outcome_of(button, lambda: self._do(button))
        self._did = (did, time.monotonic())

    def _offered(self) -> list[str]:
        """The buttons that make sense now; those that stay longest come last, where they keep their place."""
        batch = self._shown.batch
        offered = []
        if self._shown.problem is not None and self._is_restartable:
            offered.append(START)
        if batch.known.failed and batch.state != "submitting":
            offered.append(RETRY)
        if batch.state == "paused":
            offered.append(RESUME)
        elif batch.state in ("running", "waiting"):
            offered.append(PAUSE)
        return [*offered, CANCEL]

    def _do(self, button: str) -> str:
        if button == CANCEL:
            return f"Canceled {many(self.batch.cancel(), 'job')}."
        if button == PAUSE:
            self.batch.pause()
            return "Paused: what runs goes on to its end."
        if button == RESUME:
            self.batch.resume()
            return "Resumed."
        if button == RETRY:
            n, notes = self.batch.run_again()
            return " ".join([f"Queued {many(n, 'job')} again.", *(f"{note}." for note in notes)])
        workers = self.batch.session.fleet.start(self.batch.origin, None, IDLE_TIME)
        return f"Started {sum(worker.children for worker in workers)} processes on this machine."
