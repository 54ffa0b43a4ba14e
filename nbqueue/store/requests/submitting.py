"""Requests of those who submit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbqueue.payload.records import Blob, pieces_of
from nbqueue.store import keys
from nbqueue.store.requests.request import BULK, Bulk, Request, as_text, request_to


@dataclass(frozen=True, slots=True)
class Opening:
    """What never changes of a batch."""

    batch: str
    token: str
    queue: str
    environment: str
    per_block: int
    description: str
    """JSON, see `Description`."""
    weight: float = 1.0
    result_ttl: int = 7 * 86400
    """Seconds that it is kept after its end; for ever if below 0."""
    failure_ttl: int | None = None
    """The same where jobs failed or were canceled; None if it is the same time."""
    ttl: float | None = None
    """Seconds after which jobs are given up that still wait; None if they wait for ever."""

    @property
    def lifetimes(self) -> str:
        """As `submit` takes them."""
        return lifetimes(self.result_ttl, self.failure_ttl, self.ttl)


def lifetimes(result_ttl: int, failure_ttl: int | None, ttl: float | None = None) -> str:
    """How long a batch is kept after its end, and where jobs failed, and after how long jobs that wait are given up, as
    scripts take it."""
    if ttl is not None:
        return f"{result_ttl} {'-' if failure_ttl is None else failure_ttl} {ttl:g}"
    return f"{result_ttl}" if failure_ttl is None else f"{result_ttl} {failure_ttl}"


@dataclass(frozen=True, slots=True)
class DependsOn:
    """What a job waits for."""

    batch: str
    index: int | None = None
    """A job of it; None: all of them."""
    may_fail: bool = False
    """The job starts also if that failed or was canceled."""

    @property
    def name(self) -> str:
        """Its id."""
        return self.batch if self.index is None else f"{self.batch}:{self.index}"


@dataclass(frozen=True, slots=True)
class Deferred:
    """Neighbouring jobs that wait for the same."""

    start: int
    stop: int
    on: tuple[DependsOn, ...]
    at_front: bool = False
    """They go before all others when they need not wait any more."""

    def line(self) -> str:
        """As `submit` takes it."""
        on = (f"|{one.batch} {'*' if one.index is None else one.index} {'a' * one.may_fail}" for one in self.on)
        return f"{self.start} {self.stop} {'f' * self.at_front}{''.join(on)}"


@dataclass(frozen=True, slots=True)
class Submitted:
    """How a submission went: 'ok', 'taken', 'gone', 'canceled', 'gap', 'code' (send the record of `detail`) or
    'unknown': what it would wait for is not there."""

    answer: str
    detail: str = ""


_SUBMITTING = 60
"""Seconds for which a name is kept for a batch that is not there yet."""


def take_name(name: str, batch: str, seconds: int, *, is_unique: bool) -> Request[str]:
    """The batch whose job has the name now: another one if it is not free."""
    return request_to("submitting/take_name", as_text, name, batch, int(is_unique), seconds, _SUBMITTING)


def release_name(name: str, batch: str) -> Request[int]:
    """1, or 0 if the batch does not have the name, or is there."""
    return request_to("submitting/release_name", int, name, batch)


def submit(
    opening: Opening,
    first: int,
    count: int,
    functions: Mapping[bytes, Blob],
    fields: Sequence[tuple[str, Blob]],
    *,
    is_last: bool = False,
    open_for: int = 0,
    at_front: bool = False,
    due: str = "",
    deferred: Sequence[Deferred] = (),
    follows: str = "",
    bulk_from: int = BULK,
) -> Request[Submitted]:
    """`functions` maps digests to signed records, or their pieces, empty where Redis is known to have them. `due`: ''
    now, '+5' in so many seconds, else seconds since the epoch. `open_for`: seconds for which single calls may follow,
    whenever the jobs that there are have ended. `deferred`: those that wait for others, in order;
    `follows`: a batch, for whose jobs of the same index all wait."""
    small = [(name, record) for name, record in fields if len(record) < bulk_from]
    large = [
        (keys.piece(name, number), piece)
        for name, record in fields
        if len(record) >= bulk_from
        for number, piece in enumerate(pieces_of(record))
    ]
    last = open_for or ("1" if is_last else "")
    arguments: list[Blob | str | float] = [
        opening.batch, opening.token, first, count, last, int(at_front), opening.queue, opening.environment,
        opening.per_block, opening.weight, opening.lifetimes, opening.description, due,
        "\n".join(one.line() for one in deferred), follows, len(functions), len(small), len(large),
    ]  # fmt: skip
    for digest, body in functions.items():
        arguments += (digest.hex(), body)
    for name, record in small:
        arguments += (name, record)
    arguments += (name for name, _ in large)
    # A token in the name: whoever has the same idea of an id overwrites nothing.
    bulk = [(f"{opening.token}:{name}", record) for name, record in large]

    def read(reply: list[Any]) -> Submitted:
        return Submitted(reply[0].decode(), as_text(reply[1]) if len(reply) > 1 else "")

    keep = Bulk(keys.calls_bulk(opening.batch), bulk) if bulk else None
    return request_to("submitting/submit", read, *arguments, bulk=keep)


def append(batch: str, token: str, index: int, digest: bytes, record: Blob) -> Request[bool]:
    """Whether the call was accepted; if not, `submit` does it or tells why not."""
    return request_to("submitting/append", bool, batch, token, index, digest.hex(), record)


def save_schedule(
    queue: str, name: str, token: str, environment: str, due: float, times: str, functions: Mapping[bytes, Blob],
    fields: Mapping[str, Blob | str | float],
) -> Request[Submitted]:  # fmt: skip
    """Keep a schedule: 'ok', with the times of the one that it has replaced, or 'code': send the record of `detail`."""
    arguments: list[Blob | str | float] = [
        queue, name, token, environment, f"{due:.3f}", times, len(functions),
    ]  # fmt: skip
    for digest, body in functions.items():
        arguments += (digest.hex(), body)
    for item in fields.items():
        arguments += item

    def read(reply: list[Any]) -> Submitted:
        return Submitted(reply[0].decode(), as_text(reply[1]))

    return request_to("submitting/save_schedule", read, *arguments)


def touch(batch: str) -> Request[bool]:
    return request_to("submitting/touch", bool, batch)


def abandon(batch: str, touches: float | None, reason: str) -> Request[int]:
    return request_to("submitting/abandon", int, batch, "" if touches is None else touches, reason)
