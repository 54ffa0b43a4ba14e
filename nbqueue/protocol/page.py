"""Memory that a worker and a child share: what runs, what shall stop, and room for the ring."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile


class Page:
    """Memory that a worker and a child share: what runs, what shall stop, and room for the ring.

    The child writes `number`, `index`, `since` and `is_loading`; the worker all others. `index` is -1 between jobs.
    While `is_loading` is 1 the job's function or arguments are unpickled, which is user code too.
    """

    RING = 516 * 1024
    """Bytes of the ring (ring.py)."""

    NUMBER, INDEX, SINCE, STOP_NUMBER, STOP, SKIP, SOFT_NUMBER, SOFT_INDEX, SOFT_REASON, IS_LOADING = range(10)
    _CELLS = 4096

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
