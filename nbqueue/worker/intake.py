"""The intake of a worker: when it asks for work, and for which child, until what it gets is handed over."""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Sequence
from dataclasses import replace

from nbqueue import errors
from nbqueue.store.keys import IN_WORDS
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running
from nbqueue.store.requests.running import GONE, USED, Claimed, Later
from nbqueue.store.schedule_state import ScheduleState
from nbqueue.store.store import Store
from nbqueue.worker.bell import BLOCKING, Bell
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.costs import LONG_JOB, Costs
from nbqueue.worker.firing import Firing
from nbqueue.worker.identity import Identity
from nbqueue.worker.output import Output
from nbqueue.worker.places import Places
from nbqueue.worker.pool import Pool
from nbqueue.worker.presence import Presence
from nbqueue.worker.settlement import Settlement
from nbqueue.worker.stopping import Cancels
from nbqueue.worker.supplies import Function, Supplies

log = logging.getLogger("nbqueue.worker")

_TARGET = 0.02
"""Seconds of work that a claim asks for."""

_TRICKLE = 0.002
"""Seconds between two claims while single quick jobs come one after the other: some are taken at once then."""


class Pace:
    """How fast claims follow each other."""

    def __init__(self) -> None:
        self.claimed_at = 0.0
        """When the last claim was answered, by the monotonic clock."""
        self._trickled = 0
        """Claims in a row that took all that waited, which was little."""

    def answered(self, now: float, seconds: float = 0.0, *, is_all: bool = False) -> None:
        """A claim has brought so much work; `is_all` if that was all there is."""
        self.claimed_at = now
        self._trickled = self._trickled + 1 if is_all and seconds < _TRICKLE else 0

    def is_holding(self, now: float) -> bool:
        """The next claim can wait a moment."""
        return self._trickled > 2 and now - self.claimed_at < _TRICKLE


