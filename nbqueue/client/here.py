"""`Queue(is_async=False)`: calls are made here, at once, with no server and no worker. For tests of what submits."""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

from nbqueue import errors
from nbqueue.child.callbacks import call_back, problem_of
from nbqueue.client.batch import Batch
from nbqueue.client.handle import Handle
from nbqueue.client.job import Job
from nbqueue.client.latest_result import Result, ResultType
from nbqueue.client.named import function_of
from nbqueue.client.options import JobOptions
from nbqueue.client.rich import RichOutput
from nbqueue.client.session import Session
from nbqueue.client.submitter import Submitter
from nbqueue.payload.callbacks import ON_FAILURE, ON_SUCCESS
from nbqueue.payload.functions import name_of
from nbqueue.store.keys import new_id
from nbqueue.store.requests.running import Progress
from nbqueue.store.requests.submitting import DependsOn


class JobHere(Job):
    """A call that was made in this process when it was submitted. It answers as a job does, and no server knows it.

    The call gets the very arguments, and what it prints is printed here; there is no time limit.
    """

    def __init__(
        self, session: Session, queue: str, options: JobOptions,
        function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
    ) -> None:  # fmt: skip
        super().__init__(Handle(session, new_id()), 0)
        self._queue, self._options = queue, options
        self._function, self._args, self._kwargs = function, args, kwargs
        self._attempt = 0
        self._submitted_at = time.time()
        self._run()

    def _run(self) -> None:
        self._value_here: Any = None
        self._error: Exception | None = None
        self._traceback: str | None = None
        self._attempt += 1
        self._started_at = time.time()
        try:
            self._value_here = self.debug()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is what the job tells
            self._traceback = "".join(traceback.format_exception(error))
            if isinstance(error, Exception):
                self._error = error
            else:
                self._error = errors.JobExited(f"job {self.id} called sys.exit({error.code!r})")
                self._error.__cause__ = error
                self._error.job_id = self.id
        self._ended_at = time.time()
        self._call_back()

    def _call_back(self) -> None:
        """As a worker does it, with this job itself."""
        self._callback_error: str | None = None
        error = self._error
        for which, callback in self._options.callbacks:
            if which == (ON_SUCCESS if error is None else ON_FAILURE):
                about = (self._value_here,) if error is None else (type(error), error, error.__traceback__)
                try:
                    call_back(callback.func, which, (self, None, *about))
                except Exception as wrong:  # noqa: BLE001 - it is told, and changes nothing
                    self._callback_error = problem_of(wrong, which, about)

    @property
    def callback_error(self) -> str | None:
        """What went wrong in what was called after it, in words; None if nothing did."""
        return self._callback_error

    def __reduce__(self) -> NoReturn:
        raise errors.CannotPickle(f"job {self.id} was run here, with is_async=False: another process does not find it")

    def _no_server(self, what: str) -> errors.UsageError:
        error = errors.UsageError(f"job {self.id} was run here, with is_async=False, and has no {what}")
        error.job_id = self.id
        return error

    @property
    def batch(self) -> Handle:
        """There is none.

        Raises
        ------
        UsageError
        """
        raise self._no_server("batch")

    @property
    def origin(self) -> str:
        """The name of its queue."""
        return self._queue

    def _state(self) -> NoReturn:
        raise self._no_server("state on a server")

    def _ended(self) -> NoReturn:
        raise self._no_server("record on a server")

    def get_status(self) -> str:
        """'finished' or 'failed'."""
        return "finished" if self._error is None else "failed"

    def _result(self, timeout: float | None, stop: threading.Event | None) -> Any:
        __tracebackhide__ = True
        return self.return_value()

    def wait(self, timeout: float | None = None) -> Job:
        """It has ended."""
        return self

    def refresh(self) -> None:
        """There is nothing to read."""

    def return_value(self) -> Any:
        """The return value of the call.

        Raises
        ------
        Exception
            The function's own.
        """
        __tracebackhide__ = True
        if self._error is not None:
            raise self._error
        return self._value_here

    def exception(self) -> BaseException | None:
        """The exception that the call raised; None if it returned."""
        return self._error

    @property
    def exc_info(self) -> str | None:
        """The traceback of what it raised, as text; None if it has not failed."""
        return self._traceback

    def latest_result(self, timeout: float = 0) -> Result:
        """What came of it."""
        kind = ResultType.SUCCESSFUL if self._error is None else ResultType.FAILED
        return Result(self.id, kind, self._value_here, self._traceback, self.ended_at)

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
        """The `meta` that it was submitted with."""
        return dict(self._options.meta or {})

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
    def started_at(self) -> datetime:
        """The time at which it was called."""
        return datetime.fromtimestamp(self._started_at, UTC)

    @property
    def ended_at(self) -> datetime:
        """The time at which the call ended."""
        return datetime.fromtimestamp(self._ended_at, UTC)

    @property
    def duration(self) -> float:
        """Seconds that the call took."""
        return self._ended_at - self._started_at

    @property
    def worker_name(self) -> None:
        """None: no worker ran it."""

    @property
    def attempt(self) -> int:
        """The number of its last start, from 1."""
        return self._attempt

    def debug(self) -> Any:
        """Call its function again, here and now, with its own arguments; returns what that returns."""
        found = self._function(*self._args, **self._kwargs)
        if not inspect.iscoroutine(found):
            return found
        import asyncio  # here, because only coroutines need it

        return asyncio.run(found)

    def as_dependency(self, *, may_fail: bool = False) -> list[DependsOn]:
        """Nothing to wait for: it has ended.

        Raises
        ------
        DependencyFailed
            It failed, and that is not allowed.
        """
        if self._error is not None and not may_fail:
            error = errors.DependencyFailed(f"job {self.id} failed ({type(self._error).__name__}: {self._error})")
            error.job_id = self.id
            raise error from self._error
        return []

    def cancel(self, *, enqueue_dependents: bool = False) -> bool:
        """False: it has ended."""
        return False

    def run_again(self, func: Callable[..., Any] | str | None = None) -> bool:
        """Run it again, here and now, if it failed; with another function, if one is given."""
        if self._error is None:
            return False
        if func is not None:
            self._function = function_of(func)
        self._run()
        return True

    def _retry(self, func: Callable[..., Any] | str | None) -> bool:
        return self.run_again(func)

    def delete(self) -> None:
        """Nobody else knows it: there is nothing to delete."""


class SubmitterHere(Submitter):
    """Makes single calls here, at once."""

    def enqueue(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Make one call. See `Queue.enqueue`."""
        return JobHere(self._session, self._queue, self._options, function_of(func), args, kwargs)

    def map(
        self, func: Callable[..., Any] | str, /, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None
    ) -> Batch:
        """Refused: see `Queue`."""
        raise _only_single("map")

    def starmap(
        self, func: Callable[..., Any] | str, iterable: Iterable[Iterable[Any]], /, *,
        kwargs: dict[str, Any] | None = None,
    ) -> Batch:  # fmt: skip
        """Refused: see `Queue`."""
        raise _only_single("starmap")

    def enqueue_many(self, calls: Iterable[Any], /, *, imports: Iterable[str] = ()) -> Batch:
        """Refused: see `Queue`."""
        raise _only_single("enqueue_many")


def _only_single(what: str) -> errors.UsageError:
    return errors.UsageError(
        f"{what}: a queue with is_async=False makes single calls, by enqueue; a batch needs a server and a worker"
    )
