"""The queue: where jobs are submitted and found again."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any

from nbqueue import backend, errors, machine, settings
from nbqueue.backend import Backend
from nbqueue.cells.run import run_cell
from nbqueue.client import display as displays
from nbqueue.client import launch
from nbqueue.client.batch import Batch
from nbqueue.client.codes import Codes
from nbqueue.client.display import Progress
from nbqueue.client.job import Job
from nbqueue.client.open_batch import OpenBatch
from nbqueue.client.options import JobOptions
from nbqueue.client.packing import Call, CallPacker, ItemPacker, TuplePacker, as_call
from nbqueue.client.submission import Submission
from nbqueue.payload.functions import Code, name_of
from nbqueue.payload.seal import Seal
from nbqueue.store.reaper import Reaper, vanished
from nbqueue.store.requests import looking, running, steering
from nbqueue.store.requests.looking import BatchState, WorkerState
from nbqueue.store.store import Store
from nbqueue.store.subscription import Listener

if TYPE_CHECKING:
    import redis


_WEEK = 7 * 86400


class Workers(list[WorkerState]):
    """Workers; a notebook shows them as a table."""


class Queue:
    """A name that jobs wait under and workers listen to.

    Making one does nothing yet; the server is looked for (the embedded one is started) when it is first used. Threads
    and event loops may share it.

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
        connection: str | redis.Redis | None = None,
        *,
        namespace: str = "default",
        key: bytes | str | None = None,
        environment: str | None = None,
        progress: Progress = "auto",
    ) -> None:
        for what, value in (("name", name), ("namespace", namespace)):
            if not isinstance(value, str) or not re.fullmatch(r"[^\s{}:]+", value):
                raise errors.UsageError(f"{what}={value!r}: a word without spaces, colons and braces is accepted")
        self.name = name
        self.namespace = namespace
        self.default_progress: Progress = progress
        self._where = connection
        self._key = key
        self._environment = environment
        self._lock = threading.RLock()
        self._made: Backend | None = None
        self._pid = os.getpid()
        self._open: dict[JobOptions, OpenBatch] = {}
        self._attended_at = float("-inf")
        self.launched_at: float | None = None
        """When `attend` last started a worker, by the monotonic clock."""
        self._per_block: dict[str, int] = {}
        self._reaper = Reaper()
        self._swept_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    # What it stands on

    @property
    def _backend(self) -> Backend:
        if self._pid != os.getpid():  # one of the threads that are not in this fork may have held the lock
            self._lock, self._made, self._pid = threading.RLock(), None, os.getpid()
        with self._lock:
            if self._made is None:
                self._made = backend.connect(
                    self._where, namespace=self.namespace, key=self._key, environment=self._environment
                )
                self._codes = Codes(self._made)
                self._listener = Listener(self._made.store)
                self._open = {}
                self._clock: tuple[float, float] | None = None
            return self._made

    @property
    def store(self) -> Store:
        return self._backend.store

    @property
    def seal(self) -> Seal:
        return self._backend.seal

    @property
    def listener(self) -> Listener:
        self._backend  # noqa: B018 - makes it
        return self._listener

    @property
    def environment(self) -> str:
        """What jobs that are submitted here need to find where they run."""
        return self._backend.environment

    @property
    def connection(self) -> redis.Redis:
        """A `redis.Redis` on the same server, for own uses."""
        return self.store.address.client

    @property
    def is_embedded(self) -> bool:
        """Whether its server is the embedded one."""
        return self._backend.embedded is not None

    @property
    def is_default_server(self) -> bool:
        """Whether `from nbqueue import q` reaches the same batches."""
        return self._where is None and self.namespace == "default"

    def now(self) -> float:
        """The server's time, seconds since the epoch: that of the first time asked, and this host's clock since."""
        self._backend  # noqa: B018 - makes it
        if self._clock is None:
            seconds, microseconds = self.store.run("TIME")
            self._clock = (int(seconds) + int(microseconds) / 1e6, time.monotonic())
        return self._clock[0] + time.monotonic() - self._clock[1]

    def per_block(self, batch: str) -> int:
        """Calls per block of a batch, which never changes."""
        if batch not in self._per_block:
            value = self.store.run("HGET", self.store.key(f"batch:{batch}"), "per_block")
            if value is None:
                raise errors.NotFound(f"there is no batch {batch} on {self.store.url}")
            self._per_block[batch] = int(value)
        return self._per_block[batch]

    # Submitting

    def enqueue(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Job:
        """Submit one call; returns when it is accepted.

        Parameters
        ----------
        func : callable
            Any: defined in the notebook, a lambda, a method, `async def`.
        *args, **kwargs
            Its arguments, except the options below. Where the function has arguments of these names, give all of
            its own as `args=(...)` and `kwargs={...}`.
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

        Returns
        -------
        Job

        Raises
        ------
        CannotPickle, TooLarge
            Names what cannot be sent.
        ServerUnreachable, ServerFull

        Examples
        --------
        >>> q.enqueue(pow, 2, 10).result()
        1024
        """
        options, at_front = _pop_options(kwargs)
        if "args" in kwargs or "kwargs" in kwargs:
            if args:
                raise errors.UsageError("give the function's arguments either directly or as args= and kwargs=")
            args, kwargs = tuple(kwargs.pop("args", ())), {**kwargs.pop("kwargs", {}), **kwargs}
        self._backend  # noqa: B018 - makes it
        code = self._codes.pack(func)
        if options.label is not None or options.meta is not None:
            batch = self._submit([Call(func, args, kwargs)], options, name_of(func))
            return batch[0]
        with self._lock:
            job = self._append(code, args, kwargs, options, at_front)
        self.attend()
        return job

    def _append(
        self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions, at_front: bool
    ) -> Job:
        for _ in range(3):
            opened = self._open.get(options)
            if opened is None or opened.is_over:
                opened = self._open[options] = OpenBatch(self._backend, self._codes, self.name, options)
            submitted = time.monotonic()
            index = opened.append(code, args, kwargs, at_front)
            if index is not None:
                self._per_block[opened.id] = 1
                batch = Batch(self, opened.id, progress=self.default_progress)
                return Job(batch, index, waits_since=submitted)
        raise errors.SubmitError(
            "the job was not accepted: its batches are canceled or deleted as soon as they are made"
        )

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any],
        job_timeout: float | str | None = None,
        result_ttl: float | str = _WEEK,
        label: str | None = None,
        description: str | None = None,
        meta: dict[str, Any] | None = None,
        at_front: bool = False,
        priority: float = 1.0,
        progress: Progress | None = None,
    ) -> Batch:
        """Submit a call for each item; returns when all are accepted, while the first ones already run.

        Parameters
        ----------
        func : callable
        *iterables : iterables
            As with the built-in `map`; ends with the shortest. Generators are read block by block.
        job_timeout, result_ttl, label, description, meta, at_front, priority
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
        CannotPickle, TooLarge, ServerUnreachable, ServerFull

        Examples
        --------
        >>> q.map(pow, [2, 3], [10, 2]).results()
        [1024, 9]
        """
        if not iterables:
            raise errors.UsageError("map: give at least one iterable of arguments, as in q.map(func, items)")
        for items in iterables:
            _check_iterable(items)
        options = _options(job_timeout, result_ttl, label or description, meta, at_front, priority)
        self._backend  # noqa: B018 - makes it
        digest = self._codes.pack(func).digest
        if len(iterables) == 1:
            return self._run(iterables[0], ItemPacker(self._backend, self._codes, digest), options, func, progress)
        packer = TuplePacker(self._backend, self._codes, digest)
        lengths = [len(items) for items in iterables if isinstance(items, Sized)]
        expected = min(lengths) if len(lengths) == len(iterables) else None
        return self._run(_zipped(iterables), packer, options, func, progress, expected)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Batch:
        """Submit a call for each tuple of arguments; see `map`.

        Examples
        --------
        >>> q.starmap(pow, [(2, 10), (3, 2)]).results()
        [1024, 9]
        """
        _check_iterable(iterable)
        chosen, _ = _pop_options(options)
        _refuse_others(options)
        self._backend  # noqa: B018 - makes it
        packer = TuplePacker(self._backend, self._codes, self._codes.pack(func).digest)
        return self._run(iterable, packer, chosen, func, progress)

    def enqueue_many(self, calls: Iterable[Any], *, progress: Progress | None = None, **options: Any) -> Batch:
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
        _check_iterable(calls)
        chosen, _ = _pop_options(options)
        _refuse_others(options)
        self._backend  # noqa: B018 - makes it
        first, calls = _peek(calls)
        name = name_of(as_call(first).function) if first is not None else "calls"
        return self._submit(calls, chosen, name, progress=progress)

    def _submit(
        self,
        calls: Iterable[Any],
        options: JobOptions,
        name: str,
        *,
        progress: Progress | None = None,
    ) -> Batch:
        packer = CallPacker(self._backend, self._codes)
        return self._run(calls, packer, options, name, progress)

    def _run(
        self,
        items: Iterable[Any],
        packer: Any,
        options: JobOptions,
        func: Any,
        progress: Progress | None,
        expected: int | None = None,
    ) -> Batch:
        name = func if isinstance(func, str) else name_of(func)
        submission = Submission(self._backend, self._codes, self.name, options, name)
        batch = Batch(self, submission.batch, progress=self.default_progress if progress is None else progress)
        panels = displays.panels(batch.shows)
        if panels is not None:
            expected = len(items) if isinstance(items, Sized) else expected
            panels.begin(batch, options.label or name, expected)
        self.attend()
        try:
            submission.run(items, packer)
        except BaseException:
            if panels is not None:
                panels.fail(batch)
            raise
        if panels is not None:
            panels.accept(batch)
        return batch

    def enqueue_cell(
        self,
        raw_cell: str,
        packed: bytes,
        returns: Sequence[str],
        *,
        label: str,
        cell: dict[str, Any],
        number: int = 1,
        job_timeout: float | str | None = None,
    ) -> Job:
        """Submit a cell of a notebook: what `%%enqueue` calls, which documents it.

        Parameters
        ----------
        raw_cell : str
        packed : bytes
            The variables that it reads, from `background.pack`.
        returns : sequence of str
            Variables that come back: `job.variables`.
        label : str
        cell : dict
            Which cell of which notebook it is; what JSON can hold.
        number : int
            The execution count that is shown.
        job_timeout : float or str, optional
        """
        options = JobOptions(
            label,
            None if job_timeout is None else seconds(job_timeout, "job_timeout"),
            cell={**cell, "returns": list(returns)},
        )
        self._backend  # noqa: B018 - makes it
        one = Call(run_cell, (raw_cell, packed, list(returns), number), {})
        return self._submit([one], options, label, progress=False)[0]

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
        found = self.batch(batch)
        state = found.state
        if int(index) >= state.total:
            raise errors.NotFound(f"batch {batch} has {state.total} jobs, there is none with index {index}")
        return Job(found, int(index))

    def batch(self, id: str) -> Batch:
        """The batch of an id.

        Raises
        ------
        NotFound
        """
        batch = Batch(self, id, progress=self.default_progress)
        batch.state  # noqa: B018 - raises if there is none
        return batch

    def batches(self, limit: int = 100) -> list[Batch]:
        """The newest batches of this queue, those of this notebook first."""
        states = self.store.call(looking.batches(limit, self.name))
        notebook = settings.notebook()
        if notebook:
            states.sort(key=lambda state: state.about.get("notebook") != notebook)
        return [Batch(self, state.id, progress=self.default_progress) for state in states]

    def last(self) -> Batch | None:
        """The newest batch, of this notebook if it has one; None if there is none."""
        batches = self.batches(100)
        return batches[0] if batches else None

    def _waiting(self) -> list[BatchState]:
        return [state for state in self.store.call(looking.batches(10**6, self.name)) if state.queued > 0]

    @property
    def job_ids(self) -> list[str]:
        """The ids of the jobs that wait."""
        return [job.id for job in self.jobs]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that wait."""
        found = []
        for state in self._waiting():
            batch = Batch(self, state.id, progress=self.default_progress)
            for run in self.store.run("LRANGE", self.store.key(f"batch:{state.id}:queued"), 0, -1):
                start, _, stop = run.decode().lstrip("s").partition("-")
                found += [Job(batch, index) for index in range(int(start), int(stop))]
        return found

    @property
    def count(self) -> int:
        """How many jobs wait."""
        return sum(state.queued for state in self._waiting())

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True

    def is_empty(self) -> bool:
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
        return bool(self.store.run("EXISTS", self.store.key(f"queue:{self.name}:paused")))

    def workers(self) -> Workers:
        """The workers of this server and namespace, whatever they listen to."""
        workers = self.store.call(looking.workers())
        here = machine.identity()
        alive = Workers()
        for worker in workers:
            if vanished(worker, here):
                with contextlib.suppress(errors.ServerFull):  # whoever looks when there is room again does it
                    self.store.call(running.reap(worker.id, worker.beat, f"its worker {worker.name} died"))
            else:
                alive.append(worker)
        return alive

    def _serves(self, worker: WorkerState) -> bool:
        return self.name in worker.queues and worker.environment == self.environment

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
        wanted = machine.cpus() if n is None else n
        if wanted < 1:
            raise errors.UsageError(f"start_workers({n}): at least 1 is needed")
        here = machine.identity()

        def mine() -> Workers:
            return Workers(w for w in self.workers() if self._serves(w) and w.fields.get("machine") == here)

        missing = wanted - sum(worker.children for worker in mine())
        if missing > 0:
            self._launch(self.name, missing, max_idle_time)
            deadline = time.monotonic() + 30
            while sum(worker.children for worker in mine()) < wanted:
                if time.monotonic() > deadline:
                    raise errors.ServerError(
                        "a worker was started and is not there after 30 seconds; "
                        f"its log is in {launch.log_directory()}"
                    )
                time.sleep(0.02)
        return mine()

    def stop_workers(self, timeout: float = 30.0) -> int:
        """Tell the workers of this queue and environment to finish what runs and leave; returns how many.

        Where the server takes no orders, because its disk is full, those on this machine get a SIGTERM; as always, a
        second one has them leave at once.

        Parameters
        ----------
        timeout : float
            Seconds to wait until they have left.
        """
        mine = [worker for worker in self.workers() if self._serves(worker)]
        for worker in mine:
            launch.stop_worker(self.store, worker)
        ids = {worker.id for worker in mine}
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and ids & {worker.id for worker in self.workers()}:
            time.sleep(0.02)
        return len(ids)

    def _launch(self, queue: str, children: int, max_idle_time: float | None) -> None:
        backend = self._backend
        embedded = backend.embedded is not None
        url = None
        if not embedded:
            if not isinstance(self._where, str | None):
                raise errors.UsageError(
                    "start_workers needs a URL: a redis.Redis cannot be handed to another process. Make the queue with "
                    "Queue(connection='redis://...'), or start 'nbqueue worker --url ...' by hand"
                )
            url = self._where or settings.url()
        launch.start_worker(
            [queue], children, namespace=self.namespace, url=url,
            key=None if embedded or not backend.has_key else backend.key,
            environment=backend.environment, max_idle_time=max_idle_time,
        )  # fmt: skip

    def attend(self, state: BatchState | None = None) -> str | None:
        """See to it that somebody serves what was submitted; returns what is wrong, in words, if nobody does.

        On the embedded server a worker is started if there is none (`NBQUEUE_AUTOSTART=0` keeps it from that). Now and
        then it also takes back what dead workers held.
        """
        now = time.monotonic()
        with self._lock:
            if state is None and now - self._attended_at < 5.0:
                return None
            self._attended_at = now
        if now - self._swept_at > 2.0:
            self._swept_at = now
            self._reaper.sweep(self.store)
        queue = state.queue if state else self.name
        environment = state.environment if state else self.environment
        workers = self.workers()
        if any(queue in worker.queues and worker.environment == environment for worker in workers):
            if state is not None and self.store.run("EXISTS", self.store.key(f"queue:{queue}:paused")):
                return f"queue {queue} is paused: Queue({queue!r}).resume() lets its jobs start"
            return None
        may_start = self._backend.embedded is not None and settings.autostart() and environment == self.environment
        if may_start:
            lock = self.store.key(f"queue:{queue}:{environment}:starting")
            try:
                is_mine = self.store.run("SET", lock, "1", "NX", "EX", 10)
            except errors.ServerFull as error:
                return str(error)
            if is_mine:
                self._launch(queue, machine.cpus(), launch.IDLE_TIME)
                self.launched_at = now
            return None
        return nobody_serves(queue, environment, workers)

    def close(self) -> None:
        """Close what is open; it opens again when it is used."""
        if self._made is not None:
            self._listener.close()
            self._made.store.close()


def nobody_serves(queue: str, environment: str, workers: list[WorkerState]) -> str:
    """That no worker listens, who listens instead, and what to run."""
    wanted = settings.environment_in_words(environment)
    words = [f"no worker for queue {queue} and {wanted}"]
    others: dict[str, int] = {}
    for worker in workers:
        if worker.environment != environment:
            name = settings.environment_in_words(worker.environment)
        else:
            name = f"{wanted}, queue {' '.join(worker.queues)}"
        others[name] = others.get(name, 0) + 1
    for name, number in others.items():
        words.append(f"there {'is' if number == 1 else 'are'} {number} for {name}")
    return f"{'; '.join(words)}. Run: nbqueue worker {queue}   (where the jobs shall run)"


def seconds(value: float | str, what: str) -> float:
    """Seconds, from a number or "90s", "5m", "2h", "1d".

    Raises
    ------
    UsageError
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
        if match and float(match[1]) > 0:
            return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise errors.UsageError(f"{what}={value!r}: seconds above 0 are accepted, or '90s', '5m', '2h', '1d'")


