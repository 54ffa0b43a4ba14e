"""Memory for what is large and short-lived: used again as soon as nobody refers to it.

Memory that is fresh costs more than what is done with it: the system clears each page when it is first touched, which
takes several times as long as to copy a page, and `free` gives it back before the next one is made.
"""

from __future__ import annotations

import mmap
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from nbqueue import errors

_STEP = 256 * 1024
"""Sizes are rounded up to a multiple of it, so that what is about as large fits."""

ALIGNED = 64
"""Bodies of records end at a multiple of it, from which arrays in them count."""

_COMPARED = 128 * 1024
"""Bytes that are compared at once."""

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


def are_equal(one: memoryview, other: memoryview) -> bool:
    """Compares what is copied to the processor's cache: comparing views takes the longer way round each byte."""
    return len(one) == len(other) and all(
        bytes(one[at : at + _COMPARED]).startswith(other[at : at + _COMPARED]) for at in range(0, len(one), _COMPARED)
    )


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


class MappedFile:
    """A part of a file that does not change, to be mapped again and again: who writes to a mapping has a copy of that
    page.

    Parameters
    ----------
    path : str
    start : int
        Where it begins; it goes on to the end of the file.
    size : int
    """

    __slots__ = ("_path", "_start", "size")

    def __init__(self, path: str, start: int, size: int) -> None:
        self._path, self._start, self.size = path, start, size

    @property
    def place(self) -> tuple[str, int, int]:
        """What another process makes the same of."""
        return self._path, self._start, self.size

    def behind(self, position: int) -> MappedFile:
        """The part of it behind a position."""
        return MappedFile(self._path, self._start + position, self.size - position)

    def check(self) -> None:
        """See that it is there.

        Raises
        ------
        CorruptPayload
            It is not, or has another size, or may be written by somebody else.
        """
        os.close(self._open())

    def is_there(self) -> bool:
        """Whether it can be mapped."""
        try:
            self.check()
        except errors.CorruptPayload:
            return False
        return True

    def view(self) -> memoryview:
        """A mapping of its own, as long as something refers to it.

        Raises
        ------
        CorruptPayload
            See `check`.
        """
        descriptor = self._open()
        try:
            size = self._start + self.size
            if len(_mappings) < _most_mappings():
                mapping: Any = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
                _mappings.add(mapping)
            else:  # more would leave no descriptors for others
                mapping = bytearray(size)
                _fill(descriptor, memoryview(mapping))
            return memoryview(mapping)[self._start :]
        finally:
            os.close(descriptor)

    def hold(self) -> memoryview | None:
        """A view that is there when the file has been removed; None if this process has many mappings already."""
        return self.view() if len(_mappings) < _MOST_HELD else None

    def _open(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise errors.CorruptPayload(
                f"the file that holds it cannot be read any more: {error.strerror}: {self._path}"
            ) from error
        found = os.fstat(descriptor)
        is_own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
        if not is_own or found.st_size != self._start + self.size:
            os.close(descriptor)
            raise errors.CorruptPayload(
                f"the file that holds it is not the one that was written: {self._path} has {found.st_size:,} bytes "
                f"and mode {found.st_mode & 0o777:o} instead of {self._start + self.size:,} and 600"
            )
        return descriptor


class Nameless:
    """Bytes that other processes of this user map, in a file without a name that ends with this object.

    Examples
    --------
    >>> held = Nameless(b"bytes")
    >>> bytes(MappedFile(*held.file.place).view())
    b'bytes'
    """

    def __init__(self, data: bytes | memoryview) -> None:
        import fcntl  # not on Windows, where nothing is handed over

        start = -len(data) % ALIGNED
        self._descriptor = -1
        self._descriptor = os.memfd_create("nbqueue", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.fchmod(self._descriptor, 0o600)
        _write_at(self._descriptor, data, start)
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self.file = MappedFile(f"/proc/{os.getpid()}/fd/{self._descriptor}", start, len(data))

    def __len__(self) -> int:
        return self.file.size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def can_be_nameless() -> bool:
    """Whether other processes find files that have no name: where not, what they need is copied."""
    return hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd")  # noqa: PTH110


_MOST_HELD = 250
"""Mappings of this process up to which one may be kept that may not be needed: each takes a descriptor."""

_mappings = weakref.WeakSet[mmap.mmap]()


def mapped_bytes() -> int:
    """Bytes of all mappings of this process, also of those that are left to the garbage collector."""
    try:
        return sum(map(len, _mappings))
    except RuntimeError:  # another thread has just made one: it is asked again soon
        return 0


def _most_mappings() -> int:
    """Each takes a descriptor (until Python 3.13, which need not keep it)."""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 20_000 if soft == resource.RLIM_INFINITY else min(20_000, soft // 2)


def _fill(descriptor: int, memory: memoryview) -> None:
    position = 0
    while position < len(memory):
        count = os.preadv(descriptor, [memory[position : position + 2**30]], position)
        if not count:
            raise errors.CorruptPayload("the file that holds it ends too early")
        position += count


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
