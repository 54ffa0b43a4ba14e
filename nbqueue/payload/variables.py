"""Variables of a notebook by their names, several in one pickle: what a cell reads, and what comes back of it."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from nbqueue.payload.explain import cannot_pickle
from nbqueue.payload.pickling import can_pickle, pickle_frames
from nbqueue.payload.records import size_of
from nbqueue.payload.sources import pack_with_sources, unpack_with_sources


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
    carrier = types.FunctionType(_nothing.__code__, {"__name__": "__main__"} if scope is None else scope, "scope")
    carrier.__module__ = "__main__"
    try:
        packed = pack_with_sources((carrier, variables, list(modules)))
    except Exception as error:
        for name, value in variables.items():
            if not can_pickle(value):
                raise cannot_pickle(f"variable {name!r}", value, error) from error
        raise cannot_pickle("the variables", variables, error) from error
    return b"".join(packed)


def _nothing() -> None:
    """Its code makes the function that carries the namespace along."""


def unpack_variables(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables, and the namespace that functions among them have as their globals."""
    carrier, variables, _ = unpack_with_sources(memoryview(data))
    return variables, carrier.__globals__


def size_of_variable(value: Any) -> int:
    """Bytes of its pickle."""
    return size_of(pickle_frames(value))
