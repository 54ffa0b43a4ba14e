"""Joins what a cell puts out in bursts, and bounds it. Plain data, no threads."""

from __future__ import annotations

import json
import uuid
from typing import Any

from nbqueue.cells.carriage_returns import collapse

LIMIT = 16 * 1024 * 1024
"""Characters of text, and as many of displays, that a cell may leave standing."""

MESSAGE = 64 * 1024
"""Characters of a stream message at most."""

ENVELOPE = 1000
"""Characters that a display counts beside its data, so that many tiny ones are bounded, too."""

Content = dict[str, Any]


class Joiner:
    """Makes few messages of many: decides from plain data, without threads or clocks.

    Neighbouring texts become one, of several updates of a display only the last is handed on, and what is cleared
    before it was handed on is not at all. A display without an id gets one, counted from the last
    `clear_output` on: the first display after it has the id of the first one before, so that a front end can update
    it instead of making the page jump.

    Parameters
    ----------
    limit : int
        Characters of text, and as many of displays, that may stand at once: what is overwritten after `\\r`, updated
        or cleared does not count. What goes beyond is cut, which one sentence says.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.size = 0
        """About how much waits to be taken."""
        self._limit = limit
        self._prefix = uuid.uuid4().hex[:12]
        self._pending: list[tuple[str, Content]] = []
        self._clear_at: int | None = None
        """Where a `clear_output(wait=True)` is pending that the next output completes; -1 if it was taken."""
        self._start()

    def _start(self) -> None:
        """The area is empty."""
        self._lines = self._line = self._column = self._displays = self._anonymous = 0
        self._sizes: dict[str, int] = {}
        self._was_cut: set[str] = set()

    def add(self, kind: str, content: Content, size: int) -> None:
        """Take a message in."""
        if kind not in ("clear_output", "update_display_data") and self._clear_at is not None:
            self._drop(max(0, self._clear_at))
        self.size += size
        if kind == "clear_output":
            self._clear(content)
        elif kind == "update_display_data":
            self._update(content, size)
        elif kind == "stream":
            self._text(content["name"], content["text"])
        elif kind == "error":
            self._pending.append((kind, content))
        elif self._displays + size > self._limit:
            self._cut("rich output")
        else:
            self._displays += size
            if kind == "display_data":
                display_id = content["transient"].get("display_id")
                if display_id is None:
                    display_id = f"{self._prefix}-{self._anonymous}"
                    self._anonymous += 1
                    content = {**content, "transient": {**content["transient"], "display_id": display_id}}
                self._sizes[display_id] = self._sizes.get(display_id, 0) + size
            self._pending.append((kind, content))

    def has_pending(self) -> bool:
        return bool(self._pending)

    def take(self) -> list[tuple[str, Content]]:
        """The messages that follow from what was added since the last time."""
        pending, self._pending, self.size = self._pending, [], 0
        if self._clear_at is not None:
            self._clear_at = -1
        taken: list[tuple[str, Content]] = []
        for kind, content in pending:
            if kind != "stream":
                taken.append((kind, content))
                continue
            text = collapse("".join(content["text"]))
            if not text.isascii():  # lone surrogates, which cannot be sent
                text = text.encode("utf-8", "backslashreplace").decode()
            step = MESSAGE if text.isascii() else MESSAGE // 4
            for start in range(0, len(text), step):
                taken.append(("stream", {"name": content["name"], "text": text[start : start + step]}))
        return taken

    def _clear(self, content: Content) -> None:
        if not content["wait"]:
            self._drop(len(self._pending))
            self._pending.append(("clear_output", content))
        elif self._clear_at is None:
            self._clear_at = len(self._pending)
            self._pending.append(("clear_output", content))

    def _drop(self, count: int) -> None:
        """The first so many messages are cleared; updates may be meant for other cells' displays."""
        updates = [message for message in self._pending[:count] if message[0] == "update_display_data"]
        self._pending[:count] = updates
        self.size = ENVELOPE * len(self._pending)
        self._clear_at = None
        self._start()

    def _update(self, content: Content, size: int) -> None:
        display_id = content["transient"]["display_id"]
        before = self._sizes.get(display_id, 0)
        if self._displays - before + size > self._limit:
            self._cut("rich output")
            return
        self._displays += size - before
        self._sizes[display_id] = size
        # Not merged into the display itself: there may be earlier ones of that id, here or under other cells.
        for i, (kind, earlier) in enumerate(self._pending):
            if kind == "update_display_data" and earlier["transient"]["display_id"] == display_id:
                del self._pending[i]
                self.size -= message_size(kind, earlier)
                if self._clear_at is not None and i < self._clear_at:
                    self._clear_at -= 1
                break
        self._pending.append(("update_display_data", content))

    def _text(self, name: str, text: str) -> None:
        if "text" in self._was_cut:
            return
        before = self._lines + self._line
        if self._advance(text) <= self._limit:
            self._append(name, text)
        else:
            self._append(name, text[: self._limit - before])
            self._cut("text")

    def _advance(self, text: str) -> int:
        """Count what will stand after a text; returns that."""
        if "\r" not in text and "\n" in text:  # whole lines at once
            first, end = text.find("\n"), text.rfind("\n") + 1
            self._lines += max(self._line, self._column + first) + end - first
            self._line = self._column = 0
            text = text[end:]
        for number, line in enumerate(text.split("\n")):
            if number:
                self._lines += self._line + 1
                self._line = self._column = 0
            for returns, part in enumerate(line.split("\r")):
                self._column = len(part) if returns else self._column + len(part)
                self._line = max(self._line, self._column)
        return self._lines + self._line

    def _append(self, name: str, text: str) -> None:
        if self._pending and self._pending[-1][0] == "stream" and self._pending[-1][1]["name"] == name:
            self._pending[-1][1]["text"].append(text)
        else:
            self._pending.append(("stream", {"name": name, "text": [text]}))

    def _cut(self, what: str) -> None:
        if what not in self._was_cut:
            self._was_cut.add(what)
            self._append("stderr", f"\n[nbqueue: the limit of {_mb(self._limit)} is reached; further {what} was cut]\n")


def message_size(kind: str, content: Content) -> int:
    if kind == "stream":
        return len(content["text"])
    data = content.get("data", {})
    return ENVELOPE + sum(len(value if isinstance(value, str) else json.dumps(value)) for value in data.values())


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} KB"
