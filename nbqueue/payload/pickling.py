"""Pickling: objects to bytes and back. The one user of cloudpickle.

`Serializer` makes bytes of arguments and results: the place where another one can be put. Everything else here is what
it is made of, what functions and variables are pickled with, and what can be asked about how cloudpickle takes an
object: whether it can at all, and what it sends by name instead of by value.
"""

from __future__ import annotations

import array
import datetime
import dis
import functools
import importlib
import io
import itertools
import mmap
import pickle
import struct
import sys
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import cloudpickle

from nbqueue.payload.classes import named_in, reduce_class
from nbqueue.payload.exceptions import reduce_exception
from nbqueue.payload.memory import Mapped, MappedFile, are_equal
from nbqueue.payload.random_streams import reduce_generator
from nbqueue.payload.records import LARGE_RECORD, MOST_FRAMES, Entries, Pieces, split_frames, table_bytes, with_sizes
from nbqueue.payload.scope import entered, fill
from nbqueue.payload.stored_names import StoredNames, reads_pickles

_ONE_FRAME = struct.Struct("<HQ")
"""What stands before a pickle without buffers, as before others."""

_PLAIN = 0
"""The number of frames that stands before the pickle of plain values: to load it runs no code of the user's."""

_MAPPED = 256 * 1024
"""Bytes of a buffer that is mapped rather than copied."""

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
        pickled = _pickle_if_plain(obj)
        if pickled is not None:
            return [_ONE_FRAME.pack(_PLAIN, len(pickled)), pickled]
        return with_sizes(pickle_frames(obj))

    def loads(self, data: memoryview, *, once: bool = False) -> Any:
        """The object of an entry, whose arrays are aligned and can be written to.

        Buffers are copied; if the object is loaded `once` only, those stay where they are that can.
        """
        if data[0] <= 1 and data[1] == 0:
            return pickle.loads(data[_ONE_FRAME.size :])
        return unpickle_frames(split_frames(data), once=once)


def entry_of_pickle(pickled: bytes) -> Pieces:
    """An entry of what was pickled otherwise."""
    return [_ONE_FRAME.pack(1, len(pickled)), pickled]


def has_plain(entry: memoryview) -> bool:
    """Whether an entry holds plain values."""
    return entry[0] == _PLAIN and entry[1] == 0


SERIALIZER = Serializer()
"""The one in use."""


# Plain values: what `pickle` writes by itself, in C, without asking anybody. cloudpickle takes ten times as long to
# begin with, and would add nothing.

_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})

_OF_LIBRARY = frozenset(
    {complex, datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone}
)
"""Types that say how they are pickled, and are known to be harmless."""

_MOST_ITEMS = 1000
"""Items of a container that is tried: what is not plain may come last."""

_MOST_PLAIN = 16 * 1024
"""Bytes of a value that is packed with others as it is; what is larger may be stored by itself."""


class _NotPlainError(Exception):
    """There is something else in a value."""


class _PlainPickler(pickle.Pickler):
    """Takes plain values only."""

    def reducer_override(self, obj: Any) -> Any:
        """Called by `pickle` for whatever else it meets."""
        kind = type(obj)
        if kind in _OF_LIBRARY or (kind is type and obj in _OF_LIBRARY):
            return NotImplemented
        raise _NotPlainError


def _pickle_if_plain(value: Any) -> bytes | None:
    """The pickle of a plain value that is not large; None of any other."""
    kind = type(value)
    if kind in IMMUTABLE:
        return pickle.dumps(value, 5)
    if kind not in _CONTAINERS or len(value) > _MOST_ITEMS:
        return None
    file = io.BytesIO()
    try:
        _PlainPickler(file, 5).dump(value)
    except Exception:  # noqa: BLE001 - cloudpickle tells what is wrong with it
        return None
    return file.getvalue()


