"""What is written to the descriptors 1 and 2 of a child: by C code, by programs that a job starts, by forks.

They are pipes. Either side can read them, and takes what the other one left: the child where it goes on, so that the
order is right and the text is that of the job that has just run, the worker while a job takes long, or has killed its
process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select

_PIPE = 1024 * 1024
"""Bytes that such a pipe shall take, where that can be said."""

_MOST_READS = 16
"""Of each in a row."""

Written = tuple[int, bytes]
"""The place of a stream in `running.STREAMS`, and what was written to it."""


def _polling(fds: tuple[int, int]) -> select.poll:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return poll


class Descriptors:
    """The ends of the two pipes to read from. Threads may share it."""

    def __init__(self, stdout: int, stderr: int) -> None:
        self.fds = (stdout, stderr)
        self._poll = _polling(self.fds)

    @classmethod
    def create(cls) -> tuple[Descriptors, tuple[int, int]]:
        """The pipes: the ends to read from, and those to write to, in the order of `running.STREAMS`."""
        pipes = os.pipe(), os.pipe()
        for reading, _ in pipes:
            os.set_blocking(reading, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                with contextlib.suppress(OSError):  # the user has used up what pipes may take
                    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, _PIPE)
        return cls(pipes[0][0], pipes[1][0]), (pipes[0][1], pipes[1][1])

    @property
    def has_text(self) -> bool:
        try:
            events = self._poll.poll(0)
        except RuntimeError:  # another thread asks, too
            events = _polling(self.fds).poll(0)
        return bool(events) and any(event & select.POLLIN for _, event in events)

    def wait(self, seconds: float) -> bool:
        """Whether there is text, after so long at most."""
        return bool(_polling(self.fds).poll(seconds * 1000)) and self.has_text

    def read(self) -> list[Written]:
        """What is there, at most some megabytes."""
        found: list[Written] = []
        for _ in range(_MOST_READS):
            before = len(found)
            for stream, fd in enumerate(self.fds):
                try:
                    text = os.read(fd, 65536)
                except BlockingIOError:  # there is nothing
                    continue
                if text:  # else nobody can write to it any more
                    found.append((stream, text))
            if len(found) == before:
                break
        return found

    def close(self) -> None:
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)
