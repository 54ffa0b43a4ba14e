"""Batches and jobs as users see them: views of what is in Redis, the same from any process and after a restart."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from nbqueue import errors, payload, transitions
from nbqueue.payload import Failure, Outcomes
from nbqueue.progress import Bar, Progress
from nbqueue.store import new_token
from nbqueue.transitions import BatchState, JobState

if TYPE_CHECKING:
    from nbqueue.client import Queue
    from nbqueue.listen import Watch

T = TypeVar("T")
Errors = Literal["raise", "skip", "return"]

_LOOK = 2.0
"""Seconds after which a wait reads the state again, whatever it heard."""
_PATIENCE = 0.2
"""Seconds after which a wait first looks whether anybody serves the batch."""
_CHUNK = 16384


class RemoteTraceback(Exception):
    """The cause of an exception that a job raised: its traceback in the worker, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of the same type and message."""

    type: str
    message: str
    count: int
    job: Job
    """One of the jobs."""
    traceback: str


class _Record:
    """How one job ended."""

    def __init__(self, outcomes: Outcomes | None, words: dict[str, Any] | None = None) -> None:
        self.outcomes = outcomes
        self.words = words

    @property
    def is_failed(self) -> bool:
        return self.outcomes is None or self.outcomes.is_failed

    def failure(self) -> Failure:
        if self.outcomes is not None:
            return self.outcomes.failure()
        words = self.words or {}
        message = str(words.get("message", ""))
        return Failure(str(words.get("type", "JobError")), message, f"{words.get('type')}: {message}\n")

    def exception(self, job_id: str) -> BaseException:
        """What `result` raises: the function's own exception where it can be rebuilt."""
        failure = self.failure()
        error = failure.exception()
        if error is None:
            kind = _OWN_ERRORS.get(failure.type, errors.JobFailed)
            text = failure.message if kind is not errors.JobFailed else f"{failure.type}: {failure.message}"
            error = kind(f"job {job_id}: {text}")
        if isinstance(error, errors.NbqueueError):
            error.job_id = job_id
        error.__cause__ = RemoteTraceback(f"{failure.traceback}\n(in nbqueue job {job_id})")
        return error


_OWN_ERRORS: dict[str, type[errors.NbqueueError]] = {
    kind.__name__: kind
    for kind in (errors.JobTimeout, errors.JobCanceled, errors.JobKilled, errors.ResultExpired, errors.SignatureError,
                 errors.CorruptPayload, errors.CannotPickle, errors.TooLarge)
}  # fmt: skip


