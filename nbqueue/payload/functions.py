"""Functions as code that travels, and when one has to be pickled again."""

from __future__ import annotations

import functools
import io
import linecache
import pickle
import sys
import types
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.payload.explain import cannot_pickle
from nbqueue.payload.pickling import IMMUTABLE, Pickler, is_importable, loads, names_read, travels_by_value
from nbqueue.payload.records import SEPARATE, check_size, split_frames, with_sizes
from nbqueue.payload.seal import Seal
from nbqueue.payload.sources import learn_sources


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
    pickler = Pickler(file, buffers.append)
    try:
        pickler.dump(function)
    except Exception as error:
        raise cannot_pickle(f"{name_of(function)}()", function, error) from error
    pickled = b"".join(with_sizes([file.getvalue(), *(buffer.raw() for buffer in buffers)]))
    sources = {name: "".join(linecache.getlines(name)) for name in sorted(pickler.files)}
    digest = seal.digest(pickled)
    body = b"".join(with_sizes([pickle.dumps(sources, 5), pickled]))
    check_size(f"the function {name_of(function)}()", len(body))
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
        return sys.modules.get(name) is value and not travels_by_value(name)
    if kind is tuple:
        return all(_gather(item, parts, seen) for item in value)
    if kind in (types.GenericAlias, types.UnionType):  # annotations such as list[int] and int | None
        origin = getattr(value, "__origin__", None)
        return all(_gather(part, parts, seen) for part in (origin, *value.__args__))
    if kind is types.BuiltinFunctionType or isinstance(value, type):
        return is_importable(value) and not travels_by_value(value.__module__)
    if kind is not types.FunctionType:
        return False
    if id(value) in seen or (value.__module__ != "__main__" and is_importable(value)):
        return not travels_by_value(value.__module__)
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


@functools.lru_cache(1000)
def _names(code: types.CodeType) -> tuple[str, ...]:
    return tuple(sorted(set(names_read(code))))


def unpack_code(seal: Seal, digest: bytes, record: bytes) -> Any:
    """The function of a signed record; its sources become known to tracebacks."""
    opened = seal.open(b"code", "", 0, record)
    if opened.digests != [digest]:
        raise errors.SignatureError("the stored function is not the one that the call names")
    sources, pickled = split_frames(opened.body)
    learn_sources(sources)
    return loads(pickled)
