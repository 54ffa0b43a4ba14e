"""A job, or a cell in the background: one line."""

from __future__ import annotations

from collections.abc import Iterable

from nbqueue.notebook.markup.parts import SMALL, code, ends, esc, frame, glyph, job_bar, notice, pre, small, wrong
from nbqueue.view.shown import JobShown
from nbqueue.view.words import time_of_day


def caption(label: str, later: str) -> str:
    """The line above a cell's panel; `later` is the code that draws it again."""
    return small(f"{esc(label)} · later: {code(later)}")


def line(shown: JobShown) -> str:
    """One job while it is live, and how it ended: what widgets show."""
    if shown.status == "gone":
        return _gone(shown)
    if shown.is_live:
        return _line(shown, [f"job {shown.id}"])
    return f"<div>{_end(shown)}</div>"


def progress(shown: JobShown) -> str:
    """How far it is, while it runs and says so."""
    return job_bar(shown.running) if shown.is_live and shown.running is not None else ""


def framed(shown: JobShown) -> str:
    """The same, as the saved notebook keeps it."""
    if shown.status == "gone":
        return _gone(shown)
    return frame(_line(shown, [f"job {shown.id}"]) if shown.is_live else _end(shown), "4px 12px 4px 12px")


def plain(shown: JobShown) -> str:
    """The same in a line of text."""
    return f"{shown.label}: {shown.words} (job {shown.id})"


def _gone(shown: JobShown) -> str:
    return notice(f"{esc(shown.label)}: job {shown.id} {shown.words}")


def _end(shown: JobShown) -> str:
    right = [f"job {shown.id}"]
    if shown.ended_at is not None:
        right.append(time_of_day(shown.ended_at))
    below = "".join(wrong(problem) for problem in shown.problems)
    return _line(shown, right) + below + (pre(shown.traceback) if shown.traceback else "")


def _line(shown: JobShown, right: Iterable[str]) -> str:
    left = f"{glyph(shown.state)} <b>{esc(shown.label)}</b> · {esc(shown.words)}"
    return ends(left, f'<span style="{SMALL}">{esc(" · ".join(right))}</span>')
