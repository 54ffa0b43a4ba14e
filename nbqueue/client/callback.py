"""Functions that are called after a job, where it ran: what users say."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.client.named import function_of
from nbqueue.payload.callbacks import GIVEN, taken
from nbqueue.payload.functions import name_of

_SECONDS = 60.0
"""As in RQ."""


@dataclass(frozen=True, slots=True, init=False)
class Callback:
    """A function that is called after a job, with a time limit of its own: for `on_success=` and the like.

    Parameters
    ----------
    func : callable or str
        Any function, as for `Queue.enqueue`.
    timeout : float or timedelta
        Seconds that it may take; 60 by default.

    Examples
    --------
    >>> q.enqueue(train, 3, on_success=Callback(publish, timeout=300))
    """

    func: Callable[..., Any]
    timeout: float

    def __init__(self, func: Callable[..., Any] | str, timeout: float | datetime.timedelta | None = None) -> None:
        if isinstance(func, type):
            raise errors.WrongType(f"Callback({func!r:.80}): a function is accepted, and no class")
        if isinstance(timeout, datetime.timedelta):
            timeout = timeout.total_seconds()
        if timeout is None:
            timeout = _SECONDS
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not is_number or not 0 < timeout < float("inf"):
            kind = errors.UsageError if is_number else errors.WrongType
            raise kind(f"Callback(timeout={timeout!r}): seconds above 0 are accepted")
        object.__setattr__(self, "func", function_of(func))
        object.__setattr__(self, "timeout", float(timeout))

    @classmethod
    def of(cls, given: Any, which: str) -> Callback:
        """From what an option was given.

        Raises
        ------
        UsageError
            It takes more than there is; a `WrongType` where it cannot be called.
        """
        try:
            callback = given if isinstance(given, Callback) else cls(given)
        except errors.WrongType as error:
            raise errors.WrongType(f"{which}={given!r:.80}: {error}") from None
        if taken(callback.func, which) is None:
            raise errors.UsageError(
                f"{which}={name_of(callback.func)}: it is called with {', '.join(GIVEN[which])}, or those of "
                f"these that it names, and not with {inspect.signature(callback.func)}"
            )
        return callback
