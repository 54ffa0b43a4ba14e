"""The bytes that travel: functions, calls and outcomes, pickled, signed and verified. The one user of cloudpickle.

Records (all numbers little-endian):

    header     version u8 | layout u8 | count u16 | functions u8 | digest (16 bytes) per function | signature (32 bytes)
    code       header | body: frames(source files by name, the pickled function)
    calls      header | body: what `count` neighbouring calls are made with
    outcomes   header | body: status u8, attempt u8, started f64, worker (u8 length, text), durations f32 * count,
               holes (u16 number, u16 offsets), what the calls returned; or the failure of a single one

Layouts of calls and of returned values:

    ATOMS      one pickle of a list: values that nobody can change (int, str, None, ...), so that sharing is not seen
    TUPLES     one pickle of a list of tuples of such values (calls with several arguments)
    SEPARATE   an entry of its own for each, behind a table of offsets: nothing is shared, one that cannot be read
               does not spoil its neighbours, and big buffers (arrays) stay outside of the pickle
    FAILURE    the pickled description of an error

The signature is HMAC-SHA256 over kind, namespace, batch, first index, the header and the body: a record that was
changed, or put into another place, is refused before anything in it is unpickled.
"""

from __future__ import annotations

import array
import functools
import hashlib
import hmac
import io
import itertools
import linecache
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from nbqueue import errors
from nbqueue.payload.memory import Buffers

ATOMS, TUPLES, SEPARATE, FAILURE = range(4)

FINISHED, FAILED = 1, 2

LIMIT = 512 * 1024 * 1024 - 1024
"""Bytes: what Redis takes as one value, less the header."""

_VERSION = 1

_KWARGS = 0x80

_HEADER = struct.Struct("<BBHB")

_DIGEST, _SIGNATURE = 16, 32

_LARGE = 64 * 1024
"""Bytes of a record that is made in memory that is used again."""

_CHUNK = 128 * 1024

_OUTCOME = struct.Struct("<BBdB")

_ONE_FRAME = struct.Struct("<HQ")
"""What stands before a pickle without buffers, as before others."""

IMMUTABLE = frozenset({int, float, str, bytes, bool, complex, type(None)})
"""Types of values that nobody can change."""

Blob = bytes | memoryview

Pieces = list[Blob]
"""What is joined once only, at the end: copies of what is large cost more than pickling it."""

Call = tuple[bytes, tuple[Any, ...], dict[str, Any]]
"""A call: the digest of its function, positional and keyword arguments."""


def size_of(pieces: Pieces) -> int:
    """Bytes of what is kept in pieces."""
    return sum(map(len, pieces))


