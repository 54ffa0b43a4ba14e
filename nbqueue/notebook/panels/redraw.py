"""Drawing under a panel what a cell puts out elsewhere; from plain data."""

from __future__ import annotations

from collections.abc import Iterable

from nbqueue.cells.carriage_returns import visible
from nbqueue.cells.joiner import Content
from nbqueue.cells.messages import Area, Native

REDRAW: Native = ("redraw", {})
"""Stands for the panel, which a real `clear_output` takes away with the rest."""


class Relay:
    """Makes messages for the cell that shows a panel and, below it, what another process puts out.

    They are passed on as they are, until something is cleared. A real `clear_output` would take the panel away, and the
    page would jump each time. So from then on what the cell puts out goes into *slots*: displays with ids, which are
    filled again from the first one on. At the end all is drawn once more as it is, so that it is saved so.

    Parameters
    ----------
    prefix : str
        Of the ids of slots.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.area = Area()
        """What is to be seen, slots aside."""
        self._is_framed = False
        self._is_clearing = False
        self._fixed = 0
        """What stands there that cannot be updated."""
        self._slots: list[str] = []
        self._position = 0
        self._ids: dict[str, str] = {}
        """The slots of displays that the cell may update."""
        self._text: str | None = None
        """What the last slot of this frame has, if that is text."""
        self._is_settled = True

    def begin_with(self, messages: Iterable[Native]) -> list[Native]:
        """The messages to send for what was put out before: what is left of it."""
        for kind, content in messages:
            self.area.add(kind, content)
        for kind, content in self.area.outputs:
            self._plain(kind, content)
        return self.area.outputs

    def take(self, messages: Iterable[Native]) -> list[Native]:
        """The messages to send for these; with none of them, a moment has passed in which none came."""
        sent: list[Native] = []
        is_quiet = True
        for kind, content in messages:
            is_quiet = False
            self.area.add(kind, content)
            if kind == "clear_output":
                self._is_clearing = True
                if not content["wait"]:
                    sent += self._clear()
                continue
            if kind != "update_display_data" and self._is_clearing:
                sent += self._clear()
            sent += self._framed(kind, content) if self._is_framed else self._plain(kind, content)
        if is_quiet and not self._is_settled:
            self._is_settled = True
            sent += [_update(slot, {"data": {"text/plain": ""}}) for slot in self._slots[self._position :]]
        return sent

    def finish(self) -> list[Native]:
        """Everything once more as it is, if anything was cleared."""
        if not self._is_framed:
            return []
        self._fixed, self._position, self._text = 1, 0, None
        self._slots.clear()
        return [("clear_output", {"wait": True}), REDRAW, *self.area.outputs]

    def _plain(self, kind: str, content: Content) -> list[Native]:
        if kind == "display_data":
            self._slots.append(content["transient"]["display_id"])
        elif kind != "update_display_data":
            self._fixed += 1
        return [(kind, content)]

    def _clear(self) -> list[Native]:
        self._is_clearing, self._is_framed, self._is_settled = False, True, False
        self._position, self._text = 0, None
        self._ids.clear()
        if self._fixed == 0:
            return []
        self._fixed = 0
        self._slots.clear()
        return [("clear_output", {"wait": True}), REDRAW]

    def _framed(self, kind: str, content: Content) -> list[Native]:
        if kind == "error":
            self._fixed += 1
            return [(kind, content)]
        if kind == "update_display_data":
            display_id = content["transient"]["display_id"]
            if display_id in self._ids:
                return [_update(self._ids[display_id], content)]
            return [] if display_id in self._slots else [(kind, content)]
        if kind == "stream":
            is_new = self._text is None
            self._text = (self._text or "") + content["text"]
            bundle = {"data": {"text/plain": visible(self._text).rstrip("\n")}}
            return [self._next(bundle) if is_new else _update(self._slots[self._position - 1], bundle)]
        self._text = None
        sent = self._next(content)
        if kind == "display_data":
            self._ids[content["transient"]["display_id"]] = self._slots[self._position - 1]
        return [sent]

    def _next(self, content: Content) -> Native:
        """Fill the next slot."""
        self._position += 1
        if self._position <= len(self._slots):
            return _update(self._slots[self._position - 1], content)
        slot = f"{self._prefix}-{self._position}"
        self._slots.append(slot)
        return _display("display_data", slot, content)


def _update(slot: str, content: Content) -> Native:
    return _display("update_display_data", slot, content)


def _display(kind: str, slot: str, content: Content) -> Native:
    bundle = {"data": content["data"], "metadata": content.get("metadata", {}), "transient": {"display_id": slot}}
    return kind, bundle
