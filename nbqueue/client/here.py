"""`Queue(is_async=False)`: calls are made here, at once, with no server and no worker. For tests of what submits."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from nbqueue import errors
from nbqueue.client.batch import Batch, Errors, FailureGroup
from nbqueue.client.depending import with_results
from nbqueue.client.job import Job
from nbqueue.client.job_here import JobHere, seconds_until
from nbqueue.client.named import function_of
from nbqueue.client.options import JobOptions
from nbqueue.client.packing import Call, as_call
from nbqueue.client.printed import Line
from nbqueue.client.rich import RichOutput
from nbqueue.client.session import Session
from nbqueue.client.submitter import Submitter, check_iterable
from nbqueue.payload.functions import name_of
from nbqueue.payload.outcomes import Failure
from nbqueue.payload.serializers import Encoding
from nbqueue.store.description import Description
from nbqueue.store.keys import new_id
from nbqueue.store.requests.looking import BatchState
from nbqueue.store.requests.submitting import DependsOn


class BatchHere(Batch):
    """Calls that were made in this process, one after the other, when they were submitted: see `JobHere`."""

    def __init__(self, session: Session, queue: str, options: JobOptions, name: str, calls: Iterable[Call]) -> None:
        super().__init__(session, new_id())
        self._queue = queue
        self._described = options.describe(name, queue)
        self._submitted_at = time.time()
        self._jobs: list[JobHere] = []
        for index, call in enumerate(calls):
            self._jobs.append(JobHere(self, index, options, call))

    def __reduce__(self) -> NoReturn:
        raise errors.CannotPickle(f"batch {self.id} was run here, with is_async=False: another process has none of it")

    @property
    def origin(self) -> str:
        """The name of its queue."""
        return self._queue

    @property
    def description(self) -> Description:
        """What it was submitted with."""
        return self._described

    @property
    def state(self) -> BatchState:
        """All that is counted."""
        counts = Counter(job.get_status() for job in self._jobs)
        ends = [job.ended_at.timestamp() for job in self._jobs if job.ended_at is not None]
        return BatchState(
            id=self.id, queue=self._queue, environment="", per_block=1, description=self._described,
            total=len(self._jobs), queued=0, started=0, deferred=0, scheduled=counts["scheduled"],
            finished=counts["finished"], failed=counts["failed"], canceled=counts["canceled"],
            busy=sum(job.duration or 0.0 for job in self._jobs), submitted_at=self._submitted_at,
            ended_at=max(ends, default=self._submitted_at), is_submitting=False, is_paused=False, is_canceled=False,
            is_retried=False, reason="",
        )  # fmt: skip

    @property
    def rate(self) -> float:
        """Calls per second."""
        state = self.state
        elapsed = (state.ended_at or 0.0) - state.submitted_at
        return (state.finished + state.failed) / elapsed if elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """0; None while some wait for their time, which nobody here does."""
        return 0.0 if self.done else None

    @property
    def local_modules(self) -> dict[str, str]:
        """None: the calls found the modules of this process."""
        return {}

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._jobs[index]
        try:
            return self._jobs[index]
        except IndexError:
            raise IndexError(f"batch {self.id} has {len(self)} jobs, there is none with index {index}") from None

    def wait(self, timeout: float | None = None) -> Batch:
        """They have ended; see `JobHere.wait`."""
        for job in self._jobs:
            job.wait()
        return self

    def _iterate(
        self, timeout: float | None, on_error: Errors, stop: threading.Event | None, *, is_whole: bool = False
    ) -> Iterator[Any]:
        __tracebackhide__ = True
        if on_error not in ("raise", "skip", "return"):
            raise errors.UsageError(f"errors={on_error!r}: 'raise', 'skip' or 'return' is accepted")
        for job in self._jobs:
            error = job.exception()
            if error is None:
                yield job.return_value()
            elif on_error == "raise":
                raise error
            elif on_error == "return":
                yield error

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """The jobs, in their order."""
        for job in self._jobs:
            yield job.wait()

    def failures(self) -> list[FailureGroup]:
        """The failures, grouped by identical error, the most frequent first."""
        groups: dict[str, list[JobHere]] = {}
        failures: dict[str, Failure] = {}
        for job in self._jobs:
            if job.is_failed and (error := job.exception()) is not None:
                failure = Failure(type(error).__qualname__, str(error), job.exc_info or "")
                failures[failure.digest] = failures.get(failure.digest, failure)
                groups.setdefault(failure.digest, []).append(job)
        found = [
            FailureGroup(digest, one.type, one.message, len(groups[digest]), groups[digest][0], one.traceback)
            for digest, one in failures.items()
        ]
        return sorted(found, key=lambda group: (-group.count, group.job.index))

    def on_done(self, func: Callable[[Batch], Any]) -> None:
        """Have a function called, with the batch, at once: they have ended."""
        self.wait()
        func(self)

    def output(self, last: int = 20, after: str = "") -> list[Line]:
        """None of its own.

        Raises
        ------
        UsageError
            It was printed where the calls were made.
        """
        raise errors.UsageError(
            f"batch {self.id} was run here, with is_async=False: what its jobs printed was printed where they ran"
        )

    def rich_output(self) -> list[RichOutput]:
        """None of its own: it was displayed where the calls were made."""
        return []

    def cancel(self) -> int:
        """Cancel those that wait for their time; returns how many."""
        return sum(job.cancel() for job in self._jobs)

    def pause(self) -> None:
        """Nothing of it will run."""

    def resume(self) -> None:
        """Nothing of it is paused."""

    def run_again(self, func: Callable[..., Any] | str | None = None) -> tuple[int, list[Warning]]:
        """Make the calls, here and now, that failed, were canceled, or wait for their time; returns how many."""
        return sum([job.run_again(func)[0] for job in self._jobs]), []

    def as_dependency(self, *, may_fail: bool = False) -> list[DependsOn]:
        """Nothing to wait for: its jobs have ended; see `JobHere.as_dependency`."""
        return [on for job in self._jobs for on in job.as_dependency(may_fail=may_fail)]

    def result_here(self) -> list[Any]:
        """What its jobs have returned."""
        return self.results()

    def then(self, func: Callable[..., Any] | str, /, **options: Any) -> Batch:
        """Make a call for each of its jobs, with the result of that. See `Batch.then`."""
        queue, progress = options.pop("queue", None) or self.origin, options.pop("progress", False)
        given: Any = options
        return SubmitterHere(self._session, queue, JobOptions.of(given), progress).map(func, self.results())

    def show(self) -> None:
        """Print what became of it."""
        counts = ", ".join(f"{n:,} {state}" for state, n in self.counts.items() if n)
        print(f"{self.label}: {counts} (batch {self.id}, which was run here)")

    def delete(self) -> None:
        """Nobody else knows it: there is nothing to delete."""


class SubmitterHere(Submitter):
    """Makes calls here, at once and one after the other."""

    def _make(self, name: str, calls: Iterable[Call]) -> BatchHere:
        options = self._options
        if options.depends.on:
            raise _not_here(options.depends.on[0].name)
        calls = [_with_results(call, options) for call in calls]
        if self._serializer is not None:
            encoding = Encoding("", self._serializer)
            options = replace(options, encoding=encoding)
            calls = [_as_received(call, encoding, index) for index, call in enumerate(calls)]
        if seconds_until(options.due, time.time()) > 0:
            warnings.warn(
                "with is_async=False nobody waits for the time of a job: it is 'scheduled' until job.retry() makes its "
                "call", errors.OptionWarning, stacklevel=5,
            )  # fmt: skip
        return BatchHere(self._session, self._queue, options, name, calls)

    def enqueue(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Make one call. See `Queue.enqueue`."""
        func = function_of(func)
        job: Job = self._make(name_of(func), [Call(func, args, kwargs)])[0]
        return job

    def map(
        self, func: Callable[..., Any] | str, /, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None
    ) -> Batch:
        """Make a call for each item. See `Queue.map`."""
        if not iterables:
            raise errors.UsageError("map: give at least one iterable of arguments, as in q.map(func, items)")
        for items in iterables:
            check_iterable(items)
        return self.starmap(func, zip(*iterables, strict=False), kwargs=kwargs)

    def starmap(
        self, func: Callable[..., Any] | str, iterable: Iterable[Iterable[Any]], /, *,
        kwargs: dict[str, Any] | None = None,
    ) -> Batch:  # fmt: skip
        """Make a call for each tuple of arguments. See `Queue.starmap`."""
        function_of(func, kwargs)  # raises where these are none
        func = function_of(func)
        return self._make(name_of(func), [Call(func, tuple(args), kwargs) for args in _given(iterable)])

    def enqueue_many(self, calls: Iterable[Any], /, *, imports: Collection[str] = ()) -> Batch:
        """Make calls of functions that may differ. See `Queue.enqueue_many`."""
        found = [as_call(one) for one in _given(calls)]
        return self._make(name_of(found[0].function) if found else "calls", found)


def _with_results(call: Call, options: JobOptions) -> Call:
    args, kwargs, waits_for = with_results(call.args, call.kwargs or {}, options.depends)
    if waits_for:
        raise _not_here(DependsOn(waits_for[0].batch, waits_for[0].index).name)
    return Call(call.function, args, kwargs)


def _not_here(id: str) -> errors.UsageError:
    return errors.UsageError(
        f"with is_async=False calls are made at once, and {id} runs on a server: wait for it first, and give its result"
    )


def _given(items: Iterable[Any]) -> list[Any]:
    """All that an iterable gives, before the first call is made."""
    check_iterable(items)
    try:
        return list(items)
    except Exception as error:
        raise errors.SubmitError(
            f"the iterable raised {type(error).__name__}: {error}. With is_async=False no call was made"
        ) from error


def _as_received(call: Call, encoding: Encoding, index: int) -> Call:
    """A call as a worker gets it from a serializer."""
    try:
        args, kwargs = encoding.encode_call(call.args, call.kwargs or {}).decode(encoding.serializer)
    except errors.PayloadError as error:
        raise type(error)(f"call {index}: {error}") from error.__cause__
    return Call(call.function, args, kwargs)
