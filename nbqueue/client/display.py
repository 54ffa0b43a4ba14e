"""How progress is shown: by panels in a notebook, by a `tqdm` bar on a terminal, else by a line now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from nbqueue.client.batch import Batch
    from nbqueue.client.job import Job


Progress = Literal["auto", "bar", False]


class Panels(Protocol):
    """What shows batches in a notebook: notebook/kernel.py, which only a notebook loads."""

    def begin(self, batch: Batch, label: str, expected: int | None) -> None:
        """Show a batch whose first jobs are about to be submitted; `expected` is their number, where it is known."""

    def accept(self, batch: Batch) -> None:
        """All its jobs are submitted."""

    def fail(self, batch: Batch) -> None:
        """Its submission raised."""

    def show(self, batch: Batch) -> None:
        """Show a batch in the cell that runs."""

    def show_job(self, job: Job) -> None:
        """Show a job in the cell that runs."""

    def revive(self, batch: Batch) -> None:
        """Jobs of it run again: its panel goes on."""


class _Shown:
    """Where panels are shown in this process."""

    panels: Panels | None = None


def use(panels: Panels) -> None:
    """Show batches in panels from now on."""
    _Shown.panels = panels


def panels(progress: Progress = "auto") -> Panels | None:
    """What shows batches here; None without a notebook, or where no progress is wanted."""
    return _Shown.panels if progress == "auto" else None
