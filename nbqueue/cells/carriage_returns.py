"""Carriage returns: texts in which later words stand over earlier ones, as those of bars do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r"(\x1b\[[0-9;?]*[ -/]*[@-~])|(\r)|([^\r\x1b]+|\x1b)")
"""An escape sequence, a carriage return, other characters."""

_PLAIN = "\x1b[0m"
"""Ends all styles."""


def visible(text: str) -> str:
    """A text as a terminal shows it: without what was overwritten or erased, in the colours that it has.

    Examples
    --------
    >>> visible("abc\\rx")
    'xbc'
    """
    if "\r" not in text:
        return text
    if "\x1b" not in text:
        return "\n".join(_overwritten(line.split("\r")) for line in text.split("\n"))
    style, lines = "", []
    for line in text.split("\n"):
        row = _Row(style)
        row.write(line)
        lines.append(row.text(style) if "\r" in line else line)
        style = row.style
    return "\n".join(lines)


def collapse(text: str) -> str:
    """A shorter text that shows the same, whatever is written after it."""
    if "\r" not in text:
        return text
    return "\n".join(map(_collapse_line, text.split("\n")))


def _collapse_line(line: str) -> str:
    first, *rest = line.split("\r")
    if len(rest) < 2 or "\x1b" in line:  # how wide it is depends on more than its length
        return line
    # What stands beyond the last text remains, and the cursor is at the end of that.
    under = _overwritten(rest[:-1])
    return "\r".join([first, rest[-1]] if len(under) <= len(rest[-1]) else [first, under, rest[-1]])


def _overwritten(texts: list[str]) -> str:
    """Texts that were written one over the other."""
    shown = ""
    for text in texts:
        shown = text + shown[len(text) :]
    return shown


@dataclass
class _Row:
    """A line of a terminal. Escape sequences take no column; a style belongs to the characters written in it."""

    style: str
    """The sequences in force."""
    cells: list[tuple[str, str]] = field(default_factory=list)
    """Style and character of each column."""
    column: int = 0

    def write(self, text: str) -> None:
        for sequence, is_return, plain in _TOKEN.findall(text):
            if is_return:
                self.column = 0
            elif plain:
                self.cells += [("", " ")] * (self.column - len(self.cells))
                self.cells[self.column : self.column + len(plain)] = [(self.style, letter) for letter in plain]
                self.column += len(plain)
            elif sequence in ("\x1b[K", "\x1b[0K"):
                del self.cells[self.column :]
            elif sequence == "\x1b[2K":
                self.cells.clear()
            elif sequence.endswith("m"):
                self.style = "" if sequence in (_PLAIN, "\x1b[m") else self.style.replace(sequence, "") + sequence

    def text(self, style: str) -> str:
        """Its characters, with the sequences that change from style to style; `style` is that of before."""
        parts = []
        for wanted, letter in [*self.cells, (self.style, "")]:
            if wanted != style:
                parts.append(wanted[len(style) :] if wanted.startswith(style) else _PLAIN + wanted)
                style = wanted
            parts.append(letter)
        return "".join(parts)
