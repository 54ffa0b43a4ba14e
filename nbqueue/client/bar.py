"""Progress without a notebook: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from nbqueue import errors
from nbqueue.client import hooks
from nbqueue.client.handle import Progress
from nbqueue.store.requests.looking import BatchState


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
        is_wanted = progress == "auto" and hooks.display() is None and not sys.stderr.isatty()
        self._due = time.monotonic() + self.FIRST if is_wanted else float("inf")
        self._said = ""

    @property
    def is_due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() >= self._due

    def show(self, state: BatchState) -> None:
        """Write the present counts, if they have changed."""
        self._due = time.monotonic() + self.NEXT
        words = f"{state.description.label or 'batch'} ({state.id}): {state.ended:,} of {state.total:,} done"
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
                total=state.total, initial=state.ended, desc=state.description.label, unit="job",
                dynamic_ncols=True, mininterval=0.1,
            )  # fmt: skip
        self._tqdm.total = state.total
        words = [f"{state.failed} failed"] if state.failed else []
        words += [f"{state.canceled} canceled"] if state.canceled else []
        if words:
            self._tqdm.set_postfix_str(", ".join(words), refresh=False)
        self._tqdm.update(state.ended - self._tqdm.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._tqdm is not None:
            self._tqdm.refresh()
            self._tqdm.close()
            self._tqdm = None
