"""Memory that a worker and a child share: what runs, what shall stop, and room for the ring."""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator

from nbqueue.store.requests.running import Progress

_PROGRESS = struct.Struct("<qqddH")
"""Number of the run, index of the job, what is done, what there is to do (nan if that is not known), bytes of text."""

_LOOKS = 50
"""How often a job's progress is read that was written anew meanwhile. The first look takes as long as ten writes of a
job that says it all the time: the reader has just been woken."""


class Page:
    """Memory that a worker and a child share: what runs, what shall stop, and room for the ring.

    The child writes `number`, `index`, `since`, `is_loading`, `handed_on` and `is_calling_back`; the worker all others.
    `index` is -1 between jobs. While `is_loading` is 1 the job's function or arguments are unpickled, which is user
    code too. `handed_on` is how many bytes of what a cell has printed the worker was told of in messages. `place` is
    the ticket of the last job that was given a place after it had waited for others. `is_calling_back` is not 0 while a
    callback of the job runs, whose outcome is decided: its place in `GIVEN`, from 1.
    """

    RING = 516 * 1024
    """Bytes of the ring (ring.py)."""

    MOST_TEXT = 400
    """Bytes of what a job says that it does."""

    (NUMBER, INDEX, SINCE, STOP_NUMBER, STOP, SKIP, SOFT_NUMBER, SOFT_INDEX, SOFT_REASON, IS_LOADING, HANDED_ON, PLACE,
     IS_CALLING_BACK) = range(13)  # fmt: skip
    _CELLS = 8192
    _SAID, _SLOT, _SLOTS = 4096, 512, 8
    """Where the slots are for what jobs say of their progress, bytes of each, and how many: they are written in turns,
    so that what is read is not written at the same time."""
    _WRITES = 511
    """The cell that counts how often they were."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, self._CELLS + self.RING)
        self.cells = memoryview(self._map)[: self._CELLS].cast("q")
        self.ring = memoryview(self._map)[self._CELLS :]

    @classmethod
    def create(cls) -> Page:
        page = cls(_shared(cls._CELLS + cls.RING))
        page.cells[cls.INDEX] = -1
        page.cells[cls.SOFT_INDEX] = -1
        return page

    def say(self, number: int, index: int, progress: Progress) -> None:
        """Write how far a job is. For the child, one thread at a time."""
        text = progress.text.encode("utf-8", "replace")[: self.MOST_TEXT]
        total = math.nan if progress.total is None else progress.total
        writes = self.cells[self._WRITES] + 1
        at = self._SAID + writes % self._SLOTS * self._SLOT
        _PROGRESS.pack_into(self._map, at, number, index, progress.done, total, len(text))
        at += _PROGRESS.size
        self._map[at : at + len(text)] = text
        self.cells[self._WRITES] = writes

    def said(self, number: int, index: int) -> Progress | None:
        """How far a job is; None if it has not said that."""
        for _ in range(_LOOKS):
            is_whole, progress = self._look(number, index)
            if is_whole:
                return progress
        return None

    def _look(self, number: int, index: int) -> tuple[bool, Progress | None]:
        """Whether it was read before it was written again, and what was read."""
        writes = self.cells[self._WRITES]
        at = self._SAID + writes % self._SLOTS * self._SLOT
        of_number, of_index, done, total, length = _PROGRESS.unpack_from(self._map, at)
        at += _PROGRESS.size
        text = self._map[at : at + length]
        if self.cells[self._WRITES] - writes >= self._SLOTS - 1:
            return False, None
        if not writes or (of_number, of_index) != (number, index):
            return True, None
        return True, Progress(done, None if math.isnan(total) else total, text.decode("utf-8", "ignore"))

    @contextlib.contextmanager
    def alone(self, *, wait: bool) -> Iterator[bool]:
        """Keep the other process out of what is read by one at a time; False if it is there, and nobody `wait`s.

        A process that dies leaves.
        """
        import fcntl  # not on Windows, where there are no children

        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                yield False
                return
            yield True  # this system cannot lock it
            return
        try:
            yield True
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self.cells.release()
        self.ring.release()
        self._map.close()
        os.close(self.fd)


def _shared(size: int) -> int:
    """The descriptor of memory that two processes can map, all of which can be written to however full disks are."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox may refuse it
            fd = os.memfd_create("nbqueue-page")
            os.ftruncate(fd, size)
            return fd
    with tempfile.TemporaryFile() as file:
        file.write(bytes(size))
        file.flush()
        return os.dup(file.fileno())


TIMEOUT, CANCEL = 1, 2
"""Why the running job is stopped, in `Page.SOFT_REASON`."""
