"""Reading what panels show, again and again: only what may have changed since the last time."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue import errors, machine
from nbqueue.client.problem import Problem
from nbqueue.client.results import Marks
from nbqueue.store.description import Description
from nbqueue.store.reaper import alive_and_dead
from nbqueue.store.requests import looking
from nbqueue.store.requests.looking import BatchState, RunningNow, WorkerState
from nbqueue.store.store import Store
from nbqueue.view.seen import BatchSeen
from nbqueue.view.shown import BatchShown, FailureShown, JobShown, RunningShown, strip_of
from nbqueue.view.words import until, waits_for

if TYPE_CHECKING:
    from nbqueue.client.batch import Batch
    from nbqueue.client.job import Job
    from nbqueue.client.session import Session


GROUPS = 10
"""Groups of failures that a panel shows."""

_ATTEND = 2.0
"""Seconds between two looks at whether anybody serves a batch."""

_PATIENCE = 0.3
"""Seconds after which it is first looked whether anybody does."""

_LAUNCHED = 20.0
"""Seconds for which a panel says that a worker was started."""

_MARKED = 20_000
"""Entries of the list of what ended that are read at a time."""

_LINES = 2
"""Lines of what jobs print that a panel shows."""

_OUTPUT = 1.0
"""Seconds between two looks at them."""

_STRIP = 1.0
"""Seconds between two readings of which jobs failed."""


def workers_of(store: Store) -> list[WorkerState]:
    """The workers of a namespace that are alive, as far as can be seen from here."""
    alive, _ = alive_and_dead(store.call(looking.workers()), machine.identity())
    return alive


class Attendant:
    """Sees to it now and then that somebody serves a batch, and remembers what is wrong.

    Parameters
    ----------
    session : Session
    patience : float
        Seconds until the first look.
    """

    def __init__(self, session: Session, patience: float = 0.0) -> None:
        self._session = session
        self._next = time.monotonic() + patience
        self._problem: Problem | None = None

    def problem(self, read: Callable[[], BatchState]) -> Problem | None:
        """The problem of a batch, which is read if it is time to look; None if there is none."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _ATTEND
            self._problem = self._session.attend(read())
        return self._problem


class Follower:
    """Follows one batch.

    Parameters
    ----------
    batch : Batch
    label : str
    expected : int, optional
        How many jobs it will have, where that is known before all are submitted.
    """

    def __init__(self, batch: Batch, label: str, expected: int | None = None) -> None:
        self._batch = batch
        self._session = batch.session
        self._label = label
        self._expected = expected
        self._attendant = Attendant(batch.session, _PATIENCE)
        self._marks = Marks(batch.session, batch.id)
        self._failed: list[int] = []
        self._failed_at = 0.0
        self._failures: dict[str, FailureShown] = {}
        self._failed_count = -1
        self._behind: tuple[str, str] = ("", "")
        self._output: tuple[str, ...] = ()
        self._output_id = ""
        self._output_at = 0.0

    def look(self, workers: Sequence[WorkerState], now: float) -> BatchShown | None:
        """The batch at this moment; None if it is not there (yet, or any more).

        Parameters
        ----------
        workers : sequence of WorkerState
            Those of the namespace.
        now : float
            By the server's clock.

        Raises
        ------
        ServerError
        """
        state = self._session.store.batch(self._batch.id)
        if state is None:
            return None
        mine = [w for w in workers if state.queue in w.queues and w.environment == state.environment]
        running = [] if state.done else [job for worker in mine for job in worker.running]
        own = running_of(state.id, running, now)
        return BatchShown(
            BatchSeen(state, now),
            expected=self._expected if state.is_submitting else None,
            workers=len(mine),
            children=sum(worker.children for worker in mine),
            now=own,
            behind=self._waits_behind(state, running),
            problem=None if state.done else self._attend(state),
            launched=self._launched(state, mine),
            strip=self._strip(state, [job.index for job in own]),
            failures=self._read_failures(state),
            versions=versions_beside(state.description.versions, mine),
            output=self._read_output(state),
        )

    def before(self, now: float) -> BatchShown:
        """The batch before its first jobs have been accepted."""
        state = BatchState(
            self._batch.id, "", self._session.environment, 1, Description(label=self._label), 0, 0, 0, 0, 0, 0, 0, 0,
            0.0, now, None, True, False, False, False, "",
        )  # fmt: skip
        return BatchShown(BatchSeen(state, now), expected=self._expected)

    def _attend(self, state: BatchState) -> Problem | None:
        """What is wrong; that the whole queue is paused is somebody's wish."""
        problem = self._attendant.problem(lambda: state)
        return None if problem is not None and problem.kind == "paused" else problem

    def _launched(self, state: BatchState, mine: Sequence[WorkerState]) -> int | None:
        at = self._session.fleet.launched_at
        if state.done or at is None or time.monotonic() - at > _LAUNCHED:
            return None
        here = machine.identity()
        return sum(worker.children for worker in mine if worker.fields.get("machine") == here)

    def _waits_behind(self, state: BatchState, running: Sequence[RunningNow]) -> str:
        if state.started or state.ended or not state.queued or state.is_submitting:
            return ""
        other = busiest_other(state.id, running)
        if other and self._behind[0] != other:
            found = self._session.store.batch(other)
            self._behind = (other, f"{found.description.label or other} ({other})" if found else other)
        return self._behind[1] if other else ""

    def _strip(self, state: BatchState, running: Sequence[int]) -> bytes:
        """Where failures and what was canceled lie among the others; without any it would only repeat the bar."""
        if not (state.failed or state.canceled):
            return b""
        self._marks.follow(_MARKED)
        if state.failed and (state.done or time.monotonic() - self._failed_at > _STRIP):
            self._failed_at = time.monotonic()
            self._failed = self._session.store.failed(state.id)
        total = max(state.total, self._expected or 0) if state.is_submitting else state.total
        return strip_of(total, self._marks.marks, self._failed if state.failed else (), running)

    def _read_output(self, state: BatchState) -> tuple[str, ...]:
        """The last lines that jobs printed; which job did is only worth knowing where there are several."""
        if (state.started or state.ended) and (state.done or time.monotonic() - self._output_at > _OUTPUT):
            self._output_at = time.monotonic()
            lines = self._batch.output(_LINES, self._output_id)
            if lines:
                self._output_id = lines[-1].id
                self._output = tuple(f"{line.index}: {line.text}" if state.total > 1 else line.text for line in lines)
        return self._output

    def _read_failures(self, state: BatchState) -> tuple[FailureShown, ...]:
        """Groups in the order in which they came up, so that none moves under the reader's eyes."""
        if state.failed != self._failed_count:
            self._failed_count = state.failed
            groups = {group.digest: group for group in self._batch.failures()} if state.failed else {}
            former, self._failures = self._failures, {}
            for digest, old in former.items():
                if digest in groups:
                    self._failures[digest] = replace(old, count=groups[digest].count)
            for digest, group in groups.items():
                if digest not in self._failures and len(self._failures) < GROUPS:
                    self._failures[digest] = FailureShown(
                        digest, group.type, group.message, group.count, group.job.index, call_of(group.job),
                        group.traceback,
                    )  # fmt: skip
        return tuple(self._failures.values())