def _options(
    job_timeout: float | str | None,
    result_ttl: float | str,
    label: str | None,
    meta: dict[str, Any] | None,
    at_front: bool,
    priority: float,
) -> JobOptions:
    if not isinstance(priority, int | float) or not priority > 0:
        raise errors.UsageError(f"priority={priority!r}: a number above 0 is accepted")
    return JobOptions(
        label=label,
        timeout=None if job_timeout is None else seconds(job_timeout, "job_timeout"),
        result_ttl=max(1, int(seconds(result_ttl, "result_ttl"))),
        weight=float(priority),
        at_front=bool(at_front),
        meta=meta,
    )


def _pop_options(kwargs: dict[str, Any]) -> tuple[JobOptions, bool]:
    at_front = bool(kwargs.pop("at_front", False))
    label, description = kwargs.pop("label", None), kwargs.pop("description", None)
    options = _options(
        kwargs.pop("job_timeout", None), kwargs.pop("result_ttl", _WEEK), label or description,
        kwargs.pop("meta", None), at_front, kwargs.pop("priority", 1.0),
    )  # fmt: skip
    return options, at_front


def _refuse_others(options: dict[str, Any]) -> None:
    if options:
        raise errors.UsageError(f"{', '.join(options)}: not an option")


def _check_iterable(items: Any) -> None:
    if not isinstance(items, Iterable):
        raise errors.UsageError(f"{items!r:.80} is not iterable: a list, a range, a generator of arguments is needed")


def _zipped(iterables: tuple[Iterable[Any], ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*iterables, strict=False)


def _peek(items: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """The first item, and an iterable that still has it."""
    if isinstance(items, list | tuple):
        return (items[0] if items else None), items
    iterator = iter(items)
    for first in iterator:
        return first, itertools.chain([first], iterator)
    return None, []


def call(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call:
    """A call for `enqueue_many`.

    Examples
    --------
    >>> q.enqueue_many([call(pow, 2, 10), call(sorted, "ba", reverse=True)]).results()
    [1024, ['b', 'a']]
    """
    return Call(func, args, kwargs)
