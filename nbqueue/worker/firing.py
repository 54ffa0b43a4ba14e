"""Starting what recurs: a worker that claims learns that a schedule is due, and makes a job of it.

There is no scheduler: of all that see it, the first one's request counts.
"""

from __future__ import annotations

import logging

from nbqueue import errors
from nbqueue.payload.seal import Seal
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running, steering
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.running import Fired
from nbqueue.store.schedule_state import ScheduleState
from nbqueue.store.timetable import Timetable, decide

log = logging.getLogger("nbqueue.worker")


class Firing:
    """Starts runs of schedules, or passes them over.

    Parameters
    ----------
    seal : Seal
    requests : Pipeline
    """

    def __init__(self, seal: Seal, requests: Pipeline) -> None:
        self._seal = seal
        self._requests = requests
        self._told: set[tuple[str, str]] = set()
        """Schedules that cannot be fired here, and why not."""

    def fire(self, state: ScheduleState) -> None:
        """Do what is to be done with a schedule that is due. What is claimed next may be its job."""
        try:
            request = self._request(state, state.timetable)
        except errors.NbqueueError as error:
            why = f"{type(error).__name__}: {error}"
            if (state.token, why) not in self._told:
                self._told.add((state.token, why))
                log.error("schedule %s of queue %s is due and cannot be started here: %s", state.name, state.queue, why)
            request = running.fire(state, problem=why)
        self._requests.send(request, self._on_fired)

    def _request(self, state: ScheduleState, timetable: Timetable) -> Request[Fired]:
        turn = decide(
            timetable, float(state.due), state.at, is_busy=state.is_busy and not state.overlaps,
            busy_until=None if state.overlaps else state.ended_at,
        )  # fmt: skip
        if turn.skipped:
            log.debug("schedule %s: %d passed over, its last run had not ended", state.name, turn.skipped)
        if not turn.runs:
            return running.fire(state, next_due=turn.next_due, skipped=turn.skipped)
        batch, index = state.place()
        record = state.sign(self._seal, batch, index)
        return running.fire(
            state, next_due=turn.next_due, skipped=turn.skipped, batch=batch, index=index, record=record
        )

    def _on_fired(self, fired: Fired | errors.NbqueueError) -> None:
        if isinstance(fired, errors.NbqueueError):  # it is due again for whoever claims in some seconds
            log.error("a schedule could not be fired: %s", fired)
            return
        for batch in fired.outdated:
            self._requests.send(steering.delete(batch), self._on_deleted)

    def _on_deleted(self, deleted: int | errors.NbqueueError) -> None:
        if isinstance(deleted, errors.NbqueueError):  # whoever starts the next batch of its runs asks once more
            log.warning("old runs of a schedule could not be deleted: %s", deleted)