def versions_beside(versions: Mapping[str, str], workers: Sequence[WorkerState]) -> tuple[tuple[str, str, str], ...]:
    """Packages that workers have in other versions than where a batch was submitted: name, that version, theirs."""
    found = {
        (name, versions[name], here): None
        for worker in workers
        for name, here in worker.versions.items()
        if versions.get(name, here) != here
    }
    return tuple(sorted(found))


def running_of(batch: str, running: Sequence[RunningNow], now: float) -> tuple[RunningShown, ...]:
    """Those of the jobs that run which are of a batch, in order."""
    mine = [
        RunningShown(int(index), max(0.0, now - job.since), job.progress)
        for job in running
        for of, _, index in [job.id.partition(":")]
        if of == batch
    ]
    return tuple(sorted(mine, key=lambda job: job.index))


def busiest_other(batch: str, running: Sequence[RunningNow]) -> str:
    """The batch that most of the jobs that run belong to, a given one aside; '' if there is none."""
    others = [other for job in running if (other := job.id.partition(":")[0]) != batch]
    return max(set(others), key=others.count) if others else ""


def see_job(job: Job, label: str) -> JobShown:
    """A job at this moment, and how it ended.

    Raises
    ------
    ServerError
    """
    try:
        status = job.get_status()
        if status == "scheduled":
            return JobShown(job.id, label, status, does=_until_due(job))
        if status == "deferred":
            return JobShown(job.id, label, status, does=waits_for(*job.waits_for))
        if status in ("queued", "started"):
            return JobShown(job.id, label, status)
        ended_at = job.ended_at
        return JobShown(
            job.id,
            label,
            status,
            duration=job.duration,
            ended_at=None if ended_at is None else datetime.timestamp(ended_at),
            traceback=(job.exc_info or "") if status == "failed" else "",
        )
    except errors.NotFound:
        return JobShown(job.id, label, "gone")


def _until_due(job: Job) -> str:
    due_at = job.due_at
    if due_at is None:
        return "is due"
    seconds = datetime.timestamp(due_at) - job.batch.session.now()
    return until(seconds, is_again=bool(job.attempts), repeats=job.batch.description.repeat is not None)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 3
        self.maxlevel = 2


def call_of(job: Any) -> str:
    """A job's call as code, shortened; '' where its arguments cannot be shown here."""
    short = _Short()
    try:
        args, kwargs = job.args, job.kwargs
        words = [short.repr(value) for value in args]
        words += [f"{name}={short.repr(value)}" for name, value in kwargs.items()]
        name = job.func_name
    except errors.NbqueueError:
        return ""
    except Exception:  # noqa: BLE001 - unpickling and `repr` are the user's code; the panel does without
        return ""
    return f"{name}({', '.join(words)})"[:200]
