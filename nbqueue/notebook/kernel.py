"""The notebook of this kernel: its panels and the thread that refreshes them, and how other objects are shown.

Where nobody is at the keyboard (nbclient, papermill, nbconvert) a cell waits at its end for what it submitted.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
import weakref
from typing import Any

from IPython.core.getipython import get_ipython

from nbqueue import errors, machine
from nbqueue.client import hooks
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob, job_of
from nbqueue.client.fleet import Workers
from nbqueue.client.handle import Handle
from nbqueue.client.job import Job
from nbqueue.client.queues import Queue
from nbqueue.notebook import markup
from nbqueue.notebook.panels.batch import Panel
from nbqueue.notebook.panels.cell import CellPanel
from nbqueue.notebook.panels.job import JobPanel
from nbqueue.notebook.widgets import Closable
from nbqueue.view.seen import RECENT, WorkerSeen, look, see, see_worker
from nbqueue.view.snapshot import workers_of
from nbqueue.view.words import many, number

log = logging.getLogger("nbqueue.panel")

_INTERVAL = 0.25
"""Seconds between two looks at what is live."""

_MOST = 20
"""Panels that the submissions of one cell open."""

_KEPT = 100
"""Ended panels whose widgets stay: a page that is loaded anew, and was not saved, still shows them."""


class Notebook:
    """All panels of this kernel, and the thread that refreshes those that are live."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: list[Panel | JobPanel] = []
        self._latest: weakref.WeakValueDictionary[str, Panel | CellPanel] = weakref.WeakValueDictionary()
        self._all: list[Panel | JobPanel] = []
        self._kept: list[Closable] = []
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._full = ""
        """The cell that has as many panels as it may have."""

    # What nbqueue.client.hooks ask for

    def begin(self, batch: Handle, label: str, expected: int | None) -> None:
        cell = _cell()
        shown = sum(panel.cell == cell for panel in self._all[-_MOST:])
        if shown < _MOST:
            self._open(Panel(self, _whole(batch), label, expected, cell=cell, is_headless=not _draws_widgets()))
        elif self._full != cell:
            self._full = cell
            print(f"nbqueue: {_MOST} panels are enough for a cell; `q` shows all batches, progress=False shows none")

    def accept(self, batch: Handle) -> None:
        panel = self._latest.get(batch.id)
        if isinstance(panel, Panel):
            panel.accept()

    def fail(self, batch: Handle) -> None:
        panel = self._latest.get(batch.id)
        if isinstance(panel, Panel):
            panel.fail()

    def show(self, batch: Handle) -> None:
        state = batch.state
        if state.description.cell is not None:
            self.show_cell(CellJob(batch, 0))
            return
        label = state.description.label
        total = None if state.is_submitting else state.total
        self._open(Panel(self, _whole(batch), label, total, cell=_cell(), is_headless=not _draws_widgets()))

    def revive(self, batch: Handle) -> None:
        panel = self._latest.get(batch.id)
        if panel is not None:
            panel.revive()
            self._refresh_soon(panel)

    def show_job(self, batch: Handle, index: int) -> None:
        job = job_of(batch, index)
        if isinstance(job, CellJob):
            self.show_cell(job)
        else:
            self._add(JobPanel(self, job, cell=_cell(), is_headless=not _draws_widgets()))

    def show_cell(self, job: CellJob, brings: tuple[str, ...] = ()) -> CellPanel:
        """Show a cell that runs in the background in the cell that runs here."""
        panel = CellPanel(self, job, shell=get_ipython(), cell=_cell(), is_headless=not _draws_widgets(), brings=brings)
        self._latest[job.batch.id] = panel
        self._add(panel)
        return panel

    def display_job(self, job: Job) -> None:
        """A job is the last expression of a cell."""
        cell = _cell()
        shown = (panel.job for panel in self._all[-_MOST:] if isinstance(panel, JobPanel) and panel.cell == cell)
        if job not in shown:
            self.show_job(job.batch, job.index)

    def _add(self, panel: Panel | JobPanel) -> None:
        self._all.append(panel)
        del self._all[:-1000]
        panel.open()
        if panel.is_live:
            self._refresh_soon(panel)

    def display(self, batch: Batch) -> None:
        """A batch is the last expression of a cell, which shows it once at most."""
        panel = self._latest.get(batch.id)
        if panel is None or panel.cell != _cell():
            self.show(batch)

    # Refreshing

    def _open(self, panel: Panel) -> None:
        self._latest[panel.batch.id] = panel
        self._add(panel)

    def _refresh_soon(self, panel: Panel | JobPanel) -> None:
        with self._lock:
            if panel not in self._live:
                self._live.append(panel)
            if self._thread is None:
                self._thread = threading.Thread(target=self._refresh, name="nbqueue-panels", daemon=True)
                self._thread.start()
        self._wake.set()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def keep(self, live: Closable) -> None:
        """An ended panel's widgets stay for a while."""
        self._kept.append(live)
        if len(self._kept) > _KEPT:
            self._kept.pop(0).close()

    def _refresh(self) -> None:
        while True:
            with self._lock:
                self._live = [panel for panel in self._live if panel.is_live]
                if not self._live:
                    self._thread = None
                    return
                live = list(self._live)
            began = time.monotonic()
            self.refresh(live)
            self._wake.wait(max(0.05, _INTERVAL - (time.monotonic() - began)))
            self._wake.clear()

    def refresh(self, panels: list[Panel | JobPanel]) -> None:
        """Look once at each of some panels; the workers of a server are read once."""
        workers: dict[Any, Any] = {}
        for panel in panels:
            session = panel.batch.session
            try:
                if session.store not in workers:
                    workers[session.store] = workers_of(session)
                panel.refresh(workers[session.store], session.now())
            except errors.ServerError as error:
                panel.unreachable(error)
            except Exception:
                # Whatever went wrong (a comm that is closed, a kernel that shuts down), the others go on.
                log.exception("the panel of batch %s is not refreshed any more", panel.batch.id)
                panel.is_live = False

    # The kernel

    def wait_for_cell(self, *_: object) -> None:
        """At the end of a cell that nobody watches: wait for what it submitted."""
        if _is_headless():
            self.finish_cell()

    def finish_cell(self) -> None:
        """Wait until the panels of the cell that runs show how it ended, with all that it put out."""
        cell = _cell()
        panels = [panel for panel in self._all if panel.cell == cell]
        told = False
        while live := [panel for panel in panels if panel.is_live]:
            self._wake.set()
            time.sleep(0.05)
            problems = {panel.problem for panel in live} - {""}
            if problems and not told:
                told = True
                print("; ".join(sorted(problems)))

    def leave(self) -> None:
        """The kernel ends."""
        for panel in list(self._live):
            panel.leave()


