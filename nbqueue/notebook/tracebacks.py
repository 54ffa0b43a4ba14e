"""Tracebacks in cells: what a job raised looks as if the cell had raised it, without our own frames at its end.

IPython leaves out frames that say `__tracebackhide__`, but not the last one. `%debug` finds all of them.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from typing import Any

from nbqueue import errors

_OURS = "nbqueue."
_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - of each frame it is asked


def install(shell: Any) -> None:
    """Show tracebacks so from now on."""
    painter = shell.InteractiveTB
    paint = painter.structured_traceback
    if hasattr(paint, "__wrapped__"):
        return

    @functools.wraps(paint)
    def structured_traceback(
        etype: Any = None, evalue: Any = None, etb: types.TracebackType | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if etype is None and evalue is None and etb is None:  # as IPython itself does it
            etype, evalue, etb = sys.exc_info()
        return paint(etype, evalue, without_ours(evalue, etb), *args, **kwargs)

    painter.structured_traceback = structured_traceback


def without_ours(error: BaseException | None, frames: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without what is ours at its end: all of it, and what it has called of the standard library, where the
    error is one of ours, which says in words what is to be done, or the user's interrupt; else what is to be hidden.

    Examples
    --------
    >>> try:
    ...     1 / 0
    ... except ZeroDivisionError as error:
    ...     print(without_ours(error, error.__traceback__) is error.__traceback__)
    True
    """
    found: list[types.TracebackType] = []
    frame = frames
    while frame is not None:
        found.append(frame)
        frame = frame.tb_next
    is_told = isinstance(error, errors.NbqueueError | KeyboardInterrupt)
    end = len(found)
    for place in range(len(found) - 1, 0, -1):
        if _is_ours(found[place].tb_frame, is_told=is_told):
            end = place
        elif not (is_told and _is_of_library(found[place].tb_frame)):
            break
    if end == len(found):
        return frames
    kept: types.TracebackType | None = None
    for one in reversed(found[:end]):
        kept = types.TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return kept


def _is_ours(frame: types.FrameType, *, is_told: bool) -> bool:
    is_hidden = is_told or bool(frame.f_locals.get("__tracebackhide__"))
    return is_hidden and str(frame.f_globals.get("__name__", "")).startswith(_OURS)


def _is_of_library(frame: types.FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith((_LIBRARY, "<frozen ")) and "site-packages" not in file
