"""What a cell has put out, as native Jupyter messages: which ones are kept, and what is left to be seen of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbqueue.cells.carriage_returns import collapse, visible
from nbqueue.cells.joiner import Content
from nbqueue.store.requests.running import Shown

MOST_READ = 500
"""Messages that are read at a time."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

Native = tuple[str, Content]
"""Type and content of a Jupyter message."""


class Keeper:
    """Numbers the messages of one cell, and says which earlier ones each of them makes superfluous.

    So an hour of a progress bar, of a figure that is updated, or of `clear_output` in a loop is kept in a few messages,
    while who looks on gets all of them.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._drop_before = 0
        """What a `clear_output(wait=True)` clears as soon as something follows."""
        self._updates: dict[str, int] = {}
        self._bar: tuple[int, str, int] | None = None
        """Number, stream and width of the last message, if that is one line which another may overwrite."""

    def add(self, kind: str, content: Content) -> Shown:
        self._sequence += 1
        number, drop, replaces = self._sequence, 0, 0
        bar, self._bar = self._bar, None
        if kind == "clear_output":
            if content["wait"]:
                self._drop_before = number
            else:
                drop = number
        elif kind == "update_display_data":
            display_id = content["transient"]["display_id"]
            replaces = self._updates.get(display_id, 0)
            self._updates[display_id] = number
        else:
            drop, self._drop_before = self._drop_before, 0
            if kind == "stream":
                text = content["text"]
                name = content["name"]
                if text.startswith("\r") and "\n" not in text and "\x1b" not in text:
                    width = len(collapse(text).rpartition("\r")[2])
                    if bar is not None and not drop and bar[1] == name and bar[2] <= width:
                        replaces = bar[0]
                    self._bar = (number, name, width)
        return Shown(number, kind, json.dumps(content).encode(), drop, replaces)


@dataclass
class Area:
    """An output area, as a front end makes it of messages."""

    outputs: list[Native] = field(default_factory=list)
    """What stands there; texts collapsed. Displays and results in their present form."""
    _is_cleared: bool = False

    def add(self, kind: str, content: Content) -> None:
        """Take in one message."""
        if kind == "clear_output":
            if content["wait"]:
                self._is_cleared = True
            else:
                self._clear()
            return
        if kind == "update_display_data":
            self._update(content)
            return
        if self._is_cleared:
            self._clear()
        if kind != "stream":
            self.outputs.append((kind, content))
        elif self.outputs and self.outputs[-1][0] == "stream" and self.outputs[-1][1]["name"] == content["name"]:
            text = collapse(self.outputs[-1][1]["text"] + content["text"])
            self.outputs[-1] = ("stream", {"name": content["name"], "text": text})
        else:
            self.outputs.append(("stream", {"name": content["name"], "text": content["text"]}))

    def _clear(self) -> None:
        self.outputs.clear()
        self._is_cleared = False

    def _update(self, content: Content) -> None:
        display_id = content["transient"]["display_id"]
        for position, (kind, earlier) in enumerate(self.outputs):
            if earlier.get("transient", {}).get("display_id") == display_id:
                self.outputs[position] = (kind, {**earlier, "data": content["data"], "metadata": content["metadata"]})


def area_of(messages: Iterable[Native]) -> Area:
    """What is to be seen after these messages."""
    area = Area()
    for kind, content in messages:
        area.add(kind, content)
    return area


def text_shown(outputs: Sequence[Native]) -> str:
    """Outputs where only text can be shown."""
    parts: list[str] = []
    for kind, content in outputs:
        if kind == "stream":
            parts.append(visible(content["text"]))
            continue
        lines = content["traceback"] if kind == "error" else [content["data"].get("text/plain", "")]
        if parts and not parts[-1].endswith("\n"):
            parts.append("\n")
        parts += [_ESCAPES.sub("", str(line)) + "\n" for line in lines]
    return "".join(parts)


def last_line(outputs: Sequence[Native]) -> str:
    """The last line of text that was printed; '' if there is none."""
    for kind, content in reversed(outputs):
        if kind == "stream":
            lines = visible(content["text"]).split("\n")
            for line in reversed(lines):
                if line.strip():
                    return line
    return ""


def decode_message(kind: str, content: bytes) -> Native:
    """A message as Redis keeps it."""
    found: dict[str, Any] = json.loads(content)
    return kind, found
