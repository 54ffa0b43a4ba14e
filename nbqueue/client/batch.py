"""Batches as users see them: views of what is in Redis, the same from any process and after a restart."""

from __future__ import annotations

import contextlib
import importlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, overload

from nbqueue import errors
from nbqueue.client import hooks, outcome
from nbqueue.client.cell_job import job_of
from nbqueue.client.handle import Handle
from nbqueue.client.job import Job, not_run_again
from nbqueue.client.mending import change_of, mend
from nbqueue.client.printed import Line, lines_of
from nbqueue.client.results import Ended, Reader
from nbqueue.client.rich import RichOutput, read_rich_output
from nbqueue.client.turns import own_index, refuse_own
from nbqueue.client.waiting import Waiting, in_thread
from nbqueue.store.requests import steering
from nbqueue.store.requests.looking import BatchState

Errors = Literal["raise", "skip", "return"]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of the same type and message."""

    digest: str
    type: str
    message: str
    count: int
    job: Job
    """One of the jobs."""
    traceback: str

    def __repr__(self) -> str:
        return f"<{self.count:,}x {self.type}: {self.message}, first: job {self.job.id}>"


class Batch(Handle):
    """Jobs that were submitted together.

    A view: it holds no state of its own, and works the same in another process, later, after a restart.
    """

    def __bool__(self) -> bool:
        return True

    @property
    def meta(self) -> dict[str, Any]:
        """The `meta` that it was submitted with."""
        return dict(self.description.meta)

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by state: total, queued, started, finished, failed, canceled; deferred and scheduled, where some are."""
        state = self.state
        later = {"deferred": state.deferred, "scheduled": state.scheduled}
        return {
            "total": state.total, "queued": state.queued, "started": state.started,
            "finished": state.finished, "failed": state.failed, "canceled": state.canceled,
            **{name: n for name, n in later.items() if n},
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
        return rate_of(self.state, self._session.now())

    @property
    def eta(self) -> float | None:
        """Seconds until the last job ends, at this rate; None while no job has ended, or some wait for their time."""
        return eta_of(self.state, self._session.now())

    def __len__(self) -> int:
        return self.state.total

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        state = self.state
        total, self._is_cell = state.total, state.description.cell is not None
        if isinstance(index, slice):
            return [job_of(self, i) for i in range(*index.indices(total))]
        if not -total <= index < total:
            raise IndexError(f"batch {self._id} has {total} jobs, there is none with index {index}")
        return job_of(self, index % total)

    @property
    def jobs(self) -> list[Job]:
        """All of them, in input order."""
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
        refuse_own(self._id)
        self._wait(timeout, None)
        return self

    def _waiting(
        self, timeout: float | None, stop: threading.Event | None, *, is_whole: bool = False, keeps_place: bool = False
    ) -> Waiting:
        return Waiting(
            self._session, self._id, timeout, stop, self._progress, is_whole=is_whole, keeps_place=keeps_place
        )

    def _error_of(self, ended: Ended) -> BaseException:
        if ended.error is not None:
            return ended.error
        job_id = f"{self._id}:{ended.index}"
        if ended.outcome is None:
            return outcome.canceled(job_id, self.state.reason)
        return ended.outcome.exception(job_id)

    def _wait(self, timeout: float | None, stop: threading.Event | None, *, keeps_place: bool = False) -> None:
        with self._waiting(timeout, stop, keeps_place=keeps_place) as waiting:
            waiting.until(lambda: True if waiting.refresh().done else None)

    def results(self, timeout: float | None = None, errors: Errors = "raise") -> list[Any]:
        """The return values of all calls, in input order; waits for them.

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
        __tracebackhide__ = True
        return self._results(timeout, errors, None)

    def _results(self, timeout: float | None, errors: Errors, stop: threading.Event | None) -> list[Any]:
        __tracebackhide__ = True
        refuse_own(self._id)
        return list(self._iterate(timeout, errors, stop, is_whole=True))

    def __iter__(self) -> Iterator[Any]:
        """The return values, in input order, each as soon as it and those before it are there."""
        return self._iterate(None, "raise", None)

    def _iterate(
        self, timeout: float | None, on_error: Errors, stop: threading.Event | None, *, is_whole: bool = False
    ) -> Iterator[Any]:
        __tracebackhide__ = True
        if on_error not in ("raise", "skip", "return"):
            raise errors.UsageError(f"errors={on_error!r}: 'raise', 'skip' or 'return' is accepted")
        reader = Reader(self._session, self._id)
        own = own_index(self._id)

        def look() -> list[Any] | None:
            found = reader.next_in_order(waiting.refresh)
            if found is None and own is not None and reader.position == own:
                refuse_own(self._id, own)
            return found

        with self._waiting(timeout, stop, is_whole=is_whole) as waiting:
            while True:
                found = waiting.until(look)
                if not found:
                    return
                for value in found:
                    if isinstance(value, Ended):
                        if on_error == "skip":
                            continue
                        error = self._error_of(value)
                        if on_error == "raise":
                            raise error
                        yield error
                    else:
                        yield value

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """The jobs, in the order in which they end; one that is run again meanwhile comes once more.

        Parameters
        ----------
        timeout : float, optional
            Seconds, for all together.
        """
        refuse_own(self._id)
        reader = Reader(self._session, self._id)
        with self._waiting(timeout, None) as waiting:
            while True:
                found = waiting.until(lambda: reader.next_ended(waiting.refresh))
                if not found:
                    return
                found.reverse()
                while found:  # what is done with is not kept
                    index, ended = found.pop()
                    job = job_of(self, index)
                    if ended is not None:
                        job.remember(ended)
                    del ended
                    yield job

    def __await__(self) -> Generator[Any, None, list[Any]]:
        __tracebackhide__ = True
        return in_thread(lambda stop: self._results(None, "raise", stop)).__await__()

    # Steering

    def failures(self) -> list[FailureGroup]:
        """The failures, grouped by identical error, the most frequent first."""
        found = self._session.store.failures(self._id)
        if not found:
            self._session.state(self._id)  # raises if there is no such batch
        groups = [
            FailureGroup(one.digest, one.type, one.message, one.count, job_of(self, one.example), one.traceback)
            for one in found
        ]
        return sorted(groups, key=lambda group: (-group.count, group.job.index))

    def on_done(self, func: Callable[[Batch], Any]) -> None:
        """Have a function called, with the batch, when all its jobs have ended: for a notification, say.

        It is called in a thread of this process, at once if the batch has ended, and not if this process ends before.

        Parameters
        ----------
        func : callable

        Examples
        --------
        >>> batch.on_done(lambda batch: print("done:", batch.counts))
        """

        def wait_and_call() -> None:
            try:
                self._wait(None, None, keeps_place=True)
            except errors.NotFound:  # it was deleted
                return
            func(self)

        threading.Thread(target=wait_and_call, name="nbqueue-on-done", daemon=True).start()

    def then(self, func: Callable[..., Any] | str, /, **options: Any) -> Batch:
        """Submit a call for each of its jobs, with the result of that: each starts as soon as its own input is there.

        Where a job fails or is canceled, the one that would take its result fails with `DependencyFailed`, and runs
        when that one has been run again.

        Parameters
        ----------
        func : callable
        **options
            See `Queue.map`; `queue=` names another queue.

        Returns
        -------
        Batch
            It has as many jobs, in the same order.

        Examples
        --------
        >>> q.map(abs, [-4, 9]).then(math.sqrt).then(print)
        """
        queue = options.pop("queue", None) or self.origin
        progress = options.pop("progress", self._progress)
        # By its name, here only: a submitter makes batches, and not the other way round.
        submitting = importlib.import_module("nbqueue.client.submitter")
        batch: Batch = submitting.then(self, func, queue, options, progress)
        return batch

    def output(self, last: int = 20, after: str = "") -> list[Line]:
        """The newest lines that jobs have put out, to stdout and stderr, the oldest of these first.

        They are there a moment after they were printed. Of a batch the newest megabyte is kept, and somewhat less where
        many jobs print little.

        Parameters
        ----------
        last : int
            How many lines at most.
        after : str
            The id of a line that was read before: if nothing was printed since, the list is empty, and that costs
            little. Otherwise it has the newest lines, whether or not they were read before.

        Raises
        ------
        NotFound
            There is no such batch (any more).

        Examples
        --------
        >>> batch = q.map(print, ["one", "two"]).wait()
        >>> [(line.index, line.stream, line.text) for line in batch.output()]
        [(0, 'stdout', 'one'), (1, 'stdout', 'two')]
        """
        if last < 1:
            raise errors.UsageError(f"last={last}: how many lines, at least 1")
        most = last
        while entries := self._session.store.output(self._id, most, after):
            lines = lines_of(entries)
            if len(lines) >= last or len(entries) < most:
                return lines[-last:]
            most, after = 4 * most, ""
        if not after:
            self._session.state(self._id)  # raises if there is no such batch
        return []

    def rich_output(self) -> list[RichOutput]:
        """What its jobs displayed, in the order of the jobs: see `Job.rich_output`.

        Examples
        --------
        >>> for shown in batch.rich_output():
        ...     print("job", shown.index)
        ...     display(shown)
        """
        return read_rich_output(self._session, self._id)

    def to_frame(self) -> Any:
        """A table of its jobs, as a frame of pandas, which has to be installed; does not wait.

        Returns
        -------
        pandas.DataFrame
            A row for each job, by its index: `args`, `kwargs`, `status`, `result`, `error`, `attempt`, `duration` (in
            seconds), `worker`. What is not known, yet or any more, is None.

        Examples
        --------
        >>> q.map(abs, [1, -2]).wait().to_frame()["result"].tolist()
        [1, 2]
        """
        pandas: Any = importlib.import_module("pandas")
        rows = [_row_of(job) for job in self.jobs]
        frame = pandas.DataFrame(rows, columns=_COLUMNS, dtype=object)
        frame["duration"] = frame["duration"].astype(float)
        return frame.rename_axis("index")

    def cancel(self) -> int:
        """Cancel all jobs that have not ended; those that run are stopped. Returns how many."""
        n = self._session.store.call(steering.cancel(self._id, "it was canceled"))
        self._check(n)
        return n

    def pause(self) -> None:
        """Let no further job start; those that run end."""
        self._check(self._session.store.call(steering.pause(self._id)))

    def resume(self) -> None:
        """Go on after `pause`."""
        self._check(self._session.store.call(steering.resume(self._id)))
        self._session.attend(self.state)

    def retry(self, func: Callable[..., Any] | str | None = None) -> int:
        """Run again what failed or was canceled; what finished never runs again. Returns how many jobs.

        Parameters
        ----------
        func : callable or str, optional
            A mended function, which these jobs call from now on, with the same arguments; local modules go along as
            they are now. Without it they run as they were submitted, or with the function that they were given last;
            that this has changed here since is said.

        Raises
        ------
        UsageError
            Its jobs call several functions: each has a `retry(func=...)` of its own.
        NotFound
        CannotPickle, ServerFull
            See `Queue.map`.

        Examples
        --------
        >>> batch.retry(func=score)
        3
        """
        n, notes = self.run_again(func)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return n

    def run_again(self, func: Callable[..., Any] | str | None = None) -> tuple[int, list[Warning]]:
        """The same; how many jobs, and what is to be said of their function, and of those that were not run again."""
        change = change_of(self) if func is None else ""
        mended = None if func is None else mend(self, func)
        total, is_over = 0, False
        while not is_over:
            retried = self._session.retry(self._id, mended=mended)
            self._check(retried.count)
            total, is_over = total + retried.count, not retried.has_more or not retried.count
        if total:
            self._session.attend(self.state)
            display = hooks.display()
            if display is not None:
                display.revive(self)
        notes: list[Warning] = [errors.ChangedWarning(change)] if total and change else []
        if retried.broken:
            notes.append(not_run_again(f"{retried.broken:,} jobs of batch {self._id}"))
        return total, notes

    def show(self) -> None:
        """Show it: its panel in a notebook, elsewhere its counts in a line.

        Examples
        --------
        >>> q.batch("k3f9x2").show()  # doctest: +SKIP
        """
        display = hooks.display()
        if display is not None:
            display.show(self)
        else:
            counts = ", ".join(f"{n:,} {state}" for state, n in self.counts.items() if n)
            print(f"{self.label}: {counts} (batch {self._id})")

    def delete(self) -> None:
        """Forget it: its jobs, calls and results. What of it runs ends unrecorded."""
        self._check(self._session.store.call(steering.delete(self._id)))
        if (files := self._session.seal.files) is not None:
            files.remove(self._id)

    def _check(self, answer: int) -> None:
        if answer == -1:
            self._session.state(self._id)  # raises NotFound


_COLUMNS = ["args", "kwargs", "status", "result", "error", "attempt", "duration", "worker"]


def _row_of(job: Job) -> list[Any]:
    status, args, kwargs, result, error = job.get_status(), None, None, None, None
    with contextlib.suppress(errors.ResultExpired):
        args, kwargs = job.args, job.kwargs
    try:
        if status in ("finished", "failed", "canceled"):
            result = job.return_value()
    except Exception as raised:  # noqa: BLE001 - is what is told
        error = raised
    return [args, kwargs, status, result, error, job.attempt, job.duration, job.worker_name]


def rate_of(state: BatchState, now: float) -> float:
    """Jobs that ended per second, since the batch was submitted."""
    elapsed = (state.ended_at or now) - state.submitted_at
    return (state.finished + state.failed) / elapsed if elapsed > 0 else 0.0


def eta_of(state: BatchState, now: float) -> float | None:
    """Seconds until the last job ends, at the present rate; None while no job has ended, or some wait for more than
    their turn."""
    if state.done:
        return 0.0
    if state.deferred or state.scheduled:
        return None
    rate = rate_of(state, now)
    return (state.total - state.ended) / rate if rate else None
