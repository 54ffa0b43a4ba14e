"""Requests that read, and the states that they are answered with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.payload.records import Blob
from nbqueue.store.description import Description
from nbqueue.store.keys import read_run
from nbqueue.store.requests.request import Request, Run, as_text, request_to
from nbqueue.store.requests.running import Entry, Progress
from nbqueue.store.schedule_state import ScheduleState


@dataclass(frozen=True, slots=True)
class JobState:
    """One job as Redis knows it."""

    state: str
    """'ended', 'canceled', 'started', 'queued', 'scheduled' or 'deferred'; 'unknown' where the batch has fewer jobs,
    'missing' where it has no outcome and is in no other place."""
    own: Blob
    block: Blob
    attempts: int
    worker: str
    due_at: float | None = None
    """Of a scheduled one, by the server's clock, in seconds since the epoch."""
    waits_for: tuple[str, ...] = ()
    """Of a deferred one, ids of jobs and batches: some of them, if they are many."""


def job(batch: str, index: int) -> Request[JobState | None]:
    def read(reply: list[Any]) -> JobState | None:
        if not reply:
            return None
        return JobState(reply[0].decode(), reply[1], reply[2], int(reply[3]), reply[4].decode(),
                        float(reply[5]) if reply[5] else None, tuple(map(as_text, reply[6])))  # fmt: skip

    return request_to("looking/job", read, batch, index)


@dataclass(frozen=True, slots=True)
class OutcomeRecords:
    """Records of outcomes by field: blocks 'b0', jobs '17'. Jobs below `stop` have been read."""

    stop: int
    per_block: int
    total: int
    """Jobs of the batch."""
    records: dict[str, Blob]


def outcomes(batch: str, start: int, stop: int) -> Request[OutcomeRecords | None]:
    def read(reply: list[Any]) -> OutcomeRecords | None:
        if not reply:
            return None
        names = (name.decode() for name in reply[3::2])
        return OutcomeRecords(reply[0], reply[1], reply[2], dict(zip(names, reply[4::2], strict=True)))

    return request_to("looking/outcomes", read, batch, start, stop)


@dataclass(frozen=True, slots=True)
class CallRecords:
    """The records that a call is in."""

    per_block: int
    block: Blob
    own: Blob
    token: str
    """Of records in bulk."""
    mended: bytes
    """Of the function that it runs with, if it is not that of the call."""


def calls(batch: str, index: int) -> Request[CallRecords | None]:
    def read(reply: list[Any]) -> CallRecords | None:
        return CallRecords(reply[0], reply[1], reply[2], reply[3].decode(), reply[4]) if reply else None

    return request_to("looking/calls", read, batch, index)


@dataclass(frozen=True, slots=True)
class FunctionsOf:
    """With which functions jobs of a batch run."""

    digests: list[bytes]
    """All that it needs: functions, and what goes with them."""
    index: int | None
    """Of a job that may run again."""
    mended: list[bytes]
    """Records of functions that were given to it since."""


def functions(batch: str) -> Request[FunctionsOf | None]:
    def read(reply: list[Any]) -> FunctionsOf | None:
        if not reply:
            return None
        digests = [bytes.fromhex(text.decode()) for text in reply[0].split()]
        return FunctionsOf(digests, None if reply[1] == b"" else int(reply[1]), reply[2])

    return request_to("looking/functions", read, batch)


@dataclass(frozen=True, slots=True)
class Places:
    """Which jobs of a batch are in some states, all at one moment."""

    total: int
    deleted: list[Run]
    runs: dict[str, list[Run]]
    """By state, in the order in which Redis keeps them."""


PLACES = ("queued", "started", "deferred", "scheduled", "failed", "canceled")
"""The states whose jobs Redis has in a place of their own."""


def places(batch: str, *states: str) -> Request[Places | None]:
    """Of the states queued, started, deferred, scheduled, failed and canceled; what is in none of them has finished."""

    def read(reply: list[Any]) -> Places | None:
        if not reply:
            return None
        deleted, *runs = ([read_run(entry) for entry in entries] for entries in reply[1:])
        return Places(reply[0], deleted, dict(zip(states, runs, strict=True)))

    return request_to("looking/places", read, batch, *states)


@dataclass(frozen=True, slots=True)
class Counted:
    """A batch that has jobs in a state."""

    batch: str
    count: int
    tag: float | None
    """In the fair share: the one with the smallest is taken from next. None if nothing can be taken from it now."""


