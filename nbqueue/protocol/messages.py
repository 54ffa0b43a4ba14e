"""What a worker and its children say to each other: small messages over a socket, and memory that they share.

Neither side unpickles what the other says: a message is JSON, followed by blobs that are passed on unseen. Each class
has `split`, which takes its fields apart into these two, and `join`, which puts them together again in the same order.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbqueue.payload.memory import Buffers, MappedFile
from nbqueue.payload.records import Blob
from nbqueue.store.requests.running import Again, FailureNote, Input, Shown

OPTIONAL = "?"
"""In front of a module that a child shall preload: if it cannot be imported, who needs it will tell."""

_HEAD = struct.Struct("<II")

_CHUNK = 256 * 1024

_to_json = json.JSONEncoder(separators=(",", ":")).encode  # `dumps` makes an encoder each time

_LARGE = 64 * 1024
"""Bytes of a blob that is handed on as a part of the message that it came in."""


Split = tuple[list[Any], list[Blob]]
"""What of a message is JSON, and its blobs."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Worker to child, first: who it is, and the key to sign with."""

    worker: str
    namespace: str
    key: bytes
    files: str = ""
    """The directory of the files of large bodies, on the embedded server."""

    def split(self) -> Split:
        return [self.worker, self.namespace, self.files], [self.key]

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Hello:
        worker, namespace, files = plain
        return cls(worker, namespace, blobs[0], files)


@dataclass(frozen=True, slots=True)
class Do:
    """Worker to child: run these jobs."""

    number: int
    batch: str
    start: int
    stop: int
    per_block: int
    description: str
    """JSON, see `Description`."""
    job_by_job: bool
    """Outcomes are recorded job by job: some jobs of the batch ran before."""
    attempts: dict[int, int]
    calls: Sequence[tuple[str, Blob]]
    functions: Sequence[tuple[bytes, Blob | MappedFile]]
    """Digest and record of those functions that this child has not been given yet; it maps those that are large."""
    forget: bool = False
    """Forget all functions of before: there are too many."""
    metas: Mapping[int, str] = field(default_factory=dict)
    """What jobs that run again have saved (JSON), by their indices."""
    inputs: Sequence[Input] = ()
    mended: Blob = b""
    """Record of the function that they run with, if it is not that of their calls."""
    decided: Blob = b""
    """How the only job ends, where its callback is to be called, and nothing else; see `Claimed`."""

    def split(self) -> Split:
        names, digests = [name for name, _ in self.calls], [digest.hex() for digest, _ in self.functions]
        blobs: list[Blob] = [record for _, record in self.calls]
        blobs += [b"" if isinstance(record, MappedFile) else record for _, record in self.functions]
        blobs += [record for one in self.inputs for _, record in one.records]
        blobs += [self.mended, self.decided]
        inputs = [(one.batch, one.per_block, one.total, [name for name, _ in one.records]) for one in self.inputs]
        places = {number: record.place for number, (_, record) in enumerate(self.functions)
                  if isinstance(record, MappedFile)}  # fmt: skip
        return [
            self.number, self.batch, self.start, self.stop, self.per_block, self.description, self.job_by_job,
            list(self.attempts.items()), names, digests, list(places.items()), self.forget,
            list(self.metas.items()), inputs,
        ], blobs  # fmt: skip

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Do:
        (number, batch, start, stop, per_block, description, job_by_job, attempts, names, digests, places, forget,
         metas, inputs) = plain  # fmt: skip
        calls = list(zip(names, blobs[: len(names)], strict=True))
        *records, mended, decided = blobs[len(names) :]
        more = iter(records[len(digests) :])
        del records[len(digests) :]
        for position, place in places:
            records[position] = MappedFile(*place)
        functions = list(zip(map(bytes.fromhex, digests), records, strict=True))
        return cls(
            number,
            batch,
            start,
            stop,
            per_block,
            description,
            job_by_job,
            dict(attempts),
            calls,
            functions,
            forget,
            dict(metas),
            tuple(
                Input(batch, per_block, total, [(field, next(more)) for field in fields])
                for batch, per_block, total, fields in inputs
            ),
            mended,
            decided,
        )


