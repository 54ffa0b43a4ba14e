"""The widgets that panels are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets

from nbqueue.notebook import markup

_RELOAD = 1.5
"""Seconds after which a request for a widget's whole state means that the page was loaded anew."""

_CATCH_UP = 10.0
"""Seconds after such a request for which everything is sent once more: the page drops what comes until it has drawn."""

_AGAIN = 1.0
"""Seconds between two of these."""

VIEW = "application/vnd.jupyter.widget-view+json"


class Box(ipywidgets.VBox):  # type: ignore[misc]
    """The widgets of a panel. Notices when a page that was loaded anew asks for it."""

    _made_at = float("inf")
    _on_reload: Callable[[], None] | None = None
    _behind_until = _sent_at = 0.0

    def __init__(self, parts: list[Any], on_reload: Callable[[], None]) -> None:
        look = ipywidgets.HTML(markup.STYLE, layout=ipywidgets.Layout(display="none"))
        super().__init__([look, *parts])
        self.add_class("nbq")
        self._made_at = time.monotonic()
        self._on_reload = on_reload

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        if key is None and self._on_reload is not None and time.monotonic() - self._made_at > _RELOAD:
            self._behind_until = time.monotonic() + _CATCH_UP
            self._on_reload()
        return super().get_state(key=key, drop_defaults=drop_defaults)

    def is_behind(self) -> bool:
        """Whether everything is to be sent once more now."""
        now = time.monotonic()
        if now >= self._behind_until or now - self._sent_at < _AGAIN:
            return False
        self._sent_at = now
        return True

    def view(self) -> dict[str, Any]:
        """The part of a display that has it drawn."""
        return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}}

    def close(self) -> None:
        self._on_reload = None
        super().close()


class Button:
    """A button whose click is answered at once, also while a cell runs."""

    def __init__(self, name: str, tip: str, click: Callable[[str], None], **options: Any) -> None:
        self.widget = ipywidgets.Button(description=name, tooltip=tip, **options)
        self.widget.on_click(lambda _: click(name))
        # ipykernel 7.4 answers on the subshell that published last on this comm, which may be busy. Where the attribute
        # is not there, there is nothing to do. See https://github.com/jupyterlab/jupyterlab/issues/19719.
        if hasattr(self.widget.comm, "_reply_subshell_for"):
            self.widget.comm._reply_subshell_for = lambda data, default: default


def write(widget: Any, value: str) -> None:
    if widget.value != value:  # an unchanged value rebuilds nothing: what is open or selected stays
        widget.value = value


def in_thread(act: Callable[[], Any]) -> None:
    """Do what a click asks for beside everything else."""
    threading.Thread(target=act, name="nbqueue-click", daemon=True).start()


class Closable(Protocol):
    """Widgets that can go."""

    def close(self) -> None: ...
