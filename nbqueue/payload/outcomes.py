"""Records of outcomes: what calls returned, or how one failed.

Neighbouring calls that returned share a record; the failure of a call has one of its own. `pack_value` pickles what a
call returned before the next call may change it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.payload.explain import cannot_pickle
from nbqueue.payload.memory import Buffers
from nbqueue.payload.pickling import IMMUTABLE, SERIALIZER, entry_of_pickle, pickle_whole, plain_values
from nbqueue.payload.records import (
    ATOMS,
    FAILURE,
    SEPARATE,
    Blob,
    Entries,
    Pieces,
    table_of,
)
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import Encoded, Find, find_serializer

FINISHED, FAILED = 1, 2

_META = struct.Struct("<BBdB")


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed, in words, and the exception itself where it can be pickled."""

    type: str
    message: str
    traceback: str
    pickled: bytes | None = None
    problem: str = ""
    """Why it is not pickled."""

    @property
    def digest(self) -> str:
        """Equal for failures of the same type and message."""
        return hashlib.sha256(f"{self.type}\0{self.message}".encode("utf-8", "replace")).hexdigest()[:12]

    def exception(self) -> BaseException | str:
        """The exception, rebuilt; where that is not possible here, why."""
        if self.pickled is None:
            return self.problem
        try:
            error = pickle.loads(self.pickled)
        except Exception as why:  # noqa: BLE001 - missing modules raise anything; the text is kept
            return f"{type(why).__name__}: {why}"
        return error if isinstance(error, BaseException) else f"it is a {type(error).__qualname__} here"


def pack_exception(error: BaseException) -> bytes:
    """An exception, without its traceback, as bytes that have been seen to give it back.

    What of it cannot be pickled is left out, and named in a note.

    Raises
    ------
    Exception
        It cannot be pickled or rebuilt all the same.
    """
    try:
        return _seen_to_come_back(error, pickle_whole(error))
    except Exception:  # noqa: BLE001 - attributes, and classes that say how they are pickled, raise anything
        return _seen_to_come_back(error, pickle_whole(error, loses=True))


def _seen_to_come_back(error: BaseException, pickled: bytes) -> bytes:
    rebuilt = pickle.loads(pickled)
    str(rebuilt)  # its class may need what is missing
    if type(rebuilt).__qualname__ != type(error).__qualname__:
        raise errors.CannotPickle(f"a {type(error).__qualname__} becomes a {type(rebuilt).__qualname__}")
    return pickled


@dataclass(frozen=True, slots=True)
class PackedValue:
    """What a call returned, as it was then: the next call may return the same object, changed."""

    entry: bytes


def pack_value(value: Any) -> PackedValue:
    """Pickle what a call returned; `pack_outcomes` takes it in the place of the value.

    Raises
    ------
    CannotPickle
    """
    if type(value) is Encoded:
        return PackedValue(b"".join(entry_of_pickle(pickle.dumps(value, 5))))
    if type(value) is PackedValue:
        return value
    try:
        packed = SERIALIZER.dumps(value)
    except Exception as error:
        raise cannot_pickle("the result", value, error) from error
    return PackedValue(b"".join(packed))


def pack_outcomes(
    seal: Seal,
    batch: str,
    first: int,
    values: list[Any],
    durations: Sequence[float],
    *,
    started: float,
    worker: str,
    attempt: int = 1,
    holes: Sequence[int] = (),
    buffers: Buffers | None = None,
) -> Blob:
    """What neighbouring calls returned, as one record; `holes` are offsets of those that did not, recorded elsewhere.

    Raises
    ------
    CannotPickle
        One of the values cannot be pickled; which, a record for each alone tells.
    ServerFull
        It is kept in a file, and the disk is full.
    """
    try:
        layout, packed = _body_of(values)
    except Exception as error:
        raise cannot_pickle("the result", values[0], error) from error
    body = [_pack_meta(FINISHED, attempt, started, worker, durations, holes), *packed]
    return seal.close_in(buffers, b"outcomes", batch, first, layout, len(values), (), body)