class Seal:
    """Signs and verifies payloads with one key, for one namespace.

    Parameters
    ----------
    key : bytes
        The secret that clients and workers share.
    namespace : str
        Payloads of another namespace are refused, whatever their key.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        self._key = key
        self._namespace = namespace.encode() + b"\0"

    def digest(self, pickled: bytes) -> bytes:
        """What a function is stored under, 16 bytes: who has another key stores it elsewhere."""
        return hmac.digest(self._key, b"digest\0" + self._namespace + pickled, "sha256")[:_DIGEST]

    def sign(self, kind: bytes, batch: str, first: int, header: bytes, body: Pieces) -> bytes:
        """The signature of a payload at its place, 32 bytes."""
        place = self._place(kind, batch, first)
        if size_of(body) < 4096:
            return hmac.digest(self._key, b"".join((place, header, *body)), "sha256")
        code = hmac.new(self._key, place + header, "sha256")  # no copy of what is large
        for piece in body:
            code.update(piece)
        return code.digest()

    def _place(self, kind: bytes, batch: str, first: int) -> bytes:
        return b"%s\0%s%s\0%d\0" % (kind, self._namespace, batch.encode(), first)

    def open(self, kind: bytes, batch: str, first: int, record: Blob) -> Record:
        """Verify a record and take it apart.

        Raises
        ------
        CorruptPayload
            The bytes are not a record.
        SignatureError
            It was signed with another key, changed, or put into another place.
        """
        what = f"{kind.decode()} of {batch}:{first}" if batch else kind.decode()
        try:
            version, layout, count, functions = _HEADER.unpack_from(record)
        except struct.error:
            raise errors.CorruptPayload(f"{what}: a record of {len(record)} bytes is too short to be one") from None
        if version != _VERSION:
            raise errors.CorruptPayload(f"{what}: not written by this version of nbqueue (format {version})")
        end = _HEADER.size + functions * _DIGEST
        body = memoryview(record)[end + _SIGNATURE :]
        header = bytes(record[:end])
        signature = bytes(record[end : end + _SIGNATURE])
        if not hmac.compare_digest(signature, self.sign(kind, batch, first, header, [body])):
            raise errors.SignatureError(
                f"{what}: the signature does not hold, nothing was unpickled. Clients and workers need the same "
                "NBQUEUE_KEY; or somebody changed the record"
            )
        digests = [header[i : i + _DIGEST] for i in range(_HEADER.size, end, _DIGEST)]
        return Record(layout, count, digests, body)

    def close(
        self, kind: bytes, batch: str, first: int, layout: int, count: int, digests: Sequence[bytes], body: Pieces
    ) -> bytes:
        """Header, signature and body as one record."""
        header = _header(layout, count, digests)
        return b"".join((header, self.sign(kind, batch, first, header, body), *body))

    def close_large(
        self, buffers: Buffers, kind: bytes, batch: str, first: int, layout: int, count: int, digests: Sequence[bytes],
        body: Pieces,
    ) -> memoryview:  # fmt: skip
        """The same in memory that is used again; each part is signed while it is in the processor's cache."""
        header = _header(layout, count, digests)
        code = hmac.new(self._key, self._place(kind, batch, first) + header, "sha256")
        start = len(header)
        position = start + _SIGNATURE
        record = buffers.take(position + size_of(body))
        record[:start] = header
        for piece in body:
            for offset in range(0, len(piece), _CHUNK):
                end = position + min(_CHUNK, len(piece) - offset)
                record[position:end] = piece[offset : offset + _CHUNK]
                code.update(record[position:end])
                position = end
        record[start : start + _SIGNATURE] = code.digest()
        return record


def _header(layout: int, count: int, digests: Sequence[bytes]) -> bytes:
    return _HEADER.pack(_VERSION, layout, count, len(digests)) + b"".join(digests)


@dataclass(frozen=True, slots=True)
class Record:
    """A verified record."""

    layout: int
    count: int
    digests: list[bytes]
    body: memoryview


