"""The worker: one process that leases runs from Redis, hands them to its children, and settles what comes of them.

It runs one event loop and never executes or unpickles user code. In each turn of the loop its parts read what Redis and
the children said, look at the clock (`_tick`), and send what follows. It has three connections: one for requests, one
that blocks until somebody submits something (only while a child is free), one that hears of orders.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import time

from nbqueue import errors
from nbqueue.backend import Backend
from nbqueue.protocol import messages
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running
from nbqueue.worker import stopping
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.costs import Costs
from nbqueue.worker.disk import looked_after
from nbqueue.worker.firing import Firing
from nbqueue.worker.identity import Identity, Options
from nbqueue.worker.intake import Intake
from nbqueue.worker.neighbours import Neighbours
from nbqueue.worker.output import Output
from nbqueue.worker.places import Places
from nbqueue.worker.pool import Pool
from nbqueue.worker.presence import Presence
from nbqueue.worker.settlement import Settlement
from nbqueue.worker.signals import Signals
from nbqueue.worker.stopping import Action, AskForReport, Cancels, Insist, Interrupt, Kill, StopSoon, TakeBack

log = logging.getLogger("nbqueue.worker")

_MOST_HELD = 64 * 1024 * 1024
"""Bytes that Redis has not taken yet at which children are not listened to: they wait with what they want to say."""

_GONE = 5.0
"""Seconds for which a worker that shall leave waits for a server that is gone."""

_LONGEST_TURN = 1.0
"""Seconds that a turn of the loop waits at most."""


class Worker:
    """Serves queues until it is told to stop: life and death, and the turns of the loop. Its parts do the work.

    It has an attribute for each of these parts, and some more of its own.
    """

    def __init__(self, backend: Backend, options: Options) -> None:
        self._backend = backend
        self._who = who = Identity(options, backend.environment)
        self._selector = selector = selectors.DefaultSelector()
        self._cancels = cancels = Cancels()
        self._times_stopped = 0
        self._idle_since = time.monotonic()
        self._waits_since: float | None = None
        """Since when it listens to its children, and waits for them so that it can leave."""
        store, costs = backend.store, Costs()
        self._requests = requests = Pipeline(store, selector, lambda: self._presence.register())
        self._output = output = Output(who, requests, lambda child: self._pool.follow(child))
        self._settlement = settlement = Settlement(who, backend.seal, requests, output, costs)
        files = backend.files
        hello = messages.Hello(who.name, store.namespace, backend.key, "" if files is None else str(files))
        self._pool = pool = Pool(
            selector, hello, options.children, options.preload, settlement.hear, output.on_written
        )  # fmt: skip
        self._places = places = Places(pool, options.children)
        self._presence = presence = Presence(who, store, selector, requests, pool, places, settlement, cancels)
        self._neighbours = Neighbours(who, requests)
        self._intake = Intake(
            who, store, selector, requests, cancels, Firing(backend.seal, requests),
            presence, pool, places, settlement, output, costs,
        )  # fmt: skip

    @property
    def jobs(self) -> int:
        """How many it has run."""
        return self._settlement.jobs

    # Life

    def work(self) -> None:
        """Serve until a signal, an order, or an option says to stop."""
        options, name = self._who.options, self._who.name
        with Signals(self._selector, self.stop), looked_after(self._backend):
            try:
                self._pool.fill()
                log.info("%s serves %s for %s with %d children", name, ", ".join(options.queues),
                         self._backend.environment, options.children)  # fmt: skip
                while not self._is_over():
                    for key, _ in self._selector.select(self._until_next()):
                        key.data()
                    self._tick(time.monotonic())
            finally:
                self._leave()
        self._selector.close()
        log.info("%s leaves after %d jobs", name, self._settlement.jobs)

    def stop(self) -> None:
        """Once: take nothing new, finish what runs, leave. Twice: now."""
        self._times_stopped += 1
        if self._times_stopped == 1:
            log.info("%s finishes what runs, then leaves; once more to leave now", self._who.name)
            self._intake.is_stopped = True
            now = time.monotonic()
            self._waits_since = None if self._pool.is_deaf else now
            for child in self._pool.children:
                self._act(child, stopping.stop_behind_current(child.seen(now)), now)

    def _is_over(self) -> bool:
        is_stopping = self._times_stopped > 0
        if self._times_stopped > 1:
            return True
        idle = time.monotonic() - self._idle_since
        most = self._who.options.max_idle_time
        is_idle = most is not None and idle > most and not self._intake.expects_work
        is_gone = self._requests.away > _GONE  # nobody is there to settle with
        if self._pool.is_busy:
            jobs = [child.running() for child in self._pool.children]
            is_held_up = self._pool.is_deaf and all(job is None or job.is_loading for job in jobs)
            return is_stopping and is_gone and is_held_up
        if is_gone and idle > _GONE:
            return is_stopping or is_idle
        if self._intake.is_claiming or self._requests.unanswered:
            return False
        return is_stopping or is_idle or (self._who.options.burst and self._intake.is_dry)

    def _leave(self) -> None:
        """Give back what is held, then go; the order matters: children first, so that nothing runs unleased."""
        for child in self._pool.end():
            log.error("process %d hangs in the kernel, and does not even die of SIGKILL", child.pid)
        if self._requests.away < _GONE:
            self._sign_off()
        self._backend.store.close()
        for part in (self._requests, self._intake, self._presence, self._pool):
            part.close()

    def _sign_off(self) -> None:
        """Tell Redis. If it does not hear that soon, others find out by themselves that this worker is gone."""
        store = self._backend.store
        with contextlib.suppress(errors.ServerError):
            wire = store.open()
            wire.call(store.commands(running.reap(self._who.id, None, ""), whole=True), _GONE)
            wire.close()

    # The turns of the loop

    def _until_next(self) -> float:
        """Seconds until something is due that nobody tells."""
        now = time.monotonic()
        until = [_LONGEST_TURN, self._neighbours.look_at - now, self._presence.due_in(now), self._intake.due_in(now)]
        for child in self._pool.children:
            if child.leases:  # also if it has not begun them: that it does, nobody tells
                until += (self._output.look_at - now, stopping.due_in(child.seen(now), now))
        return max(0.0, min(until))

    def _tick(self, now: float) -> None:
        for child in list(self._pool.children):
            self._look_after(child, now)
        self._pool.check()
        self._limit_what_is_held(now)
        self._output.look(self._pool.children, now)
        self._places.look(now, self._intake.claiming, is_stopped=self._times_stopped > 0)
        self._intake.look(now)
        if self._presence.look(now):
            held = ((lease.batch, lease.number) for lease in self._pool.leases())
            self._cancels.forget(held, self._intake.awaited)
        self._neighbours.look(now)
        self._requests.flush()
        self._intake.flush()
        if self._presence.is_busy:
            self._idle_since = now
        if not self._times_stopped and (self._presence.is_told_to_stop or self._has_done_its_jobs()):
            self.stop()

    def _has_done_its_jobs(self) -> bool:
        most = self._who.options.max_jobs
        return most is not None and self._settlement.jobs >= most

    def _look_after(self, child: ChildProcess, now: float) -> None:
        """Settle its death, put a fresh one in its place, or have it keep limits."""
        death = child.process.death()
        if death is not None:
            self._settlement.settle_death(child, death)
            self._pool.dismiss(child)
            if not self._times_stopped:
                self._pool.fill()
        elif child.is_used_up and not child.leases and not self._times_stopped:
            self._pool.renew(child)
        elif child.leases:
            self._act(child, stopping.decide(child.seen(now), self._cancels, now, self._waits_since), now)

    def _act(self, child: ChildProcess, actions: list[Action], now: float) -> None:
        for action in actions:
            match action:
                case Interrupt(lease, index, reason):
                    child.interrupt(lease, index, reason, now)
                case Insist():
                    child.insist()
                case Kill(why):
                    if why:
                        log.warning("process %d %s", child.pid, why)
                    child.process.kill()
                case AskForReport(lease, index):
                    child.ask_for_report(lease, index)
                case StopSoon(lease, index):
                    child.stop_soon(lease, index, now)
                case TakeBack(lease, index):
                    self._settlement.give_back_all(child.take_back(lease, index, now))

    def _limit_what_is_held(self, now: float) -> None:
        is_full = self._requests.held > _MOST_HELD
        if is_full != self._pool.is_deaf:
            self._pool.be_deaf(is_full)
            if self._times_stopped:
                self._waits_since = None if is_full else now
