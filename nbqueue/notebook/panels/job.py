"""What a cell shows of one job: a line while it waits and runs, then how it ended."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Any

import ipywidgets
from IPython import display as ipython_display

from nbqueue import errors
from nbqueue.client.job import Job
from nbqueue.notebook import markup
from nbqueue.notebook.panels.batch import CANCEL, Host
from nbqueue.notebook.widgets import Box, Button, in_thread, write
from nbqueue.view.words import clock, time_of_day, took

display: Any = ipython_display.display

_ATTEND = 2.0
"""Seconds between two looks at whether anybody serves a job that waits."""


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
        self._note = ipywidgets.HTML()
        self._top = ipywidgets.HBox([self._line])
        self._box: Box | None = None
        self._is_reloaded = False
        self._said = ""
        self._drawn = ""
        """The state that is drawn where there are no widgets."""
        self._words = ""
        """Its state, in words, as it was last drawn."""
        self._seen_at = time.monotonic()
        self._attended_at = 0.0

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
            self._draw(self._bundle(self._ended_html(status)))
            self._show_value(status)
        elif self._is_headless:
            self._drawn = status
            self._draw(self._bundle(self._html(status)))
        else:
            self._draw(self._live_bundle(status))

    def revive(self) -> None:
        """Its job runs again."""
        if not self.is_live:
            self.is_live, self._said, self._seen_at = True, "", time.monotonic()
            if not self._is_headless:
                self._update_to(self._live_bundle("queued"))

    def _live_bundle(self, status: str) -> dict[str, Any]:
        cancel = Button(CANCEL, "Cancel it, or stop it if it runs", lambda _: in_thread(self._cancel))
        self._top.children = (self._line, cancel.widget)
        self._box = Box([self._top, self._note], self._reloaded)
        write(self._line, self._live_html(status))
        write(self._note, "")
        return {**self._box.view(), **self._bundle(self._html(status))}

    def _draw(self, bundle: dict[str, Any]) -> None:
        display(bundle, raw=True, display_id=self._display_id)

    def refresh(self, workers: Any, now: float | None) -> None:
        """Look, and draw what has changed."""
        if not self.is_live:
            return
        try:
            status = self.job.get_status()
        except errors.NotFound:
            words = markup.notice(f"{markup.esc(self._label)}: job {self.job.id} is not there any more")
            self._end(words, words)
            self.is_live = False
            return
        if status not in ("queued", "started"):
            self._finish(status)
        elif self._box is not None:
            write(self._line, self._live_html(status))
            write(self._note, self._notes(status))
            if self._box.is_behind():
                for text in (self._line, self._note):
                    text.send_state("value")
                self._top.send_state("children")
        elif status != self._drawn:
            self._drawn = status
            self._update(self._html(status))

    def _finish(self, status: str) -> None:
        self._end(self._ended_html(status), self._ended_html(status, is_framed=False))
        self.is_live = False  # last: a cell that waits for its panels ends now

    def _end(self, html: str, inside: str) -> None:
        """Plain HTML takes the place of the widgets; a page that was loaded anew keeps these."""
        if self._box is not None:
            self._top.children = (self._line,)
            write(self._note, self._reload_note() if self._is_reloaded else "")
            self._host.keep(self._box)
        self._rewrite(html, inside)

    def _rewrite(self, html: str, inside: str) -> None:
        write(self._line, inside)
        if not self._is_reloaded:
            self._update(html)

    def _update(self, html: str) -> None:
        self._update_to(self._bundle(html))

    def _update_to(self, bundle: dict[str, Any]) -> None:
        display(bundle, raw=True, display_id=self._display_id, update=True)

    def unreachable(self, error: errors.ServerError) -> None:
        """The server is gone, for now."""
        write(self._note, markup.notice(markup.esc(str(error)), "failed"))

    def leave(self) -> None:
        """The kernel ends, and the job goes on."""
        if self.is_live and not self._is_reloaded:
            self._update(self._html("started", "the kernel was shut down; it goes on"))

    def _cancel(self) -> None:
        try:
            self._said = "" if self.job.cancel() else "It had ended."
        except errors.NbqueueError as error:
            self._said = f"{CANCEL}: {error}"
        self._host.wake()

    def _reloaded(self) -> None:
        self._is_reloaded = True

    # Markup

    def _notes(self, status: str) -> str:
        found = [markup.problem(problem)] if (problem := self._look_for_problem(status)) else []
        if self._said:
            found.append(markup.notice(markup.esc(self._said)))
        if self._is_reloaded:
            found.append(self._reload_note())
        return "".join(found)

    def _look_for_problem(self, status: str) -> str:
        if status != "queued":
            self.problem = ""
        elif time.monotonic() - self._attended_at > _ATTEND:
            self._attended_at = time.monotonic()
            problem = self.batch.session.attend(self.batch.state)
            self.problem = "" if problem is None else str(problem)
        return self.problem

    def _reload_note(self) -> str:
        return markup.reloaded(f"q.fetch_job({self.job.id!r}).show()")

    def _live_html(self, status: str) -> str:
        words = "waiting" if status == "queued" else "running"
        words += f" for {clock(time.monotonic() - self._seen_at)}"
        return markup.job_title(self._label, status, words, f"job {self.job.id}")

    def _html(self, status: str, words: str = "") -> str:
        self._words = words or ("waiting" if status == "queued" else "running")
        return markup.job_line(self._label, status, self._words, [f"job {self.job.id}"])

    def _bundle(self, html: str) -> dict[str, Any]:
        return {"text/html": html, "text/plain": f"{self._label}: {self._words} (job {self.job.id})"}

    def _ended_html(self, status: str, *, is_framed: bool = True) -> str:
        duration, ended_at = self.job.duration, self.job.ended_at
        words = status
        if duration is not None:
            words += f" {'after' if status == 'failed' else 'in'} {took(duration)}"
        self._words = words + self._more_words(status)
        right = [f"job {self.job.id}"]
        if ended_at is not None:
            right.append(time_of_day(datetime.timestamp(ended_at)))
        return markup.job_line(self._label, status, self._words, right, self._below(status), is_framed=is_framed)

    def _more_words(self, status: str) -> str:
        return ""

    def _below(self, status: str) -> str:
        return markup.traceback(self.job.exc_info or "") if status == "failed" else ""

    def _show_value(self, status: str) -> None:
        """The result, drawn as it draws itself."""
        if status == "finished":
            value = self.job.return_value()
            if value is not None:
                display(value)