def functions_of(record: Blob) -> list[bytes]:
    """The digests of the functions that a record of calls needs, without verifying or unpickling it."""
    count = record[4]
    return [bytes(record[i : i + _DIGEST]) for i in range(_HEADER.size, _HEADER.size + count * _DIGEST, _DIGEST)]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, less what goes wrong in notebooks."""

    def __init__(self, file: io.BytesIO, buffers: Callable[[pickle.PickleBuffer], Any] | None = None) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers)
        self.files: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.CodeType:
            # cloudpickle >= 3.1.3 drops the file name; tracebacks need it to find their source.
            self.files.add(obj.co_filename)
            make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)[:2]
            return _code, (obj.co_filename, make, arguments)
        if kind is functools._lru_cache_wrapper and not _is_importable(obj):
            # By reference it would be looked up in the worker's own __main__.
            parameters = obj.cache_parameters()
            return _cached, (obj.__wrapped__, parameters["maxsize"], parameters["typed"])
        if kind is io.TextIOWrapper and obj not in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            # cloudpickle would send a copy of what it holds, without a word.
            raise pickle.PicklingError("cannot pickle an open file")
        shell = sys.modules.get("IPython.core.interactiveshell")
        if shell is not None and isinstance(obj, shell.InteractiveShell):
            return _shell, ()
        return super().reducer_override(obj)


def _is_importable(obj: Any) -> bool:
    """Whether a worker finds this very object by its module and name."""
    module = getattr(obj, "__module__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) and module != "__main__" else None
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def _code(filename: str, make: Callable[..., types.CodeType], arguments: tuple[Any, ...]) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    return functools.lru_cache(maxsize, typed)(function)


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    return InteractiveShell.instance()


def _frames(obj: Any) -> Pieces:
    """The pickle of an object, followed by its big buffers."""
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(file, buffers.append).dump(obj)
    return [file.getvalue(), *(buffer.raw() for buffer in buffers)]


def _with_sizes(frames: Pieces) -> Pieces:
    return [struct.pack(f"<H{len(frames)}Q", len(frames), *map(len, frames)), *frames]


def _split(data: memoryview) -> list[memoryview]:
    (number,) = struct.unpack_from("<H", data)
    sizes = struct.unpack_from(f"<{number}Q", data, 2)
    frames, start = [], 2 + 8 * number
    for size in sizes:
        frames.append(data[start : start + size])
        start += size
    return frames


def _dumps(obj: Any) -> Pieces:
    if _is_plain(obj):
        pickled = pickle.dumps(obj, 5)
        return [_ONE_FRAME.pack(1, len(pickled)), pickled]
    return _with_sizes(_frames(obj))


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


def _loads(data: memoryview, *, once: bool = False) -> Any:
    """The object of an entry, whose arrays are aligned and can be written to.

    Buffers are copied; if the object is loaded `once` only, those stay where they are that can.
    """
    if bytes(data[:2]) == b"\1\0":
        return pickle.loads(data[_ONE_FRAME.size :])
    first, *buffers = _split(data)
    return pickle.loads(first, buffers=[(_in_place(b) if once else None) or bytearray(b) for b in buffers])


def _in_place(buffer: memoryview) -> Any:
    """The buffer as an object that is just this part of the record, so that nobody finds the rest by its `obj`.

    None if it is not aligned, cannot be written to, or is a small part that would keep a large whole in memory.
    """
    if buffer.readonly or len(buffer) < max(_LARGE, len(buffer.obj) // 8):  # type: ignore[arg-type]
        return None
    import ctypes

    part = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    is_aligned = ctypes.addressof(part) % min(16, len(buffer) & -len(buffer)) == 0
    return part if is_aligned else None


def _many(objects: Sequence[Any], widths: Iterable[Any]) -> tuple[int, Pieces]:
    """Layout and body for objects of which none may see another."""
    if set(widths) <= IMMUTABLE:
        return ATOMS, [pickle.dumps(objects, 5)]
    return SEPARATE, _entries([[obj.entry] if type(obj) is PackedValue else _dumps(obj) for obj in objects])


def _entries(entries: Sequence[Pieces]) -> Pieces:
    offsets, position = array.array("Q", [0]), 0
    for entry in entries:
        position += size_of(entry)
        offsets.append(position)
    if sys.byteorder == "big":
        offsets.byteswap()
    return [offsets.tobytes(), *itertools.chain.from_iterable(entries)]


def _entry(body: memoryview, count: int, index: int) -> memoryview:
    start, end = struct.unpack_from("<2Q", body, 8 * index)
    table = 8 * (count + 1)
    return body[table + start : table + end]


@dataclass(frozen=True, slots=True)
class Code:
    """A function, pickled."""

    digest: bytes
    """16 bytes over the pickle and the key: equal functions are stored once, and nobody else's in their place."""
    body: bytes
    name: str
    is_async: bool = False

    def sealed(self, seal: Seal) -> bytes:
        """The signed record, which any batch of the namespace can use."""
        return seal.close(b"code", "", 0, SEPARATE, 1, [self.digest], [self.body])