@dataclass(frozen=True, slots=True)
class CountedPage:
    """Some of the batches that have jobs in a state."""

    batches: list[Counted]
    end: str
    """Where the next page begins; '' if this is the last one."""


def counted(queue: str, state: str, most: int, after: str = "") -> Request[CountedPage]:
    """The batches of a queue that have jobs in a state, the oldest first; `after` is the end of the page before."""

    def read(reply: list[Any]) -> CountedPage:
        found = [
            Counted(id.decode(), n, float(tag) if tag else None)
            for id, n, tag in zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
        ]
        return CountedPage(found, reply[0].decode())

    return request_to("looking/counted", read, queue, state, most, after)


def printed(batch: str, index: int) -> Request[list[Entry]]:
    """What a job has printed in all its attempts, the oldest entry first."""
    return request_to("looking/printed", read_entries, batch, index)


def read_entries(reply: Sequence[Sequence[Any]]) -> list[Entry]:
    """Entries of the output of a batch from what XRANGE answers."""
    found = []
    for id, fields in reply:
        index, attempt, at = map(int, fields[1].split())
        parts = [(name.decode(), text) for name, text in zip(fields[2::2], fields[3::2], strict=True)]
        found.append(Entry(index, attempt, at, parts, id.decode()))
    return found


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as Redis knows it at one moment."""

    id: str
    queue: str
    environment: str
    per_block: int
    description: Description
    total: int
    queued: int
    started: int
    deferred: int
    """Jobs that wait for others."""
    scheduled: int
    """Jobs that wait for their time."""
    finished: int
    failed: int
    canceled: int
    busy: float
    """Seconds that its jobs took, all together."""
    submitted_at: float
    ended_at: float | None
    is_submitting: bool
    is_paused: bool
    is_canceled: bool
    is_retried: bool
    reason: str
    """Why it was canceled."""
    result_ttl: int = 0
    due_at: float | None = None
    """When the next of those jobs is due that wait for a time: seconds since the epoch, by the server's clock."""
    has_attempts: bool = False
    """Some jobs ran before."""
    waits_for: str = ""
    """The job or batch that a deferred one of its jobs waits for, of the last that was submitted or brought back."""

    @property
    def ended(self) -> int:
        return self.finished + self.failed + self.canceled

    @property
    def done(self) -> bool:
        return not self.is_submitting and self.ended >= self.total


