"""Large values, read as they come."""

from __future__ import annotations

import socket

from nbqueue.store.reply import Foreign, Reply

_HEAD = 4096
"""Bytes that are received where the size of the next value is not known; the rest goes to where it stays."""

_END = b"\r\n"


class Values:
    """A list of values, read as it comes."""

    def __init__(self) -> None:
        self.found: list[memoryview | None] = []
        self.error: Reply | None = None
        self._count: int | None = None
        self._head = bytearray()
        """What was received and not looked at."""
        self._value: memoryview | None = None
        """Room for a value and what ends it, of which `_filled` bytes are there."""
        self._filled = 0

    @property
    def is_complete(self) -> bool:
        return self.error is not None or self._count == len(self.found)

    def receive(self, source: socket.socket) -> None:
        """Take what is there.

        Raises
        ------
        OSError
            The connection broke, or what came is no list of values.
        """
        if self._value is not None:
            count = source.recv_into(self._value[self._filled :])
            self._filled += count
        else:
            data = source.recv(_HEAD)
            count = len(data)
            self._head += data
        if not count:
            raise ConnectionResetError("the server closed the connection")
        while self._take() and not self.is_complete:
            pass

    def _take(self) -> bool:
        """The next line, or the end of a value; False if it is not there yet."""
        if self._value is not None:
            if self._filled < len(self._value):
                return False
            self.found.append(self._value[: -len(_END)])
            self._value = None
            return True
        end = self._head.find(_END)
        if end < 0:
            return False
        line = bytes(self._head[:end])
        del self._head[: end + len(_END)]
        kind, text = line[:1], line[1:]
        if kind == b"-" and self._count is None:
            self.error = Reply(text.decode(errors="replace"))
        elif kind == b"*" and self._count is None and text.isdigit():
            self._count = int(text)
        elif kind == b"$" and self._count is not None and text == b"-1":
            self.found.append(None)
        elif kind == b"$" and self._count is not None and text.isdigit():
            self._begin(int(text))
        else:
            raise Foreign(f"{line[:40]!r} in a list of values")
        return True

    def _begin(self, size: int) -> None:
        before = -size % 16
        self._value = memoryview(bytearray(before + size + len(_END)))[before:]
        self._filled = min(len(self._head), len(self._value))
        self._value[: self._filled] = self._head[: self._filled]
        del self._head[: self._filled]