class Batch:
    """Jobs that were submitted together.

    A view: it holds no state of its own, and works the same in another process, later, after a restart.

    Parameters
    ----------
    queue : Queue
        Where it was submitted.
    id : str
        Its six characters.
    """

    def __init__(self, queue: Queue, id: str, *, progress: Progress = "auto") -> None:
        self._queue = queue
        self._id = id
        self._progress = progress

    def __repr__(self) -> str:
        return f"<Batch {self._id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batch) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    @property
    def id(self) -> str:
        return self._id

    @property
    def queue(self) -> Queue:
        return self._queue

    @property
    def state(self) -> BatchState:
        """All that is counted, read in one go.

        Raises
        ------
        NotFound
            There is no such batch (any more).
        """
        state = self._queue.store.batch(self._id)
        if state is None:
            raise errors.NotFound(
                f"there is no batch {self._id} on {self._queue.store.url}: it was deleted, or its results have "
                "expired. q.batches() lists those that are there"
            )
        return state

    @property
    def label(self) -> str:
        return str(self.state.about.get("label", ""))

    @property
    def meta(self) -> dict[str, Any]:
        return dict(self.state.about.get("meta", {}))

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by state: total, queued, started, finished, failed, canceled."""
        state = self.state
        return {
            "total": state.total, "queued": state.queued, "started": state.started,
            "finished": state.finished, "failed": state.failed, "canceled": state.canceled,
        }  # fmt: skip

    @property
    def done(self) -> bool:
        """Whether all jobs have ended."""
        return self.state.done

    @property
    def progress(self) -> float:
        """The part of the jobs that has ended, 0 to 1."""
        state = self.state
        return state.ended / state.total if state.total else 1.0

    @property
    def rate(self) -> float:
        """Jobs that ended per second, since it was submitted."""
        return rate_of(self.state, self._queue.now())

    @property
    def eta(self) -> float | None:
        """Seconds until the last job ends, at this rate; None while no job has ended."""
        return eta_of(self.state, self._queue.now())

    def __len__(self) -> int:
        return self.state.total

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        total = len(self)
        if isinstance(index, slice):
            return [Job(self, i) for i in range(*index.indices(total))]
        if not -total <= index < total:
            raise IndexError(f"batch {self._id} has {total} jobs, there is none with index {index}")
        return Job(self, index % total)

    @property
    def jobs(self) -> list[Job]:
        return self[:]

    # Waiting

    def wait(self, timeout: float | None = None) -> Batch:
        """Wait until all jobs have ended, however they did.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        WaitTimeout
            They had not ended in time. They go on.
        """
        self._wait(timeout, None)
        return self

    def _wait(self, timeout: float | None, stop: threading.Event | None) -> None:
        with _Waiting(self, timeout, stop) as waiting:
            waiting.until(lambda: True if waiting.refresh().done else None)

    def results(self, timeout: float | None = None, errors: Errors = "raise") -> list[Any]:
        """What all calls returned, in input order; waits for it.

        Parameters
        ----------
        timeout : float, optional
            Seconds.
        errors : {"raise", "skip", "return"}
            What to do with jobs that did not finish: raise the exception of the first one, leave them out, or have the
            exception in the place of the result.

        Raises
        ------
        WaitTimeout
            The results were not there in time. The jobs go on.
        Exception
            The function's own, with the worker's traceback as its cause.

        Examples
        --------
        >>> q.map(abs, [1, -2]).results()
        [1, 2]
        """
        return list(self._iterate(timeout, errors, None))

    def __iter__(self) -> Iterator[Any]:
        """What the calls returned, in input order, each as soon as it and those before it are there."""
        return self._iterate(None, "raise", None)

    def _iterate(self, timeout: float | None, on_error: Errors, stop: threading.Event | None) -> Iterator[Any]:
        if on_error not in ("raise", "skip", "return"):
            raise errors.UsageError(f"errors={on_error!r}: 'raise', 'skip' or 'return' is accepted")
        reader = _Reader(self)
        with _Waiting(self, timeout, stop) as waiting:
            while True:
                found = waiting.until(lambda: reader.next_in_order(waiting))
                if not found:
                    return
                for value in found:
                    if isinstance(value, _Ended):
                        if on_error == "skip":
                            continue
                        error = value.exception()
                        if on_error == "raise":
                            raise error
                        yield error
                    else:
                        yield value

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """The jobs, in the order in which they end.

        Parameters
        ----------
        timeout : float, optional
            Seconds, for all together.
        """
        reader = _Reader(self)
        with _Waiting(self, timeout, None) as waiting:
            while True:
                found = waiting.until(lambda: reader.next_ended(waiting))
                if not found:
                    return
                yield from found

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return _in_thread(lambda stop: list(self._iterate(None, "raise", stop))).__await__()

    # Steering

    def failures(self) -> list[FailureGroup]:
        """What failed, grouped by identical error, the most frequent first."""
        fields = self._queue.store.run("HGETALL", self._queue.store.key(f"batch:{self._id}:errors"))
        h = dict(zip(fields[::2], fields[1::2], strict=True))
        if not h:
            self.state  # noqa: B018 - raises if there is no such batch
        groups = []
        for digest, text in h.items():
            if digest.startswith(b"n:"):
                continue
            summary = json.loads(text)
            count = int(h.get(b"n:" + digest, b"0"))
            job = Job(self, int(summary["example"]))
            groups.append(FailureGroup(summary["type"], summary["message"], count, job, summary["traceback"]))
        return sorted(groups, key=lambda group: (-group.count, group.job.index))

    def cancel(self) -> int:
        """Cancel all jobs that have not ended; those that run are stopped. Returns how many."""
        n = self._queue.store.call(transitions.cancel(self._id, "it was canceled"))
        self._check(n)
        return n

    def pause(self) -> None:
        """Let no further job start; those that run end."""
        self._check(self._queue.store.call(transitions.pause(self._id)))

    def resume(self) -> None:
        """Go on after `pause`."""
        self._check(self._queue.store.call(transitions.resume(self._id)))
        self._queue.attend(self.state)

    def retry(self) -> int:
        """Run again what failed or was canceled; what finished never runs again. Returns how many jobs."""
        total, more = 0, True
        while more:
            n, more = self._queue.store.call(transitions.retry(self._id, new_token()))
            self._check(n)
            total += n
        if total:
            self._queue.attend(self.state)
        return total

    def delete(self) -> None:
        """Forget it: its jobs, calls and results. What of it runs ends unrecorded."""
        self._check(self._queue.store.call(transitions.delete(self._id)))

    def _check(self, answer: int) -> None:
        if answer == -1:
            self.state  # noqa: B018 - raises NotFound


def rate_of(state: BatchState, now: float) -> float:
    elapsed = (state.ended_at or now) - state.submitted_at
    return (state.finished + state.failed) / elapsed if elapsed > 0 else 0.0


def eta_of(state: BatchState, now: float) -> float | None:
    if state.done:
        return 0.0
    rate = rate_of(state, now)
    return (state.total - state.ended) / rate if rate else None


class Job:
    """One call of one function: a batch and an index in it."""

    def __init__(
        self, batch: Batch, index: int, record: _Record | None = None, *, waits_since: float = float("-inf")
    ) -> None:
        self._batch = batch
        self.index = index
        self._record = record
        self._waits_since = waits_since
        """Just submitted by this process: by its monotonic clock, it had not ended then."""

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """Batch and index: 'k3f9x2:17'."""
        return f"{self._batch.id}:{self.index}"

    @property
    def batch(self) -> Batch:
        return self._batch

    @property
    def _store(self) -> Any:
        return self._batch.queue.store

    def _state(self) -> JobState:
        state: JobState | None = self._store.call(transitions.job(self._batch.id, self.index))
        if state is None or state.state == "unknown":
            raise errors.NotFound(
                f"there is no job {self.id} on {self._store.url}: its batch was deleted, or its results have expired"
            )
        return state

    def _ended(self) -> _Record | str:
        """How it ended, or the state that it is in."""
        if self._record is not None:
            return self._record
        state = self._state()
        if state.state != "ended":
            return state.state
        record = self._read(state.own, state.block)
        if record is None:
            if self._batch.state.done:
                raise errors.ResultExpired(f"the outcome of job {self.id} is not there any more")
            return "queued"  # between two places, at this moment
        self._remember(record)
        return record

    def _remember(self, record: _Record) -> None:
        if not record.is_failed:  # what failed may run again
            self._record = record

    def _read(self, own: bytes, block: bytes) -> _Record | None:
        return read_outcome(self._batch, self.index, own or None, block or None)

    def get_status(self) -> str:
        """'queued', 'started', 'finished', 'failed' or 'canceled'."""
        ended = self._ended()
        if isinstance(ended, str):
            return ended
        return "failed" if ended.is_failed else "finished"

    @property
    def is_queued(self) -> bool:
        return self.get_status() == "queued"

    @property
    def is_started(self) -> bool:
        return self.get_status() == "started"

    @property
    def is_finished(self) -> bool:
        return self.get_status() == "finished"

    @property
    def is_failed(self) -> bool:
        return self.get_status() == "failed"

    @property
    def is_canceled(self) -> bool:
        return self.get_status() == "canceled"

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned; waits for it.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        WaitTimeout
            It had not ended in time. It goes on.
        JobCanceled, JobTimeout, JobKilled
            It ended without the function's doing.
        Exception
            The function's own, with the worker's traceback as its cause.

        Examples
        --------
        >>> q.enqueue(abs, -3).result()
        3
        """
        return self._result(timeout, None)

    def _result(self, timeout: float | None, stop: threading.Event | None) -> Any:
        record = self._record or self._wait_for_record(timeout, stop)
        if record == "canceled":
            raise self._canceled()
        assert isinstance(record, _Record)
        return self._value(record)

    def _wait_for_record(self, timeout: float | None, stop: threading.Event | None) -> _Record | Literal["canceled"]:
        with _Waiting(self._batch, timeout, stop, progress=False) as waiting:

            def look() -> _Record | Literal["canceled"] | None:
                heard = waiting.watch.outcome(self.index)
                if heard is not None:
                    record = self._read(heard, b"")
                    if record is not None and not record.is_failed:  # what failed may be running again
                        self._remember(record)
                        return record
                elif self._waits_since > waiting.watch.complete_since:
                    self._waits_since = float("-inf")  # the next look is one at the state
                    return None
                ended = self._ended()
                if isinstance(ended, _Record):
                    return ended
                return "canceled" if ended == "canceled" else None

            return waiting.until(look)

    def _value(self, record: _Record) -> Any:
        if record.is_failed:
            raise record.exception(self.id)
        assert record.outcomes is not None
        return record.outcomes.value(self.index)

    def _canceled(self) -> errors.JobCanceled:
        reason = self._batch.state.reason
        error = errors.JobCanceled(f"job {self.id} was canceled" + (f": {reason}" if reason else ""))
        error.job_id = self.id
        return error

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended, however it did."""
        if self._record is None:
            self._wait_for_record(timeout, None)
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        return _in_thread(lambda stop: self._result(None, stop)).__await__()

    def return_value(self) -> Any:
        """What the call returned, without waiting.

        Raises
        ------
        NotFinished
            It has not ended: that it returned None can be told apart.
        """
        ended = self._ended()
        if ended == "canceled":
            raise self._canceled()
        if isinstance(ended, str):
            raise errors.NotFinished(f"job {self.id} is {ended}: result() waits for it")
        return self._value(ended)

    def exception(self) -> BaseException | None:
        """What the call raised; None if it returned.

        Raises
        ------
        NotFinished
            It has not ended.
        """
        ended = self._ended()
        if ended == "canceled":
            return self._canceled()
        if isinstance(ended, str):
            raise errors.NotFinished(f"job {self.id} is {ended}")
        return ended.exception(self.id) if ended.is_failed else None

    @property
    def exc_info(self) -> str | None:
        """The traceback of what it raised, as text; None if it has not failed."""
        ended = self._ended()
        return ended.failure().traceback if isinstance(ended, _Record) and ended.is_failed else None

    def _call(self) -> payload.Call:
        found = self._store.call(transitions.calls(self._batch.id, self.index))
        if found is None:
            self._batch.state  # noqa: B018 - raises NotFound
        else:
            per_block, block, own = found
            seal = self._batch.queue.seal
            if own:
                return payload.Calls(seal, self._batch.id, self.index, own)[self.index]
            if block:
                first = self.index // per_block * per_block
                return payload.Calls(seal, self._batch.id, first, block)[self.index]
        raise errors.ResultExpired(
            f"the arguments of job {self.id} are not kept any more: those of batches of more than 1,000 jobs are "
            "dropped when all have finished"
        )

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments of the call.

        Raises
        ------
        ResultExpired
            They are not kept any more.
        """
        return self._call()[1]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        return self._call()[2]

    @property
    def func_name(self) -> str:
        """The function's name."""
        about = self._batch.state.about
        if not about.get("single"):
            return str(about["function"])
        digest = self._call()[0]
        record = self._store.run("GET", self._store.key(f"code:{digest.hex()}"))
        if record is None:
            raise errors.ResultExpired(f"the function of job {self.id} is not in Redis any more")
        return payload.name_of(payload.unpack_code(self._batch.queue.seal, digest, record))

    @property
    def description(self) -> str:
        return str(self._batch.state.about.get("label", ""))

    @property
    def meta(self) -> dict[str, Any]:
        return self._batch.meta

    @property
    def enqueued_at(self) -> datetime:
        """When its batch was submitted."""
        return datetime.fromtimestamp(self._batch.state.submitted_at, UTC)

    @property
    def started_at(self) -> datetime | None:
        """When it started; None if it has not ended."""
        outcomes = self._outcomes()
        return datetime.fromtimestamp(outcomes.started_at(self.index), UTC) if outcomes else None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None if it has not."""
        outcomes = self._outcomes()
        if outcomes is None:
            return None
        return datetime.fromtimestamp(outcomes.started_at(self.index) + outcomes.duration(self.index), UTC)

    @property
    def duration(self) -> float | None:
        """Seconds that the call took; None if it has not ended."""
        outcomes = self._outcomes()
        return outcomes.duration(self.index) if outcomes else None

    @property
    def worker_name(self) -> str | None:
        """The worker that ran it, or runs it."""
        outcomes = self._outcomes()
        return outcomes.worker if outcomes else self._state().worker or None

    @property
    def attempt(self) -> int:
        """The number of its present or last start, from 1."""
        outcomes = self._outcomes()
        return outcomes.attempt if outcomes else self._state().attempts + 1

    def _outcomes(self) -> Outcomes | None:
        ended = self._ended()
        return ended.outcomes if isinstance(ended, _Record) else None

    def cancel(self) -> bool:
        """Cancel it: at once if it waits; if it runs it is stopped. False if it had ended."""
        answer: str = self._store.call(transitions.cancel_job(self._batch.id, self.index))
        if answer == "gone":
            self._state()
        return answer in ("canceled", "canceling")

    def retry(self) -> bool:
        """Run it again if it failed or was canceled; False if there was nothing to run again."""
        n, _ = self._store.call(transitions.retry(self._batch.id, new_token(), self.index))
        if n == -1:
            self._state()
        if n:
            self._record = None
            self._batch.queue.attend(self._batch.state)
        return bool(n)

    def requeue(self) -> bool:
        """RQ's name for `retry`."""
        return self.retry()

    def delete(self) -> None:
        """Forget its call and its outcome; cancel it first if it has not ended."""
        if self.cancel():
            self.wait(60)
        self._record = None
        if self._store.call(transitions.delete_job(self._batch.id, self.index)) == -1:
            self._state()
        self._batch.queue.listener.forget(self._batch.id)


