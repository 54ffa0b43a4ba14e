"""The changes of state, as requests to Redis: plain data in, plain data out, no input or output here.

Each function stands for the Lua file of the same name in `lua/`, which describes what it does. Each may be sent twice.
What the answers mean is decided here too, so that blocking callers (`Store.call`) and the worker's event loop read them
alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nbqueue import errors

T = TypeVar("T")

Blob = bytes | memoryview

Run = tuple[int, int]
"""First index, and the index after the last one."""

BULK = 64 * 1024
"""Bytes of a record that a script does not touch, because Lua would copy it several times."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Fields of a hash that a plain command writes, in one transaction with the script that makes them count."""

    key: str
    fields: Sequence[tuple[str, Blob]]


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A script, its arguments, and how to read its answer."""

    script: str
    arguments: list[bytes]
    read: Callable[[Any], T]
    bulk: Bulk | None = None


def _request(
    script: str, read: Callable[[Any], T], *arguments: Blob | str | float, bulk: Bulk | None = None
) -> Request[T]:
    return Request(script, [_bytes(argument) for argument in arguments], read, bulk)


def _bytes(value: Blob | str | float) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, memoryview):
        return bytes(value)
    return str(value).encode()


@dataclass(frozen=True, slots=True)
class Opening:
    """What never changes of a batch."""

    batch: str
    token: str
    queue: str
    environment: str
    per_block: int
    about: str
    """JSON: label, function, directory, notebook, host, options; for workers and for those who look."""
    weight: float = 1.0
    result_ttl: int = 7 * 86400


@dataclass(frozen=True, slots=True)
class Submitted:
    """How a submission went: 'ok', 'taken', 'gone', 'canceled', 'gap' or 'code' (send the record of `detail`)."""

    answer: str
    detail: str = ""


def submit(
    opening: Opening,
    first: int,
    count: int,
    functions: Mapping[bytes, bytes],
    fields: Sequence[tuple[str, Blob]],
    *,
    is_last: bool = False,
    at_front: bool = False,
    bulk_from: int = BULK,
) -> Request[Submitted]:
    """`functions` maps digests to signed records, empty where Redis is known to have them."""
    small = [(name, record) for name, record in fields if len(record) < bulk_from]
    large = [(name, record) for name, record in fields if len(record) >= bulk_from]
    arguments: list[Blob | str | float] = [
        opening.batch, opening.token, first, count, int(is_last), int(at_front), opening.queue, opening.environment,
        opening.per_block, opening.weight, opening.result_ttl, opening.about, len(functions), len(small), len(large),
    ]  # fmt: skip
    for digest, body in functions.items():
        arguments += (digest.hex(), body)
    for name, record in small:
        arguments += (name, record)
    arguments += (name for name, _ in large)
    # A token in the name: whoever has the same idea of an id overwrites nothing.
    bulk = [(f"{opening.token}:{name}", record) for name, record in large]

    def read(reply: list[Any]) -> Submitted:
        return Submitted(reply[0].decode(), _text(reply[1]) if len(reply) > 1 else "")

    keep = Bulk(f"batch:{opening.batch}:calls:bulk", bulk) if bulk else None
    return _request("submit", read, *arguments, bulk=keep)


def append(batch: str, token: str, index: int, digest: bytes, record: Blob) -> Request[bool]:
    """Whether the call was accepted; if not, `submit` does it or tells why not."""
    return _request("append", bool, batch, token, index, digest.hex(), record)


def touch(batch: str) -> Request[bool]:
    return _request("touch", bool, batch)


def abandon(batch: str, touches: float | None, reason: str) -> Request[int]:
    return _request("abandon", int, batch, "" if touches is None else touches, reason)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased run, with the records of the calls that it needs."""

    number: int
    batch: str
    start: int
    stop: int
    kind: str
    """'' usual, 's' suspect (a worker died with it), 'x' suspect and alone on this worker."""
    per_block: int
    about: bytes
    has_attempts: bool
    """Some jobs of the batch ran before: outcomes are recorded job by job."""
    attempts: dict[int, int]
    calls: list[tuple[str, bytes]]
    bulk: list[tuple[str, str]]
    """Further records, and the fields of `batch:<id>:calls:bulk` that hold them."""
    is_more: bool
    """Further jobs of the batch wait."""


GONE = "gone"


