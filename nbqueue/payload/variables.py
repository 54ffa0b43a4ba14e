"""Variables of a notebook, several in one pickle."""

from __future__ import annotations

import io
import linecache
import pickle
import types
from collections.abc import Sequence
from typing import Any

from nbqueue.payload.explain import cannot_pickle
from nbqueue.payload.pickling import Pickler, can_pickle, loads
from nbqueue.payload.records import check_size, size_of, split_frames, with_sizes
from nbqueue.payload.sources import learn_sources


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
    pickler = Pickler(file, buffers.append)
    marker = types.FunctionType(_nothing.__code__, {"__name__": "__main__"} if scope is None else scope, "scope")
    marker.__module__ = "__main__"
    try:
        pickler.dump((marker, variables, list(modules)))
    except Exception as error:
        for name, value in variables.items():
            if not can_pickle(value):
                raise cannot_pickle(f"variable {name!r}", value, error) from error
        raise cannot_pickle("the variables", variables, error) from error
    pickled = with_sizes([file.getvalue(), *(buffer.raw() for buffer in buffers)])
    sources = {name: "".join(linecache.getlines(name)) for name in sorted(pickler.files)}
    check_size("the variables", size_of(pickled))
    return b"".join(with_sizes([pickle.dumps(sources, 5), b"".join(pickled)]))


def _nothing() -> None:
    """Its code makes the function that carries the namespace along."""


def unpack_variables(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables, and the namespace that functions among them have as their globals."""
    sources, pickled = split_frames(memoryview(data))
    learn_sources(sources)
    marker, variables, _ = loads(pickled)
    return variables, marker.__globals__