def batch_state(id: str, fields: Sequence[bytes]) -> BatchState | None:
    """A batch from what HGETALL answers for it.

    Raises
    ------
    CorruptPayload
        An older version wrote it, or somebody else.
    """
    h = dict(zip(fields[::2], fields[1::2], strict=True))
    if b"total" not in h:
        return None
    if b"queued" not in h:
        raise errors.CorruptPayload(
            f"batch {id} was submitted by an older nbqueue, which kept it in another form: read it with that one, or "
            "submit it again"
        )
    ended_at = h.get(b"ended_at")
    try:
        description = Description.from_json(h[b"description"])
    except (KeyError, TypeError, ValueError) as error:
        raise errors.CorruptPayload(f"batch {id}: its description is not what nbqueue wrote ({error})") from error
    return BatchState(
        id, h[b"queue"].decode(), h[b"environment"].decode(), int(h[b"per_block"]), description,
        int(h[b"total"]), int(h[b"queued"]), int(h[b"started"]), int(h[b"deferred"]), int(h[b"scheduled"]),
        int(h[b"finished"]), int(h[b"failed"]), int(h[b"canceled"]), int(h[b"busy"]) / 1e6,
        float(h[b"submitted_at"]), float(ended_at) if ended_at else None,
        b"is_submitting" in h, b"is_paused" in h, b"is_canceled" in h, b"is_retried" in h,
        h.get(b"reason", b"").decode(), int(h[b"result_ttl"]), float(h[b"due_at"]) if b"due_at" in h else None,
        b"has_attempts" in h, h.get(b"waits_for", b"").decode().removesuffix(":*"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the batches of a long list."""

    batches: list[BatchState]
    end: str
    """Where the next page begins; '' if this is the last one."""

    @classmethod
    def read(cls, reply: list[Any]) -> Page:
        """From the answer of a script: where it ended, then ids and fields in turns. Those of an older version are
        passed over."""
        found = zip(reply[1::2], reply[2::2], strict=True)
        states = (batch_state(id.decode(), fields) for id, fields in found if b"queued" in fields[::2])
        return cls([state for state in states if state], reply[0].decode())


def batches(most: int, queue: str = "", after: str = "") -> Request[Page]:
    """The newest batches of a queue, or of all; `after` is the end of the page before."""
    return request_to("looking/batches", Page.read, most, queue, after)


def unfinished(most: int, queue: str, after: str = "") -> Request[Page]:
    """Those of a queue that have jobs to do, or get some."""
    return request_to("looking/unfinished", Page.read, most, queue, after)


def forget_expired(most: int) -> Request[int]:
    """How many batches that had expired are counted no longer."""
    return request_to("looking/forget_expired", int, most)


@dataclass(frozen=True, slots=True)
class Counts:
    """Jobs by state, and of how many batches they are."""

    queued: int = 0
    started: int = 0
    deferred: int = 0
    scheduled: int = 0
    finished: int = 0
    failed: int = 0
    canceled: int = 0
    batches: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as Redis knows it at one moment."""

    name: str
    is_paused: bool
    environments: dict[str, Counts]
    """The jobs of all its batches, by what they need to find where they run."""

    @property
    def counts(self) -> Counts:
        """The jobs of all its batches."""
        return sum(self.environments.values(), Counts())


def queues(name: str = "") -> Request[list[QueueState]]:
    """One queue, or all that have batches."""

    def counts(fields: list[bytes]) -> Counts:
        return Counts(**{state.decode(): int(n) for state, n in zip(fields[::2], fields[1::2], strict=True)})

    def read(reply: list[Any]) -> list[QueueState]:
        return [
            QueueState(
                name.decode(),
                bool(is_paused),
                {environment.decode(): counts(fields) for environment, fields in zip(e[::2], e[1::2], strict=True)},
            )
            for name, is_paused, e in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    return request_to("looking/queues", read, name)


def schedules(queue: str = "", name: str = "") -> Request[list[ScheduleState]]:
    """The schedules of a queue, or of all, by name."""

    def read(reply: list[Any]) -> list[ScheduleState]:
        return sorted(map(ScheduleState.read, reply), key=lambda state: (state.queue, state.name))

    return request_to("looking/schedules", read, queue, name)


def submissions() -> Request[dict[str, float]]:
    """The batches that are being submitted, and how often their submitters have touched them."""

    def read(reply: list[bytes]) -> dict[str, float]:
        return {id.decode(): float(touches) for id, touches in zip(reply[::2], reply[1::2], strict=True)}

    return request_to("looking/submissions", read)


@dataclass(frozen=True, slots=True)
class RunningNow:
    """A job that runs."""

    id: str
    since: float
    """When it began, in seconds since the epoch by the clock of the worker's host."""
    progress: Progress | None = None
    """How far it is, if it says so."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as Redis knows it."""

    id: str
    beat: int
    leases: int
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it; others may be called the same. The id is of one process only."""
        return self.fields.get("name") or self.id

    @property
    def queues(self) -> list[str]:
        return self.fields.get("queues", "").split()

    @property
    def environment(self) -> str:
        return self.fields.get("environment", "")

    @property
    def children(self) -> int:
        return int(self.fields.get("children", "0"))

    @property
    def versions(self) -> dict[str, str]:
        """Of packages that had other versions where jobs were submitted; '' of those that are not installed."""
        try:
            found = json.loads(self.fields.get("versions") or "{}")
            return {str(name): str(version) for name, version in found.items()}
        except (ValueError, AttributeError):  # not what a worker wrote
            return {}

    @property
    def running(self) -> list[RunningNow]:
        """The jobs that it runs, as it said last."""
        try:
            found = json.loads(self.fields.get("running") or "[]")
            return [
                RunningNow(str(id), float(since), Progress(*progress[0]) if progress else None)
                for id, since, *progress in found
            ]
        except (ValueError, TypeError):  # not what a worker of this version wrote
            return []


def workers() -> Request[list[WorkerState]]:
    def read(reply: list[Any]) -> list[WorkerState]:
        found = []
        for id, leases, h in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
            fields = {k.decode(): v.decode("utf-8", "replace") for k, v in zip(h[::2], h[1::2], strict=True)}
            found.append(WorkerState(id.decode(), int(fields.get("beat", "0")), leases, fields))
        return found

    return request_to("looking/workers", read)
