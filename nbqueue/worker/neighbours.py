"""The other workers, as one of them sees them: what the dead held is taken over, and namesakes are told of."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from nbqueue import machine
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.reaper import EVERY, WORKER_SILENCE, Reaper, vanished
from nbqueue.store.requests import looking, running
from nbqueue.store.requests.looking import WorkerState
from nbqueue.worker.identity import Identity

log = logging.getLogger("nbqueue.worker")


class Neighbours:
    """Looks at the other workers, at submitters, and at what has waited for too long, now and then.

    Parameters
    ----------
    who : Identity
        The worker that looks.
    requests : Pipeline
    """

    def __init__(self, who: Identity, requests: Pipeline) -> None:
        self._who = who
        self._requests = requests
        self._reaper = Reaper()
        self._namesakes: set[str] = set()
        """Ids of other workers of this name that were told of."""
        self.look_at = 0.0
        """When it looks next, by the monotonic clock."""

    def look(self, now: float) -> None:
        if now < self.look_at:
            return
        self.look_at = now + EVERY
        touched: list[Any] = []

        def on_workers(workers: Any) -> None:
            touches = touched[0]
            if isinstance(workers, list) and isinstance(touches, dict):
                others = [worker for worker in workers if worker.id != self._who.id]
                self._tell_of_namesakes(others)
                self._take_over(others, touches)

        self._requests.send(looking.submissions(), touched.append)
        self._requests.send(looking.workers(), on_workers)
        # Where all children are busy, no claim does it.
        self._requests.send(running.give_up(self._who.environment, self._who.options.queues), lambda answer: None)

    def _take_over(self, others: list[WorkerState], touches: dict[str, float]) -> None:
        names = {worker.id: worker.name for worker in others}
        for request in self._reaper.requests(others, touches, time.monotonic()):
            dead = request.arguments[0].decode()
            log.warning("taking over from the dead: %s", names.get(dead, dead))
            self._requests.send(request, lambda answer: None)

    def _tell_of_namesakes(self, others: Sequence[WorkerState]) -> None:
        """Nothing goes wrong with two of a name, but people take them for one."""
        for other in others:
            if other.name != self._who.name or other.id in self._namesakes or vanished(other, machine.identity()):
                continue
            self._namesakes.add(other.id)
            log.warning(
                "another worker is called %s too (host %s, process %s): each works for itself. If that one was killed, "
                "what it held runs elsewhere %d seconds after its last sign of life",
                self._who.name, other.fields.get("host", "?"), other.fields.get("pid", "?"), WORKER_SILENCE,
            )  # fmt: skip
