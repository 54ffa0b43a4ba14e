"""The places of a worker: as many jobs run at once as it has children by its options, others wait for other jobs.

A job that waits for other jobs gives its place away, and another child is there in its stead, so that jobs which submit
jobs never stand still. It takes the next place that becomes free when it goes on.
"""

from __future__ import annotations

import logging

from nbqueue import machine
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.pool import Pool

log = logging.getLogger("nbqueue.worker")

_MOST_EACH, _MOST_AT_LEAST = 8, 64
"""Jobs that may wait without a place: so many for each place, and so many in any case."""

_MOST_SHORT = 8
"""The same where memory is short."""

_MOST_TOLD = 16
"""Batches from which a claim takes first."""

_FAIR = 0.25
"""Seconds between two claims that do not ask for what jobs wait for, but take what is due, while some wait."""

_MANY = 4
"""If more than one of so many wait that may, all claims ask for what they wait for."""

_SPARE = 10.0
"""Seconds for which a child that stood in for another is kept."""

_MEMORY = 1.0
"""Seconds between two looks at the memory."""

_LEAVING = 5.0
"""Seconds for which jobs may wait in a worker that shall leave, and in which nothing else runs."""


class Places:
    """Who has a place, who has given it away, and who wants one again.

    Parameters
    ----------
    pool : Pool
    n : int
        How many jobs run at once.
    """

    def __init__(self, pool: Pool, n: int) -> None:
        self._pool = pool
        self._n = n
        self._most = max(_MOST_AT_LEAST, _MOST_EACH * n)
        self._waiting: list[ChildProcess] = []
        self._spare_since: float | None = None
        self._spare = 0
        """How many children have had nothing to do since then, beside those that there shall be."""
        self._stands_since: float | None = None
        """Since when nothing runs in a worker that shall leave, but jobs wait."""
        self._memory_at = 0.0
        self._is_short = False
        self._is_full = False
        self._fair_at = 0.0

    @property
    def is_used(self) -> bool:
        """Jobs wait for others, or have done so a moment ago."""
        return bool(self._waiting) or self._spare_since is not None

    @property
    def is_asked(self) -> bool:
        """A job wants a place again, to go on."""
        return any(child.wait is not None and child.wait.ticket for child in self._waiting)

    def free(self, claiming: ChildProcess | None = None) -> int:
        """How many jobs may begin to run, beside that for a child that is being claimed for."""
        reserved = claiming is not None and not claiming.leases
        return self._n - sum(child.has_place for child in self._pool.children) - reserved

    def look(self, now: float, claiming: ChildProcess | None, *, is_stopped: bool) -> None:
        """Let jobs that wait give their places away, give some to those that go on, and have a child for each place."""
        children = self._pool.children
        self._waiting = [child for child in children if child.wait is not None]
        if not self._waiting and self._spare_since is None:
            return
        self._let_go(now)
        self._let_on(claiming)
        if is_stopped:
            self._end_standstill(now)
        else:
            self._stand_in(now, claiming)

    def _let_go(self, now: float) -> None:
        away = sum(child.is_away for child in self._waiting)
        was_full, self._is_full = self._is_full, False
        for child in self._waiting:
            if child.wait is None or child.wait.is_away:
                continue
            if away < self._most and (away < _MOST_SHORT or not self._is_short_of_memory(now)):
                child.wait.is_away = True
                away += 1
                continue
            self._is_full = True
            if not was_full:
                was_full = True
                log.warning(
                    "%d jobs wait for other jobs here without a place, and no more can (%s): further ones keep theirs",
                    away, f"up to {self._most} of a worker of {self._n}" if away >= self._most else "memory is short",
                )  # fmt: skip

    def _is_short_of_memory(self, now: float) -> bool:
        if now >= self._memory_at:
            self._memory_at = now + _MEMORY
            self._is_short = machine.is_short_of_memory(child.pid for child in self._pool.children)
        return self._is_short

    def _let_on(self, claiming: ChildProcess | None) -> None:
        asking = [child for child in self._waiting if child.wait is not None and child.wait.ticket]
        if not asking:
            return
        asking.sort(key=lambda child: child.wait.since if child.wait is not None else 0.0)
        for child in asking[: max(0, self.free(claiming))]:
            child.go_on()

    def _stand_in(self, now: float, claiming: ChildProcess | None) -> None:
        present = [child for child in self._pool.children if not child.is_away]
        idle = [child for child in present if not child.leases]
        if not idle:
            self._pool.fill()
        self._retire(len(present) - self._n, [child for child in idle if child is not claiming], now)

    def _retire(self, surplus: int, idle: list[ChildProcess], now: float) -> None:
        """Have children end that were not needed for a while."""
        spare = min(surplus, len(idle))
        if surplus <= 0:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since, self._spare = now, spare
        elif now - self._spare_since < _SPARE:
            self._spare = min(self._spare, spare)
        else:
            for child in idle[: min(self._spare, spare)]:
                self._pool.dismiss(child)
            self._spare_since, self._spare = now, surplus

    def _end_standstill(self, now: float) -> None:
        """Jobs that wait in a worker that shall leave are given back, if what they wait for does not come from
        elsewhere soon: they begin anew where there is somebody."""
        held = [child for child in self._pool.children if child.leases]
        if not all(child.wait is not None and not child.wait.ticket for child in held):
            self._stands_since = None
        elif self._stands_since is None:
            self._stands_since = now
        elif now - self._stands_since >= _LEAVING:
            for child in held:
                if not child.process.is_killed:
                    log.warning("process %d waits for other jobs, and is ended; its job is given back", child.pid)
                    child.process.kill()

    # What is claimed

    def waiting(self) -> list[int]:
        """Numbers of the leases whose jobs wait for others."""
        return [child.wait.number for child in self._waiting if child.wait is not None and not child.wait.ticket]

    def awaited(self, now: float) -> list[str]:
        """Batches from which the next claim takes first, those that were waited for last before others.

        So what jobs wait for comes to its end before more begin to wait. Now and then batches share the worker as ever,
        as long as few jobs wait.
        """
        waits = [child.wait for child in self._waiting if child.wait is not None and not child.wait.ticket]
        if len(waits) < self._n:
            return []
        if len(waits) <= self._most // _MANY and now - self._fair_at >= _FAIR:
            self._fair_at = now
            return []
        newest = sorted(waits, key=lambda wait: wait.since, reverse=True)
        return list(dict.fromkeys(wait.batch for wait in newest))[:_MOST_TOLD]

    # What is told

    def counted(self) -> tuple[int, int]:
        """How many jobs wait without a place, and how many that keep theirs, because there are too many."""
        away = sum(child.is_away for child in self._waiting)
        return away, len(self._waiting) - away
