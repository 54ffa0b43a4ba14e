"""Reading the outcomes of a batch as they come, in input order or in the order of ending, with bounded memory."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.client import outcome
from nbqueue.client.outcome import Outcome
from nbqueue.client.session import Session
from nbqueue.payload.outcomes import Outcomes
from nbqueue.payload.records import Blob
from nbqueue.store.keys import CANCELED_RUN, ENDED, UNDONE
from nbqueue.store.requests.looking import BatchState, OutcomeRecords

_CHUNK = 16384
"""Jobs of which the outcomes are read at once at most."""

_LARGE = 1_000_000
"""Bytes of outcomes that are worth to be read while others are looked at, and too many to be kept for later."""

_FIRST = 16
"""Jobs of which the outcomes are read at once in the order of ending, until it is known how large they are."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that did not finish, in the place of its result."""

    index: int
    outcome: Outcome | None
    """Its failure; None if it was canceled, or its record cannot be read."""
    error: Exception | None = None
    """Why its outcome cannot be read."""


WAITS, RECORDED, CANCELED = range(3)
_MARKS = {ENDED: RECORDED, UNDONE: WAITS, CANCELED_RUN: CANCELED}


class Marks:
    """The fate of each job, from the list of what ended; a byte for each."""

    def __init__(self, session: Session, id: str) -> None:
        self._session = session
        self._id = id
        self._offset = 0
        self.marks = bytearray()

    def follow(self, most: int) -> bool:
        """Read some further entries and mark their jobs; False if there were none."""
        runs = self.read(most)
        for start, stop, mark in runs:
            if len(self.marks) < stop:
                self.marks.extend(bytes(stop - len(self.marks)))
            self.marks[start:stop] = bytes([mark]) * (stop - start)
        return bool(runs)

    def read(self, most: int) -> list[tuple[int, int, int]]:
        """Some further entries: start, stop, and the mark of these jobs."""
        ended = self._session.store.ended(self._id, self._offset, most)
        self._offset += len(ended)
        return [(run.start, run.stop, _MARKS[run.what]) for run in ended]

    def is_behind(self) -> bool:
        """Whether there are entries that were not read."""
        return self._session.store.ended_count(self._id) > self._offset


