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

_MOST = 1024 * 1024
"""Bytes that are read at a time."""

Written = tuple[int, bytes]
"""The place of a stream in `running.STREAMS`, and what was written to it."""


class Descriptors:
    """The ends of the two pipes to read from."""

    def __init__(self, stdout: int, stderr: int) -> None:
        self.fds = (stdout, stderr)
        self._poll = select.poll()
        for fd in self.fds:
            self._poll.register(fd, select.POLLIN)

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
        return bool(self._poll.poll(0))

    def wait(self, seconds: float) -> bool:
        """Whether there is text, after so long at most."""
        return bool(self._poll.poll(seconds * 1000))

    def read(self) -> list[Written]:
        """What is there, at most a megabyte."""
        found: list[Written] = []
        size = 0
        while size < _MOST and (ready := self._poll.poll(0)):
            for fd, _ in ready:
                try:
                    text = os.read(fd, 65536)
                except BlockingIOError:  # the other side was quicker
                    continue
                if text:
                    found.append((self.fds.index(fd), text))
                    size += len(text)
                else:  # nobody can write to it any more
                    self._poll.unregister(fd)
        return found

    def close(self) -> None:
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)
