"""Functions as code that travels, and when one has to be pickled again.

A function is pickled with all it refers to, so that a job computes what its call would have computed here, at the
moment of submission. Whether any of that has changed since is told in one of two ways. If nothing of it can be
changed in place, it is the same as long as its parts are the same objects (`parts_of`). Else it is pickled again, and
the pickle is compared with the last one (`known` of `pack_code`).
"""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.payload.explain import cannot_pickle
from nbqueue.payload.files import Held
from nbqueue.payload.memory import MappedFile
from nbqueue.payload.pickling import IMMUTABLE, Seen, is_importable, names_read, travels_by_value
from nbqueue.payload.records import HEADER, SIGNATURE_SIZE, Blob, digest_of, frame_sizes, size_of, weight_of
from nbqueue.payload.seal import Seal
from nbqueue.payload.sources import Sourced, pack_again, pack_with_sources
from nbqueue.payload.stored_names import reads_pickles

_HASHED = 16 * 2**20
"""Bytes of a body that is looked at as a whole for its digest in any case."""

_BODY = HEADER.size + SIGNATURE_SIZE
"""Where the body of a record starts that names no functions."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Code:
    """A function, packed."""

    record: bytes
    """Signed; any batch of the namespace can use it."""
    name: str
    held: Held | None = field(default=None, compare=False)
    """Keeps the file of its body, if it is in one."""
    plain: int = 0
    """Bytes of its pickle without buffers: what takes time to load."""
    imports: frozenset[str] = frozenset()
    """The top names of modules that are imported inside of it."""
    packages: frozenset[str] = frozenset()
    """The top names of those, and of modules that it takes things from."""

    @property
    def digest(self) -> bytes:
        """What it is stored under: equal functions once, and nobody else's in their place, who has another key."""
        return digest_of(self.record)

    @property
    def size(self) -> int:
        """Bytes of it, wherever they are."""
        return weight_of(self.record)

    @property
    def is_there(self) -> bool:
        """Whether its file has not been removed by hand, if its body is in one."""
        return self.held is None or self.held.is_there()

    def body_if_there(self) -> memoryview | None:
        """What was signed, or put into a file; None if that is not there any more."""
        if self.held is None:
            return memoryview(self.record)[_BODY:]
        try:
            return self.held.view()
        except errors.CorruptPayload:
            return None


def name_of(function: Any) -> str:
    """How a function is called where people read it."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).replace("<locals>.", "")


def pack_code(seal: Seal, function: Any, known: Code | None = None, *, what: str = "") -> Code:
    """Pickle a function, with the source of what it takes from notebooks and scripts; or an argument, which is called
    `what`.

    Parameters
    ----------
    known : Code, optional
        What is given back if the function is still pickled as it was in it, which is much quicker to tell than to sign
        it anew.

    Raises
    ------
    CannotPickle
        Names the global, closure variable or attribute that cannot be pickled.
    ServerFull
        It is kept in a file, and the disk is full.
    """
    name = what or name_of(function)
    called = what or f"{name}()"
    try:
        seen = Seen()
        before = known.body_if_there() if known is not None else None
        body = pack_with_sources(function, seen) if before is None else pack_again(function, before, seen)
    except Exception as error:
        raise cannot_pickle(called, function, error) from error
    if body is None:
        assert known is not None
        return known
    by_samples = size_of(body) > _HASHED and parts_of(function) is None  # else children keep what they have loaded
    record, held = seal.close_stored(b"code", body, by_samples=by_samples)
    plain = frame_sizes(body)[1]  # behind the sources
    return Code(record, name, held, plain, frozenset(seen.imports), frozenset(seen.packages | seen.imports))


class Opened:
    """The verified record of a function, which is loaded from it as often as one wants: a new one each time, with
    arrays of its own.

    Raises
    ------
    SignatureError, CorruptPayload
        See `Seal.open`; or it is the record of another function.
    """

    def __init__(self, seal: Seal, digest: bytes, record: Blob | MappedFile) -> None:
        opened = seal.open_stored(b"code", digest, record, "the stored function is not the one that the call names")
        self.size = weight_of(record)
        self._packed = Sourced(opened)

    def load(self) -> Any:
        """The function; its sources become known to tracebacks."""
        return self._packed.load()


def unpack_code(seal: Seal, digest: bytes, record: Blob) -> Any:
    """The function of a record, once; see `Opened`."""
    return Opened(seal, digest, record).load()


# What a function is made from


def parts_of(function: Any) -> tuple[Any, ...] | None:
    """What the pickle of a function is made from, if none of it can be changed in place; else None.

    As long as these are the same objects, the function need not be pickled again.
    """
    parts: list[Any] = []
    if type(function) is functools.partial and not function.__dict__:  # which what it calls cannot get hold of
        parts += (len(function.args), *function.keywords)
        values = (function.func, *function.args, *function.keywords.values())
        return tuple(parts) if _add_all(values, parts, set()) else None
    return tuple(parts) if callable(function) and _add(function, parts, set()) else None


def is_constant(function: Any) -> bool:
    """Whether no call of a function can leave anything in it that the next call would find."""
    parts = parts_of(function)
    return parts is not None and not any(type(part) is types.CodeType and _may_set(part) for part in parts)


def is_self_contained(function: Any) -> bool:
    """Whether a constant function can be seen to do nothing to the process that runs it: it computes with its
    arguments, its constants, harmless builtins, and other such functions.

    The arguments are values that nobody can change.
    """
    parts = parts_of(function)
    return parts is not None and all(_is_harmless(part) for part in parts)


def _is_harmless(part: Any) -> bool:
    kind = type(part)
    if kind is types.CodeType:
        return _names_harmless(part)
    if kind is types.ModuleType:
        return part.__name__ in _HARMLESS_MODULES
    return (
        kind in IMMUTABLE
        or kind in (tuple, types.GenericAlias, types.UnionType)
        or (kind is types.FunctionType and not is_importable(part))
        or (isinstance(part, type) and part.__module__ == "builtins")
    )


_HARMLESS_MODULES = frozenset({"math", "cmath", "operator", "itertools"})

_HARMLESS = frozenset({
    "abs", "all", "any", "ascii", "bin", "bool", "bytes", "callable", "chr", "complex", "dict", "divmod", "enumerate",
    "filter", "float", "format", "frozenset", "hash", "hex", "id", "int", "isinstance", "issubclass", "iter", "len",
    "list", "map", "max", "min", "next", "oct", "ord", "pow", "print", "range", "repr", "reversed", "round", "set",
    "slice", "sorted", "str", "sum", "tuple", "type", "zip", "True", "False", "None", "Exception", "ValueError",
    "TypeError", "KeyError", "IndexError", "ArithmeticError", "ZeroDivisionError", "RuntimeError", "AssertionError",
    "OverflowError", "StopIteration", "LookupError", "NotImplementedError",
})  # fmt: skip
"""Builtins that leave nothing behind."""

_IMPORTING = frozenset(dis.opmap[name] for name in ("IMPORT_NAME",))


@functools.lru_cache(1000)
def _names_harmless(code: types.CodeType) -> bool:
    if set(code.co_code[::2]) & _IMPORTING:
        return False
    if any(name in _BUILTINS and name not in _HARMLESS for name in code.co_names):
        return False
    return all(_names_harmless(one) for one in code.co_consts if isinstance(one, types.CodeType))


_BUILTINS = frozenset(vars(builtins))

_SETTING = frozenset(dis.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))

_SETTING_FREE = frozenset(dis.opmap[name] for name in ("STORE_DEREF", "DELETE_DEREF"))

_SETTING_BY_NAME = frozenset({"globals", "exec", "eval", "setattr", "delattr", "vars", "__dict__", "__globals__"})


@functools.lru_cache(1000)
def _may_set(code: types.CodeType) -> bool:
    """Whether a function's code, or that of one in it, may set globals, variables of a closure, or attributes."""
    operations = set(code.co_code[::2])
    if operations & _SETTING or (code.co_freevars and operations & _SETTING_FREE):
        return True
    if not _SETTING_BY_NAME.isdisjoint(code.co_names):
        return True
    return any(isinstance(constant, types.CodeType) and _may_set(constant) for constant in code.co_consts)