class Reader:
    """Reads outcomes as they come, in input order or in the order of ending, with bounded memory."""

    def __init__(self, session: Session, id: str) -> None:
        self._session = session
        self._id = id
        self._ended = Marks(session, id)
        self._marks = self._ended.marks
        self._position = 0
        self._ahead: tuple[int, Future[OutcomeRecords | None]] | None = None
        """From which job on what comes next is already being read, and that."""
        self._told: bytearray = bytearray()
        self._untold: deque[int] = deque()
        """Jobs that have ended and were not given out yet."""
        self._at_once = _FIRST

    @property
    def position(self) -> int:
        """The index that `next_in_order` gives next."""
        return self._position

    def next_in_order(self, refresh: Callable[[], BatchState]) -> list[Any] | None:
        """Further results in input order, an `Ended` for each job without one: empty at the end, None if they are not
        there yet.

        Parameters
        ----------
        refresh : callable
            Reads the state of the batch.
        """
        while True:
            found = self._recorded()
            if found:
                return found
            if not self._ended.follow(5000):
                break
        state = refresh()
        if state.done and self._position >= state.total:
            return []
        if state.done and self._is_settled(state):
            raise errors.ResultExpired(
                f"the outcome of job {self._id}:{self._position} is not there any more (the job has ended)"
            )
        return None

    def _is_settled(self, state: BatchState) -> bool:
        """Nothing changed while we looked: no entry was added, nothing was queued again."""
        return not self._ended.is_behind() and self._session.state(self._id).ended == state.ended

    def _recorded(self) -> list[Any]:
        position, marks = self._position, self._marks
        if position >= len(marks) or marks[position] == WAITS:
            return []
        if marks[position] == CANCELED:
            self._position += 1
            return [Ended(position, None)]
        stop = position
        limit = min(len(marks), position + _CHUNK)
        ends = [marks.find(bytes([mark]), position, limit) for mark in (WAITS, CANCELED)]
        stop = min([end for end in ends if end >= 0], default=limit)
        values: list[Any] = []
        for index, count, value in self._read(position, stop):
            if count == 0:  # it was queued again after it had ended
                self._marks[index] = WAITS
                break
            values += value
            self._position = index + count
        return values

    def _read(self, start: int, stop: int) -> Iterator[tuple[int, int, list[Any]]]:
        """Index, number and values of neighbouring jobs, of some 4 MB; number 0 where there is no outcome."""
        found = self._fetch(start, stop)
        if found is None:
            self._session.state(self._id)  # raises NotFound
            return
        if start < found.stop < stop and sum(map(len, found.records.values())) >= _LARGE:
            self._fetch_ahead(found.stop, stop)
        position = start
        while position < found.stop:
            block = position // found.per_block
            last = min(found.stop, (block + 1) * found.per_block)
            yield from self._read_block(found, block, position, last)
            position = last

    def _fetch(self, start: int, stop: int) -> OutcomeRecords | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == start:
            return ahead[1].result()
        return self._session.store.outcomes(self._id, start, stop)

    def _fetch_ahead(self, start: int, stop: int) -> None:
        """Read what comes next, while what is there is verified and used: neither holds the other up."""
        future: Future[OutcomeRecords | None] = Future()

        def fetch() -> None:
            try:
                future.set_result(self._session.store.outcomes(self._id, start, stop))
            except Exception as error:  # noqa: BLE001 - raised where it is asked for
                future.set_exception(error)

        self._ahead = start, future
        threading.Thread(target=fetch, name="nbqueue-read", daemon=True).start()

    def _read_block(
        self, found: OutcomeRecords, block: int, start: int, stop: int
    ) -> Iterator[tuple[int, int, list[Any]]]:
        record = found.records.get(f"b{block}")
        first = block * found.per_block
        session, batch = self._session, self._id
        outcomes: Outcomes | None = None
        problem: Exception | None = None
        try:
            if record is not None:
                outcomes = Outcomes(session.seal, batch, first, record, once=True, find=session.serializer)
        except errors.PayloadError as error:
            problem = error
        if outcomes is not None:
            has_own = (
                any(str(index) in found.records for index in range(start, stop)) if len(found.records) > 1 else False
            )
            if not has_own and (values := outcomes.values(start, stop)) is not None:
                yield start, stop - start, values
                return
        for index in range(start, stop):
            own = found.records.get(str(index))
            if own is None and problem is None and (outcomes is None or index not in outcomes):
                yield index, 0, []
                return
            try:
                if own is None and problem is not None:
                    raise problem
                yield index, 1, [self._value_or_end(index, own, outcomes)]
            except errors.NbqueueError as error:  # of this job alone: the others can be read
                yield index, 1, [Ended(index, None, error)]

    def _value_or_end(self, index: int, own: Blob | None, outcomes: Outcomes | None) -> Any:
        if own is not None:
            ended = outcome.read_own(self._session, self._id, index, own, once=True)
        else:
            ended = Outcome(outcomes)
        if ended.is_failed:
            return Ended(index, ended)
        assert ended.outcomes is not None
        return outcome.value_of(ended.outcomes, self._id, index)

    def next_ended(self, refresh: Callable[[], BatchState]) -> list[tuple[int, Outcome | None]] | None:
        """Further jobs in the order of ending: empty at the end, None if none has ended meanwhile.

        Returns
        -------
        list of (index, Outcome or None)
            The outcome where it was read with those of others, so that asking the job for it costs nothing.
        """
        if not self._untold:
            self._untold.extend(self._newly_ended())
        if self._untold:
            indices = [self._untold.popleft() for _ in range(min(self._at_once, len(self._untold)))]
            found, size = self._outcomes_of(indices)
            self._at_once = max(1, self._at_once // 2) if size > _LARGE else min(_CHUNK, 2 * self._at_once)
            return [(index, found.get(index)) for index in indices]
        state = refresh()
        return [] if state.done and not self._ended.is_behind() else None

    def _newly_ended(self) -> Iterable[int]:
        ended: dict[int, None] = {}
        for start, stop, mark in self._ended.read(200):
            if len(self._told) < stop:
                self._told.extend(bytes(stop - len(self._told)))
            for index in range(start, stop):
                if mark == WAITS:  # it runs again, and will end again
                    self._told[index] = 0
                    ended.pop(index, None)
                elif not self._told[index]:
                    self._told[index] = 1
                    ended[index] = None
        return ended

    def _outcomes_of(self, indices: list[int]) -> tuple[dict[int, Outcome], int]:
        """The outcomes of jobs, read in few calls, and their bytes."""
        wanted, ordered = set(indices), sorted(indices)
        outcomes: dict[int, Outcome] = {}
        start = size = 0
        while start < len(ordered):
            end = start
            while end + 1 < len(ordered) and ordered[end + 1] - ordered[start] < _CHUNK:
                end += 1
            position, stop = ordered[start], ordered[end] + 1
            while position < stop:
                found = self._session.store.outcomes(self._id, position, stop)
                if found is None or found.stop <= position:
                    return outcomes, size
                size += sum(map(len, found.records.values()))
                opened: dict[int, Outcomes] = {}
                for index in wanted.intersection(range(position, found.stop)):
                    with contextlib.suppress(errors.PayloadError):  # the job tells, who is asked next
                        ended = self._outcome_of(index, found, opened)
                        if ended is not None:
                            outcomes[index] = ended
                position = found.stop
            start = end + 1
        return outcomes, size

    def _outcome_of(self, index: int, found: OutcomeRecords, opened: dict[int, Outcomes]) -> Outcome | None:
        own = found.records.get(str(index))
        if own is not None:
            return outcome.read_own(self._session, self._id, index, own)
        block = index // found.per_block
        record = found.records.get(f"b{block}")
        if record is None:
            return None
        if block not in opened:
            first, find = block * found.per_block, self._session.serializer
            opened[block] = Outcomes(self._session.seal, self._id, first, record, find=find)
        return Outcome(opened[block]) if index in opened[block] else None
