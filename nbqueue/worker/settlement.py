"""The end of jobs: what children say of them, and how children die, becomes requests to Redis."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nbqueue import errors
from nbqueue.payload.callbacks import ON_FAILURE, ON_STOPPED
from nbqueue.payload.outcomes import Failure, pack_failure
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal
from nbqueue.protocol.messages import CalledBack, Displayed, Done, GoesOn, Meta, Waits
from nbqueue.protocol.page import CANCEL, TIMEOUT
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running
from nbqueue.store.requests.request import BULK
from nbqueue.store.requests.running import Again, FailureNote
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.costs import Costs
from nbqueue.worker.identity import Identity
from nbqueue.worker.lease import Lease
from nbqueue.worker.output import Output

log = logging.getLogger("nbqueue.worker")


class Settlement:
    """Records what has ended, and gives back what shall run elsewhere.

    Parameters
    ----------
    who : Identity
    seal : Seal
    requests : Pipeline
    output : Output
    costs : Costs
        Learns how long jobs take.
    """

    def __init__(
        self, who: Identity, seal: Seal, requests: Pipeline, output: Output, costs: Costs
    ) -> None:  # fmt: skip
        self._who = who
        self._seal = seal
        self._requests = requests
        self._output = output
        self._costs = costs
        self.jobs = 0
        """How many jobs have ended here."""
        self.failed = 0
        """How many of them failed."""
        self.given_back = 0
        """How often something was given back: it waits again."""
        self.waits = 0
        """How often a job has begun to wait for others, which it may just have submitted."""

    # What children say

    def hear(self, child: ChildProcess, *, is_dead: bool = False) -> None:
        """Take what a child has said."""
        for said in child.received(everything=is_dead):
            if isinstance(said, Done):
                self._on_done(child, said)
                if said.stop - said.start == 1:  # somebody may wait for it: what else there is to do comes after that
                    self._requests.flush()
            elif isinstance(said, Displayed):
                self._output.on_displayed(child, said)
            elif isinstance(said, Meta):
                self._output.on_meta(child, said)
            elif isinstance(said, Waits):
                child.waits(said)
                self.waits += 1
            elif isinstance(said, GoesOn):
                child.wants_on(said)
            elif isinstance(said, CalledBack):
                self._called_back(child, said.problem)
            else:
                self._output.on_show(child, said)

    def _on_done(self, child: ChildProcess, done: Done) -> None:
        lease = child.lease(done.number)
        if lease is None:  # it was taken back
            return
        if done.decided:
            child.decided = done
            child.has_done(done.number, done.stop, is_all=False)
            return
        self._output.pass_on(child)  # while the jobs are still in the lease
        child.has_done(done.number, done.stop, is_all=done.ended)
        stop = done.stop - 1 if done.canceled else done.stop
        if stop > done.start:
            count = stop - done.start
            self._costs.learn(lease.batch, done.busy / count)
            self.jobs += count
            self.failed += len(done.failures)
            self._finish(lease, done.start, stop, done.busy, done.records, done.failures, done.again)
            lease.start = stop
        if done.canceled:
            self.give_back(lease.number, done.stop - 1, done.stop)
            lease.start = done.stop
        if done.ended:
            self.give_back(lease.number, lease.start, lease.stop)
            child.leases.remove(lease)
            child.is_used_up = child.is_used_up or lease.is_cell

    def _called_back(self, child: ChildProcess, problem: str) -> None:
        """The callback of a job is over, or its process: how the job ended is recorded."""
        done, child.decided = child.decided, None
        lease = None if done is None else child.lease(done.number)
        if done is None or lease is None:
            return
        if problem:
            index = done.stop - 1
            attempt = lease.attempts.get(index, 0) + 1
            request = running.note_callback(self._who.id, lease.number, lease.batch, index, attempt, problem)
            self._requests.send(request, self._on_noted)
        self._on_done(child, replace(done, decided=False))

    def _on_noted(self, answer: Any) -> None:
        if isinstance(answer, errors.NbqueueError):
            log.warning("what went wrong in a callback is not kept: %s", answer)

    # How children die

    def settle_death(self, child: ChildProcess, death: str) -> None:
        """A child died: what it recorded counts, the job that ran is suspect, all others are innocent."""
        self.hear(child, is_dead=True)
        self._output.on_death(child)
        is_innocent = child.decided is not None
        if child.decided is not None:
            self._called_back(child, _end_of_callback(child, death))
        for position, lease in enumerate(list(child.leases)):
            index = child.position(lease)
            interruption = child.interruption_of(lease, index)
            if position > 0 or not child.has_begun(lease):
                self.give_back(lease.number, lease.start, lease.stop)
            elif interruption is not None and interruption.reason == TIMEOUT:
                self.give_back(lease.number, index + 1, lease.stop)
                self._timed_out(lease, index)
            elif interruption is not None and interruption.reason == CANCEL and ON_STOPPED in lease.callbacks:
                self._canceled(lease, index)
            elif interruption is not None or child.process.is_killed or is_innocent:
                self.give_back(lease.number, lease.start, lease.stop)
            else:
                log.warning("job %s:%d: %s", lease.batch, index, death)
                self.give_back(lease.number, index, lease.stop, death)
                self.give_back(lease.number, lease.start, index)
        child.leases.clear()

    def _timed_out(self, lease: Lease, index: int) -> None:
        """Record the failure of a job whose process had to be killed."""
        self.give_back(lease.number, lease.start, index)  # quick jobs whose outcomes were not recorded yet run again
        seconds = lease.timeout or 0.0
        text = f"it ran longer than its job_timeout of {seconds:g} seconds, and its process was killed"
        failure = Failure("JobTimeout", text, f"JobTimeout: {text}\n")
        record = pack_failure(
            self._seal, lease.batch, index, failure, started=time.time() - seconds, duration=seconds,
            worker=self._who.name, attempt=lease.attempts.get(index, 0) + 1,
        )  # fmt: skip
        attempt = lease.attempts.get(index, 0) + 1
        if lease.retry is not None and attempt <= lease.retry.max and lease.retry.is_for(errors.JobTimeout):
            again = Again(index, attempt, lease.retry.seconds_after(attempt, random.random()), record)
            self.jobs += 1
            self._finish(lease, index, index + 1, seconds, [], [], [again])
            return
        if ON_FAILURE in lease.callbacks:
            self._decide(lease, index, record)
            return
        summary = {"type": failure.type, "message": text, "example": index, "traceback": failure.traceback}
        note = FailureNote(index, failure.digest, json.dumps(summary))
        self.jobs += 1
        self.failed += 1
        self._finish(lease, index, index + 1, seconds, [(str(index), record)], [note])

    def _canceled(self, lease: Lease, index: int) -> None:
        """A job that was canceled, and whose process had to be killed, is called back in another one."""
        self.give_back(lease.number, index + 1, lease.stop)
        self.give_back(lease.number, lease.start, index)
        self._decide(lease, index, running.CANCELED)

    # What Redis is told

    def _decide(self, lease: Lease, index: int, how: bytes) -> None:
        """Another process calls back."""

        def on_answer(answer: Any) -> None:
            if isinstance(answer, errors.NbqueueError):
                log.error("%s", answer)

        self._requests.send(running.decide(self._who.id, lease.number, index, how), on_answer)
        self.given_back += 1

    def _finish(
        self, lease: Lease, start: int, stop: int, busy: float, records: Sequence[tuple[str, Blob]],
        failures: Sequence[FailureNote], again: Sequence[Again] = (), bulk_from: int | None = BULK,
    ) -> None:  # fmt: skip
        def on_answer(answer: Any) -> None:
            if isinstance(answer, errors.ServerFull):
                # It begins with deleting, so that it passes; a server that refuses it all the same is asked again.
                log.warning("%s", answer)
                self._finish(lease, start, stop, busy, records, failures, again, bulk_from=None)
            elif isinstance(answer, errors.NbqueueError):
                log.error("jobs %s:%d to %d could not be recorded: %s", lease.batch, start, stop, answer)
            elif answer == "lost":
                log.warning("jobs %s:%d to %d were taken over by another worker", lease.batch, start, stop)

        request = running.finish(
            self._who.id,
            lease.number,
            lease.batch,
            (start, stop),
            busy,
            records,
            failures,
            again,
            bulk_from=bulk_from,
        )
        self._requests.send(request, on_answer)

    def give_back(self, number: int, start: int, stop: int, death: str = "") -> None:
        """Jobs of a lease shall run elsewhere, or later; nothing if there are none. `death`: see `release`."""

        def on_answer(answer: Any) -> None:
            if isinstance(answer, errors.NbqueueError):
                log.error("%s", answer)

        if start < stop:
            self._requests.send(running.release(self._who.id, number, (start, stop), death), on_answer)
            self.given_back += 1

    def give_back_all(self, parts: Iterable[tuple[int, int, int]]) -> None:
        """Number, start and stop of each."""
        for number, start, stop in parts:
            self.give_back(number, start, stop)


def _end_of_callback(child: ChildProcess, death: str) -> str:
    """What is said of a callback during which a process ended."""
    if child.interruption is not None:
        death = "it ran longer than its time limit, and its process was killed"
    return f"{child.calls_back or 'its callback'}: {death}\n"
