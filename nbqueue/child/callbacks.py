"""What is called after a job: its callback, in the process that ran it, as a part of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

from nbqueue import errors
from nbqueue.child.tracebacks import describe, of_user
from nbqueue.payload.callbacks import GIVEN, taken
from nbqueue.payload.outcomes import Failure, Outcomes
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal
from nbqueue.store.keys import IN_WORDS

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""


def call_back(function: Callable[..., Any], which: str, values: tuple[Any, ...]) -> Any:
    """Call a function with what of the values it takes."""
    given, names = dict(zip(GIVEN[which], values, strict=True)), taken(function, which)
    return function(*(given[name] for name in (GIVEN[which] if names is None else names)))


def ended_as(seal: Seal, batch: str, index: int, record: Blob) -> tuple[float, Failure, BaseException]:
    """How long a job ran that has failed in another process, how that is told, and the error."""
    seconds = 0.0
    try:
        if bytes(record[:1]) == IN_WORDS:
            words = json.loads(bytes(record[1:]))
            failure = Failure(words["type"], words["message"], words["message"])
        else:
            outcomes = Outcomes(seal, batch, index, record)
            seconds, failure = outcomes.duration(index), outcomes.failure()
    except Exception as broken:  # noqa: BLE001 - of what is no record of ours, that is told
        return 0.0, describe(broken), broken
    error = failure.exception()
    if not isinstance(error, str):
        return seconds, failure, error
    kind = {kind.__name__: kind for kind in (errors.JobTimeout, errors.JobKilled)}.get(failure.type, errors.JobError)
    own = kind(f"job {batch}:{index}: {failure.message}")
    own.job_id = f"{batch}:{index}"
    return seconds, failure, own


def problem_of(error: BaseException, which: str, values: tuple[Any, ...]) -> str:
    """How a callback failed that was called with these values, in words."""
    _forget_context(error, values)
    try:
        text = "".join(traceback.format_exception(type(error), error, of_user(error.__traceback__)))
    except Exception as broken:  # noqa: BLE001 - __str__ is user code too
        text = f"{type(error).__qualname__} (it cannot be shown: {type(broken).__name__} in its __str__)\n"
    return f"{which}: {text}"


def _forget_context(error: BaseException, values: tuple[Any, ...]) -> None:
    """The error of the job, while which was handled it was called back, is told by the job."""
    seen: list[BaseException] = []
    while error.__context__ is not None and error not in seen:
        seen.append(error)
        if any(error.__context__ is value for value in values):
            error.__context__ = None
            return
        error = error.__context__
