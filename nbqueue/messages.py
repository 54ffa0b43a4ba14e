"""What a worker and its children say to each other: small messages over a socket, and a page of shared memory.

Neither side unpickles what the other says: a message is JSON, followed by blobs that are passed on unseen.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nbqueue.transitions import FailureNote

_HEAD = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Hello:
    """Worker to child, first: who it is, and the key to sign with."""

    worker: str
    namespace: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Do:
    """Worker to child: run these jobs."""

    number: int
    batch: str
    start: int
    stop: int
    per_block: int
    about: str
    job_by_job: bool
    """Outcomes are recorded job by job: some jobs of the batch ran before."""
    attempts: dict[int, int]
    calls: list[tuple[str, bytes]]
    functions: list[tuple[bytes, bytes]]
    """Digest and record of those functions that this child has not been given yet."""
    forget: bool = False
    """Forget all functions of before: there are too many."""


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
    records: list[tuple[str, bytes]] = field(default_factory=list)
    failures: list[FailureNote] = field(default_factory=list)
    canceled: bool = False
    """The last of the jobs was stopped because it was canceled; it has no record."""


Message = Hello | Do | Done


def encode(message: Message) -> list[bytes]:
    """The bytes of a message, in pieces."""
    if isinstance(message, Do):
        meta: list[Any] = [
            "do", message.number, message.batch, message.start, message.stop, message.per_block, message.about,
            message.job_by_job, list(message.attempts.items()), [name for name, _ in message.calls],
            [digest.hex() for digest, _ in message.functions], message.forget,
        ]  # fmt: skip
        blobs = [record for _, record in message.calls] + [record for _, record in message.functions]
    elif isinstance(message, Done):
        meta = [
            "done", message.number, message.start, message.stop, message.busy, message.ended,
            [name for name, _ in message.records],
            [(note.index, note.digest, note.summary) for note in message.failures], message.canceled,
        ]  # fmt: skip
        blobs = [record for _, record in message.records]
    else:
        meta = ["hello", message.worker, message.namespace]
        blobs = [message.key]
    meta.append([len(blob) for blob in blobs])
    text = json.dumps(meta, separators=(",", ":")).encode()
    return [_HEAD.pack(len(text), sum(map(len, blobs))) + text, *blobs]


def _decode(text: bytes, body: memoryview) -> Message:
    meta = json.loads(text)
    blobs, position = [], 0
    for size in meta.pop():
        blobs.append(bytes(body[position : position + size]))
        position += size
    kind = meta[0]
    if kind == "do":
        names, digests = meta[9], meta[10]
        calls = list(zip(names, blobs[: len(names)], strict=True))
        functions = list(zip(map(bytes.fromhex, digests), blobs[len(names) :], strict=True))
        _, number, batch, start, stop, per_block, about, job_by_job, attempts, _, _, forget = meta
        return Do(number, batch, start, stop, per_block, about, job_by_job, dict(attempts), calls, functions, forget)
    if kind == "done":
        records = list(zip(meta[6], blobs, strict=True))
        _, number, start, stop, busy, ended, _, failures, canceled = meta
        notes = [FailureNote(*note) for note in failures]
        return Done(number, start, stop, busy, ended, records, notes, canceled)
    return Hello(meta[1], meta[2], blobs[0])


class Inbox:
    """Takes messages apart as their bytes come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def messages(self) -> Iterator[Message]:
        """The messages that are complete."""
        position, size = 0, len(self._buffer)
        while size - position >= _HEAD.size:
            text, body = _HEAD.unpack_from(self._buffer, position)
            start = position + _HEAD.size
            end = start + text + body
            if end > size:
                break
            with memoryview(self._buffer) as view:
                message = _decode(bytes(view[start : start + text]), view[start + text : end])
            position = end
            yield message
        del self._buffer[:position]


def send(to: socket.socket, message: Message) -> None:
    """Send a message, blocking."""
    for piece in encode(message):
        to.sendall(piece)


def receive(source: socket.socket, inbox: Inbox) -> Iterator[Message]:
    """Messages, blocking, until the other side closes."""
    while True:
        yield from inbox.messages()
        data = source.recv(1 << 18)
        if not data:
            return
        inbox.feed(data)


class Page:
    """Memory that a worker and a child share: what runs, and what shall stop.

    The child writes `number`, `index` and `since`; the worker all others. `index` is -1 while no user code runs.
    """

    NUMBER, INDEX, SINCE, STOP_NUMBER, STOP, SKIP, SOFT_NUMBER, SOFT_INDEX, SOFT_REASON = range(9)
    _SIZE = 4096

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, self._SIZE)
        self.cells = memoryview(self._map).cast("q")

    @classmethod
    def create(cls) -> Page:
        with tempfile.TemporaryFile() as file:
            file.truncate(cls._SIZE)
            page = cls(os.dup(file.fileno()))
        page.cells[cls.INDEX] = -1
        page.cells[cls.SOFT_INDEX] = -1
        return page

    def close(self) -> None:
        self.cells.release()
        self._map.close()
        os.close(self.fd)


TIMEOUT, CANCEL = 1, 2
"""Why the running job is stopped, in `Page.SOFT_REASON`."""