@dataclass(frozen=True, slots=True)
class Done:
    """Child to worker: these jobs have ended."""

    number: int
    start: int
    stop: int
    busy: float
    """Seconds that they took."""
    ended: bool
    """The child is through with the run."""
    records: Sequence[tuple[str, Blob]] = ()
    failures: Sequence[FailureNote] = ()
    canceled: bool = False
    """The last of the jobs was stopped because it was canceled; it has no record."""
    again: Sequence[Again] = ()
    """Those that failed and run again."""
    decided: bool = False
    """A callback of the last job follows: the outcome is recorded when a `CalledBack` tells that it is over."""

    def split(self) -> Split:
        names = [name for name, _ in self.records]
        failures = [(note.index, note.digest, note.summary) for note in self.failures]
        blobs = [record for _, record in self.records]
        blobs += [one.record for one in self.again]
        again = [(one.index, one.attempt, one.seconds) for one in self.again]
        return [
            self.number, self.start, self.stop, self.busy, self.ended, names, failures, self.canceled, again,
            self.decided,
        ], blobs  # fmt: skip

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Done:
        number, start, stop, busy, ended, names, failures, canceled, again, decided = plain
        records = list(zip(names, blobs[: len(names)], strict=True))
        notes = [FailureNote(*failure) for failure in failures]
        tries = tuple(
            Again(about[0], about[1], about[2], bytes(record))
            for about, record in zip(again, blobs[len(names) :], strict=True)
        )
        return cls(number, start, stop, busy, ended, records, notes, canceled, tries, decided)


@dataclass(frozen=True, slots=True)
class Show:
    """Child to worker: what the job that runs has put out."""

    number: int
    shown: Shown

    def split(self) -> Split:
        shown = self.shown
        return [self.number, shown.sequence, shown.kind, shown.drop_before, shown.replaces], [shown.content]

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Show:
        number, sequence, kind, drop_before, replaces = plain
        return cls(number, Shown(sequence, kind, blobs[0], drop_before, replaces))


@dataclass(frozen=True, slots=True)
class Displayed:
    """Child to worker: rich output of the job that runs."""

    number: int
    index: int
    position: int
    """Its place among those of the job, from 0; what was there is replaced."""
    content: Blob
    """JSON: `{"data": {...}, "metadata": {...}}`, by MIME type. If it is empty, this one and all after it are gone."""

    def split(self) -> Split:
        return [self.number, self.index, self.position], [self.content]

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Displayed:
        number, index, position = plain
        return cls(number, index, position, blobs[0])


@dataclass(frozen=True, slots=True)
class Meta:
    """Child to worker: what the job that runs shall be known by."""

    number: int
    index: int
    content: Blob
    """JSON."""

    def split(self) -> Split:
        return [self.number, self.index], [self.content]

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Meta:
        number, index = plain
        return cls(number, index, blobs[0])


@dataclass(frozen=True, slots=True)
class Waits:
    """Child to worker: the job that runs waits for other jobs, and gives its place away."""

    number: int
    index: int
    batch: str
    """In which those are."""

    def split(self) -> Split:
        return [self.number, self.index, self.batch], []

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> Waits:
        return cls(*plain)


@dataclass(frozen=True, slots=True)
class GoesOn:
    """Child to worker: the job that runs has what it waited for, and wants a place again."""

    number: int
    index: int
    ticket: int
    """Written into `Page.PLACE` when it has one; 0 if it does not wait for that: it was stopped."""

    def split(self) -> Split:
        return [self.number, self.index, self.ticket], []

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> GoesOn:
        return cls(*plain)


@dataclass(frozen=True, slots=True)
class CalledBack:
    """Child to worker: the callback of a job is over."""

    number: int
    index: int
    problem: str = ""
    """What went wrong in it."""

    def split(self) -> Split:
        return [self.number, self.index, self.problem], []

    @classmethod
    def join(cls, plain: list[Any], blobs: list[Any]) -> CalledBack:
        return cls(*plain)