def name_of(function: Any) -> str:
    """How a function is called where people read it."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).replace("<locals>.", "")


def pack_code(seal: Seal, function: Any) -> Code:
    """Pickle a function, with the source of what it takes from notebooks and scripts.

    Raises
    ------
    CannotPickle
        Names the global, closure variable or attribute that cannot be pickled.
    """
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = _Pickler(file, buffers.append)
    try:
        pickler.dump(function)
    except Exception as error:
        raise _cannot_pickle(f"{name_of(function)}()", function, error) from error
    pickled = b"".join(_with_sizes([file.getvalue(), *(buffer.raw() for buffer in buffers)]))
    sources = {name: "".join(linecache.getlines(name)) for name in sorted(pickler.files)}
    digest = seal.digest(pickled)
    body = b"".join(_with_sizes([pickle.dumps(sources, 5), pickled]))
    _check_size(f"the function {name_of(function)}()", len(body))
    return Code(digest, body, name_of(function))


def parts_of(function: Any) -> tuple[Any, ...] | None:
    """What the pickle of a function is made from, if none of it can be changed in place; else None.

    As long as these are the same objects, the function need not be pickled again.
    """
    parts: list[Any] = []
    return tuple(parts) if callable(function) and _gather(function, parts, set()) else None


def _gather(value: Any, parts: list[Any], seen: set[int]) -> bool:
    """Add a value to the parts, with what it refers to; False if any of it can be changed in place."""
    parts.append(value)
    kind = type(value)
    if kind in IMMUTABLE:
        return True
    if kind is types.ModuleType:
        name = value.__name__
        return sys.modules.get(name) is value and not _travels(name)
    if kind is tuple:
        return all(_gather(item, parts, seen) for item in value)
    if kind in (types.GenericAlias, types.UnionType):  # annotations such as list[int] and int | None
        origin = getattr(value, "__origin__", None)
        return all(_gather(part, parts, seen) for part in (origin, *value.__args__))
    if kind is types.BuiltinFunctionType or isinstance(value, type):
        return _is_importable(value) and not _travels(value.__module__)
    if kind is not types.FunctionType:
        return False
    if id(value) in seen or (value.__module__ != "__main__" and _is_importable(value)):
        return not _travels(value.__module__)
    seen.add(id(value))
    if value.__dict__:
        return False
    code, known = value.__code__, value.__globals__
    try:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        annotations = value.__annotations__
    except Exception:  # noqa: BLE001 - an empty cell; since Python 3.14 annotations are user code
        return False
    defaults, names = value.__defaults__ or (), tuple(name for name in _names(code) if name in known)
    parts += (code, value.__name__, value.__qualname__, value.__module__, *names, len(defaults), len(cells))
    rest = [value.__doc__, *defaults, *cells, *(known[name] for name in names)]
    for more in (value.__kwdefaults__, annotations):
        if more:
            rest += (*more.keys(), *more.values())
    return all(_gather(part, parts, seen) for part in rest)


def _travels(module: str | None) -> bool:
    """Whether cloudpickle was told to send the module's code along: an edit of it must be seen."""
    told = cloudpickle.list_registry_pickle_by_value()
    if not told or module is None:
        return False
    parts = module.split(".")
    return any(".".join(parts[: n + 1]) in told for n in range(len(parts)))


@functools.lru_cache(1000)
def _names(code: types.CodeType) -> tuple[str, ...]:
    return tuple(sorted(set(names_read(code))))


def unpack_code(seal: Seal, digest: bytes, record: bytes) -> Any:
    """The function of a signed record; its sources become known to tracebacks."""
    opened = seal.open(b"code", "", 0, record)
    if opened.digests != [digest]:
        raise errors.SignatureError("the stored function is not the one that the call names")
    sources, pickled = _split(opened.body)
    _learn_sources(sources)
    return _loads(pickled)


def _learn_sources(sources: memoryview) -> None:
    for name, text in pickle.loads(sources).items():
        if text and not linecache.getlines(name):
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def pack_items(seal: Seal, batch: str, first: int, digest: bytes, items: Sequence[Any]) -> bytes | None:
    """Neighbouring calls of one function with one argument each, if these are all immutable values, else None."""
    if not set(map(type, items)) <= IMMUTABLE:
        return None
    pickled = pickle.dumps(items, 5)
    if len(items) == 1:
        _check_size("the arguments of a call", len(pickled))
    return seal.close(b"calls", batch, first, ATOMS, len(items), [digest], [pickled])


