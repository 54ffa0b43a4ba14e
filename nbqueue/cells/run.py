"""A notebook's cell as a job: what is sent, how a child runs it, what comes back."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from nbqueue import errors
from nbqueue.cells import settings
from nbqueue.cells.messages import Keeper
from nbqueue.cells.value import CellValue
from nbqueue.child import context
from nbqueue.payload.pickling import SERIALIZER
from nbqueue.payload.scope import Scope
from nbqueue.payload.variables import pack_variables, size_of_variable, unpack_variables

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

PRELOAD = f"{__package__}.shell"
"""The module that a child imports early that may have to run a cell."""

_LARGE = 50_000_000
"""Bytes of variables above which it is said which are large."""


def pack_cell(variables: Mapping[str, Any], scope: dict[str, Any], modules: Sequence[ModuleType] = ()) -> bytes:
    """The variables that a cell reads, for `run_cell`, and modules that shall be imported for it.

    Raises
    ------
    CannotPickle
        Names the variable, and what of it cannot be sent.
    TooLarge
    """
    return pack_variables(dict(variables), scope, modules)


def size_in_words(variables: Mapping[str, Any], size: int) -> str:
    """What makes the variables of a cell large; '' if they are not."""
    if size < _LARGE:
        return ""
    sizes = sorted(((size_of_variable(value), name) for name, value in variables.items()), reverse=True)
    large = ", ".join(f"{name} {of / 1e6:,.0f} MB" for of, name in sizes[:3] if of > _LARGE / 10)
    return (
        f"{size / 1e6:,.0f} MB of variables go with the cell ({large}). A cell that reads them from a file needs none"
    )


def pack_settings() -> bytes:
    """The settings of this notebook that go along with a cell, for `run_cell`."""
    return b"".join(SERIALIZER.dumps(settings.collect()))


def run_cell(raw_cell: str, packed: bytes, returns: Sequence[str], number: int, applied: bytes = b"") -> CellValue:
    """Run a cell: what a child calls.

    Parameters
    ----------
    raw_cell : str
    packed : bytes
        Its variables, from `pack`.
    returns : sequence of str
        Variables that come back.
    number : int
        The execution count that is shown.
    applied : bytes
        Settings, from `pack_settings`.
    """
    child = context.running()
    if child is None:
        raise errors.UsageError("run_cell runs in the child of a worker")
    Scope().enter()
    variables, namespace = unpack_variables(packed)
    namespace.update(variables)
    del variables

    def prepare() -> None:
        for problem in settings.apply(SERIALIZER.loads(memoryview(applied))) if applied else ():
            print(f"nbqueue: {problem}", file=sys.stderr)

    result = _cell(child).run(raw_cell, namespace, number=number, prepare=prepare)
    if result.error is not None:
        raise result.error
    found = {name: namespace[name] for name in returns if name in namespace}
    problems = {name: f"the cell did not assign {name!r}" for name in returns if name not in namespace}
    return _pack_value(result.value, found, namespace, problems)


class _Only:
    """The one cell of this process, which IPython's shell belongs to."""

    cell: Any = None
    keeper = Keeper()
    """Of the run that there is."""


def _cell(child: context.Running) -> Any:
    _Only.keeper = Keeper()
    if _Only.cell is None:
        from nbqueue.cells.shell import Cell

        _Only.cell = Cell(
            lambda kind, content: child.show(_Only.keeper.add(kind, content)),
            stop=child.stop, descriptors=child.descriptors, last_words=child.last_words,
        )  # fmt: skip
    return _Only.cell


def _pack_value(
    value: Any, variables: dict[str, Any], namespace: dict[str, Any], problems: dict[str, str]
) -> CellValue:
    """What comes back; what cannot is named, and does not take the rest with it."""
    packed_value = packed = b""
    try:
        packed_value = pack_variables({"value": value}, namespace)
    except errors.PayloadError as error:
        problems[""] = str(error).replace("variable 'value'", "the value of the last expression")
    try:
        packed = pack_variables(variables, namespace)
    except errors.PayloadError:
        good = {}
        for name, one in variables.items():
            try:
                pack_variables({name: one}, namespace)
                good[name] = one
            except errors.PayloadError as error:
                problems[name] = str(error)
        packed = pack_variables(good, namespace)
    return CellValue(packed_value, packed, {name: _coming_back(text) for name, text in problems.items()})


def _coming_back(text: str) -> str:
    return text.replace("cannot be sent to a worker", "cannot come back from the worker")