def plain_entries(values: Iterable[Any], lead: bytes = b"") -> Pieces | None:
    """The entries of small plain values, each pickled for itself, behind the table of their offsets.

    Parameters
    ----------
    values : iterable
    lead : bytes
        What each entry begins with.

    Returns
    -------
    list of bytes, or None
        None if one of them is not plain, or not small.
    """
    file = io.BytesIO()
    pickler = _PlainPickler(file, 5)
    head = lead + bytes(_ONE_FRAME.size)
    offsets = array.array("Q", [0])
    position = 0
    try:
        for value in values:
            file.write(head)
            pickler.dump(value)
            pickler.clear_memo()  # nothing is shared with the next one
            start, position = position, file.tell()
            if position - start > _MOST_PLAIN:
                return None
            offsets.append(position)
    except Exception:  # noqa: BLE001 - cloudpickle tells what is wrong with it
        return None
    body, size = file.getbuffer(), len(head)
    for start, stop in itertools.pairwise(offsets):
        _ONE_FRAME.pack_into(body, start + len(lead), _PLAIN, stop - start - size)
    return [table_bytes(offsets), body]


def plain_values(entries: Entries, part: range, lead: bytes = b"") -> list[Any] | None:
    """The values of some entries, each a new one; None if one of them is not plain, or does not begin so."""
    body, offsets = entries.whole()
    marks = lead + _ONE_FRAME.pack(_PLAIN, 0)[:2]
    size, load = len(lead) + _ONE_FRAME.size, pickle.loads
    found = []
    for offset in part:
        start, stop = offsets[offset], offsets[offset + 1]
        if body[start : start + len(marks)] != marks:
            return None
        found.append(load(body[start + size : stop]))
    return found


# Frames


class Seen:
    """What was met while an object was pickled."""

    __slots__ = ("files", "imports", "packages")

    def __init__(self) -> None:
        self.files: set[str] = set()
        """Source files of its code."""
        self.imports: set[str] = set()
        """The top names of modules that its code imports."""
        self.packages: set[str] = set()
        """The top names of modules that it takes things from by their names."""


def pickle_frames(obj: Any, *, seen: Seen | None = None) -> Pieces:
    """The pickle of an object, followed by its big buffers."""
    file = io.BytesIO()
    buffers = _pickle_to(file, obj, seen)
    return [file.getvalue(), *buffers]


def pickle_whole(obj: Any, *, loses: bool = False) -> bytes:
    """The pickle of an object, with its big buffers in it; `loses` as for `Pickler`."""
    file = io.BytesIO()
    Pickler(file, loses=loses).dump(obj)
    return file.getvalue()


def pickle_again(obj: Any, known: Sequence[memoryview], *, seen: Seen) -> Pieces | None:
    """The frames of an object; None if they are still those that are known.

    To look at every byte takes a tenth of the time that it takes to copy and to sign them.
    """
    file = _Comparison(known[0])
    buffers = _pickle_to(file, obj, seen)
    if file.is_same and len(buffers) == len(known) - 1 and all(map(are_equal, buffers, known[1:])):
        return None
    return [file.getvalue(), *buffers]


def unpickle_frames(frames: Sequence[memoryview], *, once: bool = False) -> Any:
    """The object of frames; see `Serializer.loads`."""
    pickled, *buffers = frames
    return pickle.loads(pickled, buffers=[(_in_place(b) if once else None) or bytearray(b) for b in buffers])


class Again:
    """An object in frames that is unpickled again and again: each time a new one, with arrays that are its own.

    Large buffers are kept in a file without a name, which each object maps for itself: what it does not write to is in
    memory once, for all of them.
    """

    def __init__(self, frames: Sequence[memoryview]) -> None:
        pickled, *buffers = frames
        self._pickled = bytes(pickled)
        self._mapped = Mapped([buffer for buffer in buffers if len(buffer) >= _MAPPED])
        self._small = [bytes(buffer) if len(buffer) < _MAPPED else None for buffer in buffers]

    def load(self) -> Any:
        large = self._mapped.buffers()
        return pickle.loads(
            self._pickled, buffers=[next(large) if small is None else bytearray(small) for small in self._small]
        )


class AgainFromFile:
    """The same of frames that are in a file, behind `skipped` others: all of it is mapped."""

    def __init__(self, file: MappedFile, skipped: int) -> None:
        self._file, self._skipped = file, skipped

    def load(self) -> Any:
        return unpickle_frames(split_frames(self._file.view())[self._skipped :], once=True)


