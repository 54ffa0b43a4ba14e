"""The hooks through which a notebook shows batches and jobs, and who has taken them in this process.

A notebook takes them when nbqueue is first used in its kernel. Elsewhere nobody has, and `bar.py` draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nbqueue.client.handle import Handle, Progress


class Display(Protocol):
    """Shows batches and jobs."""

    def begin(self, batch: Handle, label: str, expected: int | None) -> None:
        """Show a batch whose first jobs are about to be submitted; `expected` is their number, where it is known."""

    def accept(self, batch: Handle) -> None:
        """All its jobs are submitted."""

    def fail(self, batch: Handle) -> None:
        """Its submission raised."""

    def revive(self, batch: Handle) -> None:
        """Jobs of it run again: what shows it goes on."""

    def show(self, batch: Handle) -> None:
        """Show a batch in the cell that runs."""

    def show_job(self, batch: Handle, index: int) -> None:
        """Show a job in the cell that runs."""


class _Taken:
    """The hooks that a notebook has taken."""

    display: Display | None = None
    waited_for: Callable[[str], None] | None = None


def use(display: Display) -> None:
    """Have batches shown from now on."""
    _Taken.display = display


def display(progress: Progress = "auto") -> Display | None:
    """The display of batches here; None without a notebook, or where no progress is wanted."""
    return _Taken.display if progress == "auto" else None


def when_waited_for(act: Callable[[str], None]) -> None:
    """Be told the id of each job that somebody has waited for, in the thread that did."""
    _Taken.waited_for = act


def waited_for(job_id: str) -> None:
    """Somebody has waited for a job, which has ended."""
    if _Taken.waited_for is not None:
        _Taken.waited_for(job_id)
