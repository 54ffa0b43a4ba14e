"""Finding the dead: workers whose beat stands still, and submitters that went away half-way.

Any worker and any waiting client may do it. Decided here, from plain data and a given time; done by `sweep`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from nbqueue import errors, machine
from nbqueue.store.requests import looking, running, submitting
from nbqueue.store.requests.looking import WorkerState
from nbqueue.store.requests.request import Request
from nbqueue.store.store import Store

WORKER_SILENCE = 20.0
"""Seconds without a beat after which a worker is taken for dead."""

SUBMITTER_SILENCE = 30.0
"""Seconds without a touch after which a submitter is taken for dead."""

GAP = 10.0
"""Seconds: who has not looked for so long (a laptop that slept) begins to watch anew."""

EVERY = 3.0
"""Seconds between two looks."""


@dataclass
class Stillness:
    """Remembers, by its own monotonic clock, since when each count has stood still."""

    silence: float
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    _looked: float = float("-inf")

    def silent(self, counts: dict[str, float], now: float) -> list[str]:
        """Those whose count has not moved for longer than the silence that is allowed."""
        if now - self._looked > GAP:
            self._seen.clear()
        self._looked = now
        self._seen = {
            id: self._seen[id] if id in self._seen and self._seen[id][0] == count else (count, now)
            for id, count in counts.items()
        }
        return [id for id, (_, since) in self._seen.items() if now - since > self.silence]


def vanished(worker: WorkerState, here: str) -> bool:
    """Whether a worker of this host has no process any more."""
    fields = worker.fields
    if fields.get("machine") != here or not fields.get("pid", "").isdigit():
        return False
    return not machine.is_alive(int(fields["pid"]), fields.get("started", ""))


def alive_and_dead(workers: list[WorkerState], here: str) -> tuple[list[WorkerState], list[WorkerState]]:
    """Workers that are there, as far as can be seen from this host, and those that have no process any more."""
    dead = {worker.id for worker in workers if vanished(worker, here)}
    return [one for one in workers if one.id not in dead], [one for one in workers if one.id in dead]


class Reaper:
    """Looks for the dead now and then, and takes back what they held."""

    def __init__(self) -> None:
        self._workers = Stillness(WORKER_SILENCE)
        self._submitters = Stillness(SUBMITTER_SILENCE)
        self._here = machine.identity()

    def requests(self, workers: list[WorkerState], touches: dict[str, float], now: float) -> list[Request[int]]:
        """What is to be done about those that are dead."""
        found: list[Request[int]] = []
        silent = set(self._workers.silent({worker.id: worker.beat for worker in workers}, now))
        for worker in workers:
            if vanished(worker, self._here):
                found.append(running.reap(worker.id, worker.beat, f"its worker {worker.name} died"))
            elif worker.id in silent:
                found.append(running.reap(worker.id, worker.beat, f"its worker {worker.name} fell silent"))
        for batch in self._submitters.silent(touches, now):
            found.append(submitting.abandon(batch, touches[batch], "its submitter died after %d jobs were submitted"))
        return found

    def sweep(self, store: Store) -> int:
        """Look, and act; returns how many were found dead."""
        found = 0
        for request in self.requests(store.call(looking.workers()), store.submitting(), time.monotonic()):
            with contextlib.suppress(errors.ServerFull):  # whoever looks when there is room again does it
                found += store.call(request) >= 0
        return found
