"""One job as users see it: a view of what is in Redis."""

from __future__ import annotations

import copy
import importlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from nbqueue import errors
from nbqueue.child.current import meta_as_json
from nbqueue.client import hooks, listing, outcome
from nbqueue.client.attempts import Attempt, attempt_of, read_attempts
from nbqueue.client.awaited import Awaited
from nbqueue.client.coroutines import finished
from nbqueue.client.handle import Handle
from nbqueue.client.latest_result import Result, ResultType
from nbqueue.client.mending import change_of, mend
from nbqueue.client.outcome import Outcome
from nbqueue.client.printed import text_of
from nbqueue.client.rich import RichOutput, read_rich_output
from nbqueue.client.turns import refuse_own
from nbqueue.client.waiting import Waiting, in_thread
from nbqueue.client.waiting_call import waiting_call
from nbqueue.payload.calls import Call, Calls
from nbqueue.payload.functions import name_of, unpack_code
from nbqueue.payload.mended import unpack_mended
from nbqueue.payload.outcomes import Outcomes
from nbqueue.payload.records import Blob
from nbqueue.payload.values import ResultOf, SharedValue, giving
from nbqueue.store.keys import IN_WORDS
from nbqueue.store.requests import looking, steering
from nbqueue.store.requests.looking import JobState, RunningNow
from nbqueue.store.requests.running import Progress
from nbqueue.store.requests.submitting import DependsOn


