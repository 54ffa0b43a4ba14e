"""What a panel shows of a batch, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from nbqueue.view.seen import BatchSeen
from nbqueue.view.words import number

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
class BatchShown:
    """What a panel shows of a batch at one moment."""

    batch: BatchSeen
    expected: int | None = None
    """How many jobs it will have, while it is being submitted; None if that is not known."""
    workers: int = 0
    children: int = 0
    now: tuple[tuple[int, float], ...] = ()
    """Indices of jobs that run, and for how many seconds."""
    behind: str = ""
    """What keeps the workers busy while this waits."""
    launched: int | None = None
    """Children of the worker that was started for it just now; 0 while that starts, None if none was."""
    problem: str = ""
    """Why nobody serves it, in words."""
    did: str = ""
    """What a click did, in words."""
    strip: bytes = b""
    """The state of each column of jobs, in order: positions in `ORDER`."""
    failures: tuple[FailureShown, ...] = ()
    output: tuple[str, ...] = ()
    is_reloaded: bool = False
    """The page was loaded anew: what is written when it ends will not be in the notebook."""

    @property
    def state(self) -> str:
        """'submitting', 'waiting', 'running', 'paused', 'finished', 'failed' or 'canceled'."""
        if self.batch.state != "done":
            return self.batch.state
        return "canceled" if self.batch.canceled else "failed" if self.batch.failed else "finished"

    @property
    def words(self) -> str:
        """Its state, in words."""
        batch = self.batch
        if batch.state == "submitting":
            of = f" of {number(self.expected)}" if self.expected is not None else ""
            return f"submitting, {number(batch.total)}{of}"
        if batch.reason and batch.ended_at is None and not batch.waiting:
            return f"canceling, {number(batch.running)} still run"
        if batch.state == "waiting":
            if self.problem:
                return "waiting, nobody serves it"
            return f"waiting behind {self.behind}" if self.behind else "starting" if not batch.waiting else "waiting"
        if batch.state == "paused":
            return "paused, nothing runs" if not batch.running else f"paused, {number(batch.running)} still run"
        if batch.ended_at is not None and batch.failed:
            return f"{'canceled' if self.state == 'canceled' else 'finished'}, {number(batch.failed)} failed"
        if batch.state == "running" and self.problem and not batch.running:
            return "waiting, nobody serves it"
        return self.state


ORDER = ("waiting", "finished", "running", "canceled", "failed")
"""States of jobs, the worst one last: it is the one that a column of several shows."""


def columns(states: bytes | bytearray) -> bytes:
    """The states of jobs in order, as those of at most 240 columns: each the worst of its jobs."""
    width = min(len(states), _COLUMNS)
    return bytes(max(states[i * len(states) // width : (i + 1) * len(states) // width]) for i in range(width))
