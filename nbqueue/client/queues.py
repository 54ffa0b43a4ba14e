"""The queue: where jobs are submitted and found again."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from nbqueue import errors, settings
from nbqueue.client import launch
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob, job_of
from nbqueue.client.fleet import Workers
from nbqueue.client.handle import Progress
from nbqueue.client.job import Job
from nbqueue.client.local_modules import Choice
from nbqueue.client.options import JobOptions, Options, due_at, due_in, seconds, take_options, tell_of_claimed
from nbqueue.client.packing import Call
from nbqueue.client.session import Session
from nbqueue.client.submitter import Submitter, enqueue_cell
from nbqueue.payload.seal import Seal
from nbqueue.store.connection import Client, Source
from nbqueue.store.description import CellDescription
from nbqueue.store.requests import steering
from nbqueue.store.requests.looking import BatchState
from nbqueue.store.store import Store


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
    ) -> None:
        for what, value in (("name", name), ("namespace", namespace)):
            if not isinstance(value, str) or not re.fullmatch(r"[^\s{}:]+", value):
                raise errors.UsageError(f"{what}={value!r}: a word without spaces, colons and braces is accepted")
        self.name = name
        self.session = Session(
            connection, namespace=namespace, key=key, environment=environment, local_modules=local_modules
        )
        self._progress = progress
        self._plain = Submitter(self.session, name, JobOptions(), progress)
        """Submits without options."""

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    def __reduce__(self) -> tuple[Callable[..., Queue], tuple[str, Session, Progress]]:
        return _restored, (self.name, self.session, self._progress)

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
        chosen = JobOptions.of(options)
        if due is not None:
            chosen = replace(chosen, due=due)
        return Submitter(self.session, self.name, chosen, self._progress if progress is None else progress)

    def enqueue(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job:
        """Submit one call; returns when it is accepted.

        Parameters
        ----------
        func : callable
            Any: defined in the notebook, a lambda, a method, `async def`.
        *args, **kwargs
            Its arguments, except the options below. Where the function has arguments of these names, use
            `q.options(...).enqueue(...)`, which passes everything on; or give all of its own as `args=(...)` and
            `kwargs={...}`.
        job_timeout : float or str, optional
            Seconds, or "90s", "5m", "2h"; by default there is no limit.
        result_ttl : float or str
            How long the outcome is kept after it ended; 7 days by default.
        label, description : str, optional
            What it is called where people read it.
        meta : dict, optional
            Kept with it; what JSON can hold.
        at_front : bool
            Before all others that wait in the queue.
        priority : float
            Weight in the fair share; 2 gets twice the time of 1, the default.
        retry : int or Retry, optional
            How often it runs again after it failed, and when: `Retry(max=3, interval=[1, 10, 60])`.
        delay : float, str or timedelta, optional
            Time until it may start.
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

        Examples
        --------
        >>> q.enqueue(pow, 2, 10).result()
        1024
        """
        return self._enqueue(func, args, kwargs)

    def enqueue_in(
        self, delay: float | str | datetime.timedelta, func: Callable[..., Any], /, *args: Any, **kwargs: Any
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

    def enqueue_at(self, time: datetime.datetime, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job:
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
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], due: str | None = None
    ) -> Job:
        submitter = self._plain
        options = take_options(kwargs) if kwargs else {}
        if options or due:
            tell_of_claimed(func, options)
            submitter = self._submitter(options, None, due)
        if "args" in kwargs or "kwargs" in kwargs:
            if args:
                raise errors.UsageError("give the function's arguments either directly or as args= and kwargs=")
            args, kwargs = tuple(kwargs.pop("args", ())), {**kwargs.pop("kwargs", {}), **kwargs}
        return submitter.enqueue(func, *args, **kwargs)

    def map(
        self,
        func: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Batch:
        """Submit a call for each item; returns when all are accepted, while the first ones already run.

        Parameters
        ----------
        func : callable
        *iterables : iterables
            As with the built-in `map`; ends with the shortest. Generators are read block by block.
        job_timeout, result_ttl, label, description, meta, at_front, priority, retry, delay, share, seed
            See `enqueue`.
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
        """
        return self._submitter(options, progress).map(func, *iterables)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        /,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Batch:
        """Submit a call for each tuple of arguments; see `map`.

        Examples
        --------
        >>> q.starmap(pow, [(2, 10), (3, 2)]).results()
        [1024, 9]
        """
        return self._submitter(options, progress).starmap(func, iterable)

    def enqueue_many(
        self, calls: Iterable[Any], /, *, progress: Progress | None = None, **options: Unpack[Options]
    ) -> Batch:
        """Submit calls of functions that may differ; their order is kept.

        Parameters
        ----------
        calls : iterable
            Of `(func, args)`, `(func, args, kwargs)` or `nbqueue.call(func, *args, **kwargs)`.
        **options
            See `map`.

        Examples
        --------
        >>> q.enqueue_many([(abs, (-1,)), nbqueue.call(sorted, "ba", reverse=True)]).results()
        [1, ['b', 'a']]
        """
        return self._submitter(options, progress).enqueue_many(calls)

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
        """The job of an id such as 'k3f9x2:17'.

        Raises
        ------
        NotFound
        """
        batch, _, index = id.partition(":")
        if not index.isdigit():
            raise errors.NotFound(f"{id!r} is not the id of a job: that is a batch and an index, such as 'k3f9x2:17'")
        found = self._batch(batch)
        try:
            return found[int(index)]
        except IndexError as error:
            raise errors.NotFound(str(error)) from None

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
        states = self.store.batches(limit, self.name)
        notebook = settings.notebook()
        if notebook:
            states.sort(key=lambda state: state.description.notebook != notebook)
        return [self._batch(state.id) for state in states]

    def last(self) -> Batch | None:
        """The newest batch, of this notebook if it has one; None if there is none."""
        batches = self.batches(100)
        return batches[0] if batches else None

    def _waiting(self) -> list[BatchState]:
        return [state for state in self.store.unfinished(self.name) if state.queued > 0]

    @property
    def job_ids(self) -> list[str]:
        """The ids of the jobs that wait."""
        return [job.id for job in self.jobs]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that wait."""
        found = []
        for state in self._waiting():
            batch = self._batch(state.id)
            for start, stop in self.store.queued(state.id):
                found += [job_of(batch, index) for index in range(start, stop)]
        return found

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


def _restored(name: str, session: Session, progress: Progress) -> Queue:
    queue = Queue(name, progress=progress)
    queue.session = session
    queue._plain = Submitter(session, name, JobOptions(), progress)
    return queue


def call(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call:
    """A call for `enqueue_many`.

    Examples
    --------
    >>> q.enqueue_many([call(pow, 2, 10), call(sorted, "ba", reverse=True)]).results()
    [1024, ['b', 'a']]
    """
    return Call(func, args, kwargs)
