"""A namespace at one moment, for people and programs: its queues, workers and recent batches.

`look` reads all of it, and changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbqueue import machine, settings
from nbqueue.client.batch import eta_of, rate_of
from nbqueue.client.problem import unserved
from nbqueue.store.reaper import alive_and_dead
from nbqueue.store.requests import looking
from nbqueue.store.requests.looking import BatchState, QueueState, WorkerState
from nbqueue.store.requests.running import Progress
from nbqueue.store.store import Store
from nbqueue.view.words import number, until, waits_for

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
    scheduled: int = 0
    """Jobs that wait for their time."""
    deferred: int = 0
    """Jobs that wait for others."""

    @property
    def later(self) -> int:
        """Jobs that are not queued yet."""
        return self.scheduled + self.deferred


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
    progress: dict[str, Progress]
    """How far those are that say it, by their ids."""
    is_dead: bool
    """Its process is on this machine, and has gone."""
    waiting: int = 0
    """Jobs that wait for other jobs, and have given their places away."""
    crowded: int = 0
    """Jobs that wait for other jobs in their places, because too many have given theirs away."""

    @property
    def waiting_in_words(self) -> str:
        """'1 waits for other jobs' and the like; '' if none does."""
        words = []
        if self.waiting:
            words.append(f"{number(self.waiting)} {'waits' if self.waiting == 1 else 'wait'} for other jobs")
        if self.crowded:
            words.append(f"{number(self.crowded)} in place, as no more can step aside")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch at one moment: what Redis knew of it, and what follows from that."""

    known: BatchState
    at: float
    """When it was read: seconds since the epoch, by the server's clock."""

    @property
    def label(self) -> str:
        """Its name where people read it; '' if it has none."""
        return self.known.description.label

    @property
    def environment(self) -> str:
        """Its environment, in words."""
        return settings.environment_in_words(self.known.environment)

    @property
    def state(self) -> str:
        """'submitting', 'waiting', 'running', 'paused', 'done' or 'canceled'."""
        known = self.known
        if known.is_canceled and not known.is_retried and known.done:
            return "canceled"
        if known.is_submitting:
            return "submitting"
        if known.done:
            return "done"
        if known.is_paused:
            return "paused"
        return "running" if known.started or known.ended else "waiting"

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by state, as a bar draws them from left to right; with those of `later` they are all its jobs."""
        known = self.known
        return {
            "finished": known.finished, "failed": known.failed, "canceled": known.canceled,
            "running": known.started, "waiting": known.queued,
        }  # fmt: skip

    @property
    def later(self) -> dict[str, int]:
        """Jobs that wait for others, and for their time."""
        return {"deferred": self.known.deferred, "scheduled": self.known.scheduled}

    @property
    def waits(self) -> str:
        """What it waits for where nothing of it runs or is queued: 'starts in 0:42', 'waits for batch k3f9x2'; '' if it
        does not."""
        known = self.known
        if known.started or known.queued or known.is_submitting:
            return ""
        if known.deferred and not known.scheduled and known.waits_for:
            return waits_for(known.waits_for)
        if not known.scheduled or known.due_at is None:
            return ""
        return until(known.due_at - self.at, is_again=known.has_attempts, repeats=known.description.repeat is not None)

    @property
    def elapsed(self) -> float:
        """Seconds from the submission to the end, or to now."""
        return max(0.0, (self.known.ended_at or self.at) - self.known.submitted_at)

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return rate_of(self.known, self.at)

    @property
    def eta(self) -> float | None:
        """Seconds until its last job ends, at this rate; None while none has ended."""
        return eta_of(self.known, self.at)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        known = self.known
        return {
            "id": known.id, "label": self.label, "queue": known.queue, "environment": self.environment,
            "state": self.state, "total": known.total, **self.counts, "submitted_at": known.submitted_at,
            "ended_at": known.ended_at, "elapsed": self.elapsed, "rate": self.rate, "eta": self.eta,
            "busy": known.busy, "reason": known.reason, **self.later,
        }  # fmt: skip


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
    is_suspended: bool = False
    """No worker takes anything."""

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "url": self.url, "namespace": self.namespace, "at": self.at, "is_suspended": self.is_suspended,
            "queues": [dataclasses.asdict(queue) for queue in self.queues],
            "workers": [dataclasses.asdict(worker) for worker in self.workers],
            "batches": [batch.as_json() for batch in self.batches],
        }  # fmt: skip


def look(store: Store) -> Overview:
    """Read what is there.

    Raises
    ------
    ServerUnreachable
    """
    now = store.now()
    workers = store.call(looking.workers())
    alive, dead = alive_and_dead(workers, machine.identity())
    queues = {state.name: state for state in store.queues()}
    for name in sorted({name for worker in alive for name in worker.queues} - set(queues)):
        queues[name] = store.queue(name)
    return Overview(
        url=store.url,
        namespace=store.namespace,
        at=now,
        queues=[see_queue(state, alive) for _, state in sorted(queues.items())],
        workers=[see_worker(worker, is_dead=worker in dead) for worker in workers],
        batches=[BatchSeen(state, now) for state in store.batches(RECENT)],
        is_suspended=store.is_suspended(),
    )


def see_queue(state: QueueState, workers: Sequence[WorkerState]) -> QueueSeen:
    """A queue, from its counts and the workers that are alive."""
    serving = [worker for worker in workers if state.name in worker.queues]
    served = {worker.environment for worker in serving}
    lacking = sorted(name for name, counts in state.environments.items() if counts.queued and name not in served)
    problem = "it is paused" if state.is_paused else str(unserved(state.name, lacking[0], workers)) if lacking else ""
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
        scheduled=counts.scheduled,
        deferred=counts.deferred,
    )


def see_worker(worker: WorkerState, *, is_dead: bool = False) -> WorkerSeen:
    """A worker as it described itself."""
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
        running=[job.id for job in worker.running],
        progress={job.id: job.progress for job in worker.running if job.progress is not None},
        is_dead=is_dead,
        waiting=int(fields.get("waiting", 0)),
        crowded=int(fields.get("crowded", 0)),
    )
