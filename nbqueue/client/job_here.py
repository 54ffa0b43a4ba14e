"""A call that was made in this process, as `Queue(is_async=False)` makes it, and what is asked of a job."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from nbqueue import errors
from nbqueue.child.callbacks import call_back, problem_of
from nbqueue.child.current import CurrentJob, made_here, meta_as_json
from nbqueue.client import outcome
from nbqueue.client.coroutines import finished
from nbqueue.client.handle import Handle
from nbqueue.client.job import Job
from nbqueue.client.latest_result import Result, ResultType
from nbqueue.client.named import function_of
from nbqueue.client.options import JobOptions
from nbqueue.client.packing import Call
from nbqueue.client.rich import RichOutput
from nbqueue.payload.callbacks import ON_FAILURE, ON_SUCCESS
from nbqueue.payload.functions import name_of
from nbqueue.store.requests.running import Progress
from nbqueue.store.requests.submitting import DependsOn


@dataclass(frozen=True, slots=True)
class AttemptHere:
    """One time that a call was made: as `Attempt`."""

    number: int
    started_at: datetime
    duration: float
    worker_name: None
    exc_info: str | None
    _error: Exception | None = field(repr=False)
    _value: Any = field(repr=False)

    def return_value(self) -> Any:
        """What it returned; raises what it raised."""
        __tracebackhide__ = True
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        """What it raised; None if it returned."""
        return self._error


class JobHere(Job):
    """A call that was made in this process when it was submitted. It answers as a job does, and no server knows it.

    The call gets the very arguments, and what it prints is printed here; there is no time limit. With `retry=` and
    `repeat=` it is made again at once. One that is to wait for a time is 'scheduled' until `retry()` makes it.
    """

    def __init__(self, batch: Handle, index: int, options: JobOptions, call: Call) -> None:
        super().__init__(batch, index)
        self._options = options
        self._function, self._args, self._kwargs = call.function, call.args, call.kwargs or {}
        self._saved_meta: dict[str, Any] | None = None
        self._callback_error: str | None = None
        self._attempts: list[AttemptHere] = []
        self._submitted_at = time.time()
        self._due_at = self._submitted_at + seconds_until(options.due, self._submitted_at)
        self._is_scheduled = self._due_at > self._submitted_at
        self._is_canceled = False
        if not self._is_scheduled:
            self._run()

    def _run(self) -> None:
        """Make the call, and again as its options say."""
        self._is_scheduled = self._is_canceled = False
        tries = 1
        while self._runs_again(self._make(), tries):
            tries += 1
        if not self._is_scheduled:
            self._call_back()

    def _call_back(self) -> None:
        """As a worker does it, with this job itself."""
        last = self._attempts[-1]
        error = last.exception()
        self._callback_error = None
        for which, callback in self._options.callbacks:
            if which == (ON_SUCCESS if error is None else ON_FAILURE):
                about = (last.return_value(),) if error is None else (type(error), error, error.__traceback__)
                try:
                    call_back(callback.func, which, (self, None, *about))
                except Exception as wrong:  # noqa: BLE001 - it is told, and changes nothing
                    self._callback_error = problem_of(wrong, which, about)

    @property
    def callback_error(self) -> str | None:
        """What went wrong in what was called after it, in words; None if nothing did."""
        return self._callback_error

    def _make(self) -> BaseException | None:
        """Make the call once; returns what it raised."""
        raised: BaseException | None = None
        error: Exception | None = None
        value = text = None
        started, clock = time.time(), time.monotonic()
        meta, number = self.meta, len(self._attempts) + 1
        current = CurrentJob(self._batch.id, self.index, number, self.origin, meta, self.timeout, self._save_meta)
        try:
            with made_here(current):
                value = self._given_back(self.debug())
        except (Exception, SystemExit) as caught:  # noqa: BLE001 - it is what the job tells
            raised = caught
            text = "".join(traceback.format_exception(raised))
            if isinstance(raised, Exception):
                error = raised
            else:
                error = errors.JobExited(f"job {self.id} called sys.exit({raised.code!r})")
                error.__cause__ = raised
                error.job_id = self.id
        at = datetime.fromtimestamp(started, UTC)
        self._attempts.append(AttemptHere(number, at, time.monotonic() - clock, None, text, error, value))
        return raised

    def _given_back(self, value: Any) -> Any:
        """What it returned, as who reads it gets it."""
        encoding = self._options.encoding
        return value if encoding is None else encoding.encode_result(value).decode(encoding.serializer)

    def _runs_again(self, error: BaseException | None, tries: int) -> bool:
        """Whether it is made again after so many tries; intervals are not waited for."""
        retry, repeat = self._options.retry, self._options.repeat
        if error is None:
            return repeat is not None and tries <= repeat.times
        if isinstance(error, errors.RetryLater):
            if retry is None:  # as often as it likes: not here, where nobody waits
                self._is_scheduled, self._due_at = True, time.time() + error.delay
            return retry is not None and tries <= retry.max
        return retry is not None and tries <= retry.max and retry.describe().is_for(type(error))

    def save_meta(self) -> None:
        """Keep `meta` as it was changed."""
        self._saved_meta = json.loads(meta_as_json(self.id, self.meta))
        self._given_meta = None

    def _save_meta(self, text: bytes) -> None:
        self._saved_meta = json.loads(text)

    def __reduce__(self) -> NoReturn:
        raise errors.CannotPickle(f"job {self.id} was run here, with is_async=False: another process does not find it")

    def _no_server(self, what: str) -> errors.UsageError:
        error = errors.UsageError(f"job {self.id} was run here, with is_async=False, and has no {what}")
        error.job_id = self.id
        return error

    def _state(self) -> NoReturn:
        raise self._no_server("state on a server")

    def _ended(self) -> NoReturn:
        raise self._no_server("record on a server")

    def _last(self) -> AttemptHere:
        """How its last attempt went.

        Raises
        ------
        NotFinished
            It waits for its time.
        """
        if self._is_scheduled:
            error = errors.NotFinished(
                f"job {self.id} is scheduled, and with is_async=False nobody makes its call when it is due: retry() "
                "makes it here and now"
            )
            error.job_id = self.id
            raise error
        return self._attempts[-1]

    def get_status(self, refresh: bool = True) -> str:
        """'finished' or 'failed'; 'scheduled' while it waits for its time, 'canceled' if it was."""
        if self._is_canceled or self._is_scheduled:
            return "canceled" if self._is_canceled else "scheduled"
        return "finished" if self._attempts[-1].exception() is None else "failed"

    def _result(self, timeout: float | None, stop: threading.Event | None) -> Any:
        __tracebackhide__ = True
        return self.return_value()

    def wait(self, timeout: float | None = None) -> Job:
        """It has ended.

        Raises
        ------
        NotFinished
            It waits for its time, which nobody here does.
        """
        if not self._is_canceled:
            self._last()
        return self

    def refresh(self) -> None:
        """There is nothing to read; what was changed in `meta` is forgotten."""
        self._given_meta = None

    def return_value(self) -> Any:
        """The return value of the call.

        Raises
        ------
        Exception
            The function's own.
        """
        __tracebackhide__ = True
        if self._is_canceled:
            raise outcome.canceled(self.id, "")
        return self._last().return_value()

    def exception(self) -> BaseException | None:
        """The exception that the call raised; None if it returned."""
        return outcome.canceled(self.id, "") if self._is_canceled else self._last().exception()

    @property
    def exc_info(self) -> str | None:
        """The traceback of what it raised, as text; None if it has not failed."""
        return self._attempts[-1].exc_info if self._attempts and self.get_status() == "failed" else None

    def latest_result(self, timeout: float = 0) -> Result | None:
        """What came of it."""
        status = self.get_status()
        if status not in ("finished", "failed"):
            return None
        value = self._attempts[-1].return_value() if status == "finished" else None
        kind = ResultType.SUCCESSFUL if status == "finished" else ResultType.FAILED
        return Result(self.id, kind, value, self.exc_info, self.ended_at)

    def get_position(self) -> None:
        """None: it does not wait."""

    def show(self) -> None:
        """Print what became of it."""
        print(f"job {self.id} is {self.get_status()}; it was run here")

    def _printed(self, stream: str) -> str:
        raise self._no_server("output of its own: it was printed where the call was made")

    @property
    def rich_output(self) -> list[RichOutput]:
        """None of its own: it was displayed where the call was made."""
        return []

    @property
    def progress(self) -> Progress | None:
        """None: it has ended."""
        return None

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments of the call."""
        return self._args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        return self._kwargs

    @property
    def func_name(self) -> str:
        """The function's name."""
        return name_of(self._function)

    @property
    def description(self) -> str:
        """Its name where people read it."""
        return self._options.label or self.func_name

    @property
    def local_modules(self) -> dict[str, str]:
        """None: it found the modules of this process."""
        return {}

    @property
    def meta(self) -> dict[str, Any]:
        """The `meta` that it was submitted with, or has saved."""
        return self._changeable_meta(dict(self._options.meta or {} if self._saved_meta is None else self._saved_meta))

    @property
    def timeout(self) -> float | None:
        """The limit that it was submitted with, which was not kept here."""
        return self._options.timeout

    @property
    def ttl(self) -> float | None:
        """What it was submitted with: it has not waited."""
        return self._options.ttl

    @property
    def enqueued_at(self) -> datetime:
        """The time at which it was submitted."""
        return datetime.fromtimestamp(self._submitted_at, UTC)

    @property
    def due_at(self) -> datetime | None:
        """When it would start, if it waits for a time; else None."""
        return datetime.fromtimestamp(self._due_at, UTC) if self._is_scheduled else None

    @property
    def started_at(self) -> datetime | None:
        """The time at which it was called last."""
        return self._attempts[-1].started_at if self._attempts else None

    @property
    def ended_at(self) -> datetime | None:
        """The time at which the call ended."""
        if not self._attempts:
            return None
        last = self._attempts[-1]
        return datetime.fromtimestamp(last.started_at.timestamp() + last.duration, UTC)

    @property
    def duration(self) -> float | None:
        """Seconds that the call took."""
        return self._attempts[-1].duration if self._attempts else None

    @property
    def worker_name(self) -> None:
        """None: no worker ran it."""

    @property
    def attempt(self) -> int:
        """The number of its last start, from 1."""
        return max(1, len(self._attempts))

    @property
    def attempts(self) -> list[Any]:
        """The times that it was called, the first one first."""
        return list(self._attempts)

    def debug(self) -> Any:
        """Call its function again, here and now, with its own arguments; returns what that returns."""
        return finished(self._function(*self._args, **self._kwargs))

    def as_dependency(self, *, may_fail: bool = False) -> list[DependsOn]:
        """Nothing to wait for: it has ended.

        Raises
        ------
        DependencyFailed
            It failed, and that is not allowed.
        """
        error = self.exception()
        if error is not None and not may_fail:
            failed = errors.DependencyFailed(f"job {self.id} failed ({type(error).__name__}: {error})")
            failed.job_id = self.id
            raise failed from error
        return []

    def result_here(self) -> Any:
        """What it has returned."""
        return self.return_value()

    def cancel(self, *, enqueue_dependents: bool = False) -> bool:
        """Have it not be made, if it waits for its time; False if it has ended."""
        if not self._is_scheduled:
            return False
        self._is_scheduled, self._is_canceled = False, True
        return True

    def run_again(self, func: Callable[..., Any] | str | None = None) -> tuple[bool, list[Warning]]:
        """Make its call, here and now, if it failed, was canceled, or waits for its time; that of another function, if
        one is given."""
        if self.get_status() == "finished":
            return False, []
        if func is not None:
            self._function = function_of(func)
        self._run()
        return True, []

    def delete(self) -> None:
        """Nobody else knows it: there is nothing to delete."""


def seconds_until(due: str, now: float) -> float:
    """Seconds until something is due that the options of a job say; none if it is."""
    if not due:
        return 0.0
    return max(0.0, float(due) if due.startswith("+") else float(due) - now)