def pack_tuples(seal: Seal, batch: str, first: int, digest: bytes, items: Sequence[tuple[Any, ...]]) -> bytes | None:
    """The same for calls with several arguments."""
    if not all(set(map(type, item)) <= IMMUTABLE for item in items):
        return None
    return seal.close(b"calls", batch, first, TUPLES, len(items), [digest], [pickle.dumps(items, 5)])


def pack_arguments(function: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pieces:
    """One call as an entry of its own; `function` is the position of its digest in the record's header.

    Raises
    ------
    CannotPickle
        Names the argument, and what of it cannot be pickled.
    TooLarge
        Above 512 MB.
    """
    try:
        flags, both = (_KWARGS, (args, kwargs)) if kwargs else (0, args)
        entry = [bytes([function | flags]), *_dumps(both)]
    except Exception as error:
        for name, value in [*enumerate(args), *kwargs.items()]:
            what = f"argument {name}" if isinstance(name, int) else f"argument {name!r}"
            if not can_pickle(value):
                raise _cannot_pickle(what, value, error) from error
        raise _cannot_pickle("the arguments", args, error) from error
    _check_size("the arguments of a call", size_of(entry))
    return entry


def alone(entry: Pieces) -> Pieces:
    """The entry of a call for a record of its own, whose header names its function only."""
    return [bytes([entry[0][0] & _KWARGS]), *entry[1:]]


def pack_entries(
    seal: Seal,
    batch: str,
    first: int,
    digests: Sequence[bytes],
    entries: Sequence[Pieces],
    buffers: Buffers | None = None,
) -> Blob:
    """Neighbouring calls from their entries; an empty entry stands for a large call that is stored by itself."""
    body = _entries(entries)
    place = b"calls", batch, first, SEPARATE, len(entries), digests, body
    return seal.close(*place) if buffers is None or size_of(body) < _LARGE else seal.close_large(buffers, *place)


class Calls:
    """A verified record of neighbouring calls, unpickled one by one.

    Parameters
    ----------
    once : bool
        Each is asked for once, and nobody else has the record: large buffers need not be copied.

    Raises
    ------
    SignatureError, CorruptPayload
        See `Seal.open`.
    """

    def __init__(self, seal: Seal, batch: str, first: int, record: Blob, *, once: bool = False) -> None:
        self.first = first
        self._once = once
        self._record = record_ = seal.open(b"calls", batch, first, record)
        self.count = record_.count
        self._list: list[Any] | None = None
        if record_.layout in (ATOMS, TUPLES):
            self._list = pickle.loads(record_.body)

    def atoms(self) -> list[Any] | None:
        """The single arguments of all calls, where the record is of that layout: the fast way."""
        return self._list if self._record.layout == ATOMS else None

    def digest(self) -> bytes:
        return self._record.digests[0]

    def is_elsewhere(self, index: int) -> bool:
        """Whether the call is large and stored by itself."""
        if self._list is not None:
            return False
        return not _entry(self._record.body, self.count, index - self.first)

    def __getitem__(self, index: int) -> Call:
        offset = index - self.first
        if self._list is not None:
            value = self._list[offset]
            return self._record.digests[0], value if self._record.layout == TUPLES else (value,), {}
        entry = _entry(self._record.body, self.count, offset)
        function, loaded = entry[0], _loads(entry[1:], once=self._once)
        args, kwargs = loaded if function & _KWARGS else (loaded, {})
        return self._record.digests[function & ~_KWARGS], args, kwargs


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed, in words, and the exception itself where it can be pickled."""

    type: str
    message: str
    traceback: str
    pickled: bytes | None = None

    @property
    def digest(self) -> str:
        """Equal for failures of the same type and message."""
        return hashlib.sha256(f"{self.type}\0{self.message}".encode("utf-8", "replace")).hexdigest()[:12]

    def exception(self) -> BaseException | None:
        """The exception, rebuilt; None where that is not possible here."""
        if self.pickled is None:
            return None
        try:
            error = pickle.loads(self.pickled)
        except Exception:  # noqa: BLE001 - constructors and missing modules raise anything; the text is kept
            return None
        return error if isinstance(error, BaseException) else None


def pack_exception(error: BaseException) -> bytes:
    """An exception, without its traceback, as bytes that have been seen to give it back.

    Raises
    ------
    Exception
        It cannot be pickled, or not be rebuilt: constructors with several arguments often cannot.
    """
    file = io.BytesIO()
    _Pickler(file).dump(error)
    pickled = file.getvalue()
    rebuilt = pickle.loads(pickled)
    if type(rebuilt).__qualname__ != type(error).__qualname__:
        raise errors.CannotPickle(f"a {type(error).__qualname__} becomes a {type(rebuilt).__qualname__}")
    return pickled


@dataclass(frozen=True, slots=True)
class PackedValue:
    """What a call returned, as it was then: the next call may return the same object, changed."""

    entry: bytes


def pack_value(value: Any) -> PackedValue:
    """Pickle what a call returned; `pack_outcomes` takes it in the place of the value.

    Raises
    ------
    CannotPickle
    TooLarge
        Above 512 MB.
    """
    try:
        packed = _dumps(value)
    except Exception as error:
        raise _cannot_pickle("the result", value, error) from error
    _check_size("the result", size_of(packed))
    return PackedValue(b"".join(packed))


def pack_outcomes(
    seal: Seal,
    batch: str,
    first: int,
    values: list[Any],
    durations: Sequence[float],
    *,
    started: float,
    worker: str,
    attempt: int = 1,
    holes: Sequence[int] = (),
    buffers: Buffers | None = None,
) -> Blob:
    """What neighbouring calls returned, as one record; `holes` are offsets of those that did not, recorded elsewhere.

    Raises
    ------
    CannotPickle
        One of the values cannot be pickled; which, a record for each alone tells.
    TooLarge
        Above 512 MB.
    """
    try:
        layout, packed = _many(values, map(type, values))
    except Exception as error:
        raise _cannot_pickle("the result", values[0], error) from error
    _check_size("the result", size_of(packed))
    body = [_outcome_meta(FINISHED, attempt, started, worker, durations, holes), *packed]
    place = b"outcomes", batch, first, layout, len(values), (), body
    return seal.close(*place) if buffers is None or size_of(body) < _LARGE else seal.close_large(buffers, *place)


def pack_failure(
    seal: Seal, batch: str, index: int, failure: Failure, *, started: float, duration: float, worker: str, attempt: int
) -> bytes:
    """How one call failed, as a record."""
    packed = pickle.dumps((failure.type, failure.message, failure.traceback, failure.pickled), 5)
    body: Pieces = [_outcome_meta(FAILED, attempt, started, worker, [duration], ()), packed]
    return seal.close(b"outcomes", batch, index, FAILURE, 1, (), body)


def _outcome_meta(
    status: int, attempt: int, started: float, worker: str, durations: Sequence[float], holes: Sequence[int]
) -> bytes:
    name = worker.encode()[:255]
    head = _OUTCOME.pack(status, min(attempt, 255), started, len(name))
    return b"".join((head, name, struct.pack(f"<{len(durations)}fH{len(holes)}H", *durations, len(holes), *holes)))


class Outcomes:
    """A verified record of the outcomes of neighbouring calls.

    Parameters
    ----------
    once : bool
        Each value is asked for once, and nobody else has the record: large buffers need not be copied.

    Raises
    ------
    SignatureError, CorruptPayload
        See `Seal.open`.
    """

    def __init__(self, seal: Seal, batch: str, first: int, record: Blob, *, once: bool = False) -> None:
        self._once = once
        opened = seal.open(b"outcomes", batch, first, record)
        self.first, self.count = first, opened.count
        self._layout = opened.layout
        body = opened.body
        status, self.attempt, self.started, length = _OUTCOME.unpack_from(body)
        position = _OUTCOME.size + length
        self.is_failed = status == FAILED
        self.worker = bytes(body[_OUTCOME.size : position]).decode()
        self._durations = body[position : position + 4 * self.count]
        position += 4 * self.count
        (number,) = struct.unpack_from("<H", body, position)
        self.holes = frozenset(struct.unpack_from(f"<{number}H", body, position + 2)) if number else frozenset()
        self._body = body[position + 2 + 2 * number :]
        self._list: list[Any] | None = None

    def __contains__(self, index: int) -> bool:
        return 0 <= index - self.first < self.count and (index - self.first) not in self.holes

    def duration(self, index: int) -> float:
        """Seconds that the call took."""
        (seconds,) = struct.unpack_from("<f", self._durations, 4 * (index - self.first))
        return float(seconds)

    def started_at(self, index: int) -> float:
        """When the call started, in seconds since the epoch by the clock of the worker's host."""
        before = struct.unpack_from(f"<{index - self.first}f", self._durations)
        return float(self.started + sum(before))

    def atoms(self) -> list[Any] | None:
        """The values of all calls, where the record is of that layout and none failed: the fast way."""
        return self._load() if self._layout == ATOMS and not self.holes else None

    def _load(self) -> list[Any]:
        if self._list is None:
            self._list = pickle.loads(self._body)
        return self._list

    def value(self, index: int) -> Any:
        """What the call returned, unpickled anew at each call unless nobody can change it."""
        if self._layout == ATOMS:
            return self._load()[index - self.first]
        return _loads(_entry(self._body, self.count, index - self.first), once=self._once)

    def failure(self) -> Failure:
        """How the call failed."""
        return Failure(*pickle.loads(self._body))


def _check_size(what: str, size: int) -> None:
    if size > LIMIT:
        raise errors.TooLarge(
            f"{what}: {size / 2**20:,.0f} MB pickled, and Redis stores at most 512 MB in one value. "
            "Write it to a file that the workers can read, and pass its path"
        )


def can_pickle(obj: Any) -> bool:
    try:
        _Pickler(io.BytesIO(), lambda buffer: None).dump(obj)
    except Exception:  # noqa: BLE001 - any failure is the answer
        return False
    return True


def _cannot_pickle(what: str, obj: Any, error: Exception) -> errors.CannotPickle:
    path, culprit = _culprit(obj)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    where = f"{what}: {path} cannot be sent to a worker" if path else f"{what} cannot be sent to a worker"
    hint = _HINTS.get(type(culprit).__name__, "Make it inside the function, or pass what it is made from")
    return errors.CannotPickle(f"{where}: it holds a {_type_name(culprit)} ({reason}). {hint}")


_HINTS = {
    "generator": "Pass a list of its values",
    "async_generator": "Pass a list of its values",
    "TextIOWrapper": "Pass the file's path, and open it inside the function",
    "BufferedReader": "Pass the file's path, and open it inside the function",
    "BufferedWriter": "Pass the file's path, and open it inside the function",
    "lock": "A lock has no meaning in another process: leave it out, or make it inside the function",
    "RLock": "A lock has no meaning in another process: leave it out, or make it inside the function",
    "Connection": "Connect inside the function",
    "socket": "Connect inside the function",
    "module": "Import it inside the function",
    "Queue": "Inside the function, `from nbqueue import q` is the queue",
    "Batch": "Pass its results, or its id and, inside the function, `from nbqueue import q` and `q.batch(id)`",
    "Job": "Pass its result, or its id and, inside the function, `from nbqueue import q` and `q.fetch_job(id)`",
}


def _type_name(obj: Any) -> str:
    kind = type(obj)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


@dataclass
class _Search:
    """Bounds the search for what cannot be pickled."""

    left: int = 500
    seen: set[int] = field(default_factory=set)


def pack_variables(
    variables: dict[str, Any], scope: dict[str, Any] | None = None, modules: Sequence[types.ModuleType] = ()
) -> bytes:
    """Variables by their names, with the source of what is of notebooks and scripts among them.

    What they share stays shared. A record holds them as an argument or a result, so that they are signed with it.

    Parameters
    ----------
    variables : dict
    scope : dict, optional
        The globals of functions among them: it becomes the namespace that `unpack_variables` returns.
    modules : sequence of modules, optional
        `unpack_variables` imports them.

    Raises
    ------
    CannotPickle
        Names the variable, and what of it cannot be pickled.
    """
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = _Pickler(file, buffers.append)
    marker = types.FunctionType(_nothing.__code__, {"__name__": "__main__"} if scope is None else scope, "scope")
    marker.__module__ = "__main__"
    try:
        pickler.dump((marker, variables, list(modules)))
    except Exception as error:
        for name, value in variables.items():
            if not can_pickle(value):
                raise _cannot_pickle(f"variable {name!r}", value, error) from error
        raise _cannot_pickle("the variables", variables, error) from error
    pickled = _with_sizes([file.getvalue(), *(buffer.raw() for buffer in buffers)])
    sources = {name: "".join(linecache.getlines(name)) for name in sorted(pickler.files)}
    _check_size("the variables", size_of(pickled))
    return b"".join(_with_sizes([pickle.dumps(sources, 5), b"".join(pickled)]))


def _nothing() -> None:
    """Its code makes the function that carries the namespace along."""


def unpack_variables(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables, and the namespace that functions among them have as their globals."""
    sources, pickled = _split(memoryview(data))
    _learn_sources(sources)
    marker, variables, _ = _loads(pickled)
    return variables, marker.__globals__


def size_of_variable(value: Any) -> int:
    """Bytes of its pickle."""
    return size_of(_frames(value))


def _culprit(obj: Any) -> tuple[str, Any]:
    """The path to the innermost part that cannot be pickled, in words, and that part."""
    search, path = _Search(), list[str]()
    while search.left > 0:
        for name, part in _parts(obj):
            if id(part) in search.seen:
                continue
            search.seen.add(id(part))
            search.left -= 1
            if not can_pickle(part):
                path.append(name)
                obj = part
                break
            if search.left <= 0:
                break
        else:
            break
    return " of ".join(reversed(path)), obj


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    if type(obj).__module__.startswith("nbqueue."):
        return  # a queue and its jobs: their locks and sockets tell a user nothing
    if isinstance(obj, functools.partial):
        yield "the function", obj.func
        yield from ((f"argument {i}", value) for i, value in enumerate(obj.args))
        yield from ((f"argument {name!r}", value) for name, value in obj.keywords.items())
    elif isinstance(obj, types.MethodType):
        yield "its object", obj.__self__
        yield "its function", obj.__func__
    elif isinstance(obj, types.FunctionType):
        for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=False):
            try:
                yield f"the variable {name!r}", cell.cell_contents
            except ValueError:  # an empty cell
                continue
        for name in names_read(obj.__code__):
            if name in obj.__globals__:
                yield f"the global {name!r}", obj.__globals__[name]
        yield from ((f"default {value!r:.40}", value) for value in obj.__defaults__ or ())
        yield from ((f"attribute {name!r}", value) for name, value in vars(obj).items())
    elif isinstance(obj, dict):
        yield from ((f"item {key!r:.40}", value) for key, value in list(obj.items()))
    elif isinstance(obj, list | tuple | set | frozenset):
        yield from ((f"item {i}", value) for i, value in enumerate(list(obj)))
    elif isinstance(obj, type):
        yield from ((f"attribute {name!r}", value) for name, value in vars(obj).items() if not name.startswith("__"))
    elif getattr(type(obj), "__reduce_ex__", None) is object.__reduce_ex__ and hasattr(obj, "__dict__"):
        yield from ((f"attribute {name!r}", value) for name, value in vars(obj).items())


def names_read(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes that a function's code mentions, with those of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_read(constant)