def _pickle_to(file: io.BytesIO | _Comparison, obj: Any, seen: Seen | None) -> list[memoryview]:
    buffers: list[memoryview] = []

    def is_inside(buffer: pickle.PickleBuffer) -> bool:
        if len(buffers) < _MOST_BUFFERS:
            buffers.append(buffer.raw())
            return False
        return True

    Pickler(file, is_inside, seen).dump(obj)
    return buffers


class _Comparison:
    """A file that a pickle is written to: as long as it is a known one, nothing is kept."""

    def __init__(self, known: memoryview) -> None:
        self._known = known
        self._at = 0
        self._other: io.BytesIO | None = None

    @property
    def is_same(self) -> bool:
        return self._other is None and self._at == len(self._known)

    def write(self, data: bytes) -> None:
        end = self._at + len(data)
        if self._other is None and end <= len(self._known) and bytes(self._known[self._at : end]).startswith(data):
            self._at = end
            return
        self._differ().write(data)

    def getvalue(self) -> bytes:
        return self._differ().getvalue()

    def _differ(self) -> io.BytesIO:
        if self._other is None:
            self._other = io.BytesIO()
            self._other.write(self._known[: self._at])
        return self._other


def _in_place(buffer: memoryview) -> Any:
    """The buffer as an object that is just this part of the record, so that nobody finds the rest by its `obj`.

    None if it is not aligned, cannot be written to, or is a small part that would keep a large whole in memory.
    """
    whole: Any = buffer.obj
    if buffer.readonly or len(buffer) < LARGE_RECORD:
        return None
    if not isinstance(whole, mmap.mmap) and len(buffer) < len(whole) // 8:
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
        seen: Seen | None = None,
        *,
        loses: bool = False,
    ) -> None:
        """`loses` makes it leave out of exceptions what cannot be pickled of them."""
        super().__init__(file, protocol=5, buffer_callback=buffers)
        self._seen = seen
        self._loses = loses
        self._main = _MainGlobals()

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.CodeType:
            # cloudpickle >= 3.1.3 drops the file name; tracebacks need it to find their source.
            if self._seen is not None:
                self._seen.files.add(obj.co_filename)
                self._seen.imports |= _imports_of(obj)
            make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)[:2]
            return _code, (obj.co_filename, make, arguments)
        if kind is types.FunctionType:
            if self._seen is not None:
                self._seen.packages.add(_top_name_of(obj))
            return self._reduce_function(obj)
        if kind is _MainGlobals:
            return _main_globals, (obj.attributes,)
        special = _SPECIAL.get(kind)
        if special is not None:
            return special(obj)
        if kind.__name__ in _GENERATORS and kind.__module__ in _GENERATORS[kind.__name__]:
            return reduce_generator(obj)
        if issubclass(kind, types.ModuleType) and kind is not types.ModuleType and _is_imported(obj):
            return importlib.import_module, (obj.__name__,)
        if kind.__name__.endswith("Context") and (name := _name_in_mpmath(obj)):
            return getattr, (sys.modules["mpmath"], name)
        if issubclass(kind, BaseException):
            return reduce_exception(obj, can_pickle_losing if self._loses else None)
        if issubclass(kind, StaysHere):
            raise pickle.PicklingError("it is this process's own")
        shell = sys.modules.get("IPython.core.interactiveshell")
        if shell is not None and isinstance(obj, shell.InteractiveShell):
            return shell_of_process, ()
        if self._seen is not None:
            self._seen.packages.add(_top_name_of(obj))
        reduced = super().reducer_override(obj)
        if type(reduced) is tuple and len(reduced) == 6:  # a class that is sent by value
            return reduce_class(obj, reduced, is_importable)
        return reduced

    def _reduce_function(self, function: types.FunctionType) -> Any:
        if function.__code__ is _DISPATCHING:
            return _reduce_dispatching(function)
        reduced = super().reducer_override(function)
        main = sys.modules["__main__"].__dict__
        if type(reduced) is not tuple or function.__globals__ is not main:
            return reduced
        make, (code, attributes, *rest), state, _, _, setter = reduced
        self._main.attributes.update(attributes)
        names = named_in(function.__annotations__, main)
        if main.get(function.__name__) is function:
            names[function.__name__] = function
        if reads_pickles([*names_read(function.__code__)], main):
            names = {**_STORED.find(main), **names}
        return make, (code, self._main, *rest), (setter, state, names), None, None, _fill_function


