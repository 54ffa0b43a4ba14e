"""Names and texts that keys hold: ids, tokens, runs, and the marks in front of records."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

IN_WORDS = b"!"
"""Begins the record of an outcome that is plain words (JSON), never unpickled."""
POINTER = b"@"
"""Begins the record of an outcome that says which field of `batch:<id>:outcomes:bulk` holds it."""

ENDED, CANCELED_RUN, UNDONE = "", "c", "r"
"""What an entry of `batch:<id>:ended` says of its jobs: they have an outcome, were canceled, are queued again."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """An entry of the list of what ended."""

    start: int
    stop: int
    what: str
    """ENDED, CANCELED_RUN or UNDONE."""

    @classmethod
    def read(cls, entry: bytes) -> EndedRun:
        """From its text: '17', '10-40', 'c10-40', 'r10-40'."""
        text = entry.decode()
        what = text[0] if text[0] in (CANCELED_RUN, UNDONE) else ENDED
        start, _, stop = text[len(what) :].partition("-")
        return cls(int(start), int(stop) if stop else int(start) + 1, what)


def read_queued(entry: bytes) -> tuple[int, int]:
    """First index, and the index after the last one, of an entry of `batch:<id>:queued`: '10-40', 's10-40'."""
    start, _, stop = entry.decode().lstrip("s").partition("-")
    return int(start), int(stop)


def new_id() -> str:
    """Six characters that are easy to read and type; whether they are free, `submit` tells."""
    letters = "abcdefghjkmnpqrstuvwxyz"
    characters = letters + "23456789"
    return secrets.choice(letters) + "".join(secrets.choice(characters) for _ in range(5))


def new_token() -> str:
    """Tells one call from another."""
    return secrets.token_hex(8)
