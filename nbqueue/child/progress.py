"""How far the running job is: said by the job itself, and taken from the bars of tqdm that it draws."""

from __future__ import annotations

import contextlib
import functools
import math
import time
import types
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from nbqueue.child import context
from nbqueue.child.imports import when_imported

T = TypeVar("T")

_EVERY = 0.05
"""Seconds between two times that `track` says how far it is."""

_TQDM = "tqdm.std"
"""The module whose bars all others are made of."""


def set_progress(done: float, total: float | None = None, text: str | None = None) -> None:
    """Say how far the running job is: shown under its batch's bar, by `job.progress` and by `nbqueue info`.

    It costs some two microseconds, however often it is called. Outside of a job, and in processes that a job has
    started, it does nothing.

    Parameters
    ----------
    done : float
        What is done, in any unit.
    total : float, optional
        What there is to do, in the same unit; by default what was said before, or not known.
    text : str, optional
        What the job does now; by default what was said before.

    Examples
    --------
    >>> import nbqueue
    >>> def train(epochs):
    ...     for epoch in range(epochs):
    ...         nbqueue.set_progress(epoch, epochs, f"epoch {epoch + 1}")
    ...     return "trained"
    >>> train(3)
    'trained'
    """
    running = context.running()
    if running is not None:
        running.progress.say(float(done), None if total is None else float(total), text)


def track(iterable: Iterable[T], total: float | None = None, text: str | None = None) -> Iterator[T]:
    """Iterate, and say how far that is: see `set_progress`. Outside of a job it draws a bar of tqdm.

    Parameters
    ----------
    iterable : iterable
    total : float, optional
        How many items there will be; by default `len(iterable)`, if it has one.
    text : str, optional
        What the job does, in words.

    Yields
    ------
    The items of the iterable.

    Examples
    --------
    >>> import nbqueue
    >>> def work(rows):
    ...     return sum(row for row in nbqueue.track(rows, text="rows"))
    """
    running = context.running()
    if running is None:
        from tqdm import tqdm

        yield from tqdm(iterable, desc=text, total=total)
        return
    if total is None:
        total = _length_of(iterable)
    known, words, clock = math.nan if total is None else float(total), text or "", time.monotonic
    done, due = 0, 0.0
    for item in iterable:
        now = clock()
        if now >= due:
            due = now + _EVERY
            if context.running() is running:  # else this goes on in a fork
                running.progress.say(done, known, words)
        yield item
        done += 1
    if context.running() is running:
        running.progress.say(done, known, words)


def _length_of(iterable: Iterable[Any]) -> float | None:
    try:
        return len(iterable)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - it is the user's code, and may have none
        return None


# tqdm


def follow_tqdm() -> None:
    """From now on, the outermost bar that a job draws is its progress, if it does not tell that itself."""
    when_imported(_TQDM, _follow)


def _follow(module: types.ModuleType) -> None:
    bar: Any = getattr(module, "tqdm", None)
    if bar is None:
        return
    begin, draw, close = bar.__init__, bar.refresh, bar.close

    @functools.wraps(begin)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        _say(self)

    @functools.wraps(draw)
    def refresh(self: Any, *args: Any, **kwargs: Any) -> Any:
        _say(self)
        return draw(self, *args, **kwargs)

    @functools.wraps(close)
    def closed(self: Any) -> Any:
        _say(self)
        return close(self)

    bar.__init__, bar.refresh, bar.close = __init__, refresh, closed


def _say(bar: Any) -> None:
    """What a bar shows is how far the job is, if it is the outermost one."""
    running = context.running()
    if running is None or getattr(bar, "disable", True) or getattr(bar, "pos", 1):
        return
    with contextlib.suppress(Exception):  # its numbers and words are the user's: who only looks breaks no loop
        words = [str(bar.desc or "").rstrip(": "), str(getattr(bar, "postfix", None) or "")]
        total = None if bar.total is None else float(bar.total)
        running.progress.hear(float(bar.n), total, " · ".join(word for word in words if word))