def _size_if_sent(obj: Any) -> int | None:
    try:
        return len(pickle_whole(obj))
    except Exception:  # noqa: BLE001 - it cannot be sent, whatever the reason
        return None


_STORED = StoredNames(_size_if_sent)


def stored_names(names: Collection[str], namespace: dict[str, Any]) -> dict[str, Any]:
    """What pickles may name of a namespace, if code that mentions these names seems to read some."""
    return _STORED.find(namespace) if reads_pickles(names, namespace) else {}


def _top_name_of(obj: Any) -> str:
    """Of the module that an object, or its type, is of."""
    name = obj.__name__ if isinstance(obj, types.ModuleType) else getattr(obj, "__module__", None)
    return name.partition(".")[0] if isinstance(name, str) else ""


class _MainGlobals:
    """Stands for the namespace of `__main__` in a pickle."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        """Of the module: its name, the path of a script."""


def _main_globals(attributes: dict[str, Any]) -> dict[str, Any]:
    scope = entered()
    return dict(attributes) if scope is None else scope.globals(attributes)


def _fill_function(function: types.FunctionType, state: tuple[Callable[..., Any], Any, dict[str, Any]]) -> None:
    """Give a function of `__main__` its attributes; globals that are there already stay as they are."""
    setter, (attributes, slots), names = state
    scope = function.__globals__
    slots["__globals__"] = {name: value for name, value in slots["__globals__"].items() if name not in scope}
    setter(function, (attributes, slots))
    fill(scope, names)


def _code(filename: str, make: Callable[..., types.CodeType], arguments: tuple[Any, ...]) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)


# What cloudpickle would take by the name that `__main__` has for it, or not at all

_caches = weakref.WeakKeyDictionary[Any, str]()
"""Ids of functions with a cache, so that who has such a function gets no second one."""

_cached_here = weakref.WeakValueDictionary[str, Any]()


def _reduce_cached(obj: Any) -> Any:
    if is_importable(obj):
        return NotImplemented
    name = _caches.get(obj)
    if name is None:
        name = _caches[obj] = uuid.uuid4().hex
        _cached_here[name] = obj
    parameters = obj.cache_parameters()
    usual = {"__wrapped__", "__dict__", "cache_parameters", *functools.WRAPPER_ASSIGNMENTS}
    own = {key: value for key, value in vars(obj).items() if key not in usual}
    return _cached, (obj.__wrapped__, parameters["maxsize"], parameters["typed"], name), own or None


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool, name: str) -> Any:
    scope = entered()
    known: Any = (_cached_here if scope is None else scope.caches).get(name)
    if known is None:
        known = functools.lru_cache(maxsize, typed)(function)
        _caches[known] = name
        if scope is None:
            _cached_here[name] = known
        else:
            scope.caches[name] = known
    return known


_DISPATCHING = functools.singledispatch(lambda obj: None).__code__  # type: ignore[attr-defined]
"""The code of all functions that `functools.singledispatch` makes: they hold weak references, which cannot be sent."""


def _reduce_dispatching(function: Any) -> Any:
    if is_importable(function):
        return NotImplemented
    own = {name: value for name, value in vars(function).items() if name not in vars(_dispatching())}
    names = {name: getattr(function, name) for name in functools.WRAPPER_ASSIGNMENTS}
    return _dispatching, (), (dict(function.registry), names, own), None, None, _fill_dispatching


def _dispatching() -> Any:
    return functools.singledispatch(_code)


def _fill_dispatching(function: Any, state: tuple[dict[type, Any], dict[str, Any], dict[str, Any]]) -> None:
    registry, names, own = state
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    function.__wrapped__ = registry[object]
    for name, value in names.items():
        setattr(function, name, value)
    vars(function).update(own)


def _reduce_file(obj: io.TextIOWrapper) -> Any:
    if obj not in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # cloudpickle would send a copy of what it holds, without a word.
        raise pickle.PicklingError("cannot pickle an open file")
    return NotImplemented


def _reduce_cached_property(obj: functools.cached_property[Any]) -> Any:
    # Before Python 3.12 it holds a lock.
    return _cached_property, (obj.func, obj.attrname, obj.__doc__)


def _cached_property(function: Callable[[Any], Any], attribute: str, doc: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    made.attrname, made.__doc__ = attribute, doc
    return made


def _reduce_new_type(obj: Any) -> Any:
    if is_importable(obj):
        return NotImplemented
    return _new_type, (obj.__name__, obj.__supertype__, obj.__module__)


def _new_type(name: str, supertype: Any, module: str) -> Any:
    make: Any = typing.NewType
    made = make(name, supertype)
    made.__module__ = module
    return made


def _reduce_parameters(obj: Any) -> Any:
    if is_importable(obj):
        return NotImplemented
    return _parameters, (type(obj), obj.__name__, obj.__module__)


def _parameters(kind: Any, name: str, module: str) -> Any:
    made = kind(name)
    made.__module__ = module
    return made


_SPECIAL: dict[type, Callable[[Any], Any]] = {
    functools._lru_cache_wrapper: _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    io.TextIOWrapper: _reduce_file,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_parameters,
    typing.TypeVarTuple: _reduce_parameters,
}
"""How objects of these very types are pickled."""


def _is_imported(module: types.ModuleType) -> bool:
    """Whether a module of a type of its own, such as those that import their parts late, is found by its name."""
    return sys.modules.get(module.__name__) is module and not travels_by_value(module.__name__)


def _name_in_mpmath(context: Any) -> str:
    """What mpmath calls its context, which cannot be made again: its precision travels with the settings."""
    mpmath: Any = sys.modules.get("mpmath")
    return next((name for name in ("mp", "fp", "iv") if getattr(mpmath, name, None) is context), "")


_GENERATORS = {
    "Generator": ("numpy.random._generator",),
    "RandomState": ("numpy.random.mtrand",),
    "Random": ("random",),
}
"""Types of random number generators, and their modules."""


def shell_of_process() -> Any:
    """IPython's shell; made where there is none, without a history, and without taking the place of `__main__`."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    if InteractiveShell.initialized():
        return InteractiveShell.instance()
    main = sys.modules["__main__"]
    try:
        # Without the size IPython 8 would wake up a thread that is not there.
        return InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False, "db_cache_size": 10**9}}))
    finally:
        sys.modules["__main__"] = main


