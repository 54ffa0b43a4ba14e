"""Exceptions that come back as themselves, whatever their constructors want.

An exception is pickled as the call of its class with `args`, which are what it has handed on to `Exception`: with other
parameters, the constructor refuses them, or makes something else of them. Here the constructor is not called. What an
exception is, beside the part that the builtin class makes of `args`, are its attributes, its causes and its notes.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any


def reduce_exception(error: BaseException, can_pickle: Callable[[Any], bool] | None) -> Any:
    """How an exception is pickled; NotImplemented if its class says how by itself.

    Parameters
    ----------
    can_pickle : callable, optional
        Attributes of which it says False are left out, and named in a note.
    """
    kind = type(error)
    own = [_defined_by(kind, name) for name in ("__reduce__", "__reduce_ex__", "__setstate__")]
    if can_pickle is None and any(base.__module__ != "builtins" for base in own):
        return NotImplemented
    base = next(one for one in kind.__mro__ if one.__module__ == "builtins")
    reduce: Any = base.__reduce__
    reduced = reduce(error)
    args, attributes = reduced[1], dict(error.__dict__)
    members = {**dict(_of_slots(error)), **_of_builtin(error, base)}
    if can_pickle is not None:
        args = _without(args, attributes, members, can_pickle)
    causes = error.__cause__, error.__context__, error.__suppress_context__
    return _make, (kind, base, args), (attributes, members, *causes), None, None, _fill


def _defined_by(kind: type, name: str) -> type:
    return next(base for base in kind.__mro__ if name in vars(base))


def _of_slots(error: BaseException) -> Iterator[tuple[str, Any]]:
    for base in type(error).__mro__:
        if base.__module__ == "builtins":
            continue
        for name, member in vars(base).items():
            if type(member) is types.MemberDescriptorType:
                try:
                    yield name, member.__get__(error)
                except AttributeError:  # it has no value
                    continue


def _of_builtin(error: BaseException, base: type) -> dict[str, Any]:
    """What builtin exceptions keep outside of `args`; not `obj`, which can be anything, and large."""
    found = {}
    for name in ("name", "path", "name_from"):
        if type(getattr(base, name, None)) is types.MemberDescriptorType and getattr(error, name) is not None:
            found[name] = getattr(error, name)
    return found


def _without(
    args: tuple[Any, ...], attributes: dict[str, Any], members: dict[str, Any], can_pickle: Callable[[Any], bool]
) -> tuple[Any, ...]:
    """The arguments, and in place the attributes, without what cannot be pickled; a note names it."""
    lost = []
    for kept in (attributes, members):
        for name, value in kept.items():
            if not can_pickle(value):
                kept[name] = None
                lost.append(name)
    kept_args = tuple(value if can_pickle(value) else f"<{type(value).__name__}>" for value in args)
    lost += [f"args[{i}]" for i, (value, kept) in enumerate(zip(args, kept_args, strict=True)) if value is not kept]
    if lost:
        notes = attributes.get("__notes__") or []
        text = f"nbqueue: what cannot be pickled of it stayed in the job: {', '.join(sorted(lost))}"
        attributes["__notes__"] = [*notes, text]
    return kept_args


def _make(kind: type[BaseException], base: Any, args: tuple[Any, ...]) -> BaseException:
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    if not isinstance(error, OSError):  # which takes the names of files out of them
        error.args = args
    return error


def _fill(error: BaseException, state: tuple[dict[str, Any], dict[str, Any], Any, Any, bool]) -> None:
    attributes, members, cause, context, is_suppressed = state
    error.__dict__.update(attributes)
    for name, value in members.items():
        object.__setattr__(error, name, value)
    error.__cause__, error.__context__, error.__suppress_context__ = cause, context, is_suppressed