def claim(
    worker: str,
    number: int,
    environment: str,
    queues: Sequence[str],
    *,
    children: int,
    target: float,
    most_jobs: int = 4096,
    most_bytes: int = 4_000_000,
) -> Request[Claimed | str | None]:
    """A run, None if there is nothing to do, or GONE if the worker was taken for dead. `target`: seconds of work."""

    def read(reply: list[Any]) -> Claimed | str | None:
        if not reply:
            return None
        if reply[0] == b"gone":
            return GONE
        attempts, calls, bulk, is_more = reply[8:]
        return Claimed(
            number, reply[1].decode(), reply[2], reply[3], reply[4].decode(), reply[5], reply[6], bool(reply[7]),
            dict(zip(attempts[::2], attempts[1::2], strict=True)),
            [(name.decode(), record) for name, record in zip(calls[::2], calls[1::2], strict=True)],
            [(name.decode(), field.decode()) for name, field in zip(bulk[::2], bulk[1::2], strict=True)],
            bool(is_more),
        )  # fmt: skip

    return _request(
        "claim", read, worker, number, environment, children, int(target * 1e6), most_jobs, most_bytes, *queues
    )


@dataclass(frozen=True, slots=True)
class FailureNote:
    """What is counted of a failure: the digest that identical ones share, and a summary for who looks."""

    index: int
    digest: str
    summary: str


POINTER = b"@"
"""Begins the record of an outcome that says which field of `batch:<id>:outcomes:bulk` holds it."""


def finish(
    worker: str,
    number: int,
    batch: str,
    run: Run,
    busy: float,
    records: Sequence[tuple[str, Blob]],
    failures: Sequence[FailureNote] = (),
    *,
    bulk_from: int | None = BULK,
) -> Request[str]:
    """'ok', 'done' before, 'lost' (the lease is not this worker's) or 'gone' (no such batch). `busy` is in seconds.

    Without `bulk_from` the script writes everything, which passes when memory is full: it begins with deleting.
    """
    bulk = []
    if bulk_from is not None:
        failed = {str(note.index) for note in failures}
        # The names tell the lease: what a worker writes that has lost it is nobody's.
        bulk = [
            (f"{worker}:{number}:{name}", record)
            for name, record in records
            if len(record) >= bulk_from and name not in failed
        ]
        pointers = {field.rpartition(":")[2]: POINTER + field.encode() for field, _ in bulk}
        records = [(name, pointers.get(name, record)) for name, record in records]
    arguments: list[Blob | str | float] = [
        worker, number, batch, run[0], run[1], int(busy * 1e6), len(records), len(failures),
    ]  # fmt: skip
    for name, record in records:
        arguments += (name, record)
    for note in failures:
        arguments += (note.index, note.digest, note.summary)
    keep = Bulk(f"batch:{batch}:outcomes:bulk", bulk) if bulk else None
    return _request("finish", _text, *arguments, bulk=keep)


def release(worker: str, number: int, run: Run, death: str = "") -> Request[str]:
    """'ok' or 'lost'. `death` tells how a process died of the first job."""
    return _request("release", _text, worker, number, run[0], run[1], death)


@dataclass(slots=True)
class Entry:
    """Text that a job has printed, as one entry of the stream `batch:<id>:output`."""

    index: int
    attempt: int
    at: int
    """How many bytes this attempt had printed before."""
    parts: list[tuple[str, bytes]]
    """The streams ('stdout', 'stderr') and what was written to them, in order."""
    id: str = ""
    """What the stream calls it; '' before it is stored."""

    @property
    def size(self) -> int:
        """Bytes of its text."""
        return sum(len(text) for _, text in self.parts)


MOST_ENTRIES = 1000
"""Entries of the output of a batch; the oldest go."""


def output(
    worker: str,
    number: int,
    batch: str,
    sequence: int,
    replaced: Sequence[str],
    entries: Sequence[Entry],
    *,
    most: int = MOST_ENTRIES,
) -> Request[list[str] | str]:
    """The ids of the entries, in their order; or 'done' before, 'lost' (the lease is not this worker's) or 'gone'.

    `sequence` is greater than in all requests before. An id is '' where an entry's job is not in the lease (any more).
    """
    arguments: list[str | float | bytes] = [
        worker, number, batch, sequence, most, len(replaced), len(entries), *replaced,
    ]  # fmt: skip
    for entry in entries:
        arguments += (f"{entry.index} {entry.attempt} {entry.at}", len(entry.parts))
        for part in entry.parts:
            arguments += part

    def read(reply: list[bytes]) -> list[str] | str:
        return [id.decode() for id in reply[1:]] if reply[0] == b"ok" else reply[0].decode()

    return _request("output", read, *arguments)