def _body_of(values: Sequence[Any]) -> tuple[int, Pieces]:
    """Layout and body for values of which none may see another."""
    if set(map(type, values)) <= IMMUTABLE:
        return ATOMS, [pickle.dumps(values, 5)]
    return SEPARATE, table_of(
        [[value.entry] if type(value) is PackedValue else SERIALIZER.dumps(value) for value in values]
    )


def pack_failure(
    seal: Seal, batch: str, index: int, failure: Failure, *, started: float, duration: float, worker: str, attempt: int
) -> bytes:
    """How one call failed, as a record."""
    packed = pickle.dumps(dataclasses.astuple(failure), 5)
    body: Pieces = [_pack_meta(FAILED, attempt, started, worker, [duration], ()), packed]
    return seal.close(b"outcomes", batch, index, FAILURE, 1, (), body)


def _pack_meta(
    status: int, attempt: int, started: float, worker: str, durations: Sequence[float], holes: Sequence[int]
) -> bytes:
    name = worker.encode()[:255]
    head = _META.pack(status, min(attempt, 255), started, len(name))
    return b"".join((head, name, struct.pack(f"<{len(durations)}fH{len(holes)}H", *durations, len(holes), *holes)))


class Outcomes:
    """A verified record of the outcomes of neighbouring calls.

    Parameters
    ----------
    once : bool
        Each value is asked for once, and nobody else has the record: large buffers need not be copied.
    find : callable, optional
        Finds the serializer of values that another one than ours has made bytes of.

    Raises
    ------
    SignatureError, CorruptPayload
        See `Seal.open`.
    """

    def __init__(
        self, seal: Seal, batch: str, first: int, record: Blob, *, once: bool = False, find: Find | None = None
    ) -> None:  # fmt: skip
        self._once, self._find = once, find
        opened = seal.open(b"outcomes", batch, first, record)
        self.first, self.count = first, opened.count
        self._layout = opened.layout
        body = opened.body
        status, self.attempt, self.started, length = _META.unpack_from(body)
        position = _META.size + length
        self.is_failed = status == FAILED
        self.worker = bytes(body[_META.size : position]).decode()
        self._durations = bytes(body[position : position + 4 * self.count])
        position += 4 * self.count
        (number,) = struct.unpack_from("<H", body, position)
        self.holes = frozenset(struct.unpack_from(f"<{number}H", body, position + 2)) if number else frozenset()
        self._record = opened
        self._position = position + 2 + 2 * number
        self._entries = Entries(opened, self._position, holds=not once) if opened.layout == SEPARATE else None
        self._list: list[Any] | None = None

    def __contains__(self, index: int) -> bool:
        return 0 <= index - self.first < self.count and (index - self.first) not in self.holes

    def duration(self, index: int) -> float:
        """Seconds that the call took."""
        (seconds,) = struct.unpack_from("<f", self._durations, 4 * (index - self.first))
        return float(seconds)

    def started_at(self, index: int) -> float:
        """When the call started, in seconds since the epoch by the clock of the worker's host."""
        before = struct.unpack_from(f"<{index - self.first}f", self._durations)
        return float(self.started + sum(before))

    def atoms(self) -> list[Any] | None:
        """The values of all calls, where the record is of that layout and none failed: the fast way."""
        return self._load() if self._layout == ATOMS and not self.holes else None

    def values(self, start: int, stop: int) -> list[Any] | None:
        """The values of neighbouring calls, where none failed and all are plain: the fast way."""
        if self.holes or stop - self.first > self.count:
            return None
        if self._layout == ATOMS:
            return self._load()[start - self.first : stop - self.first]
        if self._entries is None or self._entries.is_own:
            return None
        return plain_values(self._entries, range(start - self.first, stop - self.first))

    def _load(self) -> list[Any]:
        if self._list is None:
            self._list = pickle.loads(self._record.body[self._position :])
        return self._list

    def value(self, index: int) -> Any:
        """What the call returned, unpickled anew at each call unless nobody can change it."""
        entries = self._entries
        if entries is None:
            return self._load()[index - self.first]
        value = SERIALIZER.loads(entries[index - self.first], once=self._once or entries.is_own)
        if type(value) is Encoded and self._find is not None:
            return value.decode(find_serializer(value.name, self._find))
        return value

    def failure(self) -> Failure:
        """How the call failed."""
        return Failure(*pickle.loads(self._record.body[self._position :]))