Message = Hello | Do | Done | Show | Displayed | Meta | Waits | GoesOn | CalledBack

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Hello, Do, Done, Show, Displayed, Meta, Waits, GoesOn, CalledBack)
}


@dataclass(frozen=True, slots=True)
class Printed:
    """Child to worker, by the ring: what a job has printed."""

    number: int
    index: int
    stream: str
    """One of `running.STREAMS`."""
    at: int
    """How many bytes the job had printed before; -1 for what was written to a descriptor, and follows what came before
    it."""
    text: bytes
    """UTF-8 as a rule; a part of a character at either end, and anything from `sys.stdout.buffer`."""


def encode(message: Message) -> list[Blob]:
    """The bytes of a message, in pieces."""
    plain, blobs = message.split()
    sizes = [len(blob) for blob in blobs]
    text = _to_json([type(message).__name__, plain, sizes]).encode()
    text += b" " * (-(_HEAD.size + len(text)) % 16)
    pads, size = _pads(sizes)
    pieces: list[Blob] = [_HEAD.pack(len(text), size) + text]
    for pad, blob in zip(pads, blobs, strict=True):
        if pad:
            pieces.append(bytes(pad))
        pieces.append(blob)
    return pieces


def _pads(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Bytes before each blob, and of all: large ones end at a multiple of 16, so that arrays in them are aligned."""
    pads, position = [], 0
    for size in sizes:
        pad = -(position + size) % 16 if size >= _LARGE else 0
        pads.append(pad)
        position += pad + size
    return pads, position


def _decode(text: bytes, body: memoryview) -> Message:
    kind, plain, sizes = json.loads(text.decode())  # of bytes it would look for how they are encoded
    blobs: list[Any] = []
    position = 0
    for size, pad in zip(sizes, _pads(sizes)[0], strict=True):
        position += pad
        blob = body[position : position + size]
        blobs.append(bytes(blob) if size < _LARGE else blob)
        position += size
    return _KINDS[kind].join(plain, blobs)


class Inbox:
    """Takes messages apart as their bytes come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunk = memoryview(bytearray(_CHUNK))
        self._memory = Buffers()
        self._large: memoryview | None = None
        """Room for the whole of a large message of which `_filled` bytes are there: it is not copied again."""
        self._filled = 0

    def read(self, source: socket.socket) -> bool:
        """Take what the other side has sent; False if it has closed.

        Raises
        ------
        OSError
            As `socket.recv`.
        """
        if self._large is not None:
            count = source.recv_into(self._large[self._filled :])
            self._filled += count
            return count > 0
        count = source.recv_into(self._chunk)  # memory for it is not asked of the system each time
        self._buffer += self._chunk[:count]
        return count > 0

    def messages(self) -> Iterator[Message]:
        """The messages that are complete."""
        if self._large is not None and self._filled == len(self._large):
            large, self._large = self._large, None
            yield self._message(large)
        position, size = 0, len(self._buffer)
        while size - position >= _HEAD.size:
            text, body = _HEAD.unpack_from(self._buffer, position)
            length = _HEAD.size + text + body
            if length > size - position:
                if length >= _LARGE:
                    self._large, self._filled = self._memory.take(length), size - position
                    self._large[: self._filled] = self._buffer[position:]
                    position = size
                break
            message = self._message(memoryview(self._buffer[position : position + length]))
            position += length
            yield message
        del self._buffer[:position]

    def _message(self, data: memoryview) -> Message:
        text, _ = _HEAD.unpack_from(data)
        return _decode(bytes(data[_HEAD.size : _HEAD.size + text]), data[_HEAD.size + text :])


def joined(pieces: list[Blob]) -> list[Blob]:
    """Pieces of a message as one, if they are small: the other side wakes up once."""
    return [b"".join(pieces)] if sum(map(len, pieces)) < _LARGE else pieces


def send(to: socket.socket, message: Message) -> None:
    """Send a message, blocking."""
    for piece in joined(encode(message)):
        to.sendall(piece)


def receive(source: socket.socket, inbox: Inbox) -> Iterator[Message]:
    """Messages, blocking, until the other side closes."""
    while True:
        yield from inbox.messages()
        if not inbox.read(source):
            return