MOST_SHOWN = 10_000
"""Messages of a cell; the oldest go."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A Jupyter message that a job has put out."""

    sequence: int
    """From 1, in the order in which they were put out; 0 for the start of the job itself."""
    kind: str
    """'stream', 'display_data', 'update_display_data', 'execute_result', 'error' or 'clear_output'."""
    content: Blob
    """JSON."""
    drop_before: int = 0
    """Messages before this number are of no use any more."""
    replaces: int = 0
    """The number of one more; 0 if there is none."""


START = Shown(0, "clear_output", b'{"wait": false}')
"""That a cell is started, once more perhaps: what it put out before goes."""


def show(worker: str, number: int, batch: str, shown: Shown) -> Request[str]:
    """'ok', 'done' before, 'lost' (the lease is not this worker's) or 'gone'."""
    return _request(
        "show", _text, worker, number, batch, shown.sequence, shown.drop_before, shown.replaces, MOST_SHOWN,
        shown.kind, shown.content,
    )  # fmt: skip


def register(worker: str, description: Mapping[str, str | float], *, again: bool = False) -> Request[bool]:
    """Whether it is registered; not if it was before (`again`) and is not any more: it was taken for dead."""
    return _request("register", bool, worker, int(again), *(part for item in description.items() for part in item))


@dataclass(frozen=True, slots=True)
class Stop:
    """An order: take nothing new, finish what runs, leave."""


@dataclass(frozen=True, slots=True)
class CancelBatch:
    """An order: cancel the jobs of a batch in the leases that the worker had when it was given."""

    batch: str
    upto: int
    """Number of the newest of these leases."""


@dataclass(frozen=True, slots=True)
class CancelJob:
    """An order: cancel one job in the leases that the worker had when it was given."""

    batch: str
    index: int
    upto: int
    """Number of the newest of these leases."""


@dataclass(frozen=True, slots=True)
class UnknownOrder:
    """What a client of another version may order."""

    text: str


Order = Stop | CancelBatch | CancelJob | UnknownOrder


def _order(text: str) -> Order:
    match text.split(" "):
        case ["stop"]:
            return Stop()
        case ["cancel", batch, upto]:
            return CancelBatch(batch, int(upto))
        case ["cancel_job", batch, index, upto]:
            return CancelJob(batch, int(index), int(upto))
    return UnknownOrder(text)


def beat(worker: str, acknowledged: int, changes: Mapping[str, str | float]) -> Request[list[tuple[int, Order]] | None]:
    """The orders that wait, numbered; None if the worker was taken for dead."""

    def read(reply: list[bytes]) -> list[tuple[int, Order]] | None:
        if reply[0] == b"gone":
            return None
        orders = (order.decode().partition(" ") for order in reply[1:])
        return [(int(number), _order(text)) for number, _, text in orders]

    return _request("beat", read, worker, acknowledged, *(part for item in changes.items() for part in item))


def reap(worker: str, beat: float | None, death: str) -> Request[int]:
    return _request("reap", int, worker, "" if beat is None else beat, death)


def order(worker: str, what: str) -> Request[bool]:
    return _request("order", bool, worker, what)


def wake(environment: str, queues: Iterable[str]) -> Request[int]:
    return _request("wake", int, environment, *queues)


def cancel(batch: str, reason: str, *, only_waiting: bool = False) -> Request[int]:
    return _request("cancel", int, batch, int(only_waiting), reason)


def cancel_job(batch: str, index: int) -> Request[str]:
    return _request("cancel_job", _text, batch, index)


def retry(batch: str, token: str, index: int | None = None) -> Request[tuple[int, bool]]:
    """How many jobs were queued again (-1: no such batch), and whether there are more."""
    return _request(
        "retry", lambda reply: (int(reply[0]), bool(reply[1])), batch, token, "" if index is None else index
    )


def pause(batch: str) -> Request[int]:
    return _request("pause", int, batch)


def resume(batch: str) -> Request[int]:
    return _request("resume", int, batch)


def pause_queue(queue: str) -> Request[int]:
    return _request("pause_queue", int, queue)


