"""Pickling: objects to bytes and back. The one user of cloudpickle.

`Serializer` makes bytes of arguments and results: the place where another one can be put. Everything else here is what
it is made of, what functions and variables are pickled with, and what can be asked about how cloudpickle takes an
object: whether it can at all, and what it sends by name instead of by value.
"""

from __future__ import annotations

import functools
import io
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cloudpickle

from nbqueue.payload.records import LARGE_RECORD, MOST_FRAMES, Pieces, split_frames, with_sizes

_ONE_FRAME = struct.Struct("<HQ")
"""What stands before a pickle without buffers, as before others."""

_MOST_BUFFERS = MOST_FRAMES - 2
"""Beside a pickle, and the sources of code; what comes after them goes into the pickle."""

IMMUTABLE = frozenset({int, float, str, bytes, bool, complex, type(None)})
"""Types of values that nobody can change."""


class Serializer:
    """Makes an entry of an object, and an object of an entry: frames, of which the first is the pickle.

    The others are the big buffers of arrays, which are never copied into the pickle.
    """

    __slots__ = ()

    def dumps(self, obj: Any) -> Pieces:
        if _is_plain(obj):
            pickled = pickle.dumps(obj, 5)
            return [_ONE_FRAME.pack(1, len(pickled)), pickled]
        return with_sizes(pickle_frames(obj))

    def loads(self, data: memoryview, *, once: bool = False) -> Any:
        """The object of an entry, whose arrays are aligned and can be written to.

        Buffers are copied; if the object is loaded `once` only, those stay where they are that can.
        """
        if bytes(data[:2]) == b"\1\0":
            return pickle.loads(data[_ONE_FRAME.size :])
        return unpickle_frames(split_frames(data), once=once)


SERIALIZER = Serializer()
"""The one in use."""


def _is_plain(value: Any, depth: int = 4) -> bool:
    """Whether cloudpickle, which takes ten times as long to begin with, would add nothing: small containers of values
    that nobody can change."""
    kind = type(value)
    if kind is dict:
        return len(value) < 100 and set(map(type, value)) <= IMMUTABLE and _are_plain(value.values(), depth)
    if kind is tuple or kind is list:
        return len(value) < 100 and _are_plain(value, depth)
    return kind in IMMUTABLE


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    if set(map(type, values)) <= IMMUTABLE:
        return True
    return depth > 0 and all(_is_plain(value, depth - 1) for value in values)


# Frames


def pickle_frames(obj: Any, *, files: set[str] | None = None) -> Pieces:
    """The pickle of an object, followed by its big buffers; `files` takes the names of source files of code in it."""
    file = io.BytesIO()
    buffers = _pickle_to(file, obj, files)
    return [file.getvalue(), *buffers]


def pickle_whole(obj: Any) -> bytes:
    """The pickle of an object, with its big buffers in it."""
    file = io.BytesIO()
    Pickler(file).dump(obj)
    return file.getvalue()


def pickle_again(obj: Any, known: bytes, sizes: Sequence[int], *, files: set[str]) -> Pieces | None:
    """The frames of an object; None if they are still those that `known` ends with, of these sizes.

    To look at every byte takes a tenth of the time that it takes to copy and to sign them.
    """
    start = len(known) - sum(sizes)
    file = _Comparison(known, start, start + sizes[0])
    buffers = _pickle_to(file, obj, files)
    have_sizes = [len(buffer) for buffer in buffers] == [*sizes[1:]]
    if file.is_same and have_sizes and _stand_at(start + sizes[0], known, buffers):
        return None
    return [file.getvalue(), *buffers]


def _stand_at(position: int, known: bytes, buffers: Iterable[memoryview]) -> bool:
    for buffer in buffers:
        if not known.startswith(buffer, position):
            return False
        position += len(buffer)
    return True


def unpickle_frames(frames: Sequence[memoryview], *, once: bool = False) -> Any:
    """The object of frames; see `Serializer.loads`."""
    pickled, *buffers = frames
    return pickle.loads(pickled, buffers=[(_in_place(b) if once else None) or bytearray(b) for b in buffers])


