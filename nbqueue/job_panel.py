"""What a cell shows whose last expression is a job: a line while it waits and runs, then how it ended."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Any

import ipywidgets
from IPython import display as ipython_display

from nbqueue import errors, markup
from nbqueue.job import Job
from nbqueue.panel import CANCEL, VIEW, Button, Host, in_thread, write

display: Any = ipython_display.display


class JobPanel:
    """One job, until it has ended.

    Parameters
    ----------
    host : Host
    job : Job
    cell : str
        The cell that shows it.
    is_headless : bool
        Nothing draws widgets.
    """

    def __init__(self, host: Host, job: Job, *, cell: str, is_headless: bool) -> None:
        self._host = host
        self.job = job
        self.batch = job.batch
        self.cell = cell
        self.is_live = True
        self.problem = ""
        self._is_headless = is_headless
        self._label = self._name()
        self._display_id = f"nbqueue-{uuid.uuid4().hex[:12]}"
        self._line = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 auto", min_width="0"))
        self._box: Any = None
        self._seen_at = time.monotonic()

    def _name(self) -> str:
        try:
            return self.job.func_name
        except errors.NbqueueError:
            return "job"

    def open(self) -> None:
        """Draw it in the cell that runs; how it ended, if it has."""
        status = self.job.get_status()
        if status not in ("queued", "started"):
            self.is_live = False
            self._show_end(status, update=False)
        elif self._is_headless:
            display(self._bundle(self._html(status)), raw=True, display_id=self._display_id)
        else:
            look = ipywidgets.HTML(markup.STYLE, layout=ipywidgets.Layout(display="none"))
            cancel = Button(CANCEL, "Cancel it, or stop it if it runs", self._cancel)
            self._box = ipywidgets.HBox([look, self._line, cancel.widget])
            self._box.add_class("nbq")
            write(self._line, self._live_html(status))
            view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
            display({VIEW: view, **self._bundle(self._html(status))}, raw=True, display_id=self._display_id)

    def refresh(self, workers: Any, now: float | None) -> None:
        """Look, and draw what has changed."""
        status = self.job.get_status()
        if status in ("queued", "started"):
            if self._box is not None:
                write(self._line, self._live_html(status))
        elif self.is_live:
            self.is_live = False
            self._show_end(status, update=True)

    def unreachable(self, error: errors.ServerError) -> None:
        """The server is gone, for now."""
        write(self._line, markup.notice(markup.esc(str(error)), "failed"))

    def leave(self) -> None:
        """The kernel ends, and the job goes on."""
        if self.is_live:
            words = "the kernel was shut down; it goes on"
            display(self._bundle(self._html("started", words)), raw=True, display_id=self._display_id, update=True)

    def _cancel(self, _: str) -> None:
        in_thread(self.job.cancel)
        self._host.wake()

    def _live_html(self, status: str) -> str:
        words = "waiting" if status == "queued" else "running"
        words += f" for {markup.clock(time.monotonic() - self._seen_at)}"
        return markup.job_title(self._label, status, words, f"job {self.job.id}")

    def _html(self, status: str, words: str = "") -> str:
        words = words or ("waiting" if status == "queued" else "running")
        return markup.job_line(self._label, status, words, [f"job {self.job.id}"])

    def _bundle(self, html: str) -> dict[str, Any]:
        return {"text/html": html, "text/plain": f"{self._label}: job {self.job.id}"}

    def _show_end(self, status: str, *, update: bool) -> None:
        duration, ended_at = self.job.duration, self.job.ended_at
        took = f" in {markup.clock(duration)}" if duration is not None else ""
        right = [f"job {self.job.id}"]
        if ended_at is not None:
            right.append(markup.time_of_day(datetime.timestamp(ended_at)))
        below = ""
        if status == "failed":
            took = took.replace(" in ", " after ")
            below = markup.traceback(self.job.exc_info or "")
        html = markup.job_line(self._label, status, status + took, right, below)
        display(self._bundle(html), raw=True, display_id=self._display_id, update=update)
        if status == "finished" and not update:
            value = self.job.return_value()
            if value is not None:
                display(value)