NOTEBOOK = Notebook()


def _cell() -> str:
    """The cell that runs, by the id of the message that asked for it."""
    shell = get_ipython()
    parent = shell.get_parent() if shell is not None and hasattr(shell, "get_parent") else {}
    return str((parent or {}).get("header", {}).get("msg_id", ""))


def _is_headless() -> bool:
    """Whether nobody is at the keyboard, and nothing draws widgets: nbclient, papermill, nbconvert."""
    kernel = getattr(get_ipython(), "kernel", None)
    return not getattr(kernel, "_allow_stdin", True)


def _draws_widgets() -> bool:
    """Whether the front end draws widgets that change by themselves. Colab does not: googlecolab/colabtools#3373."""
    return not _is_headless() and "google.colab" not in sys.modules


def _whole(batch: Handle) -> Batch:
    return batch if isinstance(batch, Batch) else Batch(batch.session, batch.id, progress=batch.shows)


def installed() -> Notebook | None:
    """The notebook, where batches are shown in this process."""
    return NOTEBOOK if hooks.display() is NOTEBOOK else None


def install() -> None:
    """Show batches, jobs and queues in this kernel's notebook from now on; without a kernel it does nothing."""
    shell: Any = get_ipython()
    if shell is None or not hasattr(shell, "kernel") or hooks.display() is not None:
        return
    hooks.use(NOTEBOOK)
    shell.events.register("post_run_cell", NOTEBOOK.wait_for_cell)
    atexit.register(NOTEBOOK.leave)
    shell.display_formatter.ipython_display_formatter.for_type(Batch, NOTEBOOK.display)
    shell.display_formatter.ipython_display_formatter.for_type(Job, NOTEBOOK.display_job)
    html = shell.display_formatter.formatters["text/html"]
    html.for_type(Queue, _queue_html)
    html.for_type(Workers, _workers_html)
    plain = shell.display_formatter.formatters["text/plain"]
    plain.for_type(Workers, lambda found, printer, _: printer.text(_serving([see_worker(w) for w in found])))


def _queue_html(queue: Queue) -> str:
    seen = look(queue.store)
    mine = next((found for found in seen.queues if found.name == queue.name), None)
    serving = [worker for worker in seen.workers if queue.name in worker.queues and not worker.is_dead]
    words = [f"<b>{markup.esc(queue.name)}</b>", _serving(serving)]
    if mine is not None:
        words.append(f"{number(mine.running)} jobs run, {number(mine.waiting)} wait")
    batches = [see(batch.state, seen.at) for batch in queue.batches(RECENT)]
    if len(batches) > 1:
        words.append("this notebook's batches first")
    problem = markup.notice(markup.esc(mine.problem), "failed") if mine is not None and mine.problem else ""
    return markup.batches_table(batches, " · ".join(words)) + problem


def _serving(workers: list[WorkerSeen]) -> str:
    if not workers:
        return "no workers"
    children = sum(worker.children for worker in workers)
    return f"{many(len(workers), 'worker')}, {many(children, 'child', 'children')}"


def _workers_html(workers: Workers) -> str:
    seen = [see_worker(worker) for worker in workers]
    return markup.workers_table(seen, _serving(seen), machine.name())
