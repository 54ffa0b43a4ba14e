"""Requests of workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbqueue.payload.records import Blob, pieces_of
from nbqueue.store import keys
from nbqueue.store.keys import POINTER
from nbqueue.store.requests.request import BULK, Bulk, Request, Run, as_text, request_to
from nbqueue.store.schedule_state import MOST_BATCHES, ScheduleState


@dataclass(frozen=True, slots=True)
class Input:
    """Outcomes of other jobs, with which calls are made."""

    batch: str
    per_block: int
    total: int
    """Jobs of the batch."""
    records: Sequence[tuple[str, Blob]]
    """By field: blocks 'b0', jobs '17'."""


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
    description: bytes
    """JSON, see `Description`."""
    has_attempts: bool
    """Some jobs of the batch ran before: outcomes are recorded job by job."""
    attempts: dict[int, int]
    calls: list[tuple[str, Blob]]
    bulk: list[tuple[str, str]]
    """Further records, and the fields of `batch:<id>:calls:bulk` that hold them."""
    is_more: bool
    """Further jobs of the batch wait."""
    metas: dict[int, str] = field(default_factory=dict)
    """What jobs that run again have saved (JSON), by their indices."""
    mended: bytes = b""
    """Record of the function that they run with, if it is not that of their calls."""
    decided: bytes = b""
    """How the only job ends, where its callback is to be called, and nothing else: a record, or `CANCELED`."""
    inputs: tuple[Input, ...] = ()
    """The outcomes of other jobs that it needs."""


CANCELED = b"-"
"""In the place of the record of an outcome: the job was canceled."""


@dataclass(frozen=True, slots=True)
class Later:
    """There is nothing to do now, and there will be."""

    seconds: float


GONE = "gone"

USED = "used"


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
    waiting: Sequence[int] = (),
    awaited: Sequence[str] = (),
    parks: bool = False,
) -> Request[Claimed | ScheduleState | Later | str | None]:
    """A run; a schedule that is to be fired; `Later` or None if there is nothing to do, GONE if the worker was taken
    for dead, or USED if the number had a lease that is over.

    `target`: seconds of work. `waiting`: numbers of leases whose jobs wait for others; `awaited`: batches to take from
    first. `parks`: where there is nothing to do, a single job may be handed to it, with this number. Without queues it
    only gets what it was handed, and is parked no more."""

    def read(reply: list[Any]) -> Claimed | ScheduleState | Later | str | None:
        if not reply:
            return None
        if reply[0] == b"later":
            return Later(reply[1] / 1e6)
        if reply[0] == b"due":
            return ScheduleState.read(reply[1:])
        if reply[0] in (b"gone", b"used"):
            return GONE if reply[0] == b"gone" else USED
        attempts, calls, bulk, is_more, metas, mended, decided = reply[8:]
        return Claimed(
            number, reply[1].decode(), reply[2], reply[3], reply[4].decode(), reply[5], reply[6], bool(reply[7]),
            dict(zip(attempts[::2], attempts[1::2], strict=True)),
            [(name.decode(), record) for name, record in zip(calls[::2], calls[1::2], strict=True)],
            [(name.decode(), field.decode()) for name, field in zip(bulk[::2], bulk[1::2], strict=True)],
            bool(is_more), {index: text.decode() for index, text in zip(metas[::2], metas[1::2], strict=True)},
            mended, decided,
        )  # fmt: skip

    return request_to(
        "running/claim", read, worker, number, environment, children, int(target * 1e6), most_jobs, most_bytes,
        "".join(f" {held} " for held in waiting), " ".join(awaited), int(parks), *queues,
    )  # fmt: skip


def read_handed(elements: Sequence[bytes]) -> Claimed:
    """A job that a parked worker was handed: what `append` has put into `worker:<id>:handed`."""
    number, batch, index, description, record = elements
    start = int(index)
    calls: list[tuple[str, Blob]] = [(f"b{start}", record)]
    return Claimed(int(number), batch.decode(), start, start + 1, "", 1, description, False, {}, calls, [], False)


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of firing a schedule."""

    answer: str
    """'ok', 'done' (somebody else has, or it was changed), 'gone', or 'again': its runs are not as they were read."""
    outdated: list[str]
    """Batches of its runs that are to be deleted."""


