"""The widgets that panels are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets

from nbqueue.notebook.markup.batch import failure_count, failure_details
from nbqueue.notebook.markup.parts import STYLE
from nbqueue.view.shown import FailureShown

_RELOAD = 1.5
"""Seconds after which a request for a widget's whole state means that the page was loaded anew."""

_CATCH_UP = 10.0
"""Seconds after such a request for which everything is sent once more: the page drops what comes until it has drawn."""

_AGAIN = 1.0
"""Seconds between two of these."""

VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True, slots=True)
class Parts:
    """The HTML that the widgets of a panel show, from top to bottom."""

    head: str
    """Beside the buttons."""
    above: tuple[str, ...] = ()
    """What stands above the failures, and `below` what stands below them; each is written only when it has changed."""
    failures: tuple[FailureShown, ...] = ()
    below: tuple[str, ...] = ()
    buttons: tuple[str, ...] = ()
    """Those that make sense now, by name."""


class Live:
    """The widgets of one panel.

    Parameters
    ----------
    parts : Parts
        What they show first. There are never more or fewer parts above and below.
    tips : mapping of str to str
        All buttons that there may be, and what is said of them.
    click : callable
        Called with a button's name.
    reloaded : callable
        Called when the page was loaded anew.
    """

    def __init__(
        self, parts: Parts, tips: Mapping[str, str], click: Callable[[str], None], reloaded: Callable[[], None]
    ) -> None:
        layout, style = ipywidgets.Layout(), ipywidgets.ButtonStyle()
        self._buttons = {name: _button(name, tip, click, layout=layout, style=style) for name, tip in tips.items()}
        self._head = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 auto", min_width="0"))
        self._top = ipywidgets.HBox([self._head])
        self._above = [ipywidgets.HTML() for _ in parts.above]
        self._below = [ipywidgets.HTML() for _ in parts.below]
        self._groups: dict[str, _Failure] = {}
        self._failures = ipywidgets.VBox()
        self._box = _Box([self._top, *self._above, self._failures, *self._below], reloaded)
        self.show(parts)

    def view(self) -> dict[str, Any]:
        """The part of a display that has them drawn."""
        return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}}

    def show(self, parts: Parts) -> None:
        """Write what has changed."""
        for widget, html in zip(self._texts(), (parts.head, *parts.above, *parts.below), strict=True):
            _write(widget, html)
        self._show_failures(parts.failures)
        _put(self._top, (self._head, *(self._buttons[name] for name in parts.buttons)))
        if self._box.is_behind():
            self._send_again()

    def _texts(self) -> list[Any]:
        return [self._head, *self._above, *self._below]

    def _show_failures(self, failures: tuple[FailureShown, ...]) -> None:
        for failure in failures:
            if failure.digest in self._groups:
                self._groups[failure.digest].show(failure)
            else:
                self._groups[failure.digest] = _Failure(failure)
        for digest in set(self._groups) - {failure.digest for failure in failures}:
            del self._groups[digest]
        _put(self._failures, tuple(group.row for group in self._groups.values()))

    def _send_again(self) -> None:
        """What the page has already changes nothing there."""
        for widget in (*(group.count for group in self._groups.values()), *self._texts()):
            widget.send_state("value")
        for box in (self._failures, self._top):
            box.send_state("children")

    def disable(self, name: str, disabled: bool) -> None:
        """Have a button take no clicks, or take them again."""
        self._buttons[name].disabled = disabled

    def close(self) -> None:
        """Take them out of the page, and out of memory."""
        for group in self._groups.values():
            for widget in (*group.row.children, group.row):
                widget.close()
        for widget in (*self._buttons.values(), *self._box.children, self._head, self._box):
            widget.close()


class _Failure:
    """A group of failures: its count changes, what can be opened is written once."""

    def __init__(self, failure: FailureShown) -> None:
        self.count = ipywidgets.HTML(failure_count(failure), layout=ipywidgets.Layout(flex="0 0 auto"))
        details = ipywidgets.HTML(failure_details(failure), layout=ipywidgets.Layout(flex="1 1 auto"))
        self.row = ipywidgets.HBox([self.count, details])

    def show(self, failure: FailureShown) -> None:
        _write(self.count, failure_count(failure))


class _Box(ipywidgets.VBox):  # type: ignore[misc]
    """All widgets of a panel. Notices when a page that was loaded anew asks for it."""

    _made_at = float("inf")
    _on_reload: Callable[[], None] | None = None
    _behind_until = _sent_at = 0.0

    def __init__(self, parts: list[Any], on_reload: Callable[[], None]) -> None:
        look = ipywidgets.HTML(STYLE, layout=ipywidgets.Layout(display="none"))
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
        """True when everything is to be sent once more."""
        now = time.monotonic()
        if now >= self._behind_until or now - self._sent_at < _AGAIN:
            return False
        self._sent_at = now
        return True

    def close(self) -> None:
        self._on_reload = None
        super().close()


def _button(name: str, tip: str, click: Callable[[str], None], **options: Any) -> Any:
    """A button whose click is answered at once, also while a cell runs."""
    button = ipywidgets.Button(description=name, tooltip=tip, **options)
    button.on_click(lambda _: click(name))
    # ipykernel 7.4 answers on the subshell that published last on this comm, which may be busy. Where the attribute
    # is not there, there is nothing to do. See https://github.com/jupyterlab/jupyterlab/issues/19719.
    if hasattr(button.comm, "_reply_subshell_for"):
        button.comm._reply_subshell_for = lambda data, default: default
    return button


def _write(widget: Any, value: str) -> None:
    if widget.value != value:  # an unchanged value rebuilds nothing: what is open or selected stays
        widget.value = value


def _put(box: Any, children: tuple[Any, ...]) -> None:
    if box.children != children:
        box.children = children


def in_thread(act: Callable[[], Any]) -> None:
    """Do what a click asks for beside everything else."""
    threading.Thread(target=act, name="nbqueue-click", daemon=True).start()
