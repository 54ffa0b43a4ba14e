"""The ring: memory through which a worker sees what the jobs of a child print, while they print it.

The child writes, the worker reads, and neither waits for the other or tells it anything: text is there although the job
holds the GIL, and after its process has died. It takes no thread in the child, with which `os.fork` in a job would
warn, and no message, which could not be sent while the job is about to be interrupted.

Pieces of text lie in segments. When all are full the oldest one is overwritten, so what is lost is what the stream in
Redis would drop first. A job that prints very much overwrites its own text only: behind its first segments it has two
that it fills in turns, so that its first and its last words are there.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from zlib import crc32

from nbqueue.protocol.messages import Printed
from nbqueue.protocol.page import Page
from nbqueue.store.requests.running import STREAMS

_FRONT = 4096
"""Bytes of the cells before the segments."""

_SEGMENT = 32 * 1024

_SEGMENTS = (Page.RING - _FRONT) // _SEGMENT

_FIRST = 4
"""Segments that a job begins before it overwrites its own text."""

_LARGEST = 8 * 1024
"""Bytes of the text of a piece."""

_COUNT, _SERIALS, _LENGTHS = 0, 1, 1 + _SEGMENTS
"""Cells: how often something was written; of each segment its number, largest for the newest, and its length."""

_HEAD = struct.Struct("<II")
"""Checksum of all that follows the length, length of the text."""

_ABOUT = struct.Struct("<qqqB")
"""Number of the lease, index, position in what the job printed, stream."""


class Writer:
    """The child's side. Threads must not share it."""

    def __init__(self, memory: memoryview) -> None:
        self._cells = memory[:_FRONT].cast("q")
        self._segments = memory[_FRONT:]
        self._slot, self._length = -1, _SEGMENT
        self._piece, self._stream, self._size, self._check = 0, -1, 0, 0
        """The newest piece, which grows: where it begins, its stream, length of its text, checksum."""
        self._serial = 0
        self._newest = -1
        self._job = (0, -1)
        self._position = 0
        self._begun = 0
        self._in_turns: list[int] = []

    def close(self) -> None:
        self._cells.release()
        self._segments.release()

    @property
    def position(self) -> int:
        """Bytes that the job has printed."""
        return self._position

    def write(self, number: int, index: int, stream: int, text: bytes) -> None:
        """Add what a job has printed.

        Parameters
        ----------
        number : int
            Of the lease.
        index : int
        stream : int
            Its place in `running.STREAMS`.
        text : bytes
            UTF-8.
        """
        if (number, index) > self._job:
            self._position, self._begun, self._in_turns = 0, 0, []
            self._job = (number, index)
            self._stream = -1
        try:
            if len(text) <= _LARGEST:
                self._add(stream, text)
            else:
                for start in range(0, len(text), _LARGEST):
                    self._add(stream, text[start : start + _LARGEST])
        except BaseException:  # a time limit: what follows is written where nothing is half done
            self._length = _SEGMENT
            raise

    def _add(self, stream: int, text: bytes) -> None:
        size, segments = len(text), self._segments
        start = self._slot * _SEGMENT + self._length
        if stream == self._stream and self._size + size <= _LARGEST and self._length + size <= _SEGMENT:
            segments[start : start + size] = text
            self._length += size
        else:
            about = _ABOUT.pack(*self._job, self._position, stream)  # of a late thread too, whose job has ended
            needed = _HEAD.size + len(about) + size
            if self._length + needed > _SEGMENT:
                self._turn()
                start = self._slot * _SEGMENT
            segments[start + _HEAD.size : start + needed] = about + text
            self._piece, self._stream, self._size, self._check = start, stream, 0, crc32(about)
            self._length += needed
        self._size += size
        self._check = crc32(text, self._check)
        self._position += size
        # In this order: killed in between, it leaves the piece as it was before it grew.
        cells = self._cells
        cells[_LENGTHS + self._slot] = self._length
        segments[self._piece : self._piece + _HEAD.size] = _HEAD.pack(self._check, self._size)
        cells[_COUNT] += 1

    def _turn(self) -> None:
        if self._begun < _FIRST:
            slot = self._next()
            self._begun += 1
        elif len(self._in_turns) < 2:
            slot = self._next()
            self._in_turns.append(slot)
        else:
            slot = self._in_turns[0]
            self._in_turns.reverse()
        self._serial += 1
        cells = self._cells
        cells[_SERIALS + slot] = 0
        cells[_LENGTHS + slot] = 0
        cells[_SERIALS + slot] = self._serial
        self._slot, self._length = slot, 0

    def _next(self) -> int:
        self._newest = (self._newest + 1) % _SEGMENTS
        return self._newest


class Reader:
    """The worker's side."""

    def __init__(self, memory: memoryview) -> None:
        self._cells = memory[:_FRONT].cast("q")
        self._segments = memory[_FRONT:]
        self._count = 0
        self._serial, self._start, self._taken = 0, 0, 0
        """What was read: up to the piece that begins here in the segment of this number, and so much of its text."""

    def close(self) -> None:
        self._cells.release()
        self._segments.release()

    @property
    def has_news(self) -> bool:
        """Something was written since it was read."""
        return bool(self._cells[_COUNT] != self._count)

    def read(self) -> list[Printed]:
        """What was written since the last time, in order, without what was overwritten meanwhile."""
        cells = self._cells
        self._count = cells[_COUNT]
        found: list[Printed] = []
        serials = sorted((cells[_SERIALS + slot], slot) for slot in range(_SEGMENTS))
        for serial, slot in serials:
            if serial == 0 or serial < self._serial:
                continue
            start, taken = (self._start, self._taken) if serial == self._serial else (0, 0)
            stop = min(max(cells[_LENGTHS + slot], 0), _SEGMENT)
            data = bytes(self._segments[slot * _SEGMENT + start : slot * _SEGMENT + stop])
            pieces, last, end = _pieces(data)
            if cells[_SERIALS + slot] != serial:  # it was overwritten while it was read
                continue
            self._serial, self._start = serial, start + last
            if end < len(data):
                self._count = -1  # not all of a piece can be seen yet
            self._taken = len(pieces[-1].text) if pieces else taken
            if pieces and taken:
                pieces[0] = replace(pieces[0], at=pieces[0].at + taken, text=pieces[0].text[taken:])
            found += (piece for piece in pieces if piece.text)
        return found


def _pieces(data: bytes) -> tuple[list[Printed], int, int]:
    """The pieces that data begins with, where the last one begins, and where it ends."""
    found: list[Printed] = []
    front = _HEAD.size + _ABOUT.size
    last = position = 0
    while position + front <= len(data):
        check, size = _HEAD.unpack_from(data, position)
        stop = position + front + size
        if stop > len(data) or check != crc32(data[position + _HEAD.size : stop]):
            break
        number, index, at, stream = _ABOUT.unpack_from(data, position + _HEAD.size)
        found.append(Printed(number, index, STREAMS[stream], at, data[position + front : stop]))
        last, position = position, stop
    return found, last, position
