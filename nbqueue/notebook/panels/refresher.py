"""The thread that looks at the panels of a kernel that are live, and draws what has changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from nbqueue import errors
from nbqueue.notebook.panels.display import Display
from nbqueue.notebook.widgets import Live
from nbqueue.store.requests.looking import WorkerState
from nbqueue.store.store import Store
from nbqueue.view.snapshot import workers_of

log = logging.getLogger("nbqueue.panel")

_INTERVAL = 0.25
"""Seconds between two looks at what is live."""

_KEPT = 100
"""Ended panels whose widgets stay: a page that is loaded anew, and was not saved, still shows them."""


class Refresher:
    """Refreshes panels until they have ended. Its thread ends with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: list[Display[Any]] = []
        self._kept: list[Live] = []
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def follow(self, panel: Display[Any]) -> None:
        """Refresh a panel from now on."""
        with self._lock:
            if panel not in self._live:
                self._live.append(panel)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nbqueue-panels", daemon=True)
                self._thread.start()
        self._wake.set()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def keep(self, live: Live) -> None:
        """An ended panel's widgets stay for a while."""
        self._kept.append(live)
        if len(self._kept) > _KEPT:
            self._kept.pop(0).close()

    def leave(self) -> None:
        """The kernel ends."""
        for panel in list(self._live):
            panel.leave()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._live = [panel for panel in self._live if panel.is_live]
                if not self._live:
                    self._thread = None
                    return
                live = list(self._live)
            began = time.monotonic()
            refresh(live)
            self._wake.wait(max(0.05, _INTERVAL - (time.monotonic() - began)))
            self._wake.clear()


def refresh(panels: Sequence[Display[Any]]) -> None:
    """Look once at each of some panels; the workers of a server are read once."""
    workers: dict[Store, list[WorkerState]] = {}
    for panel in panels:
        batch = panel.content.batch
        try:
            store = batch.session.store
            if store not in workers:
                workers[store] = workers_of(store)
            panel.refresh(workers[store], batch.session.now())
        except errors.ServerError as error:
            panel.unreachable(error)
        except Exception:
            # Whatever went wrong (a comm that is closed, a kernel that shuts down), the others go on.
            log.exception("the panel of batch %s is not refreshed any more", batch.id)
            panel.is_live = False
