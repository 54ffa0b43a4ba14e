"""The notebook of this kernel: its panels, and the variables that cells in the background bring.

Where nobody is at the keyboard (nbclient, papermill, nbconvert) a cell waits at its end for what it submitted.
"""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable
from typing import Any

from IPython.core.getipython import get_ipython

from nbqueue import errors
from nbqueue.client import hooks
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob, job_of
from nbqueue.client.handle import Handle
from nbqueue.client.here import BatchHere
from nbqueue.client.job import Job
from nbqueue.client.job_here import JobHere
from nbqueue.notebook import formatters, front_end
from nbqueue.notebook.arriving import PROMISES, Promise
from nbqueue.notebook.between import Between
from nbqueue.notebook.markup import job as job_markup
from nbqueue.notebook.panels.batch import BatchContent
from nbqueue.notebook.panels.cell import CellContent
from nbqueue.notebook.panels.display import C, Display, show
from nbqueue.notebook.panels.job import JobContent
from nbqueue.notebook.panels.outputs import Outputs
from nbqueue.notebook.panels.refresher import Refresher

_MOST = 20
"""Panels that the submissions of one cell open."""

_REMEMBERED = 1000
"""Panels of which it is known which cell shows them."""


class Notebook:
    """All that this kernel's process keeps of nbqueue: there is one, `NOTEBOOK`."""

    def __init__(self) -> None:
        self.promises = PROMISES
        self.between: Between | None = None
        """Binds what comes when no cell runs, once `%load_ext nbqueue` has been run."""
        self._refresher = Refresher()
        self._panels: list[Display[Any]] = []
        self._of_batches: weakref.WeakValueDictionary[str, Display[Any]] = weakref.WeakValueDictionary()
        """The newest panel of a batch, or of the cell that it is."""
        self._submitting: dict[str, Display[BatchContent]] = {}
        self._full = ""
        """The cell that has as many panels as it may have."""

    # Hooks: what batches and jobs ask for, see client/hooks.py

    def begin(self, batch: Handle, label: str, expected: int | None) -> None:
        """Show a batch whose first jobs are about to be submitted."""
        cell = front_end.execution()
        if sum(panel.cell == cell for panel in self._panels[-_MOST:]) < _MOST:
            self._submitting[batch.id] = self._open_batch(batch, label, expected)
        elif self._full != cell:
            self._full = cell
            print(f"nbqueue: {_MOST} panels are enough for a cell; `q` shows all batches, progress=False shows none")

    def accept(self, batch: Handle) -> None:
        """All its jobs are submitted."""
        panel = self._submitting.pop(batch.id, None)
        if panel is not None:
            panel.content.accept()

    def fail(self, batch: Handle) -> None:
        """Its submission raised."""
        panel = self._submitting.pop(batch.id, None)
        if panel is not None:
            panel.content.fail()
            try:
                panel.refresh(None, None)
            except errors.ServerError as error:
                panel.unreachable(error)

    def show(self, batch: Handle) -> None:
        """Show a batch in the cell that runs."""
        state = batch.state
        if state.description.cell is not None:
            self.show_cell(CellJob(batch, 0))
            return
        self._open_batch(batch, state.description.label, None if state.is_submitting else state.total)

    def revive(self, batch: Handle) -> None:
        """Jobs of it run again."""
        panel = self._of_batches.get(batch.id)
        if panel is not None:
            panel.revive()
            self._refresher.follow(panel)

    def show_job(self, batch: Handle, index: int) -> None:
        """Show a job in the cell that runs."""
        job = job_of(batch, index)
        if isinstance(job, CellJob):
            self.show_cell(job)
            return
        panel = self._panel(JobContent(job))
        self._open(panel)
        if not panel.is_live:
            panel.content.show_displayed()
            panel.content.show_value()

    def show_cell(self, job: CellJob, brings: tuple[str, ...] = ()) -> Callable[[Promise], None]:
        """Show a cell that runs in the background in the cell that runs here.

        Parameters
        ----------
        job : CellJob
        brings : tuple of str
            Variables that come into the notebook at its end.

        Returns
        -------
        callable
            To be called when they are bound.
        """
        label = job.batch.label or "cell"
        later = f"q.fetch_job({job.id!r}).show()"
        caption = {"text/html": job_markup.caption(label, later), "text/plain": f"{label}: {later}"}
        outputs = Outputs(job, get_ipython(), caption)
        content = CellContent(job, label, outputs, brings)
        panel = Display(
            content, self._refresher, cell=front_end.execution(), is_headless=not front_end.draws_widgets(),
            below=outputs,
        )  # fmt: skip
        self._of_batches[job.batch.id] = panel
        self._open(panel)

        def arrived(promise: Promise) -> None:
            content.arrive(promise)
            panel.rewrite()

        return arrived

    # The last expression of a cell

    def display_batch(self, batch: Batch) -> None:
        """Show a batch, which a cell shows once at most."""
        if isinstance(batch, BatchHere):
            batch.show()
            return
        panel = self._of_batches.get(batch.id)
        if panel is None or panel.cell != front_end.execution():
            self.show(batch)

    def display_job(self, job: Job) -> None:
        """Show a job, which a cell shows once at most."""
        if isinstance(job, JobHere):
            job.show()
            return
        cell = front_end.execution()
        if not any(panel.cell == cell and panel.content.id == job.id for panel in self._panels[-_MOST:]):
            self.show_job(job.batch, job.index)

    # Cells

    def wait_for_cell(self, *_: object) -> None:
        """At the end of a cell that nobody watches: wait for what it submitted."""
        if front_end.is_headless():
            self.finish_cell()

    def finish_cell(self) -> None:
        """Wait until the panels of the cell that runs show how it ended, with all that it put out."""
        cell = front_end.execution()
        panels = [panel for panel in self._panels if panel.cell == cell]
        told = False
        while live := [panel for panel in panels if panel.is_live]:
            self._refresher.wake()
            time.sleep(0.05)
            problems = {str(panel.content.problem) for panel in live if panel.content.problem is not None}
            if problems and not told:
                told = True
                print("; ".join(sorted(problems)))

    def leave(self) -> None:
        """The kernel ends."""
        self._refresher.leave()

    # Panels

    def _open_batch(self, batch: Handle, label: str, expected: int | None) -> Display[BatchContent]:
        panel = self._panel(BatchContent(Batch(batch.session, batch.id), label, expected))
        self._of_batches[batch.id] = panel
        show(panel.content.caption(), raw=True)
        self._open(panel)
        return panel

    def _panel(self, content: C) -> Display[C]:
        return Display(content, self._refresher, cell=front_end.execution(), is_headless=not front_end.draws_widgets())

    def _open(self, panel: Display[Any]) -> None:
        self._panels.append(panel)
        del self._panels[:-_REMEMBERED]
        panel.open()
        if panel.is_live:
            self._refresher.follow(panel)


NOTEBOOK = Notebook()


def current() -> Notebook | None:
    """The notebook in which panels are shown; None in a terminal."""
    return NOTEBOOK if hooks.display() is NOTEBOOK else None


def install() -> None:
    """Show batches, jobs and queues in this kernel's notebook from now on; without a kernel it does nothing."""
    shell: Any = get_ipython()
    if shell is None or not hasattr(shell, "kernel") or hooks.display() is not None:
        return
    hooks.use(NOTEBOOK)
    shell.events.register("post_run_cell", NOTEBOOK.wait_for_cell)
    atexit.register(NOTEBOOK.leave)
    rich = shell.display_formatter.ipython_display_formatter
    rich.for_type(Batch, NOTEBOOK.display_batch)
    rich.for_type(Job, NOTEBOOK.display_job)
    formatters.install(shell)
