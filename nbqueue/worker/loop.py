"""The worker: one process that leases runs from Redis, hands them to its children, and settles what comes of them.

It runs one event loop and never executes or unpickles user code. In each turn of the loop it reads what Redis and the
children said, looks at the clock (`_tick`), and sends what follows. It has three connections: one for requests, one
that blocks until somebody submits something (only while a child is free), one that hears of orders.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nbqueue import errors, machine
from nbqueue.backend import Backend
from nbqueue.cells.run import PRELOAD
from nbqueue.payload.outcomes import Failure, pack_failure
from nbqueue.protocol import messages
from nbqueue.protocol.messages import Done, Printed, Show
from nbqueue.protocol.page import CANCEL, TIMEOUT
from nbqueue.server import embedded
from nbqueue.store import keys
from nbqueue.store.description import Description
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.reaper import EVERY, WORKER_SILENCE, Reaper, vanished
from nbqueue.store.requests import looking, running
from nbqueue.store.requests.looking import WorkerState
from nbqueue.store.requests.request import BULK
from nbqueue.store.requests.running import GONE, CancelBatch, CancelJob, Claimed, Order, Shown, UnknownOrder
from nbqueue.worker.output_log import OutputLog
from nbqueue.worker.pool import OBEYS, ChildProcess, Guard, Run, end, functions_needed
from nbqueue.worker.stopping import Cancels

log = logging.getLogger("nbqueue.worker")

_TARGET = 0.02
"""Seconds of work that a claim asks for."""

_LONG = 0.05
"""Seconds; behind a job that takes longer, nothing is kept waiting."""

_GRACE = 0.5
"""Seconds between the exception inside a job and the kill."""

_INSIST = 0.02
"""Seconds between two signals for it."""

_TRICKLE = 0.002
"""Seconds between two claims while single quick jobs come one after the other: some are taken at once then."""

_LOOK = 0.25
"""Seconds between two looks at what running jobs have printed."""

_BEHIND = 20
"""Requests without an answer at which what running jobs have printed is left where it is."""

_MOST_HELD = 64 * 1024 * 1024
"""Bytes that Redis has not taken yet at which children are not listened to: they wait with what they want to say."""

_BEAT_BUSY, _BEAT_IDLE = 1.0, 5.0

_BEAT_SOON = 0.2
"""Seconds after which a worker that has nothing more to do says so."""

_GONE = 5.0
"""Seconds for which a worker that shall leave waits for a server that is gone."""

_STUCK = 60.0
"""Seconds after which such a worker ends a child that has a run, but is in none of its jobs, and says nothing."""

_BLOCKING = 2.0
"""Seconds that a blocking wait for work takes at most."""


@dataclass(frozen=True)
class Options:
    """How a worker shall be.

    Parameters
    ----------
    queues : sequence of str
        Listened to in this order: what the first has goes before what the next has.
    children : int
        How many processes execute jobs.
    burst : bool
        Leave when there is nothing to do.
    max_jobs, max_idle_time : int, float, optional
        Leave after so many jobs, or so many seconds without one.
    preload : sequence of str
        Modules that children import when they start.
    """

    queues: Sequence[str] = ("default",)
    children: int = 1
    name: str = ""
    burst: bool = False
    max_jobs: int | None = None
    max_idle_time: float | None = None
    preload: Sequence[str] = ()


class Worker:
    """Serves queues until it is told to stop."""

    def __init__(self, backend: Backend, options: Options) -> None:
        self.name = options.name or f"w-{secrets.token_hex(3)}"
        self.id = f"{self.name}.{secrets.token_hex(4)}"
        """Leases are held under it. A process that was started again under the name of a dead one, or of one that
        lives, must neither keep these alive nor settle them: it has another id."""
        self._backend = backend
        self._store = backend.store
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._children: list[ChildProcess] = []
        self._leaving: list[ChildProcess] = []
        self._runs_cells = False
        self._number = 0
        self._is_full = False
        self._claiming: ChildProcess | None = None
        self._is_dry = False
        """The last claim found nothing; the next one follows a wake-up or a pause."""
        self._is_waiting = False
        self._costs: dict[str, float] = {}
        self._functions: dict[bytes, bytes] = {}
        self._descriptions: dict[bytes, Description] = {}
        self._cancels = Cancels()
        self._stopping = 0
        self._jobs = 0
        self._failed = 0
        self._outputs = 0
        self._is_output_kept = True
        self._beat_at = self._sweep_at = self._claim_at = self._look_at = 0.0
        self._trickled = 0
        """Claims in a row that took all that waited, which was little."""
        self._idle_since = time.monotonic()
        self._acknowledged = 0
        self._reaper = Reaper()
        self._namesakes: set[str] = set()
        """Ids of other workers of this name that were told of."""
        self._is_registered = False
        self._lives = 1
        """One more each time it was taken for dead: it holds nothing of what it was given before."""

    # Life

    def work(self) -> None:
        """Serve until a signal, an order, or an option says to stop."""
        self._signals, ours = socket.socketpair()
        self._signals.setblocking(False)
        ours.setblocking(False)
        former_fd = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
        handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        }
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        self._guard = Guard()
        self._requests = Pipeline(self._store, self._selector, self._register)
        self._waits = Pipeline(self._store, self._selector, lambda: None)
        self._hears = Pipeline(self._store, self._selector, self._listen)
        stop_syncing = self._sync_in_background()
        try:
            for _ in range(self._options.children):
                self._add_child()
            log.info("%s serves %s for %s with %d children", self.name, ", ".join(self._options.queues),
                     self._backend.environment, self._options.children)  # fmt: skip
            while not self._is_over():
                for key, _ in self._selector.select(self._until_next()):
                    key.data()
                self._tick(time.monotonic())
        finally:
            self._leave()
            stop_syncing()
            for pipeline in (self._requests, self._waits, self._hears):
                pipeline.close()
            self._guard.close()
            signal.set_wakeup_fd(former_fd)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            self._signals.close()
            ours.close()
        log.info("%s leaves after %d jobs", self.name, self._jobs)

    def stop(self) -> None:
        """Once: take nothing new, finish what runs, leave. Twice: now."""
        self._stopping += 1
        if self._stopping == 1:
            log.info("%s finishes what runs, then leaves; once more to leave now", self.name)
            now = time.monotonic()
            for child in self._children:
                self._stop_behind_current(child, now)

    def _is_over(self) -> bool:
        if self._stopping > 1:
            return True
        idle = self._options.max_idle_time
        is_idle = idle is not None and time.monotonic() - self._idle_since > idle
        is_gone = self._requests.away > _GONE  # nobody is there to settle with
        if any(child.runs for child in self._children):
            is_held_up = self._is_full and not any(child.running() for child in self._children)
            return bool(self._stopping) and is_gone and is_held_up
        if is_gone and time.monotonic() - self._idle_since > _GONE:
            return bool(self._stopping) or is_idle
        if self._claiming is not None or self._requests.unanswered:
            return False
        if self._stopping:
            return True
        if self._options.burst and self._is_dry:
            return True
        return is_idle

    def _leave(self) -> None:
        """Give back what is held, then go; the order matters: children first, so that nothing runs unleased."""
        for child in self._children:
            if child.runs:
                child.kill()
            child.leave()
        for child in end([*self._leaving, *self._children]):
            log.error("process %d hangs in the kernel, and does not even die of SIGKILL", child.pid)
        if self._requests.away < _GONE:
            self._sign_off()
        self._store.close()

    def _sign_off(self) -> None:
        """Tell Redis. If it does not hear that soon, others find out by themselves that this worker is gone."""
        request = running.reap(self.id, None, "")
        with contextlib.suppress(errors.ServerError):
            wire = self._store.open()
            wire.call(self._store.commands(request, whole=True), _GONE)
            wire.close()

    def _on_signals(self) -> None:
        for number in self._signals.recv(256):
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self.stop()
        # SIGCHLD needs nothing but this turn of the loop.

    def _sync_in_background(self) -> Any:
        """The embedded server leaves it to its workers to bring its file to the disk, once a second."""
        running, over = self._backend.embedded, threading.Event()
        if running is None:
            return lambda: None

        def sync() -> None:
            while not over.wait(1.0):
                with contextlib.suppress(OSError):
                    embedded.sync(running.directory)

        thread = threading.Thread(target=sync, name="nbqueue-sync", daemon=True)
        thread.start()

        def stop() -> None:
            over.set()
            thread.join(10)

        return stop

    # What Redis says

    def _register(self) -> None:
        options = self._options
        self._requests.send(
            running.register(self.id, {
                "name": self.name, "host": machine.name(), "machine": machine.identity(), "pid": os.getpid(),
                "started": machine.started(os.getpid()), "queues": " ".join(options.queues),
                "environment": self._backend.environment, "children": options.children,
                "python": machine.python(), "jobs": self._jobs, "busy": 0, "log": os.environ.get("NBQUEUE_LOG", ""),
            }, again=self._is_registered),
            self._on_registered,
        )  # fmt: skip

    def _on_registered(self, answer: bool | errors.NbqueueError) -> None:
        if isinstance(answer, errors.NbqueueError):
            log.error("%s", answer)
            return
        if not answer:
            self._taken_for_dead()
            return
        self._is_registered = True
        self._is_dry = False

    def _listen(self) -> None:
        self._hears.subscribe(self._store.key(keys.worker(self.id)), lambda _: self._ask_for_orders())

    def _ask_for_orders(self) -> None:
        self._beat_at = 0.0

    def _on_beat(self, orders: list[tuple[int, Order]] | errors.NbqueueError | None) -> None:
        if isinstance(orders, errors.NbqueueError):
            log.error("%s", orders)
            return
        if orders is None:
            self._taken_for_dead()
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
        elif not self._stopping:
            self.stop()

    def _taken_for_dead(self) -> None:
        """Others run what we held: what we still run of it cannot be recorded."""
        if not self._is_registered:  # several answers tell of it
            return
        log.warning("%s was taken for dead; what it ran is run elsewhere", self.name)
        for child in self._children:
            if child.runs:
                child.runs.clear()
                child.kill()
        self._lives += 1
        self._cancels.clear()
        self._acknowledged = 0  # its orders are gone, too, and are numbered anew
        self._is_registered = False
        self._register()

    def _wait_for_work(self) -> None:
        environment = self._backend.environment
        tokens = [self._store.key(keys.wake(queue, environment)) for queue in self._options.queues]
        self._is_waiting = True
        self._waits.run("BLPOP", *tokens, _BLOCKING, callback=self._on_wake)

    def _on_wake(self, token: Any) -> None:
        self._is_waiting = False
        self._is_dry = False
        if isinstance(token, list) and (self._stopping or not any(self._wants(child) for child in self._children)):
            self._requests.send(running.wake(self._backend.environment, self._options.queues), lambda answer: None)

    def _claim(self, child: ChildProcess) -> None:
        self._number += 1
        self._claiming = child
        self._requests.send(
            running.claim(
                self.id, self._number, self._backend.environment, self._options.queues,
                children=self._options.children, target=_TARGET,
            ),
            self._on_claimed,
        )  # fmt: skip

    def _on_claimed(self, claimed: Claimed | str | errors.NbqueueError | None) -> None:
        child, self._claiming = self._claiming, None
        self._claim_at = time.monotonic()
        if isinstance(claimed, errors.NbqueueError):
            log.error("%s", claimed)
            self._is_dry = True
        elif claimed is None:
            self._is_dry = True
            self._trickled = 0
        elif claimed == GONE:
            self._taken_for_dead()
        elif isinstance(claimed, Claimed):
            work = (claimed.stop - claimed.start) * self._costs.get(claimed.batch, _LONG)
            self._trickled = self._trickled + 1 if work < _TRICKLE and not claimed.is_more else 0
            if not self._is_wanted(claimed):
                self._release(claimed.number, claimed.start, claimed.stop)
                return
            if child not in self._children:  # it died meanwhile
                child = min(self._children, key=lambda other: len(other.runs))
            if self._is_cell(claimed):
                self._runs_cells = True
                if not child.is_fresh and not child.runs:
                    child = self._renew(child)
            self._hand(child, claimed)

    def _is_wanted(self, claimed: Claimed) -> bool:
        """Whether a run that was claimed shall still be done here."""
        is_canceled = self._cancels.apply_to(claimed.batch, claimed.number, claimed.start, claimed.stop)
        return not is_canceled and not self._stopping

    def _hand(self, child: ChildProcess, claimed: Claimed, absent: Sequence[bytes] = ()) -> None:
        if claimed.bulk:
            self._fetch_bulk(child, claimed)
            return
        needed = functions_needed(claimed)
        missing = [digest for digest in needed if digest not in self._functions and digest not in absent]
        if not missing:
            functions = {digest: self._functions.get(digest, b"") for digest in needed}
            if self._is_cell(claimed):
                self._show(claimed.number, claimed.batch, running.START)
            child.hand(claimed, self._description(claimed), functions)
            self._idle_since = time.monotonic()
            self._watch(child)
            return

        def on_functions(records: list[bytes | None]) -> None:
            while len(self._functions) > 1000:
                self._functions.pop(next(iter(self._functions)))
            self._functions.update(
                {digest: record for digest, record in zip(missing, records, strict=True) if record is not None}
            )
            self._hand(child, claimed, missing)

        wanted = [self._store.key(keys.code(digest)) for digest in missing]
        self._fetch(child, claimed, ["MGET", *wanted], on_functions)

    def _fetch_bulk(self, child: ChildProcess, claimed: Claimed) -> None:
        def on_records(records: list[bytes | None]) -> None:
            found = zip((name for name, _ in claimed.bulk), records, strict=True)
            calls = claimed.calls + [(name, record) for name, record in found if record is not None]
            self._hand(child, replace(claimed, calls=calls, bulk=[]))

        key = self._store.key(keys.calls_bulk(claimed.batch))
        self._fetch(child, claimed, ["HMGET", key, *(field for _, field in claimed.bulk)], on_records)

    def _fetch(
        self,
        child: ChildProcess,
        claimed: Claimed,
        command: list[bytes | str],
        then: Callable[[list[bytes | None]], None],
    ) -> None:
        """Get what a run needs. Its place in the child's order is held meanwhile: nothing else is claimed."""
        self._claiming = child
        life = self._lives

        def on_records(records: Any) -> None:
            self._claiming = None
            if life != self._lives:  # others run it
                return
            if not self._is_wanted(claimed) or child not in self._children:
                self._release(claimed.number, claimed.start, claimed.stop)
                return
            if isinstance(records, errors.NbqueueError):
                log.error("%s", records)
                records = [None] * (len(command) - 1 if command[0] == "MGET" else len(command) - 2)
            then(records)

        self._requests.run(*command, callback=on_records)

    def _description(self, claimed: Claimed) -> Description:
        description = self._descriptions.get(claimed.description)
        if description is None:
            while len(self._descriptions) > 1000:
                self._descriptions.pop(next(iter(self._descriptions)))
            description = self._descriptions[claimed.description] = Description.from_json(claimed.description)
        return description

    # What children say

    def _is_cell(self, claimed: Claimed) -> bool:
        return self._description(claimed).cell is not None

    def _renew(self, child: ChildProcess) -> ChildProcess:
        """Put a fresh interpreter in the place of an idle one."""
        self._forget(child)
        child.leave()
        self._leaving.append(child)
        return self._add_child()

    def _add_child(self) -> ChildProcess:
        hello = messages.Hello(self.name, self._store.namespace, self._backend.key)
        preload = [*self._options.preload, *([messages.OPTIONAL + PRELOAD] if self._runs_cells else [])]
        child = ChildProcess(hello, self._guard, self._options.children, preload)
        self._children.append(child)
        self._watch(child)
        return child

    def _watch(self, child: ChildProcess) -> None:
        """Be told when its socket can be read, or written if there is something to write."""
        events = (0 if self._is_full else selectors.EVENT_READ) | (selectors.EVENT_WRITE if child.has_unsent else 0)
        known = self._selector.get_map().get(child.link)
        if known is None and events:
            self._selector.register(child.link, events, partial(self._on_child, child))
        elif known is not None and not events:
            self._selector.unregister(child.link)
        elif known is not None and known.events != events:
            self._selector.modify(child.link, events, known.data)

    def _forget(self, child: ChildProcess) -> None:
        self._children.remove(child)
        if child.link in self._selector.get_map():
            self._selector.unregister(child.link)

    def _on_child(self, child: ChildProcess) -> None:
        """Its socket can be read or written."""
        if child not in self._children:  # it was renewed in this very round
            return
        if not self._is_full:
            self._hear(child)
        child.flush()
        self._watch(child)

    def _hear(self, child: ChildProcess, *, is_dead: bool = False) -> None:
        for said in child.received(everything=is_dead):
            child.between_since = None
            if isinstance(said, Done):
                self._on_done(child, said)
            else:
                self._on_show(child, said)

    def _on_show(self, child: ChildProcess, said: Show) -> None:
        """Have Redis keep what a cell shows."""
        run = next((run for run in child.runs if run.number == said.number), None)
        if run is not None:
            self._show(run.number, run.batch, said.shown)

    def _show(self, number: int, batch: str, shown: Shown) -> None:
        self._requests.send(running.show(self.id, number, batch, shown), self._on_output_kept)

    def _on_output_kept(self, answer: Any) -> None:
        is_refused = isinstance(answer, errors.NbqueueError)
        if is_refused and self._is_output_kept:
            log.warning("what jobs print is not kept: %s", answer)
        self._is_output_kept = not is_refused

    def _pass_on_output(self, child: ChildProcess) -> None:
        """Have Redis keep what its jobs have printed."""
        for run, printed in child.printed():
            if run.output_log is None:
                run.output_log = OutputLog(run.attempts)
            self._keep(run, run.output_log, printed)

    def _keep(self, run: Run, output_log: OutputLog, printed: list[Printed]) -> None:
        replaced, entries = output_log.add(printed)

        def on_answer(answer: Any) -> None:
            output_log.stored(entries, answer if isinstance(answer, list) else [])
            self._on_output_kept(answer)

        self._outputs += 1
        self._requests.send(running.output(self.id, run.number, run.batch, self._outputs, replaced, entries), on_answer)

    def _on_done(self, child: ChildProcess, done: Done) -> None:
        run = next((run for run in child.runs if run.number == done.number), None)
        if run is None:  # it was taken back
            return
        self._pass_on_output(child)  # while the jobs are still in the lease
        child.has_done(done.number, done.stop, is_all=done.ended)
        stop = done.stop - 1 if done.canceled else done.stop
        if stop > done.start:
            count = stop - done.start
            mean = done.busy / count
            former = self._costs.pop(run.batch, mean)
            while len(self._costs) > 1000:
                self._costs.pop(next(iter(self._costs)))
            self._costs[run.batch] = 0.5 * former + 0.5 * mean
            self._jobs += count
            self._failed += len(done.failures)
            self._finish(run, done.start, stop, done.busy, done.records, done.failures)
            run.start = stop
        if done.canceled:
            self._release(run.number, done.stop - 1, done.stop)
            run.start = done.stop
        if done.ended:
            if run.start < run.stop:
                self._release(run.number, run.start, run.stop)
            child.runs.remove(run)
            child.is_used_up = child.is_used_up or run.is_cell
            self._idle_since = time.monotonic()
            if not any(other.runs for other in self._children):
                self._beat_at = min(self._beat_at, self._idle_since + _BEAT_SOON)

    def _finish(
        self, run: Run, start: int, stop: int, busy: float, records: Any, failures: Any = (),
        bulk_from: int | None = BULK,
    ) -> None:  # fmt: skip
        def on_answer(answer: Any) -> None:
            if isinstance(answer, errors.ServerFull):
                # It begins with deleting, so that it passes; a server that refuses it all the same is asked again.
                log.warning("%s", answer)
                self._finish(run, start, stop, busy, records, failures, bulk_from=None)
            elif isinstance(answer, errors.NbqueueError):
                log.error("jobs %s:%d to %d could not be recorded: %s", run.batch, start, stop, answer)
            elif answer == "lost":
                log.warning("jobs %s:%d to %d were taken over by another worker", run.batch, start, stop)

        self._requests.send(
            running.finish(self.id, run.number, run.batch, (start, stop), busy, records, failures, bulk_from=bulk_from),
            on_answer,
        )

    def _release(self, number: int, start: int, stop: int, death: str = "") -> None:
        def on_answer(answer: Any) -> None:
            if isinstance(answer, errors.NbqueueError):
                log.error("%s", answer)

        if start < stop:
            self._requests.send(running.release(self.id, number, (start, stop), death), on_answer)
            self._is_dry = False

    def _on_death(self, child: ChildProcess, death: str) -> None:
        """A child died: what it recorded counts, the job that ran is suspect, all others are innocent."""
        self._hear(child, is_dead=True)
        self._pass_on_output(child)
        self._forget(child)
        for position, run in enumerate(list(child.runs)):
            index = child.position(run)
            interruption = child.interruption_of(run, index)
            if position > 0 or not child.has_begun(run):
                self._release(run.number, run.start, run.stop)
            elif interruption is not None and interruption.reason == TIMEOUT:
                self._release(run.number, index + 1, run.stop)
                self._timed_out(run, index)
            elif interruption is not None or child.is_killed:
                self._release(run.number, run.start, run.stop)
            else:
                log.warning("job %s:%d: %s", run.batch, index, death)
                self._release(run.number, index, run.stop, death)
                self._release(run.number, run.start, index)
        child.runs.clear()
        child.leave()
        self._leaving.append(child)
        if not self._stopping:
            self._add_child()

    def _timed_out(self, run: Run, index: int) -> None:
        """Record the failure of a job whose process had to be killed."""
        self._release_before(run, index)
        seconds = run.timeout or 0.0
        text = f"it ran longer than its job_timeout of {seconds:g} seconds, and its process was killed"
        failure = Failure("JobTimeout", text, f"JobTimeout: {text}\n")
        record = pack_failure(
            self._backend.seal, run.batch, index, failure, started=time.time() - seconds, duration=seconds,
            worker=self.name, attempt=run.attempts.get(index, 0) + 1,
        )  # fmt: skip
        summary = {"type": failure.type, "message": text, "example": index, "traceback": failure.traceback}
        note = running.FailureNote(index, failure.digest, json.dumps(summary))
        self._jobs += 1
        self._failed += 1
        self._finish(run, index, index + 1, seconds, [(str(index), record)], [note])

    def _release_before(self, run: Run, index: int) -> None:
        """Quick jobs before it, whose outcomes were not recorded yet, run again."""
        if run.start < index:
            self._release(run.number, run.start, index)

    # What the clock says

    def _until_next(self) -> float:
        now = time.monotonic()
        until = [self._sweep_at - now, self._beat_at - now, 1.0]
        for child in self._children:
            if child.runs:  # also one that has not begun: that it does, nobody tells
                until.append(self._look_at - now)
            current = child.running()
            if current is None:
                continue
            run, index, since = current
            if child.interruption_of(run, index) is not None:
                until.append(_INSIST)
            elif run.timeout is not None:
                until.append(since + run.timeout - now)
            if child.bound is not None:
                until.append(OBEYS)
            elif self._has_more_behind(child, run) or (run.start < index and child.asked_for != (run.number, index)):
                until.append(max(since + _LONG - now, 0.002))
        if self._is_dry and not self._is_waiting:
            until.append(self._claim_at + _BLOCKING - now)
        elif self._is_holding(now):
            until.append(self._claim_at + _TRICKLE - now)
        return max(0.0, min(until))

    def _has_more_behind(self, child: ChildProcess, run: Run) -> bool:
        current = child.running()
        return len(child.runs) > 1 or (current is not None and current[1] + 1 < run.stop)

    def _tick(self, now: float) -> None:
        for child in list(self._children):
            death = child.death()
            if death is not None:
                self._on_death(child, death)
            elif child.is_used_up and not child.runs and not self._stopping:
                self._renew(child)
            else:
                self._enforce(child, now)
        self._leaving = [child for child in self._leaving if not child.has_left()]
        if self._is_full != (self._requests.held > _MOST_HELD):
            self._is_full = not self._is_full
            for child in self._children:
                self._watch(child)
        if now >= self._look_at:
            self._look_at = now + _LOOK
            if self._requests.unanswered < _BEHIND:
                # Otherwise Redis is gone or slow, and it stays on the ring, whose oldest text is overwritten.
                for child in self._children:
                    self._pass_on_output(child)
        self._guard.check()
        if self._is_registered and not self._stopping:
            self._look_for_work(now)
        if now >= self._beat_at and self._is_registered:
            self._beat(now)
        if now >= self._sweep_at:
            self._sweep_at = now + EVERY
            self._sweep()
        self._requests.flush()
        self._waits.flush()
        if self._options.max_jobs is not None and self._jobs >= self._options.max_jobs and not self._stopping:
            self.stop()

    def _look_for_work(self, now: float) -> None:
        if self._is_dry and not self._is_waiting and now - self._claim_at > _BLOCKING:
            self._is_dry = False
        wanting = sorted((child for child in self._children if self._wants(child)), key=lambda child: len(child.runs))
        if not wanting:
            return
        if not self._is_dry:
            if self._claiming is None and not self._is_holding(now):
                self._claim(wanting[0])
        elif not self._is_waiting and not wanting[0].runs and self._waits.is_connected and not self._options.burst:
            self._wait_for_work()

    def _is_holding(self, now: float) -> bool:
        return self._trickled > 2 and now - self._claim_at < _TRICKLE

    def _wants(self, child: ChildProcess) -> bool:
        """A free child wants a run; one whose present run is known to end soon wants the next one."""
        if not child.runs:
            return True
        run = child.runs[0]
        if len(child.runs) > 1 or run.kind or child.bound is not None:
            return False
        if self._costs.get(run.batch, _LONG) >= _LONG:
            return False
        current = child.running()
        return current is None or time.monotonic() - current[2] < _LONG

    def _enforce(self, child: ChildProcess, now: float) -> None:
        """Keep time limits, cancel, and take back what waits behind a job that takes long."""
        current = child.running()
        if current is None:
            self._cancel_waiting(child, now)
            self._end_if_stuck(child, now)
            return
        child.between_since = None
        run, index, since = current
        interruption = child.interruption_of(run, index)
        if interruption is not None:
            if now >= interruption.since + _GRACE:
                child.kill()
            else:
                child.insist()
        elif run.timeout is not None and now - since >= run.timeout:
            child.interrupt(run, index, TIMEOUT, now)
        elif self._cancels.apply_to(run.batch, run.number, index, index + 1):
            self._stop_behind_current(child, now)
            child.interrupt(run, index, CANCEL, now)
        elif now - since >= _LONG and run.start < index and child.asked_for != (run.number, index):
            child.ask_for_report(run, index)
        elif child.bound is not None:
            self._take_back(child, run, index, now)
        elif now - since >= _LONG and self._has_more_behind(child, run):
            child.stop_soon(run, index, now)
        elif any(self._is_canceling(other) for other in child.runs):
            self._stop_behind_current(child, now)

    def _end_if_stuck(self, child: ChildProcess, now: float) -> None:
        """Have a worker that shall leave wait for running jobs only, and for children that get on with their runs."""
        if not (self._stopping and child.runs) or self._is_full:
            child.between_since = None
        elif child.between_since is None:
            child.between_since = now
        elif now - child.between_since > _STUCK:
            log.warning("process %d has not gone on with its run for %g seconds, and is ended", child.pid, _STUCK)
            child.kill()

    def _is_canceling(self, run: Run) -> bool:
        return self._cancels.apply_to(run.batch, run.number, run.start, run.stop)

    def _cancel_waiting(self, child: ChildProcess, now: float) -> None:
        """Between jobs: a run that is being canceled shall stop where it is."""
        for run in child.runs:
            if self._is_canceling(run) and child.has_begun(run):
                child.stop_soon(run, run.start - 1, now)

    def _stop_behind_current(self, child: ChildProcess, now: float) -> None:
        current = child.running()
        if current is not None:
            child.stop_soon(current[0], current[1], now)
        elif child.runs:
            child.stop_soon(child.runs[0], child.runs[0].start - 1, now)

    def _take_back(self, child: ChildProcess, run: Run, index: int, now: float) -> None:
        for number, start, stop in child.take_back(run, index, now):
            self._release(number, start, stop)

    def _beat(self, now: float) -> None:
        busy = sum(bool(child.runs) for child in self._children)
        self._beat_at = now + (_BEAT_BUSY if busy else _BEAT_IDLE)
        jobs = []
        for child in self._children:
            current = child.running()
            if current is not None:
                run, index, since = current
                jobs.append([f"{run.batch}:{index}", round(time.time() - (now - since), 3)])
        memory = sum(machine.memory_of(child.pid) for child in self._children)
        changes: dict[str, str | float] = {"jobs": self._jobs, "failed": self._failed, "busy": busy, "memory": memory,
                   "running": json.dumps(jobs)}  # fmt: skip
        self._requests.send(running.beat(self.id, self._acknowledged, changes), self._on_beat)
        held = ((run.batch, run.number) for child in self._children for run in child.runs)
        self._cancels.forget(held, self._number if self._claiming is not None else None)

    def _sweep(self) -> None:
        found: list[Any] = []

        def on_workers(workers: Any) -> None:
            touches = found[0]
            if isinstance(workers, list) and isinstance(touches, dict):
                others = [worker for worker in workers if worker.id != self.id]
                self._tell_of_namesakes(others)
                names = {worker.id: worker.name for worker in others}
                for request in self._reaper.requests(others, touches, time.monotonic()):
                    dead = request.arguments[0].decode()
                    log.warning("taking over from the dead: %s", names.get(dead, dead))
                    self._requests.send(request, lambda answer: None)

        self._requests.send(looking.submissions(), found.append)
        self._requests.send(looking.workers(), on_workers)

    def _tell_of_namesakes(self, others: Sequence[WorkerState]) -> None:
        """Nothing goes wrong with two of a name, but people take them for one."""
        for other in others:
            if other.name != self.name or other.id in self._namesakes or vanished(other, machine.identity()):
                continue
            self._namesakes.add(other.id)
            log.warning(
                "another worker is called %s too (host %s, process %s): each works for itself. If that one was killed, "
                "what it held runs elsewhere %d seconds after its last sign of life",
                self.name, other.fields.get("host", "?"), other.fields.get("pid", "?"), WORKER_SILENCE,
            )  # fmt: skip