def read_outcome(batch: Batch, index: int, own: bytes | None, block: bytes | None) -> _Record | None:
    """How a job ended, from its own record or that of its block; None if neither tells."""
    seal = batch.queue.seal
    if own is not None:
        if own[:1] == b"!":
            return _Record(None, _words(batch.id, index, own))
        return _Record(Outcomes(seal, batch.id, index, own))
    if block is not None:
        per_block = batch.queue.per_block(batch.id)
        outcomes = Outcomes(seal, batch.id, index // per_block * per_block, block)
        if index in outcomes:
            return _Record(outcomes)
    return None


def _words(batch: str, index: int, record: bytes) -> dict[str, Any]:
    try:
        words: dict[str, Any] = json.loads(record[1:])
    except ValueError as error:
        raise errors.CorruptPayload(f"the outcome of job {batch}:{index} is not what nbqueue wrote") from error
    return words


@dataclass(frozen=True, slots=True)
class _Ended:
    """A job that did not finish, in the place of its result."""

    job: Job
    record: _Record | None

    def exception(self) -> BaseException:
        return self.job._canceled() if self.record is None else self.record.exception(self.job.id)


class _Reader:
    """Reads outcomes as they come, in input order or in the order of ending, with bounded memory."""

    _WAITS, _RECORDED, _CANCELED = range(3)

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._store = batch.queue.store
        self._seal = batch.queue.seal
        self._ended_key = self._store.key(f"batch:{batch.id}:ended")
        self._offset = 0
        self._marks = bytearray()
        self._position = 0
        self._told: bytearray = bytearray()

    def _follow(self, most: int) -> list[tuple[int, int, int]]:
        """Further entries of the list of what ended: start, stop, and what became of these jobs."""
        entries = self._store.run("LRANGE", self._ended_key, self._offset, self._offset + most - 1)
        self._offset += len(entries)
        runs = []
        for entry in entries:
            text = entry.decode()
            mark = {"c": self._CANCELED, "r": self._WAITS}.get(text[0], self._RECORDED)
            start, _, stop = text.lstrip("cr").partition("-")
            runs.append((int(start), int(stop) if stop else int(start) + 1, mark))
        return runs

    def _mark(self, start: int, stop: int, mark: int) -> None:
        if len(self._marks) < stop:
            self._marks.extend(bytes(stop - len(self._marks)))
        self._marks[start:stop] = bytes([mark]) * (stop - start)

    def next_in_order(self, waiting: _Waiting) -> list[Any] | None:
        """Further results in input order: empty at the end, None if they are not there yet."""
        while True:
            found = self._recorded()
            if found:
                return found
            runs = self._follow(5000)
            if not runs:
                break
            for run in runs:
                self._mark(*run)
        state = waiting.refresh()
        if state.done and self._position >= state.total:
            return []
        if state.done and self._is_settled(state):
            raise errors.ResultExpired(
                f"the outcome of job {self._batch.id}:{self._position} is not there any more (the job has ended)"
            )
        return None

    def _is_settled(self, state: BatchState) -> bool:
        """Nothing changed while we looked: no entry was added, nothing was queued again."""
        return not self._follow_is_behind() and self._batch.state.ended == state.ended

    def _follow_is_behind(self) -> bool:
        return bool(self._store.run("LLEN", self._ended_key) > self._offset)

    def _recorded(self) -> list[Any]:
        position, marks = self._position, self._marks
        if position >= len(marks) or marks[position] == self._WAITS:
            return []
        if marks[position] == self._CANCELED:
            self._position += 1
            return [_Ended(Job(self._batch, position), None)]
        stop = position
        limit = min(len(marks), position + _CHUNK)
        ends = [marks.find(bytes([mark]), position, limit) for mark in (self._WAITS, self._CANCELED)]
        stop = min([end for end in ends if end >= 0], default=limit)
        read = self._read(position, stop)
        values: list[Any] = []
        for index, count, value in read:
            if count == 0:  # it was queued again after it had ended
                self._marks[index] = self._WAITS
                break
            values += value
            self._position = index + count
        return values

    def _read(self, start: int, stop: int) -> Iterator[tuple[int, int, list[Any]]]:
        """Index, number and values of neighbouring jobs; number 0 where there is no outcome."""
        position = start
        while position < stop:
            found = self._store.call(transitions.outcomes(self._batch.id, position, stop))
            if found is None:
                self._batch.state  # noqa: B018 - raises NotFound
                return
            while position < found.stop:
                block = position // found.per_block
                last = min(found.stop, (block + 1) * found.per_block)
                yield from self._read_block(found, block, position, last)
                position = last

    def _read_block(
        self, found: transitions.OutcomeRecords, block: int, start: int, stop: int
    ) -> Iterator[tuple[int, int, list[Any]]]:
        record = found.records.get(f"b{block}")
        first = block * found.per_block
        outcomes = Outcomes(self._seal, self._batch.id, first, record) if record is not None else None
        if outcomes is not None and (atoms := outcomes.atoms()) is not None and stop - first <= len(atoms):
            has_own = (
                any(str(index) in found.records for index in range(start, stop)) if len(found.records) > 1 else False
            )
            if not has_own:
                yield start, stop - start, atoms[start - first : stop - first]
                return
        for index in range(start, stop):
            own = found.records.get(str(index))
            if own is not None:
                if own[:1] == b"!":
                    ended = _Record(None, _words(self._batch.id, index, own))
                else:
                    ended = _Record(Outcomes(self._seal, self._batch.id, index, own))
            elif outcomes is not None and index in outcomes:
                ended = _Record(outcomes)
            else:
                yield index, 0, []
                return
            if ended.is_failed:
                yield index, 1, [_Ended(Job(self._batch, index), ended)]
            else:
                assert ended.outcomes is not None
                yield index, 1, [ended.outcomes.value(index)]

    def next_ended(self, waiting: _Waiting) -> list[Job] | None:
        """Further jobs in the order of ending: empty at the end, None if none has ended meanwhile."""
        ended: dict[int, Job] = {}
        for start, stop, mark in self._follow(200):
            if len(self._told) < stop:
                self._told.extend(bytes(stop - len(self._told)))
            for index in range(start, stop):
                if mark == self._WAITS:  # it runs again, and will end again
                    self._told[index] = 0
                    ended.pop(index, None)
                elif not self._told[index]:
                    self._told[index] = 1
                    ended[index] = Job(self._batch, index)
        if ended:
            jobs = list(ended.values())
            self._attach(jobs)
            return jobs
        state = waiting.refresh()
        return [] if state.done and not self._follow_is_behind() else None

    def _attach(self, jobs: list[Job]) -> None:
        """Read the outcomes of jobs in few calls, so that asking each for its result costs nothing."""
        by_index = {job.index: job for job in jobs}
        ordered = sorted(by_index)
        start = 0
        while start < len(ordered):
            end = start
            while end + 1 < len(ordered) and ordered[end + 1] - ordered[start] < _CHUNK:
                end += 1
            position, stop = ordered[start], ordered[end] + 1
            while position < stop:
                found = self._store.call(transitions.outcomes(self._batch.id, position, stop))
                if found is None or found.stop <= position:
                    return
                opened: dict[int, Outcomes] = {}
                for index in range(position, found.stop):
                    if index in by_index:
                        self._attach_one(by_index[index], found, opened)
                position = found.stop
            start = end + 1

    def _attach_one(self, job: Job, found: transitions.OutcomeRecords, opened: dict[int, Outcomes]) -> None:
        own = found.records.get(str(job.index))
        if own is not None:
            record = read_outcome(self._batch, job.index, own, None)
            if record is not None:
                job._remember(record)
            return
        block = job.index // found.per_block
        text = found.records.get(f"b{block}")
        if text is not None:
            if block not in opened:
                opened[block] = Outcomes(self._seal, self._batch.id, block * found.per_block, text)
            if job.index in opened[block]:
                job._remember(_Record(opened[block]))


class _Stopped(Exception):
    """Whoever awaited has gone."""


class _Waiting:
    """One wait for something about a batch: hears of changes, shows progress, says when nobody serves it."""

    def __init__(
        self, batch: Batch, timeout: float | None, stop: threading.Event | None, *, progress: Progress | None = None
    ) -> None:
        self._batch = batch
        self._queue = batch.queue
        self._timeout = timeout
        self._stop = stop
        self._progress = batch._progress if progress is None else progress

    def __enter__(self) -> _Waiting:
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout
        self._watching = self._queue.listener.watch(self._batch.id)
        self.watch: Watch = self._watching.__enter__()
        self._bar = Bar(self._progress)
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


async def _in_thread(wait: Callable[[threading.Event], T]) -> T:
    """Wait in a thread, so that the event loop goes on; who is canceled leaves no thread behind."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(wait, stop)
    finally:
        stop.set()
