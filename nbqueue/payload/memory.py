"""Memory for what is large and short-lived: used again as soon as nobody refers to it.

Memory that is fresh costs more than what is done with it: the system clears each page when it is first touched, which
takes several times as long as to copy a page, and `free` gives it back before the next one is made.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

_STEP = 256 * 1024
"""Sizes are rounded up to a multiple of it, so that what is about as large fits."""

_MOST = 32 * 1024 * 1024
"""Bytes that are kept."""


class Buffers:
    """Hands out memory, and hands it out again. For one thread at a time.

    Examples
    --------
    >>> buffers = Buffers()
    >>> first = buffers.take(1_000_000)
    >>> second = buffers.take(1_000_000)
    >>> whole = first.obj
    >>> second.obj is whole
    False
    >>> del first
    >>> buffers.take(900_000).obj is whole
    True
    """

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """Memory of so many bytes, with anything in it; the caller's for as long as there is a view of it."""
        for position, kept in enumerate(self._kept):
            if size <= len(kept) <= 2 * size + _STEP and _is_free(kept):
                self._kept.append(self._kept.pop(position))
                return memoryview(kept)[:size]
        fresh = bytearray(-(-size // _STEP) * _STEP + 1)
        fresh.pop()  # leaves room for `_is_free`
        if len(fresh) <= _MOST:
            self._kept.append(fresh)
            while sum(map(len, self._kept)) > _MOST:
                self._kept.pop(0)  # what is referred to lives on without us
        return memoryview(fresh)[:size]


def _is_free(buffer: bytearray) -> bool:
    """Whether there is no view of it: while there is one, its size cannot be changed."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True


class Mapped:
    """Bytes in a file without a name, to be mapped again and again: who writes to a mapping has a copy of that page.

    Examples
    --------
    >>> mapped = Mapped([b"abc"])
    >>> first, second = next(mapped.buffers()), next(mapped.buffers())
    >>> first[:1] = b"x"
    >>> bytes(first), bytes(second)
    (b'xbc', b'abc')
    """

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._places: list[tuple[int, int]] = []
        self._file = _nameless() if parts else -1
        position = 0
        for part in parts:
            self._places.append((position, len(part)))
            _write_at(self._file, part, position)
            position += -(-len(part) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY

    def buffers(self) -> Iterator[Any]:
        """A new mapping of each part."""
        for position, size in self._places:
            yield mmap.mmap(self._file, size, access=mmap.ACCESS_COPY, offset=position)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _nameless() -> int:
    """The descriptor of a file that ends with its last user: in memory, where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("nbqueue")
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def _write_at(file: int, data: bytes | memoryview, position: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, position)
        position += written
        rest = rest[written:]
