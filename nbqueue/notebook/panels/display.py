"""A panel in a cell: widgets while what it shows is live, plain HTML when it has ended.

One thread per kernel looks at what is live, and writes what has changed (refresher.py). At the end plain HTML takes the
place of the widgets, and is what the saved notebook holds; a page that was loaded anew keeps the widgets. Nothing
blocks: a click starts a thread of its own. Where nobody is at the keyboard there are no widgets.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from IPython import display as ipython_display

from nbqueue import errors
from nbqueue.client.handle import Handle
from nbqueue.client.problem import Problem
from nbqueue.notebook.widgets import Live, Parts, in_thread
from nbqueue.store.requests.looking import WorkerState

show: Any = ipython_display.display

Bundle = dict[str, Any]
"""A display's data by MIME type."""

_REDRAW = 1.0
"""Seconds between two drawings where there are no widgets."""


class Content(Protocol):
    """The subject of a panel: reads it, says in plain data what is to be seen of it, does what its buttons say."""

    @property
    def id(self) -> str:
        """The id of the batch or the job that it is about."""

    @property
    def batch(self) -> Handle:
        """The batch that it is about or belongs to."""

    @property
    def problem(self) -> Problem | None:
        """Why nobody serves it, as of the last look."""

    @property
    def tips(self) -> Mapping[str, str]:
        """All buttons that there may be, and what is said of them."""

    def look(self, workers: Sequence[WorkerState] | None, now: float | None) -> bool:
        """Read what there is; False if it has ended.

        Parameters
        ----------
        workers : sequence of WorkerState, optional
            Those of the namespace, where they are known.
        now : float, optional
            By the server's clock.

        Raises
        ------
        ServerError
        """

    def parts(self, *, is_reloaded: bool, unreachable: str = "") -> Parts:
        """The last look, for widgets; `unreachable` is why there was none after it."""

    def bundle(self, *, is_left: bool = False) -> Bundle:
        """The last look without widgets; `is_left` if nobody looks any more."""

    def act(self, button: str) -> None:
        """Do what a button says."""

    def revive(self) -> None:
        """It had ended, and runs again."""


class Below(Protocol):
    """Outputs that appear under a panel while its content is live."""

    def begin(self, panel: Display[Any]) -> None:
        """Read what there is, before the panel is drawn."""

    def relay(self) -> None:
        """Draw what has come since."""

    def finish(self) -> None:
        """The panel has its last form."""


class Host(Protocol):
    """The refresher, as panels need it."""

    def wake(self) -> None:
        """Look again now."""

    def keep(self, live: Live) -> None:
        """The widgets of a panel that has ended: they may go."""


C = TypeVar("C", bound=Content)


class Display(Generic[C]):
    """A panel in one cell.

    Parameters
    ----------
    content : Content
    host : Host
    cell : str
        The cell that shows it.
    is_headless : bool
        Nothing draws widgets: it is plain HTML, drawn again once a second.
    below : Below, optional
    """

    def __init__(self, content: C, host: Host, *, cell: str, is_headless: bool, below: Below | None = None) -> None:
        self.content = content
        self.cell = cell
        self.id = f"nbqueue-{uuid.uuid4().hex[:12]}"
        self.is_live = True
        self.bundle: Bundle = {}
        """What is drawn."""
        self._host = host
        self._below = below
        self._is_headless = is_headless
        self._is_reloaded = False
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._drawn_at = 0.0

    def open(self) -> None:
        """Draw it in the cell that runs."""
        self.is_live = self.content.look(None, None)
        if self._below is not None:
            self._below.begin(self)
        with self._lock:
            if self.is_live and not self._is_headless:
                self._draw(self._live_bundle(), is_new=True)
            else:
                self._draw(self.content.bundle(), is_new=True)
        if self._below is not None:
            self._below.relay()

    def refresh(self, workers: Sequence[WorkerState] | None, now: float | None) -> None:
        """Look, and draw what has changed.

        Raises
        ------
        ServerError
        """
        if not self.is_live:
            return
        is_live = self.content.look(workers, now)
        with self._lock:
            if not self.is_live:
                return
            if self._below is not None:
                self._below.relay()
            if not is_live:
                self._end()
            elif self._live is not None:
                self._live.show(self._parts())
            else:
                self._redraw()

    def revive(self) -> None:
        """It runs again."""
        with self._lock:
            if not self.is_live:
                self.is_live = True
                self.content.revive()
                if not self._is_headless:
                    self._draw(self._live_bundle())

    def rewrite(self) -> None:
        """More is known of how it ended."""
        with self._lock:
            if not self.is_live:
                self._draw_end()

    def unreachable(self, error: errors.ServerError) -> None:
        """The server is gone, for now."""
        with self._lock:
            if self._live is not None and self.is_live:
                self._live.show(self._parts(str(error)))

    def leave(self) -> None:
        """The kernel ends, and what it shows goes on."""
        with self._lock:
            if self.is_live and not self._is_reloaded:
                self._draw(self.content.bundle(is_left=True))

    def _end(self) -> None:
        self._draw_end()
        if self._live is not None:
            self._host.keep(self._live)
        if self._below is not None:
            self._below.finish()
        self.is_live = False  # last: a cell that waits for its panels ends now

    def _draw_end(self) -> None:
        """Plain HTML takes the place of the widgets; a page that was loaded anew keeps these."""
        if self._live is not None:
            self._live.show(self._parts())
        if not self._is_reloaded:
            self._draw(self.content.bundle())

    def _redraw(self) -> None:
        """Without widgets the whole panel is drawn again, less often."""
        bundle, now = self.content.bundle(), time.monotonic()
        if bundle != self.bundle and now - self._drawn_at >= _REDRAW:
            self._draw(bundle)

    def _draw(self, bundle: Bundle, *, is_new: bool = False) -> None:
        self.bundle, self._drawn_at = bundle, time.monotonic()
        show(bundle, raw=True, display_id=self.id, update=not is_new)

    def _live_bundle(self) -> Bundle:
        self._live = Live(self._parts(), self.content.tips, self._click, self._reloaded)
        return {**self._live.view(), **self.content.bundle()}

    def _parts(self, unreachable: str = "") -> Parts:
        return self.content.parts(is_reloaded=self._is_reloaded, unreachable=unreachable)

    def _reloaded(self) -> None:
        self._is_reloaded = True

    def _click(self, button: str) -> None:
        in_thread(lambda: self._act(button))

    def _act(self, button: str) -> None:
        with self._lock:
            live = self._live
            if live is None or not self.is_live:
                return
            live.disable(button, True)
        try:
            self.content.act(button)
        finally:
            live.disable(button, False)
        self._host.wake()


def outcome_of(button: str, act: Callable[[], str]) -> str:
    """A click's outcome, in words: what it returns, or what was wrong."""
    try:
        return act()
    except errors.NbqueueError as error:
        return f"{button}: {error}"
