"""What is going on, for people and programs: queues, workers and recent batches of one namespace.

`look` reads, and changes nothing. `show` and `show_batch` write for any terminal: states are told apart by character
too, not by colour alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbqueue import machine, settings
from nbqueue.client.batch import eta_of, rate_of
from nbqueue.client.problem import unserved
from nbqueue.store.reaper import vanished
from nbqueue.store.requests import looking
from nbqueue.store.requests.looking import BatchState, QueueState, WorkerState
from nbqueue.store.store import Store

if TYPE_CHECKING:
    pass


RECENT = 10
"""Batches that are listed."""


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue: jobs of all its batches, and who serves it."""

    name: str
    waiting: int
    running: int
    finished: int
    failed: int
    canceled: int
    batches: int
    workers: int
    is_paused: bool
    problem: str
    """What keeps its jobs from running, in words; '' if nothing does."""
    deferred: int = 0
    scheduled: int = 0


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker as it described itself at its last beat."""

    name: str
    host: str
    pid: int
    queues: list[str]
    environment: str
    """In words."""
    children: int
    busy: int
    jobs: int
    failed: int
    memory: int
    """Bytes that its children hold."""
    since: float
    running: list[str]
    """Ids of jobs."""
    is_dead: bool
    """Its process is on this machine, and has gone."""


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch at one moment."""

    id: str
    label: str
    queue: str
    environment: str
    state: str
    """'submitting', 'waiting', 'running', 'paused', 'done' or 'canceled'."""
    total: int
    finished: int
    failed: int
    canceled: int
    running: int
    waiting: int
    submitted_at: float
    ended_at: float | None
    elapsed: float
    """Seconds from the submission to the end, or to now."""
    rate: float
    """Jobs per second."""
    eta: float | None
    busy: float
    """Seconds that its jobs took, all together."""
    reason: str
    """Why it was canceled."""
    deferred: int = 0
    scheduled: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """A namespace at one moment. Times are seconds since the epoch, by the server's clock."""

    url: str
    namespace: str
    at: float
    queues: list[QueueSeen]
    workers: list[WorkerSeen]
    batches: list[BatchSeen]
    """The newest ones, newest first."""

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return dataclasses.asdict(self)


def look(store: Store) -> Overview:
    """Read what is there.

    Raises
    ------
    ServerUnreachable
    """
    now = store.now()
    workers = store.call(looking.workers())
    here = machine.identity()
    dead = {worker.id for worker in workers if vanished(worker, here)}
    alive = [worker for worker in workers if worker.id not in dead]
    queues = {state.name: state for state in store.queues()}
    for name in sorted({name for worker in alive for name in worker.queues} - set(queues)):
        queues[name] = store.queue(name)
    return Overview(
        url=store.url,
        namespace=store.namespace,
        at=now,
        queues=[_queue(state, alive) for _, state in sorted(queues.items())],
        workers=[see_worker(worker, is_dead=worker.id in dead) for worker in workers],
        batches=[see(state, now) for state in store.batches(RECENT)],
    )


def _queue(state: QueueState, workers: list[WorkerState]) -> QueueSeen:
    serving = [worker for worker in workers if state.name in worker.queues]
    problem = "it is paused" if state.is_paused else ""
    for environment, counts in sorted(state.environments.items()):
        if counts.queued and not problem and not any(worker.environment == environment for worker in serving):
            problem = str(unserved(state.name, environment, workers))
    counts = state.counts
    return QueueSeen(
        name=state.name,
        waiting=counts.queued,
        running=counts.started,
        finished=counts.finished,
        failed=counts.failed,
        canceled=counts.canceled,
        batches=counts.batches,
        workers=len(serving),
        is_paused=state.is_paused,
        problem=problem,
        deferred=counts.deferred,
        scheduled=counts.scheduled,
    )


def see_worker(worker: WorkerState, *, is_dead: bool = False) -> WorkerSeen:
    """A worker as it described itself."""
    import json

    fields = worker.fields
    return WorkerSeen(
        name=worker.name,
        host=fields.get("host", ""),
        pid=int(fields.get("pid", 0)),
        queues=worker.queues,
        environment=settings.environment_in_words(worker.environment),
        children=worker.children,
        busy=int(fields.get("busy", 0)),
        jobs=int(fields.get("jobs", 0)),
        failed=int(fields.get("failed", 0)),
        memory=int(fields.get("memory", 0)),
        since=float(fields.get("since", 0)),
        running=[str(id) for id, _ in json.loads(fields.get("running") or "[]")],
        is_dead=is_dead,
    )


def see(state: BatchState, now: float) -> BatchSeen:
    """A batch at a given time, by the server's clock."""
    return BatchSeen(
        id=state.id,
        label=state.description.label,
        queue=state.queue,
        environment=settings.environment_in_words(state.environment),
        state=_state(state),
        total=state.total,
        finished=state.finished,
        failed=state.failed,
        canceled=state.canceled,
        running=state.started,
        waiting=state.queued,
        submitted_at=state.submitted_at,
        ended_at=state.ended_at,
        elapsed=max(0.0, (state.ended_at or now) - state.submitted_at),
        rate=rate_of(state, now),
        eta=eta_of(state, now),
        busy=state.busy,
        reason=state.reason,
        deferred=state.deferred,
        scheduled=state.scheduled,
    )


def _state(state: BatchState) -> str:
    if state.is_canceled and not state.is_retried and state.done:
        return "canceled"
    if state.is_submitting:
        return "submitting"
    if state.done:
        return "done"
    if state.is_paused:
        return "paused"
    return "running" if state.started or state.ended else "waiting"
