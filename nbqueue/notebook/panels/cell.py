"""What `%%enqueue` shows: a line about the job, and below it what its cell puts out, as if it had run here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from nbqueue import errors
from nbqueue.cells.joiner import Content
from nbqueue.cells.messages import MOST_READ, Native, decode_message, last_line
from nbqueue.client.batch import Batch
from nbqueue.client.job import Job
from nbqueue.notebook import markup
from nbqueue.notebook.arriving import Promise
from nbqueue.notebook.panels.batch import Host
from nbqueue.notebook.panels.job import JobPanel
from nbqueue.notebook.panels.redraw import REDRAW, Relay
from nbqueue.notebook.widgets import in_thread
from nbqueue.view.shown import BatchShown
from nbqueue.view.snapshot import Follower
from nbqueue.view.words import clock

log = logging.getLogger("nbqueue.panel")


class CellPanel(JobPanel):
    """A cell that runs in the background, until it has ended.

    Parameters
    ----------
    host : Host
    job : Job
    shell : InteractiveShell
        Of the kernel.
    is_headless : bool
        Nothing draws widgets.
    cell : str
        The cell that shows it.
    brings : sequence of str
        The variables that come into the notebook at the end.
    """

    def __init__(
        self, host: Host, job: Job, *, shell: Any, cell: str, is_headless: bool, brings: tuple[str, ...] = ()
    ) -> None:
        super().__init__(host, job, cell=cell, is_headless=is_headless)
        self._kernel = shell.kernel
        self._parent = shell.get_parent()
        self._brings = brings
        self._promise: Promise | None = None
        self._lock = threading.RLock()
        self._relay = Relay(f"{self._display_id}-slot")
        self._follower = Follower(Batch(self.batch.session, self.batch.id), self._label)
        self._after = ""
        self._seen: BatchShown | None = None
        self._bundle_now: dict[str, Any] = {}

    def _name(self) -> str:
        return self.batch.description.label or "cell"

    def open(self) -> None:
        """Draw it in the cell that runs, with what there is so far."""
        self._send("display_data", self._caption())
        status = self.job.get_status()
        before = []
        while messages := self._read():
            before += messages
        if status in ("queued", "started"):
            if self._is_headless:
                self._drawn = status
                self._draw(self._bundle(self._html(status)))
            else:
                self._draw(self._live_bundle(status))
        else:
            self.is_live = False
            self._draw(self._bundle(self._ended_html(status)))
        for kind, content in self._relay.begin_with(before):
            self._send(kind, content)

    def refresh(self, workers: Any, now: float | None) -> None:
        with self._lock:
            if self.is_live and workers is not None and now is not None:
                try:
                    self._seen = self._follower.look(workers, now)
                except errors.NotFound:
                    self._seen = None
                self.problem = self._seen.problem if self._seen is not None else ""
            super().refresh(workers, now)
            if self.is_live:
                self._relay_news()

    def kept(self, promise: Promise) -> None:
        """Its variables are bound. Called between cells, which do not wait for a server that does not answer."""
        self._promise = promise
        if self._is_headless:  # the notebook is saved as soon as its last cell has ended
            self._tell_what_was_kept()
        else:
            in_thread(self._tell_what_was_kept)

    def _tell_what_was_kept(self) -> None:
        with self._lock:
            if not self.is_live:
                try:
                    status = self.job.get_status()
                    self._rewrite(self._ended_html(status), self._ended_html(status, is_framed=False))
                except errors.NbqueueError as error:  # no reason to disturb the cell that begins
                    log.warning("job %s cannot be shown: %s", self.job.id, error)

    # What the cell puts out

    def _read(self) -> list[Native]:
        """What has come since the last time; from the beginning if the cell was started again."""
        found = self.batch.session.store.shown(self.batch.id, self._after, MOST_READ)
        messages = [decode_message(kind, content) for _, kind, content in found]
        if not found:
            return []
        last = found[-1][0]
        if self._after and last.partition("-")[0] != self._after.partition("-")[0]:
            messages.insert(0, ("clear_output", {"wait": False}))
        self._after = last
        return messages

    def _relay_news(self) -> None:
        while True:
            messages = self._read()
            for kind, content in self._relay.take(messages):
                self._send(kind, content)
            if len(messages) < MOST_READ:
                return

    def _send(self, kind: str, content: Content) -> None:
        """Pinned to the cell that shows it, whichever runs now."""
        if (kind, content) == REDRAW:
            self._send("display_data", self._caption())
            content = {"data": self._bundle_now, "metadata": {}, "transient": {"display_id": self._display_id}}
            kind = "display_data"
        self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=self._parent, ident=kind.encode())

    def _draw(self, bundle: dict[str, Any]) -> None:
        self._bundle_now = bundle
        super()._draw(bundle)

    def _update_to(self, bundle: dict[str, Any]) -> None:
        self._bundle_now = bundle
        super()._update_to(bundle)

    def _finish(self, status: str) -> None:
        self._relay_news()
        self._end(self._ended_html(status), self._ended_html(status, is_framed=False))
        for kind, content in self._relay.finish():
            self._send(kind, content)
        self.is_live = False

    # Markup

    def _caption(self) -> Content:
        later = f"q.fetch_job({self.job.id!r}).show()"
        data = {"text/html": markup.job_caption(self._label, later), "text/plain": f"{self._label}: {later}"}
        return {"data": data, "metadata": {}, "transient": {}}

    def _live_html(self, status: str) -> str:
        seen = self._seen
        if seen is None or status == "queued":
            words = seen.words if seen is not None else "waiting"
        else:
            since = next((seconds for _, seconds in seen.now), None)
            words = "running" if since is None else f"running for {clock(since)}"
        if self._brings:
            words += f", brings back {_listed(self._brings)}"
        return markup.job_title(self._label, status, words, f"job {self.job.id}")

    def _notes(self, status: str) -> str:
        line = last_line(self._relay.area.outputs) if self._is_reloaded else ""
        found = [
            super()._notes(status),
            markup.launched(self._seen) if self._seen is not None and not self.problem else "",
        ]
        return "".join(found) + (markup.output_lines([line]) if line else "")

    def _look_for_problem(self, status: str) -> str:
        return self.problem

    def _reload_note(self) -> str:
        return markup.reloaded(
            f"q.fetch_job({self.job.id!r}).show()", "what the cell puts out from now on is not shown below"
        )

    def _more_words(self, status: str) -> str:
        if status == "failed":
            error = self.job.exception()
            message = " ".join(str(error).split())
            return f", {type(error).__name__}: {message}"[:120]
        brought = self._promise.brought if self._promise is not None else []
        return f", {_listed(brought)} {'is' if len(brought) == 1 else 'are'} here" if brought else ""

    def _below(self, status: str) -> str:
        text = ""
        if status == "failed" and not any(kind == "error" for kind, _ in self._relay.area.outputs):
            text = markup.traceback(self.job.exc_info or "")  # it did not end by itself
        problems = self._promise.problems.values() if self._promise is not None else ()
        return "".join(markup.notice(markup.esc(problem), "failed") for problem in problems) + text


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
