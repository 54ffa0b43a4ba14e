"""Which part of an object cannot be pickled, in words that help.

The search goes inwards from the object: of its parts, the first that cannot be pickled, of that one's parts again, and
so on. It is bounded, and the same object gives the same words.
"""

from __future__ import annotations

import functools
import itertools
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any

from nbqueue import errors
from nbqueue.payload.pickling import can_pickle, names_read, pickle_frames
from nbqueue.payload.records import size_of

_MOST_PARTS = 500
"""Parts that are looked at."""

_ENDS = 4
"""Parts that are named at either end of a path."""

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
}

_OWN_HINTS = {
    "Queue": "Inside the function, `from nbqueue import q` is the queue",
    "Batch": "Pass its results, or its id and, inside the function, `from nbqueue import q` and `q.batch(id)`",
    "Job": "Pass its result, or its id and, inside the function, `from nbqueue import q` and `q.fetch_job(id)`",
}
"""For objects of this package's own types."""

_OTHERWISE = "Make it inside the function, or pass what it is made from"

_Part = tuple[str, Any]
"""A part of an object: how it is called, and the part."""


def cannot_pickle(what: str, obj: Any, error: Exception) -> errors.CannotPickle:
    """The error that tells which part of an object cannot be sent, and what to do.

    Parameters
    ----------
    what : str
        How the object is called.
    error : Exception
        What pickling it raised.
    """
    path, culprit = _culprit_of(obj)
    message = str(error).strip()
    reason = message.splitlines()[0] if message else type(error).__name__
    holds = " -> ".join((what.removesuffix("()"), *path, _type_name(culprit))) if path else ""
    return errors.CannotPickle(
        f"{what} cannot be sent to a worker: {holds or f'it holds a {_type_name(culprit)}'} ({reason}). "
        f"{_hint_for(culprit)}"
    )


def _type_name(obj: Any) -> str:
    kind = type(obj)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _hint_for(obj: Any) -> str:
    hints = _OWN_HINTS if _is_ours(obj) else _HINTS
    return hints.get(type(obj).__name__, _OTHERWISE)


def _is_ours(obj: Any) -> bool:
    return type(obj).__module__.startswith(f"{errors.__package__}.")


def _culprit_of(obj: Any) -> tuple[list[str], Any]:
    """The path to the innermost part that cannot be pickled, shortened where it is deep, and that part."""
    seen = {id(obj): obj}  # holds the parts, so that none of their ids is used again
    path: list[str] = []
    while part := _first_culprit(_parts_of(obj), seen):
        name, obj = part
        path.append(name.removeprefix("the "))
    if len(path) > 2 * _ENDS + 1:
        path[_ENDS:-_ENDS] = ["..."]
    return path, obj


def _first_culprit(parts: Iterable[_Part], seen: dict[int, Any]) -> _Part | None:
    """The first of the parts that cannot be pickled; None if there is none, or too much was looked at."""
    for name, part in parts:
        if id(part) in seen:
            continue
        if len(seen) > _MOST_PARTS:
            break
        seen[id(part)] = part
        if not can_pickle(part):
            return name, part
    return None


def _parts_of(obj: Any) -> Iterator[_Part]:
    if _is_ours(obj):
        return  # a queue and its jobs: their locks and sockets tell a user nothing
    if isinstance(obj, functools.partial):
        yield "the function", obj.func
        yield from ((f"argument {i}", value) for i, value in enumerate(obj.args))
        yield from ((f"argument {name!r}", value) for name, value in obj.keywords.items())
    elif isinstance(obj, types.MethodType):
        yield "its object", obj.__self__
        yield "its function", obj.__func__
    elif isinstance(obj, types.FunctionType):
        yield from _parts_of_function(obj)
    elif isinstance(obj, dict):
        yield from ((f"item {key!r:.40}", value) for key, value in list(obj.items()))
    elif isinstance(obj, list | tuple):
        yield from ((f"item {i}", value) for i, value in enumerate(list(obj)))
    elif isinstance(obj, set | frozenset):  # whose order differs from process to process
        yield from (("an item", value) for value in sorted(obj, key=_type_name))
    elif isinstance(obj, type):
        yield from ((f"attribute {name!r}", value) for name, value in vars(obj).items() if not name.startswith("__"))
    elif getattr(type(obj), "__reduce_ex__", None) is object.__reduce_ex__ and hasattr(obj, "__dict__"):
        yield from ((f"attribute {name!r}", value) for name, value in vars(obj).items())


def _parts_of_function(function: types.FunctionType) -> Iterator[_Part]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"the variable {name!r}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name in names_read(function.__code__):
        if name in function.__globals__:
            yield f"the global {name!r}", function.__globals__[name]
    yield from ((f"the default of {name!r}", value) for name, value in _defaults_of(function))
    yield from ((f"attribute {name!r}", value) for name, value in vars(function).items())


def _defaults_of(function: types.FunctionType) -> Iterator[_Part]:
    code, defaults = function.__code__, function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=False)
    yield from (function.__kwdefaults__ or {}).items()


def hint_for_unpickling(error: BaseException) -> str:
    """What to do about an error that unpickling raised; '' if there is nothing to be said."""
    if isinstance(error, TypeError) and _WANTS_ARGUMENTS.search(str(error)):
        return (
            "unpickling makes such an object by calling its class without what that wants. Make the object inside the "
            "function, or give its class `__reduce__` or `__getnewargs__`, which tell how it is made"
        )
    return ""


_WANTS_ARGUMENTS = re.compile(r"(__new__|__init__|\w+)\(\) (missing \d+ required|takes)")


def sizes_of_parts(what: str, obj: Any) -> list[tuple[str, int]]:
    """The parts of an object that can be pickled, each by its path, with the bytes that it takes by itself.

    Of a function and of objects with attributes, the inner parts; not of containers.
    """
    return [
        (f"{what} -> {name.removeprefix('the ')}", size_of(pickle_frames(part)))
        for name, part in itertools.islice(_parts_of(obj), _MOST_PARTS)
        if not isinstance(obj, dict | list | tuple | set | frozenset) and can_pickle(part)
    ]
