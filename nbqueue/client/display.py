"""How progress is shown: by panels in a notebook, by a `tqdm` bar on a terminal, else by a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nbqueue import errors

if TYPE_CHECKING:
    from nbqueue.client.batch import Batch
    from nbqueue.client.job import Job
    from nbqueue.store.requests import BatchState


Progress = Literal["auto", "bar", False]


class Panels(Protocol):
    """What shows batches in a notebook: panel.py, which only a notebook loads."""

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


class Lines:
    """A line now and then about a wait that takes long, where there is neither a panel nor a terminal.

    Parameters
    ----------
    progress : {"auto", "bar", False}
        "auto" writes them.
    """

    FIRST, NEXT = 10.0, 30.0
    """Seconds before the first one, and between two."""

    def __init__(self, progress: Progress) -> None:
        is_wanted = progress == "auto" and _Shown.panels is None and not sys.stderr.isatty()
        self._due = time.monotonic() + self.FIRST if is_wanted else float("inf")
        self._said = ""

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def show(self, state: BatchState) -> None:
        """Write the present counts, if they have changed."""
        self._due = time.monotonic() + self.NEXT
        words = f"{state.about.get('label') or 'batch'} ({state.id}): {state.ended:,} of {state.total:,} done"
        words += f", {state.failed:,} failed" if state.failed else ""
        if words != self._said:
            self._said = words
            print(f"nbqueue: {words}", file=sys.stderr, flush=True)


class Bar:
    """The bar of one batch; draws nothing unless it is wanted.

    Parameters
    ----------
    progress : {"auto", "bar", False}
        "auto" draws on a terminal only, "bar" anywhere.
    """

    def __init__(self, progress: Progress) -> None:
        if progress not in ("auto", "bar", False):
            raise errors.UsageError(f"progress={progress!r}: 'auto', 'bar' or False is accepted")
        self.is_wanted = progress == "bar" or (progress == "auto" and sys.stderr.isatty())
        self._tqdm: Any = None

    def show(self, state: BatchState) -> None:
        """Draw the present counts."""
        if not self.is_wanted:
            return
        if self._tqdm is None:
            if state.done:
                return  # nothing to wait for
            from tqdm import tqdm

            self._tqdm = tqdm(
                total=state.total, initial=state.ended, desc=str(state.about.get("label", "")), unit="job",
                dynamic_ncols=True, mininterval=0.1,
            )  # fmt: skip
        self._tqdm.total = state.total
        words = [f"{state.failed} failed"] if state.failed else []
        words += [f"{state.canceled} canceled"] if state.canceled else []
        if words:
            self._tqdm.set_postfix_str(", ".join(words), refresh=False)
        self._tqdm.update(state.ended - self._tqdm.n)

    def close(self) -> None:
        if self._tqdm is not None:
            self._tqdm.refresh()
            self._tqdm.close()
            self._tqdm = None
