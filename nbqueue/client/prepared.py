"""Calls with options of their own, as RQ prepares them: those of one batch have to have the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.client.packing import Call


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call with options; make it with `Queue.prepare_data`."""

    call: Call
    options: dict[str, Any]


def split(calls: Iterable[Any]) -> tuple[Iterable[Any], dict[str, Any]]:
    """Calls without their options, and the options that they have in common.

    Of an iterator the first call tells the options; where another one has others, it raises when it is asked for that.

    Raises
    ------
    UsageError
        The options of two calls differ.
    """
    if isinstance(calls, list | tuple):
        if not any(type(one) is PreparedCall for one in calls):
            return calls, {}
        options = _options_of(calls[0])
        return [_with_options(one, options, index) for index, one in enumerate(calls)], options
    if not isinstance(calls, Iterator):  # it is looked at where all others are
        return calls, {}
    for first in calls:
        options = _options_of(first)
        return _iterated(first, calls, options), options
    return [], {}


def _iterated(first: Any, others: Iterator[Any], options: dict[str, Any]) -> Iterator[Any]:
    yield _with_options(first, options, 0)
    for index, one in enumerate(others, 1):
        yield _with_options(one, options, index)


def _options_of(one: Any) -> dict[str, Any]:
    return one.options if type(one) is PreparedCall else {}


def _with_options(one: Any, options: dict[str, Any], index: int) -> Any:
    if (others := _options_of(one)) != options:
        names = sorted(name for name in others.keys() | options.keys() if others.get(name) != options.get(name))
        raise errors.UsageError(
            f"call {index} has other options than call 0 ({', '.join(names)}), and all calls of a batch have the same: "
            "submit one batch for each, or single calls by enqueue"
        )
    return one.call if type(one) is PreparedCall else one
