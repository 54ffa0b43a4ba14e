"""`Worker`: what `nbqueue worker` does, for scripts; and in a process of its own where it cannot be done here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from nbqueue import errors, machine
from nbqueue.backend import Backend, connect
from nbqueue.client import launch
from nbqueue.client.fleet import Workers
from nbqueue.client.options import seconds
from nbqueue.client.queues import Queue
from nbqueue.client.session import Session
from nbqueue.worker.identity import Identity, Options
from nbqueue.worker.loop import Worker as Loop

log = logging.getLogger("nbqueue.worker")


def serve(backend: Backend, options: Options, variables: Mapping[str, str]) -> int:
    """Be a worker until it is over; returns how many jobs it has run. In the main thread, which gets the signals.

    Parameters
    ----------
    backend : Backend
    options : Options
    variables : mapping
        Environment variables by which `from nbqueue import q`, inside a job, finds the server.
    """
    if not backend.has_key:
        log.warning("no NBQUEUE_KEY: whoever can write to %s can have this worker run any code", backend.store.url)
    backend.store.run("PING")
    with _set(variables):
        loop = Loop(backend, options)
        loop.work()
    return loop.jobs


@contextlib.contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Worker:
    """Runs jobs of some queues, as `nbqueue worker` does: for scripts. `work()` returns when it has left.

    Jobs run in processes of their own, as many as there are CPUs, and not in this one.

    Parameters
    ----------
    queues : str, Queue, or iterable of these
        Listened to in this order: what the first has goes before what the next has.
    name : str, optional
        What it is called; made up by default.
    connection : str, redis.Redis or Queue, optional
        What `Queue(connection=...)` takes, or a queue of the server. By default that of the first of `queues` that is
        a `Queue`, else `NBQUEUE_URL` or the embedded server.
    children : int, optional
        How many processes execute jobs; by default the CPUs that may be used.
    namespace, key, environment : optional
        See `Queue`; by default those of the queue that tells the server.

    Raises
    ------
    UsageError
        An argument makes no sense; a `WrongType` where its kind is wrong.

    Examples
    --------
    >>> from nbqueue import Queue, Worker
    >>> q = Queue("reports")
    >>> job = q.enqueue(pow, 2, 10)
    >>> Worker([q]).work(burst=True)
    True
    """

    def __init__(
        self,
        queues: str | Queue | Iterable[str | Queue] = "default",
        name: str | None = None,
        connection: Any = None,
        *,
        children: int | None = None,
        namespace: str | None = None,
        key: bytes | str | None = None,
        environment: str | None = None,
    ) -> None:
        given = [queues] if isinstance(queues, str | Queue) else list(queues)
        if not given or not all(isinstance(queue, str | Queue) for queue in given):
            raise errors.WrongType(f"Worker({queues!r:.80}): names of queues, or queues, are accepted")
        if children is not None and (not isinstance(children, int) or children < 1):
            raise errors.UsageError(f"children={children!r}: how many processes, at least 1")
        if name is not None:
            Queue(name)  # names of workers and of queues are words of the same kind
        known = connection if isinstance(connection, Queue) else next((q for q in given if isinstance(q, Queue)), None)
        if known is not None:
            session = known.session
            if connection is None or connection is known or _is_of(session, connection):
                connection = session.source
            namespace, environment = namespace or session.namespace, environment or session.chosen_environment
            key = session.key if key is None else key
        self._session = Queue(connection=connection, namespace=namespace or "default", key=key).session
        names = [queue.name if isinstance(queue, Queue) else Queue(queue).name for queue in given]
        self._options = Options(tuple(dict.fromkeys(names)), children or machine.cpus(), name or "")
        self._environment = environment
        self._name = Identity(self._options, "").name

    def __repr__(self) -> str:
        return f"<Worker {self.name}: {', '.join(self.queue_names())}>"

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    def queue_names(self) -> list[str]:
        """The names of its queues, in the order in which they are served."""
        return list(self._options.queues)

    def work(
        self, burst: bool = False, *, max_jobs: int | None = None, max_idle_time: float | str | None = None,
        with_scheduler: bool = False,
    ) -> bool:  # fmt: skip
        """Run jobs until it is told to leave; returns whether there were any.

        Ctrl-C or SIGTERM once: it finishes what runs, then leaves. Twice: now. In a notebook, and in another thread
        than the main one, it is a process of its own, which is waited for; interrupting the cell does the same there,
        and `q.stop_workers()` anywhere.

        Parameters
        ----------
        burst : bool
            Leave when there is nothing to do.
        max_jobs : int, optional
            Leave after so many jobs.
        max_idle_time : float or str, optional
            Leave after this time without a job: seconds, "90s", "5m".
        with_scheduler : bool
            Not needed, which is said: all workers start what is due.

        Raises
        ------
        UsageError
            Also where it has to be a process of its own and the server was given as a `redis.Redis`, which cannot be
            handed to another process.
        ServerUnreachable
        """
        if max_jobs is not None and (not isinstance(max_jobs, int) or isinstance(max_jobs, bool) or max_jobs < 1):
            raise errors.UsageError(f"max_jobs={max_jobs!r}: how many jobs, at least 1")
        idle = None if max_idle_time is None else seconds(max_idle_time, "max_idle_time")
        if with_scheduler:
            warnings.warn(
                "with_scheduler=True is not needed: all workers start what is due", errors.OptionWarning, stacklevel=2
            )
        chosen = self._options
        options = Options(chosen.queues, chosen.children, self._name, bool(burst), max_jobs, idle)
        if can_serve_here():
            return serve(self._connect(), options, self._variables()) > 0
        return self._serve_elsewhere(options) > 0

    def _connect(self) -> Backend:
        """A connection of its own: a worker closes it when it leaves."""
        session = self._session
        return connect(
            session.source, namespace=session.namespace, key=session.key, environment=self._environment
        )  # fmt: skip

    def _variables(self) -> dict[str, str]:
        session = self._session
        found = {}
        if isinstance(session.source, str):
            found["NBQUEUE_URL"] = session.source
        if session.key is not None:
            key = session.key.encode() if isinstance(session.key, str) else session.key
            found["NBQUEUE_KEY"] = f"hex:{key.hex()}"
        if self._environment:
            found["NBQUEUE_ENVIRONMENT"] = self._environment
        return found

    def _serve_elsewhere(self, options: Options) -> int:
        session = self._session
        if not isinstance(session.source, str | None):
            raise errors.UsageError(
                "here a worker is a process of its own, and a redis.Redis cannot be handed to that: give "
                "Worker(connection='redis://...'), or run 'nbqueue worker --url ...'"
            )
        said = {"namespace": session.namespace, "options": asdict(options), "variables": self._variables()}
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "nbqueue.command.worker"], stdin=theirs.fileno(), start_new_session=True,
                    env=launch.inherited_environment(),
                )  # fmt: skip
            ours.sendall(json.dumps(said).encode() + b"\n")
            _wait(process)
            answer = ours.makefile("rb").readline()
        if process.returncode:
            raise errors.ServerError(answer.decode() or machine.death_in_words(process.returncode, 0))
        return int(answer)

    @classmethod
    def all(cls, connection: Any = None, queue: Queue | str | None = None) -> Workers:
        """The workers that are alive, as `q.workers()` gives them.

        Parameters
        ----------
        connection : str, redis.Redis or Queue, optional
            As for `Worker`.
        queue : Queue or str, optional
            Only those that serve it.
        """
        asked = connection if connection is not None else queue
        where = asked if isinstance(asked, Queue) else Queue(connection=connection)
        found = where.workers()
        name = queue.name if isinstance(queue, Queue) else queue
        return found if name is None else Workers(worker for worker in found if name in worker.queues)

    @classmethod
    def count(cls, connection: Any = None, queue: Queue | str | None = None) -> int:
        """How many workers are alive; see `all`."""
        return len(cls.all(connection, queue))


def _is_of(session: Session, connection: Any) -> bool:
    """Whether a connection is what a session was made with, or has given out."""
    return connection == session.source or session.store.address.is_client(connection)


def can_serve_here() -> bool:
    """Whether this thread may get the signals: not in a kernel, whose own they are, nor beside an event loop."""
    if threading.current_thread() is not threading.main_thread() or "ipykernel" in sys.modules:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a worker; who interrupts that has it finish what runs and leave, and leave now the second time."""
    while True:
        try:
            process.wait()
            return
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    """Be a worker of the process at the other end of the descriptor 0, and leave when that is gone."""
    link = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    said = json.loads(link.makefile("rb").readline())
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)

    def leave_with_parent() -> None:
        link.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=leave_with_parent, name="nbqueue-parent", daemon=True).start()
    variables = said["variables"]
    try:
        with _set(variables):  # the URL, the key and the environment are found there
            jobs = serve(connect(namespace=said["namespace"]), Options(**said["options"]), {})
    except errors.NbqueueError as error:
        link.sendall(str(error).encode())
        sys.exit(1)
    link.sendall(b"%d\n" % jobs)


if __name__ == "__main__":
    main()
