"""The output of jobs, for those who look: text and lines from the entries that Redis keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nbqueue.cells.carriage_returns import visible
from nbqueue.store.requests.running import CONTINUED, STREAMS, Entry


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a job has printed."""

    index: int
    stream: str
    """'stdout' or 'stderr'."""
    text: str
    """Without its end. Where it was overwritten after a carriage return, as bars are, what is left of it."""
    id: str
    """Grows with what is printed: `Batch.output(after=id)` is empty as long as nothing is new."""


def text_of(entries: Sequence[Entry], attempt: int, stream: str = "") -> str:
    """The text that a job has printed the last time that it was started.

    Parameters
    ----------
    entries : sequence of Entry
        All that there are of the job, the oldest first.
    attempt : int
        What was printed in attempts before this one does not count.
    stream : str
        'stdout' or 'stderr'; both if empty.
    """
    text, end = b"", 0
    for entry in entries:
        if entry.attempt < attempt:
            continue
        if entry.attempt > attempt or entry.at < end:  # it was started again
            text, end, attempt = b"", 0, entry.attempt
        if entry.at >= CONTINUED > end:
            end = CONTINUED
        if entry.at > end:
            text += b"" if not text or text.endswith(b"\n") else b"\n"
            text += b"[nbqueue: %s bytes of output are not kept]\n" % f"{entry.at - end:,}".encode()
        text += b"".join(part for name, part in entry.parts if stream in ("", name))
        end = entry.at + entry.size
    return text.decode("utf-8", "replace")


def lines_of(entries: Sequence[Entry]) -> list[Line]:
    """The lines of several jobs in the order in which their last words were printed.

    Parameters
    ----------
    entries : sequence of Entry
        Neighbours, the oldest first.
    """
    lines: list[_Line] = []
    ends: dict[int, tuple[int, int]] = {}
    unfinished: dict[tuple[int, str], _Line] = {}
    for entry in entries:
        follows = ends.get(entry.index) == (entry.attempt, entry.at)
        ends[entry.index] = (entry.attempt, entry.at + entry.size)
        if not follows:
            for stream in STREAMS:
                unfinished.pop((entry.index, stream), None)
        for stream, text in entry.parts:
            for piece in re.findall(rb"[^\n]*\n|[^\n]+", text):
                line = unfinished.pop((entry.index, stream), None)
                if line is None:
                    line = _Line(entry.index, stream)
                else:
                    lines.remove(line)
                lines.append(line)
                line.text += piece
                line.id = entry.id
                if not piece.endswith(b"\n"):
                    unfinished[entry.index, stream] = line
    return [Line(line.index, line.stream, line.shown(), line.id) for line in lines]


@dataclass(slots=True, eq=False)
class _Line:
    index: int
    stream: str
    text: bytes = b""
    id: str = ""

    def shown(self) -> str:
        return visible(self.text.rstrip(b"\n").decode("utf-8", "replace"))