def _add(value: Any, parts: list[Any], seen: set[int]) -> bool:
    """Add a value to the parts, and what it refers to; False if any of it can be changed in place."""
    parts.append(value)
    kind = type(value)
    if kind in IMMUTABLE:
        return True
    if kind is types.FunctionType:
        return _add_function(value, parts, seen)
    if kind is tuple:
        return _add_all(value, parts, seen)
    if issubclass(kind, types.ModuleType):
        name = value.__name__
        return sys.modules.get(name) is value and not travels_by_value(name)
    if kind is types.BuiltinFunctionType or isinstance(value, type):
        is_found = is_importable(value) or value is types.NoneType  # which is not in `builtins`
        return is_found and not travels_by_value(value.__module__)
    if kind is types.GenericAlias or kind is types.UnionType:  # annotations such as list[int] and int | None
        return _add_all((getattr(value, "__origin__", None), *value.__args__), parts, seen)
    return False


def _add_all(values: Iterable[Any], parts: list[Any], seen: set[int]) -> bool:
    return all(_add(value, parts, seen) for value in values)


def _add_function(function: types.FunctionType, parts: list[Any], seen: set[int]) -> bool:
    """Add what is sent of a function: its code, its names, and the values that they stand for. Of one that workers
    find by its name, nothing is."""
    if id(function) in seen:
        return True
    if function.__module__ != "__main__" and is_importable(function):
        return not travels_by_value(function.__module__)
    seen.add(id(function))
    if function.__dict__:
        return False
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        annotations = function.__annotations__
    except Exception:  # noqa: BLE001 - an empty cell; since Python 3.14 annotations are user code
        return False
    code, scope = function.__code__, function.__globals__
    if reads_pickles(_names(code), scope):
        return False  # with it goes what may be defined anew
    names = [name for name in _names(code) if name in scope]
    values = [*(scope[name] for name in names), *cells, *(function.__defaults__ or ()), function.__doc__]
    parts += (code, function.__name__, function.__qualname__, function.__module__, *names, len(cells), len(values))
    for named in (function.__kwdefaults__, annotations):
        parts += (len(named), *named) if named else (0,)
        values += named.values() if named else ()
    return _add_all(values, parts, seen)


@functools.lru_cache(1000)
def _names(code: types.CodeType) -> tuple[str, ...]:
    return tuple(sorted(set(names_read(code))))
