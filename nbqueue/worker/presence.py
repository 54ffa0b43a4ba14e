"""The presence of a worker: it registers, beats, hears of orders, and learns that it was taken for dead."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import selectors
import time
from collections.abc import Mapping
from typing import Any

from nbqueue import errors, machine
from nbqueue.store import keys
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running
from nbqueue.store.requests.running import CancelBatch, CancelJob, Order, UnknownOrder
from nbqueue.store.store import Store
from nbqueue.worker.identity import Identity
from nbqueue.worker.places import Places
from nbqueue.worker.pool import Pool
from nbqueue.worker.settlement import Settlement
from nbqueue.worker.stopping import Cancels

log = logging.getLogger("nbqueue.worker")

_BEAT_BUSY, _BEAT_IDLE = 1.0, 5.0
"""Seconds between two beats."""

_BEAT_PROGRESS = 0.3
"""The same while jobs say how far they are."""

_BEAT_SOON = 0.2
"""Seconds after which a worker that has nothing more to do says so; that it has begun, after half a beat."""


class Presence:
    """Tells Redis that the worker is there, and hears what it is ordered.

    Parameters
    ----------
    who : Identity
    store : Store
    selector : selectors.BaseSelector
        The event loop's.
    requests : Pipeline
    pool : Pool
    places : Places
    settlement : Settlement
    cancels : Cancels
        Gets the orders to cancel.
    """

    def __init__(
        self, who: Identity, store: Store, selector: selectors.BaseSelector, requests: Pipeline, pool: Pool,
        places: Places, settlement: Settlement, cancels: Cancels,
    ) -> None:  # fmt: skip
        self._who = who
        self._channel = store.key(keys.worker(who.id))
        self._requests = requests
        self._pool = pool
        self._places = places
        self._tells_of_waiting = False
        self._settlement = settlement
        self._cancels = cancels
        self._orders = Pipeline(store, selector, self._listen)
        self._acknowledged = 0
        self.is_busy = False
        """A child had a lease when it looked last."""
        self._beat_at = 0.0
        self.is_registered = False
        self.registrations = 0
        """How often it has been registered, also after a lost connection."""
        self.lives = 1
        """One more each time it was taken for dead: it holds nothing of what it was given before."""
        self.is_told_to_stop = False
        self.versions: Mapping[str, str] = {}
        """Of packages here that had other versions where jobs were submitted: those who submit them are shown that."""

    def close(self) -> None:
        self._orders.close()

    # Being known

    def register(self) -> None:
        """Say who it is: on each new connection, and when it was taken for dead."""
        about = {**_about(self._who), "jobs": self._settlement.jobs, "busy": 0}
        self._requests.send(running.register(self._who.id, about, again=self.is_registered), self._on_registered)

    def _on_registered(self, answer: bool | errors.NbqueueError) -> None:
        if isinstance(answer, errors.NbqueueError):
            log.error("%s", answer)
            return
        if not answer:
            self.taken_for_dead()
            return
        self.is_registered = True
        self.registrations += 1

    def taken_for_dead(self) -> None:
        """Others run what it held: what it still runs of it cannot be recorded."""
        if not self.is_registered:  # several answers tell of it
            return
        log.warning("%s was taken for dead; what it ran is run elsewhere", self._who.name)
        self._pool.drop_leases()
        self.lives += 1
        self._cancels.clear()
        self._acknowledged = 0  # its orders are gone, too, and are numbered anew
        self.is_registered = False
        self.register()

    # Beats and orders

    def due_in(self, now: float) -> float:
        """Seconds until the next beat."""
        return self._beat_at - now if self.is_registered else float("inf")

    def look(self, now: float) -> bool:
        """Beat if that is due; whether it was."""
        was_busy, self.is_busy = self.is_busy, self._pool.is_busy
        if was_busy != self.is_busy:
            self._beat_at = min(self._beat_at, now + (_BEAT_BUSY / 2 if self.is_busy else _BEAT_SOON))
        if now < self._beat_at or not self.is_registered:
            return False
        doing, has_progress = self._doing(now)
        self._beat_at = now + (_BEAT_PROGRESS if has_progress else _BEAT_BUSY if self.is_busy else _BEAT_IDLE)
        changes = {"jobs": self._settlement.jobs, "failed": self._settlement.failed, **doing}
        self._requests.send(running.beat(self._who.id, self._acknowledged, changes), self._on_beat)
        return True

    def _doing(self, now: float) -> tuple[dict[str, str | float], bool]:
        """What it does, for those who look; and whether jobs say how far they are."""
        children = self._pool.children
        jobs: list[list[Any]] = []
        has_progress = False
        for child in children:
            job = child.running()
            if job is not None:
                jobs.append([f"{job.lease.batch}:{job.index}", round(time.time() - (now - job.since), 3)])
                progress = child.progress(job)
                if progress is not None:
                    has_progress = True
                    jobs[-1].append(dataclasses.astuple(progress))
        memory = sum(machine.memory_of(child.pid) for child in children)
        busy = sum(child.has_place for child in children)
        doing: dict[str, str | float] = {"busy": busy, "memory": memory, "running": json.dumps(jobs)}
        if self._places.is_used or self._tells_of_waiting:
            doing["waiting"], doing["crowded"] = self._places.counted()
            self._tells_of_waiting = bool(doing["waiting"] or doing["crowded"])
        if self.versions:
            doing["versions"] = json.dumps(dict(self.versions))
        return doing, has_progress

    def _listen(self) -> None:
        self._orders.subscribe(self._channel, lambda _: self._ask_for_orders())

    def _ask_for_orders(self) -> None:
        self._beat_at = 0.0

    def _on_beat(self, orders: list[tuple[int, Order]] | errors.NbqueueError | None) -> None:
        if isinstance(orders, errors.NbqueueError):
            log.error("%s", orders)
            return
        if orders is None:
            self.taken_for_dead()
            return
        for number, order in orders:
            if number > self._acknowledged:  # otherwise it was told before: this beat was sent before that was known
                self._acknowledged = number
                self._obey(order)

    def _obey(self, order: Order) -> None:
        log.info("order: %s", order)
        if isinstance(order, UnknownOrder):
            log.warning("a client of another version of nbqueue gave an order that is not known here: %s", order.text)
        elif isinstance(order, CancelBatch | CancelJob):
            self._cancels.add(order)
        else:
            self.is_told_to_stop = True


def _about(who: Identity) -> dict[str, str | float]:
    """What Redis is told of a worker for those who look."""
    pid, options = os.getpid(), who.options
    return {
        "name": who.name, "host": machine.name(), "machine": machine.identity(), "pid": pid,
        "started": machine.started(pid), "queues": " ".join(options.queues), "environment": who.environment,
        "children": options.children, "python": machine.python(), "log": os.environ.get("NBQUEUE_LOG", ""),
    }  # fmt: skip
