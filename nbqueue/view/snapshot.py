"""What a panel shows of a batch, read again and again: only what may have changed since the last time."""

from __future__ import annotations

import json
import reprlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbqueue import errors, machine
from nbqueue.client.results import CANCELED, RECORDED, Marks
from nbqueue.store.description import Description
from nbqueue.store.reaper import vanished
from nbqueue.store.requests.looking import BatchState, WorkerState
from nbqueue.view.seen import see
from nbqueue.view.shown import ORDER, BatchShown, FailureShown, columns

if TYPE_CHECKING:
    from nbqueue.client.batch import Batch
    from nbqueue.client.session import Session


GROUPS = 10
"""Groups of failures that a panel shows."""

_ATTEND = 2.0

_PATIENCE = 0.3
"""Seconds after which it is first looked whether anybody serves the batch."""

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


class Follower:
    """Follows one batch.

    Parameters
    ----------
    batch : Batch
    expected : int, optional
        How many jobs it will have, where that is known before all are submitted.
    """

    def __init__(self, batch: Batch, label: str, expected: int | None = None) -> None:
        self._batch = batch
        self._session = batch.session
        self._label = label
        self._expected = expected
        self._marks = Marks(batch.session, batch.id)
        self._failed_at = 0.0
        self._failed: list[int] = []
        self._failures: dict[str, FailureShown] = {}
        self._failed_count = -1
        self._attended_at = time.monotonic() - _ATTEND + _PATIENCE
        self._problem = ""
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
        if not state.done:
            self._attend(state)
        running = [] if state.done else [entry for worker in mine for entry in _running(worker)]
        own = sorted(
            (int(id.partition(":")[2]), max(0.0, now - since)) for id, since in running if id.split(":")[0] == state.id
        )
        seen = see(state, now)
        return BatchShown(
            seen,
            expected=self._expected if state.is_submitting else None,
            workers=len(mine),
            children=sum(worker.children for worker in mine),
            now=tuple(own),
            behind=self._waits_behind(state, running),
            problem="" if state.done else self._problem,
            launched=self._launched(state, mine),
            strip=self._strip(state, [index for index, _ in own]),
            failures=self._read_failures(state),
            output=self._read_output(state),
        )

    def before(self, now: float) -> BatchShown:
        """What is shown before the first jobs have been accepted."""
        state = BatchState(
            self._batch.id, "", self._session.environment, 1, Description(label=self._label), 0, 0, 0, 0, 0, 0, 0, 0,
            0.0, now, None, True, False, False, False, "",
        )  # fmt: skip
        return BatchShown(see(state, now), expected=self._expected)

    def _attend(self, state: BatchState) -> None:
        if time.monotonic() - self._attended_at >= _ATTEND:
            self._attended_at = time.monotonic()
            problem = self._session.attend(state)
            self._problem = str(problem) if problem is not None and problem.kind != "paused" else ""

    def _launched(self, state: BatchState, mine: Sequence[WorkerState]) -> int | None:
        at = self._session.fleet.launched_at
        if state.done or at is None or time.monotonic() - at > _LAUNCHED:
            return None
        here = machine.identity()
        return sum(worker.children for worker in mine if worker.fields.get("machine") == here)

    def _waits_behind(self, state: BatchState, running: Sequence[tuple[str, float]]) -> str:
        if state.started or state.ended or not state.queued or state.is_submitting:
            return ""
        others = [id.split(":")[0] for id, _ in running if not id.startswith(f"{state.id}:")]
        if not others:
            return ""
        other = max(set(others), key=others.count)
        if self._behind[0] != other:
            found = self._session.store.batch(other)
            self._behind = (other, f"{found.description.label or other} ({other})" if found else other)
        return self._behind[1]

    def _strip(self, state: BatchState, running: Sequence[int]) -> bytes:
        """Where failures and what was canceled lie among the others; without any it would only repeat the bar."""
        if not (state.failed or state.canceled):
            return b""
        self._marks.follow(_MARKED)
        if state.failed and (state.done or time.monotonic() - self._failed_at > _STRIP):
            self._failed_at = time.monotonic()
            self._failed = self._session.store.failed(state.id)
        place = {name: position for position, name in enumerate(ORDER)}
        states = bytearray(max(state.total, self._expected or 0) if state.is_submitting else state.total)
        known = self._marks.marks[: len(states)]
        table = bytearray(256)
        table[RECORDED], table[CANCELED] = place["finished"], place["canceled"]
        states[: len(known)] = known.translate(table)
        for index in running:
            if index < len(states):
                states[index] = place["running"]
        for index in self._failed if state.failed else ():
            if index < len(states) and index < len(known) and known[index] == RECORDED:
                states[index] = place["failed"]
        return columns(states)

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
                    self._failures[digest] = _with_count(old, groups[digest].count)
            for digest, group in groups.items():
                if digest not in self._failures and len(self._failures) < GROUPS:
                    self._failures[digest] = FailureShown(
                        digest, group.type, group.message, group.count, group.job.index, _call(group.job),
                        group.traceback,
                    )  # fmt: skip
        return tuple(self._failures.values())


def workers_of(session: Session) -> list[WorkerState]:
    """The workers of a namespace that are alive, as far as can be seen from here."""
    from nbqueue.store.requests import looking

    here = machine.identity()
    return [worker for worker in session.store.call(looking.workers()) if not vanished(worker, here)]


def _with_count(failure: FailureShown, count: int) -> FailureShown:
    return FailureShown(
        failure.digest, failure.type, failure.message, count, failure.index, failure.call, failure.traceback
    )


def _running(worker: WorkerState) -> list[tuple[str, float]]:
    try:
        return [(str(id), float(since)) for id, since in json.loads(worker.fields.get("running") or "[]")]
    except ValueError:  # not what a worker wrote
        return []


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 3
        self.maxlevel = 2


def _call(job: Any) -> str:
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