def fire(
    state: ScheduleState, *, in_turn: bool = True, next_due: float | None = None, skipped: int = 0, batch: str = "",
    index: int = 0, record: Blob = b"", problem: str = "",
) -> Request[Fired]:  # fmt: skip
    """Start a run of a schedule as a job of a batch, or pass it over without one. `problem`: why that cannot be done
    here."""

    def read(reply: list[bytes]) -> Fired:
        return Fired(reply[0].decode(), [id.decode() for id in reply[1:]])

    due = state.due if in_turn else ""
    next_text = "" if next_due is None else f"{next_due:.3f}"
    return request_to(
        "running/fire", read, state.queue, state.name, state.token, state.runs, due, next_text, skipped, batch, index,
        record, MOST_BATCHES, problem, keys.new_token(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FailureNote:
    """What is counted of a failure: the digest that identical ones share, and a summary for who looks."""

    index: int
    digest: str
    summary: str


@dataclass(frozen=True, slots=True)
class Again:
    """A job that failed and runs again."""

    index: int
    attempt: int
    """The one that failed, from 1."""
    seconds: float
    """Until then."""
    record: bytes
    """How it failed."""


def finish(
    worker: str,
    number: int,
    batch: str,
    run: Run,
    busy: float,
    records: Sequence[tuple[str, Blob]],
    failures: Sequence[FailureNote] = (),
    again: Sequence[Again] = (),
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
        large = {
            name: f"{worker}:{number}:{name}"
            for name, record in records
            if len(record) >= bulk_from and name not in failed
        }
        bulk = [
            (keys.piece(large[name], position), piece)
            for name, record in records
            if name in large
            for position, piece in enumerate(pieces_of(record))
        ]
        records = [(name, POINTER + large[name].encode() if name in large else record) for name, record in records]
    arguments: list[Blob | str | float] = [
        worker, number, batch, run[0], run[1], int(busy * 1e6), len(records), len(failures), len(again),
    ]  # fmt: skip
    for name, record in records:
        arguments += (name, record)
    for note in failures:
        arguments += (note.index, note.digest, note.summary)
    for one in sorted(again, key=lambda one: one.index):
        arguments += (one.index, one.attempt, one.seconds, one.record)
    keep = Bulk(keys.outcomes_bulk(batch), bulk) if bulk else None
    return request_to("running/finish", as_text, *arguments, bulk=keep)


def release(worker: str, number: int, run: Run, death: str = "") -> Request[str]:
    """'ok' or 'lost'. `death` tells how a process died of the first job."""
    return request_to("running/release", as_text, worker, number, run[0], run[1], death)


def decide(worker: str, number: int, index: int, how: bytes) -> Request[str]:
    """'ok' or 'lost'. `how`: the record of its outcome, or `CANCELED`."""
    return request_to("running/decide", as_text, worker, number, index, how)


STREAMS = ("stdout", "stderr")
"""Streams whose text is kept: the names in an `Entry`, and their numbers in the ring."""


@dataclass(slots=True)
class Entry:
    """Text that a job has printed, as one entry of the stream `batch:<id>:output`."""

    index: int
    attempt: int
    at: int
    """How many bytes this attempt had printed before."""
    parts: list[tuple[str, bytes]]
    """The streams, see `STREAMS`, and what was written to them, in order."""
    id: str = ""
    """What the stream calls it; '' before it is stored."""

    @property
    def size(self) -> int:
        """Bytes of its text."""
        return sum(len(text) for _, text in self.parts)


CONTINUED = 1 << 40
"""Where the text begins that follows on what an attempt had printed in another process, which has died."""

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

    return request_to("running/output", read, *arguments)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as it says itself."""

    done: float
    total: float | None = None
    """What there is to do, in the same unit; None if that is not known."""
    text: str = ""
    """What it does now, in words."""

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1; None if that is not known."""
        return None if self.total is None else min(1.0, max(0.0, self.done / self.total))


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
    return request_to(
        "running/show", as_text, worker, number, batch, shown.sequence, shown.drop_before, shown.replaces, MOST_SHOWN,
        shown.kind, shown.content,
    )  # fmt: skip


MOST_RICH = 100
"""Displays of a job whose rich output is kept."""

_MOST_RICH_BYTES = 64 * 1024 * 1024
"""Bytes of the rich output of a batch."""


def display(
    worker: str, number: int, batch: str, index: int, attempt: int, position: int, content: Blob,
    *, most_bytes: int = _MOST_RICH_BYTES,
) -> Request[str]:  # fmt: skip
    """'ok', 'full' (the batch has too much), 'lost' (the lease is not this worker's) or 'gone'.

    Nothing instead of `content` takes away what the job has displayed from this position on.
    """
    return request_to(
        "running/display", as_text, worker, number, batch, index, position, MOST_RICH, most_bytes, attempt, content
    )


def save_meta(worker: str, number: int, batch: str, index: int, content: Blob) -> Request[str]:
    """'ok', 'lost' (the lease is not this worker's) or 'gone'."""
    return request_to("running/save_meta", as_text, worker, number, batch, index, content)


def note_callback(worker: str, number: int, batch: str, index: int, attempt: int, text: str) -> Request[str]:
    """'ok', 'lost' (the lease is not this worker's) or 'gone'."""
    return request_to("running/note_callback", as_text, worker, number, batch, index, attempt, text)


def register(worker: str, description: Mapping[str, str | float], *, again: bool = False) -> Request[bool]:
    """Whether it is registered; not if it was before (`again`) and is not any more: it was taken for dead."""
    return request_to(
        "running/register", bool, worker, int(again), *(part for item in description.items() for part in item)
    )


def start_first(queue: str, environment: str, token: str, seconds: int) -> Request[bool]:
    """Whether the caller starts the first worker of a queue: nobody serves it, and nobody else starts one meanwhile."""
    return request_to("running/start_first", bool, queue, environment, token, seconds)


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

    return request_to("running/beat", read, worker, acknowledged, *(part for item in changes.items() for part in item))


def give_up(environment: str, queues: Iterable[str]) -> Request[bool]:
    """Whether there is more to be given up at once."""
    return request_to("running/give_up", bool, environment, *queues)


def reap(worker: str, beat: float | None, death: str) -> Request[int]:
    return request_to("running/reap", int, worker, "" if beat is None else beat, death)


def order(worker: str, what: str) -> Request[bool]:
    return request_to("running/order", bool, worker, what)


def wake(environment: str, queues: Iterable[str]) -> Request[int]:
    return request_to("running/wake", int, environment, *queues)
