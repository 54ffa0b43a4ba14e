"""Memory for what is large and short-lived: used again as soon as nobody refers to it.

Memory that is fresh costs more than what is done with it: the system clears each page when it is first touched, which
takes several times as long as to copy a page, and `free` gives it back before the next one is made.
"""

from __future__ import annotations

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