def _pickle_to(file: io.BytesIO | _Comparison, obj: Any, files: set[str] | None) -> list[memoryview]:
    buffers: list[memoryview] = []

    def is_inside(buffer: pickle.PickleBuffer) -> bool:
        if len(buffers) < _MOST_BUFFERS:
            buffers.append(buffer.raw())
            return False
        return True

    Pickler(file, is_inside, files).dump(obj)
    return buffers


class _Comparison:
    """A file that a pickle is written to: as long as it is a known one, nothing is kept."""

    def __init__(self, known: bytes, start: int, stop: int) -> None:
        self._known, self._start, self._stop = known, start, stop
        self._at = start
        self._other: io.BytesIO | None = None

    @property
    def is_same(self) -> bool:
        return self._other is None and self._at == self._stop

    def write(self, data: bytes) -> None:
        end = self._at + len(data)
        if self._other is None and end <= self._stop and self._known.startswith(data, self._at):
            self._at = end
            return
        self._differ().write(data)

    def getvalue(self) -> bytes:
        return self._differ().getvalue()

    def _differ(self) -> io.BytesIO:
        if self._other is None:
            self._other = io.BytesIO()
            self._other.write(memoryview(self._known)[self._start : self._at])
        return self._other


def _in_place(buffer: memoryview) -> Any:
    """The buffer as an object that is just this part of the record, so that nobody finds the rest by its `obj`.

    None if it is not aligned, cannot be written to, or is a small part that would keep a large whole in memory.
    """
    if buffer.readonly or len(buffer) < max(LARGE_RECORD, len(buffer.obj) // 8):  # type: ignore[arg-type]
        return None
    import ctypes

    part = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    is_aligned = ctypes.addressof(part) % min(16, len(buffer) & -len(buffer)) == 0
    return part if is_aligned else None


# cloudpickle


class StaysHere:
    """Base of what `pickle` can write, and what means nothing to a worker: it cannot be sent."""

    __slots__ = ()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, less what goes wrong in notebooks."""

    def __init__(
        self,
        file: io.BytesIO | _Comparison,
        buffers: Callable[[pickle.PickleBuffer], Any] | None = None,
        files: set[str] | None = None,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers)
        self._files = files

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.CodeType:
            # cloudpickle >= 3.1.3 drops the file name; tracebacks need it to find their source.
            if self._files is not None:
                self._files.add(obj.co_filename)
            make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)[:2]
            return _code, (obj.co_filename, make, arguments)
        if kind is functools._lru_cache_wrapper and not is_importable(obj):
            # By reference it would be looked up in the worker's own __main__.
            parameters = obj.cache_parameters()
            return _cached, (obj.__wrapped__, parameters["maxsize"], parameters["typed"])
        if kind is io.TextIOWrapper and obj not in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            # cloudpickle would send a copy of what it holds, without a word.
            raise pickle.PicklingError("cannot pickle an open file")
        if issubclass(kind, StaysHere):
            raise pickle.PicklingError("it is this process's own")
        shell = sys.modules.get("IPython.core.interactiveshell")
        if shell is not None and isinstance(obj, shell.InteractiveShell):
            return _shell, ()
        return super().reducer_override(obj)


def _code(filename: str, make: Callable[..., types.CodeType], arguments: tuple[Any, ...]) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    return functools.lru_cache(maxsize, typed)(function)


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    return InteractiveShell.instance()


def can_pickle(obj: Any) -> bool:
    try:
        Pickler(io.BytesIO(), lambda buffer: None).dump(obj)
    except Exception:  # noqa: BLE001 - any failure is the answer
        return False
    return True


def is_importable(obj: Any) -> bool:
    """Whether a worker finds this very object by its module and name."""
    module = getattr(obj, "__module__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) and module != "__main__" else None
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def travels_by_value(module: str | None) -> bool:
    """Whether cloudpickle was told to send the module's code along: an edit of it must be seen."""
    told = cloudpickle.list_registry_pickle_by_value()
    if not told or module is None:
        return False
    parts = module.split(".")
    return any(".".join(parts[: n + 1]) in told for n in range(len(parts)))


def names_read(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes that a function's code mentions, with those of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_read(constant)
