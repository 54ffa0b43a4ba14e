"""What a call would send, and what of it cannot be sent: before it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.client.named import function_of
from nbqueue.payload.explain import cannot_pickle, sizes_of_parts
from nbqueue.payload.functions import name_of
from nbqueue.payload.pickling import can_pickle, pickle_frames
from nbqueue.payload.records import size_of

_SHOWN = 8
"""Parts that are shown."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a call would send."""

    what: str
    """The function's name."""
    size: int
    """Bytes of the function and the arguments, as far as they can be pickled."""
    parts: tuple[tuple[str, int], ...]
    """What of the function and the arguments is largest, and its bytes."""
    problem: str = ""
    """What cannot be sent, and what to do; '' if all can."""

    def __repr__(self) -> str:
        lines = [f"{self.what}(): {_words(self.size)}"]
        lines += [f"    {_words(size):>10}  {name}" for name, size in self.parts[:_SHOWN]]
        return "\n".join([*lines, self.problem] if self.problem else lines)


def explain(function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Explanation:
    """Tell what a call would send to a worker: its biggest parts, and what of it cannot be pickled.

    Nothing is submitted.

    Parameters
    ----------
    function : callable
    *args, **kwargs
        Its arguments.

    Returns
    -------
    Explanation
        Shows itself as text.

    Examples
    --------
    >>> table = list(range(100_000))
    >>> def score(x):
    ...     return table[x]
    >>> found = explain(score, 1)
    >>> found.problem, found.parts[0][0]
    ('', "score -> global 'table'")
    """
    function = function_of(function)
    name = name_of(function)
    whole = [(name, function), *((f"argument {i}", value) for i, value in enumerate(args))]
    whole += [(f"argument {key!r}", value) for key, value in kwargs.items()]
    size, problems = 0, []
    for what, value in whole:
        try:
            size += size_of(pickle_frames(value))
        except Exception as error:  # noqa: BLE001 - is what is told
            called = f"{name}()" if value is function else what
            problems.append(
                str(error if isinstance(error, errors.CannotPickle) else cannot_pickle(called, value, error))
            )
    parts = [part for what, value in whole for part in sizes_of_parts(what, value)]
    parts += [(what, size_of(pickle_frames(value))) for what, value in whole[1:] if can_pickle(value)]
    parts.sort(key=lambda part: -part[1])
    return Explanation(name, size, tuple(parts), "\n".join(problems))


def _words(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"
