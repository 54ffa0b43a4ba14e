"""Exceptions of jobs in words, without our own frames."""

from __future__ import annotations

import traceback
import types

from nbqueue import errors
from nbqueue.payload.outcomes import Failure, pack_exception
from nbqueue.payload.sources import with_labels

AROUND = "_stands_around_user_code"
"""A global of modules whose frames stand around those of user code in tracebacks, and are left out there."""


def _is_around(frames: types.TracebackType) -> bool:
    return AROUND in frames.tb_frame.f_globals


def of_user(frames: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without what is ours at its beginning and, after a stop, at its end."""
    kept: list[types.TracebackType] = []
    while frames is not None:
        if kept or not _is_around(frames):
            kept.append(frames)
        frames = frames.tb_next
    while kept and _is_around(kept[-1]):
        kept.pop()
    found = None
    for frame in reversed(kept):
        found = types.TracebackType(found, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return found


def describe(error: BaseException) -> Failure:
    """An exception in words, and pickled where that can be undone."""
    try:
        text = with_labels("".join(traceback.format_exception(type(error), error, of_user(error.__traceback__))))
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - __str__ and __repr__ are user code too
        text = message = f"{type(error).__qualname__} (it cannot be shown: {type(broken).__name__} in its __str__)"
    module = type(error).__module__
    name = type(error).__qualname__ if module in ("builtins", "__main__") else f"{module}.{type(error).__qualname__}"
    if isinstance(error, errors.NbqueueError):
        name = type(error).__qualname__
    try:
        return Failure(name, message, text, pack_exception(error))
    except Exception as why:  # noqa: BLE001 - the text is kept, and says what happened
        return Failure(name, message, text, None, f"{type(why).__name__}: {why}")
