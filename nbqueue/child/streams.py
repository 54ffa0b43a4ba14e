"""`sys.stdout` and `sys.stderr` of jobs: what they print goes to the ring, and from there to Redis.

What is written to the file descriptors (by C code, forks, the programs that a job starts) goes into pipes, which are
read before more is printed, so that the order is right, and when the job has ended. What is printed while no job runs
goes to the worker's own output.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbqueue.protocol.descriptors import Descriptors
from nbqueue.protocol.ring import Writer
from nbqueue.store.requests.running import STREAMS

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_MOST_READS = 16
"""Of the descriptors, after a job: a program that it has started may write on."""


class Printing:
    """Takes what is printed, from all threads, for the job that runs.

    Parameters
    ----------
    ring : Writer
    descriptors : Descriptors
    alone : callable
        See `Page.alone`.
    """

    def __init__(self, ring: Writer, descriptors: Descriptors, alone: Callable[..., Any]) -> None:
        self._alone = alone
        self._ring = ring
        self._descriptors = descriptors
        self._run: tuple[int, Callable[[], int | None]] | None = None
        self._reset()
        self.stdout, self.stderr = Stream(self, 0), Stream(self, 1)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0
        """The thread that has the lock."""
        self._late: deque[tuple[int, bytes]] = deque()

    def install(self) -> None:
        """From now on this process prints here."""
        self.redirect()
        os.register_at_fork(after_in_child=self._forked)

    def redirect(self) -> None:
        """Undo what a job has done to `sys.stdout` and `sys.stderr`."""
        sys.stdout, sys.stderr = self.stdout, self.stderr

    def drain(self) -> None:
        """Add what was written to the descriptors to what the running job has printed."""
        for _ in range(_MOST_READS):
            if not self._descriptors.has_text:
                return
            self.take(0, b"")

    def begin(self, number: int, running: Callable[[], int | None]) -> None:
        """What is printed is that of jobs of this lease; `running` tells the index."""
        self._run = (number, running)

    def end(self) -> None:
        """No job runs."""
        self._run = None

    def take(self, stream: int, text: bytes) -> None:
        """Add what was printed to what the running job has printed."""
        here = threading.get_ident()
        if self._holder == here:  # a finalizer or the handler of a signal, which came in between, prints
            self._late.append((stream, text))
            return
        with self._lock:
            self._holder = here
            try:
                self._put(stream, text)
                while self._late:
                    self._put(*self._late.popleft())
            finally:
                self._holder = 0

    def keep(self, stream: int, text: bytes) -> int:
        """Keep what a cell has printed, and hands on by itself a moment later, where the worker finds it if the process
        ends before; returns how many bytes that makes."""
        here = threading.get_ident()
        if self._holder == here:
            return 0
        with self._lock:
            self._holder = here
            try:
                if self._run is not None:
                    self._ring.write(self._run[0], self._run[1]() or 0, stream, text)
                return self._ring.position
            finally:
                self._holder = 0

    def _put(self, stream: int, text: bytes) -> None:
        run = self._run
        index = run[1]() if run is not None else None
        if run is None or index is None:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(stream + 1, rest) :]
            return
        if self._descriptors.has_text:
            with self._alone(wait=True):  # else what the worker has read before might come behind it
                for written, before in self._descriptors.read():
                    self._ring.write(run[0], index, written, before)
        if text:
            self._ring.write(run[0], index, stream, text)

    def _forked(self) -> None:
        """The ring is the parent's. Another thread may have held the lock."""
        self._reset()
        self._run = None
        self._ring.close()
        self._descriptors.close()


class Stream(io.TextIOBase):
    """One of the two, as text."""

    mode = "w"
    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = True

    def __init__(self, printing: Printing, stream: int) -> None:
        self._printing, self._stream = printing, stream
        self.name = f"<{STREAMS[stream]}>"
        self.buffer = _Buffer(printing, stream)

    def __repr__(self) -> str:
        return f"<{STREAMS[self._stream]} of jobs>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _standard, (STREAMS[self._stream],)

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._printing.take(self._stream, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        """The real one, which the processes of a job inherit."""
        return self._stream + 1

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """It stays open: later jobs print too."""

    def reconfigure(self, **options: Any) -> None:
        """Accepted, as that of a usual stream; the encoding stays UTF-8, and nothing is kept back."""


class _Buffer(io.BufferedIOBase):
    """The same as bytes."""

    mode = "wb"

    def __init__(self, printing: Printing, stream: int) -> None:
        self._printing, self._stream = printing, stream
        self.name = f"<{STREAMS[stream]}>"

    def write(self, data: ReadableBuffer, /) -> int:
        text = bytes(memoryview(data))
        if text:
            self._printing.take(self._stream, text)
        return len(text)

    def fileno(self) -> int:
        return self._stream + 1

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _standard(name: str) -> Any:
    """A stream that was pickled is that of whoever reads it."""
    return getattr(sys, name)