class Intake:
    """Claims runs for children that want one, and hands them over with what they need.

    Parameters
    ----------
    who : Identity
    store : Store
    selector : selectors.BaseSelector
        The event loop's.
    requests : Pipeline
    cancels : Cancels
        What was canceled is not handed over.
    firing : Firing
        Starts runs of the schedules that a claim finds to be due.
    presence, pool, places, settlement, output, costs
        The other parts of the worker.
    """

    def __init__(
        self, who: Identity, store: Store, selector: selectors.BaseSelector, requests: Pipeline, cancels: Cancels,
        firing: Firing, presence: Presence, pool: Pool, places: Places, settlement: Settlement, output: Output,
        costs: Costs,
    ) -> None:  # fmt: skip
        self._who = who
        self._requests = requests
        self._cancels = cancels
        self._firing = firing
        self._presence, self._pool, self._places, self._settlement = presence, pool, places, settlement
        self._output, self._costs = output, costs
        self._bell = Bell(who, store, selector, self._on_token, self._on_handed)
        self._supplies = Supplies(store, requests)
        presence.versions = self._supplies.versions
        self._pace = Pace()
        self._number = 0
        """Of the last lease that it was given."""
        self._life = presence.lives
        self._is_parked = False
        """A single job may be handed to it, as a lease of the next number."""
        self.claiming: ChildProcess | None = None
        """For which a run was asked for, or is supplied: nothing else is claimed meanwhile."""
        self._dry_at: tuple[int, ...] | None = None
        self._due_at = float("inf")
        """When there will be something to do, as the last claim that found nothing said, by the monotonic clock."""
        self.is_stopped = False
        """Nothing is taken any more; what comes all the same is given back."""

    def close(self) -> None:
        self._bell.close()

    @property
    def is_claiming(self) -> bool:
        return self.claiming is not None

    @property
    def awaited(self) -> int | None:
        """Number of a lease that was asked for, and may have been given before an order was."""
        return self._number + 1 if self.is_claiming or self._is_parked else None

    @property
    def is_dry(self) -> bool:
        """The last claim found nothing, and nothing has come since; the next one follows a wake-up or a pause."""
        return self._dry_at == self._news()

    @property
    def expects_work(self) -> bool:
        """Something waits for its time, as far as is known."""
        return self._due_at < float("inf")

    def _news(self) -> tuple[int, ...]:
        settlement = self._settlement
        ended = settlement.jobs if self._who.options.burst else 0  # others may have waited for what has ended
        return self._bell.rings, settlement.given_back, settlement.waits, ended, self._presence.registrations

    # When

    def due_in(self, now: float) -> float:
        """Seconds until it wants to look again."""
        if self.is_stopped or not self._presence.is_registered:
            return float("inf")
        until = self._pace.claimed_at + _TRICKLE - now if self._pace.is_holding(now) else float("inf")
        if not self.is_dry:
            return until
        if not self._bell.is_waiting:
            until = min(until, self._pace.claimed_at + BLOCKING - now)
        return min(until, self._due_at - now)

    def look(self, now: float) -> None:
        """Claim for a child that wants a run, or wait until there is one."""
        self._note_death()
        if not self._presence.is_registered:
            return
        if self.is_stopped:
            if self._is_parked and self.claiming is None:
                self._claim(None, [])
            return
        is_dry = self.is_dry
        if is_dry and (now >= self._due_at or (not self._bell.is_waiting and now - self._pace.claimed_at > BLOCKING)):
            self._dry_at, is_dry = None, False
        wanting = sorted(filter(self._wants, self._pool.children), key=lambda child: len(child.leases))
        if not wanting:
            return
        is_idle = not wanting[0].leases and not self._who.options.burst
        if not is_dry or (is_idle and not self._is_parked):
            if self.claiming is None and not self._pace.is_holding(now):
                self._claim(wanting[0], self._who.options.queues, parks=is_idle)
        elif is_idle:
            self._bell.wait()

    def flush(self) -> None:
        self._bell.flush()

    def _wants(self, child: ChildProcess) -> bool:
        """A free child wants a run; one whose present run is known to end soon wants the next one."""
        if child.wait is not None or (self._places.is_used and not self._has_room_for(child)):
            return False
        if not child.leases:
            return True
        lease = child.leases[0]
        if len(child.leases) > 1 or lease.kind or child.bound is not None:
            return False
        if self._costs.of(lease.batch) >= LONG_JOB:
            return False
        job = child.running()
        return job is None or time.monotonic() - job.since < LONG_JOB

    def _has_room_for(self, child: ChildProcess) -> bool:
        """Whether it has a place that nobody wants who has waited for other jobs, or there is one for it."""
        return not self._places.is_asked if child.leases else self._places.free(self.claiming) > 0

    def _on_token(self) -> None:
        """Somebody has submitted something; who has no use for that wakes another."""
        if self.is_stopped or not any(map(self._wants, self._pool.children)):
            self._requests.send(running.wake(self._who.environment, self._who.options.queues), lambda answer: None)

    def _on_handed(self, claimed: Claimed) -> None:
        """A single job was leased to it when it was submitted; nothing else waited then."""
        if not self._is_news(claimed.number):
            return
        self._is_parked = False
        self._pace.answered(time.monotonic(), self._costs.of(claimed.batch), is_all=True)
        self._dry_at = self._news()
        self._take(None, claimed)

    def _is_news(self, number: int) -> bool:
        """Whether a lease is not known yet, nor from before it was taken for dead."""
        self._note_death()
        if number <= self._number:
            return False
        self._number = number
        return True

    def _note_death(self) -> None:
        if self._life != self._presence.lives:
            self._life = self._presence.lives
            self._number += 1
            self._is_parked = False

    # What

    def _claim(self, child: ChildProcess | None, queues: Sequence[str], *, parks: bool = False) -> None:
        number, news = self._number + 1, self._news()
        self.claiming, self._is_parked = child, False
        request = running.claim(
            self._who.id, number, self._who.environment, queues,
            children=self._who.options.children, target=_TARGET,
            waiting=self._places.waiting(), awaited=self._places.awaited(time.monotonic()), parks=parks,
        )  # fmt: skip
        self._requests.send(request, lambda answer: self._on_claimed(number, answer, news, parks=parks))

    def _on_claimed(
        self, number: int, claimed: Claimed | ScheduleState | Later | str | errors.NbqueueError | None,
        news: tuple[int, ...], *, parks: bool,
    ) -> None:  # fmt: skip
        child, self.claiming = self.claiming, None
        now = time.monotonic()
        if isinstance(claimed, Claimed):
            if not self._is_news(claimed.number):  # the bell has brought it
                return
            claimed = _as_it_ended(claimed)
            seconds = (claimed.stop - claimed.start) * self._costs.of(claimed.batch)
            self._pace.answered(now, seconds, is_all=not claimed.is_more)
            self._take(child, claimed)
            return
        self._pace.answered(now)
        if isinstance(claimed, ScheduleState):
            if not self.is_stopped:  # else it is another worker's, in a moment
                self._firing.fire(claimed)
            return
        self._due_at = now + claimed.seconds if isinstance(claimed, Later) else float("inf")
        if claimed == GONE:
            self._presence.taken_for_dead()
            return
        if claimed == USED:
            self._is_news(number)
            return
        self._dry_at = news
        if isinstance(claimed, errors.NbqueueError):
            log.error("%s", claimed)
        else:
            self._is_parked = parks and number > self._number

    def _take(self, child: ChildProcess | None, claimed: Claimed) -> None:
        if not self._is_wanted(claimed):
            self._settlement.give_back(claimed.number, claimed.start, claimed.stop)
            return
        if child is None or child not in self._pool.children or child.wait is not None:  # it died, or waits
            child = self._another()
            if child is None:
                self._settlement.give_back(claimed.number, claimed.start, claimed.stop)
                return
        if self._supplies.description(claimed).cell is not None:
            child = self._pool.for_cell(child)
        self._supply(child, claimed)

    def _another(self) -> ChildProcess | None:
        """A child for what was claimed for one that cannot do it."""
        there = [child for child in self._pool.children if child.wait is None]
        if self._places.is_used:
            there = [child for child in there if child.leases or self._places.free() > 0]
        return min(there, key=lambda child: len(child.leases), default=None)

    def _is_wanted(self, claimed: Claimed) -> bool:
        """Whether a run that was claimed shall still be done here."""
        is_canceled = self._cancels.apply_to(claimed.batch, claimed.number, claimed.start, claimed.stop)
        return not is_canceled and not self.is_stopped

    def _supply(self, child: ChildProcess, claimed: Claimed) -> None:
        """Get what a run needs, then hand it over. Its place in the child's order is held meanwhile."""
        self.claiming = child
        life = self._presence.lives

        def hand(claimed: Claimed, functions: dict[bytes, Function]) -> None:
            self.claiming = None
            if life != self._presence.lives:  # others run it
                return
            if not self._is_wanted(claimed) or child not in self._pool.children:
                self._settlement.give_back(claimed.number, claimed.start, claimed.stop)
                return
            description = self._supplies.description(claimed)
            if description.cell is not None:
                self._output.show(claimed.number, claimed.batch, running.START)
            child.hand(claimed, description, functions)
            self._pool.watch(child)

        self._supplies.fetch(claimed, hand)


def _as_it_ended(claimed: Claimed) -> Claimed:
    """A job that died for the last time is called back in that attempt, and a death is counted when it happens."""
    if not claimed.decided.startswith(IN_WORDS):
        return claimed
    return replace(claimed, attempts={index: count - 1 for index, count in claimed.attempts.items()})
