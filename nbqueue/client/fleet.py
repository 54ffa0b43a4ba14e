"""The workers of a server and namespace: who is there, starting and stopping them, seeing to it that somebody serves.

Knows no batch and no job.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from nbqueue import errors, machine, settings
from nbqueue.backend import Backend
from nbqueue.client import launch
from nbqueue.client.problem import Problem, paused, suspended, unserved
from nbqueue.store.connection import Source
from nbqueue.store.keys import new_token
from nbqueue.store.reaper import Reaper, vanished
from nbqueue.store.requests import looking, running, steering
from nbqueue.store.requests.looking import WorkerState

_SWEEP = 2.0
"""Seconds between two looks for the dead."""

_ATTEND = 5.0
"""Seconds between two looks at whether anybody serves what is being submitted."""

_STARTING = 10
"""Seconds for which nobody else starts a first worker."""

_PATIENCE = 30.0
"""Seconds that a worker may take until it is there."""


class Workers(list[WorkerState]):
    """Workers; a notebook shows them as a table."""


class Fleet:
    """The workers that a client sees.

    Parameters
    ----------
    connect : callable
        Returns the server, which is looked for when it is first needed.
    source : str or redis.Redis, optional
        What the client was given to find it.
    namespace : str
    """

    def __init__(self, connect: Callable[[], Backend], source: Source | None, namespace: str) -> None:
        self._connect = connect
        self._source = source
        self._namespace = namespace
        self._reaper = Reaper()
        self._lock = threading.Lock()
        self._swept_at = time.monotonic()
        self._attended_at = float("-inf")
        self.launched_at: float | None = None
        """The time at which `attend` last started a worker, by the monotonic clock."""

    def workers(self) -> Workers:
        """The workers that are alive, as far as can be seen from here; the dead of this machine lose what they held."""
        store, here = self._connect().store, machine.identity()
        alive = Workers()
        for worker in store.call(looking.workers()):
            if vanished(worker, here):
                with contextlib.suppress(errors.ServerFull):  # whoever looks when there is room again does it
                    store.call(running.reap(worker.id, worker.beat, f"its worker {worker.name} died"))
            else:
                alive.append(worker)
        return alive

    def serving(self, queue: str, environment: str) -> Workers:
        """The workers that run the jobs of a queue and environment."""
        return Workers(w for w in self.workers() if queue in w.queues and w.environment == environment)

    def start(self, queue: str, n: int | None, max_idle_time: float | None) -> Workers:
        """See to it that `n` children on this machine serve a queue; returns their workers when they are there.

        Raises
        ------
        UsageError
            The server was given as a `redis.Redis`, which cannot be handed to another process.
        ServerError
            The worker did not come up.
        """
        wanted = machine.cpus() if n is None else n
        if wanted < 1:
            raise errors.UsageError(f"start_workers({n}): at least 1 is needed")
        here, environment = machine.identity(), self._connect().environment

        def mine() -> Workers:
            return Workers(w for w in self.serving(queue, environment) if w.fields.get("machine") == here)

        missing = wanted - sum(worker.children for worker in mine())
        if missing > 0:
            self._launch(queue, missing, max_idle_time)
            deadline = time.monotonic() + _PATIENCE
            while sum(worker.children for worker in mine()) < wanted:
                if time.monotonic() > deadline:
                    raise errors.ServerError(
                        f"a worker was started and is not there after {_PATIENCE:g} seconds; "
                        f"its log is in {launch.log_directory()}"
                    )
                time.sleep(0.02)
        return mine()

    def stop(self, queue: str, timeout: float) -> int:
        """Tell the workers of a queue to finish what runs and leave; returns how many, when they have left."""
        backend = self._connect()
        serving = self.serving(queue, backend.environment)
        for worker in serving:
            launch.stop_worker(backend.store, worker)
        ids = {worker.id for worker in serving}
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and ids & {worker.id for worker in self.workers()}:
            time.sleep(0.02)
        return len(ids)

    def suspend(self) -> None:
        """Have no worker take anything, of any queue; what runs ends."""
        self._connect().store.call(steering.suspend_workers())

    def resume(self) -> bool:
        """Go on after `suspend`; whether they were suspended."""
        served = {(queue, worker.environment) for worker in self.workers() for queue in worker.queues}
        return self._connect().store.call(steering.resume_workers(sorted(served)))

    def attend_now_and_then(self, queue: str) -> None:
        """`attend`, for those who submit: not each time."""
        with self._lock:
            is_due = time.monotonic() - self._attended_at >= _ATTEND
        if is_due:
            self.attend(queue, self._connect().environment)

    def attend(self, queue: str, environment: str) -> Problem | None:
        """See to it that somebody serves a queue; returns what is wrong if nobody does.

        On the embedded server a worker is started if there is none (`NBQUEUE_AUTOSTART=0` keeps it from that). Now and
        then it also takes back what dead workers held.
        """
        backend, now = self._connect(), time.monotonic()
        with self._lock:
            self._attended_at = now
            is_sweeping = now - self._swept_at > _SWEEP
            if is_sweeping:
                self._swept_at = now
        if is_sweeping:
            self._reaper.sweep(backend.store)
            with contextlib.suppress(errors.ServerFull):  # whoever looks when there is room again does it
                while backend.store.call(running.give_up(environment, [queue])):
                    pass
        workers = self.workers()
        if any(queue in worker.queues and worker.environment == environment for worker in workers):
            if backend.store.is_paused(queue):
                return paused(queue)
            return suspended() if backend.store.is_suspended() else None
        if backend.embedded is None or not settings.autostart() or environment != backend.environment:
            return unserved(queue, environment, workers)
        try:
            is_mine = backend.store.call(running.start_first(queue, environment, new_token(), _STARTING))
        except errors.ServerFull as error:
            return Problem("full", str(error))
        if is_mine:
            self._launch(queue, machine.cpus(), launch.IDLE_TIME)
            self.launched_at = now
        return None

    def _launch(self, queue: str, children: int, max_idle_time: float | None) -> None:
        backend = self._connect()
        embedded = backend.embedded is not None
        url = None
        if not embedded:
            if not isinstance(self._source, str | None):
                raise errors.UsageError(
                    "start_workers needs a URL: a redis.Redis cannot be handed to another process. Make the queue with "
                    "Queue(connection='redis://...'), or start 'nbqueue worker --url ...' by hand"
                )
            url = self._source or settings.url()
        launch.start_worker(
            [queue], children, namespace=self._namespace, url=url,
            key=None if embedded or not backend.has_key else backend.key,
            environment=backend.environment, max_idle_time=max_idle_time,
        )  # fmt: skip