def resume_queue(queue: str, environments: Iterable[str]) -> Request[int]:
    return _request("resume_queue", int, queue, *environments)


def delete(batch: str) -> Request[int]:
    return _request("delete", int, batch)


def delete_job(batch: str, index: int) -> Request[int]:
    record = "!" + json.dumps({"type": "ResultExpired", "message": "it was deleted"})
    return _request("delete_job", int, batch, index, record)


@dataclass(frozen=True, slots=True)
class JobState:
    """One job as Redis knows it."""

    state: str
    """'ended', 'canceled', 'started', 'queued' or 'unknown'."""
    own: Blob
    block: Blob
    attempts: int
    worker: str


def job(batch: str, index: int) -> Request[JobState | None]:
    def read(reply: list[Any]) -> JobState | None:
        if not reply:
            return None
        return JobState(reply[0].decode(), reply[1], reply[2], int(reply[3]), reply[4].decode())

    return _request("job", read, batch, index)


@dataclass(frozen=True, slots=True)
class OutcomeRecords:
    """Records of outcomes by field: blocks 'b0', jobs '17'. Jobs below `stop` have been read."""

    stop: int
    per_block: int
    records: dict[str, Blob]


def outcomes(batch: str, start: int, stop: int) -> Request[OutcomeRecords | None]:
    def read(reply: list[Any]) -> OutcomeRecords | None:
        if not reply:
            return None
        names = (name.decode() for name in reply[2::2])
        return OutcomeRecords(reply[0], reply[1], dict(zip(names, reply[3::2], strict=True)))

    return _request("outcomes", read, batch, start, stop)


def calls(batch: str, index: int) -> Request[tuple[int, bytes, bytes, str] | None]:
    """Calls per block, the record of the job's block, its own record, and the token of records in bulk."""

    def read(reply: list[Any]) -> tuple[int, bytes, bytes, str] | None:
        return (reply[0], reply[1], reply[2], reply[3].decode()) if reply else None

    return _request("calls", read, batch, index)


def printed(batch: str, index: int) -> Request[list[Entry]]:
    """What a job has printed in all its attempts, the oldest entry first."""
    return _request("printed", read_entries, batch, index)


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
    about: dict[str, Any]
    total: int
    started: int
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

    @property
    def queued(self) -> int:
        return self.total - self.started - self.ended

    @property
    def ended(self) -> int:
        return self.finished + self.failed + self.canceled

    @property
    def done(self) -> bool:
        return not self.is_submitting and self.ended >= self.total


def batch_state(id: str, fields: Sequence[bytes]) -> BatchState | None:
    """A batch from what HGETALL answers for it."""
    h = dict(zip(fields[::2], fields[1::2], strict=True))
    if b"total" not in h:
        return None
    ended_at = h.get(b"ended_at")
    try:
        about = json.loads(h[b"about"])
    except ValueError as error:
        raise errors.CorruptPayload(f"batch {id}: its description is not what nbqueue wrote ({error})") from error
    return BatchState(
        id, h[b"queue"].decode(), h[b"environment"].decode(), int(h[b"per_block"]), about,
        int(h[b"total"]), int(h[b"started"]), int(h[b"finished"]), int(h[b"failed"]), int(h[b"canceled"]),
        int(h[b"busy"]) / 1e6, float(h[b"submitted_at"]), float(ended_at) if ended_at else None,
        b"is_submitting" in h, b"is_paused" in h, b"is_canceled" in h, b"is_retried" in h,
        h.get(b"reason", b"").decode(), int(h[b"result_ttl"]),
    )  # fmt: skip


def batches(most: int, queue: str = "") -> Request[list[BatchState]]:
    def read(reply: list[Any]) -> list[BatchState]:
        states = (batch_state(id.decode(), h) for id, h in zip(reply[::2], reply[1::2], strict=True))
        return [state for state in states if state]

    return _request("batches", read, most, queue)


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


def workers() -> Request[list[WorkerState]]:
    def read(reply: list[Any]) -> list[WorkerState]:
        found = []
        for id, leases, h in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
            fields = {k.decode(): v.decode("utf-8", "replace") for k, v in zip(h[::2], h[1::2], strict=True)}
            found.append(WorkerState(id.decode(), int(fields.get("beat", "0")), leases, fields))
        return found

    return _request("workers", read)


def _text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
