"""The queue: where jobs are submitted and found again."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Unpack

from nbqueue import errors, settings
from nbqueue.client import launch, listing, schedules
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob, job_of
from nbqueue.client.depending import found_by_name
from nbqueue.client.fleet import Workers
from nbqueue.client.handle import Progress
from nbqueue.client.here import SubmitterHere
from nbqueue.client.job import Job
from nbqueue.client.local_modules import Choice
from nbqueue.client.named import function_of
from nbqueue.client.options import (
    JobOptions,
    Options,
    due_at,
    due_in,
    refuse_unknown,
    seconds,
    take_options,
    tell_of_claimed,
)
from nbqueue.client.packing import Call
from nbqueue.client.prepared import PreparedCall, split
from nbqueue.client.registries import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from nbqueue.client.schedules import Schedule, Schedules
from nbqueue.client.session import Session
from nbqueue.client.submitter import Submitter, enqueue_cell
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import chosen
from nbqueue.store.connection import Client, Source
from nbqueue.store.description import CellDescription
from nbqueue.store.requests import steering
from nbqueue.store.requests.looking import BatchState
from nbqueue.store.requests.request import Run
from nbqueue.store.store import Store
from nbqueue.store.timetable import Timetable


class Queue:
    """A name that jobs wait under and workers listen to.

    Making one does nothing yet; the server is looked for (the embedded one is started) when it is first used. Threads
    and event loops may share it. Its methods hand on to those who do it, and are long in words only: they are the
    reference of what users call.

    Parameters
    ----------
    name : str
    connection : str or redis.Redis, optional
        A URL (`redis://`, `rediss://`, `unix://`) or a client whose settings are used. Without it `NBQUEUE_URL`, else
        the embedded server.
    namespace : str
        Queues of different namespaces on one server know nothing of each other.
    key : bytes or str, optional
        What payloads are signed with on a server that is not the embedded one; else `NBQUEUE_KEY`.
    environment : str, optional
        What jobs need to find where they run; else `NBQUEUE_ENVIRONMENT`. By default, on the embedded server, this very
        interpreter; with a URL, its Python minor version.
    progress : {"auto", "bar", False}
        How a wait shows progress: on a terminal, always, or never.
    local_modules : bool or sequence of str
        Modules that are installed nowhere (`.py` files beside the notebook, packages in a directory on `sys.path` or
        installed as editable) travel with the jobs, as they are when these are submitted; not with False. A list
        names installed packages that shall travel, too, and with '-' in front local ones that shall not.
    default_timeout : float or str, optional
        The `job_timeout` of jobs that are given none.
    is_async : bool
        With False calls are made here, at once and one after the other, and jobs have ended when they are returned: for
        tests of what submits. No server is needed. They get the very arguments; there are no time limits, and `seed`
        means nothing. What fails or repeats runs again at once, without its intervals. What is to wait for a time
        (`enqueue_in`) is 'scheduled' until `job.retry()` runs it.
    serializer : str, module or object, optional
        What makes bytes of arguments and results: "json", "pickle", or anything with `dumps` and `loads`, which gives
        and takes bytes or a text. By default cloudpickle, which takes almost anything and is the fastest way here. It
        is kept with each batch: workers, and whoever reads results, need not be told. One that cannot be imported
        travels with the jobs. "json" makes lists of tuples, and refuses keys that are no texts. Functions and what
        they refer to, exceptions, cells in the background and `meta` do not go through it.

    Examples
    --------
    >>> from nbqueue import Queue
    >>> q = Queue()
    >>> q.map(lambda x: x * x, range(3)).results()
    [0, 1, 4]
    """

    def __init__(
        self,
        name: str = "default",
        connection: Source | None = None,
        *,
        namespace: str = "default",
        key: bytes | str | None = None,
        environment: str | None = None,
        progress: Progress = "auto",
        local_modules: Choice = True,
        default_timeout: float | str | None = None,
        is_async: bool = True,
        serializer: Any = None,
    ) -> None:
        for what, value in (("name", name), ("namespace", namespace)):
            if not isinstance(value, str) or not re.fullmatch(r"[^\s{}:]+", value):
                kind = errors.UsageError if isinstance(value, str) else errors.WrongType
                raise kind(f"{what}={value!r:.80}: a word without spaces, colons and braces is accepted")
        self.name = name
        self.session = Session(
            connection, namespace=namespace, key=key, environment=environment, local_modules=local_modules
        )
        self._progress = progress
        self._default_timeout = None if default_timeout is None else seconds(default_timeout, "default_timeout")
        self._is_async = is_async
        self._serializer = chosen(serializer)
        self._plain = self._submitter({}, None)
        """Submits without options."""

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    def __reduce__(self) -> tuple[Callable[..., Queue], tuple[Any, ...]]:
        known = self.name, self.session, self._progress, self._default_timeout, self._is_async, self._serializer
        return _restored, known

    # The server that it is on

    @property
    def namespace(self) -> str:
        """Apart from other namespaces of the server."""
        return self.session.namespace

    @property
    def environment(self) -> str:
        """The environment that jobs which are submitted here need where they run."""
        return self.session.environment

    @property
    def connection(self) -> Client:
        """A `redis.Redis` on the same server, for own uses."""
        return self.session.store.address.client

    @property
    def store(self) -> Store:
        """The state of its namespace."""
        return self.session.store

    @property
    def seal(self) -> Seal:
        """The seal of its payloads."""
        return self.session.seal

    @property
    def is_async(self) -> bool:
        """Whether jobs wait for a worker; else calls are made here, at once."""
        return self._is_async

    def close(self) -> None:
        """Close what is open; it opens again when it is used."""
        self.session.close()

    # Submitting

    def options(self, *, progress: Progress | None = None, **options: Unpack[Options]) -> Submitter:
        """This queue with options: what is then called passes all further arguments on to the function.

        Parameters
        ----------
        **options
            See `enqueue`.

        Raises
        ------
        UsageError

        Examples
        --------
        >>> def fetch(url, timeout): ...
        >>> job = q.options(job_timeout=60).enqueue(fetch, "http://localhost", timeout=3)
        """
        return self._submitter(options, progress)

    def _submitter(self, options: Options, progress: Progress | None, due: str | None = None) -> Submitter:
        kind = Submitter if self._is_async else SubmitterHere
        given: Options = {"job_timeout": self._default_timeout, **options}
        checked = JobOptions.of(given)
        if self._is_async and checked.depends.texts:
            checked = replace(checked, depends=found_by_name(checked.depends, self.session.store))
        if due is not None:
            checked = replace(checked, due=due)
        shown = self._progress if progress is None else progress
        return kind(self.session, self.name, checked, shown, self._serializer)

    def enqueue(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Submit one call; returns when it is accepted.

        Parameters
        ----------
        func : callable or str
            Any: defined in the notebook, a lambda, a method, `async def`. A text such as 'package.module.function' is
            imported here and now.
        *args, **kwargs
            Its arguments, except the options below. Where the function has arguments of these names, use
            `q.options(...).enqueue(...)`, which passes everything on; or give all of its own as `args=(...)` and
            `kwargs={...}`. A job or a batch, also inside of lists, tuples and dicts, stands for its result or the list
            of its results, which is waited for.
        job_timeout : float or str, optional
            Seconds, or "90s", "5m", "2h"; by default the `default_timeout` of the queue, or no limit. With None there
            is no limit.
        result_ttl, failure_ttl : float or str, optional
            How long the outcome is kept after it ended, and where it failed or was canceled, if that shall be another
            time; 7 days by default, -1 for ever, 0 for a moment.
        ttl : float, str or timedelta, optional
            Time for which it may wait in the queue. Has it not started then, it fails with `errors.JobExpired`; what
            has started once is not given up. By default, and with -1, it waits for ever. After a `delay` it counts
            from then; what is run again by hand, after that time, waits as long as it takes.
        label, description : str, optional
            What it is called where people read it.
        meta : dict, optional
            Kept with it; what JSON can hold.
        at_front : bool
            Before all others that wait in the queue.
        priority : float
            Weight in the fair share; 2 gets twice the time of 1, the default.
        job_id : str, optional
            A name by which the job is found, too: `q.fetch_job("report-17")`. While the job that has it has not ended,
            another one is refused; then it is the next one's.
        unique : bool
            With `job_id`: refused also while a job of that name is there that has ended.
        retry : int or Retry, optional
            How often it runs again after it failed, and when: `Retry(max=3, interval=[1, 10, 60])`.
        repeat : int or Repeat, optional
            How often it runs again after it returned, and when: `Repeat(times=9, interval=60)`.
        delay : float, str or timedelta, optional
            Time until it may start.
        depends_on : Job, Batch, str, Dependency or a list of them, optional
            What has to finish before: jobs and batches, or their ids. Where one fails or is canceled, it fails, too:
            `DependencyFailed`. See `Dependency`.
        on_success, on_failure, on_stopped : callable or Callback, optional
            Called where it ran, after it has returned, has failed for good, or was canceled while it ran, with
            `(job, None, result)`, `(job, None, type, value, traceback)` or `(job, None)`, or those of `job`,
            `connection`, `result` and so on that it names; the job is what `nbqueue.get_current_job()` gives.
            What it prints is the job's output. That it fails, or takes longer than `Callback(func, timeout=60)` says,
            changes nothing of how the job ended, which is recorded when it is over: `job.callback_error` tells it.
        share : bool
            Calls that run in the same process share the function, its globals and its closure, such as a cache in one
            of them. By default each call finds what was submitted.
        seed : int, optional
            Of `random`, `numpy.random` and `torch` in the jobs: job i begins with the stream of
            `numpy.random.SeedSequence(seed).spawn(n)[i]`, whichever process runs it, also when it is run again.

        Returns
        -------
        Job

        Raises
        ------
        CannotPickle, ServerFull
            Names what cannot be sent.
        ServerUnreachable, ServerFull
        NotFound
            A job or batch that it would wait for is not there (any more).

        Examples
        --------
        >>> q.enqueue(pow, 2, 10).result()
        1024
        """
        return self._enqueue(func, args, kwargs)

    def enqueue_in(
        self, delay: float | str | datetime.timedelta, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Job:
        """Submit one call that starts after a while.

        Parameters
        ----------
        delay : float, str or timedelta
            Seconds, "90s", "5m", "2h", or a timedelta.
        func, *args, **kwargs
            See `enqueue`.

        Returns
        -------
        Job
            It is 'scheduled' until then; `job.due_at` tells when it is due.

        Raises
        ------
        UsageError
        CannotPickle, ServerFull, ServerUnreachable

        Examples
        --------
        >>> q.enqueue_in("10m", check, url)
        """
        return self._enqueue(func, args, kwargs, due_in(delay))

    def enqueue_at(self, time: datetime.datetime, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Submit one call that starts at a time.

        Parameters
        ----------
        time : datetime
            Without a time zone it is local time. What has passed starts now, with a warning.
        func, *args, **kwargs
            See `enqueue`.

        Examples
        --------
        >>> q.enqueue_at(datetime(2030, 1, 1, 6, 0), report)
        """
        return self._enqueue(func, args, kwargs, due_at(time))

    def _enqueue(
        self, func: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any], due: str | None = None
    ) -> Job:
        submitter = self._plain
        options = take_options(kwargs) if kwargs else {}
        if options or due:
            func = function_of(func)
            tell_of_claimed(func, options)
            submitter = self._submitter(options, None, due)
        if "args" in kwargs or "kwargs" in kwargs:
            one = self._apart(func, args, kwargs)
            args, kwargs = one.args, one.kwargs or {}
        if kwargs:
            func = function_of(func)
            refuse_unknown(func, kwargs)
        return submitter.enqueue(func, *args, **kwargs)

    @staticmethod
    def _apart(func: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call whose arguments are given as `args=` and `kwargs=`, which are taken out."""
        if args:
            raise errors.UsageError("give the function's arguments either directly or as args= and kwargs=")
        one = _prepared(func, kwargs.pop("args", None), kwargs.pop("kwargs", None))
        return replace(one, kwargs={**(one.kwargs or {}), **kwargs})

    def cron(
        self, expression: str, func: Callable[..., Any] | str, /, *args: Any, name: str | None = None,
        timezone: str | datetime.tzinfo | None = None, overlap: bool = False, **kwargs: Any,
    ) -> Schedule:  # fmt: skip
        """Submit a call that recurs, at the times of a cron expression.

        It is kept by the server, and workers start its runs: this process may end. After a time without any worker it
        runs once, however many times were missed.

        Parameters
        ----------
        expression : str
            Minute, hour, day of the month, month, day of the week, as in '*/5 * * * *' or '0 9 * * mon-fri'; or six
            fields, with seconds in front; or '@daily' and the like.
        func, *args, **kwargs
            See `enqueue`; its options are accepted but for `delay` and `repeat`. Runs find what was submitted.
        name : str, optional
            By default that of the function. A schedule of this name in the queue is replaced; where its times are the
            same, it stays due when it was.
        timezone : str or tzinfo, optional
            The name of a time zone, such as 'Europe/Berlin'; by default that of this process. Where the clocks are
            put forward, a time that is left out comes right after the gap; where they are put back, one that comes
            twice is meant once, unless the expression has a star for minutes or hours.
        overlap : bool
            Start a run though the one before has not ended; else it is passed over, and counted in `skipped`.

        Returns
        -------
        Schedule

        Raises
        ------
        UsageError
            The expression, the time zone or the name makes no sense.
        CannotPickle, ServerFull, ServerUnreachable

        Examples
        --------
        >>> q.cron("0 6 * * mon-fri", report, name="morning", timezone="Europe/Berlin")
        <Schedule morning: 0 6 * * mon-fri (Europe/Berlin)>
        """
        timetable = schedules.timetable_of_cron(expression, timezone)
        return self._recur(timetable, func, args, kwargs, {"name": name, "timezone": timezone, "overlap": overlap})

    def every(
        self, interval: float | str | datetime.timedelta, func: Callable[..., Any] | str, /, *args: Any,
        name: str | None = None, overlap: bool = False, **kwargs: Any,
    ) -> Schedule:  # fmt: skip
        """Submit a call that recurs again and again, for the first time after that while.

        Parameters
        ----------
        interval : float, str or timedelta
            Seconds, "90s", "10m", "2h", "1d", or a timedelta: the time between the beginnings of two runs, counted
            from now on.
        func, *args, name, overlap, **kwargs
            See `cron`.

        Examples
        --------
        >>> q.every("10m", check, url)
        <Schedule check: every 10 minutes>
        """
        timetable = schedules.timetable_of_interval(interval)
        return self._recur(timetable, func, args, kwargs, {"name": name, "overlap": overlap})

    def _recur(
        self, timetable: Timetable, func: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any],
        own: dict[str, Any],
    ) -> Schedule:  # fmt: skip
        """`own` are the arguments of schedules alone."""
        if not self._is_async:
            raise errors.UsageError("a queue with is_async=False makes calls here, at once: a schedule needs a server")
        func = function_of(func)
        options = take_options(kwargs)
        schedules.check_options(options)
        claimed: Any = {**options, **{name: value for name, value in own.items() if value}}
        tell_of_claimed(func, claimed, taker="a schedule", instead="kwargs={{{argument!r}: ...}}")
        call = Call(func, args, kwargs)
        if "args" in kwargs or "kwargs" in kwargs:
            call = self._apart(func, args, kwargs)
        given: Options = {"job_timeout": self._default_timeout, **options}
        return schedules.save(
            self.session, self.name, timetable, call, JobOptions.of(given), own["name"], overlap=bool(own["overlap"])
        )

    def enqueue_call(
        self,
        func: Callable[..., Any] | str,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        result_ttl: float | str | None = None,
        **options: Any,
    ) -> Job:
        """Submit one call whose arguments are given apart from the options.

        Parameters
        ----------
        func : callable or str
        args : iterable, optional
        kwargs : dict, optional
        timeout : float or str, optional
            RQ's name for `job_timeout`.
        result_ttl : float or str, optional
        **options
            See `enqueue`.

        Examples
        --------
        >>> q.enqueue_call(pow, args=(2, 10), timeout=60).result()
        1024
        """
        given: Any = _with_rqs_names(options, timeout, result_ttl)
        one = _prepared(func, args, kwargs)
        return self._submitter(given, None).enqueue(one.function, *one.args, **one.kwargs or {})

    def map(
        self,
        func: Callable[..., Any] | str,
        /,
        *iterables: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Batch:
        """Submit a call for each item; returns when all are accepted, while the first ones already run.

        Parameters
        ----------
        func : callable
        *iterables : iterables
            As with the built-in `map`; ends with the shortest. Generators are read block by block.
        kwargs : dict, optional
            Keyword arguments that are the same for each call. They are sent once, as a part of the function.
        job_timeout, result_ttl, failure_ttl, ttl, label, description, meta, at_front, priority, retry, repeat, delay,
        depends_on, on_success, on_failure, on_stopped, share, seed
            See `enqueue`. An item that is a job or a batch stands for its result.
        progress : {"auto", "bar", False}, optional
            How waits for this batch show progress.

        Returns
        -------
        Batch

        Raises
        ------
        SubmitError
            An iterable raised. What was submitted is canceled.
        CannotPickle, ServerUnreachable, ServerFull

        Examples
        --------
        >>> q.map(pow, [2, 3], [10, 2]).results()
        [1024, 9]
        >>> q.map(pow, [2, 3], kwargs={"exp": 2}).results()
        [4, 9]
        """
        return self._submitter(options, progress).map(func, *iterables, kwargs=kwargs)

    def starmap(
        self,
        func: Callable[..., Any] | str,
        iterable: Iterable[Iterable[Any]],
        /,
        *,
        kwargs: dict[str, Any] | None = None,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Batch:
        """Submit a call for each tuple of arguments; see `map`.

        Examples
        --------
        >>> q.starmap(pow, [(2, 10), (3, 2)]).results()
        [1024, 9]
        """
        return self._submitter(options, progress).starmap(func, iterable, kwargs=kwargs)

    def enqueue_many(
        self, calls: Iterable[Any], /, *, progress: Progress | None = None, **options: Unpack[Options]
    ) -> Batch:
        """Submit calls of functions that may differ; their order is kept.

        Parameters
        ----------
        calls : iterable
            Of `(func, args)`, `(func, args, kwargs)`, `nbqueue.call(func, *args, **kwargs)` or what
            `Queue.prepare_data` gives.
        **options
            See `map`.

        Examples
        --------
        >>> q.enqueue_many([(abs, (-1,)), nbqueue.call(sorted, "ba", reverse=True)]).results()
        [1, ['b', 'a']]
        """
        calls, prepared = split(calls)
        given: Any = {**prepared, **options}
        return self._submitter(given, progress).enqueue_many(calls)

    @staticmethod
    def prepare_data(
        func: Callable[..., Any] | str,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        result_ttl: float | str | None = None,
        **options: Any,
    ) -> Call | PreparedCall:
        """A call for `enqueue_many`, under RQ's name.

        Parameters
        ----------
        func, args, kwargs, timeout, result_ttl, **options
            See `enqueue_call`. All calls of a batch have to have the same options.

        Examples
        --------
        >>> calls = [Queue.prepare_data(pow, (n, 2), timeout=60) for n in range(3)]
        >>> q.enqueue_many(calls).results()
        [0, 1, 4]
        """
        given = _with_rqs_names(options, timeout, result_ttl)
        one = _prepared(func, args, kwargs)
        return PreparedCall(one, given) if given else one

    def enqueue_cell(
        self,
        raw_cell: str,
        packed: bytes,
        cell: CellDescription,
        *,
        label: str,
        number: int = 1,
        job_timeout: float | str | None = None,
        settings: bytes | None = b"",
        environment: Sequence[str] = (),
    ) -> CellJob:
        """Submit a cell of a notebook: what `%%enqueue` calls, which documents it.

        Parameters
        ----------
        raw_cell : str
        packed : bytes
            The variables that it reads, from `pack_cell`.
        cell : CellDescription
        label : str
        number : int
            The execution count that is shown.
        job_timeout : float or str, optional
        settings : bytes, optional
            Settings of the notebook, from `pack_settings`; None if none shall go along, not even those of each job.
        environment : sequence of str
            Environment variables that go along to a server that is not the embedded one.
        """
        timeout = None if job_timeout is None else seconds(job_timeout, "job_timeout")
        options = JobOptions(
            label=label, timeout=timeout, cell=cell, environment=tuple(environment), settings=settings is not None
        )
        return enqueue_cell(
            Submitter(self.session, self.name, options, False),
            raw_cell,
            packed,
            cell,
            number=number,
            settings=settings or b"",
        )

    # Finding

    def fetch_job(self, id: str) -> Job:
        """The job of an id such as 'k3f9x2:17', or the newest that was given this `job_id`.

        Raises
        ------
        NotFound
        """
        if not isinstance(id, str):
            raise errors.WrongType(f"{id!r:.80}: the id of a job is a text such as 'k3f9x2:17'")
        batch, _, index = self._id_of(id).partition(":")
        if not index.isdigit():
            raise errors.NotFound(
                f"{id!r} is not the id of a job: that is a batch and an index, such as 'k3f9x2:17', or its job_id"
            )
        found = self._batch(batch)
        try:
            return found[int(index)]
        except IndexError as error:
            raise errors.NotFound(str(error)) from None

    def _id_of(self, name: str) -> str:
        """The id of a job that was given a name; any other text as it is."""
        batch = None if ":" in name or not name else self.store.named(name)
        return name if batch is None else f"{batch}:0"

    def batch(self, id: str) -> Batch:
        """The batch of an id.

        Raises
        ------
        NotFound
        """
        self.session.state(id)  # raises if there is none
        return self._batch(id)

    def _batch(self, id: str) -> Batch:
        return Batch(self.session, id, progress=self._progress)

    def batches(self, limit: int = 100) -> list[Batch]:
        """The newest batches of this queue, those of this notebook first."""
        return [self._batch(state.id) for state in self._newest(limit)]

    def _newest(self, limit: int) -> list[BatchState]:
        states = self.store.batches(limit, self.name)
        notebook = settings.notebook()
        if notebook:
            states.sort(key=lambda state: state.description.notebook != notebook)
        return states

    def last(self) -> Batch | None:
        """The newest batch, of this notebook if it has one; None if there is none. Not one of a schedule's runs."""
        for limit in (100, 10_000):
            for state in self._newest(limit):
                if not state.description.schedule:
                    return self._batch(state.id)
        return None

    def schedules(self) -> Schedules:
        """The schedules of this queue, by name: what `cron` and `every` have submitted.

        On the embedded server a worker is started if there is none and one of them waits for its time.
        """
        found = schedules.schedules(self.session, self.name)
        if any(not schedule.state.is_paused for schedule in found):
            self.session.fleet.attend_now_and_then(self.name)
        return found

    def schedule(self, name: str) -> Schedule:
        """The schedule of a name.

        Raises
        ------
        NotFound
        """
        return schedules.schedule(self.session, self.name, name)

    def _waiting(self) -> list[BatchState]:
        return [state for state in self.store.unfinished(self.name) if state.queued > 0]

    @property
    def job_ids(self) -> list[str]:
        """The ids of the jobs that wait."""
        return self.get_job_ids()

    @property
    def jobs(self) -> list[Job]:
        """The jobs that wait."""
        return self.get_jobs()

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """The ids of some of the jobs that wait.

        Their order is that in which workers take them, as far as it can be told: the batch that is next in the fair
        share first, and the jobs of each in their order. Workers share their time between batches.

        Parameters
        ----------
        offset : int
            Below 0 it is counted from the end.
        length : int
            How many at most; below 0 it says where the end is: -1 is the last one, -2 the one before.

        Examples
        --------
        >>> q.get_job_ids(0, 2)
        ['k3f9x2:0', 'k3f9x2:1']
        """
        return list(listing.ids(self._waiting_part(offset, length)))

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job]:
        """Some of the jobs that wait; see `get_job_ids`."""
        batches: dict[str, Batch] = {}
        found = []
        for id, (start, stop) in self._waiting_part(offset, length):
            batch = batches.setdefault(id, self._batch(id))
            found += [job_of(batch, index) for index in range(start, stop)]
        return found

    def _waiting_part(self, offset: int, length: int) -> Iterator[tuple[str, Run]]:
        if length == 0:
            return iter(())
        waiting = listing.waiting(self.store, self.name)
        n = sum(batch.count for batch in waiting)
        start = max(0, n + offset) if offset < 0 else offset
        first, most = listing.window(start, start + length - 1 if length > 0 else length, lambda: n)
        return listing.part(waiting, self.store.waiting, first, most)

    def get_job_position(self, job_or_id: Job | str) -> int | None:
        """How many jobs wait before one, in the order of `get_job_ids`; None if it does not wait here."""
        id = job_or_id.id if isinstance(job_or_id, Job) else self._id_of(job_or_id)
        batch, _, index = id.partition(":")
        return listing.position(self.store, self.name, batch, int(index)) if index.isdigit() else None

    @property
    def started_job_registry(self) -> StartedJobRegistry[Queue]:
        """The jobs that run, as RQ's users look at them."""
        return StartedJobRegistry(self)

    @property
    def finished_job_registry(self) -> FinishedJobRegistry[Queue]:
        """The jobs that returned."""
        return FinishedJobRegistry(self)

    @property
    def failed_job_registry(self) -> FailedJobRegistry[Queue]:
        """The jobs that failed; `requeue_all()` runs them again."""
        return FailedJobRegistry(self)

    @property
    def canceled_job_registry(self) -> CanceledJobRegistry[Queue]:
        """The jobs that were canceled."""
        return CanceledJobRegistry(self)

    @property
    def deferred_job_registry(self) -> DeferredJobRegistry[Queue]:
        """The jobs that wait for others."""
        return DeferredJobRegistry(self)

    @property
    def scheduled_job_registry(self) -> ScheduledJobRegistry[Queue]:
        """The jobs that wait for their time."""
        return ScheduledJobRegistry(self)

    @property
    def count(self) -> int:
        """The number of jobs that wait."""
        return self.store.queue(self.name).counts.queued

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True

    def is_empty(self) -> bool:
        """Whether no job waits."""
        return self.count == 0

    # Steering

    def empty(self) -> int:
        """Cancel all jobs that wait; those that run go on. Returns how many."""
        reason = "the queue was emptied"
        states = self._waiting()
        return sum(max(0, self.store.call(steering.cancel(state.id, reason, only_waiting=True))) for state in states)

    def remove(self, job_or_id: Job | str) -> int:
        """Cancel one job that waits; returns 1, or 0 if it does not wait. One that starts at this moment is stopped.

        Raises
        ------
        NotFound
            There is no such job.
        """
        job = job_or_id if isinstance(job_or_id, Job) else self.fetch_job(job_or_id)
        return int(job.is_queued and job.origin == self.name and job.cancel())

    def delete(self, delete_jobs: bool = True) -> int:
        """Cancel all jobs that wait, and forget those batches of which nothing has started; returns how many jobs.

        What runs goes on, and what has ended stays until it expires: with the last of its batches, the queue is gone.

        Parameters
        ----------
        delete_jobs : bool
            With False nothing is forgotten: it is `empty`.
        """
        waiting = [self._batch(state.id) for state in self._waiting()]
        n = self.empty()
        for batch in waiting if delete_jobs else ():
            state = self.store.batch(batch.id)
            if state is not None and state.done and state.canceled == state.total:
                batch.delete()
        return n

    def pause(self) -> None:
        """Let no further job of this queue start, for anybody; those that run end."""
        self.store.call(steering.pause_queue(self.name))

    def resume(self) -> None:
        """Go on after `pause`."""
        environments = {worker.environment for worker in self.workers()} | {self.environment}
        self.store.call(steering.resume_queue(self.name, sorted(environments)))

    @property
    def is_paused(self) -> bool:
        """Whether it is paused, for everybody."""
        return self.store.is_paused(self.name)

    # Workers

    def workers(self) -> Workers:
        """The workers of this server and namespace, whatever they listen to."""
        return self.session.fleet.workers()

    def start_workers(self, n: int | None = None, *, max_idle_time: float | None = launch.IDLE_TIME) -> Workers:
        """See to it that `n` children on this machine serve this queue; returns when they are there.

        They are detached: the kernel's interrupt, restart and shutdown do not touch them.

        Parameters
        ----------
        n : int, optional
            How many there shall be, in all; by default the CPUs that may be used. Calling it twice is the same as
            once.
        max_idle_time : float, optional
            Seconds without work after which they leave; one hour by default, None for never.
        """
        return self.session.fleet.start(self.name, n, max_idle_time)

    def suspend_workers(self) -> None:
        """Have no worker take anything, of any queue of the namespace; what runs ends. See `nbqueue suspend`."""
        self.session.fleet.suspend()

    def resume_workers(self) -> bool:
        """Go on after `suspend_workers`; whether they were suspended."""
        return self.session.fleet.resume()

    def stop_workers(self, timeout: float = 30.0) -> int:
        """Tell the workers of this queue and environment to finish what runs and leave; returns how many.

        Where the server takes no orders, because its disk is full, those on this machine get a SIGTERM; as always, a
        second one has them leave at once.

        Parameters
        ----------
        timeout : float
            Seconds to wait until they have left.
        """
        return self.session.fleet.stop(self.name, timeout)


def _restored(
    name: str, session: Session, progress: Progress, default_timeout: float | None = None, is_async: bool = True,
    serializer: Any = None,
) -> Queue:  # fmt: skip
    queue = Queue(name, progress=progress, default_timeout=default_timeout, is_async=is_async, serializer=serializer)
    queue.session = session
    queue._plain = queue._submitter({}, None)
    return queue


def _prepared(func: Callable[..., Any] | str, args: Iterable[Any] | None, kwargs: dict[str, Any] | None) -> Call:
    if isinstance(args, str) or not isinstance(args, Iterable | None):
        raise errors.WrongType(f"args={args!r:.80}: a tuple or list of positional arguments is accepted")
    if not isinstance(kwargs, dict | None):
        raise errors.WrongType(f"kwargs={kwargs!r:.80}: a dict of keyword arguments is accepted")
    return Call(function_of(func), tuple(args or ()), kwargs or {})


def _with_rqs_names(
    options: dict[str, Any], timeout: float | str | None, result_ttl: float | str | None
) -> dict[str, Any]:
    """Options of which some have other names in RQ, as far as they are given."""
    named = {"job_timeout": timeout, "result_ttl": result_ttl}
    return options | {name: value for name, value in named.items() if value is not None}


def call(func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Call:
    """A call for `enqueue_many`.

    Examples
    --------
    >>> q.enqueue_many([call(pow, 2, 10), call(sorted, "ba", reverse=True)]).results()
    [1024, ['b', 'a']]
    """
    return Call(function_of(func), args, kwargs)
