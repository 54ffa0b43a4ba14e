"""What jobs that are no cells show by `display()`: its text is printed, and its rich output kept with the job.

IPython's own functions do it, with a shell that is made when they first ask for one; nothing else finds that earlier,
since libraries take a shell for a notebook or a terminal. Without IPython a display is the text of its objects.
"""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

from nbqueue.child import context
from nbqueue.child.bundles import as_json_bundle, is_bar_of_tqdm
from nbqueue.child.imports import when_imported
from nbqueue.payload.pickling import shell_of_process
from nbqueue.protocol.messages import Displayed
from nbqueue.protocol.page import Page
from nbqueue.store.requests.running import MOST_RICH

_ASKING = "IPython.core.display_functions"
"""The module of the functions for which there is a shell."""

_LARGEST = 8 * 1024 * 1024
"""Bytes of the rich output of one display."""

_EVERY = 0.2
"""Seconds between two updates of a display that are told."""


class Displays:
    """Takes what is displayed, from all threads, for the job that runs.

    Parameters
    ----------
    cells : memoryview
        Of the page: which job runs.
    send : callable
        Tells the worker.
    """

    def __init__(self, cells: memoryview, send: Callable[[Displayed], None]) -> None:
        self._cells = cells
        self._send = send
        self._lock = threading.RLock()
        self._job = (-1, -1)
        self._begin(self._job)

    def _begin(self, job: tuple[int, int]) -> None:
        self._job = job
        self._next = 0
        """The position of the next display."""
        self._positions: dict[str, int] = {}
        """Of displays that have an id."""
        self._due: dict[int, float] = {}
        """When an update may be told."""
        self.pending: dict[int, bytes] = {}
        """Updates that wait for that, or for the end of the job."""
        self._is_cleared = False
        self._has_said = False

    def install(self) -> None:
        """From now on `display` is a builtin, as in a kernel."""
        builtins.display = _display  # type: ignore[attr-defined]
        if importlib.util.find_spec("matplotlib_inline") is not None:
            os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as kernels have it
        when_imported("IPython.core.interactiveshell", self._attach)

    def _attach(self, module: types.ModuleType) -> None:
        """Have IPython's functions find a shell that displays here."""
        kind: Any = module.InteractiveShell
        is_initialized = kind.initialized.__func__

        def initialized(cls: Any) -> bool:
            if context.running() is not None and sys._getframe(1).f_globals.get("__name__") == _ASKING:
                self._provide()
            return bool(is_initialized(cls))

        kind.initialized = classmethod(initialized)

    def _provide(self) -> None:
        from IPython.core.displaypub import DisplayPublisher

        shell = shell_of_process()
        if type(shell.display_pub) is DisplayPublisher:  # not that of a cell
            shell.display_pub = _publisher(self, shell)
        if "matplotlib.figure" in sys.modules:
            from IPython.core.pylabtools import select_figure_formats

            select_figure_formats(shell, {"png"})

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any] | None, id: str | None, update: bool) -> None:
        """Display something; `update` of what has that id."""
        if is_bar_of_tqdm(data):
            return  # the panel shows it
        bundle = as_json_bundle(data, metadata)
        text = bundle["data"].get("text/plain", "")
        is_rich = bool(bundle["data"].keys() - {"text/plain"})
        if text and not (update and is_rich):
            print(text)
        if is_rich and context.running() is not None:  # else this is a fork
            self._keep(json.dumps(bundle).encode(), id, update)

    def _keep(self, content: bytes, id: str | None, update: bool) -> None:
        with self._lock:
            if not self._is_of_job():
                return
            if self._is_cleared:
                self._clear()
            if not update:
                position, self._next = self._next, self._next + 1
                if id is not None:
                    self._positions[id] = position
            elif id in self._positions:
                position = self._positions[id]
            else:
                return
            if position >= MOST_RICH or len(content) > _LARGEST:
                self._say_once(position, content)
                return
            now = time.monotonic()
            if update and now < self._due.get(position, 0.0):
                self.pending[position] = content
                return
            self._due[position] = now + _EVERY
            self.pending.pop(position, None)
            self._tell(position, content)

    def clear(self, wait: bool) -> None:
        """Take away what the job has displayed, at once or before it displays more."""
        if context.running() is None:
            return
        with self._lock:
            if self._is_of_job():
                self._is_cleared = True
                if not wait:
                    self._clear()

    def flush(self) -> None:
        """Tell what waits: the job has ended."""
        with self._lock:
            pending, self.pending = self.pending, {}
            for position, content in pending.items():
                self._tell(position, content)

    def _clear(self) -> None:
        had, said = self._next, self._has_said
        self._begin(self._job)
        self._has_said = said
        if had:
            self._tell(0, b"")

    def _is_of_job(self) -> bool:
        """Whether a job runs; what was kept of an earlier one is forgotten."""
        job = self._cells[Page.NUMBER], self._cells[Page.INDEX]
        if job[1] < 0:
            return False
        if job != self._job:
            self._begin(job)
        return True

    def _tell(self, position: int, content: bytes) -> None:
        number, index = self._job
        self._send(Displayed(number, index, position, content))

    def _say_once(self, position: int, content: bytes) -> None:
        if self._has_said:
            return
        self._has_said = True
        why = f"it has {len(content) / 1e6:.1f} MB, and at most {_LARGEST // 2**20} are kept of one"
        if position >= MOST_RICH:
            why = f"the job had {MOST_RICH} before, and more are not kept"
        print(f"nbqueue: of a display its text is kept only: {why}", file=sys.stderr)


def _display(*objects: Any, **kwargs: Any) -> Any:
    """What `display` is before IPython is there."""
    try:
        from IPython.display import display
    except ImportError:
        for shown in objects:
            print(repr(shown))
        return None
    return display(*objects, **kwargs)


def _publisher(displays: Displays, shell: Any) -> Any:
    from IPython.core.displaypub import DisplayPublisher

    class Publisher(DisplayPublisher):
        """`display()` and `clear_output()` of a job."""

        def publish(
            self, data: dict[str, Any], metadata: dict[str, Any] | None = None, source: object = None, *,
            transient: dict[str, Any] | None = None, update: bool = False, **kwargs: Any,
        ) -> None:  # fmt: skip
            self._validate_data(data, metadata)
            displays.show(data, metadata, (transient or {}).get("display_id"), update)

        def clear_output(self, wait: bool = False) -> None:
            displays.clear(wait)

    return Publisher(parent=shell, shell=shell)
