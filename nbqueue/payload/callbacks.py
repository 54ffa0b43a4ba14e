"""Functions that are called after a job: with what, and which of it they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

ON_SUCCESS, ON_FAILURE, ON_STOPPED = "on_success", "on_failure", "on_stopped"
"""The names of the options."""

GIVEN = {
    ON_SUCCESS: ("job", "connection", "result"),
    ON_FAILURE: ("job", "connection", "type", "value", "traceback"),
    ON_STOPPED: ("job", "connection"),
}
"""What they are given, by the name of the option, in RQ's order."""


def taken(function: Callable[..., Any], which: str) -> tuple[str, ...] | None:
    """What of it a function takes: all, or where it has fewer parameters, those that it names, else the first ones.

    Returns
    -------
    tuple of str or None
        None if it wants more than there is.
    """
    given = GIVEN[which]
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # not known, as for some builtins
        return given
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = sum(1 for one in places if one.default is one.empty)
    if needed > len(given) or any(one.kind == one.KEYWORD_ONLY and one.default is one.empty for one in parameters):
        return None
    if len(places) >= len(given) or any(one.kind == one.VAR_POSITIONAL for one in parameters):
        return given
    names = tuple(one.name for one in places)
    return names if set(names) <= set(given) else given[: len(places)]
