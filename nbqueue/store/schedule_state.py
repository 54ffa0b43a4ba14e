"""A schedule as Redis knows it, and how a run of it is made.

The call of a schedule is signed for the schedule. Whoever starts a run verifies that, and signs it once more for the
place of the run in a batch: nothing is unpickled for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.payload.records import SEPARATE, Pieces, table_of
from nbqueue.payload.seal import Seal
from nbqueue.store.keys import new_id
from nbqueue.store.timetable import Timetable

MOST_BATCHES = 10
"""Batches whose runs are kept."""

_MOST_JOBS = 1000
"""Runs after which another batch follows."""

_PARTS = 7
"""So many batches follow each other in the time for which outcomes are kept."""

_KIND = b"schedule"


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """A schedule at one moment. Times are seconds since the epoch, by the server's clock."""

    queue: str
    name: str
    token: str
    environment: str
    due: str
    """When it is due next, as text, as it is kept."""
    times: str
    """A `Timetable` as text."""
    function: str
    lifetimes: str
    made_at: float
    runs: int
    skipped: int
    """Times that were passed over, because the run before had not ended."""
    skipped_at: float | None
    is_paused: bool
    overlaps: bool
    last: str
    """The id of the job of the last run; '' if there is none."""
    last_at: float | None
    problem: str
    """Why a worker could not start a run, in words."""
    batches: list[str]
    """Those of its runs, the newest first; some may have expired."""
    record: bytes = field(repr=False)
    batch: str
    """That of the last run; '' if there is none."""
    jobs: int
    """In it."""
    is_closed: bool
    """It takes no more."""
    is_busy: bool
    """Some of them have not ended."""
    ended_at: float | None
    submitted_at: float | None
    at: float
    """When this was read."""
    last_state: str = ""
    """Of the last run, where that was asked for; '' if it is not kept any more."""

    @classmethod
    def read(cls, reply: Sequence[Any]) -> ScheduleState:
        """From what `claim` and `schedules` answer."""
        fields = {name.decode(): value for name, value in zip(reply[0][::2], reply[0][1::2], strict=True)}
        text = {name: value.decode() for name, value in fields.items() if name != "record"}
        batch, jobs, is_closed, is_busy, ended_at, submitted_at, at = reply[1:8]
        return cls(
            text["queue"], text["name"], text["token"], text["environment"], text["due"], text["times"],
            text.get("function", ""), text["lifetimes"], float(text["made_at"]), int(text["runs"]),
            int(text["skipped"]), _time(text.get("skipped_at")), "is_paused" in text, "overlaps" in text,
            text.get("last", ""), _time(text.get("last_at")), text.get("problem", ""),
            text.get("batches", "").split(), fields["record"], batch.decode(), jobs, bool(is_closed), bool(is_busy),
            _time(ended_at), _time(submitted_at), float(at), reply[8].decode() if len(reply) > 8 else "",
        )  # fmt: skip

    @property
    def timetable(self) -> Timetable:
        """When it recurs."""
        return Timetable.read(self.times)

    @property
    def due_at(self) -> float | None:
        """When it is due next; None while it is paused."""
        return None if self.is_paused else float(self.due)

    def place(self) -> tuple[str, int]:
        """Batch and index of its next run: the last batch is not filled up for ever, so that old runs expire."""
        ttl = int(self.lifetimes.split()[0])
        longest = math.inf if ttl < 0 else ttl / _PARTS
        is_over = self.submitted_at is None or self.at - self.submitted_at > longest
        if self.is_closed or is_over or self.jobs >= _MOST_JOBS:
            return new_id(), 0
        return self.batch, self.jobs

    def sign(self, seal: Seal, batch: str, index: int) -> bytes:
        """The record of its call as a job of a batch.

        Raises
        ------
        SignatureError, CorruptPayload
        """
        opened = seal.open(_KIND, f"{self.queue}:{self.name}", 0, self.record)
        return seal.close(b"calls", batch, index, opened.layout, opened.count, opened.digests, [opened.body])


def _time(text: str | bytes | None) -> float | None:
    return float(text) if text else None


def pack_call(seal: Seal, queue: str, name: str, digest: bytes, entry: Pieces) -> bytes:
    """The record of the call of a schedule.

    Raises
    ------
    UsageError
        It is too large for that.
    """
    body = table_of([entry])
    if sum(map(len, body)) > MOST_BYTES:
        raise errors.UsageError(f"the arguments of schedule {name!r} are too large to be kept with it")
    return seal.close(_KIND, f"{queue}:{name}", 0, SEPARATE, 1, [digest], body)


MOST_BYTES = 32 * 1024
"""Bytes of arguments that are kept with a schedule; larger ones go along with the function."""
