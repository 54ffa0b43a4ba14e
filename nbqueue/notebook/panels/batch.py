"""A panel: what one cell of a notebook shows of a batch.

A panel is two outputs: a caption of plain HTML, which survives whatever happens to the page and the kernel, and the
live part. That is made of ipywidgets, which one thread per kernel writes, four or five times a second, where something
has changed; when the batch has ended, plain HTML takes their place, and is what the saved notebook holds.

Nothing blocks: a click starts a thread of its own. Where nobody is at the keyboard there are no widgets.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import ipywidgets
from IPython import display as ipython_display

from nbqueue import errors
from nbqueue.client.batch import Batch
from nbqueue.client.launch import IDLE_TIME
from nbqueue.client.session import Session
from nbqueue.notebook import markup
from nbqueue.notebook.widgets import Box, Button, Closable, in_thread, write
from nbqueue.view.shown import BatchShown, FailureShown
from nbqueue.view.snapshot import Follower, workers_of

log = logging.getLogger("nbqueue.panel")

display: Any = ipython_display.display

_REDRAW = 1.0
"""Seconds between two drawings where there are no widgets."""

_DID = 8.0
"""Seconds for which a panel says what a click did."""

PAUSE, RESUME, CANCEL, RETRY, START = "Pause", "Resume", "Cancel", "Retry failed", "Start a worker"

_TIPS = {
    PAUSE: "Let what runs finish, and start nothing new",
    RESUME: "Go on",
    CANCEL: "Cancel what waits, and stop what runs",
    RETRY: "Run the failed jobs again",
    START: "On this machine, with as many processes as it has CPUs",
}


class _Failure:
    """A group of failures: its count changes, what can be opened is written once."""

    def __init__(self, failure: FailureShown) -> None:
        self.count = ipywidgets.HTML(markup.failure_count(failure), layout=ipywidgets.Layout(flex="0 0 auto"))
        details = ipywidgets.HTML(markup.failure_details(failure), layout=ipywidgets.Layout(flex="1 1 auto"))
        self.row = ipywidgets.HBox([self.count, details])

    def show(self, failure: FailureShown) -> None:
        write(self.count, markup.failure_count(failure))


class Live:
    """The widgets of one live panel."""

    def __init__(self, click: Callable[[str], None], reloaded: Callable[[], None]) -> None:
        grow = ipywidgets.Layout(flex="1 1 auto", min_width="0")
        self._head = ipywidgets.HTML(layout=grow)
        self._middle = ipywidgets.HTML()
        self._strip = ipywidgets.HTML()
        self._numbers = ipywidgets.HTML()
        self._notices = ipywidgets.HTML()
        self._output = ipywidgets.HTML()
        layout, style = ipywidgets.Layout(), ipywidgets.ButtonStyle()
        self._buttons: dict[str, Any] = {}
        for name, tip in _TIPS.items():
            self._buttons[name] = Button(name, tip, click, layout=layout, style=style).widget
        self._groups: dict[str, _Failure] = {}
        self._failures = ipywidgets.VBox()
        self._top = ipywidgets.HBox([self._head])
        self.box = Box(
            [self._top, self._middle, self._strip, self._numbers, self._failures, self._notices, self._output], reloaded
        )

    def show(self, shown: BatchShown, buttons: list[str]) -> None:
        """Write what has changed."""
        write(self._head, markup.title(shown))
        write(self._middle, markup.bar(shown, live=True))
        write(self._strip, markup.strip(shown))
        write(self._numbers, markup.numbers(shown) + markup.now_line(shown))
        write(self._notices, markup.notices(shown))
        write(self._output, markup.output_lines(shown.output))
        self._show_failures(shown)
        children = (self._head, *(self._buttons[name] for name in buttons))
        if self._top.children != children:
            self._top.children = children
        if self.box.is_behind():
            self._send_again()

    def _send_again(self) -> None:
        """What the page has already changes nothing there."""
        for group in self._groups.values():
            group.count.send_state("value")
        for text in (self._head, self._middle, self._strip, self._numbers, self._notices, self._output):
            text.send_state("value")
        for box in (self._failures, self._top):
            box.send_state("children")

    def _show_failures(self, shown: BatchShown) -> None:
        for failure in shown.failures:
            if failure.digest in self._groups:
                self._groups[failure.digest].show(failure)
            else:
                self._groups[failure.digest] = _Failure(failure)
        for digest in set(self._groups) - {failure.digest for failure in shown.failures}:
            del self._groups[digest]
        rows = tuple(group.row for group in self._groups.values())
        if self._failures.children != rows:
            self._failures.children = rows

    def disable(self, name: str, disabled: bool) -> None:
        self._buttons[name].disabled = disabled

    def close(self) -> None:
        for group in self._groups.values():
            for widget in (*group.row.children, group.row):
                widget.close()
        for widget in (*self._buttons.values(), *self.box.children, self._head, self.box):
            widget.close()


class Host(Protocol):
    """What refreshes panels."""

    def wake(self) -> None:
        """Look again now."""

    def keep(self, live: Closable) -> None:
        """The widgets of a panel that has ended: they may go."""


class Panel:
    """What one cell shows of a batch.

    Parameters
    ----------
    host : Host
    batch : Batch
    label : str
    expected : int, optional
        How many jobs it will have, where that is known before all are submitted.
    cell : str
        The cell that shows it.
    is_headless : bool
        Nothing draws widgets: it is plain HTML, drawn again once a second.
    """

    def __init__(
        self, host: Host, batch: Batch, label: str, expected: int | None, *, cell: str, is_headless: bool
    ) -> None:
        self._host = host
        self.batch = batch
        self.cell = cell
        self.is_live = True
        self._label = label
        self._expected = expected
        self._is_headless = is_headless
        self._follower = Follower(batch, label, expected)
        self._display_id = f"nbqueue-{uuid.uuid4().hex[:12]}"
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._shown = self._follower.before(batch.session.now())
        self._did = ""
        self._did_at = 0.0
        self._is_reloaded = False
        self._drawn = ""
        self._drawn_at = 0.0
        self._was_there = False
        self._is_restartable = batch.session.is_embedded

    def open(self) -> None:
        """Draw it in the cell that runs."""
        total = f"{_jobs(self._expected)} · " if self._expected is not None else ""
        caption = markup.caption(self._label, self.batch.id, total, _variable(self.batch.session))
        text = f"{self._label}: batch {self.batch.id}"
        display({"text/html": caption, "text/plain": text}, raw=True)
        self.refresh(None, None)
        if not self.is_live:
            display(self._bundle(markup.ended(self._shown, "batch")), raw=True, display_id=self._display_id)
        elif self._is_headless:
            display(self._bundle(self._standing()), raw=True, display_id=self._display_id)
        else:
            self._go_live()
            display(self._live_bundle(), raw=True, display_id=self._display_id)

    @property
    def problem(self) -> str:
        """Why nobody serves its batch, in words."""
        return self._shown.problem

    def revive(self) -> None:
        """Jobs of its batch run again."""
        with self._lock:
            if self.is_live:
                return
            self.is_live, self._did = True, ""
            self._follower = Follower(self.batch, self._label)
            if not self._is_headless:
                self._go_live()
                self._update(self._live_bundle())

    def refresh(self, workers: Any, now: float | None) -> None:
        """Look, and draw what has changed.

        Raises
        ------
        ServerError
        """
        session = self.batch.session
        now = session.now() if now is None else now
        was_there = self._was_there  # now: what is submitted while it looks, it may have missed
        try:
            shown = self._follower.look(workers_of(session) if workers is None else workers, now)
        except errors.NotFound:  # it was deleted between two looks at it
            shown = None
        with self._lock:
            if shown is None and was_there:
                self._vanish()
                return
            self._was_there = self._was_there or shown is not None
            if shown is None:
                shown = self._follower.before(now)
            did = self._did if time.monotonic() - self._did_at < _DID else ""
            self._shown = replace(shown, did=did, is_reloaded=self._is_reloaded)
            if shown.batch.state in ("done", "canceled"):
                self._end()
            elif self._live is not None:
                self._live.show(self._shown, self._offered())
            elif self._is_headless:
                self._redraw()

    def _redraw(self) -> None:
        """Without widgets the whole panel is drawn again, less often."""
        html, now = self._standing(), time.monotonic()
        if html != self._drawn and now - self._drawn_at >= _REDRAW:
            if self._drawn:  # the first one is drawn by open()
                self._update(self._bundle(html))
            self._drawn, self._drawn_at = html, now

    def accept(self) -> None:
        """All jobs are submitted: a batch that is not there from now on was deleted."""
        self._was_there = True

    def _vanish(self) -> None:
        """Its batch was deleted, or has expired: there is nothing to follow any more."""
        if self.is_live:
            words = f"{self._label}: batch {self.batch.id} is not there any more, it was deleted or has expired"
            self._update(self._bundle(markup.notice(markup.esc(words))))
            self.is_live = False

    def fail(self) -> None:
        """Its submission raised: it has ended, or was never begun."""
        try:
            self.refresh(None, None)
        except errors.ServerError as error:
            log.warning("batch %s cannot be shown: %s", self.batch.id, error)
        with self._lock:
            if self.is_live and self._shown.batch.total == 0:  # else it is canceled, and ends soon
                self._update(self._bundle(markup.notice(f"{markup.esc(self._label)}: nothing was submitted", "failed")))
                self.is_live = False

    def unreachable(self, error: errors.ServerError) -> None:
        """The server is gone, for now."""
        with self._lock:
            if self._live is not None:
                self._live.show(replace(self._shown, problem=str(error)), [])

    def leave(self) -> None:
        """The kernel ends, and the batch goes on."""
        with self._lock:
            if self.is_live and not self._is_reloaded:
                self._update(self._bundle(self._standing("the kernel was shut down; its jobs go on")))

    def _standing(self, words: str = "it goes on") -> str:
        return markup.interrupted(self._shown, f"q.batch({self.batch.id!r})", words)

    def _go_live(self) -> None:
        self._live = Live(self._click, self._reloaded)
        self._live.show(self._shown, self._offered())

    def _end(self) -> None:
        if not self.is_live:
            return
        if self._live is not None:
            self._live.show(self._shown, [])
            self._host.keep(self._live)
            self._live = None
        if not self._is_reloaded:
            self._update(self._bundle(markup.ended(self._shown, "batch")))
        self.is_live = False  # last: a cell that waits for its panels ends now

    def _update(self, bundle: dict[str, Any]) -> None:
        display(bundle, raw=True, display_id=self._display_id, update=True)

    def _bundle(self, html: str) -> dict[str, Any]:
        return {"text/html": html, "text/plain": markup.plain(self._shown)}

    def _live_bundle(self) -> dict[str, Any]:
        assert self._live is not None
        return {**self._live.box.view(), **self._bundle(self._standing())}

    # Clicks

    def _offered(self) -> list[str]:
        """The buttons that make sense now; those that stay longest come last, where they keep their place."""
        batch = self._shown.batch
        offered = []
        if self._shown.problem and self._is_restartable:
            offered.append(START)
        if batch.failed and batch.state != "submitting":
            offered.append(RETRY)
        if batch.state == "paused":
            offered.append(RESUME)
        elif batch.state in ("running", "waiting"):
            offered.append(PAUSE)
        return [*offered, CANCEL]

    def _click(self, name: str) -> None:
        in_thread(lambda: self._act(name))

    def _act(self, name: str) -> None:
        with self._lock:
            live = self._live
            if live is None:
                return
            live.disable(name, True)
        try:
            did = self._do(name)
        except errors.NbqueueError as error:
            did = f"{name}: {error}"
        finally:
            live.disable(name, False)
        with self._lock:
            self._did, self._did_at = did, time.monotonic()
        self._host.wake()

    def _do(self, name: str) -> str:
        if name == CANCEL:
            return f"Canceled {_jobs(self.batch.cancel())}."
        if name == PAUSE:
            self.batch.pause()
            return "Paused: what runs goes on to its end."
        if name == RESUME:
            self.batch.resume()
            return "Resumed."
        if name == RETRY:
            return f"Queued {_jobs(self.batch.retry())} again."
        workers = self.batch.session.fleet.start(self.batch.origin, None, IDLE_TIME)
        return f"Started {sum(worker.children for worker in workers)} processes on this machine."

    def _reloaded(self) -> None:
        self._is_reloaded = True


def _jobs(n: int) -> str:
    return f"{n:,} job" + ("" if n == 1 else "s")


def _variable(session: Session) -> str:
    """How code reaches a queue of this server and namespace."""
    return "q" if session.is_default else "queue"