def can_pickle(obj: Any) -> bool:
    try:
        Pickler(io.BytesIO(), lambda buffer: None).dump(obj)
    except Exception:  # noqa: BLE001 - any failure is the answer
        return False
    return True


def can_pickle_losing(obj: Any) -> bool:
    """The same, where exceptions may lose what cannot."""
    try:
        Pickler(io.BytesIO(), lambda buffer: None, loses=True).dump(obj)
    except Exception:  # noqa: BLE001 - any failure is the answer
        return False
    return True


def is_importable(obj: Any) -> bool:
    """Whether a worker finds this very object by its module and name."""
    module = getattr(obj, "__module__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) and module != "__main__" else None
    for name in getattr(obj, "__qualname__", obj.__name__).split("."):
        found = getattr(found, name, None)
    return found is obj


def travels_by_value(module: str | None) -> bool:
    """Whether cloudpickle was told to send the module's code along: an edit of it must be seen."""
    told = cloudpickle.list_registry_pickle_by_value()
    if not told or module is None:
        return False
    parts = module.split(".")
    return any(".".join(parts[: n + 1]) in told for n in range(len(parts)))


@functools.lru_cache(1000)
def _imports_of(code: types.CodeType) -> frozenset[str]:
    """The top names of modules that a function's code imports, without those of the standard library."""
    operations = code.co_code[::2]
    if _IMPORT_NAME not in operations:
        return frozenset()
    names = {item.argval.partition(".")[0] for item in dis.get_instructions(code) if item.opcode == _IMPORT_NAME}
    return frozenset(name for name in names if name and name not in sys.stdlib_module_names)


_IMPORT_NAME = dis.opmap["IMPORT_NAME"]


def names_read(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes that a function's code mentions, with those of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_read(constant)