class Job(Awaited):
    """One call of one function: a batch and an index in it.

    What RQ's users know of a job is all here under its names, each in a few lines, which makes it long.
    """

    def __init__(
        self, batch: Handle, index: int, record: Outcome | None = None, *, waits_since: float = float("-inf")
    ) -> None:
        self._batch = batch
        self._session = batch.session
        self.index = index
        self._record = record
        self._given_meta: tuple[dict[str, Any], dict[str, Any]] | None = None
        """What was given out as `meta`, and as it was then."""
        self._waits_since = waits_since
        """Just submitted by this process: by its monotonic clock, it had not ended then."""

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Callable[..., Job], tuple[Handle, int]]:
        return type(self), (self._batch, self.index)

    @property
    def id(self) -> str:
        """Batch and index: 'k3f9x2:17'."""
        return f"{self._batch.id}:{self.index}"

    def get_id(self) -> str:
        """RQ's name for `id`."""
        return self.id

    def as_dependency(self, *, may_fail: bool = False) -> list[DependsOn]:
        """What others wait for that depend on it."""
        return [DependsOn(self._batch.id, self.index, may_fail)]

    # Finding

    @classmethod
    def fetch(cls, id: str, connection: Any = None) -> Job:
        """The job of an id, with nothing else at hand. `Queue.fetch_job` does it on the server of a queue.

        Parameters
        ----------
        id : str
            Such as 'k3f9x2:17'.
        connection : Queue, str or redis.Redis, optional
            A queue of its server and namespace, or what `Queue(connection=...)` takes, and then its namespace is
            'default'. A queue is at hand already; of anything else one is made each time.

        Raises
        ------
        NotFound
            There is no such job (any more).

        Examples
        --------
        >>> Job.fetch("k3f9x2:17", connection="redis://localhost").return_value()
        """
        job: Job = _finder(connection).fetch_job(id)
        if job._state().own == steering.DELETED:
            raise errors.NotFound(f"job {id} was deleted")
        return job

    @classmethod
    def fetch_many(cls, ids: Iterable[str], connection: Any = None) -> list[Job | None]:
        """The jobs of some ids, in their order, and None in the place of each that is not there (any more).

        Parameters
        ----------
        ids : iterable of str
        connection
            See `fetch`.
        """
        finder = _finder(connection)
        return [cls._found(id, finder) for id in ids]

    @classmethod
    def _found(cls, id: str, finder: Any) -> Job | None:
        try:
            return cls.fetch(id, finder)
        except errors.NotFound:
            return None

    @classmethod
    def exists(cls, id: str, connection: Any = None) -> bool:
        """Whether there is a job of this id; see `fetch`."""
        return cls._found(id, _finder(connection)) is not None

    @property
    def batch(self) -> Handle:
        """The batch that it belongs to."""
        return self._batch

    @property
    def origin(self) -> str:
        """The name of its queue."""
        return self._batch.origin

    def _state(self) -> JobState:
        state = self._session.store.job(self._batch.id, self.index)
        if state is None or state.state == "unknown":
            raise errors.NotFound(
                f"there is no job {self.id} on {self._session.store.url}: its batch was deleted, or its results have "
                "expired"
            )
        return state

    def _ended(self) -> Outcome | str:
        """Its outcome, or the state that it is in."""
        if self._record is not None:
            return self._record
        state = self._state()
        if state.state not in ("ended", "missing"):
            return state.state
        record = self._read(state.own, state.block)
        if record is None:
            if self._batch.state.done:
                raise errors.ResultExpired(f"the outcome of job {self.id} is not there any more")
            return "queued"  # between two places, at this moment
        self.remember(record)
        return record

    def remember(self, record: Outcome) -> None:
        """Keep an outcome that was read with those of others: asking for it costs nothing then."""
        if not record.is_failed:  # what failed may run again
            self._record = record

    def _read(self, own: Blob, block: Blob) -> Outcome | None:
        return outcome.read(self._session, self._batch.id, self.index, own, block)

    def get_status(self, refresh: bool = True) -> str:
        """'queued', 'started', 'finished', 'failed' or 'canceled'; 'deferred' or 'scheduled' before it is queued.

        Parameters
        ----------
        refresh : bool
            RQ's; here it is read each time, until it has finished.
        """
        ended = self._ended()
        if isinstance(ended, str):
            return ended
        return "failed" if ended.is_failed else "finished"

    @property
    def is_queued(self) -> bool:
        """Whether it waits to be taken by a worker."""
        return self.get_status() == "queued"

    @property
    def is_started(self) -> bool:
        """Whether it runs."""
        return self.get_status() == "started"

    @property
    def is_finished(self) -> bool:
        """Whether it has returned."""
        return self.get_status() == "finished"

    @property
    def is_failed(self) -> bool:
        """Whether it has raised, or was stopped by a limit or a death."""
        return self.get_status() == "failed"

    @property
    def is_canceled(self) -> bool:
        """Whether it was canceled."""
        return self.get_status() == "canceled"

    @property
    def is_deferred(self) -> bool:
        """Whether it waits for other jobs."""
        return self.get_status() == "deferred"

    @property
    def is_scheduled(self) -> bool:
        """Whether it waits for its time."""
        return self.get_status() == "scheduled"

    def get_position(self) -> int | None:
        """How many jobs of its queue wait before it; None if it does not wait. See `Queue.get_job_ids`."""
        return listing.position(self._session.store, self.origin, self._batch.id, self.index)

    def refresh(self) -> None:
        """Forget what was read of it: what is asked for next is read anew.

        Raises
        ------
        NotFound
            There is no such job (any more).
        """
        self._record = self._given_meta = None
        self._state()

    @waiting_call
    def result(self, timeout: float | None = None) -> Any:
        """The return value of the call; waits for it.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        WaitTimeout
            It had not ended in time. It goes on.
        JobCanceled, JobTimeout, JobKilled, JobExpired
            It ended without the function's doing.
        JobExited
            The function was left by `sys.exit` or the like, which is the cause of the error.
        Exception
            The function's own, with the worker's traceback as its cause.

        Examples
        --------
        >>> q.enqueue(abs, -3).result()
        3
        """
        __tracebackhide__ = True
        return self._result(timeout, None)

    def _result(self, timeout: float | None, stop: threading.Event | None) -> Any:
        __tracebackhide__ = True
        record = self._record or self._wait_for_record(timeout, stop)
        hooks.waited_for(self.id)
        if record == "canceled":
            raise self._canceled()
        assert isinstance(record, Outcome)
        return self._value(record)

    def _wait_for_record(self, timeout: float | None, stop: threading.Event | None) -> Outcome | Literal["canceled"]:
        refuse_own(self._batch.id, self.index)
        with Waiting(self._session, self._batch.id, timeout, stop, False) as waiting:

            def look() -> Outcome | Literal["canceled"] | None:
                heard = waiting.watch.outcome(self.index)
                if heard is not None:
                    record = self._read(heard, b"")
                    if record is not None and not record.is_failed:  # what failed may be running again
                        self.remember(record)
                        return record
                elif self._waits_since > waiting.watch.complete_since:
                    self._waits_since = float("-inf")  # the next look is one at the state
                    return None
                ended = self._ended()
                if isinstance(ended, Outcome):
                    return ended
                return "canceled" if ended == "canceled" else None

            return waiting.until(look)

    def _value(self, record: Outcome) -> Any:
        __tracebackhide__ = True
        if record.is_failed:
            raise record.exception(self.id)
        assert record.outcomes is not None
        return outcome.value_of(record.outcomes, self._batch.id, self.index)

    def _canceled(self) -> errors.JobCanceled:
        return outcome.canceled(self.id, self._session.state(self._batch.id).reason)

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended, however it did."""
        if self._record is None:
            self._wait_for_record(timeout, None)
        hooks.waited_for(self.id)
        return self

    def show(self) -> None:
        """Show it in the cell that runs, with all that its cell has put out so far; without a notebook print that.

        Examples
        --------
        >>> q.fetch_job("k3f9x2:0").show()
        """
        display = hooks.display()
        if display is not None:
            display.show_job(self._batch, self.index)
        else:
            print(f"job {self.id} is {self.get_status()}")
            print(self.output, end="")

    def __await__(self) -> Generator[Any, None, Any]:
        __tracebackhide__ = True
        try:
            return (yield from in_thread(lambda stop: self._result(None, stop)).__await__())
        finally:
            if self._record is not None:
                hooks.waited_for(self.id)

    def return_value(self) -> Any:
        """The return value of the call, without waiting.

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

    def latest_result(self, timeout: float = 0) -> Result | None:
        """What came of its last attempt, in one piece; None if it has not ended, or was canceled.

        Parameters
        ----------
        timeout : float
            Seconds to wait for it to end.

        Returns
        -------
        Result or None
            With `type` (`Result.Type.SUCCESSFUL` or `FAILED`), `return_value`, `exc_string` and `created_at`.

        Examples
        --------
        >>> q.enqueue(abs, -3).latest_result(timeout=60).return_value
        3
        """
        if timeout > 0:
            try:
                self.wait(timeout)
            except errors.WaitTimeout:
                return None
        ended = self._ended()
        if isinstance(ended, str):
            return None
        if ended.is_failed:
            return Result(self.id, ResultType.FAILED, None, ended.failure().traceback, self.ended_at)
        return Result(self.id, ResultType.SUCCESSFUL, self._value(ended), None, self.ended_at)

    def exception(self) -> BaseException | None:
        """The exception that the call raised; None if it returned.

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
        return ended.failure().traceback if isinstance(ended, Outcome) and ended.is_failed else None

    @property
    def stdout(self) -> str:
        """Of its `output`, what went to stdout."""
        return self._printed("stdout")

    @property
    def stderr(self) -> str:
        """Of its `output`, what went to stderr."""
        return self._printed("stderr")

    @property
    def output(self) -> str:
        """The text that it put out when it was last started, to stdout and stderr, in order; '' if nothing.

        What C code, forks and the programs that it starts write is there, too. While it runs, what it has put out up to
        a moment ago. Of a job the first and the last 32 KB are kept, of a batch the newest megabyte; where something is
        left out, a line says how much.

        Raises
        ------
        NotFound
            There is no such job (any more).
        """
        return self._printed("")

    @property
    def rich_output(self) -> list[RichOutput]:
        """What it displayed when it was last started, beside the text, which is in its `output`: figures, tables.

        While it runs, what it has displayed up to now. Of a job 100 displays of up to 8 MB are kept, of a batch 64 MB.

        Raises
        ------
        NotFound
            There is no such job (any more).

        Examples
        --------
        >>> def draw(n):
        ...     display(frame.head(n))
        >>> q.enqueue(draw, 3).wait().rich_output[0]
        """
        return read_rich_output(self._session, self._batch.id, self.index)

    def _printed(self, stream: str) -> str:
        state = self._state()
        entries = self._session.store.call(looking.printed(self._batch.id, self.index))
        return text_of(entries, _last_start(state), stream)

    def _call(self) -> Call:
        digest, args, kwargs = self._call_as_stored()
        return digest, tuple(map(self._given, args)), {name: self._given(value) for name, value in kwargs.items()}

    def _given(self, value: Any) -> Any:
        """An argument as it was given, also if it is stored by itself."""
        if type(value) is not SharedValue:
            return value
        record = self._session.store.function(value.digest)
        if record is None:
            raise errors.ResultExpired(f"an argument of job {self.id} is not in Redis any more")
        return unpack_code(self._session.seal, value.digest, record)

    def _as_given(self, result: ResultOf) -> Job | Handle:
        """The job or batch in whose place the result stands."""
        batch = type(self._batch)(self._session, result.batch)
        return batch if result.index is None else Job(batch, result.index)

    def _call_as_stored(self) -> Call:
        found = self._session.store.calls(self._batch.id, self.index)
        if found is None:
            self._session.state(self._batch.id)  # raises NotFound
        else:
            seal, per_block, call = self._session.seal, found.per_block, None
            find = self._session.serializer
            with giving(self._as_given):
                if found.own:
                    call = Calls(seal, self._batch.id, self.index, found.own, find=find)[self.index]
                elif found.block:
                    first = self.index // per_block * per_block
                    call = Calls(seal, self._batch.id, first, found.block, find=find)[self.index]
            if call is not None and found.mended:
                return unpack_mended(seal, self._batch.id, found.mended).function, *call[1:]
            if call is not None:
                return call
        raise errors.ResultExpired(
            f"the arguments of job {self.id} are not kept any more: those of batches of more than 1,000 jobs are "
            "dropped when all have finished"
        )

    @property
    def progress(self) -> Progress | None:
        """How far it is while it runs, if it says so by `nbqueue.set_progress`, `nbqueue.track` or a bar of tqdm.

        Returns
        -------
        Progress or None
            With `done`, `total`, `share` (0 to 1) and `text`; some tenths of a second old.
        """
        if self.get_status() != "started":
            return None
        found = self._running_now()
        return None if found is None else found.progress

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
        described = self._batch.description
        if not described.is_single:
            return described.function
        digest = self._call()[0]
        record = self._session.store.function(digest)
        if record is None:
            raise errors.ResultExpired(f"the function of job {self.id} is not in Redis any more")
        return name_of(unpack_code(self._session.seal, digest, record))

    @property
    def description(self) -> str:
        """The name of its batch where people read it; of a single call without one, that of its function."""
        described = self._batch.description
        has_no_label = described.is_single and described.label == described.function
        return self.func_name if has_no_label else described.label

    @property
    def local_modules(self) -> dict[str, str]:
        """The local modules that it runs with: their names, and their sources as they were submitted."""
        return self._batch.local_modules

    @property
    def meta(self) -> dict[str, Any]:
        """The `meta` that it was submitted with, or has saved since (`nbqueue.get_current_job().save_meta()`).

        It is read each time, until something is changed in it: then it is that until `save_meta` or `refresh`.
        """
        saved = self._session.store.meta(self._batch.id, self.index)
        return self._changeable_meta(dict(self._batch.description.meta) if saved is None else saved)

    def _changeable_meta(self, found: dict[str, Any]) -> dict[str, Any]:
        """What was read of `meta`; what was given out before if that was changed since."""
        if self._given_meta is not None and self._given_meta[0] != self._given_meta[1]:
            return self._given_meta[0]
        self._given_meta = found, copy.deepcopy(found)
        return found

    def save_meta(self) -> None:
        """Keep `meta` as it was changed here, for everybody: a start of the job that comes finds it.

        While it runs, the job itself may save its own, and who saves last has said it.

        Raises
        ------
        UsageError
            It holds what JSON cannot, or is larger than 64 KB.
        NotFound
            There is no such job (any more).

        Examples
        --------
        >>> job.meta["reviewed"] = True
        >>> job.save_meta()
        """
        text = meta_as_json(self.id, self.meta)
        if self._session.store.call(steering.set_meta(self._batch.id, self.index, text)) != 1:
            self._state()
            raise errors.NotFound(f"job {self.id} was deleted")
        self._given_meta = None

    @property
    def timeout(self) -> float | None:
        """Seconds that it may run; None if there is no limit."""
        return self._batch.description.timeout

    @property
    def ttl(self) -> float | None:
        """Seconds after which it is given up if it still waits; None if it waits for ever."""
        return self._batch.description.ttl

    @property
    def created_at(self) -> datetime:
        """RQ's name for `enqueued_at`, which is the same here."""
        return self.enqueued_at

    @property
    def enqueued_at(self) -> datetime:
        """The time at which its batch was submitted."""
        return datetime.fromtimestamp(self._batch.state.submitted_at, UTC)

    @property
    def started_at(self) -> datetime | None:
        """The time at which it started; None if it has not, or a moment ago."""
        ended = self._ended()
        if isinstance(ended, Outcome):
            outcomes = ended.outcomes
            return datetime.fromtimestamp(outcomes.started_at(self.index), UTC) if outcomes else None
        found = self._running_now() if ended == "started" else None
        return None if found is None else datetime.fromtimestamp(found.since, UTC)

    def _running_now(self) -> RunningNow | None:
        """What its worker last said of it."""
        running = (job for worker in self._session.store.call(looking.workers()) for job in worker.running)
        return next((job for job in running if job.id == self.id), None)

    @property
    def ended_at(self) -> datetime | None:
        """The time at which it ended; None if it has not, or was canceled."""
        ended = self._ended()
        if isinstance(ended, str):
            return None
        outcomes = ended.outcomes
        if outcomes is None:  # nobody called it to its end, as when its process died
            at = (ended.words or {}).get("at")
            return datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else None
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

    @property
    def attempts(self) -> list[Attempt]:
        """Its starts that have ended, the first one first: after an error or a retry it runs again.

        The last 20 are kept.

        Examples
        --------
        >>> [(attempt.number, attempt.exception()) for attempt in job.attempts]
        [(1, TimeoutError('no answer')), (2, None)]
        """
        state = self._state()
        found = read_attempts(self._session, self._batch.id, self.index, state.attempts)
        record = self._read(state.own, state.block) if state.state == "ended" else None
        if record is not None:
            found.append(attempt_of(record, self.index, self.id, state.attempts + 1))
        return found

    @property
    def callback_error(self) -> str | None:
        """What went wrong in what was called after it (`on_success=` and the like), in words; None if nothing did."""
        found = self._session.store.callback_error(self._batch.id, self.index)
        return found[1] if found is not None and found[0] == _last_start(self._state()) else None

    @property
    def waits_for(self) -> list[str]:
        """Ids of the jobs and batches that it waits for while it is deferred: some of them, where they are many.

        Examples
        --------
        >>> q.enqueue(report, depends_on=batch).waits_for
        ['k3f9x2']
        """
        return list(self._state().waits_for)

    @property
    def dependency_ids(self) -> list[str]:
        """RQ's name for `waits_for`: those that have ended are not told."""
        return self.waits_for

    @property
    def due_at(self) -> datetime | None:
        """When it may start, if it waits for a time: its retry, or `enqueue_in`; else None."""
        due_at = self._state().due_at
        return None if due_at is None else datetime.fromtimestamp(due_at, UTC)

    def _outcomes(self) -> Outcomes | None:
        ended = self._ended()
        return ended.outcomes if isinstance(ended, Outcome) else None

    def debug(self) -> Any:
        """Call its function again, here and now, with its own arguments; returns what that returns.

        What it raises comes from the function's own lines, so that `%debug` and `pdb.pm()` look into it. The job itself
        stays as it is.

        Raises
        ------
        ResultExpired
            Its arguments are not kept any more.
        Exception
            The function's own.
        """
        digest, args, kwargs = self._call()
        record = self._session.store.function(digest)
        if record is None:
            raise errors.ResultExpired(f"the function of job {self.id} is not in Redis any more")
        function = unpack_code(self._session.seal, digest, record)
        return finished(function(*args, **kwargs))

    def cancel(self, *, enqueue_dependents: bool = False) -> bool:
        """Cancel it: at once if it waits; if it runs it is stopped. False if it had ended.

        Parameters
        ----------
        enqueue_dependents : bool
            Jobs that wait for it start all the same; otherwise they fail.
        """
        request = steering.cancel_job(self._batch.id, self.index, enqueue_dependents=enqueue_dependents)
        answer = self._session.store.call(request)
        if answer == "gone":
            self._state()
        return answer in ("canceled", "canceling")

    def retry(self, func: Callable[..., Any] | str | None = None) -> bool:
        """Run it again if it failed or was canceled; False if there was nothing to run again.

        Parameters
        ----------
        func : callable or str, optional
            A mended function, which is called from now on, with the same arguments. Without it the job runs as it was
            submitted, or with the function that it was given last; that this has changed here since is said.

        Raises
        ------
        NotFound
        CannotPickle, ServerFull
            See `Queue.enqueue`.

        Examples
        --------
        >>> job.retry(func=score)
        True
        """
        return self._retry(func)

    def _retry(self, func: Callable[..., Any] | str | None) -> bool:
        is_queued, notes = self.run_again(func)
        for note in notes:
            warnings.warn(note, stacklevel=3)
        return is_queued

    def run_again(self, func: Callable[..., Any] | str | None = None) -> tuple[bool, list[Warning]]:
        """The same, and what is to be said of it."""
        change = change_of(self._batch, self.index) if func is None else ""
        mended = None if func is None else mend(self._batch, func, self.index)
        retried = self._session.retry(self._batch.id, self.index, mended=mended)
        if retried.count == -1:
            self._state()
        n = retried.count
        if n:
            self._record = None
            self._session.attend(self._session.state(self._batch.id))
            display = hooks.display()
            if display is not None:
                display.revive(self._batch)
        if retried.broken:
            return False, [not_run_again(f"job {self.id}")]
        return bool(n), [errors.ChangedWarning(change)] if n and change else []

    def requeue(self, func: Callable[..., Any] | str | None = None) -> bool:
        """RQ's name for `retry`."""
        return self._retry(func)

    def delete(self) -> None:
        """Forget its call and its outcome; cancel it first if it has not ended."""
        if self.cancel():
            self.wait(60)
        self._record = None
        if self._session.store.call(steering.delete_job(self._batch.id, self.index)) == -1:
            self._state()
        if (files := self._session.seal.files) is not None:
            files.remove(self._batch.id, self.index)
        self._session.listener.forget(self._batch.id)


def _last_start(state: JobState) -> int:
    """The number of its last start, 0 before the first one."""
    # A death is counted when it happens, a start by any other cause when the job is queued again.
    has_started = state.state in ("started", "ended") and state.own[:1] != IN_WORDS
    return state.attempts + 1 if has_started else state.attempts


def not_run_again(which: str) -> errors.DependencyWarning:
    """What is said of jobs that come back with others."""
    return errors.DependencyWarning(
        f"{which} failed because of other jobs, and will come back when those are run again: the errors name them"
    )


def _finder(connection: Any) -> Any:
    """A queue that finds jobs: the one that is given, or one on a server that is."""
    if hasattr(connection, "fetch_job"):
        return connection
    # By its name, here only: a queue is made of jobs, and not the other way round.
    return importlib.import_module("nbqueue.client.queues").Queue(connection=connection)
