"""How often a job was started, and how each time went."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nbqueue.client.outcome import Outcome, read_own, value_of
from nbqueue.client.session import Session


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a job, and how it ended."""

    number: int
    """From 1."""
    started_at: datetime | None
    duration: float | None
    """Seconds."""
    worker_name: str | None
    exc_info: str | None
    """The traceback, as text; None if it returned."""
    _outcome: Outcome = field(repr=False)
    _job_id: str = field(repr=False)

    def return_value(self) -> Any:
        """What it returned; raises what it raised."""
        if self._outcome.is_failed or self._outcome.outcomes is None:
            raise self._outcome.exception(self._job_id)
        batch, _, index = self._job_id.partition(":")
        return value_of(self._outcome.outcomes, batch, int(index))

    def exception(self) -> BaseException | None:
        """What it raised; None if it returned."""
        return self._outcome.exception(self._job_id) if self._outcome.is_failed else None


def attempt_of(outcome: Outcome, index: int, job_id: str, number: int) -> Attempt:
    """One that ended with an outcome."""
    outcomes = outcome.outcomes
    if outcomes is None:  # in words: its process died
        return Attempt(number, None, None, None, outcome.failure().traceback, outcome, job_id)
    return Attempt(
        outcomes.attempt, datetime.fromtimestamp(outcomes.started_at(index), UTC), outcomes.duration(index),
        outcomes.worker, outcome.failure().traceback if outcome.is_failed else None, outcome, job_id,
    )  # fmt: skip


def read_attempts(session: Session, batch: str, index: int, attempts: int) -> list[Attempt]:
    """Those after which a job ran again, of `attempts` that there were, the first ones first."""
    found = session.store.tries(batch, index, attempts)
    return [
        attempt_of(read_own(session, batch, index, record), index, f"{batch}:{index}", number)
        for number, record in found.items()
    ]
