"""What jobs print: from the pieces on the ring to the entries that Redis keeps, and from these to text and lines.

An entry is up to 1,000 bytes of one job, whole lines where that is possible, from both streams in the order in which
they were written. Plain data in, plain data out, no input or output here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from nbqueue.protocol.messages import Printed
from nbqueue.store.requests.running import MOST_ENTRIES, Entry

_ENTRY = 1000
"""Bytes of an entry's text. With the number of entries it bounds what a batch's output takes."""

_PARTS = 100

_LOOSE = 8
"""Entries of a running job that are not full, before they are put together. Each time an entry were made longer, the
server would keep its former place, too: a stream frees entries by the node."""

_FIRST = _LAST = 32 * 1024
"""Bytes that are kept of what a job printed: its first and its last ones."""

Piece = tuple[int, str, bytes]
"""Position in what the job printed, stream, text."""


class OutputLog:
    """What the jobs of a run have printed, as far as it is known to be stored.

    Parameters
    ----------
    attempts : mapping
        How often jobs were started before, where that is not 0.
    begins : int
        How much jobs are taken to have printed before.
    """

    def __init__(self, attempts: Mapping[int, int], begins: int = 0) -> None:
        self._attempts = attempts
        self._begins = begins
        self._begin(-1)

    def _begin(self, index: int) -> None:
        self._index = index
        self._loose: list[Entry] = []
        self._behind: deque[Entry] = deque()
        """Entries that are not of the job's first bytes."""
        self._end, self._written = self._begins, 0
        """Bytes of the job so far, and how many of them were written to a descriptor."""

    def add(self, printed: Sequence[Printed]) -> tuple[list[str], list[Entry]]:
        """Ids of entries that go, and the entries that come.

        Parameters
        ----------
        printed : sequence of Printed
            What the jobs have printed since the last time, in order.
        """
        gone: list[str] = []
        new: list[Entry] = []
        for index, group in groupby(printed, key=lambda piece: piece.index):
            if index != self._index:
                self._begin(index)
            ids, entries = self._add_to_job([self._placed(piece) for piece in group])
            gone += ids
            new += entries
        return gone, new[-MOST_ENTRIES:]

    def _placed(self, piece: Printed) -> Piece:
        """A piece at its position in all that the job has put out."""
        if piece.at < 0:
            at = self._end
            self._written += len(piece.text)
        else:
            at = self._begins + piece.at + self._written
        self._end = at + len(piece.text)
        return at, piece.stream, piece.text

    def _add_to_job(self, pieces: list[Piece]) -> tuple[list[str], list[Entry]]:
        gone: list[str] = []
        loose = self._loose
        size = sum(entry.size for entry in loose) + sum(len(text) for _, _, text in pieces)
        if (len(loose) >= _LOOSE or size > _ENTRY) and all(entry.id for entry in loose):
            pieces = [piece for entry in loose for piece in _pieces(entry)] + pieces
            entries = self._pack(pieces)
            while loose and entries and (entries[0].at, entries[0].parts) == (loose[0].at, loose[0].parts):
                del loose[0], entries[0]
            gone += (entry.id for entry in loose)
            self._drop(loose)
            self._loose = []
        else:
            entries = self._pack(pieces)
        if len(entries) > 1 or entries[-1].size == _ENTRY:
            self._loose = []  # what lies before a full entry stays there
        if entries[-1].size < _ENTRY:
            self._loose.append(entries[-1])
        self._behind += (entry for entry in entries if entry.at >= _FIRST)
        return self._limit(gone, entries)

    def _limit(self, gone: list[str], entries: list[Entry]) -> tuple[list[str], list[Entry]]:
        """Drop what lies before the last bytes; of what is on its way, it is not known yet what it is called."""
        room = _LAST
        for position in range(len(self._behind) - 1, -1, -1):
            room -= self._behind[position].size
            if room < 0:
                break
        else:
            return gone, entries
        stale = list(self._behind)[: position + 1]
        new = set(map(id, entries))
        gone += (entry.id for entry in stale if entry.id)
        dropped = [entry for entry in stale if entry.id or id(entry) in new]
        self._drop(dropped)
        unwanted = set(map(id, dropped))
        return gone, [entry for entry in entries if id(entry) not in unwanted]

    def stored(self, entries: Sequence[Entry], ids: Sequence[str]) -> None:
        """Entries have these ids; those without one are not stored, or nobody knows."""
        for entry, id in zip(entries, ids, strict=False):
            entry.id = id
        self._drop([entry for entry in entries if not entry.id])

    def _drop(self, entries: Sequence[Entry]) -> None:
        """They are not looked after any more."""
        dropped = set(map(id, entries))
        self._loose = [entry for entry in self._loose if id(entry) not in dropped]
        self._behind = deque(entry for entry in self._behind if id(entry) not in dropped)

    def _pack(self, pieces: Iterable[Piece]) -> list[Entry]:
        attempt = self._attempts.get(self._index, 0) + 1
        entries: list[Entry] = []
        room = end = 0
        for at, stream, text in pieces:
            while text:
                if room == 0 or at != end or len(entries[-1].parts) >= _PARTS:
                    entries.append(Entry(self._index, attempt, at, []))
                    room = _ENTRY
                parts = entries[-1].parts
                size = _fitting(text, room, bool(parts) and parts[-1][1].endswith(b"\n"))
                if size == 0:
                    room = 0
                    continue
                if parts and parts[-1][0] == stream:
                    parts[-1] = (stream, parts[-1][1] + text[:size])
                else:
                    parts.append((stream, text[:size]))
                text = text[size:]
                room -= size
                at = end = at + size
        return entries


def _pieces(entry: Entry) -> Iterable[Piece]:
    at = entry.at
    for stream, text in entry.parts:
        yield at, stream, text
        at += len(text)


def _fitting(text: bytes, room: int, is_between_lines: bool) -> int:
    """How much of a text goes into an entry: whole lines if possible, at least whole characters."""
    if len(text) <= room:
        return len(text)
    lines = text.rfind(b"\n", 0, room) + 1
    if lines or is_between_lines:
        return lines
    size = room
    while size > max(0, room - 4) and text[size] & 0xC0 == 0x80:
        size -= 1
    return size
