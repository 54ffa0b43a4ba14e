"""Which part of an object cannot be pickled, in words that help."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.payload.pickling import can_pickle, names_read


def cannot_pickle(what: str, obj: Any, error: Exception) -> errors.CannotPickle:
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
