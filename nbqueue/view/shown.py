"""A batch or a job as a panel shows it at one moment: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbqueue.client.problem import Problem
from nbqueue.client.results import CANCELED, RECORDED
from nbqueue.store.requests.running import Progress
from nbqueue.view.seen import BatchSeen
from nbqueue.view.words import number, progress_in_words, took

_COLUMNS = 240
"""Columns of a strip at most."""


@dataclass(frozen=True, slots=True)
class FailureShown:
    """Failures that are the same, with one of them as an example."""

    digest: str
    type: str
    message: str
    count: int
    index: int
    call: str
    """The example's call, as code; '' if it is not known (any more)."""
    traceback: str


@dataclass(frozen=True, slots=True)
class RunningShown:
    """A job that runs."""

    index: int
    seconds: float
    """For which it has run."""
    progress: Progress | None = None

    @property
    def words(self) -> str:
        """How far it is: '1,204 of 5,000 · epoch 7 · 1:18 left'; '' if it does not say."""
        progress = self.progress
        return "" if progress is None else progress_in_words(progress, self.seconds)


@dataclass(frozen=True, slots=True)
class BatchShown:
    """A batch as a panel shows it."""

    batch: BatchSeen
    expected: int | None = None
    """How many jobs it will have, while it is being submitted; None if that is not known."""
    workers: int = 0
    children: int = 0
    now: tuple[RunningShown, ...] = ()
    """Jobs that run."""
    behind: str = ""
    """What keeps the workers busy while this waits."""
    launched: int | None = None
    """Children of the worker that was started for it just now; 0 while that starts, None if none was."""
    problem: Problem | None = None
    """Why nobody serves it."""
    unreachable: str = ""
    """Why the server cannot be asked for the moment, in words."""
    did: str = ""
    """What a click did, in words."""
    strip: bytes = b""
    """The state of each column of jobs, in order: positions in `ORDER`."""
    failures: tuple[FailureShown, ...] = ()
    versions: tuple[tuple[str, str, str], ...] = ()
    """Packages of other versions than where it was submitted: name, that version, the workers'."""
    output: tuple[str, ...] = ()
    is_reloaded: bool = False
    """The page was loaded anew: what is written when it ends will not be in the notebook."""

    @property
    def total(self) -> int:
        """The number of jobs that it has, or will have."""
        return max(self.batch.known.total, self.expected or 0)

    @property
    def is_stuck(self) -> bool:
        """Nothing goes on, as far as is known."""
        return self.problem is not None or bool(self.unreachable)

    @property
    def state(self) -> str:
        """'submitting', 'waiting', 'running', 'paused', 'finished', 'failed' or 'canceled'."""
        if self.batch.state != "done":
            return self.batch.state
        counts = self.batch.counts
        return "canceled" if counts["canceled"] else "failed" if counts["failed"] else "finished"

    @property
    def words(self) -> str:
        """Its state, in words."""
        state, counts, known = self.batch.state, self.batch.counts, self.batch.known
        running, waiting, failed = counts["running"], counts["waiting"], counts["failed"]
        if state == "submitting":
            of = f" of {number(self.expected)}" if self.expected is not None else ""
            return f"submitting, {number(known.total)}{of}"
        if known.reason and known.ended_at is None and not waiting:
            return f"canceling, {number(running)} still run"
        if state in ("waiting", "running") and self.batch.waits:
            return "waiting, nobody serves it" if self.is_stuck else self.batch.waits
        if state == "waiting":
            if self.is_stuck:
                return "waiting, nobody serves it"
            return f"waiting behind {self.behind}" if self.behind else "starting" if not waiting else "waiting"
        if state == "paused":
            return "paused, nothing runs" if not running else f"paused, {number(running)} still run"
        if known.ended_at is not None and failed:
            return f"{'canceled' if self.state == 'canceled' else 'finished'}, {number(failed)} failed"
        if state == "running" and self.is_stuck and not running:
            return "waiting, nobody serves it"
        return self.state


STATES = {"deferred": "waiting", "scheduled": "waiting", "queued": "waiting", "started": "running"}
"""What people read of jobs that have not ended."""


@dataclass(frozen=True, slots=True)
class JobShown:
    """A job as a panel shows it."""

    id: str
    label: str
    status: str
    """'deferred', 'scheduled', 'queued', 'started', 'finished', 'failed', 'canceled', or 'gone': it is not there any
    more."""
    running: RunningShown | None = None
    """It runs."""
    does: str = ""
    """What it does while it has not ended, in words; '' for its state."""
    duration: float | None = None
    """Seconds that it took, where that is known."""
    ended_at: float | None = None
    outcome: str = ""
    """What came of it, in words."""
    traceback: str = ""
    problems: tuple[str, ...] = ()
    """What of it did not come back, in words."""

    @property
    def is_live(self) -> bool:
        """True until it has ended."""
        return self.status in STATES

    @property
    def state(self) -> str:
        """'waiting', 'running', 'finished', 'failed', 'canceled' or 'gone'."""
        return STATES.get(self.status, self.status)

    @property
    def words(self) -> str:
        """Its state in words: what it does, or how it ended."""
        if self.is_live:
            return self.does or self.state
        if self.status == "gone":
            return "is not there any more"
        words = self.state
        if self.duration is not None:
            words += f" {'after' if self.status == 'failed' else 'in'} {took(self.duration)}"
        return words + (f", {self.outcome}" if self.outcome else "")


ORDER = ("waiting", "finished", "running", "canceled", "failed")
"""States of jobs, the worst one last: it is the one that a column of several shows."""


def strip_of(total: int, marks: bytes | bytearray, failed: Iterable[int], running: Iterable[int]) -> bytes:
    """The state of each job in order, as columns.

    Parameters
    ----------
    total : int
        How many jobs there are.
    marks : bytes
        What became of the first ones: see `client.results.Marks`.
    failed, running : iterables of int
        Indices; what is marked as anything but recorded has not failed.
    """
    place = {name: position for position, name in enumerate(ORDER)}
    states, known = bytearray(total), marks[:total]
    table = bytearray(256)
    table[RECORDED], table[CANCELED] = place["finished"], place["canceled"]
    states[: len(known)] = known.translate(table)
    for index in running:
        if index < total:
            states[index] = place["running"]
    for index in failed:
        if index < len(known) and known[index] == RECORDED:
            states[index] = place["failed"]
    return columns(states)


def columns(states: Sequence[int]) -> bytes:
    """The states of jobs in order, as those of at most 240 columns: each the worst of its jobs."""
    width = min(len(states), _COLUMNS)
    return bytes(max(states[i * len(states) // width : (i + 1) * len(states) // width]) for i in range(width))
